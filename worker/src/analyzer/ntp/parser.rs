//! Messages of NTP: bytes in, [`Message`] out. A reason of an error is worded as analyzer.log
//! prints it.

use crate::analyzer::bytes::Cursor;

/// Bytes behind the header up to which they are a code of authenticity and no extensions
/// (RFC 5906: key id and a digest of 20 bytes).
const MAC_LEN_MAX: usize = 24;

/// A message.
#[derive(Debug, PartialEq)]
pub(super) struct Message<'a> {
    pub(super) version: u8,
    pub(super) mode: u8,
    pub(super) body: Body<'a>,
}

/// What a mode carries.
#[derive(Debug, PartialEq)]
pub(super) enum Body<'a> {
    /// Modes 1 to 5.
    Sync(Sync),
    /// Mode 6.
    Control(Control<'a>),
    /// Mode 7.
    Private(Private<'a>),
    /// Mode 0.
    Reserved,
}

/// RFC 5905 section 7.3.
#[derive(Debug, PartialEq)]
pub(super) struct Sync {
    pub(super) stratum: u8,
    pub(super) poll: i8,
    pub(super) precision: i8,
    /// Seconds and fractions of 2^-16.
    pub(super) root_delay: [i16; 2],
    pub(super) root_dispersion: [i16; 2],
    pub(super) reference_id: [u8; 4],
    /// Reference, origin, receive, transmit: seconds since 1900 and fractions of 2^-32.
    pub(super) times: [[u32; 2]; 4],
    pub(super) extensions: u64,
}

/// RFC 9327 section 2.
#[derive(Debug, PartialEq)]
pub(super) struct Control<'a> {
    pub(super) flags: u8,
    pub(super) sequence: u16,
    pub(super) status: u16,
    pub(super) association: u16,
    pub(super) payload: &'a [u8],
    pub(super) mac: Option<(u32, &'a [u8])>,
}

/// Requests of ntpd's own.
#[derive(Debug, PartialEq)]
pub(super) struct Private<'a> {
    pub(super) is_authenticated: bool,
    pub(super) sequence: u8,
    pub(super) implementation: u8,
    pub(super) request: u8,
    pub(super) error: u8,
    pub(super) payload: &'a [u8],
}

/// Reads a datagram.
///
/// # Errors
/// When it is too short for its mode, or an extension is broken.
pub(super) fn parse(bytes: &[u8]) -> Result<Message<'_>, String> {
    let mut cursor = Cursor::new(bytes);
    let first = cursor.u8().ok_or_else(|| short("NTP_PDU:first_byte", 1, 0))?;
    let (version, mode) = (first >> 3 & 0x07, first & 0x07);
    let body = match mode {
        1..=5 => Body::Sync(sync(&mut cursor)?),
        6 => Body::Control(control(&mut cursor)?),
        7 => Body::Private(private(&mut cursor)?),
        _ => Body::Reserved,
    };
    Ok(Message { version, mode, body })
}

fn sync(cursor: &mut Cursor<'_>) -> Result<Sync, String> {
    const LEN: usize = 47;
    let have = cursor.len();
    let sync = sync_header(cursor).ok_or_else(|| short("NTP_std_msg:transmit_ts", LEN, have))?;
    let mut extensions = 0;
    while cursor.len() > MAC_LEN_MAX {
        extension(cursor)?;
        extensions += 1;
    }
    Ok(Sync { extensions, ..sync })
}

fn sync_header(cursor: &mut Cursor<'_>) -> Option<Sync> {
    let [stratum, poll, precision] = cursor.array()?;
    let mut span = || Some([cursor.be16()?.cast_signed(), cursor.be16()?.cast_signed()]);
    let (root_delay, root_dispersion) = (span()?, span()?);
    let reference_id = cursor.array()?;
    let mut time = || Some([cursor.be32()?, cursor.be32()?]);
    Some(Sync {
        stratum,
        poll: poll.cast_signed(),
        precision: precision.cast_signed(),
        root_delay,
        root_dispersion,
        reference_id,
        times: [time()?, time()?, time()?, time()?],
        extensions: 0,
    })
}

