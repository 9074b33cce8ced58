//! Layouts of the commands of SMB 2 ([MS-SMB2] sections 2.2.3 to 2.2.40). A reader stands
//! behind the header; offsets count from the header's begin.

use super::smb2::Header;
use super::things::Times;
use crate::analyzer::windows::reader::{Fault, Reader};

/// Numbers of the commands.
pub(super) mod command {
    pub(in super::super) const NEGOTIATE: u16 = 0;
    pub(in super::super) const SESSION_SETUP: u16 = 1;
    pub(in super::super) const TREE_CONNECT: u16 = 3;
    pub(in super::super) const TREE_DISCONNECT: u16 = 4;
    pub(in super::super) const CREATE: u16 = 5;
    pub(in super::super) const CLOSE: u16 = 6;
    pub(in super::super) const FLUSH: u16 = 7;
    pub(in super::super) const READ: u16 = 8;
    pub(in super::super) const WRITE: u16 = 9;
    pub(in super::super) const LOCK: u16 = 10;
    pub(in super::super) const IOCTL: u16 = 11;
    pub(in super::super) const CANCEL: u16 = 12;
    pub(in super::super) const ECHO: u16 = 13;
    pub(in super::super) const QUERY_DIRECTORY: u16 = 14;
    pub(in super::super) const CHANGE_NOTIFY: u16 = 15;
    pub(in super::super) const QUERY_INFO: u16 = 16;
    pub(in super::super) const SET_INFO: u16 = 17;
    pub(in super::super) const OPLOCK_BREAK: u16 = 18;
}

/// What a `SET_INFO` changes, and of which file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    Attributes(u64),
    Name(u64, &'a [u8]),
    Delete(u64, bool),
    Other,
}

/// The dialect that has negotiate contexts.
const DIALECT_311: u16 = 0x0311;

/// Both parts of a file's id as one, as Zeek joins them.
pub(super) fn file_id(reader: &mut Reader<'_>) -> Result<u64, Fault> {
    let persistent = reader.u64("SMB2_guid:persistent")?;
    Ok(persistent.wrapping_add(reader.u64("SMB2_guid:_volatile")?))
}

/// `length` bytes at `offset` from the begin of the header.
fn at<'a>(
    header: Header,
    offset: u64,
    length: u64,
    reader: &mut Reader<'a>,
    field: &'static str,
) -> Result<&'a [u8], Fault> {
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    reader.pad_to(offset.saturating_sub(header.length), field)?;
    reader.take(length, field)
}

pub(super) fn logon_request<'a>(
    header: Header,
    reader: &mut Reader<'a>,
) -> Result<&'a [u8], Fault> {
    const FIELD: &str = "SMB2_session_setup_request:security_blob";
    reader.take(12, FIELD)?;
    let (offset, length) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
    at(header, offset.into(), length.into(), reader, FIELD)
}

pub(super) fn logon_reply<'a>(header: Header, reader: &mut Reader<'a>) -> Result<&'a [u8], Fault> {
    const FIELD: &str = "SMB2_session_setup_response:security_blob";
    reader.take(4, FIELD)?;
    let (offset, length) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
    at(header, offset.into(), length.into(), reader, FIELD)
}

/// The token of a negotiate answer.
pub(super) fn negotiate_reply<'a>(
    header: Header,
    reader: &mut Reader<'a>,
) -> Result<&'a [u8], Fault> {
    const FIELD: &str = "SMB2_negotiate_response:security_blob";
    reader.take(4, FIELD)?;
    let (dialect, contexts) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
    reader.take(48, FIELD)?;
    reader.u16(FIELD)?;
    let length = reader.u16(FIELD)?;
    let offset = reader.u32(FIELD)?;
    let token = reader.take(length.into(), FIELD)?;
    if dialect == DIALECT_311 {
        reader.pad_to(i64::from(offset) - header.length, "SMB2_negotiate_response:pad1")?;
        for left in (0..contexts).rev() {
            let outer = reader.record();
            negotiate_context(reader)?;
            if left > 0 {
                reader.align(8);
            }
            reader.end_record(outer);
        }
    }
    Ok(token)
}

fn negotiate_context(reader: &mut Reader<'_>) -> Result<(), Fault> {
    const FIELD: &str = "SMB3_negotiate_context_value:data";
    let (kind, length) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
    reader.u32(FIELD)?;
    let length = match kind {
        1 => {
            let (hashes, salt) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
            u64::from(hashes) * 2 + u64::from(salt)
        }
        2 => u64::from(reader.u16(FIELD)?) * 2,
        3 => u64::from(reader.u16(FIELD)?) * 2 + 6,
        _ => length.into(),
    };
    reader.take(length, FIELD).map(drop)
}

/// Name of a share.
pub(super) fn tree_request<'a>(header: Header, reader: &mut Reader<'a>) -> Result<&'a [u8], Fault> {
    const FIELD: &str = "SMB2_tree_connect_request:path";
    reader.take(4, FIELD)?;
    let (offset, length) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
    at(header, offset.into(), length.into(), reader, FIELD)
}

