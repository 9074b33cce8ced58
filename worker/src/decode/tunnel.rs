//! Tunnels: GRE, VXLAN, Geneve, GTP, Teredo and AYIYA, down to the packet inside. Each reader
//! gets the tunnel's payload and is as strict as Zeek's, because what is taken for a tunnel
//! decides which connections there are.
//!
//! Longer than 500 lines: every tunnel stands beside the others, a function each.

use std::borrow::Cow;
use std::cmp::Ordering;

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
    /// Something that is not read.
    Unread,
}

/// What the bytes of a connection that may be a tunnel turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A packet inside.
    Inner(Inner<'a>),
    /// A packet inside, but something odd, by Zeek's name, about it.
    OddInner(&'static str, Inner<'a>),
    /// The tunnel's protocol, without a packet inside, which is odd.
    OddTunnel(&'static str),
    /// Something odd, with a number, that may be the tunnel's protocol.
    Odd(&'static str, u8),
    /// Part of the tunnel's protocol, without a packet inside.
    Nothing,
    /// Not this tunnel's protocol: the connection is not looked at again. The reason, and the
    /// bytes that show it.
    Violation(Cow<'static, str>, &'a [u8]),
    /// The same, because it is cut: odd, by Zeek's name, where the tunnel was confirmed.
    Cut(&'static str, &'a [u8]),
}

/// Something odd in a packet that should be a tunnel's, by Zeek's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odd {
    /// What.
    pub name: &'static str,
    /// A word more.
    pub addl: String,
    /// It is about the packet inside.
    pub is_inside: bool,
}

impl Odd {
    const fn new(name: &'static str) -> Self {
        Self { name, addl: String::new(), is_inside: false }
    }

    const fn inside(name: &'static str) -> Self {
        Self { name, addl: String::new(), is_inside: true }
    }
}

const fn violation<'a>(reason: &'static str, shown: &'a [u8]) -> Found<'a> {
    Found::Violation(Cow::Borrowed(reason), shown)
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
///
/// # Errors
/// When it cannot be read: what is odd about it.
pub fn gre(bytes: &[u8]) -> Result<Inner<'_>, Odd> {
    const CUT: Odd = Odd::new("truncated_GRE");
    let (Some(flags), Some(kind)) = (be16(bytes, 0), be16(bytes, 2)) else { return Err(CUT) };
    let optional = [0x8000, 0x2000, 0x1000, 0x0080].iter().filter(|bit| flags & **bit != 0).count();
    let header_len = 4 + 4 * optional;
    let version = flags & 0x0007;
    let inner = match version {
        0 => gre_version_0(bytes, flags, kind, header_len).ok_or(CUT)?,
        1 if kind == 0x880b => Inner::Ip(bytes.get(header_len + 4..).unwrap_or_default()),
        1 => {
            let addl = format!("proto={kind}");
            return Err(Odd { addl, ..Odd::new("egre_protocol_type") });
        }
        _ => {
            let addl = format!("version={version}");
            return Err(Odd { addl, ..Odd::new("unknown_gre_version") });
        }
    };
    // Routing (obsolete) and reserved flags are not read.
    if flags & 0x4000 != 0 {
        return Err(Odd::new("gre_routing"));
    }
    if flags & 0x0078 != 0 {
        return Err(Odd::new("unknown_gre_flags"));
    }
    if version == 1 {
        let ppp = be16(bytes, header_len + 2).ok_or(CUT)?;
        let protocol = match ppp {
            0x0021 => proto::IPV4,
            0x0057 => proto::IPV6,
            _ => return Err(Odd::new("non_ip_packet_in_encap")),
        };
        let packet = bytes.get(header_len + 4..).ok_or(CUT)?;
        check_inner(packet, protocol).map_err(|fault| Odd::inside(fault.name()))?;
    }
    Ok(inner)
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
    let Some(frame) = bytes.get(HEADER_LEN..) else {
        return violation("VXLAN header truncation", bytes);
    };
    if bytes.first().is_none_or(|flags| flags & 0x08 == 0) {
        return violation("VXLAN 'I' flag not set", bytes);
    }
    match frame {
        [] => Found::OddTunnel("vxlan_empty_packet"),
        frame => Found::Inner(Inner::Ethernet(frame)),
    }
}

/// Geneve (RFC 8926).
pub fn geneve(bytes: &[u8]) -> Found<'_> {
    const HEADER_LEN: usize = 8;
    let (Some(&first), true) = (bytes.first(), bytes.len() >= HEADER_LEN) else {
        return violation("Geneve header truncation", bytes);
    };
    if first >> 6 != 0 {
        return Found::Odd("geneve_invalid_version", first >> 6);
    }
    let options_len = usize::from(first & 0x3f) * 4;
    match (bytes.get(HEADER_LEN + options_len..), be16(bytes, 2)) {
        (None, _) => violation("Geneve option header truncation", bytes),
        (Some([]), _) => Found::OddTunnel("geneve_empty_packet"),
        (Some(frame), Some(0x6558)) => Found::Inner(Inner::Ethernet(frame)),
        (Some(packet), Some(0x0800 | 0x86dd)) => Found::Inner(Inner::Ip(packet)),
        // Something that is not read; the tunnel is one all the same.
        _ => Found::Inner(Inner::Unread),
    }
}

