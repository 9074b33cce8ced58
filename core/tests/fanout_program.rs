//! The fanout program, run by the interpreter over packets as the kernel hands them to it:
//! from the network header on, the outer VLAN tag taken out. That the kernel takes it, and its
//! eBPF form, is tested with real sockets in `core/capture/tests/fanout.rs`.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

mod filter_packets;

use filter_packets::{
    A, A6, B, B6, IP, IP6, MAC_A, MAC_B, TCP, UDP, arp, ethernet, extension, fragment6, gre, ipv4,
    ipv4_with_options, ipv6, tag, tcp, udp, vxlan,
};
use proptest::prelude::*;
use tyto_core::fanout_program::{FanoutProgram, ebpf};
use tyto_core::filter::{PacketFacts, Program};

fn program(inner: bool) -> Program {
    FanoutProgram { has_ethernet_header: true, inner }.classic().unwrap()
}

/// The hash of a frame that the interface received.
fn received(program: &Program, frame: &[u8]) -> u32 {
    let kind = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (protocol, begin) = match kind(12) {
        0x8100 | 0x88a8 => (kind(16), 18),
        other => (other, 14),
    };
    let wire_len = u32::try_from(frame.len()).unwrap();
    let facts = PacketFacts { protocol, ..PacketFacts::default() };
    program.run_with(&frame[begin..], wire_len, &facts)
}

/// The hash of a frame that this host sends.
fn sent(program: &Program, frame: &[u8]) -> u32 {
    let facts = PacketFacts { packet_type: 4, ..PacketFacts::default() };
    program.run_with(frame, u32::try_from(frame.len()).unwrap(), &facts)
}

/// IP packets of both directions of a flow.
type Flow = [(u16, Vec<u8>); 2];

fn tcp_flow(number: u16) -> Flow {
    let [low, high] = number.to_be_bytes();
    let (from, to) = ([10, 0, high, low], B);
    let (port, service) = (20_000 + number, 443);
    [
        (IP, ipv4(TCP, from, to, 0x4000, &tcp(port, service, 2, b""))),
        (IP, ipv4_with_options(TCP, to, from, 0, &[1; 4], &tcp(service, port, 0x12, b"more"))),
    ]
}

fn udp6_flow(number: u16) -> Flow {
    let forward = udp(20_000 + number, 53, b"?");
    let backward = udp(53, 20_000 + number, b"!!");
    [
        (IP6, ipv6(0, A6, B6, &extension(60, &extension(UDP, &forward)))),
        (IP6, ipv6(UDP, B6, A6, &backward)),
    ]
}

fn plain((kind, packet): &(u16, Vec<u8>)) -> Vec<u8> {
    ethernet(MAC_A, MAC_B, *kind, packet)
}

