//! The programs that the kernel runs for a capture, with real packet sockets on a veth pair in
//! a network namespace of its own: fanout programs and filters. What the kernel does is held
//! to what the interpreter says. Needs root, `ip` and `unshare`; says so and passes without.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

#[path = "../../tests/filter_packets/mod.rs"]
mod filter_packets;
mod namespace;

use std::collections::HashMap;
use std::error::Error;
use std::process::Command;
use std::time::Duration;

use filter_packets::flows::{Flow, around, plain, tcp_flow, tunnelled, udp6_flow};
use filter_packets::{IP, UDP, frames, ipv4, udp};
use namespace::{inside_namespace, ip, send};
use tyto_capture::live::{AfPacket, FrameSender, LiveError};
use tyto_core::config::runtime::{CaptureConfig, FanoutMode};
use tyto_core::fanout_program::FanoutProgram;
use tyto_core::filter::{Filter, PacketFacts, Program, Target};

/// Members of the fanout groups.
const MEMBERS: usize = 4;
/// Flows of each kind of wrapping.
const FLOWS: u16 = 32;
/// Set in a copy of this program that runs without the capabilities of eBPF.
const WITHOUT_BPF: &str = "TYTO_TEST_WITHOUT_BPF";

fn config(fanout_mode: FanoutMode, fanout_inner: bool) -> CaptureConfig {
    CaptureConfig {
        fanout_id: Some(9),
        fanout_mode,
        fanout_inner,
        fanout_defrag: false,
        buffer_size_bytes: 8 << 20,
        block_size_bytes: 1 << 15,
        snaplen_bytes: 65_535,
        ..CaptureConfig::new("v1")
    }
}

fn drain(capture: &mut AfPacket) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    while capture.wait(Duration::from_millis(100)).unwrap() {
        while let Some(frame) = capture.poll_frame() {
            seen.push(frame.bytes.to_vec());
        }
    }
    seen
}

/// What the program says of a received frame: the kernel takes the outer tag out, and the
/// program begins at the network header.
fn expected_hash(program: &Program, frame: &[u8]) -> usize {
    let kind = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (protocol, begin) = match kind(12) {
        0x8100 | 0x88a8 => (kind(16), 18),
        other => (other, 14),
    };
    let facts = PacketFacts { protocol, ..PacketFacts::default() };
    program.run_with(&frame[begin..], u32::try_from(frame.len()).unwrap(), &facts) as usize
}

/// All frames of the flows: in every wrapping, both directions.
fn traffic(inner: bool) -> Vec<Vec<u8>> {
    let flows = (0..FLOWS).flat_map(|n| [tcp_flow(2 * n), udp6_flow(2 * n + 1)]);
    let wrapped = |flow: Flow| -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for ((kind, packet), forward) in flow.iter().zip([true, false]) {
            out.extend(around(*kind, packet));
            if inner {
                let tunnels = tunnelled(*kind, packet, forward);
                out.extend(tunnels.into_iter().map(|(_, packet)| plain(&(IP, packet))));
            }
        }
        out
    };
    flows.flat_map(wrapped).collect()
}

fn flows_stay_together(mode: FanoutMode, inner: bool) {
    let config = config(mode, inner);
    let mut members = [(); MEMBERS].map(|()| AfPacket::open(&config).unwrap());
    let sender = FrameSender::open("v0").unwrap();
    let program = FanoutProgram { has_ethernet_header: true, inner }.classic().unwrap();
    let traffic = traffic(inner);
    traffic.iter().for_each(|frame| sender.send(frame).unwrap());
    let seen = members.each_mut().map(drain);
    let mut member_of_flow = HashMap::new();
    let mut flows_of_member = [0; MEMBERS];
    for (member, frames) in seen.iter().enumerate() {
        for frame in frames {
            let flow = frame[frame.len() - 2..].to_vec();
            let first = *member_of_flow.entry(flow).or_insert_with(|| {
                flows_of_member[member] += 1;
                member
            });
            assert_eq!(first, member, "a flow came apart: {mode:?} {frame:02x?}");
            assert_eq!(expected_hash(&program, frame) % MEMBERS, member, "{frame:02x?}");
        }
    }
    assert_eq!(seen.iter().map(Vec::len).sum::<usize>(), traffic.len(), "each frame comes once");
    let fair = usize::from(FLOWS) * 2 / MEMBERS;
    assert!(flows_of_member.iter().all(|flows| *flows > fair / 3), "{flows_of_member:?}");
}

