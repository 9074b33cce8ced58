//! What a capture file or a ring brings next is at hand before its turn comes. The connections of
//! several packets are looked up side by side, and what their analysis will read is asked for: then
//! their lines of memory are on the way at the same time, and not one after the other, each waited
//! for. With few connections nothing is prepared: their lines are at hand. Nothing is decided here;
//! a packet that is not understood at a glance is simply not prepared.

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
    use tyto_core::uid::Uid;

    use super::*;
    use crate::capture::{CaptureError, Next};
    use crate::flow::conn::{Conn, ConnCore, EndName, Transport};
    use crate::flow::hash::KeyedHasher;

    const SERVER: [u8; 4] = [192, 0, 2, 2];

    /// A TCP segment with a tag or without, and addresses and ports.
    fn frame(tag: &[u8], src: [u8; 4], dst: [u8; 4], ports: [u8; 4]) -> Vec<u8> {
        let ip = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
        [&[0; 12][..], tag, &[8, 0], &ip, &src, &dst, &ports, &[0; 16]].concat()
    }

    fn of_client(host: u8) -> Vec<u8> {
        frame(&[], [192, 0, 2, host], SERVER, [0x30, 0x39, 0, 80])
    }

    fn key(host: u8) -> FlowKey {
        FlowKey::new((Addr::v4([192, 0, 2, host]), 12345), (Addr::v4(SERVER), 80), 6, false)
    }

    #[test]
    fn segments_of_both_directions_have_the_key_of_their_connection() {
        let there = of_client(1);
        let back = frame(&[0x81, 0, 0, 7], SERVER, [192, 0, 2, 1], [0, 80, 0x30, 0x39]);
        assert_eq!(key_of(LinkType::ETHERNET, &there), Some(key(1)));
        assert_eq!(key_of(LinkType::ETHERNET, &back), Some(key(1)));
        assert_eq!(key_of(LinkType::ETHERNET, &there[..30]), None);
        assert_eq!(key_of(LinkType::PPP, &there), None);
    }

    /// Frames that wait.
    struct Waiting(Vec<Vec<u8>>);

    impl PacketSource for Waiting {
        fn next_frame(&mut self) -> Result<Next<'_>, CaptureError> {
            self.0.remove(0);
            Ok(Next::End)
        }

        fn upcoming(&self, count: usize, look: &mut dyn FnMut(LinkType, &[u8])) {
            self.0.iter().take(count).for_each(|frame| look(LinkType::ETHERNET, frame));
        }
    }

    fn begin(flows: &mut FlowTable, host: u8) {
        let [orig, resp] = [(host, 12345), (2, 80)]
            .map(|(host, port)| EndName { addr: Addr::v4([192, 0, 2, host]), port });
        let mut core = ConnCore::new(Uid { hi: 0, lo: u64::from(host) }, orig, resp);
        core.ip_proto = 6;
        flows.insert(Conn { core, transport: Transport::Unknown, stage: None });
    }

    /// What is expected helps to find and never misleads: not when a packet is not understood at a
    /// glance, its connection not there yet, or gone meanwhile.
    #[test]
    fn what_is_expected_of_packets_is_what_they_belong_to() {
        let mut flows = FlowTable::new(KeyedHasher::with_seed(1), 1000);
        (10..60).for_each(|host| begin(&mut flows, host));
        let hosts = (5..70).chain([10, 10, 200, 11]);
        let frames = hosts.clone().flat_map(|host| [of_client(host), vec![0; 60]]);
        let mut source = Waiting(frames.collect());
        let (mut ahead, mut right) = (Lookahead::default(), 0);
        for host in hosts {
            if host == 40 {
                let gone = flows.find(&key(40)).unwrap();
                flows.remove(gone);
            }
            let plain = flows.find(&key(host));
            flows.expect(ahead.next(&source, &flows));
            assert_eq!(flows.find(&key(host)), plain, "{host}");
            assert_eq!(plain.is_some(), (10..60).contains(&host) && host != 40, "{host}");
            right += u32::from(flows.is_expected(&key(host)));
            flows.expect(ahead_of(&mut ahead, &mut source, &flows));
            assert_eq!(flows.find(&key(host)), plain, "{host}, expected of another packet");
        }
        assert_eq!(right, 52, "all that are there are expected");
    }

    /// Takes a packet, and what is expected of the one that nobody understands behind it.
    fn ahead_of(ahead: &mut Lookahead, source: &mut Waiting, flows: &FlowTable) -> Expected {
        source.next_frame().unwrap();
        let expected = ahead.next(source, flows);
        source.next_frame().unwrap();
        expected
    }

    #[test]
    fn a_source_that_shows_nothing_is_expected_nothing_of() {
        let mut flows = FlowTable::new(KeyedHasher::with_seed(1), 1000);
        begin(&mut flows, 10);
        let expected = Lookahead::default().next(&Waiting(Vec::new()), &flows);
        flows.expect(expected);
        assert!(!flows.is_expected(&key(10)));
    }
}
