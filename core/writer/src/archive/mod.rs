//! Finished log files on their way into the archive: `rotated/conn-OPEN-CLOSE.log` becomes
//! `logs/YYYY-MM-DD/conn.HH:MM:SS-HH:MM:SS[-LOGGER].log[.gz]`, ZeekControl's names, or what
//! `archive_name` says.
//!
//! A thread of its own, because compressing takes long. Each step can be cut off by a crash:
//!
//! 0. the file gets the numbers of its rows (`index.rs`);
//! 1. the copies (compressed text, Parquet) are written to `logs/.archiving/LOGGER/` and synced;
//! 2. the source gets the suffix `.archived`: from here on, only the copies count;
//! 3. each copy gets its name in the archive, never over a file that is there; the index says
//!    where it will be first, and, with a rotation command, a synced note (`command.rs`);
//! 4. the source is removed, and the rotation command may run.
//!
//! At the next start a source without the suffix begins at 1 (over the old copies), one with it
//! at 3, or at 4 when no copy is left in `.archiving`.
//! The same thread lets old logs expire (`expire.rs`).

mod command;
mod copy;
mod counts;
mod expire;
mod names;
pub mod parquet;
mod printable;
mod steady;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use tyto_core::config::logs::LogsConfig;
use tyto_core::time::Ts;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::index::{self, Finished};
use crate::journal::sync_parent;

use command::Commands;
use copy::{Kind, Plain};
pub use counts::ArchiveReport;
use counts::SharedCounts;
use names::Names;
use steady::SteadyTime;

/// Marks a source whose copies are complete.
const DONE_SUFFIX: &str = ".archived";

/// After a fault (a full disk, say) the archive is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Free space is looked at this often, where there is a rule about it.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Age and size of the archive are looked at this often, besides after each rotation.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);

/// Names tried for one file of the archive before it has to wait.
const NAMES_MAX: u32 = 10_000;

/// How files are named and stored in the archive.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// Folder of the logger: `PREFIX/spool/LOGGER`.
    pub folder: PathBuf,
    /// The archive: `PREFIX/logs`.
    pub logs: PathBuf,
    /// Name of the logger.
    pub logger: String,
    /// Names, compression, expiry, rotation command.
    pub config: LogsConfig,
    /// Zone of the times in the names.
    pub zone: TimeZone,
}

/// Who archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archiving {
    /// A thread of its own.
    InThread,
    /// Whoever calls `tick`: one sequence of steps, for tests that repeat it.
    InTick,
}

/// The archive of one logger.
#[derive(Debug)]
pub(crate) struct Archive {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    rotated: PathBuf,
    logs: PathBuf,
    /// Copies on their way; a folder per logger, because rotation times are the same for all.
    copies: PathBuf,
    names: Names,
    config: LogsConfig,
    rules: expire::Rules,
    commands: Option<Arc<Commands>>,
    counts: SharedCounts,
    /// The store's clock, as of its last tick; ns.
    now: Arc<AtomicU64>,
}

/// The thread that archives, if it has one.
#[derive(Debug)]
pub(crate) struct Archiver {
    archive: Arc<Archive>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    runner: Option<command::Runner>,
    is_in_tick: bool,
}

impl Archive {
    pub(crate) fn new(options: ArchiveOptions, now: Ts) -> Self {
        let ArchiveOptions { disk, folder, logs, logger, config, zone } = options;
        let counts = SharedCounts::default();
        let names =
            Names::new(config.archive_name.clone(), &logger, config.name_in_archive, zone.clone());
        let commands = config.rotation_command.as_deref().map(|words| {
            Arc::new(Commands::new(
                words,
                &config,
                &folder,
                &logger,
                zone,
                (disk.clone(), counts.clone()),
            ))
        });
        Self {
            rotated: folder.join("rotated"),
            copies: logs.join(".archiving").join(&logger),
            rules: expire::Rules::of(&config),
            now: Arc::new(AtomicU64::new(now.0)),
            disk,
            folder,
            logs,
            names,
            config,
            commands,
            counts,
        }
    }

