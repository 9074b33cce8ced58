//! Which addresses are local.

use ipnet::IpNet;
use tyto_core::config::runtime::AnalysisConfig;

use crate::decode::addr::Addr;

/// Networks that no one outside can reach (Zeek: `Site::private_address_space`).
const PRIVATE_NETS: [&str; 42] = [
    "0.0.0.0/8",
    "2002::/24",
    "10.0.0.0/8",
    "2002:a00::/24",
    "100.64.0.0/10",
    "2002:6440::/26",
    "127.0.0.0/8",
    "2002:7f00::/24",
    "169.254.0.0/16",
    "2002:a9fe::/32",
    "172.16.0.0/12",
    "2002:ac10::/28",
    "192.0.0.0/24",
    "2002:c000::/40",
    "192.0.2.0/24",
    "2002:c000:200::/40",
    "192.168.0.0/16",
    "2002:c0a8::/32",
    "198.18.0.0/15",
    "2002:c612::/31",
    "198.51.100.0/24",
    "2002:c633:6400::/40",
    "203.0.113.0/24",
    "2002:cb00:7100::/40",
    "224.0.0.0/24",
    "2002:e000::/40",
    "239.0.0.0/8",
    "2002:ef00::/24",
    "240.0.0.0/4",
    "2002:f000::/20",
    "255.255.255.255/32",
    "2002:ffff:ffff::/48",
    "::/128",
    "::1/128",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:2::/48",
    "2001:db8::/32",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
];

/// What an IPv4 address is mapped into, and the bits that say so.
const V4_PREFIX: u128 = 0xffff_0000_0000;
const V4_MASK: u128 = !0xffff_ffff;

/// The local networks. Asked several times per connection, so IPv4 and IPv6 are apart.
#[derive(Clone, Debug)]
pub struct Site {
    /// Networks of IPv4, sorted, and the mask of each.
    v4: Vec<(u32, u32)>,
    /// Networks and masks of IPv6.
    v6: Vec<(u128, u128)>,
}

impl Site {
    /// The networks that `config` names.
    pub fn new(config: &AnalysisConfig) -> Self {
        let private = config.private_address_space_is_local.then_some(PRIVATE_NETS);
        let private = private.iter().flatten().filter_map(|net| net.parse().ok());
        let mut nets: Vec<_> =
            config.local_nets.iter().copied().chain(private).map(masked).collect();
        nets.sort_unstable();
        nets.dedup();
        // A network that holds all of IPv4 among others is one of each.
        let v4 = nets.iter().filter(|(net, mask)| V4_PREFIX & V4_MASK & mask == net & V4_MASK);
        #[allow(clippy::cast_possible_truncation, reason = "the lower 32 bits are the address")]
        let v4 = v4.map(|(net, mask)| (*net as u32, *mask as u32)).collect();
        nets.retain(|(net, mask)| net & V4_MASK != V4_PREFIX || mask & V4_MASK != V4_MASK);
        Self { v4, v6: nets }
    }

    /// Whether `addr` is local; `None` when no network is known.
    pub fn is_local(&self, addr: Addr) -> Option<bool> {
        if self.v4.is_empty() && self.v6.is_empty() {
            return None;
        }
        Some(match addr.as_v4() {
            Some(bytes) => {
                let bits = u32::from_be_bytes(bytes);
                // Without a way out between, several networks are compared at once.
                self.v4.iter().fold(false, |found, (net, mask)| found | (bits & mask == *net))
            }
            None => self.v6.iter().any(|(net, mask)| addr.bits() & mask == *net),
        })
    }
}

fn masked(net: IpNet) -> (u128, u128) {
    let addr = Addr::from(net.network());
    let len = u32::from(net.prefix_len()) + if addr.as_v4().is_some() { 96 } else { 0 };
    let mask = u128::MAX.checked_shl(128 - len).unwrap_or_default();
    (addr.bits() & mask, mask)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn site(nets: &[&str], private: bool) -> Site {
        Site::new(&AnalysisConfig {
            local_nets: nets.iter().map(|net| net.parse().unwrap()).collect(),
            private_address_space_is_local: private,
            ..AnalysisConfig::default()
        })
    }

    fn is_local(site: &Site, addr: &str) -> Option<bool> {
        site.is_local(Addr::from(addr.parse::<IpAddr>().unwrap()))
    }

    #[test]
    fn every_private_network_is_a_network() {
        assert!(PRIVATE_NETS.iter().all(|net| net.parse::<IpNet>().is_ok()));
    }

    #[test]
    fn named_and_private_networks_are_local() {
        let site = site(&["8.8.8.0/24", "2600::/16"], true);
        for addr in ["8.8.8.8", "2600::1", "10.1.2.3", "fe80::1", "255.255.255.255"] {
            assert_eq!(is_local(&site, addr), Some(true), "{addr}");
        }
        for addr in ["8.8.4.4", "2601::1", "::808:808"] {
            assert_eq!(is_local(&site, addr), Some(false), "{addr}");
        }
    }

    #[test]
    fn a_network_of_all_addresses_holds_those_of_ipv4_too() {
        let site = site(&["::/0"], false);
        assert_eq!(is_local(&site, "8.8.8.8"), Some(true));
        assert_eq!(is_local(&site, "2600::1"), Some(true));
    }

    #[test]
    fn without_networks_nothing_can_be_said() {
        assert_eq!(is_local(&site(&[], false), "10.0.0.1"), None);
    }
}
