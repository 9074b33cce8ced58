//! A host behind SSH: the system's `ssh` (so ~/.ssh/config, agents, certificates and jump hosts
//! work as the operator knows them), one connection per host, all calls multiplexed over it.
//!
//! Host keys are strict: a host that is not in known_hosts is refused, never added.
//! Nothing is ever asked: no password, no prompt, no terminal.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssh::{Child, ControlPersist, KnownHosts, Session, SessionBuilder, Stdio};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;
use tyto_core::config::settings::{SshMode, SshSettings};

use super::error::RemoteError;
use super::{ByteStream, Call, Input, Output, Remote, drain, feed};

/// Calls over one connection at once; sshd allows 10 (MaxSessions).
const CALLS_AT_ONCE_MAX: usize = 8;
/// A silent connection is asked for a sign of life this often; ssh gives up after three.
const SERVER_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A connection without calls ends by itself after this many seconds, so that none is left for
/// long when ctl is killed. (With `ControlPersist=no` it would stay for ever: it has no initial
/// session whose end could end it.)
const CONNECTION_IDLE_S: NonZeroUsize = NonZeroUsize::new(60).unwrap();
/// Folders of connections that ended without us are removed after this long.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);
/// Longest path of the folder of control sockets: ssh adds up to 48 bytes, and a socket's
/// path ends at 108 (sun_path).
const CONTROL_DIR_BYTES_MAX: usize = 56;
/// Exit code of a shell that does not find the command. The native multiplexer makes an error of it.
const EXIT_NOT_FOUND: i32 = 127;
/// Exit code told for a death by signal: SSH tells no more than that there was none.
const EXIT_BY_SIGNAL: i32 = 128;

/// One host behind SSH. Connects at the first call, and again after a lost connection.
#[derive(Debug)]
pub struct Ssh {
    host: String,
    settings: SshSettings,
    control_dir: PathBuf,
    // Held while connecting: calls that come meanwhile wait for the one connection.
    session: Mutex<Option<Arc<Session>>>,
    calls: Semaphore,
}

impl Ssh {
    /// The host `host`, reached as `settings` say; nothing is connected yet.
    ///
    /// # Errors
    /// When the private folder of the control sockets cannot be made.
    pub fn new(host: impl Into<String>, settings: SshSettings) -> Result<Self, RemoteError> {
        Ok(Self {
            host: host.into(),
            settings,
            control_dir: control_dir()?,
            session: Mutex::new(None),
            calls: Semaphore::new(CALLS_AT_ONCE_MAX),
        })
    }

    /// The connection, made now if there is none.
    async fn session(&self) -> Result<Arc<Session>, RemoteError> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref() {
            if session.check().await.is_ok() {
                return Ok(Arc::clone(session));
            }
            *slot = None;
        }
        let session = Arc::new(self.connect().await?);
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.settings.connect_timeout_s)
    }

    async fn connect(&self) -> Result<Session, RemoteError> {
        if self.host.starts_with('-') {
            // ssh would take it for an option.
            let said = "a name must not begin with `-`".to_owned();
            return Err(RemoteError::NoAddress { host: self.host.clone(), said });
        }
        let mut builder = SessionBuilder::default();
        builder
            .known_hosts_check(KnownHosts::Strict)
            .control_persist(ControlPersist::IdleFor(CONNECTION_IDLE_S))
            .control_directory(&self.control_dir)
            .connect_timeout(self.connect_timeout())
            .server_alive_interval(SERVER_ALIVE_INTERVAL);
        let settings = self.settings.clone();
        settings.user.map(|user| builder.user(user));
        settings.port.map(|port| builder.port(port));
        settings.known_hosts.map(|file| builder.user_known_hosts_file(file));
        settings.identity_file.map(|file| builder.keyfile(file));
        settings.config_file.map(|file| builder.config_file(file));
        let connecting = async {
            match self.settings.mode {
                SshMode::Native => builder.connect_mux(&self.host).await,
                SshMode::Process => builder.connect(&self.host).await,
            }
        };
        // ssh counts the connection only; a host that accepts and then says nothing is ours.
        let deadline = self.connect_timeout() + Duration::from_secs(5);
        match timeout(deadline, connecting).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(self.error(&error)),
            Err(_) => Err(self.timed_out("connect", deadline)),
        }
    }

    async fn spawn(&self, script: &str) -> Result<Child<Arc<Session>>, RemoteError> {
        let session = self.session().await?;
        let mut command = Session::to_command(session, "sh");
        command.arg("-c").arg(script);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().await.map_err(|error| self.error(&error))
    }

    async fn finish(&self, script: &str, input: Input<'_>) -> Result<Output, RemoteError> {
        let mut child = self.spawn(script).await?;
        let stdin = child.stdin().take();
        let (out, err) = (child.stdout().take(), child.stderr().take());
        let feeding = async {
            match stdin {
                Some(stdin) => feed(input, stdin).await,
                None => Ok(()),
            }
        };
        let (fed, stdout, stderr) = tokio::join!(feeding, drain(out), drain(err));
        fed.map_err(|(path, source)| RemoteError::Here { path, source })?;
        let lost = |error: std::io::Error| RemoteError::Lost {
            host: self.host.clone(),
            said: error.to_string(),
        };
        let (stdout, stderr) = (stdout.map_err(lost)?, stderr.map_err(lost)?);
        let code = match child.wait().await {
            Ok(status) => status.code().unwrap_or(EXIT_BY_SIGNAL),
            Err(openssh::Error::Remote(_)) => EXIT_NOT_FOUND,
            Err(openssh::Error::RemoteProcessTerminated) if self.alive().await => EXIT_BY_SIGNAL,
            Err(error) => return Err(self.error(&error)),
        };
        Ok(Output { code, stdout, stderr })
    }

    /// True when the connection still answers.
    async fn alive(&self) -> bool {
        match self.session.lock().await.as_ref() {
            Some(session) => session.check().await.is_ok(),
            None => false,
        }
    }

    fn timed_out(&self, what: &'static str, deadline: Duration) -> RemoteError {
        RemoteError::TimedOut { host: self.host.clone(), what, deadline }
    }

    fn error(&self, error: &openssh::Error) -> RemoteError {
        let host = self.host.clone();
        match error {
            openssh::Error::Connect(cause) | openssh::Error::Master(cause) => {
                if cause.kind() == std::io::ErrorKind::NotFound && cause.raw_os_error().is_some() {
                    let source = std::io::Error::new(cause.kind(), cause.to_string());
                    return RemoteError::Here { path: "ssh".into(), source };
                }
                RemoteError::from_ssh(&self.host, &cause.to_string())
            }
            other => RemoteError::Lost { host, said: chain(other) },
        }
    }
}

