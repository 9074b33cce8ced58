//! Doing things on a host: run a shell script, store a file, open a byte stream to a command.
//! All that a host needs is sshd and a POSIX shell with the usual small tools
//! (`cat mkdir mv ln chmod sha256sum`). Every call ends by a deadline.
//!
//! Scripts are fixed texts; what varies goes through [`shell::quote`] or standard input.
//! No secret is ever an argument: arguments are seen by everybody on the host.

pub mod channel;
pub mod error;
pub mod fanout;
mod jump_host;
pub mod local;
mod login_shell;
mod master;
pub mod names;
pub mod peers;
pub mod pool;
pub mod shell;
pub mod ssh;
mod ssh_words;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use error::RemoteError;

/// Most bytes that one call keeps of a command's output; what is beyond is read and forgotten.
pub const OUTPUT_BYTES_MAX: u64 = 16 << 20;

/// A call in progress.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, RemoteError>> + Send + 'a>>;

/// One host.
pub trait Remote: Send + Sync + std::fmt::Debug {
    /// The host as node.cfg names it.
    fn host(&self) -> &str;

    /// True when commands run here, without SSH.
    fn is_local(&self) -> bool;

    /// Runs `script` with `sh -c`. An exit code other than 0 is not an error of the call.
    ///
    /// # Errors
    /// When the host cannot be reached, the connection is lost or the deadline passes.
    fn run<'a>(&'a self, script: &'a str, input: Input<'a>, deadline: Duration)
    -> Call<'a, Output>;

    /// Starts `script` with `sh -c` and hands out its standard input and output. It is told
    /// to end by the end of its input.
    ///
    /// # Errors
    /// When the host cannot be reached or the command cannot be started within the deadline.
    fn open<'a>(&'a self, script: &'a str, deadline: Duration) -> Call<'a, ByteStream>;
}

/// What a script reads on its standard input.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Nothing: end of file at once.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// The content of a file of this machine.
    File(&'a Path),
}

/// What a script left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 and above when it died by a signal.
    pub code: i32,
    /// What it wrote to standard output, at most [`OUTPUT_BYTES_MAX`].
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, at most [`OUTPUT_BYTES_MAX`].
    pub stderr: Vec<u8>,
}

impl Output {
    /// True for exit code 0.
    pub fn ok(&self) -> bool {
        self.code == 0
    }

    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text, without white space at its ends.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// Standard input and output of a running command, and the end of what it says on standard error.
pub struct ByteStream {
    /// Its standard output.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard input.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard error; none when there is no command behind it.
    pub errors: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Kept while the stream lives, so that the process or the connection does.
    pub keep: Box<dyn Send>,
}

impl std::fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByteStream")
    }
}

/// A file to store on a host.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// What it shall hold.
    pub content: Input<'a>,
    /// Its path there.
    pub path: &'a Path,
    /// Its SHA-256 in lower-case hex; what arrives otherwise is thrown away.
    pub sha256: &'a str,
    /// Its mode, such as 0o644.
    pub mode: u32,
}

impl dyn Remote + '_ {
    /// Runs `script` and takes any exit code other than 0 as an error.
    ///
    /// # Errors
    /// As [`Remote::run`], and [`RemoteError::Failed`] (or what standard error tells more exactly).
    pub async fn must(
        &self,
        what: &'static str,
        script: &str,
        input: Input<'_>,
        deadline: Duration,
    ) -> Result<Output, RemoteError> {
        let output = self.run(script, input, deadline).await?;
        if output.ok() {
            return Ok(output);
        }
        Err(RemoteError::from_output(self.host(), what, &output))
    }

    /// Stores a file: written beside its place, hashed there, then renamed, so that whoever
    /// looks sees the whole file or none.
    ///
    /// # Errors
    /// As [`Remote::run`]; when the folder cannot be written, the disk is full, or the hash
    /// is another one.
    pub async fn put(&self, put: Put<'_>, deadline: Duration) -> Result<(), RemoteError> {
        let script = put_script(&put);
        let stored = self.must("store a file", &script, put.content, deadline).await;
        stored.map(|_| ()).map_err(|error| with_size(error, put.content))
    }
}

/// The script behind [`Remote`]'s `put`; reads the content on standard input.
fn put_script(put: &Put<'_>) -> String {
    let path = shell::quote(&put.path.to_string_lossy());
    let hash = shell::quote(put.sha256);
    // $$ is the shell's own process id: two deploys at once do not share the file.
    format!(
        "umask 077; p={path}; t=$p.new.$$; trap 'rm -f \"$t\"' EXIT; \
         cat >\"$t\" || {{ rm -f \"$t\"; \
           set -- $(df -Pk \"${{p%/*}}\" | tail -n 1); echo \"$4 KiB are free\" >&2; exit 1; }}; \
         h=$(sha256sum <\"$t\") || exit 1; \
         [ \"${{h%% *}}\" = {hash} ] || {{ echo \"$p: arrived damaged, or changed while it was copied\" >&2; exit 1; }}; \
         chmod {mode:o} \"$t\" && mv -f \"$t\" \"$p\"",
        mode = put.mode
    )
}

/// Says how large the file is for which there was no space.
fn with_size(error: RemoteError, content: Input<'_>) -> RemoteError {
    let bytes = match content {
        Input::None => 0,
        Input::Bytes(bytes) => bytes.len() as u64,
        Input::File(path) => path.metadata().map_or(0, |file| file.len()),
    };
    match error {
        RemoteError::NoSpace { host, said } => {
            let needed = format!("{} KiB are needed for this file", bytes.div_ceil(1024));
            RemoteError::NoSpace { host, said: format!("{}; {needed}", said.replace('\n', "; ")) }
        }
        other => other,
    }
}

/// Writes `input` to a command and closes its standard input. A command that ends without
/// reading everything is no error here: its exit code tells.
///
/// # Errors
/// When the local file cannot be read.
async fn feed(
    input: Input<'_>,
    mut stdin: impl AsyncWrite + Unpin,
) -> Result<(), (std::path::PathBuf, std::io::Error)> {
    match input {
        Input::None => {}
        Input::Bytes(bytes) => {
            if stdin.write_all(bytes).await.is_err() {
                return Ok(());
            }
        }
        Input::File(path) => {
            let mut file =
                tokio::fs::File::open(path).await.map_err(|error| (path.to_owned(), error))?;
            let mut chunk = vec![0; 256 << 10];
            loop {
                let n = file.read(&mut chunk).await.map_err(|error| (path.to_owned(), error))?;
                let Some(part) = chunk.get(..n).filter(|part| !part.is_empty()) else { break };
                if stdin.write_all(part).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    // An error here means that the command is gone; its exit code tells why.
    drop(stdin.shutdown().await);
    Ok(())
}

/// Reads to the end, keeps [`OUTPUT_BYTES_MAX`].
async fn drain(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}
