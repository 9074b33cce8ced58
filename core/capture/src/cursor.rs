//! How far a ring was read, and what was counted, in memory that outlives the reader: a small
//! file in memory (memfd) beside each packet socket. Whoever maps ring and file next goes on
//! exactly there: no frame is lent twice, none is left out, and the totals are those of all
//! lives. Killing the reader between any two instructions breaks neither.
//!
//! The place is one word: the block being read (lower 32 bits of its sequence number) and how
//! many of its frames were lent. It is stored *before* a frame is lent, so that a packet which
//! crashes its reader does not crash the next one too. Totals up to that block stand in one of
//! two slots, by the parity of the block's number; the slot of a block is written before the
//! place names the block, and again two blocks later, when the place has left it.
//!
//! The file's second part says as JSON what the socket was made for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use rustix::fs::{MemfdFlags, SealFlags};
use tyto_core::config::runtime::CaptureConfig;

use crate::account::Account;
use crate::mapping::Words;
use crate::ring::RingSize;

/// Name of the file in `/proc/PID/fd`, where a lost one is found again.
pub(crate) const FILE_NAME: &str = "tyto-capture";

/// First word of the file; the last digit changes with the meaning of the words.
const MAGIC: u64 = u64::from_le_bytes(*b"tytocap1");

/// Where the JSON begins.
const TEXT_AT: u64 = 4096;
/// Bytes of JSON at most. Its largest part is the filter expression.
const TEXT_LEN_MAX: usize = 60 << 10;

// Words of the page.
const WORD_MAGIC: usize = 0;
const WORD_BLOCKS: usize = 1;
const WORD_INTERFACE: usize = 2;
const WORD_LINK: usize = 3;
const WORD_PLACE: usize = 4;
const WORD_READERS: usize = 5;
const WORD_DOWNS: usize = 6;
const WORD_TAKEN: usize = 7;
const WORD_NEWS: usize = 8;
const WORD_KERNEL_TOTALS: usize = 10;
const WORD_TOTALS: usize = 16;
// What the reader has in hand stands behind these words, from 64 on (`account.rs`).
const _: () = assert!(WORD_TOTALS + 2 * Totals::WORDS <= 64);
const _: () = assert!((Words::COUNT * size_of::<u64>()) as u64 <= TEXT_AT);

/// Bits of [`WORD_TAKEN`]: which slot of the kernel's totals counts, and whether the news were
/// added to it already.
const SLOT: u64 = 1;
const ADDED: u64 = 2;

/// What the frames lent so far add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) packets: u64,
    /// Bytes on the wire.
    pub(crate) bytes: u64,
    /// Packets of which less was kept than was on the wire.
    pub(crate) truncated: u64,
    /// Packets skipped because their place in the ring made no sense.
    pub(crate) malformed: u64,
}

/// What the kernel counted for a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelTotals {
    /// Packets meant for the socket, the dropped ones included.
    pub(crate) packets: u64,
    /// Of these, packets that found no room in the ring.
    pub(crate) drops: u64,
    /// Times that the ring was found full and the kernel stopped filling it for a while.
    pub(crate) freezes: u64,
}

/// What a socket was made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) ring: RingSize,
    /// Number of the interface.
    pub(crate) interface: i32,
    /// How frames begin, as a link type of capture files.
    pub(crate) link_type: u32,
    /// Frames come twice, sent and received.
    pub(crate) is_loopback: bool,
}

/// Where reading stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Lower half of the block's sequence number.
    pub(crate) block: u32,
    /// Frames of that block that were lent.
    pub(crate) lent: u32,
}

/// The file, not mapped.
#[derive(Debug)]
pub(crate) struct CursorFile {
    file: std::fs::File,
}

/// The page as the reader of the ring sees it. There is one reader at a time.
#[derive(Debug)]
pub(crate) struct Cursor {
    words: Words,
    /// Kept open so that the file can be had back from this process (`pidfd_getfd`).
    file: CursorFile,
}

