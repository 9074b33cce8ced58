//! Link layers: from the first byte of a frame to the IP packets inside, by Zeek's tables of what
//! may stand behind what.

use super::{be16, wlan};
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
    Ppp,
    PppSerial,
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
    let layer = match link_type {
        LinkType::ETHERNET => Layer::Ethernet,
        LinkType::NULL => Layer::Null,
        LinkType::PPP => Layer::Ppp,
        LinkType::PPP_SERIAL => Layer::PppSerial,
        LinkType::FDDI => Layer::Fddi,
        LinkType::LINUX_SLL => Layer::Sll,
        LinkType::LINUX_SLL2 => Layer::Sll2,
        LinkType::NFLOG => Layer::Nflog,
        LinkType::IEEE802_11 => Layer::Wlan,
        LinkType::IEEE802_11_RADIO => Layer::Radiotap,
        // Zeek takes whatever it does not know as IP.
        _ => Layer::Ip,
    };
    walk(layer, frame, &mut found);
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
            Layer::Ppp => ppp(bytes),
            Layer::PppSerial => behind(bytes, 4, 4, be16(bytes, 2).and_then(of_ppp)),
            Layer::Sll => behind(bytes, 16, 16, be16(bytes, 14).and_then(of_ip)),
            Layer::Sll2 => behind(bytes, 20, 20, be16(bytes, 0).and_then(of_ip)),
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
    if bytes.starts_with(&[0xff, 0x03]) {
        return behind(bytes, 4, 4, be16(bytes, 2).and_then(of_ppp));
    }
    behind(bytes, 2, 2, be16(bytes, 0).and_then(of_ppp))
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

/// AF_INET, and AF_INET6 as NetBSD, FreeBSD and macOS number it.
fn of_family(family: &[u8; 4]) -> Option<Layer> {
    matches!(u32::from_le_bytes(*family), 2 | 24 | 28 | 30).then_some(Layer::Ip)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(found(LinkType(12), &IP), [IP]);
        let nflog = [&[2, 0, 0, 0, 6, 0, 10, 0, 1, 1, 0, 0, 7, 0, 9, 0][..], &IP].concat();
        assert_eq!(found(LinkType::NFLOG, &nflog), [IP]);
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
