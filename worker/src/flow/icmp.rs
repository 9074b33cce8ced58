//! ICMP for IPv4 (RFC 792) and IPv6 (RFC 4443): which messages answer which, so that a request
//! and its reply are one flow with type and code as ports.

use tyto_core::net::Side;

/// Idle time after which a flow is over, seconds (Zeek: `icmp_inactivity_timeout`).
pub const INACTIVITY_S: u64 = 60;
/// Length of the header that all messages have, bytes.
pub const HEADER_LEN: usize = 8;

/// State of an ICMP flow.
#[derive(Debug, Default)]
pub struct Icmp {
    sent: [Option<i64>; 2],
}

impl Icmp {
    /// `side` sent a message with `len` bytes behind the header.
    pub fn message(&mut self, side: Side, len: i64) {
        if let Some(sent) = self.sent.get_mut(side.index()) {
            *sent = Some(match *sent {
                Some(before) if before >= 0 => before.saturating_add(len),
                _ => len,
            });
        }
    }

    /// Bytes of `side`; 0 when it sent nothing.
    pub fn sent(&self, side: Side) -> u64 {
        let sent = self.sent.get(side.index()).copied().flatten();
        sent.and_then(|len| u64::try_from(len).ok()).unwrap_or_default()
    }
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
