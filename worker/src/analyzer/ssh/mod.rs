//! SSH 1 and 2 (RFC 4250 to 4254): version lines, key exchange, and after it the lengths of
//! encrypted packets, which tell whether a login succeeded.

mod auth;
mod hassh;
mod kex;
mod log;
mod session;
#[cfg(test)]
mod tests;

use tyto_core::net::{Proto, Side};

use self::auth::Auth;
use self::kex::{Method, Offer};
use self::session::Session;
use super::bytes::Cursor;
use super::{Analyzer, Cx, First, Match, Spec};

/// Bytes of one packet of the key exchange that are waited for.
const PACKET_LEN_MAX: usize = 1024 * 1024;
/// Length from which on Zeek speaks of too much (`SSH::max_packet_length`).
const PACKET_LEN_ODD: u32 = 8 * 1024 * 1024;
/// Bytes of a line before the key exchange.
const LINE_LEN_MAX: usize = 64 * 1024;

const MSG_NEWKEYS: u8 = 21;

/// SSH.
pub static SPEC: Spec = Spec {
    name: "SSH",
    ports: &[(Proto::Tcp, 22)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Ssh::default()),
};

/// Both sides begin with a version.
fn probe(first: &First<'_>) -> Match {
    let side = |bytes: &[u8]| match bytes.split_first_chunk::<6>() {
        Some((head, _)) => {
            let [s1, s2, h, dash, major, dot] = *head;
            let is_version = [s1, s2, h].eq_ignore_ascii_case(b"ssh")
                && dash == b'-'
                && matches!(major, b'1' | b'2')
                && dot == b'.';
            if is_version { Match::Yes } else { Match::No }
        }
        None => Match::Later,
    };
    match (side(first.orig), side(first.resp)) {
        (Match::Yes, Match::Yes) => Match::Yes,
        (Match::No, _) | (_, Match::No) => Match::No,
        _ => Match::Later,
    }
}

#[derive(Debug, Default)]
struct Ssh {
    sides: [Flow; 2],
    /// What each side says it speaks.
    spoken: [Option<Spoken>; 2],
    first_offer: Option<(Side, Offer)>,
    has_gap: bool,
    auth: Auth,
    session: Session,
}

#[derive(Debug, Default)]
struct Flow {
    kept: Vec<u8>,
    last: u8,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Version,
    KexInit,
    Kex(Method),
    Encrypted,
}

/// Version that a side announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    V1,
    V2,
    /// 1.99: either.
    Both,
}

/// A message that is cut or not one.
struct Broken;

impl Ssh {
    /// The version that is spoken, once both sides told theirs and they agree.
    fn version(&self) -> Option<Spoken> {
        match self.spoken {
            [Some(Spoken::V1), Some(Spoken::V1 | Spoken::Both)]
            | [Some(Spoken::Both), Some(Spoken::V1)] => Some(Spoken::V1),
            [Some(Spoken::V2 | Spoken::Both), Some(Spoken::V2 | Spoken::Both)] => Some(Spoken::V2),
            _ => None,
        }
    }

    fn flow(&mut self, side: Side) -> &mut Flow {
        let [orig, resp] = &mut self.sides;
        if side == Side::Orig { orig } else { resp }
    }

    fn set_all(&mut self, state: State) {
        for flow in &mut self.sides {
            flow.state = state;
        }
    }

