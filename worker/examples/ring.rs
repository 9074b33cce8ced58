//! What a live worker takes per packet, with and without a look ahead into the ring: fills the
//! ring over a veth pair with a capture's packets, then analyses them. Rounds of both in turn.
//!
//! ```sh
//! cargo build --release -p tyto-worker --example ring
//! sudo unshare --net sh -c 'ip link add v0 mtu 9000 type veth peer name v1 mtu 9000; ip link set v0 up;
//!     ip link set v1 up; target/release/examples/ring v0 v1 mix.pcap'
//! ```
#![allow(clippy::print_stdout, reason = "a bench prints")]

#[path = "../../core/capture/examples/bench/mod.rs"]
mod bench;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tyto_capture::live::{AfPacket, FrameSender};
use tyto_core::config::runtime::AnalysisConfig;
use tyto_worker::capture::pcap_file::PcapFile;
use tyto_worker::capture::{Next, PacketSource};
use tyto_worker::output::{Nowhere, Output};
use tyto_worker::pipeline::Pipeline;

/// Packets of one round: they fit into the ring.
const PACKETS: usize = 400_000;
const ROUNDS: usize = 10;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, capture] = args.as_slice() else { anyhow::bail!("ring FROM TO CAPTURE") };
    let mut best = [f64::MAX; 2];
    for round in 0..ROUNDS {
        let ahead = round % 2 == 1;
        let mut ring = AfPacket::open(&bench::config(to)).context("cannot capture")?;
        fill(from, capture)?;
        std::thread::sleep(Duration::from_millis(100)); // the last block is handed over
        let config = AnalysisConfig { ignore_checksums: true, ..AnalysisConfig::default() };
        let mut pipeline = Pipeline::new(&config, 1, Output::new(Box::new(Nowhere)));
        let mut packets = 0_u32;
        let began = bench::cpu_time();
        loop {
            if ahead {
                pipeline.look_ahead(&ring);
            }
            let Some(frame) = ring.poll_frame() else { break };
            pipeline.packet(&frame);
            packets += 1;
        }
        let each = (bench::cpu_time() - began).as_secs_f64() * 1e9 / f64::from(packets);
        println!("{packets} packets, look ahead {ahead}: {each:.0} ns each");
        best[usize::from(ahead)] = best[usize::from(ahead)].min(each);
    }
    println!("best: {:.0} ns without, {:.0} ns with", best[0], best[1]);
    Ok(())
}

/// Sends the packets of `capture`, but for those that the interface does not take.
fn fill(from: &str, capture: &str) -> anyhow::Result<()> {
    let sender = FrameSender::open(from)?;
    let mut source = PcapFile::open(Path::new(capture))?;
    let (mut sent, mut refused) = (0, 0);
    while sent < PACKETS
        && let Next::Frame(frame) = source.next_frame()?
    {
        match sender.send(frame.bytes) {
            Ok(()) => sent += 1,
            Err(_) => refused += 1,
        }
    }
    anyhow::ensure!(sent > refused, "{refused} packets were refused, {sent} sent");
    Ok(())
}
