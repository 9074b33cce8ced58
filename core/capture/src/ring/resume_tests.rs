//! The ring against a model of the kernel that fills it: readers are killed in the worst moments
//! and followed by others, and each frame is lent once.

use std::cell::Cell;
use std::fs::File;
use std::mem::{offset_of, size_of};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use libc::tpacket3_hdr;
use proptest::prelude::*;
use rustix::fs::MemfdFlags;
use tyto_core::config::runtime::CaptureConfig;

use super::{COUNT_OFFSET, FIRST_OFFSET, HEADER_OFFSET, Moment, Ring, RingSize};
use crate::cursor::{Cursor, CursorFile, Made, Totals};

const BLOCK: usize = 4096;
const BLOCKS: usize = 4;
const FRAMES_PER_BLOCK_MAX: usize = 8;
/// Bytes from one frame's header to the next.
const STEP: usize = 256;
const FIRST: usize = 48;
const MAC: usize = 96;
const FRAME_LEN: u32 = 60;
const WIRE_LEN: u32 = 1000;

thread_local! {
    /// The reader dies at this moment, after passing so many of its sort.
    static FUSE: Cell<Option<(Moment, u32)>> = const { Cell::new(None) };
}

pub(super) fn moment(now: Moment) {
    match FUSE.get() {
        Some((wanted, 0)) if wanted == now => {
            FUSE.set(None);
            resume_unwind(Box::new(now));
        }
        Some((wanted, left)) if wanted == now => FUSE.set(Some((wanted, left - 1))),
        _ => {}
    }
}

/// The kernel's side: `prb_open_block`, `prb_retire_current_block`, the queue that freezes.
struct Kernel {
    ring: File,
    sequence: u64,
    active: usize,
    frozen: bool,
    frames: usize,
    /// Frames put into the ring; each one's number is in it.
    filled: u64,
    wire_bytes: u64,
}

impl Kernel {
    fn new(first_sequence: u64) -> Self {
        let ring = File::from(rustix::fs::memfd_create("ring", MemfdFlags::CLOEXEC).unwrap());
        ring.set_len((BLOCK * BLOCKS) as u64).unwrap();
        let mut kernel = Self {
            ring,
            sequence: first_sequence,
            active: 0,
            frozen: false,
            frames: 0,
            filled: 0,
            wire_bytes: 0,
        };
        kernel.open();
        kernel
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        self.ring.write_all_at(bytes, (self.active * BLOCK + at) as u64).unwrap();
    }

    fn status(&self) -> u32 {
        let mut status = [0; 4];
        self.ring.read_exact_at(&mut status, (self.active * BLOCK + HEADER_OFFSET) as u64).unwrap();
        u32::from_ne_bytes(status)
    }

    fn open(&mut self) {
        let at = HEADER_OFFSET + offset_of!(libc::tpacket_hdr_v1, seq_num);
        self.put(at, &self.sequence.to_ne_bytes());
        self.put(COUNT_OFFSET, &0_u32.to_ne_bytes());
        self.put(FIRST_OFFSET, &u32::try_from(FIRST).unwrap().to_ne_bytes());
        self.sequence += 1;
        self.frames = 0;
        self.frozen = false;
    }

    /// One frame arrives; every third had a VLAN tag, which the kernel took out.
    fn arrive(&mut self) {
        if self.frozen {
            if self.status() != libc::TP_STATUS_KERNEL {
                return; // dropped
            }
            self.open();
        }
        let at = FIRST + self.frames * STEP;
        let tagged = self.filled.is_multiple_of(3);
        let status = if tagged { libc::TP_STATUS_VLAN_VALID } else { 0 };
        let field = |offset: usize, value: u32| self.put(at + offset, &value.to_ne_bytes());
        field(offset_of!(tpacket3_hdr, tp_next_offset), u32::try_from(STEP).unwrap());
        field(offset_of!(tpacket3_hdr, tp_snaplen), FRAME_LEN);
        field(offset_of!(tpacket3_hdr, tp_len), WIRE_LEN);
        field(offset_of!(tpacket3_hdr, tp_status), status);
        self.put(at + offset_of!(tpacket3_hdr, tp_mac), &u16::try_from(MAC).unwrap().to_ne_bytes());
        assert!(MAC >= size_of::<tpacket3_hdr>() + 4);
        self.put(at + MAC + 40, &self.filled.to_ne_bytes());
        self.filled += 1;
        self.wire_bytes += u64::from(WIRE_LEN) + if tagged { 4 } else { 0 };
        self.frames += 1;
        if self.frames == FRAMES_PER_BLOCK_MAX {
            self.retire();
        }
    }

