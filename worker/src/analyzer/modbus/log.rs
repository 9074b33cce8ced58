//! `modbus.log`: one row per message.

use std::borrow::Cow;

use tyto_core::net::{ConnId, Side};
use tyto_core::record::LogRecord;
use tyto_core::time::Ts;
use tyto_core::uid::Uid;

use super::pdu::Header;
use crate::analyzer::Cx;
use crate::analyzer::text::Text;

/// A request or a response.
#[derive(Debug, LogRecord)]
#[log(stream = "modbus")]
pub struct ModbusLog {
    /// When it was seen.
    pub ts: Ts,
    /// The connection.
    pub uid: Uid,
    /// Who with whom.
    #[log(nested)]
    pub id: ConnId,
    /// Number that pairs request and response.
    pub tid: Option<u16>,
    /// Unit behind the responder.
    pub unit: Option<u8>,
    /// What is asked for.
    pub func: Option<Text>,
    /// `REQ` or `RESP`.
    pub pdu_type: Option<&'static str>,
    /// Why the request was not done.
    pub exception: Option<Text>,
}

impl ModbusLog {
    pub(super) fn new(header: Header, side: Side, exception: Option<u8>, cx: &Cx<'_>) -> Self {
        Self {
            ts: cx.now,
            uid: cx.uid(),
            id: cx.id(),
            tid: Some(header.transaction),
            unit: Some(header.unit),
            func: Some(Text(function(header.function))),
            pdu_type: Some(if side == Side::Orig { "REQ" } else { "RESP" }),
            exception: exception.map(|code| Text(exception_name(code))),
        }
    }
}

fn function(code: u8) -> Cow<'static, str> {
    const EXCEPTION: u8 = 0x80;
    if let Some(name) = known_function(code) {
        return Cow::Borrowed(name);
    }
    match known_function(code & !EXCEPTION) {
        Some(name) => Cow::Owned(format!("{name}_EXCEPTION")),
        None => Cow::Owned(format!("unknown-{code}")),
    }
}

const fn known_function(code: u8) -> Option<&'static str> {
    Some(match code {
        0x01 => "READ_COILS",
        0x02 => "READ_DISCRETE_INPUTS",
        0x03 => "READ_HOLDING_REGISTERS",
        0x04 => "READ_INPUT_REGISTERS",
        0x05 => "WRITE_SINGLE_COIL",
        0x06 => "WRITE_SINGLE_REGISTER",
        0x07 => "READ_EXCEPTION_STATUS",
        0x08 => "DIAGNOSTICS",
        0x09 => "PROGRAM_484",
        0x0a => "POLL_484",
        0x0b => "GET_COMM_EVENT_COUNTER",
        0x0c => "GET_COMM_EVENT_LOG",
        0x0d => "PROGRAM_584_984",
        0x0e => "POLL_584_984",
        0x0f => "WRITE_MULTIPLE_COILS",
        0x10 => "WRITE_MULTIPLE_REGISTERS",
        0x11 => "REPORT_SLAVE_ID",
        0x12 => "PROGRAM_884_U84",
        0x13 => "RESET_COMM_LINK_884_U84",
        0x14 => "READ_FILE_RECORD",
        0x15 => "WRITE_FILE_RECORD",
        0x16 => "MASK_WRITE_REGISTER",
        0x17 => "READ_WRITE_MULTIPLE_REGISTERS",
        0x18 => "READ_FIFO_QUEUE",
        0x28 => "PROGRAM_CONCEPT",
        0x29 => "MULTIPLE_FUNCTION_CODES",
        0x2b => "ENCAP_INTERFACE_TRANSPORT",
        0x5a => "PROGRAM_UNITY",
        0x5b => "OBJECT_MESSAGING",
        0x7d => "FIRMWARE_REPLACEMENT",
        0x7e => "PROGRAM_584_984_2",
        0x7f => "REPORT_LOCAL_ADDRESS",
        _ => return None,
    })
}

fn exception_name(code: u8) -> Cow<'static, str> {
    Cow::Borrowed(match code {
        0x01 => "ILLEGAL_FUNCTION",
        0x02 => "ILLEGAL_DATA_ADDRESS",
        0x03 => "ILLEGAL_DATA_VALUE",
        0x04 => "SLAVE_DEVICE_FAILURE",
        0x05 => "ACKNOWLEDGE",
        0x06 => "SLAVE_DEVICE_BUSY",
        0x08 => "MEMORY_PARITY_ERROR",
        0x0a => "GATEWAY_PATH_UNAVAILABLE",
        0x0b => "GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND",
        _ => return Cow::Owned(format!("unknown-{code}")),
    })
}
