//! Transactions: messages with one number within some seconds, from client and server, over all
//! connections of the worker. A row is written when nothing more is expected of them.
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
const TRANSACTIONS_MAX: usize = 100_000;

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
    row: DhcpLog,
    serial: u64,
    last_message: Ts,
    /// From when on its age counts: whole seconds since the first packet.
    counts_from: Ts,
    /// Hardware address in the client's header.
    client_hardware: Option<String>,
}

/// Where a message came from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) ts: Ts,
    pub(super) uid: Uid,
    pub(super) id: ConnId,
    pub(super) side: Side,
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
            let row = &transaction.row;
            if now.since(transaction.last_message) > Interval::from_secs(QUIET_S)
                || now.since(row.ts) > Interval::from_secs(WATCH_S)
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
        for mut transaction in std::mem::take(&mut self.open).into_values() {
            transaction.write(out);
        }
        self.order.clear();
    }

    /// Transactions that were written early, because there were too many.
    pub const fn forced(&self) -> u64 {
        self.forced
    }

    pub(super) fn message(&mut self, message: &Message<'_>, source: &Source, out: &mut Output) {
        let number = message.transaction;
        if !self.open.contains_key(&number) {
            self.make_room(out);
            self.begun += 1;
            self.order.push_back((number, self.begun));
            let start = self.start.unwrap_or(source.ts);
            let begun = Transaction::begin(source, self.begun, start);
            self.open.insert(number, begun);
        }
        let Some(transaction) = self.open.get_mut(&number) else { return };
        transaction.add(message, source);
        let row = &transaction.row;
        if row.uids.len() >= UIDS_MAX || row.msg_types.0.len() >= MESSAGES_MAX {
            out.row(row);
            self.open.remove(&number);
        }
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
            if let Some(mut oldest) = self.open.remove(&number) {
                oldest.write(out);
                self.forced += 1;
            }
        }
    }
}

impl Transaction {
    fn begin(source: &Source, serial: u64, start: Ts) -> Self {
        let row = DhcpLog {
            ts: source.ts,
            uids: BTreeSet::from([source.uid]),
            client_addr: None,
            server_addr: None,
            mac: None,
            host_name: None,
            client_fqdn: None,
            domain: None,
            requested_addr: None,
            assigned_addr: None,
            lease_time: None,
            client_message: None,
            server_message: None,
            msg_types: Vector::default(),
            duration: Interval(0),
        };
        Self {
            row,
            serial,
            last_message: source.ts,
            counts_from: whole_seconds(start, source.ts, 0, 0),
            client_hardware: None,
        }
    }

    fn add(&mut self, message: &Message<'_>, source: &Source) {
        const SERVER_PORT: u16 = 67;
        const CLIENT_PORT: u16 = 68;
        let ConnId { orig_h, orig_p, resp_p, .. } = source.id;
        let row = &mut self.row;
        row.duration = source.ts.since(row.ts);
        row.uids.insert(source.uid);
        row.msg_types.0.push(kind_name(message.kind));
        self.last_message = source.ts;
        let is_client = source.side == Side::Orig
            && (orig_h == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                || orig_p.0 == CLIENT_PORT
                || resp_p.0 == SERVER_PORT);
        if is_client {
            self.add_client(message, source);
        } else {
            self.add_server(message, source);
        }
    }

    fn add_client(&mut self, message: &Message<'_>, source: &Source) {
        const ETHERNET: u8 = 1;
        let row = &mut self.row;
        let addr = source.id.orig_h;
        if ![Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST].map(IpAddr::V4).contains(&addr) {
            row.client_addr = Some(addr);
        }
        set(&mut row.client_message, message.text);
        set(&mut row.host_name, message.host_name);
        set(&mut row.client_fqdn, message.client_fqdn);
        match message.client_id {
            Some((ETHERNET, address)) => row.mac = Some(parser::mac(address)),
            _ => self.client_hardware = Some(parser::mac(&message.hardware)),
        }
        if let Some(requested) = message.requested {
            row.requested_addr = Some(requested.into());
        }
    }

    fn add_server(&mut self, message: &Message<'_>, source: &Source) {
        let row = &mut self.row;
        set(&mut row.server_message, message.text);
        let assigned =
            (message.your_addr != 0).then(|| IpAddr::V4(Ipv4Addr::from_bits(message.your_addr)));
        if assigned.is_some() {
            let server = match source.side {
                Side::Orig => source.id.orig_h,
                Side::Resp => source.id.resp_h,
            };
            row.server_addr = Some(server);
            row.assigned_addr = assigned;
        }
        row.mac.get_or_insert_with(|| parser::mac(&message.hardware));
        row.client_addr = row.client_addr.or(row.assigned_addr);
        set(&mut row.domain, message.domain);
        if let Some(lease_s) = message.lease_s {
            row.lease_time = Some(Interval::from_secs(lease_s.into()));
        }
    }

    fn write(&mut self, out: &mut Output) {
        if self.row.mac.is_none() {
            self.row.mac = self.client_hardware.take();
        }
        out.row(&self.row);
    }
}

fn set(column: &mut Option<Vec<u8>>, value: Option<&[u8]>) {
    if let Some(value) = value {
        *column = Some(value.to_vec());
    }
}

/// `now`, `later_s` on and `earlier_s` back, in whole seconds since `start`.
fn whole_seconds(start: Ts, now: Ts, later_s: u64, earlier_s: u64) -> Ts {
    let since =
        now.plus_secs(later_s).since(start).0 - Interval::from_secs(earlier_s.cast_signed()).0;
    let whole = since / NANOS.cast_signed() * NANOS.cast_signed();
    start + Interval(whole)
}
