//! The logger: receives rows from every producer of the cluster and writes the log files.
//!
//! ```text
//! producers ─ gRPC ─▶ receive (a task per producer) ─ bounded queue ─▶ store thread: LogStore
//!     ▲                                                                     │ group commit
//!     └──────────────────────────── acks ───────────────────────────────────┘
//! ```

mod follow;
mod receive;
mod sink;
mod tasks;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tyto_core::config::runtime::NodeConfig;
use tyto_daemon::health::{self, Phase};
use tyto_daemon::tls::Identity;
use tyto_daemon::{channel, clock, stream};
use tyto_proto::convert::lag_to_wire;
use tyto_proto::v1::log_follow_server::LogFollowServer;
use tyto_proto::v1::log_sink_server::LogSinkServer;
use tyto_proto::v1::{LedgerRow, NodeHealth, Written};
use tyto_writer::service::{self, Command, ReportCell, StoreReport};
use tyto_writer::{LogStore, StoreOptions};

use follow::{Follow, FollowCounters};
use receive::{COMMANDS_MAX, Receive};
use sink::{SinkCounters, Sinks};
pub use tasks::{Admit, Ground, LoggerTasks};

/// Threads of the runtime: receiving is TLS and copying; the store has a thread of its own.
pub const RUNTIME_THREADS: usize = 2;

/// How long producers may take to end their streams when the logger ends.
const HANG_UP_MAX: Duration = Duration::from_secs(2);

/// Runs the logger of `config` until `shutdown`, then closes all files: every row that was
/// taken is durable and in the archive.
///
/// # Errors
/// When identity, log files or port cannot be used, or the files cannot be closed.
pub async fn run(config: NodeConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let identity = Identity::load(&config)?;
    let address = config.listen.context("a logger needs `listen` in its configuration")?;
    let report = ReportCell::default();
    let (filled, cell) = (report.clone(), report.clone());
    let sinks = Sinks::start(&config, &shutdown);
    let sink_counters = sinks.counters();
    let follow_counters = Arc::new(FollowCounters::default());
    let followed = Arc::clone(&follow_counters);
    let reporter =
        health::spawn_reporter(&config, Some(&identity), health::epoch_now(), move |health| {
            fill(health, &filled.latest(), &sink_counters);
            health.counters.extend(followed.report());
        })?;
    let store = LogStore::open(StoreOptions::of(&config), Box::new(clock::now))
        .context("cannot open the log files")?;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let (commands, received) = sync_channel(COMMANDS_MAX);
    let commit_interval = Duration::from_millis(config.logs.commit_interval_ms);
    let stopped = shutdown.clone();
    let writer = std::thread::Builder::new()
        .name("logs".into())
        .spawn(move || {
            // However the store ends, the logger ends with it.
            let _stop = stopped.drop_guard();
            service::run(store, &received, commit_interval, cell)
        })
        .context("cannot start the thread that writes logs")?;
    let admit = receive::by_certificate(&config.cluster);
    let receive = Receive::new(&config.node, admit, commands.clone(), shutdown.clone());
    let server = channel::server()
        .add_service(LogFollowServer::new(Follow::new(&config, follow_counters, shutdown.clone())))
        .add_service(service_of(receive))
        .serve_with_incoming_shutdown(
            stream::incoming(listener, &identity),
            shutdown.clone().cancelled_owned(),
        );
    reporter.set_phase(Phase::Running);
    let mut server = std::pin::pin!(server);
    let failed = tokio::select! {
        served = &mut server => Some(served),
        () = shutdown.cancelled() => None,
    };
    reporter.set_phase(Phase::Terminating);
    report.end_waiting();
    // While producers still listen: they hear what is on disk, and that it was all.
    let closing = tokio::task::spawn_blocking(move || {
        // Closed: the thread has ended already, and says why.
        commands.send(Command::Close).ok();
        let written = writer.join();
        sinks.join();
        written
    });
    let (served, closed) = match failed {
        Some(failed) => (failed, closing.await?),
        None => serve_until_closed(server, closing).await?,
    };
    reporter.stop().await;
    closed.map_err(|_| anyhow::anyhow!("the thread that writes logs died"))??;
    served.context("cannot receive rows")
}

/// What came of the server, and of `closing`. A producer that does not hang up must not hold up
/// the end.
async fn serve_until_closed<S, C>(
    server: impl Future<Output = Result<(), S>>,
    closing: JoinHandle<C>,
) -> Result<(Result<(), S>, C), JoinError> {
    let is_closed = CancellationToken::new();
    let late = async {
        is_closed.cancelled().await;
        tokio::time::sleep(HANG_UP_MAX).await;
    };
    let serving = async {
        tokio::select! {
            served = server => served,
            () = late => Ok(()),
        }
    };
    let closing = async {
        let closed = closing.await;
        is_closed.cancel();
        closed
    };
    let (served, closed) = tokio::join!(serving, closing);
    Ok((served, closed?))
}

fn service_of(receive: Receive) -> LogSinkServer<Receive> {
    LogSinkServer::new(receive).max_decoding_message_size(channel::MESSAGE_BYTES_MAX)
}

fn fill(health: &mut NodeHealth, report: &StoreReport, sinks: &[Arc<SinkCounters>]) {
    let counters = report.counters().into_iter();
    health.counters.extend(counters.map(|(name, value)| health::counter(name, value)));
    health.counters.extend(sinks.iter().flat_map(|sink| sink.report()));
    health.log_lag = lag_to_wire(&report.lag);
    for (stream, node, rows) in &report.written {
        let written = Written { producer: node.to_string(), rows: *rows };
        match health.ledger.last_mut().filter(|row| row.stream == **stream) {
            Some(row) => row.written.push(written),
            None => health.ledger.push(LedgerRow {
                stream: stream.to_string(),
                written: vec![written],
                ..LedgerRow::default()
            }),
        }
    }
}
