//! Rows as bytes between producer and logger, and in the spool. Compact, self-delimiting per
//! column, read back with nothing but the [`Schema`].
//!
//! Per column, by its type:
//!
//! | type | bytes |
//! |---|---|
//! | count, port, time (ns) | one byte 1 + n, then the n significant bytes, little endian |
//! | int, interval (ns) | the same of the zigzag form |
//! | bool | 1 false, 2 true |
//! | double | 1, then 8 bytes IEEE 754, little endian |
//! | addr | 4 or 16, then the address |
//! | subnet | 4 or 16, then the address, then the prefix length |
//! | string, enum | LEB128 of 1 + length, then the bytes |
//! | set, vector | LEB128 of 1 + number of values, then the values |
//!
//! A first byte of 0 says unset, for every type.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::schema::{FieldType, Scalar, Schema};
use super::{FieldSink, LogRecord};
use crate::time::{Interval, Ts};

/// Longest row that is sent or accepted, bytes (Zeek's limit per record is 64 MiB; its limits
/// per field keep real rows below 300 kB).
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// Why bytes are not rows of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a value.
    #[error("row ends inside column {column}")]
    Short {
        /// Column from 0.
        column: usize,
    },
    /// A length or tag is not possible for the column's type.
    #[error("column {column} begins with the impossible byte {tag:#04x}")]
    BadTag {
        /// Column from 0.
        column: usize,
        /// What stood there.
        tag: u8,
    },
    /// Bytes are left behind the last column.
    #[error("{0} bytes are left behind the last column")]
    Trailing(usize),
    /// The row is longer than [`ROW_BYTES_MAX`].
    #[error("row of {0} bytes is longer than {ROW_BYTES_MAX}")]
    TooLong(usize),
}

/// Writes one row's columns behind what `out` holds already.
#[derive(Debug)]
pub struct RowEncoder<'a> {
    out: &'a mut Vec<u8>,
}

/// Appends `record` to `out` as a batch carries it: length (u32, little endian), row.
/// Returns false, leaving `out` as it was, when the row is longer than [`ROW_BYTES_MAX`].
pub fn append_row(out: &mut Vec<u8>, record: &impl LogRecord) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    record.write(&mut RowEncoder { out });
    let len = out.len() - start - 4;
    match u32::try_from(len) {
        Ok(len32) if len <= ROW_BYTES_MAX => {
            out[start..start + 4].copy_from_slice(&len32.to_le_bytes());
            true
        }
        _ => {
            out.truncate(start);
            false
        }
    }
}

/// The rows of a batch's payload; ends after the first fault.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    rest: &'a [u8],
}

/// Iterates over the rows of `payload`.
pub const fn rows(payload: &[u8]) -> Rows<'_> {
    Rows { rest: payload }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<&'a [u8], WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((len, rest)) = self.rest.split_first_chunk::<4>() else {
            self.rest = &[];
            return Some(Err(WireError::Short { column: 0 }));
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len > ROW_BYTES_MAX || len > rest.len() {
            self.rest = &[];
            let error = if len > ROW_BYTES_MAX {
                WireError::TooLong(len)
            } else {
                WireError::Short { column: 0 }
            };
            return Some(Err(error));
        }
        let (row, rest) = rest.split_at(len);
        self.rest = rest;
        Some(Ok(row))
    }
}

/// Hands the columns of one encoded `row` to `sink`.
///
/// # Errors
/// When the bytes are not a row of `schema`; the sink then holds a part of the row, which the
/// caller discards.
pub fn replay(schema: &Schema, row: &[u8], sink: &mut impl FieldSink) -> Result<(), WireError> {
    let mut reader = Reader { rest: row, column: 0 };
    for (column, field) in schema.fields.iter().enumerate() {
        reader.column = column;
        match field.field_type {
            FieldType::One(scalar) => reader.scalar(scalar, sink)?,
            FieldType::Set(scalar) | FieldType::Vector(scalar) => {
                let Some(len) = reader.length()? else {
                    sink.unset();
                    continue;
                };
                // Each value takes a byte at least: a larger count is a lie.
                if len > reader.rest.len() {
                    return Err(WireError::Short { column });
                }
                sink.begin(len);
                for _ in 0..len {
                    reader.scalar(scalar, sink)?;
                }
                sink.end();
            }
        }
    }
    if reader.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(reader.rest.len())) }
}

impl RowEncoder<'_> {
    fn number(&mut self, value: u64) {
        let n = 8 - value.leading_zeros().to_le_bytes()[0] / 8;
        self.out.push(n + 1);
        self.out.extend_from_slice(&value.to_le_bytes()[..usize::from(n)]);
    }

    fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn length(&mut self, len: usize) {
        let mut value = len as u64 + 1;
        while value >= 0x80 {
            self.out.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.out.push(value.to_le_bytes()[0]);
    }

    fn address(&mut self, value: IpAddr) {
        match value {
            IpAddr::V4(v4) => {
                self.out.push(4);
                self.out.extend_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.out.push(16);
                self.out.extend_from_slice(&v6.octets());
            }
        }
    }
}

