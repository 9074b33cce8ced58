//! What the reader of a ring has in hand: rows made, connections open, claims asked for. It
//! stands in the page that outlives the reader (`cursor.rs`), so that the next reader can
//! say what a kill cost: what was made and never came to the disk.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tyto_core::config::runtime::CaptureConfig;

use crate::cursor::{CursorFile, Made};
use crate::mapping::Words;
use crate::ring::RingSize;

// Words of the page, behind those of the cursor.
const WORD_EPOCH: usize = 64;
const WORD_FLOWS: usize = 65;
const WORD_UNSYNCED: usize = 66;
const WORD_STREAMS: usize = 72;

/// Words of a log stream: its name, its rows, its claims that nobody has decided on.
const STREAM_WORDS: usize = NAME_WORDS + 2;
const NAME_WORDS: usize = 4;
/// Log streams counted at most. Rows of a further one that a kill costs are not told.
const STREAMS_MAX: usize = (Words::COUNT - WORD_STREAMS) / STREAM_WORDS;

/// The counts, mapped. Each holder maps them for itself.
#[derive(Debug)]
pub struct Account {
    words: Words,
}

/// A page without a socket beside it, for nodes whose capture is simulated. It lives as long as
/// its holder, as that of a live node does with its supervisor.
#[derive(Debug)]
pub struct Page {
    file: CursorFile,
}

impl Page {
    /// A page on which nothing was counted.
    ///
    /// # Errors
    /// When the system has no memory or descriptor for it.
    pub fn new() -> io::Result<Self> {
        let ring = RingSize { block_bytes: 4096, blocks: 2, block_timeout_ms: 10 };
        let made = Made { ring, interface: 1, link_type: 1, is_loopback: true };
        Ok(Self { file: CursorFile::new(&made, &CaptureConfig::new("lo"))? })
    }

    /// The counts on it, mapped once more.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn account(&self) -> io::Result<Account> {
        Account::map(&self.file)
    }
}

/// What a reader had in hand when it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Its life, ns since the Unix epoch; 0: nobody counted.
    pub epoch: u64,
    /// Connections that were open.
    pub flows: u64,
    /// The first segment of its spool that the disk failed to sync; what is in there may be in
    /// memory only.
    pub unsynced: Option<u64>,
    /// Per log stream.
    pub streams: Vec<LeftRows>,
}

/// What it had in hand of a log stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftRows {
    /// Its name.
    pub stream: String,
    /// Rows made, over all lives of the node.
    pub rows: u64,
    /// Rows that hang on claims nobody had decided on.
    pub claims: u64,
}

/// A log stream's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

impl Account {
    /// Maps the counts beside a socket.
    ///
    /// # Errors
    /// When that is not possible.
    pub(crate) fn map(file: &CursorFile) -> io::Result<Self> {
        Ok(Self { words: Words::of(file)? })
    }

    /// What the reader before has left.
    pub fn left(&self) -> Left {
        let of = |slot| {
            let (rows, claims) = (self.load(rows_word(slot)), self.load(claims_word(slot)));
            Some(LeftRows { stream: self.name(slot)?, rows, claims })
        };
        Left {
            epoch: self.load(WORD_EPOCH),
            flows: self.load(WORD_FLOWS),
            unsynced: self.load(WORD_UNSYNCED).checked_sub(1),
            streams: (0..STREAMS_MAX).map_while(of).collect(),
        }
    }

