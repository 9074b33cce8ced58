//! SSL and TLS on a byte stream (RFC 8446, RFC 5246, the SSLv2 draft), and DTLS. Records in,
//! the handshake's row out; what is encrypted is passed over.

mod dtls;
mod handshake;
pub mod log;
mod record;
mod session;
#[cfg(test)]
mod tests;

use tyto_core::net::{Proto, Side};

pub use dtls::SPEC as DTLS_SPEC;
use handshake::{Handshake, sender_name, violation};
use record::{Head, Kind, Stream};
use session::Session;

use super::{Analyzer, Cx, First, Match, Spec};
use crate::tls::names;

/// TLS.
pub static SPEC: Spec = Spec {
    name: "SSL",
    ports: &[
        (Proto::Tcp, 443),
        (Proto::Tcp, 465),
        (Proto::Tcp, 563),
        (Proto::Tcp, 585),
        (Proto::Tcp, 614),
        (Proto::Tcp, 636),
        (Proto::Tcp, 989),
        (Proto::Tcp, 990),
        (Proto::Tcp, 992),
        (Proto::Tcp, 993),
        (Proto::Tcp, 995),
        (Proto::Tcp, 5223),
    ],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::<Tls>::default(),
};

/// A hello of either side begins a record; an alert may stand before the server's (Zeek:
/// `dpd_tls_client`, `dpd_tls_server`).
fn probe(first: &First<'_>) -> Match {
    const CLIENT: [Pattern; 11] = {
        use Pattern::{Any, In, Is};
        [Is(0x16), Is(3), In(0, 3), Any, Any, Is(1), Any, Any, Any, Is(3), In(0, 3)]
    };
    const ALERT: [Pattern; 7] = {
        use Pattern::{Any, In, Is};
        [Is(0x15), Is(3), In(0, 3), Any, Any, Any, Any]
    };
    let server = match matches(&ALERT, first.resp) {
        Match::Yes => probe_server(first.resp.get(ALERT.len()..).unwrap_or_default()),
        Match::No => probe_server(first.resp),
        Match::Later => Match::Later,
    };
    match (matches(&CLIENT, first.orig), server) {
        (Match::Yes, _) | (_, Match::Yes) => Match::Yes,
        (Match::Later, _) | (_, Match::Later) => Match::Later,
        _ => Match::No,
    }
}

fn probe_server(bytes: &[u8]) -> Match {
    use Pattern::{Any, In, Is};
    let hello = |major, minor| {
        [Is(0x16), Is(3), In(0, 3), Any, Any, Is(2), Any, Any, Any, Is(major), minor]
    };
    match matches(&hello(3, In(0, 4)), bytes) {
        Match::No => matches(&hello(0x7F, In(0, 0x50)), bytes),
        other => other,
    }
}

/// What a byte of a signature may be.
#[derive(Clone, Copy)]
enum Pattern {
    Any,
    Is(u8),
    In(u8, u8),
}

/// Whether `bytes` begin with `pattern`.
fn matches(pattern: &[Pattern], bytes: &[u8]) -> Match {
    let fits = pattern.iter().zip(bytes).all(|(pattern, byte)| match pattern {
        Pattern::Any => true,
        Pattern::Is(wanted) => wanted == byte,
        Pattern::In(low, high) => (low..=high).contains(&byte),
    });
    match fits {
        false => Match::No,
        true if bytes.len() < pattern.len() => Match::Later,
        true => Match::Yes,
    }
}

/// Which of `both` is the side's.
const fn of<T>(both: &mut [T; 2], side: Side) -> &mut T {
    let [orig, resp] = both;
    match side {
        Side::Orig => orig,
        Side::Resp => resp,
    }
}

/// TLS on one connection.
#[derive(Debug, Default)]
struct Tls {
    session: Session,
    handshake: Handshake,
    streams: [Stream; 2],
    /// Who encrypts, by [`Side::index`].
    is_encrypted: [bool; 2],
    /// Version of the records, once one was seen that may not change.
    record_version: Option<u16>,
    is_established: bool,
    /// Nothing more is read: a gap, or what cannot be TLS.
    is_over: bool,
}

