//! `traceroute.log`: a host that sends packets with a small time to live, and hears of it from
//! several routers. Looked for when asked (Zeek: `misc/detect-traceroute`).

use std::net::IpAddr;

use hashbrown::HashMap;
use tyto_core::net::Proto;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;

use super::notice::Notice;
use crate::analyzer::state::Shared;
use crate::decode::addr::Addr;
use crate::decode::ip::{IpPacket, proto};
use crate::flow::hash::KeyedHasher;
use crate::output::Output;

/// A time to live below this is small.
const TTL_MIN: u8 = 10;
/// Routers that must have dropped a packet (Zeek: `icmp_time_exceeded_threshold`).
const ROUTERS_MIN: usize = 3;
/// What is counted is forgotten this often, seconds (Zeek: `icmp_time_exceeded_interval`).
const EPOCH_S: u64 = 180;
/// Pairs of hosts that are counted. Further ones are not looked at in this epoch.
const PAIRS_MAX: usize = 1 << 16;

/// A host that looks for the way to another.
#[derive(Debug, LogRecord)]
#[log(stream = "traceroute")]
pub struct TracerouteLog {
    /// When it was clear.
    pub ts: Ts,
    /// Who looks.
    pub src: IpAddr,
    /// For the way to whom.
    pub dst: IpAddr,
    /// With packets of this transport.
    pub proto: &'static str,
}

/// Counts what tells a traceroute.
#[derive(Debug)]
pub struct Traceroutes {
    pairs: HashMap<(Addr, Addr, Proto), Pair, KeyedHasher>,
    next_epoch: Ts,
    refused: u64,
}

#[derive(Debug, Default)]
struct Pair {
    has_small_ttl: bool,
    routers: Vec<Addr>,
    is_told: bool,
}

impl Traceroutes {
    /// Nothing is counted yet; pairs are hashed with `hasher`.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self { pairs: HashMap::with_hasher(hasher), next_epoch: Ts(0), refused: 0 }
    }

    /// Pairs that were not counted, at the limit.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Counts something of a pair; true when with it the pair is a traceroute, for the first
    /// time in this epoch.
    fn observe(
        &mut self,
        now: Ts,
        key: (Addr, Addr, Proto),
        count: impl FnOnce(&mut Pair),
    ) -> bool {
        if now >= self.next_epoch {
            self.pairs.clear();
            self.next_epoch = now.plus_secs(EPOCH_S);
        }
        if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&key) {
            self.refused += 1;
            return false;
        }
        let pair = self.pairs.entry(key).or_default();
        count(pair);
        let is_traceroute = pair.has_small_ttl && pair.routers.len() >= ROUTERS_MIN;
        is_traceroute && !std::mem::replace(&mut pair.is_told, true)
    }
}

impl Pair {
    fn add_router(&mut self, router: Addr) {
        if self.routers.len() < ROUTERS_MIN && !self.routers.contains(&router) {
            self.routers.push(router);
        }
    }
}

impl Shared {
    /// Looks at a packet of a connection from `orig` to `resp`.
    pub(crate) fn trace_packet(
        &mut self,
        now: Ts,
        packet: &IpPacket<'_>,
        (orig, resp, transport): (Addr, Addr, Proto),
        out: &mut Output,
    ) {
        if !self.config.traceroute {
            return;
        }
        let at = if packet.is_v4 { 8 } else { 7 };
        if packet.bytes.get(at).is_some_and(|ttl| *ttl < TTL_MIN) {
            let key = (orig, resp, transport);
            if self.traceroutes.observe(now, key, |pair| pair.has_small_ttl = true) {
                self.tell_traceroute(now, key, out);
            }
        }
        if let Some(key) = expired_in_transit(packet)
            && self.traceroutes.observe(now, key, |pair| pair.add_router(orig))
        {
            self.tell_traceroute(now, key, out);
        }
    }

    fn tell_traceroute(
        &mut self,
        now: Ts,
        (src, dst, transport): (Addr, Addr, Proto),
        out: &mut Output,
    ) {
        let (src, dst, proto) = (IpAddr::from(src), IpAddr::from(dst), transport.as_str());
        out.row(&TracerouteLog { ts: now, src, dst, proto });
        let msg = format!("{src} seems to be running traceroute using {proto}");
        let mut notice = Notice::new("Traceroute::Detected", msg);
        notice.src = Some(src);
        notice.identifier = Some(format!("{src}{proto}"));
        self.notice(now, notice, out);
    }
}

/// The packet that a router tells to have dropped, in an ICMP message "time exceeded" (RFC 792,
/// RFC 4443 section 3.3): from whom, to whom, and its transport.
fn expired_in_transit(packet: &IpPacket<'_>) -> Option<(Addr, Addr, Proto)> {
    const HEADER_LEN: usize = 8;
    let message = packet.payload();
    let is_expired = matches!(
        (packet.next_proto, message.first()),
        (proto::ICMP, Some(11)) | (proto::ICMPV6, Some(3))
    );
    let dropped = is_expired.then(|| message.get(HEADER_LEN..)).flatten()?;
    let dropped = IpPacket::parse(dropped).ok()?;
    let transport = match dropped.next_proto {
        proto::TCP => Proto::Tcp,
        proto::UDP => Proto::Udp,
        proto::ICMP | proto::ICMPV6 => Proto::Icmp,
        _ => Proto::UnknownTransport,
    };
    Some((dropped.src, dropped.dst, transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> Addr {
        Addr::v4([10, 0, 0, last])
    }

    #[test]
    fn three_routers_and_a_small_ttl_make_a_traceroute_once_per_epoch() {
        let mut traceroutes = Traceroutes::new(KeyedHasher::with_seed(1));
        let key = (addr(1), addr(9), Proto::Udp);
        let mut router = |now, last: u8| {
            traceroutes.observe(Ts::new(now, 0), key, |pair| pair.add_router(addr(last)))
        };
        assert!(![2, 3, 3, 4, 5].into_iter().any(|last| router(100, last)));
        assert!(traceroutes.observe(Ts::new(101, 0), key, |pair| pair.has_small_ttl = true));
        assert!(!traceroutes.observe(Ts::new(102, 0), key, |pair| pair.has_small_ttl = true));
        // What was counted is forgotten with the epoch.
        assert!(!traceroutes.observe(Ts::new(280, 0), key, |pair| pair.has_small_ttl = true));
    }

    #[test]
    fn the_packet_that_was_dropped_is_read_out_of_the_message() {
        let dropped =
            [&[0x45, 0, 0, 28, 0, 0, 0, 0, 1, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 9][..], &[0; 8]]
                .concat();
        let message = [&[11, 0, 0, 0, 0, 0, 0, 0][..], &dropped].concat();
        let mut bytes = vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
        bytes.extend(message);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(expired_in_transit(&packet), Some((addr(1), addr(9), Proto::Udp)));
        let cut = IpPacket::parse(&bytes[..40]).unwrap();
        assert_eq!(expired_in_transit(&cut), None);
    }
}
