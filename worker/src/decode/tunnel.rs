//! Tunnels: GRE, VXLAN, Geneve, GTP, Teredo and AYIYA, down to the packet inside. Each reader
//! gets the tunnel's payload and is as strict as Zeek's, because what is taken for a tunnel
//! decides which connections there are.

use super::be16;
use super::ip::{IpPacket, proto};

/// What a tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner<'a> {
    /// An IP packet, or what is to be tried as one.
    Ip(&'a [u8]),
    /// An Ethernet frame.
    Ethernet(&'a [u8]),
    /// An IEEE 802.11 frame.
    Wlan(&'a [u8]),
}

/// What the bytes of a connection that may be a tunnel turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A packet inside.
    Inner(Inner<'a>),
    /// Part of the tunnel's protocol, without a packet inside.
    Nothing,
    /// Not this tunnel's protocol: the connection is not looked at again.
    Violation,
}

/// Ports on which tunnels over UDP are expected.
pub mod port {
    /// Teredo.
    pub const TEREDO: u16 = 3544;
    /// GRE in UDP.
    pub const GRE: u16 = 4754;
    /// VXLAN.
    pub const VXLAN: u16 = 4789;
    /// AYIYA.
    pub const AYIYA: u16 = 5072;
    /// Geneve.
    pub const GENEVE: u16 = 6081;
    /// GTP, user plane.
    pub const GTP_USER: u16 = 2152;
    /// GTP, control plane.
    pub const GTP_CONTROL: u16 = 2123;
}

/// GRE: version 0 (RFC 2784, RFC 2890, with ERSPAN and Aruba's 802.11) and 1 (RFC 2637).
pub fn gre(bytes: &[u8]) -> Option<Inner<'_>> {
    let (flags, kind) = (be16(bytes, 0)?, be16(bytes, 2)?);
    // Routing (obsolete) and reserved flags are not read.
    if flags & 0x4000 != 0 || flags & 0x0078 != 0 {
        return None;
    }
    let optional = [0x8000, 0x2000, 0x1000, 0x0080].iter().filter(|bit| flags & **bit != 0).count();
    let header_len = 4 + 4 * optional;
    match flags & 0x0007 {
        0 => gre_version_0(bytes, flags, kind, header_len),
        1 if kind == 0x880b => {
            let payload = bytes.get(header_len + 4..)?;
            let version = match be16(bytes, header_len + 2)? {
                0x0021 => proto::IPV4,
                0x0057 => proto::IPV6,
                _ => return None,
            };
            whole_ip(payload, version).then_some(Inner::Ip(payload))
        }
        _ => None,
    }
}

fn gre_version_0(bytes: &[u8], flags: u16, kind: u16, header_len: usize) -> Option<Inner<'_>> {
    const ETHERNET_LEN: usize = 14;
    let skip = match kind {
        0x6558 => 0,
        // ERSPAN I has no header of its own, II has 8 bytes and a sequence number.
        0x88be if flags & 0x1000 != 0 => 8,
        0x88be => 0,
        // ERSPAN III: 12 bytes, 8 more when the last bit says so.
        0x22eb if *bytes.get(header_len + 11)? & 1 != 0 => 20,
        0x22eb => 12,
        0x9000 => return Some(Inner::Wlan(bytes.get(header_len..)?)),
        _ if is_aruba(kind) => return Some(Inner::Wlan(bytes.get(header_len..)?)),
        _ => return Some(Inner::Ip(bytes.get(header_len..)?)),
    };
    let payload = bytes.get(header_len + skip..)?;
    (payload.len() >= ETHERNET_LEN).then_some(Inner::Ethernet(payload))
}

const fn is_aruba(kind: u16) -> bool {
    kind & 0x0f == 0 && (kind & 0x8200 == 0x8200 || (kind & 0x8300 == 0x8300 && kind <= 0x8370))
}

/// VXLAN (RFC 7348).
pub fn vxlan(bytes: &[u8]) -> Found<'_> {
    const HEADER_LEN: usize = 8;
    let has_vni = bytes.first().is_some_and(|flags| flags & 0x08 != 0);
    match bytes.get(HEADER_LEN..) {
        Some([]) if has_vni => Found::Nothing,
        Some(frame) if has_vni => Found::Inner(Inner::Ethernet(frame)),
        _ => Found::Violation,
    }
}

/// Geneve (RFC 8926).
pub fn geneve(bytes: &[u8]) -> Found<'_> {
    const HEADER_LEN: usize = 8;
    if bytes.len() < HEADER_LEN {
        return Found::Violation;
    }
    let first = bytes.first().copied().unwrap_or_default();
    if first >> 6 != 0 {
        return Found::Nothing;
    }
    let options_len = usize::from(first & 0x3f) * 4;
    match (bytes.get(HEADER_LEN + options_len..), be16(bytes, 2)) {
        (None, _) => Found::Violation,
        (Some([]), _) => Found::Nothing,
        (Some(frame), Some(0x6558)) => Found::Inner(Inner::Ethernet(frame)),
        (Some(packet), Some(0x0800 | 0x86dd)) => Found::Inner(Inner::Ip(packet)),
        _ => Found::Nothing,
    }
}

