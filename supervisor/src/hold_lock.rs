//! `supervisor hold-lock`: holds the lock on changes of the cluster for a ctl, which may sit on
//! another machine. Who holds it is a process on the host of the manager that lives as long as
//! ctl's session: when that ends, however it ends, the kernel gives the lock back.
//!
//! ```text
//! stdin   a [`Holder`] in one line of JSON, then an empty line every few seconds
//! stdout  `busy HOLDER` while another one has it (again when that changes), then `held`
//! ```

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tyto_core::layout::Layout;

use crate::daemon;
use crate::pid_lock::{self, PidLock, PidLockError};

/// Time between two tries to get the lock.
const TRY_INTERVAL: Duration = Duration::from_millis(100);

/// A holder is told of when the lock is still taken after this long: one that is about to end
/// is nobody's business.
const BUSY_AFTER: Duration = Duration::from_millis(200);

/// A ctl from which nothing came for so long is gone, and its session hangs: a host that was
/// unplugged closes no connection.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Bytes of one line of ctl at most.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// Signs of life that may wait to be looked at; ctl is not faster than the tries.
const SIGNS_MAX: usize = 16;

/// Who holds the lock, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Holder {
    /// Login name of the operator.
    user: String,
    /// Name of the machine that ctl runs on.
    host: String,
    /// Process of ctl there.
    pid: u32,
    /// Its command line.
    command: String,
    /// When it got the lock, seconds since the Unix epoch by this host's clock.
    since_s: u64,
    /// How long it has had the lock, seconds; in answers only.
    held_s: u64,
    /// The process that holds the lock for it, on this host.
    keeper: u32,
}

/// Takes and holds the lock until ctl is gone. Blocks.
///
/// # Errors
/// When the lock cannot be used, or ctl says nothing that is understood.
pub(crate) fn run(layout: &Layout) -> anyhow::Result<()> {
    daemon::prepare(layout)?;
    let (sign, signs) = sync_channel(SIGNS_MAX);
    thread::spawn(move || listen(io::stdin().lock(), &sign));
    let Ok(Some(first)) = signs.recv() else { bail!("ctl did not say who it is") };
    let mut holder: Holder = serde_json::from_str(&first).context("ctl did not say who it is")?;
    let Some(mut lock) = wait_for(&layout.deploy_lock(), &signs)? else { return Ok(()) };
    holder.since_s = now_s();
    holder.keeper = std::process::id();
    lock.write_note(&holder).context("cannot say who holds the lock")?;
    say("held")?;
    while is_alive(&signs, SILENCE_MAX) {}
    Ok(())
}

/// Tries until the lock is ours; none when ctl gave up.
fn wait_for(path: &Path, signs: &Receiver<Option<String>>) -> anyhow::Result<Option<PidLock>> {
    let (began, mut heard, mut told) = (Instant::now(), Instant::now(), None);
    loop {
        match PidLock::acquire(path, Duration::ZERO) {
            Ok(lock) => return Ok(Some(lock)),
            Err(PidLockError::Held { pid, .. }) if began.elapsed() >= BUSY_AFTER => {
                let holder = pid_lock::note::<Holder>(path).unwrap_or_default();
                // Between lock and note the file tells of an earlier one.
                if u32::try_from(pid) == Ok(holder.keeper) && told != Some(holder.keeper) {
                    told = Some(holder.keeper);
                    let held_s = now_s().saturating_sub(holder.since_s);
                    let holder = serde_json::to_string(&Holder { held_s, ..holder })?;
                    say(&format!("busy {holder}"))?;
                }
            }
            Err(PidLockError::Held { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match signs.recv_timeout(TRY_INTERVAL) {
            Ok(Some(_)) => heard = Instant::now(),
            Err(RecvTimeoutError::Timeout) if heard.elapsed() < SILENCE_MAX => {}
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}

/// Waits for the next sign of life; false at the end of ctl's words, or when none came.
fn is_alive(signs: &Receiver<Option<String>>, silence_max: Duration) -> bool {
    matches!(signs.recv_timeout(silence_max), Ok(Some(_)))
}

/// Passes on each line of ctl, and `None` at the end.
fn listen(mut from: impl BufRead, sign: &SyncSender<Option<String>>) {
    loop {
        let mut line = String::new();
        match from.by_ref().take(LINE_BYTES_MAX).read_line(&mut line) {
            Ok(len) if len > 0 => {
                if sign.send(Some(line)).is_err() {
                    return;
                }
            }
            // The end, or nothing that is text: either way ctl is done. Nobody may listen any more.
            Ok(_) | Err(_) => return drop(sign.send(None)),
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn now_s() -> u64 {
    tyto_daemon::clock::now().0 / 1_000_000_000
}
