//! Where the packet thread's rows go. A row is encoded once, into a buffer that is used again,
//! and handed to a [`RowSink`]: files for `--read`, batches and the spool on a live node.

use std::fmt;
use std::io;
use std::net::IpAddr;

use tyto_core::record::LogRecord;
use tyto_core::record::schema::Schema;
use tyto_core::record::wire::append_row;
use tyto_core::time::Ts;

/// A log stream as a sink sees it.
#[derive(Clone, Copy, Debug)]
pub struct StreamRef {
    /// Name of the stream: `conn`.
    pub name: &'static str,
    /// Builds its schema; to be called once per stream, not per row.
    pub schema: fn() -> Schema,
}

/// The right to write a row, to be asked of the cluster: the row counts only when nobody
/// claimed `key` in `table` within `expiry_s` before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Name of the table: `known_hosts`.
    pub table: &'static str,
    /// What is claimed.
    pub key: IpAddr,
    /// When it was seen, packet time.
    pub ts: Ts,
    /// Life of the claim, seconds.
    pub expiry_s: u64,
}

/// Takes rows on the packet thread: it must not wait. A row comes as a batch carries it: length
/// and bytes, as [`append_row`] writes them.
pub trait RowSink {
    /// The first packet came, at `first`.
    fn begin(&mut self, _first: Ts) {}

    /// A finished row of `stream`.
    fn row(&mut self, stream: StreamRef, row: &[u8]);

    /// A row of `stream` that counts only when `claim` is granted.
    fn claim(&mut self, claim: Claim, stream: StreamRef, row: &[u8]);

    /// Time passed: what waits for company waits no longer than its interval allows.
    fn idle(&mut self, _now: Ts) {}

    /// No more rows will come. `last` is the time of the last packet.
    ///
    /// # Errors
    /// When rows could not be written.
    fn finish(&mut self, last: Ts) -> io::Result<()>;
}

/// The analyzers' door to the log streams.
pub struct Output {
    sink: Box<dyn RowSink + Send>,
    row: Vec<u8>,
    rows: u64,
    claims: u64,
    oversized: u64,
}

impl Output {
    /// Writes into `sink`.
    pub fn new(sink: Box<dyn RowSink + Send>) -> Self {
        Self { sink, row: Vec::with_capacity(512), rows: 0, claims: 0, oversized: 0 }
    }

    /// The first packet came, at `first`.
    pub fn begin(&mut self, first: Ts) {
        self.sink.begin(first);
    }

    /// Writes a row.
    pub fn row<R: LogRecord>(&mut self, record: &R) {
        if self.encode(record) {
            self.rows += 1;
            self.sink.row(stream_of::<R>(), &self.row);
        }
    }

    /// Writes a row if `claim` is granted.
    pub fn claim<R: LogRecord>(&mut self, claim: Claim, record: &R) {
        if self.encode(record) {
            self.claims += 1;
            self.sink.claim(claim, stream_of::<R>(), &self.row);
        }
    }

    /// Lets the sink hand on what waited long enough.
    pub fn idle(&mut self, now: Ts) {
        self.sink.idle(now);
    }

    /// Ends the output.
    ///
    /// # Errors
    /// When rows could not be written.
    pub fn finish(&mut self, last: Ts) -> io::Result<()> {
        self.sink.finish(last)
    }

    /// Rows written so far, without claims.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows handed on as claims so far.
    pub const fn claims(&self) -> u64 {
        self.claims
    }

    /// Rows dropped because they were longer than a row may be.
    pub const fn oversized(&self) -> u64 {
        self.oversized
    }

    fn encode<R: LogRecord>(&mut self, record: &R) -> bool {
        self.row.clear();
        let fits = append_row(&mut self.row, record);
        self.oversized += u64::from(!fits);
        fits
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("rows", &self.rows).field("claims", &self.claims).finish()
    }
}

/// The stream of record type `R`.
pub fn stream_of<R: LogRecord>() -> StreamRef {
    StreamRef { name: R::STREAM, schema: R::schema }
}
