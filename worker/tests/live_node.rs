//! A whole standalone node on a veth pair: packets in, log files out, each counted. Needs root,
//! `ip` and `unshare`; says so and passes without.
//!
//! Longer than 500 lines: all tests share the stand-in for the supervisor and the worker that can
//! be held.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

#[path = "../../core/capture/tests/namespace/mod.rs"]
mod namespace;

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use namespace::{FLOWS, PACKETS_PER_FLOW, inside_namespace, send};
use rustix::process::Pid;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use tyto_capture::live::{EXIT_INTERFACE_GONE, FrameSender};
use tyto_capture::passing;
use tyto_capture::socket::CaptureSocket;
use tyto_core::config::logs::Compression;
use tyto_core::config::runtime::{AnalysisConfig, CaptureConfig, LogsConfig, NodeConfig, Role};
use tyto_core::layout::Layout;
use tyto_daemon::channel;
use tyto_daemon::shutdown::CancellationToken;
use tyto_proto::v1;
use tyto_proto::v1::supervisor_server::{Supervisor, SupervisorServer};
use tyto_worker::args::Args;
use tyto_worker::capture::pcap_file::PcapFile;
use tyto_worker::capture::{Next, PacketSource};
use tyto_worker::{node, read};

/// How long the node may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stands in for the supervisor: keeps the reports.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<v1::NodeHealth>>>);

impl Reports {
    fn last(&self) -> Option<v1::NodeHealth> {
        self.0.lock().unwrap().last().cloned()
    }

    /// Waits for a report of which `wanted` is true.
    async fn wait_for(&self, what: &str, wanted: impl Fn(&v1::NodeHealth) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !self.last().as_ref().is_some_and(&wanted) {
            assert!(Instant::now() < until, "{what} never came: {:?}", self.last());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tonic::async_trait]
impl Supervisor for Reports {
    async fn report(
        &self,
        request: Request<v1::NodeHealth>,
    ) -> Result<Response<v1::ReportReply>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(v1::ReportReply {}))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        Err(Status::unimplemented("reports only"))
    }

    async fn start(
        &self,
        _: Request<v1::StartRequest>,
    ) -> Result<Response<v1::NodesResult>, Status> {
        Err(Status::unimplemented("reports only"))
    }

    async fn stop(&self, _: Request<v1::StopRequest>) -> Result<Response<v1::NodesResult>, Status> {
        Err(Status::unimplemented("reports only"))
    }

    async fn restart(
        &self,
        _: Request<v1::RestartRequest>,
    ) -> Result<Response<v1::NodesResult>, Status> {
        Err(Status::unimplemented("reports only"))
    }

    async fn shutdown(
        &self,
        _: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::ShutdownReply>, Status> {
        Err(Status::unimplemented("reports only"))
    }
}

fn config(prefix: &Path, interface: Option<&str>) -> NodeConfig {
    NodeConfig {
        capture: interface.map(|interface| CaptureConfig {
            buffer_size_bytes: 8 << 20,
            block_size_bytes: 1 << 15,
            snaplen_bytes: 65_535,
            ..CaptureConfig::new(interface)
        }),
        analysis: AnalysisConfig {
            private_address_space_is_local: true,
            ..AnalysisConfig::default()
        },
        logs: LogsConfig {
            compress: Compression::Off,
            rotation_interval_s: 0,
            ..LogsConfig::default()
        },
        ..NodeConfig::new("test", "zeek", Role::Standalone, prefix)
    }
}

/// A supervisor's socket below `prefix`, and what comes to it.
fn supervise(prefix: &Path) -> Reports {
    let reports = Reports::default();
    let layout = Layout::new(prefix);
    std::fs::create_dir_all(layout.run()).unwrap();
    let listener = channel::listen_socket(&layout.supervisor_sock()).unwrap();
    let server = channel::server()
        .add_service(SupervisorServer::new(reports.clone()))
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::spawn(server);
    reports
}

fn counter(report: &v1::NodeHealth, name: &str) -> u64 {
    report.counters.iter().find(|counter| counter.name == name).unwrap().value
}

/// The rows of a log's archived files, without headers.
fn archived_rows(prefix: &Path, stream: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for day in std::fs::read_dir(Layout::new(prefix).logs()).unwrap() {
        let day = day.unwrap().path();
        if day.is_symlink() || !day.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(day).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with(&format!("{stream}.")) {
                let text = std::fs::read_to_string(path).unwrap();
                rows.extend(text.lines().filter(|line| !line.starts_with('#')).map(String::from));
            }
        }
    }
    rows
}

