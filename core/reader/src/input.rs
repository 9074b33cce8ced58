//! A log file as lines: plain up to a committed length, gzip, Zstandard or Parquet to its end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tyto_core::record::line::{LineFormat, schema_of_header};
use tyto_core::record::schema::Schema;

use crate::error::ReadError;
use crate::parquet;

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// Longest header that is looked for, bytes.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// How a file's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Rows by column.
    Parquet,
}

impl Packing {
    /// By the end of a file's name.
    pub fn of(name: &str) -> Self {
        if name.ends_with(".gz") {
            Self::Gzip
        } else if name.ends_with(".zst") {
            Self::Zstd
        } else if name.ends_with(".parquet") {
            Self::Parquet
        } else {
            Self::Plain
        }
    }
}

/// An open log file.
#[derive(Debug)]
pub struct Input {
    path: PathBuf,
    file: Arc<File>,
    packing: Packing,
    limit: Option<u64>,
    within: (i64, i64),
}

/// Its lines, from the first on.
pub struct Lines {
    path: PathBuf,
    from: Box<dyn BufRead + Send>,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lines({})", self.path.display())
    }
}

/// How a file begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// How its lines are written.
    pub format: LineFormat,
    /// What the header of a TSV file says.
    pub schema: Option<Schema>,
}

impl Input {
    /// Opens a file. Of a plain one, bytes from `limit` on are left alone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(path: &Path, limit: Option<u64>) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|error| ReadError::io(path, error))?;
        let packing = Packing::of(&path.file_name().unwrap_or_default().to_string_lossy());
        let within = (i64::MIN, i64::MAX);
        Ok(Self { path: path.to_owned(), file: Arc::new(file), packing, limit, within })
    }

    /// May leave out rows that are not of these times, microseconds, the second not among them:
    /// those of a packing that tells without looking at them.
    #[must_use]
    pub fn within(self, since_us: i64, until_us: i64) -> Self {
        Self { within: (since_us, until_us), ..self }
    }

    /// Without its limit: somebody else knows how far it may be read.
    #[must_use]
    pub fn unlimited(self) -> Self {
        Self { limit: None, ..self }
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// How its bytes are stored.
    pub const fn packing(&self) -> Packing {
        self.packing
    }

    /// Bytes of a plain file that may be read.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn size(&self) -> Result<u64, ReadError> {
        let found = self.file.metadata().map_err(|error| ReadError::io(&self.path, error))?.len();
        Ok(self.limit.map_or(found, |limit| limit.min(found)))
    }

    /// Reads a part of a plain file.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), ReadError> {
        self.file.read_exact_at(bytes, offset).map_err(|error| ReadError::io(&self.path, error))
    }

    /// The logger and the finished file that a Parquet file was made of, when it tells.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn source(&self) -> Result<Option<(String, String)>, ReadError> {
        parquet::source(self.part()).map_err(|error| ReadError::io(&self.path, error))
    }

    fn part(&self) -> FilePart {
        FilePart { file: self.file.clone(), offset: 0, end: self.limit }
    }

    /// All its lines.
    ///
    /// # Errors
    /// When the system refuses, or a packed file is damaged.
    pub fn lines(&self) -> Result<Lines, ReadError> {
        let fail = |error| ReadError::io(&self.path, error);
        let raw = BufReader::with_capacity(READ_BYTES, self.part());
        let from: Box<dyn BufRead + Send> = match self.packing {
            Packing::Plain => Box::new(raw),
            Packing::Gzip => {
                let plain = flate2::bufread::MultiGzDecoder::new(raw);
                Box::new(BufReader::with_capacity(READ_BYTES, plain))
            }
            Packing::Zstd => {
                let plain = zstd::stream::read::Decoder::with_buffer(raw).map_err(fail)?;
                Box::new(BufReader::with_capacity(READ_BYTES, plain))
            }
            Packing::Parquet => {
                Box::new(parquet::Text::open(self.part(), self.within).map_err(fail)?)
            }
        };
        Ok(Lines { path: self.path.clone(), from })
    }

    /// Format and columns, from its first lines. None for a file without any.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn heading(&self) -> Result<Option<Heading>, ReadError> {
        let (mut lines, mut line, mut header) = (self.lines()?, Vec::new(), String::new());
        while lines.next_into(&mut line)? {
            if line.starts_with(b"{") {
                return Ok(Some(Heading { format: LineFormat::Json, schema: None }));
            }
            header.push_str(&String::from_utf8_lossy(&line));
            let is_whole = line.starts_with(b"#types");
            if is_whole || header.len() as u64 > HEADER_BYTES_MAX {
                let schema = schema_of_header(&header);
                return Ok(Some(Heading { format: LineFormat::Tsv, schema }));
            }
        }
        Ok(None)
    }
}

impl Lines {
    /// Puts the next whole line, with its newline, into `line`; false at the end. A last line
    /// without newline is not one.
    ///
    /// # Errors
    /// When the file cannot be read or unpacked.
    pub fn next_into(&mut self, line: &mut Vec<u8>) -> Result<bool, ReadError> {
        line.clear();
        let read = self.from.read_until(b'\n', line);
        read.map_err(|error| ReadError::io(&self.path, error))?;
        Ok(line.ends_with(b"\n"))
    }
}

/// A file read from an offset of its own, so that several may read it at once.
#[derive(Debug)]
pub(crate) struct FilePart {
    file: Arc<File>,
    offset: u64,
    end: Option<u64>,
}

impl FilePart {
    /// The same file, to be read from there on.
    pub(crate) fn from(&self, offset: u64) -> Self {
        Self { file: self.file.clone(), offset, end: self.end }
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

impl Read for FilePart {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.offset));
        let room = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.file.read_at(bytes.get_mut(..room).unwrap_or_default(), self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
