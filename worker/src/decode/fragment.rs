//! Reassembly of IP fragments (RFC 791 section 3.2, RFC 8200 section 4.5) with Zeek's rules for
//! fragments that overlap or contradict each other: what came first stays.

use std::collections::VecDeque;

use hashbrown::HashMap;
use tyto_core::time::Ts;

use super::addr::Addr;
use super::ip::{FRAGMENT_HEADER_LEN, IpPacket};
use crate::flow::hash::KeyedHasher;

/// How long fragments wait for the missing ones, seconds (Zeek: `frag_timeout`).
const FRAGMENT_TIMEOUT_S: u64 = 300;
/// Packets that may wait for fragments at the same time. At the limit the oldest is dropped.
const FRAGMENTED_PACKETS_MAX: usize = 16_384;
/// Bytes that all waiting fragments may hold. At the limit the oldest packet is dropped.
const FRAGMENT_BYTES_MAX: usize = 64 << 20;
/// Pieces of one packet that may wait. Real ones have up to 45 (64 KiB in Ethernet frames); a
/// packet of more pieces than this is dropped.
const PIECES_MAX: usize = 8192;

/// Fragments of which others follow are odd when they are shorter than this, bytes with header:
/// no link has so small packets.
const SMALL_LEN: u32 = 64;
/// A whole that is longer than this is odd, bytes.
const LARGE_END: usize = 64_000;

/// What happened to fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentStats {
    /// Fragments taken.
    pub fragments: u64,
    /// Packets put together.
    pub reassembled: u64,
    /// Packets given up because their time was over.
    pub expired: u64,
    /// Packets dropped at one of the limits.
    pub dropped: u64,
}

/// The fragments that wait for others.
#[derive(Debug)]
pub struct Fragments {
    packets: HashMap<Key, Pending, KeyedHasher>,
    /// Keys in the order of their deadlines; one whose packet is gone or younger is stale.
    deadlines: VecDeque<(Ts, Key)>,
    bytes: usize,
    stats: FragmentStats,
    /// What was odd about the latest fragment, by Zeek's names; used again.
    odd: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    src: Addr,
    dst: Addr,
    id: u32,
}

/// A packet of which fragments came.
#[derive(Debug)]
struct Pending {
    deadline: Ts,
    /// The headers of the first fragment seen, without IPv6's fragment header.
    header: Vec<u8>,
    is_v4: bool,
    next_proto: u8,
    /// What the first fragment seen says to carry.
    first_proto: u8,
    /// Length of the whole payload once the last fragment came, bytes.
    size: Option<usize>,
    /// Sorted by offset, without overlap.
    pieces: Vec<Piece>,
    /// Bytes in `pieces`.
    held: usize,
}

#[derive(Debug)]
struct Piece {
    offset: usize,
    bytes: Vec<u8>,
}

