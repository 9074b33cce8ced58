//! `conn.log`: one row per connection, written when it is over.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tyto_core::community_id::CommunityId;
use tyto_core::net::{ConnId, Proto, Side};
use tyto_core::record::schema::FieldType;
use tyto_core::record::value::LogValue;
use tyto_core::record::{FieldSink, LogRecord};
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::Uid;

use crate::flow::conn::{Conn, ConnCore, Transport};
use crate::flow::service::Services;
use crate::flow::tcp::{EndState, Tcp};
use crate::site::Site;

/// A connection.
#[derive(Debug, LogRecord)]
#[log(stream = "conn")]
pub struct ConnLog<'a> {
    /// Time of the first packet.
    pub ts: Ts,
    /// Unique id of the connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Transport protocol.
    pub proto: Proto,
    /// Application protocols that were recognised.
    pub service: ServiceColumn<'a>,
    /// First to last packet; unset for a single packet.
    pub duration: Option<Interval>,
    /// Payload bytes that the originator sent, of TCP by its sequence numbers.
    pub orig_bytes: Option<u64>,
    /// Payload bytes that the responder sent.
    pub resp_bytes: Option<u64>,
    /// How the connection began and ended, in a word.
    pub conn_state: &'static str,
    /// The originator is in a local network; unset when none is known.
    pub local_orig: Option<bool>,
    /// The responder is in a local network; unset when none is known.
    pub local_resp: Option<bool>,
    /// Bytes that were acknowledged and never seen.
    pub missed_bytes: u64,
    /// What happened, a letter each; upper case from the originator.
    pub history: Option<&'a [u8]>,
    /// Packets that the originator sent.
    pub orig_pkts: u64,
    /// Their bytes by the IP headers.
    pub orig_ip_bytes: u64,
    /// Packets that the responder sent.
    pub resp_pkts: u64,
    /// Their bytes by the IP headers.
    pub resp_ip_bytes: u64,
    /// Ids of the tunnels that the connection ran in.
    pub tunnel_parents: Option<BTreeSet<Uid>>,
    /// IP protocol number.
    pub ip_proto: u8,
}

/// A connection with its id across sensors.
#[derive(Debug, LogRecord)]
#[log(stream = "conn")]
pub struct ConnLogWithCommunityId<'a> {
    /// All that is known without it.
    #[log(flatten)]
    pub conn: ConnLog<'a>,
    /// Community ID, version 1.
    pub community_id: Option<String>,
}

impl<'a> ConnLog<'a> {
    /// The row of a connection that is over.
    pub fn new(conn: &'a Conn, site: &Site) -> Self {
        let core = &conn.core;
        let (orig_bytes, resp_bytes) = payload_bytes(conn);
        let duration = core.last.since(core.start);
        let lasted = duration.0 > 0;
        let letters = core.history.letters();
        Self {
            ts: core.start,
            uid: core.uid,
            id: core.id(),
            proto: conn.proto(),
            service: ServiceColumn(&core.services),
            duration: lasted.then_some(duration),
            orig_bytes: lasted.then_some(orig_bytes),
            resp_bytes: lasted.then_some(resp_bytes),
            conn_state: conn_state(conn),
            local_orig: site.is_local(core.orig.addr),
            local_resp: site.is_local(core.resp.addr),
            missed_bytes: core.missed_bytes,
            history: (!letters.is_empty()).then_some(letters),
            orig_pkts: core.packets[Side::Orig.index()],
            orig_ip_bytes: core.ip_bytes[Side::Orig.index()],
            resp_pkts: core.packets[Side::Resp.index()],
            resp_ip_bytes: core.ip_bytes[Side::Resp.index()],
            tunnel_parents: core.encapsulation.as_ref().map(|around| around.parents().clone()),
            ip_proto: core.ip_proto,
        }
    }
}

impl<'a> ConnLogWithCommunityId<'a> {
    /// The row of a connection that is over.
    pub fn new(conn: &'a Conn, site: &Site) -> Self {
        let core = &conn.core;
        let id = CommunityId {
            orig: (IpAddr::from(core.orig.addr), core.orig.port),
            resp: (IpAddr::from(core.resp.addr), core.resp.port),
            ip_proto: core.ip_proto,
        };
        Self { conn: ConnLog::new(conn, site), community_id: Some(id.to_string()) }
    }
}

/// What the column `service` says: names in lower case, with commas between.
#[derive(Clone, Copy, Debug)]
pub struct ServiceColumn<'a>(pub &'a Services);

