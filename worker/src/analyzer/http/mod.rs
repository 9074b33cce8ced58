//! HTTP/0.9, 1.0 and 1.1 (RFC 9110, RFC 9112): requests and replies in, rows of `http.log`,
//! files, software and weirds out. What follows CONNECT or Upgrade goes on to another protocol.
//! The behaviour, quirks included, is that of Zeek's HTTP analyzer and its scripts.
//!
//! ```text
//! bytes ─▶ content_line ─▶ Http: first lines ─▶ Message ─▶ Entity: headers, body ─▶ file
//!                           │                                │
//!                           └─ Stage: CONNECT, Upgrade       └─▶ Transactions ─▶ http.log
//! ```

mod entity;
mod fields;
mod first_line;
pub mod handshake;
mod inflate;
pub mod log;
mod message;
mod number;
mod probe;
#[cfg(test)]
mod tests;
pub mod transactions;

use std::collections::VecDeque;

use tyto_core::net::{Proto, Side};

use self::entity::Body;
use self::first_line::{RequestLine, StatusLine, Version};
use self::message::{Env, Message};
use self::transactions::Transactions;
use super::content_line::{ContentLine, Piece};
use super::stage::Stage;
use super::{Analyzer, Cx, Spec, spec};

/// HTTP.
pub static SPEC: Spec = Spec {
    name: "HTTP",
    ports: &[
        (Proto::Tcp, 80),
        (Proto::Tcp, 81),
        (Proto::Tcp, 631),
        (Proto::Tcp, 1080),
        (Proto::Tcp, 3128),
        (Proto::Tcp, 8000),
        (Proto::Tcp, 8080),
        (Proto::Tcp, 8888),
    ],
    tcp_probe: Some(probe::probe),
    udp_probe: None,
    begin: |_| Box::<Http>::default(),
};

/// Bytes of a line; real servers take 8 to 64 KiB. Zeek takes 16 MB, on each side of each
/// connection, and so would an attacker.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Methods of unanswered requests that are kept. HEAD among further ones is not known.
const UNANSWERED_MAX: usize = 1024;

/// What the first line of a side is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    /// A request or status line.
    #[default]
    FirstLine,
    /// More of the message.
    Message,
    /// Raw bytes: a reply of HTTP/0.9.
    Raw,
    /// Nothing that could be understood.
    Nothing,
}

/// What headers and first lines told of the connection.
#[derive(Debug, Default)]
struct Dialog {
    request_version: Version,
    reply_version: Version,
    keeps_alive: bool,
    request_goes_on: bool,
    reply_goes_on: bool,
    /// The connection ends behind the reply.
    reply_closes: bool,
    reply_upgrades: bool,
    upgrade_to: Vec<u8>,
    reply_code: u64,
    reason: Option<Vec<u8>>,
}

/// The parts of a body-less method's name that count (Zeek compares as many letters as there are).
fn is_method(method: &[u8], name: &[u8]) -> bool {
    name.get(..method.len()).is_some_and(|name| name.eq_ignore_ascii_case(method))
}

/// The analyzer.
#[derive(Debug)]
struct Http {
    /// By [`Side::index`].
    lines: [ContentLine; 2],
    messages: [Message; 2],
    expects: [Expects; 2],
    dialog: Dialog,
    requests: u64,
    replies: u64,
    /// Of each unanswered request: whether it was HEAD.
    unanswered: VecDeque<bool>,
    connect: bool,
    /// Who listens to what is no HTTP any more.
    nested: Option<Box<Stage>>,
}

impl Default for Http {
    fn default() -> Self {
        let lines = || ContentLine::new(LINE_BYTES_MAX);
        Self {
            lines: [lines(), lines().skipping_partial()],
            messages: [Message::default(), Message::default()],
            expects: [Expects::default(); 2],
            dialog: Dialog::default(),
            requests: 0,
            replies: 0,
            unanswered: VecDeque::new(),
            connect: false,
            nested: None,
        }
    }
}

