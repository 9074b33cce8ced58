//! What can go wrong with log files.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store cannot go on. Nothing that was not acked counts as written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The journal is damaged before its end; rows may have been acked that it does not tell.
    #[error("`{}` is damaged at byte {at}, with whole records behind it", path.display())]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// A log file lost bytes that were committed.
    #[error("`{}` has {found} bytes, but {committed} were committed", path.display())]
    Short {
        /// The log file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// Its committed length.
        committed: u64,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// The error and its causes in one line.
    pub fn chain(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It can never be written.
    #[error("{0}")]
    Refused(String),
    /// The disk refused something that has to come first: offer the batch again later.
    #[error("batch cannot be taken now")]
    Store(#[from] StoreError),
}
