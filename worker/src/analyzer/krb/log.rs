//! `kerberos.log`.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::{Fuid, Uid};

/// A request and what came of it.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "kerberos")]
pub struct KerberosLog {
    /// Time of the first message.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// `AS` (a first ticket) or `TGS` (a ticket for a service).
    pub request_type: Option<&'static str>,
    /// Who asks: name and realm.
    pub client: Option<Vec<u8>>,
    /// The service asked for.
    pub service: Option<Vec<u8>>,
    /// Whether it was granted; unset without an answer.
    pub success: Option<bool>,
    /// Why not.
    pub error_msg: Option<Vec<u8>>,
    /// Begin of the ticket's validity that was asked for.
    pub from: Option<Ts>,
    /// End of it.
    pub till: Option<Ts>,
    /// Encryption of the ticket.
    pub cipher: Option<String>,
    /// A ticket that can be forwarded was asked for.
    pub forwardable: Option<bool>,
    /// A ticket that can be renewed was asked for.
    pub renewable: Option<bool>,
    /// Subject of the client's certificate.
    pub client_cert_subject: Option<Vec<u8>>,
    /// File id of the client's certificate.
    pub client_cert_fuid: Option<Fuid>,
    /// Subject of the server's certificate.
    pub server_cert_subject: Option<Vec<u8>>,
    /// File id of the server's certificate.
    pub server_cert_fuid: Option<Fuid>,
}
