//! PDUs of RDP's beginning (`[MS-RDPBCGR]` section 2.2.1): X.224 requests and confirmations,
//! MCS connects with the data blocks of GCC.

use crate::analyzer::bytes::Cursor;

/// Certificates, channels and the like in one list.
const COUNT_MAX: u32 = 1000;
/// Bytes of a certificate or key.
const BLOB_LEN_MAX: u32 = 262_144;

/// What a PDU says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Cookie(Vec<u8>),
    Negotiated(u32),
    Refused(u32),
    ClientCore(Core),
    Channels(Vec<Vec<u8>>),
    CreateResponse(u8),
    Security { method: u32, level: u32 },
    Certificate { kind: u32, is_permanent: bool, der: Vec<Vec<u8>> },
}

/// The client of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Core {
    pub width: u16,
    pub height: u16,
    pub keyboard: u32,
    pub build: u32,
    pub name: String,
    pub color_depth: u16,
    pub early_capabilities: u16,
    pub product_id: String,
}

/// Reads the body of a TPKT. None when it is cut or odd; what was read up to there counts.
pub(super) fn read(body: &[u8], said: &mut Vec<Said>) -> Option<()> {
    let mut cursor = Cursor::new(body);
    let len = usize::from(cursor.u8()?);
    match cursor.u8()? {
        0xe0 => connect_request(len, &mut cursor, said),
        0xd0 => connect_confirm(len, &mut cursor, said),
        0xf0 => {
            cursor.skip(2)?;
            match cursor.u8()? {
                0x65 => mcs_client(&mut cursor, said),
                0x66 => mcs_server(&mut cursor, said),
                _ => Some(()),
            }
        }
        _ => Some(()),
    }
}

/// Bytes of the X.224 header that its length counts up to `cursor`.
fn is_whole(len: usize, cursor: &Cursor<'_>) -> bool {
    cursor.position() == len + 1
}

fn connect_request(len: usize, cursor: &mut Cursor<'_>, said: &mut Vec<Said>) -> Option<()> {
    const COOKIE: &[u8] = b"Cookie: mstshash=";
    const NEGOTIATION_LEN: u16 = 8;
    cursor.skip(5)?;
    let mut cookie = Vec::new();
    if cursor.rest().starts_with(COOKIE) {
        cursor.skip(COOKIE.len())?;
        cookie = cursor.until(b'\r')?.to_vec();
        cursor.u8().filter(|end| *end == b'\n')?;
    }
    if !is_whole(len, cursor) {
        cursor.skip(2)?;
        cursor.le16().filter(|len| *len == NEGOTIATION_LEN)?;
        cursor.le32()?;
    }
    said.push(Said::Cookie(cookie));
    Some(())
}

fn connect_confirm(len: usize, cursor: &mut Cursor<'_>, said: &mut Vec<Said>) -> Option<()> {
    const RESPONSE: u8 = 2;
    const FAILURE: u8 = 3;
    cursor.skip(5)?;
    if is_whole(len, cursor) {
        return Some(());
    }
    let kind = cursor.u8()?;
    let _flags = cursor.u8()?;
    let len = cursor.le16()?;
    let number = cursor.le32()?;
    said.push(match kind {
        RESPONSE if len == 8 => Said::Negotiated(number),
        FAILURE => Said::Refused(number),
        _ => return None,
    });
    Some(())
}

/// Skips a value of BER and its tag.
fn skip_ber(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.u8()?;
    let first = cursor.u8()?;
    let mut len = usize::from(first & 0x7f);
    if first & 0x80 != 0 {
        let octets = cursor.take(len)?;
        len = octets.iter().try_fold(0usize, |len, octet| {
            len.checked_mul(256)?.checked_add(usize::from(*octet))
        })?;
    }
    cursor.skip(len)
}

fn mcs_client(cursor: &mut Cursor<'_>, said: &mut Vec<Said>) -> Option<()> {
    // The PDU's length, two domain selectors, the upward flag, three sets of parameters.
    for _ in 0..7 {
        skip_ber(cursor)?;
    }
    cursor.skip(4)?;
    let key_len = cursor.be16()?;
    cursor.skip(usize::from(key_len) + 2 + 8)?;
    cursor.take(4).filter(|key| *key == b"Duca")?;
    cursor.skip(2)?;
    data_blocks(cursor, said)
}

