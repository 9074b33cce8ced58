//! Nanoseconds per packet of filters and fanout programs in the interpreter, and microseconds
//! of compiling them: `cargo run --release -p tyto-core --example filter_bench [CAPTURE]`.
//! CAPTURE is a pcap file of Ethernet frames; without one the lab's.
//!
//! Figures go into docs/bench/worker.md.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use tyto_core::fanout_program::FanoutProgram;
use tyto_core::filter::{Filter, PacketFacts, Program, Target};

/// How long each measurement goes on, seconds.
const MEASURE_S: f64 = 1.5;

const EXPRESSIONS: [&str; 7] = [
    "",
    "ip",
    "tcp port 80",
    "host 10.1.2.3",
    "not (host 10.1.2.3 and port 443)",
    "net 10.0.0.0/8 and (port 80 or 443 or 8080) and not host 10.1.2.3",
    "tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0 or udp port 53",
];

fn main() -> Result<(), Box<dyn Error>> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/lab-traffic/in.pcap");
    let path = std::env::args().nth(1).unwrap_or_else(|| golden.to_owned());
    let bytes = std::fs::read(&path)?;
    let packets = packets(&bytes);
    println!("{path}: {} packets", packets.len());
    println!("{:>12} {:>12} {:>8} {:>8}  filter", "ns/packet", "compile µs", "instr.", "match %");
    for text in EXPRESSIONS {
        let target = Target::File { snaplen: 65_535 };
        let begin = Instant::now();
        let program = Filter::parse(text)?.compile(1, target)?;
        let compile_us = begin.elapsed().as_secs_f64() * 1e6;
        let matches = packets.iter().filter(|packet| run(&program, packet) != 0).count();
        let percent = 100 * matches / packets.len().max(1);
        let ns = ns_per_packet(&packets, |packet| run(&program, packet));
        let instructions = program.instructions().len();
        println!("{ns:>12.1} {compile_us:>12.1} {instructions:>8} {percent:>8}  {text}");
    }
    for inner in [false, true] {
        let program = FanoutProgram { has_ethernet_header: true, inner }.classic()?;
        let facts = PacketFacts { packet_type: 4, ..PacketFacts::default() };
        let ns = ns_per_packet(&packets, |packet| program.run_with(packet, 0, &facts));
        let instructions = program.instructions().len();
        println!("{ns:>12.1} {:>12} {instructions:>8} {:>8}  fanout, inner {inner}", "", "");
    }
    Ok(())
}

fn run(program: &Program, packet: &[u8]) -> u32 {
    program.run(packet, u32::try_from(packet.len()).unwrap_or(u32::MAX))
}

/// The best of many passes, each short: so a busy machine matters little.
fn ns_per_packet(packets: &[&[u8]], run: impl Fn(&[u8]) -> u32) -> f64 {
    let (begin, mut best_s) = (Instant::now(), f64::INFINITY);
    while begin.elapsed().as_secs_f64() < MEASURE_S {
        let pass = Instant::now();
        black_box(packets.iter().fold(0_u32, |sum, packet| sum.wrapping_add(run(packet))));
        best_s = best_s.min(pass.elapsed().as_secs_f64());
    }
    best_s * 1e9 / f64::from(u32::try_from(packets.len()).unwrap_or(u32::MAX))
}

/// The frames of a pcap file in this machine's byte order.
fn packets(file: &[u8]) -> Vec<&[u8]> {
    const FILE_HEADER_LEN: usize = 24;
    const PACKET_HEADER_LEN: usize = 16;
    let mut packets = Vec::new();
    let mut rest = file.get(FILE_HEADER_LEN..).unwrap_or_default();
    while let Some((header, behind)) = rest.split_at_checked(PACKET_HEADER_LEN) {
        let Some(len) = header.get(8..12).and_then(|len| len.try_into().ok()) else { break };
        let Some((packet, behind)) = behind.split_at_checked(u32::from_ne_bytes(len) as usize)
        else {
            break;
        };
        packets.push(packet);
        rest = behind;
    }
    packets
}
