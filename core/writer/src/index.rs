//! `PREFIX/spool/LOGGER/index/STREAM`: a line per archived file of the stream, with the number of
//! its first row. So each row that a logger wrote has a number in its stream, over all lives
//! of the logger, and where an archived file is, and of what time, needs no guess by its name.
//! Format: docs/formats/index.md.
//!
//! The archive appends a line before it gives a file its name. A crash in between leaves a line
//! that the next one for the same file replaces.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use tyto_core::time::Ts;

use crate::error::StoreError;

/// Lines of one stream at which those of files that are gone are left out.
const LINES_PRUNED_AT: usize = 20_000;

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
    let path = place(folder, stream);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("read", &path, error)),
    };
    let mut lines: Vec<IndexLine> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    // The last line may be torn: its file did not get its name then.
    for line in text.split_inclusive('\n').filter_map(|line| parse(line.strip_suffix('\n')?)) {
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

/// Notes that `source`, a finished file of the stream with the name `rotated`, is about to
/// become `target`.
///
/// # Errors
/// When the file cannot be read or the index not written: the file may not get its name yet.
pub(crate) fn note(
    folder: &Path,
    stream: &str,
    (opened, closed): (Ts, Ts),
    (rotated, source): (&str, &Path),
    target: &Path,
) -> Result<(), StoreError> {
    let known = lines(folder, stream)?;
    let noted = known.iter().rev().find(|line| line.rotated == rotated);
    let line = match noted {
        Some(line) => IndexLine { path: target.to_owned(), ..line.clone() },
        None => {
            let span = span_of(source).map_err(|error| StoreError::io("read", source, error))?;
            let RowSpan { rows, oldest_us, newest_us } = span;
            let first_row = known.last().map_or(0, |line| line.first_row + line.rows);
            let (rotated, path) = (rotated.to_owned(), target.to_owned());
            IndexLine { first_row, rows, oldest_us, newest_us, opened, closed, rotated, path }
        }
    };
    let path = place(folder, stream);
    let written = if known.len() >= LINES_PRUNED_AT {
        rewrite(&path, &known, &line)
    } else {
        append(&path, &line)
    };
    written.map_err(|error| StoreError::io("write", &path, error))
}

/// Rows of a plain log file, and of what time they are.
///
/// # Errors
/// When it cannot be read.
pub fn span_of(path: &Path) -> io::Result<RowSpan> {
    let mut span = RowSpan::default();
    let mut input = BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        span.add(&line);
        line.clear();
    }
    Ok(span)
}

fn append(path: &Path, line: &IndexLine) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    // Behind a torn line, a new one begins.
    let is_torn = fs::read(path)?.last().is_some_and(|&byte| byte != b'\n');
    file.write_all(format!("{}{}\n", if is_torn { "\n" } else { "" }, print(line)).as_bytes())?;
    file.sync_all()
}

/// Without the lines of files that expired, but for the last: the numbers go on behind it.
fn rewrite(path: &Path, known: &[IndexLine], line: &IndexLine) -> io::Result<()> {
    let kept = known.iter().filter(|line| line.path.exists()).chain([line]);
    let text: String = kept.map(|line| print(line) + "\n").collect();
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
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
    folder.join("index").join(stream)
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
    fn numbers_go_on_from_file_to_file_and_an_intent_that_failed_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::write(&source, "#fields\tts\n5.0\ta\n3.5\tb\n#close\tx\n").unwrap();
        let note = |rotated: &str, target: &str| {
            let times = (Ts(1), Ts(2));
            note(dir.path(), "conn", times, (rotated, &source), Path::new(target)).unwrap();
        };
        note("conn-1-2.log", "/logs/taken");
        note("conn-1-2.log", "/logs/a b");
        note("conn-2-3.log", "/logs/c");
        let found = lines(dir.path(), "conn").unwrap();
        let told =
            found.iter().map(|line| (line.first_row, line.rows, line.path.to_str().unwrap()));
        assert_eq!(told.collect::<Vec<_>>(), [(0, 2, "/logs/a b"), (2, 2, "/logs/c")]);
        assert_eq!((found[0].oldest_us, found[0].newest_us), (3_500_000, 5_000_000));
        // A line that a crash tore counts for nothing, and the next begins anew.
        let index = dir.path().join("index/conn");
        let text = fs::read_to_string(&index).unwrap();
        fs::write(&index, &text[..text.len() - 4]).unwrap();
        note("conn-2-3.log", "/logs/d");
        let found = lines(dir.path(), "conn").unwrap();
        assert_eq!((found.len(), found[1].first_row), (2, 2));
        assert_eq!(found[1].path, Path::new("/logs/d"));
    }
}
