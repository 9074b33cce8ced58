//! The manager as a daemon: the cluster's membership and health. Every node reports to it; ctl
//! asks it on a unix socket. Its death stops nothing: nodes do not need its answers.
//!
//! ```text
//! node ──mTLS, Report──▶ rpc ──▶ registry (one task owns it) ──▶ cluster.log
//! ctl ──manager.sock, Nodes──▶ rpc ──▶ registry
//! ```

mod cluster_log;
mod kept;
mod registry;
mod rpc;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::Router;
use tracing::{info, warn};
use tyto_core::config::runtime::NodeConfig;
use tyto_core::layout::Layout;
use tyto_daemon::health::{self, Phase};
use tyto_daemon::shutdown::CancellationToken;
use tyto_daemon::telemetry::chain;
use tyto_daemon::tls::Identity;
use tyto_daemon::{channel, stream};
use tyto_proto::v1::NodeHealth;
use tyto_proto::v1::manager_server::ManagerServer;

use cluster_log::ClusterLog;
use kept::Kept;
use registry::{Counters, Membership};
use rpc::{FromCtl, FromNodes};

/// How long calls under way may take at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the manager until `shutdown`.
///
/// # Errors
/// When it cannot begin: no identity, or an address that is taken.
pub async fn run(config: NodeConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let identity = Identity::load(&config).context("this node has no identity")?;
    let address = config.listen.context("the configuration of a manager needs `listen`")?;
    let layout = Layout::new(&config.prefix);
    let folder = layout.node_spool(&config.node);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;

    let counters = Arc::new(Counters::default());
    let cluster_log = ClusterLog::new(folder.join("cluster.log"), &config.node);
    let kept = Kept::new(folder.join("members"));
    let lag_max = Duration::from_secs(config.alarms.log_lag_max_s);
    let members = Membership::spawn(cluster_log, kept, lag_max, counters.clone());
    let fill = move |report: &mut NodeHealth| counters.fill(report);
    let reporter = health::spawn_reporter(&config, Some(&identity), health::epoch_now(), fill)
        .context("cannot report health")?;

    let end = CancellationToken::new();
    let from_nodes = {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen at {address}"))?;
        let router = channel::server()
            .add_service(ManagerServer::new(FromNodes::new(&config.cluster, members.clone())));
        serve(router, stream::incoming(listener, &identity), end.clone())
    };
    let from_ctl = {
        let path = layout.manager_sock();
        fs::create_dir_all(layout.run())
            .with_context(|| format!("cannot make `{}`", layout.run().display()))?;
        let listener = channel::listen_socket(&path)
            .with_context(|| format!("cannot listen at `{}`", path.display()))?;
        let router =
            channel::server().add_service(ManagerServer::new(FromCtl::new(members.clone())));
        serve(router, UnixListenerStream::new(listener), end.clone())
    };
    reporter.set_phase(Phase::Running);
    info!(%address, "taking reports");

    shutdown.cancelled().await;
    // First our own last report, which we take ourselves.
    reporter.stop().await;
    if members.keep().await.is_err() {
        warn!("what nodes said last is not kept");
    }
    end.cancel();
    for server in [from_nodes, from_ctl] {
        if tokio::time::timeout(DRAIN_TIMEOUT, server).await.is_err() {
            warn!("calls under way were cut off");
        }
    }
    Ok(())
}

/// Answers calls that come in by `incoming`; the task ends after `end`, when the last call is
/// answered.
fn serve<I, IO, E>(router: Router, incoming: I, end: CancellationToken) -> JoinHandle<()>
where
    I: tokio_stream::Stream<Item = Result<IO, E>> + Send + 'static,
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + tonic::transport::server::Connected,
    IO: Unpin + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    tokio::spawn(async move {
        let served = router.serve_with_incoming_shutdown(incoming, end.cancelled_owned()).await;
        if let Err(error) = served {
            warn!(error = chain(&error), "server ended by a fault");
        }
    })
}
