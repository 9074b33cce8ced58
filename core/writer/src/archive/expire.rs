//! Old logs go: by age, by the size of the archive, by the free space of its file system; the
//! oldest first, and with the last file its folder. Only files whose names the pattern of the
//! archive could have made are looked at (`names.rs`), never links.
//!
//! Several loggers of a host share one archive: one at a time looks through it (a lock that the
//! kernel releases with its holder), and each rule holds for all of it, so that whoever comes
//! first does the work and the next one finds it done. Every step stands alone: a crash between
//! any two leaves less to do for the next pass.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use regex::Regex;
use tyto_core::config::logs::{FreeSpace, LogsConfig};
use tyto_core::time::Ts;

use crate::error::StoreError;

use super::Archive;
use super::names::{Known, Place, shell_pattern};

/// Files looked at in one pass; the next pass sees those behind them. A year of forty streams
/// of a logger, rotated each hour, is 350,000.
const FILES_MAX: usize = 1 << 20;

/// An empty folder stays this long: another logger may be about to put a file into it.
const EMPTY_FOLDER_KEPT: Duration = Duration::from_secs(3600);

/// When archived logs go.
#[derive(Debug)]
pub(super) struct Rules {
    /// Longest age, seconds; none: for ever.
    age_s: Option<u64>,
    /// The same for single streams; here none is for ever whatever the other rules say.
    streams: BTreeMap<String, Option<u64>>,
    /// Names that never go.
    keep: Vec<Regex>,
    bytes_max: Option<u64>,
    free_min: Option<FreeSpace>,
}

/// An archived log.
#[derive(Debug)]
struct Log {
    modified: SystemTime,
    path: PathBuf,
    len: u64,
    /// Longest age, seconds.
    age_s: Option<u64>,
    /// No rule may remove it.
    stays: bool,
}

/// Why a log goes.
#[derive(Clone, Copy, Debug)]
enum Reason {
    Age,
    Size,
    FreeSpace,
}

impl Rules {
    pub(super) fn of(config: &LogsConfig) -> Self {
        let seconds = |minutes: u64| (minutes > 0).then_some(minutes * 60);
        let streams = config.streams.iter().filter_map(|(name, stream)| {
            stream.keep.map(|keep| (name.clone(), seconds(keep.minutes)))
        });
        let keep = config.keep.as_deref().unwrap_or_default().split_whitespace();
        Self {
            age_s: seconds(config.expire.minutes),
            streams: streams.collect(),
            keep: keep.filter_map(shell_pattern).collect(),
            bytes_max: config.archive_bytes_max,
            free_min: config.free_min,
        }
    }

    /// Whether anything ever goes.
    pub(super) fn any(&self) -> bool {
        let by_age = self.age_s.is_some() || self.streams.values().any(Option::is_some);
        by_age || self.bytes_max.is_some() || self.free_min.is_some()
    }

    fn log(&self, stream: &str, name: &str) -> (Option<u64>, bool) {
        let own = self.streams.get(stream);
        let stays = own == Some(&None) || self.keep.iter().any(|keep| keep.is_match(name));
        (own.copied().unwrap_or(self.age_s), stays)
    }
}

impl Archive {
    /// Whether there is less free space than there should be.
    pub(super) fn is_disk_full(&self) -> bool {
        self.missing_bytes().is_ok_and(|missing| missing > 0)
    }

    /// Bytes that have to be freed.
    fn missing_bytes(&self) -> io::Result<u64> {
        let Some(min) = self.rules.free_min else { return Ok(0) };
        let (free, size) = self.disk.space(&self.logs)?;
        let min = match min {
            FreeSpace::Bytes(bytes) => bytes,
            FreeSpace::Percent(percent) => size / 100 * u64::from(percent),
        };
        Ok(min.saturating_sub(free))
    }
}

/// Removes what has expired at `now`.
///
/// # Errors
/// When the archive cannot be looked through, or a file cannot be removed; others have been.
pub(super) fn expire(archive: &Archive, now: Ts) -> Result<(), StoreError> {
    let lock = archive.logs.join(".expire.lock");
    let held = archive.disk.try_lock(&lock);
    let Some(_held) = held.map_err(|error| StoreError::io("lock", &lock, error))? else {
        return Ok(());
    };
    Pass { archive, now: at(now), first: Ok(()) }.run()
}

fn at(now: Ts) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(now.0)
}

struct Pass<'a> {
    archive: &'a Archive,
    now: SystemTime,
    /// The first fault.
    first: Result<(), StoreError>,
}