impl Remote for Ssh {
    fn host(&self) -> &str {
        &self.host
    }

    fn is_local(&self) -> bool {
        false
    }

    fn run<'a>(
        &'a self,
        script: &'a str,
        input: Input<'a>,
        deadline: Duration,
    ) -> Call<'a, Output> {
        Box::pin(async move {
            // Never closed; should it be, sshd's own bound holds.
            let _place = self.calls.acquire().await.ok();
            // Connecting has a deadline of its own, so that its error is the one told.
            self.session().await?;
            timeout(deadline, self.finish(script, input))
                .await
                .unwrap_or_else(|_| Err(self.timed_out("command", deadline)))
        })
    }

    fn open<'a>(&'a self, script: &'a str, deadline: Duration) -> Call<'a, ByteStream> {
        Box::pin(async move {
            self.session().await?;
            let mut child = timeout(deadline, self.spawn(script))
                .await
                .unwrap_or_else(|_| Err(self.timed_out("command", deadline)))?;
            let (Some(writer), Some(reader)) = (child.stdin().take(), child.stdout().take()) else {
                return Err(RemoteError::Lost { host: self.host.clone(), said: "no pipes".into() });
            };
            let errors = child.stderr().take().map(|e| Box::new(e) as _);
            let (reader, writer) = (Box::new(reader), Box::new(writer));
            Ok(ByteStream { reader, writer, errors, keep: Box::new(child) })
        })
    }
}

/// The words of an error and of what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// A folder of this user only, with a path short enough for control sockets.
///
/// # Errors
/// When it cannot be made, or somebody else has made one of that name.
fn control_dir() -> Result<PathBuf, RemoteError> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let user = rustix::process::getuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let dir = runtime
        .filter(|dir| dir.is_dir())
        .map(|dir| dir.join("tyto-ssh"))
        .filter(|dir| dir.as_os_str().len() <= CONTROL_DIR_BYTES_MAX)
        .unwrap_or_else(|| Path::new("/tmp").join(format!("tyto-ssh-{user}")));
    let here = |source| RemoteError::Here { path: dir.clone(), source };
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(here(error)),
        _ => {}
    }
    // Somebody else may have made it first, or a link of that name.
    let meta = std::fs::symlink_metadata(&dir).map_err(here)?;
    if !meta.is_dir() || meta.uid() != user || meta.mode() & 0o077 != 0 {
        let error = "belongs to somebody else, or others may write there";
        return Err(here(std::io::Error::new(std::io::ErrorKind::PermissionDenied, error)));
    }
    remove_leftovers(&dir);
    Ok(dir)
}

/// Removes what connections left behind whose ctl was killed. Without their socket they are over.
fn remove_leftovers(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_connection = entry.file_name().to_string_lossy().starts_with(".ssh-connection");
        let age = entry.metadata().and_then(|meta| meta.modified()).ok();
        let is_old = age.is_some_and(|at| at.elapsed().is_ok_and(|age| age > LEFTOVER_AGE));
        if is_connection && is_old && !path.join("master").exists() {
            // Another ctl may be at it too.
            drop(std::fs::remove_dir_all(&path));
        }
    }
}
