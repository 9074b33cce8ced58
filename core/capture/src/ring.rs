//! The TPACKET_V3 ring: blocks of frames that the kernel fills and we give back. Frames are
//! borrowed from the mapped memory; nothing is copied. Each offset that the kernel wrote is
//! checked before it is used, so a fault there costs frames (counted), not memory safety.
//!
//! Source of the layout: `include/uapi/linux/if_packet.h`, `net/packet/af_packet.c`.

use std::io;
use std::mem::{offset_of, size_of};
use std::ops::Range;

use libc::{tpacket_block_desc, tpacket_hdr_v1, tpacket_hdr_variant1, tpacket3_hdr};

use crate::sys::{Mapping, PacketSocket};

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

/// The ring of one socket.
#[derive(Debug)]
pub(crate) struct Ring {
    mapping: Mapping,
    /// The oldest block that was not given back yet: the kernel fills them in order.
    next: usize,
    /// What is still to be read of that block, once it was opened.
    open: Option<Unread>,
    /// Frames that were skipped because an offset led out of its block.
    malformed_packets: u64,
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

impl Ring {
    /// Makes the ring of `socket`, which must have none yet.
    ///
    /// # Errors
    /// When the kernel refuses the sizes or has no memory for them.
    pub(crate) fn new(socket: &PacketSocket, size: RingSize) -> io::Result<Self> {
        let too_large = || io::Error::from_raw_os_error(libc::EINVAL);
        socket.set_version_3()?;
        socket.set_reserve(VLAN_TAG_LEN)?;
        let frames = (size.block_bytes / FRAME_SIZE).checked_mul(size.blocks);
        socket.set_ring(&libc::tpacket_req3 {
            tp_block_size: size.block_bytes,
            tp_block_nr: size.blocks,
            tp_frame_size: FRAME_SIZE,
            tp_frame_nr: frames.ok_or_else(too_large)?,
            tp_retire_blk_tov: size.block_timeout_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        })?;
        let block_size = usize::try_from(size.block_bytes).map_err(|_| too_large())?;
        let blocks = usize::try_from(size.blocks).map_err(|_| too_large())?;
        let mapping = socket.map(block_size, blocks)?;
        Ok(Self { mapping, next: 0, open: None, malformed_packets: 0 })
    }

    /// Whether a frame is there, or a filled block, which holds at least one.
    pub(crate) fn is_ready(&self) -> bool {
        self.open.is_some_and(|unread| unread.frames > 0) || self.mapping.is_ours(self.next)
    }

    /// The next frame, in the order in which they came; `None` when the kernel handed over
    /// no more. The frames of a block are given back together, once all were read.
    pub(crate) fn next_frame(&mut self, has_ethernet_header: bool) -> Option<RingFrame<'_>> {
        let (header, at) = self.advance()?;
        let block = self.mapping.block_mut(self.next)?;
        header.frame(block, at, has_ethernet_header)
    }

    /// Header and place of the next frame; opens and gives back blocks as needed.
    fn advance(&mut self) -> Option<(FrameHeader, usize)> {
        loop {
            let block = self.mapping.block_mut(self.next)?;
            let mut unread = self.open.unwrap_or_else(|| Unread::whole(block));
            if unread.frames == 0 {
                self.mapping.release(self.next);
                self.next = (self.next + 1) % self.mapping.blocks();
                self.open = None;
                continue;
            }
            let at = unread.at;
            let header = FrameHeader::read(block, at);
            match header {
                Some(header) => {
                    unread.frames -= 1;
                    unread.at = at.saturating_add(header.next_offset);
                    self.open = Some(unread);
                    return Some((header, at));
                }
                None => {
                    self.malformed_packets += u64::from(unread.frames);
                    self.open = Some(Unread { at, frames: 0 });
                }
            }
        }
    }

    /// Frames skipped so far because an offset led out of its block; only a fault of the
    /// kernel could make one.
    pub(crate) const fn malformed_packets(&self) -> u64 {
        self.malformed_packets
    }
}

