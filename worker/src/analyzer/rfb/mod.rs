//! RFB, the protocol of VNC (RFC 6143): versions, authentication, the screen. What is drawn is
//! not looked at.

mod log;
#[cfg(test)]
mod tests;

use tyto_core::net::Side;

use self::log::{RfbLog, authentication_method};
use super::bytes::Cursor;
use super::{Analyzer, Cx, First, Match, Spec};

/// Bytes of one message that are waited for; the longest that is read has 64 KB of text.
const MESSAGE_LEN_MAX: usize = 256 * 1024 + 64;
/// Bytes of a text.
const TEXT_LEN_MAX: u32 = 65_536;

/// RFB.
pub static SPEC: Spec = Spec {
    name: "RFB",
    ports: &[],
    tcp_probe: Some(probe),
    udp_probe: None,
    begin: |_| Box::new(Rfb::default()),
};

/// Both sides begin with their version.
fn probe(first: &First<'_>) -> Match {
    let side = |bytes: &[u8]| match bytes.get(..3) {
        Some(b"RFB") => Match::Yes,
        Some(_) => Match::No,
        None => Match::Later,
    };
    match (side(first.orig), side(first.resp)) {
        (Match::Yes, Match::Yes) => Match::Yes,
        (Match::No, _) | (_, Match::No) => Match::No,
        _ => Match::Later,
    }
}

/// What the client says next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Client {
    #[default]
    Version,
    Selection,
    VncResponse,
    ArdResponse,
    Init,
    Messages,
    /// Nothing, until the server has spoken.
    Wait,
}

/// What the server says next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Server {
    #[default]
    Version,
    Type,
    Types,
    Failure,
    VncChallenge,
    ArdChallenge,
    Result,
    Init,
    Drawing,
    /// Nothing, until the client has spoken.
    Wait,
}

#[derive(Debug, Default)]
struct Rfb {
    kept: [Vec<u8>; 2],
    client: Client,
    server: Server,
    version: u32,
    ard_key_len: usize,
    is_given_up: bool,
    row: Option<RfbLog>,
    is_logged: bool,
}

/// Why nothing was read.
enum Stop {
    /// The message is not whole.
    Later,
    /// It is not RFB: why.
    Wrong(String),
}

impl Rfb {
    fn row(&mut self, cx: &Cx<'_>) -> &mut RfbLog {
        self.row.get_or_insert_with(|| RfbLog {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            client_major_version: None,
            client_minor_version: None,
            server_major_version: None,
            server_minor_version: None,
            authentication_method: None,
            auth: None,
            share_flag: None,
            desktop_name: None,
            width: None,
            height: None,
        })
    }

    fn client(&mut self, cursor: &mut Cursor<'_>, cx: &mut Cx<'_>) -> Result<(), Stop> {
        const LATER: Stop = Stop::Later;
        match self.client {
            Client::Version => {
                let (major, minor) = version(cursor)?;
                let number = minor.iter().fold(0, |number, digit| {
                    number * 10 + u32::from(digit.wrapping_sub(b'0').min(9))
                });
                let row = self.row(cx);
                row.client_major_version = Some(major);
                row.client_minor_version = Some(minor);
                cx.confirm();
                self.version = number;
                (self.server, self.client) = if number >= 7 {
                    (Server::Types, Client::Selection)
                } else {
                    (Server::Type, Client::Wait)
                };
            }
            Client::Selection => {
                let kind = cursor.u8().ok_or(LATER)?;
                self.row(cx).authentication_method = Some(authentication_method(kind.into()));
                (self.server, self.client) = match kind {
                    1 if self.version > 7 => (Server::Result, Client::Init),
                    1 => (Server::Init, Client::Init),
                    2 => (Server::VncChallenge, Client::VncResponse),
                    30 => (Server::ArdChallenge, Client::Wait),
                    _ => return Err(Stop::Wrong(format!("unknown RFB auth selection: {kind}"))),
                };
            }
            Client::VncResponse => {
                cursor.skip(16).ok_or(LATER)?;
                self.client = Client::Init;
            }
            Client::ArdResponse => {
                cursor.skip(2 * self.ard_key_len).ok_or(LATER)?;
                self.client = Client::Init;
            }
            Client::Init => {
                let shared = cursor.u8().ok_or(LATER)?;
                self.row(cx).share_flag = Some(shared != 0);
                self.client = Client::Messages;
            }
            Client::Messages => return client_message(cursor),
            Client::Wait => {
                let wrong = "Binpac exception: invalid data from RFB client";
                return Err(Stop::Wrong(wrong.to_owned()));
            }
        }
        Ok(())
    }

