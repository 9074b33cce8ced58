//! Finished log files on their way into the archive: `rotated/conn-OPEN-CLOSE.log` becomes
//! `logs/YYYY-MM-DD/conn.HH:MM:SS-HH:MM:SS[-LOGGER].log[.gz]`, ZeekControl's names.
//!
//! A thread of its own, because compressing takes long. Each step can be cut off by a crash:
//!
//! 1. the compressed copy is written to `logs/.archiving/` and synced;
//! 2. the source gets the suffix `.archived`: from here on, only the copy counts;
//! 3. the copy gets its name in the archive, never over a file that is there;
//! 4. the source is removed.
//!
//! At the next start a source without the suffix begins at 1 (over the old copy), one with it
//! at 3, or at 4 when the copy is gone from `.archiving`.

use std::ffi::OsStr;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::tz::TimeZone;
use tyto_core::time::Ts;

use crate::clock::local;
use crate::disk::{Disk, Open, Reader, Writer};
use crate::error::StoreError;
use crate::journal::sync_parent;

/// Marks a source whose copy is complete.
const DONE_SUFFIX: &str = ".archived";

/// After a fault (a full disk, say) the archive is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Names tried for one file of the archive before it has to wait.
const NAMES_MAX: u32 = 10_000;

/// How files are named and stored in the archive.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// Folder of the finished files.
    pub rotated: PathBuf,
    /// The archive: `PREFIX/logs`.
    pub logs: PathBuf,
    /// Compress with gzip.
    pub compress: bool,
    /// `-LOGGER` in the names, or nothing.
    pub suffix: String,
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

/// The thread that archives, if it has one.
#[derive(Debug)]
pub(crate) struct Archiver {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    in_tick: Option<ArchiveOptions>,
}

impl Archiver {
    /// Starts the thread; it begins with what an earlier life left.
    ///
    /// # Errors
    /// When the system has no thread for us.
    pub(crate) fn start(options: ArchiveOptions, archiving: Archiving) -> io::Result<Self> {
        if archiving == Archiving::InTick {
            return Ok(Self { wake: None, thread: None, in_tick: Some(options) });
        }
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("archive".into())
            .spawn(move || archive_until_closed(&options, &woken))?;
        Ok(Self { wake: Some(wake), thread: Some(thread), in_tick: None })
    }

    /// Archives what is there, unless a thread does.
    pub(crate) fn tick(&self) {
        if let Some(options) = &self.in_tick {
            try_archive(options).ok();
        }
    }

    /// Says that files are there. A wake-up that waits already will see them too.
    pub(crate) fn wake(&self) {
        // Full means that a wake-up waits already; closed, that the thread is gone.
        self.wake.as_ref().and_then(|wake| wake.try_send(()).ok());
    }
}

/// Archives what is there and ends the thread. What the disk refuses stays in `rotated/`.
impl Drop for Archiver {
    fn drop(&mut self) {
        self.wake = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("archive thread panicked; rotated logs stay in the spool");
        }
    }
}

fn archive_until_closed(options: &ArchiveOptions, woken: &Receiver<()>) {
    loop {
        let waits = match try_archive(options) {
            Ok(()) => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Err(_) => woken.recv_timeout(RETRY_AFTER),
        };
        if waits == Err(RecvTimeoutError::Disconnected) {
            // A last look: files may have come between the search and the end.
            try_archive(options).ok();
            return;
        }
    }
}

fn try_archive(options: &ArchiveOptions) -> Result<(), StoreError> {
    archive_all(options).inspect_err(|error| {
        tracing::error!(error = %error.chain(), "cannot archive a log; it stays in the spool");
    })
}

/// Archives every finished file, oldest names first.
///
/// # Errors
/// The first fault; files behind it have been tried too.
pub fn archive_all(options: &ArchiveOptions) -> Result<(), StoreError> {
    let fail = |error| StoreError::io("read", &options.rotated, error);
    let mut first = Ok(());
    for name in options.disk.read_dir(&options.rotated).map_err(fail)? {
        let result = archive(options, &options.rotated.join(name));
        first = first.and(result);
    }
    first
}

/// Name of a finished file in `rotated/`.
pub(crate) fn rotated_name(stream: &str, opened: Ts, closed: Ts, copy: u32) -> String {
    if copy == 0 {
        format!("{stream}-{}-{}.log", opened.0, closed.0)
    } else {
        format!("{stream}-{}-{}.{copy}.log", opened.0, closed.0)
    }
}

