//! The store on a disk that forgets, tears and refuses (`tyto_model_disk`): random sequences of
//! batches of several producers, log streams, lives and releases, commits, rotations, archiving,
//! ends, deaths of the process and of the host, errors at any call, a full disk and a read-only
//! one. Whatever comes: an acked row is in the files once, none is there twice, no line is torn,
//! the counts add up, and once the disk is well again everything goes on without hand work.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::GzDecoder;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use tyto_core::config::logs::{Compression, LogsConfig};
use tyto_core::record::LogRecord;
use tyto_core::record::wire::append_row;
use tyto_core::time::{NANOS, Ts};
use tyto_model_disk::{Fault, Faults, ModelDisk};
use tyto_writer::archive::Archiving;
use tyto_writer::index;
use tyto_writer::{AcceptError, Batch, LogStore, RowTimes, StoreError, StoreOptions};

#[derive(LogRecord)]
#[log(stream = "conn")]
struct Conn {
    /// Who wrote the row.
    producer: u64,
    /// In which life.
    epoch: u64,
    /// Its sequence number.
    seq: u64,
}

/// What `conn` looks like in another release.
#[derive(LogRecord)]
#[log(stream = "conn")]
struct LaterConn {
    producer: u64,
    epoch: u64,
    seq: u64,
    more: Option<String>,
}

#[derive(LogRecord)]
#[log(stream = "dns")]
struct Dns {
    producer: u64,
    epoch: u64,
    seq: u64,
}

const PRODUCERS: usize = 3;
const STREAMS: [&str; 2] = ["conn", "dns"];

/// Tries before a disk that is well counts as one that needs hand work.
const TRIES_MAX: usize = 50;

#[derive(Clone, Debug)]
enum Step {
    /// A producer writes rows and sends them.
    Rows {
        producer: usize,
        stream: usize,
        rows: u32,
    },
    /// A producer begins another life; what it has not heard an ack of comes again first.
    Restart {
        producer: usize,
    },
    /// The next rows of this producer come from another release.
    Upgrade {
        producer: usize,
    },
    /// A group commit; whether its acks arrive.
    Commit {
        acks: bool,
    },
    /// Time goes on, or is set back.
    Wait {
        seconds: i64,
    },
    /// The logger is stopped in order, and started.
    Stop,
    /// kill -9.
    Kill,
    /// Power is lost.
    Crash,
    /// What happens at a later call.
    Plan {
        calls: u64,
        fault: Fault,
        is_host: bool,
    },
    /// The disk refuses by chance.
    Bad(Faults),
    /// There is room for so many bytes more.
    Fill {
        room_bytes: u64,
    },
    Heal,
}

/// Rows on their way.
#[derive(Clone, Debug)]
struct Sent {
    epoch: u64,
    stream: usize,
    first_seq: u64,
    rows: u32,
    is_later: bool,
}

/// A producer keeps what is not acked.
#[derive(Default)]
struct Producer {
    epoch: u64,
    next_seq: BTreeMap<usize, u64>,
    produced: BTreeMap<(u64, usize), u64>,
    unacked: Vec<Sent>,
    /// Not taken by the store of this life yet.
    unsent: VecDeque<Sent>,
    is_later: bool,
}

struct World {
    disk: ModelDisk,
    now: Arc<AtomicU64>,
    store: Option<LogStore>,
    producers: Vec<Producer>,
    compress: bool,
    /// A planned death is one of the host.
    is_host: bool,
}

impl World {
    fn new(seed: u64, compress: bool) -> Self {
        let now = Arc::new(AtomicU64::new(1_000 * 3_600 * NANOS));
        let producers = (0..PRODUCERS).map(|_| Producer { epoch: 1, ..Producer::default() });
        let (disk, producers) = (ModelDisk::new(seed), producers.collect());
        // The prefix is there before any node is.
        disk.disk().create_dir_all(Path::new("/tyto")).unwrap();
        disk.disk().sync_folder(Path::new("/")).unwrap();
        Self { disk, now, store: None, producers, compress, is_host: false }
    }

