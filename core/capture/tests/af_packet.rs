//! Live capture on a veth pair in a network namespace of its own. Needs root, `ip` and
//! `unshare`; says so and passes without.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

mod namespace;

use std::collections::{HashMap, HashSet};
use std::net::UdpSocket;
use std::time::Duration;

use namespace::{FLOWS, PAYLOAD, inside_namespace, ip, send};
use tyto_capture::LinkType;
use tyto_capture::live::{AfPacket, CaptureStats, FrameSender, LiveError};
use tyto_core::config::runtime::CaptureConfig;

/// Ethernet, IPv4 without options, UDP, payload.
const FRAME_LEN: usize = 14 + 20 + 8 + PAYLOAD.len();

/// One packet seen: flow (UDP ports), and what the capture said of it.
struct Seen {
    flow: (u16, u16),
    len: usize,
    wire_len: u32,
    checksum_good: bool,
}

fn config(fanout_id: Option<u16>) -> CaptureConfig {
    CaptureConfig {
        fanout_id,
        fanout_defrag: false,
        buffer_size_bytes: 8 << 20,
        block_size_bytes: 1 << 15,
        snaplen_bytes: 65_535,
        ..CaptureConfig::new("v1")
    }
}

fn drain(capture: &mut AfPacket) -> Vec<Seen> {
    let mut seen = Vec::new();
    while capture.wait(Duration::from_millis(100)).unwrap() {
        while let Some(frame) = capture.poll_frame() {
            assert_eq!(frame.link_type, LinkType::ETHERNET);
            let word = |at: usize| u16::from_be_bytes([frame.bytes[at], frame.bytes[at + 1]]);
            seen.push(Seen {
                flow: (word(34), word(36)),
                len: frame.bytes.len(),
                wire_len: frame.wire_len,
                checksum_good: frame.checksum_good,
            });
        }
    }
    seen
}

fn counted(stats: CaptureStats) -> (u64, u64, u64) {
    (stats.received_packets, stats.dropped_packets, stats.link_packets)
}

/// packet(7), PACKET_FANOUT_HASH: packets of one flow go to one member; each packet to one.
#[test]
fn fanout_gives_each_packet_to_one_member_and_each_flow_to_one() {
    if !inside_namespace("fanout_gives_each_packet_to_one_member_and_each_flow_to_one") {
        return;
    }
    let mut captures = [1, 2].map(|_| AfPacket::open(&config(Some(7))).unwrap());
    let sent = send("10.9.0.1", "10.9.0.2");
    let seen = captures.each_mut().map(drain);
    let mut member_of_flow = HashMap::new();
    for (member, packets) in seen.iter().enumerate() {
        for packet in packets {
            assert_eq!(*member_of_flow.entry(packet.flow).or_insert(member), member);
            assert_eq!(packet.len, FRAME_LEN);
            // veth leaves the checksum to hardware that is not there.
            assert!(packet.checksum_good);
        }
    }
    assert_eq!(member_of_flow.len(), usize::from(FLOWS));
    let members: HashSet<usize> = member_of_flow.into_values().collect();
    assert_eq!(members.len(), 2, "64 flows all hashed to one member");
    let stats = captures.each_mut().map(|capture| capture.statistics().unwrap());
    assert_eq!(stats[0].received_packets + stats[1].received_packets, sent);
    assert_eq!(stats[0].link_packets + stats[1].link_packets, sent);
    assert_eq!([stats[0].dropped_packets, stats[1].dropped_packets], [0, 0]);
    assert_eq!(
        stats[0].received_bytes + stats[1].received_bytes,
        sent * u64::try_from(FRAME_LEN).unwrap()
    );
}

#[test]
fn packets_that_find_the_ring_full_are_counted_to_the_last() {
    if !inside_namespace("packets_that_find_the_ring_full_are_counted_to_the_last") {
        return;
    }
    let mut small = config(None);
    (small.buffer_size_bytes, small.block_size_bytes) = (1 << 17, 1 << 16);
    let mut capture = AfPacket::open(&small).unwrap();
    let mut sent = send("10.9.0.1", "10.9.0.2");
    let first = capture.statistics().unwrap();
    assert!(first.dropped_packets > 0 && first.ring_freezes > 0, "{first:?}");
    drain(&mut capture);
    sent += send("10.9.0.1", "10.9.0.2");
    let received = drain(&mut capture).len();
    assert!(received > 0, "the ring goes on after it was full");
    let (received, dropped, link) = counted(capture.statistics().unwrap());
    assert_eq!((received + dropped, link), (sent, sent));
    // Nothing is counted twice when nothing happens.
    assert_eq!(counted(capture.statistics().unwrap()), (received, dropped, link));
}

