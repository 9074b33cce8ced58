//! The rotation command: a program of the operator's, run for each archived file, at least once
//! whatever dies when. Before a file gets its name in the archive a note of that name is synced
//! to `commands/` in the logger's folder; when the file's source is gone, the command is run; when it
//! ended well, or was tried often enough, the note is removed.
//!
//! No shell is involved: the words of `rotation_command`, and behind them the file's path, the
//! stream, when it was opened and closed, and the logger, are the program's arguments; it finds
//! the same in its environment. It runs in a process group of its own, which is killed when it
//! takes too long or the logger ends.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use rustix::process::{Pid, Signal, kill_process_group};
use tyto_core::config::logs::LogsConfig;
use tyto_core::time::Ts;

use crate::clock::local;
use crate::disk::{Disk, Open};
use crate::error::StoreError;
use crate::journal::sync_parent;

use super::copy::{Kind, Plain};
use super::counts::SharedCounts;
use super::{DONE_SUFFIX, make_folder};

/// Folder of the notes, in the logger's.
pub(super) const FOLDER: &str = "commands";

/// Notes kept at most; a further file is archived without its command, counted as given up.
const WAITING_MAX: usize = 10_000;

/// Pause after the first failure; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(20);

/// The folder is looked through this often, besides after each archived file.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where programs are looked for by the command.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Times in arguments, as in `#open` and as MakeArchiveName of ZeekControl gets them.
const TIME: &str = "%Y-%m-%d-%H-%M-%S";

/// Notes and how to act on them.
#[derive(Debug)]
pub(super) struct Commands {
    disk: Arc<dyn Disk>,
    counts: SharedCounts,
    words: Vec<String>,
    timeout: Duration,
    tries_max: u32,
    notes: PathBuf,
    rotated: PathBuf,
    logger: String,
    zone: TimeZone,
    ending: AtomicBool,
    /// Something may have come since the runner looked last.
    woken: Mutex<bool>,
    wakes: Condvar,
}

/// What a note says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    archived: PathBuf,
    stream: String,
    opened: Ts,
    closed: Ts,
}

/// A file that the command has failed for.
#[derive(Debug)]
struct Failed {
    tries: u32,
    again: Instant,
}

/// The thread that runs commands.
#[derive(Debug)]
pub(super) struct Runner {
    commands: Arc<Commands>,
    thread: JoinHandle<()>,
}

impl Note {
    fn text(&self) -> Option<String> {
        let path = self.archived.to_str()?;
        Some(format!("{}\n{}\n{}\n{path}\n", self.stream, self.opened.0, self.closed.0))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.splitn(4, '\n');
        let stream = lines.next()?.to_owned();
        let opened = Ts(lines.next()?.parse().ok()?);
        let closed = Ts(lines.next()?.parse().ok()?);
        Some(Self { archived: lines.next()?.into(), stream, opened, closed })
    }
}

impl Commands {
    pub(super) fn new(
        words: &str,
        config: &LogsConfig,
        folder: &Path,
        logger: &str,
        zone: TimeZone,
        (disk, counts): (Arc<dyn Disk>, SharedCounts),
    ) -> Self {
        Self {
            disk,
            counts,
            words: words.split_whitespace().map(str::to_owned).collect(),
            timeout: Duration::from_secs(config.rotation_command_timeout_s.0),
            tries_max: config.rotation_command_tries.0,
            notes: folder.join(FOLDER),
            rotated: folder.join("rotated"),
            logger: logger.to_owned(),
            zone,
            ending: AtomicBool::new(false),
            woken: Mutex::new(false),
            wakes: Condvar::new(),
        }
    }

