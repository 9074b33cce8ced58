//! The flow table: finds a packet's connection by its key, and keeps the connections in places
//! that are used again, so that a steady stream of new ones allocates nothing.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::mem;

use hashbrown::HashTable;
use tyto_capture::prefetch;
use tyto_core::time::Ts;

use super::conn::{Conn, NEVER, Question, Transport};
use super::hash::KeyedHasher;
use super::key::FlowKey;
use super::questions::Questions;
use super::tcp::Tcp;
use super::wheel::Wheel;

/// Packets, or connections whose time is up, that are prepared together: enough that their misses
/// overlap, so few that what was fetched is still there when their turn comes.
pub(crate) const AHEAD: usize = 32;

/// Connections from which on looking ahead pays: of fewer, most of what a packet needs is in the
/// processor's caches (docs/bench/stages.md). Tests look ahead from the first one on.
const AHEAD_FROM: usize = if cfg!(test) { 1 } else { 20_000 };
/// The same for those whose timers are due: they were quiet, so that little of them is at hand.
const DUE_AHEAD_FROM: usize = if cfg!(test) { 1 } else { 500 };

/// Connections in a piece of the table: few enough that a small capture touches little memory, so
/// many that the pieces of millions are found in one that is at hand.
const PIECE_LEN: usize = 512;

/// Places of TCP connections that are over and may be used again. The latest comes first: its
/// memory is at hand, unlike what the allocator would give.
const SPARE_TCP_MAX: usize = 64;

/// Name of a connection in the table while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId(u32);

/// The connection that a packet probably belongs to, if it is in the table.
#[derive(Clone, Copy, Debug)]
pub struct Expected(u32);

impl Default for Expected {
    /// None.
    fn default() -> Self {
        Self(u32::MAX)
    }
}

/// The open connections. There is a limit to them; at it a new connection takes the place of
/// one whose deadline is near, which is logged as it stands.
#[derive(Debug)]
pub struct FlowTable {
    flows_max: usize,
    index: HashTable<Place>,
    hasher: KeyedHasher,
    conns: Places,
    free: Vec<u32>,
    #[allow(clippy::vec_box, reason = "the boxes are what is kept")]
    spare_tcp: Vec<Box<Tcp>>,
    wheel: Wheel,
    questions: Questions,
    /// Connections whose timers are due next and that were looked at ahead.
    due_read: usize,
    /// What the next packet probably belongs to.
    expected: Expected,
}

/// Where a connection is. Half of its key's hash lies beside, so that others of the same bucket
/// are told apart, and the index grows, without a look at the connections.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    id: u32,
}

/// The connections by their numbers. They lie in pieces, so that in a flood none of them moves and
/// no list of them is there twice, the old one and the longer one.
#[derive(Debug, Default)]
struct Places {
    pieces: Vec<Vec<Option<Conn>>>,
    len: u32,
}

impl FlowTable {
    /// An empty table whose keys are hashed with `hasher`, for `flows_max` connections.
    pub fn new(hasher: KeyedHasher, flows_max: usize) -> Self {
        Self {
            flows_max: flows_max.max(1),
            index: HashTable::new(),
            hasher,
            conns: Places::default(),
            free: Vec::new(),
            spare_tcp: Vec::with_capacity(SPARE_TCP_MAX),
            wheel: Wheel::default(),
            questions: Questions::default(),
            due_read: 0,
            expected: Expected::default(),
        }
    }

    /// The connection with `key`.
    pub fn find(&self, key: &FlowKey) -> Option<FlowId> {
        if self.is_expected(key) {
            return Some(FlowId(self.expected.0));
        }
        let hash = self.hash(key);
        let is_it = |place: &Place| place.hash == hash && self.has_key(place.id, key);
        self.index.find(spread(hash), is_it).map(|place| FlowId(place.id))
    }

    /// Whether `key` is that of the connection which the next packet was expected to belong to.
    pub fn is_expected(&self, key: &FlowKey) -> bool {
        self.has_key(self.expected.0, key)
    }