/// The kernel takes the outer tag out of the frame; decoding must see it again. The inner
/// tag stays where it was (IEEE 802.1Q clause 9, 802.1ad).
#[test]
fn vlan_tags_are_where_they_were_on_the_wire() {
    if !inside_namespace("vlan_tags_are_where_they_were_on_the_wire") {
        return;
    }
    let mut capture = AfPacket::open(&config(None)).unwrap();
    let sender = FrameSender::open("v0").unwrap();
    let frame = |tags: &[u8]| [&[2; 6], &[4; 6], tags, &[0x08, 0x00, 0x45], &[0; 45]].concat();
    let frames = [
        frame(&[]),
        frame(&[0x81, 0x00, 0x20, 0x64]),
        frame(&[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x64]),
    ];
    frames.iter().for_each(|frame| sender.send(frame).unwrap());
    let mut seen = Vec::new();
    while capture.wait(Duration::from_millis(100)).unwrap() {
        while let Some(frame) = capture.poll_frame() {
            assert_eq!(frame.wire_len as usize, frame.bytes.len());
            seen.push(frame.bytes.to_vec());
        }
    }
    assert_eq!(seen, frames);
}

#[test]
fn snaplen_cuts_what_is_kept_and_not_what_is_counted() {
    if !inside_namespace("snaplen_cuts_what_is_kept_and_not_what_is_counted") {
        return;
    }
    let mut capture = AfPacket::open(&CaptureConfig { snaplen_bytes: 64, ..config(None) }).unwrap();
    let sent = send("10.9.0.1", "10.9.0.2");
    let seen = drain(&mut capture);
    assert!(seen.iter().all(|packet| packet.len == 64 && packet.wire_len as usize == FRAME_LEN));
    assert_eq!(capture.statistics().unwrap().truncated_packets, sent);
}

#[test]
fn loopback_packets_come_once() {
    if !inside_namespace("loopback_packets_come_once") {
        return;
    }
    ip("link set lo up");
    let lo = CaptureConfig { interface: "lo".into(), ..config(None) };
    let mut capture = AfPacket::open(&lo).unwrap();
    let _receiver = UdpSocket::bind(("127.0.0.1", 53)).unwrap();
    let sent = send("127.0.0.1", "127.0.0.1");
    assert_eq!(u64::try_from(drain(&mut capture).len()).unwrap(), sent);
}

#[test]
fn interface_that_goes_down_and_up_again_is_captured_again() {
    if !inside_namespace("interface_that_goes_down_and_up_again_is_captured_again") {
        return;
    }
    let mut capture = AfPacket::open(&config(None)).unwrap();
    ip("link set v1 down");
    assert!(!capture.wait(Duration::from_millis(200)).unwrap());
    assert_eq!(capture.statistics().unwrap().interface_downs, 1);
    ip("link set v1 up");
    let sent = send("10.9.0.1", "10.9.0.2");
    assert_eq!(u64::try_from(drain(&mut capture).len()).unwrap(), sent);
}

#[test]
fn interface_that_is_missing_or_down_or_removed_is_told_apart() {
    if !inside_namespace("interface_that_is_missing_or_down_or_removed_is_told_apart") {
        return;
    }
    let missing = CaptureConfig { interface: "v9".into(), ..config(None) };
    let error = AfPacket::open(&missing).unwrap_err();
    assert_eq!(error.to_string(), "interface `v9`: cannot find it");
    let down = CaptureConfig { interface: "lo".into(), ..config(None) };
    assert!(matches!(AfPacket::open(&down).unwrap_err(), LiveError::Down(_)));
    let mut capture = AfPacket::open(&config(None)).unwrap();
    ip("link del v1");
    let error = capture.wait(Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, LiveError::Removed(_)), "{error:?}");
}