impl LogValue for ServiceColumn<'_> {
    const TYPE: FieldType = FieldType::STRING;

    fn write(&self, sink: &mut impl FieldSink) {
        /// Longer than any one name: nearly all connections have one protocol, or none.
        const NAME_LEN_MAX: usize = 32;
        let mut names = self.0.names();
        match (names.next(), names.next()) {
            (None, _) => sink.unset(),
            (Some(name), None) if name.len() <= NAME_LEN_MAX => {
                let mut lower = [0; NAME_LEN_MAX];
                for (to, from) in lower.iter_mut().zip(name.bytes()) {
                    *to = from.to_ascii_lowercase();
                }
                sink.string(&lower[..name.len()]);
            }
            (Some(_), _) => match self.0.column() {
                Some(column) => sink.string(column.as_bytes()),
                None => sink.unset(),
            },
        }
    }
}

fn payload_bytes(conn: &Conn) -> (u64, u64) {
    match &conn.transport {
        Transport::Tcp(tcp) => (tcp.size(Side::Orig), tcp.size(Side::Resp)),
        Transport::Udp(udp) => {
            let sent = |side| udp.sent(side).unwrap_or_default();
            (sent(Side::Orig), sent(Side::Resp))
        }
        Transport::Icmp(icmp) => (icmp.sent(Side::Orig), icmp.sent(Side::Resp)),
        Transport::Unknown => (0, 0),
    }
}

fn conn_state(conn: &Conn) -> &'static str {
    match &conn.transport {
        Transport::Tcp(tcp) => tcp_state(tcp, &conn.core),
        Transport::Udp(udp) => match (udp.sent(Side::Orig), udp.sent(Side::Resp)) {
            (Some(_), Some(_)) => "SF",
            (Some(_), None) => "S0",
            (None, Some(_)) => "SHR",
            (None, None) => "OTH",
        },
        Transport::Icmp(_) | Transport::Unknown => "OTH",
    }
}

/// Zeek's words (`base/protocols/conn/main.zeek`), in the order in which it asks.
fn tcp_state(tcp: &Tcp, core: &ConnCore) -> &'static str {
    use EndState::{Closed, Established, Inactive, Partial, Reset, SynAckSent, SynSent};
    match (tcp.state(Side::Orig), tcp.state(Side::Resp)) {
        (SynSent | SynAckSent, Reset) => "REJ",
        (Reset, Reset) if tcp.size(Side::Orig) == 0 && tcp.size(Side::Resp) == 0 => "REJ",
        (Inactive | Partial, Reset) => "RSTRH",
        (_, Reset) => "RSTR",
        (Reset, Inactive | Partial) if is_reset_before_answer(core.history.letters()) => "RSTOS0",
        (Reset, Inactive | Partial) => "OTH",
        (Reset, _) => "RSTO",
        (Closed, Closed) => "SF",
        (Closed, Inactive | Partial) => "SH",
        (Closed, _) => "S2",
        (Inactive | Partial, Closed) => "SHR",
        (_, Closed) => "S3",
        (SynSent, Inactive) => "S0",
        (Established, Established) => "S1",
        _ => "OTH",
    }
}

/// A SYN, then a RST before any answer or data: `^\^?S[^HAFGIQ]*R`.
fn is_reset_before_answer(history: &[u8]) -> bool {
    let history = history.strip_prefix(b"^").unwrap_or(history);
    let Some(rest) = history.strip_prefix(b"S") else { return false };
    rest.iter().find(|letter| b"RHAFGIQ".contains(letter)) == Some(&b'R')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_counts_as_before_the_answer_only_behind_nothing_but_a_syn() {
        for (history, expected) in [
            (&b"SR"[..], true),
            (b"^STR", true),
            (b"SaR", true),
            (b"SAR", false),
            (b"ShR", true),
            (b"SHR", false),
            (b"R", false),
            (b"S", false),
        ] {
            assert_eq!(is_reset_before_answer(history), expected);
        }
    }

    #[test]
    fn columns_are_zeeks_in_zeeks_order() {
        let names: Vec<_> =
            ConnLogWithCommunityId::schema().fields.iter().map(|f| f.name.to_string()).collect();
        assert_eq!(
            names.join(" "),
            "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes \
             resp_bytes conn_state local_orig local_resp missed_bytes history orig_pkts \
             orig_ip_bytes resp_pkts resp_ip_bytes tunnel_parents ip_proto community_id"
        );
    }
}