    /// Opens the store if the disk lets it; then each producer says hello.
    fn open(&mut self) -> Result<(), StoreError> {
        if self.store.is_some() {
            return Ok(());
        }
        let config = LogsConfig {
            rotation_interval_s: 3_600,
            compress: if self.compress { Compression::Gzip } else { Compression::Off },
            ..LogsConfig::default()
        };
        let options = StoreOptions {
            logger: "logger".into(),
            folder: "/tyto/spool/logger".into(),
            logs: "/tyto/logs".into(),
            config,
            zone: TimeZone::UTC,
        };
        let now = self.now.clone();
        let clock = Box::new(move || Ts(now.load(Ordering::Relaxed)));
        let mut store = LogStore::open_on(self.disk.disk(), options, clock, Archiving::InTick)?;
        for schema in [Conn::schema(), LaterConn::schema(), Dns::schema()] {
            store.add_schema(schema).unwrap();
        }
        self.store = Some(store);
        for producer in 0..PRODUCERS {
            self.hello(producer);
        }
        Ok(())
    }

    /// A session begins: the producer forgets what is durable, and sends the rest again.
    fn hello(&mut self, producer: usize) {
        let Some(store) = &mut self.store else { return };
        let at = &mut self.producers[producer];
        let oldest = at.unacked.iter().map(|sent| sent.epoch).min().unwrap_or(at.epoch);
        // What is not forgotten now will be at a later hello.
        store.forget(&node(producer), oldest).ok();
        for position in store.positions(&node(producer)) {
            at.acked(position.epoch, &position.stream, position.next_seq);
        }
        at.unsent = at.unacked.clone().into();
        self.send(producer);
    }

    /// Sends in order, until the store cannot take more just now.
    fn send(&mut self, producer: usize) {
        let Some(store) = &mut self.store else { return };
        let at = &mut self.producers[producer];
        while let Some(sent) = at.unsent.front() {
            match store.accept(&batch(producer, sent)) {
                Ok(_) => {}
                Err(AcceptError::Refused(why)) => panic!("{why}"),
                Err(AcceptError::Store(_)) => return,
            }
            at.unsent.pop_front();
        }
    }