#[test]
fn live_node_logs_each_connection_and_counts_each_packet() {
    if !inside_namespace("live_node_logs_each_connection_and_counts_each_packet") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let reports = supervise(folder.path());
        let shutdown = CancellationToken::new();
        let node =
            tokio::spawn(node::run(config(folder.path(), Some("v1")), None, shutdown.clone()));
        reports.wait_for("running", |report| report.phase == "running").await;
        let sent = send("10.9.0.1", "10.9.0.2");
        reports.wait_for("all packets", |report| counter(report, "packets_received") == sent).await;
        shutdown.cancel();
        node.await.unwrap().unwrap();

        let last = reports.last().unwrap();
        assert_eq!(last.phase, "terminating");
        assert_eq!(
            [counter(&last, "packets_analysed"), counter(&last, "packets_dropped")],
            [sent, 0]
        );
        let flows = u64::from(FLOWS);
        let conn = last.ledger.iter().find(|row| row.stream == "conn").unwrap();
        assert_eq!([conn.produced_rows, conn.acked_rows], [flows, flows]);
        assert_eq!(conn.written[0].rows, flows);
        assert!(conn.dropped.is_empty());
    });
    let rows = archived_rows(folder.path(), "conn");
    assert_eq!(rows.len(), usize::from(FLOWS));
    let packets = PACKETS_PER_FLOW.to_string();
    for row in rows {
        let columns: Vec<&str> = row.split('\t').collect();
        // ts uid orig_h orig_p resp_h resp_p proto … orig_pkts is the 17th.
        assert_eq!(columns[2..7], ["10.9.0.1", columns[3], "10.9.0.2", "53", "udp"]);
        assert_eq!(columns[16], packets, "{row}");
    }
}

/// The columns of a conn.log row that do not depend on when it was captured: all but ts, uid
/// and duration.
fn timeless(row: &str) -> String {
    let columns = row.split('\t').enumerate().filter(|(place, _)| ![0, 1, 8].contains(place));
    columns.map(|(_, value)| value).collect::<Vec<_>>().join("\t")
}

/// One pass, whatever the source: ring and file lead to the same connections.
#[test]
fn replayed_capture_gives_the_connections_that_its_file_gives() {
    if !inside_namespace("replayed_capture_gives_the_connections_that_its_file_gives") {
        return;
    }
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/lab-traffic/in.pcap");
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("read");
    let args = ["worker".as_ref(), "--read".as_ref(), capture.as_os_str()];
    let args = args.into_iter().chain(["--log-dir".as_ref(), logs.as_os_str()]);
    let read = read::run(&Args::try_parse_from(args).unwrap()).unwrap().stats;

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let reports = supervise(folder.path());
        let shutdown = CancellationToken::new();
        let node =
            tokio::spawn(node::run(config(folder.path(), Some("v1")), None, shutdown.clone()));
        reports.wait_for("running", |report| report.phase == "running").await;
        let sender = FrameSender::open("v0").unwrap();
        let mut file = PcapFile::open(&capture).unwrap();
        while let Next::Frame(frame) = file.next_frame().unwrap() {
            sender.send(frame.bytes).unwrap();
        }
        reports.wait_for("all packets", |r| counter(r, "packets_received") == read.packets).await;
        shutdown.cancel();
        node.await.unwrap().unwrap();
    });

    let text = std::fs::read_to_string(logs.join("conn.log")).unwrap();
    let mut from_file: Vec<String> =
        text.lines().filter(|line| !line.starts_with('#')).map(timeless).collect();
    let mut live: Vec<String> =
        archived_rows(folder.path(), "conn").iter().map(|row| timeless(row)).collect();
    from_file.sort();
    live.sort();
    assert!(from_file.len() > 1000, "{} connections", from_file.len());
    assert_eq!(live, from_file);
    let known = std::fs::read_to_string(logs.join("known_hosts.log")).unwrap();
    let known = known.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(archived_rows(folder.path(), "known_hosts").len(), known);
}

#[test]
fn node_without_interface_runs_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let reports = supervise(folder.path());
        let shutdown = CancellationToken::new();
        let node = tokio::spawn(node::run(config(folder.path(), None), None, shutdown.clone()));
        reports.wait_for("running", |report| report.phase == "running").await;
        shutdown.cancel();
        node.await.unwrap().unwrap();
        assert_eq!(reports.last().unwrap().phase, "terminating");
    });
}

#[test]
fn missing_interface_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = config(folder.path(), Some("no-such-if"));
    let error = runtime.block_on(node::run(config, None, CancellationToken::new())).unwrap_err();
    let chain = format!("{error:#}");
    assert!(
        chain.starts_with("cannot capture: interface `no-such-if`: cannot "),
        "without root it cannot open a socket, with root not find it: {chain}"
    );
}

