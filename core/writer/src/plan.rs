//! What becomes of the rows of one schema, by the configuration of its log stream: which of them
//! are written, which of their columns, and into which files.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use tyto_core::config::logs::{
    JsonTimestamps, LogFormat, LogFormats, LogsConfig, Parquet, StreamLogs,
};
use tyto_core::record::FieldSink;
use tyto_core::record::condition::{Condition, Matcher};
use tyto_core::record::json::JsonRow;
use tyto_core::record::schema::Schema;
use tyto_core::record::tsv::TsvRow;
use tyto_core::record::wire::{self, WireError};
use tyto_core::time::{Interval, NANOS, Ts};

use crate::file::BadRows;

/// What is done with rows.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Columns as they come.
    pub(crate) schema: Arc<Schema>,
    /// Columns as they are written.
    pub(crate) written: Schema,
    /// Which of them are written; none: all.
    chosen: Option<Vec<bool>>,
    /// Which rows are written; none: all.
    matcher: Option<Matcher>,
    json_timestamps: JsonTimestamps,
    /// The stream's own file first; none when its rows are not written.
    pub(crate) outputs: Vec<Output>,
}

/// A file that takes rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) format: LogFormat,
    /// End of its name.
    pub(crate) end: &'static str,
    /// Changes with anything that rows of one file have in common.
    pub(crate) fingerprint: u64,
}

/// Rows of a batch that are written.
#[derive(Debug)]
pub(crate) struct Selected<'a> {
    payload: Cow<'a, [u8]>,
    /// Rows at its beginning that are not meant.
    skip: u64,
    /// Rows behind them.
    pub(crate) count: u64,
}

/// Name ends of the files of a stream; those with a word in it stand beside the stream's own.
const OWN: &str = ".log";
const JSON: &str = ".json.log";
const TSV: &str = ".tsv.log";

/// End of the name of a stream's file.
pub(crate) fn end_of(file: &str) -> &'static str {
    [JSON, TSV].into_iter().find(|end| file.ends_with(end)).unwrap_or(OWN)
}

impl Plan {
    /// The plan for a schema. What its configuration says of columns that it does not have is
    /// told, once.
    pub(crate) fn new(schema: Arc<Schema>, config: &LogsConfig) -> Self {
        let own = config.streams.get(&*schema.stream).cloned().unwrap_or_default();
        let chosen = chosen(&schema, &own);
        let fields = schema.fields.iter().enumerate();
        let fields = fields
            .filter(|(n, _)| chosen.as_ref().is_none_or(|chosen| chosen.get(*n) == Some(&true)))
            .map(|(_, field)| field.clone());
        let written = Schema { stream: schema.stream.clone(), fields: fields.collect() };
        let json_timestamps = config.json_timestamps;
        let outputs = match own.write {
            Some(false) => Vec::new(),
            _ => outputs(&written, config, &own),
        };
        let matcher = matcher(&schema, &own);
        Self { schema, written, chosen, matcher, json_timestamps, outputs }
    }

    /// Chooses those rows behind the first `skip` of a batch that are written.
    ///
    /// # Errors
    /// When the payload is not `rows` rows, or a condition cannot be asked of one.
    pub(crate) fn select<'a>(
        &self,
        payload: &'a [u8],
        rows: u32,
        skip: u64,
    ) -> Result<Selected<'a>, BadRows> {
        let expected = u64::from(rows).saturating_sub(skip);
        let Some(matcher) = &self.matcher else {
            // Counted when they are printed.
            if self.outputs.is_empty() && wire::rows(payload).count() as u64 != u64::from(rows) {
                return Err(BadRows::Count);
            }
            return Ok(Selected { payload: payload.into(), skip, count: expected });
        };
        let (mut seen, mut count, mut chosen) = (0, 0, Vec::new());
        for row in wire::rows(payload) {
            let row = row?;
            seen += 1;
            if seen > skip && matcher.is_match(row)? {
                count += 1;
                let len = u32::try_from(row.len()).unwrap_or(u32::MAX);
                chosen.extend_from_slice(&len.to_le_bytes());
                chosen.extend_from_slice(row);
            }
        }
        if seen != u64::from(rows) {
            return Err(BadRows::Count);
        }
        Ok(Selected { payload: chosen.into(), skip: 0, count })
    }

    /// Appends rows as lines of `format`. Returns how many.
    ///
    /// # Errors
    /// When they are not rows of the schema; a part of them may have been appended.
    pub(crate) fn print(
        &self,
        out: &mut Vec<u8>,
        format: LogFormat,
        rows: &Selected<'_>,
    ) -> Result<u64, WireError> {
        let mut seen = 0_u64;
        for row in wire::rows(&rows.payload) {
            let row = row?;
            seen += 1;
            if seen <= rows.skip {
                continue;
            }
            match format {
                LogFormat::Tsv => {
                    let mut line = TsvRow::new(out);
                    self.replay(row, &mut line)?;
                    line.end_row();
                }
                LogFormat::Json => {
                    let mut line = JsonRow::with_times(&self.written, out, self.json_timestamps);
                    self.replay(row, &mut line)?;
                    line.end_row();
                }
            }
        }
        Ok(seen.saturating_sub(rows.skip))
    }

    fn replay(&self, row: &[u8], line: &mut impl FieldSink) -> Result<(), WireError> {
        match &self.chosen {
            None => wire::replay(&self.schema, row, line),
            Some(chosen) => {
                let mut sink = ChosenColumns { chosen, column: 0, is_inside: false, line };
                wire::replay(&self.schema, row, &mut sink)
            }
        }
    }
}