    fn commit(&mut self, acks: bool) -> Result<(), StoreError> {
        let Some(store) = &mut self.store else { return Ok(()) };
        for (node, position) in store.commit()? {
            let producer: usize = node.strip_prefix("worker-").unwrap().parse().unwrap();
            if acks {
                let at = &mut self.producers[producer];
                at.acked(position.epoch, &position.stream, position.next_seq);
            }
        }
        if !acks {
            // Lost with their sessions.
            (0..PRODUCERS).for_each(|producer| self.hello(producer));
        }
        Ok(())
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Rows { producer, stream, rows } => {
                self.producers[*producer].write(*stream, *rows);
                self.send(*producer);
            }
            Step::Restart { producer } => {
                let at = &mut self.producers[*producer];
                at.epoch += 1;
                at.next_seq.clear();
                self.hello(*producer);
            }
            Step::Upgrade { producer } => self.producers[*producer].is_later = true,
            Step::Commit { acks } => drop(self.commit(*acks)),
            Step::Wait { seconds } => {
                let now = self.now.load(Ordering::Relaxed);
                let now = now.saturating_add_signed(seconds * NANOS as i64);
                self.now.store(now, Ordering::Relaxed);
                self.store.as_mut().map(LogStore::tick);
            }
            Step::Stop => drop(self.store.take().map(LogStore::close)),
            Step::Kill => {
                self.store = None;
                self.disk.kill();
            }
            Step::Crash => {
                self.store = None;
                self.disk.crash_host();
            }
            Step::Plan { calls, fault, is_host } => {
                self.disk.plan(*calls, *fault);
                self.is_host = *is_host;
            }
            Step::Bad(faults) => self.disk.set_faults(*faults),
            Step::Fill { room_bytes } => {
                let room_bytes = Some(self.disk.used_bytes() + room_bytes);
                self.disk.set_faults(Faults { room_bytes, ..Faults::default() });
            }
            Step::Heal => self.disk.heal(),
        }
        self.bury();
        // Whatever kept it from being opened is over some time.
        self.open().ok();
        (0..PRODUCERS).for_each(|producer| self.send(producer));
        self.bury();
    }

    /// What a planned death leaves.
    fn bury(&mut self) {
        if self.disk.is_down() {
            self.store = None;
            if self.is_host { self.disk.crash_host() } else { self.disk.kill() }
        }
    }

    /// The disk is well, and nobody's hand is needed: all rows are archived, each once.
    fn end(mut self) {
        self.disk.heal();
        self.open().unwrap();
        for tried in 0.. {
            assert!(tried < TRIES_MAX, "rows are not taken: {:?}", self.commit(true));
            (0..PRODUCERS).for_each(|producer| self.send(producer));
            let is_done = self.commit(true).is_ok();
            if is_done && self.producers.iter().all(|at| at.unacked.is_empty()) {
                break;
            }
        }
        self.check_ledger();
        self.store.take().unwrap().close().unwrap();
        self.check_files();
    }

    /// Rows by producer and stream, over all lives, as the journal counts them.
    fn check_ledger(&self) {
        let mut expected = BTreeMap::new();
        for (producer, at) in self.producers.iter().enumerate() {
            for ((_, stream), rows) in &at.produced {
                let key = (STREAMS[*stream].to_owned(), node(producer).to_string());
                *expected.entry(key).or_insert(0) += rows;
            }
        }
        let written = self.store.as_ref().unwrap().written();
        let written: BTreeMap<_, _> = written
            .map(|(stream, node, rows)| ((stream.to_string(), node.to_string()), rows))
            .collect();
        assert_eq!(written, expected);
    }

    fn check_files(&self) {
        let mut rows = BTreeMap::new();
        for (path, bytes) in self.disk.files() {
            if path.starts_with("/tyto/logs") {
                read_rows(&path, &bytes, &mut rows);
            } else {
                let name = path.strip_prefix("/tyto/spool/logger").unwrap();
                let name = name.to_str().unwrap();
                let may_stay = ["journal", "index", "schemas"];
                let may_stay = may_stay.iter().any(|start| name.starts_with(start));
                assert!(may_stay, "{} is left", path.display());
            }
        }
        let mut expected = BTreeMap::new();
        for (producer, at) in self.producers.iter().enumerate() {
            for (&(epoch, stream), &count) in &at.produced {
                let row = |seq| ((STREAMS[stream].to_owned(), producer as u64, epoch, seq), 1);
                expected.extend((0..count).map(row));
            }
        }
        assert_eq!(rows, expected);
        STREAMS.iter().for_each(|stream| self.check_index(stream));
    }

    /// The numbers of a stream's rows: each archived file has its own, without a gap.
    fn check_index(&self, stream: &str) {
        let folder = Path::new("/tyto/spool/logger");
        let files: BTreeMap<_, _> = self.disk.files().into_iter().collect();
        let (mut next_row, mut archived) = (0, 0);
        for line in index::lines_on(&*self.disk.disk(), folder, stream).unwrap() {
            assert_eq!(line.first_row, next_row, "{line:?}");
            let mut rows = BTreeMap::new();
            read_rows(&line.path, files.get(&line.path).unwrap(), &mut rows);
            assert_eq!(rows.len() as u64, line.rows, "{line:?}");
            next_row += line.rows;
            archived += 1;
        }
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let of_stream = |path: &Path| name(path).starts_with(&format!("{stream}."));
        let logs = files.keys().filter(|path| path.starts_with("/tyto/logs") && of_stream(path));
        assert_eq!(logs.count(), archived);
    }
}

impl Producer {
    fn write(&mut self, stream: usize, rows: u32) {
        let next_seq = self.next_seq.entry(stream).or_default();
        let (epoch, first_seq) = (self.epoch, *next_seq);
        *next_seq += u64::from(rows);
        *self.produced.entry((epoch, stream)).or_default() += u64::from(rows);
        let sent = Sent { epoch, stream, first_seq, rows, is_later: self.is_later };
        self.unacked.push(sent.clone());
        self.unsent.push_back(sent);
    }

