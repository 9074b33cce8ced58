//! Link layers: from the first byte of a frame to the IP packets inside, by Zeek's tables of what
//! may stand behind what.
//!
//! Longer than 500 lines: every link layer stands beside the others, a function each.

use super::{be16, wlan};
use tyto_capture::LinkType;

/// Layers below IP that one frame may have (Zeek: `PacketAnalyzer::max_depth`).
const LAYERS_MAX: usize = 25;

/// Length of Ethernet's header, bytes.
const ETHERNET_HEADER_LEN: usize = 14;
/// Frames of Ethernet that are not longer are cut, bytes.
const ETHERNET_LEN_MIN: usize = 16;

/// A layer below IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Ethernet,
    Vlan,
    Mpls,
    Llc,
    Snap,
    Novell,
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
    Arp,
    Ip,
}

/// What is found in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFound<'a> {
    /// An IP packet, as far as it was captured; whether it is IP at all is for the caller to see.
    Ip(&'a [u8]),
    /// Something odd, by Zeek's name, with a word more, in the layer called so.
    Odd(&'static str, &'static str, &'static str),
    /// The last of the layers names a protocol that nobody knows; what it carries of it.
    Unknown(Path, u64, &'a [u8]),
}

/// The layers that led to a place, the outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    layers: [Layer; LAYERS_MAX],
    len: usize,
}

impl Path {
    /// Zeek's names of the layers.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &'static str> {
        self.layers.iter().take(self.len).map(|layer| layer.name())
    }
}

