//! How far a sink is, on disk: a line per stream, its name and the number of the next row. It is
//! written beside its place, synced and renamed. It names rows only that have arrived, as far as
//! the sink can know: what was handed over a moment ago may have been under way when
//! somebody died, and is sent again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Steps of the past that are remembered of each stream; the oldest count for those before.
const STEPS_MAX: usize = 4_096;

/// The cursor of one sink.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    doubt: Duration,
    streams: BTreeMap<String, Steps>,
    /// There was no file: the sink is new.
    is_new: bool,
    saved: BTreeMap<String, u64>,
}

/// How far one stream was when.
#[derive(Debug, Default)]
struct Steps {
    certain: u64,
    later: VecDeque<(Instant, u64)>,
}

impl Cursor {
    /// Reads the cursor at `path`. Rows count as arrived when they were handed over `doubt` ago.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(path: PathBuf, doubt: Duration) -> io::Result<Self> {
        let (text, is_new) = match fs::read_to_string(&path) {
            Ok(text) => (text, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), true),
            Err(error) => return Err(error),
        };
        let line = |line: &str| {
            let (stream, row) = line.split_once(' ')?;
            Some((stream.to_owned(), row.parse::<u64>().ok()?))
        };
        let saved: BTreeMap<String, u64> = text.lines().filter_map(line).collect();
        let steps = |(stream, &row): (&String, &u64)| {
            (stream.clone(), Steps { certain: row, later: VecDeque::new() })
        };
        let streams = saved.iter().map(steps).collect();
        Ok(Self { path, doubt, streams, is_new, saved })
    }

    /// Whether the sink never was here before.
    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// The streams that there are have their beginning.
    pub(super) const fn began(&mut self) {
        self.is_new = false;
    }

    /// The row from which on to send after a break.
    pub(super) fn certain(&self, stream: &str) -> Option<u64> {
        self.streams.get(stream).map(|steps| steps.settled(self.doubt))
    }

    /// Rows below `row` were handed over now.
    pub(super) fn advance(&mut self, stream: &str, row: u64) {
        let doubt = self.doubt;
        let Some(steps) = self.streams.get_mut(stream) else {
            let steps = Steps { certain: row, later: VecDeque::new() };
            self.streams.insert(stream.to_owned(), steps);
            return;
        };
        steps.certain = steps.settled(doubt);
        steps.later.retain(|(at, _)| at.elapsed() < doubt);
        // Many steps in a short time: neighbours become one, the later.
        if steps.later.len() >= STEPS_MAX {
            let mut keep = false;
            steps.later.retain(|_| {
                keep = !keep;
                !keep
            });
        }
        steps.later.push_back((Instant::now(), row));
    }

    /// Nothing is under way any more.
    pub(super) fn forget_doubt(&mut self) {
        let doubt = self.doubt;
        for steps in self.streams.values_mut() {
            steps.certain = steps.settled(doubt);
            steps.later.clear();
        }
    }

    /// Writes what is settled, or all at an orderly end. A disk that refuses costs that rows are
    /// sent again.
    pub(super) fn save(&mut self, all: bool) {
        let doubt = if all { Duration::ZERO } else { self.doubt };
        let rows = self.streams.iter().map(|(name, steps)| (name.clone(), steps.settled(doubt)));
        let rows: BTreeMap<String, u64> = rows.collect();
        if rows == self.saved {
            return;
        }
        match self.write(&rows) {
            Ok(()) => self.saved = rows,
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "cannot write the cursor of a sink");
            }
        }
    }

    fn write(&self, rows: &BTreeMap<String, u64>) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create(&beside)?;
        for (stream, row) in rows {
            writeln!(file, "{stream} {row}")?;
        }
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

impl Steps {
    /// What was handed over `doubt` ago or earlier.
    fn settled(&self, doubt: Duration) -> u64 {
        let settled = self.later.iter().rev().find(|(at, _)| at.elapsed() >= doubt);
        settled.map_or(self.certain, |(_, row)| *row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_handed_over_is_sent_again_after_a_break_and_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sinks/siem.cursor");
        let mut cursor = Cursor::open(path.clone(), Duration::from_secs(3_600)).unwrap();
        assert!(cursor.is_new());
        cursor.advance("conn", 5);
        cursor.advance("conn", 50);
        assert_eq!(cursor.certain("conn"), Some(5));
        cursor.save(false);
        let again = Cursor::open(path.clone(), Duration::ZERO).unwrap();
        assert_eq!((again.certain("conn"), again.is_new()), (Some(5), false));
        cursor.save(true);
        assert_eq!(Cursor::open(path, Duration::ZERO).unwrap().certain("conn"), Some(50));
    }

    #[test]
    fn what_was_handed_over_long_ago_has_arrived() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::open(dir.path().join("a"), Duration::ZERO).unwrap();
        for row in 0..10_000 {
            cursor.advance("conn", row);
        }
        assert_eq!(cursor.certain("conn"), Some(9_999));
    }
}
