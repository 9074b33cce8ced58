//! Messages of DHCP (RFC 2131 section 2, options: RFC 2132): bytes in, [`Message`] out. Faults
//! are worded as analyzer.log prints them.
//!
//! Options of a fixed size are passed over by that size, whatever length they state: what
//! follows tells whether that was right.

use std::net::Ipv4Addr;

use crate::analyzer::bytes::Cursor;
use crate::analyzer::text::hex_between;

/// What stands before the options of DHCP (RFC 2131 section 3).
pub(super) const COOKIE: u32 = 0x6382_5363;

/// Bytes of a client's hardware address in the header.
const HARDWARE_LEN: usize = 16;

/// A message, with what the log shows of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) transaction: u32,
    pub(super) your_addr: u32,
    pub(super) hardware: [u8; HARDWARE_LEN],
    pub(super) cookie: u32,
    /// Kind of message; 0 when no option tells it.
    pub(super) kind: u8,
    pub(super) host_name: Option<&'a [u8]>,
    pub(super) domain: Option<&'a [u8]>,
    pub(super) requested: Option<Ipv4Addr>,
    pub(super) lease_s: Option<u32>,
    pub(super) text: Option<&'a [u8]>,
    /// Kind of hardware, and its address.
    pub(super) client_id: Option<(u8, &'a [u8])>,
    pub(super) client_fqdn: Option<&'a [u8]>,
}

/// Reads a datagram.
///
/// # Errors
/// When it is cut: its options have an end.
pub(super) fn parse(bytes: &[u8]) -> Result<Message<'_>, String> {
    const LEN: usize = 240;
    let mut cursor = Cursor::new(bytes);
    let mut message = header(&mut cursor)
        .ok_or_else(|| format!("out_of_bound: DHCP_Message:cookie: {LEN} > {}", bytes.len()))?;
    while option(&mut cursor, &mut message)? {}
    Ok(message)
}

fn header<'a>(cursor: &mut Cursor<'a>) -> Option<Message<'a>> {
    const NAMES_LEN: usize = 64 + 128;
    cursor.skip(4)?;
    let transaction = cursor.be32()?;
    cursor.skip(4)?;
    let [_, your_addr, _, _] = [cursor.be32()?, cursor.be32()?, cursor.be32()?, cursor.be32()?];
    let hardware = cursor.array()?;
    cursor.skip(NAMES_LEN)?;
    let cookie = cursor.be32()?;
    Some(Message { transaction, your_addr, hardware, cookie, ..Message::default() })
}

/// Reads an option. False at the end of them.
fn option<'a>(cursor: &mut Cursor<'a>, message: &mut Message<'a>) -> Result<bool, String> {
    const PAD: u8 = 0;
    const END: u8 = 255;
    let Some(code) = cursor.u8() else {
        return Err("out_of_bound: Option:code: 1 > 0".to_owned());
    };
    if matches!(code, PAD | END) {
        return Ok(code != END);
    }
    let Some(len) = cursor.u8() else {
        return Err("out_of_bound: OptionValueWrapper:length: 1 > 0".to_owned());
    };
    let size = match code {
        // Subnet, time offset, broadcast, requested address, lease, server, renewal, rebinding.
        1 | 2 | 28 | 50 | 51 | 54 | 58 | 59 => 4,
        // Lists of addresses.
        3 | 4 | 5 | 6 | 42 | 44 => usize::from(len) / 4 * 4,
        // Forwarding, kind of message, automatic configuration.
        19 | 53 | 116 => 1,
        57 => 2,
        61 => usize::from(len.max(1)),
        81 => usize::from(len.max(3)),
        _ => usize::from(len),
    };
    let have = cursor.len();
    let Some(value) = cursor.take(size) else {
        return Err(format!("out_of_bound: OptionValue: {size} > {have}"));
    };
    message.option(code, value);
    Ok(true)
}

impl<'a> Message<'a> {
    fn option(&mut self, code: u8, value: &'a [u8]) {
        let number = || value.try_into().map_or(0, u32::from_be_bytes);
        match code {
            12 => self.host_name = Some(value),
            15 => self.domain = Some(without_nulls(value)),
            50 => self.requested = Some(Ipv4Addr::from_bits(number())),
            51 => self.lease_s = Some(number()),
            // The first tells.
            53 if self.kind == 0 => self.kind = value.first().copied().unwrap_or_default(),
            56 => self.text = Some(value),
            61 => self.client_id = value.split_first().map(|(kind, address)| (*kind, address)),
            81 => self.client_fqdn = value.get(3..),
            _ => {}
        }
    }
}

/// Up to the last byte that is not null; Zeek takes one byte alone for none.
fn without_nulls(value: &[u8]) -> &[u8] {
    match value.iter().rposition(|byte| *byte != 0) {
        Some(last @ 1..) => value.get(..=last).unwrap_or_default(),
        _ => &[],
    }
}

/// A hardware address of six or eight bytes; empty when there are fewer.
pub(super) fn mac(bytes: &[u8]) -> String {
    let shown = match bytes {
        [_, _, _, _, _, _] => bytes,
        [_, _, _, _, _, _, 0, 0, ..] => bytes.get(..6).unwrap_or_default(),
        [_, _, _, _, _, _, _, _, ..] => bytes.get(..8).unwrap_or_default(),
        _ => &[],
    };
    hex_between(shown, ":")
}
