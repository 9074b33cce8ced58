//! SMB 1 ([MS-CIFS] section 2.2): headers, chained commands and transactions. Logons and shares
//! are in [`super::smb1_session`], files in [`super::smb1_files`]. A reader stands at the begin of a command, where its
//! count of words is.

use std::collections::BTreeMap;

use tyto_core::net::Side;

use super::Smb;
use crate::analyzer::Cx;
use crate::analyzer::windows::reader::{Fault, Reader};
use crate::analyzer::windows::text;

/// Bytes of the header, its protocol id included.
pub(super) const HEADER_BYTES: u16 = 32;
/// Length of a message that has a header and nothing in it.
const EMPTY_MESSAGE: usize = 35;
/// Commands that may be chained in one message (Zeek: `SMB::max_andx_depth`).
const DEPTH_MAX: u8 = 10;
/// No further command.
const END_OF_CHAIN: u8 = 0xff;
/// What is kept of requests, of each kind. At the limit it is forgotten.
const REQUESTS_MAX: usize = 1000;

/// Numbers of the commands that are looked at.
mod command {
    pub(super) const CLOSE: u8 = 0x04;
    pub(super) const QUERY_INFORMATION: u8 = 0x08;
    pub(super) const CHECK_DIRECTORY: u8 = 0x10;
    pub(super) const TRANSACTION: u8 = 0x25;
    pub(super) const TRANSACTION_SECONDARY: u8 = 0x26;
    pub(super) const ECHO: u8 = 0x2b;
    pub(super) const READ: u8 = 0x2e;
    pub(super) const WRITE: u8 = 0x2f;
    pub(super) const TRANSACTION2: u8 = 0x32;
    pub(super) const TRANSACTION2_SECONDARY: u8 = 0x33;
    pub(super) const TREE_DISCONNECT: u8 = 0x71;
    pub(super) const NEGOTIATE: u8 = 0x72;
    pub(super) const SESSION_SETUP: u8 = 0x73;
    pub(super) const LOGOFF: u8 = 0x74;
    pub(super) const TREE_CONNECT: u8 = 0x75;
    pub(super) const CREATE: u8 = 0xa2;
    pub(super) const CANCEL: u8 = 0xa4;
}

/// What is kept of requests until they are answered, by message id.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Offsets of reads.
    pub(super) reads: BTreeMap<u16, u64>,
    /// Transactions, and whether they are of a pipe.
    transactions: BTreeMap<u16, bool>,
}

/// What a header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) is_unicode: bool,
    pub(super) tree_id: u16,
    pub(super) message_id: u16,
    pub(super) is_pipe: bool,
}

/// A command's place in the chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) side: Side,
    /// Bytes in front of it, as Zeek counts them.
    pub(super) offset: u16,
    pub(super) depth: u8,
}

/// What a command says of the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct AndX {
    command: u8,
    offset: u16,
}

impl AndX {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let command = reader.u8("SMB_andx:offset")?;
        reader.u8("SMB_andx:offset")?;
        Ok(Self { command, offset: reader.u16("SMB_andx:offset")? })
    }
}

impl Smb {
    /// Takes one message behind its protocol id; `length` is that of the session's message.
    pub(super) fn pdu1(
        &mut self,
        side: Side,
        length: usize,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB_Header:mid";
        let command = reader.u8(FIELD)?;
        reader.take(5, FIELD)?;
        let is_unicode = reader.u16(FIELD)? & 0x8000 != 0;
        reader.take(12, FIELD)?;
        let tree_id = reader.u16(FIELD)?;
        reader.take(4, FIELD)?;
        let message_id = reader.u16(FIELD)?;
        let is_pipe = self.is_of_pipes(tree_id.into());
        self.state.message1(tree_id, message_id, side == Side::Orig, cx.now);
        if length == EMPTY_MESSAGE {
            return reader.take(3, "SMB_No_Message:x").map(drop);
        }
        let header = Header { is_unicode, tree_id, message_id, is_pipe };
        self.command1(header, command, Link { side, offset: HEADER_BYTES, depth: 0 }, reader, cx)
    }

    fn command1(
        &mut self,
        header: Header,
        command: u8,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        let outer = reader.record();
        if link.side == Side::Orig {
            self.request1(header, command, link, reader, cx)?;
        } else {
            self.reply1(header, command, link, reader, cx)?;
        }
        reader.end_record(outer);
        Ok(())
    }

