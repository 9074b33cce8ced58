//! The TPACKET_V3 ring: blocks of frames that the kernel fills and we give back. Frames are
//! borrowed from the mapped memory; nothing is copied. Each offset that the kernel wrote is
//! checked before it is used, so a fault there costs frames (counted), not memory safety.
//!
//! Source of the layout: `include/uapi/linux/if_packet.h`, `net/packet/af_packet.c`.

use std::io;
use std::mem::{offset_of, size_of};
use std::ops::Range;
use std::os::fd::AsFd;

use libc::{tpacket_block_desc, tpacket_hdr_v1, tpacket_hdr_variant1, tpacket3_hdr};

use crate::cursor::{Cursor, Place, Totals};
use crate::mapping::Mapping;
use crate::sys::PacketSocket;

/// Free bytes that the kernel leaves before each frame: room for the VLAN tag that it took out.
pub(crate) const VLAN_TAG_LEN: u32 = 4;

/// The two addresses of an Ethernet header; the tag stands behind them.
const MAC_ADDRESSES_LEN: usize = 12;

/// EtherType of a VLAN tag whose own EtherType the kernel did not keep (before 3.14).
const TPID_8021Q: u16 = 0x8100;

/// Nominal frame size. TPACKET_V3 packs frames of any size, but the kernel still checks
/// that frames times their number fill the blocks.
const FRAME_SIZE: u32 = 2048;

// Where the fields stand in a block and in a frame.
const HEADER_OFFSET: usize = offset_of!(tpacket_block_desc, hdr);
const COUNT_OFFSET: usize = HEADER_OFFSET + offset_of!(tpacket_hdr_v1, num_pkts);
const FIRST_OFFSET: usize = HEADER_OFFSET + offset_of!(tpacket_hdr_v1, offset_to_first_pkt);
const VARIANT_OFFSET: usize = offset_of!(tpacket3_hdr, hv1);
const TPID_OFFSET: usize = VARIANT_OFFSET + offset_of!(tpacket_hdr_variant1, tp_vlan_tpid);
/// The kernel keeps the tag's 16 bits in a word of 32; these are its lower ones.
const TCI_OFFSET: usize = VARIANT_OFFSET
    + offset_of!(tpacket_hdr_variant1, tp_vlan_tci)
    + if cfg!(target_endian = "big") { 2 } else { 0 };

/// The ring of one socket, read up to where its cursor says.
#[derive(Debug)]
pub(crate) struct Ring {
    mapping: Mapping,
    cursor: Cursor,
    /// The oldest block that was not given back yet: the kernel fills them in order.
    next: usize,
    /// How far that block was read; `block` is right once it was opened.
    place: Place,
    /// What is still to be read of that block, once it was opened.
    open: Option<Unread>,
    /// Totals of the frames of all blocks before.
    before: Totals,
    /// Totals of the frames that were lent of this block.
    within: Totals,
}

/// Sizes of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingSize {
    /// Bytes of one block; a multiple of the page size.
    pub(crate) block_bytes: u32,
    /// Number of blocks.
    pub(crate) blocks: u32,
    /// The kernel hands over a block that is not full after this long, milliseconds.
    pub(crate) block_timeout_ms: u32,
}

/// The part of an open block that was not read yet.
#[derive(Clone, Copy, Debug)]
struct Unread {
    /// Where the next frame's header stands.
    at: usize,
    frames: u32,
}

/// One frame in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingFrame<'r> {
    /// Capture time: nanoseconds since the Unix epoch.
    pub(crate) ts_ns: u64,
    /// What was kept of the frame, from the link-layer header on, VLAN tag put back.
    pub(crate) bytes: &'r [u8],
    /// Length of the frame on the wire, VLAN tag included.
    pub(crate) wire_len: u32,
    /// The kernel or the network card vouches for the transport checksum: it was checked on
    /// reception, or the frame was sent from this host and the card is yet to fill it in.
    pub(crate) checksum_good: bool,
    /// The time is that of the network card's clock.
    pub(crate) has_card_time: bool,
}

impl RingSize {
    /// As many blocks as `buffer_bytes` holds; at least two, so that one can be read while
    /// the other fills.
    pub(crate) fn new(buffer_bytes: u64, block_bytes: u32, block_timeout_ms: u32) -> Self {
        let blocks = buffer_bytes / u64::from(block_bytes.max(1));
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX).max(2);
        Self { block_bytes, blocks, block_timeout_ms }
    }
}

