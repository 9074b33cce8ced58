//! Messages of SOCKS 4, 4a and 5 (RFC 1928, 1929).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::log::Address;
use crate::analyzer::bytes::Cursor;
use tyto_core::net::Side;

/// A message.
#[derive(Debug)]
pub(super) enum Message {
    /// Version 5: methods that the client knows.
    Methods,
    /// Version 5: the method that the server chose.
    Method(u8),
    /// Version 5: who it is.
    Login {
        user: Vec<u8>,
        password: Vec<u8>,
    },
    /// Version 5: did it succeed?
    LoginReply(u8),
    /// A login of a kind that is not read: why.
    Unread {
        version: Option<u8>,
    },
    Request {
        version: u8,
        to: Address,
        port: u16,
    },
    Reply {
        version: u8,
        code: u8,
        bound: Address,
        port: u16,
    },
    /// It is no SOCKS: why.
    Wrong(String),
}

/// Where in the dialogue of version 5 it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Phase {
    /// A method was chosen.
    pub has_method: bool,
    /// It is user and password, or another that needs a dialogue.
    pub is_login: bool,
    pub method: u8,
}

/// The next message of `side`, if all of it is there.
pub(super) fn message(side: Side, phase: Phase, cursor: &mut Cursor<'_>) -> Option<Message> {
    if phase.is_login {
        return login(side, phase.method, cursor);
    }
    match (cursor.u8()?, side) {
        (4, Side::Orig) => request_v4(cursor),
        (4, Side::Resp) => {
            cursor.u8()?;
            reply_v4(cursor)
        }
        (5, Side::Orig) if !phase.has_method => {
            let methods = cursor.u8()?;
            cursor.skip(usize::from(methods)).map(|()| Message::Methods)
        }
        (5, Side::Resp) if !phase.has_method => cursor.u8().map(Message::Method),
        (5, Side::Orig) => request_v5(cursor),
        (5, Side::Resp) => reply_v5(cursor),
        (version, _) => {
            Some(Message::Wrong(format!("unsupported/unknown SOCKS version {version}")))
        }
    }
}

fn login(side: Side, method: u8, cursor: &mut Cursor<'_>) -> Option<Message> {
    const USER_PASSWORD: u8 = 2;
    if method != USER_PASSWORD {
        cursor.take_rest();
        return Some(Message::Unread { version: None });
    }
    match (cursor.u8()?, side) {
        (1, Side::Orig) => {
            let len = cursor.u8()?;
            let user = cursor.take(usize::from(len))?.to_vec();
            let len = cursor.u8()?;
            let password = cursor.take(usize::from(len))?.to_vec();
            Some(Message::Login { user, password })
        }
        (1, Side::Resp) => cursor.u8().map(Message::LoginReply),
        (version, _) => {
            cursor.take_rest();
            Some(Message::Unread { version: Some(version) })
        }
    }
}

fn request_v4(cursor: &mut Cursor<'_>) -> Option<Message> {
    cursor.u8()?;
    let port = cursor.be16()?;
    let addr = cursor.be32()?;
    cursor.until(0)?;
    let host = Some(IpAddr::V4(Ipv4Addr::from(addr)));
    // Addresses that are none say that a name follows (4a).
    let name = if addr <= 0xff { Some(cursor.until(0)?.to_vec()) } else { None };
    Some(Message::Request { version: 4, to: Address { host, name }, port })
}

fn reply_v4(cursor: &mut Cursor<'_>) -> Option<Message> {
    let code = cursor.u8()?;
    let port = cursor.be16()?;
    let host = Some(IpAddr::V4(Ipv4Addr::from(cursor.be32()?)));
    Some(Message::Reply { version: 4, code, bound: Address { host, name: None }, port })
}

fn request_v5(cursor: &mut Cursor<'_>) -> Option<Message> {
    let command = cursor.u8()?;
    let reserved = cursor.u8()?;
    let to = address(cursor)?;
    let to = match to {
        Ok(to) => to,
        Err(wrong) => return Some(wrong),
    };
    let port = cursor.be16()?;
    if reserved != 0 {
        return Some(Message::Wrong(format!("invalid value in reserved field: {reserved}")));
    }
    if command == 0 || command > 3 {
        return Some(Message::Wrong(format!("undefined value in command field: {command}")));
    }
    Some(Message::Request { version: 5, to, port })
}

fn reply_v5(cursor: &mut Cursor<'_>) -> Option<Message> {
    let code = cursor.u8()?;
    cursor.u8()?;
    match address(cursor)? {
        Ok(bound) => Some(Message::Reply { version: 5, code, bound, port: cursor.be16()? }),
        Err(wrong) => Some(wrong),
    }
}

/// An address of version 5, or what is wrong with it.
fn address(cursor: &mut Cursor<'_>) -> Option<Result<Address, Message>> {
    Some(match cursor.u8()? {
        1 => Ok(Address { host: Some(Ipv4Addr::from(cursor.be32()?).into()), name: None }),
        3 => {
            let len = cursor.u8()?;
            Ok(Address { host: None, name: Some(cursor.take(usize::from(len))?.to_vec()) })
        }
        4 => {
            let octets: [u8; 16] = cursor.array()?;
            Ok(Address { host: Some(Ipv6Addr::from(octets).into()), name: None })
        }
        kind => Err(Message::Wrong(format!("invalid SOCKSv5 addr type: {kind}"))),
    })
}
