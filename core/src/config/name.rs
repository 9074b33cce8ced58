//! Names of nodes and hosts: two types, so that one is never taken for the other.

use std::borrow::Borrow;
use std::fmt;
use std::net::Ipv6Addr;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Characters of a node's name at most: it is one label of a certificate's DNS name.
pub const NODE_NAME_CHARS_MAX: usize = 63;

/// Characters of a host's name at most (RFC 1035 section 2.3.4).
pub const HOST_NAME_CHARS_MAX: usize = 253;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type! {
    /// Name of a node: of its section in node.cfg, with `-N` when the section makes several.
    NodeName
}

name_type! {
    /// A host as node.cfg names it: a host name or an address, not resolved.
    HostName
}

impl HostName {
    /// The host on which ctl runs, by one of its three fixed names.
    pub fn is_localhost(&self) -> bool {
        matches!(self.as_str(), "localhost" | "127.0.0.1" | "::1")
    }
}

/// True when `text` can be a node's name: it becomes a folder, a DNS name in a certificate
/// and a word on command lines. TLS takes digits alone for a broken address.
pub fn is_node_name(text: &str) -> bool {
    text.len() <= NODE_NAME_CHARS_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// True when `text` can be a host's name or address: it becomes an argument of ssh, so it
/// must not look like an option, a user, or shell. A colon makes it an IPv6 address, without
/// brackets and without a zone.
pub fn is_host_name(text: &str) -> bool {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().is_ok();
    }
    text.len() <= HOST_NAME_CHARS_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
