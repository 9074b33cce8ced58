//! How files of a [`LogStore`] begin and end: creation, rotation at whole multiples of the
//! interval, and what a start finds of an earlier life.
//!
//! A rotation writes the last line, journals the intent, renames the file into `rotated/`,
//! journals the end. A crash before the intent leaves the file as it was; one behind it is
//! finished by [`finish`] before anything else is written.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use tyto_core::config::logs::LogFormat;
use tyto_core::record::tsv;
use tyto_core::time::Ts;

use crate::archive::{is_rotated_name_free, rotated_name};
use crate::clock::local;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::file::{LogFile, cut};
use crate::index;
use crate::journal::{Entry, Journal, sync_parent};
use crate::plan::{Output, Plan, end_of, rotation_interval_ns};
use crate::store::LogStore;

/// Times in `#open` and `#close`.
const HEADER_TIME: &str = "%Y-%m-%d-%H-%M-%S";

/// Name of a stream's file.
pub(crate) fn plain_name(stream: &str, end: &str) -> String {
    format!("{stream}{end}")
}

impl LogStore {
    /// Rotates when it is time to.
    ///
    /// # Errors
    /// When the disk refuses; the call is to be repeated.
    pub fn tick(&mut self) -> Result<(), StoreError> {
        let now = (self.clock)();
        let due: Vec<(u64, Ts)> =
            self.rotate_at.iter().map(|(&interval_ns, &at)| (interval_ns, at)).collect();
        for (interval_ns, at) in due.into_iter().filter(|&(_, at)| now >= at) {
            self.make_durable()?;
            let files = self.files.iter();
            let files =
                files.filter(|(_, file)| self.interval_ns(&file.stream) == Some(interval_ns));
            let names: Vec<Arc<str>> = files.map(|(name, _)| name.clone()).collect();
            self.rotate(&names, at)?;
            self.rotate_at.insert(interval_ns, Ts(after(now, interval_ns)));
        }
        // A clock that was set back must not keep files open for as long as it jumped.
        for (&interval_ns, at) in &mut self.rotate_at {
            *at = Ts(at.0.min(after(now, interval_ns)));
        }
        self.archiver.tick(now);
        self.doubts.tick();
        Ok(())
    }

    /// When files of each interval are rotated next: at its next whole multiple.
    pub(crate) fn plan_rotations(&mut self) {
        let now = (self.clock)();
        let config = &self.options.config;
        // Of a stream that is not named, all others have the interval.
        let streams = config.streams.keys().map(String::as_str).chain([""]);
        let intervals = streams.filter_map(|stream| rotation_interval_ns(config, stream));
        self.rotate_at = intervals.map(|interval| (interval, Ts(after(now, interval)))).collect();
    }

    fn interval_ns(&self, stream: &str) -> Option<u64> {
        rotation_interval_ns(&self.options.config, stream)
    }

    /// Rotates files of an interval that is over: the logger was not there at its end.
    pub(crate) fn rotate_stale(&mut self) -> Result<(), StoreError> {
        let now = (self.clock)();
        let files = self.files.iter();
        let ends = files.filter_map(|(name, file)| {
            let interval_ns = self.interval_ns(&file.stream)?;
            Some((name.clone(), Ts(after(file.opened, interval_ns))))
        });
        let stale: Vec<_> = ends.filter(|(_, end)| *end <= now).collect();
        for (name, end) in stale {
            self.rotate(&[name], end)?;
        }
        Ok(())
    }

