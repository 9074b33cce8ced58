//! FTP (RFC 959, 2228, 2389, 2428, 3659): the control connection's commands and replies. With
//! AUTH TLS the connection goes on as TLS; with AUTH GSSAPI the tokens in between are looked
//! at, which for `GridFTP` are TLS too.

mod adat;
mod address;
pub mod data;
mod held;
mod log;
mod path;
mod probe;
mod replies;
mod session;
#[cfg(test)]
mod tests;

use tyto_core::net::{Proto, Side};

use self::adat::Adat;
use self::session::Session;
use super::nvt::Nvt;
use super::stage::Stage;
use super::{Analyzer, Cx, Spec, spec};

/// Bytes of a command (Zeek: `FTP::max_command_length`).
const COMMAND_LEN_MAX: usize = 100;

/// The control connection of FTP.
pub static SPEC: Spec = Spec {
    name: "FTP",
    ports: &[(Proto::Tcp, 21), (Proto::Tcp, 2811)],
    tcp_probe: Some(probe::matches),
    udp_probe: None,
    begin: |_| Box::new(Ftp::default()),
};

#[derive(Debug, Default)]
struct Ftp {
    terminals: [Nvt; 2],
    session: Option<Session>,
    /// Code of the reply whose further lines are awaited.
    open_reply: Option<u32>,
    /// What the client asked for with AUTH.
    auth: Option<Vec<u8>>,
    is_confirmed: bool,
    tls: Option<Stage>,
    adat: Option<Adat>,
}

impl Ftp {
    fn session(&mut self, cx: &Cx<'_>) -> &mut Session {
        self.session.get_or_insert_with(|| Session::new(cx.now))
    }

    fn line(&mut self, side: Side, line: &[u8], cx: &mut Cx<'_>) {
        if line.is_empty() {
            return;
        }
        let is_read = match side {
            Side::Orig => self.request(line, cx),
            Side::Resp => self.reply(line, cx),
        };
        if is_read
            && let Some(adat) = &mut self.adat
            && !adat.line(side, line, cx)
            && let Some(mut adat) = self.adat.take()
        {
            adat.end(cx);
        }
    }

    /// True when it is a command.
    fn request(&mut self, line: &[u8], cx: &mut Cx<'_>) -> bool {
        let (word, arg) = split_word(line);
        let is_command = word.len() >= 3 && word.iter().all(u8::is_ascii_graphic);
        if !is_command {
            if self.is_confirmed {
                cx.weird("FTP_invalid_command");
            }
            return false;
        }
        if word.len() > COMMAND_LEN_MAX {
            if self.is_confirmed {
                let addl = format!("{} > {COMMAND_LEN_MAX}", word.len());
                cx.limit_reached("FTP_max_command_length_exceeded", &addl);
            }
            return false;
        }
        let mut command = [0; COMMAND_LEN_MAX];
        let Some(command) = command.get_mut(..word.len()) else { return false };
        command.copy_from_slice(word);
        command.make_ascii_uppercase();
        cx.confirm();
        cx.attention();
        self.is_confirmed = true;
        if b"AUTH".starts_with(command) {
            self.auth = Some(arg.to_vec());
        }
        if let Some(session) = &mut self.session {
            session.finish_reply(cx);
        }
        self.session(cx).request(command, arg, cx);
        true
    }

    /// True when it is a line of a reply.
    fn reply(&mut self, line: &[u8], cx: &mut Cx<'_>) -> bool {
        let code = reply_code(line);
        let (code, text, goes_on) = match self.open_reply {
            Some(open) if code == open && line.get(3) == Some(&b' ') => {
                self.open_reply = None;
                (code, line.get(3..).unwrap_or_default().trim_ascii_start(), false)
            }
            Some(_) => (0, line, true),
            None => {
                let fault = match line.get(3) {
                    _ if code == 0 => Some("non-numeric reply code"),
                    _ if code < 100 => Some("invalid reply code"),
                    Some(b' ' | b'-') | None => None,
                    Some(_) => Some("invalid reply line"),
                };
                if let Some(fault) = fault {
                    cx.violation(fault, line);
                    return false;
                }
                let goes_on = line.get(3) == Some(&b'-');
                if goes_on {
                    self.open_reply = Some(code);
                }
                let text = line.get(if goes_on { 4.. } else { 3.. }).unwrap_or_default();
                (code, text.trim_ascii_start(), goes_on)
            }
        };
        match (code, self.auth.as_deref()) {
            (234, Some(b"TLS")) => self.tls = spec("SSL").map(|ssl| Stage::of(ssl, cx)),
            (334, Some(b"GSSAPI")) if self.adat.is_none() => self.adat = Adat::new(cx),
            _ => {}
        }
        self.session(cx).reply(code, text, goes_on, cx);
        true
    }
}

impl Analyzer for Ftp {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let mut rest = bytes;
        while self.tls.is_none() {
            let Some(terminal) = self.terminals.get_mut(side.index()) else { return };
            let Some(line) = terminal.next_line(&mut rest, cx) else { return };
            self.line(side, &line, cx);
        }
        if let Some(tls) = &mut self.tls
            && !rest.is_empty()
        {
            tls.deliver(side, rest, cx);
        }
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.gap(side, missed_bytes, cx);
        }
    }

    fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            return tls.end_of_side(side, cx);
        }
        let line = self.terminals.get_mut(side.index()).and_then(Nvt::end);
        if let Some(line) = line {
            self.line(side, &line, cx);
        }
    }

    fn flipped(&mut self) {
        self.terminals.swap(0, 1);
        if let Some(tls) = &mut self.tls {
            tls.flipped();
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.wake(cx);
        }
        if let Some(session) = &mut self.session {
            session.wake(cx);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.end(cx);
        }
        if let Some(adat) = &mut self.adat {
            adat.end(cx);
        }
        if let Some(session) = &mut self.session {
            session.end(cx);
        }
    }
}

/// The first word of a line, and what follows the blanks behind it.
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    let len = line.iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
    let (word, rest) = line.split_at_checked(len).unwrap_or((line, &[]));
    (word, rest.trim_ascii_start())
}

/// The number of three digits that a reply begins with; 0 when it does not.
fn reply_code(line: &[u8]) -> u32 {
    match line {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            u32::from(a - b'0') * 100 + u32::from(b - b'0') * 10 + u32::from(c - b'0')
        }
        _ => 0,
    }
}
