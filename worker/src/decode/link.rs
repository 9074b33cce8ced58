//! Link layers: from the first byte of a frame to the IP packets inside, by Zeek's tables of what
//! may stand behind what.

use super::{be16, be32, wlan};
use tyto_capture::LinkType;

/// Layers below IP that one frame may have (Zeek: `PacketAnalyzer::max_depth`).
const LAYERS_MAX: usize = 25;

/// A layer below IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Ethernet,
    Vlan,
    Mpls,
    Snap,
    Pbb,
    Pppoe,
    VnTag,
    Null,
    Loop,
    Ppp,
    PppSerial,
    PppPppd,
    PppWithDir,
    Sll,
    Sll2,
    Nflog,
    Fddi,
    Wlan,
    Radiotap,
    Ip,
}

/// Calls `found` with each IP packet in `frame`, as far as it was captured; whether it is IP at
/// all is for the caller to see. Only 802.11 carries more than one.
pub fn ip_packets<'a>(link_type: LinkType, frame: &'a [u8], mut found: impl FnMut(&'a [u8])) {
    if let Some(layer) = first_layer(link_type) {
        walk(layer, frame, &mut found);
    }
}

/// Where a frame of this link type begins; none for those that are not read
/// ([`super::link_type`]).
const fn first_layer(link_type: LinkType) -> Option<Layer> {
    Some(match link_type {
        LinkType::ETHERNET => Layer::Ethernet,
        LinkType::NULL => Layer::Null,
        LinkType::LOOP => Layer::Loop,
        LinkType::PPP => Layer::Ppp,
        LinkType::PPP_SERIAL | LinkType::C_HDLC => Layer::PppSerial,
        LinkType::PPP_PPPD => Layer::PppPppd,
        LinkType::PPP_WITH_DIR => Layer::PppWithDir,
        LinkType::PPP_ETHER => Layer::Pppoe,
        LinkType::MPLS => Layer::Mpls,
        LinkType::FDDI => Layer::Fddi,
        LinkType::LINUX_SLL => Layer::Sll,
        LinkType::LINUX_SLL2 => Layer::Sll2,
        LinkType::NFLOG => Layer::Nflog,
        LinkType::IEEE802_11 => Layer::Wlan,
        LinkType::IEEE802_11_RADIO => Layer::Radiotap,
        LinkType::RAW
        | LinkType::RAW_BSD
        | LinkType::RAW_OPENBSD
        | LinkType::IPV4
        | LinkType::IPV6 => Layer::Ip,
        _ => return None,
    })
}

fn walk<'a>(mut layer: Layer, mut bytes: &'a [u8], found: &mut impl FnMut(&'a [u8])) {
    for _ in 0..LAYERS_MAX {
        let next = match layer {
            Layer::Ip => return found(bytes),
            Layer::Wlan => return wlan::ip_packets(bytes, found),
            Layer::Ethernet => ethernet(bytes),
            Layer::Vlan => vlan(bytes),
            Layer::Mpls => mpls(bytes),
            Layer::Snap => snap(bytes),
            // The tag lies before an Ethernet header that begins with the inner addresses.
            Layer::Pbb => behind(bytes, 4, 18, Some(Layer::Ethernet)),
            Layer::Pppoe => pppoe(bytes),
            Layer::VnTag => behind(bytes, 6, 6, be16(bytes, 4).and_then(of_vntag)),
            Layer::Null => behind(bytes, 4, 4, bytes.first_chunk().and_then(of_family)),
            Layer::Loop => behind(bytes, 4, 4, be32(bytes, 0).and_then(of_family_number)),
            Layer::Ppp => ppp(bytes),
            Layer::PppSerial => ppp_serial(bytes),
            Layer::PppPppd => behind(bytes, 4, 4, be16(bytes, 2).and_then(of_ppp)),
            Layer::PppWithDir => behind(bytes, 1, 1, Some(Layer::Ppp)),
            // A cooked capture of all interfaces has the tag of a trunk behind its header.
            Layer::Sll => behind(bytes, 16, 16, be16(bytes, 14).and_then(of_ethernet)),
            Layer::Sll2 => behind(bytes, 20, 20, be16(bytes, 0).and_then(of_ethernet)),
            Layer::Nflog => nflog(bytes),
            Layer::Fddi => behind(bytes, 21, 21, Some(Layer::Ip)),
            Layer::Radiotap => radiotap(bytes),
        };
        let Some(next) = next else { return };
        (layer, bytes) = next;
    }
}

type Next<'a> = Option<(Layer, &'a [u8])>;

