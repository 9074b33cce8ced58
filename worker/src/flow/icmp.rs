//! ICMP for IPv4 (RFC 792) and IPv6 (RFC 4443): which messages answer which, so that a request
//! and its reply are one flow with type and code as ports.

use tyto_core::net::Side;

use super::sent::Sent;
use crate::decode::be16;

/// Idle time after which a flow is over, seconds (Zeek: `icmp_inactivity_timeout`).
pub const INACTIVITY_S: u32 = 60;
/// Length of the header that all messages have, bytes.
pub const HEADER_LEN: usize = 8;

/// State of an ICMP flow.
#[derive(Debug, Default)]
pub struct Icmp {
    sent: Sent,
}

impl Icmp {
    /// `side` sent a message with `len` bytes behind the header.
    pub fn message(&mut self, side: Side, len: i64) {
        self.sent.add(side, len);
    }

    /// Bytes of `side`; 0 when it sent nothing.
    pub fn sent(&self, side: Side) -> u64 {
        self.sent.bytes(side).unwrap_or_default()
    }
}

/// What is odd about an ICMPv6 message, by Zeek's names: reports of multicast listeners that
/// are cut (RFC 2710 section 3, RFC 3810 section 5.2).
pub fn odd(message: &[u8]) -> Option<&'static str> {
    const REPORT: u8 = 131;
    const DONE: u8 = 132;
    const REPORT_V2: u8 = 143;
    let body = message.get(HEADER_LEN..).unwrap_or_default();
    match message.first() {
        Some(&(REPORT | DONE)) if body.len() < 16 => Some("truncated_ICMPv6_MLDv1"),
        Some(&REPORT_V2) => odd_records(message, body),
        _ => None,
    }
}

fn odd_records(message: &[u8], mut body: &[u8]) -> Option<&'static str> {
    const RECORD_LEN_MIN: usize = 20;
    let records = usize::from(be16(message, 6)?);
    if body.len() < records * RECORD_LEN_MIN {
        return Some("truncated_ICMPv6_MLDv2");
    }
    for _ in 0..records {
        if body.is_empty() {
            break;
        }
        let &[_, words, high, low, ..] = body else {
            return Some("truncated_ICMPv6_MLDv2_record");
        };
        let sources = usize::from(u16::from_be_bytes([high, low]));
        let len = RECORD_LEN_MIN + 16 * sources + 4 * usize::from(words);
        let Some(rest) = body.get(len..) else { return Some("truncated_ICMPv6_MLDv2_record") };
        body = rest;
    }
    None
}

/// What stands in place of the receiver's port for a message of `kind`: the type that answers
/// it, or its code when none does. True for messages without an answer.
pub const fn counterpart(is_v4: bool, kind: u8, code: u8) -> (u8, bool) {
    let answer = if is_v4 { counterpart_v4(kind) } else { counterpart_v6(kind) };
    match answer {
        Some(answer) => (answer, false),
        None => (code, true),
    }
}

const fn counterpart_v4(kind: u8) -> Option<u8> {
    Some(match kind {
        8 => 0, // echo
        0 => 8,
        13 => 14, // timestamp
        14 => 13,
        15 => 16, // information
        16 => 15,
        10 => 9, // router solicitation
        9 => 10,
        17 => 18, // address mask
        18 => 17,
        _ => return None,
    })
}

const fn counterpart_v6(kind: u8) -> Option<u8> {
    Some(match kind {
        128 => 129, // echo
        129 => 128,
        133 => 134, // router solicitation
        134 => 133,
        135 => 136, // neighbour solicitation
        136 => 135,
        130 => 131, // multicast listener query
        131 => 130,
        139 => 140, // node information
        140 => 139,
        144 => 145, // home agent address discovery
        145 => 144,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_reports_of_listeners_are_odd() {
        let report = |kind: u8, records: u8, body: &[u8]| {
            odd(&[&[kind, 0, 0, 0, 0, 0, 0, records][..], body].concat())
        };
        assert_eq!(report(131, 0, &[0; 16]), None);
        assert_eq!(report(132, 0, &[0; 15]), Some("truncated_ICMPv6_MLDv1"));
        assert_eq!(report(143, 1, &[0; 20]), None);
        assert_eq!(report(143, 2, &[0; 39]), Some("truncated_ICMPv6_MLDv2"));
        let sources = [&[1, 0, 0, 2][..], &[0; 40]].concat();
        assert_eq!(report(143, 1, &sources), Some("truncated_ICMPv6_MLDv2_record"));
    }

    #[test]
    fn answers_answer_back() {
        for is_v4 in [true, false] {
            for kind in 0..=255 {
                let (answer, is_one_way) = counterpart(is_v4, kind, 7);
                if is_one_way {
                    assert_eq!(answer, 7);
                } else {
                    assert_eq!(counterpart(is_v4, answer, 0), (kind, false));
                }
            }
        }
    }
}
