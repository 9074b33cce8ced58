//! Hosts on this machine, by `tests/lab/lab`: each with its own namespaces and a real sshd.
//! Root is taken by sudo where it is not there already; without it there is no lab.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::program::{Outcome, run};
use crate::{tree, wait};

/// Time that making or ending a lab may take.
const LAB_LIMIT: Duration = Duration::from_secs(60);
/// Time that a command on a host may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Time to wait for another run of the tests on this machine.
const TURN_LIMIT: Duration = Duration::from_secs(900);

/// Where ctl is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// The operator's place, which reaches every host by ssh.
    Operator,
    /// On a host, as one would without ssh.
    Host(usize),
}

/// A lab; it ends with this value.
#[derive(Debug)]
pub struct Lab {
    name: String,
    _turn: File,
}

impl Lab {
    /// Makes a lab of `hosts` hosts, or says why this machine cannot hold one.
    ///
    /// # Errors
    /// When the machine could hold it and it cannot be made nevertheless.
    pub fn up(name: &str, hosts: usize) -> Result<Result<Self, String>> {
        if root() == Root::None {
            return Ok(Err("needs root, or sudo without a password".to_owned()));
        }
        let check = run(&lab_words(&["check"]), COMMAND_LIMIT)?;
        if check.code != 0 {
            return Ok(Err(check.stdout.trim().to_owned()));
        }
        // Names of namespaces are the machine's: two runs at the same time take turns.
        let turn = File::create(std::env::temp_dir().join(format!("tyto-lab-{name}.lock")))?;
        wait::until("the turn of this run's lab", TURN_LIMIT, || match turn.try_lock() {
            Ok(()) => Ok(Ok(())),
            Err(TryLockError::WouldBlock) => Ok(Err("another run has it".to_owned())),
            Err(TryLockError::Error(error)) => Err(error.into()),
        })?;
        let lab = Self { name: name.to_owned(), _turn: turn };
        run(&lab_words(&["up", name, "--hosts", &hosts.to_string()]), LAB_LIMIT)?.ok()?;
        Ok(Ok(lab))
    }

    /// Runs a command on a host (1, 2, …), as root.
    ///
    /// # Errors
    /// When it takes too long. How it ended is for the caller to judge.
    pub fn exec(&self, host: usize, words: &[&str]) -> Result<Outcome> {
        self.run_at(Seat::Host(host), words, COMMAND_LIMIT)
    }

    /// Runs a shell command on a host and gives what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn sh(&self, host: usize, script: &str) -> Result<String> {
        Ok(self.exec(host, &["sh", "-c", script])?.ok()?.stdout)
    }

    /// Runs a command in a seat.
    ///
    /// # Errors
    /// When it takes longer than `limit`. How it ended is for the caller to judge.
    pub fn run_at(&self, seat: Seat, words: &[&str], limit: Duration) -> Result<Outcome> {
        run(&self.words_at(seat, words), limit)
    }

    /// The command line that runs a command in a seat; all of it becomes that command by `exec`,
    /// so that a signal to its process reaches it.
    pub fn words_at(&self, seat: Seat, words: &[&str]) -> Vec<String> {
        let host = match seat {
            Seat::Operator => None,
            Seat::Host(host) => Some(host.to_string()),
        };
        let mut all = match &host {
            None => vec!["operate", &self.name],
            Some(host) => vec!["exec", &self.name, host],
        };
        all.extend(words);
        lab_words(&all)
    }

    /// Writes a file of the configuration (`node.cfg`, …) that ctl reads in a seat.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, seat: Seat, file: &str, text: &str) -> Result<()> {
        let script = "mkdir -p /opt/tyto/etc && printf %s \"$2\" > \"/opt/tyto/etc/$1\"";
        self.run_at(seat, &["sh", "-c", script, "sh", file, text], COMMAND_LIMIT)?.ok()?;
        Ok(())
    }

    /// Starts the replay of a capture onto the wire of a host.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn replay(&self, host: usize, capture: &Path, options: &[&str]) -> Result<Replay> {
        let host = host.to_string();
        let capture = capture.to_str().context("path of the capture is no text")?;
        let mut all = vec!["replay", &self.name, &host, capture];
        all.extend(options);
        let words = lab_words(&all);
        let (program, rest) = words.split_first().context("no command")?;
        let child = Command::new(program)
            .args(rest)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the replay")?;
        Ok(Replay(child))
    }

    /// Ends all that runs on a host and boots it: then there is sshd, and what its disk holds.
    ///
    /// # Errors
    /// When that fails.
    pub fn reboot(&self, host: usize) -> Result<()> {
        run(&lab_words(&["reboot", &self.name, &host.to_string()]), LAB_LIMIT)?.ok()?;
        Ok(())
    }

    /// Unplugs a host: it no longer answers.
    ///
    /// # Errors
    /// When that fails.
    pub fn cut(&self, host: usize) -> Result<()> {
        run(&lab_words(&["cut", &self.name, &host.to_string()]), COMMAND_LIMIT)?.ok()?;
        Ok(())
    }

    /// Plugs a host in again.
    ///
    /// # Errors
    /// When that fails.
    pub fn mend(&self, host: usize) -> Result<()> {
        run(&lab_words(&["mend", &self.name, &host.to_string()]), COMMAND_LIMIT)?.ok()?;
        Ok(())
    }
}

impl Drop for Lab {
    /// Takes the hosts down; with `TYTO_LAB_STAYS` set they stay to be looked at.
    fn drop(&mut self) {
        if std::env::var_os("TYTO_LAB_STAYS").is_some() {
            eprintln!("lab `{}` stays: tests/lab/lab down {0}", self.name);
            return;
        }
        let words = lab_words(&["down", &self.name]);
        if let Err(error) = run(&words, LAB_LIMIT).and_then(Outcome::ok) {
            eprintln!("lab `{}` is not down: {error:#}", self.name);
        }
    }
}

/// A replay that runs.
#[derive(Debug)]
pub struct Replay(Child);

impl Replay {
    /// Waits for its end.
    ///
    /// # Errors
    /// When it failed.
    pub fn finish(self) -> Result<()> {
        let output = self.0.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        bail!("replay failed: {}", String::from_utf8_lossy(&output.stderr))
    }
}

/// Splits a capture by connections: `DIR/1.pcap` to `DIR/parts.pcap`.
///
/// # Errors
/// When it cannot be read or written.
pub fn split(capture: &Path, dir: &Path, parts: usize) -> Result<()> {
    let (capture, dir) = (capture.display().to_string(), dir.display().to_string());
    run(&lab_words(&["split", &capture, &dir, &parts.to_string()]), COMMAND_LIMIT)?.ok()?;
    Ok(())
}

/// How this process gets root: it has it, sudo gives it without asking, or not at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Root {
    Here,
    BySudo,
    None,
}

fn root() -> Root {
    static ROOT: OnceLock<Root> = OnceLock::new();
    *ROOT.get_or_init(|| {
        let ends_well = |words: &[&str]| run(words, COMMAND_LIMIT).is_ok_and(|o| o.code == 0);
        if ends_well(&["sh", "-c", "test \"$(id -u)\" = 0"]) {
            Root::Here
        } else if ends_well(&["sudo", "-n", "true"]) {
            Root::BySudo
        } else {
            Root::None
        }
    })
}

/// The words of a call of the lab's script, with sudo where it is needed.
fn lab_words(words: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    if root() == Root::BySudo {
        all.extend(["sudo".to_owned(), "-n".to_owned()]);
    }
    all.push(tree::root().join("tests/lab/lab").display().to_string());
    all.extend(words.iter().map(|word| (*word).to_owned()));
    all
}