/// What lies `skip` bytes further, if more than `header_len` bytes are there.
fn behind(bytes: &[u8], skip: usize, header_len: usize, layer: Option<Layer>) -> Next<'_> {
    if bytes.len() <= header_len {
        return None;
    }
    Some((layer?, bytes.get(skip..)?))
}

fn ethernet(mut bytes: &[u8]) -> Next<'_> {
    if bytes.len() <= 16 {
        return None;
    }
    // Cisco FabricPath: an outer header of 16 bytes with its own ether type.
    if be16(bytes, 12) == Some(0x8903) {
        if bytes.len() <= 16 + 14 {
            return None;
        }
        bytes = bytes.get(16..)?;
    }
    let kind = be16(bytes, 12)?;
    let rest = bytes.get(14..)?;
    match kind {
        1536.. => Some((of_ethernet(kind)?, rest)),
        ..=1500 => ieee802_3(kind, rest),
        _ => None,
    }
}

fn vlan(bytes: &[u8]) -> Next<'_> {
    if bytes.len() <= 4 {
        return None;
    }
    let kind = be16(bytes, 2)?;
    let rest = bytes.get(4..)?;
    match kind {
        1536.. => Some((of_vlan(kind)?, rest)),
        ..=1500 => ieee802_3(kind, rest),
        _ => None,
    }
}

/// A length instead of a type: what follows is LLC, of which only SNAP leads to IP.
fn ieee802_3(len: u16, rest: &[u8]) -> Next<'_> {
    let rest = rest.get(..usize::from(len)).unwrap_or(rest);
    rest.starts_with(&[0xaa, 0xaa]).then_some((Layer::Snap, rest))
}

fn mpls(mut bytes: &[u8]) -> Next<'_> {
    loop {
        if bytes.len() <= 4 {
            return None;
        }
        let bottom_of_stack = bytes.get(2)? & 1 != 0;
        bytes = bytes.get(4..)?;
        if bottom_of_stack {
            return Some((Layer::Ip, bytes));
        }
    }
}

fn snap(bytes: &[u8]) -> Next<'_> {
    // The control field has one byte in unnumbered frames, two in others.
    let llc_len = if bytes.get(2)? & 0x03 == 0x03 { 3 } else { 4 };
    let snap = bytes.get(llc_len..)?;
    if snap.get(..3)? != [0, 0, 0] {
        return None;
    }
    Some((of_ip(be16(snap, 3)?)?, snap.get(5..)?))
}

fn pppoe(bytes: &[u8]) -> Next<'_> {
    if bytes.len() <= 8 {
        return None;
    }
    let payload_len = usize::from(be16(bytes, 4)?).saturating_sub(2);
    let layer = match be16(bytes, 6)? {
        0x0021 | 0x0057 => Layer::Ip,
        _ => return None,
    };
    let rest = bytes.get(8..)?;
    Some((layer, rest.get(..payload_len).unwrap_or(rest)))
}

fn ppp(bytes: &[u8]) -> Next<'_> {
    let at = if bytes.starts_with(&[0xff, 0x03]) { 2 } else { 0 };
    let first = *bytes.get(at)?;
    // Protocol field compression (RFC 1661 section 6.5): an odd first byte is all of it.
    let (protocol, len) =
        if first & 1 == 1 { (u16::from(first), 1) } else { (be16(bytes, at)?, 2) };
    behind(bytes, at + len, at + len, of_ppp(protocol))
}

/// Cisco's framing (address 0x0f or 0x8f) has an ether type, PPP's a PPP protocol. Both are
/// taken with either address, as captures mix them up; no number means two things.
fn ppp_serial(bytes: &[u8]) -> Next<'_> {
    let kind = be16(bytes, 2)?;
    behind(bytes, 4, 4, of_ppp(kind).or_else(|| of_vlan(kind)))
}

fn nflog(bytes: &[u8]) -> Next<'_> {
    const PAYLOAD: u16 = 9;
    if bytes.len() <= 4 || *bytes.get(1)? != 0 {
        return None;
    }
    let layer = match bytes.first()? {
        2 | 10 => Layer::Ip,
        _ => return None,
    };
    let mut rest = bytes.get(4..)?;
    loop {
        if rest.len() <= 4 {
            return None;
        }
        // Lengths and types are in the byte order of the capturing host: little endian.
        let len = u16::from_le_bytes(*rest.first_chunk()?);
        let kind = u16::from_le_bytes(*rest.get(2..)?.first_chunk()?);
        if kind == PAYLOAD {
            return Some((layer, rest.get(4..)?));
        }
        if len < 4 {
            return None;
        }
        rest = rest.get(usize::from(len).next_multiple_of(4)..)?;
    }
}

fn radiotap(bytes: &[u8]) -> Next<'_> {
    let len = usize::from(u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?));
    if len >= bytes.len() {
        return None;
    }
    Some((Layer::Wlan, bytes.get(len..)?))
}

