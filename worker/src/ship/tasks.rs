//! Delivery as tasks of one runtime, on a disk and over a network that are given: the same code
//! that [`Shipper`](super::Shipper) runs on a thread, for clusters that are simulated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tyto_capture::account::Account;
use tyto_core::config::runtime::{NodeConfig, Role, ShipConfig};
use tyto_core::layout::Layout;
use tyto_daemon::peers::Peers;
use tyto_writer::disk::Disk;

use super::backlog::Backlog;
use super::batch::{Intake, QUEUE_BATCHES_MAX};
use super::claim::CLAIMS_MAX;
use super::link::{Dial, EVENTS_MAX, LinkContext};
use super::members::Members;
use super::syncing::Syncing;
use super::{Overflow, ReportLock, ShipError, ShipOutput, ShipThread, bounds};

/// What delivery stands on.
#[derive(Debug)]
pub struct Ground {
    /// Where the spool is.
    pub disk: Arc<dyn Disk>,
    /// How loggers are reached.
    pub dial: Arc<dyn Dial>,
    /// Which there are.
    pub peers: Peers,
    /// The run of the host.
    pub boot: String,
    /// Where rows are counted for the next life: one for shipping, one for the rows' output.
    pub accounts: [Account; 2],
}

/// Rows of one log stream in the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Handed to delivery, over all lives.
    pub produced: u64,
    /// On a logger's disk.
    pub acked: u64,
    /// On their way, or waiting in the spool.
    pub waiting: u64,
    /// Given up, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// Delivery of one node's rows, to be run by its owner.
#[derive(Debug)]
pub struct ShipTasks {
    ship: ShipThread,
    intake: mpsc::Receiver<Intake>,
    heard: mpsc::Receiver<super::LinkEvent>,
    members: Members,
    queue: mpsc::Sender<Intake>,
    config: ShipConfig,
    of_rows: Option<Account>,
    report: ReportLock,
    end_links: CancellationToken,
}

impl ShipTasks {
    /// Delivery of the node that `config` is for; `epoch` is when the node began.
    ///
    /// # Errors
    /// When the spool cannot be opened.
    pub fn open(config: &NodeConfig, ground: Ground, epoch: u64) -> Result<Self, ShipError> {
        let Ground { disk, dial, mut peers, boot, accounts } = ground;
        let folder = Layout::new(&config.prefix).node_spool(&config.node).join("ship");
        let loggers = peers.of(Role::Logger);
        let loggers: Vec<Arc<str>> = loggers.iter().map(|peer| peer.node.as_str().into()).collect();
        let mut backlog =
            Backlog::open(disk, &folder, bounds(&config.ship), (epoch, &boot), &loggers)
                .map_err(ShipError::Spool)?;
        let [of_ship, of_rows] = accounts;
        backlog.take_page(&of_ship);
        let (events, heard) = mpsc::channel(EVENTS_MAX);
        let oldest_epoch = Arc::new(AtomicU64::new(backlog.oldest_epoch()));
        let end_links = CancellationToken::new();
        let context = LinkContext {
            node: config.node.as_str().into(),
            events,
            oldest_epoch: oldest_epoch.clone(),
            end: end_links.clone(),
        };
        let members = Members::new(dial, peers, context);
        let (queue, intake) = mpsc::channel(QUEUE_BATCHES_MAX);
        let report = ReportLock::default();
        let drain = CancellationToken::new();
        let ship = ShipThread {
            backlog,
            // In turn with everything else: a simulation has one thread.
            syncing: Syncing::inline(),
            account: Some(of_ship),
            begun: Instant::now(),
            oldest_epoch,
            report: report.clone(),
            drain,
        };
        let config = config.ship.clone();
        let of_rows = Some(of_rows);
        Ok(Self { ship, intake, heard, members, queue, config, of_rows, report, end_links })
    }

    /// The end that rows are written to; the first one counts them for the next life.
    pub fn output(&mut self) -> ShipOutput {
        // Claims need proxies, of which there are none here.
        let (claims, _) = mpsc::channel(CLAIMS_MAX);
        ShipOutput::new(&self.config, Overflow::Drop, self.queue.clone(), claims)
            .counted(self.of_rows.take())
    }

    /// The ledger, while and after delivery runs.
    pub fn ledger(&self) -> impl Fn() -> BTreeMap<String, Shipped> + Send + use<> {
        let report = self.report.clone();
        move || {
            let report = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let shipped = report.standing.into_iter().map(|(stream, standing)| {
                let dropped = standing.tally.dropped.iter();
                let dropped = dropped.map(|(reason, rows)| (reason.as_str(), *rows)).collect();
                let shipped = Shipped {
                    produced: standing.tally.produced,
                    acked: standing.tally.acked,
                    waiting: standing.pending + standing.spooled,
                    dropped,
                };
                (stream.to_string(), shipped)
            });
            shipped.collect()
        }
    }

    /// Ends [`run`](Self::run) in order.
    pub fn end(&self) -> CancellationToken {
        self.ship.drain.clone()
    }

    /// Delivers until the end, then as long as the loggers take what is left, within bounds.
    pub async fn run(self) {
        let Self { mut ship, intake, heard, members, queue, end_links, .. } = self;
        // The outputs alone keep the queue open.
        drop(queue);
        let links = tokio::spawn(members.run());
        ship.turn_until_drained(intake, heard).await;
        ship.backlog.end_life(ship.begun.elapsed());
        ship.publish();
        end_links.cancel();
        if links.await.is_err() {
            tracing::error!("the task that keeps links died");
        }
    }
}
