//! Modbus over TCP ("MODBUS Messaging on TCP/IP", version 1.0b; "MODBUS Application Protocol",
//! version 1.1b3). Bytes in, a row per request and response out.

use tyto_core::net::{Proto, Side};

pub use self::log::ModbusLog;
use self::pdu::Header;
use super::{Analyzer, Cx, Spec};

mod log;
mod pdu;
#[cfg(test)]
mod tests;

/// Modbus as an analyzer.
pub static SPEC: Spec = Spec {
    name: "MODBUS",
    ports: &[(Proto::Tcp, 502)],
    tcp_probe: None,
    udp_probe: None,
    begin: |_| Box::new(Modbus::default()),
};

/// Modbus on one connection.
#[derive(Debug, Default)]
struct Modbus {
    /// By [`Side::index`].
    streams: [Stream; 2],
}

/// One side's stream. Bytes behind a gap go on where those before it ended, as in Zeek: a lost
/// packet mostly held whole units. It holds one unit at most, which its length keeps below 64 kB.
#[derive(Debug, Default)]
struct Stream {
    /// The unit as far as it came.
    held: Vec<u8>,
    /// Its header, once that is there and its row is written.
    header: Option<Header>,
}

impl Analyzer for Modbus {
    fn deliver(&mut self, side: Side, bytes: &[u8], cx: &mut Cx<'_>) {
        let Some(stream) = self.streams.get_mut(side.index()) else { return };
        if let Err(reason) = stream.deliver(side, bytes, cx) {
            // What is left of this piece is not looked at, as in Zeek: the next one may begin
            // with a unit again.
            *stream = Stream::default();
            cx.violation(reason, &[]);
        }
    }

    fn end(&mut self, _cx: &mut Cx<'_>) {}
}

impl Stream {
    fn deliver(&mut self, side: Side, mut bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), String> {
        while !bytes.is_empty() {
            // A unit that is whole here needs no copy.
            if self.held.is_empty()
                && let Some(header) = Header::parse(bytes)?
                && let Some(unit) = bytes.get(..header.unit_len())
            {
                message(header, side, cx);
                body(header, side, unit, cx)?;
                bytes = bytes.get(header.unit_len()..).unwrap_or_default();
                continue;
            }
            let wanted = self.header.map_or(Header::LEN, |header| header.unit_len());
            let (now, later) = bytes.split_at(bytes.len().min(wanted - self.held.len()));
            self.held.extend_from_slice(now);
            bytes = later;
            if self.header.is_none() {
                self.header = Header::parse(&self.held)?;
                if let Some(header) = self.header {
                    message(header, side, cx);
                }
            }
            if let Some(header) = self.header
                && self.held.len() == header.unit_len()
            {
                let unit = std::mem::take(&mut self.held);
                self.header = None;
                body(header, side, &unit, cx)?;
                self.held = unit;
                self.held.clear();
            }
        }
        Ok(())
    }
}

/// A header came. The row of an exception waits for its code.
fn message(header: Header, side: Side, cx: &mut Cx<'_>) {
    if !header.is_exception() {
        cx.row(&ModbusLog::new(header, side, None, cx));
    }
}

/// A unit came as a whole.
fn body(header: Header, side: Side, unit: &[u8], cx: &mut Cx<'_>) -> Result<(), String> {
    let bytes = unit.get(Header::LEN..).unwrap_or_default();
    if header.is_exception() && side == Side::Resp {
        let Some(code) = bytes.first() else {
            return Err(pdu::too_short("ModbusTCP_ExceptResponse:code", 1, 0));
        };
        cx.row(&ModbusLog::new(header, side, Some(*code), cx));
    } else if let Some(violation) = pdu::check(header, side, bytes, cx)? {
        cx.violation(violation, &[]);
    }
    cx.confirm();
    Ok(())
}
