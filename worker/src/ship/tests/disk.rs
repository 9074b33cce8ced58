//! The backlog on a disk that tears, refuses and dies (`tyto_model_disk`), before a model of its
//! loggers and of the page in which the supervisor keeps count (`tyto_capture::account`).
//!
//! Whatever comes: no batch is written twice, at each logger those of a log stream come in
//! order and as they were made, the ledger adds up after every step, the spool keeps its bound, and once the disk
//! is well again everything goes on without hand work. A kill of the process loses nothing
//! that is not counted; a crash of the host costs what was not synced, and nothing that was.

mod cases;
mod loggers;

use std::path::Path;

use tyto_capture::account::{Left, LeftRows};
use tyto_model_disk::{Fault, Faults, ModelDisk};

use loggers::Store;

use super::super::spool::SyncJob;
use super::*;

const FOLDER: &str = "/tyto/spool/worker/ship";

/// Turns in which a disk that is well has to bring everything to the loggers.
const TURNS_MAX: usize = 200;

/// A spool may pass its bound by marks and by the heads of batches, bytes.
const OVER_BYTES_MAX: u64 = 20_000;

#[derive(Clone, Debug)]
enum Event {
    /// What may come without a disk that is unwell.
    Step(Step),
    /// Rows that got no numbers.
    Drop {
        stream: usize,
        rows: u64,
    },
    /// The thread beside has done its job.
    Sync,
    /// Power is lost.
    Crash,
    /// What happens at a later call of the disk.
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

/// A batch that the packet thread made; its number is the first bytes of its payload.
struct Made {
    stream: usize,
    rows: u64,
    payload: Bytes,
}

struct Host {
    disk: ModelDisk,
    bounds: Bounds,
    now: Duration,
    boot: u64,
    backlog: Option<Backlog>,
    /// Being synced, with what was there when it began.
    job: Option<(SyncJob, BTreeSet<usize>)>,
    loggers: [Store; 2],
    made: Vec<Made>,
    /// Which batch a sequence number of a life begins.
    names: BTreeMap<(u64, Arc<str>, u64), usize>,
    /// Which batch has a number in the spool.
    numbers: BTreeMap<u64, usize>,
    /// Rows handed over, by log stream.
    taken: [u64; 2],
    /// What the supervisor's page says: life, and rows by log stream.
    account: Option<(u64, [u64; 2])>,
    /// The first segment that its disk failed to sync.
    unsynced: Option<u64>,
    /// The same, before the event that is run.
    noted: Option<u64>,
    /// Batches in the spool after the latest step, and those of them that are on the medium.
    waiting: BTreeSet<usize>,
    durable: BTreeSet<usize>,
    /// A sync failed while these were not on the medium: no later one can bring them there.
    doomed: BTreeSet<usize>,
    /// Batches that the ledger counts as dropped.
    given_up: BTreeSet<usize>,
    once_given_up: BTreeSet<usize>,
    /// Batches that a logger which ended had not written: they come later than those after them.
    taken_back: BTreeSet<usize>,
    /// A planned death is one of the host.
    is_host: bool,
    /// The host has crashed: rows may have been lost without a trace.
    has_crashed: bool,
}

impl Host {
    fn new(seed: u64, bounds: Bounds) -> Self {
        let disk = ModelDisk::new(seed);
        // The node's folder is there before the node is.
        disk.disk().create_dir_all(Path::new(FOLDER)).unwrap();
        for folder in Path::new(FOLDER).ancestors() {
            disk.disk().sync_folder(folder).unwrap();
        }
        let mut host = Self {
            disk,
            bounds,
            now: Duration::ZERO,
            boot: 1,
            backlog: None,
            job: None,
            loggers: Default::default(),
            made: Vec::new(),
            names: BTreeMap::new(),
            numbers: BTreeMap::new(),
            taken: [0; 2],
            account: None,
            unsynced: None,
            noted: None,
            waiting: BTreeSet::new(),
            durable: BTreeSet::new(),
            doomed: BTreeSet::new(),
            given_up: BTreeSet::new(),
            once_given_up: BTreeSet::new(),
            taken_back: BTreeSet::new(),
            is_host: false,
            has_crashed: false,
        };
        host.open().unwrap();
        host
    }

