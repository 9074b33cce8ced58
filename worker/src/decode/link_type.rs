//! Which link types are read, and what those that are not are called. Numbers and names:
//! <https://www.tcpdump.org/linktypes.html>.

use std::fmt;

use tyto_capture::LinkType;

/// The link types that [`super::link`] knows a way to IP from.
const READ: [(LinkType, &str); 21] = [
    (LinkType::NULL, "BSD loopback"),
    (LinkType::ETHERNET, "Ethernet"),
    (LinkType::PPP, "PPP"),
    (LinkType::FDDI, "FDDI"),
    (LinkType::RAW_BSD, "raw IP"),
    (LinkType::RAW_OPENBSD, "raw IP"),
    (LinkType::PPP_SERIAL, "PPP in HDLC framing"),
    (LinkType::PPP_ETHER, "PPPoE"),
    (LinkType::RAW, "raw IP"),
    (LinkType::C_HDLC, "Cisco HDLC"),
    (LinkType::IEEE802_11, "802.11"),
    (LinkType::LOOP, "OpenBSD loopback"),
    (LinkType::LINUX_SLL, "Linux cooked"),
    (LinkType::IEEE802_11_RADIO, "802.11 with radiotap"),
    (LinkType::PPP_PPPD, "PPP of pppd"),
    (LinkType::PPP_WITH_DIR, "PPP with direction"),
    (LinkType::MPLS, "MPLS"),
    (LinkType::IPV4, "IPv4"),
    (LinkType::IPV6, "IPv6"),
    (LinkType::NFLOG, "NFLOG"),
    (LinkType::LINUX_SLL2, "Linux cooked 2"),
];

/// Link types that captures are met with and that are not read.
const NOT_READ: [(u32, &str); 27] = [
    (6, "Token Ring"),
    (7, "ARCNET"),
    (8, "SLIP"),
    (100, "ATM"),
    (107, "Frame Relay"),
    (114, "LocalTalk"),
    (117, "OpenBSD pflog"),
    (119, "802.11 with Prism header"),
    (122, "IP over Fibre Channel"),
    (123, "SunATM"),
    (129, "ARCNET of Linux"),
    (138, "IP over FireWire"),
    (143, "DOCSIS"),
    (149, "private use of macOS"),
    (163, "802.11 with AVS header"),
    (187, "Bluetooth HCI"),
    (189, "USB of Linux"),
    (192, "PPI"),
    (195, "802.15.4"),
    (201, "Bluetooth HCI with direction"),
    (220, "USB of Linux"),
    (227, "CAN"),
    (230, "802.15.4"),
    (249, "USB of Windows"),
    (251, "Bluetooth LE"),
    (253, "Netlink"),
    (258, "PKTAP of macOS"),
];

/// A link type that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct UnknownLinkType(pub LinkType);

/// Refuses a link type that is not read.
///
/// # Errors
/// [`UnknownLinkType`], which names it and the ones that are.
pub fn check(link_type: LinkType) -> Result<(), UnknownLinkType> {
    match READ.iter().any(|(read, _)| *read == link_type) {
        true => Ok(()),
        false => Err(UnknownLinkType(link_type)),
    }
}

impl fmt::Display for UnknownLinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.0;
        write!(f, "link type {number}")?;
        let known = NOT_READ.iter().find(|(other, _)| *other == number);
        match known.map(|(_, name)| *name) {
            Some(name) => write!(f, " ({name})")?,
            None if (147..=162).contains(&number) => f.write_str(" (for private use)")?,
            None => {}
        }
        f.write_str(" is not read; expected one of")?;
        for (place, (read, name)) in READ.iter().enumerate() {
            write!(f, "{} {} {name}", if place == 0 { "" } else { "," }, read.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_type_that_is_not_read_is_named_beside_those_that_are() {
        let text = check(LinkType(195)).unwrap_err().to_string();
        assert!(text.starts_with("link type 195 (802.15.4) is not read; expected one of 0 BSD"));
        assert!(text.contains(", 1 Ethernet, 9 PPP,"), "{text}");
        let private = check(LinkType(150)).unwrap_err().to_string();
        assert!(private.starts_with("link type 150 (for private use) is not read"));
        assert!(check(LinkType(9999)).unwrap_err().to_string().starts_with("link type 9999 is"));
    }

    #[test]
    fn no_link_type_is_in_both_lists() {
        for (number, name) in NOT_READ {
            assert!(check(LinkType(number)).is_err(), "{number} {name}");
        }
    }
}
