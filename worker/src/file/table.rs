//! The files that are followed now, and when their silence is looked at.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use highway::{HighwayHash, HighwayHasher};
use sha2::{Digest, Sha256};
use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::net::Side;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::{Fuid, Uid};

use super::FileAbout;
use super::extract::{Extracted, Extractor};
use super::followed::File;
use crate::flow::hash::KeyedHasher;

/// Files that are followed at a time. Further ones are not looked at, and counted.
const FILES_MAX: usize = 65_536;
/// Bytes of all files together that wait for those in front of them. At the limit a file takes
/// what it has, with gaps.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// Files given up whose type is remembered. At the limit the types of all are forgotten, and
/// missing in the rows of messages that go on for long.
const GIVEN_UP_MAX: usize = 4096;
/// Silence after which a file is over, seconds (Zeek: `default_file_timeout_interval`). It is
/// looked at only so often, too.
const SILENCE_MAX_S: u64 = 120;

/// How many files there are, and what happened at the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStats {
    /// Files begun.
    pub begun: u64,
    /// Files that are followed now.
    pub open: u64,
    /// Bytes that wait now for those in front of them.
    pub waiting_bytes: u64,
    /// Files that were not followed because there were too many.
    pub refused: u64,
    /// Times that a file was taken with gaps because too many bytes waited.
    pub flushed: u64,
    /// Bytes that were to be extracted and did not get onto the disk.
    pub extracted_lost_bytes: u64,
}

/// The files that the worker follows.
#[derive(Debug)]
pub struct Files {
    /// A file is out of its place while something is done with it.
    open: HashMap<Fuid, Option<Box<File>>, KeyedHasher>,
    /// When the silence of files is looked at; one entry per file.
    deadlines: BTreeSet<(Ts, u64, Fuid)>,
    /// No deadline is before this: it is asked with each packet.
    next_look: Ts,
    /// By which handles become ids.
    id_key: highway::Key,
    begun: u64,
    /// Types of files that were given up in silence, for the protocol that still waits for the
    /// rest of them.
    given_up: HashMap<Fuid, &'static str, KeyedHasher>,
    waiting_bytes: usize,
    extractor: Option<Extractor>,
    hashes_files: bool,
    stats: FileStats,
}

impl Files {
    /// None yet; ids are hashed with `hasher`.
    pub fn new(config: &AnalysisConfig, hasher: KeyedHasher) -> Self {
        Self {
            open: HashMap::with_hasher(hasher.clone()),
            given_up: HashMap::with_hasher(hasher),
            deadlines: BTreeSet::new(),
            next_look: Ts(0),
            id_key: id_key(),
            begun: 0,
            waiting_bytes: 0,
            extractor: Extractor::new(config),
            hashes_files: config.hash_files.0,
            stats: FileStats::default(),
        }
    }

    /// How many there are, and what happened at the limits.
    pub fn stats(&self) -> FileStats {
        let lost = self.extractor.as_ref().map_or(0, Extractor::lost_bytes);
        FileStats {
            begun: self.begun,
            open: self.open.len() as u64,
            waiting_bytes: self.waiting_bytes as u64,
            extracted_lost_bytes: self.stats.extracted_lost_bytes + lost,
            ..self.stats
        }
    }

    /// Begins to extract `file`, if that is asked for. Its name is Zeek's.
    pub(super) fn begin_extraction(&self, file: &mut File) {
        if self.extractor.is_some() {
            let (secs, micros) = (file.begun.secs(), file.begun.micros_part());
            let (source, fuid) = (file.source.unwrap_or_default(), file.fuid);
            let name = format!("extract-{secs}.{micros:06}-{source}-{fuid}");
            file.extracted = Some(Extractor::begin(name));
        }
    }

    /// Writes bytes of a file that is extracted.
    pub(super) fn extract(&mut self, file: &mut Extracted, offset: u64, bytes: &[u8]) {
        if let Some(extractor) = &mut self.extractor {
            extractor.write(file, offset, bytes);
        }
    }

    /// Waits until all that was extracted is on the disk.
    pub(super) fn finish_extraction(&mut self) {
        if let Some(extractor) = self.extractor.take() {
            self.stats.extracted_lost_bytes += extractor.lost_bytes();
            extractor.finish();
        }
    }

    /// The id of the file called `handle`: always the same, on every worker, and Zeek's where
    /// the protocol's handle is Zeek's (`HashHandle`, with the salt that Zeek comes with).
    pub fn fuid(&self, handle: &[u8]) -> Fuid {
        let [hi, lo] = HighwayHasher::new(self.id_key).hash128(handle);
        Fuid(Uid { hi: (hi >> 32) as u32, lo })
    }

