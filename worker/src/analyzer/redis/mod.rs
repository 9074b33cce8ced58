//! Redis: commands and replies in RESP 2 and 3.

mod log;
mod resp;
mod session;
#[cfg(test)]
mod tests;

use tyto_core::net::{Proto, Side};

use self::resp::{Command, Reply, Stop};
use self::session::Session;
use super::bytes::Cursor;
use super::{Analyzer, Cx, First, Match, Spec};

/// Bytes of one command or reply that are kept until it is whole.
const MESSAGE_LEN_MAX: usize = 2 * 1024 * 1024;

/// Redis.
pub static SPEC: Spec = Spec {
    name: "REDIS",
    ports: &[(Proto::Tcp, 6379)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Redis::default()),
};

/// The client sent a line, and the server a value.
fn probe(first: &First<'_>) -> Match {
    let has_line = |bytes: &[u8]| {
        memchr::memchr_iter(b'\n', bytes)
            .any(|end| bytes.get(..end).is_some_and(|line| line.ends_with(b"\r")))
    };
    let Some((kind, rest)) = first.resp.split_first() else { return Match::Later };
    let is_value = match kind {
        b'+' | b'-' | b'_' | b',' => has_line(rest),
        b':' | b'$' | b'*' | b'#' | b'(' | b'!' | b'=' | b'%' | b'`' | b'~' | b'>' => {
            let rest = rest.strip_prefix(b"+").or(rest.strip_prefix(b"-")).unwrap_or(rest);
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let mut rest = rest.get(digits..).unwrap_or_default();
            if let Some(fraction) = rest.strip_prefix(b".") {
                let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
                rest = fraction.get(digits..).unwrap_or_default();
            }
            digits > 0 && rest.starts_with(b"\r\n")
        }
        _ => return Match::No,
    };
    if is_value && has_line(first.orig) { Match::Yes } else { Match::Later }
}

/// Commands whose name says what their words are.
fn is_known(name: &[u8]) -> bool {
    const NAMES: &[&str] = &[
        "append",
        "auth",
        "bitcount",
        "bitfield",
        "bitfield_ro",
        "bitop",
        "bitpos",
        "blmpop",
        "blpop",
        "brpop",
        "client",
        "copy",
        "decr",
        "decrby",
        "del",
        "dump",
        "exists",
        "expire",
        "expireat",
        "expiretime",
        "get",
        "getbit",
        "getdel",
        "getex",
        "getrange",
        "getset",
        "hdel",
        "hello",
        "hget",
        "hset",
        "incr",
        "incrby",
        "keys",
        "mget",
        "move",
        "mset",
        "persist",
        "psubscribe",
        "punsubscribe",
        "quit",
        "rename",
        "reset",
        "set",
        "strlen",
        "ssubscribe",
        "subscribe",
        "sunsubscribe",
        "ttl",
        "type",
        "unsubscribe",
    ];
    NAMES.iter().any(|known| known.as_bytes() == name)
}

#[derive(Debug, Default)]
struct Redis {
    sides: [Held; 2],
    client_spoke: bool,
    has_failed: bool,
    session: Session,
}

/// What one side sent of a message that is not whole.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// It is not looked at before there are so many bytes.
    needed: usize,
    /// The server's value was broken: the next begins behind the next CR LF.
    is_lost: bool,
}

impl Redis {
    fn read(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<Held, Stop> {
        let mut cursor = Cursor::new(bytes);
        let mut held = Held::default();
        let mut read = 0;
        while read < bytes.len() {
            let stop = match side {
                Side::Orig => Command::read(&mut cursor)
                    .map(|command| self.session.command(&command, cx))
                    .err(),
                Side::Resp => Reply::read(&mut cursor)
                    .map(|reply| {
                        cx.confirm();
                        self.session.reply(&reply, cx);
                    })
                    .err(),
            };
            match (stop, side) {
                (None, _) => read = cursor.position(),
                (Some(Stop::Later(needed)), _) => {
                    held.needed = needed.saturating_sub(read);
                    break;
                }
                (Some(Stop::Wrong), Side::Orig) => return Err(Stop::Wrong),
                (Some(Stop::Wrong), Side::Resp) => {
                    let rest = bytes.get(read..).unwrap_or_default();
                    match rest.windows(2).position(|pair| pair == b"\r\n") {
                        Some(end) => read += end + 2,
                        None => {
                            held.is_lost = true;
                            read = bytes.len();
                        }
                    }
                    cursor = Cursor::new(bytes);
                    if cursor.skip(read).is_none() {
                        break;
                    }
                }
            }
        }
        held.bytes = bytes.get(read..).unwrap_or_default().to_vec();
        Ok(held)
    }
}

impl Analyzer for Redis {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if self.has_failed {
            return;
        }
        match side {
            Side::Orig => self.client_spoke = true,
            Side::Resp if !self.client_spoke => {
                self.has_failed = true;
                let why = "Server responses must come after a client request is seen";
                return cx.violation(why, &[]);
            }
            Side::Resp => {}
        }
        let Some(slot) = self.sides.get_mut(side.index()) else { return };
        slot.bytes.extend_from_slice(bytes);
        if slot.is_lost {
            let Some(end) = slot.bytes.windows(2).position(|pair| pair == b"\r\n") else {
                // A CR at the end may be the begin of what is looked for.
                slot.bytes.drain(..slot.bytes.len().saturating_sub(1));
                return;
            };
            slot.bytes.drain(..end + 2);
            slot.is_lost = false;
            slot.needed = 0;
        }
        if slot.bytes.len() < slot.needed && slot.bytes.len() <= MESSAGE_LEN_MAX {
            return;
        }
        let kept = std::mem::take(&mut slot.bytes);
        let result = if kept.len() > MESSAGE_LEN_MAX + bytes.len() {
            Err(Stop::Wrong)
        } else {
            self.read(side, &kept, cx)
        };
        match result {
            Ok(held) => {
                if let Some(slot) = self.sides.get_mut(side.index()) {
                    *slot = held;
                }
            }
            Err(_) => {
                self.has_failed = true;
                cx.violation("error while parsing RESP", &[]);
            }
        }
    }

    fn gap(&mut self, _side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {
        self.has_failed = true;
    }

    fn flipped(&mut self) {
        self.sides.swap(0, 1);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if !self.has_failed {
            self.session.end(cx);
        }
    }
}
