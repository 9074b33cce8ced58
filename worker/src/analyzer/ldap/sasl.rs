//! What LDAP looks at in SASL (RFC 4513 section 5.2): whether a token is SPNEGO or NTLM, what
//! the server agreed to, and messages in Kerberos tokens that are signed and not encrypted.

use super::ber::{self, CONTEXT, Element, Head, OBJECT_ID, SEQUENCE, UNIVERSAL, invalid};
use crate::analyzer::windows::reader::{Fault, Reader};

const SPNEGO: &str = "1.3.6.1.5.5.2";
/// Kerberos, as Microsoft names it.
const MS_KERBEROS: &str = "1.2.840.48018.1.2.2";
const NTLM: &[u8] = b"NTLMSSP";
/// Begin of a token around a message (RFC 4121 section 4.2.6.2).
pub(super) const WRAP_TOKEN: u16 = 0x0504;

/// Whether a client's token is NTLM without SPNEGO around it.
///
/// # Errors
/// When it is neither.
pub(super) fn is_ntlm_request(token: &[u8]) -> Result<bool, Fault> {
    const FIELD: &str = "GSS_SPNEGO_Init:spnegoInitByte";
    if token.starts_with(NTLM) {
        return Ok(true);
    }
    let mut reader = Reader::big(token);
    let tag = reader.u8(FIELD)?;
    if tag != 0x60 && tag != 0xa1 {
        return Err(invalid(FIELD));
    }
    let mut reader = Reader::big(token);
    Head::parse(&mut reader)?;
    if tag == 0x60 {
        let mechanism = Element::parse(&mut reader)?;
        if !mechanism.head.is(UNIVERSAL, OBJECT_ID) || ber::object_id(mechanism.content) != SPNEGO {
            return Err(invalid("GSS_SPNEGO_negTokenInit:oid"));
        }
    }
    Ok(false)
}

/// What a server's token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Ntlm,
    /// Kerberos is agreed on: its tokens follow.
    Kerberos,
    Other,
}

/// Looks at a server's token of SPNEGO.
///
/// # Errors
/// When it is neither SPNEGO nor NTLM.
pub(super) fn reply(token: &[u8]) -> Result<Reply, Fault> {
    const FIELD: &str = "GSS_SPNEGO_Subsequent:spnegoChoiceByte";
    if token.starts_with(NTLM) {
        return Ok(Reply::Ntlm);
    }
    if token.first() != Some(&0xa1) {
        return Err(invalid(FIELD));
    }
    let mut reader = Reader::big(token);
    Head::parse(&mut reader)?;
    let sequence = Element::parse_deep(&mut reader)?;
    if !sequence.head.is(UNIVERSAL, SEQUENCE) {
        return Err(invalid(FIELD));
    }
    let (mut is_accepted, mut is_kerberos, mut has_token) = (false, false, false);
    for part in sequence.parts() {
        if part.head.class != CONTEXT {
            continue;
        }
        match part.head.kind {
            0 => is_accepted = part.content == [0x0a, 1, 0],
            1 => {
                let mechanism = Element::parse(&mut Reader::big(part.content))?;
                is_kerberos = ber::object_id(mechanism.content) == MS_KERBEROS;
            }
            2 => has_token = true,
            3 => {}
            _ => return Err(invalid("GSS_SPNEGO_negTokenResp:seq")),
        }
    }
    let is_kerberos = is_accepted && is_kerberos && has_token;
    Ok(if is_kerberos { Reply::Kerberos } else { Reply::Other })
}

/// Messages in a Kerberos token, its length of four bytes included; `None` when they are
/// encrypted, or it is another token.
///
/// # Errors
/// When it is cut.
pub(super) fn signed(bytes: &[u8]) -> Result<Option<&[u8]>, Fault> {
    const FIELD: &str = "KrbWrapToken:snd_seq";
    const SEALED: u8 = 2;
    let mut reader = Reader::big(bytes);
    reader.u32(FIELD)?;
    if reader.u16(FIELD)? != WRAP_TOKEN {
        return Ok(None);
    }
    let flags = reader.u8(FIELD)?;
    if reader.u8(FIELD)? != 0xff {
        return Err(invalid("KrbWrapToken:filler"));
    }
    let (extra, rotation) = (reader.u16(FIELD)?, reader.u16(FIELD)?);
    reader.u64(FIELD)?;
    if flags & SEALED != 0 {
        return Ok(None);
    }
    // The checksum stands in front when it was rotated there.
    let behind = match rotation {
        0 => extra,
        _ if rotation == extra => {
            reader.take(extra.into(), FIELD)?;
            0
        }
        _ => return Err(invalid("KrbWrapToken:rrc")),
    };
    let rest = reader.rest();
    let len = rest.len().checked_sub(behind.into()).ok_or(invalid("KrbWrapToken:ec"))?;
    Ok(rest.get(..len))
}
