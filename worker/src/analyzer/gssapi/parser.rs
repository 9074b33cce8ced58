//! SPNEGO tokens (RFC 4178 section 4.2). Bytes of one token in, its parts out in their order,
//! also those in front of a fault.

use tyto_core::net::Side;

use crate::analyzer::windows::der;
use crate::analyzer::windows::reader::{Fault, Reader};

/// First byte of an initial token (RFC 2743 section 3.1).
const INITIAL: u8 = 0x60;
/// Begins of messages that are protected by a context (RFC 4121 section 4.2.6).
const MIC: u16 = 0x0404;
const WRAP: u16 = 0x0504;

/// What a token holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// How the negotiation stands: 0 accepted, 1 not complete, 2 rejected.
    State(u64),
    /// An NTLM message. Zeek takes the initial tokens for those of the originator.
    Ntlm(Side, &'a [u8]),
    /// A Kerberos message.
    Kerberos(Side, &'a [u8]),
}

/// Parses one token.
///
/// # Errors
/// When it is cut, or not SPNEGO.
pub fn token<'a>(mut reader: Reader<'a>, mut each: impl FnMut(Part<'a>)) -> Result<(), Fault> {
    let wrapper = der::meta(&mut reader)?;
    let token_id = u16::from_be_bytes([wrapper.tag, wrapper.len]);
    if token_id == MIC || token_id == WRAP {
        return Ok(());
    }
    if wrapper.tag != INITIAL {
        der::meta(&mut reader)?;
        while !reader.is_empty() {
            response_part(&mut reader, &mut each)?;
        }
        return Ok(());
    }
    der::content(&mut reader)?;
    der::meta(&mut reader)?;
    der::meta(&mut reader)?;
    while !reader.is_empty() {
        initial_part(&mut reader, &mut each)?;
    }
    Ok(())
}

fn initial_part<'a>(reader: &mut Reader<'a>, each: &mut impl FnMut(Part<'a>)) -> Result<(), Fault> {
    reader.record();
    let meta = der::meta(reader)?;
    let mut part = reader.sub(meta.length, "GSSAPI_NEG_TOKEN_INIT_Arg:args")?;
    match meta.index() {
        0 | 1 | 3 => der::content(&mut part).map(drop),
        2 => mechanism(&mut part, Side::Orig, each),
        other => Err(Fault::InvalidCase {
            record: "GSSAPI_NEG_TOKEN_INIT_Arg_Data",
            index: other.into(),
        }),
    }
}

fn response_part<'a>(
    reader: &mut Reader<'a>,
    each: &mut impl FnMut(Part<'a>),
) -> Result<(), Fault> {
    reader.record();
    let meta = der::meta(reader)?;
    let mut part = reader.sub(meta.length, "GSSAPI_NEG_TOKEN_RESP_Arg:args")?;
    match meta.index() {
        0 => {
            each(Part::State(der::integer(der::content(&mut part)?)));
            Ok(())
        }
        1 | 3 => der::content(&mut part).map(drop),
        2 => mechanism(&mut part, Side::Resp, each),
        other => {
            Err(Fault::InvalidCase { record: "GSSAPI_NEG_TOKEN_RESP_Arg", index: other.into() })
        }
    }
}

/// The token of the mechanism: NTLM begins with `N`, Kerberos with the tag of an application.
fn mechanism<'a>(
    part: &mut Reader<'a>,
    side: Side,
    each: &mut impl FnMut(Part<'a>),
) -> Result<(), Fault> {
    let meta = der::meta(part)?;
    let token = part.take(meta.length, "GSSAPI_NEG_TOKEN_MECH_TOKEN:token")?;
    match token.first() {
        Some(b'N') if token.starts_with(b"NTLMSSP") => each(Part::Ntlm(side, token)),
        Some(0x60) => {
            let mut wrapped = Reader::little(token);
            der::meta(&mut wrapped)?;
            der::content(&mut wrapped)?;
            wrapped.u16("KRB_OID_BLOB:token_id")?;
            each(Part::Kerberos(side, wrapped.rest()));
        }
        Some(0x6e | 0x6f) => each(Part::Kerberos(side, token)),
        _ => {}
    }
    Ok(())
}
