//! Step 1 of archiving: copies of a finished file, as they will be in the archive.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use flate2::write::GzEncoder;
use tyto_core::config::logs::{Compression, Parquet};
use tyto_core::time::Ts;

use crate::disk::{Open, Reader, Writer};
use crate::error::StoreError;
use crate::journal::sync_parent;

use super::{Archive, make_folder, parquet};

/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 18;

/// What a copy is. It is in the copy's name, so that another life with another configuration
/// archives it as what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, compressed or not.
    Text(Compression),
    /// Parquet.
    Parquet,
}

impl Kind {
    /// All, in the order in which they get their names.
    pub(super) const ALL: [Self; 4] = [
        Self::Text(Compression::Gzip),
        Self::Text(Compression::Zstd),
        Self::Text(Compression::Off),
        Self::Parquet,
    ];

    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Text(compression) => compression.extension(),
            Self::Parquet => ".parquet",
        }
    }
}

/// A finished file, by its name in `rotated/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    name: String,
    pub(super) stream: String,
    pub(super) opened: Ts,
    pub(super) closed: Ts,
    end: End,
}

/// How the name ends, and by that what becomes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The stream's own file.
    Log,
    /// JSON beside it.
    Json,
    /// Tab-separated text beside it, for Parquet only.
    Tsv,
}

impl Plain {
    /// What [`super::rotated_name`] made.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (base, rest) = name.split_once('.')?;
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let end = match rest.strip_prefix('.').unwrap_or(rest) {
            "log" => End::Log,
            "json.log" => End::Json,
            "tsv.log" => End::Tsv,
            _ => return None,
        };
        let mut parts = base.rsplitn(3, '-');
        let closed = Ts(parts.next()?.parse().ok()?);
        let opened = Ts(parts.next()?.parse().ok()?);
        let stream = parts.next()?.to_owned();
        Some(Self { name: name.to_owned(), stream, opened, closed, end })
    }

    /// Whether it is the stream's own file, not one with the same rows in another form.
    pub(super) fn is_own(&self) -> bool {
        self.end == End::Log
    }

    pub(super) fn copy_name(&self, kind: Kind) -> String {
        format!("{}{}", self.name, kind.extension())
    }

    /// How the archived file's name ends.
    pub(super) fn archive_end(&self, kind: Kind) -> String {
        match (kind, self.end) {
            (Kind::Parquet, _) => ".parquet".to_owned(),
            (kind, End::Json) => format!(".json.log{}", kind.extension()),
            (kind, End::Log | End::Tsv) => format!(".log{}", kind.extension()),
        }
    }
}

impl Archive {
    /// Writes the copies that the configuration asks for. Those of an earlier life, which may be
    /// of other kinds and half written, go first.
    pub(super) fn write_copies(&self, source: &Path, plain: &Plain) -> Result<(), StoreError> {
        make_folder(&*self.disk, &self.logs, &self.copies)?;
        for kind in Kind::ALL {
            let copy = self.copies.join(plain.copy_name(kind));
            if let Err(error) = self.disk.remove_file(&copy)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(StoreError::io("remove", &copy, error));
            }
        }
        let of_stream = self.config.streams.get(&plain.stream);
        let wanted = of_stream.and_then(|stream| stream.parquet).unwrap_or(self.config.parquet);
        let is_table = plain.end != End::Json && self.is_tsv(source)?;
        let mut is_text_wanted = plain.end != End::Tsv && !(is_table && wanted == Parquet::Only);
        if is_table && (wanted != Parquet::Off || plain.end == End::Tsv) {
            let copy = self.copies.join(plain.copy_name(Kind::Parquet));
            match self.write_copy(source, plain, Kind::Parquet) {
                // What is not a table, or not whole, is kept as it is.
                Err(StoreError::Io { source: error, .. })
                    if error.kind() == io::ErrorKind::InvalidData =>
                {
                    self.counts.parquet_faults.add(1);
                    tracing::error!(file = %source.display(), %error, "not made into Parquet");
                    let removed = self.disk.remove_file(&copy);
                    removed.map_err(|error| StoreError::io("remove", &copy, error))?;
                    is_text_wanted = true;
                }
                other => other?,
            }
        } else if plain.end == End::Tsv {
            is_text_wanted = true;
        }
        if is_text_wanted {
            self.write_copy(source, plain, Kind::Text(self.config.compress))?;
        }
        sync_parent(&*self.disk, &self.copies.join("_"))
    }

    fn is_tsv(&self, source: &Path) -> Result<bool, StoreError> {
        let mut first = [0; 10];
        let read = || -> io::Result<bool> {
            let file = self.disk.open(source, Open::Read)?;
            let count = Reader::new(file).read(&mut first)?;
            Ok(first.get(..count) == Some(b"#separator".as_slice()))
        };
        let mut read = read;
        read().map_err(|error| StoreError::io("read", source, error))
    }

    fn write_copy(&self, source: &Path, plain: &Plain, kind: Kind) -> Result<(), StoreError> {
        let copy = self.copies.join(plain.copy_name(kind));
        let write = || -> io::Result<()> {
            let input = Reader::new(self.disk.open(source, Open::Read)?);
            let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
            let mut output = Writer::new(self.disk.open(&copy, Open::Create)?);
            match kind {
                Kind::Text(compression) => self.compress(compression, &mut input, &mut output)?,
                Kind::Parquet => {
                    let logger = self.folder.file_name().unwrap_or_default().to_string_lossy();
                    let source = format!("{logger}/{}", plain.name);
                    parquet::write(&mut input, &mut output, source)?;
                }
            }
            let file = output.into_file();
            // Its age is that of its last row, not of this copy.
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(plain.closed.0))?;
            file.sync_all()
        };
        write().map_err(|error| StoreError::io("write", &copy, error))
    }

    fn compress(
        &self,
        compression: Compression,
        input: &mut impl Read,
        output: &mut Writer,
    ) -> io::Result<()> {
        let level = self.config.compress_level;
        match compression {
            Compression::Gzip => {
                let level = flate2::Compression::new(level.map_or(6, u32::from));
                let buffered = BufWriter::with_capacity(BUFFER_BYTES, output);
                let mut gzip = GzEncoder::new(buffered, level);
                io::copy(input, &mut gzip)?;
                gzip.finish()?.flush()
            }
            Compression::Zstd => {
                let buffered = BufWriter::with_capacity(BUFFER_BYTES, output);
                let mut frame = zstd::Encoder::new(buffered, level.map_or(3, i32::from))?;
                // A damaged archive is to be noticed, as with gzip.
                frame.include_checksum(true)?;
                io::copy(input, &mut frame)?;
                frame.finish()?.flush()
            }
            Compression::Off => io::copy(input, output).map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_finished_files_say_what_becomes_of_them() {
        let end = |name: &str, kind| Plain::parse(name).map(|plain| plain.archive_end(kind));
        let gzip = Kind::Text(Compression::Gzip);
        assert_eq!(end("conn-1-2.log", gzip).unwrap(), ".log.gz");
        assert_eq!(end("conn-1-2.13.json.log", gzip).unwrap(), ".json.log.gz");
        assert_eq!(end("conn-1-2.tsv.log", Kind::Parquet).unwrap(), ".parquet");
        for name in ["conn.log", "conn-1.log", "conn-1-2", "conn-1-2.txt", "conn-1-2.1x.log"] {
            assert_eq!(Plain::parse(name), None, "{name}");
        }
        let plain = Plain::parse("my-log-1-2.3.log").unwrap();
        assert_eq!((plain.stream.as_str(), plain.opened, plain.closed), ("my-log", Ts(1), Ts(2)));
    }
}