/// Name and options of a file to be opened.
pub(super) fn create_request<'a>(
    header: Header,
    reader: &mut Reader<'a>,
) -> Result<(&'a [u8], u32), Fault> {
    const FIELD: &str = "SMB2_create_request:filename";
    reader.take(40, FIELD)?;
    let options = reader.u32(FIELD)?;
    let (offset, length) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
    let (contexts, contexts_length) = (reader.u32(FIELD)?, reader.u32(FIELD)?);
    let name = at(header, offset.into(), length.into(), reader, FIELD)?;
    create_contexts(header, contexts, contexts_length, reader)?;
    Ok((name, options))
}

/// Id, size and times of a file that was opened.
pub(super) fn create_reply(
    header: Header,
    reader: &mut Reader<'_>,
) -> Result<(u64, u64, Times), Fault> {
    const FIELD: &str = "SMB2_create_response:file_id";
    reader.take(8, FIELD)?;
    let (created, accessed) = (reader.u64(FIELD)?, reader.u64(FIELD)?);
    let (modified, changed) = (reader.u64(FIELD)?, reader.u64(FIELD)?);
    reader.u64(FIELD)?;
    let size = reader.u64(FIELD)?;
    reader.u64(FIELD)?;
    let file = file_id(reader)?;
    let (contexts, contexts_length) = (reader.u32(FIELD)?, reader.u32(FIELD)?);
    create_contexts(header, contexts, contexts_length, reader)?;
    Ok((file, size, Times { modified, accessed, created, changed }))
}

fn create_contexts(
    header: Header,
    offset: u32,
    length: u32,
    reader: &mut Reader<'_>,
) -> Result<(), Fault> {
    const FIELD: &str = "SMB2_create_request:contexts";
    at(header, offset.into(), length.into(), reader, FIELD).map(drop)
}

/// Offset and file.
pub(super) fn read_request(header: Header, reader: &mut Reader<'_>) -> Result<(u64, u64), Fault> {
    const FIELD: &str = "SMB2_read_request:buffer";
    reader.take(8, FIELD)?;
    let offset = reader.u64(FIELD)?;
    let file = file_id(reader)?;
    reader.take(12, FIELD)?;
    let (info, length) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
    at(header, info.into(), length.into(), reader, FIELD)?;
    Ok((offset, file))
}

pub(super) fn read_reply<'a>(header: Header, reader: &mut Reader<'a>) -> Result<&'a [u8], Fault> {
    const FIELD: &str = "SMB2_read_response:data";
    reader.u16(FIELD)?;
    let offset = reader.u8(FIELD)?;
    reader.u8(FIELD)?;
    let length = reader.u32(FIELD)?;
    reader.u64(FIELD)?;
    at(header, offset.into(), length.into(), reader, FIELD)
}

/// Offset, file and content.
pub(super) fn write_request<'a>(
    header: Header,
    reader: &mut Reader<'a>,
) -> Result<(u64, u64, &'a [u8]), Fault> {
    const FIELD: &str = "SMB2_write_request:data";
    reader.u16(FIELD)?;
    let place = reader.u16(FIELD)?;
    let length = reader.u32(FIELD)?;
    let offset = reader.u64(FIELD)?;
    let file = file_id(reader)?;
    reader.take(16, FIELD)?;
    Ok((offset, file, at(header, place.into(), length.into(), reader, FIELD)?))
}

/// A control.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control<'a> {
    pub(super) code: u32,
    pub(super) file: u64,
    pub(super) input: &'a [u8],
    pub(super) output: &'a [u8],
}

pub(super) fn control<'a>(
    header: Header,
    is_request: bool,
    reader: &mut Reader<'a>,
) -> Result<Control<'a>, Fault> {
    const FIELD: &str = "SMB2_ioctl_request:input_buffer";
    reader.u32(FIELD)?;
    let code = reader.u32(FIELD)?;
    let file = file_id(reader)?;
    let (input_at, input) = (reader.u32(FIELD)?, reader.u32(FIELD)?);
    if is_request {
        reader.u32(FIELD)?;
    }
    let (output_at, output) = (reader.u32(FIELD)?, reader.u32(FIELD)?);
    reader.take(if is_request { 12 } else { 8 }, FIELD)?;
    if input_at != 0 {
        control_pad(header, input_at, reader)?;
    }
    let input = reader.take(input.into(), FIELD)?;
    if output_at != 0 && output_at != input_at {
        control_pad(header, output_at, reader)?;
    }
    let output = reader.take(output.into(), "SMB2_ioctl_request:output_buffer")?;
    Ok(Control { code, file, input, output })
}

/// Zeek counts this the other way round: what stands ahead of here is a fault, what stands
/// behind is passed over once more.
fn control_pad(header: Header, offset: u32, reader: &mut Reader<'_>) -> Result<(), Fault> {
    const FIELD: &str = "SMB2_ioctl_request:pad1";
    let length = reader.offset() as i64 + header.length - i64::from(offset);
    let pad = u64::try_from(length).map_err(|_| Fault::NegativeLength { field: FIELD, length })?;
    reader.take(pad, FIELD).map(drop)
}

