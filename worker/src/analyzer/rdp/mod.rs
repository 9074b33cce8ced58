//! RDP (`[MS-RDPBCGR]`): how a session begins, until it is encrypted. With TLS or `CredSSP` the
//! connection goes on as TLS.

mod keyboard;
mod log;
mod pdu;
#[cfg(test)]
mod tests;
pub mod udp;

use std::sync::LazyLock;

use memchr::memmem;
use tyto_core::net::{Proto, Side};
use tyto_core::record::value::Vector;

use self::log::RdpLog;
use self::pdu::{Core, Said};
use super::bytes::Cursor;
use super::stage::Stage;
use super::{Analyzer, Cx, First, Match, Spec, spec};
use crate::file::FileAbout;

/// A session is logged when it is older than this, seconds (Zeek: `rdp_check_interval`).
const CHECK_INTERVAL_S: u64 = 10;
/// Channels that a client may ask for.
const CHANNELS_MAX: usize = 31;

/// RDP.
pub static SPEC: Spec = Spec {
    name: "RDP",
    ports: &[(Proto::Tcp, 3389)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Rdp::default()),
};

/// What stands before a server's data blocks (T.124), made ready once: all TCP is asked for it.
static SERVER_BLOCKS: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(b"McDn"));

/// A client's first request or its data blocks, and a server's answer.
fn probe(first: &First<'_>) -> Match {
    if first.orig.is_empty() || first.resp.is_empty() {
        return Match::Later;
    }
    let has = |bytes: &[u8], part: &[u8]| memmem::find(bytes, part).is_some();
    let is_client = |bytes: &[u8]| {
        let channels: [&[u8]; 4] = [b"rdpdr", b"rdpsnd", b"drdynvc", b"cliprdr"];
        let behind = memmem::find(bytes, b"Duca").and_then(|at| bytes.get(at..));
        has(bytes, b"Cookie: mstshash=")
            || behind.is_some_and(|rest| channels.iter().any(|channel| has(rest, channel)))
    };
    let is_server =
        |bytes: &[u8]| bytes.get(5) == Some(&0xd0) || SERVER_BLOCKS.find(bytes).is_some();
    // A server's answer is quickly told.
    let found = is_server(first.resp) && is_client(first.orig)
        || is_server(first.orig) && is_client(first.resp);
    if found { Match::Yes } else { Match::Later }
}

#[derive(Debug, Default)]
struct Rdp {
    kept: [Vec<u8>; 2],
    has_gap: bool,
    is_encrypted: bool,
    tls: Option<Stage>,
    row: Option<RdpLog>,
    is_logged: bool,
}

impl Rdp {
    fn row(&mut self, cx: &mut Cx<'_>) -> &mut RdpLog {
        self.row.get_or_insert_with(|| {
            cx.wake_at(cx.now.plus_secs(CHECK_INTERVAL_S));
            RdpLog {
                ts: cx.now,
                uid: cx.uid(),
                id: cx.id(),
                cookie: None,
                result: None,
                security_protocol: None,
                client_channels: None,
                keyboard_layout: None,
                client_build: None,
                client_name: None,
                client_dig_product_id: None,
                desktop_width: None,
                desktop_height: None,
                requested_color_depth: None,
                cert_type: None,
                cert_count: 0,
                cert_permanent: None,
                encryption_level: None,
                encryption_method: None,
            }
        })
    }

    fn said(&mut self, said: Said, cx: &mut Cx<'_>) {
        match said {
            Said::Cookie(cookie) => self.row(cx).cookie = Some(cookie),
            Said::Negotiated(protocol) => {
                self.row(cx).security_protocol = Some(log::security_protocol(protocol));
                if protocol > 0 {
                    self.encrypted(protocol, cx);
                    self.tls = spec("SSL").map(|ssl| Stage::of(ssl, cx));
                }
            }
            Said::Refused(code) => self.row(cx).result = Some(log::failure_code(code)),
            Said::ClientCore(core) => self.client(core, cx),
            Said::Channels(names) => {
                let count = names.len();
                self.row(cx).client_channels = Some(Vector(names));
                if count > CHANNELS_MAX {
                    cx.weird_with("RDP_channels_requested_exceeds_max", &count.to_string());
                }
            }
            Said::CreateResponse(result) => {
                cx.confirm();
                self.row(cx).result = Some(log::result(result.into()));
            }
            Said::Security { method, level } => {
                cx.confirm();
                let row = self.row(cx);
                row.encryption_method = Some(log::encryption_method(method));
                row.encryption_level = Some(log::encryption_level(level));
                if method > 0 && level > 0 {
                    self.encrypted(0, cx);
                }
            }
            Said::Certificate { kind, is_permanent, der } => {
                for cert in &der {
                    self.certificate(cert, cx);
                }
                let row = self.row(cx);
                row.cert_type = Some(log::cert_type(kind));
                row.cert_permanent = Some(is_permanent);
                row.cert_count += if kind == 1 { 1 } else { der.len() as u64 };
            }
        }
    }

