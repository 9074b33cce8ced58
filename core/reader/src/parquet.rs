//! An archived Parquet file as the lines of the log that it was made of: its header, then each row
//! as it stood there. So whatever reads lines reads Parquet.
//!
//! Source of truth: `tyto_writer::archive::parquet`, which wrote it. Groups of rows that cannot
//! have a wanted time are passed over; of the others, a page of each column is in memory, and some
//! [`BATCH_ROWS`] lines.

use std::fmt::Display;
use std::io::{self, BufRead, Read};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::file::statistics::Statistics;
use tyto_core::record::FieldSink;
use tyto_core::record::line::schema_of_header;
use tyto_core::record::schema::{FieldType, Scalar};
use tyto_core::record::tsv::TsvRow;
use tyto_core::time::{Interval, Ts};
use tyto_writer::archive::parquet::{HEADER_KEY, SOURCE_KEY, bytes_of};

use crate::input::FilePart;

/// Rows that are read at once of each column.
const BATCH_ROWS: u64 = 1_024;

/// Nanoseconds of a second, as intervals are in doubles.
const NANOS: f64 = 1e9;

/// The lines of a Parquet file.
pub(crate) struct Text {
    file: SerializedFileReader<FilePart>,
    types: Vec<FieldType>,
    /// Times that are wanted, microseconds, the second one not among them.
    within: (i64, i64),
    /// Number of the group that comes next.
    group: usize,
    columns: Vec<Column>,
    /// Rows of the group that are not read yet.
    left: u64,
    lines: Vec<u8>,
    /// How much of them was taken.
    taken: usize,
    scratch: Vec<u8>,
}

/// A column of one group of rows, some of its rows at a time.
struct Column {
    field_type: FieldType,
    chunk: Chunk,
    /// Definition levels, as the writer has them.
    defined: Vec<i16>,
    /// Repetition levels of a list.
    repeated: Vec<i16>,
    /// How many levels were taken, and values.
    level: usize,
    value: usize,
}

enum Chunk {
    Int64(ColumnReaderImpl<Int64Type>, Vec<i64>),
    Int32(ColumnReaderImpl<Int32Type>, Vec<i32>),
    Double(ColumnReaderImpl<DoubleType>, Vec<f64>),
    Bool(ColumnReaderImpl<BoolType>, Vec<bool>),
    Bytes(ColumnReaderImpl<ByteArrayType>, Vec<ByteArray>),
}

/// Logger and name of the finished file that a Parquet file was made of; none when it does not say.
///
/// # Errors
/// When it cannot be read or is not whole.
pub(crate) fn source(file: FilePart) -> io::Result<Option<(String, String)>> {
    let file = guarded(|| SerializedFileReader::new(file).map_err(fault))?;
    let source = noted(&file, SOURCE_KEY);
    Ok(source.and_then(|text| text.split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned()))))
}

/// The library ends some damaged files with a panic; here that is a fault of the file. What it
/// was working on is to be given up.
fn guarded<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(invalid("the file is damaged")))
}

fn noted<'a>(file: &'a SerializedFileReader<FilePart>, key: &str) -> Option<&'a str> {
    let notes = file.metadata().file_metadata().key_value_metadata()?;
    notes.iter().find(|note| note.key == key)?.value.as_deref()
}

/// Faults of the disk stay what they are; all others are those of the file.
fn fault(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => invalid(other),
        },
        other => invalid(other),
    }
}