    /// Archives every finished file, oldest names first. Returns how many files there were.
    ///
    /// # Errors
    /// The first fault; files behind it have been tried too.
    pub(crate) fn archive_all(&self) -> Result<usize, StoreError> {
        let names = self.disk.read_dir(&self.rotated);
        let names = names.map_err(|error| StoreError::io("read", &self.rotated, error))?;
        let mut first = Ok(names.len());
        let mut waiting = BTreeSet::new();
        for name in names {
            let Some(name) = name.to_str() else { continue };
            let plain_name = name.strip_suffix(DONE_SUFFIX).unwrap_or(name);
            let source = self.rotated.join(name);
            let Some(plain) = Plain::parse(plain_name) else {
                tracing::warn!(file = %source.display(), "not a rotated log; left alone");
                continue;
            };
            // Rows are numbered in the order of their files: where one got no numbers, those
            // behind it wait.
            if waiting.contains(&plain.stream) {
                continue;
            }
            // One with copies was noted before they were made, and may have its name already.
            let noted = if name == plain_name {
                self.note(&plain, plain_name, &source, &source)
            } else {
                Ok(())
            };
            if noted.is_err() {
                waiting.insert(plain.stream.clone());
            }
            let archived = noted.and_then(|()| self.archive(name, plain_name, &source, &plain));
            if let Err(error) = archived {
                self.counts.archive_faults.add(1);
                first = first.and(Err(error));
            }
        }
        first
    }

    /// Notes a file of a stream's own in the index; those beside it have the same rows.
    fn note(
        &self,
        plain: &Plain,
        rotated: &str,
        source: &Path,
        path: &Path,
    ) -> Result<(), StoreError> {
        if !plain.is_own() {
            return Ok(());
        }
        let (stream, times) = (plain.stream.as_str(), (plain.opened, plain.closed));
        let file = Finished { stream, times, rotated, source };
        index::note(&*self.disk, &self.folder, file, path)
    }

    fn archive(
        &self,
        name: &str,
        plain_name: &str,
        source: &Path,
        plain: &Plain,
    ) -> Result<(), StoreError> {
        let done = self.rotated.join(format!("{plain_name}{DONE_SUFFIX}"));
        if name == plain_name {
            self.write_copies(source, plain)?;
            let renamed = self.disk.rename(source, &done);
            renamed.map_err(|error| StoreError::io("rename", source, error))?;
            sync_parent(&*self.disk, &done)?;
        }
        // A copy that is not there may have been named by a try that came no further. Its name has
        // to be durable before the source goes; a rename is durable with either of its folders.
        make_folder(&*self.disk, &self.logs, &self.copies)?;
        sync_parent(&*self.disk, &self.copies.join("_"))?;
        for kind in Kind::ALL {
            let copy = self.copies.join(plain.copy_name(kind));
            if self.exists(&copy)? {
                self.publish(&copy, plain, kind, (plain_name, &done))?;
            }
        }
        let removed = self.disk.remove_file(&done);
        removed.map_err(|error| StoreError::io("remove", &done, error))?;
        sync_parent(&*self.disk, &done)?;
        if let Some(commands) = &self.commands {
            commands.wake();
        }
        Ok(())
    }

    /// Gives the copy the first name of the archive that is free.
    fn publish(
        &self,
        copy: &Path,
        plain: &Plain,
        kind: Kind,
        (rotated, source): (&str, &Path),
    ) -> Result<(), StoreError> {
        let disk = &*self.disk;
        let end = plain.archive_end(kind);
        for number in 0..NAMES_MAX {
            let target = self.names.path(&plain.stream, (plain.opened, plain.closed), number, &end);
            let target = self.logs.join(target);
            if self.exists(&target)? {
                continue;
            }
            self.note(plain, rotated, source, &target)?;
            if let Some(commands) = &self.commands {
                commands.note(plain, kind, &target)?;
            }
            make_folder(disk, &self.logs, target.parent().unwrap_or(&self.logs))?;
            match disk.rename_to_free(copy, &target) {
                Ok(()) => {
                    sync_parent(disk, &target)?;
                    sync_parent(disk, copy)?;
                    self.counts.archived_files.add(1);
                    return Ok(());
                }
                // Another logger took the name, or let the folder, empty, expire.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.exists(copy)? => {}
                Err(error) => return Err(StoreError::io("rename to", &target, error)),
            }
        }
        Err(StoreError::io("name", copy, io::ErrorKind::AlreadyExists.into()))
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        self.disk.exists(path).map_err(|error| StoreError::io("look for", path, error))
    }

    fn try_archive(&self) -> Result<usize, StoreError> {
        self.archive_all().inspect_err(|error| {
            tracing::error!(error = %error.chain(), "cannot archive a log; it stays in the spool");
        })
    }

    /// Removes what has expired; a fault is counted and traced.
    fn expire(&self, now: Ts) {
        if let Err(error) = expire::expire(self, now) {
            self.counts.expire_faults.add(1);
            tracing::error!(error = %error.chain(), "cannot let archived logs expire");
        }
    }

