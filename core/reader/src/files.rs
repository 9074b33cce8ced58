//! Which files of a log stream there are on a host: of each logger that has, or had, its folder
//! here, the file being written and those in `rotated/`; and the archive, which they share.
//!
//! Files move while they are listed: being written → `rotated/` → archive. They are listed in
//! that order, and again when something moved meanwhile, so that each is there once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tyto_core::layout::Layout;
use tyto_core::time::{NANOS, Ts};
use tyto_writer::committed::{CommittedFile, committed};
use tyto_writer::index;

use crate::error::ReadError;
use crate::input::{Input, Packing};

/// How often files are listed when they move meanwhile.
const LISTINGS_MAX: u32 = 50;

/// Time between two listings.
const PAUSE: Duration = Duration::from_millis(2);

/// Folders in each other that the archive is searched.
const ARCHIVE_DEPTH_MAX: usize = 8;

/// Names the archive gives while it works, and marks of its steps (`tyto_writer::archive`).
const ARCHIVING: &str = ".archiving";
const DONE_SUFFIX: &str = ".archived";

/// What may stand behind a finished file's name when it is a copy that is text, and when it is
/// a table.
const TEXT_COPIES: [&str; 3] = ["", ".gz", ".zst"];
const PARQUET: &str = ".parquet";

/// What stands in the names of files with the same rows as their stream's own, in another form.
const BESIDE: [&str; 2] = [".json.log", ".tsv.log"];

/// A file with rows of the stream.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Open already, when it may move before it is read.
    pub input: Option<Input>,
    /// When it was begun.
    pub opened: Ts,
    /// When it was ended; none: it is being written.
    pub closed: Option<Ts>,
    /// Least and greatest time of its rows, microseconds, when that is known.
    pub span_us: Option<(i64, i64)>,
}

impl Found {
    /// The file, opened.
    ///
    /// # Errors
    /// When the system refuses: it may have expired.
    pub fn open(self) -> Result<Input, ReadError> {
        self.input.map_or_else(|| Input::open(&self.path, None), Ok)
    }
}

/// Folders of the loggers that write, or wrote, on this host: those with a journal.
///
/// # Errors
/// When the spool cannot be listed.
pub fn loggers(layout: &Layout) -> Result<Vec<PathBuf>, ReadError> {
    let mut found = names(&layout.spool())?.into_iter().map(|name| layout.spool().join(name));
    let mut loggers: Vec<PathBuf> =
        found.by_ref().filter(|folder| folder.join("journal").exists()).collect();
    loggers.sort();
    Ok(loggers)
}

/// The stream's file that a logger is writing, open, up to what is committed. More than one
/// while two releases with different columns deliver.
///
/// # Errors
/// When journal or file cannot be read.
pub fn current(folder: &Path, stream: &str) -> Result<Vec<(CommittedFile, Input)>, ReadError> {
    for listing in 0..LISTINGS_MAX {
        let Some(state) = committed(folder)? else { return Ok(Vec::new()) };
        // A rotation that the death of its logger cut off waits for the next start.
        if state.is_rotating && listing < LISTINGS_MAX / 2 {
            std::thread::sleep(PAUSE);
            continue;
        }
        let files =
            state.files.into_iter().filter(|file| *file.stream == *stream && is_shown(file));
        // One that somebody removed is passed over.
        let opened: Vec<_> = files
            .filter_map(|file| {
                let input = Input::open(&folder.join(&*file.name), Some(file.len)).ok()?;
                Some((file, input))
            })
            .collect();
        // Rotated between the two looks: what is open now may be the next file.
        let again = committed(folder)?.unwrap_or_default();
        let is_same = |file: &CommittedFile| {
            again.files.iter().any(|now| now.name == file.name && now.opened == file.opened)
        };
        let is_whole = opened.iter().all(|(file, _)| is_same(file));
        if is_whole && (!again.is_rotating || listing >= LISTINGS_MAX / 2) {
            return Ok(opened);
        }
        std::thread::sleep(PAUSE);
    }
    Err(ReadError::Restless(folder.to_owned()))
}