    /// Ends files, all of whose rows are durable, and hands them to the archive.
    pub(crate) fn rotate(&mut self, names: &[Arc<str>], closed: Ts) -> Result<(), StoreError> {
        let close = local(closed, &self.options.zone, HEADER_TIME);
        let mut entries = Vec::new();
        let mut given = BTreeSet::new();
        for name in names {
            let Some(file) = self.files.get(name) else { continue };
            let len = file.write_last(&match file.format {
                LogFormat::Tsv => tsv::trailer(&close),
                LogFormat::Json => String::new(),
            })?;
            // Two files of one stream, in which two releases write, may cover the same time.
            let to =
                self.free_rotated_name(&file.stream, file.opened, closed, end_of(name), &given)?;
            given.insert(to.clone());
            entries.push(Entry::Rotate { name: name.clone(), len, to: to.into() });
        }
        self.journal.append(entries)?;
        for name in names {
            if let Some(file) = self.files.remove(name) {
                self.last_closed.insert(file.stream.clone(), closed);
            }
        }
        finish(&*self.disk, &self.options.folder, &mut self.journal)?;
        self.archiver.wake();
        Ok(())
    }

    pub(crate) fn new_file(&self, name: &str, plan: &Plan, output: &Output) -> LogFile {
        let now = (self.clock)();
        let header = (output.format == LogFormat::Tsv)
            .then(|| tsv::header(&plan.written, &local(now, &self.options.zone, HEADER_TIME)));
        let stream: Arc<str> = plan.schema.stream.as_ref().into();
        // A stream's files follow each other without a gap in their names, as ZeekControl's do.
        let opened = self.last_closed.get(&stream).map_or(now, |&closed| {
            let interval_ns = self.interval_ns(&stream).unwrap_or(0);
            let next = self.rotate_at.get(&interval_ns);
            let begun = next.map_or(closed, |at| Ts(at.0.saturating_sub(interval_ns)));
            closed.max(begun).min(now)
        });
        LogFile::new(self.options.folder.join(name), stream, output, opened, header)
    }

    /// Puts files on disk that exist in memory only, journaled first: a crash in between
    /// leaves no file that nobody knows.
    pub(crate) fn create_files(&mut self) -> Result<(), StoreError> {
        let missing: Vec<(Arc<str>, Entry)> = (self.files.iter())
            .filter(|(_, file)| !file.exists())
            .map(|(name, file)| {
                (name.clone(), Entry::File { name: name.clone(), file: file.entry() })
            })
            .collect();
        if !missing.is_empty() {
            for (name, _) in &missing {
                self.set_aside(name)?;
            }
            self.names_unsynced = true;
            let (names, entries): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
            self.journal.append(entries)?;
            for name in &names {
                if let Some(file) = self.files.get_mut(name) {
                    file.create(&*self.disk)?;
                }
            }
        }
        if self.names_unsynced {
            sync_parent(&*self.disk, &self.options.folder.join("journal"))?;
            self.names_unsynced = false;
        }
        Ok(())
    }

    /// A file that has the name of a new one, but is not in the journal: the journal was lost,
    /// or somebody put it there. It goes to the archive as it is.
    fn set_aside(&self, name: &Arc<str>) -> Result<(), StoreError> {
        let path = self.options.folder.join(&**name);
        let is_there = self.disk.exists(&path);
        let is_there = is_there.map_err(|error| StoreError::io("look for", &path, error))?;
        if !is_there || self.journal.state().files.contains_key(name) {
            return Ok(());
        }
        tracing::warn!(file = %path.display(), "unknown log file; moved to the archive");
        let stream = name.split('.').next().unwrap_or_default();
        let now = (self.clock)();
        let target = self.options.folder.join("rotated");
        let target = target.join(self.free_rotated_name(
            stream,
            now,
            now,
            end_of(name),
            &BTreeSet::new(),
        )?);
        let renamed = self.disk.rename_to_free(&path, &target);
        renamed.map_err(|error| StoreError::io("rename", &path, error))?;
        self.archiver.wake();
        Ok(())
    }

    /// A name in `rotated/` that is neither there nor intended nor in `given`.
    fn free_rotated_name(
        &self,
        stream: &str,
        opened: Ts,
        closed: Ts,
        end: &str,
        given: &BTreeSet<String>,
    ) -> Result<String, StoreError> {
        let rotating = &self.journal.state().rotating;
        // The clock may have been set back meanwhile.
        let opened = opened.min(closed);
        let mut copy = 0;
        loop {
            let name = rotated_name(stream, opened, closed, copy, end);
            let intended = rotating.values().any(|(_, to)| **to == *name);
            let (disk, folder) = (&*self.disk, &self.options.folder);
            if !intended
                && !given.contains(&name)
                && is_rotated_name_free(disk, folder, &name)?
                && !index::knows(disk, folder, stream, &name)?
            {
                return Ok(name);
            }
            copy += 1;
        }
    }
}

