//! The flow table: finds a packet's connection by its key, and keeps the connections in places
//! that are used again, so that a steady stream of new ones allocates nothing.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use tyto_core::time::Ts;

use super::conn::{Conn, NEVER};
use super::hash::KeyedHasher;
use super::key::FlowKey;
use super::wheel::Wheel;

/// Name of a connection in the table while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId(u32);

/// The open connections. There is a limit to them; at it a new connection takes the place of
/// one whose deadline is near, which is logged as it stands.
#[derive(Debug)]
pub struct FlowTable {
    flows_max: usize,
    ids: HashTable<u32>,
    hasher: KeyedHasher,
    conns: Vec<Option<Conn>>,
    free: Vec<u32>,
    wheel: Wheel,
}

impl FlowTable {
    /// An empty table whose keys are hashed with `hasher`, for `flows_max` connections.
    pub fn new(hasher: KeyedHasher, flows_max: usize) -> Self {
        Self {
            flows_max: flows_max.max(1),
            ids: HashTable::new(),
            hasher,
            conns: Vec::new(),
            free: Vec::new(),
            wheel: Wheel::default(),
        }
    }

    /// The connection with `key`.
    pub fn find(&self, key: &FlowKey) -> Option<FlowId> {
        let hash = self.hasher.hash_one(key);
        let conns = &self.conns;
        let is_it = |id: &u32| {
            conns.get(*id as usize).and_then(Option::as_ref).is_some_and(|c| c.core.key == *key)
        };
        self.ids.find(hash, is_it).copied().map(FlowId)
    }

    /// The connection `id`.
    pub fn conn(&mut self, id: FlowId) -> Option<&mut Conn> {
        self.conns.get_mut(id.0 as usize)?.as_mut()
    }

    /// Puts in a connection whose key is not in the table.
    pub fn insert(&mut self, conn: Conn) -> FlowId {
        let key = conn.core.key;
        let id = match self.free.pop() {
            Some(id) => {
                self.conns[id as usize] = Some(conn);
                id
            }
            None => {
                let id = u32::try_from(self.conns.len()).unwrap_or(u32::MAX);
                self.conns.push(Some(conn));
                id
            }
        };
        let (conns, hasher) = (&self.conns, &self.hasher);
        let hash_of = |id: &u32| match &conns[*id as usize] {
            Some(conn) => hasher.hash_one(conn.core.key),
            None => 0,
        };
        self.ids.insert_unique(self.hasher.hash_one(key), id, hash_of);
        self.reschedule(FlowId(id));
        FlowId(id)
    }

    /// Takes the connection out.
    pub fn remove(&mut self, id: FlowId) -> Option<Conn> {
        let conn = self.conns.get_mut(id.0 as usize)?.take()?;
        self.wheel.cancel(id.0);
        self.free.push(id.0);
        if let Ok(entry) =
            self.ids.find_entry(self.hasher.hash_one(conn.core.key), |other| *other == id.0)
        {
            entry.remove();
        }
        Some(conn)
    }

    /// Tells the wheel of the connection's earliest deadline, if it came earlier. One that moved
    /// later is found out when the earlier one fires.
    pub fn reschedule(&mut self, id: FlowId) {
        let Some(Some(conn)) = self.conns.get_mut(id.0 as usize) else { return };
        let timers = &mut conn.core.timers;
        let next = timers.next();
        if next < timers.scheduled {
            timers.scheduled = next;
            self.wheel.schedule(id.0, next);
        }
    }

    /// A connection whose timers may be due at `now`; to be rescheduled or removed.
    pub fn pop_due(&mut self, now: Ts) -> Option<FlowId> {
        let id = FlowId(self.wheel.pop_due(now)?);
        if let Some(conn) = self.conn(id) {
            conn.core.timers.scheduled = NEVER;
        }
        Some(id)
    }

    /// Takes out a connection to make room for another: one that soon would have been over, or
    /// asked whether it is.
    pub fn evict(&mut self) -> Option<Conn> {
        let id = self.wheel.pop_soonest()?;
        self.remove(FlowId(id))
    }

    /// Takes out all connections, the oldest first.
    pub fn drain(&mut self) -> Vec<Conn> {
        self.ids.clear();
        self.free.clear();
        self.wheel = Wheel::default();
        let mut conns: Vec<Conn> = self.conns.drain(..).flatten().collect();
        conns.sort_by_key(|conn| (conn.core.start, conn.core.serial));
        conns
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether no other connection fits.
    pub fn is_full(&self) -> bool {
        self.len() >= self.flows_max
    }
}
