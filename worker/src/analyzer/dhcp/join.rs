//! Transactions: messages with one number within some seconds, from client and server, over all
//! connections of the worker, and those that other workers saw. A row is written when nothing
//! more is expected of them; in which order they came makes no difference.
//!
//! When a transaction is over is looked at every ten seconds, as Zeek's table does: its
//! rhythm decides whether a late message belongs to the row.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use tyto_core::net::{ConnId, Side};
use tyto_core::record::value::Vector;
use tyto_core::time::{Interval, NANOS, Ts};
use tyto_core::uid::Uid;

use super::log::{DhcpLog, kind_name};
use super::parser::{self, Message};
use crate::output::Output;

/// Time between two looks at all transactions, seconds (Zeek: `table_expire_interval`).
const LOOK_EVERY_S: u64 = 10;
/// A transaction is looked at when it is this old, seconds (Zeek: `&create_expire`).
const AGE_S: u64 = 10;
/// It is looked at again after this, seconds.
const AGAIN_S: u64 = 5;
/// It is over when nothing came for this long, seconds.
const QUIET_S: i64 = 5;
/// It is over after this in any case, seconds (Zeek: `DHCP::max_txid_watch_time`).
const WATCH_S: i64 = 30;
/// Connections of a transaction at which its row is written (Zeek:
/// `DHCP::max_uids_per_log_entry`).
const UIDS_MAX: usize = 10;
/// Messages of a transaction at which its row is written (Zeek:
/// `DHCP::max_msg_types_per_log_entry`).
const MESSAGES_MAX: usize = 50;
/// Transactions at a time (Zeek: `DHCP::max_tracked_transactions`); the oldest is written early.
pub(super) const TRANSACTIONS_MAX: usize = 100_000;

/// All transactions of a worker.
#[derive(Debug, Default)]
pub struct Transactions {
    open: BTreeMap<u32, Transaction>,
    /// Numbers of them, the oldest first; some of them closed already.
    order: VecDeque<(u32, u64)>,
    /// Transactions so far.
    begun: u64,
    /// Time of the first packet, from which ages count.
    start: Option<Ts>,
    next_look: Ts,
    /// Written early, because there were too many.
    forced: u64,
}

#[derive(Debug)]
struct Transaction {
    serial: u64,
    first_message: Ts,
    last_message: Ts,
    /// From when on its age counts: whole seconds since the first packet.
    counts_from: Ts,
    uids: BTreeSet<Uid>,
    /// Kinds of the messages, by their time.
    kinds: Vec<(Ts, u8)>,
    client: Client,
    server: Server,
}

/// What clients said.
#[derive(Debug, Default)]
struct Client {
    addr: Latest<IpAddr>,
    /// Hardware address in the identifier.
    id: Latest<String>,
    /// Hardware address in the header.
    hardware: Latest<String>,
    host_name: Latest<Vec<u8>>,
    fqdn: Latest<Vec<u8>>,
    requested: Latest<IpAddr>,
    text: Latest<Vec<u8>>,
}

/// What servers said.
#[derive(Debug, Default)]
struct Server {
    addr: Latest<IpAddr>,
    first_assigned: Earliest<IpAddr>,
    assigned: Latest<IpAddr>,
    hardware: Earliest<String>,
    domain: Latest<Vec<u8>>,
    lease_s: Latest<u32>,
    text: Latest<Vec<u8>>,
}

/// The value of the latest message that has one, in whatever order they come: several workers
/// may see them.
#[derive(Debug)]
struct Latest<T>(Option<(Ts, T)>);

/// The value of the earliest message that has one.
#[derive(Debug)]
struct Earliest<T>(Option<(Ts, T)>);

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Default for Earliest<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Clone> Latest<T> {
    fn set(&mut self, ts: Ts, value: Option<T>) {
        if let Some(value) = value
            && self.0.as_ref().is_none_or(|(known, _)| ts >= *known)
        {
            self.0 = Some((ts, value));
        }
    }

    fn value(&self) -> Option<T> {
        self.0.as_ref().map(|(_, value)| value.clone())
    }
}

impl<T: Clone> Earliest<T> {
    fn set(&mut self, ts: Ts, value: Option<T>) {
        if let Some(value) = value
            && self.0.as_ref().is_none_or(|(known, _)| ts < *known)
        {
            self.0 = Some((ts, value));
        }
    }

    fn value(&self) -> Option<T> {
        self.0.as_ref().map(|(_, value)| value.clone())
    }
}

/// A message, as it travels to the worker that puts its transaction together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Packet time.
    pub ts: Ts,
    /// The connection that carried it.
    pub uid: Uid,
    /// Number of the transaction.
    pub transaction: u32,
    /// Kind of message; 0 when no option tells it.
    pub kind: u8,
    /// A client sent it, else a server.
    pub is_client: bool,
    /// Of a client: its address, if it has one. Of a server that gives an address: its own.
    pub sender: Option<IpAddr>,
    /// Address that the server gives.
    pub assigned: Option<IpAddr>,
    /// Hardware address in the header.
    pub hardware: String,
    /// Hardware address in the client's identifier.
    pub client_id: Option<String>,
    /// Name of the client.
    pub host_name: Option<Vec<u8>>,
    /// Full name of the client.
    pub client_fqdn: Option<Vec<u8>>,
    /// Domain that the server names.
    pub domain: Option<Vec<u8>>,
    /// Address that the client asks for.
    pub requested: Option<IpAddr>,
    /// For how long the address is given, seconds.
    pub lease_s: Option<u32>,
    /// Why the sender refuses.
    pub text: Option<Vec<u8>>,
}

