//! Messages of SNMP: bytes in, [`Message`] out. Faults are worded as analyzer.log prints them.

use super::ber::{self, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE};
use crate::analyzer::bytes::Cursor;

/// What a message says, as far as it could be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// Version as it is sent: 0, 1 or 3.
    pub(super) version: i64,
    /// The header was read.
    pub(super) has_header: bool,
    /// The flags of version 3 are not one byte.
    pub(super) has_odd_flags: bool,
    /// Community, or the name of the user.
    pub(super) community: Option<&'a [u8]>,
    /// What it is for; none when it could not be read.
    pub(super) kind: Option<Kind>,
    /// Variables in it.
    pub(super) bindings: u64,
    /// `sysDescr.0` (RFC 3418).
    pub(super) description: Option<&'a [u8]>,
    /// `sysUpTime.0`, in hundredths of a second.
    pub(super) up_time_ticks: Option<u64>,
    /// Bytes of numbers within object identifiers that no 64 bits hold; the first of each.
    pub(super) long_numbers: Vec<usize>,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    GetBulk,
    Response,
    Set,
    /// Traps, reports, what is encrypted or unknown.
    Other,
}

/// Object identifier of `sysDescr.0`: 1.3.6.1.2.1.1.1.0.
const SYS_DESCR: &[u8] = &[0x2b, 6, 1, 2, 1, 1, 1, 0];
/// Object identifier of `sysUpTime.0`: 1.3.6.1.2.1.1.3.0.
const SYS_UP_TIME: &[u8] = &[0x2b, 6, 1, 2, 1, 1, 3, 0];

/// Reads a datagram; what was read before a fault stays.
pub(super) fn parse(bytes: &[u8]) -> (Message<'_>, Option<String>) {
    let mut message = Message::default();
    let fault = read(&mut Cursor::new(bytes), &mut message).err();
    (message, fault)
}

fn read<'a>(cursor: &mut Cursor<'a>, message: &mut Message<'a>) -> Result<(), String> {
    ber::sequence(cursor)?;
    let version = ber::expect(cursor, INTEGER)?;
    message.version = ber::number(version).cast_signed();
    match message.version {
        0 | 1 => message.community = Some(ber::expect(cursor, OCTET_STRING)?),
        3 => {
            let goes_on = version_3(cursor, message)?;
            message.has_header = true;
            if !goes_on {
                return Ok(());
            }
        }
        _ => {
            message.has_header = true;
            return Ok(());
        }
    }
    message.has_header = true;
    pdu(cursor, message)
}

/// RFC 3412 section 6. False when the rest cannot be read, because it is encrypted.
fn version_3<'a>(cursor: &mut Cursor<'a>, message: &mut Message<'a>) -> Result<bool, String> {
    const USER_BASED: u64 = 3;
    ber::sequence(cursor)?;
    ber::expect(cursor, INTEGER)?;
    ber::expect(cursor, INTEGER)?;
    let flags = ber::expect(cursor, OCTET_STRING)?;
    let model = ber::number(ber::expect(cursor, INTEGER)?);
    message.has_odd_flags = flags.len() != 1;
    let parameters = ber::expect(cursor, OCTET_STRING)?;
    let (tag, _) = ber::head(cursor)?;
    let is_plain = tag == SEQUENCE;
    if is_plain {
        ber::expect(cursor, OCTET_STRING)?;
        ber::expect(cursor, OCTET_STRING)?;
    } else {
        // Logged without the user: Zeek has not read the parameters yet when it sees this.
        message.kind = Some(Kind::Other);
    }
    if model == USER_BASED {
        let user = user_name(parameters)?;
        if is_plain && !user.is_empty() {
            message.community = Some(user);
        }
    }
    Ok(is_plain)
}

/// RFC 3414 section 2.4.
fn user_name(parameters: &[u8]) -> Result<&[u8], String> {
    let mut cursor = Cursor::new(parameters);
    ber::sequence(&mut cursor)?;
    ber::expect(&mut cursor, OCTET_STRING)?;
    ber::expect(&mut cursor, INTEGER)?;
    ber::expect(&mut cursor, INTEGER)?;
    let user = ber::expect(&mut cursor, OCTET_STRING)?;
    ber::expect(&mut cursor, OCTET_STRING)?;
    ber::expect(&mut cursor, OCTET_STRING)?;
    Ok(user)
}

fn pdu<'a>(cursor: &mut Cursor<'a>, message: &mut Message<'a>) -> Result<(), String> {
    const TRAP_V1: u8 = 0xa4;
    let (tag, _) = ber::head(cursor)?;
    let kind = match tag {
        0xa0 | 0xa1 => Kind::Get,
        0xa2 => Kind::Response,
        0xa3 => Kind::Set,
        0xa5 => Kind::GetBulk,
        0xa4 | 0xa6..=0xa8 => Kind::Other,
        _ => {
            message.kind = Some(Kind::Other);
            return Ok(());
        }
    };
    if tag == TRAP_V1 {
        trap(cursor, message)?;
    } else {
        for _id_then_error_then_index in 0..3 {
            ber::expect(cursor, INTEGER)?;
        }
    }
    ber::sequence(cursor)?;
    while !cursor.is_empty() {
        binding(cursor, message)?;
    }
    message.kind = Some(kind);
    Ok(())
}

/// RFC 1157 section 4.1.6.
fn trap<'a>(cursor: &mut Cursor<'a>, message: &mut Message<'a>) -> Result<(), String> {
    const IP_ADDRESS: u8 = 0x40;
    const TIME_TICKS: u8 = 0x43;
    let enterprise = ber::expect(cursor, OBJECT_IDENTIFIER)?;
    message.long_numbers.extend(long_number(enterprise));
    ber::expect(cursor, IP_ADDRESS)?;
    ber::expect(cursor, INTEGER)?;
    ber::expect(cursor, INTEGER)?;
    ber::expect(cursor, TIME_TICKS)?;
    Ok(())
}

fn binding<'a>(cursor: &mut Cursor<'a>, message: &mut Message<'a>) -> Result<(), String> {
    ber::sequence(cursor)?;
    let name = ber::expect(cursor, OBJECT_IDENTIFIER)?;
    let value = ber::value(cursor)?;
    message.bindings += 1;
    message.long_numbers.extend(long_number(name));
    if value.tag == OBJECT_IDENTIFIER {
        message.long_numbers.extend(long_number(value.bytes));
    }
    match value.tag {
        // Nothing, and the ways to say that there is nothing (RFC 3416 section 2.5).
        0x05 | 0x80..=0x82 | INTEGER | OBJECT_IDENTIFIER | 0x40 => {}
        // Counters, gauges, ticks.
        0x41..=0x43 | 0x46 => {
            if name == SYS_UP_TIME {
                message.up_time_ticks = Some(ber::number(value.bytes));
            }
        }
        _ => {
            if name == SYS_DESCR {
                message.description = Some(value.bytes);
            }
        }
    }
    Ok(())
}

/// Bytes of the first number of an object identifier (ITU-T X.690 section 8.19) that are too many
/// for Zeek. One whose last number has no end has none.
fn long_number(identifier: &[u8]) -> Option<usize> {
    const NUMBER_BYTES_MAX: usize = 10;
    let goes_on = |byte: &u8| byte & 0x80 != 0;
    if identifier.last().is_some_and(goes_on) {
        return None;
    }
    let mut numbers = identifier.split_inclusive(|byte| !goes_on(byte)).map(<[u8]>::len);
    numbers.find(|len| *len > NUMBER_BYTES_MAX)
}
