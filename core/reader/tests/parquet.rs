//! The same rows kept as text, as Parquet, and as both: whatever is asked, the answers are alike,
//! and each row comes once. A damaged file is told, and never ends the reader.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use jiff::tz::TimeZone;
use tempfile::TempDir;
use tyto_core::config::logs::{Compression, LogFormats, LogsConfig, Parquet};
use tyto_core::layout::Layout;
use tyto_core::net::{ConnId, Port, Proto};
use tyto_core::record::LogRecord;
use tyto_core::record::condition::Condition;
use tyto_core::record::value::Vector;
use tyto_core::record::wire::append_row;
use tyto_core::time::{Interval, NANOS, Ts};
use tyto_reader::ReadError;
use tyto_reader::follow::{Follower, Step};
use tyto_reader::query::Query;
use tyto_reader::sort::Row;
use tyto_reader::tail::Archive;
use tyto_writer::archive::Archiving;
use tyto_writer::{Batch, LogStore, RowTimes, StoreOptions, disk, index};

/// A row with a column of each kind.
#[derive(LogRecord)]
#[log(stream = "sample")]
struct Sample {
    ts: Ts,
    #[log(nested)]
    id: ConnId,
    proto: Proto,
    net: Option<IpNet>,
    spent: Option<Interval>,
    hits: u64,
    offset: i64,
    ratio: Option<f64>,
    local: Option<bool>,
    names: Option<BTreeSet<String>>,
    ttls: Vector<Option<Interval>>,
    raw: Option<Vec<u8>>,
}

/// When the test begins: a whole hour, seconds since the Unix epoch.
const BEGIN_S: u64 = 1_795_000_000 / 3_600 * 3_600;

const LOGGER: &str = "logger-1";

/// Values that are easily mistaken for others.
const RAW: [&[u8]; 9] = [
    b"plain",
    b"",
    b"-",
    b"(empty)",
    b"a\tb\\c",
    b"gr\xfcn",
    b"C:\\x86\\xff",
    b"#x",
    "grün,\n".as_bytes(),
];

fn sample(nth: u64, at: Ts) -> Sample {
    let is = |every: u64| nth.is_multiple_of(every);
    let octet = u8::try_from(nth % 250).unwrap();
    let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
    let names = ["a,b", "", "x"].into_iter().take(usize::try_from(nth % 4).unwrap());
    Sample {
        ts: at,
        id: ConnId {
            orig_h: if is(3) { v6 } else { IpAddr::from([10, 0, 0, octet]) },
            orig_p: Port(1234),
            resp_h: IpAddr::from([192, 0, 2, octet]),
            resp_p: Port(if is(2) { 443 } else { 65_535 }),
        },
        proto: Proto::Udp,
        net: is(4).then(|| IpNet::new(IpAddr::from([10, 0, 0, 0]), 8).unwrap()),
        spent: is(3).then(|| Interval::from_secs(nth.cast_signed() - 5)),
        hits: u64::MAX - nth,
        offset: -nth.cast_signed(),
        ratio: is(2).then_some(nth as f64 / 8.0),
        local: is(5).then_some(is(2)),
        names: (!is(7)).then(|| names.map(str::to_owned).collect()),
        ttls: Vector((0..nth % 3).map(|n| (n == 0).then(|| Interval::from_secs(60))).collect()),
        raw: (!is(11)).then(|| RAW[usize::try_from(nth).unwrap() % RAW.len()].to_vec()),
    }
}

/// A logger that writes so many rows a minute from the beginning on, for three hours, and is
/// killed in the last.
fn written(config: LogsConfig, sample: impl Fn(u64, Ts) -> Sample) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let options = StoreOptions {
        logger: LOGGER.to_owned(),
        folder: layout.node_spool(LOGGER),
        logs: layout.logs(),
        config: LogsConfig { rotation_interval_s: 3_600, name_in_archive: true, ..config },
        zone: TimeZone::UTC,
    };
    let now = Arc::new(AtomicU64::new(BEGIN_S * NANOS));
    let clock = now.clone();
    let clock = Box::new(move || Ts(clock.load(Ordering::Relaxed)));
    let mut store = LogStore::open_on(disk::real(), options, clock, Archiving::InTick).unwrap();
    store.add_schema(Sample::schema()).unwrap();
    for minute in 0..150_u64 {
        let at = Ts((BEGIN_S + minute * 60) * NANOS);
        now.store(at.0, Ordering::Relaxed);
        store.tick().unwrap();
        let mut payload = Vec::new();
        // Not in the order of their times.
        for nth in 0..4 {
            let ago = (nth * 77 + minute * 13) % 600 * NANOS + 123_456_000;
            append_row(&mut payload, &sample(minute * 4 + nth, Ts(at.0 - ago)));
        }
        let batch = Batch {
            node: "worker".into(),
            epoch: 1,
            stream: "sample".into(),
            fingerprint: Sample::schema().fingerprint(),
            first_seq: minute * 4,
            rows: 4,
            crc32: crc32fast::hash(&payload),
            payload: payload.into(),
            times: RowTimes::default(),
        };
        store.accept(&batch).unwrap();
        store.commit().unwrap();
    }
    store.tick().unwrap();
    dir
}