    fn request1(
        &mut self,
        header: Header,
        command: u8,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB_Message_Request:request";
        match command {
            command::READ => self.read_request1(header, link, reader, cx),
            command::WRITE => self.write_request1(header, link, reader, cx),
            command::CREATE => self.create_request1(header, link, reader, cx),
            command::CLOSE => self.close_request1(reader, cx),
            command::SESSION_SETUP => self.logon_request1(header, link, reader, cx),
            command::TREE_CONNECT => self.tree_request1(header, link, reader, cx),
            command::TRANSACTION => self.transaction_request(header, reader, cx),
            command::TRANSACTION2 => transaction2_request(header, reader),
            command::TRANSACTION_SECONDARY => secondary(reader, 17),
            command::TRANSACTION2_SECONDARY => secondary(reader, 19),
            command::NEGOTIATE | command::TREE_DISCONNECT | command::CANCEL => {
                reader.u8(FIELD)?;
                let length = reader.u16(FIELD)?;
                let is_counted = command == command::NEGOTIATE;
                reader.take(if is_counted { length.into() } else { 0 }, FIELD).map(drop)
            }
            command::QUERY_INFORMATION | command::CHECK_DIRECTORY => {
                reader.take(4, FIELD)?;
                string(header.is_unicode, 0, reader, FIELD).map(drop)
            }
            command::LOGOFF => self.logoff(header, link, reader, cx),
            command::ECHO => echo(reader),
            _ => Ok(()),
        }
    }

    fn reply1(
        &mut self,
        header: Header,
        command: u8,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB_Message_Response:response";
        match command {
            command::READ => self.read_reply1(header, link, reader, cx),
            command::WRITE => {
                reader.u8(FIELD)?;
                let andx = AndX::parse(reader)?;
                reader.take(10, FIELD)?;
                self.next1(header, andx, link, reader, cx)
            }
            command::CREATE => self.create_reply1(header, link, reader, cx),
            command::NEGOTIATE => self.negotiate_reply1(header, reader, cx),
            command::SESSION_SETUP => self.logon_reply1(header, link, reader, cx),
            command::TREE_CONNECT => self.tree_reply1(header, link, reader, cx),
            command::TRANSACTION => self.transaction_reply(header, reader, cx),
            command::TRANSACTION2 => {
                reader.take(21, FIELD)?;
                let length = reader.u16(FIELD)?;
                reader.take(length.into(), FIELD).map(drop)
            }
            command::CLOSE | command::CHECK_DIRECTORY | command::TREE_DISCONNECT => {
                reader.take(3, FIELD).map(drop)
            }
            command::QUERY_INFORMATION => reader.take(23, FIELD).map(drop),
            command::LOGOFF => self.logoff(header, link, reader, cx),
            command::ECHO => echo(reader),
            _ => Ok(()),
        }
    }

    /// The next command of the chain. It counts before the one in front of it, as with Zeek.
    pub(super) fn next1(
        &mut self,
        header: Header,
        andx: AndX,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB_andx_command:extra_byte_parameters";
        let here = i64::from(link.offset) + reader.offset() as i64;
        let ahead = i64::from(andx.offset);
        if andx.offset != 0 && ahead < here + 2 {
            let length = ahead - here;
            let extra = u64::try_from(length)
                .map_err(|_| Fault::NegativeLength { field: FIELD, length })?;
            reader.take(extra, FIELD)?;
        }
        let advances = andx.offset > link.offset;
        if andx.command != END_OF_CHAIN && advances && link.depth <= DEPTH_MAX {
            let offset = link.offset.wrapping_add(u16::try_from(reader.offset()).unwrap_or(0));
            let next = Link { side: link.side, offset, depth: link.depth + 1 };
            self.command1(header, andx.command, next, reader, cx)?;
        }
        if andx.command != END_OF_CHAIN && !advances {
            cx.limit_reached("smb_andx_offset_not_advancing", "");
        }
        if andx.command != END_OF_CHAIN && link.depth >= DEPTH_MAX {
            cx.limit_reached("smb_andx_depth_exceeded", "");
        }
        Ok(())
    }

    fn logoff(
        &mut self,
        header: Header,
        link: Link,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        reader.u8("SMB1_logoff_andx:byte_count")?;
        let andx = AndX::parse(reader)?;
        reader.u16("SMB1_logoff_andx:byte_count")?;
        // Zeek reads what follows as a request, whoever sends it.
        self.next1(header, andx, Link { side: Side::Orig, ..link }, reader, cx)
    }

    fn transaction_request(
        &mut self,
        header: Header,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_transaction_request:data";
        reader.take(19, FIELD)?;
        let (parameters, parameters_at) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
        let (_, content_at) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
        let setup = reader.u8(FIELD)?;
        reader.take(1 + u64::from(setup) * 2 + 2, FIELD)?;
        let name = string(header.is_unicode, reader.offset(), reader, FIELD)?;
        pad(parameters_at, reader, FIELD)?;
        reader.take(parameters.into(), FIELD)?;
        pad(content_at, reader, FIELD)?;
        let kind = Transaction::of(header.is_unicode, name.bytes);
        let is_pipe = kind == Transaction::Pipe
            || kind == Transaction::Unknown && self.is_of_pipes(header.tree_id.into());
        if kind == Transaction::Pipe {
            self.pipe(Side::Orig, 0, reader.rest(), cx);
        }
        let transactions = &mut self.smb1.transactions;
        if transactions.len() >= REQUESTS_MAX {
            transactions.clear();
        }
        transactions.insert(header.message_id, is_pipe);
        Ok(())
    }

