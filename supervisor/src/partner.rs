//! The supervisor and its guard keep each other alive: each watches the other's pidfd and
//! starts it again when it ends, so that SIGKILL of either is mended without init's help.
//! Locks make sure that there is at most one of each.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};
use tyto_core::layout::Layout;
use tyto_daemon::shutdown::CancellationToken;

use crate::backoff;
use crate::child;
use crate::output;
use crate::pid_lock;
use crate::process::Process;

/// One that lived this long is started again at once; after shorter lives delays grow.
const RAN_WELL: Duration = Duration::from_secs(1);

/// How long a new process may take to get its lock.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// How long the guard may take to end when asked.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Time between two looks at a lock that is about to be taken.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partner {
    /// The supervisor itself.
    Supervisor,
    /// The process that does nothing but watch it.
    Guard,
}

impl Partner {
    /// Its subcommand.
    const fn subcommand(self) -> &'static str {
        match self {
            Self::Supervisor => "run",
            Self::Guard => "guard",
        }
    }

    /// The lock that it holds.
    pub(crate) fn lock(self, layout: &Layout) -> PathBuf {
        match self {
            Self::Supervisor => layout.supervisor_lock(),
            Self::Guard => layout.guard_lock(),
        }
    }

    /// A command that starts it apart from the caller's terminal.
    ///
    /// # Errors
    /// When the supervisor's log cannot be opened.
    pub(crate) fn command(self, layout: &Layout) -> io::Result<Command> {
        self.command_of(&child::own_program(), layout)
    }

    /// Like [`Partner::command`], of another program than this one.
    ///
    /// # Errors
    /// When the supervisor's log cannot be opened.
    pub(crate) fn command_of(self, program: &Path, layout: &Layout) -> io::Result<Command> {
        let log = output::open(&layout.supervisor_log())?;
        let mut command = Command::new(program);
        command.arg(self.subcommand()).arg("--prefix").arg(layout.prefix());
        command.current_dir(layout.prefix()).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    /// Keeps it alive until `end`; its pid (0 while there is none) goes to `pid`. When this
    /// returns, no start of it is under way.
    pub(crate) async fn keep(
        self,
        layout: Layout,
        pid: watch::Sender<u32>,
        end: CancellationToken,
    ) {
        let mut short_lives = 0;
        while !end.is_cancelled() {
            let began = Instant::now();
            match self.find(&layout) {
                Ok(Some(process)) => {
                    pid.send_replace(process.pid());
                    info!(partner = ?self, pid = process.pid(), "watching");
                    let exit = tokio::select! {
                        exit = process.exited() => exit,
                        () = end.cancelled() => return,
                    };
                    pid.send_replace(0);
                    warn!(partner = ?self, pid = process.pid(), %exit, "ended; starting it again");
                }
                Ok(None) => {}
                Err(error) => error!(partner = ?self, %error, "cannot watch it"),
            }
            if began.elapsed() >= RAN_WELL {
                short_lives = 0;
            } else if !self.wait(short_lives, &end).await {
                return;
            }
            short_lives = short_lives.saturating_add(1);
            if let Err(error) = self.start(&layout).await {
                error!(partner = ?self, %error, "cannot be started");
            }
        }
    }

    /// Waits before a start that follows `short_lives` short ones; whether it is still wanted.
    async fn wait(self, short_lives: u32, end: &CancellationToken) -> bool {
        // The very first look is no failure: there may be none yet.
        let Some(failures) = short_lives.checked_sub(1) else { return true };
        let delay = backoff::doubled(failures);
        warn!(partner = ?self, ?delay, "does not live; waiting");
        tokio::select! {
            () = sleep(delay) => true,
            () = end.cancelled() => false,
        }
    }

    /// Ends it, by SIGKILL if it must be.
    ///
    /// # Errors
    /// When it cannot be found out whether it runs, or be signalled.
    pub(crate) async fn dismiss(self, layout: &Layout) -> io::Result<()> {
        let Some(process) = self.find(layout)? else { return Ok(()) };
        process.signal(Signal::TERM)?;
        if timeout(END_PATIENCE, process.exited()).await.is_err() {
            warn!(partner = ?self, pid = process.pid(), "does not end when asked; killing it");
            process.signal(Signal::KILL)?;
            process.exited().await;
        }
        Ok(())
    }

    /// The process that holds its lock.
    fn find(self, layout: &Layout) -> io::Result<Option<Process>> {
        let lock = self.lock(layout);
        let Some(pid) = pid_lock::holder(&lock)? else { return Ok(None) };
        let Ok(process) = Process::open(pid) else { return Ok(None) };
        // If it ended in between, its pid may be another's by now.
        Ok((pid_lock::holder(&lock)? == Some(pid)).then_some(process))
    }

    /// Starts it unless it runs, and waits until it holds its lock.
    async fn start(self, layout: &Layout) -> io::Result<()> {
        let lock = self.lock(layout);
        if pid_lock::holder(&lock)?.is_some() {
            return Ok(());
        }
        let process = child::launch(&mut self.command(layout)?)?;
        let give_up_at = Instant::now() + START_PATIENCE;
        loop {
            if let Some(holder) = pid_lock::holder(&lock)? {
                if holder.as_raw_pid().cast_unsigned() != process.pid() {
                    // Another one was faster. Ours ends by itself; wait, so that it is reaped.
                    process.exited().await;
                }
                return Ok(());
            }
            if let Ok(exit) = timeout(LOOK_INTERVAL, process.exited()).await {
                return Err(io::Error::other(format!("ended at once: {exit}")));
            }
            if Instant::now() >= give_up_at {
                process.signal(Signal::KILL)?;
                process.exited().await;
                return Err(io::Error::other("did not take its lock"));
            }
        }
    }
}
