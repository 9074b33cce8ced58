//! Rows of a logger to receivers of others, besides its files. Each sink has a thread and a
//! cursor on disk of its own, reads committed rows from the files, and so holds back nothing:
//! however slow or dead it is, the files go on. What expired before it was sent is counted.
//!
//! A [`Sink`] is where rows go: JSON lines over TCP or TLS (`tcp.rs`). A further kind (a message
//! queue, a search engine) is a further type with this trait, and a scheme of its address.

mod cursor;
mod tcp;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tyto_core::config::runtime::NodeConfig;
use tyto_core::config::sinks::SinkConfig;
use tyto_core::layout::Layout;
use tyto_core::record::condition::Condition;
use tyto_daemon::health;
use tyto_daemon::telemetry::chain;
use tyto_proto::v1::Counter;
use tyto_reader::ReadError;
use tyto_reader::follow::{Follower, Step};
use tyto_reader::query::{LineQuery, Query};

use cursor::Cursor;
use tcp::Tcp;

/// Time between two looks for new rows and new streams.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Time between two counts of what is behind, and two writings of the cursor.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// First and longest time before a connection is tried again.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Streams that one sink follows at most; a further one is not sent, and told.
const STREAMS_MAX: usize = 512;

/// Where rows go. Called by one thread, which may wait in it.
pub(crate) trait Sink: Send {
    /// Makes the connection, in place of an earlier one.
    ///
    /// # Errors
    /// When there is none to be had now: it is tried again.
    fn open(&mut self) -> io::Result<()>;

    /// Hands over lines, a JSON object each.
    ///
    /// # Errors
    /// When the connection is gone. Rows of the last [`doubt`](Self::doubt) are sent again.
    fn send(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Whether the other end is still there, as far as that can be known.
    fn is_open(&mut self) -> bool;

    /// How long ago a row has to be handed over for it to have arrived.
    fn doubt(&self) -> Duration;
}

/// What a sink has done, for the health report.
#[derive(Debug, Default)]
pub(crate) struct SinkCounters {
    name: String,
    rows: AtomicU64,
    behind: AtomicU64,
    expired: AtomicU64,
    broken: AtomicU64,
    reconnects: AtomicU64,
    faults: AtomicU64,
    connected: AtomicBool,
}

/// The sinks of a logger. Their threads end with `shutdown`.
#[derive(Debug, Default)]
pub(crate) struct Sinks {
    counters: Vec<Arc<SinkCounters>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Sinks {
    /// Starts the sinks of `config`. One that cannot be started is told and left out: the logger
    /// writes its files all the same.
    pub(crate) fn start(config: &NodeConfig, shutdown: &CancellationToken) -> Self {
        let mut sinks = Self::default();
        for sink in &config.sinks {
            let name = sink.name.clone();
            let counters = Arc::new(SinkCounters { name, ..SinkCounters::default() });
            sinks.counters.push(Arc::clone(&counters));
            let runner = Runner::new(config, sink, counters, shutdown.clone());
            let thread = std::thread::Builder::new().name(format!("sink-{}", sink.name));
            let started = runner.and_then(|runner| Ok(thread.spawn(move || runner.run())?));
            match started {
                Ok(thread) => sinks.threads.push(thread),
                Err(error) => {
                    tracing::error!(
                        sink = sink.name,
                        error = format!("{error:#}"),
                        "sink not started"
                    );
                }
            }
        }
        sinks
    }

    /// Counters of all sinks, for the health report.
    pub(crate) fn counters(&self) -> Vec<Arc<SinkCounters>> {
        self.counters.clone()
    }

    /// Waits for the threads, after the shutdown: cursors are written.
    pub(crate) fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("the thread of a sink died");
            }
        }
    }
}

impl SinkCounters {
    /// As the health report names them: `sink_rows@NAME`.
    pub(crate) fn report(&self) -> Vec<Counter> {
        let counter = |what: &str, value: &AtomicU64| {
            let name = format!("sink_{what}@{}", self.name);
            health::counter(&name, value.load(Ordering::Relaxed))
        };
        let connected = AtomicU64::new(u64::from(self.connected.load(Ordering::Relaxed)));
        vec![
            counter("rows", &self.rows),
            counter("behind_rows", &self.behind),
            counter("expired_rows", &self.expired),
            counter("broken_rows", &self.broken),
            counter("reconnects", &self.reconnects),
            counter("faults", &self.faults),
            counter("connected", &connected),
        ]
    }
}

