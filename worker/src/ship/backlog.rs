//! Which batches are where: numbered, spooled, bound to a logger, in flight, settled. One
//! owner, no waiting: what happens comes in by calls, batches leave by bounded channels.
//!
//! Rules that make each row arrive exactly once:
//! - a batch is bound to a logger on disk before it is sent there, and never to another one;
//! - batches are bound in the order of their numbers, so that at each logger the sequence
//!   numbers of a life and log stream only rise;
//! - a batch is settled when its logger says that it is on disk, or refuses it for good.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tyto_core::record::schema::Schema;
use tyto_writer::{Position, Refusal};

use super::batch::RowBatch;
use super::ledger::{self, Ledger, Reason, Tallies, Tally};
use super::recovery::{self, Recovered};
use super::spool::{BatchHead, Location, Record, Spool};

/// Batches on their way to one logger, at most.
pub(crate) const WINDOW_BATCHES_MAX: usize = 64;

/// Bytes on their way to one logger at which nothing more is bound to it.
const WINDOW_BYTES_MAX: usize = 8 << 20;

/// Batches without a time that are passed over for the oldest one with a time.
const UNTIMED_MAX: usize = 64;

/// A batch on its way to a logger.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) head: BatchHead,
    pub(crate) schema: Arc<Schema>,
    pub(crate) payload: Bytes,
}

/// A batch that is not settled.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) head: BatchHead,
    pub(crate) location: Location,
    pub(crate) logger: Option<Arc<str>>,
    /// Size of the payload, bytes.
    pub(crate) bytes: usize,
}

/// What a segment still stands for.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// Batches in it that are not settled.
    pub(crate) live: BTreeSet<u64>,
    /// Rows of the batches in it.
    pub(crate) tallies: Tallies,
}

#[derive(Debug)]
struct Link {
    logger: Arc<str>,
    bound: BTreeSet<u64>,
    bytes: usize,
    parcels: Option<mpsc::Sender<Parcel>>,
    /// The latest batch sent in this session.
    sent: Option<u64>,
    /// The logger left the cluster: nothing more is bound to it, and this ends its link when
    /// nothing is.
    retired: Option<CancellationToken>,
}

#[derive(Debug)]
struct Stream {
    name: Arc<str>,
    schema: Arc<Schema>,
    fingerprint: u64,
    next_seq: u64,
}

/// How rows stand, by log stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Counts over all lives.
    pub(crate) tally: Tally,
    /// Rows on their way to a logger that is there.
    pub(crate) pending: u64,
    /// Rows that wait in the spool.
    pub(crate) spooled: u64,
}

/// All batches of one node.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(super) ledger_path: PathBuf,
    pub(super) ledger: Ledger,
    pub(super) ledger_changed: bool,
    pub(super) spool: Spool,
    pub(super) spool_bytes_max: u64,
    pub(super) items: BTreeMap<u64, Item>,
    pub(super) unbound: BTreeSet<u64>,
    pub(super) homes: BTreeMap<u64, Home>,
    totals: Tallies,
    pub(super) schemas: HashMap<u64, Arc<Schema>>,
    streams: HashMap<&'static str, Stream>,
    links: Vec<Link>,
    next_link: usize,
    /// The disk refused the latest batch.
    is_faulty: bool,
}

impl Link {
    /// A link that is not up, with what earlier sessions left bound to it.
    fn new(logger: Arc<str>, items: &BTreeMap<u64, Item>) -> Self {
        let bound = items.values().filter(|item| item.logger.as_ref() == Some(&logger));
        let bytes = bound.clone().map(|item| item.bytes).sum();
        let bound = bound.map(|item| item.head.number).collect();
        Self { logger, bound, bytes, parcels: None, sent: None, retired: None }
    }
}

/// How a batch ended.
pub(super) enum Outcome {
    Acked,
    Dropped(Reason),
}