/// What a layer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'a> {
    Next(Layer, &'a [u8]),
    Odd(&'static str),
    Unknown(u64, &'a [u8]),
    Nothing,
}

/// Calls `found` with what is in `frame`. Only 802.11 carries more than one packet.
pub fn ip_packets<'a>(link_type: LinkType, frame: &'a [u8], mut found: impl FnMut(LinkFound<'a>)) {
    // Nearly all frames: IP in Ethernet, and the walk would find no more.
    if link_type == LinkType::ETHERNET
        && frame.len() > ETHERNET_LEN_MIN
        && matches!(be16(frame, 12), Some(0x0800 | 0x86dd))
        && let Some(packet) = frame.get(ETHERNET_HEADER_LEN..)
    {
        return found(LinkFound::Ip(packet));
    }
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

impl Layer {
    /// The layer as Zeek calls its analyzer.
    const fn name(self) -> &'static str {
        match self {
            Self::Ethernet => "ETHERNET",
            Self::Vlan => "VLAN",
            Self::Mpls => "MPLS",
            Self::Llc => "LLC",
            Self::Snap => "SNAP",
            Self::Novell => "NOVELL_802_3",
            Self::Pbb => "PBB",
            Self::Pppoe => "PPPOE",
            Self::VnTag => "VNTAG",
            Self::Null | Self::Loop => "NULL",
            Self::Ppp | Self::PppWithDir => "PPP",
            Self::PppSerial | Self::PppPppd => "PPPSERIAL",
            Self::Sll => "LINUXSLL",
            Self::Sll2 => "LINUXSLL2",
            Self::Nflog => "NFLOG",
            Self::Fddi => "FDDI",
            Self::Wlan => "IEEE802_11",
            Self::Radiotap => "IEEE802_11_RADIO",
            Self::Arp => "ARP",
            Self::Ip => "IP",
        }
    }
}

fn walk<'a>(mut layer: Layer, mut bytes: &'a [u8], found: &mut impl FnMut(LinkFound<'a>)) {
    let mut tags = 0;
    let mut path = Path { layers: [layer; LAYERS_MAX], len: 0 };
    for depth in 1..=LAYERS_MAX {
        if let Some(place) = path.layers.get_mut(path.len) {
            *place = layer;
            path.len = depth;
        }
        if layer == Layer::Vlan && bytes.len() > 4 {
            tags += 1;
            if tags > 2 {
                let more = "inner VLAN tag overwritten";
                found(LinkFound::Odd("triple_tagged_vlan_unsupported", more, layer.name()));
            }
        }
        let step = match layer {
            Layer::Ip => return found(LinkFound::Ip(bytes)),
            Layer::Wlan => return wlan::ip_packets(path, bytes, found),
            Layer::Pppoe => pppoe(bytes, found),
            _ => step(layer, bytes),
        };
        match step {
            Step::Next(..) | Step::Unknown(..) if depth == LAYERS_MAX => {
                let name = "max_packet_analyzer_depth_exceeded";
                return found(LinkFound::Odd(name, "", layer.name()));
            }
            Step::Next(next, rest) => (layer, bytes) = (next, rest),
            Step::Odd(name) => return found(LinkFound::Odd(name, "", layer.name())),
            Step::Unknown(protocol, rest) => {
                return found(LinkFound::Unknown(path, protocol, rest));
            }
            Step::Nothing => return,
        }
    }
}

fn step(layer: Layer, bytes: &[u8]) -> Step<'_> {
    match layer {
        Layer::Ethernet => ethernet(bytes),
        Layer::Vlan => vlan(bytes),
        Layer::Mpls => mpls(bytes),
        Layer::Llc => llc(bytes),
        Layer::Snap => snap(bytes),
        // The tag lies before an Ethernet header that begins with the inner addresses.
        Layer::Pbb if bytes.len() <= 18 => Step::Odd("truncated_PBB_header"),
        Layer::Pbb => next(Layer::Ethernet, bytes, 4),
        Layer::VnTag => by_type(bytes, 4, 6, of_vntag, "truncated_vntag_header"),
        Layer::Null | Layer::Loop => loopback(layer, bytes),
        Layer::Ppp => ppp(bytes),
        Layer::PppSerial => ppp_serial(bytes),
        Layer::PppPppd => by_type(bytes, 2, 4, of_ppp, "truncated_ppp_serial_header"),
        Layer::PppWithDir if bytes.len() <= 1 => Step::Odd("truncated_ppp_header"),
        Layer::PppWithDir => next(Layer::Ppp, bytes, 1),
        // A cooked capture of all interfaces has the tag of a trunk behind its header.
        Layer::Sll => by_type(bytes, 14, 16, of_ethernet, "truncated_Linux_SLL_header"),
        Layer::Sll2 => by_type(bytes, 0, 20, of_ethernet, "truncated_Linux_SLL2_header"),
        Layer::Nflog => nflog(bytes),
        Layer::Fddi if bytes.len() <= 21 => Step::Odd("FDDI_analyzer_failed"),
        Layer::Fddi => next(Layer::Ip, bytes, 21),
        Layer::Radiotap => radiotap(bytes),
        Layer::Arp => arp(bytes),
        Layer::Ip | Layer::Novell | Layer::Pppoe | Layer::Wlan => Step::Nothing,
    }
}

/// `layer` begins `skip` bytes further.
fn next(layer: Layer, bytes: &[u8], skip: usize) -> Step<'_> {
    bytes.get(skip..).map_or(Step::Nothing, |rest| Step::Next(layer, rest))
}

/// What lies behind a header of `header_len` bytes, by the type at `type_at`.
fn by_type<'a>(
    bytes: &'a [u8],
    type_at: usize,
    header_len: usize,
    layer_of: fn(u16) -> Option<Layer>,
    cut: &'static str,
) -> Step<'a> {
    match (be16(bytes, type_at), bytes.get(header_len..)) {
        (Some(kind), Some(rest)) if !rest.is_empty() => found_layer(layer_of(kind), kind, rest),
        _ => Step::Odd(cut),
    }
}

fn found_layer(layer: Option<Layer>, kind: u16, rest: &[u8]) -> Step<'_> {
    match layer {
        Some(layer) => Step::Next(layer, rest),
        None => Step::Unknown(u64::from(kind), rest),
    }
}

