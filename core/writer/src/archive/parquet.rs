//! Finished logs as Parquet files, for what reads columns: Spark, DuckDB, pyarrow. A
//! tab-separated file in, whose header tells the columns; a Parquet file out, zstd inside.
//!
//! | Zeek | Parquet |
//! |---|---|
//! | time | INT64, TIMESTAMP(MICROS, UTC) |
//! | interval, double | DOUBLE (seconds) |
//! | count | INT64, INTEGER(64, unsigned) |
//! | port | INT32, INTEGER(16, unsigned) |
//! | int | INT64 |
//! | bool | BOOLEAN |
//! | string, enum, addr, subnet | BYTE_ARRAY, STRING |
//! | set, vector | LIST of these |
//!
//! Each column is optional: what is `-` in the text is null. Bytes that are no UTF-8 stand as
//! `\xNN`, as in the text, and a backslash that would read as the beginning of such a byte as
//! `\x5c`. Rows are gathered into groups, and a group is all that is in memory.
//!
//! Zeek's types are more than Parquet's, so the log's header goes along as metadata: with it, the
//! lines come back as they were (`core/reader`).

use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::net::IpAddr;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};
use tyto_core::record::FieldSink;
use tyto_core::record::line::{LineFormat, LineReader, schema_of_header};
use tyto_core::record::schema::{FieldType, Scalar, Schema, SchemaField};
use tyto_core::time::{Interval, Ts};

pub use super::printable::bytes_of;
use super::printable::printable;

/// Rows of a group at most.
const GROUP_ROWS_MAX: usize = 100_000;

/// Bytes of text that a group is made of at most; in memory it is some three times as large.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// Longest header, bytes.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Key of the metadata that has the log's header.
pub const HEADER_KEY: &str = "tyto.header";

/// Key of the metadata that has the logger and the name of the finished file that the rows came
/// from, `LOGGER/conn-OPENED-CLOSED.log`.
pub const SOURCE_KEY: &str = "tyto.source";

/// Writes the log `input` as a Parquet file; `source` is what stands at [`SOURCE_KEY`].
///
/// # Errors
/// `InvalidData` when the input is not a whole tab-separated log; else what the disk says.
pub(super) fn write(
    input: &mut impl BufRead,
    output: &mut (impl Write + Send),
    source: String,
) -> io::Result<()> {
    let mut line = Vec::new();
    let (header, schema) = read_header(input, &mut line)?;
    let columns: Vec<TypePtr> = schema.fields.iter().map(column_type).collect::<Result<_, _>>()?;
    let root = Type::group_type_builder(&schema.stream).with_fields(columns).build();
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let notes = [(HEADER_KEY, header), (SOURCE_KEY, source)];
    let notes = notes.map(|(key, value)| KeyValue::new(key.to_owned(), value));
    let properties = WriterProperties::builder()
        .set_compression(zstd)
        .set_key_value_metadata(Some(notes.into()))
        .build();
    let mut file =
        SerializedFileWriter::new(output, Arc::new(root.map_err(invalid)?), Arc::new(properties))
            .map_err(invalid)?;
    let mut group = Group::new(&schema);
    let mut reader = LineReader::new(schema, LineFormat::Tsv);
    while !line.is_empty() {
        if line.first() != Some(&b'#') {
            group.begin_row(line.len());
            reader.replay(&line, &mut group).map_err(invalid)?;
            if group.is_full() {
                group.write(&mut file)?;
            }
        }
        line.clear();
        input.read_until(b'\n', &mut line)?;
    }
    group.write(&mut file)?;
    file.close().map_err(invalid).map(|_| ())
}

/// Reads the lines before the first row, and leaves that one in `line`.
fn read_header(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<(String, Schema)> {
    let mut header = String::new();
    loop {
        line.clear();
        input.read_until(b'\n', line)?;
        if line.first() != Some(&b'#') || line.starts_with(b"#close") {
            break;
        }
        header.push_str(std::str::from_utf8(line).map_err(invalid)?);
        if header.len() > HEADER_BYTES_MAX {
            return Err(invalid("the header is too long"));
        }
    }
    let schema = schema_of_header(&header).ok_or_else(|| invalid("the header is not whole"))?;
    Ok((header, schema))
}

/// The disk's own faults keep their kind; all others are those of the file.
fn invalid(error: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn disk_or_invalid(error: parquet::errors::ParquetError) -> io::Error {
    match error {
        parquet::errors::ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other.to_string()),
        },
        // What the writer itself refuses is the disk's doing: columns and levels are ours.
        other => io::Error::other(other.to_string()),
    }
}

const fn physical(scalar: Scalar) -> Physical {
    match scalar {
        Scalar::Time | Scalar::Count | Scalar::Int => Physical::INT64,
        Scalar::Interval | Scalar::Double => Physical::DOUBLE,
        Scalar::Port => Physical::INT32,
        Scalar::Bool => Physical::BOOLEAN,
        Scalar::Addr | Scalar::Subnet | Scalar::Enum | Scalar::String => Physical::BYTE_ARRAY,
    }
}