impl CursorFile {
    /// A new file for a socket of which nothing was read yet.
    ///
    /// # Errors
    /// When the system has no memory or descriptor for it.
    pub(crate) fn new(made: &Made, config: &CaptureConfig) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = std::fs::File::from(rustix::fs::memfd_create(FILE_NAME, flags)?);
        file.set_len(TEXT_AT + TEXT_LEN_MAX as u64)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let file = Self { file };
        file.write_config(config)?;
        let mapped = Words::of(&file)?;
        let words = mapped.words();
        let pair = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let set = |word: usize, value: u64| words[word].store(value, Ordering::Relaxed);
        set(WORD_BLOCKS, pair(made.ring.block_bytes, made.ring.blocks));
        set(WORD_INTERFACE, pair(made.interface.cast_unsigned(), made.ring.block_timeout_ms));
        set(WORD_LINK, pair(made.link_type, made.is_loopback.into()));
        // The kernel's first block has the number 1.
        set(WORD_PLACE, Place { block: 1, lent: 0 }.word());
        words[WORD_MAGIC].store(MAGIC, Ordering::Release);
        Ok(file)
    }

    /// A file that another process made.
    ///
    /// # Errors
    /// EINVAL when it is something else.
    pub(crate) fn made_before(file: OwnedFd) -> io::Result<Self> {
        let file = Self { file: file.into() };
        let magic = Words::of(&file)?.words()[WORD_MAGIC].load(Ordering::Acquire);
        if magic == MAGIC { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// What the socket was made as.
    ///
    /// # Errors
    /// When the file cannot be mapped.
    pub(crate) fn made(&self) -> io::Result<Made> {
        let mapped = Words::of(self)?;
        let load = |word: usize| mapped.words()[word].load(Ordering::Relaxed);
        Ok(Made {
            ring: RingSize {
                block_bytes: low(load(WORD_BLOCKS)),
                blocks: high(load(WORD_BLOCKS)),
                block_timeout_ms: high(load(WORD_INTERFACE)),
            },
            interface: low(load(WORD_INTERFACE)).cast_signed(),
            link_type: low(load(WORD_LINK)),
            is_loopback: high(load(WORD_LINK)) != 0,
        })
    }

    /// Notes what the socket is configured as.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(crate) fn write_config(&self, config: &CaptureConfig) -> io::Result<()> {
        let mut text = serde_json::to_vec(config)?;
        if text.len() > TEXT_LEN_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        text.resize(TEXT_LEN_MAX, b' ');
        self.file.write_all_at(&text, TEXT_AT)
    }

    /// What the socket is configured as.
    ///
    /// # Errors
    /// When the file does not say it in words that this program knows.
    pub(crate) fn config(&self) -> io::Result<CaptureConfig> {
        let mut text = vec![0; TEXT_LEN_MAX];
        self.file.read_exact_at(&mut text, TEXT_AT)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Another descriptor of the same file.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()? })
    }
}

impl AsFd for CursorFile {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Cursor {
    /// Maps the page for reading the ring.
    ///
    /// # Errors
    /// When that is not possible.
    pub(crate) fn map(file: CursorFile) -> io::Result<Self> {
        let words = Words::of(&file)?;
        words.words()[WORD_READERS].fetch_add(1, Ordering::Relaxed);
        Ok(Self { words, file })
    }

    /// How many processes have read the ring, this one included.
    pub(crate) fn readers(&self) -> u64 {
        self.word(WORD_READERS).load(Ordering::Relaxed)
    }

    /// The counts beside the cursor.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub(crate) fn account(&self) -> io::Result<Account> {
        Account::map(&self.file)
    }

    /// Where reading stands.
    pub(crate) fn place(&self) -> Place {
        let word = self.word(WORD_PLACE).load(Ordering::Acquire);
        Place { block: low(word), lent: high(word) }
    }

    /// Totals of all frames before the first of `block`, which is the one of [`Cursor::place`].
    pub(crate) fn totals_before(&self, block: u32) -> Totals {
        let [packets, bytes, truncated, malformed] =
            self.slot(block).each_ref().map(|word| word.load(Ordering::Relaxed));
        Totals { packets, bytes, truncated, malformed }
    }

    /// Reading goes on with the first frame of `block`; all before add up to `totals`.
    pub(crate) fn begin(&self, block: u32, totals: Totals) {
        let Totals { packets, bytes, truncated, malformed } = totals;
        for (word, value) in self.slot(block).iter().zip([packets, bytes, truncated, malformed]) {
            word.store(value, Ordering::Relaxed);
        }
        self.word(WORD_PLACE).store(Place { block, lent: 0 }.word(), Ordering::Release);
        compiler_fence(Ordering::SeqCst);
    }

