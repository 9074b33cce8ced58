//! One change at a time: verbs that change a cluster hold a lock on the host of its manager (or
//! standalone node), so that operators on different machines meet it too. Verbs that only read
//! never take it.
//!
//! The lock belongs to a process there (`supervisor hold-lock`) that lives as long as this ctl's
//! session: whatever becomes of this ctl or its machine, the lock comes free by itself. Until a
//! cluster has a supervisor, and when the host does not answer, a lock on the folder of the
//! configuration keeps at least the operators of this machine apart.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::context::Context;
use crate::hosts::{Host, Hosts};
use crate::progress::Progress;
use crate::remote::error::RemoteError;

mod keeper;

use keeper::{Asked, Keeper, open_keeper};

/// How long another ctl is waited for, as in ZeekControl.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two tries of the lock of this machine.
const TRY_INTERVAL: Duration = Duration::from_millis(200);
/// Time between two words to the operator while waiting.
const TELL_INTERVAL: Duration = Duration::from_secs(10);
/// How long the keeper may take to give the lock back.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);
/// Who changes the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// Login name of the operator.
    pub user: String,
    /// Name of the machine that ctl runs on.
    pub host: String,
    /// Process of ctl there.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// How long it has had the lock, seconds.
    pub held_s: u64,
}

impl Holder {
    /// This ctl.
    pub fn this() -> Self {
        Self {
            user: user(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            command: command_line(std::env::args()),
            held_s: 0,
        }
    }

    /// `alice@ops1`.
    pub fn who(&self) -> String {
        format!("{}@{}", self.user, self.host)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, host, pid, command, held_s } = self;
        write!(f, "{user}@{host} (process {pid}, `{command}`, since {held_s} s)")
    }
}

/// Name of the user who runs ctl: as the login said, else as /etc/passwd does, else the number.
fn user() -> String {
    let keys = ["SUDO_USER", "LOGNAME", "USER"].into_iter();
    let mut told = keys.filter_map(|key| std::env::var(key).ok()).filter(|name| !name.is_empty());
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = || std::fs::read_to_string("/etc/passwd").ok();
    told.next().or_else(|| user_of(&passwd()?, &uid)).unwrap_or_else(|| format!("uid {uid}"))
}

/// `alice:x:1000:…`
fn user_of(passwd: &str, uid: &str) -> Option<String> {
    let fields = |line: &str| -> Vec<String> { line.split(':').map(str::to_owned).collect() };
    let mut lines = passwd.lines().map(fields);
    lines.find(|fields| fields.get(2).is_some_and(|field| field == uid))?.into_iter().next()
}

/// `ctl deploy --plan`: the program by its name only.
fn command_line(words: impl IntoIterator<Item = String>) -> String {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another ctl has it.
    #[error("another ctl is changing the cluster: {holder}{}", after(*waited_s))]
    Held {
        /// Who.
        holder: Holder,
        /// How long was waited, seconds.
        waited_s: u64,
    },
    /// The folder cannot be locked.
    #[error("cannot lock `{}`", etc.display())]
    Folder {
        /// Folder of the configuration.
        etc: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The way to the host of the lock broke off.
    #[error(transparent)]
    Host(#[from] RemoteError),
    /// Somebody else may be changing the cluster by now.
    #[error(
        "the connection that held the lock on host `{host}` was lost; another ctl may be at work"
    )]
    Lost {
        /// The host.
        host: String,
    },
}

/// `; waited 30 s for it`, nothing when there was no waiting.
fn after(waited_s: u64) -> String {
    if waited_s == 0 { String::new() } else { format!("; waited {waited_s} s for it") }
}

impl LockError {
    /// What can be typed.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Held { holder, .. } => Some(format!(
                "wait for it, or end it: `kill {}` on {}; status, ledger, diag, history and \
                 deploy --plan never wait",
                holder.pid, holder.host
            )),
            Self::Lost { .. } => Some("run the same again: it goes on where this ended".to_owned()),
            Self::Folder { .. } | Self::Host(_) => None,
        }
    }
}

/// The argument `--no-wait`; [`Lock::take`] reads it.
pub fn no_wait_arg() -> Arg {
    Arg::new("no-wait")
        .long("no-wait")
        .action(ArgAction::SetTrue)
        .help("Fail at once when another ctl is changing the cluster")
}

/// Held until released or dropped, also by the end of the process.
#[derive(Debug)]
pub struct Lock {
    _folder: Option<File>,
    keeper: Option<Keeper>,
}

