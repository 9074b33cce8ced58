//! XMPP (RFC 6120): recognised by the stream's begin; after STARTTLS the connection goes on as
//! TLS.

#[cfg(test)]
mod tests;
mod token;

use tyto_core::net::{Proto, Side};

use self::token::{Next, next};
use super::stage::Stage;
use super::{Analyzer, Cx, First, Match, Spec, spec};

/// Bytes of a tag that are waited for.
const TAG_LEN_MAX: usize = 64 * 1024;

/// XMPP.
pub static SPEC: Spec = Spec {
    name: "XMPP",
    ports: &[(Proto::Tcp, 5222), (Proto::Tcp, 5269)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Xmpp::default()),
};

/// Either side opens a stream of one of XMPP's name spaces.
fn probe(first: &First<'_>) -> Match {
    let opens = |bytes: &[u8]| {
        let rest = match bytes.strip_prefix(b"<?xml") {
            Some(rest) => {
                let end = rest.iter().position(|byte| matches!(byte, b'?' | b'>'));
                let rest = end.and_then(|end| rest.get(end..)).unwrap_or_default();
                rest.strip_prefix(b"?>").unwrap_or_default()
            }
            None => bytes,
        };
        let blanks = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r' | b' ')).count();
        let rest = rest.get(blanks..).unwrap_or_default();
        let Some(rest) = rest.strip_prefix(b"<stream:stream ") else { return false };
        let attributes = rest.split(|byte| *byte == b'>').next().unwrap_or_default();
        attributes.windows(14).any(|part| part == b"xmlns='jabber:")
    };
    if opens(first.orig) || opens(first.resp) {
        return Match::Yes;
    }
    let may_be = |bytes: &[u8]| matches!(bytes.first(), None | Some(b'<' | b'\n' | b'\r' | b' '));
    if may_be(first.orig) || may_be(first.resp) { Match::Later } else { Match::No }
}

#[derive(Debug, Default)]
struct Xmpp {
    kept: [Vec<u8>; 2],
    wants_tls: bool,
    is_skipped: bool,
    tls: Option<Stage>,
}

impl Xmpp {
    fn tag(&mut self, side: Side, name: &[u8], cx: &mut Cx<'_>) {
        let local = match name.iter().position(|byte| *byte == b':') {
            Some(colon) if name.len() > colon + 1 => name.get(colon + 1..).unwrap_or_default(),
            _ => name,
        };
        match (side, name, local) {
            (Side::Orig, b"stream:stream", _) => cx.confirm(),
            // Past the point where TLS could begin.
            (_, b"success" | b"message" | b"db:result" | b"db:verify" | b"presence", _) => {
                self.is_skipped = true;
            }
            (Side::Orig, _, b"starttls") => self.wants_tls = true,
            (Side::Resp, _, b"proceed") if self.wants_tls => {
                self.tls = spec("SSL").map(|ssl| Stage::of(ssl, cx));
            }
            (Side::Resp, b"proceed", _) => cx.weird("XMPP: proceed without starttls"),
            _ => {}
        }
    }
}

impl Analyzer for Xmpp {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            return tls.deliver(side, bytes, cx);
        }
        if cx.is_partial || self.is_skipped {
            return;
        }
        let Some(slot) = self.kept.get_mut(side.index()) else { return };
        let mut kept = std::mem::take(slot);
        kept.extend_from_slice(bytes);
        let mut rest = &kept[..];
        while self.tls.is_none() && !self.is_skipped {
            match next(rest) {
                Next::Tag { name, behind } => {
                    self.tag(side, name, cx);
                    rest = behind;
                }
                Next::Later => break,
                Next::Wrong => {
                    self.is_skipped = true;
                    cx.violation("Binpac exception: binpac exception: string mismatch", &[]);
                }
            }
        }
        if self.is_skipped || self.tls.is_some() {
            return;
        }
        if rest.len() > TAG_LEN_MAX {
            self.is_skipped = true;
            return;
        }
        let rest = rest.to_vec();
        if let Some(slot) = self.kept.get_mut(side.index()) {
            *slot = rest;
        }
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        match &mut self.tls {
            Some(tls) => tls.gap(side, missed_bytes, cx),
            None => self.is_skipped = true,
        }
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

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.end(cx);
        }
    }
}
