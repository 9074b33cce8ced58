//! Frames made by hand, and a pipeline that takes them: what the tests of logs share.

use std::io;
use std::sync::{Arc, Mutex};

use tyto_capture::{Frame, LinkType};
use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::record::schema::Schema;
use tyto_core::record::tsv::TsvRow;
use tyto_core::record::wire;
use tyto_core::time::Ts;
use tyto_worker::output::{Claim, Output, RowSink, StreamRef};
use tyto_worker::pipeline::Pipeline;
use tyto_worker::stats::PipelineStats;

/// The usual originator and responder.
pub(crate) const ORIG: [u8; 4] = [10, 0, 0, 1];
/// See [`ORIG`].
pub(crate) const RESP: [u8; 4] = [192, 0, 2, 80];
/// Begin of all captures here, seconds.
pub(crate) const BEGIN_S: f64 = 1_000_000.0;

/// Flags of TCP.
pub(crate) const FIN: u8 = 0x01;
/// See [`FIN`].
pub(crate) const SYN: u8 = 0x02;
/// See [`FIN`].
pub(crate) const RST: u8 = 0x04;
/// See [`FIN`].
pub(crate) const ACK: u8 = 0x10;

/// Rows as (stream, columns).
type Rows = Arc<Mutex<Vec<(String, Vec<(String, String)>)>>>;

/// A pipeline and the rows that came out of it.
pub(crate) struct Replay {
    pipeline: Pipeline,
    rows: Rows,
}

struct Collect(Rows);

impl RowSink for Collect {
    fn row(&mut self, stream: StreamRef, row: &[u8]) {
        let schema: Schema = (stream.schema)();
        let mut line = Vec::new();
        for row in wire::rows(row) {
            let mut text = TsvRow::new(&mut line);
            wire::replay(&schema, row.unwrap(), &mut text).unwrap();
            text.end_row();
        }
        let line = String::from_utf8(line).unwrap();
        let values = line.trim_end_matches('\n').split('\t').map(str::to_owned);
        let names = schema.fields.iter().map(|field| field.name.to_string());
        let row = (stream.name.to_owned(), names.zip(values).collect());
        self.0.lock().unwrap().push(row);
    }

    fn claim(&mut self, claim: Claim, stream: StreamRef, row: &[u8]) {
        assert_eq!(claim.table, stream.name);
        self.row(stream, row);
    }

    fn finish(&mut self, _last: Ts) -> io::Result<()> {
        Ok(())
    }
}

impl Replay {
    /// Checksums are not checked: the frames here carry none.
    pub(crate) fn new() -> Self {
        Self::with(AnalysisConfig { ignore_checksums: true, ..local() })
    }

    /// Checksums are checked.
    pub(crate) fn strict() -> Self {
        Self::with(local())
    }

    fn with(config: AnalysisConfig) -> Self {
        let rows = Rows::default();
        let output = Output::new(Box::new(Collect(rows.clone())));
        Self { pipeline: Pipeline::new(&config, 1, output), rows }
    }

    /// The ring, if there were one, is filled to `percent`.
    pub(crate) fn ring_fill(&mut self, percent: u8) {
        self.pipeline.ring_fill(percent);
    }

    /// Takes an IP packet, `at` seconds after the begin.
    pub(crate) fn ip(&mut self, at: f64, packet: &[u8]) -> &mut Self {
        self.frame(at, packet, packet.len() as u32, LinkType::RAW)
    }

    /// Takes a frame.
    pub(crate) fn frame(
        &mut self,
        at: f64,
        bytes: &[u8],
        wire_len: u32,
        link_type: LinkType,
    ) -> &mut Self {
        let ts = Ts(((BEGIN_S + at) * 1e6).round() as u64 * 1000);
        let frame = Frame { ts, bytes, wire_len, link_type, checksum_good: false };
        self.pipeline.packet(&frame);
        self
    }

    /// Ends the capture.
    pub(crate) fn finish(&mut self) -> PipelineStats {
        self.pipeline.finish().unwrap()
    }

    /// Values of `columns` of all rows of `stream`, in the order of their time.
    pub(crate) fn rows(&mut self, stream: &str, columns: &[&str]) -> Vec<String> {
        self.finish();
        let mut rows: Vec<_> =
            self.rows.lock().unwrap().iter().filter(|(name, _)| name == stream).cloned().collect();
        rows.sort_by(|(_, a), (_, b)| a[0].1.cmp(&b[0].1));
        let value = |row: &[(String, String)], column: &str| {
            row.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone()).unwrap()
        };
        rows.iter()
            .map(|(_, row)| columns.iter().map(|c| value(row, c)).collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// `conn_state` and `history` of all connections.
    pub(crate) fn states(&mut self) -> Vec<String> {
        self.rows("conn", &["conn_state", "history"])
    }
}

fn local() -> AnalysisConfig {
    AnalysisConfig { private_address_space_is_local: true, ..AnalysisConfig::default() }
}

/// An IPv4 packet.
pub(crate) fn ipv4(src: [u8; 4], dst: [u8; 4], proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, proto, 0, 0];
    packet[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet.extend([src, dst].concat());
    packet.extend(payload);
    packet
}

/// An IPv6 packet.
pub(crate) fn ipv6(src: [u8; 16], dst: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend([src, dst].concat());
    packet.extend(payload);
    packet
}

/// A UDP datagram within IPv4.
pub(crate) fn udp(src: ([u8; 4], u16), dst: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len() as u16;
    let header = [src.1, dst.1, len, 0].map(u16::to_be_bytes).concat();
    ipv4(src.0, dst.0, 17, &[header, payload.to_vec()].concat())
}

/// A TCP segment within IPv4, with a window of 1,000.
pub(crate) fn tcp(
    src: ([u8; 4], u16),
    dst: ([u8; 4], u16),
    flags: u8,
    seq: u32,
    ack: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut header = [src.1, dst.1].map(u16::to_be_bytes).concat();
    header.extend([seq, ack].map(u32::to_be_bytes).concat());
    header.extend([0x50, flags, 0x03, 0xe8, 0, 0, 0, 0]);
    ipv4(src.0, dst.0, 6, &[header, payload.to_vec()].concat())
}

/// A segment from [`ORIG`] port 40000 to [`RESP`] port 8443. Sequence numbers count from 100.
pub(crate) fn orig(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    tcp((ORIG, 40000), (RESP, 8443), flags, 100 + seq, 500 + ack, payload)
}

/// A segment the other way. Sequence numbers count from 500.
pub(crate) fn resp(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    tcp((RESP, 8443), (ORIG, 40000), flags, 500 + seq, 100 + ack, payload)
}

/// The three segments of a handshake, at 0, 0.1 and 0.2 seconds.
pub(crate) fn handshake(replay: &mut Replay) -> &mut Replay {
    replay
        .ip(0.0, &orig(SYN, 0, 0, b""))
        .ip(0.1, &resp(SYN | ACK, 0, 1, b""))
        .ip(0.2, &orig(ACK, 1, 1, b""))
}

/// Behind an Ethernet header.
pub(crate) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &kind.to_be_bytes(), payload].concat()
}