/// Where a message came from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) ts: Ts,
    pub(super) uid: Uid,
    pub(super) id: ConnId,
    pub(super) side: Side,
}

impl Piece {
    /// What the log shows of `message`.
    pub(super) fn new(message: &Message<'_>, source: &Source) -> Self {
        const SERVER_PORT: u16 = 67;
        const CLIENT_PORT: u16 = 68;
        const ETHERNET: u8 = 1;
        const NOBODYS: [IpAddr; 2] =
            [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::BROADCAST)];
        let ConnId { orig_h, resp_h, orig_p, resp_p } = source.id;
        let is_client = source.side == Side::Orig
            && (orig_h == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                || orig_p.0 == CLIENT_PORT
                || resp_p.0 == SERVER_PORT);
        let assigned = (!is_client && message.your_addr != 0)
            .then(|| IpAddr::V4(Ipv4Addr::from_bits(message.your_addr)));
        let server = if source.side == Side::Orig { orig_h } else { resp_h };
        let sender = match is_client {
            true => Some(orig_h).filter(|addr| !NOBODYS.contains(addr)),
            false => assigned.map(|_| server),
        };
        let own = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        let client_id = message.client_id.filter(|(kind, _)| *kind == ETHERNET);
        Self {
            ts: source.ts,
            uid: source.uid,
            transaction: message.transaction,
            kind: message.kind,
            is_client,
            sender,
            assigned,
            hardware: parser::mac(&message.hardware),
            client_id: client_id.map(|(_, address)| parser::mac(address)),
            host_name: own(message.host_name),
            client_fqdn: own(message.client_fqdn),
            domain: own(message.domain),
            requested: message.requested.map(Into::into),
            lease_s: message.lease_s,
            text: own(message.text),
        }
    }
}

impl Transactions {
    /// Whether [`Transactions::look`] has something to do.
    pub fn is_due(&self, now: Ts) -> bool {
        self.next_look <= now
    }

    /// Writes the rows of transactions that are over.
    pub fn look(&mut self, now: Ts, out: &mut Output) {
        self.next_look = now.plus_secs(LOOK_EVERY_S);
        let start = *self.start.get_or_insert(now);
        self.open.retain(|_, transaction| {
            if now <= transaction.counts_from.plus_secs(AGE_S) {
                return true;
            }
            if now.since(transaction.last_message) > Interval::from_secs(QUIET_S)
                || now.since(transaction.first_message) > Interval::from_secs(WATCH_S)
            {
                transaction.write(out);
                return false;
            }
            transaction.counts_from = whole_seconds(start, now, AGAIN_S, AGE_S);
            true
        });
        if self.open.is_empty() {
            self.order.clear();
        }
    }

    /// Writes the rows of all transactions.
    pub fn end(&mut self, out: &mut Output) {
        for transaction in std::mem::take(&mut self.open).into_values() {
            transaction.write(out);
        }
        self.order.clear();
    }

    /// Transactions that were written early, because there were too many.
    pub const fn forced(&self) -> u64 {
        self.forced
    }

    /// Adds a message, whoever saw it. True when that cost another transaction its place.
    pub(super) fn add(&mut self, piece: Piece, out: &mut Output) -> bool {
        let forced = self.forced;
        let number = piece.transaction;
        if !self.open.contains_key(&number) {
            self.make_room(out);
            self.begun += 1;
            self.order.push_back((number, self.begun));
            let start = self.start.unwrap_or(piece.ts);
            let begun = Transaction::begin(piece.ts, self.begun, start);
            self.open.insert(number, begun);
        }
        if let Some(transaction) = self.open.get_mut(&number) {
            transaction.add(piece);
            if transaction.is_full() {
                transaction.write_as_it_stands(out);
                self.open.remove(&number);
            }
        }
        self.forced > forced
    }

    fn make_room(&mut self, out: &mut Output) {
        // Those that are over leave their numbers behind.
        if self.order.len() >= 2 * TRANSACTIONS_MAX {
            let open = &self.open;
            self.order.retain(|(number, serial)| {
                open.get(number).is_some_and(|transaction| transaction.serial == *serial)
            });
        }
        while self.open.len() >= TRANSACTIONS_MAX
            && let Some((number, serial)) = self.order.pop_front()
        {
            if self.open.get(&number).is_none_or(|transaction| transaction.serial != serial) {
                continue;
            }
            if let Some(oldest) = self.open.remove(&number) {
                oldest.write(out);
                self.forced += 1;
            }
        }
    }
}