impl FieldSink for RowEncoder<'_> {
    fn unset(&mut self) {
        self.out.push(0);
    }

    fn time(&mut self, value: Ts) {
        self.number(value.0);
    }

    fn interval(&mut self, value: Interval) {
        self.signed(value.0);
    }

    fn addr(&mut self, value: IpAddr) {
        self.address(value);
    }

    fn port(&mut self, value: u16) {
        self.number(u64::from(value));
    }

    fn subnet(&mut self, net: IpAddr, prefix_len: u8) {
        self.address(net);
        self.out.push(prefix_len);
    }

    fn count(&mut self, value: u64) {
        self.number(value);
    }

    fn int(&mut self, value: i64) {
        self.signed(value);
    }

    fn double(&mut self, value: f64) {
        self.out.push(1);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn bool(&mut self, value: bool) {
        self.out.push(1 + u8::from(value));
    }

    fn string(&mut self, value: &[u8]) {
        self.length(value.len());
        self.out.extend_from_slice(value);
    }

    fn begin(&mut self, len: usize) {
        self.length(len);
    }

    fn end(&mut self) {}
}

struct Reader<'a> {
    rest: &'a [u8],
    column: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) =
            self.rest.split_at_checked(n).ok_or(WireError::Short { column: self.column })?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        let (&first, rest) =
            self.rest.split_first().ok_or(WireError::Short { column: self.column })?;
        self.rest = rest;
        Ok(first)
    }

    fn bad(&self, tag: u8) -> WireError {
        WireError::BadTag { column: self.column, tag }
    }

    fn number(&mut self) -> Result<Option<u64>, WireError> {
        let tag = self.byte()?;
        if tag == 0 {
            return Ok(None);
        }
        let n = usize::from(tag - 1);
        if n > 8 {
            return Err(self.bad(tag));
        }
        let mut bytes = [0; 8];
        bytes[..n].copy_from_slice(self.take(n)?);
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    fn signed(&mut self) -> Result<Option<i64>, WireError> {
        let decode = |z: u64| (z >> 1).cast_signed() ^ -((z & 1).cast_signed());
        Ok(self.number()?.map(decode))
    }

    fn length(&mut self) -> Result<Option<usize>, WireError> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(usize::try_from(value).ok().and_then(|v| v.checked_sub(1)));
            }
        }
        Err(self.bad(0x80))
    }

    fn address(&mut self) -> Result<Option<IpAddr>, WireError> {
        let tag = self.byte()?;
        match tag {
            0 => Ok(None),
            4 => {
                let mut octets = [0; 4];
                octets.copy_from_slice(self.take(4)?);
                Ok(Some(Ipv4Addr::from(octets).into()))
            }
            16 => {
                let mut octets = [0; 16];
                octets.copy_from_slice(self.take(16)?);
                Ok(Some(Ipv6Addr::from(octets).into()))
            }
            other => Err(self.bad(other)),
        }
    }

    fn scalar(&mut self, scalar: Scalar, sink: &mut impl FieldSink) -> Result<(), WireError> {
        match scalar {
            Scalar::Time => match self.number()? {
                None => sink.unset(),
                Some(v) => sink.time(Ts(v)),
            },
            Scalar::Interval => match self.signed()? {
                None => sink.unset(),
                Some(v) => sink.interval(Interval(v)),
            },
            Scalar::Addr => match self.address()? {
                None => sink.unset(),
                Some(v) => sink.addr(v),
            },
            Scalar::Port => match self.number()? {
                None => sink.unset(),
                Some(v) => sink.port(u16::try_from(v).map_err(|_| self.bad(9))?),
            },
            Scalar::Subnet => match self.address()? {
                None => sink.unset(),
                Some(net) => sink.subnet(net, self.byte()?),
            },
            Scalar::Enum | Scalar::String => match self.length()? {
                None => sink.unset(),
                Some(len) => sink.string(self.take(len)?),
            },
            Scalar::Count => match self.number()? {
                None => sink.unset(),
                Some(v) => sink.count(v),
            },
            Scalar::Int => match self.signed()? {
                None => sink.unset(),
                Some(v) => sink.int(v),
            },
            Scalar::Double => match self.byte()? {
                0 => sink.unset(),
                1 => {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(self.take(8)?);
                    sink.double(f64::from_le_bytes(bytes));
                }
                tag => return Err(self.bad(tag)),
            },
            Scalar::Bool => match self.byte()? {
                0 => sink.unset(),
                tag @ (1 | 2) => sink.bool(tag == 2),
                tag => return Err(self.bad(tag)),
            },
        }
        Ok(())
    }
}
