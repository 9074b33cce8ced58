//! [`LogStore`]: the log files of one logger, from batches to durable rows and archived files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::TimeZone;
use tyto_core::config::runtime::{LogsConfig, NodeConfig};
use tyto_core::layout::Layout;
use tyto_core::record::schema::Schema;
use tyto_core::time::Ts;

use crate::archive::{ArchiveOptions, ArchiveReport, Archiver, Archiving, make_folder};
use crate::batch::{Batch, BatchName, Position, Welcome};
use crate::clock::Clock;
use crate::disk::{self, Disk};
use crate::doubt::{CopyError, DoubtReport, Doubts};
use crate::error::{AcceptError, StoreError};
use crate::file::LogFile;
use crate::journal::{Entry, Journal, PositionKey};
use crate::plan::{Output, Plan, end_of};
use crate::{current, rotation, schemas};

/// Bytes of rows in memory at which a commit is due at once.
pub(crate) const PENDING_BYTES_MAX: usize = 8 << 20;

/// Schemas remembered. A batch of a further one is refused; an honest cluster has one per log
/// stream and release.
const SCHEMAS_MAX: usize = 1_024;

/// Producer lives and streams remembered. A batch of a further one is refused.
const POSITIONS_MAX: usize = 1 << 18;

/// Files open at the same time. A batch that needs a further one is refused.
const FILES_MAX: usize = 512;

/// Longest name of a log stream, bytes.
const STREAM_LEN_MAX: usize = 64;

/// Names that the node's own output has in the same folder.
const RESERVED: [&str; 2] = ["stdout", "stderr"];

/// Where a store works and how.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Name of the logger.
    pub logger: String,
    /// Folder of the files being written: `PREFIX/spool/LOGGER`.
    pub folder: PathBuf,
    /// The archive: `PREFIX/logs`.
    pub logs: PathBuf,
    /// Format, rotation, compression.
    pub config: LogsConfig,
    /// Zone of the times in headers and archive names.
    pub zone: TimeZone,
}

impl StoreOptions {
    /// The options of a logger or standalone node; times in the host's zone.
    pub fn of(config: &NodeConfig) -> Self {
        let layout = Layout::new(&config.prefix);
        Self {
            logger: config.node.clone(),
            folder: layout.node_spool(&config.node),
            logs: layout.logs(),
            config: config.logs.clone(),
            zone: TimeZone::system(),
        }
    }
}

/// The log files of one logger. Owned by one thread.
pub struct LogStore {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: StoreOptions,
    pub(crate) clock: Clock,
    pub(crate) journal: Journal,
    pub(crate) archiver: Archiver,
    pub(crate) doubts: Doubts,
    /// By the fingerprint of the schema.
    plans: HashMap<u64, Arc<Plan>>,
    /// Open files by name; the journal knows those that exist on disk.
    pub(crate) files: BTreeMap<Arc<str>, LogFile>,
    /// Per file name of a stream (`STREAM.log`) what it holds, and what it held before.
    current: HashMap<Arc<str>, CurrentSchema>,
    /// How far rows were taken, on disk or not.
    taken: HashMap<PositionKey, u64>,
    /// Keys to be acked by the next commit.
    touched: BTreeSet<PositionKey>,
    /// Rows taken since the last commit, per stream and producer.
    added: BTreeMap<(Arc<str>, Arc<str>), u64>,
    /// Those of them that the configuration of their stream keeps out of its files.
    filtered: BTreeMap<(Arc<str>, Arc<str>), u64>,
    /// Durable, and not reported to the caller yet.
    durable: Vec<(Arc<str>, Position)>,
    pending_bytes: usize,
    /// Files were created without the folder being synced since.
    pub(crate) names_unsynced: bool,
    /// When files are rotated next, by their interval (ns).
    pub(crate) rotate_at: BTreeMap<u64, Ts>,
    /// Where the last file of a stream ended: its next one begins there.
    pub(crate) last_closed: HashMap<Arc<str>, Ts>,
}

#[derive(Debug, Default)]
struct CurrentSchema {
    fingerprint: u64,
    superseded: BTreeSet<u64>,
}

impl std::fmt::Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStore").field("options", &self.options).finish_non_exhaustive()
    }
}

impl LogStore {
    /// Opens the store: cuts each file back to what was committed, finishes rotations that a
    /// crash cut off, and goes on with the files of the last life.
    ///
    /// # Errors
    /// When the disk refuses, or journal and files contradict each other.
    pub fn open(options: StoreOptions, clock: Clock) -> Result<Self, StoreError> {
        Self::open_on(disk::real(), options, clock, Archiving::InThread)
    }

