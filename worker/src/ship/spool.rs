//! The spool on disk: batches that no logger confirmed yet, in segment files that are only
//! ever appended to. Records go out by `write` without a sync: they survive any death of the
//! process, and a death of the host costs the last seconds. Format: docs/formats/spool.md.
//!
//! This file knows records and segments. What they mean is the business of
//! [`backlog`](super::backlog).

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tyto_core::record::schema::{Schema, SchemaField};
use tyto_writer::RowTimes;
use tyto_writer::frame::{self, BadBody, FRAME_HEAD_LEN, Fields, Tail, put_bytes, put_number};

use super::ledger::Reason;

/// Largest segment, bytes; smaller when the spool is.
const SEGMENT_BYTES_MAX: u64 = 8 << 20;

/// The spool has room for this many segments at least.
const SEGMENTS_MIN: u64 = 16;

/// First bytes of a segment; the digit is the version of the format.
const MAGIC: &[u8; 8] = b"TytoSpl1";

/// Place of a batch's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Segment.
    pub(crate) segment: u64,
    offset: u64,
    len: u32,
    crc32: u32,
}

impl Location {
    /// Size of the payload, bytes.
    pub(crate) const fn bytes(self) -> usize {
        self.len as usize
    }
}

/// A batch, but for its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchHead {
    /// Rises with each batch of this node, over all its lives.
    pub(crate) number: u64,
    /// Life that numbered the rows.
    pub(crate) epoch: u64,
    /// Log stream.
    pub(crate) stream: Arc<str>,
    /// Schema of the rows.
    pub(crate) fingerprint: u64,
    /// Sequence number of the first row.
    pub(crate) first_seq: u64,
    /// Number of rows.
    pub(crate) rows: u32,
    /// When they were written.
    pub(crate) times: RowTimes,
}

impl BatchHead {
    /// Sequence number behind the last row.
    pub(crate) const fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.rows as u64)
    }
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Columns of a log stream; stands before its first batch in each segment.
    Schema(Arc<Schema>),
    /// A batch, bound to a logger or not. One whose number came before has moved here.
    Batch {
        /// What it is.
        head: BatchHead,
        /// Where it must go.
        logger: Option<Arc<str>>,
        /// Where its payload is.
        location: Location,
    },
    /// A batch is about to be sent to a logger, and to no other from now on.
    Bound {
        /// Which batch.
        number: u64,
        /// To whom.
        logger: Arc<str>,
    },
    /// Batches whose rows a logger has on disk.
    Acked(Vec<u64>),
    /// Batches given up.
    Dropped {
        /// Why.
        reason: Reason,
        /// Which.
        numbers: Vec<u64>,
    },
}

#[derive(Debug)]
struct Segment {
    file: File,
    len: u64,
    schemas: HashSet<u64>,
}

/// The segments of one node's spool.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    segments: BTreeMap<u64, Segment>,
    active: u64,
    segment_bytes_max: u64,
    bytes: u64,
    scratch: Vec<u8>,
}

