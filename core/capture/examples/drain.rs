//! Nanoseconds that the ring costs per frame: fills it over a veth pair and times how long the
//! reader takes to empty it, each byte of the first 64 of a frame looked at.
//!
//! ```sh
//! cargo build --release -p tyto-capture --example drain
//! sudo unshare --net sh -c 'ip link add v0 type veth peer name v1; ip link set v0 up;
//!     ip link set v1 up; target/release/examples/drain v0 v1'
//! ```
#![allow(clippy::print_stdout, reason = "a bench prints")]

mod bench;

use std::time::Duration;

use anyhow::{Context, ensure};
use tyto_capture::live::{AfPacket, FrameSender};

/// Frames of one round: they fit into the ring.
const FRAMES: u64 = 1_000_000;
const ROUNDS: usize = 7;

fn main() -> anyhow::Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = names.as_slice() else { anyhow::bail!("drain FROM TO") };
    let sender = FrameSender::open(from)?;
    let frame = [&[2; 6][..], &[4; 6], &[8, 0, 0x45], &[0; 45]].concat();
    let mut best = f64::MAX;
    for round in 0..ROUNDS {
        let mut capture = AfPacket::open(&bench::config(to)).context("cannot capture")?;
        for _ in 0..FRAMES {
            sender.send(&frame)?;
        }
        std::thread::sleep(Duration::from_millis(100)); // the last block is handed over
        let (mut frames, mut sum) = (0, 0_u64);
        let began = bench::cpu_time();
        while let Some(frame) = capture.poll_frame() {
            frames += 1;
            sum += frame.bytes.iter().take(64).map(|byte| u64::from(*byte)).sum::<u64>();
        }
        let ns = (bench::cpu_time() - began).as_secs_f64() * 1e9;
        ensure!(frames >= FRAMES && sum > 0, "{frames} of {FRAMES} frames came");
        #[allow(clippy::cast_precision_loss, reason = "a million")]
        let per_frame = ns / frames as f64;
        println!("round {round}: {per_frame:.2} ns/frame");
        best = best.min(per_frame);
    }
    println!("best: {best:.2} ns/frame, {:.1} million frames/s", 1000.0 / best);
    Ok(())
}
