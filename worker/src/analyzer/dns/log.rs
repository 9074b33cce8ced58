//! `dns.log`: one row per question and its answer.

use tyto_core::net::{ConnId, Proto};
use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::Uid;

use crate::analyzer::Cx;
use crate::analyzer::text::Text;

/// A question with its answer; either may be missing.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "dns")]
pub struct DnsLog {
    /// Time of the first message of the exchange.
    pub ts: Ts,
    /// The connection it rode on.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Transport of the connection.
    pub proto: Proto,
    /// Number that pairs question and answer.
    pub trans_id: Option<u16>,
    /// From the question to its answer; unset when either was not seen, or without a record.
    pub rtt: Option<Interval>,
    /// Name that was asked for.
    pub query: Option<Vec<u8>>,
    /// Class that was asked for.
    pub qclass: Option<u16>,
    /// Its name.
    pub qclass_name: Option<Text>,
    /// Type that was asked for.
    pub qtype: Option<u16>,
    /// Its name.
    pub qtype_name: Option<Text>,
    /// How it went, as the answer says.
    pub rcode: Option<u8>,
    /// Its name.
    pub rcode_name: Option<&'static str>,
    /// The answer comes from an authority for the name.
    #[log(name = "AA")]
    pub aa: bool,
    /// The message was truncated.
    #[log(name = "TC")]
    pub tc: bool,
    /// Recursion is desired.
    #[log(name = "RD")]
    pub rd: bool,
    /// Recursion is available.
    #[log(name = "RA")]
    pub ra: bool,
    /// The three bits that were reserved, and are DNSSEC's now in part.
    #[log(name = "Z")]
    pub z: u8,
    /// What the answer's records say.
    pub answers: Option<Vector<Vec<u8>>>,
    /// How long each of them may be kept.
    #[log(name = "TTLs")]
    pub ttls: Option<Vector<Interval>>,
    /// The server refused to answer.
    pub rejected: bool,
    /// What kind of message it is.
    pub opcode: Option<u8>,
    /// Its name.
    pub opcode_name: Option<Text>,
}

/// A row, and which of its messages were seen as a whole.
#[derive(Clone, Debug)]
pub(in crate::analyzer) struct Exchange {
    pub(super) row: DnsLog,
    pub(super) saw_query: bool,
    pub(super) saw_reply: bool,
}

impl Exchange {
    /// An exchange that begins now.
    pub(super) fn begin(trans_id: u16, cx: &mut Cx<'_>) -> Box<Self> {
        let row = DnsLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            proto: cx.proto,
            trans_id: Some(trans_id),
            rtt: None,
            query: None,
            qclass: None,
            qclass_name: None,
            qtype: None,
            qtype_name: None,
            rcode: None,
            rcode_name: None,
            aa: false,
            tc: false,
            rd: false,
            ra: false,
            z: 0,
            answers: None,
            ttls: None,
            rejected: false,
            opcode: None,
            opcode_name: None,
        };
        cx.shared.spare_exchanges.place(Self { row, saw_query: false, saw_reply: false })
    }

    /// Writes it. Roles may have been swapped since it began.
    pub(super) fn write(mut self: Box<Self>, cx: &mut Cx<'_>) {
        self.row.id = cx.id();
        cx.row(&self.row);
        cx.shared.spare_exchanges.over(self);
    }
}
