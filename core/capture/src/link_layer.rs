//! Which link type the frames of an interface have, by the kernel's number of its link layer
//! (ARPHRD_*, `include/uapi/linux/if_arp.h`), for a packet socket of type SOCK_RAW.

use crate::frame::LinkType;

// Numbers that libc does not name.
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_IP6GRE: u16 = 823;
const ARPHRD_RAWHDLC: u16 = 518;

/// The link type of an interface; none when its frames cannot be read.
pub(crate) const fn link_type(hardware_type: u16) -> Option<LinkType> {
    Some(match hardware_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => LinkType::ETHERNET,
        // tun, WireGuard and modems have no header at all. A tunnel's packet begins with its
        // own IP header or the one around it, and PPP's headers are off before a packet socket
        // sees the frame (net/core/dev.c, drivers/net/ppp/ppp_generic.c). All are IP.
        libc::ARPHRD_NONE
        | ARPHRD_RAWIP
        | ARPHRD_RAWHDLC
        | libc::ARPHRD_PPP
        | libc::ARPHRD_SLIP
        | libc::ARPHRD_CSLIP
        | libc::ARPHRD_SLIP6
        | libc::ARPHRD_CSLIP6
        | libc::ARPHRD_TUNNEL
        | libc::ARPHRD_TUNNEL6
        | libc::ARPHRD_SIT
        | libc::ARPHRD_IPGRE
        | ARPHRD_IP6GRE => LinkType::RAW,
        libc::ARPHRD_CISCO => LinkType::C_HDLC,
        libc::ARPHRD_FDDI => LinkType::FDDI,
        libc::ARPHRD_IEEE80211 => LinkType::IEEE802_11,
        libc::ARPHRD_IEEE80211_RADIOTAP => LinkType::IEEE802_11_RADIO,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of if_arp.h, which are the kernel's contract.
    #[test]
    fn each_kind_of_interface_has_its_link_type() {
        for (hardware_types, expected) in [
            (&[1, 772][..], LinkType::ETHERNET),
            (&[0xfffe, 519, 512, 768, 769, 776, 778, 823], LinkType::RAW),
            (&[801], LinkType::IEEE802_11),
            (&[803], LinkType::IEEE802_11_RADIO),
            (&[513], LinkType::C_HDLC),
            (&[774], LinkType::FDDI),
        ] {
            for hardware_type in hardware_types {
                assert_eq!(link_type(*hardware_type), Some(expected), "{hardware_type}");
            }
        }
        // InfiniBand, CAN, Netlink.
        for other in [32, 280, 824] {
            assert_eq!(link_type(other), None);
        }
    }
}