/// GTP version 1 (3GPP TS 29.060 section 6): user packets. Reasons of violations name the
/// fields as Zeek's grammar does, with how many bytes they need and how many there are.
pub fn gtp(bytes: &[u8], is_in_gtp: bool) -> Found<'_> {
    const USER_PACKET: u8 = 255;
    let &[flags, kind, _, _, _, _, _, _, ..] = bytes else {
        return gtp_cut("GTPv1_Header:teid", 8, bytes.len());
    };
    let (version, is_gtp, has_extensions) = (flags >> 5, flags & 0x10 != 0, flags & 0x04 != 0);
    let mut rest = bytes.get(8..).unwrap_or_default();
    if flags & 0x07 != 0 {
        let have = rest.len();
        let Some(behind) = rest.get(4..) else { return gtp_cut("GTPv1_Opt_Header", 4, have) };
        rest = behind;
    }
    if has_extensions {
        rest = match behind_gtp_extensions(rest) {
            Ok(rest) => rest,
            Err(found) => return found,
        };
    }
    if is_in_gtp {
        return violation("GTP-in-GTP", &[]);
    }
    if version != 1 {
        return violation("GTPv1 bad Version", &[]);
    }
    if !is_gtp || kind != USER_PACKET {
        return Found::Nothing;
    }
    gtp_packet(rest)
}

/// What lies behind the extension headers at the begin of `rest`, the last of which names no
/// next one.
fn behind_gtp_extensions(mut rest: &[u8]) -> Result<&[u8], Found<'_>> {
    loop {
        let have = rest.len();
        let Some(&units) = rest.first() else {
            return Err(gtp_cut("GTPv1_Ext_Header:length", 1, 0));
        };
        let len = usize::from(units) * 4;
        if len == 0 {
            let reason = "Binpac exception: binpac exception: invalid_string_length: -2";
            return Err(violation(reason, &[]));
        }
        if len == have + 1 {
            return Err(gtp_cut("GTPv1_Ext_Header:next_type", len, have));
        }
        if len > have {
            return Err(gtp_cut("GTPv1_Ext_Header:contents", len - 1, have));
        }
        let next = rest.get(len - 1).copied().unwrap_or_default();
        rest = rest.get(len..).unwrap_or_default();
        if next == 0 {
            return Ok(rest);
        }
    }
}

fn gtp_cut<'a>(field: &str, need: usize, have: usize) -> Found<'a> {
    let what = format!("out_of_bound: {field}: {need} > {have}");
    Found::Violation(format!("Binpac exception: binpac exception: {what}").into(), &[])
}

fn gtp_packet(packet: &[u8]) -> Found<'_> {
    const IPV4_LEN_MIN: usize = 20;
    if packet.len() < IPV4_LEN_MIN {
        return violation("Truncated GTPv1", &[]);
    }
    let version = match packet.first().map(|first| first >> 4) {
        Some(4) => proto::IPV4,
        Some(6) => proto::IPV6,
        _ => return violation("non-IP packet in GTPv1", &[]),
    };
    match check_inner(packet, version) {
        Ok(()) => Found::Inner(Inner::Ip(packet)),
        Err(InnerFault::Version) => violation("Invalid IP version in wrapped packet", &[]),
        Err(InnerFault::Cut) => violation("Truncated GTPv1", &[]),
        Err(InnerFault::Longer) => violation("GTPv1 payload length", &[]),
    }
}

/// Why a connection is not Teredo, in Zeek's words.
pub const BAD_TEREDO: &str = "Bad Teredo encapsulation";

