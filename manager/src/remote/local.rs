//! This machine as a host: scripts run directly, no SSH.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::error::RemoteError;
use super::{ByteStream, Call, Input, Output, Remote, drain, feed};

/// This machine.
#[derive(Debug)]
pub struct Local {
    host: String,
}

impl Local {
    /// This machine under the name that node.cfg gives it.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into() }
    }

    fn spawn(script: &str) -> Result<Child, RemoteError> {
        Command::new("sh")
            .arg("-c")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| RemoteError::Here { path: "sh".into(), source })
    }

    async fn finish(&self, script: &str, input: Input<'_>) -> Result<Output, RemoteError> {
        let mut child = Self::spawn(script)?;
        let stdin = child.stdin.take();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let feeding = async {
            match stdin {
                Some(stdin) => feed(input, stdin).await,
                None => Ok(()),
            }
        };
        let (fed, stdout, stderr) = tokio::join!(feeding, drain(out), drain(err));
        fed.map_err(|(path, source)| RemoteError::Here { path, source })?;
        let here = |source| RemoteError::Here { path: "sh".into(), source };
        let status = child.wait().await.map_err(here)?;
        let (stdout, stderr) = (stdout.map_err(here)?, stderr.map_err(here)?);
        Ok(Output { code: exit_code(status), stdout, stderr })
    }
}

impl Remote for Local {
    fn host(&self) -> &str {
        &self.host
    }

    fn is_local(&self) -> bool {
        true
    }

    fn run<'a>(
        &'a self,
        script: &'a str,
        input: Input<'a>,
        deadline: Duration,
    ) -> Call<'a, Output> {
        Box::pin(async move {
            timeout(deadline, self.finish(script, input)).await.unwrap_or_else(|_| {
                Err(RemoteError::TimedOut { host: self.host.clone(), what: "command", deadline })
            })
        })
    }

    fn open<'a>(&'a self, script: &'a str, _deadline: Duration) -> Call<'a, ByteStream> {
        Box::pin(async move {
            let mut child = Self::spawn(script)?;
            let (Some(writer), Some(reader)) = (child.stdin.take(), child.stdout.take()) else {
                let source = std::io::Error::other("no pipes");
                return Err(RemoteError::Here { path: "sh".into(), source });
            };
            let errors = child.stderr.take().map(|e| Box::new(e) as _);
            let (reader, writer) = (Box::new(reader), Box::new(writer));
            Ok(ByteStream { reader, writer, errors, keep: Box::new(child) })
        })
    }
}

/// Exit code as a shell tells it: 128 + signal for a death by signal.
fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use sha2::{Digest, Sha256};

    use super::Local;
    use crate::remote::error::RemoteError;
    use crate::remote::{Input, Put, Remote};

    const SOON: Duration = Duration::from_secs(20);

    fn hex(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
    }

    #[tokio::test]
    async fn a_script_reads_its_input_and_its_exit_code_comes_back() {
        let here = Local::new("localhost");
        let input = Input::Bytes(b"four");
        let output = here.run("cat; echo no >&2; exit 4", input, SOON).await.unwrap();
        assert_eq!((output.code, output.stdout.as_slice()), (4, b"four".as_slice()));
        assert_eq!(output.stderr_text(), "no");
    }

    #[tokio::test]
    async fn a_script_that_reads_nothing_is_no_error() {
        let here = Local::new("localhost");
        let big = vec![7; 1 << 20];
        assert!(here.run("exec <&-; true", Input::Bytes(&big), SOON).await.unwrap().ok());
    }

    #[tokio::test]
    async fn a_script_that_hangs_ends_by_the_deadline() {
        let here = Local::new("localhost");
        let error =
            here.run("sleep 60", Input::None, Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, RemoteError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_file_is_stored_whole_with_its_mode_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let here: &dyn Remote = &Local::new("localhost");
        let path = dir.path().join("it's $HOME.bin");
        let bytes = vec![9_u8; 300_000];
        let good = hex(&bytes);
        let put = Put { content: Input::Bytes(&bytes), path: &path, sha256: &good, mode: 0o755 };
        here.put(put, SOON).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o755);

        let other = dir.path().join("damaged");
        let bad = Put { sha256: &hex(b"something else"), path: &other, ..put };
        let error = here.put(bad, SOON).await.unwrap_err();
        assert!(error.to_string().contains("arrived damaged"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_full_disk_has_its_own_message() {
        if !std::path::Path::new("/dev/full").exists() {
            println!("skipped: no /dev/full on this machine");
            return;
        }
        let here: &dyn Remote = &Local::new("localhost");
        let error =
            here.must("write", "cat >/dev/full", Input::Bytes(b"x"), SOON).await.unwrap_err();
        assert!(matches!(error, RemoteError::NoSpace { .. }), "{error}");
    }
}