fn ethernet(mut bytes: &[u8]) -> Step<'_> {
    const CUT: Step<'_> = Step::Odd("truncated_ethernet_frame");
    if bytes.len() <= ETHERNET_LEN_MIN {
        return CUT;
    }
    // Cisco FabricPath: an outer header of 16 bytes with its own ether type.
    if be16(bytes, 12) == Some(0x8903) {
        if bytes.len() <= 16 + ETHERNET_HEADER_LEN {
            return Step::Odd("truncated_link_header_cfp");
        }
        bytes = bytes.get(16..).unwrap_or_default();
    }
    let (Some(kind), Some(rest)) = (be16(bytes, 12), bytes.get(ETHERNET_HEADER_LEN..)) else {
        return CUT;
    };
    match kind {
        1536.. => found_layer(of_ethernet(kind), kind, rest),
        ..=1500 => ieee802_3(kind, rest).unwrap_or(CUT),
        _ => Step::Odd("undefined_ether_type"),
    }
}

fn vlan(bytes: &[u8]) -> Step<'_> {
    const CUT: Step<'_> = Step::Odd("truncated_VLAN_header");
    if bytes.len() <= 4 {
        return CUT;
    }
    let (Some(kind), Some(rest)) = (be16(bytes, 2), bytes.get(4..)) else { return CUT };
    match kind {
        1536.. => found_layer(of_vlan(kind), kind, rest),
        ..=1500 => ieee802_3(kind, rest).unwrap_or(CUT),
        _ => Step::Odd("undefined_vlan_protocol"),
    }
}

/// A length instead of a type: what follows is LLC, of which only SNAP leads to IP. `None` when
/// it is cut before it can tell.
fn ieee802_3(len: u16, rest: &[u8]) -> Option<Step<'_>> {
    let &[first, second, ..] = rest else { return None };
    let rest = rest.get(..usize::from(len)).unwrap_or(rest);
    Some(match (first, second) {
        (0xaa, 0xaa) => Step::Next(Layer::Snap, rest),
        (0xff, 0xff) => Step::Next(Layer::Novell, rest),
        _ => Step::Next(Layer::Llc, rest),
    })
}

fn mpls(mut bytes: &[u8]) -> Step<'_> {
    loop {
        let (&[_, _, label, _], Some(rest)) = (
            match bytes.first_chunk::<4>() {
                Some(entry) => entry,
                None => return Step::Odd("truncated_link_header"),
            },
            bytes.get(4..),
        ) else {
            return Step::Nothing;
        };
        if rest.is_empty() {
            return Step::Odd("truncated_link_header");
        }
        bytes = rest;
        if label & 1 != 0 {
            return Step::Next(Layer::Ip, bytes);
        }
    }
}

/// Length of an LLC header: the control field has one byte in unnumbered frames, two in others.
fn llc_len(bytes: &[u8]) -> Option<usize> {
    Some(if bytes.get(2)? & 0x03 == 0x03 { 3 } else { 4 })
}

fn llc(bytes: &[u8]) -> Step<'_> {
    match llc_len(bytes).and_then(|len| Some((*bytes.first()?, bytes.get(len..)?))) {
        Some((service, rest)) => Step::Unknown(u64::from(service), rest),
        None => Step::Odd("truncated_llc_header"),
    }
}

fn snap(bytes: &[u8]) -> Step<'_> {
    let Some(len) = llc_len(bytes) else { return Step::Odd("truncated_snap_llc_header") };
    let header = bytes.get(len..).and_then(|rest| rest.first_chunk());
    let (Some(&[oui_0, oui_1, oui_2, high, low]), Some(rest)) = (header, bytes.get(len + 5..))
    else {
        return Step::Odd("truncated_snap_header");
    };
    let number = u64::from_be_bytes([0, 0, 0, oui_0, oui_1, oui_2, high, low]);
    let layer = u16::try_from(number).ok().and_then(of_snap);
    layer.map_or(Step::Unknown(number, rest), |layer| Step::Next(layer, rest))
}

