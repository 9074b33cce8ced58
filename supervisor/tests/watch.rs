//! Nodes that die, hang or use too much: how soon they are back, what is kept of it, and that it
//! is told.

mod fixture;

use std::fs;
use std::time::{Duration, Instant};

use fixture::{FAILS, Host, LIVES, kill9, lives, signal};
use rustix::process::Signal;
use tyto_core::config::runtime::{LimitsConfig, WatchConfig};
use tyto_proto::v1::Counter;

/// A restart takes no longer on a machine that has other things to do, either; the figure that
/// is meant (300 ms on a quiet one) is printed.
const RESTART_MAX: Duration = Duration::from_secs(2);

fn watching(watchdog_s: u64) -> WatchConfig {
    WatchConfig { watchdog_s, ..WatchConfig::default() }
}

#[tokio::test]
async fn a_node_that_ran_is_back_within_a_moment() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let before = host.node("worker-1").await;
    let killed_ns = jiff::Timestamp::now().as_nanosecond();
    kill9(before.pid);
    let after = host.node_until("worker-1", |node| node.restarts == 1 && node.pid != 0).await;
    let took = i128::from(after.started_ns) - killed_ns;
    let took = Duration::from_nanos(u64::try_from(took).unwrap());
    eprintln!("from death to the new process: {} ms", took.as_millis());
    assert!(took < RESTART_MAX, "{took:?}");
}

