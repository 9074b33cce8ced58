//! `ftp.log`: commands that move files or open data connections, each with its reply.

use std::net::IpAddr;

use tyto_core::net::{ConnId, Port};
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::{Fuid, Uid};

/// A command and its reply.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "ftp")]
pub(super) struct FtpLog {
    /// When the command was sent.
    pub ts: Ts,
    /// The control connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// User of the session.
    pub user: Vec<u8>,
    /// The user's password; `<hidden>` unless the user is a guest or the operator wants it.
    pub password: Option<Vec<u8>>,
    /// The command.
    pub command: Option<Vec<u8>>,
    /// Its argument; of commands on files a URL.
    pub arg: Option<Vec<u8>>,
    /// Type of the file by its content.
    pub mime_type: Option<String>,
    /// Length of the file as the server tells it, bytes.
    pub file_size: Option<u64>,
    /// Code of the reply.
    pub reply_code: Option<u64>,
    /// Text of the reply.
    pub reply_msg: Option<Vec<u8>>,
    /// The data connection that was announced.
    #[log(nested)]
    pub data_channel: Option<DataChannel>,
    /// The file that was transferred.
    pub fuid: Option<Fuid>,
}

impl FtpLog {
    /// Whether a file goes over a data connection for the command.
    pub(super) fn moves_file(&self) -> bool {
        matches!(self.command.as_deref(), Some(b"RETR" | b"STOR" | b"STOU" | b"APPE"))
    }
}

/// A data connection that is to come.
#[derive(Clone, Copy, Debug, LogRecord)]
pub(super) struct DataChannel {
    /// The client opens it (PASV, EPSV).
    pub passive: bool,
    /// Who will open it.
    pub orig_h: IpAddr,
    /// Who waits for it.
    pub resp_h: IpAddr,
    /// The port where it is waited for.
    pub resp_p: Port,
}
