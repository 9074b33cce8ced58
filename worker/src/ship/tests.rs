//! The backlog against a model of its loggers: whatever dies or breaks off and when, each row
//! is on exactly one logger's disk once, and the ledger says so.

mod disk;
mod outcomes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tyto_core::record::schema::Schema;
use tyto_writer::{BatchName, Position, Refusal, RowTimes, disk as file_system};

use super::backlog::{Backlog, Bounds};
use super::batch::RowBatch;
use super::ledger::Reason;
use super::links::{Outgoing, Parcel};
use super::spool::BatchHead;
use super::unbound::Preciousness;
use crate::output::StreamRef;

const STREAMS: [StreamRef; 2] = [
    StreamRef { name: "conn", schema: || Schema { stream: "conn".into(), fields: Vec::new() } },
    StreamRef { name: "dns", schema: || Schema { stream: "dns".into(), fields: Vec::new() } },
];
const LOGGERS: [&str; 2] = ["logger-1", "logger-2"];

/// Time between two turns of housekeeping.
const TURN: Duration = Duration::from_secs(1);

/// A row: life, log stream, sequence number.
type Row = (u64, String, u64);

#[derive(Clone, Debug)]
enum Step {
    /// The packet thread hands over rows.
    Take { stream: usize, rows: u32, bytes: usize },
    /// A session with a logger begins, or begins anew.
    Up { logger: usize },
    /// A logger takes some of what was sent, commits it, and ends in order.
    End { logger: usize, batches: usize },
    /// It breaks; what was on its way is lost, and so are acks.
    Down { logger: usize },
    /// A logger takes some of what was sent, commits it, and its acks arrive.
    Commit { logger: usize, batches: usize },
    /// The same, but the session breaks before the acks arrive.
    CommitWithoutAck { logger: usize, batches: usize },
    /// A logger refuses the next batch for good.
    Refuse { logger: usize },
    /// The same, but the session breaks before the answer arrives.
    RefuseWithoutWord { logger: usize },
    /// Time passes: segments are removed, the ledger is saved, old doubts are copied.
    Housekeep,
    /// kill -9 and a new life.
    Kill,
    /// A deploy takes a logger out of the cluster; it still runs.
    Retire { logger: usize },
    /// A deploy makes it part of the cluster again; its old session, if any, has ended.
    Join { logger: usize },
}

/// A logger as `tyto_writer::LogStore` behaves.
#[derive(Default)]
struct Logger {
    outgoing: Option<mpsc::Receiver<Outgoing>>,
    positions: BTreeMap<(u64, Arc<str>), u64>,
    written: Vec<Row>,
    copies: BTreeSet<BatchName>,
}

struct World {
    dir: TempDir,
    bounds: Bounds,
    now: Duration,
    backlog: Option<Backlog>,
    loggers: [Logger; 2],
    /// What ends the session of a logger that was retired.
    ends: [CancellationToken; 2],
    /// Rows handed over, by log stream.
    taken: HashMap<&'static str, u64>,
    refused: u64,
}

fn names() -> Vec<Arc<str>> {
    LOGGERS.iter().map(|name| Arc::from(*name)).collect()
}

impl World {
    fn new(spool_bytes_max: u64) -> Self {
        Self::bounded(Bounds {
            spool_bytes_max,
            disk_free_min: 0,
            spool_age_max: None,
            order: Preciousness::new(&["dns".to_owned()]),
            doubt_timeout: Some(TURN * 3),
        })
    }