impl Transaction {
    fn begin(ts: Ts, serial: u64, start: Ts) -> Self {
        Self {
            serial,
            first_message: ts,
            last_message: ts,
            counts_from: whole_seconds(start, ts, 0, 0),
            uids: BTreeSet::new(),
            kinds: Vec::new(),
            client: Client::default(),
            server: Server::default(),
        }
    }

    fn add(&mut self, piece: Piece) {
        let Piece { ts, is_client, .. } = piece;
        self.first_message = self.first_message.min(ts);
        self.last_message = self.last_message.max(ts);
        self.uids.insert(piece.uid);
        let place = self.kinds.partition_point(|(at, _)| *at <= ts);
        self.kinds.insert(place, (ts, piece.kind));
        if is_client {
            let client = &mut self.client;
            client.addr.set(ts, piece.sender);
            client.text.set(ts, piece.text);
            client.host_name.set(ts, piece.host_name);
            client.fqdn.set(ts, piece.client_fqdn);
            client.requested.set(ts, piece.requested);
            if piece.client_id.is_none() {
                client.hardware.set(ts, Some(piece.hardware));
            }
            client.id.set(ts, piece.client_id);
        } else {
            let server = &mut self.server;
            server.text.set(ts, piece.text);
            server.addr.set(ts, piece.sender);
            server.first_assigned.set(ts, piece.assigned);
            server.assigned.set(ts, piece.assigned);
            server.hardware.set(ts, Some(piece.hardware));
            server.domain.set(ts, piece.domain);
            server.lease_s.set(ts, piece.lease_s);
        }
    }

    fn is_full(&self) -> bool {
        self.uids.len() >= UIDS_MAX || self.kinds.len() >= MESSAGES_MAX
    }

    fn write(&self, out: &mut Output) {
        let mut row = self.row();
        if row.mac.is_none() {
            row.mac = self.client.hardware.value();
        }
        out.row(&row);
    }

    /// Without what is added when a transaction is over, as Zeek does.
    fn write_as_it_stands(&self, out: &mut Output) {
        out.row(&self.row());
    }

    fn row(&self) -> DhcpLog {
        let Self { client, server, .. } = self;
        DhcpLog {
            ts: self.first_message,
            uids: self.uids.clone(),
            client_addr: client.addr.value().or_else(|| server.first_assigned.value()),
            server_addr: server.addr.value(),
            mac: client.id.value().or_else(|| server.hardware.value()),
            host_name: client.host_name.value(),
            client_fqdn: client.fqdn.value(),
            domain: server.domain.value(),
            requested_addr: client.requested.value(),
            assigned_addr: server.assigned.value(),
            lease_time: server.lease_s.value().map(|lease_s| Interval::from_secs(lease_s.into())),
            client_message: client.text.value(),
            server_message: server.text.value(),
            msg_types: Vector(self.kinds.iter().map(|(_, kind)| kind_name(*kind)).collect()),
            duration: self.last_message.since(self.first_message),
        }
    }
}

/// `now`, `later_s` on and `earlier_s` back, in whole seconds since `start`.
fn whole_seconds(start: Ts, now: Ts, later_s: u64, earlier_s: u64) -> Ts {
    let since =
        now.plus_secs(later_s).since(start).0 - Interval::from_secs(earlier_s.cast_signed()).0;
    let whole = since / NANOS.cast_signed() * NANOS.cast_signed();
    start + Interval(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(secs: u64, kind: u8, host_name: Option<&[u8]>) -> Piece {
        let is_client = matches!(kind, 1 | 3);
        let ours = |addr: [u8; 4]| (!is_client).then(|| IpAddr::from(addr));
        Piece {
            ts: Ts::new(1000 + secs, 0),
            uid: Uid { hi: 0, lo: u64::from(is_client) },
            transaction: 7,
            kind,
            is_client,
            sender: ours([10, 0, 0, 1]),
            assigned: ours([10, 0, 0, 100 + kind]),
            hardware: format!("02:00:00:00:00:0{kind}"),
            client_id: None,
            host_name: host_name.map(Into::into),
            client_fqdn: None,
            domain: None,
            requested: None,
            lease_s: (!is_client).then_some(60 * u32::from(kind)),
            text: None,
        }
    }

    fn row(pieces: &[Piece]) -> String {
        let mut transaction = Transaction::begin(pieces[0].ts, 1, Ts::new(1000, 0));
        pieces.iter().for_each(|piece| transaction.add(piece.clone()));
        format!("{:?}", transaction.row())
    }

    /// Workers see parts of a transaction, and tell of them when they can.
    #[test]
    fn the_order_in_which_messages_come_makes_no_difference() {
        let pieces = [
            piece(0, 1, Some(b"first")),
            piece(1, 2, None),
            piece(2, 3, Some(b"second")),
            piece(3, 5, None),
        ];
        let in_order = row(&pieces);
        assert!(in_order.contains("duration: 3") || in_order.contains("3000000000"), "{in_order}");
        for turn in 0..pieces.len() {
            let mut other = pieces.clone();
            other.rotate_left(turn);
            assert_eq!(row(&other), in_order);
            other.reverse();
            assert_eq!(row(&other), in_order);
        }
    }
}
