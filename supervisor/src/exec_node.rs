//! `supervisor exec-node`: the first moment of a node's process, between the supervisor's
//! fork and the node's program. It takes the node's lock, so that a node never runs twice
//! whatever happened to supervisors, pins CPUs before the program has threads, and becomes
//! the program: same pid, own session.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Resource;
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};

use crate::limits::OwnLimits;
use crate::pid_lock::{PidLock, PidLockError};
use crate::privileges;

/// Exit code when the node's lock is held: a process of this node lives already.
pub(crate) const EXIT_HELD: u8 = 75;

/// Exit code when the program could not be started, as shells have it.
pub(crate) const EXIT_CANNOT_EXEC: u8 = 127;

/// How long the node's previous process may take to vanish after its end was seen.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What to become.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// The node's lock file.
    #[arg(long)]
    pub(crate) lock: PathBuf,
    /// A [`NodeNote`] in JSON, its pid not known yet.
    #[arg(long)]
    pub(crate) note: String,
    /// CPUs to run on; all when absent.
    #[arg(long, value_delimiter = ',')]
    pub(crate) cpus: Vec<u32>,
    /// What it may use.
    #[command(flatten)]
    pub(crate) limits: OwnLimits,
    /// Run it without any capability.
    #[arg(long)]
    pub(crate) give_up_privileges: bool,
    /// Program of the node.
    pub(crate) program: PathBuf,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
}

/// What a node's lock file says about its holder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NodeNote {
    /// The process the note is about; that of an earlier holder until the new one wrote it.
    pub(crate) pid: u32,
    /// Start, ns since the Unix epoch.
    pub(crate) started_ns: u64,
    /// Release that the process was started from.
    pub(crate) release: String,
    /// Role of the node in that release.
    pub(crate) role: String,
    /// Length of the node's stderr.log when the process was started, bytes.
    pub(crate) stderr_from: u64,
    /// How its memory is bounded, in words.
    pub(crate) memory: String,
    /// The cgroup that bounds it, where one does.
    pub(crate) memory_group: Option<PathBuf>,
    /// How often that group had run out of memory before.
    pub(crate) oom_kills_before: u64,
}

/// Why the process did not become the node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// The note is no note.
    #[error("bad note")]
    Note(#[source] serde_json::Error),
    /// The lock was not taken.
    #[error("another process of this node may run")]
    Lock(#[from] PidLockError),
    /// A file or limit could not be set.
    #[error("cannot prepare the process")]
    Prepare(#[source] io::Error),
    /// The CPUs do not exist.
    #[error("cannot run on CPUs {cpus:?}")]
    Cpus {
        /// What was asked for.
        cpus: Vec<u32>,
        /// What the system said.
        source: io::Error,
    },
    /// The program cannot be executed.
    #[error("cannot execute `{}`", program.display())]
    Exec {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ExecError {
    /// What to exit with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Lock(PidLockError::Held { .. }) => EXIT_HELD,
            _ => EXIT_CANNOT_EXEC,
        }
    }
}

/// Becomes the node's program; returns only when that failed.
///
/// # Errors
/// When the lock is held, or a step fails.
pub(crate) fn run(order: Order) -> Result<Infallible, ExecError> {
    let mut note: NodeNote = serde_json::from_str(&order.note).map_err(ExecError::Note)?;
    note.pid = std::process::id();
    // Fails only in a process that leads a group already, which then does as well.
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "no new session");
    }
    let mut lock = PidLock::acquire(&order.lock, LOCK_PATIENCE)?;
    note.memory = order.limits.apply().map_err(ExecError::Prepare)?;
    lock.write_note(&note).map_err(ExecError::Prepare)?;
    lock.keep_over_exec().map_err(ExecError::Prepare)?;
    pin(&order.cpus)?;
    raise_open_files().map_err(ExecError::Prepare)?;
    // Last: what went before may need them.
    if order.give_up_privileges {
        privileges::give_up().map_err(ExecError::Prepare)?;
    }
    let source = Command::new(&order.program).args(&order.args).exec();
    Err(ExecError::Exec { program: order.program, source })
}

fn pin(cpus: &[u32]) -> Result<(), ExecError> {
    if cpus.is_empty() {
        return Ok(());
    }
    let failed = |source| ExecError::Cpus { cpus: cpus.to_vec(), source };
    let mut set = CpuSet::new();
    for cpu in cpus {
        let index = usize::try_from(*cpu).unwrap_or(usize::MAX);
        if index >= CpuSet::MAX_CPU {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        set.set(index);
    }
    rustix::thread::sched_setaffinity(None, &set).map_err(|errno| failed(errno.into()))
}

/// A logger has a file per log stream and a connection per node: the soft limit of 1024
/// descriptors that a login shell hands down is not meant for daemons.
fn raise_open_files() -> io::Result<()> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(rustix::process::setrlimit(Resource::Nofile, limit)?)
}
