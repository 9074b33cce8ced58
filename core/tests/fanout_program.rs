//! The fanout program, run by the interpreter over packets as the kernel hands them to it:
//! from the network header on, the outer VLAN tag taken out. That the kernel takes it, and its
//! eBPF form, is tested with real sockets in `core/capture/tests/fanout.rs`.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

mod filter_packets;

use filter_packets::flows::{Flow, around, plain, tcp_flow, tunnelled, udp6_flow};
use filter_packets::{
    A, A6, B, B6, IP, IP6, MAC_A, MAC_B, UDP, arp, ethernet, extension, fragment6, ipv4, ipv6, udp,
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

#[test]
fn both_directions_of_a_flow_hash_alike_whatever_is_around_them() {
    for inner in [false, true] {
        let program = program(inner);
        for flow in (0..50).flat_map(|number| [tcp_flow(number), udp6_flow(number)]) {
            let expected = received(&program, &plain(&flow[0]));
            for (kind, packet) in &flow {
                for frame in around(*kind, packet) {
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
                for frame in around(IP, &packet) {
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
