//! QUIC (RFC 9000, RFC 9369 and drafts). Datagrams in, the row of quic.log out; the hellos of
//! TLS, which first packets carry under keys that everybody can derive, go to the SSL analyzer.

mod frames;
pub mod log;
mod protection;
#[cfg(test)]
mod tests;
mod version;

use tyto_core::net::{Proto, Side};
use tyto_core::time::Ts;

use frames::{CryptoStream, Frame, varint};
use log::QuicLog;
use protection::Keys;
use version::{PacketType, Version};

use super::bytes::Cursor;
use super::stage::Stage;
use super::text::hex;
use super::{Analyzer, Cx, First, Match, Spec};
use crate::log::weird::Weird;
use crate::tls::message::{self, Chosen, Event};

/// QUIC.
pub static SPEC: Spec = Spec {
    name: "QUIC",
    ports: &[(Proto::Udp, 443), (Proto::Udp, 853), (Proto::Udp, 784)],
    tcp_probe: None,
    udp_probe: Some(probe),
    begin: |_| Box::<Quic>::default(),
};

/// Letters of the history (Zeek: `QUIC::max_history_length`).
const HISTORY_MAX: usize = 100;
/// Packets that are no QUIC which have a letter (Zeek: `QUIC::max_discarded_packet_events`).
const DISCARDED_MAX: u64 = 100;
/// Bytes of a packet at most that is opened; jumbo frames fit.
const PACKET_BYTES_MAX: usize = 10_000;
/// Bytes that a packet has at least behind its length: a number and a sample (RFC 9001 section
/// 5.4.2).
const PROTECTED_BYTES_MIN: usize = 20;

/// A first packet of version 1 or 2 from either side (Zeek: `dpd_quic_initial`,
/// `dpd_quic_v2_initial`).
fn probe(first: &First<'_>) -> Match {
    let is_initial = |bytes: &[u8]| {
        matches!(bytes, [0xC0..=0xCF, 0, 0, 0, 1, ..] | [0xD0..=0xDF, 0x6B, 0x33, 0x43, 0xCF, ..])
    };
    if is_initial(first.orig) || is_initial(first.resp) { Match::Yes } else { Match::Later }
}

/// QUIC on one flow.
#[derive(Debug, Default)]
struct Quic {
    row: Option<Row>,
    /// Where the hellos go.
    tls: Option<Stage>,
    /// By which name the first packets are protected.
    initial_dcid: Option<Vec<u8>>,
    /// Keys by side, with the version that they are for; until the side's message is whole.
    keys: [Option<Box<(Version, Keys)>>; 2],
    crypto: [CryptoStream; 2],
    /// Length of the connection's name at the client, with which short headers begin.
    client_cid_len: usize,
    opened: u64,
    discarded: u64,
    /// Packets with a short header by side, and the next number of them that has a letter.
    short: [(u64, u64); 2],
}

/// The row as far as it is known.
#[derive(Debug)]
struct Row {
    begun: Ts,
    version: u32,
    client_initial_dcid: Option<String>,
    client_scid: Option<String>,
    server_scid: Option<String>,
    server_name: Option<Vec<u8>>,
    client_protocol: Option<Vec<u8>>,
    history: String,
}

/// A long header (RFC 9000 section 17.2).
#[derive(Clone, Copy, Debug)]
struct LongHeader<'a> {
    first: u8,
    version: u32,
    dcid: &'a [u8],
    scid: &'a [u8],
}

impl Analyzer for Quic {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if self.tls.is_none() {
            self.tls = super::spec("SSL").map(|ssl| Stage::of(ssl, cx));
        }
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            if let Err(reason) = self.packet(side, &mut cursor, cx) {
                cx.violation(reason, &[]);
                break;
            }
        }
    }

    fn flipped(&mut self) {
        self.keys.swap(0, 1);
        self.crypto.swap(0, 1);
        self.short.swap(0, 1);
        if let Some(tls) = &mut self.tls {
            tls.flipped();
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(mut tls) = self.tls.take() {
            tls.end(cx);
        }
        self.write(cx);
    }
}