    /// A life begins, if the disk lets it.
    fn open(&mut self) -> std::io::Result<()> {
        if self.backlog.is_some() {
            return Ok(());
        }
        self.now = Duration::ZERO;
        // The clock stands still: lives are told apart all the same.
        let (bounds, life) = (self.bounds.clone(), (1, format!("boot {}", self.boot)));
        let life = (life.0, life.1.as_str());
        let opened = Backlog::open(self.disk.disk(), Path::new(FOLDER), bounds, life, &names());
        let mut backlog = opened?;
        if let Some((epoch, rows)) = self.account {
            let of = |(stream, rows): (&StreamRef, &u64)| LeftRows {
                stream: stream.name.to_owned(),
                rows: *rows,
                claims: 0,
            };
            let streams = STREAMS.iter().zip(&rows).map(of).collect();
            backlog.count_left(&Left { epoch, flows: 0, unsynced: None, streams });
        }
        if let Some(segment) = self.unsynced {
            backlog.distrust(segment);
        }
        let mut rows = [0; 2];
        for (stream, produced) in backlog.produced() {
            rows[place(stream)] = produced;
        }
        self.account = Some((backlog.epoch(), rows));
        if self.has_crashed {
            (0..2).for_each(|stream| assert!(rows[stream] <= self.taken[stream]));
        } else {
            assert_eq!(rows, self.taken, "each row that was made is known to the next life");
        }
        self.backlog = Some(backlog);
        self.note_names();
        // What was settled without its mark waits again.
        let waiting = self.in_spool();
        self.given_up.retain(|batch| !waiting.contains(batch));
        self.waiting = waiting;
        for batch in &self.durable {
            assert!(self.is_known(*batch), "batch {batch} was synced and is gone");
        }
        Ok(())
    }

    fn is_known(&self, batch: usize) -> bool {
        self.waiting.contains(&batch)
            || self.given_up.contains(&batch)
            || self.loggers.iter().any(|l| l.written.contains(&batch) || l.refused.contains(&batch))
    }

    /// Batches that are not settled.
    fn in_spool(&self) -> BTreeSet<usize> {
        let items = self.backlog.iter().flat_map(|backlog| backlog.items.values());
        items
            .map(|i| self.names[&(i.head.epoch, i.head.stream.clone(), i.head.first_seq)])
            .collect()
    }

    fn run(&mut self, event: &Event) {
        let has_failed = self.sync_fails();
        self.noted = self.backlog.as_ref().and_then(Backlog::unsynced);
        match event {
            Event::Plan { calls, fault, is_host } => {
                self.disk.plan(*calls, *fault);
                self.is_host = *is_host;
            }
            Event::Bad(faults) => self.disk.set_faults(*faults),
            Event::Fill { room_bytes } => {
                let room_bytes = Some(self.disk.used_bytes() + room_bytes);
                self.disk.set_faults(Faults { room_bytes, ..Faults::default() });
            }
            Event::Heal => self.disk.heal(),
            Event::Crash => self.die(true),
            Event::Step(Step::Kill) => self.die(false),
            Event::Drop { stream, rows } => self.drop_rows(*stream, *rows),
            Event::Sync => self.finish_sync(),
            Event::Step(step) => self.step(step),
        }
        if !has_failed && self.sync_fails() {
            self.doom();
        }
        self.note_names();
        self.note_settled();
        self.begin_sync();
        for _ in 0..2 {
            if self.disk.is_down() {
                self.die(self.is_host);
            }
            self.open().ok();
        }
        if self.disk.is_down() {
            self.die(self.is_host);
        }
        self.adds_up();
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Take { stream, rows, bytes } => self.take(*stream, *rows, *bytes),
            Step::Up { logger } => self.up(*logger),
            Step::Down { logger } => self.down(*logger),
            Step::End { logger, batches } => self.end_logger(*logger, *batches),
            Step::Commit { logger, batches } => self.commit(*logger, *batches, true),
            Step::CommitWithoutAck { logger, batches } => self.commit(*logger, *batches, false),
            Step::Refuse { logger } => self.refuse(*logger, true),
            Step::RefuseWithoutWord { logger } => {
                self.refuse(*logger, false);
                self.commit(*logger, 9, false);
            }
            Step::Housekeep => {
                self.now += TURN;
                if let Some(backlog) = &mut self.backlog {
                    backlog.housekeep(self.now);
                    backlog.pump();
                }
            }
            Step::Kill | Step::Retire { .. } | Step::Join { .. } => {}
        }
    }