fn of_ethernet(kind: u16) -> Option<Layer> {
    match kind {
        0x88a8 | 0x9100 => Some(Layer::Vlan),
        _ => of_vlan(kind),
    }
}

fn of_vlan(kind: u16) -> Option<Layer> {
    match kind {
        0x8847 => Some(Layer::Mpls),
        0x88e7 => Some(Layer::Pbb),
        0x8100 => Some(Layer::Vlan),
        0x8864 => Some(Layer::Pppoe),
        0x8926 => Some(Layer::VnTag),
        _ => of_ip(kind),
    }
}

fn of_vntag(kind: u16) -> Option<Layer> {
    matches!(kind, 0x8100 | 0x88a8 | 0x9100).then_some(Layer::Vlan)
}

fn of_ip(kind: u16) -> Option<Layer> {
    matches!(kind, 0x0800 | 0x86dd).then_some(Layer::Ip)
}

fn of_ppp(kind: u16) -> Option<Layer> {
    match kind {
        0x0021 | 0x0057 => Some(Layer::Ip),
        0x0281 => Some(Layer::Mpls),
        _ => None,
    }
}

/// An address family in the byte order of a host that we do not know: it is a small number in
/// one of both.
fn of_family(family: &[u8; 4]) -> Option<Layer> {
    let number = u32::from_le_bytes(*family);
    of_family_number(if number > 0xffff { number.swap_bytes() } else { number })
}

/// AF_INET, and AF_INET6 as Linux, NetBSD, FreeBSD and macOS number it.
fn of_family_number(number: u32) -> Option<Layer> {
    matches!(number, 2 | 10 | 24 | 28 | 30).then_some(Layer::Ip)
}

#[cfg(test)]
mod tests {
    use super::super::link_type;
    use super::*;

    /// Stands for an IP packet: nothing here looks into it.
    const IP: [u8; 3] = [0x45, 1, 2];

    fn found(link_type: LinkType, frame: &[u8]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        ip_packets(link_type, frame, |ip| packets.push(ip.to_vec()));
        packets
    }

    fn ether(parts: &[&[u8]]) -> Vec<u8> {
        [&[0; 12][..], &parts.concat(), &IP].concat()
    }

