//! Logs of two loggers on one host read back as one archive: whatever has become of their files
//! (rotated, compressed, being written, left by a killed life), each row comes once, by time; and
//! a follower that stops and goes on anywhere sees each row once, under its number.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::tz::TimeZone;
use tempfile::TempDir;
use tyto_core::config::logs::{Compression, LogFormats, LogsConfig};
use tyto_core::layout::Layout;
use tyto_core::net::Port;
use tyto_core::record::LogRecord;
use tyto_core::record::condition::Condition;
use tyto_core::record::wire::append_row;
use tyto_core::time::{NANOS, Ts};
use tyto_reader::ReadError;
use tyto_reader::follow::{Follower, Step};
use tyto_reader::query::Query;
use tyto_reader::sort::Row;
use tyto_reader::tail::Archive;
use tyto_writer::archive::Archiving;
use tyto_writer::{Batch, LogStore, RowTimes, StoreOptions, disk, index};

#[derive(LogRecord)]
#[log(stream = "conn")]
struct Conn {
    ts: Ts,
    uid: String,
    #[log(name = "id.resp_p")]
    resp_p: Port,
}

/// When the test begins: a whole hour, seconds since the Unix epoch.
const BEGIN_S: u64 = 1_795_000_000 / 3_600 * 3_600;

/// A logger with a clock of its own.
struct Logger {
    name: &'static str,
    prefix: PathBuf,
    now: Arc<AtomicU64>,
    store: Option<LogStore>,
    next_seq: u64,
}

fn config(compress: Compression) -> LogsConfig {
    LogsConfig {
        compress,
        rotation_interval_s: 3_600,
        name_in_archive: true,
        ..LogsConfig::default()
    }
}

impl Logger {
    fn new(prefix: &Path, name: &'static str, config: LogsConfig) -> Self {
        let (prefix, now) = (prefix.to_owned(), Arc::new(AtomicU64::new(BEGIN_S * NANOS)));
        let mut logger = Self { name, prefix, now, store: None, next_seq: 0 };
        logger.start(config);
        logger
    }

    fn folder(&self) -> PathBuf {
        Layout::new(&self.prefix).node_spool(self.name)
    }

    /// Begins a life; the one before is killed: nothing of it is closed.
    fn start(&mut self, config: LogsConfig) {
        drop(self.store.take());
        let options = StoreOptions {
            logger: self.name.to_owned(),
            folder: self.folder(),
            logs: Layout::new(&self.prefix).logs(),
            config,
            zone: TimeZone::UTC,
        };
        let now = self.now.clone();
        let clock = Box::new(move || Ts(now.load(Ordering::Relaxed)));
        let store = LogStore::open_on(disk::real(), options, clock, Archiving::InTick);
        let mut store = store.unwrap();
        store.add_schema(Conn::schema()).unwrap();
        self.store = Some(store);
    }

    fn store(&mut self) -> &mut LogStore {
        self.store.as_mut().unwrap()
    }

    /// Goes on to that second, and takes a row of the time `offsets_s` before it, each.
    fn write(&mut self, at_s: u64, offsets_s: &[u64]) {
        self.now.store((BEGIN_S + at_s) * NANOS, Ordering::Relaxed);
        self.store().tick().unwrap();
        let mut payload = Vec::new();
        for (seq, offset_s) in (self.next_seq..).zip(offsets_s) {
            let row = Conn {
                ts: Ts((BEGIN_S + at_s - offset_s) * NANOS),
                uid: format!("{}-{seq}", self.name),
                resp_p: Port(if seq % 2 == 0 { 443 } else { 53 }),
            };
            append_row(&mut payload, &row);
        }
        let rows = u32::try_from(offsets_s.len()).unwrap();
        let batch = Batch {
            node: "worker".into(),
            epoch: 1,
            stream: "conn".into(),
            fingerprint: Conn::schema().fingerprint(),
            first_seq: self.next_seq,
            rows,
            crc32: crc32fast::hash(&payload),
            payload: payload.into(),
            times: RowTimes::default(),
        };
        self.next_seq += u64::from(rows);
        self.store().accept(&batch).unwrap();
    }

    fn commit(&mut self) {
        self.store().commit().unwrap();
    }

