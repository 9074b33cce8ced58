//! A message from its header to the end of its answers (RFC 1035 section 4, updates: RFC 2136
//! section 2), and what it adds to the row of its exchange. Authorities and additional records
//! are not looked at: no column shows them.

use std::borrow::Cow;

use tyto_core::net::Side;
use tyto_core::time::{Interval, NANOS};

use super::log::Exchange;
use super::name::{Name, Reader, netbios_name};
use super::names;
use super::pairs::{Pairs, Then};
use super::record;
use crate::analyzer::Cx;
use crate::analyzer::text::Text;

/// Questions that a message may have (Zeek: `dns_max_queries`): what has more is no DNS.
const QUESTIONS_MAX: u16 = 25;
const HEADER_LEN: usize = 12;
/// NetBIOS name service.
pub(super) const NETBIOS_PORT: u16 = 137;

pub(super) const OP_QUERY: u8 = 0;
const OP_NOTIFY: u8 = 4;
pub(super) const OP_UPDATE: u8 = 5;

const TYPE_SOA: u16 = 6;

/// The header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) is_response: bool,
    pub(super) opcode: u8,
    pub(super) aa: bool,
    tc: bool,
    rd: bool,
    pub(super) ra: bool,
    z: u8,
    rcode: u8,
    /// Questions, answers, authorities, additional records; of updates: zones, prerequisites,
    /// updates, additional records.
    counts: [u16; 4],
    /// One end has the port of NetBIOS.
    pub(super) is_netbios: bool,
}

/// Which section a record stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Answer,
    Prerequisite,
    Update,
}

/// A message while it is read.
#[derive(Debug)]
pub(super) struct Message<'m, 'a> {
    pub(super) header: Header,
    pub(super) reader: Reader<'a>,
    pub(super) section: Section,
    /// Class of the zone that is updated.
    pub(super) zone_class: u16,
    /// What the message adds to; none when its kind is not logged.
    exchange: Option<&'m mut Exchange>,
}

/// Whether the end of the message was reached in the sense that counts for its row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ended,
    Broken,
}

/// What is known of the connection, beside its pairs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// A message was seen.
    pub(super) saw_message: bool,
}

/// Reads one message of `side`; `None` when the side is not known, as for a message that was
/// cut by the end of the connection.
pub(super) fn message(
    bytes: &[u8],
    side: Option<Side>,
    known: &mut Known,
    pairs: &mut Pairs,
    cx: &mut Cx<'_>,
) {
    let is_netbios = cx.conn.orig.port == NETBIOS_PORT || cx.conn.resp.port == NETBIOS_PORT;
    let Some(header) = Header::parse(bytes, is_netbios) else {
        cx.weird("DNS_truncated_len_lt_hdr_len");
        return;
    };
    if !header.is_tracked() && !is_netbios {
        cx.limit_reached("DNS_unknown_opcode", &header.opcode.to_string());
        return;
    }
    let is_first = !std::mem::replace(&mut known.saw_message, true);
    let mut is_flipped = false;
    if is_first && header.is_response && side == Some(Side::Orig) {
        is_flipped = !cx.conn.resp.addr.is_multicast();
        if is_flipped {
            cx.flip_roles();
        }
    }
    // What is flipped takes effect after the call.
    let resp_port = if is_flipped { cx.conn.orig.port } else { cx.conn.resp.port };
    let reader = Reader { message: bytes, at: HEADER_LEN, is_netbios: resp_port == NETBIOS_PORT };
    let mut paired = header.is_tracked().then(|| pairs.of(header.id, !header.is_response, cx));
    let exchange = paired.as_mut().map(|(exchange, _)| &mut **exchange);
    let mut message = Message { header, reader, section: Section::Answer, zone_class: 0, exchange };
    message.begin();
    let outcome = message.read(cx);
    let Some((mut exchange, then)) = paired else { return };
    if outcome == Outcome::Ended {
        exchange.saw_reply |= header.is_response;
        exchange.saw_query |= !header.is_response;
    }
    if then != Then::Leaves {
        pairs.put(exchange, then);
    } else if exchange.saw_query && exchange.saw_reply && outcome == Outcome::Ended {
        exchange.write(cx);
    }
}

impl Header {
    fn parse(bytes: &[u8], is_netbios: bool) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let [id0, id1, high, low, counts @ ..] = *header;
        let [qd0, qd1, an0, an1, ns0, ns1, ar0, ar1] = counts;
        Some(Self {
            id: u16::from_be_bytes([id0, id1]),
            is_response: high & 0x80 != 0,
            opcode: high >> 3 & 0x0f,
            aa: high & 0x04 != 0,
            tc: high & 0x02 != 0,
            rd: high & 0x01 != 0,
            ra: low & 0x80 != 0,
            z: low >> 4 & 0x07,
            rcode: low & 0x0f,
            counts: [[qd0, qd1], [an0, an1], [ns0, ns1], [ar0, ar1]].map(u16::from_be_bytes),
            is_netbios,
        })
    }

    /// Whether messages of the kind have rows.
    const fn is_tracked(&self) -> bool {
        matches!(self.opcode, OP_QUERY | OP_NOTIFY | OP_UPDATE)
    }

    /// Whether it is an update of a zone; NetBIOS has registrations under the same number.
    pub(super) const fn is_update(&self) -> bool {
        self.opcode == OP_UPDATE && !self.is_netbios
    }
}

