//! Rows per second of delivery: `cargo run --release -p tyto-tests --example delivery_bench`.
//!
//! 1. one `LogStore`, one thread: batches of conn rows to fsynced TSV (and JSON) files;
//! 2. a worker's `Shipper` to a logger over mTLS on the loopback, both in this process, with
//!    spool, acks and fsynced files.
//!
//! Figures go into docs/bench/delivery.md. An argument names the folder to write to.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_util::sync::CancellationToken;
use tyto_core::config::logs::{Compression, LogFormats, LogsConfig};
use tyto_core::config::runtime::Role;
use tyto_core::net::{ConnId, Port, Proto};
use tyto_core::record::LogRecord;
use tyto_core::record::wire::append_row;
use tyto_core::time::{Interval, NANOS, Ts};
use tyto_core::uid::{Uid, UidMaker};
use tyto_daemon::clock;
use tyto_daemon::tls::{self, Identity};
use tyto_proto::v1::NodeHealth;
use tyto_tests::pki::{Pki, loopback_peer};
use tyto_worker::output::Output;
use tyto_worker::ship::{Overflow, Shipper};
use tyto_writer::{Batch, LogStore, RowTimes, StoreOptions};

const ROWS: u64 = 3_000_000;
const BATCH_ROWS: u32 = 1_000;

/// A row with the columns of conn.log.
#[derive(Clone, LogRecord)]
#[log(stream = "conn")]
struct Conn {
    ts: Ts,
    uid: Uid,
    #[log(nested)]
    id: ConnId,
    proto: Proto,
    service: Option<String>,
    duration: Option<Interval>,
    orig_bytes: Option<u64>,
    resp_bytes: Option<u64>,
    conn_state: &'static str,
    local_orig: Option<bool>,
    local_resp: Option<bool>,
    missed_bytes: u64,
    history: Option<&'static str>,
    orig_pkts: Option<u64>,
    orig_ip_bytes: Option<u64>,
    resp_pkts: Option<u64>,
    resp_ip_bytes: Option<u64>,
    tunnel_parents: Option<String>,
    ip_proto: Option<u64>,
}

fn conn(n: u64, uids: &mut UidMaker) -> Conn {
    let host = |n: u64| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | (n & 0xff_ffff) as u32));
    Conn {
        ts: Ts(1_700_000_000 * NANOS + n * 12_345_678),
        uid: uids.next_uid(),
        id: ConnId {
            orig_h: host(n * 7),
            orig_p: Port(1_024 + (n % 60_000) as u16),
            resp_h: host(n * 13),
            resp_p: Port(443),
        },
        proto: Proto::Tcp,
        service: None,
        duration: Some(Interval((n * 1_234_567 % 90_000_000_000).cast_signed())),
        orig_bytes: Some(n % 4_000),
        resp_bytes: Some(n % 900_000),
        conn_state: "SF",
        local_orig: Some(true),
        local_resp: Some(false),
        missed_bytes: 0,
        history: Some("ShADadFf"),
        orig_pkts: Some(n % 90),
        orig_ip_bytes: Some(n % 8_000),
        resp_pkts: Some(n % 700),
        resp_ip_bytes: Some(n % 910_000),
        tunnel_parents: None,
        ip_proto: Some(6),
    }
}

fn main() -> Result<()> {
    tls::install_crypto();
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    store(&folder, LogFormats::Tsv, "LogStore, TSV")?;
    store(&folder, LogFormats::Json, "LogStore, JSON")?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(loopback(&folder))
}

fn say(what: &str, took: Duration, note: &str) {
    let rows_per_s = ROWS as f64 / took.as_secs_f64();
    println!("{what}: {ROWS} rows in {:.2} s = {rows_per_s:.0} rows/s{note}", took.as_secs_f64());
}

/// Encoded beforehand, so that only the store is measured. Commits every 64 batches, as a
/// logger at full load does.
fn store(folder: &Path, format: LogFormats, what: &str) -> Result<()> {
    let dir = tempfile::tempdir_in(folder)?;
    let mut uids = UidMaker::new(1);
    let template: Vec<Conn> = (0..u64::from(BATCH_ROWS)).map(|n| conn(n, &mut uids)).collect();
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
    say(what, begun.elapsed(), &format!(" ({share:.0} % of it in commits: write, fdatasync)"));
    Ok(())
}

fn ensure_row(is_taken: bool) {
    assert!(is_taken, "a row of the bench is too long");
}

async fn loopback(folder: &Path) -> Result<()> {
    let (dir, pki) = (tempfile::tempdir_in(folder)?, Pki::new()?);
    let peers = [loopback_peer(Role::Logger, "logger")?];
    let mut logger = pki.enroll(&dir.path().join("l"), Role::Logger, "logger", &peers)?;
    logger.logs.compress = Compression::Off;
    let worker = pki.enroll(&dir.path().join("w"), Role::Worker, "worker-1", &peers)?;
    let end = CancellationToken::new();
    let logging = tokio::spawn(tyto_logger::run(logger, end.clone()));
    let identity = Identity::load(&worker)?;
    let shipper = Shipper::start(&worker, Some(&identity), clock::now().0, None)?;
    let mut output = Output::new(Box::new(shipper.output(Overflow::Wait)));
    let begun = Instant::now();
    let writing = tokio::task::spawn_blocking(move || {
        let mut uids = UidMaker::new(1);
        for n in 0..ROWS {
            output.row(&conn(n, &mut uids));
        }
        output.finish(clock::now()).map(|()| begun.elapsed())
    });
    let written = writing.await??;
    let health = shipper.health();
    loop {
        let mut report = NodeHealth::default();
        health(&mut report);
        let row = report.ledger.first().context("no ledger")?;
        ensure!(row.dropped.is_empty(), "rows dropped: {row:?}");
        if row.acked_rows == ROWS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let note = format!(" (encoded and handed over after {:.2} s)", written.as_secs_f64());
    say("worker to logger, mTLS, spool, acks", begun.elapsed(), &note);
    shipper.stop().await;
    end.cancel();
    logging.await?
}
