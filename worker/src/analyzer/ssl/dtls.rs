//! DTLS (RFC 6347, RFC 9147): records in datagrams, messages in fragments.

use tyto_core::net::{Proto, Side};

use super::handshake::{Handshake, sender_name, violation};
use super::record::{self, Kind};
use super::session::Session;
use super::{Pattern, matches, of};
use crate::analyzer::bytes::Cursor;
use crate::analyzer::{Analyzer, Cx, First, Match, Spec};
use crate::tls::names::{DTLS_V10, DTLS_V12, DTLS_V13};

/// DTLS.
pub static SPEC: Spec = Spec {
    name: "DTLS",
    ports: &[(Proto::Udp, 443)],
    tcp_probe: None,
    udp_probe: Some(probe),
    begin: |_| Box::<Dtls>::default(),
};

/// Bytes of a record in front of its body (RFC 6347 section 4.1).
const HEAD_LEN: usize = 13;
/// Bytes of a message of which a fragment says how long it is (Zeek:
/// `MAX_DTLS_HANDSHAKE_RECORD`).
const MESSAGE_BYTES_MAX: usize = 100_000;
/// Fragments of a message: from the first to the last record at most.
const FRAGMENTS_MAX: u64 = 32;
/// Records in a row that are of no version of DTLS; with one more, nothing is read any more
/// (Zeek: `SSL::dtls_max_version_errors`).
const VERSION_ERRORS_MAX: u32 = 10;

/// A client's hello in one of the first records (Zeek: `dpd_dtls_client`).
fn probe(first: &First<'_>) -> Match {
    const HELLO: [Pattern; 27] = {
        use Pattern::{Any, In, Is};
        [
            Is(0x16),
            Is(0xFE),
            In(0xFD, 0xFF),
            Is(0),
            Is(0),
            Is(0),
            Is(0),
            Is(0),
            Is(0),
            Is(0),
            Any,
            Any,
            Any,
            Is(1),
            Any,
            Any,
            Any,
            Any,
            Any,
            Any,
            Any,
            Any,
            Any,
            Any,
            Any,
            Is(0xFE),
            In(0xFD, 0xFF),
        ]
    };
    let is_hello = |bytes: &[u8]| {
        matches(&HELLO, bytes) == Match::Yes
            && bytes.get(2) != Some(&0xFE)
            && bytes.get(HELLO.len() - 1) != Some(&0xFE)
    };
    if is_hello(first.orig) || is_hello(first.resp) { Match::Yes } else { Match::Later }
}

/// DTLS on one flow. Its port is QUIC's: what it needs is made with the first datagram that may be
/// DTLS.
#[derive(Debug, Default)]
struct Dtls {
    flow: Option<Box<Flow>>,
    /// Datagrams before it, of no version of DTLS.
    foreign: u32,
}

/// What is known of a flow.
#[derive(Debug, Default)]
struct Flow {
    session: Session,
    handshake: Handshake,
    /// Messages that come in fragments, by [`Side::index`].
    fragments: [Fragments; 2],
    is_encrypted: [bool; 2],
    is_established: bool,
    version_errors: u32,
    is_version_error_told: bool,
    is_over: bool,
}

/// A message in fragments. Which of them came is known by the numbers of their records.
#[derive(Debug, Default)]
struct Fragments {
    message: Option<(u16, usize)>,
    bytes: Vec<u8>,
    first: u64,
    is_first_seen: bool,
    last: u64,
    /// A bit for each record, from `first` on.
    seen: u32,
}

impl Analyzer for Dtls {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
        // STUN may share the flow (RFC 7983).
        let is_stun = bytes.len() > 20 && bytes.get(4..8) == Some(&STUN_COOKIE);
        if is_stun || self.foreign > VERSION_ERRORS_MAX {
            return;
        }
        if self.flow.is_none() && is_foreign(bytes) {
            self.foreign += 1;
            return;
        }
        let version_errors = self.foreign;
        let begin = || Box::new(Flow { version_errors, ..Flow::default() });
        self.flow.get_or_insert_with(begin).deliver(side, bytes, cx);
    }

    fn flipped(&mut self) {
        if let Some(flow) = &mut self.flow {
            flow.fragments.swap(0, 1);
            flow.is_encrypted.swap(0, 1);
            flow.handshake.swap_sides();
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(flow) = &mut self.flow {
            flow.session.finish(cx);
        }
    }
}

