//! The thread that syncs the spool, so that the ship thread never waits for it. One job at a
//! time.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::spool::{SyncFault, SyncJob};

/// A job and what came of it.
type Done = (SyncJob, Result<(), SyncFault>);

/// Where jobs are done, as the ship thread sees it.
#[derive(Debug)]
pub(super) struct Syncing {
    /// None: at once, by the caller.
    thread: Option<SyncThread>,
    tell: mpsc::Sender<Done>,
    done: mpsc::Receiver<Done>,
}

#[derive(Debug)]
struct SyncThread {
    jobs: mpsc::Sender<SyncJob>,
    handle: JoinHandle<()>,
}

impl Syncing {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has none.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, mut wanted) = mpsc::channel::<SyncJob>(1);
        let mut syncing = Self::inline();
        let tell = syncing.tell.clone();
        let handle = std::thread::Builder::new().name("spool-sync".into()).spawn(move || {
            while let Some(job) = wanted.blocking_recv() {
                let result = job.run();
                if tell.blocking_send((job, result)).is_err() {
                    return;
                }
            }
        })?;
        syncing.thread = Some(SyncThread { jobs, handle });
        Ok(syncing)
    }

    /// No thread: who begins a job does it.
    pub(super) fn inline() -> Self {
        let (tell, done) = mpsc::channel(1);
        Self { thread: None, tell, done }
    }

    /// Begins a job; the one before is done.
    pub(super) fn start_job(&mut self, job: SyncJob) {
        let sent = match &self.thread {
            Some(thread) => thread.jobs.try_send(job).is_ok(),
            None => {
                let result = job.run();
                self.tell.try_send((job, result)).is_ok()
            }
        };
        debug_assert!(sent, "one job at a time");
    }

    /// Waits for the job's end; for ever when there is none.
    pub(super) async fn done(&mut self) -> Option<Done> {
        self.done.recv().await
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.done.close();
        let Some(SyncThread { jobs, handle }) = self.thread.take() else { return };
        drop(jobs);
        if handle.join().is_err() {
            tracing::error!("the thread that syncs the spool died");
        }
    }
}
