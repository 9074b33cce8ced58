//! The rows of one logger's stream from a given one on: through the archive, files on their way
//! there, and the file being written, up to its last commit, and on with it through rotations.
//!
//! Rows are numbered from 0 in the order of their files, over all lives of the logger: the
//! index of the archive keeps count (`tyto_writer::index`). A number means the same row for
//! ever. Rows that a release wrote into a file of their own, while another one's columns were
//! current, are numbered when that file is finished.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tyto_core::record::schema::Schema;
use tyto_core::time::Ts;
use tyto_writer::committed::{Committed, committed};
use tyto_writer::index;
use tyto_writer::schemas;

use crate::error::ReadError;
use crate::files::{self, Rotated};
use crate::input::{Heading, Input, Lines, Packing};

/// Bytes of rows that one step gives at least, if there are so many.
pub const STEP_BYTES: usize = 256 << 10;

/// Follows one stream of one logger.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    logs: PathBuf,
    stream: String,
    row: u64,
    open: Option<Opened>,
    journal: JournalCache,
    count: Count,
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Lines, from row `first_row` on.
    Rows {
        /// Number of the first.
        first_row: u64,
        /// How many.
        rows: u64,
    },
    /// These rows are gone: their files expired. Those behind come next.
    Gone {
        /// Number of the first.
        first_row: u64,
        /// How many.
        rows: u64,
    },
    /// There is nothing more at the moment.
    End,
    /// The row that is asked for does not exist yet, and not the one before it: rows end here.
    Ahead {
        /// Number behind the last row.
        end_row: u64,
    },
}

/// A file that is being read.
#[derive(Debug)]
struct Opened {
    input: Input,
    heading: Heading,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    /// A packed file: its lines.
    Packed(Lines),
    /// A plain one: how far it was read, and when it was begun if it may still grow.
    Plain { offset: u64, grows: Option<Ts> },
}

/// A file and the numbers of its rows.
#[derive(Debug)]
struct Range {
    first_row: u64,
    /// None: it is being written.
    rows: Option<u64>,
    path: PathBuf,
    current: Option<(Input, Ts)>,
}

/// The journal as it was read last; it is read again when it changed.
#[derive(Debug, Default)]
struct JournalCache {
    stamp: Option<(u64, u64, i64, i64)>,
    state: Committed,
}

/// Rows of the current file, counted so far.
#[derive(Debug, Default)]
struct Count {
    opened: Option<Ts>,
    offset: u64,
    rows: u64,
}

impl Follower {
    /// Follows `stream` in a logger's folder from `row` on; `logs` is the archive.
    pub fn new(folder: PathBuf, logs: PathBuf, stream: String, row: u64) -> Self {
        let (journal, count) = (JournalCache::default(), Count::default());
        Self { folder, logs, stream, row, open: None, journal, count }
    }

    /// Number of the next row that it gives.
    pub const fn row(&self) -> u64 {
        self.row
    }

    /// Goes on at another row.
    pub fn go_to(&mut self, row: u64) {
        self.row = row;
        self.open = None;
    }

    /// How the lines of the last step are written.
    pub fn heading(&self) -> Option<&Heading> {
        self.open.as_ref().map(|open| &open.heading)
    }

    /// The file that the lines of the last step came from.
    pub fn path(&self) -> &Path {
        self.open.as_ref().map_or(&self.folder, |open| open.input.path())
    }