    fn bounded(bounds: Bounds) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let loggers = Default::default();
        let taken = HashMap::new();
        let ends = Default::default();
        let now = Duration::ZERO;
        let mut world = Self { dir, bounds, now, backlog: None, loggers, ends, taken, refused: 0 };
        world.open();
        world
    }

    fn open(&mut self) {
        // The clock stands still: lives are told apart all the same.
        self.now = Duration::ZERO;
        let (path, bounds) = (self.dir.path(), self.bounds.clone());
        let opened = Backlog::open(file_system::real(), path, bounds, (1, "boot"), &names());
        self.backlog = Some(opened.unwrap());
    }

    fn backlog(&mut self) -> &mut Backlog {
        self.backlog.as_mut().unwrap()
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Take { stream, rows, bytes } => {
                let stream = STREAMS[*stream];
                let payload = Bytes::from(vec![b'r'; *bytes]);
                *self.taken.entry(stream.name).or_default() += u64::from(*rows);
                let times = RowTimes { first_ns: 1, last_ns: 2 };
                self.backlog().take(&RowBatch { stream, rows: *rows, payload, times });
            }
            Step::Up { logger } => self.up(*logger),
            Step::Down { logger } => self.down(*logger),
            Step::End { logger, batches } => {
                if self.loggers[*logger].outgoing.is_some() {
                    self.run(&Step::Commit { logger: *logger, batches: *batches });
                    self.loggers[*logger].outgoing = None;
                    self.backlog().logger_ended(LOGGERS[*logger]);
                }
            }
            Step::Commit { logger, batches } => {
                for position in self.commit(*logger, *batches) {
                    self.backlog().acked(LOGGERS[*logger], &position);
                }
                self.backlog().pump();
            }
            Step::CommitWithoutAck { logger, batches } => {
                self.commit(*logger, *batches);
                self.down(*logger);
            }
            Step::Refuse { logger } => self.refuse(*logger, true),
            Step::RefuseWithoutWord { logger } => {
                self.refuse(*logger, false);
                self.commit(*logger, 9);
                self.down(*logger);
            }
            Step::Housekeep => {
                self.now += TURN;
                let now = self.now;
                self.backlog().housekeep(now);
            }
            Step::Kill => {
                self.backlog = None;
                self.loggers.iter_mut().for_each(|logger| logger.outgoing = None);
                self.open();
            }
            Step::Retire { logger } => {
                self.ends[*logger] = CancellationToken::new();
                let end = self.ends[*logger].clone();
                self.backlog().logger_retired(LOGGERS[*logger], end);
            }
            Step::Join { logger } => {
                self.loggers[*logger].outgoing = None;
                self.backlog().logger_joined(LOGGERS[*logger].into());
                self.ends[*logger] = CancellationToken::new();
            }
        }
        for (logger, end) in self.loggers.iter_mut().zip(&self.ends) {
            if end.is_cancelled() {
                logger.outgoing = None;
            }
        }
        self.sync();
        self.adds_up();
    }

    /// What the thread beside does.
    fn sync(&mut self) {
        while let Some(job) = self.backlog().sync_job() {
            let result = job.run();
            self.backlog().synced(&job, result);
        }
    }

    fn up(&mut self, logger: usize) {
        let (sender, outgoing) = mpsc::channel(128);
        self.loggers[logger].outgoing = Some(outgoing);
        let durable = self.loggers[logger].positions.iter();
        let durable: Vec<Position> = durable
            .map(|((epoch, stream), &next_seq)| {
                let (epoch, stream) = (*epoch, stream.clone());
                Position { epoch, stream, next_seq }
            })
            .collect();
        let mut written: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for (_, stream, _) in &self.loggers[logger].written {
            *written.entry(stream.as_str().into()).or_default() += 1;
        }
        let written: Vec<_> = written.into_iter().collect();
        self.backlog().link_up(LOGGERS[logger], &durable, Some(&written), sender);
    }

    fn down(&mut self, logger: usize) {
        self.loggers[logger].outgoing = None;
        self.backlog().link_down(LOGGERS[logger]);
    }

    /// The next batch that a logger was sent. What else comes before it is done.
    fn next_parcel(&mut self, logger: usize) -> Option<Parcel> {
        loop {
            let to = &mut self.loggers[logger];
            match to.outgoing.as_mut()?.try_recv().ok()? {
                Outgoing::Batch(parcel) => return Some(parcel),
                Outgoing::Copy { parcel: Parcel { head, .. }, bound_to } => {
                    assert_ne!(*bound_to, *LOGGERS[logger]);
                    let (epoch, stream) = (head.epoch, head.stream);
                    let name = BatchName { epoch, stream, first_seq: head.first_seq };
                    to.copies.insert(name.clone());
                    self.backlog().copied(LOGGERS[logger], &name);
                }
                Outgoing::InDoubt(names) => to.copies.retain(|copy| names.contains(copy)),
            }
        }
    }

    fn commit(&mut self, logger: usize, batches: usize) -> Vec<Position> {
        let mut durable = Vec::new();
        for _ in 0..batches {
            let Some(Parcel { head, .. }) = self.next_parcel(logger) else { break };
            let logger = &mut self.loggers[logger];
            let key = (head.epoch, head.stream.clone());
            let next_seq = logger.positions.entry(key).or_default();
            let new = (*next_seq).max(head.first_seq)..head.end_seq();
            logger.written.extend(new.map(|seq| (head.epoch, head.stream.to_string(), seq)));
            *next_seq = (*next_seq).max(head.end_seq());
            let (epoch, next_seq) = (head.epoch, *next_seq);
            durable.push(Position { epoch, stream: head.stream, next_seq });
        }
        durable
    }

    fn refuse(&mut self, logger: usize, is_told: bool) {
        let Some(Parcel { head, .. }) = self.next_parcel(logger) else { return };
        let refusal = Refusal {
            epoch: head.epoch,
            stream: head.stream,
            first_seq: head.first_seq,
            rows: head.rows,
            reason: "test".into(),
        };
        if is_told {
            self.refused += u64::from(head.rows);
            self.backlog().refused(LOGGERS[logger], &refusal);
        }
    }

    fn adds_up(&mut self) {
        let taken = self.taken.clone();
        for (stream, row) in self.backlog().standing() {
            let accounted = row.tally.acked + row.pending + row.spooled + row.tally.dropped_rows();
            assert_eq!(row.tally.produced, accounted, "{stream}");
            assert_eq!(row.tally.produced, taken[&*stream], "{stream}");
        }
    }

    /// Both loggers come back and take everything.
    fn settle(&mut self) {
        for logger in 0..LOGGERS.len() {
            self.run(&Step::Join { logger });
            self.run(&Step::Up { logger });
        }
        while !self.backlog().is_drained() {
            for logger in 0..LOGGERS.len() {
                self.run(&Step::Commit { logger, batches: 1_000 });
            }
        }
        self.run(&Step::Housekeep);
        for logger in 0..LOGGERS.len() {
            assert!(self.next_parcel(logger).is_none());
            assert!(self.loggers[logger].copies.is_empty(), "all is settled, nothing in doubt");
        }
    }

    /// Rows written; panics when one was written twice.
    fn written(&self) -> usize {
        let mut rows: Vec<&Row> = self.loggers.iter().flat_map(|l| &l.written).collect();
        let count = rows.len();
        rows.sort();
        rows.dedup();
        assert_eq!(rows.len(), count, "rows were written twice");
        count
    }

    fn sum(&mut self, of: impl Fn(&super::backlog::Standing) -> u64) -> u64 {
        self.backlog().standing().values().map(of).sum()
    }
}