    fn server(&mut self, cursor: &mut Cursor<'_>, cx: &mut Cx<'_>) -> Result<(), Stop> {
        const LATER: Stop = Stop::Later;
        match self.server {
            Server::Version => {
                let (major, minor) = version(cursor)?;
                let row = self.row(cx);
                row.server_major_version = Some(major);
                row.server_minor_version = Some(minor);
                self.server = Server::Wait;
            }
            Server::Type => {
                let kind = cursor.be32().ok_or(LATER)?;
                self.row(cx).authentication_method = Some(authentication_method(kind));
                (self.server, self.client) = match kind {
                    0 => (Server::Failure, Client::Init),
                    1 => (Server::Init, Client::Init),
                    2 => (Server::VncChallenge, Client::VncResponse),
                    _ => return Err(Stop::Wrong(format!("invalid RFB security type {kind}"))),
                };
            }
            Server::Types => {
                let count = cursor.u8().ok_or(LATER)?;
                cursor.skip(usize::from(count)).ok_or(LATER)?;
                self.server = if count == 0 { Server::Failure } else { Server::Wait };
            }
            Server::Failure => {
                text(cursor)?;
                self.server = Server::Init;
            }
            Server::VncChallenge => {
                cursor.skip(16).ok_or(LATER)?;
                self.server = Server::Result;
                self.client = Client::VncResponse;
            }
            Server::ArdChallenge => {
                cursor.skip(2).ok_or(LATER)?;
                let key_len = usize::from(cursor.be16().ok_or(LATER)?);
                cursor.skip(2 * key_len).ok_or(LATER)?;
                self.ard_key_len = key_len;
                self.server = Server::Result;
                self.client = Client::ArdResponse;
            }
            Server::Result => {
                let result = cursor.be32().ok_or(LATER)?;
                self.row(cx).auth = Some(result == 0);
                self.server = match result {
                    0 => Server::Init,
                    1 => Server::Failure,
                    _ => return Err(Stop::Wrong(format!("invalid RFB auth result: {result}"))),
                };
            }
            Server::Init => self.screen(cursor, cx)?,
            Server::Wait => {
                let wrong = "Binpac exception: invalid data from RFB server";
                return Err(Stop::Wrong(wrong.to_owned()));
            }
            Server::Drawing => {
                cursor.take_rest();
            }
        }
        Ok(())
    }

    fn screen(&mut self, cursor: &mut Cursor<'_>, cx: &mut Cx<'_>) -> Result<(), Stop> {
        const PIXEL_FORMAT_LEN: usize = 16;
        let width = cursor.be16().ok_or(Stop::Later)?;
        let height = cursor.be16().ok_or(Stop::Later)?;
        cursor.skip(PIXEL_FORMAT_LEN).ok_or(Stop::Later)?;
        let name = text(cursor)?.to_vec();
        self.server = Server::Drawing;
        let row = self.row(cx);
        row.desktop_name = Some(name);
        row.width = Some(width.into());
        row.height = Some(height.into());
        self.write(cx);
        Ok(())
    }

    fn write(&mut self, cx: &mut Cx<'_>) {
        if let Some(row) = &self.row
            && !std::mem::replace(&mut self.is_logged, true)
        {
            cx.row(row);
        }
    }

    fn read(&mut self, side: Side, kept: &[u8], cx: &mut Cx<'_>) -> usize {
        let mut cursor = Cursor::new(kept);
        let mut read = 0;
        while read < kept.len() {
            let result = match side {
                Side::Orig => self.client(&mut cursor, cx),
                Side::Resp => self.server(&mut cursor, cx),
            };
            match result {
                Ok(()) => read = cursor.position(),
                Err(Stop::Later) => break,
                Err(Stop::Wrong(reason)) => {
                    self.is_given_up = true;
                    cx.violation(reason, &[]);
                    break;
                }
            }
        }
        read
    }
}

impl Analyzer for Rfb {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let is_drawing = side == Side::Resp && self.server == Server::Drawing;
        if cx.is_partial || self.is_given_up || is_drawing {
            return;
        }
        let Some(slot) = self.kept.get_mut(side.index()) else { return };
        let mut kept = std::mem::take(slot);
        kept.extend_from_slice(bytes);
        let read = self.read(side, &kept, cx);
        kept.drain(..read.min(kept.len()));
        if kept.len() > MESSAGE_LEN_MAX {
            self.is_given_up = true;
        } else if !self.is_given_up
            && let Some(slot) = self.kept.get_mut(side.index())
        {
            *slot = kept;
        }
    }

    fn gap(&mut self, _side: Side, _missed_bytes: u64, _cx: &mut Cx<'_>) {
        self.is_given_up = true;
    }

    fn flipped(&mut self) {
        self.kept.swap(0, 1);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.write(cx);
    }
}

/// `RFB 003.008` and a line feed.
fn version(cursor: &mut Cursor<'_>) -> Result<(Vec<u8>, Vec<u8>), Stop> {
    let line: [u8; 12] = cursor.array().ok_or(Stop::Later)?;
    match line {
        [b'R', b'F', b'B', b' ', a, b, c, b'.', d, e, f, _] => Ok((vec![a, b, c], vec![d, e, f])),
        _ => Err(Stop::Wrong("Binpac exception: binpac exception: string mismatch".to_owned())),
    }
}

fn text<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Stop> {
    let len = cursor.be32().ok_or(Stop::Later)?;
    if len >= TEXT_LEN_MAX {
        return Err(Stop::Wrong(
            "Binpac exception: binpac exception: &enforce violation : RFB:len".to_owned(),
        ));
    }
    cursor.take(len as usize).ok_or(Stop::Later)
}

/// Skips a message of the client.
fn client_message(cursor: &mut Cursor<'_>) -> Result<(), Stop> {
    let later = |skipped: Option<()>| skipped.ok_or(Stop::Later);
    match cursor.u8().ok_or(Stop::Later)? {
        0 => later(cursor.skip(19)),
        2 => {
            later(cursor.skip(1))?;
            let count = cursor.be16().ok_or(Stop::Later)?;
            later(cursor.skip(4 * usize::from(count)))
        }
        3 => later(cursor.skip(9)),
        4 => later(cursor.skip(7)),
        5 => later(cursor.skip(5)),
        6 => {
            later(cursor.skip(3))?;
            text(cursor).map(|_| ())
        }
        kind => Err(Stop::Wrong(format!(
            "Binpac exception: binpac exception: invalid index for case: ClientMessage: {kind}"
        ))),
    }
}