impl Analyzer for Tls {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if self.is_over || cx.is_partial {
            return;
        }
        let mut stream = std::mem::take(of(&mut self.streams, side));
        let mut bytes = bytes;
        while !self.is_over && !bytes.is_empty() {
            bytes = self.next(side, &mut stream, bytes, cx);
        }
        *of(&mut self.streams, side) = stream;
        if self.is_established {
            // The row is written, and the connection may stay for hours: what was put together,
            // records of certificates above all, does not.
            self.streams = Default::default();
            self.handshake = Handshake::default();
            self.session.forget();
            cx.done();
        }
    }

    fn gap(&mut self, _side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {
        self.is_over = true;
    }

    fn flipped(&mut self) {
        self.streams.swap(0, 1);
        self.is_encrypted.swap(0, 1);
        self.handshake.swap_sides();
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.session.finish(cx);
    }
}

impl Tls {
    /// Takes what belongs to the record at hand; gives the rest.
    fn next<'a>(
        &mut self,
        side: Side,
        stream: &mut Stream,
        bytes: &'a [u8],
        cx: &mut Cx<'_>,
    ) -> &'a [u8] {
        let Some(head) = stream.head else {
            let (head, rest) = stream.take_head(bytes);
            let Some(head) = head else { return rest };
            let Some(head) = self.layer(side, head, cx) else {
                self.is_over = true;
                return &[];
            };
            stream.head = Some(head);
            // What is encrypted, or is the application's, is not kept.
            stream.is_kept = !*of(&mut self.is_encrypted, side) && head.kind != Kind::APPLICATION;
            if head.len == 0 {
                stream.head = None;
            }
            return rest;
        };
        let (body, rest) = stream.take_body(head, bytes);
        if let Some(body) = body {
            stream.head = None;
            self.record(side, head, &body, cx);
            stream.recycle(body);
        }
        rest
    }

    /// What the five bytes in front of a record say; `None` when they are no record's.
    fn layer(&mut self, side: Side, bytes: [u8; Head::LEN], cx: &mut Cx<'_>) -> Option<Head> {
        if self.handshake.is_hopeless {
            return None;
        }
        let [first, major, minor, third, fourth] = bytes;
        let version = u16::from_be_bytes([major, minor]);
        let is_tls = matches!(version, names::SSL_V3..=names::TLS_V12);
        let reason = match self.record_version {
            Some(names::SSL_V2) => return Head::of_v2(bytes),
            Some(_) if is_tls => return Some(Head::of_v3(bytes)),
            Some(_) => {
                format!(
                    "Invalid version late in TLS connection. Packet reported version: {version}"
                )
            }
            None if first & 0x80 != 0 => {
                let hello = u16::from_be_bytes([third, fourth]);
                if minor == 1 && side == Side::Orig {
                    if matches!(hello, names::SSL_V2 | names::SSL_V3..=names::TLS_V12) {
                        return Head::of_v2(bytes);
                    }
                    format!("Invalid version in SSL client hello. Version: {hello}")
                } else if minor == 4 && fourth < 2 && side == Side::Resp {
                    self.record_version = Some(names::SSL_V2);
                    return Head::of_v2(bytes);
                } else {
                    format!(
                        "Invalid headers in SSL connection. Head1: {major}, head2: {minor}, \
                         head3: {third}"
                    )
                }
            }
            None if !is_tls => format!("Invalid version in TLS connection. Version: {version}"),
            None if !(20..=30).contains(&first) => {
                format!("Invalid type in TLS connection. Version: {version}, Type: {first}")
            }
            None => {
                self.record_version = Some(version);
                return Some(Head::of_v3(bytes));
            }
        };
        violation(reason, &mut self.session, cx);
        None
    }

    /// A whole record; of one that is passed over, the body is empty.
    fn record(&mut self, side: Side, head: Head, body: &[u8], cx: &mut Cx<'_>) {
        if self.is_ciphertext(side, head.kind) {
            self.ciphertext(cx);
            return;
        }
        let is_client = self.handshake.is_client(side);
        let result = match head.kind {
            Kind::CHANGE_CIPHER_SPEC => {
                self.change_cipher_spec(side, body, cx);
                Ok(())
            }
            Kind::ALERT => record::alerts(
                body,
                self.handshake.chosen.is_tls13(),
                is_client,
                &mut self.session,
                cx,
            ),
            Kind::HANDSHAKE => {
                self.handshake.deliver(side, body, &mut self.session, cx);
                Ok(())
            }
            Kind::APPLICATION => Ok(()),
            Kind::HEARTBEAT => record::heartbeat(body, is_client, &mut self.session, cx),
            kind if kind >= Kind::V2_ERROR => self.v2_record(side, head, body, cx),
            kind => {
                let sender = sender_name(side);
                let kind = kind.0;
                let reason = format!("unknown SSL record type ({kind}) from {sender}");
                violation(reason, &mut self.session, cx);
                Ok(())
            }
        };
        if result.is_ok() {
            self.session.plaintext(head.kind == Kind::APPLICATION, cx);
        }
        if let Err(reason) = result {
            violation(
                format!("Binpac exception: binpac exception: {reason}"),
                &mut self.session,
                cx,
            );
        }
    }

    /// In TLS 1.3 nobody says when encryption begins: data of the application is encrypted
    /// (Zeek: `determine_state`).
    fn is_ciphertext(&mut self, side: Side, kind: Kind) -> bool {
        let is_encrypted = of(&mut self.is_encrypted, side);
        let version = self.handshake.chosen.version;
        let is_old = version.is_some_and(|version| {
            matches!(version, names::SSL_V2 | names::SSL_V3..=names::TLS_V12)
        });
        *is_encrypted = *is_encrypted || kind == Kind::APPLICATION && !is_old;
        *is_encrypted
    }

    fn ciphertext(&mut self, cx: &mut Cx<'_>) {
        if self.is_encrypted == [true; 2] && !self.is_established {
            self.established(cx);
        }
    }

    fn established(&mut self, cx: &mut Cx<'_>) {
        self.is_established = true;
        self.session.established(cx);
    }

    fn change_cipher_spec(&mut self, side: Side, body: &[u8], cx: &mut Cx<'_>) {
        for _ in body {
            if *of(&mut self.is_encrypted, side) {
                // What stands behind the change in the same record is encrypted already.
                self.ciphertext(cx);
                return;
            }
            if !self.handshake.chosen.is_tls13() {
                *of(&mut self.is_encrypted, side) = true;
            }
            self.session.change_cipher_spec(self.handshake.is_client(side), cx);
        }
    }

    /// A record of SSLv2, which is a message.
    fn v2_record(
        &mut self,
        side: Side,
        head: Head,
        body: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let is_client = self.handshake.is_client(side);
        match head.kind {
            Kind::V2_ERROR => self.session.alert(head.v2_word, is_client, cx),
            Kind::V2_CLIENT_HELLO => {
                let session_id = record::v2_client_hello(body)?;
                if names::is_known_version(head.v2_word) {
                    self.session.confirmed(cx);
                }
                self.session.client_hello(session_id, cx);
                self.session.letter(b'c', true, cx);
            }
            Kind::V2_SERVER_HELLO => {
                let hello = record::v2_server_hello(body)?;
                if hello.version != names::SSL_V2 {
                    self.handshake.is_hopeless = true;
                    let version = hello.version;
                    let reason = format!("Invalid version in SSL server hello. Version: {version}");
                    violation(reason, &mut self.session, cx);
                    return Ok(());
                }
                self.session.chose(hello.version, hello.suite, cx);
                self.session.letter(b's', false, cx);
                self.session.v2_certificate(hello.certificate, is_client, cx);
            }
            Kind::V2_CLIENT_MASTER_KEY => {
                record::v2_client_master_key(body)?;
                self.is_encrypted = [true; 2];
                self.established(cx);
            }
            kind => {
                let sender = sender_name(side);
                let reason = format!("unknown SSL record type ({}) from {sender}", kind.0);
                violation(reason, &mut self.session, cx);
            }
        }
        Ok(())
    }
}
