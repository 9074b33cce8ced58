//! Kerberos messages (RFC 4120 section 5, appendix A). One message in, what a log needs of it
//! out. A message is told before all of it is looked at only where Zeek does so, too.

use tyto_core::time::{NANOS, Ts};

use super::preauth;
use crate::analyzer::windows::der::{self, Meta};
use crate::analyzer::windows::reader::{Fault, Reader};

/// Error that names the ways to authenticate beforehand.
const PREAUTH_REQUIRED: u64 = 25;
/// Bits of the options of a request (section 5.4.1).
const FORWARDABLE: u32 = 0x4000_0000;
const RENEWABLE: u32 = 0x0080_0000;

/// A message, or a part of one that Zeek tells on its own.
#[derive(Debug)]
pub enum Message<'a> {
    /// A request for a ticket.
    Request(Request<'a>),
    /// The ticket.
    Reply(Reply<'a>),
    /// A ticket is shown to a service, or to the one that gives tickets.
    ApRequest,
    /// The service accepts.
    ApReply,
    /// What was asked for is refused.
    Error(Refusal<'a>),
    /// Application data.
    Other,
}

/// A request for a ticket. Unset is what the message has not.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// Message type as it is written in the message: 10 AS, 12 TGS.
    pub kind: u64,
    /// Certificate of the client (RFC 4556).
    pub certificate: Option<&'a [u8]>,
    /// Forwardable and renewable.
    pub options: Option<(bool, bool)>,
    /// Name of the client.
    pub client: Option<Vec<u8>>,
    /// Realm of the service.
    pub realm: Option<Vec<u8>>,
    /// Name of the service.
    pub service: Option<Vec<u8>>,
    /// Begin of validity.
    pub from: Option<Ts>,
    /// End of validity.
    pub till: Option<Ts>,
}

/// A ticket given.
#[derive(Debug)]
pub struct Reply<'a> {
    /// Message type as it is written in the message: 11 AS, 13 TGS.
    pub kind: u64,
    /// Certificate of the server (RFC 4556).
    pub certificate: Option<&'a [u8]>,
    /// Realm of the client.
    pub realm: Vec<u8>,
    /// Name of the client.
    pub client: Vec<u8>,
    /// The ticket.
    pub ticket: Ticket,
}

/// What can be read of a ticket.
#[derive(Debug)]
pub struct Ticket {
    /// Name of the service.
    pub service: Vec<u8>,
    /// Encryption type.
    pub cipher: u64,
}

/// A refusal.
#[derive(Debug, Default)]
pub struct Refusal<'a> {
    /// Number of the error.
    pub code: u64,
    /// Realm of the client.
    pub client_realm: Option<&'a [u8]>,
    /// Name of the client.
    pub client: Option<Vec<u8>>,
    /// Name of the service.
    pub service: Option<Vec<u8>>,
    /// What the server says to it.
    pub text: Option<&'a [u8]>,
}

/// Parses one message; calls `each` for what it tells, in order.
///
/// # Errors
/// When it is cut, or no message of Kerberos.
pub fn message<'a>(mut reader: Reader<'a>, mut each: impl FnMut(Message<'a>)) -> Result<(), Fault> {
    match der::meta(&mut reader)?.tag & 0x1f {
        10 | 12 => {
            let request = request(&mut reader, &mut each)?;
            each(Message::Request(request));
        }
        11 | 13 => {
            let reply = reply(&mut reader, &mut each)?;
            each(Message::Reply(reply));
        }
        14 => {
            ap_request(&mut reader)?;
            each(Message::ApRequest);
        }
        15 => {
            version_and_kind(&mut reader)?;
            encrypted(&mut reader)?;
            each(Message::ApReply);
        }
        20 => {
            version_and_kind(&mut reader)?;
            each(Message::Other);
        }
        21 => {
            version_and_kind(&mut reader)?;
            encrypted(&mut reader)?;
            each(Message::Other);
        }
        22 => {
            version_and_kind(&mut reader)?;
            der::meta(&mut reader)?;
            der::meta(&mut reader)?;
            tickets(&mut reader)?;
            encrypted(&mut reader)?;
            each(Message::Other);
        }
        30 => {
            let refusal = refusal(&mut reader)?;
            each(Message::Error(refusal));
        }
        other => return Err(Fault::InvalidCase { record: "KRB_PDU", index: other.into() }),
    }
    Ok(())
}

fn version_and_kind(reader: &mut Reader<'_>) -> Result<u64, Fault> {
    der::indexed(reader)?;
    der::indexed_integer(reader)
}

