//! A network namespace with a veth pair, for tests of live capture, and traffic for it.
//! Needs root, `ip` (iproute2) and `unshare` (util-linux).

use std::net::UdpSocket;
use std::process::Command;

/// Set in the copy of this program that runs inside of the namespace.
const INSIDE: &str = "TYTO_TEST_INSIDE_NAMESPACE";

/// UDP flows of [`send`].
pub(crate) const FLOWS: u16 = 64;
/// Packets of each.
pub(crate) const PACKETS_PER_FLOW: u16 = 50;
/// Bytes in each packet.
pub(crate) const PAYLOAD: [u8; 100] = [b'x'; 100];

/// Runs `test` of this file again, inside of a namespace that holds a veth pair `v0` (with
/// an address) and `v1` (captured). True inside.
pub(crate) fn inside_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        set_up_veth();
        return true;
    }
    let able = Command::new("unshare").args(["--net", "ip", "link"]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped {test}: needs root, `ip` (iproute2) and `unshare` (util-linux)");
        return false;
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside of its namespace");
    false
}

fn set_up_veth() {
    // Neighbour discovery would add packets of its own.
    std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    ip("link add v0 type veth peer name v1");
    ip("link set v0 arp off");
    ip("addr add 10.9.0.1/24 dev v0");
    ip("link set v0 up");
    ip("link set v1 up");
}

/// Runs `ip` of iproute2.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Sends each flow's packets, the flows interleaved; returns how many packets that was.
pub(crate) fn send(from: &str, to: &str) -> u64 {
    let sockets: Vec<UdpSocket> = (0..FLOWS)
        .map(|flow| {
            let socket = UdpSocket::bind((from, 20_000 + flow)).unwrap();
            socket.connect((to, 53)).unwrap();
            socket
        })
        .collect();
    for _ in 0..PACKETS_PER_FLOW {
        for socket in &sockets {
            socket.send(&PAYLOAD).unwrap();
        }
    }
    u64::from(FLOWS) * u64::from(PACKETS_PER_FLOW)
}
