//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks. Enhanced, simple and obsolete packet
//! blocks give frames, interface blocks their link type and clock; other blocks are passed by.
//! Packets of an interface whose link type is not read are passed by, counted and told at the
//! end: the others are read all the same.

use tyto_core::time::{NANOS, Ts};

use tyto_capture::{Frame, LinkType};

use super::buffer::{WINDOW_BYTES_MAX, Window};
use super::pcap_file::{PACKET_BYTES_MAX, Progress, u16_at, u32_at};
use super::{CaptureError, Next};
use crate::decode::link_type::{self, UnknownLinkType};

/// First bytes of a section, the same in both byte orders.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const SECTION_HEADER_BLOCK: u32 = 0x0a0d_0d0a;
const INTERFACE_BLOCK: u32 = 1;
const OBSOLETE_PACKET_BLOCK: u32 = 2;
const SIMPLE_PACKET_BLOCK: u32 = 3;
const ENHANCED_PACKET_BLOCK: u32 = 6;

const OPTION_END: u16 = 0;
const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;

/// First bytes of a section's body, as its byte order reads them.
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// Interfaces that a section may declare; more are taken as damage.
const INTERFACES_MAX: usize = 65_536;

/// The section being read.
#[derive(Debug, Default)]
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

/// What an interface block says.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: LinkType,
    snaplen: u32,
    /// Units of its clock in a second.
    units_per_s: u64,
    /// To be added to its times, seconds.
    offset_s: i64,
}

/// A block that gives a packet, or cannot be one.
enum Found {
    /// Nothing to be read: an interface, statistics, names…
    Nothing,
    /// A packet that is not read.
    Unread(UnknownLinkType),
    Packet(Packet),
}

/// A packet as its block describes it, before its bytes are lent.
struct Packet {
    ts: Ts,
    at: usize,
    captured: usize,
    wire_len: u32,
    link_type: LinkType,
}

/// Why a block cannot be: the rest of the file is not read.
type Damage = String;