impl Analyzer for Http {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if let Some(nested) = &mut self.nested {
            return nested.deliver(side, bytes, cx);
        }
        if self.expects(side) == Expects::Raw {
            return self.raw_reply(bytes, cx);
        }
        let [orig, resp] = &mut self.lines;
        let lines = if side == Side::Orig { orig } else { resp };
        let input = lines.begin(bytes, cx);
        self.lines_of(side, input, cx);
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        if let Some(nested) = &mut self.nested {
            return nested.gap(side, missed_bytes, cx);
        }
        let goes_on = self.with_message(side, cx, |message, env| message.gap(missed_bytes, env));
        self.after_message(side, &[], cx);
        if goes_on {
            return;
        }
        // Whether a reply has a body depends on the request: without it, both are lost.
        if side == Side::Orig {
            self.end_message(Side::Orig, true, cx);
        }
        self.end_message(Side::Resp, true, cx);
        if let Some(lines) = self.lines.get_mut(side.index()) {
            lines.give_up();
        }
    }

    fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        if let Some(nested) = &mut self.nested {
            return nested.end_of_side(side, cx);
        }
        if self.expects(side) != Expects::Raw
            && let Some(lines) = self.lines.get_mut(side.index())
        {
            let input = lines.end(cx);
            self.lines_of(side, input, cx);
        }
        if cx.is_reset {
            // A RST breaks off both messages.
            self.end_message(Side::Orig, true, cx);
            return self.end_message(Side::Resp, true, cx);
        }
        self.end_message(side, false, cx);
    }

    fn flipped(&mut self) {
        if self.requests == 0 && self.replies == 0 {
            self.lines.swap(0, 1);
        }
        if let Some(nested) = &mut self.nested {
            nested.flipped();
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        if let Some(nested) = &mut self.nested {
            nested.wake(cx);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.end_message(Side::Orig, true, cx);
        self.end_message(Side::Resp, true, cx);
        if let Some(nested) = &mut self.nested {
            nested.end(cx);
        }
        Transactions::with(cx, Transactions::end);
    }
}

impl Http {
    fn expects(&self, side: Side) -> Expects {
        self.expects.get(side.index()).copied().unwrap_or_default()
    }

    fn set_expects(&mut self, side: Side, what: Expects) {
        if let Some(expects) = self.expects.get_mut(side.index()) {
            *expects = what;
        }
    }

    fn with_message<T>(
        &mut self,
        side: Side,
        cx: &mut Cx<'_>,
        call: impl FnOnce(&mut Message, &mut Env<'_, '_>) -> T,
    ) -> T {
        let [orig_lines, resp_lines] = &mut self.lines;
        let [orig, resp] = &mut self.messages;
        let (lines, message) = match side {
            Side::Orig => (orig_lines, orig),
            Side::Resp => (resp_lines, resp),
        };
        call(message, &mut Env { side, dialog: &mut self.dialog, lines, cx })
    }

    fn lines_of(&mut self, side: Side, mut input: super::content_line::Input<'_>, cx: &mut Cx<'_>) {
        loop {
            let Some(lines) = self.lines.get_mut(side.index()) else { return };
            let Some(piece) = lines.next(&mut input, cx) else { return };
            if cx.is_partial {
                continue;
            }
            match piece {
                Piece::Plain(bytes) => self.plain(side, bytes, cx),
                Piece::Line(line) if side == Side::Orig => self.request_side_line(&line, cx),
                Piece::Line(line) => self.reply_side_line(&line, input.rest(), cx),
            }
            self.after_message(side, input.rest(), cx);
            if let Some(nested) = &mut self.nested {
                let rest = input.take_rest();
                if !rest.is_empty() {
                    nested.deliver(side, rest, cx);
                }
                return;
            }
        }
    }

    fn plain(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let exists = self.with_message(side, cx, |message, env| {
            message.deliver(bytes, false, env);
            message.exists()
        });
        if !exists {
            cx.weird(match side {
                Side::Orig => "unexpected_client_HTTP_data",
                Side::Resp => "unexpected_server_HTTP_data",
            });
        }
    }

    fn request_side_line(&mut self, line: &[u8], cx: &mut Cx<'_>) {
        match self.expects(Side::Orig) {
            Expects::Message => {
                self.with_message(Side::Orig, cx, |message, env| message.deliver(line, true, env));
            }
            Expects::FirstLine => match RequestLine::parse(line, &mut self.dialog, cx) {
                Some(request) => self.request(&request, cx),
                None if self.requests > 0 && !self.dialog.keeps_alive => {}
                None if line.is_empty() => cx.weird("empty_http_request"),
                None => {
                    cx.violation("not a http request line", &[]);
                    self.set_expects(Side::Orig, Expects::Nothing);
                }
            },
            Expects::Raw | Expects::Nothing => {}
        }
    }

    fn request(&mut self, request: &RequestLine<'_>, cx: &mut Cx<'_>) {
        self.requests += 1;
        if !self.dialog.keeps_alive && self.requests > 1 {
            cx.weird("unexpected_multiple_HTTP_requests");
        }
        self.set_expects(Side::Orig, Expects::Message);
        self.dialog.request_goes_on = true;
        if self.unanswered.len() < UNANSWERED_MAX {
            self.unanswered.push_back(is_method(request.method, b"HEAD"));
        }
        cx.confirm();
        self.connect |= is_method(request.method, b"CONNECT");
        let uri = request.uri.clone();
        Transactions::with(cx, |log, cx| log.request(request.method, uri, cx));
        if self.with_message(Side::Orig, cx, |message, env| message.begin(Body::Maybe, env)) {
            cx.weird("HTTP_overlapping_messages");
        }
        if self.dialog.request_version == (0, 9) {
            self.expect_raw_reply(request.method, cx);
        }
    }

    /// HTTP/0.9 has no status line and no headers.
    fn expect_raw_reply(&mut self, method: &[u8], cx: &mut Cx<'_>) {
        if method != b"GET" {
            let method = String::from_utf8_lossy(method);
            cx.weird_with("invalid_http_09_request_method", &method);
        }
        if self.messages.get(Side::Resp.index()).is_some_and(Message::exists) {
            cx.weird("http_09_reply_before_request");
            self.with_message(Side::Resp, cx, |message, env| message.end(env));
            self.after_message(Side::Resp, &[], cx);
            self.with_message(Side::Resp, cx, |message, _| message.clear());
        }
        self.set_expects(Side::Resp, Expects::Raw);
    }

    fn raw_reply(&mut self, bytes: &[u8], cx: &mut Cx<'_>) {
        if cx.is_partial {
            return;
        }
        if !self.messages.get(Side::Resp.index()).is_some_and(Message::exists) {
            self.dialog.set_reply_version((0, 9), cx);
            if !self.unanswered.is_empty() {
                cx.confirm();
                self.unanswered.pop_front();
            }
            self.dialog.reply_closes = true;
            self.begin_reply(cx);
            self.with_message(Side::Resp, cx, |message, env| message.deliver(&[], true, env));
        }
        self.with_message(Side::Resp, cx, |message, env| message.deliver(bytes, false, env));
        self.after_message(Side::Resp, &[], cx);
    }

    fn begin_reply(&mut self, cx: &mut Cx<'_>) {
        self.dialog.reply_goes_on = true;
        let (major, minor) = self.dialog.reply_version;
        let reason = self.dialog.reason.as_deref().unwrap_or(b"<empty>");
        let code = self.dialog.reply_code;
        let version = format!("{major}.{minor}");
        Transactions::with(cx, |log, cx| log.reply(version, code, reason, cx));
        if self.connect && code != 200 {
            self.connect = false;
        }
        let is_head = self.unanswered.front().copied().unwrap_or_default();
        let has_none = is_head || (100..200).contains(&code) || matches!(code, 204 | 304);
        let body = if has_none { Body::No } else { Body::Yes };
        if self.with_message(Side::Resp, cx, |message, env| message.begin(body, env)) {
            cx.weird("HTTP_overlapping_messages");
        }
    }

    fn reply_side_line(&mut self, line: &[u8], rest: &[u8], cx: &mut Cx<'_>) {
        match self.expects(Side::Resp) {
            Expects::Message => {
                self.with_message(Side::Resp, cx, |message, env| message.deliver(line, true, env));
                if self.connect && line.is_empty() {
                    if !rest.is_empty() {
                        let len = rest.len().to_string();
                        cx.weird_with("protocol_data_with_HTTP_CONNECT_reply", &len);
                    }
                    self.nested = Some(Box::new(Stage::detecting(Proto::Tcp)));
                }
            }
            Expects::FirstLine => self.status_line(line, cx),
            Expects::Raw | Expects::Nothing => {}
        }
    }

    fn status_line(&mut self, line: &[u8], cx: &mut Cx<'_>) {
        let status = StatusLine::parse(line, cx);
        if let Some(status) = &status {
            self.dialog.set_reply_version(status.version, cx);
        }
        let Some(StatusLine { code: Some(code), reason, .. }) = status else {
            if !line.is_empty() {
                cx.violation("not a http reply line", &[]);
                self.set_expects(Side::Resp, Expects::Nothing);
            }
            return;
        };
        self.replies += 1;
        if !self.unanswered.is_empty() {
            cx.confirm();
        }
        self.dialog.reply_code = code;
        if reason.is_some() {
            self.dialog.reason = reason.map(<[u8]>::to_vec);
        }
        self.set_expects(Side::Resp, Expects::Message);
        self.begin_reply(cx);
    }

    /// Ends the message of `side` for good, if one goes on.
    fn end_message(&mut self, side: Side, is_interrupted: bool, cx: &mut Cx<'_>) {
        let goes_on = match side {
            Side::Orig => self.dialog.request_goes_on,
            Side::Resp => self.dialog.reply_goes_on,
        };
        if !goes_on {
            return;
        }
        self.with_message(side, cx, |message, env| message.end(env));
        self.after_message(side, &[], cx);
        if is_interrupted {
            self.set_expects(side, Expects::Nothing);
        }
    }

    /// Does what is due when the message of `side` is over. `rest` was not looked at yet.
    fn after_message(&mut self, side: Side, rest: &[u8], cx: &mut Cx<'_>) {
        let is_over = self.messages.get(side.index()).is_some_and(Message::is_over);
        if !is_over {
            return;
        }
        match side {
            Side::Orig if std::mem::take(&mut self.dialog.request_goes_on) => {
                self.set_expects(side, Expects::FirstLine);
            }
            Side::Resp if std::mem::take(&mut self.dialog.reply_goes_on) => {
                self.reply_made(rest, cx);
            }
            _ => {}
        }
    }

    fn reply_made(&mut self, rest: &[u8], cx: &mut Cx<'_>) {
        let code = std::mem::take(&mut self.dialog.reply_code);
        if !(100..200).contains(&code) {
            self.unanswered.pop_front();
        }
        self.dialog.reason = None;
        let upgrades = std::mem::take(&mut self.dialog.reply_upgrades);
        let protocol = std::mem::take(&mut self.dialog.upgrade_to);
        self.set_expects(Side::Resp, Expects::FirstLine);
        if code == 101 && self.unanswered.len() == 1 && upgrades && !protocol.is_empty() {
            self.set_expects(Side::Resp, Expects::Nothing);
            self.upgrade(&protocol, rest, cx);
        }
    }

    /// The connection goes on in another protocol (RFC 9110 section 7.8).
    fn upgrade(&mut self, protocol: &[u8], rest: &[u8], cx: &mut Cx<'_>) {
        if !rest.is_empty() {
            let len = rest.len().to_string();
            cx.weird_with("protocol_data_with_HTTP_upgrade_reply", &len);
        }
        let websocket = spec("WEBSOCKET").filter(|_| protocol.eq_ignore_ascii_case(b"websocket"));
        self.nested = Some(Box::new(match websocket {
            Some(spec) => {
                Transactions::with(cx, Transactions::websocket);
                Stage::of(spec, cx)
            }
            None => Stage::detecting(Proto::Tcp),
        }));
    }
}

impl Dialog {
    fn set_request_version(&mut self, version: Version, cx: &mut Cx<'_>) {
        Self::set_version(&mut self.request_version, version, cx);
        self.keeps_alive |= version > (1, 0);
    }

    fn set_reply_version(&mut self, version: Version, cx: &mut Cx<'_>) {
        Self::set_version(&mut self.reply_version, version, cx);
        self.keeps_alive |= version > (1, 0);
    }

    fn set_version(known: &mut Version, version: Version, cx: &mut Cx<'_>) {
        if *known != (0, 0) && *known != version {
            cx.weird("HTTP_version_mismatch");
        }
        *known = version;
    }
}
