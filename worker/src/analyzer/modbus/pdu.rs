//! Units of Modbus: header, and what the length of each body has to be. Reasons of errors are
//! worded as analyzer.log prints them.

use tyto_core::net::Side;

use crate::analyzer::Cx;
use crate::analyzer::bytes::Cursor;

/// The header with the function's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) transaction: u16,
    /// Bytes behind this field.
    len: u16,
    pub(super) unit: u8,
    pub(super) function: u8,
}

/// A name of a body and its fields, for a reason.
type Shape = (&'static str, &'static [Field]);

/// A part of a body.
#[derive(Clone, Copy)]
enum Field {
    /// So many bytes.
    Fixed(usize),
    /// A byte, and as many bytes as it says, of numbers of two.
    Numbers(&'static str),
    /// A byte, and as many bytes as it says.
    Counted,
    /// Two bytes count numbers of two; the byte behind them has to agree.
    CountedNumbers(&'static str),
    /// Two bytes that are ignored, and two that count numbers.
    Queue(&'static str),
}

use Field::{Counted, CountedNumbers, Fixed, Numbers, Queue};

impl Header {
    pub(super) const LEN: usize = 8;

    /// Reads a header; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When it is no header of Modbus.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(&[t0, t1, p0, p1, l0, l1, unit, function]) = bytes.first_chunk::<{ Self::LEN }>()
        else {
            return Ok(None);
        };
        if [p0, p1] != [0, 0] {
            return Err(enforced("ModbusTCP_TransportHeader:pid"));
        }
        let len = u16::from_be_bytes([l0, l1]);
        if len < 2 {
            return Err(enforced("ModbusTCP_TransportHeader:len"));
        }
        Ok(Some(Self { transaction: u16::from_be_bytes([t0, t1]), len, unit, function }))
    }

    /// Bytes of the unit, the header among them.
    pub(super) const fn unit_len(self) -> usize {
        const BEFORE_LEN: usize = 6;
        self.len as usize + BEFORE_LEN
    }

    /// Whether the request was refused.
    pub(super) const fn is_exception(self) -> bool {
        self.function & 0x80 != 0
    }
}

/// Checks the body. Gives what is wrong with a value that can be read all the same.
///
/// # Errors
/// When the body cannot be read.
pub(super) fn check(
    header: Header,
    side: Side,
    body: &[u8],
    cx: &mut Cx<'_>,
) -> Result<Option<String>, String> {
    let is_request = side == Side::Orig;
    if header.function == 0x08 {
        return diagnostics(is_request, body, cx).map(|()| None);
    }
    if let 0x14 | 0x15 = header.function {
        return records(header.function, is_request, body).map(|()| None);
    }
    let (name, fields) =
        if is_request { request(header.function) } else { response(header.function) };
    let mut cursor = Cursor::new(body);
    let mut odd = None;
    for field in fields {
        odd = odd.or(read(&mut cursor, name, *field)?);
    }
    Ok(odd.or_else(|| coil(header.function, is_request, body)))
}

fn request(function: u8) -> Shape {
    match function {
        0x01 => ("ReadCoilsRequest", &[Fixed(4)]),
        0x02 => ("ReadDiscreteInputsRequest", &[Fixed(4)]),
        0x03 => ("ReadHoldingRegistersRequest", &[Fixed(4)]),
        0x04 => ("ReadInputRegistersRequest", &[Fixed(4)]),
        0x05 => ("WriteSingleCoilRequest", &[Fixed(4)]),
        0x06 => ("WriteSingleRegisterRequest", &[Fixed(4)]),
        0x0f => ("WriteMultipleCoilsRequest", &[Fixed(4), Counted]),
        0x10 => (
            "WriteMultipleRegistersRequest",
            &[Fixed(2), CountedNumbers("write multiple registers request byte count")],
        ),
        0x16 => ("MaskWriteRegisterRequest", &[Fixed(6)]),
        0x17 => (
            "ReadWriteMultipleRegistersRequest",
            &[Fixed(6), CountedNumbers("read write multiple registers request write byte count")],
        ),
        0x18 => ("ReadFIFOQueueRequest", &[Fixed(2)]),
        0x2b => ("EncapInterfaceTransportRequest", &[Fixed(1)]),
        _ => ("", &[]),
    }
}

fn response(function: u8) -> Shape {
    match function {
        0x01 => ("ReadCoilsResponse", &[Counted]),
        0x02 => ("ReadDiscreteInputsResponse", &[Counted]),
        0x03 => (
            "ReadHoldingRegistersResponse",
            &[Numbers("read holding register response byte count")],
        ),
        0x04 => {
            ("ReadInputRegistersResponse", &[Numbers("read input register response byte count")])
        }
        0x05 => ("WriteSingleCoilResponse", &[Fixed(4)]),
        0x06 => ("WriteSingleRegisterResponse", &[Fixed(4)]),
        0x0f => ("WriteMultipleCoilsResponse", &[Fixed(4)]),
        0x10 => ("WriteMultipleRegistersResponse", &[Fixed(4)]),
        0x16 => ("MaskWriteRegisterResponse", &[Fixed(6)]),
        0x17 => (
            "ReadWriteMultipleRegistersResponse",
            &[Numbers("read write multiple registers response byte count")],
        ),
        0x18 => ("ReadFIFOQueueResponse", &[Queue("read FIFO queue response byte count")]),
        0x2b => ("EncapInterfaceTransportResponse", &[Fixed(1)]),
        _ => ("", &[]),
    }
}

/// Reads a field; gives what is wrong with its value.
fn read(cursor: &mut Cursor<'_>, name: &str, field: Field) -> Result<Option<String>, String> {
    let have = cursor.len();
    let (counted, odd_name) = match field {
        Fixed(len) => {
            cursor.skip(len).ok_or_else(|| too_short(name, len, have))?;
            return Ok(None);
        }
        Numbers(odd_name) => (cursor.u8().map(usize::from), Some(odd_name)),
        Counted => (cursor.u8().map(usize::from), None),
        CountedNumbers(odd_name) => {
            let quantity = cursor.be16().map(usize::from);
            let counted = cursor.u8().map(usize::from);
            let have = cursor.len();
            if let (Some(quantity), Some(counted)) = (quantity, counted)
                && quantity * 2 > counted
            {
                // The numbers do not fit into the bytes that are said to hold them.
                return Err(too_short(name, quantity * 2, counted.min(have)));
            }
            (counted, Some(odd_name))
        }
        Queue(odd_name) => {
            let counted = cursor.be16();
            let numbers = cursor.be16().map(|numbers| usize::from(numbers) * 2);
            let odd = counted.is_some_and(|counted| !counted.is_multiple_of(2));
            let Some(len) = numbers else { return Err(too_short(name, 4, have)) };
            let have = cursor.len();
            cursor.skip(len).ok_or_else(|| too_short(name, len, have))?;
            return Ok(odd.then(|| invalid(odd_name, counted.unwrap_or_default())));
        }
    };
    let Some(len) = counted else { return Err(too_short(name, 1, have)) };
    let have = cursor.len();
    cursor.skip(len).ok_or_else(|| too_short(name, len, have))?;
    let odd_name = odd_name.filter(|_| !len.is_multiple_of(2));
    Ok(odd_name.map(|name| invalid(name, u16::try_from(len).unwrap_or(u16::MAX))))
}

/// A coil is on or off ("MODBUS Application Protocol" section 6.5).
fn coil(function: u8, is_request: bool, body: &[u8]) -> Option<String> {
    const WRITE_SINGLE_COIL: u8 = 0x05;
    let &[_, _, high, low, ..] = body else { return None };
    if function != WRITE_SINGLE_COIL || matches!([high, low], [0, 0] | [0xff, 0]) {
        return None;
    }
    let kind = if is_request { "request" } else { "response" };
    let value = u16::from_be_bytes([high, low]);
    Some(format!("invalid value for modbus write single coil {kind} {value}"))
}

/// Section 6.8.
fn diagnostics(is_request: bool, body: &[u8], cx: &mut Cx<'_>) -> Result<(), String> {
    const RETURN_QUERY: u16 = 0;
    let mut cursor = Cursor::new(body);
    let Some(subfunction) = cursor.be16() else {
        let name = if is_request { "DiagnosticsRequest" } else { "DiagnosticsResponse" };
        return Err(too_short(&format!("{name}:subfunction"), 2, body.len()));
    };
    if !is_request {
        return Ok(());
    }
    let value = cursor.take_rest();
    let is_sized = value.len() >= 2 && value.len().is_multiple_of(2);
    let is_good = is_sized
        && match (subfunction, value) {
            (RETURN_QUERY, _) => true,
            (1, &[high, low]) => matches!(high, 0 | 0xff) && low == 0,
            (2 | 4 | 0x0a..=0x12 | 0x14, &[high, low]) => high == 0 && low == 0,
            (3, &[high, low]) => high.is_ascii() && low == 0,
            (_, &[_, _]) => true,
            _ => false,
        };
    if !is_good {
        cx.weird_with("modbus_diag_invalid_request_data", &String::from_utf8_lossy(value));
    }
    // That one is unknown to Zeek, too, when only the query is to be returned.
    if is_sized
        && (value.len() == 2 || subfunction == RETURN_QUERY)
        && !matches!(subfunction, 1..=4 | 0x0a..=0x12 | 0x14)
    {
        cx.weird_with("modbus_diag_unknown_request_subfunction", &subfunction.to_string());
    }
    Ok(())
}

/// Files (sections 6.14 and 6.15): records that fill the bytes that were counted.
fn records(function: u8, is_request: bool, body: &[u8]) -> Result<(), String> {
    const READ: u8 = 0x14;
    let (outer, inner) = match (function, is_request) {
        (READ, true) => ("ReadFileRecordRequest", "FileRecordRequest"),
        (READ, false) => ("ReadFileRecordResponse", "FileRecordResponse"),
        (_, true) => ("WriteFileRecordRequest", "ReferenceWithData"),
        (_, false) => ("WriteFileRecordResponse", "ReferenceWithData"),
    };
    let mut cursor = Cursor::new(body);
    let Some(counted) = cursor.u8() else { return Err(too_short(outer, 1, 0)) };
    let have = cursor.len();
    let mut records = cursor
        .sub(usize::from(counted))
        .ok_or_else(|| too_short(&format!("{outer}:references"), usize::from(counted), have))?;
    while !records.is_empty() {
        let have = records.len();
        let len = match (function, is_request) {
            (READ, true) => Some(7),
            (READ, false) => records.peek().map(|len| usize::from(len) + 2),
            _ => records
                .rest()
                .get(5..7)
                .map(|len| 7 + 2 * len.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))),
        };
        let len = len.unwrap_or(7);
        records.skip(len).ok_or_else(|| too_short(inner, len, have))?;
    }
    Ok(())
}

fn invalid(name: &str, value: u16) -> String {
    format!("invalid value for modbus {name} {value}")
}

pub(super) fn too_short(name: &str, wanted: usize, have: usize) -> String {
    format!("Binpac exception: binpac exception: out_of_bound: {name}: {wanted} > {have}")
}

fn enforced(name: &str) -> String {
    format!("Binpac exception: binpac exception: enforce violation : {name}")
}