impl Unread {
    /// All of a block that the kernel just handed over.
    fn whole(block: &[u8]) -> Self {
        let at = u32_at(block, FIRST_OFFSET).map_or(usize::MAX, to_usize);
        Self { at, frames: u32_at(block, COUNT_OFFSET).unwrap_or(0) }
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

    /// The frame that this header, which stands at `at`, describes.
    fn frame<'b>(
        &self,
        block: &'b mut [u8],
        at: usize,
        has_ethernet_header: bool,
    ) -> Option<RingFrame<'b>> {
        let start = at + self.mac_offset;
        let mut range = start..start + self.kept_len;
        let mut wire_len = self.wire_len;
        let tagged = self.status & libc::TP_STATUS_VLAN_VALID != 0;
        if tagged && has_ethernet_header && range.len() >= MAC_ADDRESSES_LEN {
            range = self.put_back_tag(block, range)?;
            wire_len = wire_len.saturating_add(VLAN_TAG_LEN);
        }
        let good = libc::TP_STATUS_CSUM_VALID | libc::TP_STATUS_CSUMNOTREADY;
        Some(RingFrame {
            ts_ns: self.ts_ns,
            bytes: block.get(range)?,
            wire_len,
            checksum_good: self.status & good != 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    const AT: usize = 48;
    const MAC: u16 = 86;

    /// A block with one frame of `frame_len` bytes that count up, and what its header says.
    fn block(frame_len: u32, status: u32, tci: u16, tpid: u16) -> Vec<u8> {
        let mut block = vec![0; 512];
        let mut put = |offset: usize, bytes: &[u8]| {
            block[AT + offset..AT + offset + bytes.len()].copy_from_slice(bytes);
        };
        put(offset_of!(tpacket3_hdr, tp_sec), &7_u32.to_ne_bytes());
        put(offset_of!(tpacket3_hdr, tp_nsec), &123_456_789_u32.to_ne_bytes());
        put(offset_of!(tpacket3_hdr, tp_snaplen), &frame_len.to_ne_bytes());
        put(offset_of!(tpacket3_hdr, tp_len), &1500_u32.to_ne_bytes());
        put(offset_of!(tpacket3_hdr, tp_status), &status.to_ne_bytes());
        put(offset_of!(tpacket3_hdr, tp_mac), &MAC.to_ne_bytes());
        put(TCI_OFFSET, &tci.to_ne_bytes());
        put(TPID_OFFSET, &tpid.to_ne_bytes());
        for i in 0..frame_len.min(64) {
            put(usize::from(MAC) + to_usize(i), &[u8::try_from(i).unwrap()]);
        }
        block
    }

    #[test]
    fn frame_lies_where_its_header_says() {
        let mut block = block(60, libc::TP_STATUS_CSUM_VALID, 0, 0);
        let header = FrameHeader::read(&block, AT).unwrap();
        let frame = header.frame(&mut block, AT, true).unwrap();
        assert_eq!(frame.ts_ns, 7_123_456_789);
        assert_eq!(frame.bytes, (0..60).collect::<Vec<u8>>());
        assert_eq!(frame.wire_len, 1500);
        assert!(frame.checksum_good);
    }

    /// IEEE 802.1Q clause 9: the tag stands behind the source address.
    #[test]
    fn taken_out_vlan_tag_is_put_back_behind_the_addresses() {
        let status = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
        let mut block = block(20, status, 0x2064, 0x88a8);
        let header = FrameHeader::read(&block, AT).unwrap();
        let frame = header.frame(&mut block, AT, true).unwrap();
        let mut expected: Vec<u8> = (0..12).collect();
        expected.extend([0x88, 0xa8, 0x20, 0x64]);
        expected.extend(12..20);
        assert_eq!(frame.bytes, expected);
        assert_eq!(frame.wire_len, 1504);
        assert!(!frame.checksum_good);
    }

    #[test]
    fn vlan_tag_without_known_type_is_802_1q() {
        let mut block = block(20, libc::TP_STATUS_VLAN_VALID, 5, 0);
        let header = FrameHeader::read(&block, AT).unwrap();
        let frame = header.frame(&mut block, AT, true).unwrap();
        assert_eq!(frame.bytes[12..16], [0x81, 0x00, 0x00, 0x05]);
    }

    #[test]
    fn frame_that_leaves_its_block_is_refused() {
        assert!(FrameHeader::read(&block(512 - 48 - 86, 0, 0, 0), AT).is_some());
        assert!(FrameHeader::read(&block(512 - 48 - 85, 0, 0, 0), AT).is_none());
        assert!(FrameHeader::read(&block(u32::MAX, 0, 0, 0), AT).is_none());
        assert!(FrameHeader::read(&block(60, 0, 0, 0), 500).is_none());
        assert!(FrameHeader::read(&block(60, 0, 0, 0), usize::MAX).is_none());
    }

    #[test]
    fn ring_has_at_least_two_blocks() {
        assert_eq!(RingSize::new(1 << 27, 1 << 15, 10).blocks, 4096);
        assert_eq!(RingSize::new(1, 1 << 15, 10).blocks, 2);
    }
}
