//! SMB 2 and 3 ([MS-SMB2] section 2.2): headers, chains, and what each command means. The
//! layouts of the commands are in [`super::smb2_body`].

use std::collections::BTreeMap;

use tyto_core::net::Side;

use super::smb2_body::{self as body, command};
use super::things::Action;
use super::{PENDING_MAX, Smb};
use crate::analyzer::Cx;
use crate::analyzer::windows::reader::{Fault, Reader};
use crate::analyzer::windows::text;

/// Answers that say something else than success or failure.
const PENDING: u32 = 0x0000_0103;
const NOTIFY_ENUM_DIR: u32 = 0x0000_010c;
const BUFFER_OVERFLOW: u32 = 0x8000_0005;
const INVALID_PARAMETER: u32 = 0xc000_000d;
const MORE_PROCESSING: u32 = 0xc000_0016;
/// A call in a pipe, request and answer in one.
const PIPE_TRANSCEIVE: u32 = 0x0011_c017;

/// What is kept of requests until they are answered, by message id.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Shares: some servers do not name them.
    trees: BTreeMap<u64, u32>,
    /// File and offset of reads.
    reads: BTreeMap<u64, (u64, u64)>,
    /// Files of calls in pipes.
    controls: BTreeMap<u64, u64>,
}

/// What a header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) length: i64,
    status: u32,
    pub(super) command: u16,
    next: u32,
    message_id: u64,
    tree_id: u32,
    is_pipe: bool,
}

