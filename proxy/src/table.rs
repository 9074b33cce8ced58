//! Who claimed what, until when. No I/O and no clock: each call gets the time.
//!
//! A claim is *granted* to the first who asks and *confirmed* once the other holder of the key
//! had its say. Until then a grant of a higher-ranked proxy takes it over: two proxies that are
//! asked for one key at the same time thus agree on one grant.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use tyto_core::time::Ts;

/// Entries at most. Past it, those that would expire first are forgotten, counted as
/// evictions: what they stand for may be logged a second time.
pub(crate) const ENTRIES_MAX: usize = 1 << 20;

/// What is claimed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Name of the table: `known_hosts`.
    pub(crate) table: Arc<str>,
    /// The key in it, hashed to find its holders.
    pub(crate) key: Arc<[u8]>,
}

/// Who claims: asking again with the same claim gives the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimant {
    /// Node that asks.
    pub(crate) node: Arc<str>,
    /// Packet time of what it saw.
    pub(crate) ts: Ts,
}

/// A claim that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// To whom; nobody when another proxy granted it and we do not know to whom.
    pub(crate) claimant: Option<Claimant>,
    /// Wall-clock time from which the key may be claimed anew.
    pub(crate) expires_at: Ts,
    /// The other holder had its say.
    pub(crate) confirmed: bool,
}

/// Answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Granted; to be confirmed.
    Granted,
    /// Granted to the same claim before, and confirmed.
    Again,
    /// Somebody else was first.
    Taken,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    grants: DashMap<Key, Grant>,
    /// The keys by time of expiry. Locked by whoever adds or removes a grant, for one tree
    /// operation and never while a shard of `grants` is locked.
    expiries: Mutex<BTreeSet<(Ts, Key)>>,
    entries_max: usize,
    changes: AtomicU64,
    evictions: AtomicU64,
}

impl Table {
    /// An empty table for `entries_max` entries at most.
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            grants: DashMap::new(),
            expiries: Mutex::default(),
            entries_max,
            changes: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// Claims `key` for `claimant` until `expires_at`. Of claims at the same time, one is granted.
    pub(crate) fn claim(&self, key: &Key, claimant: &Claimant, expires_at: Ts, now: Ts) -> Answer {
        let grant = Grant { claimant: Some(claimant.clone()), expires_at, confirmed: false };
        let replaced = match self.grants.entry(key.clone()) {
            Slot::Occupied(slot) if slot.get().expires_at > now => {
                let same = slot.get().claimant.as_ref() == Some(claimant);
                return match (same, slot.get().confirmed) {
                    (false, _) => Answer::Taken,
                    (true, false) => Answer::Granted,
                    (true, true) => Answer::Again,
                };
            }
            Slot::Occupied(mut slot) => Some(slot.insert(grant).expires_at),
            Slot::Vacant(slot) => {
                slot.insert(grant);
                None
            }
        };
        self.schedule(key, replaced, expires_at);
        Answer::Granted
    }

    /// Takes a grant of another proxy. `outranks_me` says whether that proxy ranks before this
    /// one for the key. False when the key was granted to another claim here, which stands.
    pub(crate) fn accept(&self, key: &Key, grant: Grant, outranks_me: bool, now: Ts) -> bool {
        let expires_at = grant.expires_at;
        let replaced = match self.grants.entry(key.clone()) {
            Slot::Occupied(mut slot) => {
                let held = slot.get();
                // Who holds it without knowing for whom learns it now.
                let stands = held.expires_at > now
                    && held.claimant.is_some()
                    && (held.confirmed || !outranks_me);
                if stands && held.claimant != grant.claimant {
                    return false;
                }
                Some(slot.insert(grant).expires_at)
            }
            Slot::Vacant(slot) => {
                slot.insert(grant);
                None
            }
        };
        self.schedule(key, replaced, expires_at);
        true
    }