    fn client(&mut self, core: Core, cx: &mut Cx<'_>) {
        /// The client wants 32 bits per pixel.
        const WANTS_32_BITS: u16 = 0x02;
        cx.confirm();
        let row = self.row(cx);
        row.keyboard_layout = Some(keyboard::name(core.keyboard));
        row.client_build = Some(log::client_build(core.build));
        row.client_name = Some(core.name);
        row.client_dig_product_id = Some(core.product_id);
        row.desktop_width = Some(core.width.into());
        row.desktop_height = Some(core.height.into());
        row.requested_color_depth = Some(if core.early_capabilities & WANTS_32_BITS != 0 {
            "32bit".to_owned()
        } else {
            log::color_depth(core.color_depth.into())
        });
    }

    fn encrypted(&mut self, protocol: u32, cx: &mut Cx<'_>) {
        self.is_encrypted = true;
        let row = self.row(cx);
        row.result.get_or_insert_with(|| "encrypted".to_owned());
        row.security_protocol = Some(log::security_protocol(protocol));
    }

    fn certificate(&self, der: &[u8], cx: &mut Cx<'_>) {
        let mut handle = b"RDP".to_vec();
        handle.extend_from_slice(&cx.conn.serial.to_be_bytes());
        let mime_type = Some("application/x-x509-user-cert");
        let about = FileAbout { mime_type, ..FileAbout::default() };
        let file = cx.file_open(Side::Resp, &handle, &about);
        cx.file_bytes(file, der);
        cx.file_end(file);
    }

    /// Writes the row, if there is RDP in it.
    fn write(&mut self, cx: &mut Cx<'_>) {
        let Some(row) = &self.row else { return };
        let is_rdp = row.cookie.is_some() || row.keyboard_layout.is_some() || row.result.is_some();
        if !std::mem::replace(&mut self.is_logged, true) && is_rdp {
            cx.row(row);
        }
    }

    fn read(&mut self, kept: &[u8], cx: &mut Cx<'_>) -> usize {
        let mut cursor = Cursor::new(kept);
        let mut read = 0;
        while !self.is_encrypted
            && let Some(pdu) = next_pdu(&mut cursor)
        {
            read = cursor.position();
            let mut said = Vec::new();
            let is_whole = pdu.and_then(|body| pdu::read(body, &mut said)).is_some();
            for said in said {
                self.said(said, cx);
            }
            if !is_whole {
                cx.violation("Binpac exception: binpac exception: out_of_bound: TPKT", &[]);
                self.write(cx);
                return kept.len();
            }
        }
        read
    }
}

/// The body of the next TPKT (RFC 1006 section 6): none when it is not whole, and none in it
/// when its length is wrong.
fn next_pdu<'a>(cursor: &mut Cursor<'a>) -> Option<Option<&'a [u8]>> {
    const HEADER_LEN: usize = 4;
    let mut ahead = Cursor::new(cursor.rest());
    ahead.skip(2)?;
    let len = usize::from(ahead.be16()?);
    if len <= HEADER_LEN {
        cursor.take_rest();
        return Some(None);
    }
    let pdu = cursor.take(len)?;
    Some(pdu.get(HEADER_LEN..))
}

impl Analyzer for Rdp {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if cx.is_partial || self.has_gap {
            return;
        }
        if self.is_encrypted {
            if let Some(tls) = &mut self.tls {
                tls.deliver(side, bytes, cx);
            }
            return;
        }
        // A PDU has 64 KB at most: no more is kept.
        let Some(slot) = self.kept.get_mut(side.index()) else { return };
        let mut kept = std::mem::take(slot);
        kept.extend_from_slice(bytes);
        let read = self.read(&kept, cx);
        kept.drain(..read.min(kept.len()));
        if let Some(tls) = &mut self.tls {
            if !kept.is_empty() {
                tls.deliver(side, &kept, cx);
            }
        } else if let Some(slot) = self.kept.get_mut(side.index()) {
            *slot = kept;
        }
    }

    fn gap(&mut self, _side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {
        self.has_gap = true;
    }

    fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.end_of_side(side, cx);
        }
    }

    fn flipped(&mut self) {
        self.kept.swap(0, 1);
        if let Some(tls) = &mut self.tls {
            tls.flipped();
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.wake(cx);
        }
        let Some(row) = &self.row else { return };
        if self.is_logged {
            return;
        }
        let due = row.ts.plus_secs(CHECK_INTERVAL_S);
        if cx.now > due {
            self.write(cx);
        } else if cx.now == due {
            cx.wake_at(cx.now.plus_secs(CHECK_INTERVAL_S));
        } else {
            cx.wake_at(due);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.end(cx);
        }
        self.write(cx);
    }
}
