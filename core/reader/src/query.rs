//! Which rows of a log stream are wanted, which of their fields, and how they are to be written.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tyto_core::layout::Layout;
use tyto_core::record::FieldSink;
use tyto_core::record::condition::{Condition, ConditionError, Matcher};
use tyto_core::record::json::JsonRow;
use tyto_core::record::line::{LineFormat, LineReader};
use tyto_core::record::schema::Schema;
use tyto_core::time::{Interval, Ts};
use tyto_writer::{index, schemas};

use crate::error::ReadError;
use crate::files;
use crate::input::Heading;

/// What is wanted of a log stream.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The stream.
    pub stream: String,
    /// First time, microseconds since the Unix epoch.
    pub since_us: Option<i64>,
    /// Time behind the last.
    pub until_us: Option<i64>,
    /// What has to hold of a row.
    pub condition: Option<Condition>,
    /// Fields in the order in which they are wanted; all when empty.
    pub fields: Vec<String>,
    /// Rows of TSV files become JSON. Rows of JSON files stay what they are.
    pub json: bool,
}

/// A query of lines that share their columns.
#[derive(Debug)]
pub struct LineQuery {
    since_us: i64,
    until_us: i64,
    tester: Option<(LineReader, Matcher)>,
    shape: Shape,
    /// Names and types of what comes out, as the header of TSV; none for JSON.
    header: Option<Arc<str>>,
    path: PathBuf,
}

/// How a line becomes what is wanted.
#[derive(Debug)]
enum Shape {
    AsItIs,
    /// These columns of a TSV line.
    Columns(Vec<usize>),
    /// These columns of a JSON line, with their names.
    Members(LineReader, Vec<usize>),
    /// A JSON object of these columns of a TSV line.
    Json {
        reader: LineReader,
        schema: Schema,
        wanted: Vec<bool>,
    },
}

impl Query {
    /// For lines of a file with this heading. `known` are columns the stream has or had: JSON
    /// lines do not tell theirs. None when the file has no rows yet.
    ///
    /// # Errors
    /// When the condition or the fields do not fit the columns.
    pub fn of_lines(
        &self,
        path: PathBuf,
        heading: Heading,
        known: &[Schema],
    ) -> Result<LineQuery, ReadError> {
        let Heading { format, schema } = heading;
        let schema = schema.unwrap_or_else(|| union(&self.stream, known));
        let tester = match &self.condition {
            Some(condition) => {
                let matcher = condition.bind(&schema)?;
                let reader = LineReader::new(schema.clone(), format).only(matcher.columns());
                Some((reader, matcher))
            }
            None => None,
        };
        let columns = self.columns(&schema)?;
        let is_json = format == LineFormat::Json;
        let header = (!is_json && !self.json).then(|| header(&schema, &columns));
        let shape = match (format, self.json, self.fields.is_empty()) {
            (LineFormat::Json, _, true) | (LineFormat::Tsv, false, true) => Shape::AsItIs,
            (LineFormat::Tsv, false, false) => Shape::Columns(columns),
            (LineFormat::Json, _, false) => {
                let reader = LineReader::new(schema, format);
                Shape::Members(reader, columns)
            }
            (LineFormat::Tsv, true, _) => {
                let reader = LineReader::new(schema.clone(), format).only(columns.iter().copied());
                let wanted = (0..schema.fields.len()).map(|at| columns.contains(&at)).collect();
                let fields = schema.fields.iter().enumerate();
                let fields = fields.filter(|(at, _)| columns.contains(at)).map(|(_, f)| f.clone());
                let schema = Schema { stream: schema.stream.clone(), fields: fields.collect() };
                Shape::Json { reader, schema, wanted }
            }
        };
        let (since_us, until_us) =
            (self.since_us.unwrap_or(i64::MIN), self.until_us.unwrap_or(i64::MAX));
        Ok(LineQuery { since_us, until_us, tester, shape, header, path })
    }

    /// Whether a file with rows of these times can have some that are wanted.
    pub fn may_have(&self, (oldest_us, newest_us): (i64, i64)) -> bool {
        self.since_us.is_none_or(|since| newest_us >= since)
            && self.until_us.is_none_or(|until| oldest_us < until)
    }

    fn columns(&self, schema: &Schema) -> Result<Vec<usize>, ReadError> {
        if self.fields.is_empty() {
            return Ok((0..schema.fields.len()).collect());
        }
        let find = |name: &String| {
            let at = schema.fields.iter().position(|field| field.name == **name);
            at.ok_or_else(|| unknown_field(name, schema).into())
        };
        self.fields.iter().map(find).collect()
    }
}

/// As a condition tells of a field that is not there.
fn unknown_field(name: &str, schema: &Schema) -> ConditionError {
    let test = Condition::parse(&format!("?{name}")).and_then(|test| test.bind(schema));
    match test {
        Err(error) => error,
        // Cannot be: the field is not there. The message would be odd, not wrong.
        Ok(_) => ConditionError::unknown_field(name),
    }
}

