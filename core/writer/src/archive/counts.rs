//! What the archive did since the start, for the logger's health report.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that several threads add to.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// For what goes up and down.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The same; returns what it was.
    pub(crate) fn replace(&self, value: u64) -> u64 {
        self.0.swap(value, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of the archive's threads.
        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $($(#[$doc])* pub(crate) $name: Count,)*
        }

        /// What the archive did since the start.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct ArchiveReport {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl ArchiveReport {
            /// Each count with its name.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        impl Counts {
            pub(crate) fn report(&self) -> ArchiveReport {
                ArchiveReport { $($name: self.$name.get(),)* }
            }
        }
    };
}

counts! {
    /// Files that got their name in the archive.
    archived_files,
    /// Times that a file could not be archived; it is tried again.
    archive_faults,
    /// Files that were to become Parquet and could not; they are archived as text.
    parquet_faults,
    /// Files that were older than they are kept.
    expired_by_age,
    /// Files that went because the archive was too large.
    expired_by_size,
    /// Files that went because the disk was too full.
    expired_by_free_space,
    /// Bytes of these files.
    expired_bytes,
    /// Times that the archive could not be looked through, or a file not be removed.
    expire_faults,
    /// 1 while the archive is too large or the disk too full, and nothing may go.
    expire_stuck,
    /// Rotation commands that ended well.
    rotation_command_ok,
    /// Those that failed or took too long; they are tried again.
    rotation_command_failed,
    /// Files for which it is not tried any more.
    rotation_command_given_up,
    /// Files for which it is still to be run.
    rotation_command_waiting,
}

/// Counts shared between threads.
pub(crate) type SharedCounts = Arc<Counts>;