    /// Reads what came; the number of encrypted bytes behind it.
    fn read(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<usize, Broken> {
        let mut rest = bytes;
        loop {
            match self.flow(side).state {
                State::Encrypted => {
                    let held = std::mem::take(&mut self.flow(side).kept).len();
                    return Ok(held + rest.len());
                }
                State::Version => {
                    let Some(line) = self.flow(side).line(&mut rest)? else { return Ok(0) };
                    self.version_line(side, &line, cx)?;
                }
                State::KexInit | State::Kex(_) => {
                    let flow = self.flow(side);
                    if std::mem::take(&mut flow.last) == b'\r' {
                        // The end of the version line came in two pieces.
                        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                    }
                    flow.kept.extend_from_slice(rest);
                    rest = &[];
                    let Some(packet) = self.packet(side, cx)? else { return Ok(0) };
                    match self.version() {
                        Some(Spoken::V1) => self.message_v1(side, &packet, cx)?,
                        _ => self.message_v2(side, &packet, cx)?,
                    }
                }
            }
        }
    }

    fn version_line(&mut self, side: Side, line: &[u8], cx: &mut Cx<'_>) -> Result<(), Broken> {
        if !line.starts_with(b"SSH-") {
            // Servers may say something first (RFC 4253 section 4.2).
            return if side == Side::Resp { Ok(()) } else { Err(Broken) };
        }
        self.flow(side).state = State::KexInit;
        let spoken = match (line.get(4), line.get(6..8)) {
            (Some(b'2'), _) => Some(Spoken::V2),
            (Some(b'1'), Some(b"99")) => Some(Spoken::Both),
            (Some(b'1'), _) => Some(Spoken::V1),
            _ => None,
        };
        if let (Some(slot), Some(_)) = (self.spoken.get_mut(side.index()), spoken) {
            *slot = spoken;
        }
        self.session.version(side, line, cx);
        Ok(())
    }

    /// The next packet of the key exchange without its length; None when it is not whole yet.
    fn packet(&mut self, side: Side, cx: &mut Cx<'_>) -> Result<Option<Vec<u8>>, Broken> {
        let version = self.version();
        let kept = &mut self.flow(side).kept;
        let mut cursor = Cursor::new(kept);
        let Some(len) = cursor.be32() else {
            // Nobody knows what to make of it before both versions are known.
            return if version.is_none() && !kept.is_empty() { Err(Broken) } else { Ok(None) };
        };
        let padding = match version {
            Some(Spoken::V1) => 8 - len % 8,
            Some(_) => 0,
            None => return Err(Broken),
        };
        let whole = (len as usize).saturating_add(padding as usize);
        if whole > PACKET_LEN_MAX {
            if len > PACKET_LEN_ODD {
                let addl = format!("{len} > {PACKET_LEN_ODD}");
                cx.limit_reached("SSH_max_packet_length_exceeded", &addl);
            }
            return Err(Broken);
        }
        let Some(packet) = cursor.take(whole) else { return Ok(None) };
        // SSH 1 has the padding in front, SSH 2 behind.
        let packet = packet.get(padding as usize..).unwrap_or_default().to_vec();
        kept.drain(..4 + whole);
        Ok(Some(packet))
    }

    fn message_v1(&mut self, side: Side, packet: &[u8], cx: &mut Cx<'_>) -> Result<(), Broken> {
        const PUBLIC_KEY: u8 = 2;
        const SESSION_KEY: u8 = 3;
        let mut cursor = Cursor::new(packet);
        match cursor.u8() {
            // Its host key is not shown, as Zeek does.
            Some(PUBLIC_KEY) => skip_public_key(&mut cursor).ok_or(Broken)?,
            Some(SESSION_KEY) => {
                cx.confirm();
                self.session.confirmed(cx);
            }
            _ => return Err(Broken),
        }
        self.flow(side).state = State::Encrypted;
        Ok(())
    }

    fn message_v2(&mut self, side: Side, packet: &[u8], cx: &mut Cx<'_>) -> Result<(), Broken> {
        let mut cursor = Cursor::new(packet);
        let padding = usize::from(cursor.u8().ok_or(Broken)?);
        let kind = cursor.u8().ok_or(Broken)?;
        let len = cursor.rest().len().checked_sub(padding).ok_or(Broken)?;
        let body = cursor.take(len).ok_or(Broken)?;
        if kind == MSG_NEWKEYS {
            self.flow(side).state = State::Encrypted;
            cx.confirm();
            self.session.confirmed(cx);
            return Ok(());
        }
        match self.flow(side).state {
            State::KexInit => {
                let offer = Offer::read(body, cx).ok_or(Broken)?;
                self.session.offered(side, &offer, cx);
                self.offer(side, offer, cx);
                Ok(())
            }
            State::Kex(method) => {
                let key = host_key_v2(method, kind, body, cx)?;
                if let Some(key) = key {
                    self.session.host_key(key);
                }
                Ok(())
            }
            State::Version | State::Encrypted => Ok(()),
        }
    }

    /// Both offers are there: what comes next is told by the key exchange they agree on.
    fn offer(&mut self, side: Side, offer: Offer, cx: &mut Cx<'_>) {
        let Some((other, first)) = &self.first_offer else {
            self.first_offer = Some((side, offer));
            return;
        };
        if *other == side {
            return;
        }
        let (client, server) = if side == Side::Orig { (&offer, first) } else { (first, &offer) };
        self.session.agreed(client, server);
        let Some(name) = kex::first_common(&client.kex, &server.kex) else { return };
        match Method::of(name) {
            Some(method) => self.set_all(State::Kex(method)),
            None => {
                cx.weird_with("ssh_unknown_kex_algorithm", &String::from_utf8_lossy(name));
            }
        }
    }

    fn encrypted(&mut self, side: Side, len: usize, cx: &mut Cx<'_>) {
        if self.version() != Some(Spoken::V2) {
            return;
        }
        match side {
            Side::Orig => self.auth.client_spoke(),
            Side::Resp => {
                if let Some(success) = self.auth.server_sent(len) {
                    self.session.attempted(success, cx);
                }
            }
        }
    }
}

impl Flow {
    /// The next line, which CR, LF, or both end. None: all was taken.
    fn line(&mut self, rest: &mut &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        while let Some((&byte, behind)) = rest.split_first() {
            *rest = behind;
            let is_after_cr = std::mem::replace(&mut self.last, byte) == b'\r';
            match byte {
                b'\n' if is_after_cr => {}
                b'\r' | b'\n' => {
                    // The LF belongs to this line, also when a packet follows.
                    if byte == b'\r'
                        && let Some((b'\n', behind)) = rest.split_first()
                    {
                        *rest = behind;
                        self.last = b'\n';
                    }
                    return Ok(Some(std::mem::take(&mut self.kept)));
                }
                _ if self.kept.len() >= LINE_LEN_MAX => return Err(Broken),
                _ => self.kept.push(byte),
            }
        }
        Ok(None)
    }
}

impl Analyzer for Ssh {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if cx.is_partial || self.has_gap {
            return;
        }
        match self.read(side, bytes, cx) {
            Ok(0) => {}
            Ok(encrypted) => self.encrypted(side, encrypted, cx),
            Err(Broken) => {
                self.flow(side).kept.clear();
                cx.violation("Binpac exception: binpac exception: out_of_bound: SSH_PDU", &[]);
            }
        }
        if self.session.is_done() {
            cx.done();
        }
    }

