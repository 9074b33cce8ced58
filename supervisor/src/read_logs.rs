//! `supervisor read-logs`: rows of a log stream from all loggers that write, or wrote, on this
//! host, for ctl. Rows are chosen here, so that only those that match travel.
//!
//! Standard output, a line each:
//!
//! | line | meaning |
//! |---|---|
//! | `F` tab names, `T` tab types | columns of the rows that follow; none for JSON |
//! | `R` microseconds tab row | a row, by its time; with `--follow` as they are written |
//! | `W` text | a file could not be read; the others were |
//! | `D` text | rows that are in no log file yet: batches in doubt |
//! | `Q` text, `H` hint | the query does not fit the columns |
//! | `K` | still at work |
//! | `E` | the end: nothing is missing but what `W` tells |

use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use jiff::tz::TimeZone;
use tyto_core::layout::Layout;
use tyto_core::record::condition::Condition;
use tyto_daemon::telemetry;
use tyto_reader::ReadError;
use tyto_reader::files;
use tyto_reader::follow::{Follower, Step};
use tyto_reader::query::{LineQuery, Query};
use tyto_reader::sort::Row;
use tyto_reader::tail::{Archive, LAST_ROWS_MAX};

/// Time between two signs of life.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two looks for new rows.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// What is to be read.
#[derive(Debug, clap::Args)]
pub(crate) struct ReadArgs {
    /// Prefix of the installation
    #[arg(long)]
    prefix: PathBuf,
    /// Log stream
    #[arg(long)]
    stream: String,
    /// First time, microseconds since 1970
    #[arg(long, allow_hyphen_values = true)]
    since_us: Option<i64>,
    /// Time behind the last, microseconds since 1970
    #[arg(long, allow_hyphen_values = true)]
    until_us: Option<i64>,
    /// Condition on rows (docs/conditions.md)
    #[arg(long = "where", allow_hyphen_values = true)]
    condition: Option<String>,
    /// Fields, with commas between
    #[arg(long, value_delimiter = ',')]
    fields: Vec<String>,
    /// Rows as JSON
    #[arg(long)]
    json: bool,
    /// Rows at most: the last ones
    #[arg(long)]
    last: Option<usize>,
    /// The last rows by their place in the files, not by their time
    #[arg(long, requires = "last")]
    written: bool,
    /// Go on with new rows until standard input ends
    #[arg(long, requires = "last")]
    follow: bool,
}

/// A logger that is followed.
struct Followed {
    folder: PathBuf,
    follower: Follower,
    /// The query for the lines of one file.
    wanted: Option<(PathBuf, LineQuery)>,
}

type Out = Arc<Mutex<Lines<BufWriter<io::Stdout>>>>;

/// What goes to ctl.
struct Lines<W> {
    to: W,
    header: Option<Arc<str>>,
}

/// Reads and prints.
///
/// # Errors
/// When files cannot be listed or nobody reads the output.
pub(crate) fn run(args: &ReadArgs) -> anyhow::Result<()> {
    let layout = Layout::new(&args.prefix);
    let query = Query {
        stream: args.stream.clone(),
        since_us: args.since_us,
        until_us: args.until_us,
        condition: args.condition.as_deref().map(Condition::parse).transpose().context("where")?,
        fields: args.fields.clone(),
        json: args.json,
    };
    let out: Out = Arc::new(Mutex::new(Lines { to: BufWriter::new(io::stdout()), header: None }));
    let last = args.last.map(|last| last.min(LAST_ROWS_MAX));
    let done = if args.follow {
        follow(&layout, &query, last.unwrap_or(0), &out)
    } else {
        read(layout, &query, last, args.written, &out)
    };
    let mut lines = out.lock().unwrap_or_else(PoisonError::into_inner);
    match done {
        Err(ReadError::Condition(error)) => {
            lines.tell('Q', &error.to_string())?;
            lines.tell('H', error.suggestion().unwrap_or_default())?;
        }
        other => {
            other?;
            lines.tell('E', "")?;
        }
    }
    lines.to.flush().context("nobody reads the rows")
}

fn read(
    layout: Layout,
    query: &Query,
    last: Option<usize>,
    is_by_place: bool,
    out: &Out,
) -> Result<(), ReadError> {
    // What has to be sorted takes its time: whoever waits hears that something happens.
    let is_done = Arc::new(AtomicBool::new(false));
    let (alive, stop) = (Arc::clone(out), Arc::clone(&is_done));
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(ALIVE_INTERVAL);
            let mut lines = alive.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.tell('K', "").and_then(|()| lines.to.flush()).is_err() {
                return;
            }
        }
    });
    let in_doubt = files::in_doubt(&layout, &query.stream)?;
    let mut archive = Archive::new(layout, TimeZone::system());
    let mut give = |row: &Row| {
        let mut lines = out.lock().unwrap_or_else(PoisonError::into_inner);
        lines.row(row.at_us, row.header.as_ref(), &row.line).map_err(ReadError::Output)
    };
    let done = match last {
        Some(last) if is_by_place => archive.last_written(query, last, &mut give),
        last => archive.rows(query, last, &mut give),
    };
    is_done.store(true, Ordering::Relaxed);
    let mut lines = out.lock().unwrap_or_else(PoisonError::into_inner);
    for fault in &archive.faults {
        lines.tell('W', &telemetry::chain(fault)).map_err(ReadError::Output)?;
    }
    for (logger, batches) in in_doubt {
        let text = format!(
            "{batches} batches of `{}` are in doubt until `{logger}` is back; copies of their rows \
             are in its folder `doubt`",
            query.stream
        );
        lines.tell('D', &text).map_err(ReadError::Output)?;
    }
    done
}

