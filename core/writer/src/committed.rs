//! What of a logger's files is committed, for whoever reads them while it writes: the bytes
//! behind may vanish and come back as other rows. Reads the journal, never writes.

use std::path::Path;
use std::sync::Arc;

use tyto_core::time::Ts;

use crate::disk;
use crate::error::StoreError;
use crate::journal;

/// A log file that is being written, as of the last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedFile {
    /// Its name in the logger's folder: `conn.log`.
    pub name: Arc<str>,
    /// Its log stream.
    pub stream: Arc<str>,
    /// Start of the time that it covers.
    pub opened: Ts,
    /// Bytes that are committed.
    pub len: u64,
}

/// The files that the logger of `folder` is writing, by name. A file that is between its two
/// names is not among them: it soon is in `rotated/`. None when there is no journal.
///
/// # Errors
/// When the journal cannot be read, or is damaged before its end.
pub fn committed(folder: &Path) -> Result<Option<Committed>, StoreError> {
    let path = folder.join("journal");
    let bytes = match disk::real().read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", &path, error)),
    };
    let state = journal::state_of(&path, &bytes)?;
    let files = state.files.into_iter().filter(|(_, file)| file.len > 0);
    let files = files.map(|(name, file)| CommittedFile {
        name,
        stream: file.stream,
        opened: Ts(file.opened_ns),
        len: file.len,
    });
    Ok(Some(Committed { files: files.collect(), is_rotating: !state.rotating.is_empty() }))
}

/// What [`committed`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Files being written.
    pub files: Vec<CommittedFile>,
    /// A file is between its two names at this moment.
    pub is_rotating: bool,
}
