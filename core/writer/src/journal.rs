//! The logger's commit journal: how long each log file is and how far each producer's rows are
//! in them, as of the last commit. What the files hold beyond that was never acked and is cut
//! off at the next start. Format: docs/formats/journal.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Open};
use crate::error::StoreError;
use crate::frame::{self, BadBody, Fields, Tail, put_bytes, put_number};

/// First bytes of the file; the digit is the version of the format.
const MAGIC: &[u8; 8] = b"TytoJrn1";

/// Appended length at which the journal is written anew, bytes; at least twice its content.
const COMPACT_BYTES: u64 = 1 << 20;

/// Rows of one producer's life and log stream.
pub(crate) type PositionKey = (Arc<str>, u64, Arc<str>);

/// A log file that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileEntry {
    /// Log stream.
    pub(crate) stream: Arc<str>,
    /// Schema of its rows.
    pub(crate) fingerprint: u64,
    /// When the file begins, for the archive's name, ns since the Unix epoch.
    pub(crate) opened_ns: u64,
    /// Committed length, bytes.
    pub(crate) len: u64,
}

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A file exists or has grown.
    File { name: Arc<str>, file: FileEntry },
    /// A file begun is gone: it held nothing that was committed.
    Gone { name: Arc<str> },
    /// A file of `len` bytes becomes `rotated/<to>`; nothing is appended any more.
    Rotate { name: Arc<str>, len: u64, to: Arc<str> },
    /// The file has its new name.
    Rotated { name: Arc<str> },
    /// Rows are on disk.
    Position { key: PositionKey, next_seq: u64 },
    /// Rows of a producer in a log stream, over all its lives.
    Written { stream: Arc<str>, node: Arc<str>, rows: u64 },
    /// Rows of `Written` that go into no file, over all the producer's lives.
    Filtered { stream: Arc<str>, node: Arc<str>, rows: u64 },
    /// Lives of a producer below this one will not be heard of again.
    Forget { node: Arc<str>, oldest_epoch: u64 },
}

/// What the journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Files being written, by name.
    pub(crate) files: BTreeMap<Arc<str>, FileEntry>,
    /// Files between their two names: name to committed length and name in `rotated/`.
    pub(crate) rotating: BTreeMap<Arc<str>, (u64, Arc<str>)>,
    /// Next sequence number per producer's life and stream.
    pub(crate) positions: BTreeMap<PositionKey, u64>,
    /// Rows per stream and producer.
    pub(crate) written: BTreeMap<(Arc<str>, Arc<str>), u64>,
    /// Rows per stream and producer that go into no file.
    pub(crate) filtered: BTreeMap<(Arc<str>, Arc<str>), u64>,
    /// Oldest life of each producer that may still send.
    pub(crate) oldest: BTreeMap<Arc<str>, u64>,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    len: u64,
    compact_at: u64,
    /// Behind the last record may stand one that failed: its sync did, but not its write.
    is_tail_unsure: bool,
    /// The file got its name without the folder being synced since.
    name_unsynced: bool,
    state: State,
}

impl State {
    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::File { name, file } => {
                self.files.insert(name, file);
            }
            Entry::Gone { name } => {
                self.files.remove(&name);
            }
            Entry::Rotate { name, len, to } => {
                self.files.remove(&name);
                self.rotating.insert(name, (len, to));
            }
            Entry::Rotated { name } => {
                self.rotating.remove(&name);
            }
            Entry::Position { key, next_seq } => {
                self.positions.insert(key, next_seq);
            }
            Entry::Written { stream, node, rows } => {
                self.written.insert((stream, node), rows);
            }
            Entry::Filtered { stream, node, rows } => {
                self.filtered.insert((stream, node), rows);
            }
            Entry::Forget { node, oldest_epoch } => {
                self.positions.retain(|(n, epoch, _), _| *n != node || *epoch >= oldest_epoch);
                self.oldest.insert(node, oldest_epoch);
            }
        }
    }

    /// Entries that give this state from nothing.
    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (name, file) in &self.files {
            entries.push(Entry::File { name: name.clone(), file: file.clone() });
        }
        for (name, (len, to)) in &self.rotating {
            entries.push(Entry::Rotate { name: name.clone(), len: *len, to: to.clone() });
        }
        for (node, &oldest_epoch) in &self.oldest {
            entries.push(Entry::Forget { node: node.clone(), oldest_epoch });
        }
        for (key, &next_seq) in &self.positions {
            entries.push(Entry::Position { key: key.clone(), next_seq });
        }
        for ((stream, node), &rows) in &self.written {
            entries.push(Entry::Written { stream: stream.clone(), node: node.clone(), rows });
        }
        for ((stream, node), &rows) in &self.filtered {
            entries.push(Entry::Filtered { stream: stream.clone(), node: node.clone(), rows });
        }
        entries
    }
}