fn step() -> impl Strategy<Value = Step> {
    let logger = 0..LOGGERS.len();
    prop_oneof![
        8 => (0..2_usize, 1..50_u32, 1..3_000_usize)
            .prop_map(|(stream, rows, bytes)| Step::Take { stream, rows, bytes }),
        2 => logger.clone().prop_map(|logger| Step::Up { logger }),
        1 => logger.clone().prop_map(|logger| Step::Down { logger }),
        4 => (logger.clone(), 1..9_usize)
            .prop_map(|(logger, batches)| Step::Commit { logger, batches }),
        1 => (logger.clone(), 1..9_usize)
            .prop_map(|(logger, batches)| Step::CommitWithoutAck { logger, batches }),
        1 => (logger.clone(), 0..9_usize)
            .prop_map(|(logger, batches)| Step::End { logger, batches }),
        1 => logger.clone().prop_map(|logger| Step::Refuse { logger }),
        1 => logger.clone().prop_map(|logger| Step::RefuseWithoutWord { logger }),
        1 => logger.clone().prop_map(|logger| Step::Retire { logger }),
        1 => logger.prop_map(|logger| Step::Join { logger }),
        1 => Just(Step::Housekeep),
        1 => Just(Step::Kill),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_row_is_written_once_and_the_ledger_says_so(steps in steps()) {
        let mut world = World::new(1 << 30);
        steps.iter().for_each(|step| world.run(step));
        world.settle();
        let taken: u64 = world.taken.values().sum();
        let refused = world.sum(|row| row.tally.dropped_rows());
        prop_assert!(refused >= world.refused);
        prop_assert_eq!(world.written() as u64, taken - refused);
        prop_assert_eq!(world.sum(|row| row.tally.acked), taken - refused);
        // A settled spool is empty, and the next life knows the same.
        world.run(&Step::Kill);
        prop_assert_eq!(world.sum(|row| row.tally.acked), taken - refused);
        prop_assert!(world.backlog().spool_bytes() < 300);
    }

    /// The bound holds, the oldest unsent rows go, and nothing else does.
    #[test]
    fn a_full_spool_drops_and_counts(steps in steps()) {
        let bytes_max = 300_000;
        let mut world = World::new(bytes_max);
        for step in steps.iter().chain(&steps).chain(&steps).chain(&steps) {
            world.run(step);
            prop_assert!(world.backlog().spool_bytes() < bytes_max + 10_000);
        }
        world.settle();
        let taken: u64 = world.taken.values().sum();
        let dropped = world.sum(|row| row.tally.dropped_rows());
        prop_assert_eq!(world.written() as u64, taken - dropped);
        prop_assert_eq!(world.sum(|row| row.tally.acked), taken - dropped);
    }

    /// A death of the host may cost the end of the last segment: what stands before is sent.
    #[test]
    fn a_cut_segment_gives_its_first_batches(batches in 1..20_u32, cut in any::<Index>()) {
        let mut world = World::new(1 << 30);
        for rows in 1..=batches {
            world.run(&Step::Take { stream: 0, rows, bytes: 100 });
        }
        world.backlog = None;
        let path = world.dir.path().join("000000000000.seg");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..cut.index(bytes.len() + 1)]).unwrap();
        world.open();
        let kept = world.sum(|row| row.tally.produced);
        prop_assert_eq!(world.sum(|row| row.spooled), kept);
        world.taken.insert("conn", kept);
        world.settle();
        prop_assert_eq!(world.written() as u64, kept);
        let whole = (1..=u64::from(batches)).scan(0, |sum, rows| { *sum += rows; Some(*sum) });
        prop_assert!(kept == 0 || whole.into_iter().any(|sum| sum == kept));
    }
}

