//! One frame as a capture lends it, live or from a file.

use tyto_core::time::Ts;

/// What the first bytes of a frame are: the numbers of <https://www.tcpdump.org/linktypes.html>
/// and of libpcap's DLT, which differ for raw IP only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback: address family in the byte order of the capturing host.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP, with or without HDLC framing.
    pub const PPP: Self = Self(9);
    /// FDDI.
    pub const FDDI: Self = Self(10);
    /// Raw IP, by most systems' own number.
    pub const RAW_BSD: Self = Self(12);
    /// Raw IP, by OpenBSD's own number.
    pub const RAW_OPENBSD: Self = Self(14);
    /// PPP behind a Cisco or HDLC header.
    pub const PPP_SERIAL: Self = Self(50);
    /// PPP over Ethernet, from the PPPoE header on.
    pub const PPP_ETHER: Self = Self(51);
    /// Raw IP, version in the first nibble.
    pub const RAW: Self = Self(101);
    /// Cisco HDLC.
    pub const C_HDLC: Self = Self(104);
    /// IEEE 802.11 without radio header.
    pub const IEEE802_11: Self = Self(105);
    /// OpenBSD loopback: address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture.
    pub const LINUX_SLL: Self = Self(113);
    /// IEEE 802.11 behind a radiotap header.
    pub const IEEE802_11_RADIO: Self = Self(127);
    /// PPP in HDLC framing whose address byte tells the direction.
    pub const PPP_PPPD: Self = Self(166);
    /// PPP behind a byte that tells the direction.
    pub const PPP_WITH_DIR: Self = Self(204);
    /// MPLS labels, then IP.
    pub const MPLS: Self = Self(219);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux netfilter log.
    pub const NFLOG: Self = Self(239);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// One frame, lent by its source.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured, by the capture's clock.
    pub ts: Ts,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// Length on the wire, bytes; more than `bytes` when the capture cut it.
    pub wire_len: u32,
    /// How its first bytes read.
    pub link_type: LinkType,
    /// The transport checksum need not be checked: the network card found it right, or the
    /// packet is this host's own and the card is yet to fill it in. False for files.
    pub checksum_good: bool,
}