/// A sink at work.
struct Runner {
    sink: Box<dyn Sink>,
    config: SinkConfig,
    condition: Option<Condition>,
    folder: PathBuf,
    logs: PathBuf,
    cursor: Cursor,
    streams: Vec<Stream>,
    counters: Arc<SinkCounters>,
    shutdown: CancellationToken,
}

/// One log stream of a sink.
struct Stream {
    name: String,
    follower: Follower,
    /// The query for the lines of one file.
    lines: Option<(PathBuf, LineQuery)>,
}

impl Runner {
    fn new(
        config: &NodeConfig,
        sink: &SinkConfig,
        counters: Arc<SinkCounters>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let layout = Layout::new(&config.prefix);
        let folder = layout.node_spool(&config.node);
        let place = folder.join("sinks").join(format!("{}.cursor", sink.name));
        let to: Box<dyn Sink> = Box::new(Tcp::new(&sink.to, sink.ca.as_deref())?);
        Ok(Self {
            cursor: Cursor::open(place, to.doubt())?,
            sink: to,
            config: sink.clone(),
            condition: sink.condition.as_deref().map(Condition::parse).transpose()?,
            folder,
            logs: layout.logs(),
            streams: Vec::new(),
            counters,
            shutdown,
        })
    }

    fn run(mut self) {
        let (mut wait, mut was_open) = (RETRY_MIN, false);
        while !self.shutdown.is_cancelled() {
            match self.sink.open() {
                Ok(()) => {
                    tracing::info!(sink = %self.config.name, "sink is connected");
                    wait = RETRY_MIN;
                    self.counters.reconnects.fetch_add(u64::from(was_open), Ordering::Relaxed);
                    was_open = true;
                    self.counters.connected.store(true, Ordering::Relaxed);
                    let Err(error) = self.send_all() else { break };
                    self.counters.connected.store(false, Ordering::Relaxed);
                    self.counters.faults.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(sink = %self.config.name, %error, "sink is gone");
                    self.go_back();
                }
                Err(error) => {
                    self.counters.faults.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(sink = %self.config.name, %error, "cannot reach the sink");
                    // Rows that wait are counted, and new streams are known from their first row.
                    self.find_streams();
                    self.count();
                }
            }
            self.pause(wait);
            wait = (wait * 2).min(RETRY_MAX);
        }
        // Orderly: what was handed over a moment ago has arrived, as far as anybody can know.
        self.cursor.save(true);
    }

    /// Sends until the connection breaks (an error) or the logger ends.
    fn send_all(&mut self) -> io::Result<()> {
        let mut counted: Option<Instant> = None;
        while !self.shutdown.is_cancelled() {
            if counted.is_none_or(|at| at.elapsed() >= COUNT_INTERVAL) {
                self.find_streams();
                self.count();
                self.cursor.save(false);
                counted = Some(Instant::now());
            }
            let mut is_idle = true;
            for nth in 0..self.streams.len() {
                is_idle &= !self.send_step(nth)?;
            }
            if !self.sink.is_open() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if is_idle {
                self.pause(LOOK_INTERVAL);
            }
        }
        Ok(())
    }