    pub(super) fn file(&self, fuid: Fuid) -> Option<&File> {
        self.open.get(&fuid)?.as_deref()
    }

    pub(super) fn file_mut(&mut self, fuid: Fuid) -> Option<&mut File> {
        self.open.get_mut(&fuid)?.as_deref_mut()
    }

    /// Takes the file out of its place, to which it comes back by [`Files::put_back`].
    pub(super) fn take(&mut self, fuid: Fuid) -> Option<Box<File>> {
        self.open.get_mut(&fuid)?.take()
    }

    pub(super) fn put_back(&mut self, file: Box<File>) {
        if let Some(place) = self.open.get_mut(&file.fuid) {
            *place = Some(file);
        }
    }

    /// The file, begun if it is new; none when there are too many.
    pub(super) fn take_or_begin(
        &mut self,
        fuid: Fuid,
        side: Side,
        about: &FileAbout,
        now: Ts,
    ) -> Option<Box<File>> {
        if let Some(place) = self.open.get_mut(&fuid) {
            let mut file = place.take()?;
            file.last_active = now;
            return Some(file);
        }
        if self.open.len() >= FILES_MAX {
            self.stats.refused += 1;
            return None;
        }
        let mut file = Box::new(File::new(fuid, side, about, now, self.hashes_files));
        if let Some(mime_type) = about.mime_type {
            file.set_mime_type(mime_type);
        }
        self.begun += 1;
        file.serial = self.begun;
        file.deadline = now.plus_secs(SILENCE_MAX_S);
        self.deadlines.insert((file.deadline, file.serial, fuid));
        self.next_look = self.next_look.min(file.deadline);
        self.open.insert(fuid, None);
        Some(file)
    }

    /// Whether there may be a file that was silent for too long.
    #[inline]
    pub(super) fn is_due(&self, now: Ts) -> bool {
        self.next_look <= now
    }

    /// The next file that was silent for too long. Those whose time came and that were not are
    /// looked at again later.
    pub(super) fn take_silent(&mut self, now: Ts) -> Option<Box<File>> {
        if !self.is_due(now) {
            return None;
        }
        let silence_max = Interval::from_secs(SILENCE_MAX_S.cast_signed());
        loop {
            let first = self.deadlines.first().copied();
            self.next_look = first.map_or(Ts(u64::MAX), |(deadline, ..)| deadline);
            let (_, serial, fuid) = first.filter(|_| self.next_look <= now)?;
            self.deadlines.pop_first();
            let Some(place) = self.open.get_mut(&fuid) else { continue };
            let Some(file) = place else { continue };
            if now.since(file.last_active) >= silence_max {
                return place.take();
            }
            file.deadline = now.plus_secs(SILENCE_MAX_S);
            self.deadlines.insert((file.deadline, serial, fuid));
        }
    }

    /// All files, in the order in which they began; for the end of all.
    pub(super) fn in_order(&self) -> Vec<Fuid> {
        let mut order: Vec<_> =
            self.deadlines.iter().map(|&(_, serial, fuid)| (serial, fuid)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, fuid)| fuid).collect()
    }

    /// The file is over.
    pub(super) fn removed(&mut self, file: &File) {
        self.deadlines.remove(&(file.deadline, file.serial, file.fuid));
        self.open.remove(&file.fuid);
    }

    /// A file of type `mime_type` was given up.
    pub(super) fn gave_up(&mut self, fuid: Fuid, mime_type: &'static str) {
        if self.given_up.len() >= GIVEN_UP_MAX {
            self.given_up.clear();
        }
        self.given_up.insert(fuid, mime_type);
    }

    /// Type of a file that was given up.
    pub(super) fn take_given_up(&mut self, fuid: Fuid) -> Option<&'static str> {
        self.given_up.remove(&fuid)
    }

    /// Bytes of a file that wait were `before` and are `after`. True when all files together
    /// have too many.
    pub(super) fn waits_too_much(&mut self, before: usize, after: usize) -> bool {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(before).saturating_add(after);
        let too_much = after > 0 && self.waiting_bytes > WAITING_BYTES_MAX;
        self.stats.flushed += u64::from(too_much);
        too_much
    }
}

/// The key of ids: Zeek takes the digest of a constant (`digest_salt`).
fn id_key() -> highway::Key {
    const SALT: &[u8] = b"Please change this value.";
    let digest = Sha256::digest(SALT);
    let (words, _) = digest.as_chunks::<8>();
    let mut key = [0; 4];
    for (to, from) in key.iter_mut().zip(words) {
        *to = u64::from_ne_bytes(*from);
    }
    highway::Key(key)
}