    /// A life begins; `rows` were made before it, per log stream. What was not synced still is not:
    /// that stays until [`set_unsynced`](Self::set_unsynced).
    pub fn begin<'a>(&self, epoch: u64, rows: impl Iterator<Item = (&'a str, u64)>) {
        // Nobody's, while the counts are of two lives.
        self.store(WORD_EPOCH, 0);
        let counts = (WORD_FLOWS..Words::COUNT).filter(|word| *word != WORD_UNSYNCED);
        counts.for_each(|word| self.store(word, 0));
        for (stream, rows) in rows {
            if let Some(slot) = self.slot(stream) {
                self.add_rows(slot, rows);
            }
        }
        self.word(WORD_EPOCH).store(epoch, Ordering::Release);
    }

    /// The place of a log stream, made if it has none, by one thread only: the packet thread. None
    /// when there is no room or its name is too long.
    pub fn slot(&self, stream: &str) -> Option<Slot> {
        if stream.is_empty() || stream.len() > NAME_WORDS * size_of::<u64>() {
            return None;
        }
        for slot in 0..STREAMS_MAX {
            match self.name(slot) {
                Some(name) if name == stream => return Some(Slot(slot)),
                Some(_) => {}
                None => {
                    let mut bytes = [0; NAME_WORDS * size_of::<u64>()];
                    bytes.iter_mut().zip(stream.bytes()).for_each(|(to, from)| *to = from);
                    // The first word last: it makes the place taken.
                    for (place, word) in bytes.chunks_exact(size_of::<u64>()).enumerate().rev() {
                        let word = word.try_into().map_or(0, u64::from_le_bytes);
                        self.store(name_word(slot) + place, word);
                    }
                    return Some(Slot(slot));
                }
            }
        }
        None
    }

    /// Rows were made.
    #[inline]
    pub fn add_rows(&self, Slot(slot): Slot, rows: u64) {
        self.word(rows_word(slot)).fetch_add(rows, Ordering::Relaxed);
    }

    /// Connections that are open now.
    pub fn set_flows(&self, flows: u64) {
        self.store(WORD_FLOWS, flows);
    }

    /// The first segment of the spool that the disk failed to sync.
    pub fn set_unsynced(&self, segment: Option<u64>) {
        self.store(WORD_UNSYNCED, segment.map_or(0, |segment| segment + 1));
    }

    /// A claim was made for a row of that log stream.
    pub fn claim_made(&self, stream: &str) {
        if let Some(Slot(slot)) = self.slot(stream) {
            self.word(claims_word(slot)).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A row was granted, or given up: it counts.
    pub fn add_row(&self, stream: &str) {
        if let Some(slot) = self.slot(stream) {
            self.add_rows(slot, 1);
        }
    }

    /// A claim was decided, and its row handed on if it was granted.
    pub fn claim_done(&self, stream: &str) {
        if let Some(Slot(slot)) = self.slot(stream) {
            self.word(claims_word(slot)).fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn name(&self, slot: usize) -> Option<String> {
        let words = (0..NAME_WORDS).flat_map(|n| self.load(name_word(slot) + n).to_le_bytes());
        let name: Vec<u8> = words.take_while(|byte| *byte != 0).collect();
        String::from_utf8(name).ok().filter(|name| !name.is_empty())
    }

    fn load(&self, word: usize) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }

    fn store(&self, word: usize, value: u64) {
        self.word(word).store(value, Ordering::Relaxed);
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.words.words()[index]
    }
}

const fn name_word(slot: usize) -> usize {
    WORD_STREAMS + slot * STREAM_WORDS
}

const fn rows_word(slot: usize) -> usize {
    name_word(slot) + NAME_WORDS
}

const fn claims_word(slot: usize) -> usize {
    rows_word(slot) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_reader_sees_what_the_one_before_had_in_hand() {
        let page = Page::new().unwrap();
        {
            let reader = page.account().unwrap();
            assert_eq!(reader.left(), Left::default());
            reader.begin(7, [("conn", 100)].into_iter());
            let (conn, dns) = (reader.slot("conn").unwrap(), reader.slot("dns").unwrap());
            reader.add_rows(conn, 3);
            reader.add_rows(dns, 5);
            reader.set_flows(9);
            reader.set_unsynced(Some(0));
            reader.claim_made("dns");
            reader.claim_made("dns");
            reader.claim_done("dns");
        }
        let left = |stream: &str, rows, claims| LeftRows { stream: stream.into(), rows, claims };
        let next = page.account().unwrap();
        let streams = vec![left("conn", 103, 0), left("dns", 5, 1)];
        assert_eq!(next.left(), Left { epoch: 7, flows: 9, unsynced: Some(0), streams });
        next.begin(8, [("dns", 5)].into_iter());
        let streams = vec![left("dns", 5, 0)];
        assert_eq!(next.left(), Left { epoch: 8, flows: 0, unsynced: Some(0), streams });
        next.set_unsynced(None);
        assert_eq!(next.left().unsynced, None);
        // The cursor's own words are not touched.
        assert_eq!(page.file.made().unwrap().interface, 1);
    }

    #[test]
    fn streams_beyond_the_page_are_not_counted() {
        let account = Page::new().unwrap().account().unwrap();
        let counted = (0..STREAMS_MAX + 5).filter(|n| account.slot(&format!("s{n}")).is_some());
        assert_eq!(counted.count(), STREAMS_MAX);
        assert_eq!(account.slot(&"x".repeat(33)), None);
    }
}
