//! SIP over UDP (RFC 3261): requests and replies in, rows of `sip.log` out. How they are matched
//! is Zeek's script, step by step: the counters do not mean what their names say, and rows depend
//! on them.

pub mod log;
mod parser;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tyto_core::net::{Proto, Side};
use tyto_core::record::value::Vector;

use self::log::SipLog;
use self::parser::{Event, Messages};
use super::{Analyzer, Cx, First, Match, Spec};

/// SIP.
pub static SPEC: Spec = Spec {
    name: "SIP",
    ports: &[(Proto::Udp, 5060)],
    tcp_probe: None,
    udp_probe: Some(probe),
    begin: |_| Box::<Sip>::default(),
};

/// Via headers of a message that are kept (Zeek: `max_request_path_length`).
const PATH_MAX: usize = 100;

/// Bytes of the longest name of a header that is looked for, `CONTENT-LENGTH`.
const NAME_LEN_MAX: usize = 14;

/// Methods that are no weird (Zeek: `SIP::sip_methods`).
const METHODS: &[&[u8]] =
    &[b"REGISTER", b"INVITE", b"ACK", b"CANCEL", b"BYE", b"OPTIONS", b"NOTIFY", b"SUBSCRIBE"];

/// The analyzer.
#[derive(Debug)]
struct Sip {
    requests: Messages,
    replies: Messages,
    session: Session,
}

/// What is pending on a flow.
#[derive(Debug, Default)]
struct Session {
    pending: BTreeMap<u64, SipLog>,
    request: u64,
    reply: u64,
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            requests: Messages::new(true),
            replies: Messages::new(false),
            session: Session::default(),
        }
    }
}

impl Analyzer for Sip {
    fn deliver(&mut self, _side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        // Keep-alives.
        if matches!(bytes, [b'\r', _]) {
            return;
        }
        // Either end may ask: what it is tells its begin.
        let is_reply = bytes.len() > 6 && bytes.starts_with(b"SIP/");
        let Self { requests, replies, session } = self;
        let messages = if is_reply { replies } else { requests };
        let fed = messages.feed(bytes, |event| {
            if is_reply {
                session.reply_event(&event, cx);
            } else {
                session.request_event(&event, cx);
            }
        });
        if fed.is_err() {
            cx.violation("Binpac exception: binpac exception: string mismatch", &[]);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        for row in std::mem::take(&mut self.session.pending).into_values() {
            cx.row(&row);
        }
    }
}

impl Session {
    fn of_request(&mut self, cx: &Cx<'_>) -> &mut SipLog {
        Self::row(&mut self.pending, self.request, self.request, cx)
    }

    fn of_reply(&mut self, cx: &Cx<'_>) -> &mut SipLog {
        Self::row(&mut self.pending, self.reply, self.request, cx)
    }

    fn row<'p>(
        pending: &'p mut BTreeMap<u64, SipLog>,
        number: u64,
        depth: u64,
        cx: &Cx<'_>,
    ) -> &'p mut SipLog {
        pending.entry(number).or_insert_with(|| SipLog::new(cx.now, cx.uid(), cx.id(), depth))
    }

    fn request_event(&mut self, event: &Event<'_>, cx: &mut Cx<'_>) {
        match *event {
            Event::Request { junk, method, uri } => {
                if !junk.is_empty() {
                    cx.weird_with("sip_junk_before_request", &rendered(junk));
                }
                let row = self.of_request(cx);
                row.method = Some(method.to_vec());
                row.uri = Some(uri.to_vec());
                if !METHODS.contains(&method) {
                    let method = String::from_utf8_lossy(method);
                    cx.weird_without_source("unknown_SIP_method", &method);
                }
            }
            Event::Header { name, value } => {
                if !self.pending.contains_key(&self.request) {
                    self.request += 1;
                }
                request_header(self.of_request(cx), name, value, cx);
            }
            Event::End => {
                self.of_request(cx);
            }
            Event::Reply { .. } => {}
        }
    }

    fn reply_event(&mut self, event: &Event<'_>, cx: &mut Cx<'_>) {
        match *event {
            Event::Reply { code, reason } => {
                cx.confirm();
                let row = self.of_reply(cx);
                row.status_code = Some(code);
                row.status_msg = Some(reason.to_vec());
            }
            Event::Header { name, value } => {
                if !self.pending.contains_key(&self.reply) {
                    self.reply += 1;
                }
                reply_header(self.of_reply(cx), name, value, cx);
            }
            Event::End => self.end_of_reply(cx),
            Event::Request { .. } => {}
        }
    }

    fn end_of_reply(&mut self, cx: &mut Cx<'_>) {
        let row = self.of_reply(cx);
        cx.row(row);
        let code = row.status_code.unwrap_or_default();
        let is_bye = row.method.as_deref() == Some(b"BYE") && (200..300).contains(&code);
        let is_last = row.method.is_none() || is_bye;
        if !(100..200).contains(&code) {
            self.pending.remove(&self.reply);
        }
        if is_last {
            for (number, row) in std::mem::take(self).pending {
                if number != 0 {
                    cx.row(&row);
                }
            }
        }
    }
}

