//! NTLM messages (\[MS-NLMP\] section 2.2.1). One whole message in, the names in it out.

use crate::analyzer::windows::reader::{Fault, Reader};
use crate::analyzer::windows::text;

const UNICODE_FIELDS: &str = "NTLM_String:string";
/// Flags (section 2.2.2.5).
const TARGET_INFO: u32 = 0x0080_0000;
const WORKSTATION_SUPPLIED: u32 = 0x2000;
const DOMAIN_SUPPLIED: u32 = 0x1000;
const REQUEST_TARGET: u32 = 0x4;
/// Bytes in front of the payload, by message.
const NEGOTIATE_BYTES: u32 = 32;
const CHALLENGE_BYTES: u32 = 48;
const AUTHENTICATE_BYTES: u32 = 64;

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// The client begins.
    Negotiate,
    /// The server tells who it is.
    Challenge(Server),
    /// The client tells who it is.
    Authenticate(Client),
    /// Another kind, which Zeek passes over.
    Other,
}

/// Names of a server. As UTF-8.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// NetBIOS name.
    pub nb_computer_name: Option<Vec<u8>>,
    /// DNS name.
    pub dns_computer_name: Option<Vec<u8>>,
    /// DNS name of its forest.
    pub dns_tree_name: Option<Vec<u8>>,
    /// The list of names has no end mark.
    pub lacks_end: bool,
}

/// Names of a client. As UTF-8.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Domain of the user.
    pub domain: Option<Vec<u8>>,
    /// The user.
    pub user: Option<Vec<u8>>,
    /// The host.
    pub workstation: Option<Vec<u8>>,
}

/// Where a name is.
#[derive(Clone, Copy, Debug)]
struct Place {
    length: u16,
    offset: u32,
}

/// Parses one message.
///
/// # Errors
/// When it is cut, or points outside of itself.
pub fn message(bytes: &[u8]) -> Result<Message, Fault> {
    let mut reader = Reader::little(bytes);
    reader.take(8, "NTLM_SSP_Token:signature")?;
    let kind = reader.u32("NTLM_SSP_Token:msg_type")?;
    reader.record();
    match kind {
        1 => negotiate(&mut reader),
        2 => challenge(&mut reader).map(Message::Challenge),
        3 => authenticate(&mut reader).map(Message::Authenticate),
        _ => Ok(Message::Other),
    }
}

fn negotiate(reader: &mut Reader<'_>) -> Result<Message, Fault> {
    let flags = reader.u32("NTLM_Negotiate_Flags:flags")?;
    let domain = place(reader)?;
    let workstation = place(reader)?;
    // Not logged; but who points outside of the message is not believed.
    if flags & DOMAIN_SUPPLIED != 0 {
        text_at(reader.rest(), domain, NEGOTIATE_BYTES)?;
    }
    if flags & WORKSTATION_SUPPLIED != 0 {
        text_at(reader.rest(), workstation, NEGOTIATE_BYTES)?;
    }
    Ok(Message::Negotiate)
}

fn challenge(reader: &mut Reader<'_>) -> Result<Server, Fault> {
    let target = place(reader)?;
    let flags = reader.u32("NTLM_Negotiate_Flags:flags")?;
    reader.take(16, "NTLM_Challenge:reserved")?;
    let info = place(reader)?;
    let payload = reader.rest();
    if flags & REQUEST_TARGET != 0 {
        text_at(payload, target, CHALLENGE_BYTES)?;
    }
    if flags & TARGET_INFO == 0 {
        return Ok(Server::default());
    }
    let mut pairs = Reader::little(payload);
    // Zeek counts the offset in 16 bits.
    let offset = info.offset.wrapping_sub(CHALLENGE_BYTES) & 0xffff;
    pairs.pad_to(offset.into(), "NTLM_AV_Pair_Sequence:pad1")?;
    let mut server = target_info(&mut pairs)?;
    server.lacks_end &= info.length != 0;
    Ok(server)
}

/// AV pairs (section 2.2.2.1), up to the one that ends them.
fn target_info(pairs: &mut Reader<'_>) -> Result<Server, Fault> {
    let mut server = Server::default();
    while !pairs.is_empty() {
        pairs.record();
        let id = pairs.u16("NTLM_AV_Pair:length")?;
        let length = pairs.u16("NTLM_AV_Pair:length")?;
        let mut name =
            || pairs.take(u64::from(length), "NTLM_AV_Pair:value_case").map(text::from_utf16);
        match id {
            0 => return Ok(server),
            1 => server.nb_computer_name = Some(name()?),
            3 => server.dns_computer_name = Some(name()?),
            5 => server.dns_tree_name = Some(name()?),
            2 | 4 | 9 => drop(name()?),
            6 => drop(pairs.u32("NTLM_AV_Pair:av_flags")?),
            7 => drop(pairs.u64("NTLM_AV_Pair:timestamp")?),
            8 => single_host(pairs)?,
            // Longer than Zeek takes it for: what follows is read from within it.
            10 => drop(pairs.u16("NTLM_AV_Pair:channel_bindings")?),
            _ => return Err(Fault::InvalidCase { record: "NTLM_AV_Pair", index: id.into() }),
        }
    }
    server.lacks_end = true;
    Ok(server)
}

fn single_host(pairs: &mut Reader<'_>) -> Result<(), Fault> {
    pairs.take(8, "NTLM_Single_Host:padpad")?;
    let has_custom = pairs.u32("NTLM_Single_Host:data_present")? & 1 != 0;
    pairs.take(if has_custom { 8 } else { 4 }, "NTLM_Single_Host:machine_id")?;
    Ok(())
}

fn authenticate(reader: &mut Reader<'_>) -> Result<Client, Fault> {
    place(reader)?;
    let response = place(reader)?;
    let domain = place(reader)?;
    let user = place(reader)?;
    let workstation = place(reader)?;
    let session_key = place(reader)?;
    reader.u32("NTLM_Negotiate_Flags:flags")?;
    let payload = reader.rest();
    let name = |place: Place| -> Result<Option<Vec<u8>>, Fault> {
        if place.length == 0 {
            return Ok(None);
        }
        text_at(payload, place, AUTHENTICATE_BYTES).map(Some)
    };
    name(response)?;
    let client =
        Client { domain: name(domain)?, user: name(user)?, workstation: name(workstation)? };
    name(session_key)?;
    Ok(client)
}

fn place(reader: &mut Reader<'_>) -> Result<Place, Fault> {
    let length = reader.u16("NTLM_StringData:offset")?;
    reader.u16("NTLM_StringData:offset")?;
    Ok(Place { length, offset: reader.u32("NTLM_StringData:offset")? })
}

/// Text at `place` of the message, of which `payload` is what stands behind `before` bytes.
fn text_at(payload: &[u8], place: Place, before: u32) -> Result<Vec<u8>, Fault> {
    let mut reader = Reader::little(payload);
    // What points in front of the payload wraps around, and is out of it too.
    let ahead = u64::from(place.offset.wrapping_sub(before));
    reader.take(ahead, "NTLM_String:pad1")?;
    reader.take(u64::from(place.length), UNICODE_FIELDS).map(text::from_utf16)
}