pub(super) fn set_info<'a>(header: Header, reader: &mut Reader<'a>) -> Result<Change<'a>, Fault> {
    const FIELD: &str = "SMB2_set_info_request:data";
    reader.u16(FIELD)?;
    let (class, level) = (reader.u8(FIELD)?, reader.u8(FIELD)?);
    reader.u32(FIELD)?;
    let offset = reader.u16(FIELD)?;
    reader.take(6, FIELD)?;
    let file = file_id(reader)?;
    reader.pad_to(i64::from(offset) - header.length, FIELD)?;
    let fixed = match (class, level) {
        (1, 0x04) => {
            reader.take(36, FIELD)?;
            return Ok(Change::Attributes(file));
        }
        (1, 0x0a) => {
            reader.take(16, FIELD)?;
            let length = reader.u32(FIELD)?;
            return Ok(Change::Name(file, reader.take(length.into(), FIELD)?));
        }
        (1, 0x0d) => return Ok(Change::Delete(file, reader.u8(FIELD)? > 0)),
        (1, 0x0f) => {
            extended_attributes(reader)?;
            0
        }
        (1, 0x0b) => {
            reader.take(16, FIELD)?;
            u64::from(reader.u32(FIELD)?)
        }
        (1, 0x28) => u64::from(reader.u32(FIELD)?),
        (1, 0x0e | 0x13 | 0x14 | 0x18 | 0x27) => 8,
        (1, 0x10) => 4,
        (2, 0x06) => 48,
        (2, 0x08) => 64,
        _ => 0,
    };
    reader.take(fixed, FIELD)?;
    Ok(Change::Other)
}

fn extended_attributes(reader: &mut Reader<'_>) -> Result<(), Fault> {
    const FIELD: &str = "SMB2_file_fullea_info_element:ea_value";
    while !reader.is_empty() {
        let outer = reader.record();
        let next = reader.u32(FIELD)?;
        reader.u8(FIELD)?;
        let name = reader.u8(FIELD)?;
        let value = reader.u16(FIELD)?;
        reader.take(u64::from(name) + u64::from(value), FIELD)?;
        reader.pad_to(next.into(), FIELD)?;
        reader.end_record(outer);
        if next == 0 {
            break;
        }
    }
    Ok(())
}

/// Requests of which nothing is kept.
pub(super) fn other_request(header: Header, reader: &mut Reader<'_>) -> Result<(), Fault> {
    const FIELD: &str = "SMB2_Message_Request:request";
    match header.command {
        command::NEGOTIATE => {
            reader.u16(FIELD)?;
            let dialects = reader.u16(FIELD)?;
            reader.take(32 + u64::from(dialects) * 2, FIELD)?;
        }
        command::FLUSH | command::OPLOCK_BREAK => drop(reader.take(24, FIELD)?),
        command::LOCK => {
            reader.u16(FIELD)?;
            let locks = reader.u16(FIELD)?;
            reader.take(20 + u64::from(locks) * 20, FIELD)?;
        }
        command::CANCEL | command::ECHO => drop(reader.take(4, FIELD)?),
        command::QUERY_DIRECTORY => {
            reader.take(24, FIELD)?;
            let (offset, length) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
            reader.u32(FIELD)?;
            at(header, offset.into(), length.into(), reader, FIELD)?;
        }
        command::CHANGE_NOTIFY => drop(reader.take(32, FIELD)?),
        command::QUERY_INFO => {
            reader.take(8, FIELD)?;
            let offset = reader.u32(FIELD)? & 0xffff;
            let length = reader.u32(FIELD)?;
            reader.take(24, FIELD)?;
            at(header, offset.into(), length.into(), reader, FIELD)?;
        }
        _ => {}
    }
    Ok(())
}

/// Answers of which nothing is kept.
pub(super) fn other_reply(header: Header, reader: &mut Reader<'_>) -> Result<(), Fault> {
    const FIELD: &str = "SMB2_Message_Response:response";
    match header.command {
        command::TREE_DISCONNECT | command::FLUSH | command::LOCK | command::ECHO => {
            reader.take(4, FIELD)?;
        }
        command::CLOSE => drop(reader.take(60, FIELD)?),
        command::WRITE => drop(reader.take(16, FIELD)?),
        command::QUERY_DIRECTORY | command::QUERY_INFO => drop(buffer(header, reader)?),
        command::CHANGE_NOTIFY => {
            let mut changes = Reader::little(buffer(header, reader)?);
            while !changes.is_empty() {
                changes.u64(FIELD)?;
                let name = changes.u32(FIELD)?;
                changes.take(name.into(), FIELD)?;
            }
        }
        command::SET_INFO => drop(reader.u16(FIELD)?),
        command::OPLOCK_BREAK => drop(reader.take(24, FIELD)?),
        _ => {}
    }
    Ok(())
}

fn buffer<'a>(header: Header, reader: &mut Reader<'a>) -> Result<&'a [u8], Fault> {
    const FIELD: &str = "SMB2_query_info_response:buffer";
    reader.u16(FIELD)?;
    let offset = reader.u16(FIELD)?;
    let length = reader.u32(FIELD)?;
    at(header, offset.into(), length.into(), reader, FIELD)
}
