//! IPv4 (RFC 791) and IPv6 with its extension headers (RFC 8200), read as Zeek reads them: where
//! lengths contradict each other, its choice decides what a connection counts.

use super::addr::Addr;
use super::{be16, be32};

/// Length of an IPv4 header without options, bytes; also the least that any IP packet has.
const IPV4_HEADER_LEN_MIN: usize = 20;
/// Length of the fixed IPv6 header, bytes.
const IPV6_HEADER_LEN: usize = 40;
/// Length of IPv6's fragment header, bytes.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// IP protocol numbers that decide how a packet is read.
pub mod proto {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Generic routing encapsulation.
    pub const GRE: u8 = 47;
    /// Encapsulating security payload.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows.
    pub const NONE: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
    /// IPv6 mobility header.
    pub const MOBILITY: u8 = 135;
}

/// Why bytes are not an IP packet; the names are those of Zeek's weirds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFault {
    /// Fewer bytes than a header.
    Truncated,
    /// Neither 4 nor 6.
    UnknownVersion,
    /// The total length is zero, as segmentation offload leaves it.
    ZeroLength,
    /// The packet says to be longer than it was on the wire.
    TruncatedLength,
    /// The header says to be longer than the packet.
    HeaderSize,
    /// The header was not captured whole.
    HeaderCut,
    /// The header says to be shorter than an IPv4 header can be.
    HeaderSmall,
}

impl IpFault {
    /// Zeek's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated_IP",
            Self::UnknownVersion => "unknown_ip_version",
            Self::ZeroLength => "ip_hdr_len_zero",
            Self::TruncatedLength => "truncated_IP_len",
            Self::HeaderSize => "invalid_IP_header_size",
            Self::HeaderCut => "internally_truncated_header",
            Self::HeaderSmall => "IPv4_min_header_size",
        }
    }
}

/// What a fragment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    /// Which fragments belong together.
    pub id: u32,
    /// Where its payload lies in the whole, bytes.
    pub offset: u16,
    /// Further fragments follow.
    pub more: bool,
}

/// An IP packet, lent.
#[derive(Clone, Copy, Debug)]
pub struct IpPacket<'a> {
    /// From the header's first byte on, as far as captured; link padding may trail.
    pub bytes: &'a [u8],
    /// Sender: of a mobile node, its home address.
    pub src: Addr,
    /// Receiver: with a routing header, the last one.
    pub dst: Addr,
    /// Version 4 or else 6.
    pub is_v4: bool,
    /// Header and payload as the header states them, bytes.
    pub total_len: u32,
    /// Length of all headers, bytes.
    pub hdr_len: u16,
    /// Payload as the headers state it, bytes; wraps around when they contradict each other.
    pub payload_len: u16,
    /// What the payload is.
    pub next_proto: u8,
    /// The last header is an ESP or mobility header: nothing behind it is read.
    pub is_opaque: bool,
    /// Set when the packet is a fragment of another.
    pub fragment: Option<FragmentInfo>,
    /// It must not be fragmented (IPv4).
    pub is_whole_only: bool,
}