    fn has_key(&self, id: u32, key: &FlowKey) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.core.key() == *key)
    }

    /// The connection `id`.
    pub fn conn(&mut self, id: FlowId) -> Option<&mut Conn> {
        self.conns.get_mut(id.0)
    }

    /// Puts in a connection whose key is not in the table; to be rescheduled.
    pub fn insert(&mut self, conn: Conn) -> FlowId {
        let hash = self.hash(&conn.core.key());
        let id = match self.free.pop() {
            Some(id) => {
                self.conns.put(id, conn);
                id
            }
            None => self.conns.push(conn),
        };
        self.index.insert_unique(spread(hash), Place { hash, id }, |place| spread(place.hash));
        FlowId(id)
    }

    /// A place for a TCP connection that begins, when there is one to be used again.
    pub fn spare_tcp(&mut self) -> Option<Box<Tcp>> {
        self.spare_tcp.pop()
    }

    /// Takes the connection out.
    pub fn remove(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let key = conn.core.key();
        if let Transport::Tcp(mut tcp) = mem::replace(&mut conn.transport, Transport::Unknown)
            && self.spare_tcp.len() < SPARE_TCP_MAX
        {
            tcp.drop_streams();
            self.spare_tcp.push(tcp);
        }
        self.conns.clear(id.0);
        self.wheel.cancel(id.0);
        self.questions.take(id.0);
        self.free.push(id.0);
        if let Ok(entry) = self.index.find_entry(spread(self.hash(&key)), |it| it.id == id.0) {
            entry.remove();
        }
    }

    /// Tells the wheel of the connection's earliest deadline, if it came earlier. One that moved
    /// later is found out when the earlier one fires.
    pub fn reschedule(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let timers = &mut conn.core.timers;
        match (timers.question, timers.is_open) {
            (Question::Own, true) => {
                if let Some(at) = timers.lend_question() {
                    self.questions.ask(id.0, at);
                }
            }
            (Question::Lent, false) | (Question::Dropped, _) => {
                timers.take_question(self.questions.take(id.0));
            }
            (Question::Own, false) | (Question::Lent, true) => {}
        }
        let next = timers.next();
        if next < timers.scheduled {
            timers.scheduled = next;
            self.wheel.schedule(id.0, next);
        }
    }

    /// A connection whose timers may be due at `now`; to be rescheduled or removed. None when
    /// `budget` is used up, of which each timer that fires takes one, and each question that is
    /// answered meanwhile.
    #[inline]
    pub fn pop_due(&mut self, now: Ts, budget: &mut usize) -> Option<FlowId> {
        let is_due = self.wheel.is_due(now) || self.questions.earliest() <= now;
        if is_due { self.take_due(now, budget) } else { None }
    }

    #[inline(never)]
    fn take_due(&mut self, now: Ts, budget: &mut usize) -> Option<FlowId> {
        let id = FlowId(self.next_due(now, budget)?);
        if self.due_read > 0 {
            self.due_read -= 1;
        } else if self.len() >= DUE_AHEAD_FROM {
            self.look_due_ahead();
        }
        if let Some(conn) = self.conns.get_mut(id.0) {
            let timers = &mut conn.core.timers;
            timers.scheduled = NEVER;
            timers.take_question(self.questions.take(id.0));
        }
        Some(id)
    }

    /// The next one to be called; questions whose time was before are answered.
    fn next_due(&mut self, now: Ts, budget: &mut usize) -> Option<u32> {
        while *budget > 0 {
            let asked = self.questions.earliest();
            if let Some(id) = self.wheel.pop_due(now, asked.min(now)) {
                *budget -= 1;
                return Some(id);
            }
            if asked > now || asked == NEVER {
                return None;
            }
            *budget -= usize::from(self.questions.answer(now));
        }
        None
    }

    /// A connection to be removed to make room for another: one whose time soon would have been
    /// up.
    pub fn soonest(&mut self) -> Option<FlowId> {
        self.wheel.pop_soonest().map(FlowId)
    }

    /// All connections, the oldest first.
    pub fn by_age(&self) -> Vec<FlowId> {
        let mut ages = Vec::with_capacity(self.len());
        ages.extend((0..).zip(self.conns.iter()).filter_map(|(id, conn)| {
            let core = &conn?.core;
            Some((core.start, core.serial, id))
        }));
        ages.sort_unstable();
        ages.into_iter().map(|(_, _, id)| FlowId(id)).collect()
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether no other connection fits.
    pub fn is_full(&self) -> bool {
        self.len() >= self.flows_max
    }

    /// The hash of `key`, for [`FlowTable::look_ahead`].
    #[allow(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
    pub fn hash(&self, key: &FlowKey) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    /// Asks for what packets of the connections with keys of these hashes will read, so that it is
    /// at hand. Gives which connections those probably are, for [`FlowTable::expect`].
    pub fn look_ahead(&self, hashes: &[Option<u32>; AHEAD]) -> [Expected; AHEAD] {
        let found = hashes.map(|hash| {
            let hash = hash?;
            Some(self.index.find(spread(hash), |place| place.hash == hash)?.id)
        });
        self.prefetch(found.iter().flatten().copied());
        found.map(|id| id.map_or_else(Expected::default, Expected))
    }

    /// Whether what packets will read is worth to be asked for.
    pub fn is_large(&self) -> bool {
        self.len() >= AHEAD_FROM
    }

    /// The next packet probably belongs to that connection.
    pub const fn expect(&mut self, expected: Expected) {
        self.expected = expected;
    }

    /// Asks for what the connections need whose timers come next: most of them are then over.
    fn look_due_ahead(&mut self) {
        let due = || self.wheel.soon().take(AHEAD);
        self.prefetch(due());
        let conns = due().filter_map(|id| Some((id, self.conns.get(id)?)));
        let places = conns.filter_map(|(id, conn)| {
            self.index.find(spread(self.hash(&conn.core.key())), |place| place.id == id)
        });
        black_box(places.count());
        self.due_read = due().count();
    }

    /// Step by step, so that within a step nothing waits for anything.
    fn prefetch(&self, which: impl Iterator<Item = u32>) {
        let mut ids = [0; AHEAD];
        let mut count = 0;
        for (to, id) in ids.iter_mut().zip(which) {
            *to = id;
            count += 1;
        }
        let ids = ids.get(..count).unwrap_or_default();
        let slots = ids.iter().filter_map(|id| self.conns.slot(*id));
        slots.clone().for_each(|slot| prefetch(slot, usize::MAX));
        let conns = slots.filter_map(Option::as_ref);
        conns.clone().for_each(Conn::prefetch_apart);
        conns.for_each(Conn::prefetch_analyzer);
    }
}

