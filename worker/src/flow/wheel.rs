//! When connections want attention without a packet: a wheel of time slots. What waits in a slot
//! costs nothing until its time comes; then the slot is sorted, so that all comes out in order
//! and not before its deadline.
//!
//! A slot is a list of (deadline, number) that is only appended to. An entry that was taken back
//! or moved stays where it is and is passed over when its turn comes: the owner's own deadline
//! says which one counts. So a connection that comes and goes touches that and the end of a list,
//! and those of a slot are looked at side by side.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tyto_core::time::Ts;

use super::conn::NEVER;
use super::deadlines::{Deadlines, Entry};

/// Length of a slot: 2^27 ns, 134 ms.
const SLOT_SHIFT: u32 = 27;
/// Slots of the wheel: 4,096 make 9 minutes. Later deadlines stay in their slot for another
/// round.
const SLOTS: usize = 4096;

/// Entries that are looked through for [`Wheel::soon`].
const SOON_ENTRIES_MAX: usize = 64;
/// Lists of passed slots that are kept to be used again, so that steady traffic allocates nothing.
const SPARE_MAX: usize = 64;
/// Entries that a list which is kept has room for at most.
const SPARE_ENTRIES_MAX: usize = 4096;

/// The wheel. Who has a deadline is named by a small number, which is used again.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Entry>>,
    spare: Vec<Vec<Entry>>,
    /// Which entries count.
    deadlines: Deadlines,
    /// Entries of the slots that time has reached, the earliest last.
    due: Vec<Entry>,
    /// Those that came when their slot was reached already.
    late: BinaryHeap<Reverse<Entry>>,
    /// The slot that time has reached; all entries of it and of those before are in `due` and
    /// `late`.
    reached: u64,
    /// No slot between the one that is reached and this one has an entry: where
    /// [`Wheel::pop_soonest`] goes on.
    empty_before: u64,
    /// Entries in `slots`, `due` and `late`.
    entries: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            slots: vec![Vec::new(); SLOTS],
            spare: Vec::new(),
            deadlines: Deadlines::default(),
            due: Vec::new(),
            late: BinaryHeap::new(),
            reached: 0,
            empty_before: 0,
            entries: 0,
        }
    }
}

impl Wheel {
    /// Sets the deadline of `id` in place of the one it had.
    pub fn schedule(&mut self, id: u32, deadline: Ts) {
        let before = self.deadlines.set(id, deadline);
        if deadline != before && deadline != NEVER {
            self.place((deadline, id));
        }
    }

    /// Takes the deadline of `id` out.
    pub fn cancel(&mut self, id: u32) {
        self.deadlines.take(id);
    }

    /// Whether [`Wheel::pop_due`] may have something to do. Before most packets it has not.
    #[inline]
    pub fn is_due(&self, now: Ts) -> bool {
        slot_of(now) > self.reached
            || self.due.last().is_some_and(|entry| entry.0 <= now)
            || self.late.peek().is_some_and(|Reverse(entry)| entry.0 <= now)
    }

    /// Takes out the one with the earliest deadline that is not after `until`, which is not after
    /// `now`.
    pub fn pop_due(&mut self, now: Ts, until: Ts) -> Option<u32> {
        if slot_of(now) > self.reached {
            self.advance(slot_of(now));
        }
        self.pop_reached(until)
    }

    /// Takes out one whose deadline is among the earliest, due or not.
    pub fn pop_soonest(&mut self) -> Option<u32> {
        if let Some(id) = self.pop_reached(NEVER) {
            return Some(id);
        }
        for slot in self.empty_before.max(self.reached + 1)..=self.reached + SLOTS as u64 {
            self.empty_before = slot;
            while let Some(entry) = self.slots[place_of(slot)].pop() {
                self.entries -= 1;
                if self.deadlines.counts(&entry) {
                    self.cancel(entry.1);
                    return Some(entry.1);
                }
            }
            // Used up before its time: in a flood such lists would keep more than those in use.
            self.slots[place_of(slot)] = Vec::new();
        }
        None
    }

