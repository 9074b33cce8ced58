//! What was seen lately: a set whose entries are forgotten after a while, with a bound.

use std::hash::Hash;

use hashbrown::HashMap;
use tyto_core::time::{Interval, Ts};

use crate::flow::hash::KeyedHasher;

/// A set whose entries live for a fixed time from the moment they were put in (Zeek:
/// `&create_expire`).
#[derive(Debug)]
pub struct Lately<K> {
    seen: HashMap<K, Ts, KeyedHasher>,
    life: Interval,
    entries_max: usize,
    forgotten: u64,
}

impl<K: Eq + Hash> Lately<K> {
    /// An empty set of at most `entries_max`, each of which lives `life_s` seconds.
    pub fn new(hasher: KeyedHasher, life_s: u64, entries_max: usize) -> Self {
        Self {
            seen: HashMap::with_hasher(hasher),
            life: Interval::from_secs(life_s.cast_signed()),
            entries_max,
            forgotten: 0,
        }
    }

    /// Puts `key` in. True when it was not there, or too long ago.
    pub fn is_new(&mut self, key: K, now: Ts) -> bool {
        if self.contains(&key, now) {
            return false;
        }
        if self.seen.len() >= self.entries_max {
            self.make_room(now);
        }
        self.seen.insert(key, now);
        true
    }

    /// Whether `key` is in.
    pub fn contains(&self, key: &K, now: Ts) -> bool {
        self.seen.get(key).is_some_and(|seen| now.since(*seen) < self.life)
    }

    /// Entries that were forgotten before their time, at the limit.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Drops what is too old; where that is not half of all, everything: looking through the
    /// whole set for a few places again and again would cost more than repeating a row.
    #[cold]
    fn make_room(&mut self, now: Ts) {
        let life = self.life;
        self.seen.retain(|_, seen| now.since(*seen) < life);
        if self.seen.len() > self.entries_max / 2 {
            self.forgotten += self.seen.len() as u64;
            self.seen.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lately() -> Lately<u32> {
        Lately::new(KeyedHasher::with_seed(1), 10, 4)
    }

    #[test]
    fn an_entry_lives_from_when_it_was_put_in() {
        let mut lately = lately();
        assert!(lately.is_new(1, Ts::new(100, 0)));
        assert!(!lately.is_new(1, Ts::new(109, 0)));
        assert!(lately.is_new(1, Ts::new(110, 0)));
    }

    #[test]
    fn at_the_limit_the_old_go_before_all_go() {
        let mut lately = lately();
        for key in 0..3 {
            assert!(lately.is_new(key, Ts::new(100, 0)));
        }
        assert!(lately.is_new(3, Ts::new(109, 0)));
        assert!(lately.is_new(4, Ts::new(112, 0)));
        assert_eq!(lately.forgotten(), 0);
        assert!(lately.contains(&3, Ts::new(112, 0)));
        for key in 10..13 {
            assert!(lately.is_new(key, Ts::new(112, 0)));
        }
        assert_eq!(lately.forgotten(), 4);
        assert!(!lately.contains(&3, Ts::new(112, 0)));
    }
}