impl Spool {
    /// Reads the segments from `first_segment` on, hands their records to `visit` in the order
    /// they were written, and begins a new segment. Earlier segments are removed: the ledger
    /// has counted what they held.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub(crate) fn open(
        folder: &Path,
        bytes_max: u64,
        first_segment: u64,
        mut visit: impl FnMut(Record),
    ) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut segments = BTreeMap::new();
        let mut bytes = 0;
        for number in segment_numbers(folder)? {
            let path = segment_path(folder, number);
            if number < first_segment {
                fs::remove_file(&path)?;
                continue;
            }
            let segment = read_segment(&path, number, &mut visit)?;
            bytes += segment.len;
            segments.insert(number, segment);
        }
        let last = segments.keys().next_back().copied();
        let active = last.map_or(first_segment, |last| last + 1).max(first_segment);
        let segment_bytes_max = (bytes_max / SEGMENTS_MIN).clamp(1 << 16, SEGMENT_BYTES_MAX);
        let folder = folder.to_owned();
        let scratch = Vec::new();
        let mut spool = Self { folder, segments, active, segment_bytes_max, bytes, scratch };
        spool.begin_segment(active)?;
        Ok(spool)
    }

    /// Size of all segments, bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The oldest segment.
    pub(crate) fn head(&self) -> u64 {
        self.segments.keys().next().copied().unwrap_or(self.active)
    }

    /// The segment that is being appended to.
    pub(crate) const fn active(&self) -> u64 {
        self.active
    }

    /// Appends a batch, behind its schema if this segment does not have it yet.
    ///
    /// # Errors
    /// When the disk refuses; the spool is as before.
    pub(crate) fn append_batch(
        &mut self,
        head: &BatchHead,
        schema: &Arc<Schema>,
        logger: Option<&str>,
        payload: &[u8],
    ) -> io::Result<Location> {
        self.roll_when_full()?;
        let known = |segment: &Segment| segment.schemas.contains(&head.fingerprint);
        if !self.segments.get(&self.active).is_some_and(known) {
            self.append(|out| put_schema(out, schema))?;
            if let Some(segment) = self.segments.get_mut(&self.active) {
                segment.schemas.insert(head.fingerprint);
            }
        }
        let crc32 = crc32fast::hash(payload);
        let end = self.append(|out| put_batch(out, head, logger, crc32, payload))?;
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let location = Location { segment: self.active, offset: end - u64::from(len), len, crc32 };
        Ok(location)
    }

    /// Appends a remark on batches that stand in this or an earlier segment.
    ///
    /// # Errors
    /// When the disk refuses; the spool is as before.
    pub(crate) fn append_mark(&mut self, mark: &Record) -> io::Result<()> {
        self.append(|out| match mark {
            Record::Bound { number, logger } => {
                out.push(3);
                put_number(out, *number);
                put_bytes(out, logger.as_bytes());
            }
            Record::Acked(numbers) => {
                out.push(4);
                numbers.iter().for_each(|number| put_number(out, *number));
            }
            Record::Dropped { reason, numbers } => {
                out.extend_from_slice(&[5, reason.code()]);
                numbers.iter().for_each(|number| put_number(out, *number));
            }
            Record::Schema(schema) => put_schema(out, schema),
            Record::Batch { .. } => debug_assert!(false, "batches go by append_batch"),
        })?;
        Ok(())
    }

    /// Reads a payload back.
    ///
    /// # Errors
    /// When the disk refuses, or gives other bytes than were written (`InvalidData`).
    pub(crate) fn payload(&self, location: Location) -> io::Result<Bytes> {
        let segment = self.segments.get(&location.segment).ok_or(io::ErrorKind::NotFound)?;
        let mut payload = vec![0; location.len as usize];
        segment.file.read_exact_at(&mut payload, location.offset)?;
        if crc32fast::hash(&payload) != location.crc32 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(payload.into())
    }

    /// Removes the oldest segment; nothing in it may count any more.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn remove_head(&mut self) -> io::Result<()> {
        let head = self.head();
        fs::remove_file(segment_path(&self.folder, head))?;
        if let Some(segment) = self.segments.remove(&head) {
            self.bytes -= segment.len;
        }
        Ok(())
    }

    /// Begins a new segment, so that the one being written can be removed some time.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn roll(&mut self) -> io::Result<()> {
        self.begin_segment(self.active + 1)
    }

    fn roll_when_full(&mut self) -> io::Result<()> {
        let full = |segment: &Segment| segment.len >= self.segment_bytes_max;
        if self.segments.get(&self.active).is_some_and(full) { self.roll() } else { Ok(()) }
    }

    fn begin_segment(&mut self, number: u64) -> io::Result<()> {
        let path = segment_path(&self.folder, number);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(MAGIC, 0)?;
        let len = MAGIC.len() as u64;
        self.segments.insert(number, Segment { file, len, schemas: HashSet::new() });
        self.bytes += len;
        self.active = number;
        Ok(())
    }

    /// Appends one frame and returns the offset behind it. At the known length always: what a
    /// write that failed half-way left is overwritten.
    fn append(&mut self, body: impl FnOnce(&mut Vec<u8>)) -> io::Result<u64> {
        self.scratch.clear();
        frame::append(&mut self.scratch, body);
        let segment = self.segments.get_mut(&self.active).ok_or(io::ErrorKind::NotFound)?;
        segment.file.write_all_at(&self.scratch, segment.len)?;
        segment.len += self.scratch.len() as u64;
        self.bytes += self.scratch.len() as u64;
        Ok(segment.len)
    }
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.seg"))
}

