//! Messages of `PostgreSQL`'s protocol 3 (its manual, section "Message Formats").

use crate::analyzer::bytes::Cursor;

/// Bytes of a message that are looked at; of rows and copies none are.
const BODY_KEPT_MAX: usize = 64 * 1024;

/// What a message says that the log wants to know.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Query(Vec<u8>),
    Terminate,
    Error(Vec<(u8, Vec<u8>)>),
    Notice(Vec<(u8, Vec<u8>)>),
    AuthenticationOk,
    Authentication(u32),
    Row,
    /// Ready for the next query; true unless the transaction failed.
    Ready(bool),
}

/// Messages out of one side's bytes.
#[derive(Debug, Default)]
pub(super) struct Messages {
    header: Vec<u8>,
    body: Vec<u8>,
    missing: usize,
}

/// A message: its type, length and, as far as it is kept, body.
#[derive(Debug)]
pub(super) struct Message {
    pub kind: u8,
    pub len: usize,
    pub body: Vec<u8>,
}

/// A length or a value that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong;

impl Messages {
    /// Takes bytes until a message is whole. None: all was taken.
    pub(super) fn next(&mut self, rest: &mut &[u8]) -> Result<Option<Message>, Wrong> {
        const HEADER_LEN: usize = 5;
        if self.header.len() < HEADER_LEN {
            let (head, tail) = split(rest, HEADER_LEN - self.header.len());
            self.header.extend_from_slice(head);
            *rest = tail;
            let Some((_, len)) = header(&self.header) else { return Ok(None) };
            self.missing = len.checked_sub(4).ok_or(Wrong)?;
        }
        let Some((kind, len)) = header(&self.header) else { return Ok(None) };
        let (head, tail) = split(rest, self.missing);
        if matches!(kind, b'E' | b'N' | b'R' | b'S' | b'Z' | b'K' | b'Q') {
            let room = BODY_KEPT_MAX - self.body.len().min(BODY_KEPT_MAX);
            self.body.extend_from_slice(head.get(..room).unwrap_or(head));
        }
        self.missing -= head.len();
        *rest = tail;
        if self.missing > 0 {
            return Ok(None);
        }
        self.header.clear();
        Ok(Some(Message { kind, len: len - 4, body: std::mem::take(&mut self.body) }))
    }
}

fn split(bytes: &[u8], len: usize) -> (&[u8], &[u8]) {
    bytes.split_at(len.min(bytes.len()))
}

fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let mut cursor = Cursor::new(bytes);
    Some((cursor.u8()?, cursor.be32()? as usize))
}

/// Reads a message of the client.
pub(super) fn frontend(message: &Message) -> Said {
    match message.kind {
        b'X' => Said::Terminate,
        b'Q' => {
            let text = message.body.split(|byte| *byte == 0).next().unwrap_or_default();
            Said::Query(text.to_vec())
        }
        _ => Said::Nothing,
    }
}

/// Reads a message of the server.
pub(super) fn backend(message: &Message) -> Result<Said, Wrong> {
    let is_cut = message.body.len() < message.len;
    read_backend(message).or(if is_cut { Some(Said::Nothing) } else { None }).ok_or(Wrong)
}

fn read_backend(message: &Message) -> Option<Said> {
    /// The highest known way to log in.
    const AUTHENTICATION_MAX: u32 = 12;
    let mut cursor = Cursor::new(&message.body);
    match message.kind {
        b'K' => cursor.skip(8).map(|()| Said::Nothing),
        b'E' => fields(&mut cursor).map(Said::Error),
        b'N' => fields(&mut cursor).map(Said::Notice),
        b'R' => match cursor.be32().filter(|id| *id <= AUTHENTICATION_MAX)? {
            0 if message.len == 4 => Some(Said::AuthenticationOk),
            0 => None,
            id => Some(Said::Authentication(id)),
        },
        b'S' => {
            let name = cursor.until(0)?;
            let value = cursor.until(0)?;
            let prints = |byte: &u8| matches!(byte, 0x20..=0x7e);
            (is_name(name) && value.iter().all(prints)).then_some(Said::Nothing)
        }
        b'D' => Some(Said::Row),
        b'Z' => match cursor.u8()? {
            b'I' | b'T' => Some(Said::Ready(true)),
            b'E' => Some(Said::Ready(false)),
            _ => None,
        },
        _ => Some(Said::Nothing),
    }
}

fn fields(cursor: &mut Cursor<'_>) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut fields = Vec::new();
    loop {
        match cursor.u8()? {
            0 => return Some(fields),
            code => fields.push((code, cursor.until(0)?.to_vec())),
        }
    }
}

fn is_name(name: &[u8]) -> bool {
    let may = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
    !name.is_empty() && name.iter().all(may)
}

/// The parameters of a startup message, without its length and version.
pub(super) fn startup(body: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut cursor = Cursor::new(body.strip_suffix(&[0])?);
    let mut parameters = Vec::new();
    while !cursor.rest().is_empty() {
        let (name, value) = (cursor.until(0)?, cursor.until(0)?);
        let prints = value.iter().all(|byte| matches!(byte, 0x20..=0x7e));
        if !is_name(name) || value.is_empty() || !prints {
            return None;
        }
        parameters.push((name, value));
    }
    Some(parameters)
}