impl Pass<'_> {
    fn run(mut self) -> Result<(), StoreError> {
        let mut logs = Vec::new();
        let mut empty = BTreeSet::new();
        for place in self.archive.names.places() {
            self.look(&self.archive.logs, &place, &mut logs, &mut empty);
        }
        // Two patterns may both know a name.
        logs.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        logs.dedup_by(|a, b| a.path == b.path);
        let waiting = self.archive.commands.as_ref().map(|commands| commands.waiting());
        for path in waiting.into_iter().flatten() {
            logs.iter_mut().filter(|log| log.path == path).for_each(|log| log.stays = true);
        }
        self.by_age(&mut logs);
        let is_small = self.by_size(&mut logs);
        let is_free = self.by_free_space(&mut logs);
        self.tell_stuck(is_small && is_free);
        for folder in empty {
            self.remove_folder(&folder);
        }
        self.first
    }

    /// Gathers the logs in a folder and below.
    fn look(
        &mut self,
        folder: &Path,
        place: &Place<'_>,
        logs: &mut Vec<Log>,
        empty: &mut BTreeSet<PathBuf>,
    ) {
        let disk = &*self.archive.disk;
        let names = match disk.read_dir(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.fault("read", folder, error),
        };
        if names.is_empty() && folder != self.archive.logs {
            empty.insert(folder.to_owned());
        }
        for name in names {
            let Some(name) = name.to_str() else { continue };
            let path = folder.join(name);
            let Some(known) = place.knows(name) else { continue };
            // A link leads to what is somebody else's.
            if logs.len() >= FILES_MAX || disk.read_link(&path).is_ok() {
                continue;
            }
            match (known, disk.metadata(&path)) {
                (Known::Folder(below), Ok(found)) if found.is_folder => {
                    self.look(&path, &below, logs, empty);
                }
                (Known::Log(stream), Ok(found)) if !found.is_folder => {
                    let (age_s, stays) = self.archive.rules.log(&stream, name);
                    logs.push(Log { modified: found.modified, path, len: found.len, age_s, stays });
                }
                (_, Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                    self.fault("look at", &path, error);
                }
                _ => {}
            }
        }
    }

    fn by_age(&mut self, logs: &mut Vec<Log>) {
        let now = self.now;
        let is_old = |log: &Log| {
            let age = now.duration_since(log.modified).unwrap_or_default();
            !log.stays && log.age_s.is_some_and(|age_s| age.as_secs() > age_s)
        };
        logs.retain(|log| !(is_old(log) && self.remove(log, Reason::Age)));
    }

    /// Returns whether the archive is as small as it shall be.
    fn by_size(&mut self, logs: &mut Vec<Log>) -> bool {
        let Some(bytes_max) = self.archive.rules.bytes_max else { return true };
        let mut bytes: u64 = logs.iter().map(|log| log.len).sum();
        logs.retain(|log| {
            let goes = bytes > bytes_max && !log.stays && self.remove(log, Reason::Size);
            bytes -= if goes { log.len } else { 0 };
            !goes
        });
        bytes <= bytes_max
    }

    /// Returns whether there is as much free space as there shall be.
    fn by_free_space(&mut self, logs: &mut Vec<Log>) -> bool {
        let archive = self.archive;
        // Asked again before each file: others write and remove, too.
        logs.retain(|log| {
            !(!log.stays && archive.is_disk_full() && self.remove(log, Reason::FreeSpace))
        });
        match archive.missing_bytes() {
            Ok(missing) => missing == 0,
            Err(error) => {
                self.fault("ask for the space of", &archive.logs, error);
                true
            }
        }
    }

    /// Returns whether the file is gone.
    fn remove(&mut self, log: &Log, reason: Reason) -> bool {
        let counts = &self.archive.counts;
        match self.archive.disk.remove_file(&log.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
            Err(error) => {
                self.fault("remove", &log.path, error);
                return false;
            }
        }
        let (count, reason) = match reason {
            Reason::Age => (&counts.expired_by_age, "age"),
            Reason::Size => (&counts.expired_by_size, "size"),
            Reason::FreeSpace => (&counts.expired_by_free_space, "free space"),
        };
        count.add(1);
        counts.expired_bytes.add(log.len);
        tracing::info!(file = %log.path.display(), bytes = log.len, reason, "archived log expired");
        self.remove_empty(log.path.parent());
        true
    }

    /// Removes the folders that a removed file leaves empty, up to the archive's own.
    fn remove_empty(&self, mut folder: Option<&Path>) {
        while let Some(path) = folder.filter(|path| *path != self.archive.logs) {
            if self.archive.disk.remove_dir(path).is_err() {
                return;
            }
            folder = path.parent();
        }
    }

    /// Removes a folder that was found empty, unless it is new.
    fn remove_folder(&self, folder: &Path) {
        let found = self.archive.disk.metadata(folder);
        let age = found.ok().and_then(|found| self.now.duration_since(found.modified).ok());
        if age.is_some_and(|age| age > EMPTY_FOLDER_KEPT) {
            self.remove_empty(Some(folder));
        }
    }

    fn fault(&mut self, action: &'static str, path: &Path, error: io::Error) {
        if self.first.is_ok() {
            self.first = Err(StoreError::io(action, path, error));
        }
    }

    fn tell_stuck(&self, is_good: bool) {
        if self.archive.counts.expire_stuck.replace(u64::from(!is_good)) == 0 && !is_good {
            let logs = self.archive.logs.display();
            tracing::error!(%logs, "archive too large or disk too full, and no log may be removed");
        }
    }
}