impl Places {
    fn get(&self, id: u32) -> Option<&Conn> {
        self.slot(id)?.as_ref()
    }

    fn slot(&self, id: u32) -> Option<&Option<Conn>> {
        self.pieces.get(piece_of(id))?.get(place_in_piece(id))
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Conn> {
        self.place(id)?.as_mut()
    }

    fn place(&mut self, id: u32) -> Option<&mut Option<Conn>> {
        self.pieces.get_mut(piece_of(id))?.get_mut(place_in_piece(id))
    }

    /// Puts a connection into a place that was used before.
    fn put(&mut self, id: u32, conn: Conn) {
        if let Some(place) = self.place(id) {
            *place = Some(conn);
        }
    }

    fn clear(&mut self, id: u32) {
        if let Some(place) = self.place(id) {
            *place = None;
        }
    }

    /// Puts a connection into a new place; gives its number.
    fn push(&mut self, conn: Conn) -> u32 {
        let id = self.len;
        if place_in_piece(id) == 0 {
            self.pieces.push(Vec::with_capacity(PIECE_LEN));
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.push(Some(conn));
        }
        self.len += 1;
        id
    }

    /// All places, used or not, by their numbers.
    fn iter(&self) -> impl Iterator<Item = Option<&Conn>> {
        self.pieces.iter().flatten().map(Option::as_ref)
    }
}

const fn piece_of(id: u32) -> usize {
    id as usize / PIECE_LEN
}

const fn place_in_piece(id: u32) -> usize {
    id as usize % PIECE_LEN
}

/// The hash as the index takes it: buckets by the lower bits, the rest by the upper ones.
const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

#[cfg(test)]
mod tests {
    use tyto_core::uid::Uid;

