//! The spool on disk: batches that no logger confirmed yet, in segment files that are only
//! ever appended to. Records go out by `write`, and are synced together each second or so by
//! another thread ([`SyncJob`]): they survive any death of the process, and a death of the host
//! costs the last second. Format: docs/formats/spool.md.
//!
//! This file knows segments, `record.rs` what stands in them. What it means is the business of
//! [`backlog`](super::backlog).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tyto_core::record::schema::Schema;
use tyto_writer::disk::{Disk, DiskFile, Open};
use tyto_writer::frame::{self, FRAME_HEAD_LEN, Tail};

use super::record::{self, put_batch, put_schema};
pub(crate) use super::record::{BatchHead, Lease, Location, Origin, Record};

/// Largest segment, bytes; smaller when the spool is.
const SEGMENT_BYTES_MAX: u64 = 8 << 20;

/// The spool has room for this many segments at least.
const SEGMENTS_MIN: u64 = 16;

/// First bytes of a segment; the digit is the version of the format.
const MAGIC: &[u8; 8] = b"TytoSpl1";

/// Where a record stands. Later ones stand behind those written before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    segment: u64,
    /// Bytes into the segment.
    offset: u64,
}

/// Files to be synced, away from the thread that owns the spool.
#[derive(Debug)]
pub(crate) struct SyncJob {
    disk: Arc<dyn Disk>,
    /// The folder, when it has new names.
    folder: Option<PathBuf>,
    files: Vec<(u64, Arc<dyn DiskFile>)>,
}

/// What a disk did not make durable.
#[derive(Debug)]
pub(crate) struct SyncFault {
    /// What the disk said first.
    pub(crate) error: io::Error,
    /// Segments of which bytes may be in memory only, and stay there for good.
    pub(crate) segments: Vec<u64>,
}

impl SyncJob {
    /// Makes durable what was appended before the job was made. Waits for the disk.
    ///
    /// # Errors
    /// When the disk refuses; all else is tried all the same.
    pub(crate) fn run(&self) -> Result<(), SyncFault> {
        let (mut first, mut segments) = (None, Vec::new());
        for (number, file) in &self.files {
            if let Err(error) = file.sync_data() {
                first.get_or_insert(error);
                segments.push(*number);
            }
        }
        let names = self.folder.as_ref().map_or(Ok(()), |folder| self.disk.sync_folder(folder));
        match first.map_or(names, Err) {
            Ok(()) => Ok(()),
            Err(error) => Err(SyncFault { error, segments }),
        }
    }
}

#[derive(Debug)]
struct Segment {
    file: Arc<dyn DiskFile>,
    len: u64,
    /// A write failed: bytes may stand behind `len`.
    is_torn: bool,
    /// It holds records that only a later release knows.
    is_from_later: bool,
    schemas: HashSet<u64>,
}

/// Segments of a later release that are kept, at most: 128 MiB.
const KEPT_MAX: usize = 16;

/// The segments of one node's spool.
#[derive(Debug)]
pub(crate) struct Spool {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    segments: BTreeMap<u64, Segment>,
    active: u64,
    /// Segments with bytes that were not synced.
    unsynced: BTreeSet<u64>,
    names_unsynced: bool,
    segment_bytes_max: u64,
    bytes: u64,
    scratch: Vec<u8>,
    later: Later,
}

/// What became of segments with records of a later release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Later {
    /// They are there under another name.
    pub(crate) kept: usize,
    /// Removed in this life, because so many were kept already.
    pub(crate) removed: u64,
}