fn request<'a>(
    reader: &mut Reader<'a>,
    each: &mut impl FnMut(Message<'a>),
) -> Result<Request<'a>, Fault> {
    der::meta(reader)?;
    let mut request = Request { kind: version_and_kind(reader)?, ..Request::default() };
    let first = der::meta(reader)?;
    if first.index() == 3 {
        let mut data = reader.sub(first.length, "KRB_PA_Data_Optional:padata")?;
        request.certificate = preauth::sequence(&mut data, false, each)?.request;
        der::meta(reader)?;
    }
    der::meta(reader)?;
    while !reader.is_empty() {
        reader.record();
        let meta = der::meta(reader)?;
        let mut field = reader.sub(meta.length, "KRB_REQ_Arg:data")?;
        request_field(meta.index(), &mut field, &mut request)?;
    }
    Ok(request)
}

fn request_field<'a>(
    index: u8,
    field: &mut Reader<'a>,
    request: &mut Request<'a>,
) -> Result<(), Fault> {
    match index {
        0 => {
            der::meta(field)?;
            field.u8("KRB_KDC_Options:flags")?;
            let flags = field.u32("KRB_KDC_Options:flags")?;
            request.options = Some((flags & FORWARDABLE != 0, flags & RENEWABLE != 0));
        }
        1 => request.client = Some(principal(field)?),
        2 => request.realm = Some(der::content(field)?.to_vec()),
        3 => request.service = Some(principal(field)?),
        4 => request.from = time(field)?,
        5 => request.till = time(field)?,
        6 => drop(time(field)?),
        7 | 10 => drop(der::content(field)?),
        8 => {
            der::meta(field)?;
            while !field.is_empty() {
                der::content(field)?;
            }
        }
        9 => {
            der::meta(field)?;
            while !field.is_empty() {
                der::meta(field)?;
                der::meta(field)?;
                der::content(field)?;
                der::indexed(field)?;
            }
        }
        11 => tickets(field)?,
        _ => {}
    }
    Ok(())
}

fn reply<'a>(
    reader: &mut Reader<'a>,
    each: &mut impl FnMut(Message<'a>),
) -> Result<Reply<'a>, Fault> {
    der::meta(reader)?;
    let kind = version_and_kind(reader)?;
    let mut certificate = None;
    let mut next = der::meta(reader)?;
    if next.index() == 2 {
        let mut data = reader.sub(next.length, "KRB_PA_Data_Optional:padata")?;
        certificate = preauth::sequence(&mut data, false, each)?.reply;
        next = der::meta(reader)?;
    }
    let mut realm = reader.sub(next.length, "KRB_KDC_REP:client_realm")?;
    let realm = der::content(&mut realm)?.to_vec();
    let client = principal_in(reader)?;
    der::meta(reader)?;
    let ticket = ticket(reader)?;
    encrypted(reader)?;
    Ok(Reply { kind, certificate, realm, client, ticket })
}

/// Shows a ticket, here and in the data in front of a request.
pub(super) fn ap_request(reader: &mut Reader<'_>) -> Result<(), Fault> {
    der::meta(reader)?;
    version_and_kind(reader)?;
    der::meta(reader)?;
    der::meta(reader)?;
    reader.take(5, "KRB_AP_Options:flags")?;
    der::meta(reader)?;
    ticket(reader)?;
    encrypted(reader)?;
    Ok(())
}

fn tickets(reader: &mut Reader<'_>) -> Result<(), Fault> {
    let meta = der::meta(reader)?;
    let mut all = reader.sub(meta.length, "KRB_Ticket_Sequence:tickets")?;
    while !all.is_empty() {
        ticket(&mut all)?;
    }
    Ok(())
}

fn ticket(reader: &mut Reader<'_>) -> Result<Ticket, Fault> {
    der::meta(reader)?;
    der::meta(reader)?;
    der::indexed(reader)?;
    der::indexed(reader)?;
    let service = principal_in(reader)?;
    Ok(Ticket { service, cipher: encrypted(reader)? })
}

/// An indexed `EncryptedData`; gives its encryption type.
fn encrypted(reader: &mut Reader<'_>) -> Result<u64, Fault> {
    let meta = der::meta(reader)?;
    encrypted_data(&mut reader.sub(meta.length, "KRB_Encrypted_Data_in_Seq:data")?)
}

/// `EncryptedData` (section 5.2.9).
pub(super) fn encrypted_data(reader: &mut Reader<'_>) -> Result<u64, Fault> {
    der::meta(reader)?;
    let cipher = der::indexed_integer(reader)?;
    let mut meta: Meta = der::meta(reader)?;
    if meta.index() == 1 {
        der::content(reader)?;
        meta = der::meta(reader)?;
    }
    der::content(&mut reader.sub(meta.length, "KRB_Encrypted_Data:ciphertext")?)?;
    Ok(cipher)
}