/// A datagram that begins with the head of a record, of no version of DTLS.
fn is_foreign(bytes: &[u8]) -> bool {
    let version = bytes.get(1..3).and_then(|version| version.try_into().ok());
    bytes.len() >= HEAD_LEN && version.is_some_and(|version| !is_dtls(u16::from_be_bytes(version)))
}

const fn is_dtls(version: u16) -> bool {
    matches!(version, DTLS_V10 | DTLS_V12)
}

impl Flow {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if self.is_over {
            return;
        }
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            if let Err(reason) = self.record(side, &mut cursor, cx) {
                let reason = format!("Binpac exception: binpac exception: {reason}");
                violation(reason, &mut self.session, cx);
                break;
            }
        }
        self.is_over = self.is_over || self.handshake.is_hopeless;
        if self.is_established {
            cx.done();
        }
    }

    fn record(
        &mut self,
        side: Side,
        cursor: &mut Cursor<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let first = cursor.peek().unwrap_or_default();
        if self.handshake.chosen.version == Some(DTLS_V13) && first & 0xE0 == 0x20 {
            // RFC 9147 section 4: encrypted, and it says nothing that could be read.
            cursor.take_rest();
            *of(&mut self.is_encrypted, side) = true;
            self.ciphertext(cx);
            return Ok(());
        }
        let left = cursor.len();
        let cut = |what: &str, need: usize| format!("out_of_bound: {what}: {need} > {left}");
        let Some(head) = cursor.sub(HEAD_LEN) else { return Err(cut("SSLRecord", HEAD_LEN)) };
        let mut head = head;
        let kind = Kind(head.u8().unwrap_or_default().into());
        let version = head.be16().unwrap_or_default();
        let epoch = head.be16().unwrap_or_default();
        let sequence = head.array::<6>().unwrap_or_default();
        let sequence = sequence.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        let len = usize::from(head.be16().unwrap_or_default());
        if !self.is_version(version, cx) {
            cursor.take_rest();
            return Ok(());
        }
        let body = cursor.take(len).ok_or_else(|| cut("SSLRecord:rec", len))?;
        if body.is_empty() {
            return Ok(());
        }
        if epoch != 0 {
            self.ciphertext(cx);
            return Ok(());
        }
        self.plaintext(side, kind, sequence, body, cx)
    }

    /// Whether a record is of DTLS. Others are passed over, with patience once it was
    /// recognised.
    fn is_version(&mut self, version: u16, cx: &mut Cx<'_>) -> bool {
        if is_dtls(version) {
            if self.handshake.is_confirmed {
                self.version_errors = 0;
            }
            return true;
        }
        self.version_errors += 1;
        if self.handshake.is_confirmed && !std::mem::replace(&mut self.is_version_error_told, true)
        {
            let reason =
                format!("Invalid version in DTLS connection. Packet reported version: {version}");
            violation(reason, &mut self.session, cx);
        }
        self.is_over = self.is_over || self.version_errors > VERSION_ERRORS_MAX;
        false
    }

    fn plaintext(
        &mut self,
        side: Side,
        kind: Kind,
        sequence: u64,
        body: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let is_client = self.handshake.is_client(side);
        let is_tls13 = self.handshake.chosen.is_tls13();
        match kind {
            Kind::CHANGE_CIPHER_SPEC => {
                for _ in body {
                    *of(&mut self.is_encrypted, side) |= !is_tls13;
                    self.session.change_cipher_spec(is_client, cx);
                }
            }
            Kind::ALERT => record::alerts(body, is_tls13, is_client, &mut self.session, cx)?,
            Kind::HANDSHAKE => self.fragment(side, sequence, body, cx)?,
            Kind::APPLICATION => {}
            Kind::HEARTBEAT => record::heartbeat(body, is_client, &mut self.session, cx)?,
            Kind(kind) => {
                let sender = sender_name(side);
                let reason = format!("unknown SSL record type ({kind}) from {sender}");
                violation(reason, &mut self.session, cx);
            }
        }
        self.session.plaintext(kind == Kind::APPLICATION, cx);
        Ok(())
    }

    fn ciphertext(&mut self, cx: &mut Cx<'_>) {
        if self.is_encrypted == [true; 2] && !self.is_established {
            self.is_established = true;
            self.session.established(cx);
        }
    }

    /// A message or a piece of one (RFC 6347 section 4.2.3).
    fn fragment(
        &mut self,
        side: Side,
        sequence: u64,
        body: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let cut = || format!("out_of_bound: Handshake: 12 > {}", body.len());
        let mut cursor = Cursor::new(body);
        let kind = cursor.u8().ok_or_else(cut)?;
        let number = |cursor: &mut Cursor<'_>| cursor.be24().map(|n| n as usize).ok_or_else(cut);
        let len = number(&mut cursor)?;
        let message = cursor.be16().ok_or_else(cut)?;
        let (offset, fragment_len) = (number(&mut cursor)?, number(&mut cursor)?);
        let bytes = cursor.take_rest();
        let whole = if offset == 0 && len == fragment_len {
            bytes
        } else {
            if len > MESSAGE_BYTES_MAX {
                let reason = format!("DTLS record length {len} larger than allowed maximum.");
                violation(reason, &mut self.session, cx);
                return Ok(());
            }
            let piece = Piece { message, len, offset, fragment_len, sequence, bytes };
            match of(&mut self.fragments, side).add(&piece) {
                Ok(false) => return Ok(()),
                Ok(true) => &std::mem::take(&mut of(&mut self.fragments, side).bytes),
                Err(reason) => {
                    violation(reason.to_owned(), &mut self.session, cx);
                    return Ok(());
                }
            }
        };
        // As TLS would carry it.
        let [_, a, b, c] = u32::try_from(len).unwrap_or_default().to_be_bytes();
        let message = [&[kind, a, b, c], whole].concat();
        self.handshake.deliver(side, &message, &mut self.session, cx);
        Ok(())
    }
}

