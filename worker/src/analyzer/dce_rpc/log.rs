//! `dce_rpc.log`.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::Uid;

/// A call.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "dce_rpc")]
pub struct DceRpcLog {
    /// Time of the request.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Request to response.
    pub rtt: Option<Interval>,
    /// Pipe, or port, that the server names when it is bound.
    pub named_pipe: Option<Vec<u8>>,
    /// Name of the interface.
    pub endpoint: Option<String>,
    /// Name of the operation.
    pub operation: Option<String>,
}