/// What can be around a packet without a tunnel.
fn on_link(kind: u16, packet: &[u8]) -> Vec<Vec<u8>> {
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
fn tunnelled(kind: u16, packet: &[u8], forward: bool) -> Vec<(&'static str, Vec<u8>)> {
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

#[test]
fn both_directions_of_a_flow_hash_alike_whatever_is_around_them() {
    for inner in [false, true] {
        let program = program(inner);
        for flow in (0..50).flat_map(|number| [tcp_flow(number), udp6_flow(number)]) {
            let expected = received(&program, &plain(&flow[0]));
            for (kind, packet) in &flow {
                for frame in on_link(*kind, packet) {
                    assert_eq!(received(&program, &frame), expected, "{frame:02x?}");
                    // A tag in the frame, as the kernel sends it when the card has no place for it.
                    assert_eq!(sent(&program, &frame), expected, "sent {frame:02x?}");
                }
            }
        }
    }
}

#[test]
fn a_flow_in_a_tunnel_hashes_as_outside_of_it_when_asked() {
    let (inner, outer) = (program(true), program(false));
    for flow in (0..50).flat_map(|number| [tcp_flow(number), udp6_flow(number)]) {
        let expected = received(&inner, &plain(&flow[0]));
        for ((kind, packet), forward) in flow.iter().zip([true, false]) {
            for (name, packet) in tunnelled(*kind, packet, forward) {
                for frame in on_link(IP, &packet) {
                    assert_eq!(received(&inner, &frame), expected, "{name}: {frame:02x?}");
                }
                // Not asked: all of the tunnel goes one way, but for its ports.
                let there = received(&outer, &plain(&(IP, packet)));
                assert_ne!(there, expected, "{name}");
            }
        }
    }
}

#[test]
fn all_fragments_of_both_directions_hash_alike() {
    let program = program(true);
    let datagram = udp(5000, 53, &[7; 24]);
    let fragments = [
        ipv4(UDP, A, B, 0x2000, &datagram),
        ipv4(UDP, A, B, 0x2004, &[7; 8]),
        ipv4(UDP, A, B, 0x0008, &[7; 2]),
        ipv4(UDP, B, A, 0x0008, b""),
    ];
    let hash = |kind, packet: &[u8]| received(&program, &ethernet(MAC_A, MAC_B, kind, packet));
    let first = hash(IP, &fragments[0]);
    assert!(fragments.iter().all(|fragment| hash(IP, fragment) == first));
    assert_ne!(hash(IP, &ipv4(UDP, A, B, 0, &datagram)), first, "whole packets have ports");
    let fragments = [
        ipv6(44, A6, B6, &fragment6(UDP, 1, &datagram)),
        ipv6(44, A6, B6, &fragment6(UDP, 0x11, &[7; 8])),
        ipv6(0, B6, A6, &extension(44, &fragment6(UDP, 0x18, b"x"))),
    ];
    let first = hash(IP6, &fragments[0]);
    assert!(fragments.iter().all(|fragment| hash(IP6, fragment) == first));
    // RFC 6946: an atomic fragment is a whole packet.
    let atomic = ipv6(44, A6, B6, &fragment6(UDP, 0, &datagram));
    assert_eq!(hash(IP6, &atomic), hash(IP6, &ipv6(UDP, A6, B6, &datagram)));
}

#[test]
fn without_ports_both_directions_meet_by_their_addresses() {
    let program = program(false);
    let hash = |packet: Vec<u8>| received(&program, &plain(&(IP, packet)));
    let echo = hash(ipv4(1, A, B, 0, &[8, 0, 0, 0, 0, 1, 0, 1]));
    assert_eq!(hash(ipv4(1, B, A, 0, &[0, 0, 0, 0, 0, 1, 0, 1])), echo);
    assert_eq!(received(&program, &ethernet(MAC_A, MAC_B, 0x0806, &arp(A, B))), 0);
}

#[test]
fn flows_are_spread_evenly_over_any_number_of_members() {
    let program = program(true);
    let flows: Vec<Flow> = (0..2000).flat_map(|n| [tcp_flow(n), udp6_flow(n)]).collect();
    for members in [2, 3, 4, 5, 7, 8, 16] {
        let mut counts = vec![0_usize; members];
        for flow in &flows {
            counts[received(&program, &plain(&flow[0])) as usize % members] += 1;
        }
        let fair = flows.len() / members;
        let is_even = counts.iter().all(|count| count.abs_diff(fair) < fair / 4);
        assert!(is_even, "{members} members: {counts:?}");
    }
}

#[test]
fn the_programs_fit_the_kernel_and_have_a_form_in_ebpf() {
    for has_ethernet_header in [true, false] {
        for inner in [false, true] {
            let program = FanoutProgram { has_ethernet_header, inner }.classic().unwrap();
            let ebpf = ebpf::translate(&program).unwrap();
            assert!(ebpf.len() > program.instructions().len());
            assert!(ebpf.len() < 4096, "{} instructions", ebpf.len());
        }
    }
}

proptest! {
    /// Whatever is on the wire, the program ends with some number.
    #[test]
    fn any_bytes_have_a_hash(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        protocol in proptest::sample::select(vec![0x0800, 0x86dd, 0x8100, 0x8847, 0x8864, 0x0806]),
    ) {
        let facts = PacketFacts { protocol, ..PacketFacts::default() };
        program(true).run_with(&bytes, 0, &facts);
    }
}
