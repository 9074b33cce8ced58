//! Kerberos (RFC 4120) over UDP, over TCP with a length in front (section 7.2.2), and as a
//! token of SPNEGO: who asked which ticket of whom, and what came of it, to `kerberos.log`.

pub mod log;
mod names;
pub mod parser;
mod preauth;
pub mod session;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use tyto_core::net::{Proto, Side};

use self::parser::Message;
use super::detect::{First, Match};
use super::windows::frames::{Frames, Length};
use super::windows::reader::{Fault, Reader};
use super::{Analyzer, Cx, Spec};

/// Bytes of one message over TCP that are kept. Tickets with much authorization data have some
/// ten thousand.
const MESSAGE_MAX: usize = 1 << 20;

/// Kerberos in datagrams, and inside of others.
pub static SPEC: Spec = Spec {
    name: "KRB",
    ports: &[(Proto::Udp, 88)],
    tcp_probe: None,
    udp_probe: Some(|first| either(first, 0)),
    begin: |_| Box::new(Krb),
};

/// Kerberos in a byte stream.
pub static TCP_SPEC: Spec = Spec {
    name: "KRB_TCP",
    ports: &[(Proto::Tcp, 88)],
    tcp_probe: Some(|first| either(first, 4)),
    udp_probe: None,
    begin: |_| Box::new(KrbTcp::default()),
};

#[derive(Debug)]
struct Krb;

impl Analyzer for Krb {
    fn deliver(&mut self, _side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if let Err(fault) = message(bytes, cx) {
            cx.violation(fault.to_string(), &[]);
        }
    }

    fn end(&mut self, _cx: &mut Cx<'_>) {}
}

#[derive(Debug, Default)]
struct KrbTcp {
    frames: [Frames; 2],
    had_gap: bool,
}

impl Analyzer for KrbTcp {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if self.had_gap || cx.is_partial {
            return;
        }
        let [orig, resp] = &mut self.frames;
        let frames = if side == Side::Orig { orig } else { resp };
        let fed = frames.feed(bytes, MESSAGE_MAX, framed, |frame| {
            message(frame.get(4..).unwrap_or_default(), cx)
        });
        if let Err(fault) = fed {
            cx.violation(fault.to_string(), &[]);
        }
    }

    fn gap(&mut self, _side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {
        self.had_gap = true;
        self.frames = Default::default();
    }

    fn flipped(&mut self) {
        self.frames.swap(0, 1);
    }

    fn end(&mut self, _cx: &mut Cx<'_>) {}
}

fn framed(bytes: &[u8]) -> Result<Length, Fault> {
    let Some((len, _)) = bytes.split_first_chunk() else { return Ok(Length::Unknown) };
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    Ok(Length::Known(len.saturating_add(4)))
}

fn message(bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Fault> {
    let oversize = Cell::new(0);
    let reader = Reader::big(bytes).telling(&oversize);
    let parsed = parser::message(reader, |message: Message<'_>| {
        cx.confirm();
        session::message(&message, cx);
    });
    cx.tell_oversize(&oversize);
    parsed
}

/// Zeek's signatures: tag of a message, a sequence, and the version behind it, on either side.
fn either(first: &First<'_>, skip: usize) -> Match {
    let sides = [first.orig, first.resp].map(|bytes| shows(bytes, skip));
    if sides.contains(&Match::Yes) {
        Match::Yes
    } else if sides.contains(&Match::Later) {
        Match::Later
    } else {
        Match::No
    }
}

/// `(tag).{1,4}\x30.{1,4}` and the version: the lengths have one to four bytes.
fn shows(bytes: &[u8], skip: usize) -> Match {
    const REQUEST: [u8; 8] = [0xa1, 3, 2, 1, 5, 0xa2, 3, 2];
    const REPLY: [u8; 8] = [0xa0, 3, 2, 1, 5, 0xa1, 3, 2];
    let Some(&tag) = bytes.get(skip) else { return Match::Later };
    let version = match tag {
        0x6a | 0x6c => REQUEST,
        0x6b | 0x6d | 0x7e => REPLY,
        _ => return Match::No,
    };
    let is_version = |at: usize| {
        bytes.get(at..).is_some_and(|rest| {
            rest.strip_prefix(&version).is_some_and(|rest| rest.first() == Some(&1))
        })
    };
    for outer in 1..=4 {
        let sequence = skip + 1 + outer;
        if bytes.get(sequence) == Some(&0x30)
            && (1..=4).any(|inner| is_version(sequence + 1 + inner))
        {
            return Match::Yes;
        }
    }
    let longest = skip + 1 + 4 + 1 + 4 + version.len() + 1;
    if bytes.len() < longest { Match::Later } else { Match::No }
}