/// A fragment.
struct Piece<'a> {
    message: u16,
    len: usize,
    offset: usize,
    fragment_len: usize,
    /// Number of its record.
    sequence: u64,
    bytes: &'a [u8],
}

impl Fragments {
    /// Puts a piece where it belongs. True when the message is whole; its bytes may be taken.
    fn add(&mut self, piece: &Piece<'_>) -> Result<bool, &'static str> {
        let sequence = piece.sequence;
        if self.message != Some((piece.message, piece.len)) || self.bytes.len() != piece.len {
            *self = Self {
                message: Some((piece.message, piece.len)),
                bytes: vec![0; piece.len],
                first: sequence,
                ..Self::default()
            };
        }
        if self.first.abs_diff(sequence) >= FRAGMENTS_MAX {
            return Err("DTLS handshake fragment sequence number outside reassembly window.");
        }
        if self.first > sequence {
            if self.is_first_seen {
                return Err("Saw second and different first message fragment for handshake.");
            }
            let by = u32::try_from(self.first - sequence).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(by).unwrap_or_default();
            self.first = sequence;
        }
        self.is_first_seen |= piece.offset == 0;
        let bit = 1_u32 << (sequence - self.first);
        if self.seen & bit != 0 {
            return Ok(false);
        }
        if piece.bytes.len() != piece.fragment_len {
            return Err("DTLS handshake record length does not match packet length");
        }
        let end = piece.offset + piece.fragment_len;
        let Some(place) = self.bytes.get_mut(piece.offset..end) else {
            return Err("DTLS handshake fragment trying to write past end of buffer");
        };
        place.copy_from_slice(piece.bytes);
        self.seen |= bit;
        if end == piece.len {
            self.last = sequence;
        }
        if self.last == 0 || !self.is_first_seen || self.last < self.first {
            return Ok(false);
        }
        let total = self.last - self.first;
        if total > 30 {
            return Err("DTLS Message fragmented over more than 30 pieces. Cannot reassemble.");
        }
        let wanted = (1_u64 << (total + 1)) - 1;
        Ok(u64::from(self.seen) & wanted == wanted)
    }
}
