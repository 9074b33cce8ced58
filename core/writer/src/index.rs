//! `PREFIX/spool/LOGGER/index/STREAM`: a line per archived file of the stream, with the number of
//! its first row. So each row that a logger wrote has a number in its stream, over all lives
//! of the logger, and where an archived file is, and of what time, needs no guess by its name.
//! Format: docs/formats/index.md.
//!
//! The archive notes a file before it touches it, and again before it gives it its name. A crash
//! in between leaves a line that the next one for the same file replaces.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use tyto_core::time::Ts;

use crate::archive::make_folder;
use crate::disk::{self, Disk, Open, Reader};
use crate::error::StoreError;
use crate::journal::sync_parent;

/// Lines of one stream at which those of files that are gone are left out.
const LINES_PRUNED_AT: usize = 10_000;

/// Name of the index's folder in that of the logger.
const FOLDER: &str = "index";

/// Bytes read at once of a file whose rows are counted.
const BUFFER_BYTES: usize = 1 << 18;

/// A finished file that gets a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished<'a> {
    /// Its stream.
    pub(crate) stream: &'a str,
    /// What time it covers.
    pub(crate) times: (Ts, Ts),
    /// Its name in `rotated/`.
    pub(crate) rotated: &'a str,
    /// Where it is.
    pub(crate) source: &'a Path,
}

/// One archived file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexLine {
    /// Number of its first row among all rows of the stream that this logger archived.
    pub first_row: u64,
    /// Its rows.
    pub rows: u64,
    /// Least time of a row, microseconds since the Unix epoch; `i64::MAX` without rows.
    pub oldest_us: i64,
    /// Greatest; `i64::MIN` without rows.
    pub newest_us: i64,
    /// Start of the time it covers.
    pub opened: Ts,
    /// End of it.
    pub closed: Ts,
    /// Its name in `rotated/`.
    pub rotated: String,
    /// Where it was archived.
    pub path: PathBuf,
}

/// Rows of a log file and the span of their times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSpan {
    /// Rows.
    pub rows: u64,
    /// Least time, microseconds.
    pub oldest_us: i64,
    /// Greatest time, microseconds.
    pub newest_us: i64,
}

impl Default for RowSpan {
    fn default() -> Self {
        Self { rows: 0, oldest_us: i64::MAX, newest_us: i64::MIN }
    }
}

impl RowSpan {
    /// Counts a line of a log file; lines of a header or trailer are none.
    pub fn add(&mut self, line: &[u8]) {
        if line.starts_with(b"#") || line.is_empty() {
            return;
        }
        self.rows += 1;
        if let Some(at) = time_of(line) {
            self.oldest_us = self.oldest_us.min(at);
            self.newest_us = self.newest_us.max(at);
        }
    }
}

/// Time of a row by its line, microseconds: the first column of TSV, `"ts"` at the beginning of
/// JSON, in each of its styles.
pub fn time_of(line: &[u8]) -> Option<i64> {
    let text = match line.strip_prefix(b"{\"ts\":") {
        Some(rest) => {
            let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
            rest.split(|byte| matches!(byte, b',' | b'}' | b'"')).next()?
        }
        None => line.split(|byte| matches!(byte, b'\t' | b'\n')).next()?,
    };
    let text = std::str::from_utf8(text).ok()?;
    Some(tyto_core::record::line::time(text)?.nanos_signed() / 1_000)
}

/// The lines of a stream, each file once, in the order of its rows.
///
/// # Errors
/// When the index cannot be read. One that is not there has no lines.
pub fn lines(folder: &Path, stream: &str) -> Result<Vec<IndexLine>, StoreError> {
    lines_on(&*disk::real(), folder, stream)
}

/// The same, on another disk than the host's.
///
/// # Errors
/// As [`lines`].
pub fn lines_on(
    disk: &dyn Disk,
    folder: &Path,
    stream: &str,
) -> Result<Vec<IndexLine>, StoreError> {
    let bytes = read(disk, folder, stream)?;
    let mut lines: Vec<IndexLine> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let text = String::from_utf8_lossy(&bytes);
    for line in text.lines().filter_map(parse) {
        match places.get(&line.rotated).and_then(|&at| lines.get_mut(at)) {
            Some(known) => *known = line,
            None => {
                places.insert(line.rotated.clone(), lines.len());
                lines.push(line);
            }
        }
    }
    Ok(lines)
}

fn read(disk: &dyn Disk, folder: &Path, stream: &str) -> Result<Vec<u8>, StoreError> {
    let path = place(folder, stream);
    match disk.read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| StoreError::io("read", &path, error)),
    }
}

/// Whether a file had this name in `rotated/` once: it may not be given again, because it stands for
/// rows that have their numbers.
///
/// # Errors
/// When the index cannot be read.
pub(crate) fn knows(
    disk: &dyn Disk,
    folder: &Path,
    stream: &str,
    rotated: &str,
) -> Result<bool, StoreError> {
    let bytes = read(disk, folder, stream)?;
    Ok(memchr::memmem::find(&bytes, format!(" {rotated} ").as_bytes()).is_some())
}

