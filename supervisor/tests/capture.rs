//! Capture sockets outlive workers, supervisor and guard: whatever is killed under traffic, each
//! packet is received once, by the worker of its flow. In a network namespace with a veth pair;
//! needs root, `ip` and `unshare`, says so and passes without. The workers are this very program
//! (`process_of_a_node`), which writes down each packet that it gets.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

mod fixture;
#[allow(dead_code, reason = "used in part here")]
#[path = "../../core/capture/tests/namespace/mod.rs"]
mod namespace;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fixture::{Host, PATIENCE, kill9};
use namespace::{inside_namespace, ip};
use tyto_capture::live::{AfPacket, EXIT_INTERFACE_GONE};
use tyto_capture::passing;
use tyto_core::config::runtime::{CaptureConfig, NodeConfig, Role};
use tyto_proto::v1::NodeStatus;

/// Set in a process that acts as a node: its configuration.
const NODE: &str = "TYTO_TEST_NODE";

/// UDP flows of the traffic.
const FLOWS: u16 = 64;
/// Two workers, one fanout group.
const WORKERS: [&str; 2] = ["worker-1", "worker-2"];

/// The program of the nodes of this test: reads its ring and writes down flow and number of each
/// packet, and what is counted.
#[test]
fn process_of_a_node() {
    let Some(config) = std::env::var_os(NODE) else { return };
    let config: NodeConfig = serde_yaml::from_str(&fs::read_to_string(config).unwrap()).unwrap();
    let given = passing::receive(std::io::stdin()).unwrap().unwrap().capture.unwrap();
    let mut capture = AfPacket::resume(&config.capture.unwrap().interface, given).unwrap();
    fs::write("status", fs::read("/proc/self/status").unwrap()).unwrap();
    let mut seen = File::options().create(true).append(true).open("seen").unwrap();
    loop {
        if let Err(error) = capture.wait(Duration::from_millis(20)) {
            eprintln!("{error}");
            std::process::exit(EXIT_INTERFACE_GONE.into());
        }
        while let Some(frame) = capture.poll_frame() {
            let mut row = [0; 10];
            row[..2].copy_from_slice(&frame.bytes[34..36]);
            row[2..].copy_from_slice(&frame.bytes[42..50]);
            seen.write_all(&row).unwrap();
        }
        let stats = capture.statistics().unwrap();
        let text =
            format!("{} {} {}", stats.received_packets, stats.dropped_packets, stats.link_packets);
        fs::write("stats.new", text).unwrap();
        fs::rename("stats.new", "stats").unwrap();
    }
}

fn node_config(host: &Host, node: &str) -> NodeConfig {
    NodeConfig {
        capture: Some(CaptureConfig {
            fanout_id: Some(7),
            fanout_defrag: false,
            buffer_size_bytes: 64 << 20,
            block_size_bytes: 1 << 15,
            snaplen_bytes: 65_535,
            ..CaptureConfig::new("v1")
        }),
        ..NodeConfig::new("test", node, Role::Worker, host.layout.prefix())
    }
}

/// A host whose nodes are `process_of_a_node`, its supervisor up.
fn capturing_host() -> Host {
    let host = Host::new(&WORKERS.map(|node| (node, "")));
    let release = host.layout.release("r1");
    for node in WORKERS {
        let config = serde_yaml::to_string(&node_config(&host, node)).unwrap();
        fs::write(release.join("etc/nodes").join(format!("{node}.yaml")), config).unwrap();
    }
    let program = release.join("bin/worker");
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\n{NODE}=\"$2\" exec {} --exact process_of_a_node --nocapture\n",
        exe.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    host.up();
    host
}

async fn start_all(host: &Host) {
    for node in WORKERS {
        assert!(host.start(node, 0).await.ok, "{}", host.log());
        reads(host, node);
    }
}