    /// Sends some rows of a stream; false when there are none.
    fn send_step(&mut self, nth: usize) -> io::Result<bool> {
        let Some(stream) = self.streams.get_mut(nth) else { return Ok(false) };
        let mut bytes = Vec::new();
        match stream.follower.step(&mut bytes) {
            Ok(Step::Rows { .. }) => {}
            Ok(Step::Gone { rows, .. }) => {
                self.counters.expired.fetch_add(rows, Ordering::Relaxed);
                tracing::error!(sink = %self.config.name, stream = stream.name, rows, "rows expired before they were sent");
                return Ok(true);
            }
            Ok(Step::Ahead { end_row }) => {
                // The logger's folder was made anew: its numbers began again.
                stream.follower.go_to(end_row);
                return Ok(false);
            }
            Ok(Step::End) => return Ok(false),
            Err(error) => {
                tracing::debug!(sink = %self.config.name, error = chain(&error), "cannot read yet");
                return Ok(false);
            }
        }
        if stream.lines.as_ref().is_none_or(|(path, _)| path != stream.follower.path()) {
            stream.lines = lines_of(stream, &self.config, self.condition.as_ref());
        }
        let (mut out, mut rows, mut broken) = (Vec::new(), 0, 0);
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let start = out.len();
            // Zeek's JSON does not say which log a row is of; `_path` is what its streams do.
            let taken = stream.lines.as_mut().map(|(_, query)| {
                out.extend_from_slice(format!("{{\"_path\":\"{}\",", stream.name).as_bytes());
                let object = out.len();
                query.take(line, &mut out).map(|at| at.map(|_| object))
            });
            match taken {
                Some(Ok(Some(object))) => {
                    out.remove(object);
                    // A row without any value: `{}`.
                    if out.get(object) == Some(&b'}') {
                        out.remove(object - 1);
                    }
                    rows += 1;
                }
                Some(Ok(None)) => out.truncate(start),
                Some(Err(_)) | None => {
                    out.truncate(start);
                    broken += 1;
                }
            }
        }
        self.counters.broken.fetch_add(broken, Ordering::Relaxed);
        if !out.is_empty() {
            self.sink.send(&out)?;
        }
        self.counters.rows.fetch_add(rows, Ordering::Relaxed);
        self.cursor.advance(&stream.name, stream.follower.row());
        Ok(true)
    }

    /// After a break: what was handed over last may never have arrived.
    fn go_back(&mut self) {
        for stream in &mut self.streams {
            if let Some(row) = self.cursor.certain(&stream.name) {
                stream.follower.go_to(row);
            }
        }
        self.cursor.forget_doubt();
    }

    /// Streams that began since the last look.
    fn find_streams(&mut self) {
        for name in streams_of(&self.folder) {
            let is_wanted = self.config.streams.is_empty() || self.config.streams.contains(&name);
            if !is_wanted || self.streams.iter().any(|known| known.name == name) {
                continue;
            }
            if self.streams.len() >= STREAMS_MAX {
                tracing::error!(sink = %self.config.name, stream = name, "too many streams; not sent");
                continue;
            }
            let (folder, logs) = (self.folder.clone(), self.logs.clone());
            let mut follower = Follower::new(folder, logs, name.clone(), 0);
            let row = match self.cursor.certain(&name) {
                Some(row) => row,
                // A new sink begins with what is written from now on; a stream that begins later
                // is sent from its first row.
                None if self.cursor.is_new() => follower.end_row().unwrap_or(0),
                None => 0,
            };
            follower.go_to(row);
            self.cursor.advance(&name, row);
            self.streams.push(Stream { name, follower, lines: None });
        }
        self.cursor.began();
    }

    fn count(&mut self) {
        let behind = |stream: &mut Stream| {
            let row = stream.follower.row();
            stream.follower.end_row().map_or(0, |end| end.saturating_sub(row))
        };
        let behind = self.streams.iter_mut().map(behind).sum();
        self.counters.behind.store(behind, Ordering::Relaxed);
    }

    fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.shutdown.is_cancelled() {
            std::thread::sleep(LOOK_INTERVAL.min(end.saturating_duration_since(Instant::now())));
        }
    }
}

fn lines_of(
    stream: &Stream,
    config: &SinkConfig,
    condition: Option<&Condition>,
) -> Option<(PathBuf, LineQuery)> {
    let make = || -> Result<Option<(PathBuf, LineQuery)>, ReadError> {
        let Some(heading) = stream.follower.heading().cloned() else { return Ok(None) };
        let known = stream.follower.known_schemas()?;
        let path = stream.follower.path().to_owned();
        let schema = heading.schema.clone();
        let columns = schema.unwrap_or_else(|| tyto_reader::query::union(&stream.name, &known));
        // Streams differ: what one of them does not have is left out.
        let has = |name: &&String| columns.fields.iter().any(|field| field.name == ***name);
        let query = Query {
            stream: stream.name.clone(),
            condition: condition.cloned(),
            fields: config.fields.iter().filter(has).cloned().collect(),
            json: true,
            ..Query::default()
        };
        Ok(Some((path.clone(), query.of_lines(path, heading, &known)?)))
    };
    make()
        .inspect_err(|error| {
            tracing::error!(sink = %config.name, stream = stream.name, error = chain(error), "rows are not sent");
        })
        .ok()
        .flatten()
}

/// Streams that the logger writes or wrote.
fn streams_of(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(state)) = tyto_writer::committed::committed(folder) {
        names.extend(state.files.iter().map(|file| file.stream.to_string()));
    }
    if let Ok(entries) = std::fs::read_dir(folder.join("index")) {
        let files = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.extend(files.filter(|name| !name.contains('.')));
    }
    names.sort();
    names.dedup();
    names
}