fn request_header(row: &mut SipLog, name: &[u8], value: &[u8], cx: &mut Cx<'_>) {
    let whole = || Some(value.to_vec());
    match upper(name, &mut [0; NAME_LEN_MAX]) {
        b"CALL-ID" => row.call_id = whole(),
        b"CONTENT-LENGTH" | b"L" => match count(value) {
            Some(len) => row.request_body_len = Some(len),
            None => body_len_weird("invalid_SIP_request_body_len", value, cx),
        },
        b"CSEQ" => row.seq = whole(),
        b"DATE" => row.date = whole(),
        b"FROM" | b"F" => row.request_from = Some(before(value, b"tag=").to_vec()),
        b"REPLY-TO" => row.reply_to = whole(),
        b"SUBJECT" | b"S" => row.subject = whole(),
        b"TO" | b"T" => row.request_to = whole(),
        b"USER-AGENT" => row.user_agent = whole(),
        b"VIA" | b"V" => {
            add_to_path(&mut row.request_path, value, "sip_max_request_path_length_exceeded", cx);
        }
        _ => {}
    }
}

fn reply_header(row: &mut SipLog, name: &[u8], value: &[u8], cx: &mut Cx<'_>) {
    let whole = || Some(value.to_vec());
    match upper(name, &mut [0; NAME_LEN_MAX]) {
        b"CONTENT-LENGTH" | b"L" => match count(value) {
            Some(len) => row.response_body_len = Some(len),
            None => body_len_weird("invalid_SIP_response_body_len", value, cx),
        },
        b"CONTENT-TYPE" | b"C" => row.content_type = whole(),
        b"WARNING" => row.warning = whole(),
        b"FROM" | b"F" => row.response_from = Some(before(value, b"tag=").to_vec()),
        b"TO" | b"T" => row.response_to = whole(),
        b"VIA" | b"V" => {
            add_to_path(&mut row.response_path, value, "sip_max_response_path_length_exceeded", cx);
        }
        _ => {}
    }
}

/// The name of a header in upper case, put into `place`; a longer one is none that is known.
fn upper<'p>(name: &[u8], place: &'p mut [u8; NAME_LEN_MAX]) -> &'p [u8] {
    let Some(place) = place.get_mut(..name.len()) else { return &[] };
    place.copy_from_slice(name);
    place.make_ascii_uppercase();
    place
}

fn body_len_weird(name: &'static str, value: &[u8], cx: &mut Cx<'_>) {
    cx.weird_without_source(name, &String::from_utf8_lossy(value));
}

fn add_to_path(
    path: &mut Option<Vector<Vec<u8>>>,
    via: &[u8],
    weird: &'static str,
    cx: &mut Cx<'_>,
) {
    let path = &mut path.get_or_insert_default().0;
    if path.len() >= PATH_MAX {
        cx.weird_without_source(weird, "");
    } else {
        path.push(before(via, b"branch").to_vec());
    }
}

/// What stands before the first `;`, a space or none, and `parameter`.
fn before<'v>(value: &'v [u8], parameter: &[u8]) -> &'v [u8] {
    let end = memchr::memchr_iter(b';', value).find(|at| {
        let rest = value.get(at + 1..).unwrap_or_default();
        rest.strip_prefix(b" ").unwrap_or(rest).starts_with(parameter)
            || rest.starts_with(parameter)
    });
    end.and_then(|end| value.get(..end)).unwrap_or(value)
}

fn count(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

/// As Zeek shows bytes in a weird: printable ones as they are.
fn rendered(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// `METHOD URI SIP/2.0`, or `SIP/2.0 200 OK` (Zeek: `dpd_sip_udp_req`, `dpd_sip_udp_resp`).
fn probe(first: &First<'_>) -> Match {
    let is_sip = |bytes: &[u8]| is_request(bytes) || is_reply(bytes);
    if is_sip(first.orig) || is_sip(first.resp) { Match::Yes } else { Match::Later }
}

fn is_request(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|end| {
        let behind = end.checked_sub(9).and_then(|at| bytes.get(at..end));
        let version = behind.and_then(|text| text.strip_prefix(b" ")?.strip_suffix(b"\r"));
        version.is_some_and(is_version)
    })
}

fn is_reply(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
    let Some((version, rest)) = bytes.split_at_checked(7) else { return false };
    let is_code =
        |rest: &[u8]| matches!(rest, [b' ', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ', ..]);
    is_version(version) && (rest.starts_with(b"\r\n") || is_code(rest))
}

const fn is_version(version: &[u8]) -> bool {
    matches!(version, [b'S', b'I', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'])
}
