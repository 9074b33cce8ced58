//! Flows, and all that fanout programs look through: both directions of each flow in every
//! wrapping. A frame's last bytes say its flow.

use super::{
    A, A6, B, B6, IP, IP6, MAC_A, MAC_B, TCP, UDP, ethernet, extension, gre, ipv4,
    ipv4_with_options, ipv6, tag, tcp, udp, vxlan,
};

/// IP packets of both directions of a flow.
pub(crate) type Flow = [(u16, Vec<u8>); 2];

/// TCP over IPv4.
pub(crate) fn tcp_flow(number: u16) -> Flow {
    let [low, high] = number.to_be_bytes();
    let (from, to) = ([10, 0, high, low], B);
    let (port, service) = (20_000 + number, 443);
    [
        (IP, ipv4(TCP, from, to, 0x4000, &tcp(port, service, 2, &mark(number)))),
        (
            IP,
            ipv4_with_options(TCP, to, from, 0, &[1; 4], &tcp(service, port, 0x12, &mark(number))),
        ),
    ]
}

/// UDP over IPv6, one direction behind extension headers.
pub(crate) fn udp6_flow(number: u16) -> Flow {
    let forward = udp(20_000 + number, 53, &mark(number));
    let backward = udp(53, 20_000 + number, &mark(number));
    [
        (IP6, ipv6(0, A6, B6, &extension(60, &extension(UDP, &forward)))),
        (IP6, ipv6(UDP, B6, A6, &backward)),
    ]
}

/// The last bytes of all packets of a flow.
pub(crate) fn mark(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [b'f', b'l', high, low]
}

/// The packet in an Ethernet frame.
pub(crate) fn plain((kind, packet): &(u16, Vec<u8>)) -> Vec<u8> {
    ethernet(MAC_A, MAC_B, *kind, packet)
}

/// What can be around a packet without a tunnel.
pub(crate) fn around(kind: u16, packet: &[u8]) -> Vec<Vec<u8>> {
    let tagged = tag(5, kind, packet);
    let ppp: u16 = if kind == IP { 0x21 } else { 0x57 };
    let session = [&[0x11, 0, 0, 5, 0, 9][..], &ppp.to_be_bytes(), packet].concat();
    let labels = [&[0, 0x40, 0x00, 64, 0, 0x50, 0x31, 64][..], packet].concat();
    vec![
        ethernet(MAC_A, MAC_B, kind, packet),
        ethernet(MAC_B, MAC_A, 0x8100, &tagged),
        ethernet(MAC_B, MAC_A, 0x88a8, &tag(7, 0x8100, &tagged)),
        ethernet(MAC_B, MAC_A, 0x9100, &tag(7, 0x9100, &tag(8, 0x8100, &tagged))),
        ethernet(MAC_B, MAC_A, 0x8847, &labels),
        ethernet(MAC_B, MAC_A, 0x8100, &tag(9, 0x8864, &session)),
    ]
}

/// The tunnels that are looked into, all between the same two hosts; `forward` says which
/// of them sends.
pub(crate) fn tunnelled(kind: u16, packet: &[u8], forward: bool) -> Vec<(&'static str, Vec<u8>)> {
    let (from, to) = if forward { (A, B) } else { (B, A) };
    let frame = ethernet(MAC_A, MAC_B, kind, packet);
    let tagged = ethernet(MAC_A, MAC_B, 0x8100, &tag(3, kind, packet));
    let over_udp = |port, payload: &[u8]| ipv4(UDP, from, to, 0, &udp(50_001, port, payload));
    let over_gre = |flags, kind, options: &[u8], payload: &[u8]| {
        ipv4(47, from, to, 0, &gre(flags, kind, options, payload))
    };
    let geneve = |kind: u16, payload: &[u8]| {
        [&[1, 0][..], &kind.to_be_bytes(), &[0, 0, 1, 0, 9, 9, 9, 9], payload].concat()
    };
    let gtp = |flags: u8, rest: &[u8]| [&[flags, 255, 0, 0, 0, 0, 0, 1][..], rest, packet].concat();
    let ip_in_ip = if kind == IP { 4 } else { 41 };
    let erspan3 = [&[0x20; 11][..], &[1], &[0; 8], &frame].concat();
    vec![
        ("GRE", over_gre(0, kind, &[], packet)),
        ("GRE, key", over_gre(0x2000, kind, &[0, 0, 0, 9], packet)),
        ("GRE, all options", over_gre(0xb000, kind, &[0; 12], packet)),
        ("GRE, Ethernet", over_gre(0, 0x6558, &[], &frame)),
        ("ERSPAN I", over_gre(0, 0x88be, &[], &frame)),
        ("ERSPAN II", over_gre(0x1000, 0x88be, &[0; 4], &[&[0x10; 8][..], &frame].concat())),
        ("ERSPAN III", over_gre(0x1000, 0x22eb, &[0; 4], &erspan3)),
        ("IP in IP", ipv4(ip_in_ip, from, to, 0, packet)),
        ("VXLAN", over_udp(4789, &vxlan(&frame))),
        ("VXLAN, tagged", over_udp(4789, &vxlan(&tagged))),
        ("Geneve", over_udp(6081, &geneve(0x6558, &tagged))),
        ("Geneve, IP", over_udp(6081, &geneve(kind, packet))),
        ("GTP", over_udp(2152, &gtp(0x30, &[]))),
        ("GTP, sequence number", over_udp(2152, &gtp(0x32, &[0, 1, 0, 0]))),
        ("GTP, extension", over_udp(2152, &gtp(0x34, &[0, 0, 0, 0x85, 1, 0, 9, 0]))),
        ("GRE in VXLAN", over_udp(4789, &vxlan(&plain(&(IP, over_gre(0, kind, &[], packet)))))),
    ]
}
