//! A host behind SSH: the system's `ssh` (so ~/.ssh/config, agents, certificates and jump hosts
//! work as the operator knows them), one connection per host, all calls multiplexed over it.
//!
//! Host keys are strict: a host that is not in known_hosts is refused, never added.
//! Nothing is ever asked: no password, no prompt, no terminal.

use std::path::{Path, PathBuf};
use std::time::Duration;

use openssh::{Child, Session, Stdio};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, timeout};
use tyto_core::config::settings::SshSettings;

use super::error::RemoteError;
use super::login_shell::{AfterGreeting, command_line};
use super::master::{Master, spread};
use super::{ByteStream, Call, Input, Output, Remote, drain, feed, ssh_words};

/// Calls over one connection at once; sshd allows 10 (MaxSessions).
const CALLS_AT_ONCE_MAX: usize = 8;
/// Tries to get a session from an sshd that has no place for one more (MaxSessions).
const SESSION_TRIES_MAX: u32 = 8;
/// Wait after the first such try; doubled after each.
const FIRST_WAIT: Duration = Duration::from_millis(50);
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
    session: Mutex<Option<Master>>,
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
    async fn session(&self) -> Result<Master, RemoteError> {
        let mut slot = self.session.lock().await;
        if let Some(master) = slot.as_ref() {
            if master.is_alive().await {
                return Ok(master.clone());
            }
            master.end_if_stuck().await;
            *slot = None;
        }
        if self.host.starts_with('-') {
            // ssh would take it for an option.
            let said = "a name must not begin with `-`".to_owned();
            return Err(RemoteError::NoAddress { host: self.host.clone(), said });
        }
        let master = Master::connect(&self.host, &self.settings, &self.control_dir).await?;
        *slot = Some(master.clone());
        Ok(master)
    }

    /// Starts a script; tries again while sshd has no place for one more session.
    async fn spawn(&self, script: &str) -> Result<Child<Master>, RemoteError> {
        let line = command_line(script);
        let mut wait = FIRST_WAIT;
        let mut tries = 0;
        loop {
            tries += 1;
            let mut command = Session::to_raw_command(self.session().await?, &line);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let error = match command.spawn().await {
                Ok(child) => return Ok(child),
                Err(error) => error,
            };
            let said = chain(&error);
            if !ssh_words::is_session_refused(&said) {
                return Err(self.lost(&error));
            }
            if tries == SESSION_TRIES_MAX {
                return Err(RemoteError::Busy { host: self.host.clone(), what: "a session", said });
            }
            sleep(spread(wait)).await;
            wait *= 2;
        }
    }

    async fn finish(&self, script: &str, input: Input<'_>) -> Result<Output, RemoteError> {
        let mut child = self.spawn(script).await?;
        let stdin = child.stdin().take();
        let (out, err) = (child.stdout().take(), child.stderr().take());
        let mut out = out.map(AfterGreeting::new);
        let feeding = async {
            match stdin {
                Some(stdin) => feed(input, stdin).await,
                None => Ok(()),
            }
        };
        let (fed, stdout, stderr) = tokio::join!(feeding, drain(out.as_mut()), drain(err));
        fed.map_err(|(path, source)| RemoteError::Here { path, source })?;
        let lost = |error: std::io::Error| RemoteError::Lost {
            host: self.host.clone(),
            said: error.to_string(),
        };
        let (stdout, stderr) = (stdout.map_err(lost)?, stderr.map_err(lost)?);
        let code = match child.wait().await {
            Ok(status) => status.code().unwrap_or(EXIT_BY_SIGNAL),
            Err(openssh::Error::Remote(_)) => EXIT_NOT_FOUND,
            Err(openssh::Error::RemoteProcessTerminated) if self.is_alive().await => EXIT_BY_SIGNAL,
            Err(error) => return Err(self.lost(&error)),
        };
        let output = Output { code, stdout, stderr };
        match out.and_then(|out| out.instead()) {
            None => Ok(output),
            Some(instead) => Err(self.no_shell(&instead, &output)),
        }
    }

    /// True when the connection still answers.
    async fn is_alive(&self) -> bool {
        match self.session.lock().await.as_ref() {
            Some(master) => master.is_alive().await,
            None => false,
        }
    }

    fn timed_out(&self, what: &'static str, deadline: Duration) -> RemoteError {
        RemoteError::TimedOut { host: self.host.clone(), what, deadline }
    }

    fn lost(&self, error: &openssh::Error) -> RemoteError {
        RemoteError::Lost { host: self.host.clone(), said: chain(error) }
    }

    /// The login's shell ended without running the script.
    fn no_shell(&self, instead: &str, output: &Output) -> RemoteError {
        let stderr = output.stderr_text();
        let said = [stderr.as_str(), instead].into_iter().find(|said| !said.is_empty());
        let said = said.map_or_else(|| format!("exit code {}", output.code), ssh_words::last_line);
        RemoteError::LoginShell { host: self.host.clone(), said }
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
            let ran = timeout(deadline, self.finish(script, input)).await;
            ran.unwrap_or_else(|_| Err(self.timed_out("command", deadline)))
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
            let (reader, writer) = (Box::new(AfterGreeting::new(reader)), Box::new(writer));
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
