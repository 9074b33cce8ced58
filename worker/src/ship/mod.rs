//! Delivery of rows, from the packet thread to the loggers' disks, each exactly once.
//!
//! ```text
//! packet thread ─ ShipOutput ─▶ batches ─▶ ship thread: Backlog ─▶ Spool (segments on disk)
//!        └ claims ─▶ Court (proxies) ─┘          │  ▲
//!                                        parcels ▼  │ acks
//!                               one Transport per logger: gRPC, or the own LogStore
//! ```
//!
//! The ship thread owns all state (`backlog.rs`) and writes each batch to the spool before it
//! is sent. The queues around it are bounded: the packet thread drops and counts when the
//! ship thread is behind; batches stay in the spool when loggers are behind.

mod backlog;
mod batch;
mod binding;
mod claim;
mod doubt;
mod ledger;
mod link;
mod links;
mod local;
mod members;
mod reconcile;
mod record;
mod recovery;
mod room;
mod sender;
mod spool;
mod syncing;
mod tasks;
#[cfg(test)]
mod tests;
mod unbound;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tyto_capture::account::Account;
use tyto_core::config::runtime::{NodeConfig, Role, ShipConfig};
use tyto_core::layout::Layout;
use tyto_core::time::NANOS;
use tyto_daemon::peers::Peers;
use tyto_daemon::tls::Identity;
use tyto_daemon::{clock, health};
use tyto_proto::convert::lag_to_wire;
use tyto_proto::v1::{Dropped, LedgerRow, NodeHealth, Written};
use tyto_writer::disk;
use tyto_writer::service::{ReportCell, StoreReport};
use tyto_writer::{LogStore, StoreError, StoreOptions};

use backlog::{Backlog, Bounds, Standing};
use batch::{Intake, QUEUE_BATCHES_MAX};
pub use batch::{Overflow, ShipOutput};
use claim::{CLAIMS_MAX, ClaimedRow, Court};
pub use link::Dial;
use link::{EVENTS_MAX, Heard, LinkContext, LinkEvent, Transport};
use members::Members;
use syncing::Syncing;
pub use tasks::{Ground, ShipTasks, Shipped};
use unbound::Preciousness;

/// Segments are removed, the ledger saved and the report renewed this often.
const HOUSEKEEPING: Duration = Duration::from_millis(200);

/// How long an orderly end waits for acks. What has none by then waits in the spool.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Rows leave so much of the spool's disk free, bytes: to give room back, the spool has to write
/// (to whom batches go, that they are settled, what the ledger takes over), and on a disk that it
/// had filled to the last byte it never could.
const DISK_FREE_MIN: u64 = 16 << 20;

/// Batches or events taken at once, before the others get their turn.
const TURN_MAX: usize = 64;

