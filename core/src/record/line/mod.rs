//! Lines of log files back into columns: what [`TsvRow`](super::tsv::TsvRow) and
//! [`JsonRow`](super::json::JsonRow) wrote goes into any [`FieldSink`], so that conditions,
//! choice of fields and the other format work on files as they do on rows of the wire.
//!
//! Not what was written comes back, but what was printed: times in microseconds, doubles with
//! six decimals, and from JSON no bytes that are not UTF-8.

mod json;
mod scalar;
mod tsv;

pub use self::scalar::time;

use std::ops::Range;

use super::FieldSink;
use super::schema::{Schema, SchemaField};

/// How a file's lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// Zeek's TSV.
    Tsv,
    /// One JSON object per line.
    Json,
}

/// Why a line is no row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// More or fewer columns than the header says.
    #[error("line has {found} columns; expected {expected}")]
    Columns {
        /// Columns of the line.
        found: usize,
        /// Columns of the schema.
        expected: usize,
    },
    /// The value of a column is not of its type.
    #[error("`{field}` is not {expected}")]
    Value {
        /// Name of the column.
        field: String,
        /// Its type.
        expected: String,
    },
    /// The line is no JSON object.
    #[error("line is no JSON object (byte {at})")]
    Json {
        /// Where, from 0.
        at: usize,
    },
}

/// Reads lines of one file, whose columns are known. Keeps its memory from line to line.
#[derive(Clone, Debug)]
pub struct LineReader {
    schema: Schema,
    format: LineFormat,
    /// Which columns are read; the others come as unset.
    wanted: Box<[bool]>,
    /// Where each column's value stands in a JSON line; empty when it is not there.
    values: Vec<Range<usize>>,
    scratch: Vec<u8>,
}

impl LineReader {
    /// For lines of `schema`; all columns are read.
    pub fn new(schema: Schema, format: LineFormat) -> Self {
        let wanted = vec![true; schema.fields.len()].into();
        Self { schema, format, wanted, values: Vec::new(), scratch: Vec::new() }
    }

    /// Reads these columns only. The others come as unset, and cost next to nothing.
    #[must_use]
    pub fn only(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.wanted.fill(false);
        for column in columns {
            if let Some(wanted) = self.wanted.get_mut(column) {
                *wanted = true;
            }
        }
        self
    }

    /// The columns.
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Hands the columns of `line`, with or without its newline, to `sink`.
    ///
    /// # Errors
    /// When the line is no row of the schema; the sink then holds a part of it.
    pub fn replay(&mut self, line: &[u8], sink: &mut impl FieldSink) -> Result<(), LineError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        match self.format {
            LineFormat::Tsv => self.replay_tsv(line, sink),
            LineFormat::Json => self.replay_json(line, sink),
        }
    }
}

/// The columns that the header of a TSV file tells, from its lines before the first row. None
/// when `#path`, `#fields` or `#types` is not there or they contradict each other.
pub fn schema_of_header(header: &str) -> Option<Schema> {
    let value =
        |key: &str| header.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('\t'));
    let stream = value("#path")?.to_owned().into();
    let (names, types) = (value("#fields")?.split('\t'), value("#types")?.split('\t'));
    if names.clone().count() != types.clone().count() {
        return None;
    }
    let field = |(name, field_type): (&str, &str)| {
        let field_type = field_type.parse().ok()?;
        Some(SchemaField { name: name.to_owned().into(), field_type, doc: "".into() })
    };
    Some(Schema { stream, fields: names.zip(types).map(field).collect::<Option<_>>()? })
}

fn bad_value(field: &SchemaField) -> LineError {
    LineError::Value { field: field.name.to_string(), expected: field.field_type.to_string() }
}
