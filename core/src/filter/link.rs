//! Kinds of links: where the network packet begins in a frame, and what says its protocol.
//! Numbers of link types: <https://www.tcpdump.org/linktypes.html>.

use super::condition::{Condition, Size};

/// A kind of link that filters can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    /// IP without anything before it.
    Raw,
    /// BSD loopback: address family first.
    Loopback,
    /// PPP behind address and control bytes.
    Ppp,
    /// PPP behind something else: its protocol number comes first.
    BarePpp,
    /// Linux "cooked" captures.
    Cooked,
    Cooked2,
}

/// Largest value of an Ethernet type field that is a length (IEEE 802.3).
const ETHERNET_LENGTH_MAX: u32 = 1500;
/// "There is an LLC header" as Linux's cooked captures say it.
const COOKED_LLC: u32 = 4;
/// AF_INET, the same everywhere.
const AF_INET: u32 = 2;
/// AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS.
const AF_INET6: [u32; 4] = [10, 24, 28, 30];

impl Link {
    /// The kind of a link type's number.
    pub(super) const fn of(link_type: u32) -> Option<Self> {
        match link_type {
            0 | 108 => Some(Self::Loopback),
            1 => Some(Self::Ethernet),
            9 | 50 => Some(Self::Ppp),
            // 12 and 14: DLT_RAW of various systems.
            12 | 14 | 101 => Some(Self::Raw),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            _ => None,
        }
    }

    /// How it is named in messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ethernet => "Ethernet",
            Self::Raw => "raw IP",
            Self::Loopback => "BSD loopback",
            Self::Ppp | Self::BarePpp => "PPP",
            Self::Cooked => "Linux cooked capture",
            Self::Cooked2 => "Linux cooked capture v2",
        }
    }

    /// Where the protocol's number stands, from the link header's begin.
    pub(super) const fn protocol_at(self) -> u32 {
        match self {
            Self::Ethernet => 12,
            Self::Ppp => 2,
            Self::Cooked => 14,
            Self::Raw | Self::Loopback | Self::BarePpp | Self::Cooked2 => 0,
        }
    }

    /// Where the network packet begins, from the link header's begin.
    pub(super) const fn network_at(self) -> u32 {
        match self {
            Self::Ethernet => 14,
            Self::Raw => 0,
            Self::Loopback | Self::Ppp => 4,
            Self::BarePpp => 2,
            Self::Cooked => 16,
            Self::Cooked2 => 20,
        }
    }

    /// The packet is of this Ethernet type, however the link says it.
    pub(super) fn carries(self, protocol_at: u32, network_at: u32, kind: u32) -> Condition {
        let is = |value| Condition::equal(Size::Half, protocol_at, value);
        match self {
            Self::Ethernet if kind <= ETHERNET_LENGTH_MAX => {
                let code = super::instruction::op::JGT;
                let is_long =
                    Condition::compared(Size::Half, protocol_at, code, ETHERNET_LENGTH_MAX);
                is_long.negate().and(Condition::equal(Size::Byte, protocol_at + 2, kind))
            }
            Self::Cooked | Self::Cooked2 if kind <= ETHERNET_LENGTH_MAX => {
                is(COOKED_LLC).and(Condition::equal(Size::Byte, network_at, kind))
            }
            Self::Ethernet | Self::Cooked | Self::Cooked2 => is(kind),
            Self::Ppp | Self::BarePpp => is(ppp_number(kind)),
            Self::Raw => match kind {
                0x0800 => ip_version(network_at, 4),
                0x86dd => ip_version(network_at, 6),
                _ => Condition::Constant(false),
            },
            Self::Loopback => match kind {
                0x0800 => family(protocol_at, &[AF_INET]),
                0x86dd => family(protocol_at, &AF_INET6),
                _ => Condition::Constant(false),
            },
        }
    }
}

/// The packet's first four bits.
pub(super) fn ip_version(network_at: u32, version: u32) -> Condition {
    Condition::masked(Size::Byte, network_at, 0xf0, version << 4)
}

/// One of the families, in either byte order: it is that of the capturing host.
fn family(at: u32, families: &[u32]) -> Condition {
    families
        .iter()
        .flat_map(|family| [family.swap_bytes(), *family])
        .map(|value| Condition::equal(Size::Word, at, value))
        .reduce(Condition::or)
        .unwrap_or(Condition::Constant(false))
}

/// PPP's own number of an Ethernet type (RFC 1661 and the IANA list), or the number itself.
const fn ppp_number(kind: u32) -> u32 {
    match kind {
        0x0800 => 0x21,
        0x86dd => 0x57,
        0x6003 => 0x27,
        other => other,
    }
}
