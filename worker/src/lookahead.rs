//! What a capture file brings next is at hand before its turn comes. The connections of several
//! packets are looked up side by side, and what their analysis will read is read once: then their
//! lines of memory are on the way at the same time, and not one after the other, each waited for.
//! Nothing is decided here; a packet that is not understood at a glance is simply not prepared.

use std::hint::black_box;

use tyto_capture::LinkType;

use crate::capture::PacketSource;
use crate::decode::addr::Addr;
use crate::decode::be16;
use crate::decode::ip::proto;
use crate::flow::key::FlowKey;
use crate::flow::table::FlowTable;

/// Packets that are prepared together: enough that their misses overlap, so few that what was
/// fetched is still there when their turn comes.
const PACKETS: usize = 16;

/// How far the preparation is ahead of the analysis.
#[derive(Debug, Default)]
pub(crate) struct Lookahead {
    /// Packets that are prepared and not taken yet.
    ready: usize,
}

impl Lookahead {
    /// Before each packet that is taken from `source`: prepares the next ones when those before
    /// are used up.
    pub(crate) fn prepare(&mut self, source: &impl PacketSource, flows: &FlowTable) {
        if self.ready > 0 {
            self.ready -= 1;
            return;
        }
        let mut hashes = [0; PACKETS];
        let mut places = hashes.iter_mut();
        source.upcoming(PACKETS, &mut |link_type, frame| {
            self.ready += 1;
            if let Some(key) = key_of(link_type, frame)
                && let Some(place) = places.next()
            {
                *place = flows.hash(&key);
            }
        });
        let unused = places.len();
        self.ready = self.ready.saturating_sub(1);
        black_box(flows.read_ahead(hashes.get(..PACKETS - unused).unwrap_or_default()));
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