/// Makes the ring of `socket`, which must have none yet.
///
/// # Errors
/// When the kernel refuses the sizes or has no memory for them.
pub(crate) fn make(socket: &PacketSocket, size: RingSize) -> io::Result<()> {
    socket.set_version_3()?;
    socket.set_reserve(VLAN_TAG_LEN)?;
    let frames = (size.block_bytes / FRAME_SIZE).checked_mul(size.blocks);
    socket.set_ring(&libc::tpacket_req3 {
        tp_block_size: size.block_bytes,
        tp_block_nr: size.blocks,
        tp_frame_size: FRAME_SIZE,
        tp_frame_nr: frames.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?,
        tp_retire_blk_tov: size.block_timeout_ms,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    })
}

impl Ring {
    /// Maps the ring of `socket` (a packet socket; in tests a file) and goes on where `cursor`
    /// says that an earlier reader stood.
    ///
    /// # Errors
    /// When the ring has other sizes.
    pub(crate) fn resume(
        socket: impl AsFd,
        size: RingSize,
        cursor: Cursor,
        has_ethernet_header: bool,
    ) -> io::Result<Self> {
        let mapping = Mapping::of(socket, to_usize(size.block_bytes), to_usize(size.blocks))?;
        let place = cursor.place();
        let before = cursor.totals_before(place.block);
        let (open, within) = (None, Totals::default());
        let mut ring = Self { mapping, cursor, next: 0, place, open, before, within };
        ring.find_place();
        ring.skip_lent(has_ethernet_header);
        Ok(ring)
    }

    /// Finds the block of the place among those of the ring. Blocks are filled in order and
    /// their numbers grow by one, also while we look.
    fn find_place(&mut self) {
        let blocks = self.mapping.blocks();
        let find = |number: u32| (0..blocks).find(|at| self.number(*at) == number);
        let last = self.place.block.wrapping_sub(1);
        // The kernel may begin the wanted block behind our back, so look twice.
        let found = find(self.place.block)
            .or_else(|| find(last).map(|at| (at + 1) % blocks))
            .or_else(|| find(self.place.block));
        match found {
            Some(at) => {
                self.next = at;
                // Read to its end, but not given back: its reader was killed in between.
                let previous = (at + blocks - 1) % blocks;
                if self.number(previous) == last && self.mapping.is_ours(previous) {
                    self.mapping.release(previous);
                }
            }
            None => self.lose_place(),
        }
    }

    /// The cursor names no block of this ring: someone wrote into it. Goes on with the oldest
    /// frame that is there.
    fn lose_place(&mut self) {
        let blocks = 0..self.mapping.blocks();
        let sequence = |at: &usize| self.mapping.sequence(*at);
        let oldest = blocks.clone().filter(|at| self.mapping.is_ours(*at)).min_by_key(sequence);
        self.next = oldest.or_else(|| blocks.max_by_key(sequence)).unwrap_or(0);
        self.begin_block(self.number(self.next));
    }

    /// Passes over the frames of the block that an earlier reader got.
    fn skip_lent(&mut self, has_ethernet_header: bool) {
        let lent = std::mem::take(&mut self.place.lent);
        let Some(block) = self.mapping.block_mut(self.next) else { return };
        let mut unread = Unread::whole(block);
        while self.place.lent < lent
            && unread.frames > 0
            && let Some(header) = FrameHeader::read(block, unread.at)
        {
            unread.pass(&header);
            self.place.lent += 1;
            self.within.add(header.lens(has_ethernet_header));
        }
        self.open = Some(unread);
    }

    /// Whether a frame is there, or a filled block, which holds at least one.
    pub(crate) fn is_ready(&self) -> bool {
        self.open.is_some_and(|unread| unread.frames > 0) || self.mapping.is_ours(self.next)
    }

    /// The share of the ring's blocks that the kernel filled and that are not given back yet,
    /// percent. They stand behind each other, so few of them are looked at.
    pub(crate) fn fill_percent(&self) -> u8 {
        let blocks = self.mapping.blocks();
        let is_filled = |ahead: usize| self.mapping.is_ours((self.next + ahead) % blocks);
        percent_filled(blocks, is_filled)
    }