fn segment_numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads one segment of an earlier life. A torn tail is cut off; damage in the middle costs
/// the records it hit, and is told.
fn read_segment(path: &Path, number: u64, visit: &mut impl FnMut(Record)) -> io::Result<Segment> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let bytes = fs::read(path)?;
    let mut at = MAGIC.len().min(bytes.len());
    if !bytes.starts_with(MAGIC) {
        at = frame::next_whole(&bytes, 0).unwrap_or(bytes.len());
        tracing::error!(segment = %path.display(), "segment does not begin as one");
    }
    loop {
        let begun = at;
        let (len, tail) = frame::read(bytes.get(begun..).unwrap_or_default(), |offset, body| {
            match parse(number, (begun + offset) as u64, body) {
                Ok(record) => visit(record),
                Err(error) => {
                    tracing::error!(segment = %path.display(), %error, "record skipped");
                }
            }
        });
        at += len;
        match (tail, frame::next_whole(&bytes, at + 1)) {
            (Tail::Corrupt, Some(next)) => {
                let lost_bytes = next - at;
                tracing::error!(segment = %path.display(), lost_bytes, "damage in the spool");
                at = next;
            }
            _ => break,
        }
    }
    file.set_len(at as u64)?;
    Ok(Segment { file, len: at as u64, schemas: HashSet::new() })
}

fn put_schema(out: &mut Vec<u8>, schema: &Schema) {
    out.push(1);
    put_bytes(out, schema.stream.as_bytes());
    for field in &schema.fields {
        put_bytes(out, field.name.as_bytes());
        put_bytes(out, field.field_type.to_string().as_bytes());
        put_bytes(out, field.doc.as_bytes());
    }
}

fn put_batch(
    out: &mut Vec<u8>,
    head: &BatchHead,
    logger: Option<&str>,
    crc32: u32,
    payload: &[u8],
) {
    out.push(6);
    put_number(out, head.number);
    put_number(out, head.epoch);
    put_bytes(out, head.stream.as_bytes());
    put_number(out, head.fingerprint);
    put_number(out, head.first_seq);
    put_number(out, u64::from(head.rows));
    // No logger has an empty name.
    put_bytes(out, logger.unwrap_or_default().as_bytes());
    put_number(out, head.times.first_ns);
    put_number(out, head.times.last_ns);
    put_number(out, u64::from(crc32));
    out.extend_from_slice(payload);
}

fn parse(segment: u64, offset: u64, body: &[u8]) -> Result<Record, BadBody> {
    let mut fields = Fields::new(body);
    Ok(match fields.byte()? {
        1 => {
            let stream = fields.text()?.to_owned();
            let mut columns = Vec::new();
            while !fields.is_empty() {
                columns.push(SchemaField {
                    name: fields.text()?.to_owned().into(),
                    field_type: fields.text()?.parse().map_err(|_| BadBody)?,
                    doc: fields.text()?.to_owned().into(),
                });
            }
            Record::Schema(Arc::new(Schema { stream: stream.into(), fields: columns }))
        }
        // 2 is from before batches had times.
        kind @ (2 | 6) => {
            let mut head = BatchHead {
                number: fields.number()?,
                epoch: fields.number()?,
                stream: fields.text()?.into(),
                fingerprint: fields.number()?,
                first_seq: fields.number()?,
                rows: u32::try_from(fields.number()?).map_err(|_| BadBody)?,
                times: RowTimes::default(),
            };
            let logger = Some(fields.text()?).filter(|name| !name.is_empty()).map(Arc::from);
            if kind == 6 {
                let (first_ns, last_ns) = (fields.number()?, fields.number()?);
                head.times = RowTimes { first_ns, last_ns };
            }
            let crc32 = u32::try_from(fields.number()?).map_err(|_| BadBody)?;
            let len = u32::try_from(fields.len()).map_err(|_| BadBody)?;
            let offset = offset + (body.len() - fields.len()) as u64;
            Record::Batch { head, logger, location: Location { segment, offset, len, crc32 } }
        }
        3 => Record::Bound { number: fields.number()?, logger: fields.text()?.into() },
        4 => Record::Acked(numbers(&mut fields)?),
        5 => {
            let reason = Reason::from_code(fields.byte()?).ok_or(BadBody)?;
            Record::Dropped { reason, numbers: numbers(&mut fields)? }
        }
        _ => return Err(BadBody),
    })
}

fn numbers(fields: &mut Fields<'_>) -> Result<Vec<u64>, BadBody> {
    let mut numbers = Vec::new();
    while !fields.is_empty() {
        numbers.push(fields.number()?);
    }
    Ok(numbers)
}

const _: () = assert!(FRAME_HEAD_LEN == 12, "docs/formats/spool.md says 12");
