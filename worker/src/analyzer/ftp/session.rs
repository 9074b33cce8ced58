//! What a control connection is about: who is logged in and where, which commands wait for
//! their replies, which data connections were announced. Writes the rows of ftp.log.

use std::cmp::Reverse;
use std::mem;
use std::net::{IpAddr, Ipv6Addr};

use memchr::memmem;
use tyto_core::net::{Port, Proto};
use tyto_core::record::print::print_addr;
use tyto_core::time::Ts;

use super::address::{self, Endpoint};
use super::data::{self, DATA_TIMEOUT_S};
use super::held::Held;
use super::log::{DataChannel, FtpLog};
use super::{path, replies};
use crate::analyzer::Cx;
use crate::analyzer::expected::Expected;
use crate::log::software::SoftwareSeen;
use crate::neighbours::{Announcer, SessionAt};

/// Commands that may wait for replies (Zeek: `max_pending_commands`).
const PENDING_MAX: usize = 20;
/// Bytes of a user's name (Zeek: `max_user_length`).
const USER_LEN_MAX: usize = 128;
/// Bytes of a password (Zeek: `max_password_length`).
const PASSWORD_LEN_MAX: usize = 128;
/// Bytes of an argument (Zeek: `max_arg_length`).
const ARG_LEN_MAX: usize = 4096;
/// Bytes of a reply's text (Zeek: `max_reply_msg_length`).
const REPLY_LEN_MAX: usize = 4096;

/// Users whose password is no secret.
const GUESTS: [&[u8]; 4] = [b"anonymous", b"ftp", b"ftpuser", b"guest"];

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    user: Vec<u8>,
    password: Option<Vec<u8>>,
    file_size: Option<u64>,
    reply: Option<(u32, Vec<u8>)>,
    data_channel: Option<DataChannel>,
    cwd: Vec<u8>,
    /// The command that the latest reply is to, by its number.
    current: Option<u64>,
    /// Commands in the order of their numbers.
    pending: Vec<Command>,
    /// The command that was complete last, for its memory.
    spare: Command,
    /// What the row shows of an argument, or a directory to go to, for its memory.
    shown: Vec<u8>,
    commands: u64,
    /// Where the data connection is that was announced last.
    announced: Option<Endpoint>,
    held: Held,
}

#[derive(Debug, Default)]
struct Command {
    number: u64,
    ts: Ts,
    name: Vec<u8>,
    arg: Vec<u8>,
    /// It moved the session to another directory already.
    is_consumed: bool,
}

impl Session {
    /// A session that begins; the server's greeting is the reply to a command nobody sent.
    pub(super) fn new(now: Ts) -> Self {
        let mut session = Self {
            user: b"<unknown>".to_vec(),
            password: None,
            file_size: None,
            reply: None,
            data_channel: None,
            cwd: b".".to_vec(),
            current: None,
            pending: Vec::new(),
            spare: Command::default(),
            shown: Vec::new(),
            commands: 0,
            announced: None,
            held: Held::default(),
        };
        session.add(now, b"<init>", &[]);
        session
    }

    /// The replies so far told something.
    pub(super) fn finish_reply(&mut self, cx: &mut Cx<'_>) {
        if self.reply.is_some()
            && let Some(command) = self.take_current()
        {
            self.message(command, cx);
        }
    }

    /// The client sent a command.
    pub(super) fn request(&mut self, name: &[u8], arg: &[u8], cx: &mut Cx<'_>) {
        if self.pending.len() < PENDING_MAX {
            self.add(cx.now, name, arg);
        } else {
            let pending = self.pending.len().to_string();
            cx.weird_with("FTP_too_many_pending_commands", &pending);
        }
        match name {
            b"USER" => self.user = cut(arg, USER_LEN_MAX, "FTP_user_too_long", cx),
            b"PASS" => {
                self.password = Some(cut(arg, PASSWORD_LEN_MAX, "FTP_password_too_long", cx));
            }
            b"PORT" => self.active(address::port(arg), cx),
            b"EPRT" => self.active(address::eprt(arg), cx),
            b"CLNT" => {
                let host = IpAddr::from(cx.conn.orig.addr);
                cx.software(&SoftwareSeen {
                    software_type: "FTP::CLIENT",
                    host,
                    host_p: None,
                    unparsed_version: arg,
                });
            }
            _ => {}
        }
    }

    /// The server sent a line of a reply; `code` is 0 for lines within a longer reply, and
    /// `goes_on` tells that more will come.
    pub(super) fn reply(&mut self, code: u32, text: &[u8], goes_on: bool, cx: &mut Cx<'_>) {
        // Some servers begin a reply of several lines and end it with another code: what looks
        // like a reply is then taken as one.
        if goes_on && code == 0 && self.reply.is_some() && !looks_like_reply(text) {
            return;
        }
        self.current = self.best_match(code, text);
        match &mut self.reply {
            Some((kept_code, kept_text)) => {
                *kept_code = code;
                kept_text.clear();
                kept_text.extend_from_slice(text);
            }
            None => self.reply = Some((code, text.to_vec())),
        }
        if goes_on {
            return;
        }
        if matches!(code, 150 | 213 | 227 | 229 | 200 | 250 | 257) {
            self.follow_reply(code, text, cx);
        }
        if self.pending.len() > 1
            && let Some(command) = self.take_current()
        {
            self.message(command, cx);
        }
    }