impl Quic {
    /// One packet of a datagram.
    fn packet(
        &mut self,
        side: Side,
        cursor: &mut Cursor<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let first = cursor.peek().unwrap_or_default();
        if first & 0x40 == 0 {
            cursor.take_rest();
            self.discarded(side, cx);
            return Ok(());
        }
        if first & 0x80 == 0 {
            let rest = cursor.take_rest();
            return self.short_packet(side, rest, cx);
        }
        let start = *cursor;
        let header = LongHeader::read(cursor).ok_or("not enough data for a long header")?;
        let Some(version) = Version::of(header.version) else {
            self.begin_if_new(&header, side, cx);
            self.letter(b'u', side, cx);
            self.write(cx);
            return Err(format!("unhandled QUIC version {:#x}", header.version));
        };
        match version.packet_type(header.first) {
            PacketType::Initial => self.initial(side, version, &header, (start, cursor), cx)?,
            PacketType::ZeroRtt => {
                protected(cursor).ok_or("not enough data for a 0-RTT packet")?;
                self.begin(&header, side, cx);
                self.letter(b'z', side, cx);
            }
            PacketType::Handshake => {
                protected(cursor).ok_or("not enough data for a handshake packet")?;
                self.begin(&header, side, cx);
                self.letter(b'h', side, cx);
            }
            PacketType::Retry => {
                cursor.take_rest();
                self.begin_if_new(&header, side, cx);
                self.letter(b'r', side, cx);
                self.write(cx);
                // The client begins anew, under another name.
                self.initial_dcid = None;
                self.keys = [None, None];
                self.crypto = Default::default();
            }
        }
        Ok(())
    }

