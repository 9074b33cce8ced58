//! IRC (RFC 1459, 2812, with the tags of `IRCv3`): who registers with what name, joins what
//! channel, sends what file. After STARTTLS the connection goes on as TLS.

pub mod data;
pub mod log;
mod message;
mod probe;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use tyto_core::net::{Proto, Side};

use self::data::TRANSFER_TIMEOUT_S;
use self::log::IrcLog;
use self::message::{Fault, Message};
use super::content_line::{ContentLine, Piece};
use super::expected::Expected;
use super::stage::Stage;
use super::{Analyzer, Cx, Spec, spec};
use crate::decode::addr::Addr;
use crate::neighbours::Announcer;

/// Bytes of a line that are waited for.
const LINE_LEN_MAX: usize = 1000;
/// Bytes of a line that are looked at (RFC 1459 section 2.3).
const MESSAGE_LEN_MAX: usize = 512;
/// Bytes of a command.
const COMMAND_LEN_MAX: usize = 20;
/// Commands that are too long before it is no IRC.
const INVALID_MAX: u32 = 20;

/// IRC.
pub static SPEC: Spec = Spec {
    name: "IRC",
    ports: &[(Proto::Tcp, 6666), (Proto::Tcp, 6667), (Proto::Tcp, 6668), (Proto::Tcp, 6669)],
    tcp_probe: Some(probe::matches),
    udp_probe: None,
    begin: |_| Box::new(Irc::default()),
};

#[derive(Debug)]
struct Irc {
    lines: [ContentLine; 2],
    session: Option<IrcLog>,
    is_confirmed: bool,
    invalid: u32,
    tls: Option<Stage>,
}

impl Default for Irc {
    fn default() -> Self {
        Self {
            lines: [ContentLine::new(LINE_LEN_MAX), ContentLine::new(LINE_LEN_MAX)],
            session: None,
            is_confirmed: false,
            invalid: 0,
            tls: None,
        }
    }
}