fn mcs_server(cursor: &mut Cursor<'_>, said: &mut Vec<Said>) -> Option<()> {
    cursor.skip(3)?;
    // The result, the called id, the domain parameters.
    for _ in 0..3 {
        skip_ber(cursor)?;
    }
    cursor.skip(4)?;
    let key_len = cursor.be16()?;
    cursor.skip(usize::from(key_len) + 1)?;
    cursor.skip(5)?;
    let result = cursor.u8()?;
    cursor.skip(3)?;
    cursor.take(4).filter(|key| *key == b"McDn")?;
    cursor.skip(2)?;
    said.push(Said::CreateResponse(result));
    data_blocks(cursor, said)
}

fn data_blocks(cursor: &mut Cursor<'_>, said: &mut Vec<Said>) -> Option<()> {
    while !cursor.rest().is_empty() {
        let kind = cursor.le16()?;
        let len = usize::from(cursor.le16()?).checked_sub(4)?;
        let mut block = cursor.sub(len)?;
        match kind {
            0xc001 => said.push(Said::ClientCore(client_core(&mut block)?)),
            0xc002 | 0xc004 => block.skip(8)?,
            0xc003 => {
                let count = block.le32().filter(|count| *count <= COUNT_MAX)?;
                let channels: Option<Vec<_>> = (0..count).map(|_| channel(&mut block)).collect();
                let channels = channels?;
                if !channels.is_empty() {
                    said.push(Said::Channels(channels));
                }
            }
            0x0c01 => block.skip(if len == 4 { 4 } else { 8 })?,
            0x0c02 => server_security(&mut block, said)?,
            0x0c03 => block.skip(4)?,
            _ => {}
        }
    }
    Some(())
}

fn client_core(block: &mut Cursor<'_>) -> Option<Core> {
    block.skip(4)?;
    let (width, height) = (block.le16()?, block.le16()?);
    block.skip(4)?;
    let (keyboard, build) = (block.le32()?, block.le32()?);
    let name = utf16(block.take(32)?);
    // Keyboard type, subtype and function keys, input method; colours of old, product, serial.
    block.skip(4 + 4 + 4 + 64)?;
    block.skip(2 + 2 + 4)?;
    let color_depth = block.le16()?;
    block.skip(2)?;
    let early_capabilities = block.le16()?;
    let product_id = utf16(block.take(64)?);
    Some(Core { width, height, keyboard, build, name, color_depth, early_capabilities, product_id })
}

fn channel(block: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let name = block.take(8)?;
    block.skip(4)?;
    let len = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    Some(name.get(..len).unwrap_or(name).to_vec())
}

fn server_security(block: &mut Cursor<'_>, said: &mut Vec<Said>) -> Option<()> {
    const RANDOM_LEN: u32 = 0x20;
    let (method, level) = (block.le32()?, block.le32()?);
    let random_len = block.le32()?;
    let is_none = method == 0 && level == 0 && random_len == 0;
    if !is_none && random_len != RANDOM_LEN {
        return None;
    }
    let cert_len = block.le32()?;
    block.skip(random_len as usize)?;
    let mut cert = block.sub(cert_len as usize)?;
    said.push(certificate(&mut cert)?);
    said.push(Said::Security { method, level });
    Some(())
}

fn certificate(cursor: &mut Cursor<'_>) -> Option<Said> {
    const PROPRIETARY: u32 = 1;
    const X509: u32 = 2;
    let version = cursor.le32()?;
    let kind = version & 0x7fff_ffff;
    let is_permanent = version & 0x8000_0000 == 0;
    let mut der = Vec::new();
    match kind {
        PROPRIETARY => {
            cursor.skip(4 + 4 + 2)?;
            let key_len = cursor.le16()?;
            let mut key = cursor.sub(usize::from(key_len))?;
            key.skip(4)?;
            let modulus_len = key.le32().filter(|len| *len <= BLOB_LEN_MAX)?;
            key.skip(8 + modulus_len as usize)?;
            cursor.skip(2)?;
            let signature_len = cursor.le16()?;
            cursor.skip(usize::from(signature_len))?;
        }
        X509 => {
            let count = cursor.le32().filter(|count| *count <= COUNT_MAX)?;
            for _ in 0..count {
                let len = cursor.le32().filter(|len| *len <= BLOB_LEN_MAX)?;
                der.push(cursor.take(len as usize)?.to_vec());
            }
        }
        _ => return None,
    }
    Some(Said::Certificate { kind, is_permanent, der })
}

/// Little-endian UTF-16 up to the first NUL.
fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}