    /// The same, on another disk than the host's.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: StoreOptions,
        clock: Clock,
        archiving: Archiving,
    ) -> Result<Self, StoreError> {
        let rotated = options.folder.join("rotated");
        let prefix = options.logs.parent().unwrap_or(&options.logs);
        make_folder(&*disk, prefix, &rotated)?;
        make_folder(&*disk, prefix, &options.logs)?;
        let mut journal = Journal::open(disk.clone(), options.folder.join("journal"))?;
        rotation::finish(&*disk, &options.folder, &mut journal)?;
        let files = rotation::resume_files(&*disk, &options.folder, &mut journal)?;
        let mut current: HashMap<Arc<str>, CurrentSchema> = HashMap::new();
        for (name, file) in &files {
            if **name == *rotation::plain_name(&file.stream, end_of(name)) {
                current.entry(name.clone()).or_default().fingerprint = file.fingerprint;
            }
        }
        let taken = journal.state().positions.iter().map(|(k, v)| (k.clone(), *v)).collect();
        let archive = ArchiveOptions {
            disk: disk.clone(),
            folder: options.folder.clone(),
            logs: options.logs.clone(),
            logger: options.logger.clone(),
            config: options.config.clone(),
            zone: options.zone.clone(),
        };
        let archiver = Archiver::start(archive, archiving, clock())
            .map_err(|error| StoreError::io("archive", &rotated, error))?;
        current::link_current(&*disk, &options);
        let doubts = Doubts::open(disk.clone(), &options.folder)
            .map_err(|error| StoreError::io("read", &options.folder.join("doubt"), error))?;
        let mut store = Self {
            disk,
            options,
            clock,
            journal,
            archiver,
            doubts,
            plans: HashMap::new(),
            files,
            current,
            taken,
            touched: BTreeSet::new(),
            added: BTreeMap::new(),
            filtered: BTreeMap::new(),
            durable: Vec::new(),
            pending_bytes: 0,
            names_unsynced: false,
            rotate_at: BTreeMap::new(),
            last_closed: HashMap::new(),
        };
        store.rotate_stale()?;
        store.plan_rotations();
        Ok(store)
    }

    /// What is durable of a producer.
    pub fn positions(&self, node: &str) -> Vec<Position> {
        let positions = self.journal.state().positions.iter();
        positions
            .filter(|((n, _, _), _)| **n == *node)
            .map(|((_, epoch, stream), &next_seq)| Position {
                epoch: *epoch,
                stream: stream.clone(),
                next_seq,
            })
            .collect()
    }

    /// What a producer is told when its session begins.
    pub fn welcome(&self, node: &str) -> Welcome {
        let written = self.written().filter(|(_, of, _)| ***of == *node);
        let written = written.map(|(stream, _, rows)| (stream.clone(), rows)).collect();
        Welcome { durable: self.positions(node), written }
    }

    /// Keeps a copy of a batch that is bound to another logger, which is away. False when it
    /// cannot be kept, which is told; the producer has the batch all the same.
    pub fn keep_copy(&mut self, batch: &Batch, logger: &str) -> bool {
        let kept = match self.plans.get(&batch.fingerprint) {
            Some(plan) if *plan.schema.stream == *batch.stream => {
                self.doubts.keep(batch, &plan.schema, logger)
            }
            _ => Err(CopyError::Refused("unknown schema".to_owned())),
        };
        if let Err(error) = &kept {
            tracing::warn!(
                node = %batch.node, stream = %batch.stream, first_seq = batch.first_seq, %error,
                "no copy of a batch in doubt; its producer keeps it"
            );
        }
        kept.is_ok()
    }

    /// Removes all copies of a producer but those of the batches named.
    pub fn keep_copies_of(&mut self, node: &str, in_doubt: &[BatchName]) {
        self.doubts.retain(node, in_doubt);
    }

    /// How the copies of batches in doubt stand.
    pub fn doubts(&self) -> DoubtReport {
        self.doubts.report()
    }

    /// Rows durable per stream and producer, over all lives of both, those of `filtered` included.
    pub fn written(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, u64)> {
        self.journal.state().written.iter().map(|((stream, node), &rows)| (stream, node, rows))
    }

    /// Those of the durable rows that are in no file, because the configuration of their stream
    /// keeps them out.
    pub fn filtered(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, u64)> {
        self.journal.state().filtered.iter().map(|((stream, node), &rows)| (stream, node, rows))
    }

    /// What the archive did since the start.
    pub fn archive_report(&self) -> ArchiveReport {
        self.archiver.report()
    }

    /// The producer will send nothing of lives before `oldest_epoch`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget(&mut self, node: &Arc<str>, oldest_epoch: u64) -> Result<(), StoreError> {
        if self.journal.state().oldest.get(node).is_some_and(|&oldest| oldest >= oldest_epoch) {
            return Ok(());
        }
        self.journal.append(vec![Entry::Forget { node: node.clone(), oldest_epoch }])?;
        let keep = |key: &PositionKey| key.0 != *node || key.1 >= oldest_epoch;
        self.taken.retain(|key, _| keep(key));
        self.touched.retain(keep);
        Ok(())
    }

    /// Learns the columns of a log stream.
    ///
    /// # Errors
    /// When the stream's name is not fit for a file, or too many schemas came.
    pub fn add_schema(&mut self, schema: Schema) -> Result<(), AcceptError> {
        let fingerprint = schema.fingerprint();
        if self.plans.contains_key(&fingerprint) {
            return Ok(());
        }
        if !is_stream_name(&schema.stream) {
            return Err(AcceptError::Refused(format!(
                "`{}` cannot name a log file",
                schema.stream
            )));
        }
        if self.plans.len() >= SCHEMAS_MAX {
            return Err(AcceptError::Refused(format!("more than {SCHEMAS_MAX} schemas")));
        }
        let plan = Plan::new(Arc::new(schema), &self.options.config);
        schemas::keep(&*self.disk, &self.options.folder, &plan.written);
        self.plans.insert(fingerprint, Arc::new(plan));
        Ok(())
    }

    /// The time by the store's clock.
    pub fn now(&self) -> Ts {
        (self.clock)()
    }

    /// Bytes of rows that wait for a commit.
    pub const fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether a commit has something to do or to ack.
    pub fn is_pending(&self) -> bool {
        !self.touched.is_empty() || !self.durable.is_empty()
    }

    /// Takes a batch; rows that were taken before are skipped. Returns the rows that are new.
    /// They are durable after the next [`commit`](Self::commit) only.
    ///
    /// # Errors
    /// When the batch can never be written: all its rows are left out. Or when the disk
    /// refuses what has to come first.
    pub fn accept(&mut self, batch: &Batch) -> Result<u64, AcceptError> {
        let refused = |why: &str| Err(AcceptError::Refused(why.to_owned()));
        if crc32fast::hash(&batch.payload) != batch.crc32 {
            return refused("payload does not have its checksum");
        }
        let oldest = self.journal.state().oldest.get(&batch.node).copied().unwrap_or(0);
        if batch.epoch < oldest {
            return refused("rows of a life that the producer had closed");
        }
        let Some(plan) = self.plans.get(&batch.fingerprint).cloned() else {
            return refused("unknown schema");
        };
        if *plan.schema.stream != *batch.stream {
            return refused("schema of another log stream");
        }
        let key = (batch.node.clone(), batch.epoch, batch.stream.clone());
        let next_seq = self.taken.get(&key).copied().unwrap_or(0);
        let skip = next_seq.saturating_sub(batch.first_seq).min(u64::from(batch.rows));
        let new_rows = u64::from(batch.rows) - skip;
        if new_rows > 0 {
            if !self.taken.contains_key(&key) && self.taken.len() >= POSITIONS_MAX {
                return refused("too many producers and log streams");
            }
            let written = self.write(&plan, batch, skip)?;
            let of = (batch.stream.clone(), batch.node.clone());
            *self.filtered.entry(of.clone()).or_default() += new_rows - written;
            *self.added.entry(of).or_default() += new_rows;
            self.taken.insert(key.clone(), batch.end_seq());
        }
        self.touched.insert(key);
        Ok(new_rows)
    }

    /// Puts the rows of a batch behind the first `skip` into the files of their stream, all of
    /// them or none. Returns how many are written.
    fn write(&mut self, plan: &Plan, batch: &Batch, skip: u64) -> Result<u64, AcceptError> {
        let refused = |error: &dyn std::fmt::Display| AcceptError::Refused(error.to_string());
        let rows =
            plan.select(&batch.payload, batch.rows, skip).map_err(|error| refused(&error))?;
        if rows.count == 0 {
            return Ok(0);
        }
        // First all files: making room for one may flush the others.
        let mut names = Vec::new();
        for output in &plan.outputs {
            names.push(self.file_for(plan, output)?);
        }
        let mut pushed: Vec<(Arc<str>, usize)> = Vec::new();
        for (name, output) in names.into_iter().zip(&plan.outputs) {
            let Some(file) = self.files.get_mut(&name) else { continue };
            match file.push_rows(plan, output.format, &rows) {
                Ok(bytes) => pushed.push((name, bytes)),
                Err(error) => {
                    for (name, bytes) in pushed {
                        self.files.entry(name).and_modify(|file| file.take_back(bytes));
                    }
                    return Err(refused(&error));
                }
            }
        }
        self.pending_bytes += pushed.iter().map(|(_, bytes)| bytes).sum::<usize>();
        Ok(if plan.outputs.is_empty() { 0 } else { rows.count })
    }

    /// Makes everything taken durable. The positions may be acked.
    ///
    /// # Errors
    /// When the disk refuses: nothing may be acked, and the call is to be repeated.
    pub fn commit(&mut self) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
        self.make_durable()?;
        Ok(std::mem::take(&mut self.durable))
    }

    /// Orderly end: all rows durable, all files in the archive. Returns what may be acked.
    ///
    /// # Errors
    /// When the disk refuses; what is committed stays so, and the next start goes on.
    pub fn close(mut self) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
        let durable = self.commit()?;
        let all: Vec<Arc<str>> = self.files.keys().cloned().collect();
        let now = (self.clock)();
        self.rotate(&all, now)?;
        self.archiver.tick(now);
        // Waits for the archive's thread.
        drop(self);
        Ok(durable)
    }

    pub(crate) fn make_durable(&mut self) -> Result<(), StoreError> {
        self.journal.settle()?;
        rotation::finish(&*self.disk, &self.options.folder, &mut self.journal)?;
        self.create_files()?;
        for file in self.files.values_mut() {
            file.flush()?;
        }
        let entries = self.changes();
        self.journal.append(entries)?;
        for key in std::mem::take(&mut self.touched) {
            let next_seq = self.taken.get(&key).copied().unwrap_or(0);
            let (node, epoch, stream) = key;
            self.durable.push((node, Position { epoch, stream, next_seq }));
        }
        self.added.clear();
        self.filtered.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    /// What the journal does not say yet.
    fn changes(&self) -> Vec<Entry> {
        let state = self.journal.state();
        let mut entries = Vec::new();
        for (name, file) in self.files.iter().filter(|(_, file)| file.exists()) {
            if state.files.get(name).is_none_or(|known| known.len != file.synced_len()) {
                entries.push(Entry::File { name: name.clone(), file: file.entry() });
            }
        }
        for key in &self.touched {
            let next_seq = self.taken.get(key).copied().unwrap_or(0);
            if state.positions.get(key) != Some(&next_seq) {
                entries.push(Entry::Position { key: key.clone(), next_seq });
            }
        }
        for (of, added) in &self.added {
            let before = state.written.get(of).copied().unwrap_or(0);
            let (stream, node) = of.clone();
            entries.push(Entry::Written { stream, node, rows: before + added });
        }
        for (of, added) in self.filtered.iter().filter(|(_, added)| **added > 0) {
            let before = state.filtered.get(of).copied().unwrap_or(0);
            let (stream, node) = of.clone();
            entries.push(Entry::Filtered { stream, node, rows: before + added });
        }
        entries
    }

    /// Name of the file that takes rows of `output`. Columns or a format that the stream did not
    /// have yet end its file. What was replaced (nodes restart one after another when a release
    /// changes columns) goes to a file beside it, so that the two do not rotate each other.
    fn file_for(&mut self, plan: &Plan, output: &Output) -> Result<Arc<str>, AcceptError> {
        let (stream, fingerprint) = (&plan.schema.stream, output.fingerprint);
        let plain: Arc<str> = rotation::plain_name(stream, output.end).into();
        let current = self.current.get(&plain);
        let is_current = current.is_some_and(|current| current.fingerprint == fingerprint);
        let name = match current {
            Some(current) if current.superseded.contains(&fingerprint) => {
                rotation::plain_name(&format!("{stream}.{fingerprint:016x}"), output.end).into()
            }
            Some(_) if !is_current => {
                self.make_durable()?;
                let now = (self.clock)();
                self.rotate(std::slice::from_ref(&plain), now)?;
                plain.clone()
            }
            _ => plain.clone(),
        };
        let current = self.current.entry(plain).or_default();
        if !is_current && !current.superseded.contains(&fingerprint) {
            let before = std::mem::replace(&mut current.fingerprint, fingerprint);
            current.superseded.insert(before);
        }
        if !self.files.contains_key(&name) {
            if self.files.len() >= FILES_MAX {
                return Err(AcceptError::Refused(format!("more than {FILES_MAX} log files")));
            }
            let file = self.new_file(&name, plan, output);
            self.files.insert(name.clone(), file);
        }
        Ok(name)
    }
}

/// Stream names become file names: letters, digits, `_` and `-`, beginning with a letter or
/// digit.
fn is_stream_name(name: &str) -> bool {
    name.len() <= STREAM_LEN_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && !RESERVED.contains(&name)
}
