//! The bytes of a file: as processes see them, and as they are on the medium.

use std::time::SystemTime;

use crate::random::Random;

/// What the medium writes in one step.
const SECTOR_BYTES: usize = 512;

/// A file without its names.
#[derive(Debug)]
pub(crate) struct Inode {
    /// What a reader sees.
    pub(crate) bytes: Vec<u8>,
    pub(crate) modified: SystemTime,
    /// What is on the medium.
    durable: Vec<u8>,
    /// What is in memory only, oldest first.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

impl Default for Inode {
    fn default() -> Self {
        let (bytes, durable, unsynced) = Default::default();
        Self { bytes, modified: SystemTime::UNIX_EPOCH, durable, unsynced }
    }
}

impl Inode {
    pub(crate) fn new(modified: SystemTime) -> Self {
        Self { modified, ..Self::default() }
    }

    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> usize {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        count
    }

    pub(crate) fn write_at(&mut self, bytes: &[u8], offset: u64, now: SystemTime) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.change(Change::Write { offset, bytes: bytes.to_vec() }, now);
    }

    pub(crate) fn set_len(&mut self, len: u64, now: SystemTime) {
        self.change(Change::Len(usize::try_from(len).unwrap_or(usize::MAX)), now);
    }

    /// All of it is on the medium, but for what an earlier sync failed to bring there.
    pub(crate) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// Some of the bytes may be on the medium, and those that are not stay in memory for good. A
    /// length waits for the next sync: file systems do not forget what is in their own journal.
    pub(crate) fn fail_sync(&mut self, random: &mut Random) {
        let fate = Fate::of(random);
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Len(_) => self.unsynced.push(change),
                Change::Write { .. } => change.apply_some(&mut self.durable, fate, random),
            }
        }
    }

    /// The memory is gone.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let fate = Fate::of(random);
        for change in self.unsynced.drain(..) {
            change.apply_some(&mut self.durable, fate, random);
        }
        self.bytes = self.durable.clone();
    }

    fn change(&mut self, change: Change, now: SystemTime) {
        change.apply(&mut self.bytes);
        self.unsynced.push(change);
        self.modified = now;
    }
}

/// How much of what is not synced comes through: each outcome has to come often enough.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Nothing,
    Everything,
    Some,
}

impl Fate {
    pub(crate) fn of(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some,
        }
    }

    /// Whether one thing comes through.
    pub(crate) const fn keeps(self, random: &mut Random) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some => random.chance(),
        }
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write(to, *offset, bytes),
            Self::Len(len) => to.resize(*len, 0),
        }
    }

    fn apply_some(&self, to: &mut Vec<u8>, fate: Fate, random: &mut Random) {
        let Self::Write { offset, bytes } = self else {
            if fate.keeps(random) {
                self.apply(to);
            }
            return;
        };
        let mut at = 0;
        while at < bytes.len() {
            let sector_end = (offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
            let end = (sector_end - offset).min(bytes.len());
            if fate.keeps(random) {
                // Now and then a sector is torn too: not every medium keeps its word.
                let is_torn = fate == Fate::Some && random.below(8) == 0;
                let cut = if is_torn { random.below(end - at) } else { end - at };
                write(to, offset + at, &bytes[at..at + cut]);
            }
            at = end;
        }
        // The length may come through without the bytes.
        if fate == Fate::Some && random.below(4) == 0 {
            to.resize(to.len().max(offset + bytes.len()), 0);
        }
    }
}

fn write(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if bytes.is_empty() {
        return;
    }
    if to.len() < end {
        to.resize(end, 0);
    }
    to[offset..end].copy_from_slice(bytes);
}
