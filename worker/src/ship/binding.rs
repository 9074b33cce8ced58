//! Which batch goes to which logger, so that even a death of the host, which loses what was not
//! synced, makes no row come twice.
//!
//! Batches are bound under a *lease*: a record "from this number on, batches go to logger L",
//! with which everything before it is synced before the first batch goes out under it. There is
//! one lease at a time. After a crash, a batch that the disk shows without a logger belongs to
//! the lease that its number falls under: it may have been sent there, and was sent nowhere
//! else. So a lease costs one sync, not each batch one; it changes when its logger is away or
//! full, and every [`LEASE_TIME`] when there are several loggers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::backlog::{Backlog, Outcome};
use super::ledger::Reason;
use super::links::{Outgoing, Parcel};
use super::spool::{Lease, Record, SyncFault, SyncJob};

/// Batches on their way to one logger, at most.
pub(crate) const WINDOW_BATCHES_MAX: usize = 64;

/// Bytes on their way to one logger at which nothing more is bound to it.
const WINDOW_BYTES_MAX: usize = 8 << 20;

/// The loggers take turns of this length.
const LEASE_TIME: Duration = Duration::from_secs(2);

/// What is written is synced this often: a crash of the host loses rows of that time.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Leases and syncs of the spool.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    /// Who gets batches now, and since when.
    active: Option<(Arc<str>, Duration)>,
    /// Who gets them once it is synced.
    asked: Option<Asked>,
    /// A job is being done.
    is_running: bool,
    /// When the latest job began.
    begun: Option<Duration>,
    /// What earlier lives left is on disk. They may have been killed before it was, and a crash of
    /// the host would then show batches as they were before: nothing is sent until then.
    has_synced: bool,
    /// The latest job failed: the next one waits.
    has_failed: bool,
    /// Segments that failed to sync, until what is live in them stands elsewhere too.
    failed: BTreeSet<u64>,
    /// Leases of earlier lives say of batches what no record does yet.
    has_unmarked: bool,
    /// Batches that were moved within the spool, and may not be on disk where they are now.
    moved: BTreeSet<u64>,
    /// The same; the running job syncs them.
    moved_in_job: BTreeSet<u64>,
}

impl Syncs {
    /// A life begins; these batches were moved before it. `is_empty`: nothing waits.
    pub(super) fn after(moved: BTreeSet<u64>, is_empty: bool) -> Self {
        Self { moved, has_synced: is_empty, ..Self::default() }
    }

    /// A batch was written once more.
    pub(super) fn note_moved(&mut self, number: u64) {
        self.moved.insert(number);
    }

    /// What the latest job was to bring to the disk is not there.
    fn forget_job(&mut self) {
        self.moved.append(&mut self.moved_in_job);
        if let Some(asked) = &mut self.asked {
            asked.is_in_job = false;
        }
    }

    /// All that was moved is on disk, but for what the running job syncs.
    pub(super) fn moved_synced(&mut self) {
        self.moved.clear();
    }
}

#[derive(Debug)]
struct Asked {
    logger: Arc<str>,
    /// The running job syncs the lease too.
    is_in_job: bool,
}

impl Backlog {
    /// Binds waiting batches to the logger whose turn it is, in order, and sends them.
    pub(crate) fn pump(&mut self) {
        for link in 0..self.links.len() {
            self.send(link, None);
        }
        while let Some(number) = self.unbound.first() {
            let Some(link) = self.link_for(number) else { return };
            let logger = self.links[link].logger.clone();
            if let Err(error) =
                self.spool.append_mark(&Record::Bound { number, logger: logger.clone() })
            {
                // Without the mark a second life could send it elsewhere: it has to wait.
                return self.tell_fault(&error);
            }
            if let Some(item) = self.items.get_mut(&number) {
                self.unbound.remove(number, &item.head.stream);
                item.logger = Some(logger);
                self.links[link].bytes += item.bytes;
            }
            self.links[link].bound.insert(number);
            self.send(link, None);
        }
    }

    /// The logger that batch `number`, the first that is not bound, may be bound to now.
    pub(super) fn link_for(&mut self, number: u64) -> Option<usize> {
        if self.syncs.asked.is_some() {
            return None;
        }
        let active = self.syncs.active.as_ref().and_then(|(logger, since)| {
            let link = self.links.iter().position(|link| link.logger == *logger)?;
            Some((link, self.now.saturating_sub(*since) >= LEASE_TIME))
        });
        match active {
            Some((link, false)) if self.has_room(link) => Some(link),
            Some((link, true)) if self.has_room(link) => {
                let next = self.link_with_room()?;
                if next == link {
                    return Some(link);
                }
                self.ask_lease(number, next);
                None
            }
            _ => {
                let next = self.link_with_room()?;
                self.ask_lease(number, next);
                None
            }
        }
    }

