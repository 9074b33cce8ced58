//! The loop of the thread that owns a [`LogStore`]: commands of many producers in, group
//! commits, answers out. It never waits for a producer; producers wait for it, by the bound
//! of the channel in front of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tyto_core::lag::LagReport;
use tyto_core::record::schema::Schema;

use crate::batch::{Batch, Position, Refusal};
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

    /// The session begins: what is durable of this producer.
    fn welcome(&mut self, durable: Vec<Position>);
    /// Rows are durable.
    fn acked(&mut self, position: &Position);
    /// Rows can never be written.
    fn refused(&mut self, refusal: &Refusal);
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
    /// What the disk refuses just now.
    pub fault: Option<String>,
    /// How long rows took from their packets to the disk.
    pub lag: LagReport,
}

impl StoreReport {
    /// What is counted, by name, for the node's report of itself. The unit is the last word.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mean_us = self.commit_total_us.checked_div(self.commits).unwrap_or(0);
        vec![
            ("commits", self.commits),
            ("commit_faults", self.commit_faults),
            ("commit_mean_us", mean_us),
            ("commit_slowest_us", self.commit_slowest_us),
            ("refused_rows", self.refused_rows),
            ("disk_refuses", u64::from(self.fault.is_some())),
            ("lag_unmeasured_rows", self.lag.unmeasured_rows),
        ]
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

struct Service<P: Peer> {
    store: LogStore,
    commit_interval: Duration,
    sessions: HashMap<Arc<str>, (u64, P)>,
    report: StoreReport,
    cell: ReportCell,
    reported: Instant,
    /// When the oldest row that is not durable came.
    pending_since: Option<Instant>,
    lag: LagMeter,
    lag_reported: Option<Instant>,
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
    let mut service = Service {
        store,
        commit_interval,
        sessions: HashMap::new(),
        report: StoreReport::default(),
        cell,
        reported: Instant::now(),
        pending_since: None,
        lag: LagMeter::new(),
        lag_reported: None,
    };
    service.publish();
    loop {
        match commands.recv_timeout(service.wait()) {
            Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => return service.close(),
            Ok(command) => service.handle(command),
            Err(RecvTimeoutError::Timeout) => {}
        }
        service.commit_if_due();
        match service.store.tick() {
            // With rows pending, a fault is over when they are committed.
            Ok(()) if service.store.is_pending() => {}
            Ok(()) => service.recovered(),
            Err(error) => service.fault(&error),
        }
        if service.reported.elapsed() >= REPORT_EVERY {
            service.publish();
        }
    }
}

impl<P: Peer> Service<P> {
    fn wait(&self) -> Duration {
        self.pending_since.map_or(IDLE_WAIT, |since| {
            self.commit_interval.saturating_sub(since.elapsed()).min(IDLE_WAIT)
        })
    }

    fn handle(&mut self, command: Command<P>) {
        match command {
            Command::Hello { session, node, oldest_epoch, mut peer } => {
                // Positions of the session before are durable or come again.
                self.commit();
                if let Err(error) = self.store.forget(&node, oldest_epoch) {
                    self.fault(&error);
                }
                peer.welcome(self.store.positions(&node));
                self.sessions.insert(node, (session, peer));
            }
            Command::Schema(schema) => {
                // Its batches are refused one by one, each with an answer to its producer.
                if let Err(error) = self.store.add_schema(schema) {
                    tracing::warn!(%error, "schema refused");
                }
            }
            Command::Batch { session, batch, permit } => {
                let current = self.sessions.get(&batch.node).is_some_and(|(id, _)| *id == session);
                if current {
                    self.take(&batch);
                }
                drop(permit);
            }
            Command::Goodbye { session, node } => {
                // It may still listen: what it sent is acked before it is forgotten.
                self.commit();
                if self.sessions.get(&node).is_some_and(|(id, _)| *id == session) {
                    self.sessions.remove(&node);
                }
            }
            Command::Close => debug_assert!(false, "handled where commands are taken"),
        }
    }

    fn take(&mut self, batch: &Batch) {
        loop {
            match self.store.accept(batch) {
                Ok(new_rows) => {
                    self.lag.taken(batch, new_rows);
                    self.pending_since.get_or_insert_with(Instant::now);
                    return;
                }
                Err(AcceptError::Refused(reason)) => return self.refuse(batch, reason),
                Err(AcceptError::Store(error)) => {
                    self.fault(&error);
                    if self.cell.is_ending() {
                        return;
                    }
                    std::thread::sleep(RETRY_AFTER);
                }
            }
        }
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
        let due = self.pending_since.is_some_and(|since| since.elapsed() >= self.commit_interval);
        if due || self.store.pending_bytes() >= PENDING_BYTES_MAX {
            self.commit();
        }
    }

    /// Commits, however long the disk refuses: meanwhile nothing is read, so that producers
    /// wait, and nothing is acked.
    fn commit(&mut self) {
        if !self.store.is_pending() {
            return;
        }
        let begun = Instant::now();
        let durable = loop {
            match self.store.commit() {
                Ok(durable) => break durable,
                Err(error) => {
                    self.report.commit_faults += 1;
                    self.fault(&error);
                    if self.cell.is_ending() {
                        return;
                    }
                    std::thread::sleep(RETRY_AFTER);
                }
            }
        };
        self.pending_since = None;
        self.lag.committed(self.store.now());
        let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.report.commits += 1;
        self.report.commit_slowest_us = self.report.commit_slowest_us.max(took_us);
        self.report.commit_total_us = self.report.commit_total_us.saturating_add(took_us);
        self.recovered();
        self.ack(&durable);
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
        self.cell.replace(self.report.clone());
        self.reported = Instant::now();
    }

    /// Adding up a minute of all streams is not done for each report.
    fn report_lag(&mut self) {
        if self.lag_reported.is_none_or(|at| at.elapsed() >= LAG_REPORT_EVERY) {
            self.report.lag = self.lag.report(self.store.now());
            self.lag_reported = Some(Instant::now());
        }
    }

    fn close(mut self) -> Result<(), StoreError> {
        // One try only: whoever stops a logger with a full disk must not wait for the disk.
        let durable = self.store.commit()?;
        self.lag.committed(self.store.now());
        self.ack(&durable);
        self.publish();
        // Producers need not wait for the archive.
        self.sessions.clear();
        self.store.close().map(|_| ())
    }
}
