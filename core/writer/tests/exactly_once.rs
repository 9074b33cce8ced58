//! Whatever a logger is killed in, each row that its producers wrote is in the files exactly
//! once. A model of the producers runs against a real store in a real folder: batches, group
//! commits, rotations, and crashes that leave rows behind which were never committed, or a
//! journal whose last record is torn.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::tz::TimeZone;
use proptest::prelude::*;
use tempfile::TempDir;
use tyto_core::config::logs::{Compression, LogFormat, LogFormats, LogsConfig, StreamLogs};
use tyto_core::record::LogRecord;
use tyto_core::record::wire::append_row;
use tyto_core::time::{NANOS, Ts};
use tyto_writer::frame::{FRAME_HEAD_LEN, read};
use tyto_writer::{AcceptError, Batch, LogStore, RowTimes, StoreOptions};

#[path = "exactly_once/streams.rs"]
mod streams;

#[derive(LogRecord)]
#[log(stream = "conn")]
struct Conn {
    /// Who wrote the row.
    producer: u64,
    /// Its sequence number.
    seq: u64,
}

/// What `conn` looks like in another release.
#[derive(LogRecord)]
#[log(stream = "conn")]
struct LaterConn {
    producer: u64,
    seq: u64,
    more: Option<String>,
}

const EPOCH: u64 = 9;

#[derive(Clone, Debug)]
enum Step {
    /// A producer writes rows and sends them.
    Rows {
        producer: usize,
        rows: u32,
    },
    /// The next rows of this producer come from another release.
    Upgrade {
        producer: usize,
    },
    Commit,
    /// Time goes on.
    Wait {
        seconds: u64,
    },
    /// The process dies; `torn` bytes that nobody committed are left behind the files.
    Crash {
        torn: usize,
    },
    /// The process dies in the middle of a commit's journal record.
    CrashInCommit {
        cut: prop::sample::Index,
    },
}

/// A producer keeps what is not acked.
#[derive(Default)]
struct Producer {
    unacked: Vec<(u64, u32, bool)>,
    next_seq: u64,
    is_later: bool,
}

struct World {
    dir: TempDir,
    now: Arc<AtomicU64>,
    format: LogFormats,
    condition: Option<String>,
    store: Option<LogStore>,
    producers: Vec<Producer>,
}

impl World {
    fn new(format: LogFormats) -> Self {
        Self::with(format, None)
    }

    fn with(format: LogFormats, condition: Option<&str>) -> Self {
        let condition = condition.map(str::to_owned);
        let now = Arc::new(AtomicU64::new(1_000 * 3_600 * NANOS));
        let producers = (0..3).map(|_| Producer::default()).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self { dir, now, format, condition, store: None, producers };
        world.open();
        world
    }

    /// Opens the store on what is there, with its two schemas.
    fn open_with(&mut self, config: LogsConfig) {
        let options = StoreOptions {
            logger: "logger".into(),
            folder: self.dir.path().join("spool/logger"),
            logs: self.dir.path().join("logs"),
            config,
            zone: TimeZone::UTC,
        };
        let now = self.now.clone();
        let clock = Box::new(move || Ts(now.load(Ordering::Relaxed)));
        let mut store = LogStore::open(options, clock).unwrap();
        store.add_schema(Conn::schema()).unwrap();
        store.add_schema(LaterConn::schema()).unwrap();
        self.store = Some(store);
    }

    fn open(&mut self) {
        let mut config = LogsConfig {
            format: self.format,
            rotation_interval_s: 3_600,
            compress: Compression::Off,
            ..LogsConfig::default()
        };
        if let Some(condition) = self.condition.clone() {
            let stream = StreamLogs { condition: Some(condition), ..StreamLogs::default() };
            config.streams.insert("conn".into(), stream);
        }
        self.open_with(config);
        for producer in 0..self.producers.len() {
            self.resend(producer);
        }
    }

    fn store(&mut self) -> &mut LogStore {
        self.store.as_mut().unwrap()
    }

    /// What a producer does at the welcome: forget what is durable, send the rest again.
    fn resend(&mut self, producer: usize) {
        let positions = self.store().positions(&node(producer));
        let durable = positions.first().map_or(0, |position| position.next_seq);
        self.producers[producer]
            .unacked
            .retain(|(first, rows, _)| first + u64::from(*rows) > durable);
        for (first_seq, rows, is_later) in self.producers[producer].unacked.clone() {
            self.send(producer, first_seq, rows, is_later);
        }
    }

    fn send(&mut self, producer: usize, first_seq: u64, rows: u32, is_later: bool) {
        let batch = batch(producer, first_seq, rows, is_later);
        match self.store().accept(&batch) {
            Ok(_) => {}
            Err(AcceptError::Refused(why)) => panic!("{why}"),
            Err(AcceptError::Store(error)) => panic!("{error}"),
        }
    }