    /// The next frame is about to be lent: nobody gets it again.
    #[inline]
    pub(crate) fn lend(&self, place: Place) {
        self.word(WORD_PLACE).store(place.word(), Ordering::Release);
        // What is done with the frame must not move up before the store. It need not be seen in
        // this order by another CPU: the next reader comes after the end of this process.
        compiler_fence(Ordering::SeqCst);
    }

    /// The interface went down once more.
    pub(crate) fn count_down(&self) {
        self.word(WORD_DOWNS).fetch_add(1, Ordering::Relaxed);
    }

    /// Times that the interface went down.
    pub(crate) fn downs(&self) -> u64 {
        self.word(WORD_DOWNS).load(Ordering::Relaxed)
    }

    /// Totals of the kernel's counters. `take` moves what the kernel counted since the last call
    /// into the words it is given.
    ///
    /// # Errors
    /// What `take` fails with.
    pub(crate) fn kernel_totals(
        &self,
        take: impl FnOnce(&[AtomicU64; 2]) -> io::Result<()>,
    ) -> io::Result<KernelTotals> {
        // An earlier reader may have been killed in between, with news that nobody added.
        self.add_news();
        for word in self.news() {
            word.store(0, Ordering::Relaxed);
        }
        compiler_fence(Ordering::SeqCst);
        let slot = self.word(WORD_TAKEN).load(Ordering::Relaxed) & SLOT;
        self.word(WORD_TAKEN).store(slot, Ordering::Release);
        compiler_fence(Ordering::SeqCst);
        take(self.news())?;
        compiler_fence(Ordering::SeqCst);
        Ok(self.add_news())
    }

    /// Adds the news to the totals, unless that was done. The sum goes to the other slot, and
    /// one store says that it counts and the news do not any more.
    fn add_news(&self) -> KernelTotals {
        let taken = self.word(WORD_TAKEN).load(Ordering::Acquire);
        let [packets, drops, freezes] =
            self.kernel_slot(taken & SLOT).each_ref().map(|word| word.load(Ordering::Relaxed));
        if taken & ADDED != 0 {
            return KernelTotals { packets, drops, freezes };
        }
        // The words are the bytes of three u32 in a row.
        let [first, second] = self.news().each_ref().map(|w| w.load(Ordering::Relaxed));
        let ([first, second], third) = (halves(first), halves(second)[0]);
        let sums =
            [packets + u64::from(first), drops + u64::from(second), freezes + u64::from(third)];
        let other = (taken & SLOT) ^ SLOT;
        for (word, sum) in self.kernel_slot(other).iter().zip(sums) {
            word.store(sum, Ordering::Relaxed);
        }
        self.word(WORD_TAKEN).store(other | ADDED, Ordering::Release);
        compiler_fence(Ordering::SeqCst);
        KernelTotals { packets: sums[0], drops: sums[1], freezes: sums[2] }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.words.words()[index]
    }

    fn news(&self) -> &[AtomicU64; 2] {
        part(self.words.words(), WORD_NEWS)
    }

    fn kernel_slot(&self, slot: u64) -> &[AtomicU64; 3] {
        part(self.words.words(), WORD_KERNEL_TOTALS + if slot == 0 { 0 } else { 3 })
    }

    fn slot(&self, block: u32) -> &[AtomicU64; Totals::WORDS] {
        part(
            self.words.words(),
            WORD_TOTALS + if block.is_multiple_of(2) { 0 } else { Totals::WORDS },
        )
    }
}

impl Totals {
    const WORDS: usize = 4;

    /// Adds one frame.
    pub(crate) fn add(&mut self, (kept_len, wire_len): (usize, u32)) {
        self.packets += 1;
        self.bytes += u64::from(wire_len);
        self.truncated += u64::from(kept_len < wire_len as usize);
    }
}

impl Place {
    fn word(self) -> u64 {
        u64::from(self.lent) << 32 | u64::from(self.block)
    }
}

/// `N` words from `at` on.
fn part<const N: usize>(words: &[AtomicU64; Words::COUNT], at: usize) -> &[AtomicU64; N] {
    let (part, _) = words[at..].split_first_chunk().unwrap_or_else(|| unreachable!("{at}"));
    part
}

/// Lower half of a word.
fn low(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default()
}

/// Upper half of a word.
fn high(word: u64) -> u32 {
    u32::try_from(word >> 32).unwrap_or_default()
}

/// The two u32 that lie in a word, in the order of their addresses.
fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}
