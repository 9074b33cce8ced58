//! The loop of the thread that owns a [`LogStore`]: commands of many producers in, group
//! commits, answers out. It never waits for a producer; producers wait for it, by the bound
//! of the channel in front of it.
//! Longer than 500 lines: the loop and what it reports of itself belong together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tyto_core::lag::LagReport;
use tyto_core::record::schema::Schema;

use crate::archive::ArchiveReport;
use crate::batch::{Batch, BatchName, Position, Refusal, Welcome};
use crate::doubt::DoubtReport;
use crate::error::{AcceptError, StoreError};
use crate::lag::LagMeter;
use crate::store::{LogStore, PENDING_BYTES_MAX};

/// The thread looks at the clock at least this often: rotation is late by no more.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// After a fault of the disk, the commit is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The report is renewed this often at most.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// The lag in it is renewed this often at most.
const LAG_REPORT_EVERY: Duration = Duration::from_secs(1);

/// Where answers to one producer go. Called on the store's thread: must not wait.
pub trait Peer: Send {
    /// Held by each batch until it is in the store's hands: bounds what may wait before it.
    type Permit: Send;

    /// The session begins: what there is of this producer.
    fn welcome(&mut self, welcome: Welcome);
    /// Rows are durable.
    fn acked(&mut self, position: &Position);
    /// Rows can never be written.
    fn refused(&mut self, refusal: &Refusal);
    /// A copy of a batch in doubt is durable.
    fn copied(&mut self, name: &BatchName);
    /// All that is durable was acked, and nothing else that came will be written.
    fn farewell(&mut self);
}

/// What producers ask for. Commands of one session come in order.
#[derive(Debug)]
pub enum Command<P: Peer> {
    /// A session of a producer begins; an earlier one of it is over, and what still comes of
    /// it is dropped, because the producer sends it again.
    Hello {
        /// Tells sessions apart.
        session: u64,
        /// The producer.
        node: Arc<str>,
        /// Lives before this one are over for good.
        oldest_epoch: u64,
        /// Where answers go.
        peer: P,
    },
    /// Columns of a log stream.
    Schema(Schema),
    /// Rows.
    Batch {
        /// The session it came in.
        session: u64,
        /// The rows.
        batch: Batch,
        /// Released when the store has taken the batch.
        permit: P::Permit,
    },
    /// A batch in doubt, to be kept apart from the log files.
    Copy {
        /// The session it came in.
        session: u64,
        /// The rows.
        batch: Batch,
        /// The logger that it is bound to.
        logger: String,
        /// Released when the store is done with it.
        permit: P::Permit,
    },
    /// All that is in doubt of a producer: copies of other batches go.
    InDoubt {
        /// The session it came in.
        session: u64,
        /// The producer.
        node: Arc<str>,
        /// Its batches that are bound to other loggers and not settled.
        batches: Vec<BatchName>,
    },
    /// A session is over.
    Goodbye {
        /// Which.
        session: u64,
        /// Of which producer.
        node: Arc<str>,
    },
    /// Close the store, whoever else could still send commands.
    Close,
}

/// The store as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// Rows durable in files: stream, producer, rows over all lives of both.
    pub written: Vec<(Arc<str>, Arc<str>, u64)>,
    /// Those of them that the configuration of their stream keeps out of its files.
    pub filtered: Vec<(Arc<str>, Arc<str>, u64)>,
    /// What the archive did since the start.
    pub archive: ArchiveReport,
    /// Commits done.
    pub commits: u64,
    /// Commits that the disk refused.
    pub commit_faults: u64,
    /// Longest commit since the start, microseconds.
    pub commit_slowest_us: u64,
    /// Time spent in commits since the start, microseconds.
    pub commit_total_us: u64,
    /// Rows refused since the start.
    pub refused_rows: u64,
    /// Copies of batches in doubt.
    pub doubts: DoubtReport,
    /// What the disk refuses just now.
    pub fault: Option<String>,
    /// How long rows took from their packets to the disk.
    pub lag: LagReport,
}

