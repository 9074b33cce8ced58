//! SMTP (RFC 5321) with chunks (RFC 3030) and STARTTLS (RFC 3207): a row of smtp.log per message,
//! a file per part of it. Which line is a command and which is mail follows from what was said
//! before, also where commands do not wait for replies.

mod address;
mod bdat;
mod command;
mod log;
mod mail;
mod session;

use std::collections::VecDeque;

use tyto_core::net::{Proto, Side};

use self::bdat::Bdat;
use self::command::{Action, Command, State};
use self::mail::Mail;
use self::session::Session;
use super::content_line::{ContentLine, Input, Piece};
use super::mime::decode::Line;
use super::stage::Stage;
use super::{Analyzer, Cx, First, Match, Spec, spec};

/// Commands without a reply (Zeek: `max_pending_cmd_q_size`). At the limit they are forgotten.
const PENDING_MAX: usize = 1000;
/// Bytes of a greeting or a first command that the probe looks at.
const PROBED_BYTES_MAX: usize = 1024;

/// SMTP.
pub static SPEC: Spec = Spec {
    name: "SMTP",
    ports: &[(Proto::Tcp, 25), (Proto::Tcp, 587)],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Smtp::new()),
};

/// The receiver greets, the sender says hello.
fn probe(first: &First<'_>) -> Match {
    match greeting(first.resp) {
        Match::Yes => says_hello(first.orig),
        other => other,
    }
}

/// `220` behind blanks.
fn greeting(bytes: &[u8]) -> Match {
    let text = bytes.trim_ascii_start();
    match text.get(..4) {
        Some(begin) if begin.starts_with(b"220") => match begin.last() {
            Some(b'-' | b' ' | b'\t'..=b'\r') => Match::Yes,
            _ => Match::No,
        },
        Some(_) => Match::No,
        None if b"220".starts_with(text.get(..3).unwrap_or(text)) => Match::Later,
        None => Match::No,
    }
}

/// A line begins with `HELO` or `EHLO`.
fn says_hello(bytes: &[u8]) -> Match {
    let bytes = bytes.get(..PROBED_BYTES_MAX).unwrap_or(bytes);
    let is_hello = |line: &[u8]| {
        let word = line.trim_ascii_start().get(..4).unwrap_or_default();
        word.eq_ignore_ascii_case(b"helo") || word.eq_ignore_ascii_case(b"ehlo")
    };
    let found = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).any(is_hello);
    if found { Match::Yes } else { Match::Later }
}

struct Smtp {
    lines: [ContentLine; 2],
    /// The originator sends mail; TURN changes that.
    sender: Side,
    state: State,
    /// The command that the next reply answers.
    first: Option<Command>,
    last_replied: Option<Command>,
    pending: VecDeque<Command>,
    /// Code of the reply whose further lines come.
    pending_reply: u16,
    session: Session,
    mail: Option<Mail>,
    bdat: Option<Bdat>,
    tls: Option<Stage>,
}

impl Smtp {
    fn new() -> Self {
        let lines = || ContentLine::default().flagging_nul().skipping_partial();
        Self {
            lines: [lines(), lines()],
            sender: Side::Orig,
            state: State::Commands,
            first: Some(Command::Connect),
            last_replied: None,
            pending: VecDeque::new(),
            pending_reply: 0,
            session: Session::default(),
            mail: None,
            bdat: None,
            tls: None,
        }
    }

