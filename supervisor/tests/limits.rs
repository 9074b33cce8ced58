//! What a node may use of its host, and what becomes of one that uses more.

mod fixture;

use std::fs;

use fixture::{Host, LIVES};
use tyto_core::config::runtime::{LimitsConfig, WatchConfig};

const MIB: u64 = 1 << 20;

/// Fills memory: `tail` keeps the last line, and /dev/zero has no line's end.
const GREEDY: &str = "echo $$ > self; grep -E 'Max data' /proc/$$/limits > limits; \
                      cat /proc/$$/cgroup > groups; exec tail /dev/zero";

fn memory(bytes: u64) -> LimitsConfig {
    LimitsConfig { memory_bytes_max: Some(bytes), ..LimitsConfig::default() }
}

#[tokio::test]
async fn a_node_that_takes_too_much_memory_dies_alone_and_is_told_so() {
    let host = Host::with(&[("worker-1", GREEDY)], memory(64 * MIB), WatchConfig::default());
    host.up();
    host.start("worker-1", 0).await;
    let node = host.node_until("worker-1", |node| !node.failure.is_empty()).await;
    eprintln!("{}", node.failure);
    let report =
        fs::read_to_string(host.crash("worker-1", "report.txt").join("report.txt")).unwrap();
    let spool = host.layout.node_spool("worker-1");
    let groups = fs::read_to_string(spool.join("groups")).unwrap();
    let bounded = report.lines().find(|line| line.starts_with("memory_limit: ")).unwrap();
    if groups.contains("/tyto-") {
        assert!(node.failure.starts_with("out of memory: the kernel ended it"), "{node:?}");
        assert!(bounded.starts_with("memory_limit: 67108864 bytes by cgroup "), "{bounded}");
        assert!(host.log().contains("memory bounded by cgroup"), "{}", host.log());
    } else {
        let limits = fs::read_to_string(spool.join("limits")).unwrap();
        assert!(limits.contains("67108864"), "{limits}");
        assert_eq!(bounded, "memory_limit: 67108864 bytes by rlimit (data)");
        assert!(host.log().contains("memory bounded by rlimit"), "{}", host.log());
    }
    assert!(!host.status().await.supervisor_pid.eq(&0), "the supervisor lives");
    host.stop("worker-1", 0).await;
}

#[tokio::test]
async fn a_group_goes_with_its_node() {
    let script = "cat /proc/$$/cgroup > groups; exec sleep 1000";
    let host = Host::with(&[("worker-1", script)], memory(64 * MIB), WatchConfig::default());
    host.up();
    host.start("worker-1", 300).await;
    let groups = fs::read_to_string(host.layout.node_spool("worker-1").join("groups")).unwrap();
    let Some(group) = groups.lines().find(|line| line.contains("/tyto-")) else {
        eprintln!("no cgroup to use here: {groups}");
        return;
    };
    let path = group.rsplit(':').next().unwrap().trim_start_matches('/').to_owned();
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"];
    let dirs =
        || mounts.map(|mount| format!("{mount}/{path}")).map(|dir| fs::metadata(dir).is_ok());
    assert!(dirs().contains(&true), "{group}");
    host.stop("worker-1", 0).await;
    assert!(!dirs().contains(&true), "{group}");
}

#[tokio::test]
async fn a_node_has_its_niceness_and_no_core_unless_asked_for() {
    let limits = LimitsConfig { nice: 7, ..LimitsConfig::default() };
    let host = Host::with(&[("worker-1", LIVES)], limits, WatchConfig::default());
    host.up();
    host.start("worker-1", 0).await;
    let pid = host.node_until("worker-1", |node| node.pid != 0).await.pid;
    let program = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    while program() != "sleep\n" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // proc(5): nice is the 19th field; two come before the closing parenthesis.
    let nice = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap();
    assert_eq!(nice, "7");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