/// Tells whether a lock is still held.
#[derive(Clone, Debug)]
pub struct LockWatch {
    keeper: Option<(String, AbortHandle)>,
}

impl LockWatch {
    /// Fails when the lock may be somebody else's by now.
    ///
    /// # Errors
    /// [`LockError::Lost`].
    pub fn check(&self) -> Result<(), LockError> {
        match &self.keeper {
            Some((host, task)) if task.is_finished() => Err(LockError::Lost { host: host.clone() }),
            _ => Ok(()),
        }
    }
}

impl Lock {
    /// Takes the lock, waiting for another ctl to give it back unless `--no-wait` was given.
    ///
    /// # Errors
    /// When another one holds it for too long, or it cannot be made.
    pub async fn take(ctx: &Context, args: &ArgMatches) -> Result<Self, LockError> {
        let no_wait = args.try_get_one::<bool>("no-wait").ok().flatten().copied();
        let patience = if no_wait == Some(true) { Duration::ZERO } else { PATIENCE };
        let waiting = Waiting { progress: &ctx.progress, patience, began: Instant::now() };
        let is_silent = match ask(ctx, &waiting).await? {
            Asked::Kept(keeper) => return Ok(Self { _folder: None, keeper: Some(keeper) }),
            Asked::Cannot(why) => why.is_some(),
        };
        let folder = lock_folder(&ctx.etc, &waiting).await?;
        if is_silent {
            return Ok(Self { _folder: Some(folder), keeper: None });
        }
        // Whoever had the folder may have brought the program meanwhile.
        let keeper = match ask(ctx, &waiting).await? {
            Asked::Kept(keeper) => Some(keeper),
            Asked::Cannot(_) => None,
        };
        Ok(Self { _folder: Some(folder), keeper })
    }

    /// Takes the lock on the manager's host with the program of a release that has just been
    /// copied there, when there was none before. False when somebody else had it meanwhile:
    /// then what was found out about the hosts is no longer true.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub async fn move_to(&mut self, host: &Host, release: &str) -> Result<bool, LockError> {
        if self.keeper.is_some() {
            return Ok(true);
        }
        let program = host.layout.release(release).join("bin/supervisor");
        let progress = Progress::new(false);
        let waiting = Waiting { progress: &progress, patience: PATIENCE, began: Instant::now() };
        match open_keeper(host, &program, &waiting).await? {
            (Asked::Kept(keeper), waited) => {
                self.keeper = Some(keeper);
                Ok(!waited)
            }
            (Asked::Cannot(_), _) => Ok(true),
        }
    }

    /// For whoever wants to know whether it is still ours.
    pub fn watch(&self) -> LockWatch {
        let of = |keeper: &Keeper| (keeper.host.clone(), keeper.task.abort_handle());
        LockWatch { keeper: self.keeper.as_ref().map(of) }
    }

    /// Gives the lock back and waits until the next ctl can have it.
    pub async fn release(mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.end = None;
            // A keeper that does not answer ends by itself when nothing comes from us any more.
            drop(timeout(RELEASE_PATIENCE, &mut keeper.task).await);
        }
    }
}

/// How long is waited, and who is told.
struct Waiting<'a> {
    progress: &'a Progress,
    patience: Duration,
    began: Instant,
}

impl Waiting<'_> {
    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.began.elapsed())
    }

    fn tell(&self, holder: &Holder) {
        let holder =
            Holder { held_s: holder.held_s + self.began.elapsed().as_secs(), ..holder.clone() };
        self.progress.heading(&format!("waiting for lock: {holder} has it ..."));
    }

    fn held(&self, holder: &Holder) -> LockError {
        let waited_s = self.began.elapsed().as_secs();
        let holder = Holder { held_s: holder.held_s + waited_s, ..holder.clone() };
        LockError::Held { holder, waited_s }
    }
}

/// Asks the manager's host for the lock.
async fn ask(ctx: &Context, waiting: &Waiting<'_>) -> Result<Asked, LockError> {
    let Some(head) = ctx.cluster.head() else { return Ok(Asked::Cannot(None)) };
    let hosts = Hosts::named(ctx, vec![head.host.clone()])?;
    let Some(host) = hosts.find(&head.host) else { return Ok(Asked::Cannot(None)) };
    let program = host.layout.current_bin("supervisor");
    let (asked, _) = open_keeper(host, &program, waiting).await?;
    if let Asked::Cannot(Some(error)) = &asked {
        ctx.progress.heading(&format!("(no lock on host `{}`: {})", host.name, error.short()));
    }
    Ok(asked)
}

