//! A share of a capture file: `--shard I/N` takes the packets of those pairs of hosts whose hash
//! falls on `I` of `N`, so that N workers together log what one alone would.
//!
//! Both addresses of the outermost IP packet are hashed, in either order, and no ports: all
//! fragments of a packet have them, both directions of a flow, what announces a connection and
//! that connection (FTP), and a tunnel with all that is inside. What is no IP goes to the first
//! share. The fanout of a live interface hashes ports too where there are any, because it has to
//! spread two busy hosts; [`tyto_core::fanout_program`] says what that costs.

use std::hash::{BuildHasher, Hasher};
use std::str::FromStr;

use tyto_capture::Frame;

use crate::decode::ip::IpPacket;
use crate::decode::link::{self, LinkFound};
use crate::flow::hash::KeyedHasher;

/// Shares that a file can be cut into at most.
const SHARES_MAX: u32 = 256;

/// One of several shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 0.
    index: u32,
    /// Of how many.
    count: u32,
}

/// A word that is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a share; expected I/N, I from 1 to N, N from 1 to {SHARES_MAX}")]
pub struct NoShard(String);

impl FromStr for Shard {
    type Err = NoShard;

    fn from_str(text: &str) -> Result<Self, NoShard> {
        let parse = || {
            let (index, count) = text.split_once('/')?;
            let (index, count): (u32, u32) = (index.parse().ok()?, count.parse().ok()?);
            let fits = (1..=SHARES_MAX).contains(&count) && (1..=count).contains(&index);
            fits.then(|| Self { index: index - 1, count })
        };
        parse().ok_or_else(|| NoShard(text.to_owned()))
    }
}

impl Shard {
    /// Whether the frame belongs to this share.
    pub fn takes(&self, frame: &Frame<'_>) -> bool {
        let mut share = None;
        link::ip_packets(frame.link_type, frame.bytes, |found| {
            if let LinkFound::Ip(bytes) = found
                && share.is_none()
                && let Ok(packet) = IpPacket::parse(bytes)
            {
                // The sum is the same in both directions.
                let hash = |addr| KeyedHasher::with_seed(0).hash_one(addr);
                let mut pair = KeyedHasher::with_seed(1).build_hasher();
                pair.write_u64(hash(packet.src).wrapping_add(hash(packet.dst)));
                share = u32::try_from(pair.finish() % u64::from(self.count)).ok();
            }
        });
        share.unwrap_or(0) == self.index
    }
}

#[cfg(test)]
mod tests {
    use tyto_capture::LinkType;
    use tyto_core::time::Ts;

    use super::*;

    fn share_of(src: u8, dst: u8, count: u32) -> u32 {
        let packet = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, src, 10, 0, 0, dst];
        let (link_type, wire_len) = (LinkType::RAW, 20);
        let frame = Frame { ts: Ts(0), bytes: &packet, wire_len, link_type, checksum_good: false };
        let takers: Vec<u32> =
            (0..count).filter(|index| Shard { index: *index, count }.takes(&frame)).collect();
        assert_eq!(takers.len(), 1);
        takers[0]
    }

    #[test]
    fn each_pair_of_hosts_has_one_share_whatever_the_direction() {
        let mut seen = [0; 4];
        for (src, dst) in (0..40).flat_map(|src| (40..60).map(move |dst| (src, dst))) {
            let share = share_of(src, dst, 4);
            assert_eq!(share, share_of(dst, src, 4));
            seen[share as usize] += 1;
        }
        assert!(seen.iter().all(|pairs| *pairs > 150), "{seen:?}");
    }

    #[test]
    fn a_share_counts_from_one() {
        assert_eq!("1/4".parse(), Ok(Shard { index: 0, count: 4 }));
        for text in ["0/4", "5/4", "1", "1/0", "1/257", "a/b", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
