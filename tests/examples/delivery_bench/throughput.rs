//! Rows per second: as many as there can be.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tyto_core::config::logs::{Compression, LogFormats, LogsConfig};
use tyto_core::record::LogRecord;
use tyto_core::record::wire::append_row;
use tyto_core::time::{NANOS, Ts};
use tyto_core::uid::UidMaker;
use tyto_daemon::clock;
use tyto_writer::{Batch, LogStore, RowTimes, StoreOptions};

use crate::pair::Pair;
use crate::row::{Conn, conn};

const ROWS: u64 = 3_000_000;
const BATCH_ROWS: u32 = 1_000;
const FIRST: Ts = Ts(1_700_000_000 * NANOS);

pub(crate) async fn run(folder: &Path) -> Result<()> {
    store(folder, LogFormats::Tsv, "LogStore, TSV")?;
    store(folder, LogFormats::Json, "LogStore, JSON")?;
    loopback(folder).await
}

fn say(what: &str, rows: u64, took: Duration, note: &str) {
    let rows_per_s = rows as f64 / took.as_secs_f64();
    println!("{what}: {rows} rows in {:.2} s = {rows_per_s:.0} rows/s{note}", took.as_secs_f64());
}

/// Encoded beforehand, so that only the store is measured. Commits every 64 batches, as a
/// logger at full load does.
fn store(folder: &Path, format: LogFormats, what: &str) -> Result<()> {
    let dir = tempfile::tempdir_in(folder)?;
    let mut uids = UidMaker::new(1);
    let template: Vec<Conn> = (0..u64::from(BATCH_ROWS))
        .map(|n| conn(n, Ts(FIRST.0 + n * 12_345_678), &mut uids))
        .collect();
    let mut payload = Vec::new();
    template.iter().for_each(|row| ensure_row(append_row(&mut payload, row)));
    let mut batch = Batch {
        node: "worker-1".into(),
        epoch: 1,
        stream: "conn".into(),
        fingerprint: Conn::schema().fingerprint(),
        first_seq: 0,
        rows: BATCH_ROWS,
        crc32: crc32fast::hash(&payload),
        payload: payload.into(),
        times: RowTimes::default(),
    };
    let mut config = LogsConfig { format, compress: Compression::Off, ..LogsConfig::default() };
    config.rotation_interval_s = 0;
    let options = StoreOptions {
        logger: "logger".into(),
        folder: dir.path().join("spool/logger"),
        logs: dir.path().join("logs"),
        config,
        zone: jiff::tz::TimeZone::UTC,
    };
    let mut store = LogStore::open(options, Box::new(clock::now))?;
    store.add_schema(Conn::schema())?;
    let begun = Instant::now();
    let mut commit = Duration::ZERO;
    for number in 0..ROWS / u64::from(BATCH_ROWS) {
        batch.first_seq = number * u64::from(BATCH_ROWS);
        store.accept(&batch)?;
        if number % 64 == 63 {
            let before = Instant::now();
            store.commit()?;
            commit += before.elapsed();
        }
    }
    store.commit()?;
    let share = 100.0 * commit.as_secs_f64() / begun.elapsed().as_secs_f64();
    say(
        what,
        ROWS,
        begun.elapsed(),
        &format!(" ({share:.0} % of it in commits: write, fdatasync)"),
    );
    Ok(())
}

fn ensure_row(is_taken: bool) {
    assert!(is_taken, "a row of the bench is too long");
}

/// Until every row is acked.
pub(crate) async fn loopback(folder: &Path) -> Result<()> {
    let rows = std::env::var("ROWS").map_or(Ok(ROWS), |rows| rows.parse())?;
    let pair = Pair::start(folder, 1 << 30)?;
    let mut output = pair.output()?;
    let begun = Instant::now();
    let writing = tokio::task::spawn_blocking(move || {
        let mut uids = UidMaker::new(1);
        for n in 0..rows {
            output.row(&conn(n, Ts(FIRST.0 + n * 12_345_678), &mut uids));
        }
        output.finish(clock::now()).map(|()| begun.elapsed())
    });
    let written = writing.await??;
    pair.acked(rows).await?;
    let note = format!(" (encoded and handed over after {:.2} s)", written.as_secs_f64());
    say("worker to logger, mTLS, spool, acks", rows, begun.elapsed(), &note);
    pair.end().await
}