/// Teredo (RFC 4380 section 5.1.1): authentication and origin before an IPv6 packet.
pub fn teredo(bytes: &[u8]) -> Found<'_> {
    let packet = match behind_teredo_headers(bytes, false, false) {
        Ok(packet) => packet,
        Err(Some(cut)) => return Found::Cut(cut, bytes),
        Err(None) => return violation(BAD_TEREDO, bytes),
    };
    // Zeek shows the datagram from its begin, as long as the packet inside.
    let shown = bytes.get(..packet.len()).unwrap_or(bytes);
    match check_inner(packet, proto::IPV6) {
        Ok(()) => Found::Inner(Inner::Ip(packet)),
        Err(InnerFault::Longer) => {
            let is_bubble = IpPacket::parse(packet)
                .is_ok_and(|inner| inner.next_proto == proto::NONE && inner.payload_len == 0);
            if is_bubble {
                Found::OddInner("Teredo_bubble_with_payload", Inner::Ip(packet))
            } else {
                violation("Teredo payload length", shown)
            }
        }
        Err(_) => violation("Truncated Teredo or invalid inner IP version", shown),
    }
}

/// The error is the name of what is cut, if something is.
fn behind_teredo_headers(
    bytes: &[u8],
    origin: bool,
    authentication: bool,
) -> Result<&[u8], Option<&'static str>> {
    const IPV6_HEADER_LEN: usize = 40;
    match be16(bytes, 0).ok_or(Some("truncated_Teredo"))? {
        0 if !origin => {
            let behind = bytes.get(8..).ok_or(Some("truncated_Teredo_origin_indication"))?;
            behind_teredo_headers(behind, true, authentication)
        }
        1 if !origin && !authentication => {
            let behind = match bytes {
                [_, _, id_len, value_len, ..] => {
                    bytes.get(13 + usize::from(*id_len) + usize::from(*value_len)..)
                }
                _ => None,
            };
            let behind = behind.ok_or(Some("truncated_Teredo_authentication"))?;
            behind_teredo_headers(behind, origin, true)
        }
        tag if tag >> 12 == 6 && bytes.len() >= IPV6_HEADER_LEN => Ok(bytes),
        tag if tag >> 12 == 6 => Err(Some("truncated_IPv6_in_Teredo")),
        _ => Err(None),
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
        return violation("Truncated AYIYA", &[]);
    };
    let header_len = 8 + (1_usize << (identity >> 4)) + usize::from(signature >> 4) * 4;
    let Some(packet) = bytes.get(header_len..) else { return violation("Truncated AYIYA", &[]) };
    if operation & 0x0f != FORWARD {
        return Found::Nothing;
    }
    match (packet, next) {
        ([], _) => Found::OddTunnel("ayiya_empty_packet"),
        (packet, proto::IPV4 | proto::IPV6) => Found::Inner(Inner::Ip(packet)),
        _ => Found::Inner(Inner::Unread),
    }
}

/// Whether a datagram on any port looks like AYIYA as its clients send it.
pub fn looks_like_ayiya(bytes: &[u8]) -> bool {
    bytes.get(1..3) == Some(&[0x52, 0x11])
}

/// Why what a tunnel carries is not exactly one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InnerFault {
    /// It is not of the IP version that it should be.
    Version,
    /// It is not there as a whole.
    Cut,
    /// More than the packet is there.
    Longer,
}

impl InnerFault {
    /// Zeek's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Version => "invalid_inner_IP_version",
            Self::Cut => "truncated_inner_IP",
            Self::Longer => "inner_IP_payload_length_mismatch",
        }
    }
}

