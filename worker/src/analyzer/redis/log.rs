//! `redis.log`: commands, each with its reply.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// A command.
#[derive(Debug, LogRecord)]
#[log(stream = "redis")]
pub(super) struct RedisLog {
    /// When it was sent.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// The command.
    #[log(nested)]
    pub cmd: CommandLog,
    /// It succeeded; unset when no reply was seen.
    pub success: Option<bool>,
    /// The reply.
    #[log(nested)]
    pub reply: Option<ReplyLog>,
}

/// What a command says.
#[derive(Clone, Debug, Default, LogRecord)]
pub(super) struct CommandLog {
    /// Its first word.
    pub name: Vec<u8>,
    /// The key that it is about.
    pub key: Option<Vec<u8>>,
    /// The value that it sets.
    pub value: Option<Vec<u8>>,
}

/// What a reply says.
#[derive(Clone, Debug, LogRecord)]
pub(super) struct ReplyLog {
    /// It, as text.
    pub value: Vec<u8>,
}