    /// Columns that the logger took for this stream, latest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn known_schemas(&self) -> Result<Vec<Schema>, ReadError> {
        schemas::kept(&self.folder, &self.stream)
            .map_err(|error| ReadError::io(&self.folder, error))
    }

    /// Appends the next lines to `out`: those of one file.
    ///
    /// # Errors
    /// When files or journal cannot be read; the call may be repeated.
    pub fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, ReadError> {
        let first_row = self.row;
        loop {
            let Some(open) = &mut self.open else {
                match self.find()? {
                    None => continue,
                    Some(step) => return Ok(step),
                }
            };
            let (rows, is_over) = match &mut open.reading {
                Reading::Packed(lines) => packed(lines, out)?,
                Reading::Plain { offset, grows } => {
                    let limit = match grows {
                        Some(opened) => {
                            let opened = *opened;
                            self.journal.refresh(&self.folder)?;
                            match self.journal.len_of(&self.stream, opened) {
                                Limit::Growing(len) => len,
                                Limit::Moving => *offset,
                                Limit::Final => {
                                    *grows = None;
                                    open.input.size()?
                                }
                            }
                        }
                        None => open.input.size()?,
                    };
                    let rows = plain(&open.input, offset, limit, out)?;
                    (rows, grows.is_none() && *offset >= limit)
                }
            };
            self.row += rows;
            let may_grow = matches!(open.reading, Reading::Plain { grows: Some(_), .. });
            if rows > 0 {
                return Ok(Step::Rows { first_row, rows });
            }
            if is_over {
                self.open = None;
            } else if may_grow {
                return Ok(Step::End);
            }
        }
    }

    /// Number behind the last row there is.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn end_row(&mut self) -> Result<u64, ReadError> {
        let Some(last) = self.ranges()?.pop() else { return Ok(0) };
        let Some((input, opened)) = last.current else {
            return Ok(last.first_row + last.rows.unwrap_or(0));
        };
        if self.count.opened != Some(opened) {
            self.count = Count { opened: Some(opened), offset: 0, rows: 0 };
        }
        let (limit, mut lines) = (input.size()?, Vec::new());
        while self.count.offset < limit {
            lines.clear();
            self.count.rows += plain(&input, &mut self.count.offset, limit, &mut lines)?;
        }
        Ok(last.first_row + self.count.rows)
    }

    /// Number of the first row there is.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn first_row(&mut self) -> Result<u64, ReadError> {
        Ok(self.ranges()?.first().map_or(0, |range| range.first_row))
    }

    /// Opens the file with the next row. None: it is open; else what there is to tell instead.
    fn find(&mut self) -> Result<Option<Step>, ReadError> {
        let ranges = self.ranges()?;
        let end = ranges.last().map_or(0, |last| last.first_row + last.rows.unwrap_or(0));
        let is_in = |range: &Range| match range.rows {
            Some(rows) => (range.first_row..range.first_row + rows).contains(&self.row),
            None => range.first_row <= self.row,
        };
        let next = ranges.iter().map(|range| range.first_row).find(|&first| first > self.row);
        let Some(range) = ranges.into_iter().find(is_in) else {
            return Ok(Some(match next {
                Some(next) => {
                    let (first_row, rows) = (self.row, next - self.row);
                    self.row = next;
                    Step::Gone { first_row, rows }
                }
                None if self.row > end => Step::Ahead { end_row: end },
                None => Step::End,
            }));
        };
        let skip = self.row - range.first_row;
        let (input, grows) = match range.current {
            Some((input, opened)) => (input, Some(opened)),
            None => (Input::open(&range.path, None)?, None),
        };
        let Some(heading) = input.heading()? else { return Ok(Some(Step::End)) };
        let is_current = grows.is_some();
        let mut reading = match input.packing() {
            Packing::Plain => Reading::Plain { offset: 0, grows },
            _ => Reading::Packed(input.lines()?),
        };
        let skipped = skip_rows(&input, &mut reading, skip)?;
        if skipped < skip {
            // Only the file being written can have fewer rows than were asked for.
            return Ok(is_current.then_some(Step::Ahead { end_row: range.first_row + skipped }));
        }
        // What is read of a file that is being written is bounded by the journal from here on.
        let input = if is_current { input.unlimited() } else { input };
        self.open = Some(Opened { input, heading, reading });
        Ok(None)
    }

    /// Files and their numbers, in order. Being written, on the way, archive: a file that moves
    /// meanwhile is seen twice, and counts where it was seen last.
    fn ranges(&mut self) -> Result<Vec<Range>, ReadError> {
        let plain = format!("{}.log", self.stream);
        let current = files::current(&self.folder, &self.stream)?;
        let current = current.into_iter().find(|(file, _)| *file.name == *plain);
        let rotated = files::rotated(&self.folder, &self.logs, &self.stream)?;
        let mut ranges = Vec::new();
        let (mut next, mut known) = (0, Vec::new());
        for line in index::lines(&self.folder, &self.stream)? {
            next = line.first_row + line.rows;
            known.push((line.rotated.clone(), line.first_row, line.rows));
            if line.path.exists() {
                let (first_row, rows, current) = (line.first_row, Some(line.rows), None);
                ranges.push(Range { first_row, rows, path: line.path, current });
            }
        }
        let mut last_opened = None;
        for Rotated { path, opened, .. } in rotated {
            last_opened = last_opened.max(Some(opened));
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = name.strip_suffix(".archived").unwrap_or(&name);
            let noted = known.iter().find(|(rotated, ..)| rotated == name);
            let (first_row, rows) = match noted {
                // Its line says where it will be; it is not there yet, unless it just moved.
                Some((_, first_row, _))
                    if ranges.iter().any(|r| r.first_row == *first_row && r.rows != Some(0)) =>
                {
                    continue;
                }
                Some((_, first_row, rows)) => (*first_row, *rows),
                None => {
                    let Ok(span) = index::span_of(&path) else { continue };
                    next += span.rows;
                    (next - span.rows, span.rows)
                }
            };
            ranges.push(Range { first_row, rows: Some(rows), path, current: None });
        }
        if let Some((file, input)) = current
            && last_opened.is_none_or(|opened| opened < file.opened)
        {
            let path = input.path().to_owned();
            ranges.push(Range {
                first_row: next,
                rows: None,
                path,
                current: Some((input, file.opened)),
            });
        }
        ranges.retain(|range| range.rows != Some(0));
        ranges.sort_by_key(|range| range.first_row);
        Ok(ranges)
    }
}