    /// The next frame, in the order in which they came; `None` when the kernel handed over
    /// no more. The frames of a block are given back together, once all were read.
    pub(crate) fn next_frame(&mut self, has_ethernet_header: bool) -> Option<RingFrame<'_>> {
        let (header, at) = self.advance()?;
        self.within.add(header.lens(has_ethernet_header));
        let block = self.mapping.block_mut(self.next)?;
        header.frame(block, at, has_ethernet_header)
    }

    /// Shows the next frames, up to `count` and without the tag that the kernel took out, as far
    /// as they stand in the block that is read now or next. They are not lent.
    pub(crate) fn upcoming(&self, count: usize, look: &mut dyn FnMut(&[u8])) {
        let Some(block) = self.mapping.block(self.next) else { return };
        let mut unread = self.open.unwrap_or_else(|| Unread::whole(block));
        for _ in 0..count {
            if unread.frames == 0 {
                return;
            }
            let Some(header) = FrameHeader::read(block, unread.at) else { return };
            let start = unread.at + header.mac_offset;
            look(block.get(start..start + header.kept_len).unwrap_or_default());
            unread.pass(&header);
        }
    }

    /// Header and place of the next frame; opens and gives back blocks as needed.
    fn advance(&mut self) -> Option<(FrameHeader, usize)> {
        loop {
            let block = self.mapping.block_mut(self.next)?;
            let mut unread = match self.open {
                Some(unread) => unread,
                None => {
                    let unread = Unread::whole(block);
                    self.open_block();
                    self.open = Some(unread);
                    continue;
                }
            };
            if unread.frames == 0 {
                self.finish_block();
                continue;
            }
            let at = unread.at;
            match FrameHeader::read(block, at) {
                Some(header) => {
                    unread.pass(&header);
                    self.open = Some(unread);
                    self.place.lent += 1;
                    self.cursor.lend(self.place);
                    moment(Moment::Lent);
                    return Some((header, at));
                }
                None => {
                    self.within.malformed += u64::from(unread.frames);
                    self.open = Some(Unread { at, frames: 0 });
                }
            }
        }
    }

    /// Numbers never leave a gap; one that does is the kernel's fault or that of whoever wrote
    /// into the ring, and reading goes on from there.
    fn open_block(&mut self) {
        let number = self.number(self.next);
        if number != self.place.block {
            self.begin_block(number);
        }
    }

    /// All of the block was read: the place moves on first, so that a successor knows.
    fn finish_block(&mut self) {
        let Totals { packets, bytes, truncated, malformed } = self.within;
        self.before.packets += packets;
        self.before.bytes += bytes;
        self.before.truncated += truncated;
        self.before.malformed += malformed;
        self.begin_block(self.place.block.wrapping_add(1));
        moment(Moment::Moved);
        self.mapping.release(self.next);
        moment(Moment::GivenBack);
        self.next = (self.next + 1) % self.mapping.blocks();
    }

    fn begin_block(&mut self, number: u32) {
        self.cursor.begin(number, self.before);
        self.place = Place { block: number, lent: 0 };
        self.within = Totals::default();
        self.open = None;
    }

    /// Lower half of the sequence number of a block.
    fn number(&self, at: usize) -> u32 {
        u32::try_from(self.mapping.sequence(at) & u64::from(u32::MAX)).unwrap_or_default()
    }

    /// What all readers of this ring got so far.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            packets: self.before.packets + self.within.packets,
            bytes: self.before.bytes + self.within.bytes,
            truncated: self.before.truncated + self.within.truncated,
            malformed: self.before.malformed + self.within.malformed,
        }
    }

    /// The shared page of this ring.
    pub(crate) const fn cursor(&self) -> &Cursor {
        &self.cursor
    }
}

impl Unread {
    /// All of a block that the kernel just handed over.
    fn whole(block: &[u8]) -> Self {
        let at = u32_at(block, FIRST_OFFSET).map_or(usize::MAX, to_usize);
        Self { at, frames: u32_at(block, COUNT_OFFSET).unwrap_or(0) }
    }

    /// The frame of `header` is read; the next one stands behind it.
    fn pass(&mut self, header: &FrameHeader) {
        self.frames -= 1;
        self.at = self.at.saturating_add(header.next_offset);
    }
}

/// The fields of `struct tpacket3_hdr` that we use.
struct FrameHeader {
    next_offset: usize,
    ts_ns: u64,
    kept_len: usize,
    wire_len: u32,
    status: u32,
    mac_offset: usize,
    vlan_tci: u16,
    vlan_tpid: u16,
}

impl FrameHeader {
    /// The header at `at` of `block`. `None` when it or its frame does not lie in the block,
    /// or the frame does not lie behind its header.
    fn read(block: &[u8], at: usize) -> Option<Self> {
        let header = block.get(at..)?.get(..size_of::<tpacket3_hdr>())?;
        let secs = u32_at(header, offset_of!(tpacket3_hdr, tp_sec))?;
        let nanos = u32_at(header, offset_of!(tpacket3_hdr, tp_nsec))?;
        let header = Self {
            next_offset: to_usize(u32_at(header, offset_of!(tpacket3_hdr, tp_next_offset))?),
            ts_ns: u64::from(secs) * 1_000_000_000 + u64::from(nanos),
            kept_len: to_usize(u32_at(header, offset_of!(tpacket3_hdr, tp_snaplen))?),
            wire_len: u32_at(header, offset_of!(tpacket3_hdr, tp_len))?,
            status: u32_at(header, offset_of!(tpacket3_hdr, tp_status))?,
            mac_offset: usize::from(u16_at(header, offset_of!(tpacket3_hdr, tp_mac))?),
            vlan_tci: u16_at(header, TCI_OFFSET)?,
            vlan_tpid: u16_at(header, TPID_OFFSET)?,
        };
        let room = header.mac_offset.checked_sub(to_usize(VLAN_TAG_LEN))?;
        let end = at.checked_add(header.mac_offset)?.checked_add(header.kept_len)?;
        (room >= size_of::<tpacket3_hdr>() && end <= block.len()).then_some(header)
    }

