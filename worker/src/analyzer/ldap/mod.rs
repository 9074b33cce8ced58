//! LDAP (RFC 4511) over TCP, and over UDP as Active Directory has it (\[MS-ADTS\] section
//! 6.3.3): binds, changes and the like go to `ldap.log`, searches to `ldap_search.log`. Logons
//! are handed to SPNEGO and NTLM, what follows StartTLS to TLS. Behind a SASL logon messages
//! may be wrapped: those that are only signed are read, encrypted ones are passed over.

mod ber;
mod filter;
pub mod log;
mod names;
mod parser;
mod sasl;
mod session;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use tyto_core::net::{Proto, Side};

use self::parser::{Body, Credentials, Message, method};
use self::session::Session;
use super::detect::{First, Match};
use super::stage::Stage;
use super::windows::frames::{Frames, Length};
use super::windows::reader::Fault;
use super::{Analyzer, Cx, Spec, spec};

/// Bytes of one message that are kept. Entries with pictures and the like have some hundred
/// thousand.
const MESSAGE_MAX: usize = 4 << 20;

/// LDAP over TCP: the port of servers, and of the global catalogue.
pub static TCP_SPEC: Spec = Spec {
    name: "LDAP_TCP",
    ports: &[(Proto::Tcp, 389), (Proto::Tcp, 3268)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Ldap::default()),
};

/// LDAP over UDP.
pub static UDP_SPEC: Spec = Spec {
    name: "LDAP_UDP",
    ports: &[(Proto::Udp, 389)],
    tcp_probe: None,
    udp_probe: Some(probe),
    begin: |_| Box::new(Ldap::default()),
};

/// A bind request, and a sequence in the other direction.
fn probe(first: &First<'_>) -> Match {
    let binds = |bytes: &[u8]| matches!(bytes, [0x30, _, 0x02, 0x01, _, 0x60, ..]);
    let answers = |bytes: &[u8]| bytes.first() == Some(&0x30);
    let both = |client: &[u8], server: &[u8]| binds(client) && answers(server);
    if both(first.orig, first.resp) || both(first.resp, first.orig) {
        return Match::Yes;
    }
    let may_yet = |bytes: &[u8]| {
        let wanted = [Some(0x30), None, Some(0x02), Some(0x01), None, Some(0x60)];
        wanted.iter().zip(bytes).all(|(wanted, byte)| wanted.is_none_or(|wanted| wanted == *byte))
    };
    let answers_yet = |bytes: &[u8]| bytes.is_empty() || answers(bytes);
    let later = may_yet(first.orig) && answers_yet(first.resp)
        || may_yet(first.resp) && answers_yet(first.orig);
    if later { Match::Later } else { Match::No }
}

/// How messages lie in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Plain,
    /// Behind a SASL logon: the next bytes tell.
    Perhaps,
    /// With a length in front, encrypted.
    Encrypted,
    /// The same with Kerberos, perhaps only signed.
    Kerberos,
    Tls,
}

#[derive(Debug, Default)]
struct Ldap {
    sides: [Frames; 2],
    /// A side has a gap: its messages are not found again.
    is_lost: [bool; 2],
    mode: Cell<Mode>,
    session: Session,
    /// Mechanism of SASL that the client chose.
    mechanism: Vec<u8>,
    wants_tls: bool,
    spnego: Option<Stage>,
    ntlm: Option<Stage>,
    tls: Option<Stage>,
}

impl Analyzer for Ldap {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let index = side.index();
        if let Some(tls) = &mut self.tls {
            return tls.deliver(side, bytes, cx);
        }
        if self.is_lost.get(index) == Some(&true) {
            return;
        }
        let Some(frames) = self.sides.get_mut(index) else { return };
        let mut frames = std::mem::take(frames);
        let mode = self.mode.clone();
        let mechanism_is_gss = Cell::new(self.mechanism_may_be_kerberos());
        let fed = frames.feed(
            bytes,
            MESSAGE_MAX,
            |bytes| length(bytes, &mode, mechanism_is_gss.get()),
            |frame| {
                self.mode.set(mode.get());
                let taken = self.frame(side, frame, cx);
                mode.set(self.mode.get());
                mechanism_is_gss.set(self.mechanism_may_be_kerberos());
                taken
            },
        );
        self.mode.set(mode.get());
        match fed {
            Ok(()) if cx.proto == Proto::Udp && !frames.is_empty() => {
                cx.violation("LDAP message ends behind its datagram", &[]);
            }
            Ok(()) => {
                if let Some(place) = self.sides.get_mut(index) {
                    *place = frames;
                }
            }
            Err(fault) => cx.violation(fault.to_string(), &[]),
        }
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            return tls.gap(side, missed_bytes, cx);
        }
        if let (Some(lost), Some(frames)) =
            (self.is_lost.get_mut(side.index()), self.sides.get_mut(side.index()))
        {
            *lost = true;
            frames.clear();
        }
    }

    fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.end_of_side(side, cx);
        }
    }

    fn flipped(&mut self) {
        self.sides.swap(0, 1);
        self.is_lost.swap(0, 1);
        if let Some(tls) = &mut self.tls {
            tls.flipped();
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.session.finish(cx);
        let Self { spnego, ntlm, tls, .. } = self;
        for stage in [spnego, ntlm, tls].into_iter().flatten() {
            stage.end(cx);
        }
    }
}

