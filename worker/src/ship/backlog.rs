//! Which batches are where: numbered, spooled, bound to a logger, in flight, settled. One
//! owner, no waiting: what happens comes in by calls, batches leave by bounded channels.
//!
//! Rules that make each row arrive exactly once:
//! - a batch is bound to a logger on disk before it is sent there, and never to another one
//!   (`binding.rs`; a logger that is gone for good is the exception, `doubt.rs`);
//! - batches are bound in the order of their numbers, so that at each logger the sequence
//!   numbers of a life and log stream only rise;
//! - a batch is settled when its logger says that it is on disk, or refuses it for good.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tyto_core::record::schema::Schema;
use tyto_writer::disk::Disk;
use tyto_writer::{Position, Refusal};

use super::batch::RowBatch;
use super::binding::Syncs;
use super::ledger::{self, Ledger, Reason, Tallies, Tally};
use super::links::Link;
use super::recovery::{self, Recovered};
use super::spool::{BatchHead, Location, Origin, Record, Spool};
use super::unbound::{Preciousness, Unbound};

/// Bytes that a batch takes in the spool besides its rows, about.
pub(super) const OVERHEAD_BYTES: u64 = 96;

/// Batches without a time that are passed over for the oldest one with a time.
const UNTIMED_MAX: usize = 64;

/// How delivery is bounded.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Size of the spool, bytes.
    pub(crate) spool_bytes_max: u64,
    /// What rows leave free of its disk, bytes.
    pub(crate) disk_free_min: u64,
    /// Age of unsent rows; none: without bound.
    pub(crate) spool_age_max: Option<Duration>,
    /// What goes first when the spool is full.
    pub(crate) order: Preciousness,
    /// When batches of a logger that is away are copied to another one; none: never.
    pub(crate) doubt_timeout: Option<Duration>,
}

/// A batch that is not settled.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) head: BatchHead,
    pub(crate) location: Location,
    pub(crate) logger: Option<Arc<str>>,
    /// Size of the payload, bytes.
    pub(crate) bytes: usize,
    /// When its rows were taken, and in whose place it stands.
    pub(crate) origin: Origin,
    /// When its rows were taken, seconds since the backlog was opened by a clock that only rises;
    /// negative for those of earlier lives.
    pub(crate) taken_at_s: i64,
    /// A lease says where it went, not a record of its own.
    pub(crate) is_presumed: bool,
}

/// What a segment still stands for.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// Batches in it that are not settled.
    pub(crate) live: BTreeSet<u64>,
    /// Rows of the batches in it.
    pub(crate) tallies: Tallies,
    /// The earliest life that a batch in it is of, settled or not.
    pub(crate) oldest_epoch: Option<u64>,
    /// Rows with sequence numbers of a life and log stream, whatever became of them.
    pub(crate) numbered: BTreeMap<(u64, Arc<str>), u64>,
}

impl Home {
    /// A batch stands in the segment.
    pub(crate) fn enter(&mut self, head: &BatchHead) {
        self.live.insert(head.number);
        self.tallies.entry(head.stream.clone()).or_default().produced += u64::from(head.rows);
        self.oldest_epoch =
            Some(self.oldest_epoch.map_or(head.epoch, |oldest| oldest.min(head.epoch)));
        *self.numbered.entry((head.epoch, head.stream.clone())).or_default() +=
            u64::from(head.rows);
    }
}

#[derive(Debug)]
struct Stream {
    name: Arc<str>,
    schema: Arc<Schema>,
    fingerprint: u64,
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
    pub(super) disk: Arc<dyn Disk>,
    pub(super) ledger_path: PathBuf,
    pub(super) ledger: Ledger,
    pub(super) ledger_changed: bool,
    pub(super) spool: Spool,
    pub(super) bounds: Bounds,
    pub(super) items: BTreeMap<u64, Item>,
    pub(super) unbound: Unbound,
    /// Bytes of the spool that batches which are not settled take.
    pub(super) live_bytes: u64,
    pub(super) homes: BTreeMap<u64, Home>,
    pub(super) totals: Tallies,
    pub(super) schemas: HashMap<u64, Arc<Schema>>,
    streams: HashMap<&'static str, Stream>,
    /// Next sequence numbers of this life.
    pub(super) next_seqs: BTreeMap<Arc<str>, u64>,
    /// Of batches that were taken back from loggers ([`again_epoch`](Ledger::again_epoch)).
    pub(super) next_again_seqs: BTreeMap<Arc<str>, u64>,
    pub(super) links: Vec<Link>,
    pub(super) next_link: usize,
    pub(super) syncs: Syncs,
    /// The life before this one; 0: none.
    pub(super) previous_epoch: u64,
    /// Time since it was opened, and the wall clock then, seconds.
    pub(super) now: Duration,
    pub(super) opened_s: u64,
    /// The disk refused the latest batch.
    pub(super) is_faulty: bool,
    /// Bytes that are free on it, about; none when it does not tell.
    pub(super) disk_free: Option<u64>,
}