impl LineQuery {
    /// Header of what comes out.
    pub const fn header(&self) -> Option<&Arc<str>> {
        self.header.as_ref()
    }

    /// Appends the row of `line`, with a newline, to `out` and returns its time in microseconds;
    /// none when it is not wanted or no row.
    ///
    /// # Errors
    /// When the line is no row of its file.
    pub fn take(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Option<i64>, ReadError> {
        if line.starts_with(b"#") || line.len() < 2 {
            return Ok(None);
        }
        let at = index::time_of(line).unwrap_or(0);
        if at < self.since_us || at >= self.until_us {
            return Ok(None);
        }
        let fail = |source| ReadError::Line { path: self.path.clone(), source };
        if let Some((reader, matcher)) = &mut self.tester {
            let mut answers = matcher.answers();
            reader.replay(line, &mut answers).map_err(fail)?;
            if !answers.is_match() {
                return Ok(None);
            }
        }
        match &mut self.shape {
            Shape::AsItIs => out.extend_from_slice(line),
            Shape::Columns(columns) => cut(line, columns, out),
            Shape::Members(reader, columns) => {
                reader.members(line, columns, out).map_err(fail)?;
                out.push(b'\n');
            }
            Shape::Json { reader, schema, wanted } => {
                let mut row = JsonRow::new(schema, out);
                let mut select = Select { into: &mut row, wanted, column: 0, depth: false };
                reader.replay(line, &mut select).map_err(fail)?;
                row.end_row();
            }
        }
        Ok(Some(at))
    }
}

/// The columns of a TSV line in this order.
fn cut(line: &[u8], columns: &[usize], out: &mut Vec<u8>) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    for (nth, &column) in columns.iter().enumerate() {
        if nth > 0 {
            out.push(b'\t');
        }
        let text = line.split(|&byte| byte == b'\t').nth(column).unwrap_or(b"-");
        out.extend_from_slice(text);
    }
    out.push(b'\n');
}

/// `#fields` and `#types`.
fn header(schema: &Schema, columns: &[usize]) -> Arc<str> {
    let fields = || columns.iter().filter_map(|&at| schema.fields.get(at));
    let mut text = String::from("#fields");
    fields().for_each(|field| text.push_str(&format!("\t{}", field.name)));
    text.push_str("\n#types");
    fields().for_each(|field| text.push_str(&format!("\t{}", field.field_type)));
    text.push('\n');
    text.into()
}

/// Columns that loggers of this host took for the stream, latest first.
///
/// # Errors
/// When they cannot be read.
pub fn known_schemas(layout: &Layout, stream: &str) -> Result<Vec<Schema>, ReadError> {
    let mut known = Vec::new();
    for folder in files::loggers(layout)? {
        let kept = schemas::kept(&folder, stream).map_err(|error| ReadError::io(&folder, error))?;
        known.extend(kept);
    }
    Ok(known)
}

/// All columns of all of them, each once.
pub fn union(stream: &str, known: &[Schema]) -> Schema {
    let mut all = Schema { stream: stream.to_owned().into(), fields: Vec::new() };
    for field in known.iter().flat_map(|schema| &schema.fields) {
        if !all.fields.iter().any(|found| found.name == field.name) {
            all.fields.push(field.clone());
        }
    }
    all
}

/// Lets wanted columns through.
struct Select<'a, S> {
    into: &'a mut S,
    wanted: &'a [bool],
    column: usize,
    /// Inside of a container.
    depth: bool,
}

impl<S: FieldSink> Select<'_, S> {
    fn give(&mut self, give: impl FnOnce(&mut S)) {
        if self.wanted.get(self.column).copied().unwrap_or(false) {
            give(self.into);
        }
        self.column += usize::from(!self.depth);
    }
}

impl<S: FieldSink> FieldSink for Select<'_, S> {
    fn unset(&mut self) {
        self.give(FieldSink::unset);
    }

    fn time(&mut self, value: Ts) {
        self.give(|sink| sink.time(value));
    }

    fn interval(&mut self, value: Interval) {
        self.give(|sink| sink.interval(value));
    }

    fn addr(&mut self, value: IpAddr) {
        self.give(|sink| sink.addr(value));
    }

    fn port(&mut self, value: u16) {
        self.give(|sink| sink.port(value));
    }

    fn subnet(&mut self, net: IpAddr, prefix_len: u8) {
        self.give(|sink| sink.subnet(net, prefix_len));
    }

    fn count(&mut self, value: u64) {
        self.give(|sink| sink.count(value));
    }

    fn int(&mut self, value: i64) {
        self.give(|sink| sink.int(value));
    }

    fn double(&mut self, value: f64) {
        self.give(|sink| sink.double(value));
    }

    fn bool(&mut self, value: bool) {
        self.give(|sink| sink.bool(value));
    }

    fn string(&mut self, value: &[u8]) {
        self.give(|sink| sink.string(value));
    }

    fn begin(&mut self, len: usize) {
        self.depth = true;
        self.give(|sink| sink.begin(len));
    }

    fn end(&mut self) {
        self.depth = false;
        self.give(FieldSink::end);
    }
}