    fn retire(&mut self) {
        if self.frozen || self.frames == 0 {
            return;
        }
        self.put(COUNT_OFFSET, &u32::try_from(self.frames).unwrap().to_ne_bytes());
        self.put(HEADER_OFFSET, &libc::TP_STATUS_USER.to_ne_bytes());
        self.active = (self.active + 1) % BLOCKS;
        if self.status() == libc::TP_STATUS_KERNEL { self.open() } else { self.frozen = true }
    }
}

const SIZE: RingSize = RingSize { block_bytes: 4096, blocks: 4, block_timeout_ms: 10 };

fn cursor_file() -> CursorFile {
    let made = Made { ring: SIZE, interface: 7, link_type: 1, is_loopback: false };
    CursorFile::new(&made, &CaptureConfig::new("v1")).unwrap()
}

fn reader(kernel: &Kernel, cursor: &CursorFile) -> Ring {
    let cursor = Cursor::map(cursor.try_clone().unwrap()).unwrap();
    Ring::resume(&kernel.ring, SIZE, cursor, true).unwrap()
}

fn number_of(frame: &[u8]) -> u64 {
    let tail = FRAME_LEN as usize - 40;
    u64::from_ne_bytes(*frame[frame.len() - tail..].first_chunk().unwrap())
}

/// Number of the next frame, or when the reader died.
fn next(ring: &mut Ring) -> Result<Option<u64>, Moment> {
    let mut shown = Vec::new();
    ring.upcoming(3, &mut |frame| shown.push(number_of(frame)));
    let read = catch_unwind(AssertUnwindSafe(|| Some(number_of(ring.next_frame(true)?.bytes))));
    let read = read.map_err(|died| *died.downcast::<Moment>().unwrap());
    if let (Ok(number), Some(&first)) = (&read, shown.first()) {
        assert_eq!(*number, Some(first), "what is shown comes next");
        assert!(shown.iter().zip(first..).all(|(shown, number)| *shown == number), "{shown:?}");
    }
    read
}

#[derive(Clone, Debug)]
enum Op {
    Arrive(usize),
    Retire,
    Read(usize),
    /// Reads on until that moment, and dies in it.
    Die(Moment, u32),
    /// Dies between two frames.
    DieIdle,
}

fn op() -> impl Strategy<Value = Op> {
    let moment = prop_oneof![Just(Moment::Lent), Just(Moment::Moved), Just(Moment::GivenBack)];
    prop_oneof![
        4 => (1..20_usize).prop_map(Op::Arrive),
        2 => Just(Op::Retire),
        4 => (1..20_usize).prop_map(Op::Read),
        2 => (moment, 0..6_u32).prop_map(|(moment, after)| Op::Die(moment, after)),
        1 => Just(Op::DieIdle),
    ]
}

/// Runs `ops`; at the end all that waits is read. `first_sequence`: of the kernel's first block.
fn run(first_sequence: u64, ops: &[Op]) {
    let mut kernel = Kernel::new(first_sequence);
    let file = cursor_file();
    let first = u32::try_from(first_sequence & u64::from(u32::MAX)).unwrap();
    Cursor::map(file.try_clone().unwrap()).unwrap().begin(first, Totals::default());
    let mut ring = reader(&kernel, &file);
    let mut expected = 0;
    for op in ops.iter().chain([&Op::Retire, &Op::Read(usize::MAX)]) {
        let mut reads = 0;
        match op {
            Op::Arrive(frames) => (0..*frames).for_each(|_| kernel.arrive()),
            Op::Retire => kernel.retire(),
            Op::Read(frames) => reads = *frames,
            Op::Die(moment, after) => {
                FUSE.set(Some((*moment, *after)));
                reads = usize::MAX;
            }
            Op::DieIdle => ring = reader(&kernel, &file),
        }
        for _ in 0..reads {
            match next(&mut ring) {
                Ok(Some(number)) => {
                    assert_eq!(number, expected, "each frame once, in order");
                    expected += 1;
                }
                Ok(None) => break,
                Err(died) => {
                    // Only the frame in its hands goes with the reader, and it is counted.
                    expected += u64::from(died == Moment::Lent);
                    ring = reader(&kernel, &file);
                    break;
                }
            }
        }
        FUSE.set(None);
        assert_eq!(ring.totals().packets, expected, "after {op:?}");
    }
    let Totals { packets, bytes, truncated, malformed } = ring.totals();
    let filled = kernel.filled;
    assert_eq!((packets, bytes, truncated), (filled, kernel.wire_bytes, filled));
    assert_eq!(malformed, 0);
}