/// Locks the folder of the configuration against other ctls of this machine.
async fn lock_folder(etc: &Path, waiting: &Waiting<'_>) -> Result<File, LockError> {
    let failed = |source| LockError::Folder { etc: etc.to_owned(), source };
    // The folder itself: no file is left behind, and editors that replace files do not matter.
    let folder = File::open(etc).map_err(failed)?;
    let mut told: Option<Instant> = None;
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let holder = folder_holder(&folder);
        if waiting.left().is_zero() {
            return Err(LockError::Held { holder, waited_s: waiting.began.elapsed().as_secs() });
        }
        if told.is_none_or(|at| at.elapsed() >= TELL_INTERVAL) {
            waiting.progress.heading(&format!("waiting for lock: {holder} has it ..."));
            told = Some(Instant::now());
        }
        sleep(TRY_INTERVAL.min(waiting.left())).await;
    }
}

/// Who holds the lock on a folder, as the kernel tells it.
fn folder_holder(folder: &File) -> Holder {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = folder.metadata().map_or(0, |meta| meta.ino());
    let pid = flock_holder(&locks, inode).unwrap_or(0);
    let process = Path::new("/proc").join(pid.to_string());
    let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    let words = words.split('\0').filter(|word| !word.is_empty()).map(str::to_owned);
    let since = std::fs::metadata(&process).and_then(|meta| meta.modified()).ok();
    let held_s = since.and_then(|at| at.elapsed().ok()).map_or(0, |age| age.as_secs());
    Holder { pid, command: command_line(words), held_s, ..Holder::this() }
}

/// The process with a flock on an inode: `1: FLOCK  ADVISORY  WRITE 123 08:01:4567 0 EOF`.
fn flock_holder(locks: &str, inode: u64) -> Option<u32> {
    let inode = inode.to_string();
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|&word| word == "FLOCK")?;
        let place = words.get(at + 4)?;
        (place.rsplit(':').next() == Some(&inode)).then(|| words.get(at + 3)?.parse().ok())?
    };
    locks.lines().filter(|line| !line.contains("->")).find_map(of_line)
}

/// The lock of a command for as long as `work` takes.
///
/// # Errors
/// When there is no lock, or those of `work`.
pub async fn with_lock<T>(
    ctx: &Context,
    args: &ArgMatches,
    work: impl AsyncFnOnce(&mut Lock) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut lock = Lock::take(ctx, args).await?;
    let done = work(&mut lock).await;
    lock.release().await;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(progress: &Progress, patience: Duration) -> Waiting<'_> {
        Waiting { progress, patience, began: Instant::now() }
    }

    #[tokio::test]
    async fn a_second_one_waits_until_the_first_is_dropped() {
        let etc = tempfile::tempdir().unwrap();
        let progress = Progress::new(false);
        let long = waiting(&progress, PATIENCE);
        let first = lock_folder(etc.path(), &long).await.unwrap();
        let mut second = Box::pin(lock_folder(etc.path(), &long));
        let soon = Duration::from_millis(300);
        assert!(timeout(soon, &mut second).await.is_err());
        drop(first);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_wait_is_told_who_holds_the_folder() {
        let etc = tempfile::tempdir().unwrap();
        let progress = Progress::new(false);
        let _first = lock_folder(etc.path(), &waiting(&progress, PATIENCE)).await.unwrap();
        let error = lock_folder(etc.path(), &waiting(&progress, Duration::ZERO)).await.unwrap_err();
        let LockError::Held { holder, waited_s: 0 } = &error else { panic!("{error}") };
        assert_eq!(holder.pid, std::process::id());
        assert!(error.hint().unwrap().contains(&format!("kill {}", holder.pid)));
    }

    #[test]
    fn the_kernels_list_tells_who_holds_a_lock() {
        let locks = "1: POSIX  ADVISORY  WRITE 5 08:01:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 6 08:01:78 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 8 08:01:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 7 08:01:77 0 EOF\n";
        assert_eq!(flock_holder(locks, 77), Some(7));
        assert_eq!(flock_holder(locks, 79), None);
    }

    #[test]
    fn a_user_has_the_name_of_etc_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(user_of(passwd, "1000").as_deref(), Some("alice"));
        assert_eq!(user_of(passwd, "100"), None);
    }

    #[test]
    fn a_command_line_begins_with_the_programs_name() {
        let words = ["/opt/tyto/current/bin/ctl", "deploy"].map(str::to_owned);
        assert_eq!(command_line(words), "ctl deploy");
    }
}