    /// What the reply to the current command tells of files, data connections and directories.
    fn follow_reply(&mut self, code: u32, text: &[u8], cx: &mut Cx<'_>) {
        let current = self.current_at().and_then(|at| self.pending.get(at));
        let name = current.map_or(&b"<unknown>"[..], |current| &current.name);
        let is_passive = matches!(name, b"PASV" | b"EPSV");
        match (code, name) {
            (150, b"RETR") | (213, b"SIZE") => self.file_size = Some(last_number(text)),
            (227, _) if is_passive => self.passive(address::pasv(text), cx),
            (229, _) if is_passive => self.passive(
                address::epsv(text).map(|to| match to.addr {
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                        Endpoint { addr: cx.conn.resp.addr.into(), ..to }
                    }
                    _ => to,
                }),
                cx,
            ),
            _ => {}
        }
        self.follow_directory(code, text);
    }

    /// The control connection is over: commands without a reply are written.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        for command in mem::take(&mut self.pending) {
            self.message(command, cx);
        }
        self.held.end(cx);
        data::forget_session(cx);
    }

    /// The time has come that a row waited for.
    pub(super) fn wake(&mut self, cx: &mut Cx<'_>) {
        self.held.wake(cx);
    }

    fn add(&mut self, ts: Ts, name: &[u8], arg: &[u8]) {
        self.commands += 1;
        let mut command = mem::take(&mut self.spare);
        (command.number, command.ts, command.is_consumed) = (self.commands, ts, false);
        command.name.clear();
        command.name.extend_from_slice(name);
        command.arg.clear();
        command.arg.extend_from_slice(arg);
        self.pending.push(command);
    }

    /// Where the command is that the latest reply is to.
    fn current_at(&self) -> Option<usize> {
        let current = self.current?;
        self.pending.iter().position(|command| command.number == current)
    }

    fn take_current(&mut self) -> Option<Command> {
        Some(self.pending.remove(self.current_at()?))
    }

    /// Of the commands that wait, the one that a reply fits best; of several, the first.
    fn best_match(&self, code: u32, text: &[u8]) -> Option<u64> {
        if let [only] = &self.pending[..] {
            return Some(only.number);
        }
        let score = |command: &Command| {
            let fits = if replies::fits(&command.name, code) { 100 } else { 0 };
            let named = if contains(text, &command.name) { 20 } else { 0 };
            fits + named + if contains(text, &command.arg) { 10 } else { 0 }
        };
        let scored = |command| (score(command), Reverse(command.number));
        self.pending.iter().map(scored).max().map(|(_, Reverse(number))| number)
    }

    fn follow_directory(&mut self, code: u32, text: &[u8]) {
        let current = self.current_at().and_then(|at| self.pending.get_mut(at));
        let Some(current) = current.filter(|current| !current.is_consumed) else { return };
        let goes_to = &mut self.shown;
        goes_to.clear();
        match (&current.name[..], code) {
            (b"CWD", 250) => path::append(goes_to, &self.cwd, &current.arg),
            // An absolute path, so it is what the session goes to.
            (b"CDUP", 200 | 250) => path::append(goes_to, &self.cwd, b"/.."),
            (b"PWD" | b"XPWD", 257) => goes_to.extend_from_slice(path::first_in(text)),
            _ => return,
        }
        mem::swap(&mut self.cwd, goes_to);
        current.is_consumed = true;
    }

    fn active(&mut self, to: Option<Endpoint>, cx: &mut Cx<'_>) {
        let orig = cx.conn.resp.addr.into();
        self.announce(false, orig, to, cx);
    }

    fn passive(&mut self, to: Option<Endpoint>, cx: &mut Cx<'_>) {
        let orig = cx.conn.orig.addr.into();
        self.announce(true, orig, to, cx);
    }

    fn announce(&mut self, passive: bool, orig_h: IpAddr, to: Option<Endpoint>, cx: &mut Cx<'_>) {
        let Some(to) = to else { return };
        if !data::expect(to, cx) {
            return;
        }
        self.data_channel =
            Some(DataChannel { passive, orig_h, resp_h: to.addr, resp_p: Port(to.port) });
        self.announced = Some(to);
        let expected = Expected {
            orig: Some(orig_h),
            resp: to.addr,
            resp_port: to.port,
            proto: Proto::Tcp,
            spec: &data::SPEC,
            timeout_s: DATA_TIMEOUT_S,
        };
        let serial = cx.conn.serial;
        cx.expect(&expected, |me| Announcer::Ftp(SessionAt { worker: me.clone(), serial }));
    }

    /// A command and its reply are complete: writes them if it is a command that is logged.
    fn message(&mut self, mut current: Command, cx: &mut Cx<'_>) {
        self.show(&current, cx);
        if let Some((_, text)) = &mut self.reply
            && text.len() > REPLY_LEN_MAX
        {
            cx.weird_with("FTP_reply_msg_too_long", &text.len().to_string());
            text.truncate(REPLY_LEN_MAX);
        }
        let is_guest = GUESTS.iter().any(|guest| self.user.eq_ignore_ascii_case(guest));
        let hides = !is_guest && !cx.shared.config.log_passwords;
        if hides && current.name == b"PASS" {
            b"<hidden>"[..].clone_into(&mut self.shown);
        }
        if hides && let Some(password) = &mut self.password {
            b"<hidden>"[..].clone_into(password);
        }
        if is_logged(&current.name) {
            self.write(&mut current, cx);
        }
        self.spare = current;
        data::take_seen(cx);
        self.file_size = None;
        self.data_channel = None;
    }

    fn write(&mut self, current: &mut Command, cx: &mut Cx<'_>) {
        let seen = data::take_seen(cx);
        let row = FtpLog {
            ts: current.ts,
            uid: cx.uid(),
            id: cx.id(),
            user: mem::take(&mut self.user),
            password: self.password.take(),
            command: Some(mem::take(&mut current.name)),
            arg: (!self.shown.is_empty()).then(|| mem::take(&mut self.shown)),
            mime_type: seen.mime_type.map(Into::into),
            file_size: self.file_size,
            reply_code: self.reply.as_ref().map(|(code, _)| u64::from(*code)),
            reply_msg: self.reply.as_mut().map(|(_, text)| mem::take(text)),
            data_channel: self.data_channel,
            fuid: seen.fuid,
        };
        if cx.shared.neighbours.me().is_some()
            && row.fuid.is_none()
            && let Some(to) = self.announced.filter(|_| row.moves_file())
        {
            self.announced = None;
            self.held.hold(row.clone(), to, cx);
        } else {
            cx.row(&row);
        }
        // What was lent to the row.
        (self.user, self.password) = (row.user, row.password);
        current.name = row.command.unwrap_or_default();
        self.shown = row.arg.unwrap_or_default();
        if let (Some((_, text)), Some(reply_msg)) = (&mut self.reply, row.reply_msg) {
            *text = reply_msg;
        }
    }

    /// What the row shows of the argument: of commands on files a URL.
    fn show(&mut self, command: &Command, cx: &mut Cx<'_>) {
        let (shown, arg) = (&mut self.shown, &command.arg);
        shown.clear();
        if is_about_file(&command.name) {
            shown.extend_from_slice(b"ftp://");
            match IpAddr::from(cx.conn.resp.addr) {
                addr @ IpAddr::V4(_) => print_addr(shown, addr),
                IpAddr::V6(addr) => shown.extend_from_slice(format!("[{addr}]").as_bytes()),
            }
            if !path::is_rooted(&self.cwd, arg) {
                shown.push(b'/');
            }
            path::append(shown, &self.cwd, arg);
        } else {
            shown.extend_from_slice(arg);
        }
        if shown.len() > ARG_LEN_MAX {
            cx.weird_with("FTP_arg_too_long", &shown.len().to_string());
            shown.truncate(ARG_LEN_MAX);
        }
    }
}