/// Why rows cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The spool cannot be opened.
    #[error("cannot open the spool")]
    Spool(#[source] io::Error),
    /// The log files of a standalone node cannot be opened.
    #[error("cannot open the log files")]
    Store(#[from] StoreError),
    /// Certificate or key are not usable.
    #[error("cannot use our certificate")]
    Certificate(#[from] tonic::transport::Error),
    /// A node that is not standalone needs an identity.
    #[error("no identity to show to the loggers")]
    NoIdentity,
}

/// How delivery stands, for reports. The ship thread replaces it, a reader copies it.
#[derive(Clone, Debug, Default)]
struct ShipReport {
    standing: BTreeMap<Arc<str>, Standing>,
    /// Name and value.
    counters: Vec<(&'static str, u64)>,
    /// When the oldest row was written that waits, packet time in ns.
    oldest_ns: Option<u64>,
}

type ReportLock = Arc<Mutex<ShipReport>>;

/// Delivery of one node's rows.
#[derive(Debug)]
pub struct Shipper {
    config: ShipConfig,
    queue: mpsc::Sender<Intake>,
    claims: mpsc::Sender<ClaimedRow>,
    report: ReportLock,
    /// Of a standalone node's log files.
    store: Option<ReportCell>,
    drain: CancellationToken,
    end_links: CancellationToken,
    thread: JoinHandle<()>,
    court: tokio::task::JoinHandle<()>,
    links: JoinSet<()>,
}

impl Shipper {
    /// Starts delivery for the node that `config` is for; `epoch` is when the node began, ns
    /// since the Unix epoch. Call it inside of a runtime. What earlier lives left is sent first;
    /// what `accounts`, two maps of one page, say that a kill has cost is in the ledger.
    ///
    /// # Errors
    /// When spool, log files or identity cannot be used.
    pub fn start(
        config: &NodeConfig,
        identity: Option<&Identity>,
        epoch: u64,
        accounts: Option<[Account; 2]>,
    ) -> Result<Self, ShipError> {
        let layout = Layout::new(&config.prefix);
        let folder = layout.node_spool(&config.node).join("ship");
        let node: Arc<str> = config.node.as_str().into();
        let standalone = config.role == Role::Standalone;
        let loggers: Vec<Arc<str>> = if standalone {
            vec![node.clone()]
        } else {
            config.peers_of(Role::Logger).map(|peer| peer.node.as_str().into()).collect()
        };
        let mut backlog =
            Backlog::open(disk::real(), &folder, bounds(&config.ship), (epoch, &boot()), &loggers)
                .map_err(ShipError::Spool)?;
        let (account, of_claims) = accounts.map(|[ship, claims]| (ship, claims)).unzip();
        if let Some(account) = &account {
            backlog.take_page(account);
        }
        let (events, heard) = mpsc::channel(EVENTS_MAX);
        let oldest_epoch = Arc::new(AtomicU64::new(backlog.oldest_epoch()));
        let end_links = CancellationToken::new();
        let context = LinkContext {
            node: node.clone(),
            events,
            oldest_epoch: oldest_epoch.clone(),
            end: end_links.clone(),
        };
        let mut links = JoinSet::new();
        let peers = Peers::follow(config);
        let store = standalone.then(ReportCell::default);
        if let Some(cell) = &store {
            let files = LogStore::open(StoreOptions::of(config), Box::new(clock::now))?;
            let interval = Duration::from_millis(config.logs.commit_interval_ms);
            let local = local::LocalTransport::new(node, files, interval, cell.clone());
            links.spawn(local.run(context));
        } else {
            let identity = identity.ok_or(ShipError::NoIdentity)?.clone();
            let members = Members::new(Arc::new(identity), peers.clone(), context);
            links.spawn(members.run());
        }
        let (queue, intake) = mpsc::channel(QUEUE_BATCHES_MAX);
        let (claims, wanted) = mpsc::channel(CLAIMS_MAX);
        let drain = CancellationToken::new();
        let court = Court::new(peers, identity)?;
        let court = tokio::spawn(court.run(wanted, queue.clone(), drain.clone(), of_claims));
        let report = ReportLock::default();
        let syncing = Syncing::start().map_err(ShipError::Spool)?;
        let ship = ShipThread {
            backlog,
            syncing,
            account,
            begun: Instant::now(),
            oldest_epoch,
            report: report.clone(),
            drain: drain.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("ship".into())
            .spawn(move || ship.run(intake, heard))
            .map_err(ShipError::Spool)?;
        let config = config.ship.clone();
        Ok(Self { config, queue, claims, report, store, drain, end_links, thread, court, links })
    }

    /// An end for a packet thread to write to.
    pub fn output(&self, overflow: Overflow) -> ShipOutput {
        ShipOutput::new(&self.config, overflow, self.queue.clone(), self.claims.clone())
    }

    /// Adds ledger and counters to a report of the node's health.
    pub fn health(&self) -> impl Fn(&mut NodeHealth) + Send + Sync + 'static {
        let (report, store) = (self.report.clone(), self.store.clone());
        move |health| {
            let ship = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let store = store.as_ref().map(ReportCell::latest);
            let counters = ship.counters.iter();
            health.counters.extend(counters.map(|(name, value)| health::counter(name, *value)));
            let waited_ns =
                ship.oldest_ns.map(|oldest_ns| clock::now().0.saturating_sub(oldest_ns));
            let waited_ms = waited_ns.unwrap_or(0) / (NANOS / 1_000);
            health.counters.push(health::counter("oldest_waiting_ms", waited_ms));
            if let Some(store) = &store {
                let counters = store.counters().into_iter();
                health.counters.extend(counters.map(|(name, n)| health::counter(name, n)));
                health.log_lag = lag_to_wire(&store.lag);
            }
            health.ledger.extend(
                ship.standing
                    .iter()
                    .map(|(stream, standing)| ledger_row(stream, standing, store.as_ref())),
            );
        }
    }

    /// Orderly end, after the packet thread has finished and dropped its output: waits a
    /// bounded time for acks; the rest stays in the spool for the next life.
    pub async fn stop(self) {
        let Self { queue, claims, drain, end_links, thread, court, mut links, .. } = self;
        drain.cancel();
        drop((queue, claims));
        if court.await.is_err() {
            tracing::error!("the task that asks proxies died");
        }
        if !matches!(tokio::task::spawn_blocking(|| thread.join()).await, Ok(Ok(()))) {
            tracing::error!("the ship thread died");
        }
        end_links.cancel();
        while links.join_next().await.is_some() {}
    }
}

fn ledger_row(stream: &Arc<str>, standing: &Standing, store: Option<&StoreReport>) -> LedgerRow {
    let dropped = standing.tally.dropped.iter();
    let written = store.map(|store| store.written.as_slice()).unwrap_or_default().iter();
    LedgerRow {
        stream: stream.to_string(),
        produced_rows: standing.tally.produced,
        acked_rows: standing.tally.acked,
        pending_rows: standing.pending,
        spooled_rows: standing.spooled,
        dropped: dropped
            .map(|(reason, &rows)| Dropped { reason: reason.as_str().to_owned(), rows })
            .collect(),
        written: written
            .filter(|(of, _, _)| of == stream)
            .map(|(_, node, rows)| Written { producer: node.to_string(), rows: *rows })
            .collect(),
    }
}

fn bounds(config: &ShipConfig) -> Bounds {
    let seconds = |s: u64| (s > 0).then(|| Duration::from_secs(s));
    Bounds {
        spool_bytes_max: config.spool_bytes_max,
        disk_free_min: DISK_FREE_MIN,
        spool_age_max: seconds(config.spool_age_max_s),
        order: Preciousness::new(&config.spool_drop_first),
        doubt_timeout: seconds(config.doubt_timeout_s),
    }
}

/// Names this run of the host; empty when the system does not tell.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The thread that owns the backlog.
#[derive(Debug)]
struct ShipThread {
    backlog: Backlog,
    syncing: Syncing,
    account: Option<Account>,
    begun: Instant,
    oldest_epoch: Arc<AtomicU64>,
    report: ReportLock,
    drain: CancellationToken,
}

impl ShipThread {
    fn run(mut self, intake: mpsc::Receiver<Intake>, events: mpsc::Receiver<LinkEvent>) {
        // A runtime of its own, because writes to the spool may wait for the disk.
        match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(self.turn_until_drained(intake, events)),
            Err(error) => tracing::error!(%error, "cannot ship rows"),
        }
        self.backlog.end_life(self.begun.elapsed());
        self.publish();
    }

    async fn turn_until_drained(
        &mut self,
        mut intake: mpsc::Receiver<Intake>,
        mut events: mpsc::Receiver<LinkEvent>,
    ) {
        let mut ticks = tokio::time::interval(HOUSEKEEPING);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut rows, mut heard) = (Vec::new(), Vec::new());
        let (mut intake_open, mut events_open) = (true, true);
        let mut deadline: Option<Instant> = None;
        let drain = self.drain.clone();
        loop {
            if let Some(account) = &self.account {
                account.set_unsynced(self.backlog.unsynced());
            }
            self.sync();
            tokio::select! {
                biased;
                Some((job, result)) = self.syncing.done() => self.backlog.synced(&job, result),
                count = events.recv_many(&mut heard, TURN_MAX), if events_open => {
                    events_open = count > 0;
                    heard.drain(..).for_each(|event| self.hear(event));
                }
                taken = intake.recv_many(&mut rows, TURN_MAX), if intake_open => {
                    intake_open = taken > 0;
                    rows.drain(..).for_each(|row| self.take(&row));
                }
                _ = ticks.tick() => {
                    self.backlog.housekeep(self.begun.elapsed());
                    self.backlog.pump();
                    self.publish();
                }
                () = drain.cancelled(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + DRAIN_MAX);
                }
            }
            let drained = !intake_open && self.backlog.is_drained();
            if deadline.is_some_and(|deadline| drained || Instant::now() >= deadline) {
                return;
            }
        }
    }

    /// Hands to the other thread what is to be synced, if anything.
    fn sync(&mut self) {
        if let Some(job) = self.backlog.sync_job() {
            self.syncing.start_job(job);
        }
    }

    fn take(&mut self, intake: &Intake) {
        match intake {
            Intake::Rows(batch) => self.backlog.take(batch),
            Intake::Dropped { stream, rows, reason } => {
                self.backlog.count_dropped(stream, *rows, *reason);
            }
        }
    }

    fn hear(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { logger, welcome: Heard { durable, written }, outgoing } => {
                self.backlog.link_up(&logger, &durable, written.as_deref(), outgoing);
            }
            LinkEvent::Copied { logger, name } => self.backlog.copied(&logger, &name),
            LinkEvent::Gone { loggers } => {
                loggers.iter().for_each(|logger| self.backlog.logger_gone(logger));
            }
            LinkEvent::Acked { logger, position } => self.backlog.acked(&logger, &position),
            LinkEvent::Refused { logger, refusal } => self.backlog.refused(&logger, &refusal),
            LinkEvent::Farewell { logger } => self.backlog.logger_ended(&logger),
            LinkEvent::Down { logger } => self.backlog.link_down(&logger),
            LinkEvent::Joined { logger } => self.backlog.logger_joined(logger),
            LinkEvent::Retired { logger, end } => self.backlog.logger_retired(&logger, end),
        }
        self.backlog.pump();
    }

    fn publish(&self) {
        self.oldest_epoch.store(self.backlog.oldest_epoch(), Ordering::Relaxed);
        let report = ShipReport {
            standing: self.backlog.standing(),
            counters: self.backlog.counters(),
            oldest_ns: self.backlog.oldest_ns(),
        };
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}