/// Times and lines.
type Rows = Vec<(i64, String)>;

fn read(prefix: &Path, query: &Query) -> (Rows, Vec<ReadError>) {
    let mut archive = Archive::new(Layout::new(prefix), TimeZone::UTC);
    let mut rows = Vec::new();
    let give = |row: &Row| {
        rows.push((row.at_us, String::from_utf8_lossy(&row.line).into_owned()));
        Ok(())
    };
    archive.rows(query, None, give).unwrap();
    (rows, archive.faults)
}

fn query() -> Query {
    Query { stream: "sample".into(), ..Query::default() }
}

fn at_us(minute: i64) -> Option<i64> {
    Some((i64::try_from(BEGIN_S).unwrap() + minute * 60) * 1_000_000)
}

/// All kinds of questions.
fn queries() -> Vec<Query> {
    let with = |text: &str| Query { condition: Some(Condition::parse(text).unwrap()), ..query() };
    let fields = vec!["raw".into(), "id.orig_h".into(), "names".into(), "ts".into()];
    vec![
        query(),
        Query { json: true, ..query() },
        Query { since_us: at_us(30), until_us: at_us(70), ..query() },
        Query { since_us: at_us(65), fields: fields.clone(), ..query() },
        Query { until_us: at_us(20), fields, json: true, ..query() },
        with("id.resp_p == 443 and id.orig_h in 10.0.0.0/8"),
        with("spent > 30s or ratio < 2.5"),
        with("hits > 18446744073709551500 and local"),
        with("?net and offset <= -100"),
    ]
}

