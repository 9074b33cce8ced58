//! Packets for tests of filters and fanout programs: put together by hand, layer by layer.
#![allow(dead_code)] // each test program uses some of it

pub(crate) mod flows;

/// Addresses that the expressions of the tests name.
pub(crate) const A: [u8; 4] = [10, 1, 2, 3];
pub(crate) const B: [u8; 4] = [192, 168, 7, 9];
pub(crate) const A6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const B6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0xff, 0xfe, 0, 0, 9];
pub(crate) const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
pub(crate) const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
pub(crate) const TO_ALL: [u8; 6] = [0xff; 6];

pub(crate) const IP: u16 = 0x0800;
pub(crate) const IP6: u16 = 0x86dd;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

pub(crate) fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// What stands behind the type of a tagged frame.
pub(crate) fn tag(id: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&(id | 0x6000).to_be_bytes()[..], &kind.to_be_bytes(), payload].concat()
}

/// An IPv4 packet; `fragment` is the word with flags and offset.
pub(crate) fn ipv4(
    protocol: u8,
    from: [u8; 4],
    to: [u8; 4],
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    ipv4_with_options(protocol, from, to, fragment, &[], payload)
}

pub(crate) fn ipv4_with_options(
    protocol: u8,
    from: [u8; 4],
    to: [u8; 4],
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header_len = 20 + options.len();
    let len = u16::try_from(header_len + payload.len()).unwrap();
    let mut packet = vec![0x40 | u8::try_from(header_len / 4).unwrap(), 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    packet.extend(options);
    packet.extend(payload);
    packet
}

pub(crate) fn ipv6(next: u8, from: [u8; 16], to: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap();
    [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[next, 64], &from, &to, payload].concat()
}

/// An IPv6 extension header of 8 bytes (hop-by-hop, routing, destination options).
pub(crate) fn extension(next: u8, payload: &[u8]) -> Vec<u8> {
    [&[next, 0, 1, 4, 0, 0, 0, 0][..], payload].concat()
}

/// An IPv6 fragment header; `fragment` is the word with offset and the flag for more.
pub(crate) fn fragment6(next: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    [&[next, 0][..], &fragment.to_be_bytes(), &[0, 0, 0, 7], payload].concat()
}

pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat()
}

pub(crate) fn tcp(from: u16, to: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 4, 0, 0, 0, 0, 0];
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &rest, payload].concat()
}

pub(crate) fn arp(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, 1][..], &MAC_A, &from, &[0; 6], &to].concat()
}

pub(crate) fn gre(flags: u16, kind: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    [&flags.to_be_bytes()[..], &kind.to_be_bytes(), options, payload].concat()
}

pub(crate) fn vxlan(frame: &[u8]) -> Vec<u8> {
    [&[8, 0, 0, 0, 0, 0, 42, 0][..], frame].concat()
}