impl Backlog {
    /// Reads what earlier lives left in `folder` and begins the life `epoch` (later when an
    /// earlier life had this stamp or a later one).
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn open(
        folder: &Path,
        spool_bytes_max: u64,
        epoch: u64,
        loggers: &[Arc<str>],
    ) -> io::Result<Self> {
        let (spool, mut ledger, recovered) = recovery::open(folder, spool_bytes_max, loggers)?;
        let Recovered { items, homes, schemas } = recovered;
        ledger.epoch = epoch.max(ledger.epoch + 1);
        let ledger_path = folder.join("ledger");
        ledger.save(&ledger_path)?;
        let mut totals = ledger.settled.clone();
        homes.values().for_each(|home| ledger::add(&mut totals, &home.tallies));
        let links = loggers.iter().map(|logger| Link::new(logger.clone(), &items)).collect();
        let unbound = items.values().filter(|item| item.logger.is_none());
        let unbound = unbound.map(|item| item.head.number).collect();
        let mut backlog = Self {
            ledger_path,
            ledger,
            ledger_changed: false,
            spool,
            spool_bytes_max,
            items,
            unbound,
            homes,
            totals,
            schemas,
            streams: HashMap::new(),
            links,
            next_link: 0,
            is_faulty: false,
        };
        backlog.remove_settled_segments();
        Ok(backlog)
    }

    /// Lives before this one have nothing left to send.
    pub(crate) fn oldest_epoch(&self) -> u64 {
        let oldest = self.items.values().next().map(|item| item.head.epoch);
        oldest.unwrap_or(self.ledger.epoch)
    }

    /// Whether nothing is left that waiting for the loggers of this moment could settle.
    pub(crate) fn is_drained(&self) -> bool {
        let mut up = self.links.iter().filter(|link| link.parcels.is_some());
        let none_up = up.clone().next().is_none();
        up.all(|link| link.bound.is_empty()) && (none_up || self.unbound.is_empty())
    }

    /// When the oldest row was written that no logger has confirmed, packet time in ns.
    pub(crate) fn oldest_ns(&self) -> Option<u64> {
        let times = self.items.values().take(UNTIMED_MAX).map(|item| item.head.times.first_ns);
        times.into_iter().find(|&first_ns| first_ns != 0)
    }

    /// Size of the spool, bytes.
    pub(crate) const fn spool_bytes(&self) -> u64 {
        self.spool.bytes()
    }

    /// How rows stand, per log stream.
    pub(crate) fn standing(&self) -> BTreeMap<Arc<str>, Standing> {
        let mut standing: BTreeMap<Arc<str>, Standing> = BTreeMap::new();
        for (stream, tally) in &self.totals {
            let open = tally.produced - tally.acked - tally.dropped_rows();
            let row = Standing { tally: tally.clone(), pending: 0, spooled: open };
            standing.insert(stream.clone(), row);
        }
        for link in self.links.iter().filter(|link| link.parcels.is_some()) {
            for item in link.bound.iter().filter_map(|number| self.items.get(number)) {
                if let Some(row) = standing.get_mut(&item.head.stream) {
                    row.pending += u64::from(item.head.rows);
                    row.spooled -= u64::from(item.head.rows);
                }
            }
        }
        standing
    }

    /// Rows given up before they got numbers.
    pub(crate) fn count_dropped(&mut self, stream: &str, rows: u64, reason: Reason) {
        for tallies in [&mut self.totals, &mut self.ledger.settled] {
            let tally = tallies.entry(stream.into()).or_default();
            tally.produced += rows;
            *tally.dropped.entry(reason).or_default() += rows;
        }
        self.ledger_changed = true;
    }

    /// Takes a batch from the packet thread: numbers, spools and, if possible, sends it.
    pub(crate) fn take(&mut self, batch: &RowBatch) {
        let (rows, payload) = (batch.rows, &batch.payload);
        if !self.make_room(payload.len()) {
            return self.count_dropped(batch.stream.name, u64::from(rows), Reason::SpoolFull);
        }
        let (number, epoch) = (self.ledger.next_number, self.ledger.epoch);
        let link = if self.unbound.is_empty() { self.link_with_room() } else { None };
        let stream = self.streams.entry(batch.stream.name).or_insert_with(|| {
            let schema = Arc::new((batch.stream.schema)());
            let fingerprint = schema.fingerprint();
            Stream { name: batch.stream.name.into(), schema, fingerprint, next_seq: 0 }
        });
        let head = BatchHead {
            number,
            epoch,
            stream: stream.name.clone(),
            fingerprint: stream.fingerprint,
            first_seq: stream.next_seq,
            rows,
            times: batch.times,
        };
        let logger = link.map(|link| self.links[link].logger.clone());
        let location =
            match self.spool.append_batch(&head, &stream.schema, logger.as_deref(), payload) {
                Ok(location) => location,
                Err(error) => {
                    self.tell_fault(&error);
                    let rows = u64::from(rows);
                    return self.count_dropped(batch.stream.name, rows, Reason::SpoolFault);
                }
            };
        stream.next_seq = head.end_seq();
        self.is_faulty = false;
        self.ledger.next_number += 1;
        self.schemas.entry(head.fingerprint).or_insert_with(|| stream.schema.clone());
        let home = self.homes.entry(location.segment).or_default();
        home.live.insert(number);
        for tallies in [&mut home.tallies, &mut self.totals] {
            tallies.entry(head.stream.clone()).or_default().produced += u64::from(rows);
        }
        let bytes = payload.len();
        self.items.insert(number, Item { head, location, logger, bytes });
        match link {
            Some(link) => {
                self.links[link].bound.insert(number);
                self.links[link].bytes += bytes;
                self.send(link, Some((number, payload)));
            }
            None => {
                self.unbound.insert(number);
                self.pump();
            }
        }
    }