impl Entry {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::File { name, file } => {
                out.push(1);
                put_bytes(out, name.as_bytes());
                put_bytes(out, file.stream.as_bytes());
                put_number(out, file.fingerprint);
                put_number(out, file.opened_ns);
                put_number(out, file.len);
            }
            Self::Gone { name } => {
                out.push(2);
                put_bytes(out, name.as_bytes());
            }
            Self::Rotate { name, len, to } => {
                out.push(3);
                put_bytes(out, name.as_bytes());
                put_number(out, *len);
                put_bytes(out, to.as_bytes());
            }
            Self::Rotated { name } => {
                out.push(4);
                put_bytes(out, name.as_bytes());
            }
            Self::Position { key: (node, epoch, stream), next_seq } => {
                out.push(5);
                put_bytes(out, node.as_bytes());
                put_number(out, *epoch);
                put_bytes(out, stream.as_bytes());
                put_number(out, *next_seq);
            }
            Self::Written { stream, node, rows } => {
                out.push(6);
                put_bytes(out, stream.as_bytes());
                put_bytes(out, node.as_bytes());
                put_number(out, *rows);
            }
            Self::Filtered { stream, node, rows } => {
                out.push(8);
                put_bytes(out, stream.as_bytes());
                put_bytes(out, node.as_bytes());
                put_number(out, *rows);
            }
            Self::Forget { node, oldest_epoch } => {
                out.push(7);
                put_bytes(out, node.as_bytes());
                put_number(out, *oldest_epoch);
            }
        }
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self, BadBody> {
        let kind = fields.byte()?;
        let name: Arc<str> = fields.text()?.into();
        Ok(match kind {
            1 => Self::File {
                name,
                file: FileEntry {
                    stream: fields.text()?.into(),
                    fingerprint: fields.number()?,
                    opened_ns: fields.number()?,
                    len: fields.number()?,
                },
            },
            2 => Self::Gone { name },
            3 => Self::Rotate { name, len: fields.number()?, to: fields.text()?.into() },
            4 => Self::Rotated { name },
            5 => {
                let (epoch, stream) = (fields.number()?, fields.text()?.into());
                Self::Position { key: (name, epoch, stream), next_seq: fields.number()? }
            }
            6 => {
                Self::Written { stream: name, node: fields.text()?.into(), rows: fields.number()? }
            }
            7 => Self::Forget { node: name, oldest_epoch: fields.number()? },
            8 => {
                Self::Filtered { stream: name, node: fields.text()?.into(), rows: fields.number()? }
            }
            _ => return Err(BadBody),
        })
    }
}