    /// What there is to sync now, if anything. Then [`Backlog::synced`] has to be told.
    pub(crate) fn sync_job(&mut self) -> Option<SyncJob> {
        let wait = self.syncs.begun.map_or(Duration::ZERO, |begun| begun + SYNC_EVERY);
        let is_urgent = self.syncs.asked.is_some() && !self.syncs.has_failed;
        // One that failed is tried until what it was to bring to the disk could be written again.
        let is_wanted = self.spool.is_unsynced() || self.syncs.has_failed;
        let is_due = is_wanted && self.now >= wait;
        if self.syncs.is_running || !(is_urgent || is_due) {
            return None;
        }
        (self.syncs.is_running, self.syncs.begun) = (true, Some(self.now));
        if let Some(asked) = &mut self.syncs.asked {
            asked.is_in_job = true;
        }
        let moved = std::mem::take(&mut self.syncs.moved);
        self.syncs.moved_in_job.extend(moved);
        Some(self.spool.sync_job())
    }

    /// A job is done.
    pub(crate) fn synced(&mut self, job: &SyncJob, result: Result<(), SyncFault>) {
        self.syncs.is_running = false;
        if let Err(fault) = result {
            return self.sync_failed(job, &fault);
        }
        if self.syncs.has_failed {
            return self.write_again();
        }
        self.syncs.moved_in_job.clear();
        if !std::mem::replace(&mut self.syncs.has_synced, true) {
            self.pump();
        }
        if let Some(Asked { logger, .. }) = self.syncs.asked.take_if(|asked| asked.is_in_job) {
            if self.syncs.has_unmarked {
                self.mark_presumed();
            } else {
                // What was bound under earlier leases says so on disk by now.
                let latest = self.ledger.leases.pop();
                self.ledger.leases = latest.into_iter().collect();
            }
            let is_there =
                |link: &super::links::Link| link.logger == logger && link.outgoing.is_some();
            let is_there = self.links.iter().any(is_there);
            self.syncs.active = Some((logger, self.now));
            if !is_there {
                self.end_lease();
            }
            self.pump();
        }
    }

    /// A job failed, or one that the caller did itself.
    pub(super) fn sync_failed(&mut self, job: &SyncJob, fault: &SyncFault) {
        if !std::mem::replace(&mut self.syncs.has_failed, true) {
            let error = &fault.error;
            tracing::error!(%error, "the spool's disk cannot be synced; tried again");
        }
        self.syncs.failed.extend(&fault.segments);
        self.spool.not_synced(job);
        self.syncs.forget_job();
    }

    /// An earlier life ended before it could write again what its disk failed to sync.
    pub(super) fn distrust(&mut self, first_segment: u64) {
        tracing::warn!(first_segment, "the life before could not sync its spool; written again");
        self.syncs.has_failed = true;
        self.syncs.failed.extend(self.homes.range(first_segment..).map(|(segment, _)| *segment));
    }

    /// The first segment that the disk failed to sync and that was not written again.
    pub(super) fn unsynced(&self) -> Option<u64> {
        self.syncs.failed.first().copied()
    }

    /// Systems tell once that a sync failed: the next one succeeds, and what the first was to
    /// bring to the disk may never come there. What must not be lost is written once more, to a
    /// new segment: batches that stand in a segment that failed, or were moved; to whom others are
    /// bound, and who gets those to come. The next job counts again.
    fn write_again(&mut self) {
        self.syncs.forget_job();
        let failed = self.syncs.failed.iter().filter_map(|segment| self.homes.get(segment));
        let mut again: BTreeSet<u64> = failed.flat_map(|home| &home.live).copied().collect();
        again.extend(&self.syncs.moved);
        let bound = self.items.iter().filter(|(number, _)| !again.contains(number));
        let bound = bound.filter_map(|(&number, item)| {
            Some(Record::Bound { number, logger: item.logger.clone()? })
        });
        let lease = self.ledger.leases.last().cloned().map(Record::Lease);
        let marks: Vec<Record> = bound.chain(lease).collect();
        let mut written = self.spool.roll();
        for mark in marks {
            written = written.and_then(|()| self.spool.append_mark(&mark));
        }
        for &number in &again {
            written = written.and_then(|()| match self.move_to_active(number) {
                // Its logger may have it; if not, sending it tells.
                Err(_) if !self.is_readable(number) => Ok(()),
                moved => moved,
            });
        }
        self.syncs.moved.extend(again);
        match written {
            Ok(()) => {
                self.syncs.has_failed = false;
                self.syncs.failed.clear();
            }
            Err(error) => self.tell_fault(&error),
        }
    }