impl Fragments {
    /// Nothing waits yet. Keys are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            packets: HashMap::with_hasher(hasher),
            deadlines: VecDeque::new(),
            bytes: 0,
            stats: FragmentStats::default(),
            odd: Vec::new(),
        }
    }

    /// Takes the fragment `packet`. Gives the whole packet, headers and payload, when this was
    /// the last one missing.
    pub fn add(&mut self, now: Ts, packet: &IpPacket<'_>) -> Option<Vec<u8>> {
        let info = packet.fragment?;
        self.stats.fragments += 1;
        self.odd.clear();
        let key = Key { src: packet.src, dst: packet.dst, id: info.id };
        let is_new = !self.packets.contains_key(&key);
        if self.bytes >= FRAGMENT_BYTES_MAX || is_new {
            self.make_room();
        }
        if is_new {
            let deadline = now.plus_secs(FRAGMENT_TIMEOUT_S);
            self.deadlines.push_back((deadline, key));
            self.packets.insert(key, Pending::new(deadline, packet));
        }
        // The packet itself may have been the oldest: then this fragment goes with it.
        let pending = self.packets.get_mut(&key)?;
        let before = pending.held;
        pending.look(packet, &mut self.odd);
        pending.add(packet, &mut self.odd);
        // One without bytes completes nothing, not even a packet of its own (as in Zeek).
        let has_bytes = packet.total_len > u32::from(packet.hdr_len);
        let whole = has_bytes.then(|| pending.whole(&mut self.odd)).flatten();
        self.bytes += pending.held - before;
        let too_many = pending.pieces.len() > PIECES_MAX;
        if whole.is_some() || too_many {
            self.stats.reassembled += u64::from(whole.is_some());
            self.stats.dropped += u64::from(whole.is_none());
            self.remove(&key);
        }
        whole
    }

    /// Gives up what waited too long. Asked before each packet.
    #[inline]
    pub fn expire(&mut self, now: Ts) {
        if self.deadlines.front().is_some_and(|(deadline, _)| *deadline <= now) {
            self.give_up(now);
        }
    }

    #[cold]
    fn give_up(&mut self, now: Ts) {
        while let Some((deadline, key)) = self.deadlines.front().copied() {
            if deadline > now {
                return;
            }
            self.deadlines.pop_front();
            if self.packets.get(&key).is_some_and(|packet| packet.deadline == deadline) {
                self.stats.expired += 1;
                self.remove(&key);
            }
        }
    }

    /// What happened so far.
    pub const fn stats(&self) -> FragmentStats {
        self.stats
    }

    /// What was odd about the latest fragment, by Zeek's names.
    pub fn odd(&self) -> &[&'static str] {
        &self.odd
    }

    /// Bytes that wait.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn make_room(&mut self) {
        while self.packets.len() >= FRAGMENTED_PACKETS_MAX || self.bytes >= FRAGMENT_BYTES_MAX {
            let Some((deadline, key)) = self.deadlines.pop_front() else { return };
            if self.packets.get(&key).is_some_and(|packet| packet.deadline == deadline) {
                self.stats.dropped += 1;
                self.remove(&key);
            }
        }
        // Deadlines of packets that were completed are dropped before they outnumber the rest.
        if self.deadlines.len() >= 2 * FRAGMENTED_PACKETS_MAX {
            let packets = &self.packets;
            self.deadlines.retain(|(deadline, key)| {
                packets.get(key).is_some_and(|packet| packet.deadline == *deadline)
            });
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(packet) = self.packets.remove(key) {
            self.bytes -= packet.held;
        }
    }
}

impl Pending {
    fn new(deadline: Ts, packet: &IpPacket<'_>) -> Self {
        let behind = if packet.is_v4 { 0 } else { FRAGMENT_HEADER_LEN };
        let len = usize::from(packet.hdr_len).saturating_sub(behind);
        Self {
            deadline,
            header: packet.bytes.get(..len).unwrap_or_default().to_vec(),
            is_v4: packet.is_v4,
            next_proto: packet.next_proto,
            first_proto: packet.next_proto,
            size: None,
            pieces: Vec::new(),
            held: 0,
        }
    }

    /// Looks whether a fragment fits to the first that was seen, and is of a sensible size.
    fn look(&self, packet: &IpPacket<'_>, odd: &mut Vec<&'static str>) {
        let Some(info) = packet.fragment else { return };
        let behind = if packet.is_v4 { 0 } else { FRAGMENT_HEADER_LEN };
        let is_other = packet.next_proto != self.first_proto
            || usize::from(packet.hdr_len) != self.header.len() + behind;
        if is_other || packet.total_len < u32::from(packet.hdr_len) {
            tell(odd, "fragment_protocol_inconsistency");
        }
        if packet.is_whole_only {
            tell(odd, "fragment_with_DF");
        }
        let end = fragment_end(packet, info.offset);
        if !info.more {
            if self.size.is_some_and(|size| end != size) {
                tell(odd, "fragment_size_inconsistency");
            }
        } else if packet.total_len < SMALL_LEN {
            tell(odd, "excessively_small_fragment");
        }
        if end > LARGE_END {
            tell(odd, "excessively_large_fragment");
        }
        if self.size.is_some_and(|size| end > size) {
            tell(odd, "fragment_size_inconsistency");
        }
    }