/// How a batch ended.
pub(super) enum Outcome {
    Acked,
    Dropped(Reason),
}

impl Backlog {
    /// Reads what earlier lives left in `folder` and begins the life `epoch`, ns since the Unix
    /// epoch (later when an earlier life had this stamp or a later one), in the run of the host
    /// that `boot` names.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        bounds: Bounds,
        (epoch, boot): (u64, &str),
        loggers: &[Arc<str>],
    ) -> io::Result<Self> {
        let opened_s = epoch / tyto_core::time::NANOS;
        let bytes_max = bounds.spool_bytes_max;
        let found = recovery::open(disk.clone(), folder, bytes_max, opened_s)?;
        let (spool, mut ledger, recovered) = found;
        let previous_epoch = ledger.epoch;
        ledger.begin_hearing(&recovered, loggers);
        let Recovered { items, homes, schemas, moved, .. } = recovered;
        ledger.begin_life(epoch, boot);
        let mut totals = ledger.settled.clone();
        homes.values().for_each(|home| ledger::add(&mut totals, &home.tallies));
        ledger::correct(&mut totals, &mut ledger.corrections);
        let ledger_path = folder.join("ledger");
        ledger.save(&*disk, &ledger_path)?;
        let mut unbound = Unbound::new(bounds.order.clone());
        for item in items.values().filter(|item| item.logger.is_none()) {
            unbound.insert(item.head.number, &item.head.stream);
        }
        let syncs = Syncs::after(moved, items.is_empty());
        let mut backlog = Self {
            disk,
            ledger_path,
            ledger,
            ledger_changed: false,
            spool,
            bounds,
            live_bytes: items.values().map(Item::spool_bytes).sum(),
            items,
            unbound,
            homes,
            totals,
            schemas,
            streams: HashMap::new(),
            next_seqs: BTreeMap::new(),
            next_again_seqs: BTreeMap::new(),
            links: Vec::new(),
            next_link: 0,
            syncs,
            previous_epoch,
            now: Duration::ZERO,
            opened_s,
            is_faulty: false,
            disk_free: None,
        };
        backlog.look_at_disk();
        backlog.link(loggers);
        backlog.mark_presumed();
        backlog.remove_settled_segments();
        Ok(backlog)
    }

    /// Links to the loggers of the cluster, and to those that left it while batches were bound to
    /// them: these wait for its return, or for the word that it is gone for good.
    fn link(&mut self, loggers: &[Arc<str>]) {
        let bound = self.items.values().filter_map(|item| item.logger.as_ref());
        let left: BTreeSet<_> = bound.filter(|logger| !loggers.contains(logger)).cloned().collect();
        for logger in loggers {
            self.links.push(Link::new(logger.clone(), &self.items, self.now));
        }
        for logger in left {
            let mut link = Link::new(logger, &self.items, self.now);
            tracing::warn!(
                peer = %link.logger, batches = link.bound.len(),
                "batches in the spool wait for a logger that is not part of the cluster"
            );
            link.retired = Some(CancellationToken::new());
            self.links.push(link);
        }
    }

    /// Lives before this one have nothing left to send, whatever marks of what is settled the disk
    /// loses: their segments are removed. Loggers forget those lives and refuse what comes of them.
    pub(crate) fn oldest_epoch(&self) -> u64 {
        let oldest = self.homes.values().filter_map(|home| home.oldest_epoch).min();
        oldest.unwrap_or(self.ledger.epoch)
    }

    /// Whether nothing is left that waiting for the loggers of this moment could settle.
    pub(crate) fn is_drained(&self) -> bool {
        let mut up = self.links.iter().filter(|link| link.outgoing.is_some());
        let none_up = up.clone().next().is_none();
        up.all(|link| link.bound.is_empty()) && (none_up || self.unbound.is_empty())
    }

    /// When the oldest row was written that no logger has confirmed, packet time in ns.
    pub(crate) fn oldest_ns(&self) -> Option<u64> {
        let times = self.items.values().take(UNTIMED_MAX).map(|item| item.head.times.first_ns);
        times.into_iter().find(|&first_ns| first_ns != 0)
    }

    /// Orderly end: what is left belongs to no logger but those it is bound to, and is synced.
    pub(crate) fn end_life(&mut self, now: Duration) {
        self.end_lease();
        self.ledger.has_ended = true;
        self.ledger_changed = true;
        self.housekeep(now);
        if let Err(fault) = self.spool.sync_job().run() {
            tracing::error!(error = %fault.error, "cannot sync the spool");
        }
    }

    /// Counters for reports.
    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        let later = self.spool.later();
        vec![
            ("spool_bytes", self.spool_bytes()),
            ("spool_doubt_rows", self.doubt_rows()),
            ("spool_doubt_copied_rows", self.copied_rows()),
            ("spool_sync_fails", u64::from(self.sync_fails())),
            ("spool_kept_segments", later.kept as u64),
            ("spool_kept_removed", later.removed),
            ("host_crashes", self.ledger.host_crashes),
        ]
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
        for link in self.links.iter().filter(|link| link.outgoing.is_some()) {
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
        let number = self.ledger.next_number;
        let link = if self.unbound.is_empty() { self.link_for(number) } else { None };
        let stream = self.streams.entry(batch.stream.name).or_insert_with(|| {
            let schema = Arc::new((batch.stream.schema)());
            let fingerprint = schema.fingerprint();
            Stream { name: batch.stream.name.into(), schema, fingerprint }
        });
        let head = BatchHead {
            number,
            epoch: self.ledger.epoch,
            stream: stream.name.clone(),
            fingerprint: stream.fingerprint,
            first_seq: self.next_seqs.get(&stream.name).copied().unwrap_or(0),
            rows,
            times: batch.times,
        };
        let schema = stream.schema.clone();
        self.schemas.entry(head.fingerprint).or_insert_with(|| schema.clone());
        let logger = link.map(|link| self.links[link].logger.clone());
        let origin = Origin { taken_s: self.opened_s + self.now.as_secs(), replaces: None };
        let appended = self.claim_disk(payload.len()).and_then(|()| {
            self.spool.append_batch((&head, origin), &schema, logger.as_deref(), payload)
        });
        let location = match appended {
            Ok(location) => location,
            Err(error) => {
                self.tell_fault(&error);
                let rows = u64::from(rows);
                return self.count_dropped(batch.stream.name, rows, Reason::SpoolFault);
            }
        };
        self.is_faulty = false;
        self.enter(head, location, (logger, origin), payload.len());
        match link {
            Some(link) => self.send(link, Some((number, payload))),
            None => self.pump(),
        }
    }

    /// A batch of this life stands in the spool.
    pub(super) fn enter(
        &mut self,
        head: BatchHead,
        location: Location,
        (logger, origin): (Option<Arc<str>>, Origin),
        bytes: usize,
    ) {
        let (number, rows) = (head.number, u64::from(head.rows));
        let is_again = origin.replaces.is_some();
        let seqs = if is_again { &mut self.next_again_seqs } else { &mut self.next_seqs };
        seqs.insert(head.stream.clone(), head.end_seq());
        self.ledger.next_number = number + 1;
        self.homes.entry(location.segment).or_default().enter(&head);
        self.totals.entry(head.stream.clone()).or_default().produced += rows;
        match self.links.iter_mut().find(|link| Some(&link.logger) == logger.as_ref()) {
            Some(link) => {
                link.bound.insert(number);
                link.bytes += bytes;
            }
            None => self.unbound.insert(number, &head.stream),
        }
        let taken_at_s = self.now.as_secs().cast_signed();
        let item = Item { head, location, logger, bytes, origin, taken_at_s, is_presumed: false };
        self.live_bytes += item.spool_bytes();
        self.items.insert(number, item);
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
        let is_its = |number: &u64| self.items.get(number).is_some_and(|item| is_it(&item.head));
        let found = link.bound.iter().copied().find(is_its);
        self.settle(found.into_iter().collect(), &Outcome::Dropped(Reason::Refused));
    }

    /// Time passes: `now` since the backlog was opened. Gives up what is too old, copies what is
    /// in doubt for too long, removes segments that count no more, saves the ledger when it
    /// changed.
    pub(crate) fn housekeep(&mut self, now: Duration) {
        self.now = self.now.max(now);
        self.take_from_ended();
        self.part_with_retired();
        self.give_up_old();
        self.copy_doubtful();
        self.leave_segment();
        self.remove_settled_segments();
        self.save_ledger();
        self.look_at_disk();
    }

    /// This life.
    pub(crate) const fn epoch(&self) -> u64 {
        self.ledger.epoch
    }

    /// Rows of each log stream over all lives.
    pub(crate) fn produced(&self) -> impl Iterator<Item = (&str, u64)> {
        self.totals.iter().map(|(stream, tally)| (&**stream, tally.produced))
    }

    pub(super) fn save_ledger(&mut self) {
        if self.ledger_changed {
            match self.ledger.save(&*self.disk, &self.ledger_path) {
                Ok(()) => self.ledger_changed = false,
                Err(error) => tracing::error!(%error, "cannot save the ledger"),
            }
        }
    }

    /// Told once, however many batches it costs: the ledger counts them.
    pub(super) fn tell_fault(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_faulty, true) {
            tracing::error!(%error, "the spool's disk refuses rows; they are dropped");
        }
    }

    pub(super) fn settle(&mut self, numbers: Vec<u64>, outcome: &Outcome) {
        if numbers.is_empty() {
            return;
        }
        for number in &numbers {
            let Some(item) = self.items.remove(number) else { continue };
            self.live_bytes -= item.spool_bytes();
            self.unbound.remove(*number, &item.head.stream);
            for link in self.links.iter_mut().filter(|link| link.named.contains(number)) {
                link.names_changed = true;
            }
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
                    Outcome::Acked => tally.add_acked(item.logger.as_deref(), rows),
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

impl Item {
    pub(super) fn spool_bytes(&self) -> u64 {
        self.bytes as u64 + OVERHEAD_BYTES
    }
}