    /// Some of those who are called next, the earliest first.
    pub fn soon(&self) -> impl Iterator<Item = u32> {
        let entries = self.due.iter().rev().take(SOON_ENTRIES_MAX);
        entries.filter(|entry| self.deadlines.counts(entry)).map(|&(_, id)| id)
    }

    fn place(&mut self, entry: Entry) {
        self.entries += 1;
        if slot_of(entry.0) <= self.reached {
            self.late.push(Reverse(entry));
        } else {
            let slot = &mut self.slots[place_of(slot_of(entry.0))];
            if slot.capacity() == 0 {
                *slot = self.spare.pop().unwrap_or_default();
            }
            slot.push(entry);
            self.empty_before = self.empty_before.min(self.in_this_round(slot_of(entry.0)));
        }
        if self.deadlines.are_stale(self.entries) {
            self.sweep();
        }
    }

    /// The slot of this round that lies where `slot` does.
    const fn in_this_round(&self, slot: u64) -> u64 {
        self.reached + 1 + (slot - self.reached - 1) % SLOTS as u64
    }

    /// Takes out the one with the earliest deadline whose slot is reached, if it is not after `until`.
    fn pop_reached(&mut self, until: Ts) -> Option<u32> {
        loop {
            let entry = self.pop_earliest(until)?;
            if self.deadlines.counts(&entry) {
                self.cancel(entry.1);
                return Some(entry.1);
            }
        }
    }

    /// The earliest entry, if it is not after `now` and its slot is reached.
    fn pop_earliest(&mut self, now: Ts) -> Option<Entry> {
        let due = self.due.last().copied();
        let late = self.late.peek().map(|Reverse(entry)| *entry);
        let is_late = match (due, late) {
            (Some(due), Some(late)) => late < due,
            (due, _) => due.is_none(),
        };
        let entry = if is_late { late } else { due }?;
        if entry.0 > now {
            return None;
        }
        self.entries -= 1;
        if is_late {
            self.late.pop();
        } else {
            self.due.pop();
        }
        Some(entry)
    }

    /// Moves the entries of all slots up to `slot` to those that are due soon.
    #[cold]
    fn advance(&mut self, slot: u64) {
        // After a long pause each slot is looked at once.
        let first = (self.reached + 1).max((slot + 1).saturating_sub(SLOTS as u64));
        self.reached = slot;
        for passed in first..=slot {
            let mut entries = std::mem::take(&mut self.slots[place_of(passed)]);
            let all = entries.len();
            entries.retain(|entry| self.deadlines.counts(entry));
            self.entries -= all - entries.len();
            let (due, later) = (&mut self.due, &mut self.slots[place_of(passed)]);
            for entry in entries.drain(..) {
                let list = if slot_of(entry.0) <= slot { &mut *due } else { &mut *later };
                list.push(entry);
            }
            let is_kept = (1..=SPARE_ENTRIES_MAX).contains(&entries.capacity());
            if is_kept && self.spare.len() < SPARE_MAX {
                self.spare.push(entries);
            }
        }
        self.due.sort_unstable_by_key(|entry| Reverse(*entry));
    }

    /// Drops the entries that count no more.
    #[cold]
    fn sweep(&mut self) {
        let counts = |entry: &Entry| self.deadlines.counts(entry);
        for slot in &mut self.slots {
            slot.retain(counts);
            slot.shrink_to(2 * slot.len());
        }
        self.due.retain(counts);
        self.late.retain(|Reverse(entry)| counts(entry));
        let in_slots: usize = self.slots.iter().map(Vec::len).sum();
        self.entries = in_slots + self.due.len() + self.late.len();
    }
}