proptest! {
    #[test]
    fn each_frame_is_lent_once_however_readers_die(
        ops in prop::collection::vec(op(), 1..60),
        first in prop_oneof![Just(1_u64), (0xffff_fff0_u64..0x1_0000_0010)],
    ) {
        run(first, &ops);
    }
}

#[test]
fn reader_killed_before_it_gave_a_block_back_is_followed_by_one_that_does() {
    let full = Op::Arrive(FRAMES_PER_BLOCK_MAX);
    let rest = [Op::Arrive(BLOCKS * FRAMES_PER_BLOCK_MAX), Op::Read(1000), Op::Arrive(3)];
    for moment in [Moment::Moved, Moment::GivenBack, Moment::Lent] {
        run(1, &[&[full.clone(), Op::Die(moment, 0)], &rest[..]].concat());
    }
}

/// All blocks were read while the kernel stood still: the next one has no number yet.
#[test]
fn reader_of_a_ring_that_froze_finds_the_block_that_will_be_filled_next() {
    let frames = BLOCKS * FRAMES_PER_BLOCK_MAX;
    run(1, &[Op::Arrive(frames + 5), Op::Read(frames), Op::DieIdle, Op::Arrive(3)]);
    run(1, &[Op::Arrive(frames + 5), Op::Read(1000), Op::DieIdle, Op::Arrive(9)]);
}

#[test]
fn cursor_that_names_no_block_leads_to_the_oldest_frame() {
    let mut kernel = Kernel::new(1);
    let file = cursor_file();
    (0..FRAMES_PER_BLOCK_MAX * 2).for_each(|_| kernel.arrive());
    Cursor::map(file.try_clone().unwrap()).unwrap().begin(77, Totals::default());
    let mut ring = reader(&kernel, &file);
    assert_eq!(next(&mut ring), Ok(Some(0)));
}

#[test]
fn more_frames_lent_than_the_block_has_are_a_block_that_was_read() {
    let mut kernel = Kernel::new(1);
    let file = cursor_file();
    (0..FRAMES_PER_BLOCK_MAX * 2).for_each(|_| kernel.arrive());
    let cursor = Cursor::map(file.try_clone().unwrap()).unwrap();
    cursor.lend(crate::cursor::Place { block: 1, lent: 1000 });
    let mut ring = reader(&kernel, &file);
    assert_eq!(next(&mut ring), Ok(Some(FRAMES_PER_BLOCK_MAX as u64)));
}

#[test]
fn kernel_counters_are_added_once_wherever_the_reader_dies() {
    let file = cursor_file();
    let map = || Cursor::map(file.try_clone().unwrap()).unwrap();
    let take = |packets: u64, drops: u64, freezes: u64| {
        move |words: &[std::sync::atomic::AtomicU64; 2]| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&u32::try_from(packets).unwrap().to_ne_bytes());
            bytes[4..].copy_from_slice(&u32::try_from(drops).unwrap().to_ne_bytes());
            words[0].store(u64::from_ne_bytes(bytes), std::sync::atomic::Ordering::Relaxed);
            bytes = [0; 8];
            bytes[..4].copy_from_slice(&u32::try_from(freezes).unwrap().to_ne_bytes());
            words[1].store(u64::from_ne_bytes(bytes), std::sync::atomic::Ordering::Relaxed);
            Ok(())
        }
    };
    let first = map().kernel_totals(take(10, 2, 1)).unwrap();
    assert_eq!((first.packets, first.drops, first.freezes), (10, 2, 1));
    // Killed when the kernel had moved its counters, before they were added.
    let killed = catch_unwind(AssertUnwindSafe(|| {
        map().kernel_totals(|words| {
            take(5, 1, 0)(words)?;
            resume_unwind(Box::new(()))
        })
    }));
    assert!(killed.is_err());
    let totals = map().kernel_totals(take(1, 0, 0)).unwrap();
    assert_eq!((totals.packets, totals.drops, totals.freezes), (16, 3, 1));
    let totals = map().kernel_totals(take(0, 0, 0)).unwrap();
    assert_eq!((totals.packets, totals.drops, totals.freezes), (16, 3, 1));
}

#[test]
fn configuration_can_be_replaced_by_a_shorter_one() {
    let (file, short) = (cursor_file(), CaptureConfig::new("v1"));
    let long = CaptureConfig { filter: Some("not port 22".repeat(100)), ..short.clone() };
    file.write_config(&long).unwrap();
    assert_eq!(file.config().unwrap(), long);
    file.write_config(&short).unwrap();
    assert_eq!(file.config().unwrap(), short);
    let huge = CaptureConfig { filter: Some("x".repeat(1 << 20)), ..short };
    assert!(file.write_config(&huge).is_err());
}
