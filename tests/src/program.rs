//! Runs a program to its end, with a limit on its time.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Exit code of timeout(1) when the time was over.
const TIME_OVER: i32 = 124;

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `words` and waits at most `limit`.
///
/// # Errors
/// When it cannot be run, or the time is over: it is ended then.
pub fn run<S: AsRef<str>>(words: &[S], limit: Duration) -> Result<Outcome> {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let command = words.join(" ");
    let output: Output = Command::new("timeout")
        .args(["--kill-after=5", &limit.as_secs().to_string()])
        .args(&words)
        .output()
        .with_context(|| format!("cannot run `{command}`"))?;
    let outcome = Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        command,
    };
    if outcome.code == TIME_OVER {
        bail!("no end within {} s: {outcome:#?}", limit.as_secs());
    }
    Ok(outcome)
}

impl Outcome {
    /// Itself, if it ended with exit code 0.
    ///
    /// # Errors
    /// Otherwise, with all that it said.
    pub fn ok(self) -> Result<Self> {
        self.ended_with(0)
    }

    /// Itself, if it ended with this exit code.
    ///
    /// # Errors
    /// Otherwise, with all that it said.
    pub fn ended_with(self, code: i32) -> Result<Self> {
        if self.code == code {
            return Ok(self);
        }
        bail!(
            "`{}` ended with exit code {}, expected {code}\n{}{}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        )
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("`{}` printed no JSON:\n{}", self.command, self.stdout))
    }
}
