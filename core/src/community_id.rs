//! Community ID, version 1 (<https://github.com/corelight/community-id-spec>): one name for a
//! flow in the logs of every sensor that knows the scheme.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// The seed that all sensors have unless told otherwise.
const SEED: u16 = 0;

/// A flow to be named; prints as its Community ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommunityId {
    /// Originator and its port, or the ICMP type.
    pub orig: (IpAddr, u16),
    /// Responder and its port, or the ICMP type that answers, or the code.
    pub resp: (IpAddr, u16),
    /// IP protocol number.
    pub ip_proto: u8,
}

impl CommunityId {
    /// The 20 bytes behind the printed form.
    pub fn digest(&self) -> [u8; 20] {
        let ((low, low_port), (high, high_port)) = self.ordered();
        let mut hash = Sha1::new();
        hash.update(SEED.to_be_bytes());
        hash_address(&mut hash, low);
        hash_address(&mut hash, high);
        hash.update([self.ip_proto, 0]);
        if matches!(self.ip_proto, ICMP | TCP | UDP | ICMPV6 | SCTP) {
            hash.update(low_port.to_be_bytes());
            hash.update(high_port.to_be_bytes());
        }
        hash.finalize().into()
    }

    /// The two ends, the smaller first. ICMP messages without an answer keep their direction.
    ///
    /// Between two ports of the same address the specification compares numbers, Zeek their
    /// bytes with the lower one first. Ids are there to be joined with Zeek's logs: so do we.
    fn ordered(&self) -> ((IpAddr, u16), (IpAddr, u16)) {
        let is_one_way = match self.ip_proto {
            ICMP => !has_answer_v4(self.orig.1),
            ICMPV6 => !has_answer_v6(self.orig.1),
            _ => false,
        };
        let rank = |(address, port): (IpAddr, u16)| (address, port.swap_bytes());
        if is_one_way || rank(self.orig) <= rank(self.resp) {
            (self.orig, self.resp)
        } else {
            (self.resp, self.orig)
        }
    }
}

impl fmt::Display for CommunityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Base 64 of 20 bytes is 28 characters.
        let mut text = [0; 28];
        let len = STANDARD.encode_slice(self.digest(), &mut text).map_err(|_| fmt::Error)?;
        let text = text.get(..len).and_then(|text| std::str::from_utf8(text).ok());
        write!(f, "1:{}", text.ok_or(fmt::Error)?)
    }
}

fn hash_address(hash: &mut Sha1, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => hash.update(v4.octets()),
        IpAddr::V6(v6) => hash.update(v6.octets()),
    }
}

/// Echo, timestamp, information, address mask, router discovery.
const fn has_answer_v4(kind: u16) -> bool {
    matches!(kind, 0 | 8 | 9 | 10 | 13 | 14 | 15 | 16 | 17 | 18)
}

/// Echo, listener queries, router and neighbour discovery, node information, home agents.
const fn has_answer_v6(kind: u16) -> bool {
    matches!(kind, 128 | 129 | 130 | 131 | 133 | 134 | 135 | 136 | 139 | 140 | 144 | 145)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(orig: &str, orig_p: u16, resp: &str, resp_p: u16, ip_proto: u8) -> String {
        CommunityId {
            orig: (orig.parse().unwrap(), orig_p),
            resp: (resp.parse().unwrap(), resp_p),
            ip_proto,
        }
        .to_string()
    }

    /// The vectors that the specification publishes (baseline/baseline_seed0.json).
    #[test]
    fn published_vectors_come_out() {
        for (orig, orig_p, resp, resp_p, ip_proto, expected) in [
            ("128.232.110.120", 34855, "66.35.250.204", 80, 6, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            ("192.168.1.52", 54585, "8.8.8.8", 53, 17, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            ("192.168.0.89", 8, "192.168.0.1", 0, 1, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        ] {
            assert_eq!(id(orig, orig_p, resp, resp_p, ip_proto), expected);
        }
    }

    /// As Zeek 8.2 names it, and no other order of the ports would.
    #[test]
    fn ports_of_one_address_are_compared_by_their_lower_byte_first() {
        let expected = "1:g6LoM/yt9sMl44z3U++rd9i3Kas=";
        assert_eq!(id("127.0.0.1", 36064, "127.0.0.1", 25826, UDP), expected);
        assert_eq!(id("127.0.0.1", 25826, "127.0.0.1", 36064, UDP), expected);
    }

    #[test]
    fn both_directions_have_one_id() {
        for ip_proto in [TCP, UDP, SCTP] {
            assert_eq!(
                id("192.0.2.1", 9, "192.0.2.2", 10, ip_proto),
                id("192.0.2.2", 10, "192.0.2.1", 9, ip_proto)
            );
        }
        assert_eq!(
            id("192.0.2.1", 8, "192.0.2.2", 0, ICMP),
            id("192.0.2.2", 0, "192.0.2.1", 8, ICMP)
        );
    }

    #[test]
    fn icmp_without_an_answer_keeps_its_direction() {
        assert_ne!(
            id("192.0.2.1", 3, "192.0.2.2", 1, ICMP),
            id("192.0.2.2", 1, "192.0.2.1", 3, ICMP)
        );
    }
}