fn principal_in(reader: &mut Reader<'_>) -> Result<Vec<u8>, Fault> {
    let meta = der::meta(reader)?;
    principal(&mut reader.sub(meta.length, "KRB_Principal_Name:data")?)
}

/// A name of up to three parts, with `/` between; longer ones are `unknown`, as Zeek has it.
fn principal(reader: &mut Reader<'_>) -> Result<Vec<u8>, Fault> {
    der::meta(reader)?;
    der::meta(reader)?;
    der::content(reader)?;
    der::meta(reader)?;
    der::meta(reader)?;
    let mut name = Vec::new();
    let mut parts = 0;
    while !reader.is_empty() {
        let part = der::content(reader)?;
        parts += 1;
        if parts > 3 {
            continue;
        }
        if parts > 1 {
            name.push(b'/');
        }
        name.extend_from_slice(part);
    }
    if parts == 0 || parts > 3 {
        return Ok(b"unknown".to_vec());
    }
    Ok(name)
}

/// A `KerberosTime`: `YYYYMMDDHHMMSSZ`. `None` when it has another length.
fn time(reader: &mut Reader<'_>) -> Result<Option<Ts>, Fault> {
    der::meta(reader)?;
    let text = reader.rest();
    let text = if text.len() == 17 { text.get(2..).unwrap_or_default() } else { text };
    let Some((digits, _)) = text.split_first_chunk::<14>() else { return Ok(None) };
    if text.len() != 15 {
        return Ok(None);
    }
    let digit = |byte: u8| i64::from(byte) - i64::from(b'0');
    let [y0, y1, y2, y3, o0, o1, d0, d1, h0, h1, m0, m1, s0, s1] = digits.map(digit);
    let two = |tens: i64, ones: i64| tens * 10 + ones;
    let days = days_since_1970(two(y0, y1) * 100 + two(y2, y3), two(o0, o1), two(d0, d1));
    let seconds = ((days * 24 + two(h0, h1)) * 60 + two(m0, m1)) * 60 + two(s0, s1);
    let seconds = u64::try_from(seconds).ok();
    Ok(seconds.and_then(|seconds| seconds.checked_mul(NANOS)).map(Ts))
}

/// Days from 1970-01-01 by the Gregorian calendar, also for months that do not exist.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let month = month - 1;
    let year = year + month.div_euclid(12);
    // Counted from March, so that the day that leap years have more is the year's last.
    let month = (month.rem_euclid(12) + 10) % 12;
    let year = if month >= 10 { year - 1 } else { year };
    let (era, in_era) = (year.div_euclid(400), year.rem_euclid(400));
    let in_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468
}

fn refusal<'a>(reader: &mut Reader<'a>) -> Result<Refusal<'a>, Fault> {
    let mut refusal = Refusal::default();
    let mut code = None;
    der::meta(reader)?;
    while !reader.is_empty() {
        reader.record();
        let meta = der::meta(reader)?;
        if meta.index() == 6 && code.is_none() {
            code = Some(der::integer(der::content(reader)?));
            continue;
        }
        let mut field = reader.sub(meta.length, "KRB_ERROR_Arg:args")?;
        refusal_field(meta.index(), &mut field, code.unwrap_or(0), &mut refusal)?;
    }
    // The code has to be there: it stands between what may be missing.
    if code.is_none() {
        der::content(reader)?;
    }
    refusal.code = code.unwrap_or(0);
    Ok(refusal)
}

fn refusal_field<'a>(
    index: u8,
    field: &mut Reader<'a>,
    code: u64,
    refusal: &mut Refusal<'a>,
) -> Result<(), Fault> {
    match index {
        0 | 1 | 3 | 5 | 9 => drop(der::content(field)?),
        2 | 4 => drop(time(field)?),
        6 => {}
        7 => refusal.client_realm = Some(der::content(field)?),
        8 => refusal.client = Some(principal(field)?),
        10 => refusal.service = Some(principal(field)?),
        11 => refusal.text = Some(der::content(field)?),
        12 if code == PREAUTH_REQUIRED => {
            preauth::sequence(field, true, &mut |_| {})?;
        }
        12 => {}
        other => {
            return Err(Fault::InvalidCase { record: "KRB_ERROR_Arg_Data", index: other.into() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_1970() {
        let read = |text: &[u8]| {
            let bytes = [&[0x18, 15][..], text].concat();
            time(&mut Reader::big(&bytes)).unwrap()
        };
        assert_eq!(read(b"19700101000000Z"), Some(Ts(0)));
        assert_eq!(read(b"20370913024805Z"), Some(Ts::new(2_136_422_885, 0)));
        assert_eq!(read(b"20000229235959Z"), Some(Ts::new(951_868_799, 0)));
        assert_eq!(read(b"2000"), None);
        assert_eq!(read(b"19600101000000Z"), None);
    }
}