impl Spool {
    /// Reads the segments from `first_segment` on, hands their records to `visit` in the order
    /// they were written, with where they stand, and begins a new segment. Earlier segments are
    /// removed: the ledger has counted what they held.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        bytes_max: u64,
        first_segment: u64,
        mut visit: impl FnMut(Place, Record),
    ) -> io::Result<Self> {
        disk.create_dir_all(folder)?;
        let mut segments = BTreeMap::new();
        let (mut bytes, mut later) = (0, Later::default());
        for number in segment_numbers(&*disk, folder)? {
            let path = segment_path(folder, number);
            if number < first_segment {
                let is_from_later = holds_later_records(&disk.read(&path)?);
                discard(&*disk, folder, number, is_from_later, &mut later)?;
                continue;
            }
            let segment = read_segment(&*disk, &path, number, &mut visit)?;
            bytes += segment.len;
            segments.insert(number, segment);
        }
        let last = segments.keys().next_back().copied();
        let active = last.map_or(first_segment, |last| last + 1).max(first_segment);
        let segment_bytes_max = (bytes_max / SEGMENTS_MIN).clamp(1 << 16, SEGMENT_BYTES_MAX);
        let folder = folder.to_owned();
        let scratch = Vec::new();
        // What an earlier life wrote may not be synced yet.
        let unsynced = segments.keys().copied().collect();
        let mut spool = Self {
            disk,
            folder,
            segments,
            active,
            unsynced,
            names_unsynced: true,
            segment_bytes_max,
            bytes,
            scratch,
            later,
        };
        spool.count_kept();
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

    /// Behind all records that were written.
    pub(crate) fn end(&self) -> Place {
        let offset = self.segments.get(&self.active).map_or(0, |segment| segment.len);
        Place { segment: self.active, offset }
    }

    /// Whether the segment that is being appended to holds any.
    pub(crate) fn has_records(&self) -> bool {
        let active = self.segments.get(&self.active);
        active.is_some_and(|segment| segment.len > MAGIC.len() as u64)
    }

    /// Whether something was written that was not synced.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.names_unsynced || !self.unsynced.is_empty()
    }

    /// What there is to sync. It counts as synced from now on: [`Spool::not_synced`] takes that
    /// back.
    pub(crate) fn sync_job(&mut self) -> SyncJob {
        let files = std::mem::take(&mut self.unsynced).into_iter();
        let files = files.filter_map(|n| self.segments.get(&n).map(|s| (n, s.file.clone())));
        let files = files.collect();
        let folder = std::mem::take(&mut self.names_unsynced).then(|| self.folder.clone());
        SyncJob { disk: self.disk.clone(), folder, files }
    }

    /// A job failed: its files are to be synced again.
    pub(crate) fn not_synced(&mut self, job: &SyncJob) {
        self.names_unsynced |= job.folder.is_some();
        let there = job.files.iter().map(|(number, _)| *number);
        self.unsynced.extend(there.filter(|number| self.segments.contains_key(number)));
    }

    /// Appends a batch, behind its schema if this segment does not have it yet.
    ///
    /// # Errors
    /// When the disk refuses; the spool is as before.
    pub(crate) fn append_batch(
        &mut self,
        (head, origin): (&BatchHead, Origin),
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
        let end = self.append(|out| put_batch(out, (head, origin), logger, crc32, payload))?;
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let location = Location { segment: self.active, offset: end - u64::from(len), len, crc32 };
        Ok(location)
    }

    /// Appends a remark on batches that stand in this or an earlier segment.
    ///
    /// # Errors
    /// When the disk refuses; the spool is as before.
    pub(crate) fn append_mark(&mut self, mark: &Record) -> io::Result<()> {
        self.append(|out| record::put_mark(out, mark))?;
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
        let is_from_later = self.segments.get(&head).is_some_and(|segment| segment.is_from_later);
        discard(&*self.disk, &self.folder, head, is_from_later, &mut self.later)?;
        self.unsynced.remove(&head);
        if let Some(segment) = self.segments.remove(&head) {
            self.bytes -= segment.len;
        }
        Ok(())
    }

    /// What became of segments of a later release.
    pub(crate) const fn later(&self) -> Later {
        self.later
    }

    /// Looks how many of those are kept: who does not need them removes them.
    pub(crate) fn count_kept(&mut self) {
        if let Ok(kept) = kept(&*self.disk, &self.folder) {
            self.later.kept = kept;
        }
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
        let file: Arc<dyn DiskFile> = self.disk.open(&path, Open::Create)?.into();
        file.write_all_at(MAGIC, 0)?;
        self.names_unsynced = true;
        self.unsynced.insert(number);
        let len = MAGIC.len() as u64;
        let (is_torn, is_from_later) = (false, false);
        let segment = Segment { file, len, is_torn, is_from_later, schemas: HashSet::new() };
        self.segments.insert(number, segment);
        self.bytes += len;
        self.active = number;
        Ok(())
    }

    /// Appends one frame and returns the offset behind it. What a write that failed has left is
    /// cut off before: its rows count as dropped, and bytes of two frames could make one.
    fn append(&mut self, body: impl FnOnce(&mut Vec<u8>)) -> io::Result<u64> {
        self.scratch.clear();
        frame::append(&mut self.scratch, body);
        let segment = self.segments.get_mut(&self.active).ok_or(io::ErrorKind::NotFound)?;
        self.unsynced.insert(self.active);
        if segment.is_torn {
            segment.file.set_len(segment.len)?;
        }
        segment.is_torn = true;
        segment.file.write_all_at(&self.scratch, segment.len)?;
        segment.is_torn = false;
        segment.len += self.scratch.len() as u64;
        self.bytes += self.scratch.len() as u64;
        Ok(segment.len)
    }
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.seg"))
}

