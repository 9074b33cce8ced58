//! The stream of handshake messages that the records of each side carry (RFC 8446 section 4).

use tyto_core::net::Side;

use super::session::Session;
use crate::analyzer::Cx;
use crate::analyzer::bytes::Cursor;
use crate::tls::message::{self, Chosen, Event, Fault};
use crate::tls::names;

/// Bytes of one message at most. The largest carry certificates; the protocol allows 16 MiB.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Kind and length of a message.
const HEAD_LEN: usize = 4;

/// Both sides' messages.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// What was agreed upon.
    pub(super) chosen: Chosen,
    /// Begins of messages that are not whole yet, by [`Side::index`].
    partial: [Vec<u8>; 2],
    /// The client is the responder.
    is_flipped: bool,
    /// It was told that this is unclear.
    is_flip_told: bool,
    /// A version came with which nothing more can be read.
    pub(super) is_hopeless: bool,
    /// The protocol was recognised.
    pub(super) is_confirmed: bool,
}

impl Handshake {
    /// Whether `side` is the client.
    pub(super) const fn is_client(&self, side: Side) -> bool {
        matches!(side, Side::Orig) != self.is_flipped
    }

    /// Swaps the sides.
    pub(super) const fn swap_sides(&mut self) {
        self.partial.swap(0, 1);
        self.is_flipped = !self.is_flipped;
    }

    /// The next bytes of messages from `side`.
    pub(super) fn deliver(
        &mut self,
        side: Side,
        bytes: &[u8],
        session: &mut Session,
        cx: &mut Cx<'_>,
    ) {
        let Some(partial) = self.partial.get_mut(side.index()) else { return };
        let mut buffer = std::mem::take(partial);
        let all = if buffer.is_empty() {
            bytes
        } else {
            buffer.extend_from_slice(bytes);
            &buffer
        };
        match self.messages(side, all, session, cx) {
            Ok(left) => {
                let left = left.to_vec();
                if let Some(partial) = self.partial.get_mut(side.index()) {
                    *partial = left;
                }
            }
            Err(Fault(reason)) => {
                cx.violation(format!("Binpac exception: binpac exception: {reason}"), &[]);
                session.finish(cx);
            }
        }
    }

    /// Reads whole messages; gives what is left.
    fn messages<'a>(
        &mut self,
        side: Side,
        bytes: &'a [u8],
        session: &mut Session,
        cx: &mut Cx<'_>,
    ) -> Result<&'a [u8], Fault> {
        let mut cursor = Cursor::new(bytes);
        loop {
            let left = cursor.rest();
            let (Some(kind), Some(len)) = (cursor.u8(), cursor.be24()) else { return Ok(left) };
            let len = len as usize;
            if len > MESSAGE_BYTES_MAX {
                let whole = len + HEAD_LEN;
                return Err(Fault(format!(
                    "out_of_bound: HandshakeRecord: {whole} > {}",
                    left.len()
                )));
            }
            let Some(body) = cursor.take(len) else { return Ok(left) };
            self.message(side, kind, body, session, cx)?;
        }
    }

    fn message(
        &mut self,
        side: Side,
        kind: u8,
        body: &[u8],
        session: &mut Session,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        self.check_direction(side, kind, session, cx);
        let is_client = self.is_client(side);
        let (mut is_hopeless, mut is_confirmed) = (self.is_hopeless, self.is_confirmed);
        let result = self.chosen.read(kind, body, &mut |event| {
            match &event {
                Event::ClientHello(hello) => {
                    if names::is_known_version(hello.version) {
                        session.confirmed(cx);
                        is_confirmed = true;
                    } else {
                        let reason =
                            format!("unsupported client SSL version 0x{:04x}", hello.version);
                        violation(reason, session, cx);
                        is_hopeless = true;
                    }
                }
                Event::ServerHello(hello) if !names::is_known_version(hello.version) => {
                    let reason = format!("unsupported server SSL version 0x{:04x}", hello.version);
                    violation(reason, session, cx);
                    is_hopeless = true;
                }
                Event::UnknownKind => {
                    let sender = sender_name(side);
                    violation(
                        format!("unknown handshake message ({kind}) from {sender}"),
                        session,
                        cx,
                    );
                }
                _ => {}
            }
            session.event(&event, is_client, cx);
        });
        (self.is_hopeless, self.is_confirmed) = (is_hopeless, is_confirmed);
        result?;
        session.message(kind, is_client, cx);
        Ok(())
    }

    /// Messages that only one of client and server sends tell who is who.
    fn check_direction(&mut self, side: Side, kind: u8, session: &mut Session, cx: &mut Cx<'_>) {
        let Some(by_client) = message::sender(kind) else { return };
        if self.is_client(side) == by_client {
            return;
        }
        self.is_flipped = !self.is_flipped;
        session.flipped(cx);
        if !self.is_flipped && !std::mem::replace(&mut self.is_flip_told, true) {
            cx.weird("SSL_unclear_connection_direction");
        }
    }
}

/// What was found is wrong: the row is written as it stands.
pub(super) fn violation(reason: String, session: &mut Session, cx: &mut Cx<'_>) {
    cx.violation(reason, &[]);
    session.finish(cx);
}

/// The sender as Zeek calls it.
pub(super) const fn sender_name(side: Side) -> &'static str {
    match side {
        Side::Orig => "originator",
        Side::Resp => "responder",
    }
}
