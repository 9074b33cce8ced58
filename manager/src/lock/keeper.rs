//! The process on the manager's host that keeps the lock for this ctl: started there, told who we
//! are, waited for, and kept alive by a word now and then.

use std::path::Path;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{Holder, LockError, RELEASE_PATIENCE, TELL_INTERVAL, Waiting};
use crate::hosts::Host;
use crate::remote::ByteStream;
use crate::remote::error::RemoteError;
use crate::remote::shell::quote_path;

/// Time between two signs of life to the keeper of the lock, which waits 30 s for one.
const SIGN_INTERVAL: Duration = Duration::from_secs(5);
/// Most of the keeper's complaint that is repeated, bytes.
const COMPLAINT_BYTES_MAX: u64 = 2048;

/// The keeper, as long as it has the lock for us.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Its host.
    pub(super) host: String,
    /// Dropped to end the task, and with it the keeper.
    pub(super) end: Option<oneshot::Sender<()>>,
    /// Ends when the keeper has.
    pub(super) task: JoinHandle<()>,
}

/// What came of asking the host.
pub(super) enum Asked {
    /// The lock is ours.
    Kept(Keeper),
    /// No program there that could keep a lock, or (told why) no host that answers.
    Cannot(Option<RemoteError>),
}

/// A keeper that does not have the lock yet.
struct Opening {
    lines: Lines<BufReader<Box<dyn AsyncRead + Send + Unpin>>>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Who has the lock instead of us.
    holder: Option<Holder>,
    /// When the operator was told of it.
    told: Instant,
}

/// Starts a keeper and waits until it has the lock; whether another one had it before.
pub(super) async fn open_keeper(
    host: &Host,
    program: &Path,
    waiting: &Waiting<'_>,
) -> Result<(Asked, bool), LockError> {
    let (program, prefix) = (quote_path(program), quote_path(host.layout.prefix()));
    let script = format!(
        "[ -x {program} ] || {{ echo none; exit 0; }}; exec {program} hold-lock --prefix {prefix}"
    );
    let ByteStream { reader, writer, errors, keep } =
        match host.remote.open(&script, host.deadline).await {
            Ok(stream) => stream,
            Err(error) => return Ok((Asked::Cannot(Some(error)), false)),
        };
    let lines = BufReader::new(reader).lines();
    let mut opening = Opening { lines, writer, holder: None, told: Instant::now() };
    let note = serde_json::to_string(&Holder::this()).unwrap_or_default();
    opening.say(&note).await;
    loop {
        let line = match opening.next_line(host, waiting).await? {
            Ok(line) => line,
            Err(error) => return Ok((Asked::Cannot(Some(error)), false)),
        };
        match line.as_deref().map(|line| line.split_once(' ').unwrap_or((line, ""))) {
            Some(("held", _)) => {
                let had_to_wait = opening.holder.is_some();
                return Ok((Asked::Kept(opening.keep_alive(host, keep)), had_to_wait));
            }
            Some(("busy", who)) => opening.busy(who, waiting)?,
            Some(("none", _)) => return Ok((Asked::Cannot(None), false)),
            Some(_) => {}
            None => return Ok((Asked::Cannot(Some(complaint(host, errors).await)), false)),
        }
    }
}

impl Opening {
    /// When the keeper is gone already, its own words tell.
    async fn say(&mut self, line: &str) {
        drop(self.writer.write_all(format!("{line}\n").as_bytes()).await);
        drop(self.writer.flush().await);
    }

    /// The keeper's next line, none at its end; or why the host does not answer.
    async fn next_line(
        &mut self,
        host: &Host,
        waiting: &Waiting<'_>,
    ) -> Result<Result<Option<String>, RemoteError>, LockError> {
        loop {
            let patience = match &self.holder {
                Some(_) => waiting.left().min(TELL_INTERVAL),
                None => host.deadline,
            };
            let name = host.name.to_string();
            match (timeout(patience, self.lines.next_line()).await, &self.holder) {
                (Ok(Ok(line)), _) => return Ok(Ok(line)),
                (Ok(Err(error)), _) => {
                    return Ok(Err(RemoteError::Lost { host: name, said: error.to_string() }));
                }
                (Err(_), Some(holder)) if waiting.left().is_zero() => {
                    return Err(waiting.held(holder));
                }
                (Err(_), Some(holder)) => {
                    waiting.tell(holder);
                    self.told = Instant::now();
                    self.say("").await;
                }
                (Err(_), None) => {
                    let (what, deadline) = ("lock", patience);
                    return Ok(Err(RemoteError::TimedOut { host: name, what, deadline }));
                }
            }
        }
    }

    fn busy(&mut self, who: &str, waiting: &Waiting<'_>) -> Result<(), LockError> {
        let who: Holder = serde_json::from_str(who).unwrap_or_default();
        if waiting.left().is_zero() {
            return Err(waiting.held(&who));
        }
        if self.holder.as_ref() != Some(&who) || self.told.elapsed() >= TELL_INTERVAL {
            waiting.tell(&who);
            self.told = Instant::now();
        }
        self.holder = Some(who);
        Ok(())
    }

    /// Tells the keeper now and then that we live, until we are done or it is gone.
    fn keep_alive(mut self, host: &Host, keep: Box<dyn Send>) -> Keeper {
        let (end, mut ended) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let _keep = keep;
            loop {
                tokio::select! {
                    // The sender is never used: that it is dropped is the word.
                    _ = &mut ended => break,
                    line = self.lines.next_line() => match line {
                        Ok(Some(_)) => {}
                        Ok(None) | Err(_) => return,
                    },
                    () = sleep(SIGN_INTERVAL) => self.say("").await,
                }
            }
            // It ends at the end of our words, and its own words end when it has given the lock
            // back.
            drop(self.writer.shutdown().await);
            drop(self.writer);
            while let Ok(Some(_)) = self.lines.next_line().await {}
        });
        Keeper { host: host.name.to_string(), end: Some(end), task }
    }
}

/// Why a keeper ended at once: the words of an old program that knows no lock, or a fault.
async fn complaint(host: &Host, errors: Option<Box<dyn AsyncRead + Send + Unpin>>) -> RemoteError {
    let mut said = Vec::new();
    if let Some(errors) = errors {
        let mut errors = errors.take(COMPLAINT_BYTES_MAX);
        drop(timeout(RELEASE_PATIENCE, errors.read_to_end(&mut said)).await);
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    RemoteError::Failed { host: host.name.to_string(), what: "take the lock", said }
}
