//! What is odd in the extension headers of an IPv6 packet, by Zeek's names. Looked for apart from
//! reading the packet, which few packets with such headers pay for.

use super::addr::Addr;
use super::be16;
use super::ip::proto;

/// Length of the fixed header, bytes.
const IPV6_HEADER_LEN: usize = 40;
/// Headers that are looked at. More do not fit into a packet: each has 8 bytes at least.
const HEADERS_MAX: usize = 8192;

/// Something odd, and between whom: later headers may name other ends than the fixed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd {
    /// What.
    pub name: &'static str,
    /// A number to it.
    pub number: Option<u8>,
    /// From whom, as far as was read.
    pub src: Addr,
    /// To whom.
    pub dst: Addr,
}

struct Walk<F> {
    src: Addr,
    dst: Addr,
    has_home: bool,
    has_last_hop: bool,
    tell: F,
}

/// Calls `tell` with what is odd in the headers of `bytes`, an IPv6 packet.
pub fn look(bytes: &[u8], tell: impl FnMut(Odd)) {
    let (Some(src), Some(dst)) = (address(bytes, 8), address(bytes, 24)) else { return };
    let mut walk = Walk { src, dst, has_home: false, has_last_hop: false, tell };
    let Some(mut kind) = bytes.get(6).copied() else { return };
    let mut rest = bytes.get(IPV6_HEADER_LEN..).unwrap_or_default();
    for _ in 0..HEADERS_MAX {
        let &[next, units, ..] = rest else { return };
        let len = match kind {
            proto::AH => 8 + 4 * usize::from(units),
            proto::HOP_BY_HOP | proto::ROUTING | proto::DESTINATION => 8 + 8 * usize::from(units),
            // The others end the chain.
            _ => return,
        };
        let Some(header) = rest.get(..len) else { return };
        match kind {
            proto::ROUTING => walk.routing(header),
            proto::DESTINATION => walk.destination(header),
            _ => {}
        }
        rest = rest.get(len..).unwrap_or_default();
        kind = next;
    }
}

impl<F: FnMut(Odd)> Walk<F> {
    fn tell(&mut self, name: &'static str, number: Option<u8>) {
        (self.tell)(Odd { name, number, src: self.src, dst: self.dst });
    }

    /// Type 0 (RFC 2460, deprecated by RFC 5095) and type 2 (RFC 6275).
    fn routing(&mut self, header: &[u8]) {
        let &[_, units, kind, left, ..] = header else { return };
        if self.has_last_hop {
            return self.tell("multiple_routing_headers", None);
        }
        match kind {
            0 => {
                if left > 0 && units >= 2 {
                    if units % 2 == 0 {
                        self.use_last_hop(header);
                    } else {
                        self.tell("odd_routing0_len", None);
                    }
                }
                self.tell("routing0_hdr", None);
            }
            2 if left > 0 && units == 2 => self.use_last_hop(header),
            2 if left > 0 => self.tell("bad_routing2_len", None),
            2 => {}
            _ => self.tell("unknown_routing_type", Some(kind)),
        }
    }

    fn use_last_hop(&mut self, header: &[u8]) {
        if let Some(bytes) = header.last_chunk() {
            self.dst = Addr::v6(*bytes);
            self.has_last_hop = true;
        }
    }

    /// The home address option (RFC 6275 section 6.3).
    fn destination(&mut self, header: &[u8]) {
        const HOME_ADDRESS: u8 = 201;
        let mut options = header.get(2..).unwrap_or_default();
        loop {
            match options {
                [] => return,
                [0, rest @ ..] => options = rest,
                [kind, len, rest @ ..] if usize::from(*len) <= rest.len() => {
                    let value = rest.get(..usize::from(*len)).unwrap_or_default();
                    match (*kind, <[u8; 16]>::try_from(value)) {
                        (HOME_ADDRESS, Ok(_)) if self.has_home => {
                            self.tell("multiple_home_addr_opts", None);
                        }
                        (HOME_ADDRESS, Ok(home)) => {
                            self.src = Addr::v6(home);
                            self.has_home = true;
                        }
                        (HOME_ADDRESS, Err(_)) => self.tell("bad_home_addr_len", None),
                        _ => {}
                    }
                    options = rest.get(usize::from(*len)..).unwrap_or_default();
                }
                _ => return self.tell("bad_ipv6_dest_opt_len", None),
            }
        }
    }
}

/// Whether there are extension headers to look at.
pub fn has_extensions(bytes: &[u8]) -> bool {
    let first = bytes.get(6);
    be16(bytes, 4).is_some()
        && matches!(
            first,
            Some(&(proto::HOP_BY_HOP | proto::ROUTING | proto::DESTINATION | proto::AH))
        )
}

fn address(bytes: &[u8], at: usize) -> Option<Addr> {
    Some(Addr::v6(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the lengths of the tests' own packets")]
mod tests {
    use super::*;

    fn told(next: u8, headers: &[&[u8]]) -> Vec<&'static str> {
        let headers = headers.concat();
        let mut bytes = vec![0x60, 0, 0, 0, 0, headers.len() as u8, next, 64];
        bytes.extend([[1; 16], [2; 16]].concat());
        bytes.extend(headers);
        assert!(has_extensions(&bytes));
        let mut told = Vec::new();
        look(&bytes, |odd| told.push(odd.name));
        told
    }

    #[test]
    fn odd_routing_headers_are_told() {
        let routing = |next: u8, units: u8, kind: u8, left: u8| {
            [&[next, units, kind, left, 0, 0, 0, 0][..], &vec![7; usize::from(units) * 8]].concat()
        };
        assert_eq!(told(43, &[&routing(59, 2, 0, 1)]), ["routing0_hdr"]);
        assert_eq!(told(43, &[&routing(59, 3, 0, 1)]), ["odd_routing0_len", "routing0_hdr"]);
        assert_eq!(told(43, &[&routing(59, 3, 2, 1)]), ["bad_routing2_len"]);
        assert_eq!(told(43, &[&routing(59, 2, 9, 1)]), ["unknown_routing_type"]);
        let twice = told(43, &[&routing(43, 2, 2, 1), &routing(59, 2, 2, 1)]);
        assert_eq!(twice, ["multiple_routing_headers"]);
    }

    #[test]
    fn odd_home_addresses_are_told() {
        let home = [&[201, 16][..], &[8; 16]].concat();
        let twice = [&[59, 4, 1, 0][..], &home, &home].concat();
        assert_eq!(told(60, &[&twice]), ["multiple_home_addr_opts"]);
        assert_eq!(told(60, &[&[59, 0, 201, 4, 1, 2, 3, 4]]), ["bad_home_addr_len"]);
        assert_eq!(told(60, &[&[59, 0, 201, 16, 1, 2, 3, 4]]), ["bad_ipv6_dest_opt_len"]);
    }
}
