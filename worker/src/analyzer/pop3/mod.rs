//! POP3 (RFC 1939) with AUTH and STLS: the mail that is fetched, as files. No log of its own.

mod command;
mod mail;

use std::collections::VecDeque;

use tyto_core::net::{Proto, Side};

use self::command::{Word, split};
use self::mail::Mail;
use super::content_line::{ContentLine, Input, Piece};
use super::mime::decode::Base64;
use super::stage::Stage;
use super::{Analyzer, Cx, First, Match, Spec, spec};

/// Commands without an answer (Zeek: `POP3::max_pending_commands`). The oldest is dropped.
const PENDING_MAX: usize = 10;
/// Unknown commands after which it is not POP3 (Zeek: `POP3::max_unknown_client_commands`).
const UNKNOWN_MAX: u32 = 10;
/// Bytes of the originator that the probe looks at.
const PROBED_BYTES_MAX: usize = 1024;

/// POP3.
pub static SPEC: Spec = Spec {
    name: "POP3",
    ports: &[],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Pop3::new()),
};

/// The responder greets with `+OK`, the originator begins a line with a command of a session's
/// begin.
fn probe(first: &First<'_>) -> Match {
    let begin = first.resp.get(..3).unwrap_or(first.resp);
    if !b"+OK".starts_with(begin) {
        return Match::No;
    }
    if begin.len() < 3 {
        return Match::Later;
    }
    let bytes = first.orig.get(..PROBED_BYTES_MAX).unwrap_or(first.orig);
    let is_command = |line: &[u8]| {
        let line = line.trim_ascii_start();
        let mut word = *line.first_chunk::<4>().unwrap_or(&[0; 4]);
        word.make_ascii_uppercase();
        let has_argument = line.get(4).is_some_and(u8::is_ascii_whitespace);
        match &word {
            b"USER" | b"APOP" => has_argument,
            b"CAPA" | b"AUTH" | b"STLS" => true,
            _ => false,
        }
    };
    // The end of a line counts as the blank behind a command.
    let found = bytes.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')).any(is_command);
    if found { Match::Yes } else { Match::Later }
}

/// What the session is allowed to do (RFC 1939 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Start,
    Authorization,
    Transaction,
    Over,
}

/// What the next answer is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Auth { is_plain: bool },
    Command(Word),
}

struct Pop3 {
    lines: [ContentLine; 2],
    phase: Phase,
    state: State,
    /// The state once an answer shows that a command was allowed.
    guess: Option<Word>,
    is_authenticating: bool,
    wants_lines: bool,
    in_lines: bool,
    pending: VecDeque<Vec<u8>>,
    unknown: u32,
    mail: Option<Mail>,
    tls: Option<Stage>,
}

impl Pop3 {
    fn new() -> Self {
        Self {
            lines: Default::default(),
            phase: Phase::Start,
            state: State::Start,
            guess: None,
            is_authenticating: false,
            wants_lines: false,
            in_lines: false,
            pending: VecDeque::new(),
            unknown: 0,
            mail: None,
            tls: None,
        }
    }

    fn pieces(&mut self, side: Side, mut input: Input<'_>, cx: &mut Cx<'_>) {
        while let Some(Piece::Line(line)) =
            self.lines.get_mut(side.index()).and_then(|lines| lines.next(&mut input, cx))
        {
            if cx.is_partial {
                continue;
            }
            match side {
                Side::Orig => self.request(&line, cx),
                Side::Resp => self.answer(&line, cx),
            }
            if let Some(tls) = &mut self.tls {
                tls.deliver(side, input.take_rest(), cx);
                return;
            }
        }
    }

    fn request(&mut self, line: &[u8], cx: &mut Cx<'_>) {
        if line.is_empty() {
            return;
        }
        if self.is_authenticating {
            self.credentials(line, cx);
            return;
        }
        self.pending.push_back(line.to_vec());
        if self.pending.len() > PENDING_MAX {
            cx.weird("pop3_client_too_many_pending_commands");
            self.pending.pop_front();
        }
        // The others wait for the answers before them.
        if self.pending.len() == 1 {
            self.command(cx);
        }
    }

    /// A line of the exchange that AUTH began (RFC 5034).
    fn credentials(&mut self, line: &[u8], cx: &mut Cx<'_>) {
        let len = line.iter().position(|&byte| byte == 0).unwrap_or(line.len());
        let mut decoded = Vec::new();
        let mut base64 = Base64::default();
        base64.decode(line.get(..len).unwrap_or_default(), &mut decoded, cx);
        if base64.has_erred() {
            cx.weird("pop3_bad_base64_encoding");
            return;
        }
        base64.finish(&mut decoded, cx);
        // Identity, user, password (RFC 4616), the last not empty.
        if self.state == (State::Auth { is_plain: true }) {
            let mut parts = decoded.splitn(3, |&byte| byte == 0).skip(2);
            if parts.next().is_none_or(<[u8]>::is_empty) {
                cx.weird("pop3_malformed_auth_plain");
            }
        }
    }