    /// A logger is there: what it has is settled, what is bound to it goes out again.
    pub(crate) fn link_up(
        &mut self,
        logger: &str,
        durable: &[Position],
        parcels: mpsc::Sender<Parcel>,
    ) {
        durable.iter().for_each(|position| self.acked(logger, position));
        if let Some(link) = self.links.iter_mut().find(|link| *link.logger == *logger) {
            link.parcels = Some(parcels);
            link.sent = None;
        }
        self.pump();
    }

    /// A logger is gone; what is bound to it waits for its return.
    pub(crate) fn link_down(&mut self, logger: &str) {
        if let Some(link) = self.links.iter_mut().find(|link| *link.logger == *logger) {
            link.parcels = None;
        }
    }

    /// A logger is part of the cluster, from now on or again.
    pub(crate) fn logger_joined(&mut self, logger: Arc<str>) {
        match self.links.iter_mut().find(|link| link.logger == logger) {
            // Back before its old link had ended: a new one begins.
            Some(link) => {
                if let Some(end) = link.retired.take() {
                    end.cancel();
                    link.parcels = None;
                }
            }
            None => self.links.push(Link::new(logger, &self.items)),
        }
    }

    /// A logger is no more part of the cluster: it still gets what is bound to it, and nothing
    /// more; then `end` is cancelled.
    pub(crate) fn logger_retired(&mut self, logger: &str, end: CancellationToken) {
        if let Some(link) = self.links.iter_mut().find(|link| *link.logger == *logger) {
            link.retired = Some(end);
        }
        self.part_with_retired();
    }

    fn part_with_retired(&mut self) {
        self.links.retain(|link| match &link.retired {
            Some(end) if link.bound.is_empty() => {
                tracing::info!(peer = %link.logger, "nothing is left to send to this logger");
                end.cancel();
                false
            }
            _ => true,
        });
    }

    /// A logger has rows on disk.
    pub(crate) fn acked(&mut self, logger: &str, position: &Position) {
        let Some(link) = self.links.iter().find(|link| *link.logger == *logger) else { return };
        let done: Vec<u64> = (link.bound.iter().filter_map(|number| self.items.get(number)))
            .map(|item| &item.head)
            .filter(|head| head.epoch == position.epoch && head.stream == position.stream)
            .filter(|head| head.end_seq() <= position.next_seq)
            .map(|head| head.number)
            .collect();
        self.settle(done, &Outcome::Acked);
    }

    /// A logger can never write a batch.
    pub(crate) fn refused(&mut self, logger: &str, refusal: &Refusal) {
        tracing::error!(
            peer = logger, stream = %refusal.stream, first_seq = refusal.first_seq,
            rows = refusal.rows, error = %refusal.reason, "logger refused a batch; rows are lost"
        );
        let Some(link) = self.links.iter().find(|link| *link.logger == *logger) else { return };
        let is_it = |head: &BatchHead| {
            (head.epoch, head.first_seq) == (refusal.epoch, refusal.first_seq)
                && head.stream == refusal.stream
        };
        let found = link
            .bound
            .iter()
            .copied()
            .find(|number| self.items.get(number).is_some_and(|item| is_it(&item.head)));
        self.settle(found.into_iter().collect(), &Outcome::Dropped(Reason::Refused));
    }

