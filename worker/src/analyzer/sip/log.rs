//! `sip.log`: one row per reply, with what the request before it said.

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

/// A request and a reply to it. Strings are as on the wire.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "sip")]
pub struct SipLog {
    /// When the request came.
    pub ts: Ts,
    /// The flow of datagrams.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Number of the request on the flow.
    pub trans_depth: u64,
    /// Method of the request.
    pub method: Option<Vec<u8>>,
    /// What was asked for.
    pub uri: Option<Vec<u8>>,
    /// The request's Date.
    pub date: Option<Vec<u8>>,
    /// The request's From, without the tag.
    pub request_from: Option<Vec<u8>>,
    /// The request's To.
    pub request_to: Option<Vec<u8>>,
    /// The reply's From, without the tag.
    pub response_from: Option<Vec<u8>>,
    /// The reply's To.
    pub response_to: Option<Vec<u8>>,
    /// The request's Reply-To.
    pub reply_to: Option<Vec<u8>>,
    /// The request's Call-ID.
    pub call_id: Option<Vec<u8>>,
    /// The request's CSeq.
    pub seq: Option<Vec<u8>>,
    /// The request's Subject.
    pub subject: Option<Vec<u8>>,
    /// The way of the request, by its Via headers.
    pub request_path: Option<Vector<Vec<u8>>>,
    /// The way of the reply.
    pub response_path: Option<Vector<Vec<u8>>>,
    /// The request's User-Agent.
    pub user_agent: Option<Vec<u8>>,
    /// Status of the reply.
    pub status_code: Option<u64>,
    /// Its text.
    pub status_msg: Option<Vec<u8>>,
    /// The reply's Warning.
    pub warning: Option<Vec<u8>>,
    /// Length of the request's body, as it says.
    pub request_body_len: Option<u64>,
    /// Length of the reply's body, as it says.
    pub response_body_len: Option<u64>,
    /// Type of the reply's body.
    pub content_type: Option<Vec<u8>>,
}

impl SipLog {
    /// A row of which nothing is known yet.
    pub fn new(ts: Ts, uid: Uid, id: ConnId, trans_depth: u64) -> Self {
        Self {
            ts,
            uid,
            id,
            trans_depth,
            method: None,
            uri: None,
            date: None,
            request_from: None,
            request_to: None,
            response_from: None,
            response_to: None,
            reply_to: None,
            call_id: None,
            seq: None,
            subject: None,
            request_path: Some(Vector::default()),
            response_path: Some(Vector::default()),
            user_agent: None,
            status_code: None,
            status_msg: None,
            warning: None,
            request_body_len: None,
            response_body_len: None,
            content_type: None,
        }
    }
}
