//! Addresses as the packet path keeps them: 128 bits, IPv4 mapped into IPv6 (RFC 4291 section
//! 2.5.5.2), so that comparing and hashing is the same for both.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `::ffff:0:0`: what an IPv4 address is mapped into.
const V4_PREFIX: u128 = 0xffff_0000_0000;

/// An IPv4 or IPv6 address. Kept as the bytes of its number, not as the number, which would have
/// to lie at a multiple of 16: a connection's names would be half holes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Addr([u8; 16]);

impl Addr {
    /// From the four bytes of an IPv4 address.
    pub const fn v4(bytes: [u8; 4]) -> Self {
        Self::of_bits(V4_PREFIX | u32::from_be_bytes(bytes) as u128)
    }

    /// From the sixteen bytes of an IPv6 address.
    pub const fn v6(bytes: [u8; 16]) -> Self {
        Self::of_bits(u128::from_be_bytes(bytes))
    }

    const fn of_bits(bits: u128) -> Self {
        Self(bits.to_ne_bytes())
    }

    /// The 128 bits.
    pub const fn bits(self) -> u128 {
        u128::from_ne_bytes(self.0)
    }

    /// The IPv4 address, if it is one.
    #[allow(clippy::cast_possible_truncation, reason = "the lower 32 bits are the address")]
    pub const fn as_v4(self) -> Option<[u8; 4]> {
        let bits = self.bits();
        if bits >> 32 == V4_PREFIX >> 32 { Some((bits as u32).to_be_bytes()) } else { None }
    }

    /// The limited broadcast address of IPv4.
    pub const fn is_broadcast(self) -> bool {
        self.bits() == V4_PREFIX | 0xffff_ffff
    }

    /// `ff00::/8`, or an IPv4 address that begins with 224, which is what Zeek takes as
    /// multicast.
    pub const fn is_multicast(self) -> bool {
        match self.as_v4() {
            Some([first, ..]) => first == 224,
            None => self.bits() >> 120 == 0xff,
        }
    }
}

impl Ord for Addr {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bits().cmp(&other.bits())
    }
}

impl PartialOrd for Addr {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Addr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits().hash(state);
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> Self {
        match addr.as_v4() {
            Some(bytes) => Self::V4(Ipv4Addr::from(bytes)),
            None => Self::V6(Ipv6Addr::from(addr.bits())),
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&IpAddr::from(*self), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_through_128_bits() {
        for text in ["0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "2001:db8::1", "ff02::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Addr::from(address)), address);
        }
    }

    #[test]
    fn broadcast_and_multicast_are_told_as_zeek_does() {
        let addr = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
        assert!(addr("255.255.255.255").is_broadcast());
        assert!(!addr("::ffff").is_broadcast());
        assert!(addr("224.0.0.251").is_multicast() && addr("ff02::fb").is_multicast());
        assert!(!addr("239.1.1.1").is_multicast() && !addr("fe80::1").is_multicast());
    }
}
