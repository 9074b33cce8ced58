//! `supervisor start`: a supervisor of this very program is there when it returns.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::{sleep, timeout};
use tyto_core::layout::Layout;
use tyto_daemon::channel;
use tyto_proto::v1::supervisor_client::SupervisorClient;
use tyto_proto::v1::{ShutdownRequest, StatusReply, StatusRequest};

use crate::capture_guard::{self, Captures};
use crate::child;
use crate::daemon;
use crate::output;
use crate::partner::Partner;
use crate::pid_lock;

/// How long a supervisor may take until it answers, or until it has ended.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// How long one answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Starts the supervisor apart from this process, unless it answers already; replaces one of
/// another program, whose nodes stay as they are. Returns the supervisor's pid.
///
/// # Errors
/// When it does not answer in time; with the end of its log.
pub(crate) fn start(layout: &Layout) -> anyhow::Result<u32> {
    daemon::prepare(layout)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        if let Some(status) = ask(layout).await {
            if same_program(status.supervisor_pid).unwrap_or(true) {
                return Ok(status.supervisor_pid);
            }
            let captures = capture_guard::give(&layout.guard_sock()).unwrap_or_else(|error| {
                tracing::warn!(%error, "the guard has no capture sockets for its successor");
                Captures::new()
            });
            retire(layout).await?;
            // The new supervisor asks there, before it has a guard of its own.
            capture_guard::serve(&layout.guard_sock(), captures)
                .context("cannot hand capture sockets on")?;
        }
        bring_up(layout).await
    })
}

async fn bring_up(layout: &Layout) -> anyhow::Result<u32> {
    let log = layout.supervisor_log();
    let log_from = std::fs::metadata(&log).map_or(0, |file| file.len());
    let lock = Partner::Supervisor.lock(layout);
    let give_up_at = Instant::now() + START_PATIENCE;
    let mut spawned = None;
    loop {
        // One that has the lock already is about to answer.
        if spawned.is_none() && pid_lock::holder(&lock)?.is_none() {
            let mut command = Partner::Supervisor.command(layout)?;
            spawned = Some(child::launch(&mut command).context("cannot start the supervisor")?);
        }
        if let Some(status) = ask(layout).await {
            return Ok(status.supervisor_pid);
        }
        if let Some(process) = &spawned
            && let Ok(exit) = timeout(Duration::ZERO, process.exited()).await
            && pid_lock::holder(&lock)?.is_none()
        {
            bail!("the supervisor ended at once: {exit}\n{}", output::tail(&log, log_from, 4096)?);
        }
        if Instant::now() >= give_up_at {
            bail!(
                "the supervisor does not answer on `{}`\n{}",
                layout.supervisor_sock().display(),
                output::tail(&log, log_from, 4096)?
            );
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Asks a supervisor of another program to end and leave its nodes to us.
async fn retire(layout: &Layout) -> anyhow::Result<()> {
    let mut client = SupervisorClient::new(channel::to_socket(&layout.supervisor_sock()));
    timeout(ANSWER_PATIENCE, client.shutdown(ShutdownRequest { leave_nodes: true }))
        .await
        .context("the running supervisor does not answer")?
        .context("the running supervisor does not give way")?;
    let give_up_at = Instant::now() + START_PATIENCE;
    while pid_lock::holder(&layout.supervisor_lock())?.is_some() {
        if Instant::now() >= give_up_at {
            bail!("the running supervisor does not end");
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

async fn ask(layout: &Layout) -> Option<StatusReply> {
    let mut client = SupervisorClient::new(channel::to_socket(&layout.supervisor_sock()));
    let answer = timeout(ANSWER_PATIENCE, client.status(StatusRequest {})).await;
    Some(answer.ok()?.ok()?.into_inner())
}

/// Whether the process runs the same program as we do, byte for byte: releases hold copies.
fn same_program(pid: u32) -> io::Result<bool> {
    let theirs = File::open(format!("/proc/{pid}/exe"))?;
    let ours = File::open(Path::new("/proc/self/exe"))?;
    if theirs.metadata()?.len() != ours.metadata()?.len() {
        return Ok(false);
    }
    same_bytes(theirs, ours)
}

fn same_bytes(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let len = one.read(&mut left)?;
        if len == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        let (left, right) = (&left[..len], &mut right[..len]);
        match other.read_exact(right) {
            Ok(()) if left == right => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_compared_byte_for_byte() {
        let long = vec![7_u8; 200_000];
        let mut other = long.clone();
        other[199_999] = 8;
        assert!(same_bytes(&*long, &*long).unwrap());
        assert!(!same_bytes(&*long, &*other).unwrap());
        assert!(!same_bytes(&*long, &long[..100_000]).unwrap());
        assert!(!same_bytes(&long[..100_000], &*long).unwrap());
    }
}
