//! Memory shared with the kernel or with other processes, behind safe types: [`Mapping`], the
//! ring of a packet socket, and [`Words`], a page of counters that outlives its process.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::fs::SealFlags;

/// Where a block's status word stands in it.
const BLOCK_STATUS_OFFSET: usize =
    offset_of!(libc::tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, block_status);
const _: () = assert!(BLOCK_STATUS_OFFSET.is_multiple_of(size_of::<u32>()));

/// Where a block's sequence number stands in it.
const BLOCK_SEQUENCE_OFFSET: usize =
    offset_of!(libc::tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, seq_num);
const _: () = assert!(BLOCK_SEQUENCE_OFFSET.is_multiple_of(size_of::<u64>()));

/// The ring as this process sees it: blocks of equal size. The kernel fills blocks whose
/// status says that they are its own, and leaves the others alone.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    block_size: usize,
    blocks: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; `Mapping` is its only owner
// and hands out its bytes by `&mut self` alone.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `blocks` blocks of `block_size` bytes: the ring of a packet socket, or (in tests) a
    /// file that plays one.
    ///
    /// # Errors
    /// EINVAL when these are not the sizes of the ring.
    pub(crate) fn of(ring: impl AsFd, block_size: usize, blocks: usize) -> io::Result<Self> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        if block_size == 0 || !block_size.is_multiple_of(rustix::param::page_size()) {
            return Err(invalid());
        }
        let len = block_size.checked_mul(blocks).ok_or_else(invalid)?;
        // packet_mmap refuses any length but the ring's.
        let base = map_shared(&ring, len)?;
        Ok(Self { base, block_size, blocks })
    }

    /// Number of blocks.
    pub(crate) const fn blocks(&self) -> usize {
        self.blocks
    }

    /// Whether the kernel handed over block `index`.
    ///
    /// # Panics
    /// When there is no block `index`.
    pub(crate) fn is_ours(&self, index: usize) -> bool {
        self.status_word(index).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// The bytes of block `index`, to be read only; none while it is the kernel's.
    ///
    /// # Panics
    /// When there is no block `index`.
    pub(crate) fn block(&self, index: usize) -> Option<&[u8]> {
        if !self.is_ours(index) {
            return None;
        }
        // SAFETY: as in `block_mut`, but that `&self` excludes references on our side that write:
        // `block_mut` and `release` take `&mut self`.
        Some(unsafe {
            slice::from_raw_parts(self.base.as_ptr().add(index * self.block_size), self.block_size)
        })
    }

    /// The bytes of block `index`; none while it is the kernel's.
    ///
    /// # Panics
    /// When there is no block `index`.
    pub(crate) fn block_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        if !self.is_ours(index) {
            return None;
        }
        // SAFETY: `status_word` checked that block `index` lies in the mapping, which lives as
        // long as `self`, and `&mut self` excludes another reference into it on our side. We
        // read TP_STATUS_USER with Acquire: from then on the kernel leaves the block alone
        // (prb_dispatch_next_block opens blocks of TP_STATUS_KERNEL only) until `release`,
        // which needs `&mut self` and so comes after the last use of this slice.
        Some(unsafe {
            slice::from_raw_parts_mut(
                self.base.as_ptr().add(index * self.block_size),
                self.block_size,
            )
        })
    }

    /// Sequence number that the kernel gave block `index` when it began to fill it, whoever has
    /// the block now; 0 when it never did.
    ///
    /// # Panics
    /// When there is no block `index`.
    pub(crate) fn sequence(&self, index: usize) -> u64 {
        assert!(index < self.blocks, "block {index} of {}", self.blocks);
        let offset = index * self.block_size + BLOCK_SEQUENCE_OFFSET;
        // SAFETY: as in `status_word`; the offset is a multiple of eight (asserted at
        // BLOCK_SEQUENCE_OFFSET). The kernel writes the number with one store.
        let word = unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) };
        word.load(Ordering::Acquire)
    }

    /// Gives block `index` back to the kernel; all use of its bytes happens before.
    ///
    /// # Panics
    /// When there is no block `index`.
    pub(crate) fn release(&mut self, index: usize) {
        self.status_word(index).store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }

    fn status_word(&self, index: usize) -> &AtomicU32 {
        assert!(index < self.blocks, "block {index} of {}", self.blocks);
        let offset = index * self.block_size + BLOCK_STATUS_OFFSET;
        // SAFETY: block `index` was just checked to lie in the mapping, which lives as long as
        // `self`, and a block (at least a page, `Mapping::of`) holds its status word.
        // Mapping and blocks begin at page boundaries and the offset is a multiple of four
        // (asserted at BLOCK_STATUS_OFFSET), so the word is aligned. Kernel and we access it
        // with single loads and stores, as atomics do.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those that mmap gave; no reference into the mapping is
        // left, as all borrow from `self`.
        let result = unsafe {
            libc::munmap(self.base.as_ptr().cast::<c_void>(), self.block_size * self.blocks)
        };
        debug_assert_eq!(result, 0, "munmap takes what mmap gave");
    }
}

/// A shared page of counters: the beginning of a file in memory (memfd_create(2)).
#[derive(Debug)]
pub(crate) struct Words {
    base: NonNull<u8>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and holds atomics only.
unsafe impl Send for Words {}

impl Words {
    /// Number of words in the page.
    pub(crate) const COUNT: usize = 512;
    const LEN: usize = Self::COUNT * size_of::<u64>();

    /// Maps the beginning of `file`.
    ///
    /// # Errors
    /// EINVAL when the file is too short, or could still become so.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        let len = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or_default();
        if !seals.contains(SealFlags::SHRINK) || len < Self::LEN as u64 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Self { base: map_shared(&file, Self::LEN)? })
    }

    /// The words.
    pub(crate) fn words(&self) -> &[AtomicU64; Self::COUNT] {
        // SAFETY: `of` mapped COUNT words at `base`, which is page-aligned, for as long as
        // `self` lives; it saw that the file is that long and sealed against getting shorter, so
        // that each access finds memory. All processes access it with atomics (and the kernel
        // within a system call of ours, `PacketSocket::take_statistics`); any bytes are valid.
        unsafe { &*self.base.as_ptr().cast::<[AtomicU64; Self::COUNT]>() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: base and length are those that mmap gave; no reference into the mapping is
        // left, as all borrow from `self`.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast::<c_void>(), Self::LEN) };
        debug_assert_eq!(result, 0, "munmap takes what mmap gave");
    }
}

/// Maps the first `len` bytes of a file, shared.
fn map_shared(file: &impl AsFd, len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: without a wanted address the kernel picks a free range, so no memory of ours is
    // replaced; the descriptor is open as long as `file` is borrowed.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_fd().as_raw_fd(),
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}