    fn take(&mut self, stream: usize, rows: u32, bytes: usize) {
        let (Some(backlog), Some(account)) = (&mut self.backlog, &mut self.account) else { return };
        let batch = self.made.len();
        let mut payload = batch.to_le_bytes().to_vec();
        // No two batches end alike: halves of them never make a whole one.
        payload.extend((0..bytes).map(|place| u8::try_from((place + batch) % 251).unwrap()));
        let payload = Bytes::from(payload);
        let name: Arc<str> = STREAMS[stream].name.into();
        let first_seq = backlog.next_seqs.get(&name).copied().unwrap_or(0);
        self.names.insert((backlog.epoch(), name, first_seq), batch);
        self.made.push(Made { stream, rows: rows.into(), payload: payload.clone() });
        self.taken[stream] += u64::from(rows);
        account.1[stream] += u64::from(rows);
        let times = RowTimes { first_ns: 1, last_ns: 2 };
        let number = backlog.ledger.next_number;
        self.numbers.insert(number, batch);
        backlog.take(&RowBatch { stream: STREAMS[stream], rows, payload, times });
        if backlog.ledger.next_number > number {
            self.waiting.insert(batch);
        } else {
            self.given_up.insert(batch);
        }
        assert!(backlog.spool_bytes() < self.bounds.spool_bytes_max + OVER_BYTES_MAX);
    }

    fn drop_rows(&mut self, stream: usize, rows: u64) {
        let (Some(backlog), Some(account)) = (&mut self.backlog, &mut self.account) else { return };
        self.taken[stream] += rows;
        account.1[stream] += rows;
        backlog.count_dropped(STREAMS[stream].name, rows, Reason::QueueFull);
    }

    /// A sync failed that the backlog waits for itself, or one beside it.
    fn sync_fails(&self) -> bool {
        self.backlog.as_ref().is_some_and(Backlog::sync_fails)
    }

    fn begin_sync(&mut self) {
        let Some(backlog) = &mut self.backlog else { return };
        if self.job.is_none()
            && let Some(job) = backlog.sync_job()
        {
            self.job = Some((job, self.waiting.clone()));
        }
    }

    fn finish_sync(&mut self) {
        let (Some(backlog), Some((job, there))) = (&mut self.backlog, self.job.take()) else {
            return;
        };
        let result = job.run();
        let has_failed = result.is_err();
        if !has_failed {
            self.durable.extend(there.difference(&self.doomed));
        }
        backlog.synced(&job, result);
        if has_failed {
            self.doom();
        }
    }

    /// A sync failed. What was given up counts, too: it waits again when the mark that said so is
    /// not on the medium.
    fn doom(&mut self) {
        let there = self.waiting.iter().chain(&self.given_up);
        self.doomed.extend(there.filter(|batch| !self.durable.contains(batch)));
    }

    /// What is in the spool no more was written or given up.
    fn note_settled(&mut self) {
        if self.backlog.is_none() {
            return;
        }
        let waiting = self.in_spool();
        for &batch in self.waiting.difference(&waiting) {
            if !self.loggers.iter().any(|logger| logger.written.contains(&batch)) {
                self.given_up.insert(batch);
                self.once_given_up.insert(batch);
            }
        }
        self.waiting = waiting;
    }