    fn gap(&mut self, _side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {
        self.has_gap = true;
    }

    fn flipped(&mut self) {
        self.sides.swap(0, 1);
        self.spoken.swap(0, 1);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.session.end(cx);
    }
}

/// Skips an SSH 1 public key message: server key and host key, each exponent and modulus.
fn skip_public_key(cursor: &mut Cursor<'_>) -> Option<()> {
    const COOKIE_LEN: usize = 8;
    let skip_number = |cursor: &mut Cursor<'_>| {
        let bits = cursor.be16()?;
        cursor.skip(usize::from(bits).div_ceil(8))
    };
    cursor.skip(COOKIE_LEN)?;
    for _ in 0..2 {
        cursor.be32()?;
        skip_number(cursor)?;
        skip_number(cursor)?;
    }
    Some(())
}

/// The host key in a message of the key exchange, if it is the one that has it.
fn host_key_v2<'a>(
    method: Method,
    kind: u8,
    body: &'a [u8],
    cx: &mut Cx<'_>,
) -> Result<Option<&'a [u8]>, Broken> {
    let mut cursor = Cursor::new(body);
    // Strings that must be there, the first of them the key.
    let (strings, has_key) = match (method, kind) {
        (Method::Dh | Method::Ecc, 31) | (Method::DhGex, 33) => (3, true),
        (Method::Gss, 33) => (1, true),
        (Method::Dh | Method::Ecc, 30) | (Method::DhGex, 32) => (1, false),
        (Method::DhGex, 31) | (Method::Rsa, 30) | (Method::Gss, 30 | 41) => (2, false),
        (Method::Rsa, 31 | 32) | (Method::Gss, 31) => (1, false),
        (Method::Gss, 32 | 34 | 40) | (Method::Dh | Method::DhGex, _) => (0, false),
        (Method::Ecc | Method::Rsa | Method::Gss, _) => return Err(Broken),
    };
    let mut key = None;
    for index in 0..strings {
        let string = kex::string(&mut cursor, cx).ok_or(Broken)?;
        if has_key && index == 0 {
            key = Some(string);
        }
    }
    Ok(key)
}