/// Waits until the process of a node reads its ring.
fn reads(host: &Host, node: &str) {
    let stats = host.layout.node_spool(node).join("stats");
    let give_up_at = Instant::now() + PATIENCE;
    while !stats.exists() {
        assert!(Instant::now() < give_up_at, "{node} does not read\n{}", host.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Traffic of [`FLOWS`] flows until it is stopped: some twenty thousand packets a second.
struct Traffic {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
}

impl Traffic {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = std::thread::spawn(move || {
            let sockets: Vec<UdpSocket> = (0..FLOWS)
                .map(|flow| {
                    let socket = UdpSocket::bind(("10.9.0.1", 20_000 + flow)).unwrap();
                    socket.connect(("10.9.0.2", 53)).unwrap();
                    socket
                })
                .collect();
            let mut sent = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                for socket in &sockets {
                    socket.send(&sent.to_be_bytes()).unwrap();
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(3));
            }
            sent
        });
        Self { stop, sender }
    }

    /// Stops it and tells how many packets were sent.
    fn sent(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap()
    }
}

/// Waits until all packets are accounted for, and checks each: `killed` lives of readers ended
/// with a packet in their hands at most.
async fn each_packet_came_once(host: &Host, sent: u64, killed: usize) {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let (mut received, mut dropped, mut link) = (0, 0, 0);
        for node in WORKERS {
            let stats = fs::read_to_string(host.layout.node_spool(node).join("stats")).unwrap();
            let numbers: Vec<u64> = stats.split(' ').map(|n| n.parse().unwrap()).collect();
            received += numbers[0];
            dropped += numbers[1];
            link += numbers[2];
        }
        assert!(received + dropped <= sent, "{received} + {dropped} of {sent}");
        if received + dropped == sent {
            assert_eq!((dropped, link), (0, sent));
            break;
        }
        let message = format!("{received} + {dropped} of {sent}, {link}\n{}", host.log());
        assert!(Instant::now() < give_up_at, "{message}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut worker_of_flow = HashMap::new();
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    for node in WORKERS {
        let seen = fs::read(host.layout.node_spool(node).join("seen")).unwrap();
        assert_eq!(seen.len() % 10, 0);
        for row in seen.chunks(10) {
            let flow = [row[0], row[1]];
            assert_eq!(*worker_of_flow.entry(flow).or_insert(node), node, "flow moved");
            *times.entry(u64::from_be_bytes(row[2..].try_into().unwrap())).or_default() += 1;
        }
    }
    assert!(times.values().all(|times| *times == 1), "a packet came twice");
    assert_eq!(worker_of_flow.len(), usize::from(FLOWS));
    let in_hands = sent - u64::try_from(times.len()).unwrap();
    assert!(in_hands <= killed as u64, "{in_hands} packets in the hands of {killed}");
    eprintln!("{sent} sent and received, {in_hands} of them in the hands of {killed} killed");
}

/// Waits until the node has another process than `pid`; helps it over its delay.
async fn another(host: &Host, node: &str, pid: u32) -> NodeStatus {
    host.node_until(node, |now| now.pid != pid).await;
    if host.node(node).await.pid == 0 {
        host.start(node, 0).await;
    }
    host.node_until(node, |now| now.pid != 0 && now.pid != pid).await
}

/// Runs a test's body inside of its namespace.
fn run(test: &str, body: impl Future<Output = ()>) {
    if inside_namespace(test) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(body);
    }
}

#[test]
fn worker_killed_ten_times_loses_no_packet_and_the_other_notices_nothing() {
    run("worker_killed_ten_times_loses_no_packet_and_the_other_notices_nothing", async {
        let host = capturing_host();
        start_all(&host).await;
        let other = host.node(WORKERS[1]).await;
        let traffic = Traffic::start();
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let victim = host.node(WORKERS[0]).await;
            assert_ne!(victim.pid, 0, "{victim:?}\n{}", host.log());
            kill9(victim.pid);
            another(&host, WORKERS[0], victim.pid).await;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
        each_packet_came_once(&host, traffic.sent(), 10).await;
        let after = host.node(WORKERS[1]).await;
        assert_eq!((after.pid, after.restarts), (other.pid, 0));
    });
}

#[test]
fn supervisor_guard_or_supervisor_and_worker_killed_lose_no_packet() {
    run("supervisor_guard_or_supervisor_and_worker_killed_lose_no_packet", async {
        let host = capturing_host();
        start_all(&host).await;
        let traffic = Traffic::start();
        for round in 0..9 {
            let before = host.status_until(|now| now.guard_pid != 0).await;
            let victim = host.node_until(WORKERS[0], |node| node.pid != 0).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            match round % 3 {
                0 => {
                    kill9(before.supervisor_pid);
                    let back = |now: &tyto_proto::v1::StatusReply| {
                        now.supervisor_pid != before.supervisor_pid && now.guard_pid != 0
                    };
                    host.status_until(back).await;
                    // What it took over it also hands on.
                    kill9(victim.pid);
                }
                1 => {
                    kill9(before.supervisor_pid);
                    kill9(victim.pid);
                    host.status_until(|now| now.supervisor_pid != before.supervisor_pid).await;
                }
                _ => {
                    kill9(before.guard_pid);
                    let back = |now: &tyto_proto::v1::StatusReply| {
                        now.guard_pid != before.guard_pid && now.guard_pid != 0
                    };
                    host.status_until(back).await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    // The new guard has it all.
                    kill9(before.supervisor_pid);
                    kill9(victim.pid);
                    host.status_until(|now| now.supervisor_pid != before.supervisor_pid).await;
                }
            }
            another(&host, WORKERS[0], victim.pid).await;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
        each_packet_came_once(&host, traffic.sent(), 9).await;
    });
}

#[test]
fn supervisor_and_guard_killed_at_once_get_the_sockets_back_from_the_workers() {
    run("supervisor_and_guard_killed_at_once_get_the_sockets_back_from_the_workers", async {
        let host = capturing_host();
        start_all(&host).await;
        let traffic = Traffic::start();
        let before = host.status_until(|now| now.guard_pid != 0).await;
        let victim = host.node(WORKERS[0]).await;
        kill9(before.guard_pid);
        kill9(before.supervisor_pid);
        host.up();
        assert_eq!(host.node(WORKERS[0]).await.pid, victim.pid);
        kill9(victim.pid);
        another(&host, WORKERS[0], victim.pid).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        each_packet_came_once(&host, traffic.sent(), 1).await;
    });
}

#[test]
fn worker_stopped_for_a_restart_leaves_its_packets_to_the_next() {
    run("worker_stopped_for_a_restart_leaves_its_packets_to_the_next", async {
        let host = capturing_host();
        start_all(&host).await;
        let traffic = Traffic::start();
        tokio::time::sleep(Duration::from_millis(200)).await;
        for _ in 0..3 {
            let nodes = vec![WORKERS[0].to_owned()];
            let stop = tyto_proto::v1::StopRequest { nodes, timeout_ms: 5000, keep_capture: true };
            assert!(host.client().stop(stop).await.unwrap().into_inner().results[0].ok);
            tokio::time::sleep(Duration::from_millis(200)).await;
            host.start(WORKERS[0], 0).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // The process that SIGTERM ends here at once had a packet in its hands, perhaps.
        each_packet_came_once(&host, traffic.sent(), 3).await;

        // Without that wish its socket is closed: the other gets all packets.
        host.stop(WORKERS[0], 5000).await;
        let stats = host.layout.node_spool(WORKERS[1]).join("seen");
        let before = fs::metadata(&stats).unwrap().len();
        let sent = namespace::send("10.9.0.1", "10.9.0.2");
        let give_up_at = Instant::now() + PATIENCE;
        while fs::metadata(&stats).unwrap().len() < before + sent * 10 {
            assert!(Instant::now() < give_up_at, "{}", host.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn worker_has_no_capability_and_gets_none() {
    run("worker_has_no_capability_and_gets_none", async {
        let host = capturing_host();
        start_all(&host).await;
        let status = fs::read_to_string(host.layout.node_spool(WORKERS[0]).join("status")).unwrap();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{set}\n{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    });
}

#[test]
fn node_waits_for_its_interface_and_captures_when_it_is_there() {
    run("node_waits_for_its_interface_and_captures_when_it_is_there", async {
        let host = capturing_host();
        ip("link set v1 down");
        let result = host.start(WORKERS[0], 5000).await;
        assert!(!result.ok && result.message.contains("`v1` is down"), "{result:?}");
        ip("link set v1 up");
        let node = host.node_until(WORKERS[0], |node| node.pid != 0).await;
        reads(&host, WORKERS[0]);

        ip("link del v1");
        let waiting = host.node_until(WORKERS[0], |now| now.state == "waiting").await;
        assert_eq!((waiting.pid, waiting.restarts), (0, 0));
        let named = |now: &NodeStatus| now.last_exit.contains("interface `v1`");
        let waiting = host.node_until(WORKERS[0], named).await;
        assert!(waiting.last_exit.starts_with("waiting: "), "{waiting:?}");

        ip("link add v0 type veth peer name v1");
        ip("link set v0 arp off");
        ip("addr add 10.9.0.1/24 dev v0");
        ip("link set v0 up");
        ip("link set v1 up");
        let again = host.node_until(WORKERS[0], |now| now.pid != 0).await;
        assert_ne!(again.pid, node.pid);
        let crashes = fs::read_dir(host.layout.crashes()).map_or(0, Iterator::count);
        assert_eq!((again.restarts, crashes), (0, 0), "waiting is no crash");
        fs::remove_file(host.layout.node_spool(WORKERS[0]).join("stats")).ok();
        reads(&host, WORKERS[0]);
        let seen = host.layout.node_spool(WORKERS[0]).join("seen");
        let sent = namespace::send("10.9.0.1", "10.9.0.2");
        let give_up_at = Instant::now() + PATIENCE;
        while fs::metadata(&seen).map_or(0, |seen| seen.len()) < sent * 10 {
            assert!(Instant::now() < give_up_at, "{}", host.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn renamed_interface_is_captured_on() {
    run("renamed_interface_is_captured_on", async {
        let host = capturing_host();
        start_all(&host).await;
        ip("link set v1 down");
        ip("link set v1 name eth-new");
        ip("link set eth-new up");
        let victim = host.node(WORKERS[0]).await;
        kill9(victim.pid);
        another(&host, WORKERS[0], victim.pid).await;
        let traffic = Traffic::start();
        tokio::time::sleep(Duration::from_millis(300)).await;
        each_packet_came_once(&host, traffic.sent(), 0).await;
        assert!(host.log().contains("the interface was renamed"), "{}", host.log());
    });
}