#[test]
fn classic_program_keeps_both_directions_of_a_flow_together() {
    if inside_namespace("classic_program_keeps_both_directions_of_a_flow_together") {
        flows_stay_together(FanoutMode::Cbpf, false);
    }
}

#[test]
fn classic_program_spreads_tunnels_by_the_flows_inside() {
    if inside_namespace("classic_program_spreads_tunnels_by_the_flows_inside") {
        flows_stay_together(FanoutMode::Cbpf, true);
    }
}

#[test]
fn ebpf_program_keeps_both_directions_of_a_flow_together() {
    if inside_namespace("ebpf_program_keeps_both_directions_of_a_flow_together") {
        flows_stay_together(FanoutMode::Ebpf, false);
    }
}

#[test]
fn ebpf_program_spreads_tunnels_by_the_flows_inside() {
    if inside_namespace("ebpf_program_spreads_tunnels_by_the_flows_inside") {
        flows_stay_together(FanoutMode::Ebpf, true);
    }
}

/// The frames that this host sends pass the program from the link header on.
#[test]
fn what_the_host_sends_goes_where_its_answers_go() {
    if !inside_namespace("what_the_host_sends_goes_where_its_answers_go") {
        return;
    }
    for mode in [FanoutMode::Cbpf, FanoutMode::Ebpf] {
        let config = config(mode, false);
        let mut members = [(); MEMBERS].map(|()| AfPacket::open(&config).unwrap());
        let [inward, outward] = ["v0", "v1"].map(|name| FrameSender::open(name).unwrap());
        for number in 0..FLOWS {
            let flow = tcp_flow(number);
            inward.send(&plain(&flow[0])).unwrap();
            outward.send(&plain(&flow[1])).unwrap();
        }
        let seen = members.each_mut().map(drain);
        let mut members_of_flow: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (member, frames) in seen.iter().enumerate() {
            for frame in frames {
                let flow = frame[frame.len() - 2..].to_vec();
                members_of_flow.entry(flow).or_default().push(member);
            }
        }
        assert_eq!(members_of_flow.len(), usize::from(FLOWS));
        let together = |of: &Vec<usize>| of.len() == 2 && of[0] == of[1];
        assert!(members_of_flow.values().all(together), "{mode:?} {members_of_flow:?}");
    }
}

/// PACKET_FANOUT_FLAG_DEFRAG: the kernel joins the fragments, and the whole packet has ports.
#[test]
fn fragments_go_to_one_member_with_and_without_defragmentation() {
    if !inside_namespace("fragments_go_to_one_member_with_and_without_defragmentation") {
        return;
    }
    for defrag in [false, true] {
        let config = CaptureConfig { fanout_defrag: defrag, ..config(FanoutMode::Cbpf, false) };
        let mut members = [(); MEMBERS].map(|()| AfPacket::open(&config).unwrap());
        let sender = FrameSender::open("v0").unwrap();
        let datagram = udp(4000, 53, &[7; 40]);
        let (from, to) = ([10, 9, 0, 7], [10, 9, 0, 8]);
        let mut fragments = [
            ipv4(UDP, from, to, 0x2000, &datagram[..24]),
            ipv4(UDP, from, to, 0x0003, &datagram[24..]),
        ];
        fragments.iter_mut().for_each(|packet| set_checksum(packet));
        for packet in &fragments {
            sender.send(&plain(&(IP, packet.clone()))).unwrap();
        }
        let seen = members.each_mut().map(|member| drain(member).len());
        let frames = if defrag { 1 } else { 2 };
        assert!(seen.contains(&frames), "defrag {defrag}: {seen:?}");
        assert_eq!(seen.iter().sum::<usize>(), frames);
    }
}

/// The kernel joins fragments whose header is whole only (RFC 791, Header Checksum).
fn set_checksum(packet: &mut [u8]) {
    let sum: u32 =
        packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    packet[10..12].copy_from_slice(&(!folded).to_be_bytes());
}

