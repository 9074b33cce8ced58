//! A filter as its words mean it, before any kind of link is known. Columns are kept where a
//! kind of link may turn out not to fit.

use std::net::Ipv6Addr;

use super::names::Protocol;

/// A filter or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// Parts joined from left to right: `and` and `or` bind equally.
    Chain(Box<Expression>, Vec<(Joint, Expression)>),
    /// The opposite.
    Not(Box<Expression>),
    /// One test.
    Test {
        /// Of what.
        test: Test,
        /// Where it begins.
        column: usize,
    },
}

/// How parts are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joint {
    And,
    Or,
}

/// Which address or port is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Direction {
    Source,
    Destination,
    #[default]
    Either,
    Both,
}

/// One test of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// It is of this protocol.
    Protocol(Protocol),
    /// An IPv4 address under a mask; without a protocol also in ARP and RARP.
    Ipv4 {
        protocol: Option<Protocol>,
        direction: Direction,
        address: u32,
        mask: u32,
    },
    /// An IPv6 address under a prefix.
    Ipv6 {
        direction: Direction,
        address: Ipv6Addr,
        prefix_len: u8,
    },
    /// An Ethernet address.
    Ethernet {
        direction: Direction,
        address: [u8; 6],
    },
    /// A port from first to last, of a transport protocol or of each that has ports.
    Port {
        protocol: Option<Protocol>,
        direction: Direction,
        first: u16,
        last: u16,
    },
    /// A number of the protocol above: of IPv4 or IPv6 (or both), or an Ethernet type.
    ProtocolNumber {
        below: Option<Protocol>,
        number: u32,
    },
    /// A frame to all.
    Broadcast,
    /// A frame or packet to a group.
    Multicast(Option<Protocol>),
    /// Length on the wire, bytes.
    LengthAtMost(u32),
    LengthAtLeast(u32),
    /// From this host or to it.
    Inbound,
    Outbound,
    /// Seen on the interface of this number.
    Interface(u32),
    /// A VLAN tag; what follows looks behind it.
    Vlan(Option<u16>),
    /// An MPLS label; what follows looks behind it.
    Mpls(Option<u32>),
    /// PPP over Ethernet, discovery.
    PppoeDiscovery,
    /// PPP over Ethernet, session; what follows looks behind it.
    PppoeSession(Option<u16>),
    /// Two numbers compared.
    Relation {
        left: Number,
        relation: Relation,
        right: Number,
    },
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// A number, 32 bits without sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Constant(u32),
    /// Length on the wire.
    PacketLength,
    /// Bytes of a protocol's header: 1, 2 or 4 from an index on.
    Bytes {
        protocol: Protocol,
        index: Box<Number>,
        size: u8,
        column: usize,
    },
    Negative(Box<Number>),
    /// An operation of classic BPF's arithmetic.
    Operation {
        operation: u16,
        left: Box<Number>,
        right: Box<Number>,
    },
}
