//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks. Enhanced, simple and obsolete packet
//! blocks give frames, interface blocks their link type and clock; other blocks are passed by.

use tyto_core::time::{NANOS, Ts};

use tyto_capture::{Frame, LinkType};

use super::buffer::{WINDOW_BYTES_MAX, Window};
use super::pcap_file::{u16_at, u32_at};
use super::{CaptureError, Next};

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

/// Interfaces that a section may declare; blocks of further ones are passed by, as their
/// packets are.
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
    offset_s: u64,
}

/// A packet as its block describes it, before its bytes are lent.
struct Packet {
    ts: Ts,
    at: usize,
    captured: usize,
    wire_len: u32,
    link_type: LinkType,
}

impl Section {
    pub(super) fn next_frame<'a>(
        &mut self,
        window: &'a mut Window,
    ) -> Result<Next<'a>, CaptureError> {
        let (len, packet) = loop {
            let Some((kind, len)) = self.block_header(window)? else { return Ok(Next::End) };
            let block = window.peek(len)?;
            if block.len() < len {
                return Ok(Next::End);
            }
            if let Some(packet) = self.block(kind, block) {
                break (len, packet);
            }
            window.take(len)?;
        };
        let Some(block) = window.take(len)? else { return Ok(Next::End) };
        let Some(bytes) = block.get(packet.at..packet.at + packet.captured) else {
            return Ok(Next::End);
        };
        let Packet { ts, wire_len, link_type, .. } = packet;
        Ok(Next::Frame(Frame { ts, bytes, wire_len, link_type, checksum_good: false }))
    }

    /// Kind and length of the block that comes next; `None` at the end or at damage.
    fn block_header(&mut self, window: &mut Window) -> Result<Option<(u32, usize)>, CaptureError> {
        let header = window.peek(12)?;
        if header.get(..4) == Some(&SECTION_HEADER) {
            self.big_endian = header.get(8..12) == Some(&[0x1a, 0x2b, 0x3c, 0x4d]);
            self.interfaces.clear();
        }
        let (Some(kind), Some(len)) =
            (u32_at(header, 0, self.big_endian), u32_at(header, 4, self.big_endian))
        else {
            return Ok(None);
        };
        let len = len as usize;
        let sane = len >= 12 && len.is_multiple_of(4) && len <= WINDOW_BYTES_MAX;
        Ok(sane.then_some((kind, len)))
    }

    /// Takes in a block; tells of the packet that it holds.
    fn block(&mut self, kind: u32, block: &[u8]) -> Option<Packet> {
        match kind {
            SECTION_HEADER_BLOCK => None,
            INTERFACE_BLOCK => {
                if self.interfaces.len() < INTERFACES_MAX {
                    self.interfaces.push(self.interface(block)?);
                }
                None
            }
            ENHANCED_PACKET_BLOCK => {
                let interface = u32_at(block, 8, self.big_endian)? as usize;
                self.timed_packet(block, interface)
            }
            OBSOLETE_PACKET_BLOCK => {
                let interface = usize::from(u16_at(block, 8, self.big_endian)?);
                self.timed_packet(block, interface)
            }
            SIMPLE_PACKET_BLOCK => {
                let interface = self.interfaces.first()?;
                let wire_len = u32_at(block, 8, self.big_endian)?;
                let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
                let captured = (wire_len.min(snaplen) as usize).min(block.len().checked_sub(16)?);
                let link_type = interface.link_type;
                Some(Packet { ts: Ts(0), at: 12, captured, wire_len, link_type })
            }
            _ => None,
        }
    }

    fn timed_packet(&self, block: &[u8], interface: usize) -> Option<Packet> {
        let interface = self.interfaces.get(interface)?;
        let field = |at| u32_at(block, at, self.big_endian);
        let units = u64::from(field(12)?) << 32 | u64::from(field(16)?);
        let captured = field(20)? as usize;
        if captured > block.len().checked_sub(32)? {
            return None;
        }
        let ts = interface.time(units);
        let link_type = interface.link_type;
        Some(Packet { ts, at: 28, captured, wire_len: field(24)?, link_type })
    }

    fn interface(&self, block: &[u8]) -> Option<Interface> {
        let mut interface = Interface {
            link_type: LinkType(u32::from(u16_at(block, 8, self.big_endian)?)),
            snaplen: u32_at(block, 12, self.big_endian)?,
            units_per_s: 1_000_000,
            offset_s: 0,
        };
        let mut options = block.get(16..block.len() - 4)?;
        while let (Some(code), Some(len)) =
            (u16_at(options, 0, self.big_endian), u16_at(options, 2, self.big_endian))
        {
            let len = usize::from(len);
            let Some(value) = options.get(4..4 + len) else { break };
            match code {
                OPTION_END => break,
                OPTION_TIME_RESOLUTION => {
                    interface.units_per_s = units_per_s(*value.first()?)?;
                }
                OPTION_TIME_OFFSET => {
                    let (high, low) = if self.big_endian { (0, 4) } else { (4, 0) };
                    let high = u64::from(u32_at(value, high, self.big_endian)?);
                    interface.offset_s =
                        high << 32 | u64::from(u32_at(value, low, self.big_endian)?);
                }
                _ => {}
            }
            options = options.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(interface)
    }
}

impl Interface {
    /// A time of this interface's clock.
    fn time(self, units: u64) -> Ts {
        let secs = units / self.units_per_s;
        let rest = u128::from(units % self.units_per_s) * u128::from(NANOS);
        let nanos = u64::try_from(rest / u128::from(self.units_per_s)).unwrap_or_default();
        Ts(secs.wrapping_add(self.offset_s).saturating_mul(NANOS).saturating_add(nanos))
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

    fn capture(big_endian: bool) -> Vec<u8> {
        let n = |value| n(value, big_endian);
        let half = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let section = [n(0x1a2b_3c4d), n(1), n(u32::MAX), n(u32::MAX)].concat();
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
            block(6, &packet(7, 1), big_endian),
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
