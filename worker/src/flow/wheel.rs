//! When connections want attention without a packet: a wheel of time slots, one entry per
//! connection. Entries of the slot that time has reached lie in a heap, so that they come out
//! in order and not before their deadline; the far ones are in linked lists and cost nothing
//! until their slot comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tyto_core::time::Ts;

/// Length of a slot: 2^27 ns, 134 ms.
const SLOT_SHIFT: u32 = 27;
/// Slots of the wheel: 4,096 make 9 minutes. Later deadlines stay in their slot for another
/// round.
const SLOTS: usize = 4096;
/// End of a list.
const NONE: u32 = u32::MAX;

/// The wheel. Entries are named by small numbers, which its owner reuses.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<u32>,
    entries: Vec<Entry>,
    near: BinaryHeap<Reverse<(Ts, u32)>>,
    /// The slot that time has reached; all entries of it and of those before are in `near`.
    reached: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Ts,
    place: Place,
    next: u32,
    previous: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Slot,
    Near,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { slots: vec![NONE; SLOTS], entries: Vec::new(), near: BinaryHeap::new(), reached: 0 }
    }
}

impl Wheel {
    /// Sets the deadline of entry `id` in place of the one it had.
    pub fn schedule(&mut self, id: u32, deadline: Ts) {
        self.cancel(id);
        let index = id as usize;
        if index >= self.entries.len() {
            let entry = Entry { deadline, place: Place::Nowhere, next: NONE, previous: NONE };
            self.entries.resize(index + 1, entry);
        }
        self.entries[index].deadline = deadline;
        if slot_of(deadline) <= self.reached {
            self.entries[index].place = Place::Near;
            self.near.push(Reverse((deadline, id)));
            return;
        }
        let head = &mut self.slots[place_of(slot_of(deadline))];
        let next = std::mem::replace(head, id);
        self.entries[index].place = Place::Slot;
        self.entries[index].next = next;
        self.entries[index].previous = NONE;
        if next != NONE {
            self.entries[next as usize].previous = id;
        }
    }

    /// Takes entry `id` out.
    pub fn cancel(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        let Entry { deadline, place, next, previous } = *entry;
        // One in the heap stays there and is passed over when its turn comes.
        entry.place = Place::Nowhere;
        if place != Place::Slot {
            return;
        }
        if previous == NONE {
            self.slots[place_of(slot_of(deadline))] = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
    }

    /// Takes out the entry with the earliest deadline that is not after `now`.
    pub fn pop_due(&mut self, now: Ts) -> Option<u32> {
        if slot_of(now) > self.reached {
            self.advance(slot_of(now));
        }
        while let Some(Reverse((deadline, id))) = self.near.peek().copied() {
            if deadline > now {
                return None;
            }
            self.near.pop();
            let entry = &mut self.entries[id as usize];
            if entry.place == Place::Near && entry.deadline == deadline {
                entry.place = Place::Nowhere;
                return Some(id);
            }
        }
        None
    }

    /// Takes out an entry whose deadline is among the earliest, due or not.
    pub fn pop_soonest(&mut self) -> Option<u32> {
        while let Some(Reverse((deadline, id))) = self.near.pop() {
            let entry = &mut self.entries[id as usize];
            if entry.place == Place::Near && entry.deadline == deadline {
                entry.place = Place::Nowhere;
                return Some(id);
            }
        }
        let slots = (self.reached + 1..).take(SLOTS);
        let id = slots.map(|slot| self.slots[place_of(slot)]).find(|id| *id != NONE)?;
        self.cancel(id);
        Some(id)
    }

    /// Moves the entries of all slots up to `slot` into the heap.
    #[cold]
    fn advance(&mut self, slot: u64) {
        // After a long pause each slot is looked at once.
        let first = (self.reached + 1).max((slot + 1).saturating_sub(SLOTS as u64));
        self.reached = slot;
        for passed in first..=slot {
            let mut id = self.slots[place_of(passed)];
            while id != NONE {
                let Entry { deadline, next, .. } = self.entries[id as usize];
                if slot_of(deadline) <= slot {
                    self.cancel(id);
                    self.entries[id as usize].place = Place::Near;
                    self.near.push(Reverse((deadline, id)));
                }
                id = next;
            }
        }
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
        std::iter::from_fn(|| wheel.pop_due(Ts(now))).collect()
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
    }
}
