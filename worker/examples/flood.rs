//! A SYN flood: attempts to open connections from as many senders, none answered, so fast that
//! none is given up meanwhile. Prints what it took and the peak of memory, which has to stay
//! below the limit that `flows_max` sets.
//!
//! ```sh
//! cargo run --release -p tyto-worker --example flood -- [ATTEMPTS [FLOWS_MAX]]
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that a person runs")]

use std::time::Instant;

use tyto_capture::{Frame, LinkType};
use tyto_core::config::runtime::{AnalysisConfig, FlowsMax};
use tyto_core::time::Ts;
use tyto_worker::flow::conn::Conn;
use tyto_worker::flow::tcp::Tcp;
use tyto_worker::output::{Nowhere, Output};
use tyto_worker::pipeline::Pipeline;

/// Time between two attempts: ten million of them pass before the first is given up.
const PAUSE_NS: u64 = 400;

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u32>().unwrap());
    let attempts = args.next().unwrap_or(10_000_000);
    let flows_max = args.next().map_or_else(FlowsMax::default, FlowsMax);
    let config = AnalysisConfig { ignore_checksums: true, flows_max, ..AnalysisConfig::default() };
    let mut pipeline = Pipeline::new(&config, 1, Output::new(Box::new(Nowhere)));
    let mut packet = syn();
    let begun = Instant::now();
    for attempt in 0..attempts {
        packet[12..16].copy_from_slice(&(0x0b00_0000 + attempt).to_be_bytes());
        packet[24..28].copy_from_slice(&attempt.wrapping_mul(2_654_435_761).to_be_bytes());
        let ts = Ts(1_700_000_000_000_000_000 + u64::from(attempt) * PAUSE_NS);
        let (bytes, link_type) = (&packet[..], LinkType::RAW);
        pipeline.packet(&Frame { ts, bytes, wire_len: 60, link_type, checksum_good: true });
    }
    let (took, stats) = (begun.elapsed(), pipeline.stats());
    let each = took.as_nanos() / u128::from(attempts.max(1));
    println!("attempts          {attempts}");
    println!("connections open  {} of {} at most", stats.flows_open, flows_max.0);
    println!("ended early       {}", stats.flows_evicted);
    println!("time              {:.2} s, {each} ns each", took.as_secs_f64());
    println!("peak memory       {} MB", peak_kib() / 1024);
    println!("a connection has  {} bytes, of TCP {}", size_of::<Conn>(), size_of::<Tcp>());
}

/// An IPv4 packet with a SYN to port 80 of one host.
fn syn() -> [u8; 40] {
    let mut packet = [0; 40];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    packet[16..24].copy_from_slice(&[192, 0, 2, 1, 0x30, 0x39, 0, 80]);
    packet[32..36].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]);
    packet
}

/// Most memory that this process ever had, KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