#[test]
fn node_whose_interface_is_removed_logs_what_it_saw_and_ends_by_a_fault() {
    if !inside_namespace("node_whose_interface_is_removed_logs_what_it_saw_and_ends_by_a_fault") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let reports = supervise(folder.path());
        let shutdown = CancellationToken::new();
        let node = tokio::spawn(node::run(config(folder.path(), Some("v1")), None, shutdown));
        reports.wait_for("running", |report| report.phase == "running").await;
        send("10.9.0.1", "10.9.0.2");
        namespace::ip("link del v1");
        let error = tokio::time::timeout(PATIENCE, node).await.unwrap().unwrap().unwrap_err();
        assert!(format!("{error:#}").contains("interface `v1` was removed"), "{error:#}");
    });
    assert_eq!(archived_rows(folder.path(), "conn").len(), usize::from(FLOWS));
}

/// A worker process of its own, so that it can be held: started for `node`, ended when dropped.
struct Worker(Child);

impl Worker {
    fn start(prefix: &Path, node: &NodeConfig) -> Self {
        let path = prefix.join("node.yaml");
        // JSON is YAML.
        std::fs::write(&path, serde_json::to_string(node).unwrap()).unwrap();
        let mut worker = Command::new(env!("CARGO_BIN_EXE_worker"));
        Self(worker.arg("--config").arg(path).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs a worker with two blocks of ring that is held while packets come, and gives its
/// counters when all is quiet, and how many packets were sent.
async fn overrun(prefix: &Path, filter: Option<&str>) -> (v1::NodeHealth, u64) {
    let reports = supervise(prefix);
    let mut node = config(prefix, Some("v1"));
    let capture = node.capture.as_mut().unwrap();
    (capture.buffer_size_bytes, capture.block_size_bytes) = (1 << 17, 1 << 16);
    (capture.snaplen_bytes, capture.filter) = (2048, filter.map(str::to_owned));
    let worker = Worker::start(prefix, &node);
    reports.wait_for("running", |report| report.phase == "running").await;
    let mut sent = send("10.9.0.1", "10.9.0.2");
    worker.signal("STOP");
    sent += send("10.9.0.1", "10.9.0.2");
    worker.signal("CONT");
    sent += send("10.9.0.1", "10.9.0.2");
    let quiet = |r: &v1::NodeHealth| {
        let count = |name| counter(r, name);
        count("nic_packets") >= sent
            && count("packets_link") > 0
            && count("packets_link") == count("packets_received") + count("packets_dropped")
    };
    reports.wait_for("the last packet", quiet).await;
    // What still was on its way when the counters were read comes with the next report.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    reports.wait_for("the last packet", quiet).await;
    (reports.last().unwrap(), sent)
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work)
}

/// docs/operate.md, "Where a packet can be lost": card, ring and worker account for each packet
/// that was sent, also when the ring overflows.
#[test]
fn counters_of_card_ring_and_worker_account_for_each_packet() {
    if !inside_namespace("counters_of_card_ring_and_worker_account_for_each_packet") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (report, sent) = in_runtime(overrun(folder.path(), None));
    let count = |name| counter(&report, name);
    assert_eq!(count("nic_packets") + count("nic_sent") + count("nic_dropped"), sent);
    assert_eq!(count("packets_link"), sent);
    assert_eq!(count("packets_received") + count("packets_dropped"), sent);
    assert!(count("packets_dropped") > 0 && count("ring_freezes") > 0, "{report:?}");
    assert_eq!(count("packets_analysed") + count("packets_empty"), count("packets_received"));
    assert_eq!([count("packets_malformed"), count("packets_truncated")], [0, 0]);
}

/// Blocks of the ring that fills up: so many that the packets of one turn, which the worker may
/// be held in, are a small part of it.
const FULL_RING_BLOCKS: u64 = 1024;
/// Bytes of each.
const FULL_RING_BLOCK_BYTES: u32 = 1 << 15;
/// Bytes in a packet that fills it.
const FILLER: [u8; 1400] = [b'x'; 1400];
/// Bytes of the ring that one takes: with its headers, those of the kernel's frame and padding.
const FILLER_RING_BYTES: u64 = 1536;
/// Packets of each connection that fills it.
const FILLER_FLOW_PACKETS: u64 = 64;

/// Sends one query for a name, which is DNS if it is looked at.
fn ask(from_port: u16) {
    let query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01";
    let socket = UdpSocket::bind(("10.9.0.1", from_port)).unwrap();
    socket.send_to(query, "10.9.0.2:53").unwrap();
}

/// Sends what takes `percent` of the ring, on new connections one after the other, which no
/// port tells; gives the number of packets.
fn fill(percent: u64, from_port: u16) -> u64 {
    let ring_bytes = FULL_RING_BLOCKS * u64::from(FULL_RING_BLOCK_BYTES);
    let flows = ring_bytes * percent / 100 / FILLER_RING_BYTES / FILLER_FLOW_PACKETS;
    for port in (from_port..).take(usize::try_from(flows).unwrap()) {
        let socket = UdpSocket::bind(("10.9.0.1", port)).unwrap();
        for _ in 0..FILLER_FLOW_PACKETS {
            socket.send_to(&FILLER, "10.9.0.2:40000").unwrap();
        }
    }
    flows * FILLER_FLOW_PACKETS
}

/// Packets come while the worker is held, as they would while it does not get on with them.
/// Gives the number of connections that came while there was room.
async fn overload(prefix: &Path) -> u64 {
    let reports = supervise(prefix);
    let mut node = config(prefix, Some("v1"));
    let capture = node.capture.as_mut().unwrap();
    capture.buffer_size_bytes = FULL_RING_BLOCKS * u64::from(FULL_RING_BLOCK_BYTES);
    (capture.block_size_bytes, capture.snaplen_bytes) = (FULL_RING_BLOCK_BYTES, 2048);
    let mut worker = Worker::start(prefix, &node);
    reports.wait_for("running", |report| report.phase == "running").await;
    let count = |name| counter(&reports.last().unwrap(), name);
    let is_quiet = |sent: u64| {
        move |report: &v1::NodeHealth| {
            let count = |name| counter(report, name);
            count("packets_received") + count("packets_dropped") == sent && count("shed_level") == 0
        }
    };
    ask(30_000);
    let mut sent = 1;
    reports.wait_for("the first query", is_quiet(sent)).await;
    assert_eq!(count("shed_levels_raised"), 0);

    // More than half full: depth of analysis is left out, and no packet is.
    worker.signal("STOP");
    let packets = fill(60, 23_000);
    sent += packets;
    worker.signal("CONT");
    reports.wait_for("what filled it by half", is_quiet(sent)).await;
    let unanalysed = count("shed_unanalysed");
    assert!(count("shed_levels_raised") > 0 && count("shed_undetected") + unanalysed > 0);
    assert_eq!(count("packets_dropped"), 0);

    // Fuller than full: nothing is analysed, all that fits is counted.
    worker.signal("STOP");
    sent += fill(20, 24_000);
    ask(30_001);
    sent += 1 + fill(100, 25_000);
    worker.signal("CONT");
    reports.wait_for("what overflowed it", is_quiet(sent)).await;
    assert!(count("packets_dropped") > 0 && count("shed_unanalysed") > unanalysed);

    // Once it is empty, everything is as before.
    let shed = [count("shed_levels_raised"), count("shed_undetected"), count("shed_unanalysed")];
    ask(30_002);
    reports.wait_for("the last query", is_quiet(sent + 1)).await;
    assert_eq!(
        shed,
        [count("shed_levels_raised"), count("shed_undetected"), count("shed_unanalysed")]
    );
    worker.signal("TERM");
    worker.0.wait().unwrap();
    packets / FILLER_FLOW_PACKETS
}

/// docs/operate.md, "When packets come too fast".
#[test]
fn a_ring_that_fills_costs_depth_of_analysis_before_packets_until_it_is_empty_again() {
    if !inside_namespace(
        "a_ring_that_fills_costs_depth_of_analysis_before_packets_until_it_is_empty_again",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let flows = in_runtime(overload(folder.path()));
    let rows = archived_rows(folder.path(), "conn");
    // conn.log is complete whatever was left out.
    let is_filler = |row: &&String| {
        row.split('\t').nth(3).is_some_and(|port| port.starts_with("23"))
            && row.split('\t').nth(16) == Some(&FILLER_FLOW_PACKETS.to_string())
    };
    assert_eq!(rows.iter().filter(is_filler).count() as u64, flows);
    let service_of = |port: &str| {
        let row = rows.iter().find(|row| row.split('\t').nth(3) == Some(port)).unwrap();
        row.split('\t').nth(7).unwrap().to_owned()
    };
    assert_eq!(["30000", "30001", "30002"].map(service_of), ["dns", "-", "dns"]);
}

/// What the filter rejects is the difference of card and ring.
#[test]
fn packets_that_the_filter_rejects_are_accounted_for_too() {
    if !inside_namespace("packets_that_the_filter_rejects_are_accounted_for_too") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (report, sent) = in_runtime(overrun(folder.path(), Some("udp src portrange 20000-20015")));
    let count = |name| counter(&report, name);
    let matching = sent / u64::from(FLOWS) * 16;
    assert_eq!(count("nic_packets"), sent);
    assert_eq!(count("packets_link"), matching);
    assert_eq!(count("nic_packets") - count("packets_link"), sent - matching);
    assert_eq!(count("packets_received") + count("packets_dropped"), matching);
    assert_eq!(count("packets_analysed"), count("packets_received"));
}

/// Tags that the kernel took out, single, double and of 802.1ad, do not keep a packet from its
/// connection.
#[test]
fn tagged_packets_are_analysed_like_others() {
    if !inside_namespace("tagged_packets_are_analysed_like_others") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tags: [&[u8]; 4] = [
        &[],
        &[0x81, 0x00, 0x20, 0x64],
        &[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x64],
        &[0x81, 0x00, 0x00, 0x07, 0x81, 0x00, 0x00, 0x64],
    ];
    in_runtime(async {
        let reports = supervise(folder.path());
        let shutdown = CancellationToken::new();
        let node = config(folder.path(), Some("v1"));
        let node = tokio::spawn(node::run(node, None, shutdown.clone()));
        reports.wait_for("running", |report| report.phase == "running").await;
        let sender = FrameSender::open("v0").unwrap();
        for (port, tags) in (1..).zip(tags) {
            let ip = [
                0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0x66, 0xbd, 10, 9, 0, 1, 10, 9, 0, 2, 0, port,
                0, 53, 0, 8, 0, 0,
            ];
            sender.send(&[&[2; 6], &[4; 6], tags, &[0x08, 0x00], &ip].concat()).unwrap();
        }
        let all = u64::try_from(tags.len()).unwrap();
        reports.wait_for("all packets", |r| counter(r, "packets_analysed") == all).await;
        shutdown.cancel();
        node.await.unwrap().unwrap();
        let last = reports.last().unwrap();
        assert_eq!([counter(&last, "packets_bad_checksum"), counter(&last, "flows")], [0, all]);
    });
    assert_eq!(archived_rows(folder.path(), "conn").len(), tags.len());
}

/// Starts the program as the supervisor does: with a socket on stdin.
fn program(folder: &Path, socket: &CaptureSocket) -> std::process::Child {
    let etc = Layout::new(folder).release("r1").join("etc/nodes");
    std::fs::create_dir_all(&etc).unwrap();
    let file = etc.join("zeek.yaml");
    let config = config(folder, Some("v1"));
    std::fs::write(&file, serde_yaml::to_string(&config).unwrap()).unwrap();
    let (ours, theirs) = passing::pair().unwrap();
    passing::send(ours, b"capture", Some(socket)).unwrap();
    std::process::Command::new(env!("CARGO_BIN_EXE_worker"))
        .arg("--config")
        .arg(file)
        .arg("--capture-from-stdin")
        .stdin(theirs)
        .spawn()
        .unwrap()
}

/// The program, confined as under a supervisor, is killed in the middle and followed by
/// another, which is told to end; then the interface is removed under a third.
#[test]
fn programs_that_follow_each_other_on_one_socket_count_each_packet_once() {
    if !inside_namespace("programs_that_follow_each_other_on_one_socket_count_each_packet_once") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let reports = supervise(folder.path());
        let capture = config(folder.path(), Some("v1")).capture.unwrap();
        let socket = CaptureSocket::open(&capture).unwrap();
        let received = |packets: u64| {
            move |report: &v1::NodeHealth| counter(report, "packets_received") == packets
        };
        let mut sent = send("10.9.0.1", "10.9.0.2");
        let mut first = program(folder.path(), &socket);
        reports.wait_for("the first packets", received(sent)).await;
        first.kill().unwrap();
        first.wait().unwrap();

        sent += send("10.9.0.1", "10.9.0.2");
        let mut second = program(folder.path(), &socket);
        reports.wait_for("packets of two lives", received(sent)).await;
        let pid = Pid::from_child(&second);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(second.wait().unwrap().success());
        assert_eq!(archived_rows(folder.path(), "conn").len(), usize::from(FLOWS));

        sent += send("10.9.0.1", "10.9.0.2");
        let mut third = program(folder.path(), &socket);
        reports.wait_for("packets of three lives", received(sent)).await;
        namespace::ip("link del v1");
        assert_eq!(third.wait().unwrap().code(), Some(EXIT_INTERFACE_GONE.into()));
    });
}
