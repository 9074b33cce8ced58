//! `ldap.log` and `ldap_search.log`.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// An operation other than a search.
#[derive(Debug, LogRecord)]
#[log(stream = "ldap")]
pub struct LdapLog {
    /// When it began.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Number that request and answer share.
    pub message_id: Option<i64>,
    /// Version of the protocol, of binds.
    pub version: Option<i64>,
    /// What it is: `bind simple`, `modify`.
    pub opcode: Option<&'static str>,
    /// How it ended.
    pub result: Option<&'static str>,
    /// What the server says to it.
    pub diagnostic_message: Option<Vec<u8>>,
    /// What it is done to.
    pub object: Option<Vec<u8>>,
    /// With what; a password is `REDACTED` unless the operator wants it.
    pub argument: Option<Vec<u8>>,
}

/// A search.
#[derive(Debug, LogRecord)]
#[log(stream = "ldap_search")]
pub struct LdapSearchLog {
    /// When it began.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Number that request and answer share.
    pub message_id: Option<i64>,
    /// How far below the base: `base`, `single`, `tree`.
    pub scope: Option<&'static str>,
    /// Whether aliases are followed.
    pub deref_aliases: Option<&'static str>,
    /// Where it begins.
    pub base_object: Option<Vec<u8>>,
    /// Entries found.
    pub result_count: Option<u64>,
    /// How it ended.
    pub result: Option<&'static str>,
    /// What the server says to it.
    pub diagnostic_message: Option<Vec<u8>>,
    /// What is looked for (RFC 4515).
    pub filter: Option<Vec<u8>>,
    /// Attributes asked for; left out unless wanted.
    pub attributes: Option<Vector<String>>,
}