    /// The rows from `row` on that a follower sees now, with their numbers.
    fn follow(&self, row: u64) -> Vec<(u64, String)> {
        let logs = Layout::new(&self.prefix).logs();
        let mut follower = Follower::new(self.folder(), logs, "conn".into(), row);
        let mut seen = Vec::new();
        loop {
            let mut lines = Vec::new();
            match follower.step(&mut lines).unwrap() {
                Step::Rows { first_row, rows } => {
                    let lines = String::from_utf8(lines).unwrap();
                    assert_eq!(lines.lines().count() as u64, rows);
                    seen.extend((first_row..).zip(lines.lines().map(uid_of)));
                }
                Step::End => return seen,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn uid_of(line: &str) -> String {
    let nth = if line.starts_with('{') { 5 } else { 1 };
    line.split(['\t', '"']).nth(nth).unwrap().to_owned()
}

fn query() -> Query {
    Query { stream: "conn".into(), ..Query::default() }
}

/// Times of rows since the beginning, and what they say, in the order in which they come.
fn read(prefix: &Path, query: &Query) -> (Vec<(i64, String)>, Vec<ReadError>) {
    let mut archive = Archive::new(Layout::new(prefix), TimeZone::UTC);
    let mut rows = Vec::new();
    let give = |row: &Row| {
        let at_s = row.at_us / 1_000_000 - i64::try_from(BEGIN_S).unwrap();
        rows.push((at_s, String::from_utf8(row.line.clone()).unwrap().trim_end().to_owned()));
        Ok(())
    };
    archive.rows(query, None, give).unwrap();
    (rows, archive.faults)
}

fn check_all(prefix: &Path, loggers: &[&Logger]) {
    let (rows, faults) = read(prefix, &query());
    assert!(faults.is_empty(), "{faults:?}");
    assert!(rows.is_sorted_by_key(|(at, _)| *at), "{rows:?}");
    let found: BTreeSet<String> = rows.iter().map(|(_, line)| uid_of(line)).collect();
    let mut expected = BTreeSet::new();
    for logger in loggers {
        expected.extend((0..logger.next_seq).map(|seq| format!("{}-{seq}", logger.name)));
    }
    assert_eq!((rows.len(), found), (expected.len(), expected));
}

/// Two loggers, one of which is killed with rows that it had not committed: their rows are
/// compressed, rotated and being written.
fn cluster() -> (TempDir, Logger, Logger) {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Logger::new(dir.path(), "logger-1", config(Compression::Gzip));
    let mut two = Logger::new(dir.path(), "logger-2", config(Compression::Zstd));
    for hour in 0..3_u64 {
        for minute in [10, 50] {
            one.write(hour * 3_600 + minute * 60, &[30, 5, 600]);
            two.write(hour * 3_600 + minute * 60 + 1, &[2, 40]);
            one.commit();
            two.commit();
        }
        if hour == 1 {
            // Not committed when it dies: its producer, which heard no ack, sends it again.
            let next_seq = one.next_seq;
            one.write(hour * 3_600 + 3_400, &[1, 2, 3]);
            one.next_seq = next_seq;
            one.start(config(Compression::Off));
            one.write(hour * 3_600 + 3_500, &[1, 2, 3]);
            one.commit();
        }
    }
    (dir, one, two)
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn rows_of_two_loggers_are_one_archive_by_time_through_rotation_and_a_killed_life() {
    let (dir, one, two) = cluster();
    check_all(dir.path(), &[&one, &two]);
    // Compressed as it was configured then, and what is being written.
    let names = files(&dir.path().join("logs"));
    for end in ["logger-1.log.gz", "logger-1.log", "logger-2.log.zst"] {
        assert!(names.iter().any(|name| name.ends_with(end)), "{end}: {names:?}");
    }
    assert!(one.folder().join("conn.log").exists() && two.folder().join("conn.log").exists());
}

#[test]
fn rows_that_are_not_committed_are_not_shown() {
    let (dir, mut one, two) = cluster();
    let before = one.next_seq;
    one.write(3 * 3_600 - 10, &[1]);
    one.next_seq = before;
    check_all(dir.path(), &[&one, &two]);
}

#[test]
fn times_conditions_and_fields_choose_among_the_rows_of_all() {
    let (dir, ..) = cluster();
    let begin_us = i64::try_from(BEGIN_S).unwrap() * 1_000_000;
    let wanted = Query {
        since_us: Some(begin_us + 3_600 * 1_000_000),
        until_us: Some(begin_us + 2 * 3_600 * 1_000_000),
        condition: Some(Condition::parse("id.resp_p == 53").unwrap()),
        fields: vec!["uid".into(), "ts".into()],
        ..query()
    };
    let (rows, _) = read(dir.path(), &wanted);
    let lines: Vec<&str> = rows.iter().map(|(_, line)| line.as_str()).collect();
    let line = |uid: &str, at_s: u64| format!("{uid}\t{}.000000", BEGIN_S + 3_600 + at_s);
    let expected = [
        line("logger-2-5", 561),
        line("logger-1-7", 595),
        line("logger-1-11", 2_400),
        line("logger-2-7", 2_961),
        line("logger-1-9", 2_970),
        line("logger-1-13", 3_498),
    ];
    assert_eq!(lines, expected);
    let unknown = Query { fields: vec!["nope".into()], ..query() };
    let mut archive = Archive::new(Layout::new(dir.path()), TimeZone::UTC);
    assert!(matches!(archive.rows(&unknown, None, |_| Ok(())), Err(ReadError::Condition(_))));
}

#[test]
fn a_logger_that_writes_both_formats_or_other_names_shows_each_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let both = LogsConfig {
        format: LogFormats::Both,
        archive_name: "{stream}/%Y/{logger}_%d-%H".parse().unwrap(),
        ..config(Compression::Gzip)
    };
    let json = LogsConfig { format: LogFormats::Json, ..config(Compression::Zstd) };
    let mut one = Logger::new(dir.path(), "logger-1", both);
    let mut two = Logger::new(dir.path(), "logger-2", json);
    for at_s in [10, 20, 4_000, 8_000] {
        one.write(at_s, &[1, 3]);
        two.write(at_s, &[2, 4]);
        one.commit();
        two.commit();
    }
    check_all(dir.path(), &[&one, &two]);
    let wanted = Query {
        condition: Some(Condition::parse("id.resp_p == 443").unwrap()),
        json: true,
        ..query()
    };
    let (rows, _) = read(dir.path(), &wanted);
    assert_eq!(rows.len(), 8);
    assert!(rows.iter().all(|(_, line)| line.starts_with("{\"ts\":") && line.contains(":443")));
    assert_eq!(one.follow(0).len(), 8);
    assert_eq!(two.follow(3).len(), 5);
}

#[test]
fn the_number_of_a_row_means_the_same_row_wherever_its_file_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Logger::new(dir.path(), "logger-1", config(Compression::Gzip));
    for turn in 0..40_u64 {
        one.write(turn * 700 + 700, &[5; 7]);
        one.commit();
        if turn % 7 == 3 {
            one.start(config(Compression::Gzip));
        }
        let from = one.next_seq / 3 * (turn % 3);
        let expected: Vec<(u64, String)> =
            (from..one.next_seq).map(|seq| (seq, format!("logger-1-{seq}"))).collect();
        assert_eq!(one.follow(from), expected);
    }
}

#[test]
fn a_follower_goes_on_through_rotations_and_hears_of_rows_that_expired() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Logger::new(dir.path(), "logger-1", config(Compression::Gzip));
    let logs = Layout::new(dir.path()).logs();
    let mut follower = Follower::new(one.folder(), logs.clone(), "conn".into(), 0);
    let mut seen = Vec::new();
    for turn in 1..30_u64 {
        one.write(turn * 900, &[1, 2]);
        one.commit();
        if turn % 3 == 0 {
            continue;
        }
        loop {
            let mut lines = Vec::new();
            match follower.step(&mut lines).unwrap() {
                Step::Rows { .. } => {
                    seen.extend(String::from_utf8(lines).unwrap().lines().map(uid_of));
                }
                Step::End => break,
                other => panic!("{other:?}"),
            }
        }
    }
    let expected: Vec<String> = (0..58).map(|seq| format!("logger-1-{seq}")).collect();
    assert_eq!(seen, expected);
    let oldest = index::lines(&one.folder(), "conn").unwrap().remove(0);
    std::fs::remove_file(&oldest.path).unwrap();
    let mut late = Follower::new(one.folder(), logs, "conn".into(), 1);
    let gone = Step::Gone { first_row: 1, rows: oldest.rows - 1 };
    assert_eq!(late.step(&mut Vec::new()).unwrap(), gone);
    let mut lines = Vec::new();
    late.step(&mut lines).unwrap();
    assert_eq!(uid_of(std::str::from_utf8(&lines).unwrap()), format!("logger-1-{}", oldest.rows));
    late.go_to(1_000);
    assert_eq!(late.step(&mut Vec::new()).unwrap(), Step::Ahead { end_row: 58 });
}