    #[test]
    fn layers_behind_ethernet_lead_to_ip() {
        let frames = [
            ether(&[&[0x08, 0x00]]),
            ether(&[&[0x86, 0xdd]]),
            ether(&[&[0x81, 0, 0, 1, 0x08, 0]]),
            ether(&[&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x08, 0]]),
            ether(&[&[0x88, 0x47, 0, 0, 0, 9, 0, 0, 1, 9, 0x08, 0][..10]]),
            ether(&[&[0x88, 0x64, 0x11, 0, 0, 1, 0, 5, 0, 0x21]]),
            ether(&[&[0x89, 0x26, 0, 0, 0, 0, 0x81, 0, 0, 1, 0x08, 0]]),
            ether(&[&[0, 11, 0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0]]),
        ];
        for frame in frames {
            assert_eq!(found(LinkType::ETHERNET, &frame), [IP], "{frame:02x?}");
        }
    }

    #[test]
    fn what_is_not_ip_leads_nowhere() {
        for kind in [0x0806_u16, 0x88cc, 0x05ff, 0x0100] {
            assert!(found(LinkType::ETHERNET, &ether(&[&kind.to_be_bytes(), &[0; 8]])).is_empty());
        }
    }

    #[test]
    fn other_link_types_lead_to_ip() {
        let sll = [&[0; 14][..], &[0x08, 0], &IP].concat();
        assert_eq!(found(LinkType::LINUX_SLL, &sll), [IP]);
        let sll2 = [&[0x86, 0xdd][..], &[0; 18], &IP].concat();
        assert_eq!(found(LinkType::LINUX_SLL2, &sll2), [IP]);
        assert_eq!(found(LinkType::NULL, &[&[30, 0, 0, 0][..], &IP].concat()), [IP]);
        assert_eq!(found(LinkType::PPP, &[&[0xff, 3, 0, 0x21][..], &IP].concat()), [IP]);
        assert_eq!(found(LinkType::PPP, &[&[0, 0x57][..], &IP].concat()), [IP]);
        assert_eq!(found(LinkType::PPP_SERIAL, &[&[0x0f, 0, 0, 0x21][..], &IP].concat()), [IP]);
        assert_eq!(found(LinkType::RAW, &IP), [IP]);
        for raw in [LinkType::RAW_BSD, LinkType::RAW_OPENBSD, LinkType::IPV4, LinkType::IPV6] {
            assert_eq!(found(raw, &IP), [IP]);
        }
        let nflog = [&[2, 0, 0, 0, 6, 0, 10, 0, 1, 1, 0, 0, 7, 0, 9, 0][..], &IP].concat();
        assert_eq!(found(LinkType::NFLOG, &nflog), [IP]);
    }

    #[test]
    fn loopback_tells_the_family_in_the_byte_order_of_its_host() {
        for family in [[2, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0, 24], [28, 0, 0, 0]] {
            assert_eq!(found(LinkType::NULL, &[&family[..], &IP].concat()), [IP]);
        }
        assert_eq!(found(LinkType::LOOP, &[&[0, 0, 0, 2][..], &IP].concat()), [IP]);
        assert_eq!(found(LinkType::LOOP, &[&[0, 0, 0, 24][..], &IP].concat()), [IP]);
        assert!(found(LinkType::LOOP, &[&[2, 0, 0, 0][..], &IP].concat()).is_empty());
        assert!(found(LinkType::NULL, &[&[7, 0, 0, 0][..], &IP].concat()).is_empty());
    }

    #[test]
    fn every_framing_of_ppp_leads_to_ip() {
        let frames: [(LinkType, &[u8]); 11] = [
            (LinkType::PPP, &[0xff, 0x03, 0x00, 0x21]),
            (LinkType::PPP, &[0x00, 0x57]),
            (LinkType::PPP, &[0x21]),
            (LinkType::PPP, &[0xff, 0x03, 0x21]),
            (LinkType::PPP_SERIAL, &[0xff, 0x03, 0x00, 0x57]),
            (LinkType::PPP_SERIAL, &[0x8f, 0x00, 0x08, 0x00]),
            (LinkType::C_HDLC, &[0x0f, 0x00, 0x86, 0xdd]),
            (LinkType::PPP_PPPD, &[0x01, 0x03, 0x00, 0x21]),
            (LinkType::PPP_WITH_DIR, &[0x00, 0xff, 0x03, 0x00, 0x21]),
            (LinkType::PPP_WITH_DIR, &[0x01, 0x00, 0x57]),
            (LinkType::PPP_ETHER, &[0x11, 0, 0, 7, 0, 5, 0x00, 0x21]),
        ];
        for (link_type, header) in frames {
            let frame = [header, &IP].concat();
            assert_eq!(found(link_type, &frame), [IP], "{link_type:?} {header:02x?}");
        }
        // Link control, not IP.
        assert!(found(LinkType::PPP, &[&[0xc0, 0x21][..], &IP].concat()).is_empty());
    }

    #[test]
    fn a_cooked_capture_of_a_trunk_leads_to_ip() {
        let tagged = [0x00, 0x07, 0x08, 0x00];
        let sll = [&[0; 14][..], &[0x81, 0x00], &tagged, &IP].concat();
        assert_eq!(found(LinkType::LINUX_SLL, &sll), [IP]);
        let sll2 = [&[0x81, 0x00][..], &[0; 18], &tagged, &IP].concat();
        assert_eq!(found(LinkType::LINUX_SLL2, &sll2), [IP]);
    }

    #[test]
    fn radio_headers_and_labels_lead_to_ip() {
        let wlan = [&[0x08, 1][..], &[0; 22], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &IP].concat();
        assert_eq!(found(LinkType::IEEE802_11, &wlan), [IP]);
        let radiotap = [&[0, 0, 8, 0, 0, 0, 0, 0][..], &wlan].concat();
        assert_eq!(found(LinkType::IEEE802_11_RADIO, &radiotap), [IP]);
        let labels = [&[0, 0, 0x10, 0xff, 0, 0, 0x21, 0xff][..], &IP].concat();
        assert_eq!(found(LinkType::MPLS, &labels), [IP]);
    }

    #[test]
    fn a_link_type_has_a_way_to_ip_exactly_when_it_is_read() {
        for number in 0..=400 {
            let link_type = LinkType(number);
            let is_read = link_type::check(link_type).is_ok();
            assert_eq!(first_layer(link_type).is_some(), is_read, "{number}");
        }
    }

    #[test]
    fn the_length_of_pppoe_cuts_padding() {
        let padded = [ether(&[&[0x88, 0x64, 0x11, 0, 0, 1, 0, 5, 0, 0x21]]), vec![0; 9]].concat();
        assert_eq!(found(LinkType::ETHERNET, &padded), [IP]);
    }

    #[test]
    fn tags_without_end_stop_at_the_limit() {
        let frame = ether(&[&[0x81, 0, 0, 1].repeat(LAYERS_MAX + 5), &[0x08, 0]]);
        assert!(found(LinkType::ETHERNET, &frame).is_empty());
    }
}