    fn initial<'a>(
        &mut self,
        side: Side,
        version: Version,
        header: &LongHeader<'_>,
        (start, cursor): (Cursor<'a>, &mut Cursor<'a>),
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let cut = "not enough data for an initial packet";
        let token_len = varint(cursor).and_then(|len| usize::try_from(len).ok()).ok_or(cut)?;
        cursor.skip(token_len).ok_or(cut)?;
        let mut ahead = *cursor;
        varint(&mut ahead).ok_or(cut)?;
        let number_at = ahead.position() - start.position();
        let protected_len = protected(cursor).ok_or(cut)?;
        if protected_len < PROTECTED_BYTES_MIN {
            return Err("initial packet too small".to_owned());
        }
        self.begin(header, side, cx);
        self.letter(b'i', side, cx);
        let is_client = side == Side::Orig;
        let is_finished = self.crypto.get(side.index()).is_some_and(|crypto| crypto.is_finished);
        if is_finished || !is_client && self.initial_dcid.is_none() {
            return Ok(());
        }
        self.client_cid_len = if is_client { header.scid.len() } else { header.dcid.len() };
        let packet = start.rest().get(..cursor.position() - start.position()).unwrap_or_default();
        let frames = self.open(side, version, header.dcid, packet, number_at);
        let Some(frames) = frames.filter(|frames| !frames.is_empty()) else {
            return Err("decryption failed".to_owned());
        };
        cx.confirm();
        // It was recognised before the TLS that it carries: that is the order of services.
        cx.conn.services.add(SPEC.name);
        self.opened += 1;
        let result = self.frames(side, &frames, cx);
        self.forget_finished(side);
        result
    }

    /// First packets of a side whose message is whole are not opened any more, and the flow may
    /// stay for minutes: what opened them and what came of them does not.
    fn forget_finished(&mut self, side: Side) {
        if let Some(crypto) = self.crypto.get_mut(side.index())
            && crypto.is_finished
        {
            crypto.forget();
            if let Some(keys) = self.keys.get_mut(side.index()) {
                *keys = None;
            }
        }
    }

    fn open(
        &mut self,
        side: Side,
        version: Version,
        dcid: &[u8],
        packet: &[u8],
        number_at: usize,
    ) -> Option<Vec<u8>> {
        if packet.len() > PACKET_BYTES_MAX {
            return None;
        }
        let name = self.initial_dcid.get_or_insert_with(|| dcid.to_vec());
        let slot = self.keys.get_mut(side.index())?;
        if slot.as_ref().is_none_or(|keys| keys.0 != version) {
            *slot = Some(Box::new((version, Keys::derive(version, name, side == Side::Orig)?)));
        }
        slot.as_ref()?.1.open(packet, number_at)
    }

    fn frames(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), String> {
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            match frames::read(&mut cursor)? {
                Frame::Crypto { offset, bytes } => {
                    let Some(crypto) = self.crypto.get_mut(side.index()) else { continue };
                    if let Some(message) = crypto.add(offset, bytes)? {
                        self.hello(side, &message, cx);
                    }
                }
                Frame::ConnectionClose => {
                    if self.row.is_some() {
                        self.letter(b'c', side, cx);
                        self.write(cx);
                    }
                }
                Frame::Other => {}
            }
        }
        Ok(())
    }

    /// The first message of a side: for the row, and for the SSL analyzer, in a record.
    fn hello(&mut self, side: Side, message: &[u8], cx: &mut Cx<'_>) {
        let mut cursor = Cursor::new(message);
        let kind = cursor.u8().unwrap_or_default();
        let body = message.get(4..).unwrap_or_default();
        let mut offers = None;
        if let Some(row) = &mut self.row {
            let mut hello = None;
            // What is wrong with it, the SSL analyzer tells.
            let read = Chosen::default().read(kind, body, &mut |event| match event {
                Event::ServerNames(names) if kind == message::kind::CLIENT_HELLO => {
                    row.server_name = names.first().map(|name| name.to_vec());
                }
                Event::Alpn(protocols) if kind == message::kind::CLIENT_HELLO => {
                    row.client_protocol = protocols.first().map(|name| name.to_vec());
                    offers = (protocols.len() > 1).then(|| message::vector_text(&protocols));
                }
                Event::ClientHello(_) => hello = Some(Side::Orig),
                Event::ServerHello(_) => hello = Some(Side::Resp),
                _ => {}
            });
            if read.is_err() {
                hello = None;
            }
            if let Some(offers) = offers {
                let weird = Weird::new("QUIC_many_protocols");
                cx.shared.weird(cx.now, cx.conn, &weird.with(&offers), cx.out);
            }
            if let Some(sender) = hello {
                self.letter(b's', sender, cx);
            }
        }
        let [len_high, len_low] = u16::try_from(message.len()).unwrap_or_default().to_be_bytes();
        let record = [&[0x16, 3, 3, len_high, len_low], message].concat();
        if let Some(tls) = &mut self.tls {
            tls.deliver(side, &record, cx);
        }
    }

    fn short_packet(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), String> {
        if bytes.len() < 1 + self.client_cid_len {
            return Err("not enough data for a short header".to_owned());
        }
        let Some((total, next)) = self.short.get_mut(side.index()) else { return Ok(()) };
        *total += 1;
        // Zeek begins with the first and doubles.
        if *total != (*next).max(1) {
            return Ok(());
        }
        *next = 2 * *total;
        let total = *total;
        if self.row.is_some() {
            self.letter(b'o', side, cx);
        } else {
            let weird = Weird::new("QUIC_spurious_short_header_packet_threshold_crossed");
            cx.shared.weird(cx.now, cx.conn, &weird.with(&total.to_string()), cx.out);
        }
        Ok(())
    }

    /// Something came that is no QUIC.
    fn discarded(&mut self, side: Side, cx: &mut Cx<'_>) {
        self.discarded += 1;
        if self.opened == 0 || self.discarded > DISCARDED_MAX {
            return;
        }
        if self.row.is_some() {
            self.letter(b'x', side, cx);
        } else {
            let weird = Weird::new("QUIC_spurious_discarded_packet");
            cx.shared.weird(cx.now, cx.conn, &weird, cx.out);
        }
    }

    fn begin_if_new(&mut self, header: &LongHeader<'_>, side: Side, cx: &Cx<'_>) {
        if self.row.is_none() {
            self.begin(header, side, cx);
        }
    }

    /// A packet with a long header: the row begins, and the names are those of the latest.
    fn begin(&mut self, header: &LongHeader<'_>, side: Side, cx: &Cx<'_>) {
        let row = self.row.get_or_insert_with(|| Row {
            begun: cx.now,
            version: header.version,
            client_initial_dcid: None,
            client_scid: None,
            server_scid: None,
            server_name: None,
            client_protocol: None,
            history: String::new(),
        });
        let scid = Some(hex(header.scid));
        match side {
            Side::Orig => {
                if !header.dcid.is_empty() {
                    row.client_initial_dcid.get_or_insert_with(|| hex(header.dcid));
                }
                row.client_scid = scid;
            }
            Side::Resp => row.server_scid = scid,
        }
    }

    fn letter(&mut self, letter: u8, side: Side, cx: &mut Cx<'_>) {
        let Some(row) = self.row.as_mut().filter(|row| row.history.len() < HISTORY_MAX) else {
            return;
        };
        let letter = if side == Side::Orig { letter.to_ascii_uppercase() } else { letter };
        row.history.push(letter.into());
        if row.history.len() == HISTORY_MAX {
            let weird = Weird::new("QUIC_max_history_length_reached");
            cx.shared.weird(cx.now, cx.conn, &weird, cx.out);
        }
    }

    fn write(&mut self, cx: &mut Cx<'_>) {
        let Some(row) = self.row.take() else { return };
        let row = QuicLog {
            ts: row.begun,
            uid: cx.uid(),
            id: cx.id(),
            version: version::name(row.version).into_owned(),
            client_initial_dcid: row.client_initial_dcid,
            client_scid: row.client_scid,
            server_scid: row.server_scid,
            server_name: row.server_name,
            client_protocol: row.client_protocol,
            history: row.history,
        };
        cx.row(&row);
    }
}

impl<'a> LongHeader<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        let first = cursor.u8()?;
        let version = cursor.be32()?;
        let len = cursor.u8()?;
        let dcid = cursor.take(len.into())?;
        let len = cursor.u8()?;
        let scid = cursor.take(len.into())?;
        Some(Self { first, version, dcid, scid })
    }
}

/// Passes over a length and as many bytes; gives their number.
fn protected(cursor: &mut Cursor<'_>) -> Option<usize> {
    let len = usize::try_from(varint(cursor)?).ok()?;
    cursor.skip(len)?;
    Some(len)
}
