//! PDUs of DCE/RPC with connections (C706 chapter 12.6, \[MS-RPCE\] section 2.2.2).

use crate::analyzer::text::uuid;
use crate::analyzer::windows::frames::Length;
use crate::analyzer::windows::reader::{Fault, Reader};

const HEADER_BYTES: usize = 16;
/// What stands in front of a verifier's token.
const VERIFIER_BYTES: i64 = 8;
/// Kinds of PDUs.
const REQUEST: u8 = 0;
const RESPONSE: u8 = 2;
const BIND: u8 = 11;
const BIND_ACK: u8 = 12;
const ALTER: u8 = 14;
const ALTER_ACK: u8 = 15;

/// What all PDUs begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Kind of the PDU.
    pub kind: u8,
    /// First fragment of its call.
    pub is_first: bool,
    /// Last fragment of its call.
    pub is_last: bool,
    /// An object's id stands behind the header of a request.
    pub has_object: bool,
    /// Numbers are little-endian.
    pub is_little: bool,
    /// The call.
    pub call_id: u32,
}

/// One PDU.
#[derive(Debug, PartialEq, Eq)]
pub struct Pdu<'a> {
    /// Its header.
    pub header: Header,
    /// What stands behind it.
    pub body: &'a [u8],
    /// Kind and token of the verifier, if it has one.
    pub verifier: Option<(u8, &'a [u8])>,
}

/// What a whole body says.
#[derive(Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// The client wants an interface.
    Bind {
        /// The number by which it will be called.
        context: u16,
        /// Its UUID.
        interface: String,
    },
    /// The server gives what was wanted.
    BindAck {
        /// Pipe or port on which it listens.
        address: &'a [u8],
    },
    /// The server gives what was wanted on a connection that is bound already.
    AlterAck,
    /// A call.
    Request {
        /// The interface's number.
        context: u16,
        /// Number of the operation.
        operation: u16,
    },
    /// The end of a call.
    Response {
        /// The interface's number.
        context: u16,
    },
}

/// Length of the PDU that begins with `bytes`.
///
/// # Errors
/// When no PDU begins so.
pub fn length(bytes: &[u8]) -> Result<Length, Fault> {
    if bytes.first().is_some_and(|version| *version != 5) {
        return Err(Fault::Enforced { field: "DCE_RPC_Header:rpc_vers" });
    }
    let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(Length::Unknown) };
    let [.., low, high, _, _, _, _, _, _] = *head;
    let is_little = is_little(head.get(4).copied().unwrap_or(0));
    let pair = [low, high];
    let length = if is_little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) };
    if usize::from(length) < HEADER_BYTES {
        return Err(Fault::NegativeLength {
            field: "DCE_RPC_PDU:frag",
            length: i64::from(length) - HEADER_BYTES as i64,
        });
    }
    Ok(Length::Known(length.into()))
}

const fn is_little(data_representation: u8) -> bool {
    data_representation >> 4 != 0
}

const fn reader(bytes: &[u8], is_little: bool) -> Reader<'_> {
    if is_little { Reader::little(bytes) } else { Reader::big(bytes) }
}

impl<'a> Pdu<'a> {
    /// Parses one whole PDU.
    ///
    /// # Errors
    /// When its lengths do not fit.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let is_little = is_little(bytes.get(4).copied().unwrap_or(0));
        let mut reader = reader(bytes, is_little);
        reader.u16("DCE_RPC_Header:PTYPE")?;
        let kind = reader.u8("DCE_RPC_Header:PTYPE")?;
        let flags = reader.u8("DCE_RPC_Header:pfc_flags")?;
        reader.u32("DCE_RPC_Header:packed_drep")?;
        let length = reader.u16("DCE_RPC_Header:frag_length")?;
        let auth = reader.u16("DCE_RPC_Header:auth_length")?;
        let call_id = reader.u32("DCE_RPC_Header:call_id")?;
        let around = if auth > 0 { VERIFIER_BYTES } else { 0 };
        let body = i64::from(length) - HEADER_BYTES as i64 - i64::from(auth) - around;
        let body = u64::try_from(body)
            .map_err(|_| Fault::NegativeLength { field: "DCE_RPC_PDU:frag", length: body })?;
        let body = reader.take(body, "DCE_RPC_PDU:frag")?;
        let mut verifier = None;
        if auth > 0 {
            reader.record();
            let kind = reader.u8("DCE_RPC_Auth:context_id")?;
            reader.take(7, "DCE_RPC_Auth:context_id")?;
            verifier = Some((kind, reader.take(auth.into(), "DCE_RPC_Auth:blob")?));
        }
        let (is_first, is_last, has_object) = (flags & 1 != 0, flags & 2 != 0, flags & 0x80 != 0);
        let header = Header { kind, is_first, is_last, has_object, is_little, call_id };
        Ok(Self { header, body, verifier })
    }
}

/// Parses a whole body; calls `each` for what it says, in order.
///
/// # Errors
/// When it is cut.
pub fn body<'a>(
    header: Header,
    bytes: &'a [u8],
    mut each: impl FnMut(Body<'a>),
) -> Result<(), Fault> {
    let mut reader = reader(bytes, header.is_little);
    match header.kind {
        BIND | ALTER => {
            reader.take(8, "DCE_RPC_Bind:assoc_group_id")?;
            let contexts = reader.u8("ContextList:num_contexts")?;
            reader.take(3, "ContextList:reserved")?;
            for _ in 0..contexts {
                each(wanted(&mut reader)?);
            }
        }
        BIND_ACK | ALTER_ACK => {
            reader.take(8, "DCE_RPC_Bind_Ack:sec_addr_length")?;
            let length = reader.u16("DCE_RPC_Bind_Ack:sec_addr_length")?;
            let address = reader.take(length.into(), "DCE_RPC_Bind_Ack:sec_addr")?;
            reader.align(4);
            let contexts = reader.u8("ContextList:num_contexts")?;
            reader.take(3, "ContextList:reserved")?;
            reader.take(u64::from(contexts) * 24, "ContextReply:syntax")?;
            each(if header.kind == BIND_ACK {
                Body::BindAck { address: address.strip_suffix(&[0]).unwrap_or(address) }
            } else {
                Body::AlterAck
            });
        }
        REQUEST => {
            reader.u32("DCE_RPC_Request:opnum")?;
            let context = reader.u16("DCE_RPC_Request:opnum")?;
            let operation = reader.u16("DCE_RPC_Request:opnum")?;
            if header.has_object {
                reader.take(16, "DCE_RPC_Request:has_object")?;
            }
            each(Body::Request { context, operation });
        }
        RESPONSE => {
            reader.u32("DCE_RPC_Response:reserved")?;
            let context = reader.u16("DCE_RPC_Response:reserved")?;
            reader.u16("DCE_RPC_Response:reserved")?;
            each(Body::Response { context });
        }
        _ => {}
    }
    Ok(())
}

fn wanted<'a>(reader: &mut Reader<'a>) -> Result<Body<'a>, Fault> {
    reader.record();
    let context = reader.u16("ContextRequest:num_syntaxes")?;
    let syntaxes = reader.u8("ContextRequest:num_syntaxes")?;
    reader.u8("ContextRequest:reserved")?;
    let interface = reader.take(16, "Syntax:uuid")?;
    let interface = uuid(interface.first_chunk().copied().unwrap_or_default());
    reader.u32("Syntax:ver_minor")?;
    reader.take(u64::from(syntaxes) * 20, "ContextRequest:transfer_syntaxes")?;
    Ok(Body::Bind { context, interface })
}