fn value_type(name: &str, scalar: Scalar) -> io::Result<TypePtr> {
    let logical = match scalar {
        Scalar::Time => Some(LogicalType::timestamp(true, TimeUnit::MICROS)),
        Scalar::Count => Some(LogicalType::integer(64, false)),
        Scalar::Port => Some(LogicalType::integer(16, false)),
        Scalar::Addr | Scalar::Subnet | Scalar::Enum | Scalar::String => Some(LogicalType::String),
        Scalar::Interval | Scalar::Double | Scalar::Int | Scalar::Bool => None,
    };
    let built = Type::primitive_type_builder(name, physical(scalar))
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical)
        .build();
    built.map(Arc::new).map_err(invalid)
}

fn column_type(field: &SchemaField) -> io::Result<TypePtr> {
    let scalar = field.field_type.scalar();
    if !field.field_type.is_container() {
        return value_type(&field.name, scalar);
    }
    // The three levels that the format's LogicalTypes.md asks for.
    let list = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![value_type("element", scalar)?])
        .build();
    let column = Type::group_type_builder(&field.name)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(list.map_err(invalid)?)])
        .build();
    column.map(Arc::new).map_err(invalid)
}

/// Values of a column, without the unset ones.
#[derive(Debug)]
enum Values {
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Double(Vec<f64>),
    Bool(Vec<bool>),
    Bytes(Vec<ByteArray>),
}

#[derive(Debug)]
struct Column {
    values: Values,
    /// Definition levels: of a single value 0 unset, 1 set; of a list 0 unset, 1 empty, 2 with
    /// an unset element, 3 with a set one.
    defined: Vec<i16>,
    /// Repetition levels, of lists only: 0 begins a row.
    repeated: Option<Vec<i16>>,
}

/// Rows that are not written yet, by column.
#[derive(Debug)]
struct Group {
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
    /// The column that comes next.
    at: usize,
    /// Values seen of the list that is being read.
    inside: Option<usize>,
}

impl Column {
    fn new(field_type: FieldType) -> Self {
        let values = match physical(field_type.scalar()) {
            Physical::INT64 => Values::Int64(Vec::new()),
            Physical::INT32 => Values::Int32(Vec::new()),
            Physical::DOUBLE => Values::Double(Vec::new()),
            Physical::BOOLEAN => Values::Bool(Vec::new()),
            _ => Values::Bytes(Vec::new()),
        };
        let repeated = field_type.is_container().then(Vec::new);
        Self { values, defined: Vec::new(), repeated }
    }

    /// Writes the column and forgets it.
    fn write(&mut self, to: &mut SerializedColumnWriter<'_>) -> parquet::errors::Result<()> {
        let (defined, repeated) = (Some(self.defined.as_slice()), self.repeated.as_deref());
        match &mut self.values {
            Values::Int64(values) => {
                to.typed::<Int64Type>().write_batch(values, defined, repeated)?;
                values.clear();
            }
            Values::Int32(values) => {
                to.typed::<Int32Type>().write_batch(values, defined, repeated)?;
                values.clear();
            }
            Values::Double(values) => {
                to.typed::<DoubleType>().write_batch(values, defined, repeated)?;
                values.clear();
            }
            Values::Bool(values) => {
                to.typed::<BoolType>().write_batch(values, defined, repeated)?;
                values.clear();
            }
            Values::Bytes(values) => {
                to.typed::<ByteArrayType>().write_batch(values, defined, repeated)?;
                values.clear();
            }
        }
        self.defined.clear();
        self.repeated.iter_mut().for_each(Vec::clear);
        Ok(())
    }
}

impl Group {
    fn new(schema: &Schema) -> Self {
        let columns = schema.fields.iter().map(|field| Column::new(field.field_type)).collect();
        Self { columns, rows: 0, bytes: 0, at: 0, inside: None }
    }

    const fn begin_row(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
        self.at = 0;
        self.inside = None;
    }

    const fn is_full(&self) -> bool {
        self.rows >= GROUP_ROWS_MAX || self.bytes >= GROUP_BYTES_MAX
    }

    fn write<W: Write + Send>(&mut self, file: &mut SerializedFileWriter<W>) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = file.next_row_group().map_err(disk_or_invalid)?;
        for column in &mut self.columns {
            let writer = group.next_column().map_err(disk_or_invalid)?;
            let Some(mut writer) = writer else { return Err(invalid("too many columns")) };
            column.write(&mut writer).and_then(|()| writer.close()).map_err(disk_or_invalid)?;
        }
        group.close().map_err(disk_or_invalid)?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }

    /// The levels of the next value, and where it goes.
    fn next(&mut self, is_set: bool) -> Option<&mut Values> {
        let column = self.columns.get_mut(self.at)?;
        match (&mut self.inside, &mut column.repeated) {
            (Some(seen), Some(repeated)) => {
                repeated.push(i16::from(*seen > 0));
                column.defined.push(2 + i16::from(is_set));
                *seen += 1;
            }
            (_, repeated) => {
                repeated.iter_mut().for_each(|levels| levels.push(0));
                column.defined.push(i16::from(is_set));
                self.at += 1;
            }
        }
        Some(&mut column.values)
    }

    fn int64(&mut self, value: i64) {
        if let Some(Values::Int64(values)) = self.next(true) {
            values.push(value);
        }
    }

    fn float(&mut self, value: f64) {
        if let Some(Values::Double(values)) = self.next(true) {
            values.push(value);
        }
    }

    fn text(&mut self, value: String) {
        if let Some(Values::Bytes(values)) = self.next(true) {
            values.push(value.into_bytes().into());
        }
    }
}