/// Removes a segment that counts no more. One with records of a later release gets another name
/// instead, for who goes on with that release; beyond [`KEPT_MAX`] of them it is lost, and told.
fn discard(
    disk: &dyn Disk,
    folder: &Path,
    number: u64,
    is_from_later: bool,
    later: &mut Later,
) -> io::Result<()> {
    let path = segment_path(folder, number);
    if !is_from_later {
        return disk.remove_file(&path);
    }
    later.kept = kept(disk, folder)?;
    if later.kept >= KEPT_MAX {
        tracing::error!(segment = %path.display(), "records of a later release are removed");
        later.removed += 1;
        return disk.remove_file(&path);
    }
    disk.rename(&path, &path.with_extension("seg.kept"))?;
    later.kept += 1;
    Ok(())
}

/// How many segments of a later release are kept.
fn kept(disk: &dyn Disk, folder: &Path) -> io::Result<usize> {
    let is_kept = |name: &OsString| name.to_str().is_some_and(|name| name.ends_with(".seg.kept"));
    Ok(disk.read_dir(folder)?.iter().filter(|name| is_kept(name)).count())
}

fn holds_later_records(bytes: &[u8]) -> bool {
    let (mut at, mut found) = (frame::next_whole(bytes, 0), false);
    while let Some(begun) = at {
        let rest = bytes.get(begun..).unwrap_or_default();
        let (len, _) = frame::read(rest, |_, body| found |= record::is_from_later(body));
        at = if len == 0 { None } else { frame::next_whole(bytes, begun + len) };
    }
    found
}

fn segment_numbers(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for name in disk.read_dir(folder)? {
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads one segment of an earlier life. A torn tail is cut off; damage in the middle costs
/// the records it hit, and is told.
fn read_segment(
    disk: &dyn Disk,
    path: &Path,
    number: u64,
    visit: &mut impl FnMut(Place, Record),
) -> io::Result<Segment> {
    let file: Arc<dyn DiskFile> = disk.open(path, Open::ReadWrite)?.into();
    let bytes = disk.read(path)?;
    let (mut at, mut is_from_later) = (MAGIC.len().min(bytes.len()), false);
    if !bytes.starts_with(MAGIC) {
        at = frame::next_whole(&bytes, 0).unwrap_or(bytes.len());
        tracing::error!(segment = %path.display(), "segment does not begin as one");
    }
    loop {
        let begun = at;
        let (len, tail) = frame::read(bytes.get(begun..).unwrap_or_default(), |offset, body| {
            let place = Place { segment: number, offset: (begun + offset) as u64 };
            match record::parse(number, place.offset, body) {
                Ok(record) => visit(place, record),
                Err(_) if record::is_from_later(body) => is_from_later = true,
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
    if is_from_later {
        tracing::error!(
            segment = %path.display(),
            "the spool has records of a later release; the segment is kept for it"
        );
    }
    let (len, is_torn) = (at as u64, false);
    Ok(Segment { file, len, is_torn, is_from_later, schemas: HashSet::new() })
}

const _: () = assert!(FRAME_HEAD_LEN == 12, "docs/formats/spool.md says 12");