impl Journal {
    /// Reads the journal at `path`, or begins one. A record that was being written when the
    /// process died is cut off.
    ///
    /// # Errors
    /// When it cannot be read or written, or when it is damaged before its end.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self, StoreError> {
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        let state = state_of(&path, &bytes)?;
        // Starting anew also cuts a torn tail, by the same atomic step as each compaction.
        let (file, len) = write_beside(&*disk, &path, &state)?;
        put_in_place(&*disk, &path)?;
        sync_parent(&*disk, &path)?;
        let compact_at = (2 * len).max(COMPACT_BYTES);
        Ok(Self {
            disk,
            path,
            file,
            len,
            compact_at,
            is_tail_unsure: false,
            name_unsynced: false,
            state,
        })
    }

    /// The state as of the last record.
    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// Makes `entries` durable as one record, all or nothing.
    ///
    /// # Errors
    /// When the disk refuses; the journal is then as before, and the call may be repeated, behind
    /// [`settle`](Self::settle) if it is to say something else.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut record = Vec::new();
        frame::append(&mut record, |out| entries.iter().for_each(|entry| entry.put(out)));
        // Always at the committed length: a record that failed half-way is overwritten.
        self.is_tail_unsure = true;
        self.file
            .write_all_at(&record, self.len)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| StoreError::io("append to", &self.path, error))?;
        self.sync_name()?;
        self.is_tail_unsure = false;
        self.len += record.len() as u64;
        entries.into_iter().for_each(|entry| self.state.apply(entry));
        if self.len > self.compact_at
            && let Err(error) = self.compact()
        {
            // The record is durable; the next one tries again.
            tracing::warn!(error = %error.chain(), "journal not compacted");
        }
        Ok(())
    }

    /// Takes back a record that failed. It may be whole on disk all the same, and the next life
    /// would believe it: nothing that contradicts it may be written to log files before.
    ///
    /// # Errors
    /// When the disk refuses; the call is to be repeated.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        if self.is_tail_unsure {
            self.file
                .set_len(self.len)
                .and_then(|()| self.file.sync_all())
                .map_err(|error| StoreError::io("cut", &self.path, error))?;
            self.sync_name()?;
            self.is_tail_unsure = false;
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        let (file, len) = write_beside(&*self.disk, &self.path, &self.state)?;
        put_in_place(&*self.disk, &self.path)?;
        (self.file, self.len, self.compact_at) = (file, len, (2 * len).max(COMPACT_BYTES));
        self.name_unsynced = true;
        self.sync_name()
    }

    /// A record counts only when a crash cannot bring the journal before it back.
    fn sync_name(&mut self) -> Result<(), StoreError> {
        if self.name_unsynced {
            sync_parent(&*self.disk, &self.path)?;
            self.name_unsynced = false;
        }
        Ok(())
    }
}

/// What the `bytes` of the journal at `path` say. A record that is not whole at their end is being
/// written, or never was.
///
/// # Errors
/// When they are damaged before their end.
pub(crate) fn state_of(path: &Path, bytes: &[u8]) -> Result<State, StoreError> {
    let mut state = State::default();
    // A file shorter than its magic was never written to the end: nothing was committed.
    if bytes.len() < MAGIC.len() {
        return Ok(state);
    }
    let corrupt = |at: usize| StoreError::Corrupt { path: path.to_owned(), at: at as u64 };
    let frames = bytes.strip_prefix(MAGIC).ok_or_else(|| corrupt(0))?;
    let mut bad = None;
    let (len, tail) = frame::read(frames, |at, body| {
        if apply_body(&mut state, body).is_err() {
            bad.get_or_insert(at);
        }
    });
    match bad.or((tail == Tail::Corrupt).then_some(len)) {
        Some(at) => Err(corrupt(at + MAGIC.len())),
        None => Ok(state),
    }
}

fn apply_body(state: &mut State, body: &[u8]) -> Result<(), BadBody> {
    let mut fields = Fields::new(body);
    while !fields.is_empty() {
        state.apply(Entry::take(&mut fields)?);
    }
    Ok(())
}

/// Writes a journal that says `state` beside `path` and syncs it.
fn write_beside(
    disk: &dyn Disk,
    path: &Path,
    state: &State,
) -> Result<(Box<dyn DiskFile>, u64), StoreError> {
    let beside = path.with_extension("new");
    let fail = |error| StoreError::io("write", &beside, error);
    let mut bytes = MAGIC.to_vec();
    frame::append(&mut bytes, |out| state.entries().iter().for_each(|entry| entry.put(out)));
    let file = disk.open(&beside, Open::Create).map_err(fail)?;
    file.write_all_at(&bytes, 0).and_then(|()| file.sync_all()).map_err(fail)?;
    Ok((file, bytes.len() as u64))
}