/// The first whole multiple of `interval_ns` behind `at`.
const fn after(at: Ts, interval_ns: u64) -> u64 {
    (at.0 / interval_ns).saturating_add(1).saturating_mul(interval_ns)
}

/// Gives files that are between two names their new one.
///
/// # Errors
/// When the disk refuses; the call is to be repeated before anything else is written.
pub(crate) fn finish(
    disk: &dyn Disk,
    folder: &Path,
    journal: &mut Journal,
) -> Result<(), StoreError> {
    if journal.state().rotating.is_empty() {
        return Ok(());
    }
    let mut entries = Vec::new();
    for (name, (len, to)) in &journal.state().rotating {
        let (from, to) = (folder.join(&**name), folder.join("rotated").join(&**to));
        let is_renamed = disk.exists(&to);
        if !is_renamed.map_err(|error| StoreError::io("look for", &to, error))? {
            match cut(disk, &from, *len) {
                Ok(_) => disk
                    .rename(&from, &to)
                    .map_err(|error| StoreError::io("rename", &from, error))?,
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    // Archived already, unless somebody removed it.
                    tracing::warn!(file = %from.display(), "rotated log file is not there");
                }
                Err(StoreError::Short { found, committed, .. }) => {
                    let file = from.display();
                    tracing::error!(%file, found, committed, "log file was cut by somebody");
                    disk.rename(&from, &to)
                        .map_err(|error| StoreError::io("rename", &from, error))?;
                }
                Err(error) => return Err(error),
            }
        }
        entries.push(Entry::Rotated { name: name.clone() });
    }
    sync_parent(disk, &folder.join("journal"))?;
    sync_parent(disk, &folder.join("rotated/_"))?;
    journal.append(entries)
}

