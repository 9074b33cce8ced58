//! How the backlog keeps the spool within its bounds: segments go when all in them is settled,
//! unsent batches when there is no room otherwise: the oldest of the least precious streams.

use std::io;

use super::backlog::{Backlog, OVERHEAD_BYTES, Outcome};
use super::ledger::{self, Reason};
use super::recovery;

/// Batches remembered, at most; past it the oldest unsent ones are dropped, as when the
/// spool is full. Keeps memory bounded when batches are tiny.
const BATCHES_MAX: usize = 1 << 20;

impl Backlog {
    /// Keeps the spool within its bounds, by giving up the oldest unsent batches of the least
    /// precious streams. False when there is no room even then.
    pub(super) fn make_room(&mut self, payload_len: usize) -> bool {
        if self.items.len() >= BATCHES_MAX {
            let Some(number) = self.unbound.least_precious() else { return false };
            self.settle(vec![number], &Outcome::Dropped(Reason::SpoolFull));
        }
        let needed = payload_len as u64;
        if self.spool.bytes() + needed <= self.bounds.spool_bytes_max {
            return true;
        }
        self.give_up_for(needed);
        // What is kept of a segment moves behind the last one: one round removes all the rest.
        let last = self.spool.active();
        while self.spool.bytes() + needed > self.bounds.spool_bytes_max {
            let head = self.spool.head();
            let is_stuck =
                head > last || (head == self.spool.active() && self.spool.roll().is_err());
            if is_stuck || !self.clear_head() {
                return false;
            }
        }
        true
    }

    /// Sees how much of the disk is free, and whether somebody removed what is kept there.
    pub(super) fn look_at_disk(&mut self) {
        let folder = self.ledger_path.parent().unwrap_or(&self.ledger_path);
        self.disk_free = self.disk.space(folder).ok().map(|(free, _)| free);
        if self.spool.later().kept > 0 {
            self.spool.count_kept();
        }
    }

    /// When rows are refused and all in the spool is settled, the segment that is being written
    /// may go: it may be what is missing.
    pub(super) fn leave_segment(&mut self) {
        if self.is_faulty
            && self.items.is_empty()
            && self.spool.has_records()
            && let Err(error) = self.spool.roll()
        {
            tracing::warn!(%error, "cannot begin a segment");
        }
    }

    /// Takes room on the disk for a batch.
    ///
    /// # Errors
    /// `StorageFull` when that would leave less free than has to be.
    pub(super) fn claim_disk(&mut self, payload_len: usize) -> io::Result<()> {
        let Some(free) = &mut self.disk_free else { return Ok(()) };
        let left = free.checked_sub(payload_len as u64 + OVERHEAD_BYTES);
        let left = left.filter(|left| *left >= self.bounds.disk_free_min);
        *free = left.ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }

    /// Gives up batches until what is left takes so little of the spool that moving it together
    /// costs less than four times what that gains.
    fn give_up_for(&mut self, needed: u64) {
        let kept_max = self.bounds.spool_bytes_max / 4 * 3;
        let (mut numbers, mut live) = (Vec::new(), self.live_bytes + needed);
        while live > kept_max
            && let Some(number) = self.unbound.least_precious()
        {
            let Some(item) = self.items.get(&number) else { break };
            live = live.saturating_sub(item.spool_bytes());
            self.unbound.remove(number, &item.head.stream);
            numbers.push(number);
        }
        self.settle(numbers, &Outcome::Dropped(Reason::SpoolFull));
    }

    /// Gives up unsent batches that are older than the spool may keep them.
    pub(super) fn give_up_old(&mut self) {
        let Some(age_max) = self.bounds.spool_age_max else { return };
        let age_max_s = age_max.as_secs().cast_signed();
        let now_s = self.now.as_secs().cast_signed();
        let mut numbers = Vec::new();
        while let Some(number) = self.unbound.first()
            && let Some(item) = self.items.get(&number)
            && now_s - item.taken_at_s > age_max_s
        {
            self.unbound.remove(number, &item.head.stream);
            numbers.push(number);
        }
        self.settle(numbers, &Outcome::Dropped(Reason::SpoolAge));
    }

    /// Moves what is kept of the oldest segment behind the newest one and removes the oldest.
    fn clear_head(&mut self) -> bool {
        if self.sync_fails() {
            // What is moved now would have to be moved again.
            return false;
        }
        let head = self.spool.head();
        let live = self.homes.get(&head).map(|home| home.live.clone()).unwrap_or_default();
        for number in live {
            if let Err(error) = self.move_to_active(number) {
                tracing::error!(%error, "cannot move a batch within the spool");
                return false;
            }
        }
        // These, or what was taken back from a logger: either stands in two places until then.
        if self.has_unsynced_moves() {
            let job = self.spool.sync_job();
            if let Err(fault) = job.run() {
                // A crash of the host could lose them in both places.
                self.sync_failed(&job, &fault);
                return false;
            }
            self.syncs.moved_synced();
        }
        self.remove_settled_segments();
        self.spool.head() != head
    }

    pub(super) fn move_to_active(&mut self, number: u64) -> io::Result<()> {
        let Some(item) = self.items.get_mut(&number) else { return Ok(()) };
        let schema = self.schemas.get(&item.head.fingerprint).ok_or(io::ErrorKind::NotFound)?;
        let payload = self.spool.payload(item.location)?;
        let to = self.spool.append_batch(
            (&item.head, item.origin),
            schema,
            item.logger.as_deref(),
            &payload,
        )?;
        self.syncs.note_moved(number);
        let from = std::mem::replace(&mut item.location, to);
        recovery::move_home(&mut self.homes, &item.head, from.segment, to.segment);
        Ok(())
    }

    /// Removes segments from the oldest on, as far as all their batches are settled. The
    /// ledger takes their counts over before.
    pub(super) fn remove_settled_segments(&mut self) {
        let (head, active) = (self.spool.head(), self.spool.active());
        let is_live = |n: &u64| self.homes.get(n).is_some_and(|home| !home.live.is_empty());
        let end = (head..active).find(is_live).unwrap_or(active);
        if end == head || self.has_unsynced_moves() {
            return;
        }
        let mut ledger = self.ledger.clone();
        for (_, home) in self.homes.range(..end) {
            ledger::add(&mut ledger.settled, &home.tallies);
            ledger.add_gone(&home.numbered);
        }
        ledger.first_segment = end;
        ledger.next_seqs =
            self.next_seqs.iter().map(|(stream, next)| (stream.to_string(), *next)).collect();
        if let Err(error) = ledger.save(&*self.disk, &self.ledger_path) {
            tracing::error!(%error, "cannot save the ledger; the spool keeps its segments");
            return;
        }
        (self.ledger, self.ledger_changed) = (ledger, false);
        self.homes = self.homes.split_off(&end);
        while self.spool.head() < end {
            if let Err(error) = self.spool.remove_head() {
                // The next start removes it: the ledger says that it is counted.
                tracing::warn!(%error, "cannot remove a segment");
                return;
            }
        }
    }
}