    fn until_closed(&self, woken: &Receiver<()>) {
        let mut expired: Option<Instant> = None;
        let mut steady = SteadyTime::default();
        loop {
            // Seen at each turn, so that a step and its return are both noticed; first, so that
            // no step comes before the first look.
            let now = steady.now(Ts(self.now.load(Ordering::Relaxed)), Instant::now());
            let archived = self.try_archive();
            let is_due = expired.is_none_or(|at| at.elapsed() >= EXPIRE_EVERY);
            let has_more = archived.as_ref().is_ok_and(|&files| files > 0);
            if self.rules.any() && (is_due || has_more || self.is_disk_full()) {
                self.expire(now);
                expired = Some(Instant::now());
            }
            let waits = match archived {
                Ok(_) if self.rules.any() => woken.recv_timeout(LOOK_EVERY),
                Ok(_) => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Err(_) => woken.recv_timeout(RETRY_AFTER),
            };
            if waits == Err(RecvTimeoutError::Disconnected) {
                // A last look: files may have come between the search and the end.
                self.try_archive().ok();
                return;
            }
        }
    }
}

impl Archiver {
    /// Starts the thread; it begins with what an earlier life left.
    ///
    /// # Errors
    /// When the system has no thread for us.
    pub(crate) fn start(
        options: ArchiveOptions,
        archiving: Archiving,
        now: Ts,
    ) -> io::Result<Self> {
        let archive = Arc::new(Archive::new(options, now));
        if archiving == Archiving::InTick {
            return Ok(Self { archive, wake: None, thread: None, runner: None, is_in_tick: true });
        }
        let runner = archive.commands.as_ref().map(command::Runner::start).transpose()?;
        let (wake, woken) = sync_channel(1);
        let of_thread = archive.clone();
        let thread = std::thread::Builder::new()
            .name("archive".into())
            .spawn(move || of_thread.until_closed(&woken))?;
        Ok(Self { archive, wake: Some(wake), thread: Some(thread), runner, is_in_tick: false })
    }

    /// Says that files are there. A wake-up that waits already will see them too.
    pub(crate) fn wake(&self) {
        // Full means that a wake-up waits already; closed, that the thread is gone.
        self.wake.as_ref().and_then(|wake| wake.try_send(()).ok());
    }

    /// Tells the time, and archives what is there, unless a thread does.
    pub(crate) fn tick(&self, now: Ts) {
        self.archive.now.store(now.0, Ordering::Relaxed);
        if self.is_in_tick {
            self.archive.try_archive().ok();
            if self.archive.rules.any() {
                self.archive.expire(now);
            }
        }
    }

    /// What was done since the start.
    pub(crate) fn report(&self) -> ArchiveReport {
        self.archive.counts.report()
    }
}

/// Archives what is there and ends the threads. What the disk refuses stays in `rotated/`; what
/// the rotation command was not run for is run by the next life.
impl Drop for Archiver {
    fn drop(&mut self) {
        self.wake = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("archive thread panicked; rotated logs stay in the spool");
        }
        if let Some(runner) = self.runner.take() {
            runner.stop();
        }
    }
}

/// Name of a finished file in `rotated/`; `end` is that of its name before, such as `.json.log`.
pub(crate) fn rotated_name(stream: &str, opened: Ts, closed: Ts, copy: u32, end: &str) -> String {
    if copy == 0 {
        format!("{stream}-{}-{}{end}", opened.0, closed.0)
    } else {
        format!("{stream}-{}-{}.{copy}{end}", opened.0, closed.0)
    }
}

/// Whether no finished file has this name, nor one whose copy is on its way, nor one that the
/// rotation command is still to be run for.
///
/// # Errors
/// When the disk cannot tell.
pub(crate) fn is_rotated_name_free(
    disk: &dyn Disk,
    folder: &Path,
    name: &str,
) -> Result<bool, StoreError> {
    let rotated = folder.join("rotated");
    let mut paths = vec![rotated.join(name), rotated.join(format!("{name}{DONE_SUFFIX}"))];
    if let Some(plain) = Plain::parse(name) {
        let notes = folder.join(command::FOLDER);
        paths.extend(Kind::ALL.map(|kind| notes.join(plain.copy_name(kind))));
    }
    for path in paths {
        if disk.exists(&path).map_err(|error| StoreError::io("look for", &path, error))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a folder and those above it, and their names durable as far up as `top`: of a folder
/// whose own name is lost, nothing is left. Names that are there already are synced too: whoever
/// made them may have died before it came to that.
pub(crate) fn make_folder(disk: &dyn Disk, top: &Path, path: &Path) -> Result<(), StoreError> {
    disk.create_dir_all(path).map_err(|error| StoreError::io("create", path, error))?;
    sync_parent(disk, path)?;
    let above = path.ancestors().skip(1);
    let mut above = above.take_while(|folder| folder.starts_with(top) && *folder != top);
    above.try_for_each(|folder| sync_parent(disk, folder))
}