    fn add(&mut self, packet: &IpPacket<'_>, odd: &mut Vec<&'static str>) {
        let Some(info) = packet.fragment else { return };
        let hdr_len = usize::from(packet.hdr_len);
        let Some(payload) = packet.bytes.get(hdr_len..packet.total_len as usize) else { return };
        let offset = usize::from(info.offset);
        let end = offset + payload.len();
        if info.offset == 0 {
            self.next_proto = packet.next_proto;
        }
        if !info.more {
            self.size = Some(self.size.map_or(end, |size| size.max(end)));
        } else if self.size.is_some_and(|size| end > size) {
            self.size = Some(end);
        }
        self.compare(offset, payload, odd);
        self.insert(offset, payload);
    }

    /// Looks whether `payload` says the same as what is there already.
    fn compare(&self, offset: usize, payload: &[u8], odd: &mut Vec<&'static str>) {
        let end = offset + payload.len();
        for piece in self.pieces.iter().filter(|piece| piece.offset < end && piece.end() > offset) {
            let (from, to) = (piece.offset.max(offset), piece.end().min(end));
            let there = piece.bytes.get(from - piece.offset..to - piece.offset);
            let is_same = there == payload.get(from - offset..to - offset);
            let name = if is_same { "fragment_overlap" } else { "fragment_inconsistency" };
            tell(odd, name);
        }
    }

    /// Puts in what lies between the pieces that are there already.
    fn insert(&mut self, offset: usize, payload: &[u8]) {
        let end = offset + payload.len();
        let mut at = offset;
        let mut index = self.pieces.partition_point(|piece| piece.end() <= offset);
        while at < end {
            let gap_end = self.pieces.get(index).map_or(end, |piece| piece.offset.min(end));
            if at < gap_end {
                let bytes = payload.get(at - offset..gap_end - offset).unwrap_or_default().to_vec();
                self.held += bytes.len();
                self.pieces.insert(index, Piece { offset: at, bytes });
                index += 1;
            }
            let Some(next) = self.pieces.get(index) else { return };
            at = next.end();
            index += 1;
        }
    }

    /// The whole packet, if no piece is missing.
    fn whole(&mut self, odd: &mut Vec<&'static str>) -> Option<Vec<u8>> {
        let size = self.size?;
        let mut end = 0;
        for piece in &self.pieces {
            if piece.offset != end {
                break;
            }
            end = piece.end();
        }
        if end < size {
            return None;
        }
        // More came than the last fragment allows for, or lies behind a hole beyond it.
        if self.pieces.last().is_some_and(|last| last.end() > size.min(end)) {
            tell(odd, "fragment_size_inconsistency");
        }
        let mut packet = Vec::with_capacity(self.header.len() + end);
        packet.extend_from_slice(&self.header);
        let mut len = 0;
        for piece in self.pieces.iter().take_while(|piece| piece.end() <= end) {
            packet.extend_from_slice(&piece.bytes);
            len += piece.bytes.len();
        }
        self.patch_header(&mut packet, len)?;
        Some(packet)
    }

    /// Makes the headers those of the whole: its length, no fragment bits, and for IPv6 the
    /// payload's protocol where the fragment header was named. The length of what is longer than
    /// a packet can be wraps around, as Zeek's does; the packet then fails the checks of lengths.
    fn patch_header(&self, packet: &mut [u8], payload_len: usize) -> Option<()> {
        let header_len = self.header.len();
        if self.is_v4 {
            let total = wrapped(header_len + payload_len);
            packet.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
            packet.get_mut(6..8)?.fill(0);
            return Some(());
        }
        let payload = (header_len + payload_len).checked_sub(40)?;
        packet.get_mut(4..6)?.copy_from_slice(&wrapped(payload).to_be_bytes());
        // The header before the fragment header names it; walk there.
        let (mut at, mut named) = (40, 6);
        while at < header_len {
            let len = 8 + 8 * usize::from(*packet.get(at + 1)?);
            named = at;
            at += len;
        }
        *packet.get_mut(named)? = self.next_proto;
        Some(())
    }
}

/// Where the payload of a fragment ends in the whole, by its header.
fn fragment_end(packet: &IpPacket<'_>, offset: u16) -> usize {
    let payload = (packet.total_len as usize).saturating_sub(usize::from(packet.hdr_len));
    usize::from(offset) + payload
}

/// Notes `name`, once per fragment.
fn tell(odd: &mut Vec<&'static str>, name: &'static str) {
    if !odd.contains(&name) {
        odd.push(name);
    }
}

