//! Copies of batches in doubt: their logger has been away for long, and whether it has their rows
//! is not known. They stand apart from the log files, in `doubt/` below the folder of the files
//! being written, one file per batch, JSON lines, for who has to read them now. They never become
//! part of the log files: their producer keeps the batch, and when it is settled (its logger is
//! back and has it, or got it) the copy goes. So copies cannot make a row come twice.
//!
//! Source of truth is the producer: it names all that is in doubt, and what it does not name
//! is removed. Format: docs/formats/log-wire.md.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tyto_core::record::json::JsonRow;
use tyto_core::record::schema::Schema;
use tyto_core::record::wire::{self, WireError};

use crate::batch::{Batch, BatchName};
use crate::disk::{Disk, Open};

/// Name of the folder.
const FOLDER: &str = "doubt";

/// Copies kept at most; a producer has some hundred in doubt at the most.
const COPIES_MAX: usize = 1 << 14;

/// Bytes of all copies at most.
const COPIES_BYTES_MAX: u64 = 1 << 30;

/// Longest name of a logger that is taken from a producer, bytes.
const LOGGER_LEN_MAX: usize = 64;

/// Why a copy was not made. The producer has the batch, so nothing is lost.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There are too many, or they are too large.
    #[error("no room for further copies of batches in doubt")]
    NoRoom,
    /// It is not a batch of rows that are known here.
    #[error("{0}")]
    Refused(String),
    /// The disk refused.
    #[error("cannot write a copy of a batch in doubt")]
    Io(#[from] io::Error),
}

/// How the copies stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoubtReport {
    /// Batches copied here and not settled.
    pub copies: u64,
    /// Their rows.
    pub rows: u64,
    /// Copies that were not made, for want of room or because the disk refused.
    pub not_made: u64,
}

/// All copies of one logger.
#[derive(Debug)]
pub(crate) struct Doubts {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    copies: BTreeMap<(Arc<str>, BatchName), Copy>,
    /// Files that are to go and that the disk may not have let go: tried again at each tick.
    strays: BTreeSet<PathBuf>,
    bytes: u64,
    not_made: u64,
}

#[derive(Debug)]
struct Copy {
    path: PathBuf,
    rows: u64,
    bytes: u64,
}

impl Doubts {
    /// Finds the copies of earlier lives in the folder of the files being written. Copies that
    /// were not whole are removed.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn open(disk: Arc<dyn Disk>, folder: &Path) -> io::Result<Self> {
        let (folder, copies, strays) = (folder.join(FOLDER), BTreeMap::new(), BTreeSet::new());
        let mut doubts = Self { disk, folder, copies, strays, bytes: 0, not_made: 0 };
        let names = match doubts.disk.read_dir(&doubts.folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(doubts),
            Err(error) => return Err(error),
        };
        for name in names {
            let path = doubts.folder.join(&name);
            let Some(key) = name.to_str().and_then(key_of) else {
                if path.extension().is_some_and(|end| end == "new") {
                    doubts.disk.remove_file(&path)?;
                }
                continue;
            };
            let text = doubts.disk.read(&path)?;
            let rows = text.iter().filter(|&&byte| byte == b'\n').count() as u64;
            doubts.insert(key, Copy { path, rows, bytes: text.len() as u64 });
        }
        Ok(doubts)
    }

    /// Keeps a copy of a batch that is bound to `logger`; on disk when this returns.
    ///
    /// # Errors
    /// When there is no room, the batch is broken, or the disk refuses.
    pub(crate) fn keep(
        &mut self,
        batch: &Batch,
        schema: &Schema,
        logger: &str,
    ) -> Result<(), CopyError> {
        let made = self.try_keep(batch, schema, logger);
        self.not_made += u64::from(made.is_err());
        made
    }

    fn try_keep(&mut self, batch: &Batch, schema: &Schema, logger: &str) -> Result<(), CopyError> {
        let key = (batch.node.clone(), batch.name());
        if self.copies.contains_key(&key) {
            return Ok(());
        }
        if crc32fast::hash(&batch.payload) != batch.crc32 {
            return Err(CopyError::Refused("payload does not have its checksum".to_owned()));
        }
        if !is_logger_name(logger) {
            return Err(CopyError::Refused(format!("`{logger}` is no name of a logger")));
        }
        let text =
            json_lines(schema, &batch.payload).map_err(|e| CopyError::Refused(e.to_string()))?;
        let bytes = text.len() as u64;
        if self.copies.len() >= COPIES_MAX || self.bytes + bytes > COPIES_BYTES_MAX {
            return Err(CopyError::NoRoom);
        }
        self.disk.create_dir_all(&self.folder)?;
        let path = self.folder.join(file_name(&key, logger));
        if let Err(error) = self.write(&path, &text) {
            // What is there of it goes, now or some time.
            if self.strays.len() < COPIES_MAX {
                self.strays.extend([path.with_extension("new"), path]);
            }
            self.sweep();
            return Err(error.into());
        }
        self.strays.remove(&path);
        self.insert(key, Copy { path, rows: u64::from(batch.rows), bytes });
        Ok(())
    }

    fn write(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("new");
        let file = self.disk.open(&beside, Open::Create)?;
        file.write_all_at(text, 0)?;
        file.sync_data()?;
        self.disk.rename(&beside, path)?;
        self.disk.sync_folder(&self.folder)
    }

    /// Removes all copies of a producer but those of `named`.
    pub(crate) fn retain(&mut self, node: &str, named: &[BatchName]) {
        let gone: Vec<_> = (self.copies.keys())
            .filter(|(of, name)| **of == *node && !named.contains(name))
            .cloned()
            .collect();
        for copy in gone.into_iter().filter_map(|key| self.copies.remove(&key)) {
            self.bytes -= copy.bytes;
            self.strays.insert(copy.path);
        }
        self.sweep();
        if let Some(path) = self.strays.first() {
            tracing::warn!(path = %path.display(), "cannot remove a copy; tried again");
        }
    }

    /// Tries again to remove what the disk did not let go.
    pub(crate) fn tick(&mut self) {
        if !self.strays.is_empty() {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        let Self { disk, strays, .. } = self;
        strays.retain(|path| match disk.remove_file(path) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        });
        if self.copies.is_empty() && self.strays.is_empty() {
            // Not there, or not empty: both are as good.
            self.disk.remove_dir(&self.folder).ok();
        }
    }

    /// How the copies stand.
    pub(crate) fn report(&self) -> DoubtReport {
        let rows = self.copies.values().map(|copy| copy.rows).sum();
        DoubtReport { copies: self.copies.len() as u64, rows, not_made: self.not_made }
    }

    fn insert(&mut self, key: (Arc<str>, BatchName), copy: Copy) {
        self.bytes += copy.bytes;
        if let Some(before) = self.copies.insert(key, copy) {
            self.bytes -= before.bytes;
        }
    }
}