fn archived(prefix: &Path) -> Vec<PathBuf> {
    let day = std::fs::read_dir(Layout::new(prefix).logs()).unwrap();
    let days = day.map(|entry| entry.unwrap().path());
    let days = days.filter(|path| path.is_dir() && !path.is_symlink());
    let days = days.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    let files = days.flat_map(|day| std::fs::read_dir(day).unwrap());
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn ends(prefix: &Path) -> BTreeSet<String> {
    let end = |path: PathBuf| path.extension().unwrap().to_str().unwrap().to_owned();
    archived(prefix).into_iter().map(end).collect()
}

fn parquet(parquet: Parquet, format: LogFormats) -> LogsConfig {
    LogsConfig { parquet, format, ..LogsConfig::default() }
}

fn follow(prefix: &Path, row: u64) -> Vec<u8> {
    let layout = Layout::new(prefix);
    let folder = layout.node_spool(LOGGER);
    let mut follower = Follower::new(folder, layout.logs(), "sample".into(), row);
    let mut lines = Vec::new();
    loop {
        match follower.step(&mut lines).unwrap() {
            Step::Rows { .. } => {}
            Step::End => return lines,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn rows_kept_as_parquet_alone_answer_every_query_as_their_text_does() {
    let text = written(LogsConfig { compress: Compression::Gzip, ..LogsConfig::default() }, sample);
    let table = written(parquet(Parquet::Only, LogFormats::Tsv), sample);
    assert_eq!(ends(table.path()), BTreeSet::from(["parquet".to_owned()]));
    assert!(!ends(text.path()).contains("parquet"));
    for query in queries() {
        let (expected, faults) = read(text.path(), &query);
        assert!(faults.is_empty() && !expected.is_empty(), "{query:?}: {faults:?}");
        let (found, faults) = read(table.path(), &query);
        assert!(faults.is_empty(), "{query:?}: {faults:?}");
        assert_eq!(found, expected, "{query:?}");
    }
    // Those who follow the logger's rows get them by the same numbers.
    for row in [0, 250, 590] {
        assert_eq!(follow(table.path(), row), follow(text.path(), row));
    }
    let last = |dir: &TempDir| {
        let mut archive = Archive::new(Layout::new(dir.path()), TimeZone::UTC);
        let mut rows = Vec::new();
        let give = |row: &Row| {
            rows.push(row.line.clone());
            Ok(())
        };
        archive.last_written(&query(), 500, give).unwrap();
        rows
    };
    assert_eq!(last(&table), last(&text));
}

#[test]
fn rows_that_are_there_as_text_and_as_parquet_come_once() {
    let expected = read(written(LogsConfig::default(), sample).path(), &query()).0;
    let json = Query { json: true, ..query() };
    let expected_json = read(written(LogsConfig::default(), sample).path(), &json).0.len();
    for format in [LogFormats::Tsv, LogFormats::Both, LogFormats::Json] {
        let dir = written(parquet(Parquet::Also, format), sample);
        assert!(ends(dir.path()).is_superset(&BTreeSet::from(["gz".into(), "parquet".into()])));
        let check = |what: &str| {
            let (rows, faults) = read(dir.path(), &json);
            assert!(faults.is_empty(), "{format:?}, {what}: {faults:?}");
            assert_eq!(rows.len(), expected_json, "{format:?}, {what}");
            if format == LogFormats::Tsv {
                assert_eq!(read(dir.path(), &query()).0, expected, "{what}");
            }
        };
        check("with both");
        // Under a name of its own, as when another file had the first one.
        for path in archived(dir.path()) {
            if path.extension().unwrap() == "parquet" {
                std::fs::rename(&path, path.with_extension("1.parquet")).unwrap();
            }
        }
        check("with another name");
        // When the text is gone, the rows are still there.
        for path in archived(dir.path()) {
            if path.extension().unwrap() == "gz" {
                std::fs::remove_file(path).unwrap();
            }
        }
        check("without the text");
        std::fs::remove_dir_all(Layout::new(dir.path()).node_spool(LOGGER).join("index")).unwrap();
        check("without the index");
    }
}

/// Between the two steps in which a finished file becomes a table of the archive.
#[test]
fn rows_on_their_way_to_become_parquet_come_once() {
    let off = LogsConfig { compress: Compression::Off, ..LogsConfig::default() };
    let text = written(off, sample);
    let expected = read(text.path(), &query()).0;
    let table = written(parquet(Parquet::Only, LogFormats::Tsv), sample);
    let layout = Layout::new(table.path());
    let line = index::lines(&layout.node_spool(LOGGER), "sample").unwrap().remove(0);
    let done = format!("{}.archived", line.rotated);
    let done = layout.node_spool(LOGGER).join("rotated").join(done);
    std::fs::copy(&archived(text.path())[0], &done).unwrap();
    let copies = layout.logs().join(".archiving").join(LOGGER);
    let copy = copies.join(format!("{}.parquet", line.rotated));
    std::fs::rename(&line.path, &copy).unwrap();
    assert_eq!(read(table.path(), &query()).0, expected);
    assert_eq!(follow(table.path(), 0), follow(text.path(), 0));
    std::fs::rename(&copy, &line.path).unwrap();
    assert_eq!(read(table.path(), &query()).0, expected);
    assert_eq!(follow(table.path(), 0), follow(text.path(), 0));
}

#[test]
fn groups_of_rows_without_a_wanted_time_are_not_read_and_damage_in_others_is_told() {
    // The first rows take so much room that the rest gets a group of its own.
    let large =
        |nth, at| Sample { raw: (nth < 170).then(|| vec![b'x'; 100_000]), ..sample(nth, at) };
    let dir = written(parquet(Parquet::Only, LogFormats::Tsv), large);
    let first = archived(dir.path()).remove(0);
    let late = Query { since_us: at_us(55), ..query() };
    let (expected, faults) = read(dir.path(), &late);
    assert!(faults.is_empty() && !expected.is_empty(), "{faults:?}");
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[4..64].fill(0xff);
    std::fs::write(&first, bytes).unwrap();
    let (rows, faults) = read(dir.path(), &late);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(rows, expected);
    let (rows, faults) = read(dir.path(), &query());
    assert!(
        matches!(faults.as_slice(), [ReadError::Io { path, .. }] if *path == first),
        "{faults:?}"
    );
    assert!(rows.len() >= expected.len());
}

#[test]
fn no_damage_to_a_file_ends_the_reader() {
    let dir = written(parquet(Parquet::Only, LogFormats::Tsv), sample);
    let first = archived(dir.path()).remove(0);
    let whole = std::fs::read(&first).unwrap();
    let until = Query { until_us: at_us(10), ..query() };
    let mut told = 0;
    for at in (0..whole.len()).step_by(whole.len() / 80) {
        for damaged in [
            whole[..at].to_vec(),
            [&whole[..at], &[whole[at] ^ 0x55], &whole[at + 1..]].concat(),
            [&whole[..at], &[0xff; 8], &whole[(at + 8).min(whole.len())..]].concat(),
        ] {
            std::fs::write(&first, damaged).unwrap();
            told += read(dir.path(), &until).1.len();
        }
    }
    // Those in values that nobody can know to be wrong are not told.
    assert!(told > 80, "{told}");
}