impl Irc {
    fn session(&mut self, cx: &Cx<'_>) -> &mut IrcLog {
        let session = self.session.get_or_insert_with(|| IrcLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            nick: None,
            user: None,
            command: None,
            value: None,
            addl: None,
            dcc_file_name: None,
            dcc_file_size: None,
            dcc_mime_type: None,
            fuid: None,
        });
        session.ts = cx.now;
        session
    }

    fn weird_if_confirmed(&self, name: &'static str, cx: &mut Cx<'_>) {
        if self.is_confirmed {
            cx.weird(name);
        }
    }

    /// Takes what came, or, without bytes, what a side left of a line when it ended.
    fn lines(&mut self, side: Side, bytes: Option<&[u8]>, cx: &mut Cx<'_>) {
        let Some(slot) = self.lines.get_mut(side.index()) else { return };
        let mut lines = std::mem::take(slot);
        let mut input = match bytes {
            Some(bytes) => lines.begin(bytes, cx),
            None => lines.end(cx),
        };
        while let Some(piece) = lines.next(&mut input, cx) {
            if let Piece::Line(line) = piece {
                self.line(side, &line, cx);
            }
            if let Some(tls) = &mut self.tls {
                let rest = input.take_rest();
                if !rest.is_empty() {
                    tls.deliver(side, rest, cx);
                }
                return;
            }
        }
        if let Some(slot) = self.lines.get_mut(side.index()) {
            *slot = lines;
        }
    }

    fn line(&mut self, side: Side, line: &[u8], cx: &mut Cx<'_>) {
        if line.len() > MESSAGE_LEN_MAX {
            return self.weird_if_confirmed("irc_line_size_exceeded", cx);
        }
        let message = match Message::read(line) {
            Ok(message) => message,
            Err(fault) => {
                if let Some(weird) = fault.weird() {
                    self.weird_if_confirmed(weird, cx);
                }
                if let Some(reason) = fault.violation() {
                    cx.violation(reason, &[]);
                }
                return;
            }
        };
        if message.code.is_some() {
            return self.reply(&message, cx);
        }
        if !self.is_confirmed && side == Side::Orig && message::is_client_command(&message.command)
        {
            self.is_confirmed = true;
            cx.confirm();
            cx.attention();
        }
        if message.command.len() > COMMAND_LEN_MAX {
            cx.weird("irc_invalid_command");
            self.invalid += 1;
            if self.invalid > INVALID_MAX {
                cx.weird("irc_too_many_invalid");
                cx.violation("too many long lines", &[]);
            }
            return;
        }
        self.command(side, &message, cx);
    }

    fn reply(&mut self, message: &Message<'_>, cx: &mut Cx<'_>) {
        /// The server agrees to TLS.
        const STARTTLS: u32 = 670;
        match message.code {
            Some(STARTTLS) => self.tls = spec("SSL").map(|ssl| Stage::of(ssl, cx)),
            Some(code) => {
                if let Some(weird) = message::fault_of_reply(code, message.params) {
                    cx.weird(weird);
                }
            }
            None => {}
        }
    }

    fn command(&mut self, side: Side, message: &Message<'_>, cx: &mut Cx<'_>) {
        let params = message.params;
        match &message.command[..] {
            b"PRIVMSG" => self.private_message(params, cx),
            b"USER" => self.user(side, params, cx),
            b"NICK" => {
                let nick = params.strip_prefix(b":").unwrap_or(params).to_vec();
                let session = self.session(cx);
                if side == Side::Orig {
                    session.command = Some("NICK");
                    session.value = Some(nick.clone());
                    cx.row(session);
                    session.nick = Some(nick);
                }
            }
            b"JOIN" => self.join(side, params, cx),
            command => {
                if let Some(weird) = message::fault_of_command(command, params) {
                    cx.weird(weird);
                } else if command == b"NJOIN" {
                    self.session(cx);
                }
            }
        }
    }

    fn user(&mut self, side: Side, params: &[u8], cx: &mut Cx<'_>) {
        let words = message::words(params, b' ');
        let word = |index: usize| words.get(index).copied().unwrap_or_default();
        let mut real_name = Vec::new();
        for (index, part) in words.iter().enumerate().skip(3) {
            real_name.extend_from_slice(part);
            // As Zeek does: no space behind the first.
            if index > 3 {
                real_name.push(b' ');
            }
        }
        let real_name = real_name.strip_prefix(b":").unwrap_or(&real_name);
        let addl = [word(1), word(2), real_name].join(&b' ');
        let user = word(0).to_vec();
        let session = self.session(cx);
        if side == Side::Orig {
            session.command = Some("USER");
            session.value = Some(user.clone());
            session.addl = Some(addl);
            cx.row(session);
            session.user = Some(user);
        }
    }

    fn join(&mut self, side: Side, params: &[u8], cx: &mut Cx<'_>) {
        let params = params.strip_prefix(b":").unwrap_or(params);
        let words = message::words(params, b' ');
        let Some(channels) = words.first() else {
            cx.weird("irc_invalid_join_line");
            return;
        };
        let keys = words.get(1).map(|keys| message::words(keys, b',')).unwrap_or_default();
        let session = self.session(cx);
        if side != Side::Orig {
            return;
        }
        session.command = Some("JOIN");
        for (index, channel) in message::words(channels, b',').into_iter().enumerate() {
            session.value = Some(channel.to_vec());
            session.addl = Some(match keys.get(index) {
                Some(key) => [&b" with channel key: '"[..], key, b"'"].concat(),
                None => Vec::new(),
            });
            cx.row(session);
        }
    }

    fn private_message(&mut self, params: &[u8], cx: &mut Cx<'_>) {
        let Some(space) = params.iter().position(|byte| *byte == b' ') else {
            cx.weird("irc_invalid_privmsg_message_format");
            return;
        };
        let text = params.get(space + 1..).unwrap_or_default();
        match message::dcc(text) {
            None => {}
            Some(Ok(dcc)) => {
                let to = (Addr::from(IpAddr::V4(Ipv4Addr::from(dcc.host))), dcc.port);
                let session = self.session(cx);
                if dcc.kind != b"SEND" {
                    return;
                }
                let row = IrcLog {
                    dcc_file_name: Some(dcc.file_name.to_vec()),
                    dcc_file_size: Some(dcc.size),
                    ..session.clone()
                };
                if !data::expect(to, row.clone(), cx) {
                    cx.weird("irc_max_dcc_expected_transfers_exceeded");
                    return;
                }
                let expected = Expected {
                    orig: None,
                    resp: to.0.into(),
                    resp_port: to.1,
                    proto: Proto::Tcp,
                    spec: &data::SPEC,
                    timeout_s: TRANSFER_TIMEOUT_S,
                };
                cx.expect(&expected, |_| Announcer::Dcc(Box::new(row)));
            }
            Some(Err(Fault::DccPort(port))) => {
                cx.weird_with("irc_invalid_dcc_port", &port.to_string());
            }
            Some(Err(fault)) => {
                if let Some(weird) = fault.weird() {
                    cx.weird(weird);
                }
            }
        }
    }
}

impl Analyzer for Irc {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        match &mut self.tls {
            Some(tls) => tls.deliver(side, bytes, cx),
            None => self.lines(side, Some(bytes), cx),
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
        self.lines(side, None, cx);
    }

    fn flipped(&mut self) {
        self.lines.swap(0, 1);
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