/// Whether no finished file has this name, nor one whose copy is on its way.
///
/// # Errors
/// When the disk cannot tell.
pub(crate) fn is_rotated_name_free(
    disk: &dyn Disk,
    rotated: &Path,
    name: &str,
) -> Result<bool, StoreError> {
    let is_taken = |path: PathBuf| {
        disk.exists(&path).map_err(|error| StoreError::io("look for", &path, error))
    };
    Ok(!is_taken(rotated.join(name))? && !is_taken(rotated.join(format!("{name}{DONE_SUFFIX}")))?)
}

/// Stream, start and end from a name that [`rotated_name`] made.
fn parse_rotated(name: &str) -> Option<(&str, Ts, Ts)> {
    let (base, _) = name.split_once('.')?;
    let mut parts = base.rsplitn(3, '-');
    let closed = parts.next()?.parse().ok()?;
    let opened = parts.next()?.parse().ok()?;
    Some((parts.next()?, Ts(opened), Ts(closed)))
}

/// Path of a log below the archive's folder; `copy` tells apart what would else be equal.
fn archive_name(options: &ArchiveOptions, stream: &str, times: (Ts, Ts), copy: u32) -> PathBuf {
    let zone = &options.zone;
    let day = local(times.0, zone, "%Y-%m-%d");
    let from = local(times.0, zone, "%H:%M:%S");
    let to = local(times.1, zone, "%H:%M:%S");
    let copy = if copy == 0 { String::new() } else { format!(".{copy}") };
    let end = if options.compress { "log.gz" } else { "log" };
    let suffix = &options.suffix;
    options.logs.join(day).join(format!("{stream}.{from}-{to}{suffix}{copy}.{end}"))
}

fn archive(options: &ArchiveOptions, source: &Path) -> Result<(), StoreError> {
    let name = source.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let plain = name.strip_suffix(DONE_SUFFIX).unwrap_or(name);
    let Some((stream, opened, closed)) = parse_rotated(plain) else {
        tracing::warn!(file = %source.display(), "not a rotated log; left alone");
        return Ok(());
    };
    let copy_path = options.logs.join(".archiving").join(plain);
    let mut done = source.to_owned();
    if name == plain {
        write_copy(options, source, &copy_path)?;
        done = source.with_file_name(format!("{plain}{DONE_SUFFIX}"));
        rename(&*options.disk, source, &done)?;
        sync_parent(&*options.disk, &done)?;
    }
    let is_there = options.disk.exists(&copy_path);
    if is_there.map_err(|error| StoreError::io("look for", &copy_path, error))? {
        publish(options, &copy_path, stream, (opened, closed))?;
    } else {
        // Named by a try that came no further. Its name has to be durable before the source goes;
        // a rename is durable with either of its folders.
        let folder = copy_path.parent().unwrap_or(&options.logs);
        make_folder(&*options.disk, &options.logs, folder)?;
        sync_parent(&*options.disk, &copy_path)?;
    }
    let disk = &*options.disk;
    disk.remove_file(&done).map_err(|error| StoreError::io("remove", &done, error))?;
    sync_parent(disk, &done)
}

fn write_copy(options: &ArchiveOptions, source: &Path, copy: &Path) -> Result<(), StoreError> {
    let folder = copy.parent().unwrap_or(&options.logs);
    let disk = &*options.disk;
    make_folder(disk, &options.logs, folder)?;
    let write = || -> io::Result<()> {
        let mut input =
            BufReader::with_capacity(1 << 18, Reader::new(disk.open(source, Open::Read)?));
        let mut output = Writer::new(disk.open(copy, Open::Create)?);
        if options.compress {
            let mut gzip = GzEncoder::new(BufWriter::new(&mut output), Compression::default());
            io::copy(&mut input, &mut gzip)?;
            gzip.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        } else {
            io::copy(&mut input, &mut output)?;
        }
        output.into_file().sync_all()
    };
    write().map_err(|error| StoreError::io("write", copy, error))?;
    sync_parent(disk, copy)
}

/// Gives the copy the first name of the archive that is free.
fn publish(
    options: &ArchiveOptions,
    copy: &Path,
    stream: &str,
    times: (Ts, Ts),
) -> Result<(), StoreError> {
    let disk = &*options.disk;
    for number in 0..NAMES_MAX {
        let target = archive_name(options, stream, times, number);
        make_folder(disk, &options.logs, target.parent().unwrap_or(&options.logs))?;
        match disk.rename_to_free(copy, &target) {
            Ok(()) => {
                sync_parent(disk, &target)?;
                return sync_parent(disk, copy);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::io("rename to", &target, error)),
        }
    }
    Err(StoreError::io("name", copy, io::ErrorKind::AlreadyExists.into()))
}

fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), StoreError> {
    disk.rename(from, to).map_err(|error| StoreError::io("rename", from, error))
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;

    use flate2::read::GzDecoder;
    use tempfile::TempDir;

    use super::*;

    const ROWS: &str = "#fields\tn\n1\n2\n#close\t1970-01-02-00-00-00\n";
    const SOURCE: &str = "conn-82800000000000-86400000000000.log";

    struct Place {
        _dir: TempDir,
        options: ArchiveOptions,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let (rotated, logs) = (dir.path().join("rotated"), dir.path().join("logs"));
        fs::create_dir_all(&rotated).unwrap();
        fs::create_dir_all(logs.join(".archiving")).unwrap();
        let zone = TimeZone::UTC;
        let disk = crate::disk::real();
        let options =
            ArchiveOptions { disk, rotated, logs, compress: true, suffix: String::new(), zone };
        Place { _dir: dir, options }
    }

    impl Place {
        fn source(&self, name: &str) {
            fs::write(self.options.rotated.join(name), ROWS).unwrap();
        }

        /// Names and contents in the archive; panics when something is left on the way.
        fn archived(&self) -> Vec<(String, String)> {
            assert_eq!(fs::read_dir(&self.options.rotated).unwrap().count(), 0);
            assert_eq!(fs::read_dir(self.options.logs.join(".archiving")).unwrap().count(), 0);
            let mut found = Vec::new();
            for entry in fs::read_dir(self.options.logs.join("1970-01-01")).unwrap() {
                let path = entry.unwrap().path();
                let mut text = String::new();
                GzDecoder::new(File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
                found.push((path.file_name().unwrap().to_str().unwrap().to_owned(), text));
            }
            found.sort();
            found
        }
    }

    fn once() -> Vec<(String, String)> {
        vec![("conn.23:00:00-00:00:00.log.gz".to_owned(), ROWS.to_owned())]
    }

    #[test]
    fn a_finished_file_gets_zeekcontrols_name_by_its_start() {
        let place = place();
        place.source(SOURCE);
        archive_all(&place.options).unwrap();
        assert_eq!(place.archived(), once());
    }

    #[test]
    fn a_half_written_copy_of_an_earlier_life_is_written_anew() {
        let place = place();
        place.source(SOURCE);
        fs::write(place.options.logs.join(".archiving").join(SOURCE), b"half").unwrap();
        archive_all(&place.options).unwrap();
        assert_eq!(place.archived(), once());
    }

    #[test]
    fn a_crash_before_the_name_was_given_is_finished() {
        let place = place();
        place.source(SOURCE);
        let copy = place.options.logs.join(".archiving").join(SOURCE);
        write_copy(&place.options, &place.options.rotated.join(SOURCE), &copy).unwrap();
        let done = place.options.rotated.join(format!("{SOURCE}{DONE_SUFFIX}"));
        fs::rename(place.options.rotated.join(SOURCE), done).unwrap();
        archive_all(&place.options).unwrap();
        assert_eq!(place.archived(), once());
    }

    #[test]
    fn a_crash_after_the_name_was_given_archives_nothing_twice() {
        let place = place();
        place.source(SOURCE);
        archive_all(&place.options).unwrap();
        place.source(&format!("{SOURCE}{DONE_SUFFIX}"));
        archive_all(&place.options).unwrap();
        assert_eq!(place.archived(), once());
    }

    #[test]
    fn a_name_that_is_taken_is_never_overwritten() {
        let place = place();
        place.source(SOURCE);
        archive_all(&place.options).unwrap();
        place.source(SOURCE);
        archive_all(&place.options).unwrap();
        let names: Vec<String> = place.archived().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["conn.23:00:00-00:00:00.1.log.gz", "conn.23:00:00-00:00:00.log.gz"]);
    }

    #[test]
    fn with_several_loggers_names_end_in_the_loggers_name() {
        let mut place = place();
        place.options.suffix = "-logger-2".to_owned();
        place.source(SOURCE);
        archive_all(&place.options).unwrap();
        assert_eq!(place.archived()[0].0, "conn.23:00:00-00:00:00-logger-2.log.gz");
    }
}