    fn die(&mut self, is_host: bool) {
        self.note_settled();
        // A life that did not begin leaves what the one before did.
        if let Some(backlog) = &self.backlog {
            // Who dies within an event notes no more what he did then.
            let before = self.noted.filter(|_| self.disk.is_down());
            self.unsynced = before.or(backlog.unsynced());
        }
        (self.backlog, self.job) = (None, None);
        self.loggers.iter_mut().for_each(|logger| logger.outgoing = None);
        if is_host {
            self.disk.crash_host();
            (self.account, self.unsynced, self.has_crashed) = (None, None, true);
            self.boot += 1;
        } else {
            self.disk.kill();
        }
    }

    /// What was taken back from a logger has other numbers.
    fn note_names(&mut self) {
        let Some(backlog) = &self.backlog else { return };
        for (&number, item) in &backlog.items {
            let head = &item.head;
            let name = (head.epoch, head.stream.clone(), head.first_seq);
            if let Some(before) = item.origin.replaces.filter(|_| !self.names.contains_key(&name)) {
                let batch = self.numbers[&before];
                self.names.insert(name, batch);
                self.numbers.insert(number, batch);
                self.taken_back.insert(batch);
            }
        }
    }

    fn adds_up(&self) {
        let Some(backlog) = &self.backlog else { return };
        for (stream, row) in backlog.standing() {
            let accounted = row.tally.acked + row.pending + row.spooled + row.tally.dropped_rows();
            assert_eq!(row.tally.produced, accounted, "{stream}");
            let taken = self.taken[place(&stream)];
            if self.has_crashed {
                assert!(row.tally.produced <= taken, "{stream}: {} of {taken}", row.tally.produced);
            } else {
                assert_eq!(row.tally.produced, taken, "{stream}");
            }
        }
    }

    /// The disk is well, both loggers take everything, and nobody's hand is needed.
    fn end(&mut self) {
        self.disk.heal();
        self.run(&Event::Heal);
        self.settle();
        self.settled_right();
        // A mark that the disk refused is missed by the next life only, which asks again.
        for _ in 0..2 {
            self.run(&Event::Step(Step::Kill));
            self.settle();
            self.settled_right();
        }
        assert!(self.backlog.as_ref().unwrap().spool_bytes() < 300);
        let bytes: usize = self.disk.files().iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 5_000, "{bytes} bytes are left of an empty spool");
    }

    fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "rows stay in the spool");
            for logger in 0..LOGGERS.len() {
                self.run(&Event::Step(Step::Up { logger }));
                self.run(&Event::Step(Step::Commit { logger, batches: 1_000 }));
            }
            self.run(&Event::Step(Step::Housekeep));
            self.run(&Event::Sync);
            if self.waiting.is_empty() {
                break;
            }
        }
        // What was refused unheard is found at a welcome.
        (0..LOGGERS.len()).for_each(|logger| self.run(&Event::Step(Step::Up { logger })));
    }

    /// What the ledger says of rows that are settled is what the loggers have.
    fn settled_right(&self) {
        let written: Vec<usize> = self.loggers.iter().flat_map(|l| l.written.clone()).collect();
        let once: BTreeSet<usize> = written.iter().copied().collect();
        assert_eq!(once.len(), written.len(), "batches were written twice");
        let backlog = self.backlog.as_ref().unwrap();
        for (stream, row) in backlog.standing() {
            let of = once.iter().map(|&batch| &self.made[batch]);
            let rows: u64 = of.filter(|m| m.stream == place(&stream)).map(|m| m.rows).sum();
            assert_eq!(row.tally.acked, rows, "{stream}");
            let is_whole = row.tally.produced == self.taken[place(&stream)];
            assert!(is_whole || backlog.ledger.host_crashes > 0, "{stream}: lost in silence");
        }
    }
}

fn place(stream: &str) -> usize {
    STREAMS.iter().position(|of| of.name == stream).unwrap()
}