    /// Notes that a copy is about to get a name in the archive, durably.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn note(&self, plain: &Plain, kind: Kind, target: &Path) -> Result<(), StoreError> {
        let disk = &*self.disk;
        make_folder(disk, &self.notes, &self.notes)?;
        let path = self.notes.join(plain.copy_name(kind));
        let waiting = disk.read_dir(&self.notes);
        let waiting = waiting.map_err(|error| StoreError::io("read", &self.notes, error))?.len();
        let note = Note {
            archived: target.to_owned(),
            stream: plain.stream.clone(),
            opened: plain.opened,
            closed: plain.closed,
        };
        let Some(text) = note.text().filter(|_| waiting < WAITING_MAX) else {
            self.counts.rotation_command_given_up.add(1);
            tracing::error!(file = %target.display(), waiting, "rotation command not run: too many wait");
            return Ok(());
        };
        let beside = self.notes.join(format!(".{}", plain.copy_name(kind)));
        let write = || {
            let file = disk.open(&beside, Open::Create)?;
            file.write_all_at(text.as_bytes(), 0)?;
            file.sync_all()?;
            disk.rename(&beside, &path)
        };
        write().map_err(|error| StoreError::io("write", &path, error))?;
        sync_parent(disk, &path)
    }

    /// Says that a file is in the archive.
    pub(super) fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wakes.notify_one();
    }

    /// Files that the command is still to be run for: they must not expire.
    pub(super) fn waiting(&self) -> Vec<PathBuf> {
        let names = self.disk.read_dir(&self.notes).unwrap_or_default();
        let notes = names.iter().filter_map(|name| self.read(name.to_str()?));
        notes.map(|note| note.archived).collect()
    }

    fn read(&self, name: &str) -> Option<Note> {
        let bytes = self.disk.read(&self.notes.join(name)).ok()?;
        Note::parse(std::str::from_utf8(&bytes).ok()?)
    }

    /// Notes whose file is in the archive: its source is gone. Oldest names first.
    fn ready(&self) -> Vec<String> {
        let names = self.disk.read_dir(&self.notes).unwrap_or_default();
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        names.filter(|name| !name.starts_with('.') && self.is_in_place(name)).collect()
    }

    fn is_in_place(&self, note: &str) -> bool {
        Kind::ALL.iter().all(|kind| {
            let Some(plain) = note.strip_suffix(kind.extension()) else { return true };
            let done = self.rotated.join(format!("{plain}{DONE_SUFFIX}"));
            // A disk that cannot tell: later.
            [self.rotated.join(plain), done]
                .iter()
                .all(|source| self.disk.exists(source).is_ok_and(|exists| !exists))
        })
    }

    /// Runs the command for each file whose time has come. Returns when the next one's comes.
    fn run_due(&self, failed: &mut BTreeMap<String, Failed>) -> Option<Instant> {
        let ready = self.ready();
        failed.retain(|name, _| ready.contains(name));
        let mut waiting = ready.len();
        self.counts.rotation_command_waiting.set(waiting as u64);
        for name in ready {
            if self.ending.load(Ordering::Relaxed) {
                break;
            }
            if failed.get(&name).is_some_and(|failed| failed.again > Instant::now()) {
                continue;
            }
            if self.run_one(&name, failed) {
                waiting -= 1;
                self.counts.rotation_command_waiting.set(waiting as u64);
            }
        }
        failed.values().map(|failed| failed.again).min()
    }

    /// Returns whether the note is done with.
    fn run_one(&self, name: &str, failed: &mut BTreeMap<String, Failed>) -> bool {
        let Some(note) = self.read(name) else {
            self.counts.rotation_command_given_up.add(1);
            tracing::error!(note = name, "not a note of an archived log; removed");
            return self.forget(name);
        };
        let file = note.archived.display();
        let problem = match self.run(&note) {
            Ok(()) => {
                self.counts.rotation_command_ok.add(1);
                failed.remove(name);
                return self.forget(name);
            }
            Err(problem) => problem,
        };
        if self.ending.load(Ordering::Relaxed) {
            return false;
        }
        self.counts.rotation_command_failed.add(1);
        let tries = failed.get(name).map_or(0, |failed| failed.tries) + 1;
        if tries >= self.tries_max {
            self.counts.rotation_command_given_up.add(1);
            tracing::error!(%file, tries, error = problem, "rotation command failed; given up");
            failed.remove(name);
            return self.forget(name);
        }
        let pause = PAUSE_FIRST.saturating_mul(1 << (tries - 1).min(20)).min(PAUSE_MAX);
        tracing::warn!(%file, tries, error = problem, "rotation command failed; tried again");
        failed.insert(name.to_owned(), Failed { tries, again: Instant::now() + pause });
        false
    }

    fn forget(&self, name: &str) -> bool {
        let path = self.notes.join(name);
        match self.disk.remove_file(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                // It is run again, which an at-least-once command has to bear.
                tracing::warn!(file = %path.display(), %error, "cannot remove a note");
                false
            }
        }
    }

    fn run(&self, note: &Note) -> Result<(), String> {
        let Some((program, words)) = self.words.split_first() else {
            return Err("no program is named".to_owned());
        };
        let opened = local(note.opened, &self.zone, TIME);
        let closed = local(note.closed, &self.zone, TIME);
        let mut child = Command::new(program)
            .args(words)
            .arg(&note.archived)
            .args([&note.stream, &opened, &closed, &self.logger])
            .current_dir("/")
            .env_clear()
            .env("PATH", PATH)
            .env("TYTO_ARCHIVED", &note.archived)
            .env("TYTO_STREAM", &note.stream)
            .env("TYTO_OPENED", &opened)
            .env("TYTO_CLOSED", &closed)
            .env("TYTO_LOGGER", &self.logger)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot run `{program}`: {error}"))?;
        self.watch(&mut child)
    }

    fn watch(&self, child: &mut Child) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(status.to_string()),
                Err(error) => return Err(format!("cannot wait for it: {error}")),
                Ok(None) => {}
            }
            let is_ending = self.ending.load(Ordering::Relaxed);
            if is_ending || begun.elapsed() >= self.timeout {
                kill(child);
                return Err(match is_ending {
                    true => "killed, because the logger ends".to_owned(),
                    false => format!("killed after {} s", self.timeout.as_secs()),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    fn until_ended(&self) {
        let mut failed = BTreeMap::new();
        loop {
            let next = self.run_due(&mut failed);
            let pause = next.map_or(LOOK_EVERY, |at| at.saturating_duration_since(Instant::now()));
            let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
            if self.ending.load(Ordering::Relaxed) {
                return;
            }
            let waited =
                self.wakes.wait_timeout_while(woken, pause.min(LOOK_EVERY), |woken| !*woken);
            *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
        }
    }
}

/// Ends the process group of a command: it, and what it started.
fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Gone already: nothing to kill.
        kill_process_group(group, Signal::KILL).ok();
    }
    child.wait().ok();
}

impl Runner {
    /// Starts the thread; it begins with what an earlier life left.
    pub(super) fn start(commands: &Arc<Commands>) -> io::Result<Self> {
        let of_thread = commands.clone();
        let thread = std::thread::Builder::new()
            .name("rotation-cmd".into())
            .spawn(move || of_thread.until_ended())?;
        Ok(Self { commands: commands.clone(), thread })
    }

    /// Kills what runs and ends the thread.
    pub(super) fn stop(self) {
        self.commands.ending.store(true, Ordering::Relaxed);
        self.commands.wake();
        if self.thread.join().is_err() {
            tracing::error!("the thread of the rotation command panicked");
        }
    }
}
