//! A logger as tasks of one runtime, on a disk that is given and behind any server: the same
//! service that [`run`](crate::run) has a thread for, for clusters that are simulated.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tyto_core::config::runtime::NodeConfig;
use tyto_writer::archive::Archiving;
use tyto_writer::clock::Clock;
use tyto_writer::disk::Disk;
use tyto_writer::service::{Command, ReportCell, Service};
use tyto_writer::{LogStore, StoreError, StoreOptions};

pub use crate::receive::Admit;
use crate::receive::{COMMANDS_MAX, Producer, Receive};
use crate::{HANG_UP_MAX, service_of};

/// The store's task looks for commands this often: they come by a channel that wakes no task.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a logger stands on.
pub struct Ground {
    /// Where its files are.
    pub disk: Arc<dyn Disk>,
    /// The time of day.
    pub clock: Clock,
    /// Who a caller is.
    pub admit: Admit,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("disk", &self.disk).finish_non_exhaustive()
    }
}

/// One logger, to be run by its owner.
pub struct LoggerTasks {
    service: Service<Producer>,
    commands: SyncSender<Command<Producer>>,
    received: Receiver<Command<Producer>>,
    receive: Receive,
    report: ReportCell,
    shutdown: CancellationToken,
}

impl std::fmt::Debug for LoggerTasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggerTasks").field("service", &self.service).finish_non_exhaustive()
    }
}

impl LoggerTasks {
    /// The logger of `config`, which ends in order at `shutdown`.
    ///
    /// # Errors
    /// When the log files cannot be opened.
    pub fn open(
        config: &NodeConfig,
        ground: Ground,
        shutdown: CancellationToken,
    ) -> Result<Self, StoreError> {
        let Ground { disk, clock, admit } = ground;
        let store = LogStore::open_on(disk, StoreOptions::of(config), clock, Archiving::InTick)?;
        let report = ReportCell::default();
        let interval = Duration::from_millis(config.logs.commit_interval_ms);
        let now = Box::new(|| Instant::now().into_std());
        let service = Service::new(store, interval, report.clone(), now);
        let (commands, received) = sync_channel(COMMANDS_MAX);
        let receive = Receive::new(&config.node, admit, commands.clone(), shutdown.clone());
        Ok(Self { service, commands, received, receive, report, shutdown })
    }

    /// What the store reports, while and after the logger runs.
    pub fn report(&self) -> ReportCell {
        self.report.clone()
    }

    /// Takes rows until the end, then closes all files. `serve` is handed the service, and lets
    /// producers call it until the end.
    ///
    /// # Errors
    /// When the disk refuses the close; what was acked is safe, and the next start goes on.
    pub async fn run<S>(self, serve: impl FnOnce(Routes) -> S) -> Result<(), StoreError>
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let Self { service, commands, received, receive, report, shutdown } = self;
        let served = tokio::spawn(serve(Routes::new(service_of(receive))));
        let writer = tokio::spawn(write(service, received));
        shutdown.cancelled().await;
        report.end_waiting();
        let mut close = Command::Close;
        while let Err(TrySendError::Full(back)) = commands.try_send(close) {
            close = back;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let closed = writer.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the task that writes logs died");
            Ok(())
        });
        // A producer that does not hang up must not hold up the end.
        if tokio::time::timeout(HANG_UP_MAX, served).await.is_err() {
            tracing::debug!("a producer did not hang up");
        }
        closed
    }
}

/// As [`tyto_writer::service::run`], in turn with everything else.
async fn write(
    mut service: Service<Producer>,
    received: Receiver<Command<Producer>>,
) -> Result<(), StoreError> {
    loop {
        while service.takes_commands() {
            match received.try_recv() {
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => return service.close(),
                Ok(command) => service.handle(command),
                Err(TryRecvError::Empty) => break,
            }
            service.turn();
        }
        service.turn();
        tokio::time::sleep(service.wait().min(LOOK_EVERY)).await;
    }
}