/// GTP version 1 (3GPP TS 29.060 section 6): user packets only.
pub fn gtp(bytes: &[u8]) -> Option<Inner<'_>> {
    const USER_PACKET: u8 = 255;
    let &[flags, kind, ..] = bytes else { return None };
    let (version, is_gtp, has_extensions) = (flags >> 5, flags & 0x10 != 0, flags & 0x04 != 0);
    if version != 1 || !is_gtp || kind != USER_PACKET {
        return None;
    }
    let mut header_len = if flags & 0x07 == 0 { 8 } else { 12 };
    if has_extensions {
        loop {
            let len = usize::from(*bytes.get(header_len)?) * 4;
            if len == 0 {
                return None;
            }
            header_len += len;
            if *bytes.get(header_len - 1)? == 0 {
                break;
            }
        }
    }
    let packet = bytes.get(header_len..)?;
    let version = match packet.first()? >> 4 {
        4 => proto::IPV4,
        6 => proto::IPV6,
        _ => return None,
    };
    whole_ip(packet, version).then_some(Inner::Ip(packet))
}

/// Teredo (RFC 4380 section 5.1.1): authentication and origin before an IPv6 packet.
pub fn teredo(bytes: &[u8]) -> Found<'_> {
    let Some(packet) = behind_teredo_headers(bytes, false, false) else { return Found::Violation };
    let Ok(inner) = IpPacket::parse(packet) else { return Found::Violation };
    let len = packet.len() as u64;
    let is_bubble = inner.next_proto == proto::NONE && inner.payload_len == 0;
    let fits = len == u64::from(inner.total_len) || (len > u64::from(inner.total_len) && is_bubble);
    if fits { Found::Inner(Inner::Ip(packet)) } else { Found::Violation }
}

fn behind_teredo_headers(bytes: &[u8], origin: bool, authentication: bool) -> Option<&[u8]> {
    match be16(bytes, 0)? {
        0 if !origin => behind_teredo_headers(bytes.get(8..)?, true, authentication),
        1 if !origin && !authentication => {
            let (id_len, value_len) = (usize::from(*bytes.get(2)?), usize::from(*bytes.get(3)?));
            behind_teredo_headers(bytes.get(13 + id_len + value_len..)?, origin, true)
        }
        tag if tag >> 12 == 6 && bytes.len() >= 40 => Some(bytes),
        _ => None,
    }
}

/// Whether a datagram on any port looks like Teredo: an IPv6 packet with a Teredo address
/// (2001::/32), or headers of Teredo before an IPv6 packet.
pub fn looks_like_teredo(bytes: &[u8]) -> bool {
    const PREFIX: [u8; 4] = [0x20, 0x01, 0, 0];
    let &[first, second, id_len, value_len, ..] = bytes else { return false };
    if bytes.len() < 40 || (first >> 4 != 6 && (first != 0 || second > 1)) {
        return false;
    }
    if first >> 4 == 6 {
        let has_prefix = |at: usize| bytes.get(at..at + 4) == Some(&PREFIX);
        if has_prefix(8) || has_prefix(24) {
            return true;
        }
    }
    let mut rest = bytes;
    if second == 1 {
        let skip = 13 + usize::from(id_len) + usize::from(value_len);
        rest = rest.get(skip..).unwrap_or_default();
        if rest.len() < 40 || be16(rest, 0) != Some(0) {
            return false;
        }
    } else if second != 0 {
        return false;
    }
    rest = rest.get(8..).unwrap_or_default();
    rest.len() >= 40 && rest.first().is_some_and(|first| first >> 4 == 6)
}

/// AYIYA (draft-massar-v6ops-ayiya-02).
pub fn ayiya(bytes: &[u8]) -> Found<'_> {
    const FORWARD: u8 = 1;
    let &[identity, signature, operation, next, _, _, _, _, ..] = bytes else {
        return Found::Violation;
    };
    let header_len = 8 + (1_usize << (identity >> 4)) + usize::from(signature >> 4) * 4;
    let Some(packet) = bytes.get(header_len..) else { return Found::Violation };
    let is_ip = matches!(next, proto::IPV4 | proto::IPV6);
    if operation & 0x0f != FORWARD || packet.is_empty() || !is_ip {
        return Found::Nothing;
    }
    Found::Inner(Inner::Ip(packet))
}

