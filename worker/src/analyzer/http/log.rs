//! `http.log`: one row per request and its reply, with Zeek's columns.

use std::collections::BTreeSet;

use tyto_core::net::ConnId;
use tyto_core::record::LogRecord;
use tyto_core::record::value::{EnumName, Vector};
use tyto_core::time::Ts;
use tyto_core::uid::{Fuid, Uid};

/// A request and its reply. Strings are as on the wire.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "http")]
pub struct HttpLog {
    /// When the request began, or the reply where no request was seen.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Number of the request on the connection, from 1.
    pub trans_depth: u64,
    /// Verb of the request.
    pub method: Option<Vec<u8>>,
    /// Value of the Host header, port included.
    pub host: Option<Vec<u8>>,
    /// What was asked for, escapes resolved.
    pub uri: Option<Vec<u8>>,
    /// Value of the Referer header.
    pub referrer: Option<Vec<u8>>,
    /// Version of the reply.
    pub version: Option<String>,
    /// Value of the User-Agent header.
    pub user_agent: Option<Vec<u8>>,
    /// Value of the Origin header.
    pub origin: Option<Vec<u8>>,
    /// Bytes of the request's body, decompressed.
    pub request_body_len: u64,
    /// Bytes of the reply's body, decompressed.
    pub response_body_len: u64,
    /// Status of the reply.
    pub status_code: Option<u64>,
    /// Its text.
    pub status_msg: Option<Vec<u8>>,
    /// The last informational status before it (1xx).
    pub info_code: Option<u64>,
    /// Its text.
    pub info_msg: Option<Vec<u8>>,
    /// What it was recognised as; always empty here, as in Zeek without further scripts.
    pub tags: BTreeSet<EnumName>,
    /// User of Basic authentication.
    pub username: Option<Vec<u8>>,
    /// The password, where the operator wants it.
    pub password: Option<Vec<u8>>,
    /// Headers that proxies set.
    pub proxied: Option<BTreeSet<Vec<u8>>>,
    /// Files that the originator sent.
    pub orig_fuids: Option<Vector<Fuid>>,
    /// Their names.
    pub orig_filenames: Option<Vector<Vec<u8>>>,
    /// Their types.
    pub orig_mime_types: Option<Vector<String>>,
    /// Files that the responder sent.
    pub resp_fuids: Option<Vector<Fuid>>,
    /// Their names.
    pub resp_filenames: Option<Vector<Vec<u8>>>,
    /// Their types.
    pub resp_mime_types: Option<Vector<String>>,
}

impl HttpLog {
    /// A row of which nothing is known yet.
    pub const fn new(ts: Ts, uid: Uid, id: ConnId, trans_depth: u64) -> Self {
        Self {
            ts,
            uid,
            id,
            trans_depth,
            method: None,
            host: None,
            uri: None,
            referrer: None,
            version: None,
            user_agent: None,
            origin: None,
            request_body_len: 0,
            response_body_len: 0,
            status_code: None,
            status_msg: None,
            info_code: None,
            info_msg: None,
            tags: BTreeSet::new(),
            username: None,
            password: None,
            proxied: None,
            orig_fuids: None,
            orig_filenames: None,
            orig_mime_types: None,
            resp_fuids: None,
            resp_filenames: None,
            resp_mime_types: None,
        }
    }
}