/// A length in the 16 bits that headers have for it.
#[allow(clippy::cast_possible_truncation, reason = "see Pending::patch_header")]
const fn wrapped(len: usize) -> u16 {
    len as u16
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.bytes.len()
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the lengths of the tests' own packets")]
mod tests {
    use super::*;

    fn fragment(id: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, id, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        bytes[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
        bytes[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn add(fragments: &mut Fragments, now: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        fragments.add(Ts::new(now, 0), &IpPacket::parse(bytes).unwrap())
    }

    fn fragments() -> Fragments {
        Fragments::new(KeyedHasher::with_seed(1))
    }

    #[test]
    fn fragments_in_any_order_make_the_whole() {
        let parts = [
            fragment(1, 0, true, &[1; 16]),
            fragment(1, 16, true, &[2; 8]),
            fragment(1, 24, false, &[3; 3]),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut fragments = fragments();
            assert_eq!(add(&mut fragments, 1, &parts[order[0]]), None);
            assert_eq!(add(&mut fragments, 1, &parts[order[1]]), None);
            let whole = add(&mut fragments, 1, &parts[order[2]]).unwrap();
            let packet = IpPacket::parse(&whole).unwrap();
            assert_eq!(packet.fragment, None);
            assert_eq!(packet.payload(), [&[1; 16][..], &[2; 8], &[3; 3]].concat());
            assert_eq!((fragments.bytes(), fragments.stats().reassembled), (0, 1));
        }
    }

    #[test]
    fn of_overlapping_fragments_the_first_stays() {
        let mut fragments = fragments();
        assert_eq!(add(&mut fragments, 1, &fragment(1, 8, true, &[1; 16])), None);
        assert_eq!(add(&mut fragments, 1, &fragment(1, 16, false, &[2; 16])), None);
        let whole = add(&mut fragments, 1, &fragment(1, 0, true, &[3; 16])).unwrap();
        let payload = IpPacket::parse(&whole).unwrap().payload();
        assert_eq!(payload, [&[3; 8][..], &[1; 16], &[2; 8]].concat());
    }

    /// As a fragment of its own, or the last one.
    #[test]
    fn a_fragment_without_bytes_completes_nothing() {
        let mut fragments = fragments();
        assert_eq!(add(&mut fragments, 1, &fragment(1, 0, false, &[])), None);
        assert_eq!(add(&mut fragments, 1, &fragment(2, 0, true, &[1; 16])), None);
        assert_eq!(add(&mut fragments, 1, &fragment(2, 16, false, &[])), None);
        assert_eq!(fragments.stats().reassembled, 0);
    }

    #[test]
    fn fragments_that_wait_too_long_are_given_up() {
        let mut fragments = fragments();
        add(&mut fragments, 1, &fragment(1, 0, true, &[1; 16]));
        fragments.expire(Ts::new(300, 0));
        assert_eq!(fragments.stats().expired, 0);
        fragments.expire(Ts::new(301, 0));
        assert_eq!((fragments.stats().expired, fragments.bytes()), (1, 0));
        assert_eq!(add(&mut fragments, 302, &fragment(1, 16, false, &[2; 8])), None);
    }

    #[test]
    fn ipv6_fragments_lose_their_fragment_header() {
        let v6 = |offset: u16, more: bool, payload: &[u8]| {
            let mut bytes = vec![0x60, 0, 0, 0, 0, 8 + payload.len() as u8, 44, 64];
            bytes.extend([1; 32]);
            let field = (offset | u16::from(more)).to_be_bytes();
            bytes.extend([17, 0, field[0], field[1], 0, 0, 0, 9]);
            bytes.extend(payload);
            bytes
        };
        let mut fragments = fragments();
        assert_eq!(add(&mut fragments, 1, &v6(0, true, &[1; 8])), None);
        let whole = add(&mut fragments, 1, &v6(8, false, &[2; 4])).unwrap();
        let packet = IpPacket::parse(&whole).unwrap();
        assert_eq!((packet.next_proto, packet.hdr_len, packet.total_len), (17, 40, 52));
        assert_eq!(packet.payload(), [&[1; 8][..], &[2; 4]].concat());
    }
}
