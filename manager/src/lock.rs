//! One change at a time: verbs that change a cluster hold a lock on the folder of its
//! configuration. Verbs that only read never take it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

use crate::progress::Progress;

/// How long another ctl is waited for, as in ZeekControl.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two tries.
const TRY_INTERVAL: Duration = Duration::from_millis(200);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another ctl has it.
    #[error("another ctl is changing the cluster of `{}`; waited {seconds} s for it",
        etc.display(), seconds = PATIENCE.as_secs())]
    Held {
        /// Folder of the configuration.
        etc: PathBuf,
    },
    /// The folder cannot be locked.
    #[error("cannot lock `{}`", etc.display())]
    Folder {
        /// Folder of the configuration.
        etc: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Held until dropped, also by the end of the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the configuration in `etc`, waiting for another ctl to give it back.
    ///
    /// # Errors
    /// When another one holds it for too long, or it cannot be made.
    pub async fn take(etc: &Path, progress: &Progress) -> Result<Self, LockError> {
        let folder = |source| LockError::Folder { etc: etc.to_owned(), source };
        // The folder itself: no file is left behind, and editors that replace files do not matter.
        let lock = File::open(etc).map_err(folder)?;
        let give_up = Instant::now() + PATIENCE;
        let mut told = false;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: lock }),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(folder(error.into())),
            }
            if Instant::now() >= give_up {
                return Err(LockError::Held { etc: etc.to_owned() });
            }
            if !told {
                progress.heading("waiting for lock (another ctl is at work) ...");
                told = true;
            }
            sleep(TRY_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Lock, Progress};

    #[tokio::test]
    async fn a_second_one_waits_until_the_first_is_dropped() {
        let etc = tempfile::tempdir().unwrap();
        let progress = Progress::new(false);
        let first = Lock::take(etc.path(), &progress).await.unwrap();
        let mut second = Box::pin(Lock::take(etc.path(), &progress));
        let soon = Duration::from_millis(300);
        assert!(tokio::time::timeout(soon, &mut second).await.is_err());
        drop(first);
        second.await.unwrap();
    }
}