/// `STREAM@NODE@EPOCH@FIRST_SEQ@LOGGER.log`: none of the names has an `@`.
fn file_name((node, name): &(Arc<str>, BatchName), logger: &str) -> String {
    let BatchName { epoch, stream, first_seq } = name;
    format!("{stream}@{node}@{epoch}@{first_seq}@{logger}.log")
}

fn key_of(name: &str) -> Option<(Arc<str>, BatchName)> {
    let mut parts = name.strip_suffix(".log")?.split('@');
    let (stream, node) = (parts.next()?, parts.next()?);
    let (epoch, first_seq) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next()?;
    Some((node.into(), BatchName { epoch, stream: stream.into(), first_seq }))
}

fn is_logger_name(name: &str) -> bool {
    (1..=LOGGER_LEN_MAX).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn json_lines(schema: &Schema, payload: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut text = Vec::new();
    for row in wire::rows(payload) {
        let mut line = JsonRow::new(schema, &mut text);
        wire::replay(schema, row?, &mut line)?;
        line.end_row();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk;

    fn batch(node: &str, first_seq: u64) -> Batch {
        Batch {
            node: node.into(),
            epoch: 7,
            stream: "conn".into(),
            fingerprint: 1,
            first_seq,
            rows: 0,
            payload: bytes::Bytes::new(),
            crc32: 0,
            times: crate::RowTimes::default(),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder.join(FOLDER)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_copy_stays_over_lives_until_its_producer_names_it_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let schema = Schema { stream: "conn".into(), fields: Vec::new() };
        let mut doubts = Doubts::open(disk::real(), dir.path()).unwrap();
        for (node, first_seq) in [("worker-1", 0), ("worker-1", 10), ("worker-2", 0)] {
            doubts.keep(&batch(node, first_seq), &schema, "logger-1").unwrap();
        }
        fs::write(dir.path().join("doubt/conn@worker-1@7@20@logger-1.new"), "torn").unwrap();
        let mut doubts = Doubts::open(disk::real(), dir.path()).unwrap();
        assert_eq!(doubts.report().copies, 3);
        doubts.retain("worker-1", &[batch("worker-1", 10).name()]);
        assert_eq!(
            names(dir.path()),
            ["conn@worker-1@7@10@logger-1.log", "conn@worker-2@7@0@logger-1.log"]
        );
        doubts.retain("worker-1", &[]);
        doubts.retain("worker-2", &[]);
        assert!(!dir.path().join(FOLDER).exists());
    }

    /// Found by the simulated cluster: a disk that refused for a while left files in the folder,
    /// until the next start or for ever.
    #[test]
    fn what_the_disk_did_not_let_go_goes_when_it_is_well_again() {
        let dir = tempfile::tempdir().unwrap();
        let schema = Schema { stream: "conn".into(), fields: Vec::new() };
        let mut doubts = Doubts::open(disk::real(), dir.path()).unwrap();
        doubts.keep(&batch("worker-1", 0), &schema, "logger-1").unwrap();
        // Folders in the place of files: neither is written, and the first is not removed.
        let folder = dir.path().join(FOLDER);
        let (kept, refused) = (folder.join("conn@worker-1@7@0@logger-1.log"), folder.join("x"));
        fs::remove_file(&kept).unwrap();
        fs::create_dir(&kept).unwrap();
        doubts.retain("worker-1", &[]);
        assert_eq!(doubts.report().copies, 0);
        fs::remove_dir(&kept).unwrap();
        fs::write(&kept, "a row").unwrap();
        fs::write(&refused, "of another").unwrap();
        doubts.tick();
        assert_eq!(names(dir.path()), ["x"]);

        fs::create_dir(folder.join("conn@worker-1@7@10@logger-1.log")).unwrap();
        assert!(doubts.keep(&batch("worker-1", 10), &schema, "logger-1").is_err());
        fs::remove_dir(folder.join("conn@worker-1@7@10@logger-1.log")).unwrap();
        fs::remove_file(&refused).unwrap();
        doubts.tick();
        assert!(!folder.exists());
    }

    #[test]
    fn a_name_from_the_wire_cannot_leave_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let schema = Schema { stream: "conn".into(), fields: Vec::new() };
        let mut doubts = Doubts::open(disk::real(), dir.path()).unwrap();
        let told = doubts.keep(&batch("worker-1", 0), &schema, "../../logger-1");
        assert!(matches!(told, Err(CopyError::Refused(_))));
        assert_eq!(doubts.report().not_made, 1);
    }
}