/// RFC 5906 section 10, which is what Zeek takes all extensions for.
fn extension(cursor: &mut Cursor<'_>) -> Result<(), String> {
    const FIXED_LEN: usize = 18;
    let mut rest = *cursor;
    let have = rest.len();
    let mut fixed = rest.sub(FIXED_LEN).ok_or_else(|| short("Extension_Field", FIXED_LEN, have))?;
    let (_, len) = (fixed.be16(), fixed.be16().unwrap_or_default());
    if len < 16 {
        return Err("enforce violation : Extension_Field:len".to_owned());
    }
    fixed.skip(10);
    let value_len = fixed.be32().unwrap_or_default();
    if len < 18 || value_len > u32::from(len - 18) {
        return Err("enforce violation : Extension_Field:value_len".to_owned());
    }
    let value_len = usize::try_from(value_len).unwrap_or(usize::MAX);
    let have = rest.len();
    rest.skip(value_len).ok_or_else(|| short("Extension_Field:value", value_len, have))?;
    let signature_len =
        rest.be32().ok_or_else(|| short("Extension_Field:sig_len", 4, rest.len()))?;
    if len < 22 || value_len > usize::from(len - 22) {
        return Err("enforce violation : Extension_Field:sig_len".to_owned());
    }
    let signature_len = usize::try_from(signature_len).unwrap_or(usize::MAX);
    let have = rest.len();
    rest.skip(signature_len)
        .ok_or_else(|| short("Extension_Field:signature", signature_len, have))?;
    let read = rest.position() - cursor.position();
    let padding = usize::from(len).saturating_sub(read);
    let have = rest.len();
    rest.skip(padding).ok_or_else(|| short("Extension_Field:pad", padding, have))?;
    *cursor = rest;
    Ok(())
}

fn control<'a>(cursor: &mut Cursor<'a>) -> Result<Control<'a>, String> {
    const LEN: usize = 11;
    const MAC_LEN: usize = 12;
    let have = cursor.len();
    let mut header = cursor.sub(LEN).ok_or_else(|| short("NTP_control_msg:c", LEN, have))?;
    let flags = header.u8().unwrap_or_default();
    let mut short_number = || header.be16().unwrap_or_default();
    let (sequence, status, association, _offset) =
        (short_number(), short_number(), short_number(), short_number());
    let count = usize::from(short_number());
    let have = cursor.len();
    let payload =
        cursor.take(count).ok_or_else(|| short("NTP_control_msg:data", LEN + count, LEN + have))?;
    let mac =
        (cursor.len() == MAC_LEN).then(|| Some((cursor.be32()?, cursor.take_rest()))).flatten();
    Ok(Control { flags, sequence, status, association, payload, mac })
}

fn private<'a>(cursor: &mut Cursor<'a>) -> Result<Private<'a>, String> {
    const LEN: usize = 5;
    const MAC_LEN: usize = 20;
    let have = cursor.len();
    let Some([flags, implementation, request, high, low]) = cursor.array::<LEN>() else {
        return Err(short("NTP_mode7_msg:err_and_data_len", LEN, have));
    };
    let len = usize::from(u16::from_be_bytes([high & 0x0f, low]));
    let have = cursor.len();
    let payload =
        cursor.take(len).ok_or_else(|| short("NTP_mode7_msg:data", LEN + len, LEN + have))?;
    let is_authenticated = flags & 0x80 != 0;
    if is_authenticated && cursor.len() < MAC_LEN {
        return Err(short("NTP_MAC", MAC_LEN, cursor.len()));
    }
    let (sequence, error) = (flags & 0x7f, high >> 4);
    Ok(Private { is_authenticated, sequence, implementation, request, error, payload })
}

fn short(what: &str, wanted: usize, have: usize) -> String {
    format!("out_of_bound: {what}: {wanted} > {have}")
}
