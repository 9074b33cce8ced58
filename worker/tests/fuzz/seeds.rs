//! Conversations of the golden captures, to be damaged: the payloads of each flow in the order
//! of its packets, and the services that the worker itself finds on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::{fs, io};

use tyto_core::config::runtime::AnalysisConfig;
use tyto_core::net::{Proto, Side};
use tyto_core::record::schema::Schema;
use tyto_core::record::tsv::TsvRow;
use tyto_core::record::wire;
use tyto_core::time::Ts;
use tyto_worker::analyzer::Spec;
use tyto_worker::capture::pcap_file::PcapFile;
use tyto_worker::capture::{Next, PacketSource};
use tyto_worker::decode::ip::{IpPacket, proto};
use tyto_worker::decode::link::{self, LinkFound};
use tyto_worker::decode::tcp;
use tyto_worker::output::{Claim, Output, RowSink, StreamRef};
use tyto_worker::pipeline::Pipeline;

/// Flows that are kept of one capture, and bytes of one flow: enough to reach every message.
const FLOWS_MAX: usize = 200;
/// See [`FLOWS_MAX`].
const FLOW_BYTES_MAX: usize = 64 * 1024;

/// One conversation.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    pub(crate) proto: Proto,
    pub(crate) resp_port: u16,
    /// What the worker found on it, by the names of the `service` column.
    pub(crate) services: BTreeSet<String>,
    pub(crate) messages: Vec<(Side, Vec<u8>)>,
}

type End = (IpAddr, u16);
/// Transport, originator, responder.
type Flow = (Proto, End, End);

static SEEDS: LazyLock<Vec<Seed>> = LazyLock::new(read_all);

/// The seeds of all golden captures.
pub(crate) fn all() -> &'static [Seed] {
    &SEEDS
}

/// Protocols whose name in the `service` column is another.
const SERVICES: [(&str, &str); 2] = [("FTP_DATA", "ftp-data"), ("IRC_DATA", "irc-dcc-data")];

/// Those on which `spec` was confirmed, or that go to one of its ports: some are never a service.
pub(crate) fn of(spec: &Spec) -> Vec<Seed> {
    let name = SERVICES
        .iter()
        .find(|(name, _)| *name == spec.name)
        .map_or_else(|| spec.name.to_ascii_lowercase(), |(_, service)| (*service).to_owned());
    let is_of = |seed: &&Seed| {
        seed.services.contains(&name) || spec.ports.contains(&(seed.proto, seed.resp_port))
    };
    all().iter().filter(is_of).cloned().collect()
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn read_all() -> Vec<Seed> {
    let cases = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let mut captures: Vec<_> =
        cases.map(|case| case.join("in.pcap")).filter(|capture| capture.exists()).collect();
    captures.sort();
    captures.iter().flat_map(|capture| read(capture)).collect()
}

fn read(capture: &Path) -> Vec<Seed> {
    let services = services(capture);
    let mut flows: BTreeMap<Flow, Vec<(Side, Vec<u8>)>> = BTreeMap::new();
    let mut source = PcapFile::open(capture).unwrap();
    while let Next::Frame(frame) = source.next_frame().unwrap() {
        link::ip_packets(frame.link_type, frame.bytes, |found| {
            let LinkFound::Ip(bytes) = found else { return };
            let Ok(packet) = IpPacket::parse(bytes) else { return };
            let segment = packet.payload();
            let Some((src_port, dst_port)) = tcp::ports(segment) else { return };
            let (transport, header_len) = match packet.next_proto {
                proto::TCP => (Proto::Tcp, tcp::header_len(segment).unwrap_or_default()),
                proto::UDP => (Proto::Udp, 8),
                _ => return,
            };
            let payload = segment.get(header_len..).unwrap_or_default();
            let (src, dst) = ((packet.src.into(), src_port), (packet.dst.into(), dst_port));
            let (key, side) = match services.contains_key(&(transport, src, dst)) {
                true => ((transport, src, dst), Side::Orig),
                false => ((transport, dst, src), Side::Resp),
            };
            if payload.is_empty() || !services.contains_key(&key) {
                return;
            }
            if flows.len() < FLOWS_MAX || flows.contains_key(&key) {
                flows.entry(key).or_default().push((side, payload.to_vec()));
            }
        });
    }
    flows
        .into_iter()
        .map(|(key, mut messages)| {
            let mut bytes = 0;
            messages.retain(|(_, message)| {
                bytes += message.len();
                bytes <= FLOW_BYTES_MAX
            });
            Seed { proto: key.0, resp_port: key.2.1, services: services[&key].clone(), messages }
        })
        .collect()
}

/// The connections that the worker sees in `capture`, and what it recognised on them.
fn services(capture: &Path) -> BTreeMap<Flow, BTreeSet<String>> {
    let rows = Rows::default();
    let config = AnalysisConfig { ignore_checksums: true, ..AnalysisConfig::default() };
    let output = Output::new(Box::new(Collect(rows.clone())));
    let mut pipeline = Pipeline::new(&config, 1, output);
    pipeline.run(&mut PcapFile::open(capture).unwrap()).unwrap();
    pipeline.finish().unwrap();
    let rows = rows.lock().unwrap();
    rows.iter()
        .map(|row| {
            let end = |side: &str| -> End {
                let column = |name: &str| &row[&format!("id.{side}_{name}")];
                (column("h").parse().unwrap(), column("p").parse().unwrap())
            };
            let transport = if row["proto"] == "udp" { Proto::Udp } else { Proto::Tcp };
            let services = row["service"].split(',').map(str::to_owned).collect();
            ((transport, end("orig"), end("resp")), services)
        })
        .collect()
}

type Rows = Arc<Mutex<Vec<BTreeMap<String, String>>>>;

struct Collect(Rows);

impl RowSink for Collect {
    fn row(&mut self, stream: StreamRef, row: &[u8]) {
        if stream.name != "conn" {
            return;
        }
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
        self.0.lock().unwrap().push(names.zip(values).collect());
    }

    fn claim(&mut self, _claim: Claim, _stream: StreamRef, _row: &[u8]) {}

    fn finish(&mut self, _last: Ts) -> io::Result<()> {
        Ok(())
    }
}
