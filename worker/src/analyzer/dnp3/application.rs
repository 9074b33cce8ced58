//! Fragments of the application layer (IEEE 1815 section 4.2). Headers are read; of the objects
//! only so far as their own headers tell where the next one begins. Faults are worded as
//! analyzer.log prints them.

use super::link::Fragment;
use crate::analyzer::bytes::Cursor;

/// The function of a request.
///
/// # Errors
/// When it is not there.
pub(super) fn request_function(bytes: &[u8]) -> Result<u8, String> {
    match bytes {
        [_, function, ..] => Ok(*function),
        _ => Err(short("DNP3_Application_Request_Header", 2, bytes.len())),
    }
}

/// The function and the internal indications of a response.
///
/// # Errors
/// When they are not there.
pub(super) fn response_header(bytes: &[u8]) -> Result<(u8, u16), String> {
    match bytes {
        [_, function, high, low, ..] => Ok((*function, u16::from_be_bytes([*high, *low]))),
        _ => Err(short("DNP3_Application_Response_Header", 4, bytes.len())),
    }
}

/// Checks the objects of a request.
///
/// # Errors
/// When a header of an object is cut.
pub(super) fn check_request(function: u8, fragment: Fragment<'_>) -> Result<(), String> {
    const HEADER_LEN: usize = 2;
    if !matches!(function, 0x01..=0x0c | 0x10..=0x12 | 0x14..=0x16 | 0x19..=0x21) {
        return Ok(());
    }
    objects(fragment, HEADER_LEN, |kind| {
        // Those that carry values in requests: commands, times, files, indications, proofs.
        matches!(
            kind,
            0x0c01..=0x0c03
                | 0x3201..=0x3203
                | 0x3301..=0x3302
                | 0x3401..=0x3402
                | 0x4601..=0x4607
                | 0x5001
                | 0x7801..=0x780f
        )
    })
}

/// Checks the objects of a response.
///
/// # Errors
/// When the header of the first object is cut.
pub(super) fn check_response(function: u8, fragment: Fragment<'_>) -> Result<(), String> {
    const HEADER_LEN: usize = 4;
    if !matches!(function, 0x81..=0x83) {
        return Ok(());
    }
    objects(fragment, HEADER_LEN, |_| true)
}

/// Passes over headers of objects up to the first that `carries` values, or to the end.
fn objects(
    fragment: Fragment<'_>,
    header_len: usize,
    carries: impl Fn(u16) -> bool,
) -> Result<(), String> {
    let len = fragment.first_len.min(fragment.bytes.len());
    let mut cursor = Cursor::new(fragment.bytes.get(header_len.min(len)..len).unwrap_or_default());
    while !cursor.is_empty() {
        let have = cursor.len();
        let (Some(kind), Some(qualifier)) = (cursor.be16(), cursor.u8()) else {
            return Err(short("Object_Header:qualifier_field", 3, have));
        };
        let range_len = match qualifier & 0x0f {
            0 | 3 | 8 => 2,
            1 | 4 | 9 => 4,
            2 | 5 => 8,
            7 | 0x0b => 1,
            6 => 0,
            // Of no known length: it takes all that is left.
            _ => return Ok(()),
        };
        let have = cursor.len();
        if cursor.skip(range_len).is_none() {
            return Err(short(range_name(qualifier & 0x0f), range_len, have));
        }
        if carries(kind) {
            return Ok(());
        }
    }
    Ok(())
}

const fn range_name(range: u8) -> &'static str {
    match range {
        0 => "Range_Field_0",
        1 => "Range_Field_1",
        2 => "Range_Field_2",
        3 => "Range_Field_3",
        4 => "Range_Field_4",
        5 => "Range_Field_5",
        7 => "Object_Header:range_field_7",
        8 => "Object_Header:range_field_8",
        9 => "Object_Header:range_field_9",
        _ => "Object_Header:range_field_b",
    }
}

fn short(name: &str, wanted: usize, have: usize) -> String {
    format!("Binpac exception: binpac exception: out_of_bound: {name}: {wanted} > {have}")
}
