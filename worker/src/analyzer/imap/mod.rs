//! IMAP (RFC 3501), as far as Zeek follows it: enough to know the protocol, and STARTTLS. Once
//! somebody logs in, nothing more is looked at.

use tyto_core::net::{Proto, Side};

use super::stage::Stage;
use super::{Analyzer, Cx, Spec, spec};

/// Bytes of a tag that are kept to know its answer by.
const TAG_BYTES_MAX: usize = 256;

/// IMAP.
pub static SPEC: Spec = Spec {
    name: "IMAP",
    ports: &[(Proto::Tcp, 143)],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| Box::new(Imap::default()),
};

#[derive(Default)]
struct Imap {
    had_gap: bool,
    /// Tag of the originator's STARTTLS.
    tls_tag: Option<Vec<u8>>,
    tls: Option<Stage>,
}

/// A line: tag, command, the rest, and what stands behind it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (tag, rest) = word(bytes)?;
    let (_, rest) = rest.strip_prefix(b" ").map(|rest| ((), blanks(rest)))?;
    let (command, rest) = word(rest)?;
    let len = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let rest = rest.get(len..)?;
    let end = rest.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
    Some((tag, command, rest.get(end..)?))
}

/// Letters, digits, punctuation; at least one.
fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = bytes.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(bytes.len());
    if len == 0 { None } else { bytes.split_at_checked(len) }
}

fn blanks(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().position(|&byte| byte != b' ').unwrap_or(bytes.len());
    bytes.get(len..).unwrap_or_default()
}

impl Imap {
    /// A line of `side`. False when nothing more of this delivery is to be looked at.
    fn command(&mut self, side: Side, tag: &[u8], command: &[u8], cx: &mut Cx<'_>) -> bool {
        let lower = command.to_ascii_lowercase();
        let is_orig = side == Side::Orig;
        if !is_orig && tag == b"*" && lower == b"ok" {
            cx.confirm();
        }
        if is_orig && (command == b"capability" || lower == b"starttls") {
            cx.confirm();
        }
        let later: [&[u8]; 6] =
            [b"authenticate", b"login", b"examine", b"create", b"list", b"fetch"];
        if later.contains(&command) {
            cx.confirm();
            cx.done();
            return false;
        }
        if is_orig && lower == b"starttls" {
            if self.tls_tag.is_some() {
                cx.weird("IMAP: client sent duplicate StartTLS");
            }
            self.tls_tag = Some(tag.get(..TAG_BYTES_MAX).unwrap_or(tag).to_vec());
        }
        if !is_orig && self.tls_tag.as_deref() == Some(tag) {
            if lower == b"ok" {
                self.tls = Some(match spec("SSL") {
                    Some(ssl) => Stage::of(ssl, cx),
                    None => Stage::detecting(Proto::Tcp),
                });
                return false;
            }
            cx.weird("IMAP: server refused StartTLS");
        }
        true
    }
}

impl Analyzer for Imap {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.deliver(side, bytes, cx);
            return;
        }
        if cx.is_partial || self.had_gap {
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((tag, command, behind)) = line(rest) else {
                // Zeek takes each delivery for whole lines, too.
                cx.violation("Binpac exception: binpac exception: string mismatch", &[]);
                return;
            };
            if !self.command(side, tag, command, cx) {
                return;
            }
            rest = behind;
        }
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        self.had_gap = true;
        if let Some(tls) = &mut self.tls {
            tls.gap(side, missed_bytes, cx);
        }
    }

    fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.end_of_side(side, cx);
        }
    }

    fn flipped(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.flipped();
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.wake(cx);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.end(cx);
        }
    }
}