impl Section {
    pub(super) fn next_frame<'a>(
        &mut self,
        window: &'a mut Window,
        progress: &mut Progress,
    ) -> Result<Next<'a>, CaptureError> {
        let (len, packet) = loop {
            let at = window.passed();
            let header = window.peek(12)?;
            if header.len() < 12 {
                if !header.is_empty() || window.is_cut() {
                    progress.cut(at);
                }
                return progress.end();
            }
            let (kind, len) =
                self.block_header(header).map_err(|found| progress.damaged(at, found))?;
            let block = window.peek(len)?;
            if block.len() < len {
                progress.cut(at);
                return progress.end();
            }
            match self.block(kind, block).map_err(|found| progress.damaged(at, found))? {
                Found::Nothing => {}
                Found::Unread(reason) => progress.pass_by(reason),
                Found::Packet(packet) => break (len, packet),
            }
            window.take(len)?;
        };
        let block = window.take(len)?.unwrap_or_default();
        let bytes = block.get(packet.at..packet.at + packet.captured).unwrap_or_default();
        progress.packets += 1;
        let Packet { ts, wire_len, link_type, .. } = packet;
        Ok(Next::Frame(Frame { ts, bytes, wire_len, link_type, checksum_good: false }))
    }

    /// Kind and length of the block whose first 12 bytes these are.
    fn block_header(&mut self, header: &[u8]) -> Result<(u32, usize), Damage> {
        if header.get(..4) == Some(&SECTION_HEADER) {
            self.big_endian = match u32_at(header, 8, true) {
                Some(BYTE_ORDER_MAGIC) => true,
                _ if u32_at(header, 8, false) == Some(BYTE_ORDER_MAGIC) => false,
                _ => return Err("a section that does not tell its byte order".into()),
            };
            self.interfaces.clear();
        }
        let field = |at| u32_at(header, at, self.big_endian).unwrap_or_default();
        let (kind, len) = (field(0), field(4) as usize);
        if len < 12 || !len.is_multiple_of(4) {
            return Err(format!("a block of {len} bytes; expected a multiple of 4, at least 12"));
        }
        if len > WINDOW_BYTES_MAX {
            return Err(format!(
                "a block of {len} bytes; none may have more than {WINDOW_BYTES_MAX}"
            ));
        }
        Ok((kind, len))
    }

    /// Takes in a block; tells of the packet that it holds.
    fn block(&mut self, kind: u32, block: &[u8]) -> Result<Found, Damage> {
        let end = u32_at(block, block.len() - 4, self.big_endian).unwrap_or_default() as usize;
        if end != block.len() {
            let len = block.len();
            return Err(format!("a block that has {len} bytes at its begin and {end} at its end"));
        }
        let too_short = || format!("a block of kind {kind} with {} bytes only", block.len());
        match kind {
            SECTION_HEADER_BLOCK => match u16_at(block, 12, self.big_endian) {
                Some(1) => Ok(Found::Nothing),
                Some(major) => Err(format!("pcapng version {major}; expected 1")),
                None => Err(too_short()),
            },
            INTERFACE_BLOCK => {
                if self.interfaces.len() >= INTERFACES_MAX {
                    return Err(format!("more than {INTERFACES_MAX} interfaces in one section"));
                }
                let interface = self.interface(block)?;
                self.interfaces.push(interface.ok_or_else(too_short)?);
                Ok(Found::Nothing)
            }
            ENHANCED_PACKET_BLOCK => {
                let id = u32_at(block, 8, self.big_endian).ok_or_else(too_short)?;
                self.timed_packet(block, id as usize)
            }
            OBSOLETE_PACKET_BLOCK => {
                let id = u16_at(block, 8, self.big_endian).ok_or_else(too_short)?;
                self.timed_packet(block, usize::from(id))
            }
            SIMPLE_PACKET_BLOCK => {
                let interface = self.declared(0)?;
                let wire_len = u32_at(block, 8, self.big_endian).ok_or_else(too_short)?;
                let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
                let room = block.len().checked_sub(16).ok_or_else(too_short)?;
                let captured = (wire_len.min(snaplen) as usize).min(room);
                interface.packet(Ts(0), 12, captured, wire_len)
            }
            _ => Ok(Found::Nothing),
        }
    }

    fn timed_packet(&self, block: &[u8], id: usize) -> Result<Found, Damage> {
        let interface = self.declared(id)?;
        let field = |at| u32_at(block, at, self.big_endian).unwrap_or_default();
        let units = u64::from(field(12)) << 32 | u64::from(field(16));
        let (captured, wire_len) = (field(20) as usize, field(24));
        let len = block.len();
        if len.checked_sub(32).is_none_or(|room| captured > room) {
            return Err(format!("a packet of {captured} bytes in a block of {len}"));
        }
        interface.packet(interface.time(units), 28, captured, wire_len)
    }

    fn declared(&self, id: usize) -> Result<Interface, Damage> {
        let known = self.interfaces.len();
        self.interfaces.get(id).copied().ok_or_else(|| {
            format!("a packet of interface {id}; the section has declared {known} interfaces")
        })
    }

    /// None when the block is too short to be one.
    fn interface(&self, block: &[u8]) -> Result<Option<Interface>, Damage> {
        let (Some(link_type), Some(snaplen), Some(mut options)) = (
            u16_at(block, 8, self.big_endian),
            u32_at(block, 12, self.big_endian),
            block.get(16..block.len() - 4),
        ) else {
            return Ok(None);
        };
        let link_type = LinkType(link_type.into());
        let mut interface = Interface { link_type, snaplen, units_per_s: 1_000_000, offset_s: 0 };
        while let (Some(code), Some(len)) =
            (u16_at(options, 0, self.big_endian), u16_at(options, 2, self.big_endian))
        {
            let len = usize::from(len);
            let Some(value) = options.get(4..4 + len) else { break };
            match (code, value) {
                (OPTION_END, _) => break,
                (OPTION_TIME_RESOLUTION, &[resolution, ..]) => {
                    interface.units_per_s = units_per_s(resolution)
                        .ok_or_else(|| format!("an interface with if_tsresol {resolution}"))?;
                }
                (OPTION_TIME_OFFSET, value) => {
                    let raw = value.try_into().map_err(|_| {
                        format!("an interface with if_tsoffset of {len} bytes; expected 8")
                    })?;
                    interface.offset_s = match self.big_endian {
                        true => i64::from_be_bytes(raw),
                        false => i64::from_le_bytes(raw),
                    };
                }
                _ => {}
            }
            options = options.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(Some(interface))
    }
}

impl Interface {
    /// A packet of this interface, `captured` bytes of which stand `at` in their block.
    fn packet(self, ts: Ts, at: usize, captured: usize, wire_len: u32) -> Result<Found, Damage> {
        if captured > PACKET_BYTES_MAX {
            return Err(format!(
                "a packet of {captured} bytes; none has more than {PACKET_BYTES_MAX}"
            ));
        }
        let link_type = self.link_type;
        Ok(match link_type::check(link_type) {
            Ok(()) => Found::Packet(Packet { ts, at, captured, wire_len, link_type }),
            Err(reason) => Found::Unread(reason),
        })
    }

    /// A time of this interface's clock. Times before 1970 or after 2554 become the nearest.
    fn time(self, units: u64) -> Ts {
        let secs = i128::from(units / self.units_per_s) + i128::from(self.offset_s);
        let rest = u128::from(units % self.units_per_s) * u128::from(NANOS);
        let nanos = i128::try_from(rest / u128::from(self.units_per_s)).unwrap_or_default();
        let all = (secs * i128::from(NANOS) + nanos).max(0);
        Ts(u64::try_from(all).unwrap_or(u64::MAX))
    }
}