#[test]
fn a_filter_lets_through_what_the_interpreter_does() {
    if !inside_namespace("a_filter_lets_through_what_the_interpreter_does") {
        return;
    }
    let sender = FrameSender::open("v0").unwrap();
    for text in [
        "tcp port 80",
        "not tcp",
        "host 10.1.2.3 and (port 53 or icmp)",
        "vlan 5 and tcp",
        "vlan and vlan 5 and udp",
        "ip6 and not vlan",
        "port 53 or (vlan and port 53)",
        "len > 70 and ip[8] = 64",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "inbound and ip",
    ] {
        let filter = Some(text.to_owned());
        let config = CaptureConfig { fanout_id: None, filter, ..config(FanoutMode::Hash, false) };
        let mut capture = AfPacket::open(&config).unwrap();
        let frames = frames();
        frames.iter().for_each(|frame| sender.send(frame).unwrap());
        let target = Target::Live { snaplen: 65_535 };
        let program = Filter::parse(text).unwrap().compile(1, target).unwrap();
        let expected: Vec<Vec<u8>> =
            frames.into_iter().filter(|frame| matches_live(&program, frame)).collect();
        assert!(!expected.is_empty(), "`{text}`");
        assert_eq!(drain(&mut capture), expected, "`{text}`");
    }
}

/// The program's verdict on a frame whose outer tag the kernel takes out.
fn matches_live(program: &Program, frame: &[u8]) -> bool {
    let is_tagged = matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]);
    let tag = is_tagged.then(|| u16::from_be_bytes([frame[14], frame[15]]));
    let facts = PacketFacts { vlan_tag: tag, ..PacketFacts::default() };
    let bytes = if is_tagged { [&frame[..12], &frame[16..]].concat() } else { frame.to_vec() };
    program.run_with(&bytes, u32::try_from(bytes.len()).unwrap(), &facts) != 0
}

#[test]
fn a_filter_on_loopback_sees_each_packet_once() {
    if !inside_namespace("a_filter_on_loopback_sees_each_packet_once") {
        return;
    }
    ip("link set lo up");
    let filter = Some("udp dst port 53 and host 127.0.0.1".to_owned());
    let interface = "lo".to_owned();
    let lo = CaptureConfig { interface, filter, ..config(FanoutMode::Hash, false) };
    let mut capture = AfPacket::open(&CaptureConfig { fanout_id: None, ..lo }).unwrap();
    let _receiver = std::net::UdpSocket::bind(("127.0.0.1", 53)).unwrap();
    let sent = send("127.0.0.1", "127.0.0.1");
    assert_eq!(u64::try_from(drain(&mut capture).len()).unwrap(), sent);
}

#[test]
fn a_filter_that_does_not_fit_is_told_with_its_place() {
    if !inside_namespace("a_filter_that_does_not_fit_is_told_with_its_place") {
        return;
    }
    let filter = Some("tcp and prt 80".to_owned());
    let config = CaptureConfig { filter, ..config(FanoutMode::Hash, false) };
    let error = AfPacket::open(&config).unwrap_err();
    assert!(matches!(error, LiveError::Filter { .. }));
    let (text, source) = (error.to_string(), error.source().unwrap().to_string());
    assert!(text.contains("did you mean `port`?"), "{text}");
    assert!(source.starts_with("column 9: found `prt`"), "{source}");
}

/// Without CAP_BPF the kernel refuses eBPF; the message says what to do.
#[test]
fn without_the_capability_ebpf_is_refused_with_a_way_out() {
    const NAME: &str = "without_the_capability_ebpf_is_refused_with_a_way_out";
    if std::env::var_os(WITHOUT_BPF).is_some() {
        let error = AfPacket::open(&config(FanoutMode::Ebpf, false)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("CAP_BPF") && text.contains("FANOUT_CBPF"), "{text}");
        AfPacket::open(&config(FanoutMode::Cbpf, true)).unwrap();
        return;
    }
    if !inside_namespace(NAME) {
        return;
    }
    let unprivileged = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    if unprivileged.is_ok_and(|setting| setting.trim() == "0") {
        eprintln!("SKIPPED {NAME}: this kernel gives eBPF to everyone");
        return;
    }
    let status = Command::new("setpriv")
        .args(["--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(WITHOUT_BPF, "1")
        .status()
        .unwrap();
    assert!(status.success());
}