    fn commit(&mut self) {
        for (node, position) in self.store().commit().unwrap() {
            let producer: usize = node.strip_prefix("worker-").unwrap().parse().unwrap();
            self.producers[producer]
                .unacked
                .retain(|(first, rows, _)| first + u64::from(*rows) > position.next_seq);
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Rows { producer, rows } => {
                let at = &mut self.producers[*producer];
                let (first_seq, is_later) = (at.next_seq, at.is_later);
                at.next_seq += u64::from(*rows);
                at.unacked.push((first_seq, *rows, is_later));
                self.send(*producer, first_seq, *rows, is_later);
            }
            Step::Upgrade { producer } => self.producers[*producer].is_later = true,
            Step::Commit => self.commit(),
            Step::Wait { seconds } => {
                self.now.fetch_add(seconds * NANOS, Ordering::Relaxed);
                self.store().tick().unwrap();
            }
            Step::Crash { torn } => {
                self.store = None;
                self.tear_logs(*torn);
                self.open();
            }
            Step::CrashInCommit { cut } => {
                let is_pending = self.store().is_pending();
                // Acks never reach the producers.
                drop(self.store().commit().unwrap());
                self.store = None;
                if is_pending {
                    tear_journal(&self.dir.path().join("spool/logger/journal"), cut);
                }
                self.open();
            }
        }
    }

    /// What the producers wrote, each row once, as far as its sequence number fits.
    fn expected(&self, fits: fn(u64) -> bool) -> BTreeMap<(u64, u64), u32> {
        let producers = self.producers.iter().enumerate();
        let rows = producers.flat_map(|(producer, at)| {
            (0..at.next_seq).filter(|&seq| fits(seq)).map(move |seq| ((producer as u64, seq), 1))
        });
        rows.collect()
    }

    fn tear_logs(&self, torn: usize) {
        for entry in fs::read_dir(self.dir.path().join("spool/logger")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "log") {
                let mut bytes = fs::read(&path).unwrap();
                bytes.resize(bytes.len() + torn, b'x');
                fs::write(&path, bytes).unwrap();
            }
        }
    }

    /// Orderly end; returns how often each row stands in the archive.
    fn archived_rows(self) -> BTreeMap<(u64, u64), u32> {
        let mut each = self.archived();
        let rows = each.remove(&LogFormat::Tsv).unwrap_or_default();
        let json = each.remove(&LogFormat::Json);
        assert!(json.is_none() || rows.is_empty() || json.as_ref() == Some(&rows));
        json.unwrap_or(rows)
    }

    /// The same by format.
    fn archived(mut self) -> BTreeMap<LogFormat, BTreeMap<(u64, u64), u32>> {
        self.commit();
        self.store.take().unwrap().close().unwrap();
        let left = fs::read_dir(self.dir.path().join("spool/logger")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_str().unwrap().ends_with(".log")), "{left:?}");
        let mut rows = BTreeMap::new();
        for &(format, _) in self.format.files() {
            rows.insert(format, BTreeMap::new());
        }
        read_rows(&self.dir.path().join("logs"), &mut rows);
        rows
    }
}

fn node(producer: usize) -> String {
    format!("worker-{producer}")
}

fn batch(producer: usize, first_seq: u64, rows: u32, is_later: bool) -> Batch {
    let mut payload = Vec::new();
    for seq in first_seq..first_seq + u64::from(rows) {
        let producer = producer as u64;
        if is_later {
            append_row(&mut payload, &LaterConn { producer, seq, more: None });
        } else {
            append_row(&mut payload, &Conn { producer, seq });
        }
    }
    let schema = if is_later { LaterConn::schema() } else { Conn::schema() };
    Batch {
        node: node(producer).into(),
        epoch: EPOCH,
        stream: "conn".into(),
        fingerprint: schema.fingerprint(),
        first_seq,
        rows,
        crc32: crc32fast::hash(&payload),
        payload: payload.into(),
        times: RowTimes::default(),
    }
}

/// Cuts the journal inside its last record.
fn tear_journal(path: &Path, cut: &prop::sample::Index) {
    let bytes = fs::read(path).unwrap();
    let mut last = 0;
    read(&bytes[8..], |at, _| last = at - FRAME_HEAD_LEN);
    let last = last + 8;
    fs::write(path, &bytes[..last + cut.index(bytes.len() - last)]).unwrap();
}

fn read_rows(folder: &Path, rows: &mut BTreeMap<LogFormat, BTreeMap<(u64, u64), u32>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            read_rows(&path, rows);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let format = if text.starts_with('{') { LogFormat::Json } else { LogFormat::Tsv };
        if format == LogFormat::Tsv {
            assert!(text.starts_with("#separator"), "{path:?}: {text}");
            assert!(text.lines().last().unwrap().starts_with("#close\t"), "{path:?}: {text}");
        }
        let rows = rows.get_mut(&format).unwrap_or_else(|| panic!("{path:?}: {text}"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let digits = |text: &str| {
                text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
            };
            let columns: Vec<&str> = line.split(['\t', ',']).collect();
            *rows.entry((digits(columns[0]), digits(columns[1]))).or_default() += 1;
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3_usize, 1..20_u32).prop_map(|(producer, rows)| Step::Rows { producer, rows }),
        1 => (0..3_usize).prop_map(|producer| Step::Upgrade { producer }),
        3 => Just(Step::Commit),
        2 => (1..4_000_u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0..50_usize).prop_map(|torn| Step::Crash { torn }),
        1 => any::<prop::sample::Index>().prop_map(|cut| Step::CrashInCommit { cut }),
    ];
    prop::collection::vec(step, 1..40)
}