fn pppoe<'a>(bytes: &'a [u8], found: &mut impl FnMut(LinkFound<'a>)) -> Step<'a> {
    let (Some(stated), Some(kind), Some(rest)) = (be16(bytes, 4), be16(bytes, 6), bytes.get(8..))
    else {
        return Step::Odd("truncated_pppoe_header");
    };
    if rest.is_empty() {
        return Step::Odd("truncated_pppoe_header");
    }
    // The protocol's two bytes count as payload.
    match usize::from(stated).cmp(&(rest.len() + 2)) {
        std::cmp::Ordering::Less => {
            found(LinkFound::Odd("pppoe_extra_data_after_payload", "", "PPPOE"));
        }
        std::cmp::Ordering::Greater => {
            found(LinkFound::Odd("pppoe_truncated_payload", "", "PPPOE"));
        }
        std::cmp::Ordering::Equal => {}
    }
    let payload_len = usize::from(stated).saturating_sub(2);
    let rest = rest.get(..payload_len).unwrap_or(rest);
    match kind {
        0x0021 | 0x0057 => Step::Next(Layer::Ip, rest),
        _ => Step::Unknown(u64::from(kind), rest),
    }
}

fn ppp(bytes: &[u8]) -> Step<'_> {
    let is_framed = bytes.starts_with(&[0xff, 0x03]);
    let (at, cut) =
        if is_framed { (2, "truncated_ppp_hdlc_header") } else { (0, "truncated_ppp_header") };
    // Protocol field compression (RFC 1661 section 6.5): an odd first byte is all of it.
    match bytes.get(at) {
        Some(first) if first & 1 == 1 => match bytes.get(at + 1..) {
            Some([]) | None => Step::Odd(cut),
            Some(rest) => found_layer(of_ppp(u16::from(*first)), u16::from(*first), rest),
        },
        _ => by_type(bytes, at, at + 2, of_ppp, cut),
    }
}

/// Cisco's framing (address 0x0f or 0x8f) has an ether type, PPP's a PPP protocol. Both are
/// taken with either address, as captures mix them up; no number means two things.
fn ppp_serial(bytes: &[u8]) -> Step<'_> {
    let either = |kind| of_ppp(kind).or_else(|| of_vlan(kind));
    by_type(bytes, 2, 4, either, "truncated_ppp_serial_header")
}

fn loopback(layer: Layer, bytes: &[u8]) -> Step<'_> {
    let (Some(family), Some(rest)) = (bytes.first_chunk(), bytes.get(4..)) else {
        return Step::Odd("null_analyzer_failed");
    };
    if rest.is_empty() {
        return Step::Odd("null_analyzer_failed");
    }
    let (number, found) = match layer {
        Layer::Null => (u32::from_le_bytes(*family), of_family(family)),
        _ => (u32::from_be_bytes(*family), of_family_number(u32::from_be_bytes(*family))),
    };
    found.map_or(Step::Unknown(u64::from(number), rest), |layer| Step::Next(layer, rest))
}

fn nflog(bytes: &[u8]) -> Step<'_> {
    const PAYLOAD: u16 = 9;
    let &[family, version, _, _, _, ..] = bytes else {
        return Step::Odd("truncated_nflog_header");
    };
    if version != 0 {
        return Step::Odd("unknown_nflog_version");
    }
    let mut rest = bytes.get(4..).unwrap_or_default();
    loop {
        let &[len_0, len_1, kind_0, kind_1, _, ..] = rest else {
            return Step::Odd("nflog_no_pcap_payload");
        };
        // Lengths and types are in the byte order of the capturing host: little endian.
        let len = usize::from(u16::from_le_bytes([len_0, len_1]));
        if u16::from_le_bytes([kind_0, kind_1]) == PAYLOAD {
            let packet = rest.get(4..).unwrap_or_default();
            return match family {
                2 | 10 => Step::Next(Layer::Ip, packet),
                _ => Step::Unknown(u64::from(family), packet),
            };
        }
        if len < 4 {
            return Step::Odd("nflog_bad_tlv_len");
        }
        rest = match rest.get(len.next_multiple_of(4)..) {
            Some(rest) => rest,
            None => return Step::Odd("nflog_bad_tlv_len"),
        };
    }
}

