//! What a capture file or a ring brings next is at hand before its turn comes. The connections of several
//! packets are looked up side by side, and what their analysis will read is asked for: then their
//! lines of memory are on the way at the same time, and not one after the other, each waited for.
//! With few connections nothing is prepared: their lines are at hand.
//! Nothing is decided here; a packet that is not understood at a glance is simply not prepared.

use tyto_capture::LinkType;

use crate::capture::PacketSource;
use crate::decode::addr::Addr;
use crate::decode::be16;
use crate::decode::ip::proto;
use crate::flow::key::FlowKey;
use crate::flow::table::{AHEAD, Expected, FlowTable};

/// How far the preparation is ahead of the analysis.
#[derive(Debug, Default)]
pub(crate) struct Lookahead {
    /// What the packets that are prepared together probably belong to.
    expected: [Expected; AHEAD],
    /// How many of them were taken, and how many there are.
    taken: usize,
    len: usize,
}

impl Lookahead {
    /// What the next packet of `source` probably belongs to. Prepares it and those behind it when
    /// those before are used up.
    #[inline]
    pub(crate) fn next(&mut self, source: &impl PacketSource, flows: &FlowTable) -> Expected {
        if self.taken >= self.len {
            if !flows.is_large() {
                return Expected::default();
            }
            self.prepare(source, flows);
        }
        let expected = self.expected.get(self.taken).copied().unwrap_or_default();
        self.taken += 1;
        expected
    }

    fn prepare(&mut self, source: &impl PacketSource, flows: &FlowTable) {
        let mut hashes = [None; AHEAD];
        let mut places = hashes.iter_mut();
        source.upcoming(AHEAD, &mut |link_type, frame| {
            if let Some(place) = places.next() {
                *place = key_of(link_type, frame).map(|key| flows.hash(&key));
            }
        });
        (self.taken, self.len) = (0, AHEAD - places.len());
        // Of a source that shows nothing, nothing is expected.
        self.expected = if self.len > 0 { flows.look_ahead(&hashes) } else { Default::default() };
    }
}

/// The connection of a TCP segment or UDP datagram in Ethernet, with a tag or without.
fn key_of(link_type: LinkType, frame: &[u8]) -> Option<FlowKey> {
    let at = match link_type {
        LinkType::ETHERNET => match be16(frame, 12)? {
            0x8100 => 18,
            _ => 14,
        },
        LinkType::RAW => 0,
        _ => return None,
    };
    let packet = frame.get(at..)?;
    let first = *packet.first()?;
    let (src, dst, ip_proto, header_len) = match first >> 4 {
        4 => {
            let src = Addr::v4(*packet.get(12..)?.first_chunk()?);
            let dst = Addr::v4(*packet.get(16..)?.first_chunk()?);
            (src, dst, *packet.get(9)?, usize::from(first & 0x0f) * 4)
        }
        6 => {
            let src = Addr::v6(*packet.get(8..)?.first_chunk()?);
            let dst = Addr::v6(*packet.get(24..)?.first_chunk()?);
            (src, dst, *packet.get(6)?, 40)
        }
        _ => return None,
    };
    if !matches!(ip_proto, proto::TCP | proto::UDP) {
        return None;
    }
    let ports = (be16(packet, header_len)?, be16(packet, header_len + 2)?);
    Some(FlowKey::new((src, ports.0), (dst, ports.1), ip_proto, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_both_directions_have_the_key_of_their_connection() {
        let frame = |tag: &[u8], src: [u8; 4], dst: [u8; 4], ports: [u8; 4]| {
            let ip = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
            [&[0; 12][..], tag, &[8, 0], &ip, &src, &dst, &ports, &[0; 16]].concat()
        };
        let (a, b) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let there = frame(&[], a, b, [0x30, 0x39, 0, 80]);
        let back = frame(&[0x81, 0, 0, 7], b, a, [0, 80, 0x30, 0x39]);
        let key = FlowKey::new((Addr::v4(a), 12345), (Addr::v4(b), 80), 6, false);
        assert_eq!(key_of(LinkType::ETHERNET, &there), Some(key));
        assert_eq!(key_of(LinkType::ETHERNET, &back), Some(key));
        assert_eq!(key_of(LinkType::ETHERNET, &there[..30]), None);
        assert_eq!(key_of(LinkType::PPP, &there), None);
    }
}
