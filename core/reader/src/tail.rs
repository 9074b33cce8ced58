//! Whole queries: all rows of a time, or the last ones that were written.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::tz::TimeZone;
use tyto_core::layout::Layout;
use tyto_core::record::schema::Schema;
use tyto_core::time::{NANOS, Ts};

use crate::error::ReadError;
use crate::files::{self, Found};
use crate::input::{Input, Packing};
use crate::query::{LineQuery, Query, known_schemas};
use crate::sort::{MEMORY_BYTES_MAX, Row, Sorter};

/// Clocks of capture and logger may differ by this much, and a local time may come twice on the
/// night when summer time ends: files whose names end so long before `since` are read too.
const SLACK_S: u64 = 2 * 3_600;

/// Rows are written when a connection ends, and tell when it began. Files that were begun
/// this long behind `until` are not read, unless the index knows that they have such rows.
const LATE_S: u64 = 86_400;

/// Rows that can be asked for by their number.
pub const LAST_ROWS_MAX: usize = 100_000;

/// Bytes read at once of a file that is read from its end.
const BLOCK_BYTES: u64 = 1 << 20;

/// Reads the archive of one host.
#[derive(Debug)]
pub struct Archive {
    layout: Layout,
    zone: TimeZone,
    /// What could not be read, while other files could.
    pub faults: Vec<ReadError>,
}

impl Archive {
    /// The archive of an installation; `zone` is that of the times in its file names.
    pub const fn new(layout: Layout, zone: TimeZone) -> Self {
        Self { layout, zone, faults: Vec::new() }
    }

    /// Hands all rows of the query to `give`, by their time; of more than `last`, these.
    ///
    /// # Errors
    /// When files cannot be listed, the query does not fit, or `give` fails. A file that
    /// cannot be read goes to `faults`, and the others are read.
    pub fn rows(
        &mut self,
        query: &Query,
        last: Option<usize>,
        mut give: impl FnMut(&Row) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let known = known_schemas(&self.layout, &query.stream)?;
        let mut sorter = Sorter::new(self.layout.spool(), MEMORY_BYTES_MAX);
        for found in files::of_stream(&self.layout, &query.stream, &self.zone)? {
            if is_of_the_time(&found, query) {
                self.read(query, &known, found, &mut sorter)?;
            }
        }
        let Some(last) = last else { return sorter.finish(give) };
        let mut kept = VecDeque::new();
        sorter.finish(|row| {
            if kept.len() == last {
                kept.pop_front();
            }
            kept.push_back(row.clone());
            Ok(())
        })?;
        kept.iter().try_for_each(&mut give)
    }

    fn read(
        &mut self,
        query: &Query,
        known: &[Schema],
        found: Found,
        sorter: &mut Sorter,
    ) -> Result<(), ReadError> {
        let read = || -> Result<(), ReadError> {
            let times = (query.since_us.unwrap_or(i64::MIN), query.until_us.unwrap_or(i64::MAX));
            let input = found.open()?.within(times.0, times.1);
            let Some(mut wanted) = of_input(query, known, &input)? else { return Ok(()) };
            let (mut lines, mut line, mut out) = (input.lines()?, Vec::new(), Vec::new());
            while lines.next_into(&mut line)? {
                out.clear();
                if let Some(at) = wanted.take(&line, &mut out)? {
                    sorter.add(at, wanted.header(), &out)?;
                }
            }
            Ok(())
        };
        match read() {
            Err(error @ (ReadError::Io { .. } | ReadError::Line { .. })) => {
                self.faults.push(error);
                Ok(())
            }
            other => other,
        }
    }

    /// Hands the last rows of the query that were written, `last` at most, to `give`, by their
    /// time. Reads files from their end, the latest first, and no more of them than it needs.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn last_written(
        &mut self,
        query: &Query,
        last: usize,
        mut give: impl FnMut(&Row) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let known = known_schemas(&self.layout, &query.stream)?;
        let mut rows: Vec<Row> = Vec::new();
        let mut found = files::of_stream(&self.layout, &query.stream, &self.zone)?;
        // Several loggers write at once: what is being written is read of each of them.
        found.sort_by_key(|file| (file.closed.is_none(), file.opened));
        for file in found.into_iter().rev() {
            if file.closed.is_some() && rows.len() >= last {
                break;
            }
            let input = file.open();
            let read = input.and_then(|input| last_of(query, &known, &input, last));
            match read {
                Ok(more) => rows.extend(more),
                Err(error @ (ReadError::Io { .. } | ReadError::Line { .. })) => {
                    self.faults.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        rows.sort_by_key(|row| row.at_us);
        let skip = rows.len().saturating_sub(last);
        rows.iter().skip(skip).try_for_each(&mut give)
    }
}

/// What is wanted of a file's lines; none when it has no rows.
///
/// # Errors
/// When it cannot be read, or the query does not fit its columns.
pub fn of_input(
    query: &Query,
    known: &[Schema],
    input: &Input,
) -> Result<Option<LineQuery>, ReadError> {
    let Some(heading) = input.heading()? else { return Ok(None) };
    query.of_lines(input.path().to_owned(), heading, known).map(Some)
}

fn is_of_the_time(found: &Found, query: &Query) -> bool {
    if let Some(span) = found.span_us {
        return query.may_have(span);
    }
    let micros = |at: Ts, seconds: u64, sign: i64| {
        let at = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
        let seconds = i64::try_from(seconds.saturating_mul(NANOS / 1_000)).unwrap_or(0);
        at.saturating_add(sign * seconds)
    };
    let oldest = micros(found.opened, LATE_S, -1);
    let newest = found.closed.map_or(i64::MAX, |closed| micros(closed, SLACK_S, 1));
    query.may_have((oldest, newest))
}

/// The last rows that are wanted of one file, in the order of the file.
fn last_of(
    query: &Query,
    known: &[Schema],
    input: &Input,
    last: usize,
) -> Result<VecDeque<Row>, ReadError> {
    let mut rows = VecDeque::new();
    let Some(mut wanted) = of_input(query, known, input)? else { return Ok(rows) };
    let header: Option<Arc<str>> = wanted.header().cloned();
    let mut take = |line: &[u8]| -> Result<Option<Row>, ReadError> {
        let mut out = Vec::new();
        let at = wanted.take(line, &mut out)?;
        Ok(at.map(|at_us| Row { at_us, header: header.clone(), line: out }))
    };
    if input.packing() != Packing::Plain {
        let (mut lines, mut line) = (input.lines()?, Vec::new());
        while lines.next_into(&mut line)? {
            if let Some(row) = take(&line)? {
                rows.push_back(row);
                if rows.len() > last {
                    rows.pop_front();
                }
            }
        }
        return Ok(rows);
    }
    // From the end, block by block; `tail` is the beginning of a line whose end was in the block
    // behind.
    let (mut end, mut tail) = (input.size()?, Vec::new());
    while end > 0 && rows.len() < last {
        let start = end.saturating_sub(BLOCK_BYTES);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(0)];
        input.read_at(&mut block, start)?;
        block.append(&mut tail);
        let whole = if start == 0 {
            0
        } else {
            memchr::memchr(b'\n', &block).map_or(block.len(), |at| at + 1)
        };
        let (first, lines) = block.split_at(whole);
        for line in lines.split_inclusive(|&byte| byte == b'\n').rev() {
            if rows.len() < last
                && line.ends_with(b"\n")
                && let Some(row) = take(line)?
            {
                rows.push_front(row);
            }
        }
        tail = first.to_vec();
        end = start;
    }
    Ok(rows)
}
