//! A lock file whose lock is held by one process for its whole life.
//!
//! The lock is a POSIX record lock: the kernel gives it up when the process ends, however it
//! ends, keeps it over `execve`, and says who holds it. So a pid found here is never stale,
//! and two processes of the same name cannot run at once. The file's content is a note of the
//! holder about itself; the lock alone says that it lives.
//!
//! POSIX drops the lock when the holder closes *any* descriptor of the file: a process must
//! not call [`holder`] or [`note`] on a lock that it holds itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::{Errno, FdFlags};
use rustix::process::{Flock, FlockType, Pid};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Time between two tries to get a lock.
const TRY_INTERVAL: Duration = Duration::from_millis(5);

/// A lock held by this process.
#[derive(Debug)]
pub(crate) struct PidLock {
    file: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidLockError {
    /// Another process lives that holds it.
    #[error("`{}` is held by process {pid}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it.
        pid: i32,
    },
    /// The file cannot be used.
    #[error("cannot lock `{}`", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PidLock {
    /// Takes the lock, waiting up to `patience` for a holder that is about to end. Blocks.
    ///
    /// # Errors
    /// When another process holds it for longer, or the file cannot be opened or locked.
    pub(crate) fn acquire(path: &Path, patience: Duration) -> Result<Self, PidLockError> {
        let failed = |source: io::Error| PidLockError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let give_up_at = Instant::now() + patience;
        loop {
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::AGAIN | Errno::ACCESS) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            if Instant::now() >= give_up_at
                && let Some(pid) = holder_of(&file).map_err(failed)?
            {
                let pid = pid.as_raw_pid();
                return Err(PidLockError::Held { path: path.to_owned(), pid });
            }
            thread::sleep(TRY_INTERVAL);
        }
    }

    /// Replaces the note in the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_note(&mut self, note: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(note)?;
        self.file.set_len(0)?;
        self.file.write_all_at(&text, 0)?;
        self.file.flush()
    }

    /// Leaves the lock to the program that this process becomes by `execve`.
    ///
    /// # Errors
    /// When the descriptor's flags cannot be set.
    pub(crate) fn keep_over_exec(self) -> io::Result<()> {
        rustix::io::fcntl_setfd(&self.file, FdFlags::empty())?;
        // Never closed on purpose: closing it would give up the lock.
        let _descriptor = self.file.into_raw_fd();
        Ok(())
    }
}

/// The process that holds the lock, `None` when nobody does.
///
/// # Errors
/// When the file exists and cannot be asked, or the holder lives in another pid namespace.
pub(crate) fn holder(path: &Path) -> io::Result<Option<Pid>> {
    match File::open(path) {
        Ok(file) => holder_of(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The note in a lock file; `None` when there is none, or none that can be read.
pub(crate) fn note<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn holder_of(file: &File) -> io::Result<Option<Pid>> {
    let Some(lock) = rustix::process::fcntl_getlk(file, &Flock::from(FlockType::WriteLock))? else {
        return Ok(None);
    };
    if lock.typ == FlockType::Unlocked {
        return Ok(None);
    }
    lock.pid
        .map(Some)
        .ok_or_else(|| io::Error::other("the lock is held by a process of another pid namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_nobody_holds_has_no_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        assert!(holder(&path).unwrap().is_none());
        drop(PidLock::acquire(&path, Duration::ZERO).unwrap());
        assert!(holder(&path).unwrap().is_none());
    }

    #[test]
    fn the_note_of_a_holder_can_be_replaced_by_a_shorter_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let mut lock = PidLock::acquire(&path, Duration::ZERO).unwrap();
        lock.write_note(&"a long note").unwrap();
        lock.write_note(&7).unwrap();
        drop(lock);
        assert_eq!(note::<u32>(&path), Some(7));
    }
}
