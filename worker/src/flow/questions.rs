//! Who is asked every six seconds whether it goes on, and does: each open TCP connection (Zeek:
//! `tcp_session_timer`). The answer is known, but not when the next question comes: six seconds
//! after the packet with which time passed the last one. So each is asked, here, from a few bytes.
//!
//! Nearly all are asked anew at a time that is not before that of any other, or for the first time
//! some seconds after they began: both kinds wait in the order in which they came. An entry that
//! was taken back stays where it is and is passed over when its turn comes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use tyto_capture::prefetch;
use tyto_core::time::Ts;

use super::conn::NEVER;
use super::deadlines::{Deadlines, Entry};

/// Time between two questions of one owner, seconds (Zeek: `tcp_session_timer`).
pub(super) const QUESTION_S: u64 = 6;
/// How many questions before its turn an entry's memory is asked for.
const ENTRY_AHEAD: usize = 64;
/// How many questions before its turn that of its owner's time is, for which the entry is read.
const OWNER_AHEAD: usize = 16;

/// The questions. Who is asked is named by a small number, which is used again.
#[derive(Debug)]
pub struct Questions {
    /// When each owner is asked next.
    next: Deadlines,
    /// Entries, each list in the order of their time.
    lists: [VecDeque<Entry>; 2],
    /// Those that were to come before the last of both.
    early: BinaryHeap<Reverse<Entry>>,
    /// Time of the earliest entry, whether it counts or not.
    earliest: Ts,
}

impl Default for Questions {
    fn default() -> Self {
        Self {
            next: Deadlines::default(),
            lists: Default::default(),
            early: BinaryHeap::new(),
            earliest: NEVER,
        }
    }
}

impl Questions {
    /// `id` goes on, and is asked whether it does at `at`, then every `QUESTION_S` seconds.
    pub fn ask(&mut self, id: u32, at: Ts) {
        self.next.set(id, at);
        self.push((at, id));
        if self.next.are_stale(self.entries()) {
            self.sweep();
        }
    }

    /// `id` is no longer asked; when it was to be next, [`NEVER`] if it was not.
    pub fn take(&mut self, id: u32) -> Ts {
        self.next.take(id)
    }

    /// When [`Questions::answer`] has something to do next.
    #[inline]
    pub const fn earliest(&self) -> Ts {
        self.earliest
    }

    /// The one that is asked first is asked `now`, and goes on. False when that entry counted no
    /// more.
    pub fn answer(&mut self, now: Ts) -> bool {
        let is_first = |entry: Option<&Entry>| entry.is_some_and(|(at, _)| *at == self.earliest);
        let entry = match self.lists.iter().position(|list| is_first(list.front())) {
            Some(list) => {
                self.look_ahead(&self.lists[list]);
                self.lists[list].pop_front()
            }
            None => self.early.pop().map(|Reverse(entry)| entry),
        };
        let Some(entry) = entry else { return false };
        let counts = self.next.counts(&entry);
        if counts {
            let again = (now.plus_secs(QUESTION_S), entry.1);
            self.next.set(again.1, again.0);
            self.push(again);
        }
        self.find_earliest();
        counts
    }

    fn entries(&self) -> usize {
        self.lists.iter().map(VecDeque::len).sum::<usize>() + self.early.len()
    }

    /// Asks for what the next questions of `list` need.
    fn look_ahead(&self, list: &VecDeque<Entry>) {
        if let Some(entry) = list.get(ENTRY_AHEAD) {
            prefetch(entry, 1);
        }
        let owner = list.get(OWNER_AHEAD);
        if let Some(next) = owner.and_then(|(_, id)| self.next.place(*id)) {
            prefetch(next, 1);
        }
    }

    fn push(&mut self, entry: Entry) {
        let in_order = |list: &VecDeque<Entry>| list.back().is_none_or(|last| last.0 <= entry.0);
        match self.lists.iter().position(in_order) {
            Some(list) => self.lists[list].push_back(entry),
            None => self.early.push(Reverse(entry)),
        }
        self.earliest = self.earliest.min(entry.0);
    }

    fn find_earliest(&mut self) {
        let early = self.early.peek().map(|Reverse(entry)| entry);
        let first = self.lists.iter().filter_map(VecDeque::front).chain(early);
        self.earliest = first.map(|entry| entry.0).min().unwrap_or(NEVER);
    }

    /// Drops the entries that count no more.
    #[cold]
    fn sweep(&mut self) {
        let counts = |entry: &Entry| self.next.counts(entry);
        for list in &mut self.lists {
            list.retain(counts);
            list.shrink_to(2 * list.len());
        }
        self.early.retain(|Reverse(entry)| counts(entry));
        self.find_earliest();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Answers all that are due; how many that were.
    fn answer(questions: &mut Questions, now: u64) -> usize {
        let mut answered = 0;
        while questions.earliest() <= Ts(now) {
            answered += usize::from(questions.answer(Ts(now)));
        }
        answered
    }

    #[test]
    fn each_is_asked_again_six_seconds_after_it_was() {
        let mut questions = Questions::default();
        questions.ask(1, Ts(5 * SECOND));
        for now in 1..60 {
            assert_eq!(answer(&mut questions, now * SECOND), usize::from(now % 6 == 5));
        }
        assert_eq!(answer(&mut questions, 70 * SECOND), 1, "asked late");
        assert_eq!(questions.take(1), Ts(76 * SECOND));
        assert_eq!(questions.take(1), NEVER);
        assert_eq!(answer(&mut questions, 1000 * SECOND), 0);
        assert_eq!(questions.earliest(), NEVER);
    }

    #[test]
    fn entries_that_count_no_more_are_swept_out() {
        let mut questions = Questions::default();
        for id in 0..10 * u32::try_from(Deadlines::STALE_MAX).unwrap() {
            questions.ask(id % 8, Ts((60 + u64::from(id % 64)) * SECOND));
            questions.take(id % 8);
            assert!(questions.entries() <= Deadlines::STALE_MAX + 17);
        }
        questions.ask(1, Ts(70 * SECOND));
        assert_eq!(answer(&mut questions, 70 * SECOND), 1);
        assert_eq!(answer(&mut questions, 75 * SECOND), 0);
    }

    proptest! {
        /// Each is asked when a list of all would have it asked.
        #[test]
        fn questions_equal_a_list(
            steps in proptest::collection::vec((0_u32..40, 0_u64..80, 0_u64..20), 1..300),
        ) {
            let mut questions = Questions::default();
            let mut expected = std::collections::BTreeMap::new();
            let mut now = 0;
            for (id, delay, pause) in steps {
                let at = Ts(now + delay * SECOND / 8);
                if delay % 7 == 0 {
                    prop_assert_eq!(questions.take(id), expected.remove(&id).unwrap_or(NEVER));
                } else {
                    questions.ask(id, at);
                    expected.insert(id, at);
                }
                now += pause * SECOND / 8;
                let mut due = 0;
                for at in expected.values_mut().filter(|at| at.0 <= now) {
                    *at = Ts(now).plus_secs(QUESTION_S);
                    due += 1;
                }
                prop_assert_eq!(answer(&mut questions, now), due);
                prop_assert_eq!(questions.next.running(), expected.len());
                let first = expected.values().min().copied().unwrap_or(NEVER);
                prop_assert!(questions.earliest() <= first);
            }
        }
    }
}