/// Commands whose argument is a file or directory.
fn is_about_file(command: &[u8]) -> bool {
    matches!(
        command,
        b"APPE"
            | b"CWD"
            | b"DELE"
            | b"MKD"
            | b"RETR"
            | b"RMD"
            | b"RNFR"
            | b"RNTO"
            | b"STOR"
            | b"STOU"
            | b"REST"
            | b"SIZE"
            | b"MDTM"
    )
}

/// Commands that get a row.
fn is_logged(command: &[u8]) -> bool {
    matches!(
        command,
        b"APPE"
            | b"DELE"
            | b"RETR"
            | b"STOR"
            | b"STOU"
            | b"ACCT"
            | b"PORT"
            | b"PASV"
            | b"EPRT"
            | b"EPSV"
    )
}

fn cut(text: &[u8], len_max: usize, weird: &'static str, cx: &mut Cx<'_>) -> Vec<u8> {
    match text.get(..len_max) {
        Some(head) if text.len() > len_max => {
            cx.weird_with(weird, &text.len().to_string());
            head.to_vec()
        }
        _ => text.to_vec(),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memmem::find(text, part).is_some()
}

/// Three digits, a space, ten characters that print.
fn looks_like_reply(text: &[u8]) -> bool {
    let Some((&[first, second, third, space], rest)) = text.split_first_chunk::<4>() else {
        return false;
    };
    matches!(first, b'1'..=b'9')
        && second.is_ascii_digit()
        && third.is_ascii_digit()
        && space == b' '
        && rest.get(..10).is_some_and(|head| head.iter().all(|b| matches!(b, 0x20..=0x7e)))
}

/// The last number in `text`; 0 when there is none.
fn last_number(text: &[u8]) -> u64 {
    let digits = text.split(|byte| !byte.is_ascii_digit()).rfind(|digits| !digits.is_empty());
    digits
        .unwrap_or_default()
        .iter()
        .fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}
