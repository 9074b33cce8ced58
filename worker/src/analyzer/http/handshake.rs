//! The opening handshake of WebSocket (RFC 6455 section 4), which is HTTP: one row of
//! `websocket.log` per connection that is upgraded.

use sha1::{Digest, Sha1};
use tyto_core::net::{ConnId, Side};
use tyto_core::record::LogRecord;
use tyto_core::record::value::Vector;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

use super::super::Cx;
use super::super::mime::header::Header;

/// What the responder adds to the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Protocols or extensions of one side that are kept.
const NAMES_MAX: usize = 100;
/// Source of the weirds, as Zeek's script writes it.
const SOURCE: &str = "WebSocket";

/// A connection that speaks WebSocket from here on.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "websocket")]
pub struct WebSocketLog {
    /// When it was upgraded.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// As in http.log.
    pub host: Option<Vec<u8>>,
    /// As in http.log.
    pub uri: Option<Vec<u8>>,
    /// As in http.log.
    pub user_agent: Option<Vec<u8>>,
    /// The protocol that the responder chose.
    pub subprotocol: Option<Vec<u8>>,
    /// The protocols that the originator offered.
    pub client_protocols: Option<Vector<Vec<u8>>>,
    /// The extensions that the responder chose.
    pub server_extensions: Option<Vector<Vec<u8>>>,
    /// The extensions that the originator offered.
    pub client_extensions: Option<Vector<Vec<u8>>>,
}

/// What the `Sec-WebSocket-*` headers said so far.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    subprotocol: Option<Vec<u8>>,
    client_protocols: Option<Vector<Vec<u8>>>,
    server_extensions: Option<Vector<Vec<u8>>>,
    client_extensions: Option<Vector<Vec<u8>>>,
    key: Option<Vec<u8>>,
    accept: Option<Vec<u8>>,
}

impl Handshake {
    /// Takes what `header` says, if it belongs to the handshake; begins it if need be.
    pub(super) fn header(
        own: &mut Option<Box<Self>>,
        side: Side,
        header: &Header<'_>,
        cx: &mut Cx<'_>,
    ) {
        let Some((prefix, name)) = header.name.split_at_checked(14) else { return };
        if !prefix.eq_ignore_ascii_case(b"sec-websocket-") {
            return;
        }
        let own = own.get_or_insert_default();
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        let value = header.value;
        match side {
            Side::Orig if is(b"protocol") => add_names(&mut own.client_protocols, value),
            Side::Orig if is(b"extensions") => add_names(&mut own.client_extensions, value),
            Side::Orig if is(b"key") => {
                set(&mut own.key, value, "websocket_multiple_key_headers", cx);
            }
            Side::Resp if is(b"protocol") => {
                set(&mut own.subprotocol, value, "websocket_multiple_protocol_headers", cx);
            }
            Side::Resp if is(b"extensions") => add_names(&mut own.server_extensions, value),
            Side::Resp if is(b"accept") => {
                set(&mut own.accept, value, "websocket_multiple_accept_headers", cx);
            }
            _ => {}
        }
    }

    /// The connection was upgraded: looks whether the responder's answer fits, gives the row.
    pub(super) fn established(own: Option<Box<Self>>, cx: &mut Cx<'_>) -> WebSocketLog {
        let own = *own.unwrap_or_else(|| {
            cx.weird_of(SOURCE, "websocket_established_unexpected", "");
            Box::default()
        });
        if own.key.is_none() {
            cx.weird_of(SOURCE, "websocket_missing_key_header", "");
        }
        if own.accept.is_none() {
            cx.weird_of(SOURCE, "websocket_missing_accept_header", "");
        }
        if let (Some(key), Some(accept)) = (&own.key, &own.accept) {
            let expected = accept_of(key);
            if *accept != expected.as_bytes() {
                let found = String::from_utf8_lossy(accept);
                let told = format!("expected={expected}, found={found}");
                cx.weird_of(SOURCE, "websocket_wrong_accept_header", &told);
            }
        }
        WebSocketLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            host: None,
            uri: None,
            user_agent: None,
            subprotocol: own.subprotocol,
            client_protocols: own.client_protocols,
            server_extensions: own.server_extensions,
            client_extensions: own.client_extensions,
        }
    }
}

/// What the responder has to answer to `key`.
fn accept_of(key: &[u8]) -> String {
    use base64::Engine;
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    base64::engine::general_purpose::STANDARD.encode(digest)
}

fn set(field: &mut Option<Vec<u8>>, value: &[u8], weird: &'static str, cx: &mut Cx<'_>) {
    if field.replace(value.to_vec()).is_some() {
        cx.weird_of(SOURCE, weird, "");
    }
}

/// Adds the names of a list: `a, b`. Blanks stay at its ends, as in Zeek.
fn add_names(names: &mut Option<Vector<Vec<u8>>>, list: &[u8]) {
    let names = &mut names.get_or_insert_default().0;
    let mut parts = list.split(|c| *c == b',').peekable();
    let mut is_first = true;
    while let Some(part) = parts.next() {
        let mut part = part;
        if !std::mem::take(&mut is_first) {
            while let [b' ', rest @ ..] = part {
                part = rest;
            }
        }
        if parts.peek().is_some() {
            while let [rest @ .., b' '] = part {
                part = rest;
            }
        }
        if names.len() < NAMES_MAX {
            names.push(part.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 section 1.3.
    #[test]
    fn the_answer_to_the_example_key_is_that_of_the_rfc() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn lists_are_split_at_commas_with_the_spaces_around_them() {
        let mut names = None;
        add_names(&mut names, b"chat , superchat,  x");
        add_names(&mut names, b"y");
        assert_eq!(names.unwrap().0, [&b"chat"[..], b"superchat", b"x", b"y"]);
    }
}