/// `if_tsresol`: a power of 10, or of 2 when the upper bit is set. `None` when no clock of 64
/// bits counts that finely.
fn units_per_s(resolution: u8) -> Option<u64> {
    let exponent = u32::from(resolution & 0x7f);
    if resolution & 0x80 == 0 { 10_u64.checked_pow(exponent) } else { 1_u64.checked_shl(exponent) }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the lengths of the tests' own packets")]
mod tests {
    use std::io;

    use super::super::PacketSource;
    use super::super::pcap_file::PcapFile;
    use super::*;

    fn n(value: u32, big_endian: bool) -> [u8; 4] {
        if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn block(kind: u32, body: &[u8], big_endian: bool) -> Vec<u8> {
        let len = n(body.len() as u32 + 12, big_endian);
        [&n(kind, big_endian), &len[..], body, &len].concat()
    }

    fn half(value: u16, big_endian: bool) -> [u8; 2] {
        if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// Body of a section's header.
    fn section(big_endian: bool) -> Vec<u8> {
        let version = [half(1, big_endian), half(0, big_endian)].concat();
        [&n(0x1a2b_3c4d, big_endian)[..], &version, &[0xff; 8]].concat()
    }

    /// Body of an interface block.
    fn interface(link_type: u16, options: &[u8], big_endian: bool) -> Vec<u8> {
        let (kind, zero) = (half(link_type, big_endian), half(0, big_endian));
        [&kind[..], &zero, &n(0, big_endian), options].concat()
    }

    /// Body of an enhanced packet block with one byte.
    fn packet(id: u32, units: u32, big_endian: bool) -> Vec<u8> {
        let n = |value| n(value, big_endian);
        [n(id), n(0), n(units), n(1), n(1), [9, 0, 0, 0]].concat()
    }

    /// Reads the little-endian blocks behind a section header: the packets' times and link
    /// types, and how it ended.
    fn read(blocks: &[(u32, Vec<u8>)]) -> (Vec<(u64, u32)>, Result<(), CaptureError>) {
        let blocks = blocks.iter().map(|(kind, body)| block(*kind, body, false));
        let whole =
            [block(0x0a0d_0d0a, &section(false), false), blocks.collect::<Vec<_>>().concat()];
        let mut file = PcapFile::from_reader(Box::new(io::Cursor::new(whole.concat()))).unwrap();
        let mut packets = Vec::new();
        loop {
            match file.next_frame() {
                Ok(Next::Frame(frame)) => packets.push((frame.ts.0, frame.link_type.0)),
                Ok(_) => return (packets, Ok(())),
                Err(error) => return (packets, Err(error)),
            }
        }
    }

    fn capture(big_endian: bool) -> Vec<u8> {
        let n = |value| n(value, big_endian);
        let half = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let section = section(big_endian);
        // Ethernet, microseconds; then raw IP with if_tsresol 9: nanoseconds.
        let micros = [&half(1)[..], &half(0), &n(0)].concat();
        let resolution = [&half(9)[..], &half(1), &[9, 0, 0, 0], &half(0), &half(0)].concat();
        let nanos = [&half(101)[..], &half(0), &n(0), &resolution].concat();
        let packet = |interface: u32, units: u32| {
            [n(interface), n(0), n(units), n(3), n(9), [1, 2, 3, 0]].concat()
        };
        [
            block(0x0a0d_0d0a, &section, big_endian),
            block(1, &micros, big_endian),
            block(1, &nanos, big_endian),
            block(5, &[0; 8], big_endian),
            block(6, &packet(0, 2_000_001), big_endian),
            block(6, &packet(1, 3_000_000_001), big_endian),
            block(3, &[n(4), [5, 6, 7, 8]].concat(), big_endian),
        ]
        .concat()
    }

    #[test]
    fn blocks_of_both_byte_orders_give_frames_with_their_interfaces_clock() {
        for big_endian in [false, true] {
            let bytes = capture(big_endian);
            let mut file = PcapFile::from_reader(Box::new(io::Cursor::new(bytes))).unwrap();
            let mut got = Vec::new();
            while let Next::Frame(frame) = file.next_frame().unwrap() {
                got.push((frame.ts.0, frame.bytes.to_vec(), frame.wire_len, frame.link_type.0));
            }
            assert_eq!(
                got,
                [
                    (2_000_001_000, vec![1, 2, 3], 9, 1),
                    (3_000_000_001, vec![1, 2, 3], 9, 101),
                    (0, vec![5, 6, 7, 8], 4, 1),
                ]
            );
        }
    }

    #[test]
    fn a_clock_of_a_power_of_two_counts_right() {
        assert_eq!(units_per_s(6), Some(1_000_000));
        assert_eq!(units_per_s(0x8a), Some(1024));
        assert_eq!(units_per_s(0xc0), None);
        let clock =
            Interface { link_type: LinkType(1), snaplen: 0, units_per_s: 1024, offset_s: 10 };
        assert_eq!(clock.time(1024 + 512), Ts(11_500_000_000));
        assert_eq!(Interface { offset_s: -1, ..clock }.time(1024 + 512), Ts(500_000_000));
        assert_eq!(Interface { offset_s: -9, ..clock }.time(1024), Ts(0));
        assert_eq!(Interface { offset_s: i64::MAX, ..clock }.time(u64::MAX), Ts(u64::MAX));
    }

    #[test]
    fn an_interfaces_offset_is_added_to_its_times() {
        let offset = [&[14, 0, 8, 0][..], &(-2_i64).to_le_bytes()].concat();
        let (packets, ended) =
            read(&[(1, interface(1, &offset, false)), (6, packet(0, 5_000_000, false))]);
        assert_eq!(packets, [(3_000_000_000, 1)]);
        assert!(ended.is_ok());
    }

    #[test]
    fn each_section_begins_with_interfaces_and_a_byte_order_of_its_own() {
        let bytes = [capture(false), capture(true), capture(false)].concat();
        let mut file = PcapFile::from_reader(Box::new(io::Cursor::new(bytes))).unwrap();
        let mut times = Vec::new();
        while let Next::Frame(frame) = file.next_frame().unwrap() {
            times.push(frame.ts.0);
        }
        assert_eq!(times, [2_000_001_000, 3_000_000_001, 0].repeat(3));
    }

    #[test]
    fn packets_of_a_link_type_that_is_not_read_are_told_and_the_others_read() {
        let (packets, ended) = read(&[
            (1, interface(1, &[], false)),
            (1, interface(189, &[], false)),
            (6, packet(1, 1, false)),
            (6, packet(0, 2, false)),
            (6, packet(1, 3, false)),
        ]);
        assert_eq!(packets, [(2000, 1)]);
        let told = ended.unwrap_err().to_string();
        assert!(told.starts_with("2 of its packets were passed by: link type 189 (USB"), "{told}");
        let (_, idle) = read(&[(1, interface(189, &[], false)), (1, interface(1, &[], false))]);
        assert!(idle.is_ok(), "an interface without packets is no fault");
    }

    #[test]
    fn what_cannot_be_is_told_with_its_place() {
        let cases = [
            ((6, packet(3, 1, false)), "a packet of interface 3; the section has declared 1 int"),
            ((6, packet(0, 1, false)[..16].to_vec()), "a packet of 1 bytes in a block of 28"),
            (
                (1, interface(1, &[9, 0, 1, 0, 77, 0, 0, 0], false)),
                "an interface with if_tsresol 77",
            ),
            ((1, vec![1, 0]), "a block of kind 1 with"),
            ((0x0a0d_0d0a, [n(0x1a2b_3c4d, false), n(2, false)].concat()), "pcapng version 2;"),
            ((0x0a0d_0d0a, vec![7; 16]), "a section that does not tell its byte order"),
        ];
        for ((kind, mut body), said) in cases {
            body.resize(body.len().next_multiple_of(4), 0);
            let (packets, ended) = read(&[
                (1, interface(1, &[], false)),
                (6, packet(0, 7, false)),
                (kind, body),
                (6, packet(0, 8, false)),
            ]);
            assert_eq!(packets, [(7000, 1)], "{said}");
            let told = ended.unwrap_err().to_string();
            let place = format!("damaged at byte {}, behind 1 packets: {said}", 28 + 20 + 36);
            assert!(told.starts_with(&place), "{told}");
        }
    }

    #[test]
    fn garbage_between_blocks_is_damage() {
        let whole = capture(false);
        let at = whole.len() - 20;
        let with_garbage = [&whole[..at], b"garbage garbage!", &whole[at..]].concat();
        let mut file = PcapFile::from_reader(Box::new(io::Cursor::new(with_garbage))).unwrap();
        file.next_frame().unwrap();
        file.next_frame().unwrap();
        let told = file.next_frame().unwrap_err().to_string();
        assert!(
            told.starts_with(&format!("damaged at byte {at}, behind 2 packets: a block")),
            "{told}"
        );
    }

    #[test]
    fn every_cut_of_a_file_ends_without_a_panic() {
        let whole = capture(false);
        for len in 0..whole.len() {
            let reader = Box::new(io::Cursor::new(whole[..len].to_vec()));
            if let Ok(mut file) = PcapFile::from_reader(reader) {
                while let Ok(Next::Frame(_)) = file.next_frame() {}
            }
        }
    }
}