    fn is_readable(&self, number: u64) -> bool {
        self.items.get(&number).is_some_and(|item| {
            self.schemas.contains_key(&item.head.fingerprint)
                && self.spool.payload(item.location).is_ok()
        })
    }

    /// Whether batches may not be on disk where they were moved to: where they were has to stay.
    pub(super) fn has_unsynced_moves(&mut self) -> bool {
        let Syncs { moved, moved_in_job, .. } = &mut self.syncs;
        for moved in [&mut *moved, &mut *moved_in_job] {
            moved.retain(|number| self.items.contains_key(number));
        }
        !(moved.is_empty() && moved_in_job.is_empty())
    }

    /// Whether the latest sync failed.
    pub(super) const fn sync_fails(&self) -> bool {
        self.syncs.has_failed
    }

    /// Nothing more is bound for the time being: what comes now belongs to nobody. Not synced:
    /// a crash that loses the record makes batches wait for a logger that never saw them.
    pub(super) fn end_lease_of(&mut self, logger: &str) {
        if self.syncs.active.as_ref().is_some_and(|(of, _)| **of == *logger) {
            self.end_lease();
        }
    }

    /// As [`Backlog::end_lease_of`], whoever has it.
    pub(crate) fn end_lease(&mut self) {
        if self.syncs.active.take().is_some() {
            let from = self.unbound.first().unwrap_or(self.ledger.next_number);
            self.append_lease(Lease { from, logger: String::new() });
        }
    }

    /// Nothing more is bound before what was written until now is synced.
    pub(super) fn sync_before_binding(&mut self) {
        self.end_lease();
        if let Some(asked) = &mut self.syncs.asked {
            asked.is_in_job = false;
        }
    }

    fn ask_lease(&mut self, from: u64, link: usize) {
        let logger = self.links[link].logger.clone();
        if self.append_lease(Lease { from, logger: logger.to_string() }) {
            self.syncs.active = None;
            self.syncs.asked = Some(Asked { logger, is_in_job: false });
        }
    }

    fn append_lease(&mut self, lease: Lease) -> bool {
        match self.spool.append_mark(&Record::Lease(lease.clone())) {
            Ok(()) => {
                // Also there, because the segment may be removed while the lease holds.
                self.ledger.leases.push(lease);
                self.ledger.leases_until = self.spool.end();
                true
            }
            Err(error) => {
                self.tell_fault(&error);
                false
            }
        }
    }

    /// Writes down for good what leases of earlier lives say of batches.
    pub(super) fn mark_presumed(&mut self) {
        let presumed: Vec<_> = (self.items.values())
            .filter(|item| item.is_presumed)
            .filter_map(|item| Some((item.head.number, item.logger.clone()?)))
            .collect();
        self.syncs.has_unmarked = false;
        for (number, logger) in presumed {
            if let Err(error) = self.spool.append_mark(&Record::Bound { number, logger }) {
                // Until the disk takes the mark, the lease has to be kept that says the same.
                tracing::warn!(%error, "cannot mark a batch as bound");
                self.syncs.has_unmarked = true;
                return;
            }
            if let Some(item) = self.items.get_mut(&number) {
                item.is_presumed = false;
            }
        }
    }

    fn link_with_room(&mut self) -> Option<usize> {
        let count = self.links.len();
        let found =
            (0..count).map(|i| (self.next_link + i) % count).find(|&link| self.has_room(link))?;
        self.next_link = found + 1;
        Some(found)
    }

    fn has_room(&self, link: usize) -> bool {
        let link = &self.links[link];
        link.outgoing.is_some()
            && link.retired.is_none()
            && link.bound.len() < WINDOW_BATCHES_MAX
            && link.bytes < WINDOW_BYTES_MAX
    }

    /// Sends what is bound to a link and was not sent in this session, in order. `fresh` saves
    /// reading a payload back that is still at hand.
    pub(super) fn send(&mut self, link: usize, fresh: Option<(u64, &Bytes)>) {
        if !self.syncs.has_synced {
            return;
        }
        let mut broken = Vec::new();
        let link = &mut self.links[link];
        if let Some(outgoing) = &link.outgoing {
            let unsent = link.sent.map_or(0, |sent| sent + 1);
            for &number in link.bound.range(unsent..) {
                let Ok(permit) = outgoing.try_reserve() else { break };
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
                        permit.send(Outgoing::Batch(Parcel { head, schema, payload }));
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
}