    fn acked(&mut self, epoch: u64, stream: &str, next_seq: u64) {
        let is_open = |sent: &Sent| {
            (sent.epoch, STREAMS[sent.stream]) != (epoch, stream)
                || sent.first_seq + u64::from(sent.rows) > next_seq
        };
        self.unacked.retain(is_open);
    }
}

fn node(producer: usize) -> Arc<str> {
    format!("worker-{producer}").into()
}

fn batch(producer: usize, sent: &Sent) -> Batch {
    let mut payload = Vec::new();
    let (name, epoch) = (node(producer), sent.epoch);
    let producer = producer as u64;
    for seq in sent.first_seq..sent.first_seq + u64::from(sent.rows) {
        match (sent.stream, sent.is_later) {
            (0, true) => append_row(&mut payload, &LaterConn { producer, epoch, seq, more: None }),
            (0, false) => append_row(&mut payload, &Conn { producer, epoch, seq }),
            _ => append_row(&mut payload, &Dns { producer, epoch, seq }),
        };
    }
    let schema = match (sent.stream, sent.is_later) {
        (0, true) => LaterConn::schema(),
        (0, false) => Conn::schema(),
        _ => Dns::schema(),
    };
    Batch {
        node: name,
        epoch,
        stream: STREAMS[sent.stream].into(),
        fingerprint: schema.fingerprint(),
        first_seq: sent.first_seq,
        rows: sent.rows,
        crc32: crc32fast::hash(&payload),
        payload: payload.into(),
        times: RowTimes::default(),
    }
}

fn read_rows(path: &Path, bytes: &[u8], rows: &mut BTreeMap<(String, u64, u64, u64), u32>) {
    let mut text = String::new();
    if path.extension().is_some_and(|end| end == "gz") {
        GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    } else {
        text.push_str(std::str::from_utf8(bytes).unwrap());
    }
    assert!(text.starts_with("#separator"), "{path:?}: {text}");
    assert!(text.lines().last().unwrap().starts_with("#close\t"), "{path:?}: {text}");
    let fields = text.lines().find(|line| line.starts_with("#fields")).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let stream = name.split('.').next().unwrap().to_owned();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!(columns.len(), fields.split('\t').count() - 1, "{path:?}: {line}");
        let number = |column: usize| columns[column].parse::<u64>().unwrap();
        *rows.entry((stream.clone(), number(0), number(1), number(2))).or_default() += 1;
    }
}

fn faults() -> impl Strategy<Value = Faults> {
    (0..200_u32, 0..500_u32, any::<bool>()).prop_map(|(errors, short_writes, read_only)| Faults {
        errors,
        short_writes,
        room_bytes: None,
        is_read_only: read_only && errors % 4 == 0,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![Just(Fault::Error), Just(Fault::Full), Just(Fault::Death)];
    let producer = 0..PRODUCERS;
    prop_oneof![
        12 => (producer.clone(), 0..2_usize, 1..20_u32)
            .prop_map(|(producer, stream, rows)| Step::Rows { producer, stream, rows }),
        1 => producer.clone().prop_map(|producer| Step::Restart { producer }),
        1 => producer.prop_map(|producer| Step::Upgrade { producer }),
        6 => any::<bool>().prop_map(|acks| Step::Commit { acks }),
        4 => (-4_000..8_000_i64).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Stop),
        1 => Just(Step::Kill),
        1 => Just(Step::Crash),
        6 => (1..40_u64, fault, any::<bool>())
            .prop_map(|(calls, fault, is_host)| Step::Plan { calls, fault, is_host }),
        1 => faults().prop_map(Step::Bad),
        1 => (0..3_000_u64).prop_map(|room_bytes| Step::Fill { room_bytes }),
        2 => Just(Step::Heal),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_disk_does_each_row_is_archived_once(
        seed in any::<u64>(),
        compress in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(seed, compress);
        world.open().unwrap();
        steps.iter().for_each(|step| world.run(step));
        world.end();
    }
}
