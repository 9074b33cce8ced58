//! `PostgreSQL`'s protocol 3: login, simple queries, errors. When the server agrees to the
//! client's request for TLS the connection goes on as TLS.

mod log;
mod message;
mod session;
#[cfg(test)]
mod tests;

use tyto_core::net::{Proto, Side};

use self::message::{Messages, Wrong};
use self::session::Session;
use super::bytes::Cursor;
use super::stage::Stage;
use super::{Analyzer, Cx, First, Match, Spec, spec};

/// Version that asks for TLS instead of a session.
const TLS_REQUEST: u32 = 80_877_103;
/// Bytes of a startup message.
const STARTUP_LEN_MAX: u32 = 64 * 1024;
/// Pieces that a side may send before the other has said what is to be made of them.
const PIECES_HELD_MAX: usize = 4;
/// Why it is not `PostgreSQL`.
const WRONG: &str = "error while parsing PostgreSQL";

/// `PostgreSQL`.
pub static SPEC: Spec = Spec {
    name: "POSTGRESQL",
    ports: &[(Proto::Tcp, 5432)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Postgresql::default()),
};

/// A request for TLS and its answer, or a startup message and what follows it.
fn probe(first: &First<'_>) -> Match {
    let (orig, resp) = (first.orig, first.resp);
    let may_be = match orig.get(4..7) {
        Some(version) => is_tls_request(orig) || version == b"\x00\x03\x00",
        None => orig.first().is_none_or(|byte| *byte == 0),
    };
    if !may_be {
        return Match::No;
    }
    let is_tls = is_tls_request(orig) && matches!(resp.first(), Some(b'S' | b'N'));
    let is_answer = matches!(resp, [kind, 0, 0, _, _, ..] if kind.is_ascii_alphanumeric());
    if is_tls || is_startup(orig) && is_answer { Match::Yes } else { Match::Later }
}

fn is_tls_request(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
}

fn is_startup(bytes: &[u8]) -> bool {
    /// The user stands this far in at most.
    const USER_AT_MAX: usize = 256;
    bytes.get(7..).is_some_and(|rest| {
        let head = rest.get(..USER_AT_MAX + 5).unwrap_or(rest);
        head.windows(5).any(|word| word == b"user\0")
    })
}

/// What is known of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tls {
    #[default]
    Unknown,
    Requested,
    /// It will not be.
    Plain,
}

#[derive(Debug, Default)]
struct Postgresql {
    tls: Tls,
    inner: Option<Stage>,
    /// What waits for the other side, and how many pieces it came in.
    held: [(Vec<u8>, usize); 2],
    has_started: bool,
    messages: [Messages; 2],
    session: Session,
    has_failed: bool,
}

impl Postgresql {
    fn side(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Wrong> {
        match (side, self.tls, self.has_started) {
            (Side::Orig, Tls::Requested, _) | (Side::Resp, Tls::Unknown, _) => {
                let (_, pieces) = self.hold(side, bytes);
                if pieces > PIECES_HELD_MAX { Err(Wrong) } else { Ok(()) }
            }
            (Side::Resp, Tls::Requested, _) => self.answer(bytes, cx),
            (Side::Orig, _, false) => self.start(bytes, cx),
            _ => self.plain(side, bytes, cx),
        }
    }

    fn hold(&mut self, side: Side, bytes: &[u8]) -> (&[u8], usize) {
        let [orig, resp] = &mut self.held;
        let (held, pieces) = if side == Side::Orig { orig } else { resp };
        held.extend_from_slice(bytes);
        *pieces += 1;
        (held, *pieces)
    }

    fn release(&mut self, side: Side) -> Vec<u8> {
        let held = self.held.get_mut(side.index());
        held.map(|held| std::mem::take(held).0).unwrap_or_default()
    }

    /// The server's answer to the request for TLS, and what it sent behind it.
    fn answer(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Wrong> {
        let Some((&answer, rest)) = bytes.split_first() else { return Ok(()) };
        if !matches!(answer, b'S' | b'N') {
            return Err(Wrong);
        }
        cx.confirm();
        self.session.tls_reply(answer, cx);
        let held = self.release(Side::Orig);
        self.tls = Tls::Plain;
        if answer == b'S' {
            self.inner = spec("SSL").map(|ssl| Stage::of(ssl, cx));
        }
        for (side, bytes) in [(Side::Orig, &held[..]), (Side::Resp, rest)] {
            if !bytes.is_empty() {
                self.next(side, bytes, cx)?;
            }
        }
        Ok(())
    }

    fn next(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Wrong> {
        if let Some(inner) = &mut self.inner {
            inner.deliver(side, bytes, cx);
            return Ok(());
        }
        self.side(side, bytes, cx)
    }

    /// The client's first message.
    fn start(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Wrong> {
        /// Protocol 3.
        const MAJOR: u32 = 3;
        self.hold(Side::Orig, bytes);
        let held = self.release(Side::Orig);
        let mut cursor = Cursor::new(&held);
        let (Some(len), Some(version)) = (cursor.be32(), cursor.be32()) else {
            self.hold(Side::Orig, &held);
            return Ok(());
        };
        if len == 8 && version == TLS_REQUEST && self.tls == Tls::Unknown {
            self.tls = Tls::Requested;
            self.session.tls_request(cx);
            let rest = cursor.rest().to_vec();
            if !rest.is_empty() {
                self.hold(Side::Orig, &rest);
            }
            let early = self.release(Side::Resp);
            return if early.is_empty() { Ok(()) } else { self.side(Side::Resp, &early, cx) };
        }
        if version >> 16 != MAJOR || !(9..=STARTUP_LEN_MAX).contains(&len) {
            return Err(Wrong);
        }
        let Some(body) = cursor.take(len as usize - 8) else {
            self.hold(Side::Orig, &held);
            // The server's answers need not wait: it will be a session without TLS.
            if self.tls == Tls::Unknown {
                self.tls = Tls::Plain;
                let early = self.release(Side::Resp);
                return self.plain(Side::Resp, &early, cx);
            }
            return Ok(());
        };
        let parameters = message::startup(body).ok_or(Wrong)?;
        self.session.startup(&parameters, cx);
        cx.confirm();
        self.has_started = true;
        self.tls = Tls::Plain;
        let rest = cursor.rest().to_vec();
        let early = self.release(Side::Resp);
        self.plain(Side::Resp, &early, cx)?;
        self.plain(Side::Orig, &rest, cx)
    }

    fn plain(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Wrong> {
        let mut rest = bytes;
        while let Some(messages) = self.messages.get_mut(side.index())
            && let Some(message) = messages.next(&mut rest)?
        {
            let said = match side {
                Side::Orig => message::frontend(&message),
                Side::Resp => message::backend(&message)?,
            };
            self.session.said(said, cx);
        }
        Ok(())
    }
}

impl Analyzer for Postgresql {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if self.has_failed {
            return;
        }
        if self.next(side, bytes, cx) == Err(Wrong) {
            self.has_failed = true;
            cx.violation(WRONG, &[]);
        }
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        match &mut self.inner {
            Some(inner) => inner.gap(side, missed_bytes, cx),
            // Messages have no mark to find them by.
            None => self.has_failed = true,
        }
    }

    fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.end_of_side(side, cx);
        }
    }

    fn flipped(&mut self) {
        self.held.swap(0, 1);
        self.messages.swap(0, 1);
        if let Some(inner) = &mut self.inner {
            inner.flipped();
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.end(cx);
        }
        self.session.write(cx);
    }
}
