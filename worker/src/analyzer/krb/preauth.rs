//! What comes in front of a request or reply (RFC 4120 section 5.2.7): a ticket that is shown,
//! and certificates (PKINIT, RFC 4556 section 3.2).

use super::parser::{self, Message};
use crate::analyzer::windows::der;
use crate::analyzer::windows::reader::{Fault, Reader};

const SEQUENCE: u8 = 0x30;

/// Certificates that were in it.
#[derive(Debug, Default)]
pub(super) struct Certificates<'a> {
    /// The client's.
    pub(super) request: Option<&'a [u8]>,
    /// The server's.
    pub(super) reply: Option<&'a [u8]>,
}

/// Reads the list. In errors it only names kinds.
///
/// # Errors
/// When an element is cut.
pub(super) fn sequence<'a>(
    reader: &mut Reader<'a>,
    is_error: bool,
    each: &mut impl FnMut(Message<'a>),
) -> Result<Certificates<'a>, Fault> {
    let mut certificates = Certificates::default();
    let meta = der::meta(reader)?;
    if meta.tag != SEQUENCE {
        // Some send an octet string here.
        reader.take(meta.length, "KRB_PA_Data_Container:unknown")?;
        return Ok(certificates);
    }
    while !reader.is_empty() {
        reader.record();
        der::meta(reader)?;
        let kind = der::indexed_integer(reader)?;
        let length = der::meta(reader)?.length;
        if is_error {
            reader.take(length, "KRB_PA_Data:pa_data_placeholder")?;
            continue;
        }
        element(kind, length, reader, &mut certificates, each)?;
    }
    Ok(certificates)
}

fn element<'a>(
    kind: u64,
    length: u64,
    reader: &mut Reader<'a>,
    certificates: &mut Certificates<'a>,
    each: &mut impl FnMut(Message<'a>),
) -> Result<(), Fault> {
    const FIELD: &str = "KRB_PA_Data_Element:unknown";
    match kind {
        1 => {
            der::meta(reader)?;
            der::meta(reader)?;
            parser::ap_request(reader)?;
            each(Message::ApRequest);
        }
        2 => drop(parser::encrypted_data(&mut reader.sub(length, FIELD)?)?),
        3 => drop(der::content(reader)?),
        16 => certificates.request = Some(certificate(&mut reader.sub(length, FIELD)?, 4)?),
        17 => certificates.reply = Some(certificate(&mut reader.sub(length, FIELD)?, 5)?),
        11 | 19 => encryption_info(&mut reader.sub(length, FIELD)?)?,
        _ => drop(der::content(&mut reader.sub(length, FIELD)?)?),
    }
    Ok(())
}

/// The first certificate in the CMS `SignedData` that stands `depth` tags deep.
fn certificate<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<&'a [u8], Fault> {
    for _ in 0..depth {
        der::meta(reader)?;
    }
    // Its object id; then two tags; version, digest algorithms, and what is signed.
    der::content(reader)?;
    der::meta(reader)?;
    der::meta(reader)?;
    for _ in 0..3 {
        der::content(reader)?;
    }
    let meta = der::meta(reader)?;
    reader.take(meta.length, "KRB_PA_PK_AS_Req:cert")
}

fn encryption_info(reader: &mut Reader<'_>) -> Result<(), Fault> {
    der::meta(reader)?;
    let has_salt = der::meta(reader)?.length > 7;
    der::meta(reader)?;
    der::content(reader)?;
    if has_salt {
        der::meta(reader)?;
        let meta = der::meta(reader)?;
        reader.take(meta.length, "KRB_PA_ENCTYPE_INFO:salt")?;
    }
    Ok(())
}
