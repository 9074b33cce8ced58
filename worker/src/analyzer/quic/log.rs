//! `quic.log`: a QUIC connection, written when it is closed, sent elsewhere or over.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// A QUIC connection.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "quic")]
pub struct QuicLog {
    /// When its first packet was seen.
    pub ts: Ts,
    /// The flow.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Version of the first packet.
    pub version: String,
    /// The first name that the client gave the connection at the server, by which the first
    /// packets are protected.
    pub client_initial_dcid: Option<String>,
    /// Name of the connection at the client.
    pub client_scid: Option<String>,
    /// Name of the connection at the server.
    pub server_scid: Option<String>,
    /// Host name that the client asked for.
    pub server_name: Option<Vec<u8>>,
    /// The first application protocol that the client offered.
    pub client_protocol: Option<Vec<u8>>,
    /// What was sent, a letter each; upper case from the client.
    pub history: String,
}