/// The last rows of each logger, then what it writes, until standard input ends.
fn follow(layout: &Layout, query: &Query, last: usize, out: &Out) -> Result<(), ReadError> {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while stdin.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        over.store(true, Ordering::Relaxed);
    });
    let mut loggers: Vec<Followed> = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        for folder in files::loggers(layout)? {
            if loggers.iter().any(|known| known.folder == folder) {
                continue;
            }
            let new = |row| Follower::new(folder.clone(), layout.logs(), query.stream.clone(), row);
            let mut counter = new(0);
            let (first, end) = (counter.first_row()?, counter.end_row()?);
            let start = end.saturating_sub(last as u64).max(first);
            let follower = new(start);
            loggers.push(Followed { folder, follower, wanted: None });
        }
        let mut is_idle = true;
        for logger in &mut loggers {
            is_idle &= !give_step(logger, query, out)?;
        }
        if is_idle {
            let mut lines = out.lock().unwrap_or_else(PoisonError::into_inner);
            lines.tell('K', "").and_then(|()| lines.to.flush()).map_err(ReadError::Output)?;
            drop(lines);
            std::thread::sleep(FOLLOW_INTERVAL);
        }
    }
    Ok(())
}

/// Prints what a logger has written; false when there was nothing.
fn give_step(logger: &mut Followed, query: &Query, out: &Out) -> Result<bool, ReadError> {
    let Followed { follower, wanted, .. } = logger;
    let mut bytes = Vec::new();
    let step = follower.step(&mut bytes)?;
    if let Step::Gone { rows, .. } = step {
        let mut lines = out.lock().unwrap_or_else(PoisonError::into_inner);
        lines.tell('W', &format!("{rows} rows expired")).map_err(ReadError::Output)?;
    }
    if !matches!(step, Step::Rows { .. }) {
        return Ok(matches!(step, Step::Gone { .. }));
    }
    if wanted.as_ref().is_none_or(|(path, _)| path != follower.path()) {
        let Some(heading) = follower.heading().cloned() else { return Ok(true) };
        let (path, known) = (follower.path().to_owned(), follower.known_schemas()?);
        *wanted = Some((path.clone(), query.of_lines(path, heading, &known)?));
    }
    let Some((_, wanted)) = wanted else { return Ok(true) };
    let (mut row, mut lines) = (Vec::new(), out.lock().unwrap_or_else(PoisonError::into_inner));
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        row.clear();
        if let Some(at) = wanted.take(line, &mut row)? {
            lines.row(at, wanted.header(), &row).map_err(ReadError::Output)?;
        }
    }
    Ok(true)
}

impl<W: Write> Lines<W> {
    fn tell(&mut self, kind: char, text: &str) -> io::Result<()> {
        writeln!(self.to, "{kind}{}", text.replace('\n', " "))
    }

    fn row(&mut self, at_us: i64, header: Option<&Arc<str>>, line: &[u8]) -> io::Result<()> {
        if header != self.header.as_ref() {
            self.header = header.cloned();
            let text = header.map_or("", |header| header);
            let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
            writeln!(self.to, "F{}", value("#fields").unwrap_or_default())?;
            writeln!(self.to, "T{}", value("#types").unwrap_or_default())?;
        }
        write!(self.to, "R{at_us}\t")?;
        self.to.write_all(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_told_when_they_change() {
        let mut lines = Lines { to: Vec::new(), header: None };
        let header: Arc<str> = "#fields\tts\tuid\n#types\ttime\tstring\n".into();
        lines.row(1, Some(&header), b"0.000001\tC1\n").unwrap();
        lines.row(2, Some(&header), b"0.000002\tC2\n").unwrap();
        lines.row(3, None, b"{}\n").unwrap();
        lines.tell('W', "a\nb").unwrap();
        let text = String::from_utf8(lines.to).unwrap();
        let expected =
            "F\tts\tuid\nT\ttime\tstring\nR1\t0.000001\tC1\nR2\t0.000002\tC2\nF\nT\nR3\t{}\nWa b\n";
        assert_eq!(text, expected);
    }
}
