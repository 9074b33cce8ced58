//! `ntlm.log`.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// A logon.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "ntlm")]
pub struct NtlmLog {
    /// Time of its first message.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// User that the client names.
    pub username: Option<Vec<u8>>,
    /// Host that the client names.
    pub hostname: Option<Vec<u8>>,
    /// Domain that the client names.
    pub domainname: Option<Vec<u8>>,
    /// NetBIOS name of the server.
    pub server_nb_computer_name: Option<Vec<u8>>,
    /// DNS name of the server.
    pub server_dns_computer_name: Option<Vec<u8>>,
    /// DNS name of the server's forest.
    pub server_tree_name: Option<Vec<u8>>,
    /// Whether the logon was accepted; unset when nobody told.
    pub success: Option<bool>,
}
