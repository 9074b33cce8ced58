//! Who talks with whom: sides, transport protocols, the four fields that name a connection.

use std::net::{IpAddr, Ipv4Addr};

use tyto_derive::LogRecord;

use crate::record::value::LogValue;
use crate::record::{FieldSink, schema::FieldType};

/// Which end of a connection sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that opened the connection, as far as the packets tell.
    Orig,
    /// The end that was called.
    Resp,
}

impl Side {
    /// The opposite end.
    pub const fn other(self) -> Self {
        match self {
            Self::Orig => Self::Resp,
            Self::Resp => Self::Orig,
        }
    }

    /// 0 for the originator, 1 for the responder: to index a pair.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Transport protocol as Zeek's logs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4 or IPv6; ports hold type and code.
    Icmp,
    /// Any other IP protocol.
    UnknownTransport,
}

impl Proto {
    /// The name in the `proto` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::UnknownTransport => "unknown_transport",
        }
    }
}

impl LogValue for Proto {
    const TYPE: FieldType = FieldType::ENUM;

    fn write(&self, sink: &mut impl FieldSink) {
        sink.string(self.as_str().as_bytes());
    }
}

/// The four `id.` columns. For ICMP the ports hold type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, LogRecord)]
pub struct ConnId {
    /// The originator's address.
    pub orig_h: IpAddr,
    /// The originator's port.
    pub orig_p: Port,
    /// The responder's address.
    pub resp_h: IpAddr,
    /// The responder's port.
    pub resp_p: Port,
}

impl Default for ConnId {
    fn default() -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self { orig_h: any, orig_p: Port(0), resp_h: any, resp_p: Port(0) }
    }
}

/// A transport port, or an ICMP type or code in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(pub u16);
