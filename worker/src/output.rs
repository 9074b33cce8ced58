//! Where the packet thread's rows go. A row is encoded once, into a buffer that is used again,
//! and handed to a [`RowSink`] in the form that it asks for: lines of text for the files of
//! `--read`, the form that travels for the batches and the spool of a live node.

use std::fmt;
use std::io;
use std::net::IpAddr;

use rapidhash::v3::rapidhash_v3;
use tyto_core::record::LogRecord;
use tyto_core::record::schema::Schema;
use tyto_core::record::tsv::TsvRow;
use tyto_core::record::wire::{ROW_BYTES_MAX, append_row};
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
    pub key: ClaimKey,
    /// When it was seen, packet time.
    pub ts: Ts,
    /// Life of the claim, seconds.
    pub expiry_s: u64,
}

/// Bytes of a claim's key at most. What is longer is hashed.
const CLAIM_KEY_LEN_MAX: usize = 32;

/// What is claimed, as bytes that are the same on every worker of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimKey {
    bytes: [u8; CLAIM_KEY_LEN_MAX],
    len: u8,
}

impl ClaimKey {
    /// A key of several parts, told apart by their lengths.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut whole = Vec::with_capacity(64);
        for part in parts {
            whole.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            whole.extend_from_slice(part);
        }
        if whole.len() <= CLAIM_KEY_LEN_MAX {
            return Self::verbatim(&whole);
        }
        // 128 bits: two keys of one table are never taken for one by chance.
        let first = rapidhash_v3(&whole);
        whole.extend(first.to_be_bytes());
        let second = rapidhash_v3(&whole);
        Self::verbatim(&[first.to_be_bytes(), second.to_be_bytes()].concat())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// At most [`CLAIM_KEY_LEN_MAX`] of `key`.
    fn verbatim(key: &[u8]) -> Self {
        let mut bytes = [0; CLAIM_KEY_LEN_MAX];
        let mut len = 0;
        for (to, from) in bytes.iter_mut().zip(key) {
            *to = *from;
            len += 1;
        }
        Self { bytes, len }
    }
}

/// An address in its 4 or 16 bytes.
impl From<IpAddr> for ClaimKey {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(v4) => Self::verbatim(&v4.octets()),
            IpAddr::V6(v6) => Self::verbatim(&v6.octets()),
        }
    }
}

impl fmt::Debug for ClaimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", self.as_bytes())
    }
}

/// How a sink takes its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowForm {
    /// As a batch carries it: length and bytes, as [`append_row`] writes them.
    Wire,
    /// A line of Zeek's tab-separated text, its end included.
    Tsv,
}

/// Takes rows on the packet thread: it must not wait.
pub trait RowSink {
    /// The form of all rows; asked once.
    fn form(&self) -> RowForm {
        RowForm::Wire
    }

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

/// Takes rows and keeps none: for benches and for whoever wants to know only that it works.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl RowSink for Nowhere {
    fn row(&mut self, _stream: StreamRef, _row: &[u8]) {}

    fn claim(&mut self, _claim: Claim, _stream: StreamRef, _row: &[u8]) {}

    fn finish(&mut self, _last: Ts) -> io::Result<()> {
        Ok(())
    }
}

/// The analyzers' door to the log streams.
pub struct Output {
    sink: Box<dyn RowSink + Send>,
    form: RowForm,
    row: Vec<u8>,
    rows: u64,
    claims: u64,
    oversized: u64,
}

impl Output {
    /// Writes into `sink`.
    pub fn new(sink: Box<dyn RowSink + Send>) -> Self {
        let (form, row) = (sink.form(), Vec::with_capacity(512));
        Self { sink, form, row, rows: 0, claims: 0, oversized: 0 }
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
        let fits = match self.form {
            RowForm::Wire => append_row(&mut self.row, record),
            RowForm::Tsv => {
                let mut line = TsvRow::new(&mut self.row);
                record.write(&mut line);
                line.end_row();
                // The limit is the row's. No column has more than eight times its text's bytes.
                self.row.len() <= ROW_BYTES_MAX / 8 || append_row(&mut Vec::new(), record)
            }
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_are_told_apart() {
        let long = [b'x'; 300];
        let keys = [
            ClaimKey::of_parts(&[b"ab", b"c"]),
            ClaimKey::of_parts(&[b"a", b"bc"]),
            ClaimKey::of_parts(&[b"abc"]),
            ClaimKey::of_parts(&[&long, b"a"]),
            ClaimKey::of_parts(&[&long, b"b"]),
            ClaimKey::from(IpAddr::from([192, 0, 2, 1])),
            ClaimKey::from(IpAddr::from([192, 0, 2, 2])),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(key), "{key:?}");
        }
    }

    /// Workers of one cluster agree on a key, also those of another release.
    #[test]
    fn a_key_is_the_same_everywhere() {
        let address = ClaimKey::from(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(address.as_bytes(), [192, 0, 2, 1]);
        let hashed = ClaimKey::of_parts(&[&[b'x'; 300]]);
        assert_eq!(hashed.as_bytes().len(), 16);
        assert_eq!(hashed, ClaimKey::of_parts(&[&[b'x'; 300]]));
    }
}