enum Limit {
    /// So many bytes are committed.
    Growing(u64),
    /// It is between its two names.
    Moving,
    /// Nothing more is written to it.
    Final,
}

impl JournalCache {
    fn refresh(&mut self, folder: &Path) -> Result<(), ReadError> {
        let path = folder.join("journal");
        let found = fs::metadata(&path).map_err(|error| ReadError::io(&path, error))?;
        let stamp = Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()));
        if stamp != self.stamp {
            self.state = committed(folder)?.unwrap_or_default();
            self.stamp = stamp;
        }
        Ok(())
    }

    fn len_of(&self, stream: &str, opened: Ts) -> Limit {
        let plain = format!("{stream}.log");
        let file =
            self.state.files.iter().find(|file| *file.name == *plain && file.opened == opened);
        match file {
            Some(file) => Limit::Growing(file.len),
            None if self.state.is_rotating => Limit::Moving,
            None => Limit::Final,
        }
    }
}

/// Appends whole rows of a plain file from `offset` on, some [`STEP_BYTES`] of them, and moves
/// `offset` behind. Returns how many.
fn plain(input: &Input, offset: &mut u64, limit: u64, out: &mut Vec<u8>) -> Result<u64, ReadError> {
    let mut want = STEP_BYTES as u64;
    loop {
        let end = limit.min(offset.saturating_add(want));
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(*offset)).unwrap_or(0)];
        input.read_at(&mut bytes, *offset)?;
        let Some(last) = memchr::memrchr(b'\n', &bytes) else {
            if end >= limit {
                return Ok(0);
            }
            // A row longer than that.
            want *= 2;
            continue;
        };
        bytes.truncate(last + 1);
        *offset += bytes.len() as u64;
        let mut rows = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| is_row(line)) {
            out.extend_from_slice(line);
            rows += 1;
        }
        if rows > 0 || *offset >= limit {
            return Ok(rows);
        }
    }
}

/// The same of a packed file; true at its end.
fn packed(lines: &mut Lines, out: &mut Vec<u8>) -> Result<(u64, bool), ReadError> {
    let (mut rows, start, mut line) = (0, out.len(), Vec::new());
    while out.len() - start < STEP_BYTES {
        if !lines.next_into(&mut line)? {
            return Ok((rows, true));
        }
        if is_row(&line) {
            out.extend_from_slice(&line);
            rows += 1;
        }
    }
    Ok((rows, false))
}

/// Passes over rows; returns over how many.
fn skip_rows(input: &Input, reading: &mut Reading, skip: u64) -> Result<u64, ReadError> {
    let mut skipped = 0;
    match reading {
        Reading::Packed(lines) => {
            let mut line = Vec::new();
            while skipped < skip && lines.next_into(&mut line)? {
                skipped += u64::from(is_row(&line));
            }
        }
        Reading::Plain { offset, .. } => {
            let (limit, mut want) = (input.size()?, STEP_BYTES as u64);
            while skipped < skip && *offset < limit {
                let end = limit.min(offset.saturating_add(want));
                let mut bytes = vec![0; usize::try_from(end - *offset).unwrap_or(0)];
                input.read_at(&mut bytes, *offset)?;
                let mut used = 0;
                for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                    if skipped == skip || !line.ends_with(b"\n") {
                        break;
                    }
                    skipped += u64::from(is_row(line));
                    used += line.len() as u64;
                }
                if used == 0 && end == limit {
                    break;
                }
                // A row longer than that.
                want = if used == 0 { want * 2 } else { want };
                *offset += used;
            }
        }
    }
    Ok(skipped)
}

fn is_row(line: &[u8]) -> bool {
    !line.starts_with(b"#") && line.len() > 1
}