#[test]
fn a_batch_in_doubt_waits_for_its_logger_and_new_ones_go_to_the_other() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Up { logger: 0 });
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    world.run(&Step::Down { logger: 0 });
    world.run(&Step::Up { logger: 1 });
    world.run(&Step::Take { stream: 0, rows: 4, bytes: 10 });
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!(world.loggers[1].written.len(), 4);
    assert_eq!(world.sum(|row| row.spooled), 3);
    world.run(&Step::Kill);
    world.run(&Step::Up { logger: 1 });
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!(world.loggers[1].written.len(), 4, "in doubt at logger-1, even in the next life");
    world.settle();
    assert_eq!(world.loggers[0].written.len(), 3);
}

#[test]
fn a_logger_that_leaves_gets_what_is_bound_to_it_and_nothing_more() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Up { logger: 0 });
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    world.run(&Step::Retire { logger: 0 });
    world.run(&Step::Take { stream: 0, rows: 4, bytes: 10 });
    assert!(!world.ends[0].is_cancelled());
    world.run(&Step::Commit { logger: 0, batches: 9 });
    world.run(&Step::Housekeep);
    assert_eq!(world.loggers[0].written.len(), 3);
    assert!(world.ends[0].is_cancelled());
    world.run(&Step::Up { logger: 1 });
    world.run(&Step::Commit { logger: 1, batches: 9 });
    assert_eq!(world.loggers[1].written.len(), 4);
}

/// Found by the simulated cluster (seed 235): a full disk took no mark of what was settled, the
/// next life sent it again, and a logger that had been told that its life was closed refused it.
#[test]
fn a_life_is_closed_when_its_segments_are_gone_not_when_all_in_them_is_settled() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    let first = world.backlog().oldest_epoch();
    world.run(&Step::Kill);
    world.run(&Step::Up { logger: 0 });
    world.run(&Step::Commit { logger: 0, batches: 9 });
    assert_eq!(world.loggers[0].written.len(), 3);
    assert_eq!(world.backlog().oldest_epoch(), first);
    world.run(&Step::Housekeep);
    assert!(world.backlog().oldest_epoch() > first);
}

#[test]
fn rows_of_earlier_lives_go_first() {
    let mut world = World::new(1 << 30);
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    world.run(&Step::Kill);
    world.run(&Step::Take { stream: 0, rows: 3, bytes: 10 });
    let oldest = world.backlog().oldest_epoch();
    world.settle();
    let epochs: Vec<u64> = world.loggers.iter().flat_map(|l| &l.written).map(|row| row.0).collect();
    assert_eq!(epochs.len(), 6);
    world.run(&Step::Housekeep);
    assert!(world.backlog().oldest_epoch() > oldest);
    let first = world.loggers.iter().find_map(|l| l.written.first()).unwrap();
    assert_eq!(first.0, oldest);
}

#[test]
fn rows_dropped_before_they_had_numbers_stay_in_the_ledger() {
    let mut world = World::new(1 << 30);
    world.backlog().count_dropped("conn", 7, Reason::QueueFull);
    world.taken.insert("conn", 7);
    world.run(&Step::Housekeep);
    world.run(&Step::Kill);
    assert_eq!(world.sum(|row| row.tally.dropped[&Reason::QueueFull]), 7);
}

#[test]
fn damage_inside_a_segment_costs_the_batch_it_hit() {
    let mut world = World::new(1 << 30);
    for _ in 0..3 {
        world.run(&Step::Take { stream: 0, rows: 1, bytes: 1_000 });
    }
    world.backlog = None;
    let path = world.dir.path().join("000000000000.seg");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    world.open();
    assert_eq!(world.sum(|row| row.spooled), 2);
}
