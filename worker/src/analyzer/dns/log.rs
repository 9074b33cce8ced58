//! `dns.log`: one row per question and its answer.

use std::mem;

use tyto_core::net::{ConnId, Proto};
use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::Uid;

use crate::analyzer::Cx;
use crate::analyzer::text::Text;

/// Answers that a list which is used again has room for.
const SPARE_ANSWERS_MAX: usize = 16;

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
    /// Lists of a former row, for their memory.
    spare: (Vector<Vec<u8>>, Vector<Interval>),
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
        let begun = |spare| Self { row, saw_query: false, saw_reply: false, spare };
        let Some(mut place) = cx.shared.spare_exchanges.take() else {
            return Box::new(begun((Vector::default(), Vector::default())));
        };
        *place = begun(mem::take(&mut place.spare));
        place
    }

    /// One more answer, and how long it may be kept.
    pub(super) fn answer(&mut self, says: Vec<u8>, ttl: Interval) {
        let Self { row, spare: (answers, ttls), .. } = self;
        row.answers.get_or_insert_with(|| mem::take(answers)).0.push(says);
        row.ttls.get_or_insert_with(|| mem::take(ttls)).0.push(ttl);
    }

    /// Writes it. Roles may have been swapped since it began.
    pub(super) fn write(mut self: Box<Self>, cx: &mut Cx<'_>) {
        self.row.id = cx.id();
        cx.row(&self.row);
        if let (Some(mut answers), Some(mut ttls)) = (self.row.answers.take(), self.row.ttls.take())
            && answers.0.capacity() <= SPARE_ANSWERS_MAX
        {
            answers.0.clear();
            ttls.0.clear();
            self.spare = (answers, ttls);
        }
        cx.shared.spare_exchanges.over(self);
    }
}
