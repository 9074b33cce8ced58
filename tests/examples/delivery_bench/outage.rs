//! A worker whose logger is away for long: what waits, in memory and on disk, and how soon it is
//! delivered when the logger is back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;
use tyto_core::uid::UidMaker;
use tyto_daemon::clock;

use crate::latency::due;
use crate::pair::Pair;
use crate::row::conn;

const RATE: u64 = 50_000;
const SECONDS: u64 = 600;
/// Room for all of it: nothing is to be dropped.
const SPOOL_BYTES_MAX: u64 = 16 << 30;

pub(crate) async fn run(folder: &Path) -> Result<()> {
    let seconds = std::env::var("OUTAGE_S").map_or(Ok(SECONDS), |text| text.parse())?;
    let mut pair = Pair::without_logger(folder, SPOOL_BYTES_MAX)?;
    let mut output = pair.output()?;
    let before = resident_mb()?;
    let begun = Instant::now();
    let writing = spawn_blocking(move || {
        let (mut uids, mut rows, mut most) = (UidMaker::new(1), 0, 0);
        while rows < RATE * seconds {
            let wanted = due(RATE, begun).min(RATE * seconds);
            while rows < wanted {
                output.row(&conn(rows, clock::now(), &mut uids));
                rows += 1;
            }
            most = resident_mb()?.max(most);
            std::thread::sleep(Duration::from_millis(1));
        }
        output.finish(clock::now())?;
        Ok::<_, anyhow::Error>((rows, most))
    });
    let (rows, most) = writing.await??;
    let took = begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spool = pair.spool_bytes()?;
    println!("away for {took:.0} s: {rows} rows waited");
    println!("memory: {before} MB before, {most} MB at most; bench and worker's shipping together");
    println!("spool: {} MB, {:.0} bytes a row", spool >> 20, spool as f64 / rows as f64);
    let begun = Instant::now();
    pair.start_logger()?;
    pair.acked(rows).await?;
    let rows_per_s = rows as f64 / begun.elapsed().as_secs_f64();
    println!("delivered in {:.1} s: {rows_per_s:.0} rows/s", begun.elapsed().as_secs_f64());
    println!("memory: {} MB afterwards", resident_mb()?);
    pair.end().await
}

/// Memory of this process.
fn resident_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(kb.parse::<u64>()? >> 10)
}
