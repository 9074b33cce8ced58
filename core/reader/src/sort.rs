//! Rows in the order of their time, in bounded memory. Rows of a log file are only roughly in
//! order (a row of conn.log is written when its connection ends and tells when that began), and
//! files of several loggers cover the same time: so all rows wanted are sorted, in pieces that
//! go to disk when they are many, and the pieces are merged. The order is exact: by time,
//! and by the order in which the rows came where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::ReadError;

/// Rows in memory, bytes; beyond it they go to disk.
pub const MEMORY_BYTES_MAX: usize = 64 << 20;

/// Rows on disk, bytes. A query that needs more fails.
pub const DISK_BYTES_MAX: u64 = 16 << 30;

/// A row in memory besides its bytes.
const ROW_BYTES: usize = size_of::<Entry>();

/// A row that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its time, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Names and types of its columns; none for JSON.
    pub header: Option<Arc<str>>,
    /// Its line, with the newline.
    pub line: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at_us: i64,
    header: u32,
    start: usize,
    len: usize,
}

/// Takes rows in any order, gives them back by time.
#[derive(Debug)]
pub struct Sorter {
    /// Where pieces go.
    folder: PathBuf,
    memory_bytes_max: usize,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<Option<Arc<str>>>,
    pieces: Vec<File>,
    on_disk: u64,
}

impl Sorter {
    /// Puts what does not fit into memory into nameless files of `folder`.
    pub fn new(folder: PathBuf, memory_bytes_max: usize) -> Self {
        let (bytes, entries, headers, pieces) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { folder, memory_bytes_max, bytes, entries, headers, pieces, on_disk: 0 }
    }

    /// Takes a row.
    ///
    /// # Errors
    /// When the disk refuses, or rows take more than [`DISK_BYTES_MAX`].
    pub fn add(
        &mut self,
        at_us: i64,
        header: Option<&Arc<str>>,
        line: &[u8],
    ) -> Result<(), ReadError> {
        let known = self.headers.iter().rposition(|known| known.as_ref() == header);
        let header = known.unwrap_or_else(|| {
            self.headers.push(header.cloned());
            self.headers.len() - 1
        });
        let header = u32::try_from(header).unwrap_or(u32::MAX);
        self.entries.push(Entry { at_us, header, start: self.bytes.len(), len: line.len() });
        self.bytes.extend_from_slice(line);
        if self.bytes.len() + self.entries.len() * ROW_BYTES > self.memory_bytes_max {
            self.spill()?;
        }
        Ok(())
    }

    fn sort(&mut self) {
        // Stable: equal times keep their order.
        self.entries.sort_by_key(|entry| entry.at_us);
    }

    fn spill(&mut self) -> Result<(), ReadError> {
        self.sort();
        let fail = |error| ReadError::io(&self.folder, error);
        let mut file = BufWriter::new(tempfile::tempfile_in(&self.folder).map_err(fail)?);
        for entry in &self.entries {
            let line = self.bytes.get(entry.start..entry.start + entry.len).unwrap_or_default();
            let len = u32::try_from(line.len()).unwrap_or(u32::MAX);
            let head =
                [&entry.at_us.to_le_bytes()[..], &entry.header.to_le_bytes(), &len.to_le_bytes()];
            file.write_all(&head.concat()).and_then(|()| file.write_all(line)).map_err(fail)?;
            self.on_disk += 16 + u64::from(len);
        }
        let mut file = file.into_inner().map_err(|error| fail(error.into_error()))?;
        file.rewind().map_err(fail)?;
        self.pieces.push(file);
        self.entries.clear();
        self.bytes.clear();
        if self.on_disk > DISK_BYTES_MAX {
            return Err(ReadError::TooMany(DISK_BYTES_MAX));
        }
        Ok(())
    }

    /// Hands all rows to `give`, by their time.
    ///
    /// # Errors
    /// When the disk refuses, or with what `give` fails.
    pub fn finish(
        mut self,
        mut give: impl FnMut(&Row) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        self.sort();
        let fail = |error| ReadError::io(&self.folder, error);
        let headers = std::mem::take(&mut self.headers);
        let mut sources: Vec<Box<dyn Iterator<Item = io::Result<Row>>>> = Vec::new();
        for piece in std::mem::take(&mut self.pieces) {
            sources.push(Box::new(Piece { file: BufReader::new(piece), headers: headers.clone() }));
        }
        let (entries, bytes) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.bytes));
        sources.push(Box::new(entries.into_iter().map(move |entry| {
            let line = bytes.get(entry.start..entry.start + entry.len).unwrap_or_default();
            Ok(row(entry.at_us, entry.header, line.to_vec(), &headers))
        })));
        let mut next: Vec<Option<Row>> = Vec::new();
        let mut heap = BinaryHeap::new();
        for (nth, source) in sources.iter_mut().enumerate() {
            let row = source.next().transpose().map_err(fail)?;
            heap.extend(row.as_ref().map(|row| Reverse((row.at_us, nth))));
            next.push(row);
        }
        while let Some(Reverse((_, nth))) = heap.pop() {
            let (Some(place), Some(source)) = (next.get_mut(nth), sources.get_mut(nth)) else {
                break;
            };
            if let Some(row) = place.take() {
                give(&row)?;
            }
            *place = source.next().transpose().map_err(fail)?;
            heap.extend(place.as_ref().map(|row| Reverse((row.at_us, nth))));
        }
        Ok(())
    }
}

fn row(at_us: i64, header: u32, line: Vec<u8>, headers: &[Option<Arc<str>>]) -> Row {
    let header = headers.get(header as usize).cloned().flatten();
    Row { at_us, header, line }
}

/// A sorted piece on disk.
struct Piece {
    file: BufReader<File>,
    headers: Vec<Option<Arc<str>>>,
}

impl Iterator for Piece {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<io::Result<Row>> {
        let (mut at, mut header, mut len) = ([0; 8], [0; 4], [0; 4]);
        match self.file.read_exact(&mut at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
            Err(error) => return Some(Err(error)),
            Ok(()) => {}
        }
        let mut rest = || -> io::Result<Row> {
            self.file.read_exact(&mut header)?;
            self.file.read_exact(&mut len)?;
            let mut line = vec![0; u32::from_le_bytes(len) as usize];
            self.file.read_exact(&mut line)?;
            Ok(row(i64::from_le_bytes(at), u32::from_le_bytes(header), line, &self.headers))
        };
        Some(rest())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However small the memory, the order is that of a stable sort.
        #[test]
        fn rows_come_back_by_time_and_equal_times_in_order(
            times in prop::collection::vec(-5_i64..20, 0..200), memory in 0_usize..4_000,
        ) {
            let folder = std::env::temp_dir();
            let mut sorter = Sorter::new(folder, memory);
            let mut expected = Vec::new();
            for (nth, &at) in times.iter().enumerate() {
                let header: Option<Arc<str>> = (at % 2 == 0).then(|| "#fields\tts\n".into());
                sorter.add(at, header.as_ref(), format!("{at}\t{nth}\n").as_bytes()).unwrap();
                expected.push((at, nth));
            }
            expected.sort_by_key(|(at, _)| *at);
            let mut found = Vec::new();
            sorter.finish(|row| {
                assert_eq!(row.header.is_some(), row.at_us % 2 == 0);
                found.push(String::from_utf8(row.line.clone()).unwrap());
                Ok(())
            }).unwrap();
            let expected: Vec<_> = expected.iter().map(|(at, nth)| format!("{at}\t{nth}\n")).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
