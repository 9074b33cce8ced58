//! SNMP (RFC 1157, RFC 3416, RFC 3412). Datagrams in, a row per connection out: what was asked
//! and answered.

use tyto_core::net::{ConnId, Proto, Side};
use tyto_core::record::LogRecord;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::Uid;

use self::parser::{Kind, Message};
use super::{Analyzer, Cx, Spec};
use crate::log::weird::Weird;

mod ber;
mod parser;
#[cfg(test)]
mod tests;

/// SNMP as an analyzer.
pub static SPEC: Spec = Spec {
    name: "SNMP",
    ports: &[(Proto::Udp, 161), (Proto::Udp, 162)],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| Box::new(Snmp::default()),
};

/// What happened on a connection.
#[derive(Debug, LogRecord)]
#[log(stream = "snmp")]
pub struct SnmpLog {
    /// Time of the first message.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// First to last message.
    pub duration: Interval,
    /// Version of the protocol.
    pub version: &'static str,
    /// Community, or the name of the user.
    pub community: Option<Vec<u8>>,
    /// Values that were asked for.
    pub get_requests: u64,
    /// Values that were asked for with those behind them.
    pub get_bulk_requests: u64,
    /// Values that were told.
    pub get_responses: u64,
    /// Values that were to be set.
    pub set_requests: u64,
    /// What the system says it is.
    pub display_string: Option<Vec<u8>>,
    /// When the system says that it was started.
    pub up_since: Option<Ts>,
}

/// SNMP on one connection.
#[derive(Debug, Default)]
struct Snmp {
    row: Option<Box<SnmpLog>>,
}

impl Analyzer for Snmp {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let (message, fault) = parser::parse(bytes);
        if message.has_header && side == Side::Resp {
            cx.confirm();
        }
        if message.has_odd_flags {
            cx.violation("Invalid v3 HeaderData msgFlags", &[]);
        }
        if let Some(kind) = message.kind {
            self.take(kind, &message, cx);
            for len in &message.long_numbers {
                let addl = len.to_string();
                let weird = Weird::new("asn_oid_subidentifier_too_long").with(&addl);
                cx.shared.weird_of_nobody(cx.now, &weird, cx.out);
            }
        }
        if let Some(reason) = fault {
            cx.violation(format!("Binpac exception: binpac exception: {reason}"), &[]);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(row) = self.row.take() {
            cx.row(&*row);
        }
    }
}

impl Snmp {
    fn take(&mut self, kind: Kind, message: &Message<'_>, cx: &Cx<'_>) {
        let row = self.row.get_or_insert_with(|| SnmpLog::begin(message.version, cx));
        if row.community.is_none() {
            row.community = message.community.map(<[u8]>::to_vec);
        }
        row.duration = cx.now.since(row.ts);
        match kind {
            Kind::Get => row.get_requests += message.bindings,
            Kind::GetBulk => row.get_bulk_requests += message.bindings,
            Kind::Set => row.set_requests += message.bindings,
            Kind::Response => {
                row.get_responses += message.bindings;
                if let Some(description) = message.description {
                    row.display_string = Some(description.to_vec());
                }
                if let Some(ticks) = message.up_time_ticks {
                    row.up_since = Some(before(cx.now, ticks));
                }
            }
            Kind::Other => {}
        }
    }
}

impl SnmpLog {
    fn begin(version: i64, cx: &Cx<'_>) -> Box<Self> {
        Box::new(Self {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            duration: Interval(0),
            version: match version {
                0 => "1",
                1 => "2c",
                3 => "3",
                _ => "unknown",
            },
            community: None,
            get_requests: 0,
            get_bulk_requests: 0,
            get_responses: 0,
            set_requests: 0,
            display_string: None,
            up_since: None,
        })
    }
}

/// The time `ticks` hundredths of a second before `now`; not before 1970.
const fn before(now: Ts, ticks: u64) -> Ts {
    const TICK_NS: u64 = 10_000_000;
    Ts(now.0.saturating_sub(ticks.saturating_mul(TICK_NS)))
}