    fn transaction_reply(
        &mut self,
        header: Header,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        const FIELD: &str = "SMB1_transaction_response:data";
        reader.take(7, FIELD)?;
        let (parameters, parameters_at) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
        reader.u16(FIELD)?;
        let (content, content_at) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
        reader.u16(FIELD)?;
        let setup = reader.u8(FIELD)?;
        reader.take(1 + u64::from(setup) * 2 + 2, FIELD)?;
        pad(parameters_at, reader, FIELD)?;
        reader.take(parameters.into(), FIELD)?;
        pad(content_at, reader, FIELD)?;
        let is_pipe = self.smb1.transactions.remove(&header.message_id).unwrap_or(false);
        if is_pipe && content > 0 {
            self.pipe(Side::Resp, 0, reader.rest(), cx);
        }
        Ok(())
    }

    /// Remembers where a read begins.
    pub(super) fn expect_read(&mut self, message_id: u16, offset: u64) {
        if self.smb1.reads.len() >= REQUESTS_MAX {
            self.smb1.reads.clear();
        }
        self.smb1.reads.insert(message_id, offset);
    }
}

/// What a transaction is for, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    Pipe,
    Lanman,
    Unknown,
}

impl Transaction {
    fn of(is_unicode: bool, name: &[u8]) -> Self {
        let step = if is_unicode { 2 } else { 1 };
        let mut letters = name.iter().step_by(step);
        let mut begins = |with: &[u8]| with.iter().all(|letter| letters.next() == Some(letter));
        if !begins(b"\\PIPE\\") {
            Self::Unknown
        } else if begins(b"LANMAN") {
            Self::Lanman
        } else {
            Self::Pipe
        }
    }
}

/// A string as it stands in a message, its NUL included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    is_unicode: bool,
    pub(super) bytes: &'a [u8],
}

impl Text<'_> {
    /// As UTF-8, without its NUL.
    pub(super) fn text(self) -> Vec<u8> {
        if self.is_unicode {
            return text::from_utf16(self.bytes);
        }
        self.bytes.strip_suffix(&[0]).unwrap_or(self.bytes).to_vec()
    }
}

/// A string up to its NUL, or the end. Unicode begins at even offsets; `offset` is the one here.
pub(super) fn string<'a>(
    is_unicode: bool,
    offset: usize,
    reader: &mut Reader<'a>,
    field: &'static str,
) -> Result<Text<'a>, Fault> {
    if is_unicode {
        reader.take((offset & 1) as u64, field)?;
    }
    let rest = reader.rest();
    let length = if is_unicode {
        let end = rest.chunks_exact(2).position(|unit| unit == [0, 0]);
        end.map_or(rest.len(), |units| units * 2 + 2)
    } else {
        rest.iter().position(|byte| *byte == 0).map_or(rest.len(), |at| at + 1)
    };
    Ok(Text { is_unicode, bytes: reader.take(length as u64, field)? })
}

/// Reads on at an offset that counts from the begin of the header.
pub(super) fn pad(offset: u16, reader: &mut Reader<'_>, field: &'static str) -> Result<(), Fault> {
    reader.pad_to(i64::from(offset) - i64::from(HEADER_BYTES), field)
}

/// The further part of a transaction, of which nothing is kept.
fn secondary(reader: &mut Reader<'_>, words: u64) -> Result<(), Fault> {
    const FIELD: &str = "SMB1_transaction_secondary_request:data";
    reader.take(5, FIELD)?;
    let (parameters, parameters_at) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
    reader.u16(FIELD)?;
    let (content, content_at) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
    reader.take(words - 15 + 2, FIELD)?;
    pad(parameters_at, reader, FIELD)?;
    reader.take(parameters.into(), FIELD)?;
    pad(content_at, reader, FIELD)?;
    // Only the kind with a file id is checked to the end.
    reader.take(if words == 19 { content.into() } else { 0 }, FIELD).map(drop)
}

fn transaction2_request(header: Header, reader: &mut Reader<'_>) -> Result<(), Fault> {
    const FIELD: &str = "SMB1_transaction2_request:parameters";
    reader.take(21, FIELD)?;
    let parameters_at = reader.u16(FIELD)?;
    reader.take(6, FIELD)?;
    let kind = reader.u16(FIELD)?;
    reader.u16(FIELD)?;
    pad(parameters_at, reader, FIELD)?;
    // Of these, a fixed part and a name; of a file by its id, the id.
    let fixed = match kind {
        0x01 => 12,
        0x05 => 6,
        0x10 => 2,
        0x07 => return reader.take(4, FIELD).map(drop),
        _ => return Ok(()),
    };
    reader.take(fixed, FIELD)?;
    string(header.is_unicode, 0, reader, FIELD).map(drop)
}

fn echo(reader: &mut Reader<'_>) -> Result<(), Fault> {
    const FIELD: &str = "SMB1_echo_request:data";
    reader.take(3, FIELD)?;
    let length = reader.u16(FIELD)?;
    reader.take(length.into(), FIELD).map(drop)
}