fn outputs(written: &Schema, config: &LogsConfig, own: &StreamLogs) -> Vec<Output> {
    let formats = own.format.unwrap_or(config.format);
    let ends: &[(LogFormat, &'static str)] = match (formats, own.parquet.unwrap_or(config.parquet))
    {
        (LogFormats::Both, Parquet::Off | Parquet::Also) => {
            &[(LogFormat::Tsv, OWN), (LogFormat::Json, JSON)]
        }
        // Parquet files are made of the tab-separated file, which has the types in its header.
        (LogFormats::Json, Parquet::Also) => &[(LogFormat::Json, OWN), (LogFormat::Tsv, TSV)],
        (LogFormats::Json, Parquet::Off) => &[(LogFormat::Json, OWN)],
        (LogFormats::Tsv, _) | (_, Parquet::Only) => &[(LogFormat::Tsv, OWN)],
    };
    let output = |&(format, end)| {
        let style = match (format, config.json_timestamps) {
            (LogFormat::Tsv, _) => 0,
            (LogFormat::Json, JsonTimestamps::Epoch) => 1,
            (LogFormat::Json, JsonTimestamps::Millis) => 2,
            (LogFormat::Json, JsonTimestamps::MillisUnsigned) => 3,
            (LogFormat::Json, JsonTimestamps::Iso8601) => 4,
        };
        // Odd, so that no two styles share one.
        let fingerprint = written.fingerprint() ^ u64::wrapping_mul(style, 0x9e37_79b9_7f4a_7c15);
        Output { format, end, fingerprint }
    };
    ends.iter().map(output).collect()
}

/// Which columns are written; none: all.
fn chosen(schema: &Schema, own: &StreamLogs) -> Option<Vec<bool>> {
    let (names, is_listed) = match (&own.fields, &own.exclude_fields) {
        (Some(names), _) => (names, true),
        (None, Some(names)) => (names, false),
        (None, None) => return None,
    };
    let stream = &schema.stream;
    for name in names {
        if !schema.fields.iter().any(|field| field.name == *name) {
            tracing::warn!(%stream, column = name, "tyto.yaml names a column that is not there");
        }
    }
    let has = |name: &str| names.iter().any(|listed| listed == name);
    let chosen: Vec<bool> =
        schema.fields.iter().map(|field| has(&field.name) == is_listed).collect();
    if !chosen.contains(&true) {
        tracing::error!(%stream, "tyto.yaml leaves no column; all are written");
        return None;
    }
    Some(chosen)
}

/// Which rows are written; none: all. A condition that does not fit the columns, which only the
/// producer knows, keeps nothing out: rather too many rows than too few.
fn matcher(schema: &Schema, own: &StreamLogs) -> Option<Matcher> {
    let text = own.condition.as_deref()?;
    let bound = Condition::parse(text).and_then(|condition| condition.bind(schema));
    bound
        .inspect_err(|error| {
            let stream = &schema.stream;
            tracing::error!(%stream, condition = text, %error, "`where` of tyto.yaml not used");
        })
        .ok()
}

/// Seconds between rotations of a stream, as nanoseconds; none: never.
pub(crate) fn rotation_interval_ns(config: &LogsConfig, stream: &str) -> Option<u64> {
    let own = config.streams.get(stream).and_then(|stream| stream.rotation_interval_s);
    let interval_ns = own.unwrap_or(config.rotation_interval_s).checked_mul(NANOS)?;
    (interval_ns > 0).then_some(interval_ns)
}

/// Hands on the columns that are chosen.
struct ChosenColumns<'a, S> {
    chosen: &'a [bool],
    column: usize,
    /// In a container.
    is_inside: bool,
    line: &'a mut S,
}

impl<S: FieldSink> ChosenColumns<'_, S> {
    /// The sink for the next value; none when its column is left out.
    fn next(&mut self) -> Option<&mut S> {
        let is_chosen = self.chosen.get(self.column) == Some(&true);
        if !self.is_inside {
            self.column += 1;
        }
        is_chosen.then_some(&mut *self.line)
    }
}

macro_rules! hand_on {
    ($($method:ident($($value:ident: $type:ty),*);)*) => {$(
        fn $method(&mut self, $($value: $type),*) {
            if let Some(line) = self.next() {
                line.$method($($value),*);
            }
        }
    )*};
}

impl<S: FieldSink> FieldSink for ChosenColumns<'_, S> {
    hand_on! {
        unset();
        time(value: Ts);
        interval(value: Interval);
        addr(value: IpAddr);
        port(value: u16);
        subnet(net: IpAddr, prefix_len: u8);
        count(value: u64);
        int(value: i64);
        double(value: f64);
        bool(value: bool);
        string(value: &[u8]);
    }

    fn begin(&mut self, len: usize) {
        self.is_inside = true;
        if let Some(line) = self.next() {
            line.begin(len);
        }
    }

    fn end(&mut self) {
        if let Some(line) = self.next() {
            line.end();
        }
        self.is_inside = false;
        self.column += 1;
    }
}