fn invalid(error: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Text {
    /// The lines of `file`, but for groups of rows that have none of the times `within`.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or does not tell its columns in Zeek's words.
    pub(crate) fn open(file: FilePart, within: (i64, i64)) -> io::Result<Self> {
        let file = guarded(|| SerializedFileReader::new(file).map_err(fault))?;
        let header = noted(&file, HEADER_KEY).map(str::to_owned);
        let schema = header.as_deref().and_then(schema_of_header);
        let (Some(header), Some(schema)) = (header, schema) else {
            return Err(invalid(
                "it does not tell its columns in Zeek's words: no logger of this release wrote it",
            ));
        };
        let types: Vec<FieldType> = schema.fields.iter().map(|field| field.field_type).collect();
        let columns = file.metadata().file_metadata().schema_descr().columns();
        let has_levels =
            |(column, of): (&Arc<_>, &FieldType)| levels(column) == expected_levels(*of);
        if columns.len() != types.len() || !columns.iter().zip(&types).all(has_levels) {
            return Err(invalid("its columns are not those of its header"));
        }
        let (columns, scratch) = (Vec::new(), Vec::new());
        let (group, left, taken, lines) = (0, 0, 0, header.into_bytes());
        Ok(Self { file, types, within, group, columns, left, lines, taken, scratch })
    }

    /// Reads the next lines; none are left when there are no more.
    fn fill(&mut self) -> io::Result<()> {
        self.lines.clear();
        self.taken = 0;
        while self.left == 0 {
            if self.group >= self.file.num_row_groups() {
                return Ok(());
            }
            let group = self.file.get_row_group(self.group).map_err(fault)?;
            self.group += 1;
            if !may_have(group.metadata(), self.within, self.types.first()) {
                continue;
            }
            self.left = u64::try_from(group.metadata().num_rows()).map_err(invalid)?;
            self.columns.clear();
            for (nth, &field_type) in self.types.iter().enumerate() {
                let reader = group.get_column_reader(nth).map_err(fault)?;
                self.columns.push(Column::new(field_type, reader)?);
            }
        }
        let rows = self.left.min(BATCH_ROWS);
        for column in &mut self.columns {
            column.fill(rows)?;
        }
        for _ in 0..rows {
            let mut row = TsvRow::new(&mut self.lines);
            for column in &mut self.columns {
                let given = column.give(&mut row, &mut self.scratch);
                given.ok_or_else(|| invalid("a column holds what its type cannot"))?;
            }
            row.end_row();
        }
        self.left -= rows;
        Ok(())
    }
}

impl Text {
    /// Nothing more comes of a file with a fault.
    fn give_up(&mut self) {
        self.columns.clear();
        self.lines.clear();
        (self.group, self.left, self.taken) = (usize::MAX, 0, 0);
    }
}

impl BufRead for Text {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken >= self.lines.len()
            && let Err(error) = guarded(|| self.fill())
        {
            self.give_up();
            return Err(error);
        }
        Ok(self.lines.get(self.taken..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount;
    }
}

impl Read for Text {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(bytes)?;
        self.consume(count);
        Ok(count)
    }
}

/// Greatest definition and repetition level of a column.
fn levels(column: &parquet::schema::types::ColumnDescriptor) -> (i16, i16) {
    (column.max_def_level(), column.max_rep_level())
}

const fn expected_levels(field_type: FieldType) -> (i16, i16) {
    if field_type.is_container() { (3, 1) } else { (1, 0) }
}

/// Whether a group can have rows of these times. One with rows without a time is read: they have
/// their place in the order, too.
fn may_have(
    group: &RowGroupMetaData,
    (since, until): (i64, i64),
    first: Option<&FieldType>,
) -> bool {
    let times = group.columns().first().and_then(|column| column.statistics());
    match (first, times) {
        (Some(FieldType::One(Scalar::Time)), Some(Statistics::Int64(times)))
            if times.null_count_opt() == Some(0) =>
        {
            times.max_opt().is_none_or(|newest| *newest >= since)
                && times.min_opt().is_none_or(|oldest| *oldest < until)
        }
        _ => true,
    }
}

/// Reads at most `max` rows in the place of those before; how many there were.
fn read_chunk<T: DataType>(
    from: &mut ColumnReaderImpl<T>,
    max: usize,
    (defined, repeated): (&mut Vec<i16>, &mut Vec<i16>),
    values: &mut Vec<T::T>,
) -> io::Result<usize> {
    defined.clear();
    repeated.clear();
    values.clear();
    let read = from.read_records(max, Some(defined), Some(repeated), values);
    read.map(|(rows, ..)| rows).map_err(fault)
}

impl Column {
    fn new(field_type: FieldType, reader: ColumnReader) -> io::Result<Self> {
        let chunk = match (field_type.scalar(), reader) {
            (Scalar::Time | Scalar::Count | Scalar::Int, ColumnReader::Int64ColumnReader(from)) => {
                Chunk::Int64(from, Vec::new())
            }
            (Scalar::Port, ColumnReader::Int32ColumnReader(from)) => Chunk::Int32(from, Vec::new()),
            (Scalar::Interval | Scalar::Double, ColumnReader::DoubleColumnReader(from)) => {
                Chunk::Double(from, Vec::new())
            }
            (Scalar::Bool, ColumnReader::BoolColumnReader(from)) => Chunk::Bool(from, Vec::new()),
            (
                Scalar::Addr | Scalar::Subnet | Scalar::Enum | Scalar::String,
                ColumnReader::ByteArrayColumnReader(from),
            ) => Chunk::Bytes(from, Vec::new()),
            _ => return Err(invalid("its columns are not those of its header")),
        };
        let (defined, repeated) = (Vec::new(), Vec::new());
        Ok(Self { field_type, chunk, defined, repeated, level: 0, value: 0 })
    }

    /// Reads so many rows.
    fn fill(&mut self, rows: u64) -> io::Result<()> {
        (self.level, self.value) = (0, 0);
        let levels = (&mut self.defined, &mut self.repeated);
        let max = usize::try_from(rows).unwrap_or(usize::MAX);
        let read = match &mut self.chunk {
            Chunk::Int64(from, values) => read_chunk(from, max, levels, values),
            Chunk::Int32(from, values) => read_chunk(from, max, levels, values),
            Chunk::Double(from, values) => read_chunk(from, max, levels, values),
            Chunk::Bool(from, values) => read_chunk(from, max, levels, values),
            Chunk::Bytes(from, values) => read_chunk(from, max, levels, values),
        };
        if read? as u64 == rows {
            Ok(())
        } else {
            Err(invalid("a column has fewer rows than its group"))
        }
    }

    /// The next row's value; none when it is not of the column's type.
    fn give(&mut self, row: &mut TsvRow<'_>, scratch: &mut Vec<u8>) -> Option<()> {
        let first = *self.defined.get(self.level)?;
        self.level += 1;
        match (self.field_type.is_container(), first) {
            (_, 0) => row.unset(),
            (false, _) => self.give_value(row, scratch)?,
            (true, 1) => {
                row.begin(0);
                row.end();
            }
            (true, _) => {
                let more = self.repeated.get(self.level..).unwrap_or_default();
                let more = more.iter().take_while(|&&level| level > 0).count();
                row.begin(1 + more);
                self.give_element(first, row, scratch)?;
                for _ in 0..more {
                    let level = *self.defined.get(self.level)?;
                    self.level += 1;
                    self.give_element(level, row, scratch)?;
                }
                row.end();
            }
        }
        Some(())
    }

    fn give_element(
        &mut self,
        level: i16,
        row: &mut TsvRow<'_>,
        scratch: &mut Vec<u8>,
    ) -> Option<()> {
        if level == 3 {
            return self.give_value(row, scratch);
        }
        row.unset();
        Some(())
    }

    fn give_value(&mut self, row: &mut TsvRow<'_>, scratch: &mut Vec<u8>) -> Option<()> {
        let at = self.value;
        self.value += 1;
        match &self.chunk {
            Chunk::Int64(_, values) => {
                let value = *values.get(at)?;
                match self.field_type.scalar() {
                    Scalar::Time => row.time(Ts::signed(value.saturating_mul(1_000))),
                    Scalar::Count => row.count(value.cast_unsigned()),
                    _ => row.int(value),
                }
            }
            Chunk::Int32(_, values) => row.port(u16::try_from(*values.get(at)?).ok()?),
            Chunk::Double(_, values) => {
                let value = *values.get(at)?;
                if self.field_type.scalar() == Scalar::Interval {
                    row.interval(interval(value));
                } else {
                    row.double(value);
                }
            }
            Chunk::Bool(_, values) => row.bool(*values.get(at)?),
            Chunk::Bytes(_, values) => {
                let text = values.get(at)?.data();
                give_text(self.field_type.scalar(), text, row, scratch)?;
            }
        }
        Some(())
    }
}

/// An interval of so many seconds.
#[expect(clippy::cast_possible_truncation, reason = "what no interval can be becomes the nearest")]
fn interval(seconds: f64) -> Interval {
    Interval((seconds * NANOS).round() as i64)
}

fn give_text(
    scalar: Scalar,
    text: &[u8],
    row: &mut TsvRow<'_>,
    scratch: &mut Vec<u8>,
) -> Option<()> {
    let parsed = || std::str::from_utf8(text).ok();
    match scalar {
        Scalar::Addr => row.addr(parsed()?.parse().ok()?),
        Scalar::Subnet => {
            let (net, bits) = parsed()?.split_once('/')?;
            row.subnet(net.parse().ok()?, bits.parse().ok()?);
        }
        _ => {
            bytes_of(text, scratch);
            row.string(scratch);
        }
    }
    Some(())
}

impl Length for FilePart {
    fn len(&self) -> u64 {
        self.size().unwrap_or(0)
    }
}

impl ChunkReader for FilePart {
    type T = io::BufReader<Self>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(io::BufReader::new(self.from(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        // A damaged file may ask for more than memory has.
        let left = self.size()?.saturating_sub(start);
        if length as u64 > left {
            let told = format!("{length} bytes expected at {start}, found {left}");
            return Err(ParquetError::EOF(told));
        }
        let mut bytes = vec![0; length];
        self.from(start).read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}
