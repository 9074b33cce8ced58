//! `irc.log`: NICK, USER and JOIN of clients, and files that were sent with DCC.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::{Fuid, Uid};

/// A command of a client.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "irc")]
pub struct IrcLog {
    /// When it was seen.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// The client's nickname.
    pub nick: Option<Vec<u8>>,
    /// The client's user name.
    pub user: Option<Vec<u8>>,
    /// The command.
    pub command: Option<&'static str>,
    /// Its argument.
    pub value: Option<Vec<u8>>,
    /// What else it said.
    pub addl: Option<Vec<u8>>,
    /// Name of the file that is sent.
    pub dcc_file_name: Option<Vec<u8>>,
    /// Its length as announced, bytes.
    pub dcc_file_size: Option<u64>,
    /// Its type by content.
    pub dcc_mime_type: Option<String>,
    /// Its id.
    pub fuid: Option<Fuid>,
}
