//! What can be set of a live capture, on a veth pair in a network namespace of its own. Needs
//! root, `ip` and `unshare`; says so and passes without.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

#[allow(dead_code, reason = "shared with af_packet.rs, which uses all of it")]
mod namespace;

use std::process::Command;
use std::time::Duration;

use namespace::{inside_namespace, ip, send};
use tyto_capture::LinkType;
use tyto_capture::live::{AfPacket, FrameSender, LiveError};
use tyto_core::config::runtime::{CaptureConfig, ChecksumMode};

fn config() -> CaptureConfig {
    CaptureConfig {
        buffer_size_bytes: 8 << 20,
        block_size_bytes: 1 << 15,
        snaplen_bytes: 65_535,
        ..CaptureConfig::new("v1")
    }
}

/// Frames that come, as (link type, first byte, vouched for).
fn drain(capture: &mut AfPacket) -> Vec<(LinkType, u8, bool)> {
    let mut seen = Vec::new();
    while capture.wait(Duration::from_millis(100)).unwrap() {
        while let Some(frame) = capture.poll_frame() {
            seen.push((frame.link_type, frame.bytes[0], frame.checksum_good));
        }
    }
    seen
}

/// veth leaves checksums to hardware that is not there: the kernel vouches for them.
#[test]
fn the_checksum_mode_says_whose_word_counts() {
    if !inside_namespace("the_checksum_mode_says_whose_word_counts") {
        return;
    }
    for (checksums, expected) in
        [(ChecksumMode::On, false), (ChecksumMode::Kernel, true), (ChecksumMode::Off, true)]
    {
        let mut capture = AfPacket::open(&CaptureConfig { checksums, ..config() }).unwrap();
        let sent = send("10.9.0.1", "10.9.0.2");
        let seen = drain(&mut capture);
        assert_eq!(u64::try_from(seen.len()).unwrap(), sent);
        assert!(seen.iter().all(|(_, _, good)| *good == expected), "{checksums:?}");
        assert_eq!(capture.statistics().unwrap().card_time_packets, 0);
    }
}

/// `promiscuity` of `ip -d link`: how many want all packets of the link.
fn promiscuity() -> String {
    let shown = Command::new("ip").args(["-d", "link", "show", "v1"]).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    text.split_once("promiscuity ").unwrap().1.split(' ').next().unwrap().to_owned()
}

#[test]
fn the_card_is_promiscuous_when_asked_and_while_captured() {
    if !inside_namespace("the_card_is_promiscuous_when_asked_and_while_captured") {
        return;
    }
    let others_too = AfPacket::open(&config()).unwrap();
    assert_eq!(promiscuity(), "1");
    drop(others_too);
    assert_eq!(promiscuity(), "0");
    let _own = AfPacket::open(&CaptureConfig { promiscuous: false, ..config() }).unwrap();
    assert_eq!(promiscuity(), "0");
}

#[test]
fn time_stamps_of_a_card_that_has_none_are_refused() {
    if !inside_namespace("time_stamps_of_a_card_that_has_none_are_refused") {
        return;
    }
    ip("link set lo up");
    for interface in ["v1", "lo"] {
        let wanted = CaptureConfig { hw_timestamps: true, interface: interface.into(), ..config() };
        let error = AfPacket::open(&wanted).unwrap_err();
        let expected = format!(
            "interface `{interface}`: its card does not stamp every packet that it receives, as \
             `ethtool -T {interface}` tells; `af_packet_enable_hw_timestamping=F` in node.cfg does \
             without"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_ring_of_impossible_size_is_refused_with_what_to_change() {
    if !inside_namespace("a_ring_of_impossible_size_is_refused_with_what_to_change") {
        return;
    }
    let huge = CaptureConfig { buffer_size_bytes: 1 << 46, snaplen_bytes: 1500, ..config() };
    let error = AfPacket::open(&huge).unwrap_err();
    assert!(matches!(error, LiveError::Ring { .. }));
    assert_eq!(
        error.to_string(),
        "interface `v1`: cannot make its ring of 2147483648 blocks with 32768 bytes each; make \
         `af_packet_buffer_size` smaller, or `af_packet_block_size` a larger multiple of the page \
         size"
    );
}

/// An interface without a link layer (ARPHRD_NONE, as tun and WireGuard have): what it sends
/// begins with the IP header.
#[test]
fn an_interface_without_link_layer_gives_raw_ip() {
    if !inside_namespace("an_interface_without_link_layer_gives_raw_ip") {
        return;
    }
    let words = "link add t0 type vxlan dstport 4790 external gpe";
    if !Command::new("ip").args(words.split(' ')).status().unwrap().success() {
        eprintln!("skipped: this kernel has no VXLAN-GPE");
        return;
    }
    ip("addr add 10.8.0.1/24 dev t0");
    ip("link set t0 up");
    let mut capture =
        AfPacket::open(&CaptureConfig { interface: "t0".into(), ..config() }).unwrap();
    let sent = send("10.8.0.1", "10.8.0.2");
    let seen = drain(&mut capture);
    assert_eq!(u64::try_from(seen.len()).unwrap(), sent);
    assert!(seen.iter().all(|(link_type, first, _)| (*link_type, *first) == (LinkType::RAW, 0x45)));
}

#[test]
fn what_merges_packets_is_known() {
    if !inside_namespace("what_merges_packets_is_known") {
        return;
    }
    let capture = AfPacket::open(&config()).unwrap();
    assert!(!capture.offloads().merges_received());
    let set = Command::new("ethtool").args(["-K", "v1", "gro", "on", "tso", "off"]).status();
    if !set.is_ok_and(|status| status.success()) {
        eprintln!("skipped the rest: needs `ethtool`");
        return;
    }
    let now = capture.offloads();
    assert!(now.gro && !now.lro && !now.tso && now.merges_received(), "{now:?}");
}

/// A tag that the kernel took out and that is put back counts too.
#[test]
fn snaplen_is_exact_for_tagged_frames() {
    if !inside_namespace("snaplen_is_exact_for_tagged_frames") {
        return;
    }
    let mut capture = AfPacket::open(&CaptureConfig { snaplen_bytes: 64, ..config() }).unwrap();
    let sender = FrameSender::open("v0").unwrap();
    for tags in [&[][..], &[0x81, 0x00, 0x20, 0x64]] {
        let frame = [&[2; 6], &[4; 6], tags, &[0x08, 0x00, 0x45], &[0; 99]].concat();
        sender.send(&frame).unwrap();
        let mut lent = None;
        // A block that was read to its end is ready, too, until the next frame is asked for.
        while lent.is_none() && capture.wait(Duration::from_secs(5)).unwrap() {
            lent = capture.poll_frame().map(|frame| (frame.bytes.to_vec(), frame.wire_len));
        }
        let wire_len = u32::try_from(frame.len()).unwrap();
        assert_eq!(lent, Some((frame[..64].to_vec(), wire_len)));
    }
    assert_eq!(capture.statistics().unwrap().truncated_packets, 2);
}