fn each_row_once(format: LogFormats, steps: &[Step]) {
    let mut world = World::new(format);
    steps.iter().for_each(|step| world.run(step));
    let expected = world.expected(|_| true);
    for (format, rows) in world.archived() {
        assert_eq!(rows, expected, "{format:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 5, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_row_is_in_a_tsv_file_once(steps in steps()) {
        each_row_once(LogFormats::Tsv, &steps);
    }

    #[test]
    fn each_row_is_in_a_json_file_once(steps in steps()) {
        each_row_once(LogFormats::Json, &steps);
    }

    #[test]
    fn each_row_is_once_in_the_tsv_file_and_once_in_the_json_file(steps in steps()) {
        each_row_once(LogFormats::Both, &steps);
    }

    /// Written and filtered rows together are those that the producers wrote, whatever dies.
    #[test]
    fn filtered_rows_are_counted_once_and_the_others_written_once(steps in steps()) {
        let mut world = World::with(LogFormats::Both, Some("seq >= 10"));
        steps.iter().for_each(|step| world.run(step));
        world.commit();
        let sum = |rows: Vec<u64>| rows.iter().sum::<u64>();
        let store = world.store();
        let filtered = sum(store.filtered().map(|(_, _, rows)| rows).collect());
        let written = sum(store.written().map(|(_, _, rows)| rows).collect());
        let (all, expected) = (world.expected(|_| true), world.expected(|seq| seq >= 10));
        prop_assert_eq!(written, all.len() as u64);
        prop_assert_eq!(written - filtered, expected.len() as u64);
        for (_, rows) in world.archived() {
            prop_assert_eq!(&rows, &expected);
        }
    }
}

#[test]
fn rows_taken_twice_are_written_once_and_acked_again() {
    let mut world = World::new(LogFormats::Tsv);
    world.run(&Step::Rows { producer: 0, rows: 5 });
    world.commit();
    world.send(0, 0, 5, false);
    let acked = world.store().commit().unwrap();
    assert_eq!(acked.len(), 1);
    assert_eq!(acked[0].1.next_seq, 5);
    // Half of this batch is known.
    world.send(0, 3, 4, false);
    world.producers[0].next_seq = 7;
    assert_eq!(world.archived_rows().len(), 7);
}

#[test]
fn a_batch_with_a_wrong_checksum_schema_or_row_count_is_refused_whole() {
    let mut world = World::new(LogFormats::Tsv);
    let good = batch(0, 0, 3, false);
    let unknown = Batch { fingerprint: 1, ..good.clone() };
    let damaged = Batch { crc32: good.crc32 ^ 1, ..good.clone() };
    let miscounted = Batch { rows: 4, ..good.clone() };
    let other = Batch { fingerprint: LaterConn::schema().fingerprint(), ..good };
    for bad in [unknown, damaged, miscounted, other] {
        assert!(matches!(world.store().accept(&bad), Err(AcceptError::Refused(_))));
    }
    assert!(world.archived_rows().is_empty());
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let mut world = World::new(LogFormats::Tsv);
    for stream in ["../conn", "", ".conn", "a/b", "stdout", "stderr"] {
        let mut schema = Conn::schema();
        schema.stream = stream.to_owned().into();
        assert!(matches!(world.store().add_schema(schema), Err(AcceptError::Refused(_))));
    }
}

#[test]
fn a_closed_life_of_a_producer_is_forgotten_and_refused() {
    let mut world = World::new(LogFormats::Tsv);
    world.run(&Step::Rows { producer: 0, rows: 5 });
    world.commit();
    let store = world.store();
    store.forget(&node(0).into(), EPOCH + 1).unwrap();
    assert!(store.positions(&node(0)).is_empty());
    assert!(matches!(store.accept(&batch(0, 5, 1, false)), Err(AcceptError::Refused(_))));
}

/// ZeekControl's archive: `conn.13:00:00-14:00:00.log` in the folder of its start.
#[test]
fn files_follow_each_other_at_whole_multiples_of_the_interval() {
    let mut world = World::new(LogFormats::Tsv);
    for _ in 0..2 {
        world.run(&Step::Wait { seconds: 1_800 });
        world.run(&Step::Rows { producer: 0, rows: 1 });
        world.run(&Step::Wait { seconds: 1_801 });
        world.commit();
    }
    let logs = world.dir.path().join("logs/1970-02-11");
    world.store.take().unwrap().close().unwrap();
    let mut names: Vec<_> =
        fs::read_dir(logs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["conn.16:30:00-17:00:00.log", "conn.17:00:00-18:00:00.log"]);
}
