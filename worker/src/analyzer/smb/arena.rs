//! Things that several tables and "the current one" name at a time: each has a number, and is
//! forgotten once nobody names it any more.

use std::collections::{BTreeMap, BTreeSet};

/// Things kept before it is looked for those that nobody names.
const KEPT_AT_LEAST: usize = 32;

/// Name of a thing.
pub(super) type Key = u64;

#[derive(Debug)]
pub(super) struct Arena<T> {
    things: BTreeMap<Key, T>,
    next: Key,
    swept_at: usize,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { things: BTreeMap::new(), next: 0, swept_at: KEPT_AT_LEAST }
    }
}

impl<T> Arena<T> {
    pub(super) fn add(&mut self, thing: T) -> Key {
        let key = self.next;
        self.next += 1;
        self.things.insert(key, thing);
        key
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        self.things.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.things.get_mut(&key)
    }

    /// So many are kept that it is time to [`Arena::sweep`].
    pub(super) fn is_full(&self) -> bool {
        self.things.len() >= self.swept_at
    }

    /// Forgets those that are not `named`.
    pub(super) fn sweep(&mut self, named: &BTreeSet<Key>) {
        self.things.retain(|key, _| named.contains(key));
        self.swept_at = (self.things.len() * 2).max(KEPT_AT_LEAST);
    }
}