fn radiotap(bytes: &[u8]) -> Step<'_> {
    let len =
        bytes.get(2..).and_then(|rest| rest.first_chunk()).map(|len| u16::from_le_bytes(*len));
    match len.map(usize::from).and_then(|len| bytes.get(len..)) {
        Some([]) | None => Step::Odd("truncated_radiotap_header"),
        Some(rest) => Step::Next(Layer::Wlan, rest),
    }
}

/// ARP (RFC 826) leads nowhere; whether it is whole is told.
fn arp(bytes: &[u8]) -> Step<'_> {
    const HEADER_LEN: usize = 8;
    let &[_, _, _, _, hardware_len, protocol_len, _, _, ..] = bytes else {
        return Step::Odd("truncated_ARP");
    };
    let addresses = 2 * (usize::from(hardware_len) + usize::from(protocol_len));
    if bytes.len() < HEADER_LEN + addresses { Step::Odd("truncated_ARP") } else { Step::Nothing }
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
        _ => of_snap(kind),
    }
}

fn of_vntag(kind: u16) -> Option<Layer> {
    matches!(kind, 0x8100 | 0x88a8 | 0x9100).then_some(Layer::Vlan)
}

fn of_snap(kind: u16) -> Option<Layer> {
    match kind {
        0x0800 | 0x86dd => Some(Layer::Ip),
        // Address resolution, and the reverse.
        0x0806 | 0x8035 => Some(Layer::Arp),
        _ => None,
    }
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
        ip_packets(link_type, frame, |found| {
            if let LinkFound::Ip(ip) = found {
                packets.push(ip.to_vec());
            }
        });
        packets
    }

    /// What is told of a frame besides packets.
    fn told(link_type: LinkType, frame: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        ip_packets(link_type, frame, |found| match found {
            LinkFound::Ip(_) => {}
            LinkFound::Odd(name, addl, layer) => told.push(format!("{layer} {name} {addl}")),
            LinkFound::Unknown(path, protocol, rest) => {
                let names: Vec<_> = path.names().collect();
                told.push(format!("{} {protocol:#x} {rest:02x?}", names.join("/")));
            }
        });
        told
    }

    #[test]
    fn what_is_odd_is_told_by_the_layer_that_sees_it() {
        let extra = [ether(&[&[0x88, 0x64, 0x11, 0, 0, 1, 0, 5, 0, 0x21]]), vec![0; 9]].concat();
        let tags = [0x81, 0, 0, 1].repeat(3);
        for (frame, expected) in [
            (vec![0; 16], "ETHERNET truncated_ethernet_frame "),
            (ether(&[&[0x05, 0xe0, 1, 2, 3]]), "ETHERNET undefined_ether_type "),
            (ether(&[&[0x81, 0, 0, 1]])[..17].to_vec(), "VLAN truncated_VLAN_header "),
            (
                ether(&[&tags, &[8, 0]]),
                "VLAN triple_tagged_vlan_unsupported inner VLAN tag overwritten",
            ),
            (ether(&[&[0, 2, 0x42, 0x42, 3]]), "LLC truncated_llc_header "),
            (ether(&[&[8, 6, 0, 1]]), "ARP truncated_ARP "),
            (extra, "PPPOE pppoe_extra_data_after_payload "),
        ] {
            assert_eq!(told(LinkType::ETHERNET, &frame), [expected], "{frame:02x?}");
        }
        let deep = ether(&[&[0x81, 0, 0, 1].repeat(LAYERS_MAX + 5), &[0x08, 0]]);
        let told = told(LinkType::ETHERNET, &deep);
        assert_eq!(told.last().unwrap(), "VLAN max_packet_analyzer_depth_exceeded ");
    }

    #[test]
    fn a_protocol_that_nobody_knows_is_told_with_the_way_to_it() {
        let frame = ether(&[&[0x81, 0, 0, 1, 0x88, 0xcc]]);
        assert_eq!(told(LinkType::ETHERNET, &frame), ["ETHERNET/VLAN 0x88cc [45, 01, 02]"]);
        let llc = ether(&[&[0, 6, 0x42, 0x42, 3]]);
        assert_eq!(told(LinkType::ETHERNET, &llc), ["ETHERNET/LLC 0x42 [45, 01, 02]"]);
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