impl StoreReport {
    /// What is counted, by name, for the node's report of itself. The unit is the last word.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mean_us = self.commit_total_us.checked_div(self.commits).unwrap_or(0);
        let mut counters = vec![
            ("commits", self.commits),
            ("commit_faults", self.commit_faults),
            ("commit_mean_us", mean_us),
            ("commit_slowest_us", self.commit_slowest_us),
            ("refused_rows", self.refused_rows),
            ("doubt_copies", self.doubts.copies),
            ("doubt_rows", self.doubts.rows),
            ("doubt_copies_not_made", self.doubts.not_made),
            ("disk_refuses", u64::from(self.fault.is_some())),
            ("lag_unmeasured_rows", self.lag.unmeasured_rows),
            ("filtered_rows", self.filtered.iter().map(|(_, _, rows)| rows).sum()),
        ];
        counters.extend(self.archive.list());
        counters
    }
}

/// What a store's thread shares with others: its latest report, and their wish that it ends.
#[derive(Clone, Debug, Default)]
pub struct ReportCell(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The store's thread replaces it, a reader copies it: held for a copy only.
    report: Mutex<StoreReport>,
    ending: AtomicBool,
}

impl ReportCell {
    /// The latest report.
    pub fn latest(&self) -> StoreReport {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The store is about to be closed: it waits no longer for a disk that refuses. What it
    /// could not write has no ack, and its producers keep it.
    pub fn end_waiting(&self) {
        self.0.ending.store(true, Ordering::Relaxed);
    }

    fn is_ending(&self) -> bool {
        self.0.ending.load(Ordering::Relaxed)
    }

    fn replace(&self, report: StoreReport) {
        *self.0.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}

/// Time that only goes forward: how long things take, and when they are tried again.
pub type Monotonic = Box<dyn Fn() -> Instant + Send>;

/// The store and its producers, one step at a time. [`run`] is its loop; a simulated cluster
/// has another.
pub struct Service<P: Peer> {
    store: LogStore,
    commit_interval: Duration,
    now: Monotonic,
    sessions: BTreeMap<Arc<str>, (u64, P)>,
    report: StoreReport,
    cell: ReportCell,
    reported: Instant,
    /// When the oldest row that is not durable came.
    pending_since: Option<Instant>,
    /// What the disk refused is tried again then.
    retry_at: Option<Instant>,
    /// What could not be done, and comes before anything else.
    held_up: Option<Command<P>>,
    /// The store is about to be closed on a disk that refuses: rows behind those given up must
    /// not be taken, or they would stand for them.
    is_over: bool,
    lag: LagMeter,
    lag_reported: Option<Instant>,
}

impl<P: Peer> std::fmt::Debug for Service<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Runs `store` until [`Command::Close`] or every sender is gone, then closes it: all rows durable,
/// all files in the archive.
///
/// # Errors
/// When the disk refuses the close; what was acked is safe, and the next start goes on.
pub fn run<P: Peer>(
    store: LogStore,
    commands: &Receiver<Command<P>>,
    commit_interval: Duration,
    cell: ReportCell,
) -> Result<(), StoreError> {
    let mut service = Service::new(store, commit_interval, cell, Box::new(Instant::now));
    loop {
        if service.takes_commands() {
            match commands.recv_timeout(service.wait()) {
                Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => return service.close(),
                Ok(command) => service.handle(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
        } else {
            std::thread::sleep(service.wait());
        }
        service.turn();
    }
}

impl<P: Peer> Service<P> {
    /// A store with no producers yet.
    pub fn new(
        store: LogStore,
        commit_interval: Duration,
        cell: ReportCell,
        now: Monotonic,
    ) -> Self {
        let reported = now();
        let mut service = Self {
            store,
            commit_interval,
            now,
            sessions: BTreeMap::new(),
            report: StoreReport::default(),
            cell,
            reported,
            pending_since: None,
            retry_at: None,
            held_up: None,
            is_over: false,
            lag: LagMeter::new(),
            lag_reported: None,
        };
        service.publish();
        service
    }

    /// Whether [`handle`](Self::handle) may be called. False while the disk refuses: producers
    /// wait then, by the bound of the channel.
    pub const fn takes_commands(&self) -> bool {
        self.retry_at.is_none() && self.held_up.is_none()
    }

    /// How long nothing may happen before [`turn`](Self::turn) is due.
    pub fn wait(&self) -> Duration {
        let now = (self.now)();
        let commit = self.pending_since.map(|since| since + self.commit_interval);
        let next = self.retry_at.or(commit);
        next.map_or(IDLE_WAIT, |next| next.saturating_duration_since(now).min(IDLE_WAIT))
    }

    /// What time brings: commits, rotation, another try of what the disk refused.
    pub fn turn(&mut self) {
        if self.retry_at.is_some_and(|at| (self.now)() < at) && !self.cell.is_ending() {
            return;
        }
        self.retry_at = None;
        if let Some(command) = self.held_up.take() {
            self.handle(command);
        }
        if self.retry_at.is_some() {
            return;
        }
        self.commit_if_due();
        match self.store.tick() {
            // With rows pending, a fault is over when they are committed.
            Ok(()) if self.store.is_pending() => {}
            Ok(()) => self.recovered(),
            Err(error) => self.fault(&error),
        }
        if (self.now)().saturating_duration_since(self.reported) >= REPORT_EVERY {
            self.publish();
        }
    }

    /// Does what a producer asks for, or holds it up until the disk lets it.
    pub fn handle(&mut self, command: Command<P>) {
        match command {
            Command::Hello { session, node, oldest_epoch, mut peer } => {
                // Positions of the session before are durable or come again.
                if !self.commit() {
                    self.held_up = Some(Command::Hello { session, node, oldest_epoch, peer });
                    return;
                }
                if let Err(error) = self.store.forget(&node, oldest_epoch) {
                    self.fault(&error);
                }
                peer.welcome(self.store.welcome(&node));
                self.sessions.insert(node, (session, peer));
            }
            Command::Schema(schema) => {
                // Its batches are refused one by one, each with an answer to its producer.
                if let Err(error) = self.store.add_schema(schema) {
                    tracing::warn!(%error, "schema refused");
                }
            }
            Command::Batch { session, batch, permit } => {
                let current = self.is_current(session, &batch.node);
                if current && !self.is_over && !self.take(&batch) {
                    self.held_up = Some(Command::Batch { session, batch, permit });
                }
            }
            Command::Copy { session, batch, logger, permit } => {
                let is_kept =
                    self.is_current(session, &batch.node) && self.store.keep_copy(&batch, &logger);
                if let Some((_, peer)) = self.sessions.get_mut(&batch.node).filter(|_| is_kept) {
                    peer.copied(&batch.name());
                }
                drop(permit);
            }
            Command::InDoubt { session, node, batches } => {
                if self.is_current(session, &node) {
                    self.store.keep_copies_of(&node, &batches);
                }
            }
            Command::Goodbye { session, node } => {
                // It may still listen: what it sent is acked before it is forgotten.
                if !self.commit() {
                    self.held_up = Some(Command::Goodbye { session, node });
                    return;
                }
                if self.is_current(session, &node) {
                    self.sessions.remove(&node);
                }
            }
            Command::Close => debug_assert!(false, "handled where commands are taken"),
        }
    }

    fn is_current(&self, session: u64, node: &str) -> bool {
        self.sessions.get(node).is_some_and(|(id, _)| *id == session)
    }

    /// False when the disk refuses what has to come first: the batch has to come again.
    fn take(&mut self, batch: &Batch) -> bool {
        match self.store.accept(batch) {
            Ok(new_rows) => {
                self.lag.taken(batch, new_rows);
                let now = (self.now)();
                self.pending_since.get_or_insert(now);
                true
            }
            Err(AcceptError::Refused(reason)) => {
                self.refuse(batch, reason);
                true
            }
            Err(AcceptError::Store(error)) => self.try_again_later(&error),
        }
    }

    /// False, unless the store is about to be closed: then it waits no longer for the disk.
    fn try_again_later(&mut self, error: &StoreError) -> bool {
        self.fault(error);
        self.is_over = self.cell.is_ending();
        self.retry_at = (!self.is_over).then(|| (self.now)() + RETRY_AFTER);
        self.is_over
    }

    fn refuse(&mut self, batch: &Batch, reason: String) {
        self.report.refused_rows += u64::from(batch.rows);
        tracing::error!(
            node = %batch.node, stream = %batch.stream, first_seq = batch.first_seq,
            rows = batch.rows, error = %reason, "batch refused"
        );
        if let Some((_, peer)) = self.sessions.get_mut(&batch.node) {
            peer.refused(&Refusal {
                epoch: batch.epoch,
                stream: batch.stream.clone(),
                first_seq: batch.first_seq,
                rows: batch.rows,
                reason,
            });
        }
    }

    fn commit_if_due(&mut self) {
        let now = (self.now)();
        let is_old = |since| now.saturating_duration_since(since) >= self.commit_interval;
        if self.pending_since.is_some_and(is_old) || self.store.pending_bytes() >= PENDING_BYTES_MAX
        {
            self.commit();
        }
    }

    /// False when the disk refuses: nothing is acked and nothing more is read, so that producers
    /// wait, until a later try succeeds.
    fn commit(&mut self) -> bool {
        if !self.store.is_pending() {
            return true;
        }
        let begun = (self.now)();
        let durable = match self.store.commit() {
            Ok(durable) => durable,
            Err(error) => {
                self.report.commit_faults += 1;
                return self.try_again_later(&error);
            }
        };
        self.pending_since = None;
        self.lag.committed(self.store.now());
        let took = (self.now)().saturating_duration_since(begun);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.report.commits += 1;
        self.report.commit_slowest_us = self.report.commit_slowest_us.max(took_us);
        self.report.commit_total_us = self.report.commit_total_us.saturating_add(took_us);
        self.recovered();
        self.ack(&durable);
        true
    }

    fn ack(&mut self, durable: &[(Arc<str>, Position)]) {
        for (node, position) in durable {
            if let Some((_, peer)) = self.sessions.get_mut(node) {
                peer.acked(position);
            }
        }
    }

    fn fault(&mut self, error: &StoreError) {
        let text = error.chain();
        if self.report.fault.as_ref() != Some(&text) {
            tracing::error!(error = %text, "log rows cannot be written; producers wait");
            self.report.fault = Some(text);
        }
        self.publish();
    }

    fn recovered(&mut self) {
        if self.report.fault.take().is_some() {
            tracing::warn!("disk takes log rows again");
        }
    }

    fn publish(&mut self) {
        let written = self.store.written();
        self.report.written =
            written.map(|(stream, node, rows)| (stream.clone(), node.clone(), rows)).collect();
        self.report_lag();
        self.report.doubts = self.store.doubts();
        let filtered = self.store.filtered();
        self.report.filtered =
            filtered.map(|(stream, node, rows)| (stream.clone(), node.clone(), rows)).collect();
        self.report.archive = self.store.archive_report();
        self.cell.replace(self.report.clone());
        self.reported = (self.now)();
    }

    /// Adding up a minute of all streams is not done for each report.
    fn report_lag(&mut self) {
        let now = (self.now)();
        let is_due = |at| now.saturating_duration_since(at) >= LAG_REPORT_EVERY;
        if self.lag_reported.is_none_or(is_due) {
            self.report.lag = self.lag.report(self.store.now());
            self.lag_reported = Some(now);
        }
    }

    /// Closes the store.
    ///
    /// # Errors
    /// When the disk refuses; what was acked is safe, and the next start goes on.
    pub fn close(mut self) -> Result<(), StoreError> {
        // One try only: whoever stops a logger with a full disk must not wait for the disk.
        let durable = self.store.commit()?;
        self.lag.committed(self.store.now());
        self.ack(&durable);
        self.publish();
        // Producers need not wait for the archive.
        std::mem::take(&mut self.sessions).into_values().for_each(|(_, mut peer)| peer.farewell());
        self.store.close().map(|_| ())
    }
}