/// Whether a datagram on any port looks like AYIYA as its clients send it.
pub fn looks_like_ayiya(bytes: &[u8]) -> bool {
    bytes.get(1..3) == Some(&[0x52, 0x11])
}

/// Whether `bytes` are exactly one packet of the IP version that protocol `version` says.
pub fn whole_ip(bytes: &[u8], version: u8) -> bool {
    let Ok(packet) = IpPacket::parse(bytes) else { return false };
    let is_version = packet.is_v4 == (version == proto::IPV4);
    is_version && u64::from(packet.total_len) == bytes.len() as u64
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the lengths of the tests' own packets")]
mod tests {
    use super::*;

    fn ipv6(payload_len: usize) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, payload_len as u8, 59, 64];
        bytes.extend([0x20, 0x01, 0, 0]);
        bytes.extend(vec![1; 28 + payload_len]);
        bytes
    }

    fn ipv4() -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 20];
        bytes.extend([0; 16]);
        bytes
    }

    /// RFC 2784, RFC 2890.
    #[test]
    fn gre_options_are_skipped() {
        let packet = ipv4();
        for (flags, options) in [(0_u16, 0), (0x8000, 4), (0x2000, 4), (0xb000, 12)] {
            let header = [&flags.to_be_bytes()[..], &[8, 0], &vec![0; options]].concat();
            assert_eq!(gre(&[header, packet.clone()].concat()), Some(Inner::Ip(&packet)));
        }
        assert_eq!(gre(&[&[0x40, 0, 8, 0][..], &packet].concat()), None);
    }

    /// RFC 2637 section 4.1: version 1 carries PPP.
    #[test]
    fn gre_version_1_carries_ip_behind_ppp() {
        let packet = ipv4();
        let header = [0x20, 0x01, 0x88, 0x0b, 0, 0, 0, 0, 0xff, 0x03, 0x00, 0x21];
        assert_eq!(gre(&[&header[..], &packet].concat()), Some(Inner::Ip(&packet)));
        assert_eq!(gre(&[&header[..], &packet, &[0]].concat()), None);
    }

    #[test]
    fn vxlan_without_its_flag_is_no_vxlan() {
        let frame = [0; 20];
        let bytes = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame].concat();
        assert_eq!(vxlan(&bytes), Found::Inner(Inner::Ethernet(&frame)));
        assert_eq!(vxlan(&[0; 28]), Found::Violation);
        assert_eq!(vxlan(&bytes[..8]), Found::Nothing);
    }

    #[test]
    fn geneve_options_are_skipped() {
        let packet = ipv4();
        let bytes = [&[1, 0, 8, 0, 0, 0, 1, 0, 9, 9, 9, 9][..], &packet].concat();
        assert_eq!(geneve(&bytes), Found::Inner(Inner::Ip(&packet)));
        assert_eq!(geneve(&bytes[..10]), Found::Violation);
    }

    #[test]
    fn gtp_extension_headers_are_skipped() {
        let packet = ipv4();
        let plain = [&[0x30, 255, 0, 20, 0, 0, 0, 1][..], &packet].concat();
        assert_eq!(gtp(&plain), Some(Inner::Ip(&packet)));
        let extended =
            [&[0x34, 255, 0, 28, 0, 0, 0, 1, 0, 0, 0, 0x85][..], &[1, 0, 9, 0], &packet].concat();
        assert_eq!(gtp(&extended), Some(Inner::Ip(&packet)));
        assert_eq!(gtp(&[&plain[..], &[0]].concat()), None);
    }

    /// RFC 4380 section 5.1.1.
    #[test]
    fn teredo_headers_come_before_the_packet() {
        let packet = ipv6(8);
        let origin = [0, 0, 1, 2, 3, 4, 5, 6];
        let authentication = [&[0, 1, 2, 1][..], &[7; 3], &[0; 9]].concat();
        let found = Found::Inner(Inner::Ip(&packet));
        assert_eq!(teredo(&packet), found);
        assert_eq!(teredo(&[&origin[..], &packet].concat()), found);
        let both = [&authentication[..], &origin, &packet].concat();
        assert_eq!(teredo(&both), found);
        assert!(looks_like_teredo(&both));
        assert_eq!(teredo(&[&packet[..], &[0]].concat()), Found::Violation);
    }

    #[test]
    fn ayiya_forwards_ip_only() {
        let packet = ipv6(0);
        let header = [&[0x41, 0x52, 0x11, 41, 0, 0, 0, 0][..], &[0; 16 + 20]].concat();
        let bytes = [header, packet.clone()].concat();
        assert!(looks_like_ayiya(&bytes));
        assert_eq!(ayiya(&bytes), Found::Inner(Inner::Ip(&packet)));
        assert_eq!(ayiya(&bytes[..20]), Found::Violation);
    }
}
