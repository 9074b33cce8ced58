//! MQTT control packets (MQTT 3.1.1 sections 2 and 3) out of a byte stream. Bytes in, packets out;
//! of long ones only the begin is kept, which is all that a record needs.

use super::super::bytes::Cursor;

/// Bytes of a packet that are looked at. Topics are up to 64 KiB, of payloads a record has 100.
const PACKET_BYTES_MAX: usize = 192 * 1024;
/// Bytes of the length field.
const LENGTH_BYTES_MAX: usize = 4;

/// The packets of one side.
#[derive(Debug, Default)]
pub(super) struct Packets {
    header: Option<u8>,
    length: Length,
    body: Vec<u8>,
    left_bytes: usize,
}

#[derive(Debug, Default)]
enum Length {
    #[default]
    Begin,
    Partial {
        value: usize,
        bytes: usize,
    },
    Known(usize),
}

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'p> {
    /// Type and flags.
    pub(super) header: u8,
    /// What follows the length; of long packets the begin.
    pub(super) body: &'p [u8],
    /// Bytes of the whole.
    pub(super) body_bytes: usize,
}

/// The length field is longer than the protocol allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadLength;

impl Packets {
    /// Takes the packet at the begin of `bytes` for `out`; gives what is behind. A part of a
    /// packet is kept.
    ///
    /// # Errors
    /// When the length cannot be one.
    pub(super) fn take<'b>(
        &mut self,
        bytes: &'b [u8],
        out: impl FnOnce(Packet<'_>),
    ) -> Result<&'b [u8], BadLength> {
        let Some((header, rest)) = self.header.map(|header| (header, bytes)).or_else(|| {
            let (&header, rest) = bytes.split_first()?;
            Some((header, rest))
        }) else {
            return Ok(&[]);
        };
        self.header = Some(header);
        let mut rest = rest;
        while !matches!(self.length, Length::Known(_)) {
            let Some((&byte, behind)) = rest.split_first() else { return Ok(&[]) };
            rest = behind;
            self.length_byte(byte)?;
        }
        let Length::Known(body_bytes) = self.length else { return Ok(&[]) };
        if self.body.is_empty() && self.left_bytes == body_bytes && rest.len() >= body_bytes {
            let (body, behind) = rest.split_at(body_bytes);
            *self = Self::default();
            out(Packet { header, body, body_bytes });
            return Ok(behind);
        }
        let (more, behind) = rest.split_at(self.left_bytes.min(rest.len()));
        let room = PACKET_BYTES_MAX.saturating_sub(self.body.len());
        self.body.extend_from_slice(more.get(..room).unwrap_or(more));
        self.left_bytes -= more.len();
        if self.left_bytes == 0 {
            let Self { body, .. } = std::mem::take(self);
            out(Packet { header, body: &body, body_bytes });
        }
        Ok(behind)
    }

    fn length_byte(&mut self, byte: u8) -> Result<(), BadLength> {
        let (value, bytes) = match self.length {
            Length::Partial { value, bytes } => (value, bytes),
            Length::Begin | Length::Known(_) => (0, 0),
        };
        if bytes == LENGTH_BYTES_MAX {
            return Err(BadLength);
        }
        let value = value | usize::from(byte & 0x7f) << (7 * bytes);
        if byte & 0x80 == 0 {
            self.length = Length::Known(value);
            self.left_bytes = value;
        } else {
            self.length = Length::Partial { value, bytes: bytes + 1 };
        }
        Ok(())
    }
}

/// A CONNECT packet (section 3.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connect<'p> {
    pub(super) protocol: &'p [u8],
    pub(super) version: u8,
    pub(super) client_id: &'p [u8],
    /// Topic and text.
    pub(super) will: Option<(&'p [u8], &'p [u8])>,
}

/// Bit of the CONNECT flags: there is a last will.
const HAS_WILL: u8 = 0x04;

impl<'p> Connect<'p> {
    pub(super) fn parse(body: &'p [u8]) -> Option<Self> {
        let mut body = Cursor::new(body);
        let protocol = string(&mut body)?;
        let version = body.u8()?;
        let flags = body.u8()?;
        body.be16()?;
        let client_id = string(&mut body)?;
        let will = if flags & HAS_WILL == 0 {
            None
        } else {
            Some((string(&mut body)?, string(&mut body)?))
        };
        Some(Self { protocol, version, client_id, will })
    }
}

/// A PUBLISH packet (section 3.3).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish<'p> {
    pub(super) retain: bool,
    pub(super) qos: u8,
    pub(super) topic: &'p [u8],
    pub(super) id: u16,
    pub(super) payload: &'p [u8],
    pub(super) payload_bytes: u64,
}

impl<'p> Publish<'p> {
    pub(super) fn parse(packet: Packet<'p>) -> Option<Self> {
        let mut body = Cursor::new(packet.body);
        let qos = (packet.header & 0x06) >> 1;
        let topic = string(&mut body)?;
        let id = if qos == 0 { 0 } else { body.be16()? };
        let payload_bytes = packet.body_bytes.saturating_sub(body.position()) as u64;
        let retain = packet.header & 1 != 0;
        Some(Self { retain, qos, topic, id, payload: body.rest(), payload_bytes })
    }
}

/// A SUBSCRIBE packet (section 3.8): its id, topics and their levels.
pub(super) fn subscribe(body: &[u8]) -> Option<(u16, Vec<Vec<u8>>, Vec<u64>)> {
    let mut body = Cursor::new(body);
    let id = body.be16()?;
    let (mut topics, mut levels) = (Vec::new(), Vec::new());
    while !body.is_empty() {
        topics.push(string(&mut body)?.to_vec());
        levels.push(u64::from(body.u8()?));
    }
    Some((id, topics, levels))
}

/// An UNSUBSCRIBE packet (section 3.10): its id and topics.
pub(super) fn unsubscribe(body: &[u8]) -> Option<(u16, Vec<Vec<u8>>)> {
    let mut body = Cursor::new(body);
    let id = body.be16()?;
    let mut topics = Vec::new();
    while !body.is_empty() {
        topics.push(string(&mut body)?.to_vec());
    }
    Some((id, topics))
}

fn string<'p>(body: &mut Cursor<'p>) -> Option<&'p [u8]> {
    let len = body.be16()?;
    body.take(usize::from(len))
}
