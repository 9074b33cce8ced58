//! What can go wrong when logs are read.

use std::io;
use std::path::{Path, PathBuf};

use tyto_core::record::condition::ConditionError;
use tyto_core::record::line::LineError;
use tyto_writer::StoreError;

/// Why logs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk refused, or a compressed file is broken.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The journal or index of a logger cannot be read.
    #[error("cannot tell what is committed")]
    Store(#[from] StoreError),
    /// The condition does not fit the columns.
    #[error("where: {0}")]
    Condition(#[from] ConditionError),
    /// A line of a file is no row.
    #[error("`{}` holds a line that is no row: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        source: LineError,
    },
    /// Files went on moving while they were listed.
    #[error("`{}` changed again and again while it was listed", .0.display())]
    Restless(PathBuf),
    /// More rows match than there is room to sort.
    #[error("the rows that match take more than {0} bytes; a shorter time or a condition helps")]
    TooMany(u64),
    /// Rows cannot be given to who asked.
    #[error("cannot write the rows")]
    Output(#[source] io::Error),
}

impl ReadError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
