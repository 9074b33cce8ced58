//! One change at a time: verbs that change a cluster hold a lock of this user on this machine.
//! Verbs that only read never take it.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

use crate::progress::Progress;
use crate::remote::error::RemoteError;
use crate::remote::ssh::control_dir;

/// How long another ctl is waited for, as in ZeekControl.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two tries.
const TRY_INTERVAL: Duration = Duration::from_millis(200);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another ctl has it.
    #[error("another ctl is changing cluster `{cluster}`; waited {seconds} s for it", seconds = PATIENCE.as_secs())]
    Held {
        /// The cluster.
        cluster: String,
    },
    /// The lock file.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder for it.
    #[error(transparent)]
    Folder(#[from] RemoteError),
}

/// Held until dropped, also by the end of the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `cluster`, waiting for another ctl to give it back.
    ///
    /// # Errors
    /// When another one holds it for too long, or it cannot be made.
    pub async fn take(cluster: &str, progress: &Progress) -> Result<Self, LockError> {
        // The name may hold only what a certificate can, so no slash.
        let path = control_dir()?.join(format!("{cluster}.lock"));
        let file = |source| LockError::File { path: path.clone(), source };
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = open.map_err(file)?;
        let give_up = Instant::now() + PATIENCE;
        let mut told = false;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: lock }),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(file(error.into())),
            }
            if Instant::now() >= give_up {
                return Err(LockError::Held { cluster: cluster.to_owned() });
            }
            if !told {
                progress.heading("waiting for lock (another ctl is at work) ...");
                told = true;
            }
            sleep(TRY_INTERVAL).await;
        }
    }
}
