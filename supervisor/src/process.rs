//! A process of this host, held by its pidfd: the descriptor names this very process, so a
//! pid that the kernel gave to another one meanwhile is never watched nor signalled.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Names of Linux's signals 1 to 31 (signal(7)), without `SIG`.
const SIGNAL_NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A process: a child of ours, or one that an earlier supervisor started.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal {
        /// Number of the signal.
        number: i32,
        /// It left a core file.
        core: bool,
    },
    /// It was no child of this supervisor, so the kernel does not tell.
    Unknown,
}

impl Process {
    /// Holds the process that has this pid now. The caller makes sure afterwards that it is
    /// the one that was meant.
    ///
    /// # Errors
    /// When there is none, or no descriptor is left.
    pub(crate) fn open(pid: Pid) -> io::Result<Self> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        // The safe constructor is deprecated for types whose descriptor may change or close
        // while it is registered. An `OwnedFd` that we never hand out does neither.
        #[allow(deprecated, reason = "sound for an OwnedFd; the successor is unsafe")]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Self { pid, pidfd })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    /// Waits until it has ended, also when it is no child of ours; reaps it when it is one.
    /// May be cancelled and called again.
    pub(crate) async fn exited(&self) -> Exit {
        self.ended().await;
        self.reap()
    }

    /// Like [`Process::exited`]; what a child of ours left behind in its process group dies
    /// with it.
    pub(crate) async fn exited_with_group(&self) -> Exit {
        self.ended().await;
        // Until we reap the leader, its group keeps its id.
        if self.is_our_child()
            && let Err(error) = self.signal_group()
        {
            tracing::warn!(pid = self.pid(), %error, "cannot kill what the process left behind");
        }
        self.reap()
    }

    /// Sends a signal; a process that has ended already is no fault.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// SIGKILL to the process and to what else is in its process group.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn kill_group(&self) -> io::Result<()> {
        let group = if self.has_ended() { Ok(()) } else { self.signal_group() };
        self.signal(Signal::KILL)?;
        group
    }

    async fn ended(&self) {
        // A pidfd turns readable when the process ends, before it is reaped (pidfd_open(2)).
        // Polling a registered descriptor fails only when the runtime shuts down.
        if self.pidfd.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    fn signal_group(&self) -> io::Result<()> {
        match rustix::process::kill_process_group(self.pid, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn is_our_child(&self) -> bool {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), peek).is_ok()
    }

    fn reap(&self) -> Exit {
        let reap = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), reap) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(number)) => Exit::Signal { number, core: status.dumped() },
                (None, None) => Exit::Unknown,
            },
            // ECHILD: no child of ours.
            Ok(None) | Err(_) => Exit::Unknown,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal { number, core } => {
                write!(f, "signal {number}")?;
                let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
                if let Some(name) = SIGNAL_NAMES.get(index) {
                    write!(f, " (SIG{name})")?;
                }
                if core { f.write_str(", core dumped") } else { Ok(()) }
            }
            Self::Unknown => f.write_str("unknown: it ended as no child of this supervisor"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_names_its_signal() {
        let exit = |number| Exit::Signal { number, core: false }.to_string();
        assert_eq!(exit(9), "signal 9 (SIGKILL)");
        assert_eq!(exit(15), "signal 15 (SIGTERM)");
        assert_eq!(exit(31), "signal 31 (SIGSYS)");
        assert_eq!(exit(34), "signal 34");
        assert_eq!(Exit::Code(1).to_string(), "exit code 1");
    }
}
