//! The time from a row's hand-over to the shipping until it can be read in the logger's file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;
use tyto_core::uid::UidMaker;
use tyto_daemon::clock;
use tyto_worker::output::Output;

use crate::pair::Pair;
use crate::row::conn;

/// Rows per second: half of the 300,000 that one logger core is to take, and half of what it takes.
const RATES: [u64; 3] = [1_000, 150_000, 400_000];
/// Time of one measurement, seconds.
const SECONDS: u64 = 20;
/// Rows are handed over in turns of this, as a packet thread does.
const TURN: Duration = Duration::from_millis(1);

pub(crate) async fn run(folder: &Path) -> Result<()> {
    for rate in RATES {
        at(folder, rate).await?;
    }
    Ok(())
}

async fn at(folder: &Path, rate: u64) -> Result<()> {
    let pair = Pair::start(folder, 1 << 30)?;
    let (mut output, log) = (pair.output()?, pair.conn_log());
    // The way is open, the file is there.
    let mut output = spawn_blocking(move || {
        hand_over(&mut output, 1_000, Instant::now(), 1);
        output
    })
    .await?;
    pair.acked(1_000).await?;
    let rows = rate * SECONDS;
    let begun = Instant::now();
    let is_over = Arc::new(AtomicBool::new(false));
    let reading = {
        let is_over = is_over.clone();
        spawn_blocking(move || watch(&log, 1_000, begun, &is_over))
    };
    let writing = spawn_blocking(move || {
        let handed = hand_over(&mut output, rate, begun, SECONDS);
        output.finish(clock::now()).map(|()| handed)
    });
    let handed = writing.await??;
    pair.acked(rows + 1_000).await?;
    is_over.store(true, Ordering::Relaxed);
    let seen = reading.await??;
    let mut samples = seen.iter().peekable();
    let mut late = Vec::new();
    for (rows, handed) in handed {
        while samples.next_if(|(seen, _)| *seen < rows).is_some() {}
        let (_, at) = samples.peek().context("rows were not seen in the file")?;
        late.push(at.saturating_sub(handed));
    }
    late.sort();
    let ms = |permille: usize| late[(late.len() - 1) * permille / 1000].as_secs_f64() * 1e3;
    let (median, p99, most) = (ms(500), ms(990), ms(1000));
    println!(
        "{rate} rows/s for {SECONDS} s: p50 {median:.0} ms, p99 {p99:.0} ms, max {most:.0} ms"
    );
    pair.end().await
}

/// Hands rows over at `rate`; per turn the number of rows so far, and when.
fn hand_over(output: &mut Output, rate: u64, begun: Instant, seconds: u64) -> Vec<(u64, Duration)> {
    let mut uids = UidMaker::new(1);
    let (mut rows, mut turns) = (0, Vec::new());
    while rows < rate * seconds {
        let due = due(rate, begun).min(rate * seconds);
        if due > rows {
            let now = clock::now();
            while rows < due {
                output.row(&conn(rows, now, &mut uids));
                rows += 1;
            }
            turns.push((rows, begun.elapsed()));
        }
        output.idle(clock::now());
        std::thread::sleep(TURN);
    }
    // The last ones wait for no further row.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        output.idle(clock::now());
        std::thread::sleep(TURN);
    }
    turns
}

/// Reads the file as it grows: how many rows it holds beyond the first `before`, and since when.
fn watch(
    log: &Path,
    before: u64,
    begun: Instant,
    is_over: &AtomicBool,
) -> std::io::Result<Vec<(u64, Duration)>> {
    let mut file = File::open(log)?;
    let mut buffer = vec![0; 1 << 20];
    let (mut rows, mut samples, mut line_begins, mut is_comment) = (0_u64, Vec::new(), true, false);
    loop {
        let last_look = is_over.load(Ordering::Relaxed);
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let now = begun.elapsed();
            for &byte in buffer.iter().take(n) {
                if line_begins {
                    is_comment = byte == b'#';
                }
                line_begins = byte == b'\n';
                rows += u64::from(line_begins && !is_comment);
            }
            samples.push((rows.saturating_sub(before), now));
        }
        if last_look {
            return Ok(samples);
        }
        std::thread::sleep(TURN);
    }
}

/// Rows that `rate` asks for until now.
pub(crate) fn due(rate: u64, begun: Instant) -> u64 {
    rate * u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX) / 1_000_000
}