    /// The oldest command that was not answered.
    fn command(&mut self, cx: &mut Cx<'_>) {
        let Some(line) = self.pending.front() else { return };
        let (word, argument) = split(line);
        let Some(command) = Word::parse(&word) else {
            if !self.is_authenticating {
                self.unknown_command(&word, cx);
            }
            return;
        };
        let in_transaction = self.phase == Phase::Transaction;
        match command {
            Word::Ok | Word::Err => cx.weird("pop3_client_sending_server_commands"),
            Word::User | Word::Apop => {
                if self.phase == Phase::Authorization {
                    self.state = State::Command(command);
                }
            }
            Word::Pass => {
                let is_next = self.state == State::Command(Word::User);
                if self.phase == Phase::Authorization && is_next {
                    self.state = State::Command(command);
                }
            }
            Word::Auth => self.auth(&argument),
            Word::Capa => {
                self.state = State::Command(command);
                self.wants_lines = true;
            }
            Word::Stls => self.state = State::Command(command),
            Word::Quit => {
                if self.phase == Phase::Over {
                    self.guess = Some(Word::Simple);
                } else {
                    self.state = State::Command(command);
                }
            }
            Word::List | Word::Uidl | Word::Retr | Word::Top | Word::Simple => {
                self.wants_lines |= match command {
                    Word::List | Word::Uidl => argument.is_empty(),
                    _ => command != Word::Simple,
                };
                if in_transaction {
                    self.state = State::Command(command);
                } else {
                    self.guess = Some(command);
                }
            }
        }
    }

    fn auth(&mut self, argument: &[u8]) {
        if self.phase != Phase::Authorization {
            return;
        }
        let has = |word: &[u8]| argument.windows(word.len()).any(|window| window == word);
        if argument.is_empty() {
            self.wants_lines = true;
            self.state = State::Auth { is_plain: false };
        } else {
            self.state = State::Auth { is_plain: !has(b"LOGIN") && has(b"PLAIN") };
            self.is_authenticating = true;
        }
    }

    fn unknown_command(&mut self, word: &[u8], cx: &mut Cx<'_>) {
        cx.weird_with("pop3_client_command_unknown", &shown(word));
        self.unknown += 1;
        if self.unknown > UNKNOWN_MAX {
            cx.violation("too many unknown client commands", &[]);
        }
    }

    fn answer(&mut self, line: &[u8], cx: &mut Cx<'_>) {
        if self.in_lines {
            self.further_line(line, cx);
            return;
        }
        let (word, _) = split(line);
        match Word::parse(&word) {
            Some(Word::Ok) => self.accepted(line, cx),
            Some(Word::Err) => self.refused(cx),
            Some(_) => cx.weird("pop3_server_sending_client_commands"),
            None if self.is_authenticating => {}
            None => {
                let word = shown(&word);
                cx.violation(format!("unknown server command ({word})"), line);
                cx.weird_with("pop3_server_command_unknown", &word);
            }
        }
    }

    /// A line of an answer that has several.
    fn further_line(&mut self, line: &[u8], cx: &mut Cx<'_>) {
        if line == b"." {
            self.wants_lines = false;
            self.in_lines = false;
            self.end_mail(cx);
            self.answered(cx);
        } else if matches!(self.state, State::Command(Word::Retr | Word::Top))
            && let Some(mail) = &mut self.mail
        {
            mail.line(line, cx);
        }
    }

    fn accepted(&mut self, line: &[u8], cx: &mut Cx<'_>) {
        if let Some(guess) = self.guess.take() {
            self.phase = Phase::Transaction;
            self.state = State::Command(guess);
        }
        match self.state {
            State::Start => self.phase = Phase::Authorization,
            State::Command(Word::User) => {
                self.phase = Phase::Authorization;
                cx.confirm();
            }
            State::Command(Word::Pass | Word::Apop | Word::Simple) => {
                self.phase = Phase::Transaction;
            }
            State::Auth { .. } => {
                self.in_lines |= self.wants_lines;
                if std::mem::take(&mut self.is_authenticating) {
                    self.phase = Phase::Transaction;
                }
            }
            State::Command(Word::Top | Word::Retr) => {
                self.mail.get_or_insert_with(|| Mail::begin(cx)).line(line, cx);
                self.in_lines |= self.wants_lines;
            }
            State::Command(Word::Capa) => {
                cx.confirm();
                self.in_lines |= self.wants_lines;
            }
            State::Command(Word::Uidl | Word::List) => self.in_lines |= self.wants_lines,
            State::Command(Word::Stls) => {
                cx.confirm();
                self.tls = Some(match spec("SSL") {
                    Some(ssl) => Stage::of(ssl, cx),
                    None => Stage::detecting(Proto::Tcp),
                });
                return;
            }
            State::Command(Word::Quit) => self.phase = Phase::Over,
            State::Command(Word::Ok | Word::Err | Word::Auth) => {}
        }
        if !self.in_lines {
            self.answered(cx);
        }
    }

    fn refused(&mut self, cx: &mut Cx<'_>) {
        self.wants_lines = false;
        self.guess = None;
        self.is_authenticating = false;
        match self.state {
            State::Command(Word::User | Word::Pass | Word::Apop) | State::Auth { .. } => {
                self.phase = Phase::Authorization;
                self.state = State::Start;
            }
            State::Command(Word::Simple | Word::List | Word::Retr | Word::Uidl | Word::Top) => {
                self.phase = Phase::Transaction
            }
            State::Command(Word::Quit) => self.phase = Phase::Over,
            State::Start | State::Command(_) => {}
        }
        self.answered(cx);
    }

    /// The oldest command has its answer: the next is looked at.
    fn answered(&mut self, cx: &mut Cx<'_>) {
        if self.pending.pop_front().is_some() {
            self.command(cx);
        }
    }

    fn end_mail(&mut self, cx: &mut Cx<'_>) {
        if let Some(mail) = self.mail.take() {
            mail.end(cx);
        }
    }
}

/// A word in a message; `???` when there is none.
fn shown(word: &[u8]) -> String {
    if word.is_empty() { "???".to_owned() } else { String::from_utf8_lossy(word).into_owned() }
}

impl Analyzer for Pop3 {
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
        }
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
        self.end_mail(cx);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.end_mail(cx);
        if let Some(tls) = &mut self.tls {
            tls.end(cx);
        }
    }
}