/// Where a slot lies in the wheel.
#[allow(clippy::cast_possible_truncation, reason = "the remainder is small")]
const fn place_of(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

const fn slot_of(ts: Ts) -> u64 {
    ts.0 >> SLOT_SHIFT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn due(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| wheel.pop_due(Ts(now), Ts(now))).collect()
    }

    #[test]
    fn entries_come_out_in_order_and_never_early() {
        let mut wheel = Wheel::default();
        assert!(due(&mut wheel, 1000 * SECOND).is_empty());
        wheel.schedule(1, Ts(1005 * SECOND));
        wheel.schedule(2, Ts(1004 * SECOND));
        wheel.schedule(3, Ts(1005 * SECOND + 1));
        assert_eq!(due(&mut wheel, 1005 * SECOND - 1), [2]);
        assert_eq!(due(&mut wheel, 1005 * SECOND), [1]);
        assert_eq!(due(&mut wheel, 1005 * SECOND + 1), [3]);
    }

    #[test]
    fn the_soonest_comes_out_before_its_time() {
        let mut wheel = Wheel::default();
        assert!(due(&mut wheel, 1000 * SECOND).is_empty());
        wheel.schedule(1, Ts(1300 * SECOND));
        wheel.schedule(2, Ts(1060 * SECOND));
        wheel.schedule(3, Ts(1000 * SECOND + 1));
        let order: Vec<_> = std::iter::from_fn(|| wheel.pop_soonest()).collect();
        assert_eq!(order, [3, 2, 1]);
        assert!(due(&mut wheel, 2000 * SECOND).is_empty());
    }

    #[test]
    fn a_deadline_beyond_one_round_waits_for_its_round() {
        let mut wheel = Wheel::default();
        wheel.schedule(1, Ts(3600 * SECOND));
        for now in (0..3600).step_by(7) {
            assert!(due(&mut wheel, now * SECOND).is_empty());
        }
        assert_eq!(due(&mut wheel, 9999 * SECOND), [1]);
    }

    #[test]
    fn entries_that_count_no_more_are_swept_out() {
        let mut wheel = Wheel::default();
        for id in 0..10 * u32::try_from(Deadlines::STALE_MAX).unwrap() {
            wheel.schedule(id % 8, Ts((60 + u64::from(id % 64)) * SECOND));
            wheel.cancel(id % 8);
            assert!(wheel.entries <= Deadlines::STALE_MAX + 17);
        }
        wheel.schedule(1, Ts(70 * SECOND));
        assert_eq!(due(&mut wheel, 1000 * SECOND), [1]);
        assert_eq!(wheel.entries, 0);
    }

    proptest! {
        /// The wheel does what a sorted list would.
        #[test]
        fn the_wheel_equals_a_sorted_list(
            steps in proptest::collection::vec((0_u32..40, 0_u64..2000, 0_u64..100), 1..300),
        ) {
            let mut wheel = Wheel::default();
            let mut expected = std::collections::BTreeMap::new();
            let mut now = 0;
            for (id, delay, pause) in steps {
                let deadline = Ts((now + delay) * SECOND / 8);
                if delay % 7 == 0 {
                    wheel.cancel(id);
                    expected.remove(&id);
                } else {
                    wheel.schedule(id, deadline);
                    expected.insert(id, deadline);
                }
                now += pause;
                let mut got = due(&mut wheel, now * SECOND / 8);
                got.sort_unstable();
                let mut want: Vec<u32> = expected
                    .iter()
                    .filter(|(_, at)| at.0 <= now * SECOND / 8)
                    .map(|(id, _)| *id)
                    .collect();
                want.sort_unstable();
                want.iter().for_each(|id| { expected.remove(id); });
                prop_assert_eq!(got, want);
            }
        }

        /// Room is made by one of the earliest, wherever they came from meanwhile.
        #[test]
        fn the_soonest_is_of_the_earliest_slot(
            steps in proptest::collection::vec((0_u32..40, 1_u64..4000, 0_u64..30), 1..300),
        ) {
            let mut wheel = Wheel::default();
            let mut expected = std::collections::BTreeMap::new();
            let mut now = 0;
            for (id, delay, pause) in steps {
                let deadline = Ts((now + delay) * SECOND / 8);
                wheel.schedule(id, deadline);
                expected.insert(id, deadline);
                now += pause;
                for id in due(&mut wheel, now * SECOND / 8) {
                    prop_assert!(expected.remove(&id).is_some_and(|at| at.0 <= now * SECOND / 8));
                }
                if delay % 3 == 0 {
                    let first = expected.values().map(|at| slot_of(*at)).min();
                    let soonest = wheel.pop_soonest().and_then(|id| expected.remove(&id));
                    prop_assert_eq!(soonest.map(slot_of), first);
                }
            }
        }
    }
}