impl<'a> IpPacket<'a> {
    /// Reads the headers of `bytes`, which may be longer than the packet.
    ///
    /// # Errors
    /// When there are too few bytes for the fixed header, or the version is unknown.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, IpFault> {
        if bytes.len() < IPV4_HEADER_LEN_MIN {
            return Err(IpFault::Truncated);
        }
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::parse_v4(bytes).ok_or(IpFault::Truncated),
            Some(6) => Self::parse_v6(bytes).ok_or(IpFault::Truncated),
            _ => Err(IpFault::UnknownVersion),
        }
    }

    /// Checks the lengths against each other and against `wire_len`, the bytes from this header
    /// on that were on the wire.
    ///
    /// # Errors
    /// When they contradict each other in a way that leaves nothing to analyse.
    pub fn check(&self, wire_len: usize, zero_len_is_offload: bool) -> Result<(), IpFault> {
        let mut total_len = self.total_len;
        if total_len == 0 {
            if !zero_len_is_offload {
                return Err(IpFault::ZeroLength);
            }
            total_len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        }
        if wire_len < total_len as usize {
            return Err(IpFault::TruncatedLength);
        }
        if u32::from(self.hdr_len) > total_len {
            return Err(IpFault::HeaderSize);
        }
        if usize::from(self.hdr_len) > self.bytes.len() {
            return Err(IpFault::HeaderCut);
        }
        if usize::from(self.hdr_len) < IPV4_HEADER_LEN_MIN {
            return Err(IpFault::HeaderSmall);
        }
        Ok(())
    }

    /// The payload as far as captured, without link padding.
    pub fn payload(&self) -> &'a [u8] {
        let rest = self.bytes.get(usize::from(self.hdr_len)..).unwrap_or_default();
        match self.payload_len {
            0 => rest,
            len => rest.get(..usize::from(len)).unwrap_or(rest),
        }
    }

    /// The IPv4 header with its options.
    pub fn header(&self) -> &'a [u8] {
        self.bytes.get(..usize::from(self.hdr_len)).unwrap_or(self.bytes)
    }

    fn parse_v4(bytes: &'a [u8]) -> Option<Self> {
        let &[
            first,
            _,
            l0,
            l1,
            id0,
            id1,
            f0,
            f1,
            _,
            next_proto,
            _,
            _,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ] = bytes.first_chunk::<IPV4_HEADER_LEN_MIN>()?;
        let total_len = u16::from_be_bytes([l0, l1]);
        let hdr_len = u16::from(first & 0x0f) * 4;
        let flags = u16::from_be_bytes([f0, f1]);
        let fragment = (flags & 0x3fff != 0).then_some(FragmentInfo {
            id: u32::from(u16::from_be_bytes([id0, id1])),
            offset: (flags & 0x1fff) << 3,
            more: flags & 0x2000 != 0,
        });
        Some(Self {
            bytes,
            src: Addr::v4([s0, s1, s2, s3]),
            dst: Addr::v4([d0, d1, d2, d3]),
            is_v4: true,
            total_len: u32::from(total_len),
            hdr_len,
            payload_len: if total_len == 0 { 0 } else { total_len.wrapping_sub(hdr_len) },
            next_proto,
            is_opaque: false,
            fragment,
            is_whole_only: flags & 0x4000 != 0,
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < IPV6_HEADER_LEN {
            return None;
        }
        let payload_len = be16(bytes, 4)?;
        let mut packet = Self {
            bytes,
            src: Addr::v6(*bytes.get(8..)?.first_chunk()?),
            dst: Addr::v6(*bytes.get(24..)?.first_chunk()?),
            is_v4: false,
            total_len: u32::from(payload_len) + 40,
            hdr_len: 40,
            payload_len,
            next_proto: *bytes.get(6)?,
            is_opaque: false,
            fragment: None,
            is_whole_only: false,
        };
        if is_extension(packet.next_proto) {
            packet.extension_headers();
        }
        // Kept within 16 bits like the length field it comes from.
        packet.payload_len = payload_len.wrapping_add(40).wrapping_sub(packet.hdr_len);
        Some(packet)
    }

    /// Walks the chain of extension headers as far as it was captured.
    fn extension_headers(&mut self) {
        let mut addresses = Addresses::default();
        while is_extension(self.next_proto) {
            let kind = self.next_proto;
            let rest = self.bytes.get(usize::from(self.hdr_len)..).unwrap_or_default();
            let &[next, units, ..] = rest else { return self.use_addresses(&addresses) };
            let len = match kind {
                proto::FRAGMENT | proto::ESP => 8,
                proto::AH => 8 + 4 * u16::from(units),
                _ => 8 + 8 * u16::from(units),
            };
            let Some(header) = rest.get(..usize::from(len)) else {
                return self.use_addresses(&addresses);
            };
            self.next_proto = if kind == proto::ESP { proto::NONE } else { next };
            self.hdr_len = self.hdr_len.saturating_add(len);
            match kind {
                proto::ROUTING => addresses.routing(header),
                proto::DESTINATION => addresses.destination(header),
                proto::ESP | proto::MOBILITY => {
                    self.is_opaque = true;
                    return self.use_addresses(&addresses);
                }
                proto::FRAGMENT => {
                    self.fragment = fragment_info(header);
                    return self.use_addresses(&addresses);
                }
                _ => {}
            }
        }
        self.use_addresses(&addresses);
    }

    fn use_addresses(&mut self, addresses: &Addresses) {
        self.src = addresses.home.unwrap_or(self.src);
        self.dst = addresses.last_hop.unwrap_or(self.dst);
    }
}

/// The addresses that extension headers put in place of those in the fixed header.
#[derive(Default)]
struct Addresses {
    home: Option<Addr>,
    last_hop: Option<Addr>,
}

impl Addresses {
    /// Routing headers of type 0 (RFC 2460) and 2 (RFC 6275) end with the last hop's address.
    fn routing(&mut self, header: &[u8]) {
        let &[_, units, kind, segments_left, ..] = header else { return };
        let counts = match kind {
            0 => segments_left > 0 && units >= 2 && units % 2 == 0,
            2 => segments_left > 0 && units == 2,
            _ => false,
        };
        if counts && self.last_hop.is_none() {
            self.last_hop = header.last_chunk().map(|bytes| Addr::v6(*bytes));
        }
    }

    /// The home address option (RFC 6275 section 6.3).
    fn destination(&mut self, header: &[u8]) {
        const HOME_ADDRESS: u8 = 201;
        let mut options = header.get(2..).unwrap_or_default();
        loop {
            match options {
                [0, rest @ ..] => options = rest,
                [kind, len, rest @ ..] => {
                    let Some(value) = rest.get(..usize::from(*len)) else { return };
                    if *kind == HOME_ADDRESS && self.home.is_none() {
                        self.home = value.try_into().ok().map(Addr::v6);
                    }
                    options = rest.get(usize::from(*len)..).unwrap_or_default();
                }
                _ => return,
            }
        }
    }
}

fn fragment_info(header: &[u8]) -> Option<FragmentInfo> {
    let offset = be16(header, 2)?;
    Some(FragmentInfo { id: be32(header, 4)?, offset: offset & 0xfff8, more: offset & 1 != 0 })
}

const fn is_extension(next_proto: u8) -> bool {
    matches!(
        next_proto,
        proto::HOP_BY_HOP
            | proto::ROUTING
            | proto::DESTINATION
            | proto::FRAGMENT
            | proto::AH
            | proto::ESP
            | proto::MOBILITY
    )
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the lengths of the tests' own packets")]
mod tests {
    use super::*;

    fn v4(total_len: u16, flags: u16) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        bytes[2..4].copy_from_slice(&total_len.to_be_bytes());
        bytes[6..8].copy_from_slice(&flags.to_be_bytes());
        bytes.extend([1, 2, 3, 4]);
        bytes
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        bytes[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
        bytes.extend([[1; 16], [2; 16]].concat());
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn an_ipv4_payload_ends_where_the_header_says() {
        let bytes = v4(22, 0);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.payload(), [1, 2]);
        assert_eq!(packet.check(24, false), Ok(()));
        assert_eq!(packet.check(21, false), Err(IpFault::TruncatedLength));
    }

    #[test]
    fn a_zero_length_is_offload_or_a_fault() {
        let bytes = v4(0, 0);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.check(24, false), Err(IpFault::ZeroLength));
        assert_eq!(packet.check(24, true), Ok(()));
        assert_eq!(packet.payload(), [1, 2, 3, 4]);
    }

    #[test]
    fn fragments_of_both_versions_tell_where_they_belong() {
        let bytes = v4(24, 0x2003);
        let expected = FragmentInfo { id: 7, offset: 24, more: true };
        assert_eq!(IpPacket::parse(&bytes).unwrap().fragment, Some(expected));
        let bytes = v6(44, &[17, 0, 0, 25, 0, 0, 0, 7, 1, 2]);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.fragment, Some(expected));
        assert_eq!((packet.next_proto, packet.hdr_len, packet.payload_len), (17, 48, 2));
    }

    /// RFC 8200 section 4: each header names the next.
    #[test]
    fn extension_headers_lead_to_the_payload() {
        let chain = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[17, 0, 1, 4, 0, 0, 0, 0], &[9, 9]].concat();
        let bytes = v6(0, &chain);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.next_proto, packet.hdr_len), (17, 56));
        assert_eq!(packet.payload(), [9, 9]);
    }

    #[test]
    fn a_routing_header_names_the_last_receiver() {
        let routing = [&[17, 2, 0, 1, 0, 0, 0, 0][..], &[7; 16]].concat();
        let bytes = v6(43, &routing);
        assert_eq!(IpPacket::parse(&bytes).unwrap().dst, Addr::v6([7; 16]));
    }

    #[test]
    fn a_home_address_replaces_the_sender() {
        let options = [&[17, 2, 1, 2, 0, 0, 201, 16][..], &[8; 16]].concat();
        let bytes = v6(60, &options);
        assert_eq!(IpPacket::parse(&bytes).unwrap().src, Addr::v6([8; 16]));
    }

    #[test]
    fn nothing_is_read_behind_esp() {
        let bytes = v6(50, &[0; 20]);
        assert!(IpPacket::parse(&bytes).unwrap().is_opaque);
    }
}