/// Opens the files of the last life, each cut back to what was committed.
pub(crate) fn resume_files(
    disk: &dyn Disk,
    folder: &Path,
    journal: &mut Journal,
) -> Result<BTreeMap<Arc<str>, LogFile>, StoreError> {
    let mut files = BTreeMap::new();
    let mut entries = Vec::new();
    for (name, entry) in &journal.state().files {
        let path = folder.join(&**name);
        if entry.len == 0 {
            match disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path, error));
                }
                _ => entries.push(Entry::Gone { name: name.clone() }),
            }
            continue;
        }
        match LogFile::resume(disk, path.clone(), entry) {
            Ok(file) => {
                files.insert(name.clone(), file);
            }
            // Somebody removed or cut it. What is left of it goes to the archive by
            // `LogStore::set_aside`, when the stream's next file is made.
            Err(error @ StoreError::Short { .. }) => {
                tracing::error!(error = %error.chain(), "log file was cut by somebody");
                entries.push(Entry::Gone { name: name.clone() });
            }
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                tracing::error!(file = %path.display(), "log file is gone; its rows are lost");
                entries.push(Entry::Gone { name: name.clone() });
            }
            Err(error) => return Err(error),
        }
    }
    if !entries.is_empty() {
        // Else a crash could bring a file back that the journal says is gone, with rows in it that
        // come again.
        sync_parent(disk, &folder.join("journal"))?;
    }
    journal.append(entries)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tyto_core::config::logs::{Compression, LogsConfig};
    use tyto_core::time::NANOS;

    use super::*;
    use crate::StoreOptions;
    use crate::journal::FileEntry;

    const COMMITTED: &str = "#separator \\x09\nrow\n";

    fn options(prefix: &Path) -> StoreOptions {
        let config = LogsConfig { compress: Compression::Off, ..LogsConfig::default() };
        StoreOptions {
            logger: "logger".into(),
            folder: prefix.join("spool/logger"),
            logs: prefix.join("logs"),
            config,
            zone: jiff::tz::TimeZone::UTC,
        }
    }

    fn entry(len: usize) -> FileEntry {
        let (stream, len) = ("conn".into(), len as u64);
        FileEntry { stream, fingerprint: 1, opened_ns: 3_600 * NANOS, len }
    }

    /// A folder as a crash leaves it: `entries` journaled, `files` on disk.
    fn crashed(entries: Vec<Entry>, files: &[(&str, &str)]) -> (tempfile::TempDir, StoreOptions) {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        fs::create_dir_all(options.folder.join("rotated")).unwrap();
        for (name, text) in files {
            fs::write(options.folder.join(name), text).unwrap();
        }
        Journal::open(crate::disk::real(), options.folder.join("journal"))
            .unwrap()
            .append(entries)
            .unwrap();
        (dir, options)
    }

    fn reopen(options: &StoreOptions) {
        let store = LogStore::open(options.clone(), Box::new(|| Ts(3_700 * NANOS))).unwrap();
        store.close().unwrap();
    }

    fn archived(options: &StoreOptions) -> Vec<(String, String)> {
        let Ok(day) = fs::read_dir(options.logs.join("1970-01-01")) else { return Vec::new() };
        let mut found: Vec<_> = day
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        found.sort();
        found
    }

    fn rotate() -> Vec<Entry> {
        let (name, to): (Arc<str>, Arc<str>) =
            ("conn.log".into(), "conn-3600000000000-3650000000000.log".into());
        let len = COMMITTED.len();
        vec![
            Entry::File { name: name.clone(), file: entry(len) },
            Entry::Rotate { name, len: len as u64, to },
        ]
    }

    #[test]
    fn a_rotation_that_was_only_journaled_is_finished_at_its_length() {
        let torn = format!("{COMMITTED}never committed");
        let (_dir, options) = crashed(rotate(), &[("conn.log", &torn)]);
        reopen(&options);
        let name = "conn.01:00:00-01:00:50.log".to_owned();
        assert_eq!(archived(&options), [(name, COMMITTED.to_owned())]);
    }

    #[test]
    fn a_rotation_whose_end_was_not_journaled_is_not_repeated() {
        let to = "rotated/conn-3600000000000-3650000000000.log";
        let (_dir, options) = crashed(rotate(), &[(to, COMMITTED)]);
        reopen(&options);
        let name = "conn.01:00:00-01:00:50.log".to_owned();
        assert_eq!(archived(&options), [(name, COMMITTED.to_owned())]);
    }

    #[test]
    fn a_file_that_was_begun_and_never_committed_leaves_nothing() {
        let begun = Entry::File { name: "conn.log".into(), file: entry(0) };
        let (_dir, options) = crashed(vec![begun], &[("conn.log", "half a header")]);
        reopen(&options);
        assert_eq!(archived(&options), []);
        assert!(!options.folder.join("conn.log").exists());
    }

    #[test]
    fn a_file_goes_on_at_its_committed_length_and_is_closed_by_an_orderly_end() {
        let file = Entry::File { name: "conn.log".into(), file: entry(COMMITTED.len()) };
        let torn = format!("{COMMITTED}never committed");
        let (_dir, options) = crashed(vec![file], &[("conn.log", &torn)]);
        reopen(&options);
        let expected = format!("{COMMITTED}#close\t1970-01-01-01-01-40\n");
        assert_eq!(archived(&options), [("conn.01:00:00-01:01:40.log".to_owned(), expected)]);
    }

    #[test]
    fn a_file_that_somebody_removed_does_not_keep_the_logger_from_starting() {
        let file = Entry::File { name: "conn.log".into(), file: entry(COMMITTED.len()) };
        let (_dir, options) = crashed(vec![file], &[]);
        reopen(&options);
        assert_eq!(archived(&options), []);
    }
}
