//! A window onto a byte stream: read in large pieces, lent in small ones, without copying each
//! packet. Grows to the largest piece that is asked for, never beyond [`WINDOW_BYTES_MAX`].

use std::io::{self, Read};

/// How much is read at once, bytes: little enough to stay in the second-level cache beside what
/// the analysis keeps there.
const READ_BYTES: usize = 1 << 17;

/// The largest piece that can be lent, bytes: libpcap's own limit for a pcapng block.
pub(super) const WINDOW_BYTES_MAX: usize = 16 << 20;

/// The window.
pub(super) struct Window {
    reader: Box<dyn Read + Send>,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the stream before the first of `buf`.
    before: u64,
    /// A packed stream ended before its end.
    is_cut: bool,
}

impl Window {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader, buf: vec![0; READ_BYTES], start: 0, end: 0, before: 0, is_cut: false }
    }

    /// Bytes that were passed.
    pub(super) const fn passed(&self) -> u64 {
        self.before + self.start as u64
    }

    /// Whether a packed stream ended before its end.
    pub(super) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The next `len` bytes, which stay; fewer when the stream ends before.
    pub(super) fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        if self.end - self.start < len {
            self.fill(len)?;
        }
        Ok(&self.buf[self.start..self.end.min(self.start + len)])
    }

    /// The bytes that are here already and were not passed.
    pub(super) fn at_hand(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or_default()
    }

    /// The next `len` bytes, which are passed; `None` when the stream ends before.
    pub(super) fn take(&mut self, len: usize) -> io::Result<Option<&[u8]>> {
        if self.end - self.start < len {
            self.fill(len)?;
            if self.end - self.start < len {
                return Ok(None);
            }
        }
        let from = self.start;
        self.start += len;
        Ok(Some(&self.buf[from..self.start]))
    }

    /// Reads until `len` bytes are there or the stream ends.
    #[cold]
    fn fill(&mut self, len: usize) -> io::Result<()> {
        let len = len.min(WINDOW_BYTES_MAX);
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.before += self.start as u64;
        self.start = 0;
        if self.buf.len() < len {
            self.buf.resize(len, 0);
        }
        while self.end < len {
            match self.reader.read(&mut self.buf[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A packed file that was cut off ends where it was cut, like a plain one.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.is_cut = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
