//! How a script gets through whatever shell a login has, and its output out of what that shell
//! prints by itself.
//!
//! sshd hands the command to the login's shell as one line, and csh and fish read quotes,
//! newlines and `!` in other ways than sh. So the script travels without any of them, as octal
//! escapes between single quotes, and our sh makes the script of it. Start-up files (`.bashrc`
//! with an `echo`) write to standard output first: a mark tells where the script's own begins.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The line that our sh prints before it runs the script.
const MARK: &[u8] = b"#tyto begins\n";
/// Bytes that a login's shell may print before; a message of the day is a screen or two.
const GREETING_BYTES_MAX: usize = 64 << 10;
/// Bytes read at once until the mark came.
const CHUNK_BYTES: usize = 1024;

/// The command line that runs `script` with sh, whatever shell reads it.
pub(super) fn command_line(script: &str) -> String {
    let mut line = String::with_capacity(script.len() + 128);
    line.push_str(r##"exec sh -c 'echo "#tyto begins"; eval "$(printf %b "$0")"' '"##);
    for c in script.chars() {
        match c {
            '\\' => line.push_str(r"\0134"),
            '\'' => line.push_str(r"\0047"),
            // csh's history.
            '!' => line.push_str(r"\0041"),
            '\n' => line.push_str(r"\0012"),
            other => line.push(other),
        }
    }
    line.push('\'');
    line
}

/// Standard output from the mark on.
#[derive(Debug)]
pub(super) struct AfterGreeting<R> {
    inner: R,
    /// Before the mark: all that came; after it: what came along with it and was not read yet.
    held: Vec<u8>,
    has_begun: bool,
}

impl<R: AsyncRead + Unpin> AfterGreeting<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, held: Vec::new(), has_begun: false }
    }

    /// What the shell said instead of running the script; none once the mark came.
    pub(super) fn instead(&self) -> Option<String> {
        (!self.has_begun).then(|| String::from_utf8_lossy(&self.held).trim().to_owned())
    }

    /// Reads until the mark came or the input ended. An endless greeting counts as its end.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.has_begun && self.held.len() < GREETING_BYTES_MAX {
            let mut chunk = [0; CHUNK_BYTES];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                break;
            }
            self.held.extend_from_slice(chunk.filled());
            let at = self.held.windows(MARK.len()).position(|window| window == MARK);
            if let Some(at) = at {
                self.has_begun = true;
                drop(self.held.drain(..at + MARK.len()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for AfterGreeting<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        ready!(self.poll_begin(cx))?;
        if !self.has_begun {
            return Poll::Ready(Ok(()));
        }
        if self.held.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let n = self.held.len().min(buf.remaining());
        buf.put_slice(self.held.get(..n).unwrap_or_default());
        drop(self.held.drain(..n));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Runs the line as sshd would, with this shell for the login's.
    fn through(shell: &str, script: &str) -> Vec<u8> {
        let output = Command::new(shell).arg("-c").arg(command_line(script)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{shell}: {text}");
        output.stdout.strip_prefix(MARK).unwrap().to_vec()
    }

    #[test]
    fn every_shell_hands_the_script_over_unchanged() {
        let script = "a='it'\\''s'\nfor w in one '!two' \"th\\\\ree\"; do printf '%s,' \"$w\"; done\n\
                      # a comment\nprintf '%s %%s' \"$a\"";
        for shell in ["sh", "bash", "dash", "tcsh", "fish", "zsh", "ksh", "busybox"] {
            if !Command::new(shell).arg("-c").arg("true").output().is_ok_and(|o| o.status.success())
            {
                println!("skipped: no {shell} on this machine");
                continue;
            }
            let said = through(shell, script);
            assert_eq!(String::from_utf8_lossy(&said), "one,!two,th\\ree,it's %s", "{shell}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_word_of_a_script_comes_out_as_it_went_in(text in "[^\0]{0,40}") {
            let script = format!("printf %s {}", crate::remote::shell::quote(&text));
            prop_assert_eq!(through("sh", &script), text.as_bytes());
        }
    }

    async fn read(said: &[u8]) -> (Vec<u8>, Option<String>) {
        let mut reader = AfterGreeting::new(said);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        (rest, reader.instead())
    }

    #[tokio::test]
    async fn a_greeting_is_left_out_and_no_mark_means_that_no_script_ran() {
        assert_eq!(read(b"#tyto begins\n").await, (vec![], None));
        assert_eq!(read(b"hello\nyou#tyto begins\nout\n").await, (b"out\n".to_vec(), None));
        assert_eq!(read(b"no shell\n").await, (vec![], Some("no shell".to_owned())));
        let endless = vec![b'x'; 4 * GREETING_BYTES_MAX];
        assert!(read(&endless).await.1.is_some());
    }
}