impl FieldSink for Group {
    fn unset(&mut self) {
        self.next(false);
    }

    fn time(&mut self, value: Ts) {
        self.int64(value.nanos_signed().div_euclid(1_000));
    }

    fn interval(&mut self, value: Interval) {
        self.float(value.0 as f64 / 1e9);
    }

    fn addr(&mut self, value: IpAddr) {
        self.text(value.to_string());
    }

    fn port(&mut self, value: u16) {
        if let Some(Values::Int32(values)) = self.next(true) {
            values.push(value.into());
        }
    }

    fn subnet(&mut self, net: IpAddr, prefix_len: u8) {
        self.text(format!("{net}/{prefix_len}"));
    }

    fn count(&mut self, value: u64) {
        // INTEGER(64, unsigned) has the same bits.
        self.int64(value.cast_signed());
    }

    fn int(&mut self, value: i64) {
        self.int64(value);
    }

    fn double(&mut self, value: f64) {
        self.float(value);
    }

    fn bool(&mut self, value: bool) {
        if let Some(Values::Bool(values)) = self.next(true) {
            values.push(value);
        }
    }

    fn string(&mut self, value: &[u8]) {
        self.text(printable(value));
    }

    fn begin(&mut self, len: usize) {
        self.inside = Some(0);
        if len == 0
            && let Some(column) = self.columns.get_mut(self.at)
        {
            column.defined.push(1);
            column.repeated.iter_mut().for_each(|levels| levels.push(0));
        }
    }

    fn end(&mut self) {
        self.inside = None;
        self.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    const HEADER: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n\
                          #unset_field\t-\n#path\tx\n#open\t2026-11-22-00-00-00\n";

    fn log(fields: &str, types: &str, rows: &str) -> String {
        format!("{HEADER}#fields\t{fields}\n#types\t{types}\n{rows}#close\t2026-11-22-01-00-00\n")
    }

    fn parquet(text: &str) -> io::Result<SerializedFileReader<Bytes>> {
        let mut out = Vec::new();
        write(&mut text.as_bytes(), &mut out, "logger/x-1-2.log".into())?;
        SerializedFileReader::new(Bytes::from(out)).map_err(invalid)
    }

    fn rows(reader: &SerializedFileReader<Bytes>) -> Vec<String> {
        reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect()
    }

    /// Read back by the library's own reader.
    #[test]
    fn values_come_back_as_their_types() {
        let fields = "ts\tid.orig_h\tid.resp_p\tn\tdelta\tok\tname\tipts\ttags\toff";
        let types = "time\taddr\tport\tcount\tinterval\tbool\tstring\tvector[interval]\t\
                     set[string]\tint";
        let text = "1.500000\t::1\t443\t18446744073709551615\t0.250000\tT\ta\\x09b\t1.0,-,2.0\t\
                    (empty)\t-3\n-\t-\t-\t-\t-\t-\t\\xff\t-\tx\t-\n";
        let reader = parquet(&log(fields, types, text)).unwrap();
        assert_eq!(
            rows(&reader),
            [
                "{ts: 1970-01-01 00:00:01.500000 +00:00, id.orig_h: \"::1\", id.resp_p: 443, \
                 n: 18446744073709551615, delta: 0.25, ok: true, name: \"a\tb\", \
                 ipts: [1.0, null, 2.0], tags: [], off: -3}",
                "{ts: null, id.orig_h: null, id.resp_p: null, n: null, delta: null, ok: null, \
                 name: \"\\xff\", ipts: null, tags: [\"x\"], off: null}",
            ]
        );
    }

    #[test]
    fn rows_are_parted_into_groups() {
        let text: String = (0..GROUP_ROWS_MAX + 5).map(|n| format!("{n}\n")).collect();
        let reader = parquet(&log("n", "count", &text)).unwrap();
        let groups = reader.metadata().row_groups();
        let counts: Vec<i64> = groups.iter().map(|group| group.num_rows()).collect();
        assert_eq!(counts, [i64::try_from(GROUP_ROWS_MAX).unwrap(), 5]);
        assert_eq!(rows(&reader).len(), GROUP_ROWS_MAX + 5);
    }

    #[test]
    fn a_log_without_rows_is_a_table_without_rows() {
        let reader = parquet(&log("n", "count", "")).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        for text in ["", "{}\n", "#separator \\x09\n", &log("n", "count", "1\t2\n")] {
            let error = parquet(text).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
    }
}