    /// The next line or piece of a chunk that `side` sent.
    fn next<'i>(
        &mut self,
        side: Side,
        input: &mut Input<'i>,
        cx: &mut Cx<'_>,
    ) -> Option<Piece<'i>> {
        self.lines.get_mut(side.index())?.next(input, cx)
    }

    fn pieces(&mut self, side: Side, mut input: Input<'_>, cx: &mut Cx<'_>) {
        while let Some(piece) = self.next(side, &mut input, cx) {
            match piece {
                Piece::Line(line) => {
                    let len = line.iter().rposition(|&byte| byte != b'\r').map_or(0, |at| at + 1);
                    self.line(side, line.get(..len).unwrap_or_default(), cx);
                }
                Piece::Plain(bytes) => self.chunk(side, bytes, cx),
            }
            if let Some(tls) = &mut self.tls {
                tls.deliver(side, input.take_rest(), cx);
                return;
            }
        }
    }

    fn line(&mut self, side: Side, line: &[u8], cx: &mut Cx<'_>) {
        if side != self.sender {
            self.reply_line(side, line, cx);
            return;
        }
        match self.state {
            State::AfterGap | State::Tls => {}
            State::Data if line == b"." => {
                self.await_reply(Command::EndOfData, cx);
                self.end_data(cx);
                self.state = State::Commands;
                self.request(b".", b".", cx);
                self.chunks_missing(cx);
            }
            State::Data => {
                let line = line.strip_prefix(b".").unwrap_or(line);
                if self.mail.is_none() {
                    self.begin_data(self.sender, State::Data, cx);
                }
                self.mail_line(line, cx);
            }
            State::Auth => {
                self.await_reply(Command::AuthAnswer, cx);
                self.request(b"**", line, cx);
                self.chunks_missing(cx);
            }
            State::Commands | State::Bdat | State::GapRecovery => self.command(line, cx),
        }
    }

    fn command(&mut self, line: &[u8], cx: &mut Cx<'_>) {
        let is_space = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ');
        let len = line.iter().position(is_space).unwrap_or(line.len());
        let (word, argument) = line.split_at_checked(len).unwrap_or_default();
        let argument = argument.trim_ascii_start();
        let Some(command) = Command::parse(word) else { return };
        self.await_reply(command, cx);
        self.request(&word.to_ascii_uppercase(), argument, cx);
        if command == Command::Bdat {
            self.begin_chunk(argument, cx);
            return;
        }
        self.chunks_missing(cx);
        match command {
            Command::Hello | Command::Mail | Command::Recipient | Command::Reset => {
                self.state = State::Commands;
            }
            Command::Data => self.begin_data(self.sender, State::Data, cx),
            _ => {}
        }
    }

    fn request(&mut self, word: &[u8], argument: &[u8], cx: &mut Cx<'_>) {
        cx.confirm();
        self.session.request(word, argument, cx);
    }

    fn await_reply(&mut self, command: Command, cx: &mut Cx<'_>) {
        if self.first.is_none() {
            self.first = Some(command);
            return;
        }
        if self.pending.len() >= PENDING_MAX {
            cx.weird("smtp_excessive_pending_cmds");
            self.pending.clear();
        }
        self.pending.push_back(command);
    }

    fn reply_line(&mut self, side: Side, line: &[u8], cx: &mut Cx<'_>) {
        let code = match line {
            [a, b, c, ..] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) => {
                [a, b, c].iter().fold(0, |code, digit| code * 10 + u16::from(**digit - b'0'))
            }
            _ => 0,
        };
        if !(100..600).contains(&code) {
            cx.violation("reply code -1 out of range", line);
            return;
        }
        if self.pending_reply != code {
            self.pending_reply = 0;
        }
        if self.pending_reply == 0 {
            self.replied(side, code, cx);
        }
        let goes_on = line.get(3) == Some(&b'-');
        self.pending_reply = if goes_on { code } else { 0 };
        let text = line.get(if goes_on { 4 } else { 3 }..).unwrap_or_default().trim_ascii_start();
        let ends = (
            self.last_replied == Some(Command::EndOfData),
            self.last_replied == Some(Command::Bdat) && !goes_on,
        );
        self.session.reply(code, text, ends, cx);
        if self.state == State::Tls && self.tls.is_none() {
            self.start_tls(cx);
        }
    }

    /// The first line of a reply.
    fn replied(&mut self, side: Side, code: u16, cx: &mut Cx<'_>) {
        if self.state == State::AfterGap {
            self.state = State::GapRecovery;
            self.request(b"(UNKNOWN)", b"", cx);
        }
        let command = self.first.take();
        self.last_replied = command;
        self.first = self.pending.pop_front();
        match command::replied(command, code, self.state) {
            Action::Be(state) => self.state = state,
            // Zeek takes the side of the reply.
            Action::BeginData => self.begin_data(side, State::Data, cx),
            Action::RefuseData => {
                if self.state == State::Data {
                    self.end_data(cx);
                }
                self.state = State::Commands;
            }
            Action::Turn => {
                self.sender = self.sender.other();
                self.state = State::Commands;
            }
            Action::StartTls => self.state = State::Tls,
        }
    }

    fn start_tls(&mut self, cx: &mut Cx<'_>) {
        self.session.starts_tls();
        self.tls = Some(match spec("SSL") {
            Some(ssl) => Stage::of(ssl, cx),
            None => Stage::detecting(Proto::Tcp),
        });
    }

    fn begin_data(&mut self, side: Side, state: State, cx: &mut Cx<'_>) {
        self.state = state;
        let (transaction, mime_depth) = self.session.current(cx);
        if let Some(mail) = self.mail.take() {
            cx.weird("smtp_nested_mail_transaction");
            mail.end(transaction, mime_depth, cx);
        }
        self.mail = Some(Mail::begin(side, transaction, mime_depth, cx));
    }

    fn mail_line(&mut self, line: &[u8], cx: &mut Cx<'_>) {
        let (transaction, mime_depth) = self.session.current(cx);
        if let Some(mail) = &mut self.mail {
            let line = Line { bytes: line, has_end: true };
            mail.line(line, transaction, mime_depth, cx);
        }
    }

    fn end_data(&mut self, cx: &mut Cx<'_>) {
        let (transaction, mime_depth) = self.session.current(cx);
        if let Some(bdat) = self.bdat.take() {
            if bdat.chunk_bytes_left > 0 {
                cx.weird("smtp_bdat_remaining_at_end_data");
                self.lines.iter_mut().for_each(|lines| lines.deliver_plain(0));
            }
            if let Some(mail) = &mut self.mail {
                bdat.end(mail, transaction, mime_depth, cx);
            }
        }
        match self.mail.take() {
            Some(mail) => mail.end(transaction, mime_depth, cx),
            None => cx.weird("smtp_unmatched_end_of_data"),
        }
    }

    /// BDAT: bytes follow that are not lines.
    fn begin_chunk(&mut self, argument: &[u8], cx: &mut Cx<'_>) {
        let (chunk_bytes, is_last) = match command::bdat_argument(argument) {
            Ok((chunk_bytes, _)) if i64::try_from(chunk_bytes).is_err() => {
                cx.weird_with("smtp_huge_bdat_chunk", &chunk_bytes.to_string());
                return;
            }
            Ok(chunk) => chunk,
            Err(why) => {
                cx.weird_with("smtp_invalid_bdat_command", why);
                return;
            }
        };
        if let Some(lines) = self.lines.get_mut(self.sender.index()) {
            lines.deliver_plain(chunk_bytes);
        }
        if self.bdat.is_none() {
            self.begin_data(self.sender, State::Bdat, cx);
        }
        let bdat = self.bdat.get_or_insert_default();
        bdat.chunk_bytes_left = chunk_bytes;
        bdat.is_last = is_last;
        self.state = State::Bdat;
        // An empty chunk brings no bytes that could end the message.
        self.end_last_chunk(cx);
    }

    fn chunk(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let (transaction, mime_depth) = self.session.current(cx);
        if side == self.sender
            && let (Some(bdat), Some(mail)) = (&mut self.bdat, &mut self.mail)
        {
            bdat.bytes(bytes, mail, transaction, mime_depth, cx);
            self.end_last_chunk(cx);
        }
    }

    fn end_last_chunk(&mut self, cx: &mut Cx<'_>) {
        if self.bdat.as_ref().is_some_and(|bdat| bdat.is_last && bdat.chunk_bytes_left == 0) {
            self.end_data(cx);
            self.state = State::Commands;
        }
    }

    /// Another command came where the next chunk was expected.
    fn chunks_missing(&mut self, cx: &mut Cx<'_>) {
        if self.bdat.is_some() {
            cx.weird("smtp_missing_bdat_last_chunk");
            self.end_data(cx);
        }
    }
}

