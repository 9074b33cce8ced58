//! How the backlog keeps the spool within its bounds: segments go when all in them is settled,
//! the oldest unsent batches when there is no room otherwise.

use std::io;

use super::backlog::{Backlog, Outcome};
use super::ledger::{self, Reason};
use super::recovery;

/// Batches remembered, at most; past it the oldest unsent ones are dropped, as when the
/// spool is full. Keeps memory bounded when batches are tiny.
const BATCHES_MAX: usize = 1 << 20;

impl Backlog {
    /// Keeps the spool within its bounds, by giving up the oldest unsent batches. False when
    /// there is no room even then.
    pub(super) fn make_room(&mut self, payload_len: usize) -> bool {
        if self.items.len() >= BATCHES_MAX {
            let Some(oldest) = self.unbound.first().copied() else { return false };
            self.settle(vec![oldest], &Outcome::Dropped(Reason::SpoolFull));
        }
        let mut rolled = false;
        while self.spool.bytes() + payload_len as u64 > self.spool_bytes_max {
            if self.spool.head() == self.spool.active() {
                if rolled || self.spool.roll().is_err() {
                    return false;
                }
                rolled = true;
            }
            if !self.clear_head() {
                return false;
            }
        }
        true
    }

    /// Drops what is unsent in the oldest segment, moves what is bound to the newest one, and
    /// removes the oldest.
    fn clear_head(&mut self) -> bool {
        let head = self.spool.head();
        let live = self.homes.get(&head).map(|home| home.live.clone()).unwrap_or_default();
        let (unsent, bound): (Vec<u64>, Vec<u64>) =
            live.into_iter().partition(|number| self.unbound.contains(number));
        self.settle(unsent, &Outcome::Dropped(Reason::SpoolFull));
        for number in bound {
            if let Err(error) = self.move_to_active(number) {
                tracing::error!(%error, "cannot move a batch within the spool");
                return false;
            }
        }
        self.remove_settled_segments();
        self.spool.head() != head
    }

    fn move_to_active(&mut self, number: u64) -> io::Result<()> {
        let Some(item) = self.items.get_mut(&number) else { return Ok(()) };
        let schema = self.schemas.get(&item.head.fingerprint).ok_or(io::ErrorKind::NotFound)?;
        let payload = self.spool.payload(item.location)?;
        let to = self.spool.append_batch(&item.head, schema, item.logger.as_deref(), &payload)?;
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
        if end == head {
            return;
        }
        let mut ledger = self.ledger.clone();
        for (_, home) in self.homes.range(..end) {
            ledger::add(&mut ledger.settled, &home.tallies);
        }
        ledger.first_segment = end;
        if let Err(error) = ledger.save(&self.ledger_path) {
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
