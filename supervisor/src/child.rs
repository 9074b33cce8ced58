//! The process of a node: spawned from the release in use, or taken over from an earlier
//! supervisor of this host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tyto_capture::live::LiveError;
use tyto_capture::passing;
use tyto_capture::socket::CaptureSocket;
use tyto_core::config::runtime::LimitsConfig;
use tyto_core::layout::Layout;
use tyto_daemon::clock;

use crate::exec_node::NodeNote;
use crate::host::{self, HostError};
use crate::limits::MemoryGroup;
use crate::node_capture::NodeCapture;
use crate::output;
use crate::pid_lock;
use crate::process::Process;

/// Variables of the supervisor's environment that nodes get too. All else that the operator's
/// login brought along stays out, so that a node does not depend on who started it.
const ENV_KEPT: [&str; 8] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TYTO_TRACE", "RUST_BACKTRACE", "TMPDIR"];

/// A living process of a node.
#[derive(Debug)]
pub(crate) struct Child {
    /// The process.
    pub(crate) process: Process,
    /// What its lock file says of it.
    pub(crate) note: NodeNote,
    /// When it was started, by our monotonic clock.
    pub(crate) began: Instant,
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// The host's configuration does not allow it.
    #[error("no configuration to start from")]
    Host(#[from] HostError),
    /// The system does not allow it.
    #[error("cannot start a process in `{}`", dir.display())]
    System {
        /// Working folder of the node.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its interface cannot be captured.
    #[error("cannot capture")]
    Capture(#[from] LiveError),
}

/// Starts the node from the release in use; what it reads packets from is in `capture`.
///
/// # Errors
/// When the release does not have the node, or no process can be made. That the program
/// itself cannot be executed is seen as the child's early end, as any other fault in it.
pub(crate) fn spawn(
    layout: &Layout,
    node: &str,
    capture: &mut NodeCapture,
) -> Result<Child, SpawnError> {
    let release = host::release(layout)?;
    let entry = host::node(&release, node)?;
    let config = release.dir.join("etc/nodes").join(format!("{node}.yaml"));
    let socket = capture.hand_over(&entry, &config)?;
    let dir = layout.node_spool(node);
    let failed = |source| SpawnError::System { dir: dir.clone(), source };

    fs::create_dir_all(&dir).map_err(failed)?;
    let stdout = output::open(&dir.join("stdout.log")).map_err(failed)?;
    let stderr = output::open(&dir.join("stderr.log")).map_err(failed)?;
    let group = entry.limits.memory_bytes_max.and_then(|bytes| {
        let group = MemoryGroup::make(layout, node, bytes);
        match &group {
            Some(group) => {
                tracing::info!(node, bytes, dir = %group.dir().display(), "memory bounded by cgroup");
            }
            None => tracing::info!(node, bytes, "memory bounded by rlimit: no cgroup to use"),
        }
        group
    });
    let mut note = NodeNote {
        pid: 0,
        started_ns: clock::now().0,
        release: release.id.clone(),
        role: entry.role.to_string(),
        stderr_from: stderr.metadata().map_err(failed)?.len(),
        memory: String::new(),
        oom_kills_before: group.as_ref().map_or(0, MemoryGroup::oom_kills),
        memory_group: group.map(|group| group.dir().to_owned()),
    };

    let mut command = Command::new(own_program());
    command.arg("exec-node").arg("--lock").arg(layout.node_lock(node));
    command.arg("--note").arg(serde_json::to_string(&note).map_err(|e| failed(e.into()))?);
    if !entry.cpus.is_empty() {
        let cpus: Vec<String> = entry.cpus.iter().map(u32::to_string).collect();
        command.arg("--cpus").arg(cpus.join(","));
    }
    limit(&mut command, &entry.limits, note.memory_group.as_deref());
    if socket.is_some() {
        command.arg("--give-up-privileges");
    }
    command.arg("--").arg(release.dir.join("bin").join(entry.role.program()));
    command.arg("--config").arg(config);
    let stdin = match socket {
        Some(socket) => {
            command.arg("--capture-from-stdin");
            send(&socket).map_err(failed)?
        }
        None => Stdio::null(),
    };
    command.env_clear();
    // A panic shall say where it came from; who wants less says so in the node's environment.
    command.env("RUST_BACKTRACE", "1");
    command.envs(ENV_KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(&entry.env);
    command.current_dir(&dir).stdin(stdin).stdout(stdout).stderr(stderr);

    let process = launch(&mut command).map_err(failed)?;
    note.pid = process.pid();
    Ok(Child { process, note, began: Instant::now() })
}

/// A stdin on which the socket waits for whoever reads it first.
fn send(socket: &CaptureSocket) -> io::Result<Stdio> {
    let (ours, theirs) = passing::pair()?;
    passing::send(ours, b"capture", Some(socket))?;
    Ok(Stdio::from(theirs))
}

fn limit(command: &mut Command, limits: &LimitsConfig, group: Option<&Path>) {
    if let Some(bytes) = limits.memory_bytes_max {
        command.arg("--memory-bytes").arg(bytes.to_string());
    }
    if let Some(group) = group {
        command.arg("--memory-group").arg(group);
    }
    if limits.nice != 0 {
        command.arg(format!("--nice={}", limits.nice));
    }
    if limits.core_dumps {
        command.arg("--core-dumps");
    }
}

/// Takes over the process that runs as this node, whoever started it; `None` when none does.
///
/// # Errors
/// When its lock file cannot be asked, or the process not be watched.
pub(crate) async fn adopt(layout: &Layout, node: &str) -> io::Result<Option<Child>> {
    /// A process that just got the lock needs a moment to write its note.
    const NOTE_TRIES: u32 = 20;

    let lock = layout.node_lock(node);
    for attempt in 1.. {
        let Some(pid) = pid_lock::holder(&lock)? else { return Ok(None) };
        let Ok(process) = Process::open(pid) else { continue };
        if pid_lock::holder(&lock)? != Some(pid) {
            continue; // it ended, and another process may have got its pid
        }
        let note = note_of(layout, node, process.pid());
        if note.is_none() && attempt < NOTE_TRIES {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let note = note.unwrap_or(NodeNote { pid: process.pid(), ..NodeNote::default() });
        let age = Duration::from_nanos(clock::now().0.saturating_sub(note.started_ns));
        let now = Instant::now();
        let began = now.checked_sub(age).unwrap_or(now);
        return Ok(Some(Child { process, note, began }));
    }
    Ok(None)
}

/// What the node's process has written of itself, `None` when it did not yet.
pub(crate) fn note_of(layout: &Layout, node: &str, pid: u32) -> Option<NodeNote> {
    pid_lock::note::<NodeNote>(&layout.node_lock(node)).filter(|note| note.pid == pid)
}

/// Spawns and holds the process.
///
/// # Errors
/// When it cannot be made or held; it does not run then.
pub(crate) fn launch(command: &mut Command) -> io::Result<Process> {
    let mut spawned = command.spawn()?;
    let pid = i32::try_from(spawned.id()).ok().and_then(Pid::from_raw);
    // Not reaped yet, so the pid is still the child's, even if it has ended.
    match pid.ok_or_else(|| io::Error::other("no such pid")).and_then(Process::open) {
        Ok(process) => Ok(process),
        Err(error) => {
            spawned.kill()?;
            spawned.wait()?;
            Err(error)
        }
    }
}

/// This very program, for a process of another sort. By its path, which makes it readable in
/// `ps`, unless an expired release took the file along.
pub(crate) fn own_program() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from("/proc/self/exe"),
    }
}