impl Smb {
    /// Takes one message behind its protocol id. True when another is chained to it.
    pub(super) fn pdu2(
        &mut self,
        side: Side,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<bool, Fault> {
        let header = self.header2(side, reader, cx)?;
        let outer = reader.record();
        if side == Side::Orig {
            self.request2(header, reader, cx)?;
        } else if is_error(header) {
            reader.take(4, "SMB2_error_response:reserved")?;
            let length = reader.u32("SMB2_error_response:byte_count")?;
            reader.take(length.into(), "SMB2_error_response:stuff")?;
        } else {
            self.reply2(header, reader, cx)?;
        }
        if header.next != 0 {
            const FIELD: &str = "SMB2_PDU:chain_pad";
            let length = i64::from(header.next) - header.length - reader.offset() as i64;
            let pad = u64::try_from(length)
                .map_err(|_| Fault::NegativeLength { field: FIELD, length })?;
            reader.take(pad, FIELD)?;
        }
        reader.end_record(outer);
        Ok(header.next != 0)
    }

    fn header2(
        &mut self,
        side: Side,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Header, Fault> {
        const FIELD: &str = "SMB2_Header:signature";
        let length = i64::from(reader.u16(FIELD)?);
        reader.u16(FIELD)?;
        let status = reader.u32(FIELD)?;
        let command = reader.u16(FIELD)?;
        reader.take(6, FIELD)?;
        let next = reader.u32(FIELD)?;
        let message_id = reader.u64(FIELD)?;
        reader.u32(FIELD)?;
        let tree_id = reader.u32(FIELD)?;
        reader.take(24, FIELD)?;
        let asked = self.requests.trees.get(&message_id).copied().unwrap_or(0);
        let is_pipe = self.is_of_pipes(if side == Side::Orig { tree_id } else { asked });
        if side == Side::Orig {
            if self.requests.trees.len() >= PENDING_MAX {
                self.requests.trees.clear();
                self.discarded("tree", cx);
            }
            self.requests.trees.insert(message_id, tree_id);
        } else if status != PENDING {
            self.requests.trees.remove(&message_id);
        }
        let is_final = side == Side::Resp && status != PENDING;
        self.state.message2(tree_id, message_id, is_final, cx.now);
        Ok(Header { length, status, command, next, message_id, tree_id, is_pipe })
    }

    /// Zeek's word for what it does when too much waits.
    fn discarded(&mut self, kind: &str, cx: &mut Cx<'_>) {
        let known = self.state.discard(kind);
        cx.weird_of("SMB2", "SMB_discarded_messages_state", &known);
    }

    fn request2(
        &mut self,
        header: Header,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        match header.command {
            command::SESSION_SETUP => {
                let token = body::logon_request(header, reader)?;
                self.logon(Side::Orig, token, cx);
            }
            command::TREE_CONNECT => {
                let path = text::from_utf16(body::tree_request(header, reader)?);
                self.state.tree_request2(path);
            }
            command::TREE_DISCONNECT => {
                reader.take(4, "SMB2_tree_disconnect_request:reserved")?;
                self.carriers.pipe_trees.remove(&header.tree_id);
                self.state.tree_disconnect(header.tree_id);
            }
            command::CREATE => {
                let (name, options) = body::create_request(header, reader)?;
                let name = text::from_utf16(name);
                self.heed_name(header.tree_id, &name);
                self.state.create_request2(name, options);
            }
            command::CLOSE => {
                reader.take(8, "SMB2_close_request:file_id")?;
                let file = body::file_id(reader)?;
                self.state.close(file, true, cx);
                self.content_ends(cx);
                self.close_pipe(file, cx);
            }
            command::READ => self.read_request(header, reader, cx)?,
            command::WRITE => self.write_request(header, reader, cx)?,
            command::IOCTL => {
                let body::Control { code, file, input, .. } = body::control(header, true, reader)?;
                if code == PIPE_TRANSCEIVE {
                    self.pipe(Side::Orig, file, input, cx);
                }
                if self.requests.controls.len() >= PENDING_MAX {
                    self.requests.controls.clear();
                    self.discarded("ioctl", cx);
                }
                self.requests.controls.insert(header.message_id, file);
            }
            command::SET_INFO => self.set_info(header, reader, cx)?,
            _ => body::other_request(header, reader)?,
        }
        Ok(())
    }

    fn read_request(
        &mut self,
        header: Header,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        let (offset, file) = body::read_request(header, reader)?;
        self.state.access2(file, Action::Read, cx);
        if self.requests.reads.len() >= PENDING_MAX {
            self.requests.reads.clear();
            self.discarded("read", cx);
        }
        self.requests.reads.insert(header.message_id, (file, offset));
        Ok(())
    }

    fn write_request(
        &mut self,
        header: Header,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        let (offset, file, content) = body::write_request(header, reader)?;
        if header.is_pipe {
            self.pipe(Side::Orig, file, content, cx);
        }
        self.state.access2(file, Action::Write, cx);
        if !header.is_pipe {
            self.content(Side::Orig, offset, content, cx);
        }
        Ok(())
    }

    fn set_info(
        &mut self,
        header: Header,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        match body::set_info(header, reader)? {
            body::Change::Attributes(file) => {
                self.state.access2(file, Action::SetAttribute, cx);
            }
            body::Change::Name(file, name) => {
                self.state.rename(file, text::from_utf16(name), cx);
            }
            body::Change::Delete(file, is_wanted) => self.state.delete(file, is_wanted, cx),
            body::Change::Other => {}
        }
        Ok(())
    }

    fn reply2(
        &mut self,
        header: Header,
        reader: &mut Reader<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Fault> {
        match header.command {
            command::NEGOTIATE => {
                let token = body::negotiate_reply(header, reader)?;
                self.logon(Side::Resp, token, cx);
            }
            command::SESSION_SETUP => {
                let token = body::logon_reply(header, reader)?;
                self.logon(Side::Resp, token, cx);
            }
            command::TREE_CONNECT => {
                reader.u16("SMB2_tree_connect_response:maximal_access")?;
                let share_type = reader.u8("SMB2_tree_connect_response:maximal_access")?;
                reader.take(13, "SMB2_tree_connect_response:maximal_access")?;
                if share_type == 2 {
                    self.set_of_pipes(header.tree_id);
                }
                self.state.tree_reply2(share_type, cx);
            }
            command::CREATE => {
                let (file, size, times) = body::create_reply(header, reader)?;
                let is_deleted = self.state.create_reply2(file, size, times);
                if is_deleted && header.status == 0 {
                    self.deletes.push(file);
                }
                self.state.opened(cx);
            }
            command::READ => {
                let content = body::read_reply(header, reader)?;
                let request = if header.status == PENDING {
                    self.requests.reads.get(&header.message_id).copied()
                } else {
                    self.requests.reads.remove(&header.message_id)
                };
                let (file, offset) = request.unwrap_or_default();
                if header.is_pipe {
                    self.pipe(Side::Resp, file, content, cx);
                } else {
                    self.content(Side::Resp, offset, content, cx);
                }
            }
            command::IOCTL => {
                let body::Control { code, output, .. } = body::control(header, false, reader)?;
                let file = self.requests.controls.remove(&header.message_id).unwrap_or(0);
                if code == PIPE_TRANSCEIVE {
                    self.pipe(Side::Resp, file, output, cx);
                }
            }
            _ => body::other_reply(header, reader)?,
        }
        Ok(())
    }
}

/// Whether an answer has the layout of errors ([MS-SMB2] section 3.3.4.4).
const fn is_error(header: Header) -> bool {
    let command = header.command;
    match header.status {
        0 => false,
        BUFFER_OVERFLOW => {
            command != command::IOCTL && command != command::QUERY_INFO && command != command::READ
        }
        INVALID_PARAMETER => command != command::IOCTL,
        MORE_PROCESSING => command != command::SESSION_SETUP,
        NOTIFY_ENUM_DIR => command != command::CHANGE_NOTIFY,
        _ => true,
    }
}