#[tokio::test]
async fn a_crash_loop_is_told_aloud_and_start_ends_it() {
    let host = Host::new(&[("worker-1", FAILS)]);
    host.up();
    host.start("worker-1", 0).await;
    let node = host.node_until("worker-1", |node| node.state == "failed").await;
    assert_eq!(node.failure, "terminated: exit code 3");
    assert!(node.retry_in_ms > 1_000 && node.retry_in_ms <= 30_000, "{node:?}");
    let log = host.log();
    let told = log.lines().find(|line| line.contains("node fails again and again")).unwrap();
    for part in ["ERROR", "node=worker-1", "exit code 3", "cannot open eth9"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    host.start("worker-1", 0).await;
    let node = host.node("worker-1").await;
    assert!(node.state != "failed" && node.restarts <= 1, "{node:?}");
}

#[tokio::test]
async fn a_node_whose_reports_stay_out_is_killed_and_counted() {
    let host = Host::with(&[("worker-1", LIVES)], LimitsConfig::default(), watching(2));
    host.up();
    host.start("worker-1", 0).await;
    let pid = host.node("worker-1").await.pid;
    // Not at work yet: it may take its time.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(host.node("worker-1").await.pid, pid);
    for _ in 0..4 {
        host.report("worker-1", pid, "running").await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    assert_eq!(host.node("worker-1").await.pid, pid, "it reports");

    let stopped_at = Instant::now();
    signal(pid, Signal::STOP);
    let node = host.node_until("worker-1", |node| node.restarts == 1 && node.pid != 0).await;
    eprintln!("from SIGSTOP to the new process: {} ms", stopped_at.elapsed().as_millis());
    assert!(!lives(pid) && node.pid != pid && node.watchdog_kills == 1);
    let crash = host.crash("worker-1", "supervisor.log");
    let report = fs::read_to_string(crash.join("report.txt")).unwrap();
    let cause = report.lines().find_map(|line| line.strip_prefix("cause: ")).unwrap();
    assert!(cause.starts_with("hung: no report for "), "{cause}");
    assert_eq!(
        (node.restarts, node.failure.as_str()),
        (1, format!("{cause} (signal 9 (SIGKILL))").as_str())
    );
    let trace = fs::read_to_string(crash.join("supervisor.log")).unwrap();
    assert!(trace.contains("node hangs; killing it"), "{trace}");
}

#[tokio::test]
async fn a_loop_that_stands_still_in_a_node_that_reports_is_seen() {
    let host = Host::with(&[("worker-1", LIVES)], LimitsConfig::default(), watching(4));
    host.up();
    host.start("worker-1", 0).await;
    let pid = host.node("worker-1").await.pid;
    let counters = |turns| {
        let counter = |name: &str, value| Counter { name: name.to_owned(), value };
        vec![counter("packets_received", 5), counter("packet_thread_turns", turns)]
    };
    for turns in 0..4 {
        host.report_with("worker-1", pid, "running", counters(turns)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    assert_eq!(host.node("worker-1").await.watchdog_kills, 0, "it turns");
    let give_up_at = Instant::now() + fixture::PATIENCE;
    // Reports of a process that is gone are refused; then it was killed.
    while host.report_with("worker-1", pid, "running", counters(4)).await.is_ok() {
        assert!(Instant::now() < give_up_at, "{}", host.log());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let node = host.node_until("worker-1", |node| node.restarts == 1).await;
    assert!(node.failure.starts_with("hung: the packet thread has not turned for "), "{node:?}");
    let stats = fs::read_to_string(host.crash("worker-1", "stats.txt").join("stats.txt")).unwrap();
    assert!(stats.contains("packet_thread_turns = 4\n"), "{stats}");
}

#[tokio::test]
async fn watchdog_0_never_kills() {
    let host = Host::with(&[("worker-1", LIVES)], LimitsConfig::default(), watching(0));
    host.up();
    host.start("worker-1", 0).await;
    let pid = host.node("worker-1").await.pid;
    host.report("worker-1", pid, "running").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(host.node("worker-1").await.pid, pid);
}

#[tokio::test]
async fn a_hung_node_taken_over_is_seen_by_the_next_supervisor() {
    let host = Host::with(&[("worker-1", LIVES)], LimitsConfig::default(), watching(2));
    host.up();
    host.start("worker-1", 0).await;
    let pid = host.node("worker-1").await.pid;
    host.report("worker-1", pid, "running").await.unwrap();
    host.node_until("worker-1", |node| node.state == "running").await;
    let record = host.layout.node_record("worker-1");
    while fs::read_to_string(&record).unwrap().contains("\"ran_ns\":0") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    signal(pid, Signal::STOP);
    let before = host.status().await;
    kill9(before.supervisor_pid);
    host.status_until(|now| now.supervisor_pid != before.supervisor_pid).await;
    let node = host.node_until("worker-1", |node| node.restarts == 1 && node.pid != 0).await;
    assert_ne!(node.pid, pid);
}

/// With cores allowed a node that hangs gets SIGABRT first, so that its core tells where it hung.
#[tokio::test]
async fn a_hung_node_leaves_a_core_where_cores_are_wanted() {
    let limits = LimitsConfig { core_dumps: true, ..LimitsConfig::default() };
    let host = Host::with(&[("worker-1", LIVES)], limits, watching(2));
    host.up();
    host.start("worker-1", 0).await;
    let pid = host.node("worker-1").await.pid;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core_limit = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    host.report("worker-1", pid, "running").await.unwrap();
    signal(pid, Signal::STOP);
    host.node_until("worker-1", |node| node.restarts == 1 && node.pid != 0).await;
    let crash = host.crash("worker-1", "report.txt");
    let report = fs::read_to_string(crash.join("report.txt")).unwrap();
    assert!(report.contains("exit: signal 6 (SIGABRT)"), "{report}");
    assert!(report.contains("core_dumps: true\n"), "{report}");
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.trim() != "core" || core_limit.split_whitespace().nth(4) == Some("0") {
        eprintln!("no core to be had here: core_pattern is {pattern}, {core_limit}");
        return;
    }
    assert!(report.contains("core dumped"), "{report}");
    let backtrace = host.crash("worker-1", "backtrace.txt").join("backtrace.txt");
    let text = fs::read_to_string(&backtrace).unwrap();
    assert!(!text.is_empty(), "what the debugger says, or that there is none");
    let left = fs::read_dir(host.layout.node_spool("worker-1")).unwrap().flatten();
    let left: Vec<_> =
        left.filter(|e| e.file_name().to_string_lossy().starts_with("core")).collect();
    assert!(left.is_empty(), "cores are with the crash: {left:?}");
}

#[tokio::test]
async fn a_crash_tells_where_what_and_when() {
    let script = "echo starting; echo \"thread 'w' panicked at src/a.rs:7:9:\" >&2; \
                  echo 'index out of bounds' >&2; echo \"trace=$RUST_BACKTRACE\"; exit 101";
    let host = Host::new(&[("worker-1", script)]);
    host.up();
    host.start("worker-1", 0).await;
    let crash = host.crash("worker-1", "supervisor.log");
    let report = fs::read_to_string(crash.join("report.txt")).unwrap();
    for line in [
        "node: worker-1",
        "role: worker",
        "exit: exit code 101",
        "panic: thread 'w' panicked at src/a.rs:7:9: index out of bounds",
        "release: r1",
        "memory_limit: none",
        "  index out of bounds",
    ] {
        assert!(report.lines().any(|l| l == line), "{line}\n{report}");
    }
    for key in ["died: 20", "uptime_s: ", "kernel: Linux ", "supervisor: ", "core: none"] {
        assert!(report.contains(&format!("\n{key}")), "{key}\n{report}");
    }
    let stdout = fs::read_to_string(crash.join("stdout.log")).unwrap();
    assert!(stdout.contains("trace=1\n"), "a panic tells where it came from: {stdout}");
    assert_eq!(fs::read_to_string(crash.join("config.yaml")).unwrap(), script);
}

#[tokio::test]
async fn crash_reports_are_kept_up_to_the_number_that_is_configured() {
    let watch = WatchConfig { crash_reports_max: 2, ..WatchConfig::default() };
    let host = Host::with(&[("worker-1", FAILS)], LimitsConfig::default(), watch);
    host.up();
    host.start("worker-1", 0).await;
    host.node_until("worker-1", |node| node.state == "failed").await;
    let give_up_at = Instant::now() + fixture::PATIENCE;
    let count = || fs::read_dir(host.layout.crashes()).unwrap().count();
    while count() != 2 {
        assert!(Instant::now() < give_up_at, "{} crashes are kept", count());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
