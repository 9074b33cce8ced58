//! Log records: a stream is declared once, as a struct with `#[derive(LogRecord)]` beside the
//! code that writes it. Header, TSV, JSON and wire encoding come from that declaration.
//!
//! ```text
//! struct ConnLog ──LogRecord::write──▶ impl FieldSink
//!                                       ├─ wire::RowEncoder ──▶ bytes in a batch
//!                                       ├─ tsv::TsvRow      ──▶ a line of conn.log
//!                                       └─ json::JsonRow    ──▶ a line of JSON
//! bytes in a batch ──wire::replay(schema)──▶ impl FieldSink (the same ones, at the logger)
//! ```

pub mod condition;
pub mod json;
pub mod line;
pub mod print;
pub mod schema;
pub mod sink;
pub mod tsv;
pub mod value;
pub mod wire;

pub use sink::FieldSink;
pub use tyto_derive::LogRecord;

/// A row of one log stream.
pub trait LogRecord {
    /// Name of the stream, which is the name of its file: `conn`. Empty for a record that
    /// is only ever part of another.
    const STREAM: &'static str;
    /// How many columns it has.
    const WIDTH: usize;

    /// Appends this record's columns in order, each name behind `prefix`.
    fn columns(prefix: &str, fields: &mut Vec<schema::SchemaField>);

    /// Writes each column in order.
    fn write(&self, sink: &mut impl FieldSink);

    /// The stream's schema.
    fn schema() -> schema::Schema
    where
        Self: Sized,
    {
        let mut fields = Vec::new();
        Self::columns("", &mut fields);
        schema::Schema { stream: Self::STREAM.into(), fields }
    }
}

/// A nested record that may be missing: its columns are unset then.
impl<R: LogRecord> LogRecord for Option<R> {
    const STREAM: &'static str = R::STREAM;
    const WIDTH: usize = R::WIDTH;

    fn columns(prefix: &str, fields: &mut Vec<schema::SchemaField>) {
        R::columns(prefix, fields);
    }

    fn write(&self, sink: &mut impl FieldSink) {
        match self {
            Some(record) => record.write(sink),
            None => (0..Self::WIDTH).for_each(|_| sink.unset()),
        }
    }
}
