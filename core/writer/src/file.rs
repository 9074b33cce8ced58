//! One log file being written: rows gather in memory, a flush brings them to the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tyto_core::config::logs::LogFormat;
use tyto_core::record::wire::WireError;
use tyto_core::time::Ts;

use crate::disk::{Disk, DiskFile, Open};
use crate::error::StoreError;
use crate::journal::FileEntry;
use crate::plan::{Output, Plan, Selected};

/// Memory that an empty buffer keeps for the next rows, bytes.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// A log file and the rows that are not on disk yet.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    pub(crate) stream: Arc<str>,
    pub(crate) fingerprint: u64,
    pub(crate) format: LogFormat,
    /// Start of the time that the file covers, by its archive name.
    pub(crate) opened: Ts,
    file: Option<Box<dyn DiskFile>>,
    synced_len: u64,
    buffer: Vec<u8>,
}

/// Why rows are not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRows {
    /// The payload is not rows of the schema.
    #[error("rows do not follow their schema: {0}")]
    Wire(#[from] WireError),
    /// There are more or fewer rows than the batch says.
    #[error("batch holds another number of rows than it says")]
    Count,
}

impl LogFile {
    /// A file that does not exist yet; the first flush makes it.
    pub(crate) fn new(
        path: PathBuf,
        stream: Arc<str>,
        output: &Output,
        opened: Ts,
        header: Option<String>,
    ) -> Self {
        Self {
            path,
            stream,
            fingerprint: output.fingerprint,
            format: output.format,
            opened,
            file: None,
            synced_len: 0,
            buffer: header.map(String::into_bytes).unwrap_or_default(),
        }
    }

    /// Goes on behind the committed length of an existing file; what stands there is cut off.
    ///
    /// # Errors
    /// When the file is not there, shorter than committed, or cannot be cut.
    pub(crate) fn resume(
        disk: &dyn Disk,
        path: PathBuf,
        entry: &FileEntry,
    ) -> Result<Self, StoreError> {
        let file = cut(disk, &path, entry.len)?;
        // The configuration may have been another one when it was begun.
        let mut first = [0];
        let read = file.read_at(&mut first, 0);
        read.map_err(|error| StoreError::io("read", &path, error))?;
        let format = if first == *b"#" { LogFormat::Tsv } else { LogFormat::Json };
        Ok(Self {
            path,
            stream: entry.stream.clone(),
            fingerprint: entry.fingerprint,
            format,
            opened: Ts(entry.opened_ns),
            file: Some(file),
            synced_len: entry.len,
            buffer: Vec::new(),
        })
    }

    /// What the journal says of this file once its flush is done.
    pub(crate) fn entry(&self) -> FileEntry {
        FileEntry {
            stream: self.stream.clone(),
            fingerprint: self.fingerprint,
            opened_ns: self.opened.0,
            len: self.synced_len,
        }
    }

    /// Whether it is on disk, with or without rows.
    pub(crate) const fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes on disk.
    pub(crate) const fn synced_len(&self) -> u64 {
        self.synced_len
    }

    /// Appends rows; all or none. Returns the bytes they took.
    ///
    /// # Errors
    /// When they are not rows of the plan's schema.
    pub(crate) fn push_rows(
        &mut self,
        plan: &Plan,
        format: LogFormat,
        rows: &Selected<'_>,
    ) -> Result<usize, BadRows> {
        let start = self.buffer.len();
        let fault = match plan.print(&mut self.buffer, format, rows) {
            Ok(count) if count == rows.count => return Ok(self.buffer.len() - start),
            Ok(_) => BadRows::Count,
            Err(error) => BadRows::Wire(error),
        };
        self.buffer.truncate(start);
        Err(fault)
    }

    /// Takes back what was pushed last.
    pub(crate) fn take_back(&mut self, bytes: usize) {
        self.buffer.truncate(self.buffer.len().saturating_sub(bytes));
    }

    /// Writes the last line behind the committed rows and returns the length with it. It
    /// counts only when the journal says so: else the next rows take its place.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn write_last(&self, line: &str) -> Result<u64, StoreError> {
        if let Some(file) = &self.file {
            file.write_all_at(line.as_bytes(), self.synced_len)
                .and_then(|()| file.sync_data())
                .map_err(|error| StoreError::io("append to", &self.path, error))?;
        }
        Ok(self.synced_len + line.len() as u64)
    }

    /// Makes the file, empty.
    ///
    /// # Errors
    /// When the disk refuses, or a file of this name exists.
    pub(crate) fn create(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        let made = disk.open(&self.path, Open::CreateNew);
        self.file = Some(made.map_err(|error| StoreError::io("create", &self.path, error))?);
        Ok(())
    }

    /// Brings the buffer to the disk.
    ///
    /// # Errors
    /// When the disk refuses. The buffer is kept, and the next call writes it again from its
    /// first byte: after a failed sync the kernel may hold pages as clean that never arrived.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.buffer.is_empty() {
            return Ok(());
        }
        file.write_all_at(&self.buffer, self.synced_len)
            .and_then(|()| file.sync_data())
            .map_err(|error| StoreError::io("append to", &self.path, error))?;
        self.synced_len += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        Ok(())
    }
}

/// Opens a file and cuts it to its committed length.
///
/// # Errors
/// When the file is not there, is shorter than that, or cannot be cut.
pub(crate) fn cut(disk: &dyn Disk, path: &Path, len: u64) -> Result<Box<dyn DiskFile>, StoreError> {
    let fail = |error| StoreError::io("cut", path, error);
    let file = disk.open(path, Open::ReadWrite).map_err(fail)?;
    let found = file.size().map_err(fail)?;
    if found < len {
        return Err(StoreError::Short { path: path.to_owned(), found, committed: len });
    }
    if found > len {
        file.set_len(len).and_then(|()| file.sync_all()).map_err(fail)?;
    }
    Ok(file)
}
