//! `socks.log`: one row per connection through a proxy.

use std::net::IpAddr;

use tyto_core::net::{ConnId, Port};
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// A connection through a proxy.
#[derive(Debug, LogRecord)]
#[log(stream = "socks")]
pub(super) struct SocksLog {
    /// When the proxy was asked.
    pub ts: Ts,
    /// The connection to the proxy.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Version of the protocol, 4 or 5.
    pub version: u64,
    /// User who logged in at the proxy.
    pub user: Option<Vec<u8>>,
    /// The password, where the operator wants it.
    pub password: Option<Vec<u8>>,
    /// What the proxy said.
    pub status: Option<String>,
    /// Where the client wants to go.
    #[log(nested)]
    pub request: Option<Address>,
    /// To which port.
    pub request_p: Option<Port>,
    /// Where the proxy goes from.
    #[log(nested)]
    pub bound: Option<Address>,
    /// From which port.
    pub bound_p: Option<Port>,
}

/// An address or a name.
#[derive(Clone, Debug, Default, LogRecord)]
pub(super) struct Address {
    /// The address.
    pub host: Option<IpAddr>,
    /// The name.
    pub name: Option<Vec<u8>>,
}

/// What a proxy of version 5 says (RFC 1928 section 6).
pub(super) fn status_v5(code: u8) -> String {
    let word = match code {
        0 => "succeeded",
        1 => "general SOCKS server failure",
        2 => "connection not allowed by ruleset",
        3 => "Network unreachable",
        4 => "Host unreachable",
        5 => "Connection refused",
        6 => "TTL expired",
        7 => "Command not supported",
        8 => "Address type not supported",
        _ => return format!("unknown-{code}"),
    };
    word.to_owned()
}

/// What a proxy of version 4 says.
pub(super) fn status_v4(code: u8) -> String {
    let word = match code {
        0x5a => "succeeded",
        0x5b => "general SOCKS server failure",
        0x5c => "request failed because client is not running identd",
        0x5d => {
            "request failed because client's identd could not confirm the user ID string in \
                 the request"
        }
        _ => return format!("unknown-{code}"),
    };
    word.to_owned()
}