/// Length of what comes next, as `mode` has it; finds out which it is, if that is open.
fn length(bytes: &[u8], mode: &Cell<Mode>, may_be_kerberos: bool) -> Result<Length, Fault> {
    if mode.get() == Mode::Perhaps {
        match bytes {
            [] => return Ok(Length::Unknown),
            [0x30, ..] => mode.set(Mode::Plain),
            _ if !may_be_kerberos => mode.set(Mode::Encrypted),
            [0, 0, 0, 0 | 1, ..] => mode.set(Mode::Encrypted),
            [_, _, _, _, high, low, ..] => {
                let is_wrap = u16::from_be_bytes([*high, *low]) == sasl::WRAP_TOKEN;
                mode.set(if is_wrap { Mode::Kerberos } else { Mode::Encrypted });
            }
            _ => return Ok(Length::Unknown),
        }
    }
    match mode.get() {
        Mode::Plain | Mode::Perhaps => parser::length(bytes),
        Mode::Encrypted | Mode::Kerberos => {
            let Some((len, _)) = bytes.split_first_chunk() else { return Ok(Length::Unknown) };
            let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
            Ok(Length::Known(len.saturating_add(4)))
        }
        Mode::Tls if bytes.is_empty() => Ok(Length::Unknown),
        Mode::Tls => Ok(Length::Known(bytes.len())),
    }
}

impl Ldap {
    fn mechanism_may_be_kerberos(&self) -> bool {
        self.mechanism.is_empty() || self.mechanism.starts_with(b"GSS")
    }

    fn frame(&mut self, side: Side, frame: &[u8], cx: &mut Cx<'_>) -> Result<(), Fault> {
        match self.mode.get() {
            Mode::Plain | Mode::Perhaps => self.message(side, frame, cx),
            Mode::Encrypted => Ok(()),
            Mode::Kerberos => {
                let mut rest = sasl::signed(frame)?.unwrap_or_default();
                while let Length::Known(len) = parser::length(rest)? {
                    let Some((message, after)) = rest.split_at_checked(len) else { break };
                    self.message(side, message, cx)?;
                    rest = after;
                }
                Ok(())
            }
            Mode::Tls => {
                if let Some(tls) = &mut self.tls {
                    tls.deliver(side, frame, cx);
                }
                Ok(())
            }
        }
    }

    fn message(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Fault> {
        let message = Message::parse(bytes)?;
        match &message.body {
            Body::BindRequest { method, credentials: Some(credentials), .. } => {
                self.bind_request(side, *method, credentials, cx)?;
            }
            Body::BindResponse { tokens } => self.bind_response(side, &message, tokens, cx)?,
            Body::StartTls => self.wants_tls = true,
            _ => {}
        }
        self.session.message(&message, cx);
        cx.confirm();
        let succeeds = message.result.as_ref().is_some_and(|outcome| outcome.code == 0);
        if message.operation == names::op::EXTENDED_RESPONSE && self.wants_tls && succeeds {
            self.mode.set(Mode::Tls);
            self.tls = spec("SSL").map(|spec| Stage::of(spec, cx));
        }
        Ok(())
    }

    fn bind_request(
        &mut self,
        side: Side,
        method: u8,
        credentials: &Credentials<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        let Credentials { mechanism, token } = credentials;
        if method != method::SASL {
            if let Some(token) = token {
                hand_on(&mut self.ntlm, "NTLM", side, token, cx);
            }
            return Ok(());
        }
        self.mechanism.clone_from(mechanism);
        let Some(token) = token else { return Ok(()) };
        let is_ntlm = mechanism == b"GSS-SPNEGO" && sasl::is_ntlm_request(token)?;
        self.logon(is_ntlm, side, token, cx);
        Ok(())
    }

    fn bind_response(
        &mut self,
        side: Side,
        message: &Message<'_>,
        tokens: &[&[u8]],
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        let succeeds = message.result.as_ref().is_some_and(|outcome| outcome.code == 0);
        if !self.mechanism.is_empty() && succeeds {
            self.mode.set(Mode::Perhaps);
        }
        let mut is_ntlm = false;
        if self.mechanism == b"GSS-SPNEGO"
            && let Some(token) = tokens.first()
        {
            match sasl::reply(token)? {
                sasl::Reply::Ntlm => is_ntlm = true,
                sasl::Reply::Kerberos => self.mode.set(Mode::Kerberos),
                sasl::Reply::Other => {}
            }
        }
        for token in tokens {
            self.logon(is_ntlm, side, token, cx);
        }
        Ok(())
    }

    fn logon(&mut self, is_ntlm: bool, side: Side, token: &[u8], cx: &mut Cx<'_>) {
        match self.mechanism.as_slice() {
            b"NTLM" => hand_on(&mut self.ntlm, "NTLM", side, token, cx),
            b"GSS-SPNEGO" if is_ntlm => hand_on(&mut self.ntlm, "NTLM", side, token, cx),
            b"GSS-SPNEGO" | b"GSSAPI" => hand_on(&mut self.spnego, "GSSAPI", side, token, cx),
            _ => {}
        }
    }
}

fn hand_on(stage: &mut Option<Stage>, name: &str, side: Side, token: &[u8], cx: &mut Cx<'_>) {
    if stage.is_none() {
        *stage = spec(name).map(|spec| Stage::of(spec, cx));
    }
    if let Some(stage) = stage {
        stage.deliver(side, token, cx);
    }
}
