//! One connection to a host: ssh's master process, which carries all calls to it. Here it is
//! made, with the patience that a busy sshd needs, and here it ends: also when the process is
//! stuck, so that ctl never waits for ssh longer than it said.

use std::io::Read;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder};
use openssh_mux_client::Connection;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tyto_core::config::settings::{SshMode, SshSettings};

use super::error::RemoteError;
use super::{jump_host, ssh_words};

/// A silent connection is asked for a sign of life this often; ssh gives up after three.
const SERVER_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A connection without calls ends by itself after this many seconds, so that none is left for
/// long when ctl is killed. (With `ControlPersist=no` it would stay for ever: it has no initial
/// session whose end could end it.)
const CONNECTION_IDLE_S: NonZeroUsize = NonZeroUsize::new(60).unwrap();
/// Tries to get past an sshd that turns connections away because others are logging in.
const TRIES_MAX: u32 = 6;
/// Wait after the first such try; doubled after each, and spread (see [`spread`]).
const FIRST_WAIT: Duration = Duration::from_millis(150);
/// A host that accepts the connection and then says nothing gets this much longer: ssh's own
/// limit is for the connection only.
const LOGIN_SLACK: Duration = Duration::from_secs(5);
/// The master answers from memory; one that does not within this time never will.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// A connection. Its last clone ends it.
#[derive(Clone, Debug)]
pub(super) struct Master(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // Dropped first: a process that is stuck is gone before the session waits for it.
    watch: Watch,
    session: Session,
}

impl Deref for Master {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0.session
    }
}

impl Master {
    /// Connects to `host`; sshds that are busy are tried again, within one deadline for all.
    ///
    /// # Errors
    /// What keeps the host from being reached.
    pub(super) async fn connect(
        host: &str,
        settings: &SshSettings,
        control_dir: &Path,
    ) -> Result<Self, RemoteError> {
        let patience = Duration::from_secs(settings.connect_timeout_s) + LOGIN_SLACK;
        let deadline = Instant::now() + patience;
        let mut wait = FIRST_WAIT;
        let mut tries = 0;
        loop {
            tries += 1;
            let connecting = connect_once(host, settings, control_dir);
            let said = match timeout_at(deadline, connecting).await {
                Ok(Ok(session)) => return Ok(Self::of(session).await),
                Ok(Err(error)) => said(error)?,
                Err(_) => {
                    let host = host.to_owned();
                    let what = "connect";
                    return Err(RemoteError::TimedOut { host, what, deadline: patience });
                }
            };
            let is_busy = ssh_words::is_turned_away(&said);
            let is_last = !is_busy || tries == TRIES_MAX || Instant::now() + wait * 2 > deadline;
            if ssh_words::is_behind_another(&said)
                && let Some(error) = jump_host::error(host, settings, is_last).await
            {
                return Err(error);
            }
            if !is_last {
                sleep(spread(wait)).await;
                wait *= 2;
                continue;
            }
            if is_busy {
                let (host, said) = (host.to_owned(), ssh_words::last_line(&said));
                return Err(RemoteError::Busy { host, what: "a connection", said });
            }
            return Err(ssh_words::error(host, &said));
        }
    }

    async fn of(session: Session) -> Self {
        let socket = session.control_socket().to_owned();
        let process = process_behind(&socket).await;
        Self(Arc::new(Inner { watch: Watch { socket, process: process.map(Arc::new) }, session }))
    }

    /// True when the process is there and answers.
    pub(super) async fn is_alive(&self) -> bool {
        timeout(ANSWER_PATIENCE, self.check()).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Ends the process if it no longer answers, so that nobody waits for it any more.
    pub(super) async fn end_if_stuck(&self) {
        let watch = self.0.watch.clone();
        // Waits: not on a thread that others need. It is over when this is.
        drop(tokio::task::spawn_blocking(move || drop(watch)).await);
    }
}

async fn connect_once(
    host: &str,
    settings: &SshSettings,
    control_dir: &Path,
) -> Result<Session, openssh::Error> {
    let mut builder = SessionBuilder::default();
    builder
        .known_hosts_check(KnownHosts::Strict)
        .control_persist(ControlPersist::IdleFor(CONNECTION_IDLE_S))
        .control_directory(control_dir)
        .connect_timeout(Duration::from_secs(settings.connect_timeout_s))
        .server_alive_interval(SERVER_ALIVE_INTERVAL);
    settings.user.as_ref().map(|user| builder.user(user.clone()));
    settings.port.map(|port| builder.port(port));
    settings.known_hosts.as_ref().map(|file| builder.user_known_hosts_file(file));
    settings.identity_file.as_ref().map(|file| builder.keyfile(file));
    settings.config_file.as_ref().map(|file| builder.config_file(file));
    match settings.mode {
        SshMode::Native => builder.connect_mux(host).await,
        SshMode::Process => builder.connect(host).await,
    }
}

/// All that ssh said, or why there is no ssh to say anything.
fn said(error: openssh::Error) -> Result<String, RemoteError> {
    match error {
        openssh::Error::Connect(cause) | openssh::Error::Master(cause) => {
            if cause.kind() == std::io::ErrorKind::NotFound && cause.raw_os_error().is_some() {
                return Err(RemoteError::Here { path: "ssh".into(), source: cause });
            }
            Ok(cause.to_string())
        }
        other => Ok(other.to_string()),
    }
}

/// From half of `wait` to one and a half of it: those who were turned away together do not come
/// back together.
pub(super) fn spread(wait: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    // Randomly keyed for each value; chance enough for this.
    let chance = RandomState::new().hash_one(0_u8) % 1000;
    wait / 2 + wait * u32::try_from(chance).unwrap_or(0) / 1000
}

/// The master process, held by its pidfd: its number may be another's by the time it is needed.
async fn process_behind(socket: &Path) -> Option<OwnedFd> {
    let asking = async {
        let mut master = Connection::connect(socket).await.ok()?;
        master.send_alive_check().await.ok()
    };
    let pid = timeout(ANSWER_PATIENCE, asking).await.ok()??;
    let pid = Pid::from_raw(i32::try_from(pid.get()).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Kills the master at the end when it does not answer. The session's own end would wait for it
/// without a limit.
#[derive(Clone, Debug)]
struct Watch {
    socket: PathBuf,
    /// None where the kernel has no pidfd: there nothing is killed.
    process: Option<Arc<OwnedFd>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let (Some(process), Ok(mut stream)) = (&self.process, UnixStream::connect(&self.socket))
        else {
            return;
        };
        // It greets whoever connects.
        let asked = stream.set_read_timeout(Some(ANSWER_PATIENCE));
        if asked.is_err() || stream.read(&mut [0; 1]).is_err() {
            // It may just have ended: then there is nothing to do.
            pidfd_send_signal(process, Signal::KILL).ok();
        }
    }
}