fn put_in_place(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    disk.rename(&path.with_extension("new"), path)
        .map_err(|error| StoreError::io("replace", path, error))
}

/// Makes the names in the folder of `path` durable.
pub(crate) fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    disk.sync_folder(folder).map_err(|error| StoreError::io("sync", folder, error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::fs;

    use super::*;
    use crate::disk;

    fn position(node: &str, next_seq: u64) -> Entry {
        Entry::Position { key: (node.into(), 7, "conn".into()), next_seq }
    }

    fn entries() -> Vec<Entry> {
        let file =
            FileEntry { stream: "conn".into(), fingerprint: u64::MAX, opened_ns: 5, len: 900 };
        vec![
            Entry::File { name: "conn.log".into(), file: file.clone() },
            position("worker-1", 10),
            Entry::Written { stream: "conn".into(), node: "worker-1".into(), rows: 10 },
            Entry::Filtered { stream: "conn".into(), node: "worker-1".into(), rows: 3 },
            Entry::File { name: "dns.log".into(), file },
            Entry::Gone { name: "dns.log".into() },
            Entry::Rotate { name: "conn.log".into(), len: 950, to: "conn-5-9.log".into() },
            position("worker-2", 4),
            Entry::Rotated { name: "conn.log".into() },
            Entry::Forget { node: "worker-1".into(), oldest_epoch: 8 },
        ]
    }

    fn state_after(count: usize) -> State {
        let mut state = State::default();
        entries().into_iter().take(count).for_each(|entry| state.apply(entry));
        state
    }

    proptest! {
        /// A crash while a record was written leaves the state of the records before it.
        #[test]
        fn a_torn_tail_is_cut_and_writing_goes_on(cut in any::<prop::sample::Index>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            let mut lens = Vec::new();
            {
                let mut journal = Journal::open(disk::real(), path.clone()).unwrap();
                lens.push(usize::try_from(journal.len).unwrap());
                for entry in entries() {
                    journal.append(vec![entry]).unwrap();
                    lens.push(usize::try_from(journal.len).unwrap());
                }
            }
            let bytes = fs::read(&path).unwrap();
            let cut = cut.index(bytes.len() + 1);
            fs::write(&path, &bytes[..cut]).unwrap();
            let whole = lens.iter().filter(|&&len| len <= cut).count();
            let mut journal = Journal::open(disk::real(), path.clone()).unwrap();
            prop_assert_eq!(journal.state(), &state_after(whole.saturating_sub(1)));
            journal.append(vec![position("worker-3", 1)]).unwrap();
            let mut expected = journal.state().clone();
            let reopened = Journal::open(disk::real(), path).unwrap();
            expected.apply(position("worker-3", 1));
            prop_assert_eq!(reopened.state(), &expected);
        }
    }

    #[test]
    fn compaction_keeps_the_state_and_bounds_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(disk::real(), path.clone()).unwrap();
        for seq in 0..60 {
            let many = (0..2_000).map(|n| position(&format!("worker-{n}"), seq)).collect();
            journal.append(many).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() < 2 * COMPACT_BYTES);
        let state = journal.state().clone();
        assert_eq!(state.positions.len(), 2_000);
        assert_eq!(*Journal::open(disk::real(), path).unwrap().state(), state);
    }

    #[test]
    fn damage_in_the_middle_is_reported_and_nothing_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(disk::real(), path.clone()).unwrap();
        for seq in 0..4 {
            journal.append(vec![position("worker-1", seq)]).unwrap();
        }
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 40;
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(
            Journal::open(disk::real(), path.clone()),
            Err(StoreError::Corrupt { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}
