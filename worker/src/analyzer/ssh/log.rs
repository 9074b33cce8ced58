//! `ssh.log`: one row per connection, at the first successful login or at its end.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::record::value::EnumName;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// An SSH connection.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "ssh")]
pub(super) struct SshLog {
    /// When the protocol was seen first.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Protocol version that both sides can speak, 1 or 2.
    pub version: Option<u64>,
    /// A login succeeded, as the lengths of encrypted packets tell; unset when they do not.
    pub auth_success: Option<bool>,
    /// Logins that were tried.
    pub auth_attempts: u64,
    /// `INBOUND` or `OUTBOUND`, where one side is local and the other is not.
    pub direction: Option<EnumName>,
    /// The client's version line.
    pub client: Option<Vec<u8>>,
    /// The server's version line.
    pub server: Option<Vec<u8>>,
    /// Encryption.
    pub cipher_alg: Option<String>,
    /// Integrity.
    pub mac_alg: Option<String>,
    /// Compression.
    pub compression_alg: Option<String>,
    /// Key exchange.
    pub kex_alg: Option<String>,
    /// Kind of the server's key.
    pub host_key_alg: Option<String>,
    /// SHA-256 of the server's key, the first 32 characters of its Base64.
    pub host_key_fingerprint: Option<String>,
}