/// With both formats, `conn.json.log` has the same rows as `conn.log`.
fn is_shown(file: &CommittedFile) -> bool {
    !BESIDE.iter().any(|end| file.name.ends_with(end))
}

/// Batches in doubt that loggers of this host hold copies of, by the logger that has them or gets
/// them: their rows are in no log file here. Their names: docs/formats/log-wire.md.
///
/// # Errors
/// When folders cannot be listed.
pub fn in_doubt(layout: &Layout, stream: &str) -> Result<BTreeMap<String, u64>, ReadError> {
    let mut found = BTreeMap::new();
    for folder in loggers(layout)? {
        for name in names(&folder.join("doubt"))? {
            let Some(name) = name.strip_suffix(".log") else { continue };
            let mut parts = name.split('@');
            if parts.next() == Some(stream)
                && let Some(logger) = parts.next_back()
            {
                *found.entry(logger.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(found)
}

/// All files of the stream on this host, in the order of their beginning.
///
/// # Errors
/// When folders cannot be listed.
pub fn of_stream(layout: &Layout, stream: &str, zone: &TimeZone) -> Result<Vec<Found>, ReadError> {
    for _ in 0..LISTINGS_MAX {
        let loggers = loggers(layout)?;
        let mut found = Vec::new();
        for folder in &loggers {
            for (file, input) in current(folder, stream)? {
                let (path, opened) = (input.path().to_owned(), file.opened);
                found.push(Found { path, input: Some(input), opened, closed: None, span_us: None });
            }
        }
        let before = on_the_way(layout, &loggers, stream)?;
        let writing: BTreeSet<u64> =
            found.iter().filter_map(|file| inode(file.input.as_ref()?)).collect();
        for Rotated { path, opened, closed } in &before {
            let Ok(input) = Input::open(path, None) else { continue };
            // Seen as being written a moment ago.
            if inode(&input).is_some_and(|inode| writing.contains(&inode)) {
                continue;
            }
            let (path, opened, closed) = (path.clone(), *opened, Some(*closed));
            found.push(Found { path, input: Some(input), opened, closed, span_us: None });
        }
        found.extend(archived(layout, &loggers, stream, zone)?);
        if on_the_way(layout, &loggers, stream)? == before {
            found.sort_by(|a, b| (a.opened, &a.path).cmp(&(b.opened, &b.path)));
            return Ok(found);
        }
    }
    Err(ReadError::Restless(layout.logs()))
}

fn inode(input: &Input) -> Option<u64> {
    input.file().metadata().ok().map(|file| file.ino())
}

/// A finished file that is not in the archive yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rotated {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// When it was begun.
    pub(crate) opened: Ts,
    /// When it was ended.
    pub(crate) closed: Ts,
}

/// Finished files of all loggers that are not in the archive yet.
fn on_the_way(
    layout: &Layout,
    loggers: &[PathBuf],
    stream: &str,
) -> Result<Vec<Rotated>, ReadError> {
    let mut found = Vec::new();
    for folder in loggers {
        found.extend(rotated(folder, &layout.logs(), stream)?);
    }
    Ok(found)
}

/// Finished files of one logger whose copies have no name in the archive `logs` yet.
pub(crate) fn rotated(
    logger_folder: &Path,
    logs: &Path,
    stream: &str,
) -> Result<Vec<Rotated>, ReadError> {
    let logger = logger_folder.file_name().unwrap_or_default();
    // First the copies: one that gets its name meanwhile is seen twice, not never.
    let copies: BTreeSet<String> = names(&logs.join(ARCHIVING).join(logger))?.into_iter().collect();
    let folder = logger_folder.join("rotated");
    let mut found = Vec::new();
    for name in names(&folder)? {
        let plain = name.strip_suffix(DONE_SUFFIX);
        let is_copy = |plain: &str, end: &str| copies.contains(&format!("{plain}{end}"));
        let is_done = plain.is_some_and(|plain| !TEXT_COPIES.iter().any(|end| is_copy(plain, end)));
        let is_table = plain.is_some_and(|plain| is_copy(plain, PARQUET));
        let plain = plain.unwrap_or(&name);
        let Some((of, opened, closed)) = parse_rotated(plain) else { continue };
        if of != stream || BESIDE.iter().any(|end| plain.ends_with(end)) {
            continue;
        }
        // The table gets its name after the text, if there is one.
        let is_published = is_done && (!is_table || is_archived(logger_folder, stream, plain)?);
        if !is_published {
            found.push(Rotated { path: folder.join(&name), opened, closed });
        }
    }
    found.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    Ok(found)
}

/// Whether a finished file of a stream's own is where the logger's index says, in the archive.
fn is_archived(folder: &Path, stream: &str, rotated: &str) -> Result<bool, ReadError> {
    let lines = index::lines(folder, stream)?;
    let line = lines.iter().find(|line| line.rotated == rotated);
    Ok(line.is_some_and(|line| !line.path.starts_with(folder) && line.path.exists()))
}

/// Stream, start and end from a name in `rotated/`.
fn parse_rotated(name: &str) -> Option<(&str, Ts, Ts)> {
    let (base, _) = name.split_once('.')?;
    let mut parts = base.rsplitn(3, '-');
    let closed = parts.next()?.parse().ok()?;
    let opened = parts.next()?.parse().ok()?;
    Some((parts.next()?, Ts(opened), Ts(closed)))
}

/// Archived files, by the loggers' indexes, and by their names where no index knows them.
fn archived(
    layout: &Layout,
    loggers: &[PathBuf],
    stream: &str,
    zone: &TimeZone,
) -> Result<Vec<Found>, ReadError> {
    let mut found: BTreeMap<PathBuf, Found> = BTreeMap::new();
    for folder in loggers {
        for line in index::lines(folder, stream)? {
            // On its way, it is among those of `rotated/`.
            let is_archived = !line.path.starts_with(folder);
            if is_archived && line.path.exists() {
                let file = Found {
                    path: line.path.clone(),
                    input: None,
                    opened: line.opened,
                    closed: Some(line.closed),
                    span_us: Some((line.oldest_us, line.newest_us)),
                };
                found.insert(line.path, file);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&layout.logs(), ARCHIVE_DEPTH_MAX, &mut paths)?;
    let texts: BTreeSet<PathBuf> = paths.iter().filter_map(|path| text_stem(path)).collect();
    for path in paths {
        if !found.contains_key(&path)
            && let Some((opened, closed)) = parse_archived(&path, stream, zone)
            && !is_beside_text(&path, &texts, layout)?
        {
            let (input, closed, span_us) = (None, Some(closed), None);
            found.insert(path.clone(), Found { path, input, opened, closed, span_us });
        }
    }
    Ok(found.into_values().collect())
}

/// Path of an archived text without what tells its form.
fn text_stem(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name);
    let stem = plain.strip_suffix(".log")?;
    Some(path.with_file_name(stem.strip_suffix(".json").unwrap_or(stem)))
}

/// Whether a file is Parquet whose rows are there as text as well: in the archive under the same
/// name, or, as the file itself tells where it came from, wherever its logger has it.
fn is_beside_text(
    path: &Path,
    texts: &BTreeSet<PathBuf>,
    layout: &Layout,
) -> Result<bool, ReadError> {
    if Packing::of(&path.to_string_lossy()) != Packing::Parquet {
        return Ok(false);
    }
    if texts.contains(&path.with_extension("")) {
        return Ok(true);
    }
    // What cannot be read is told when it is read.
    let Ok(Some((logger, rotated))) = Input::open(path, None).and_then(|input| input.source())
    else {
        return Ok(false);
    };
    let Some((stream, ..)) = parse_rotated(&rotated) else { return Ok(false) };
    let own = rotated.strip_suffix(".tsv.log").map_or(rotated.clone(), |own| format!("{own}.log"));
    let lines = index::lines(&layout.node_spool(&logger), stream)?;
    let line = lines.iter().find(|line| line.rotated == own && line.is_text());
    Ok(line.is_some_and(|line| {
        // With its copies made, a finished file has this behind its name.
        let mut done = line.path.clone().into_os_string();
        done.push(DONE_SUFFIX);
        line.path.exists() || Path::new(&done).exists()
    }))
}

fn walk(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    for name in names(folder)? {
        let path = folder.join(&name);
        let Ok(kind) = path.symlink_metadata() else { continue };
        if kind.is_dir() && !name.starts_with('.') && depth > 0 {
            walk(&path, depth - 1, paths)?;
        } else if kind.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}

/// `YYYY-MM-DD/STREAM.HH:MM:SS-HH:MM:SS….log[.gz|.zst]` or `….parquet`: the times it covers.
fn parse_archived(path: &Path, stream: &str, zone: &TimeZone) -> Option<(Ts, Ts)> {
    let name = path.file_name()?.to_str()?;
    let day = path.parent()?.file_name()?.to_str()?;
    let rest = name.strip_prefix(stream)?.strip_prefix('.')?;
    let packed = rest.strip_suffix(".gz").or_else(|| rest.strip_suffix(".zst")).unwrap_or(rest);
    let times = packed.strip_suffix(".log").or_else(|| packed.strip_suffix(PARQUET))?;
    if BESIDE.iter().any(|end| packed.ends_with(end)) {
        return None;
    }
    let (from, to) = (times.get(..8)?, times.get(8..)?.strip_prefix('-')?.get(..8)?);
    let at = |time: &str| -> Option<DateTime> { format!("{day}T{time}").parse().ok() };
    let (from, mut to) = (at(from)?, at(to)?);
    if to <= from {
        to = to.tomorrow().ok()?;
    }
    let stamp = |time: DateTime| {
        let seconds = time.to_zoned(zone.clone()).ok()?.timestamp().as_second();
        u64::try_from(seconds).ok().map(|seconds| Ts(seconds.saturating_mul(NANOS)))
    };
    Some((stamp(from)?, stamp(to)?))
}

/// Names in a folder, sorted; none when it is not there.
fn names(folder: &Path) -> Result<Vec<String>, ReadError> {
    let fail = |error| ReadError::io(folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(fail)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_in_doubt_are_counted_by_the_logger_that_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let doubt = layout.node_spool("logger-1").join("doubt");
        fs::create_dir_all(&doubt).unwrap();
        fs::write(layout.node_spool("logger-1").join("journal"), "").unwrap();
        for name in ["conn@w@1@0@logger-2.log", "conn@w@1@9@logger-2.log", "dns@w@1@0@l.log"] {
            fs::write(doubt.join(name), "{}\n").unwrap();
        }
        let found = in_doubt(&layout, "conn").unwrap();
        assert_eq!(found, BTreeMap::from([("logger-2".to_owned(), 2)]));
    }

    #[test]
    fn names_of_the_archive_tell_what_they_cover() {
        let times = |name: &str| {
            let path = Path::new("/p/logs/2026-11-22").join(name);
            parse_archived(&path, "conn", &TimeZone::UTC).map(|(from, to)| to.secs() - from.secs())
        };
        assert_eq!(times("conn.09:00:00-10:00:00.log.gz"), Some(3_600));
        assert_eq!(times("conn.23:00:00-00:00:00-logger-2.1.log.zst"), Some(3_600));
        assert_eq!(times("conn.23:00:00-00:00:00.log"), Some(3_600));
        assert_eq!(times("conn.23:00:00-00:00:00-logger-2.parquet"), Some(3_600));
        assert_eq!(times("connx.23:00:00-00:00:00.log"), None);
        assert_eq!(times("conn.23:00:00-00:00:00.json.log"), None);
        assert_eq!(times("conn.23:00-00:00.log"), None);
    }
}