/// Network packets with their Ethernet types: what a filter may be asked about.
pub(crate) fn network_packets() -> Vec<(u16, Vec<u8>)> {
    let mut packets = Vec::new();
    let udp_dns = udp(40_000, 53, b"question");
    let tcp_http = tcp(80, 51_000, 0x12, b"answer");
    let options = [7, 7, 4, 0, 0, 0, 0, 1];
    for (from, to) in [(A, B), (B, A), ([10, 1, 2, 4], [224, 0, 0, 5])] {
        for payload in [
            ipv4(UDP, from, to, 0, &udp_dns),
            ipv4(UDP, from, to, 0, &udp(53, 40_000, &[0; 40])),
            ipv4(TCP, from, to, 0, &tcp_http),
            ipv4(TCP, from, to, 0x4000, &tcp(51_000, 443, 2, b"")),
            ipv4_with_options(TCP, from, to, 0, &options, &tcp(6005, 22, 0x11, b"x")),
            ipv4(TCP, from, to, 0x2000, &tcp(80, 80, 0x18, &[1; 16])),
            ipv4(TCP, from, to, 0x0010, &[0, 80, 0, 80, 0, 0, 0, 0]),
            ipv4(1, from, to, 0, &[8, 0, 1, 2, 3, 4, 5, 6]),
            ipv4(1, from, to, 0, &[3, 1, 1, 2, 0, 0, 0, 0]),
            ipv4(132, from, to, 0, &udp(2905, 80, &[0; 8])),
            ipv4(2, from, to, 0, &[0x16, 0, 0, 0, 224, 0, 0, 5]),
            ipv4(47, from, to, 0, &gre(0, IP, &[], &ipv4(UDP, B, A, 0, &udp_dns))),
            ipv4(51, from, to, 0, &[6, 4, 0, 0, 0, 0, 0, 1]),
            ipv4(112, from, to, 0, &[0x21, 1, 100, 1, 0, 1, 0, 0]),
        ] {
            packets.push((IP, payload));
        }
        packets.push((ARP, arp(from, to)));
        packets.push((0x8035, arp(to, from)));
    }
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for (from, to) in [(A6, B6), (B6, A6), (B6, all_nodes)] {
        for packet in [
            ipv6(UDP, from, to, &udp_dns),
            ipv6(TCP, from, to, &tcp_http),
            ipv6(TCP, from, to, &tcp(80, 6001, 1, b"")),
            ipv6(58, from, to, &[135, 0, 0, 0, 0, 0, 0, 0]),
            ipv6(58, from, to, &[128, 0, 0, 0, 0, 0, 0, 1]),
            ipv6(0, from, to, &extension(TCP, &tcp_http)),
            ipv6(44, from, to, &fragment6(UDP, 1, &udp_dns)),
            ipv6(44, from, to, &fragment6(TCP, 0x18, &[0, 80, 0, 80])),
            ipv6(132, from, to, &udp(80, 81, b"")),
        ] {
            packets.push((IP6, packet));
        }
    }
    packets
}

/// Ethernet frames: all network packets plain, and some behind tags, labels and PPPoE.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (index, (kind, packet)) in network_packets().into_iter().enumerate() {
        let to = [MAC_B, TO_ALL, [1, 0, 0x5e, 0, 0, 5]][index % 3];
        frames.push(ethernet(to, MAC_A, kind, &packet));
        let id = [5, 100][index % 2];
        let tagged = tag(id, kind, &packet);
        frames.push(ethernet(to, MAC_B, 0x8100, &tagged));
        let outer = [0x88a8, 0x8100, 0x9100][index % 3];
        frames.push(ethernet(MAC_A, MAC_B, outer, &tag(7, 0x8100, &tagged)));
        let ppp: u16 = if kind == IP6 { 0x57 } else { 0x21 };
        let session = [&[0x11, 0, 0, 5, 0, 9][..], &ppp.to_be_bytes(), &packet].concat();
        frames.push(ethernet(MAC_A, MAC_B, 0x8864, &session));
        frames.push(ethernet(MAC_A, MAC_B, 0x8847, &[&[0, 0x40, 0x01, 64][..], &packet].concat()));
        let labels = [0, 0x40, 0x00, 64, 0, 0x50, 0x31, 64];
        frames.push(ethernet(MAC_A, MAC_B, 0x8847, &[&labels[..], &packet].concat()));
    }
    frames.push(ethernet(TO_ALL, MAC_A, 0x8863, &[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0]));
    frames.push(ethernet([1, 0x80, 0xc2, 0, 0, 0], MAC_A, 38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0]));
    frames.push(ethernet(TO_ALL, MAC_A, 0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0]));
    frames
}

/// The frame of another kind of link around a network packet.
pub(crate) fn on_link(link_type: u32, kind: u16, packet: &[u8]) -> Vec<u8> {
    let family: u32 = match kind {
        IP => 2,
        IP6 => 10,
        _ => 99,
    };
    let ppp: u16 = match kind {
        IP => 0x21,
        IP6 => 0x57,
        other => other,
    };
    let header = match link_type {
        0 => family.to_ne_bytes().to_vec(),
        108 => family.to_be_bytes().to_vec(),
        9 => [&[0xff, 3][..], &ppp.to_be_bytes()].concat(),
        113 => [&[0, 4, 0, 1, 0, 6][..], &MAC_A, &[0, 0], &kind.to_be_bytes()].concat(),
        276 => {
            let rest = [0, 0, 0, 0, 0, 5, 0, 1, 4, 6];
            [&kind.to_be_bytes()[..], &rest, &MAC_A, &[0, 0]].concat()
        }
        _ => Vec::new(),
    };
    [&header[..], packet].concat()
}
