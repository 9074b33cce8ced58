//! SOCKS 4, 4a and 5 (RFC 1928, 1929): who wants to go where through a proxy. What is carried
//! then is analysed as a stream of its own.

mod log;
mod parser;
#[cfg(test)]
mod tests;

use tyto_core::net::{Port, Proto, Side};

use self::log::{SocksLog, status_v4, status_v5};
use self::parser::{Message, Phase};
use super::bytes::Cursor;
use super::stage::Stage;
use super::{Analyzer, Cx, First, Match, Spec};

/// Bytes of a message that are waited for. The longest (4a) has two strings without a bound.
const MESSAGE_LEN_MAX: usize = 4096;

/// SOCKS.
pub static SPEC: Spec = Spec {
    name: "SOCKS",
    ports: &[(Proto::Tcp, 1080)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Socks::default()),
};

/// Request and answer of version 4 (roles may be swapped), or methods and choice of version 5.
fn probe(first: &First<'_>) -> Match {
    let (orig, resp) = (first.orig, first.resp);
    if is_client_v4(orig) && is_server_v4(resp)
        || is_client_v4(resp) && is_server_v4(orig)
        || is_client_v5(orig) && is_server_v5(resp)
    {
        return Match::Yes;
    }
    let may_be = |bytes: &[u8]| matches!(bytes.first(), None | Some(0 | 4 | 5));
    if may_be(orig) && may_be(resp) { Match::Later } else { Match::No }
}

fn is_client_v4(bytes: &[u8]) -> bool {
    /// Length of the user's name is a guess.
    const NAME_LEN_MAX: usize = 32;
    let [4, 1 | 2, rest @ ..] = bytes else { return false };
    rest.iter().take(NAME_LEN_MAX + 1).any(|byte| *byte == 0)
}

const fn is_server_v4(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0x5a..=0x5d, ..])
}

const fn is_client_v5(bytes: &[u8]) -> bool {
    matches!(bytes, [5, _, 0..=3 | 5..=9, ..])
}

const fn is_server_v5(bytes: &[u8]) -> bool {
    matches!(bytes, [5, 0..=3 | 5..=9 | 0xff, ..])
}

#[derive(Debug, Default)]
struct Socks {
    kept: [Vec<u8>; 2],
    phase: Phase,
    is_done: [bool; 2],
    is_confirmed: bool,
    is_skipped: bool,
    row: Option<SocksLog>,
    inner: Option<Stage>,
}

impl Socks {
    fn row(&mut self, version: u8, cx: &Cx<'_>) -> &mut SocksLog {
        self.row.get_or_insert_with(|| SocksLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            version: version.into(),
            user: None,
            password: None,
            status: None,
            request: None,
            request_p: None,
            bound: None,
            bound_p: None,
        })
    }

    fn message(&mut self, side: Side, message: Message, cx: &mut Cx<'_>) {
        match message {
            Message::Methods => {}
            Message::Method(method) => {
                /// No login is needed, or none would do.
                const WITHOUT: [u8; 2] = [0, 0xff];
                let is_login = !WITHOUT.contains(&method);
                self.phase = Phase { has_method: true, is_login, method };
            }
            Message::Login { user, password } => {
                let password = cx.shared.config.log_passwords.then_some(password);
                let row = self.row(5, cx);
                row.user = Some(user);
                row.password = password.or(row.password.take());
            }
            Message::LoginReply(code) => {
                self.phase.is_login = false;
                self.row(5, cx).status = Some(status_v5(code));
            }
            Message::Unread { version } => self.unread(side, version, cx),
            Message::Request { version, to, port } => {
                let row = self.row(version, cx);
                row.request = Some(to);
                row.request_p = Some(Port(port));
                cx.tunnel("Tunnel::SOCKS");
                self.end_dialogue(Side::Orig);
            }
            Message::Reply { version, code, bound, port } => {
                let row = self.row(version, cx);
                row.status = Some(if version == 5 { status_v5(code) } else { status_v4(code) });
                row.bound = Some(bound);
                row.bound_p = Some(Port(port));
                cx.confirm();
                self.is_confirmed = true;
                self.end_dialogue(Side::Resp);
            }
            Message::Wrong(reason) => {
                self.is_skipped = true;
                cx.violation(reason, &[]);
            }
        }
    }

    fn unread(&mut self, side: Side, version: Option<u8>, cx: &mut Cx<'_>) {
        let method = self.phase.method;
        match version {
            Some(version) => {
                let addl = format!("method {method}, version {version}");
                cx.weird_with("socks5_unsupported_authentication", &addl);
            }
            None => {
                cx.weird_with("socks5_unsupported_authentication_method", &method.to_string());
            }
        }
        if side == Side::Resp {
            self.phase.is_login = false;
        }
    }

    fn end_dialogue(&mut self, side: Side) {
        if let Some(is_done) = self.is_done.get_mut(side.index()) {
            *is_done = true;
        }
    }
}

impl Analyzer for Socks {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if cx.is_partial || self.is_skipped {
            return;
        }
        if self.is_done == [true; 2] {
            let inner = self.inner.get_or_insert_with(|| Stage::detecting(cx.proto));
            return inner.deliver(side, bytes, cx);
        }
        let Some(kept) = self.kept.get_mut(side.index()) else { return };
        let mut kept = std::mem::take(kept);
        kept.extend_from_slice(bytes);
        let mut cursor = Cursor::new(&kept);
        let mut read = 0;
        while self.is_done != [true; 2]
            && !self.is_skipped
            && let Some(message) = parser::message(side, self.phase, &mut cursor)
        {
            read = cursor.position();
            self.message(side, message, cx);
        }
        kept.drain(..read.min(kept.len()));
        if self.is_done == [true; 2] {
            if !kept.is_empty() {
                self.deliver(side, &kept, cx);
            }
        } else if kept.len() > MESSAGE_LEN_MAX {
            self.is_skipped = true;
            cx.violation("SOCKS message without end", &[]);
        } else if let Some(slot) = self.kept.get_mut(side.index()) {
            *slot = kept;
        }
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        match &mut self.inner {
            Some(inner) => inner.gap(side, missed_bytes, cx),
            None => self.is_skipped = true,
        }
    }

    fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.end_of_side(side, cx);
        }
    }

    fn flipped(&mut self) {
        self.kept.swap(0, 1);
        self.is_done.swap(0, 1);
        if let Some(inner) = &mut self.inner {
            inner.flipped();
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.wake(cx);
        }
    }

    fn failed(&mut self, _cx: &mut Cx<'_>) {
        self.is_confirmed = false;
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.end(cx);
        }
        if self.is_confirmed
            && let Some(row) = &self.row
        {
            cx.row(row);
        }
    }
}
