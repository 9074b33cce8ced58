//! `dhcp.log`: one row per transaction.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::Uid;

use crate::analyzer::text::Text;

/// What was asked for and given.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "dhcp")]
pub struct DhcpLog {
    /// Time of the first message.
    pub ts: Ts,
    /// The connections it ran over.
    pub uids: BTreeSet<Uid>,
    /// Address of the client.
    pub client_addr: Option<IpAddr>,
    /// Address of the server that gave an address.
    pub server_addr: Option<IpAddr>,
    /// Hardware address of the client.
    pub mac: Option<String>,
    /// Name of the client.
    pub host_name: Option<Vec<u8>>,
    /// Full name of the client.
    pub client_fqdn: Option<Vec<u8>>,
    /// Domain that the server names.
    pub domain: Option<Vec<u8>>,
    /// Address that the client asks for.
    pub requested_addr: Option<IpAddr>,
    /// Address that the server gives.
    pub assigned_addr: Option<IpAddr>,
    /// For how long.
    pub lease_time: Option<Interval>,
    /// Why the client refuses.
    pub client_message: Option<Vec<u8>>,
    /// Why the server refuses.
    pub server_message: Option<Vec<u8>>,
    /// Kinds of the messages.
    pub msg_types: Vector<Text>,
    /// First to last message.
    pub duration: Interval,
}

/// Name of a kind of message (RFC 2132 section 9.6, and those that came later).
pub(super) fn kind_name(kind: u8) -> Text {
    Text(Cow::Borrowed(match kind {
        1 => "DISCOVER",
        2 => "OFFER",
        3 => "REQUEST",
        4 => "DECLINE",
        5 => "ACK",
        6 => "NAK",
        7 => "RELEASE",
        8 => "INFORM",
        9 => "FORCERENEW",
        10 => "LEASEQUERY",
        11 => "LEASEUNASSIGNED",
        12 => "LEASEUNKNOWN",
        13 => "LEASEACTIVE",
        14 => "BULKLEASEQUERY",
        15 => "LEASEQUERYDONE",
        16 => "ACTIVELEASEQUERY",
        17 => "LEASEQUERYSTATUS",
        18 => "TLS",
        _ => return Text(Cow::Owned(format!("unknown-message-type-{kind}"))),
    }))
}