    /// Ends a claim that [`Table::claim`] granted, after the other holders had their say.
    /// `refused` when one of them had granted it to another. Returns whether it is first.
    pub(crate) fn confirm(&self, key: &Key, claimant: &Claimant, refused: bool) -> bool {
        let Some(mut grant) = self.grants.get_mut(key) else {
            // Evicted meanwhile: nobody else can have been granted it but by a new claim.
            return !refused;
        };
        if grant.claimant.as_ref() != Some(claimant) {
            return false;
        }
        grant.confirmed = true;
        if refused {
            grant.claimant = None;
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
        !refused
    }

    /// Forgets what expired.
    pub(crate) fn expire(&self, now: Ts) {
        while let Some((at, key)) = self.pop_expiry(|first, _| first.0 <= now) {
            self.grants.remove_if(&key, |_, grant| grant.expires_at == at);
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Calls `visit` for each grant that is alive at `now`.
    pub(crate) fn for_each(&self, now: Ts, mut visit: impl FnMut(&Key, &Grant)) {
        for entry in &self.grants {
            if entry.expires_at > now {
                visit(entry.key(), entry.value());
            }
        }
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.grants.len()
    }

    /// Entries forgotten before their time, so far.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Grows with each change of the table.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Notes a grant's expiry in place of the one before, and evicts what is too much.
    fn schedule(&self, key: &Key, replaced: Option<Ts>, expires_at: Ts) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        {
            let mut expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = replaced {
                expiries.remove(&(at, key.clone()));
            }
            expiries.insert((expires_at, key.clone()));
        }
        while let Some((at, key)) = self.pop_expiry(|_, len| len > self.entries_max) {
            self.grants.remove_if(&key, |_, grant| grant.expires_at == at);
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the entry that expires first out of the schedule, if `wanted` says so of it and
    /// the number of entries.
    fn pop_expiry(&self, wanted: impl Fn(&(Ts, Key), usize) -> bool) -> Option<(Ts, Key)> {
        let mut expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
        let len = expiries.len();
        expiries.first().filter(|first| wanted(first, len))?;
        expiries.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { table: "known_hosts".into(), key: name.as_bytes().into() }
    }

    fn claimant(node: &str) -> Claimant {
        Claimant { node: node.into(), ts: Ts(1) }
    }

    fn grant(node: &str, expires_at: u64, confirmed: bool) -> Grant {
        Grant { claimant: Some(claimant(node)), expires_at: Ts(expires_at), confirmed }
    }

    #[test]
    fn first_claim_is_granted_and_the_second_finds_it_taken() {
        let table = Table::new(10);
        let claim = |node: &str| table.claim(&key("a"), &claimant(node), Ts(100), Ts(1));
        assert_eq!(claim("worker-1"), Answer::Granted);
        assert!(table.confirm(&key("a"), &claimant("worker-1"), false));
        assert_eq!(claim("worker-2"), Answer::Taken);
        assert_eq!(claim("worker-1"), Answer::Again);
    }

    #[test]
    fn claim_is_granted_anew_after_its_expiry() {
        let table = Table::new(10);
        let claim = |node, now| table.claim(&key("a"), &claimant(node), Ts(now + 10), Ts(now));
        assert_eq!(claim("w1", 0), Answer::Granted);
        assert_eq!(claim("w2", 9), Answer::Taken);
        assert_eq!(claim("w2", 10), Answer::Granted);
        table.expire(Ts(19));
        assert_eq!(table.len(), 1);
        table.expire(Ts(20));
        assert_eq!((table.len(), table.evictions()), (0, 0));
    }

    #[test]
    fn full_table_forgets_what_expires_first_and_counts_it() {
        let table = Table::new(2);
        for (name, expires_at) in [("a", 30), ("b", 10), ("c", 20)] {
            table.claim(&key(name), &claimant("w"), Ts(expires_at), Ts(0));
        }
        assert_eq!((table.len(), table.evictions()), (2, 1));
        assert_eq!(table.claim(&key("a"), &claimant("x"), Ts(30), Ts(0)), Answer::Taken);
        assert_eq!(table.claim(&key("b"), &claimant("x"), Ts(40), Ts(0)), Answer::Granted);
    }

    /// Both proxies granted one key at the same time: the higher-ranked one's claim stands.
    #[test]
    fn of_two_unconfirmed_grants_that_of_the_higher_rank_stands() {
        let (high, low) = (Table::new(10), Table::new(10));
        high.claim(&key("a"), &claimant("w1"), Ts(100), Ts(0));
        low.claim(&key("a"), &claimant("w2"), Ts(100), Ts(0));
        let low_refused = !high.accept(&key("a"), grant("w2", 100, true), false, Ts(0));
        let high_refused = !low.accept(&key("a"), grant("w1", 100, true), true, Ts(0));
        assert!(high.confirm(&key("a"), &claimant("w1"), high_refused));
        assert!(!low.confirm(&key("a"), &claimant("w2"), low_refused));
    }

    /// The same, but the lower-ranked one hears of its defeat before it hears of the victor.
    #[test]
    fn grant_of_the_higher_rank_stands_in_whatever_order_the_copies_arrive() {
        let (high, low) = (Table::new(10), Table::new(10));
        high.claim(&key("a"), &claimant("w1"), Ts(100), Ts(0));
        low.claim(&key("a"), &claimant("w2"), Ts(100), Ts(0));
        let low_refused = !high.accept(&key("a"), grant("w2", 100, true), false, Ts(0));
        assert!(!low.confirm(&key("a"), &claimant("w2"), low_refused));
        let high_refused = !low.accept(&key("a"), grant("w1", 100, true), true, Ts(0));
        assert!(high.confirm(&key("a"), &claimant("w1"), high_refused));
        assert_eq!(low.claim(&key("a"), &claimant("w1"), Ts(100), Ts(0)), Answer::Again);
    }

    #[test]
    fn confirmed_grant_stands_against_any_other() {
        let table = Table::new(10);
        assert!(table.accept(&key("a"), grant("w1", 100, true), false, Ts(0)));
        assert!(!table.accept(&key("a"), grant("w2", 100, true), true, Ts(0)));
        assert!(table.accept(&key("a"), grant("w1", 100, true), false, Ts(0)), "a repetition");
        assert_eq!(table.claim(&key("a"), &claimant("w1"), Ts(100), Ts(0)), Answer::Again);
    }

    #[test]
    fn refused_claim_is_first_for_nobody() {
        let table = Table::new(10);
        table.claim(&key("a"), &claimant("w1"), Ts(100), Ts(0));
        assert!(!table.confirm(&key("a"), &claimant("w1"), true));
        assert_eq!(table.claim(&key("a"), &claimant("w1"), Ts(100), Ts(0)), Answer::Taken);
    }

    #[test]
    fn of_concurrent_claims_one_is_granted() {
        let table = Table::new(10_000);
        let granted = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let table = &table;
                    scope.spawn(move || {
                        let who = claimant(&format!("w{n}"));
                        (0..1000)
                            .map(|i| table.claim(&key(&i.to_string()), &who, Ts(9), Ts(0)))
                            .filter(|answer| *answer == Answer::Granted)
                            .count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(granted, 1000);
    }
}