    /// Bytes kept of the frame and its length on the wire, with the VLAN tag that is to be put
    /// back.
    fn lens(&self, has_ethernet_header: bool) -> (usize, u32) {
        if !self.lacks_tag(has_ethernet_header) {
            return (self.kept_len, self.wire_len);
        }
        let kept_len = self.kept_len.saturating_add(to_usize(VLAN_TAG_LEN));
        (kept_len, self.wire_len.saturating_add(VLAN_TAG_LEN))
    }

    /// The kernel took the outer VLAN tag out of the frame.
    fn lacks_tag(&self, has_ethernet_header: bool) -> bool {
        let tagged = self.status & libc::TP_STATUS_VLAN_VALID != 0;
        tagged && has_ethernet_header && self.kept_len >= MAC_ADDRESSES_LEN
    }

    /// The frame that this header, which stands at `at`, describes.
    fn frame<'b>(
        &self,
        block: &'b mut [u8],
        at: usize,
        has_ethernet_header: bool,
    ) -> Option<RingFrame<'b>> {
        let start = at + self.mac_offset;
        let mut range = start..start + self.kept_len;
        let (_, wire_len) = self.lens(has_ethernet_header);
        if self.lacks_tag(has_ethernet_header) {
            range = self.put_back_tag(block, range)?;
        }
        let good = libc::TP_STATUS_CSUM_VALID | libc::TP_STATUS_CSUMNOTREADY;
        Some(RingFrame {
            ts_ns: self.ts_ns,
            bytes: block.get(range)?,
            wire_len,
            checksum_good: self.status & good != 0,
            has_card_time: self.status & libc::TP_STATUS_TS_RAW_HARDWARE != 0,
        })
    }

    /// The kernel moves the outer VLAN tag from the frame into the header. Moves the
    /// addresses into the room left for it and writes the tag behind them, so that decoding
    /// sees what was on the wire.
    fn put_back_tag(&self, block: &mut [u8], frame: Range<usize>) -> Option<Range<usize>> {
        let start = frame.start.checked_sub(to_usize(VLAN_TAG_LEN))?;
        block.copy_within(frame.start..frame.start + MAC_ADDRESSES_LEN, start);
        let tpid_valid = self.status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        let tpid = if tpid_valid { self.vlan_tpid } else { TPID_8021Q };
        let tag = block.get_mut(start + MAC_ADDRESSES_LEN..frame.start + MAC_ADDRESSES_LEN)?;
        let (tpid_bytes, tci_bytes) = tag.split_at_mut(2);
        tpid_bytes.copy_from_slice(&tpid.to_be_bytes());
        tci_bytes.copy_from_slice(&self.vlan_tci.to_be_bytes());
        Some(start..frame.end)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Lossless on the platforms that have this ring: pointers of 32 bits or more.
const fn to_usize(value: u32) -> usize {
    value as usize
}

/// Moments in which a test kills the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The cursor says that a frame was lent; nobody has seen it yet.
    Lent,
    /// The cursor has left a block that was not given back yet.
    Moved,
    /// The block was given back.
    GivenBack,
}

#[cfg(not(test))]
#[inline(always)]
fn moment(_: Moment) {}

#[cfg(test)]
use resume_tests::moment;

#[cfg(test)]
#[path = "ring/resume_tests.rs"]
mod resume_tests;

/// The share of `blocks` that are filled, percent: the first ones are, and behind the first that is
/// not, none is. Looks at as many of them as their number has bits.
fn percent_filled(blocks: usize, is_filled: impl Fn(usize) -> bool) -> u8 {
    let (mut filled, mut end) = (0, blocks);
    while filled < end {
        let middle = filled + (end - filled) / 2;
        if is_filled(middle) { filled = middle + 1 } else { end = middle }
    }
    u8::try_from(filled * 100 / blocks.max(1)).unwrap_or(100)
}

#[cfg(test)]
mod tests;