impl Analyzer for Smtp {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.deliver(side, bytes, cx);
            return;
        }
        let Some(lines) = self.lines.get_mut(side.index()) else { return };
        let input = lines.begin(bytes, cx);
        self.pieces(side, input, cx);
    }

    fn gap(&mut self, side: Side, missed_bytes: u64, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.gap(side, missed_bytes, cx);
            return;
        }
        if matches!(self.state, State::Data | State::Bdat) {
            let (transaction, mime_depth) = self.session.current(cx);
            if let Some(mail) = &mut self.mail {
                mail.gap(missed_bytes, transaction, mime_depth, cx);
            }
            self.end_data(cx);
        }
        self.pending.clear();
        self.first = None;
        self.last_replied = None;
        self.state = State::AfterGap;
    }

    fn end_of_side(&mut self, side: Side, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.end_of_side(side, cx);
            return;
        }
        let Some(lines) = self.lines.get_mut(side.index()) else { return };
        let input = lines.end(cx);
        self.pieces(side, input, cx);
    }

    fn flipped(&mut self) {
        self.lines.swap(0, 1);
        self.sender = self.sender.other();
        if let Some(tls) = &mut self.tls {
            tls.flipped();
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>) {
        if let Some(tls) = &mut self.tls {
            tls.wake(cx);
        }
    }

    fn failed(&mut self, cx: &mut Cx<'_>) {
        if self.mail.is_some() {
            self.end_data(cx);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        if self.mail.is_some() {
            self.end_data(cx);
        }
        if let Some(tls) = &mut self.tls {
            tls.end(cx);
        }
        self.session.end(cx);
    }
}