/// Checks that `bytes` are exactly one packet of the IP version that `protocol` says.
///
/// # Errors
/// When they are not.
pub fn check_inner(bytes: &[u8], protocol: u8) -> Result<(), InnerFault> {
    const IPV4_LEN_MIN: usize = 20;
    const IPV6_LEN_MIN: usize = 40;
    let is_v4 = protocol == proto::IPV4;
    if !is_v4 && bytes.len() < IPV6_LEN_MIN {
        return Err(InnerFault::Cut);
    }
    let version = bytes.first().map(|first| first >> 4);
    if version != Some(if is_v4 { 4 } else { 6 }) || bytes.len() < IPV4_LEN_MIN {
        return Err(InnerFault::Version);
    }
    let packet = IpPacket::parse(bytes).map_err(|_| InnerFault::Cut)?;
    match (packet.total_len as usize).cmp(&bytes.len()) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(InnerFault::Cut),
        Ordering::Less => Err(InnerFault::Longer),
    }
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
            assert_eq!(gre(&[header, packet.clone()].concat()), Ok(Inner::Ip(&packet)));
        }
        let name = |bytes: &[u8]| gre(bytes).unwrap_err().name;
        assert_eq!(name(&[&[0x40, 0, 8, 0][..], &packet].concat()), "gre_routing");
        assert_eq!(name(&[&[0, 8, 8, 0][..], &packet].concat()), "unknown_gre_flags");
        assert_eq!(name(&[&[0, 2, 8, 0][..], &packet].concat()), "unknown_gre_version");
        assert_eq!(name(&[0x30, 0, 8, 0]), "truncated_GRE");
    }

    /// RFC 2637 section 4.1: version 1 carries PPP.
    #[test]
    fn gre_version_1_carries_ip_behind_ppp() {
        let packet = ipv4();
        let header = [0x20, 0x01, 0x88, 0x0b, 0, 0, 0, 0, 0xff, 0x03, 0x00, 0x21];
        assert_eq!(gre(&[&header[..], &packet].concat()), Ok(Inner::Ip(&packet)));
        let odd = gre(&[&header[..], &packet, &[0]].concat()).unwrap_err();
        assert_eq!((odd.name, odd.is_inside), ("inner_IP_payload_length_mismatch", true));
    }

    #[test]
    fn vxlan_without_its_flag_is_no_vxlan() {
        let frame = [0; 20];
        let bytes = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame].concat();
        assert_eq!(vxlan(&bytes), Found::Inner(Inner::Ethernet(&frame)));
        assert!(matches!(vxlan(&[0; 28]), Found::Violation(..)));
        assert_eq!(vxlan(&bytes[..8]), Found::OddTunnel("vxlan_empty_packet"));
    }

    #[test]
    fn geneve_options_are_skipped() {
        let packet = ipv4();
        let bytes = [&[1, 0, 8, 0, 0, 0, 1, 0, 9, 9, 9, 9][..], &packet].concat();
        assert_eq!(geneve(&bytes), Found::Inner(Inner::Ip(&packet)));
        assert!(matches!(geneve(&bytes[..10]), Found::Violation(..)));
        assert_eq!(geneve(&[0x40; 8]), Found::Odd("geneve_invalid_version", 1));
    }

    #[test]
    fn gtp_extension_headers_are_skipped() {
        let packet = ipv4();
        let plain = [&[0x30, 255, 0, 20, 0, 0, 0, 1][..], &packet].concat();
        assert_eq!(gtp(&plain, false), Found::Inner(Inner::Ip(&packet)));
        let extended =
            [&[0x34, 255, 0, 28, 0, 0, 0, 1, 0, 0, 0, 0x85][..], &[1, 0, 9, 0], &packet].concat();
        assert_eq!(gtp(&extended, false), Found::Inner(Inner::Ip(&packet)));
        let reason = |bytes: &[u8], is_in_gtp| match gtp(bytes, is_in_gtp) {
            Found::Violation(reason, _) => reason.into_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(&[&plain[..], &[0]].concat(), false), "GTPv1 payload length");
        assert_eq!(reason(&plain, true), "GTP-in-GTP");
        assert!(reason(&extended[..8], false).ends_with("GTPv1_Opt_Header: 4 > 0"));
        let far = [&extended[..12], &[189, 0, 0]].concat();
        assert!(reason(&far, false).ends_with("GTPv1_Ext_Header:contents: 755 > 3"));
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
        let longer = [&packet[..], &[0]].concat();
        assert!(matches!(teredo(&longer), Found::Violation(..)));
        let bubble = [ipv6(0), vec![0]].concat();
        assert!(matches!(teredo(&bubble), Found::OddInner("Teredo_bubble_with_payload", _)));
    }

    #[test]
    fn teredo_that_is_cut_is_told_by_what_is() {
        let cut = |bytes: &[u8]| match teredo(bytes) {
            Found::Cut(name, _) => name,
            _ => "",
        };
        assert_eq!(cut(&[0]), "truncated_Teredo");
        assert_eq!(cut(&[0, 0, 1, 2, 3, 4, 5]), "truncated_Teredo_origin_indication");
        assert_eq!(cut(&[0, 1, 2]), "truncated_Teredo_authentication");
        assert_eq!(cut(&[0, 1, 2, 1, 7, 7, 7, 0]), "truncated_Teredo_authentication");
        assert_eq!(cut(&[0x60; 39]), "truncated_IPv6_in_Teredo");
        assert_eq!(cut(&[0x45; 39]), "");
    }

    #[test]
    fn ayiya_forwards_ip_only() {
        let packet = ipv6(0);
        let header = [&[0x41, 0x52, 0x11, 41, 0, 0, 0, 0][..], &[0; 16 + 20]].concat();
        let bytes = [header, packet.clone()].concat();
        assert!(looks_like_ayiya(&bytes));
        assert_eq!(ayiya(&bytes), Found::Inner(Inner::Ip(&packet)));
        assert!(matches!(ayiya(&bytes[..20]), Found::Violation(..)));
    }
}
