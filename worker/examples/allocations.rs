//! Counts what the packet path allocates: a capture file is read into memory, analysed once to
//! warm up, then each packet of generated flows and of the file is analysed with a counting
//! allocator. Packets of flows that are under way must allocate nothing.
//!
//! ```sh
//! cargo run --release -p tyto-worker --example allocations -- [FILE]
//! ```
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that a person runs; an allocator cannot be written without unsafe code"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tyto_capture::{Frame, LinkType};
use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::time::Ts;
use tyto_worker::capture::pcap_file::PcapFile;
use tyto_worker::capture::{Next, PacketSource};
use tyto_worker::output::{Nowhere, Output};
use tyto_worker::pipeline::Pipeline;

struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: each call goes to the system's allocator with the same arguments; counting touches
// atomics only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(len as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    steady_flows();
    if let Some(file) = std::env::args().nth(1) {
        whole_file(Path::new(&file));
    }
}

fn pipeline() -> Pipeline {
    let config = AnalysisConfig { ignore_checksums: true, ..AnalysisConfig::default() };
    Pipeline::new(&config, 1, Output::new(Box::new(Nowhere)))
}

/// A TCP connection and a UDP flow under way: data and acknowledgements, nothing new.
fn steady_flows() {
    const ROUNDS: u32 = 100_000;
    let mut pipeline = pipeline();
    let (mut at, calls) = (0, AtomicU64::new(0));
    let mut feed = |packet: &[u8]| {
        at += 10_000;
        let before = CALLS.load(Ordering::Relaxed);
        let (ts, wire_len) =
            (Ts(1_700_000_000_000_000_000 + at), u32::try_from(packet.len()).unwrap());
        let link_type = LinkType::RAW;
        pipeline.packet(&Frame { ts, bytes: packet, wire_len, link_type, checksum_good: true });
        // What the packets themselves are made of here does not count.
        calls.fetch_add(CALLS.load(Ordering::Relaxed) - before, Ordering::Relaxed);
    };
    feed(&tcp(true, 0x02, 0, 0, 0));
    feed(&tcp(false, 0x12, 0, 1, 0));
    feed(&tcp(true, 0x10, 1, 1, 0));
    let mut round = |number: u32| {
        let seq = 1 + number * 1400;
        feed(&tcp(false, 0x18, seq, 1, 1400));
        feed(&tcp(true, 0x10, 1, seq + 1400, 0));
        feed(&udp(number.is_multiple_of(2)));
    };
    // Detection has seen enough of both by then.
    (0..200).for_each(&mut round);
    let before = calls.load(Ordering::Relaxed);
    (200..ROUNDS).for_each(&mut round);
    let calls = calls.load(Ordering::Relaxed) - before;
    let packets = 3 * (ROUNDS - 200);
    println!("flows under way: {packets} packets, {calls} allocations");
    assert_eq!(calls, 0, "packets of known flows allocate");
}

/// All packets of a file: flows begin and end, rows are made.
fn whole_file(path: &Path) {
    let mut source = PcapFile::open(path).unwrap();
    let mut frames = Vec::new();
    while let Next::Frame(frame) = source.next_frame().unwrap() {
        frames.push((frame.ts, frame.wire_len, frame.link_type, frame.bytes.to_vec()));
    }
    let mut pipeline = pipeline();
    let (mut without, before) = (0_u64, CALLS.load(Ordering::Relaxed));
    let bytes_before = BYTES.load(Ordering::Relaxed);
    for (ts, wire_len, link_type, bytes) in &frames {
        let calls = CALLS.load(Ordering::Relaxed);
        let (ts, wire_len, link_type) = (*ts, *wire_len, *link_type);
        pipeline.packet(&Frame { ts, bytes, wire_len, link_type, checksum_good: false });
        without += u64::from(calls == CALLS.load(Ordering::Relaxed));
    }
    let calls = CALLS.load(Ordering::Relaxed) - before;
    let kib = (BYTES.load(Ordering::Relaxed) - bytes_before) / 1024;
    let (packets, flows) = (frames.len() as u64, pipeline.stats().flows);
    println!("{}: {packets} packets, {flows} flows", path.display());
    println!("  {without} packets without any allocation");
    println!("  {calls} allocations, {kib} KiB: {:.1} per flow", calls as f64 / flows as f64);
}

/// Between 198.51.100.1:40000 and 198.51.100.2:9999; `len` bytes that no protocol begins with.
fn tcp(from_orig: bool, flags: u8, seq: u32, ack: u32, len: usize) -> Vec<u8> {
    let mut segment = ports(from_orig).to_vec();
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.resize(20 + len, 0xee);
    ip(from_orig, 6, &segment)
}

fn udp(from_orig: bool) -> Vec<u8> {
    let mut datagram = ports(from_orig).to_vec();
    datagram.extend([0, 108, 0, 0]);
    datagram.resize(108, 0xee);
    ip(from_orig, 17, &datagram)
}

fn ports(from_orig: bool) -> [u8; 4] {
    let (orig, resp) = (40000_u16.to_be_bytes(), 9999_u16.to_be_bytes());
    let (src, dst) = if from_orig { (orig, resp) } else { (resp, orig) };
    [src[0], src[1], dst[0], dst[1]]
}

fn ip(from_orig: bool, proto: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, len[0], len[1], 0, 1, 0, 0, 64, proto, 0, 0];
    let (src, dst) = if from_orig { (1, 2) } else { (2, 1) };
    packet.extend([198, 51, 100, src, 198, 51, 100, dst]);
    packet.extend(payload);
    packet
}
