//! Rows of a log stream from many hosts as one sequence: each host's come sorted by time
//! (`supervisor read-logs`), a few are in memory at once. Protocol: `supervisor/src/read_logs.rs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader};

use crate::hosts::Host;
use crate::remote::error::RemoteError;
use crate::remote::{ByteStream, OUTPUT_BYTES_MAX};

/// How long the end of what a command says on standard error is waited for.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(2);

/// A row, and what its columns are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Microseconds since the Unix epoch.
    pub(crate) at_us: i64,
    /// `#fields` and `#types`; empty for JSON.
    pub(crate) header: Arc<str>,
    /// Its line, without newline.
    pub(crate) line: String,
}

/// Why the rows of a host end early.
#[derive(Debug)]
pub(crate) enum RowsError {
    /// The host, or what runs there.
    Remote(RemoteError),
    /// The query does not fit the stream's columns; the same everywhere.
    Query { message: String, hint: String },
}

/// The rows of one host.
pub(crate) struct HostRows {
    host: String,
    deadline: Duration,
    from: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    errors: Option<Box<dyn AsyncRead + Send + Unpin>>,
    header: Arc<str>,
    names: String,
    /// What could not be read there, while other files could.
    pub(crate) warnings: Vec<String>,
    /// Rows that are in no log file yet.
    pub(crate) doubts: Vec<String>,
    /// Its standard input ends when we do; the connection lives as long as we.
    _alive: (Box<dyn AsyncWrite + Send + Unpin>, Box<dyn Send>),
}

impl HostRows {
    /// Starts the reading there.
    ///
    /// # Errors
    /// When the host cannot be reached.
    pub(crate) async fn open(host: &Host, script: &str) -> Result<Self, RemoteError> {
        let ByteStream { reader, writer, errors, keep } =
            host.remote.open(script, host.deadline).await?;
        Ok(Self {
            host: host.name.to_string(),
            deadline: host.deadline,
            from: BufReader::with_capacity(64 << 10, reader),
            errors,
            header: "".into(),
            names: String::new(),
            warnings: Vec::new(),
            doubts: Vec::new(),
            _alive: (writer, keep),
        })
    }

    /// The host as node.cfg names it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// When the connection breaks, nothing comes for longer than the host's deadline, or the
    /// query does not fit.
    pub(crate) async fn next(&mut self) -> Result<Option<Row>, RowsError> {
        loop {
            let mut line = Vec::new();
            let read = self.from.read_until(b'\n', &mut line);
            match tokio::time::timeout(self.deadline, read).await {
                Ok(Ok(_)) if line.ends_with(b"\n") => {}
                Ok(Ok(_)) => return Err(self.broke_off("it ended early").await),
                Ok(Err(error)) => return Err(self.broke_off(&error.to_string()).await),
                Err(_) => {
                    let (host, what, deadline) = (self.host.clone(), "read logs", self.deadline);
                    return Err(RowsError::Remote(RemoteError::TimedOut { host, what, deadline }));
                }
            }
            line.pop();
            let text = String::from_utf8_lossy(&line).into_owned();
            let mut rest = text.chars();
            let (kind, rest) = (rest.next().unwrap_or(' '), rest.as_str());
            match kind {
                'R' => {
                    let (at, line) = rest.split_once('\t').unwrap_or(("0", rest));
                    let (header, line) = (Arc::clone(&self.header), line.to_owned());
                    return Ok(Some(Row { at_us: at.parse().unwrap_or(0), header, line }));
                }
                'F' => self.names = rest.to_owned(),
                'T' if self.names.is_empty() => self.header = "".into(),
                'T' => self.header = format!("#fields{}\n#types{rest}", self.names).into(),
                'W' => self.warnings.push(rest.to_owned()),
                'D' => self.doubts.push(rest.to_owned()),
                'Q' => {
                    let mut hint = String::new();
                    // The hint is the line behind; without it there is none.
                    self.from.read_line(&mut hint).await.ok();
                    let hint = hint.trim_end().strip_prefix('H').unwrap_or_default().to_owned();
                    return Err(RowsError::Query { message: rest.to_owned(), hint });
                }
                'E' => return Ok(None),
                // Signs of life.
                _ => {}
            }
        }
    }

    /// What the command said before it ended without the line that tells that it is done.
    async fn broke_off(&mut self, how: &str) -> RowsError {
        let mut said = Vec::new();
        if let Some(errors) = self.errors.take() {
            let mut errors = errors.take(OUTPUT_BYTES_MAX);
            // What came until then is told.
            tokio::time::timeout(LAST_WORDS_WAIT, errors.read_to_end(&mut said)).await.ok();
        }
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let said = if said.is_empty() { how.to_owned() } else { said };
        let (host, what) = (self.host.clone(), "read logs");
        RowsError::Remote(RemoteError::Failed { host, what, said })
    }
}

/// Rows of several hosts by time; where times are equal, in the order of the hosts.
pub(crate) struct Merged {
    hosts: Vec<(HostRows, Option<Row>)>,
    /// What ended early, with its host.
    pub(crate) faults: Vec<(String, RowsError)>,
}

impl Merged {
    /// Waits for the first row of each host.
    pub(crate) async fn new(hosts: Vec<HostRows>) -> Self {
        let mut merged = Self { hosts: Vec::new(), faults: Vec::new() };
        // All work at once: each is read a little, then the next.
        for mut rows in hosts {
            let first = merged.advance(&mut rows).await;
            merged.hosts.push((rows, first));
        }
        merged
    }

    /// The next row.
    pub(crate) async fn next(&mut self) -> Option<Row> {
        let heads = self.hosts.iter().enumerate();
        let heads = heads.filter_map(|(nth, (_, row))| Some((row.as_ref()?.at_us, nth)));
        let (_, nth) = heads.min()?;
        let (rows, head) = self.hosts.get_mut(nth)?;
        let row = head.take();
        match rows.next().await {
            Ok(next) => *head = next,
            Err(error) => self.faults.push((rows.host.clone(), error)),
        }
        row
    }

    /// What could not be read where.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = (&str, &str)> {
        let hosts = self.hosts.iter().map(|(rows, _)| rows);
        hosts.flat_map(|rows| rows.warnings.iter().map(|text| (rows.host.as_str(), text.as_str())))
    }

    /// Rows that are in doubt where.
    pub(crate) fn doubts(&self) -> impl Iterator<Item = (&str, &str)> {
        let hosts = self.hosts.iter().map(|(rows, _)| rows);
        hosts.flat_map(|rows| rows.doubts.iter().map(|text| (rows.host.as_str(), text.as_str())))
    }

    async fn advance(&mut self, rows: &mut HostRows) -> Option<Row> {
        match rows.next().await {
            Ok(row) => row,
            Err(error) => {
                self.faults.push((rows.host.clone(), error));
                None
            }
        }
    }
}
