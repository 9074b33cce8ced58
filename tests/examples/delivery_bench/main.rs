//! Delivery, measured: `cargo run --release -p tyto-tests --example delivery_bench -- WHAT FOLDER`.
//!
//! - `throughput`: rows per second of one `LogStore`, and of a worker's shipping to the real
//!   logger over mTLS on the loopback, with spool, acks and fsynced files;
//! - `loopback`: of that the worker and its logger alone, `ROWS` for another count; under
//!   `valgrind --tool=dhat --mode=copy` it tells the bytes copied per row;
//! - `latency`: the time from a row's hand-over until it stands in the logger's file, at half of
//!   the load that is aimed at;
//! - `outage`: memory and spool of a worker whose logger is away for ten minutes, and how soon
//!   all is delivered afterwards (`OUTAGE_S` for another time);
//! - `rsyslog`: the same rows as text through a local rsyslogd to its synced file.
//!
//! Needs `make build` (the logger is the real program). Figures go into docs/bench/delivery.md.
#![allow(clippy::print_stdout, reason = "a program for people")]

mod latency;
mod outage;
mod pair;
mod row;
mod rsyslog;
mod throughput;

use std::path::PathBuf;

use anyhow::{Result, bail};
use tyto_daemon::tls;

fn main() -> Result<()> {
    tls::install_crypto();
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_else(|| "throughput".to_owned());
    let folder = words.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match what.as_str() {
        "throughput" => runtime.block_on(throughput::run(&folder)),
        "loopback" => runtime.block_on(throughput::loopback(&folder)),
        "latency" => runtime.block_on(latency::run(&folder)),
        "outage" => runtime.block_on(outage::run(&folder)),
        "rsyslog" => rsyslog::run(&folder),
        other => bail!("`{other}`: expected throughput, loopback, latency, outage or rsyslog"),
    }
}