    /// Binds waiting batches to loggers that have room, in order, and sends them.
    pub(crate) fn pump(&mut self) {
        for link in 0..self.links.len() {
            self.send(link, None);
        }
        while let Some(number) = self.unbound.first().copied() {
            let Some(link) = self.link_with_room() else { return };
            let logger = self.links[link].logger.clone();
            if let Err(error) =
                self.spool.append_mark(&Record::Bound { number, logger: logger.clone() })
            {
                // Without the mark a second life could send it elsewhere: it has to wait.
                tracing::error!(%error, "cannot bind a batch; it stays in the spool");
                return;
            }
            self.unbound.remove(&number);
            if let Some(item) = self.items.get_mut(&number) {
                item.logger = Some(logger);
                self.links[link].bytes += item.bytes;
            }
            self.links[link].bound.insert(number);
            self.send(link, None);
        }
    }

    /// Removes segments that count no more and saves the ledger when it changed.
    pub(crate) fn housekeep(&mut self) {
        self.part_with_retired();
        self.remove_settled_segments();
        if self.ledger_changed {
            match self.ledger.save(&self.ledger_path) {
                Ok(()) => self.ledger_changed = false,
                Err(error) => tracing::error!(%error, "cannot save the ledger"),
            }
        }
    }

    /// Told once, however many batches it costs: the ledger counts them.
    fn tell_fault(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_faulty, true) {
            tracing::error!(%error, "the spool's disk refuses rows; they are dropped");
        }
    }

    fn link_with_room(&mut self) -> Option<usize> {
        let count = self.links.len();
        let found = (0..count).map(|i| (self.next_link + i) % count).find(|&i| {
            let link = &self.links[i];
            link.parcels.is_some()
                && link.retired.is_none()
                && link.bound.len() < WINDOW_BATCHES_MAX
                && link.bytes < WINDOW_BYTES_MAX
        })?;
        self.next_link = found + 1;
        Some(found)
    }

    /// Sends what is bound to a link and was not sent in this session, in order. `fresh` saves
    /// reading a payload back that is still at hand.
    fn send(&mut self, link: usize, fresh: Option<(u64, &Bytes)>) {
        let mut broken = Vec::new();
        let link = &mut self.links[link];
        if let Some(parcels) = &link.parcels {
            let unsent = link.sent.map_or(0, |sent| sent + 1);
            for &number in link.bound.range(unsent..) {
                let Ok(permit) = parcels.try_reserve() else { break };
                let Some(item) = self.items.get(&number) else { continue };
                let Some(schema) = self.schemas.get(&item.head.fingerprint) else {
                    broken.push(number);
                    continue;
                };
                let payload = match fresh {
                    Some((fresh, payload)) if fresh == number => Ok(payload.clone()),
                    _ => self.spool.payload(item.location),
                };
                link.sent = Some(number);
                match payload {
                    Ok(payload) => {
                        let (head, schema) = (item.head.clone(), schema.clone());
                        permit.send(Parcel { head, schema, payload });
                    }
                    Err(error) => {
                        tracing::error!(stream = %item.head.stream, first_seq = item.head.first_seq,
                            rows = item.head.rows, %error, "cannot read a batch back");
                        broken.push(number);
                    }
                }
            }
        }
        self.settle(broken, &Outcome::Dropped(Reason::SpoolFault));
    }

    pub(super) fn settle(&mut self, numbers: Vec<u64>, outcome: &Outcome) {
        if numbers.is_empty() {
            return;
        }
        for number in &numbers {
            let Some(item) = self.items.remove(number) else { continue };
            self.unbound.remove(number);
            let link =
                self.links.iter_mut().find(|link| Some(&link.logger) == item.logger.as_ref());
            if let Some(link) = link
                && link.bound.remove(number)
            {
                link.bytes -= item.bytes;
            }
            let home = self.homes.entry(item.location.segment).or_default();
            home.live.remove(number);
            let rows = u64::from(item.head.rows);
            for tallies in [&mut home.tallies, &mut self.totals] {
                let tally = tallies.entry(item.head.stream.clone()).or_default();
                match outcome {
                    Outcome::Acked => tally.acked += rows,
                    Outcome::Dropped(reason) => *tally.dropped.entry(*reason).or_default() += rows,
                }
            }
        }
        let mark = match outcome {
            Outcome::Acked => Record::Acked(numbers),
            Outcome::Dropped(reason) => Record::Dropped { reason: *reason, numbers },
        };
        // Without the mark, the next life would ask the logger again: no harm is done.
        if let Err(error) = self.spool.append_mark(&mark) {
            tracing::warn!(%error, "cannot mark settled batches");
        }
    }
}