    use super::super::conn::{ConnCore, EndName};
    use super::*;
    use crate::decode::addr::Addr;

    const SECOND: u64 = 1_000_000_000;

    /// A connection that is over for lack of packets at 60 s and asked whether it goes on at 5 s.
    fn begin(flows: &mut FlowTable, host: u8, is_open: bool) -> FlowId {
        let end = |port| EndName { addr: Addr::v4([192, 0, 2, host]), port };
        let mut core = ConnCore::new(Uid { hi: 0, lo: host.into() }, end(1), end(2));
        core.timers.inactivity = Ts(60 * SECOND);
        core.timers.add_expire(Ts(5 * SECOND));
        core.timers.is_open = is_open;
        let id = flows.insert(Conn { core, transport: Transport::Unknown, stage: None });
        flows.reschedule(id);
        id
    }

    fn table() -> FlowTable {
        FlowTable::new(KeyedHasher::with_seed(1), 1000)
    }

    #[test]
    fn one_that_is_open_is_asked_without_a_call() {
        let mut flows = table();
        let id = begin(&mut flows, 1, true);
        for now in 1..60 {
            assert_eq!(flows.pop_due(Ts(now * SECOND), &mut { 9 }), None);
        }
        assert_eq!(flows.pop_due(Ts(60 * SECOND), &mut { 9 }), Some(id));
        // Asked at 5, 11, 17 … 59, and its own question now.
        assert_eq!(flows.conn(id).unwrap().core.timers.expire[0], Ts(65 * SECOND));
    }

    #[test]
    fn one_that_is_open_no_more_is_called_when_the_next_question_was_due() {
        let mut flows = table();
        let id = begin(&mut flows, 1, true);
        assert_eq!(flows.pop_due(Ts(6 * SECOND), &mut { 9 }), None);
        flows.conn(id).unwrap().core.timers.is_open = false;
        flows.reschedule(id);
        assert_eq!(flows.pop_due(Ts(12 * SECOND - 1), &mut { 9 }), None);
        assert_eq!(flows.pop_due(Ts(12 * SECOND), &mut { 9 }), Some(id));
    }

    #[test]
    fn a_question_takes_from_the_budget_as_a_call_does() {
        let mut flows = table();
        (0..3).for_each(|host| {
            begin(&mut flows, host, true);
        });
        let called = begin(&mut flows, 3, false);
        let (mut budget, now) = (3, Ts(7 * SECOND));
        assert_eq!(flows.pop_due(now, &mut budget), Some(called), "a call before a question");
        assert_eq!((flows.pop_due(now, &mut budget), budget), (None, 0));
        let mut budget = 3;
        assert_eq!((flows.pop_due(now, &mut budget), budget), (None, 2), "the third question");
    }

    #[test]
    fn at_the_end_of_time_nothing_is_due() {
        let mut flows = table();
        assert_eq!(flows.pop_due(NEVER, &mut { 9 }), None);
    }

    #[test]
    fn room_is_made_by_those_whose_time_is_soon_up_and_not_by_those_who_are_asked() {
        let mut flows = table();
        let open = begin(&mut flows, 1, true);
        let attempt = begin(&mut flows, 2, false);
        assert_eq!(flows.soonest(), Some(attempt));
        assert_eq!(flows.soonest(), Some(open));
    }
}
