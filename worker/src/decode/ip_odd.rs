//! What is odd in the extension headers of an IPv6 packet, by Zeek's names. Looked for apart from
//! reading the packet, which few packets with such headers pay for.

use super::addr::Addr;
use super::ip::{IpPacket, proto};
use super::{be16, checksum};

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
    for (kind, header) in extensions(bytes) {
        match kind {
            proto::ROUTING => walk.routing(header),
            proto::DESTINATION => walk.destination(header),
            _ => {}
        }
    }
}

/// What is odd in a packet that ends with ESP, behind which nothing is read, or with a mobility
/// header, which must be the last.
#[cold]
pub fn of_opaque(packet: &IpPacket<'_>, ignore_checksums: bool) -> Option<&'static str> {
    if !ignore_checksums && has_bad_mobility_checksum(packet.bytes, packet.src, packet.dst) {
        return Some("bad_MH_checksum");
    }
    (packet.next_proto != proto::NONE).then_some("mobility_piggyback")
}

/// Whether the mobility header (RFC 6275 section 6.1), if there is one, has another checksum than
/// it should between these ends. As in Zeek, the length counts modulo 256.
fn has_bad_mobility_checksum(bytes: &[u8], src: Addr, dst: Addr) -> bool {
    let mobility = extensions(bytes).find(|(kind, _)| *kind == proto::MOBILITY);
    mobility.is_some_and(|(kind, header)| {
        let summed = header.get(..header.len() % 256).unwrap_or(header);
        !checksum::is_valid_with_pseudo_header(src, dst, kind, summed)
    })
}

/// The extension headers of an IPv6 packet up to the one that ends their chain, which a mobility
/// header does. What is cut or of another kind is none.
fn extensions(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut kind = bytes.get(6).copied().unwrap_or(proto::NONE);
    let mut rest = bytes.get(IPV6_HEADER_LEN..).unwrap_or_default();
    let next = move || {
        let &[next, units, ..] = rest else { return None };
        let len = match kind {
            proto::AH => 8 + 4 * usize::from(units),
            proto::HOP_BY_HOP | proto::ROUTING | proto::DESTINATION | proto::MOBILITY => {
                8 + 8 * usize::from(units)
            }
            _ => return None,
        };
        let (header, behind) = rest.split_at_checked(len)?;
        rest = if kind == proto::MOBILITY { &[] } else { behind };
        Some((std::mem::replace(&mut kind, next), header))
    };
    std::iter::from_fn(next).take(HEADERS_MAX)
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
    fn a_mobility_header_has_a_checksum_between_the_ends() {
        let (src, dst) = (Addr::v6([1; 16]), Addr::v6([2; 16]));
        let is_bad = |src, sum: [u8; 2]| {
            let mut bytes = vec![0x60, 0, 0, 0, 0, 16, 60, 64];
            bytes.extend([[1; 16], [2; 16]].concat());
            bytes.extend([135, 0, 1, 4, 0, 0, 0, 0, 59, 0, 0, 0, sum[0], sum[1], 0, 0]);
            has_bad_mobility_checksum(&bytes, src, dst)
        };
        // 59 * 256, eight times 0x0101 and 0x0202, 135, and 8 bytes: the rest to 0xffff.
        let sum = (0xffff - (0x3b00 + 8 * 0x0303 + 135 + 8)) as u16;
        assert!(!is_bad(src, sum.to_be_bytes()));
        assert!(is_bad(src, (sum + 1).to_be_bytes()));
        assert!(is_bad(dst, sum.to_be_bytes()));
        assert!(!has_bad_mobility_checksum(&[0x60; 60], src, dst));
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