impl Message<'_, '_> {
    /// What the header says.
    fn begin(&mut self) {
        let header = self.header;
        let Some(Exchange { row, .. }) = &mut self.exchange else { return };
        if header.is_response {
            row.rcode = Some(header.rcode);
            row.rcode_name = Some(names::rcode(header.rcode));
            let [questions, ..] = header.counts;
            row.rejected |= header.rcode != 0 && questions == 0;
        }
        row.opcode = Some(header.opcode);
        row.opcode_name = Some(Text(names::opcode(header.opcode, header.is_netbios)));
    }

    fn read(&mut self, cx: &mut Cx<'_>) -> Outcome {
        let [questions, answers, updates, _] = self.header.counts;
        if questions > QUESTIONS_MAX {
            cx.violation("DNS_Conn_count_too_large", &[]);
            cx.limit_reached("DNS_Conn_count_too_large", &format!("{questions} > {QUESTIONS_MAX}"));
            return Outcome::Ended;
        }
        let is_read = if self.header.is_update() {
            match self.zone(questions, cx) {
                Some(true) => {}
                Some(false) => return Outcome::Broken,
                None => return Outcome::Ended,
            }
            self.records(Section::Prerequisite, answers, cx)
                .and_then(|()| self.records(Section::Update, updates, cx))
        } else {
            self.questions(questions, cx).and_then(|()| self.records(Section::Answer, answers, cx))
        };
        if is_read.is_some() {
            cx.confirm();
        }
        Outcome::Ended
    }

    /// The zone of an update; false when it is not told by its SOA.
    fn zone(&mut self, zones: u16, cx: &mut Cx<'_>) -> Option<bool> {
        if zones != 1 {
            cx.weird_with("DNS_DU_invalid_zone_count", &zones.to_string());
            return None;
        }
        let mut name = Name::root();
        let (zone_type, zone_class) = self.owner(&mut name, cx)?;
        if zone_type != TYPE_SOA {
            cx.weird("DNS_DU_incorrect_zone_type");
            return Some(false);
        }
        self.zone_class = zone_class;
        Some(true)
    }

    fn questions(&mut self, count: u16, cx: &mut Cx<'_>) -> Option<()> {
        for _ in 0..count {
            let mut name = Name::root();
            self.reader.name(&mut name, cx)?;
            if self.reader.len() < 4 {
                cx.weird("DNS_truncated_quest_too_short");
                return None;
            }
            let (qtype, qclass) = (self.reader.short(), self.reader.short());
            self.question(&name, qtype, qclass);
        }
        Some(())
    }

    fn question(&mut self, name: &Name, qtype: u16, qclass: u16) {
        let header = self.header;
        let Some(Exchange { row, .. }) = &mut self.exchange else { return };
        if header.is_response {
            let [_, others @ ..] = header.counts;
            row.rejected |= others == [0; 3];
            return;
        }
        row.rd = header.rd;
        row.tc = header.tc;
        row.z = header.z;
        row.qclass = Some(qclass);
        row.qclass_name = Some(Text(names::qclass(qclass)));
        row.qtype = Some(qtype);
        let mut qtype_name = names::qtype(qtype);
        let mut query = None;
        if self.reader.is_netbios {
            query = netbios_name(name.as_bytes());
            // The number is that of a node status here (RFC 1002 section 4.2.1.3).
            if qtype_name == "SRV" {
                qtype_name = Cow::Borrowed("NBSTAT");
            }
        }
        row.qtype_name = Some(Text(qtype_name));
        row.query = Some(query.unwrap_or_else(|| name.as_bytes().to_vec()));
    }

    fn records(&mut self, section: Section, count: u16, cx: &mut Cx<'_>) -> Option<()> {
        self.section = section;
        for _ in 0..count {
            record::record(self, cx)?;
        }
        Some(())
    }

    /// Whose record it is, its type and class.
    pub(super) fn owner(&mut self, name: &mut Name, cx: &mut Cx<'_>) -> Option<(u16, u16)> {
        self.reader.name(name, cx)?;
        if self.reader.len() < 4 {
            cx.weird("DNS_truncated_ans_too_short");
            return None;
        }
        Some((self.reader.short(), self.reader.short()))
    }

    /// A record of the answer says `says`; nothing to show when that is empty.
    pub(super) fn reply(&mut self, owner: &Name, ttl: u32, says: Vec<u8>, cx: &Cx<'_>) {
        let header = self.header;
        if !header.is_response {
            // Who asks tells answers too: the known ones of mDNS, or something odd.
            return;
        }
        let Some(exchange) = &mut self.exchange else { return };
        let row = &mut exchange.row;
        if row.query.is_none() {
            row.query = Some(owner.as_bytes().to_vec());
        }
        row.aa = header.aa;
        row.ra = header.ra;
        if row.rtt.is_none() {
            let rtt = cx.now.since(row.ts);
            row.rtt = (rtt.0 != 0).then_some(rtt);
        }
        if says.is_empty() {
            return;
        }
        let is_added = header.opcode == OP_UPDATE
            && self.section == Section::Update
            && !says.starts_with(b"del:");
        let says = if is_added { [b"add: ", says.as_slice()].concat() } else { says };
        exchange.answer(says, Interval((u64::from(ttl) * NANOS).cast_signed()));
    }
}