/// Notes a finished file: it is at `path`, or is about to be. Its numbers are those of the first
/// note. Parquet is not noted in place of text: text is read faster.
///
/// # Errors
/// When the file cannot be read or the index not written: the file may not get its name yet.
pub(crate) fn note(
    disk: &dyn Disk,
    folder: &Path,
    file: Finished<'_>,
    path: &Path,
) -> Result<(), StoreError> {
    let mut known = lines_on(disk, folder, file.stream)?;
    match known.iter_mut().find(|line| line.rotated == file.rotated) {
        Some(line) if line.path == path => return Ok(()),
        Some(line) if is_parquet(path) && line.is_archived_text(folder) => return Ok(()),
        Some(line) => line.path = path.to_owned(),
        None => {
            let span = span_on(disk, file.source)
                .map_err(|error| StoreError::io("read", file.source, error))?;
            let RowSpan { rows, oldest_us, newest_us } = span;
            let first_row = known.last().map_or(0, |line| line.first_row + line.rows);
            let ((opened, closed), rotated, path) =
                (file.times, file.rotated.to_owned(), path.to_owned());
            known.push(IndexLine {
                first_row,
                rows,
                oldest_us,
                newest_us,
                opened,
                closed,
                rotated,
                path,
            });
        }
    }
    write(disk, folder, file.stream, &known)
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

impl IndexLine {
    /// Whether it is not Parquet.
    pub fn is_text(&self) -> bool {
        !is_parquet(&self.path)
    }

    fn is_archived_text(&self, folder: &Path) -> bool {
        self.is_text() && !self.path.starts_with(folder)
    }
}

/// Rows of a plain log file, and of what time they are.
///
/// # Errors
/// When it cannot be read.
pub fn span_of(path: &Path) -> io::Result<RowSpan> {
    span_on(&*disk::real(), path)
}

fn span_on(disk: &dyn Disk, path: &Path) -> io::Result<RowSpan> {
    let mut span = RowSpan::default();
    let input = Reader::new(disk.open(path, Open::Read)?);
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        span.add(&line);
        line.clear();
    }
    Ok(span)
}

/// Writes the index anew, beside its place: it is small, and no fault of the disk can leave half
/// a line. Of many lines, those of files that expired go, but for the last: numbers go on behind it.
fn write(
    disk: &dyn Disk,
    folder: &Path,
    stream: &str,
    lines: &[IndexLine],
) -> Result<(), StoreError> {
    let path = place(folder, stream);
    let is_pruned = lines.len() > LINES_PRUNED_AT;
    let mut text = String::new();
    for (nth, line) in lines.iter().enumerate() {
        // What the disk cannot tell of is kept.
        if !is_pruned || nth + 1 == lines.len() || disk.exists(&line.path).unwrap_or(true) {
            text.push_str(&print(line));
            text.push('\n');
        }
    }
    let parent = folder.join(FOLDER);
    if !disk.exists(&parent).map_err(|error| StoreError::io("look for", &parent, error))? {
        make_folder(disk, folder, &parent)?;
    }
    let beside = path.with_extension("new");
    let written = disk.open(&beside, Open::Create).and_then(|file| {
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync_all()
    });
    written
        .and_then(|()| disk.rename(&beside, &path))
        .map_err(|error| StoreError::io("write", &path, error))?;
    sync_parent(disk, &path)
}

fn print(line: &IndexLine) -> String {
    let IndexLine { first_row, rows, oldest_us, newest_us, opened, closed, rotated, path } = line;
    let (opened, closed, path) = (opened.0, closed.0, path.display());
    format!("{first_row} {rows} {oldest_us} {newest_us} {opened} {closed} {rotated} {path}")
}

fn parse(line: &str) -> Option<IndexLine> {
    let mut words = line.splitn(8, ' ');
    Some(IndexLine {
        first_row: words.next()?.parse().ok()?,
        rows: words.next()?.parse().ok()?,
        oldest_us: words.next()?.parse().ok()?,
        newest_us: words.next()?.parse().ok()?,
        opened: Ts(words.next()?.parse().ok()?),
        closed: Ts(words.next()?.parse().ok()?),
        rotated: words.next()?.to_owned(),
        path: words.next()?.into(),
    })
}

fn place(folder: &Path, stream: &str) -> PathBuf {
    folder.join(FOLDER).join(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_lines_in_all_styles() {
        for line in [
            "1795000000.123456\tC1\n",
            "{\"ts\":1795000000.123456,\"uid\":\"C1\"}",
            "{\"ts\":\"2026-11-18T11:06:40.123456Z\"}",
        ] {
            assert_eq!(time_of(line.as_bytes()), Some(1_795_000_000_123_456), "{line}");
        }
        assert_eq!(time_of(b"{\"ts\":1795000000123}"), Some(1_795_000_000_123_000));
        assert_eq!(time_of(b"-\tx"), None);
    }

    #[test]
    fn numbers_go_on_from_file_to_file_and_a_later_note_of_a_file_replaces_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        let text = "#fields\tts\n5.0\ta\n3.5\tb\n#close\tx\n";
        std::fs::write(&source, text).unwrap();
        let note = |rotated: &str, target: &str| {
            let (times, source) = ((Ts(1), Ts(2)), source.as_path());
            let file = Finished { stream: "conn", times, rotated, source };
            note(&*disk::real(), dir.path(), file, Path::new(target)).unwrap();
        };
        note("conn-1-2.log", "/logs/taken");
        note("conn-1-2.log", "/logs/a b");
        note("conn-1-2.log", "/logs/a.parquet");
        note("conn-2-3.log", "/logs/c.parquet");
        let found = lines(dir.path(), "conn").unwrap();
        let told =
            found.iter().map(|line| (line.first_row, line.rows, line.path.to_str().unwrap()));
        assert_eq!(told.collect::<Vec<_>>(), [(0, 2, "/logs/a b"), (2, 2, "/logs/c.parquet")]);
        assert_eq!((found[0].oldest_us, found[0].newest_us), (3_500_000, 5_000_000));
        assert!(found[0].is_text() && !found[1].is_text());
        let is_known = |name| knows(&*disk::real(), dir.path(), "conn", name).unwrap();
        assert!(is_known("conn-2-3.log") && !is_known("conn-2-3.1.log"));
    }
}
