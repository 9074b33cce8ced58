//! The supervisor's own lives: nodes do not notice when it dies, and it comes back by itself
//! (issue: "kill -9 of a supervisor").

mod fixture;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use fixture::{Host, IGNORES_TERM, LIVES, kill9, lives};

#[tokio::test]
async fn start_is_idempotent() {
    let host = Host::new(&[("worker-1", LIVES)]);
    let (code, first) = host.supervisor(&["start"]);
    assert_eq!(code, 0);
    let (code, second) = host.supervisor(&["start"]);
    assert_eq!((code, first), (0, second));
    assert_eq!(host.supervisor(&["run"]).0, 0, "a second supervisor gives way");
    assert_eq!(host.supervisor(&["guard"]).0, 0, "a second guard gives way");
}

#[tokio::test]
async fn ten_starts_at_once_make_one_supervisor() {
    let host = Host::new(&[("worker-1", LIVES)]);
    let mut starts = Vec::new();
    for _ in 0..10 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
        command.arg("start").arg("--prefix").arg(host.layout.prefix());
        starts.push(command.stdout(Stdio::piped()).spawn().unwrap());
    }
    let mut outputs = Vec::new();
    for start in starts {
        let output = start.wait_with_output().unwrap();
        assert!(output.status.success());
        outputs.push(String::from_utf8(output.stdout).unwrap());
    }
    outputs.dedup();
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    host.status_until(|status| status.guard_pid != 0).await;
    assert_eq!(host.living().len(), 2, "one supervisor, one guard");
}

#[tokio::test]
async fn the_socket_is_for_its_user_alone() {
    let host = Host::new(&[]);
    host.up();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(host.layout.run()), 0o700);
    assert_eq!(mode(host.layout.supervisor_sock()), 0o600);
}

#[tokio::test]
async fn a_supervisor_killed_comes_back_and_takes_its_nodes_over_untouched() {
    let host = Host::new(&[("worker-1", LIVES), ("worker-2", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let node = host.node("worker-1").await;
    host.report("worker-1", node.pid, "running").await.unwrap();
    let record = host.layout.node_record("worker-1");
    wait_until(|| !std::fs::read_to_string(&record).unwrap().contains("\"ran_ns\":0"));
    let before = host.status_until(|status| status.guard_pid != 0).await;

    kill9(before.supervisor_pid);
    let after = host.status_until(|now| now.supervisor_pid != before.supervisor_pid).await;
    assert_eq!(after.guard_pid, before.guard_pid);
    let again = host.node("worker-1").await;
    assert_eq!(again.state, "running", "it said so before");
    assert_eq!((again.pid, again.started_ns), (node.pid, node.started_ns));
    assert_eq!((again.desired, again.restarts, again.release.as_str()), (true, 0, "r1"));
    assert_eq!(host.node("worker-2").await.state, "stopped");

    // It watches what it took over: the kernel tells no exit status of another's child.
    kill9(node.pid);
    let restarted = host.node_until("worker-1", |now| now.restarts == 1 && now.pid != 0).await;
    assert_ne!(restarted.pid, node.pid);
    assert!(restarted.last_exit.starts_with("unknown"), "{restarted:?}");
}

#[tokio::test]
async fn a_process_taken_over_before_it_wrote_its_note_is_known_once_it_reports() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let node = host.node("worker-1").await;
    host.report("worker-1", node.pid, "initializing").await.unwrap();
    let lock = host.layout.node_lock("worker-1");
    let note = std::fs::read(&lock).unwrap();
    std::fs::write(&lock, "").unwrap();
    let before = host.status_until(|status| status.guard_pid != 0).await;
    kill9(before.supervisor_pid);
    host.status_until(|now| now.supervisor_pid != before.supervisor_pid).await;
    let taken = host.node("worker-1").await;
    assert_eq!((taken.pid, taken.started_ns, taken.release.as_str()), (node.pid, 0, ""));

    std::fs::write(&lock, note).unwrap();
    host.report("worker-1", node.pid, "running").await.unwrap();
    let known = host.node_until("worker-1", |now| now.started_ns != 0).await;
    assert_eq!((known.pid, known.started_ns), (node.pid, node.started_ns));
    assert_eq!((known.state.as_str(), known.release.as_str()), ("running", "r1"));
}

#[tokio::test]
async fn a_guard_killed_comes_back_and_guards() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let node = host.node("worker-1").await;
    let first = host.status_until(|status| status.guard_pid != 0).await;

    kill9(first.guard_pid);
    let second =
        host.status_until(|now| now.guard_pid != 0 && now.guard_pid != first.guard_pid).await;
    assert_eq!(second.supervisor_pid, first.supervisor_pid);
    assert!(
        !std::path::Path::new(&format!("/proc/{}", first.guard_pid)).exists()
            || !lives(first.guard_pid)
    );

    // The new guard is a child of the supervisor, which dies now.
    kill9(second.supervisor_pid);
    let third = host.status_until(|now| now.supervisor_pid != second.supervisor_pid).await;
    assert_eq!(third.guard_pid, second.guard_pid);
    assert_eq!(host.node("worker-1").await.pid, node.pid);
}

#[tokio::test]
async fn whatever_is_killed_when_there_is_one_process_of_each_in_the_end() {
    let host = Host::new(&[("worker-1", "echo $$ >> pids; exec sleep 1000")]);
    host.up();
    host.start("worker-1", 0).await;
    for round in 0..6 {
        let node = host.node_until("worker-1", |node| node.pid != 0).await;
        let before = host.status_until(|status| status.guard_pid != 0).await;
        kill9(before.supervisor_pid);
        if round % 2 == 0 {
            kill9(node.pid);
        }
        let after = host
            .status_until(|now| now.supervisor_pid != before.supervisor_pid && now.guard_pid != 0)
            .await;
        let again = host.node_until("worker-1", |node| node.pid != 0).await;
        assert_eq!(again.pid != node.pid, round % 2 == 0, "killed in even rounds only");
        kill9(after.guard_pid);
        host.status_until(|now| now.guard_pid != 0 && now.guard_pid != after.guard_pid).await;
    }
    let node = host.node("worker-1").await;
    let pids = || {
        let pids = host.layout.node_spool("worker-1").join("pids");
        let pids = std::fs::read_to_string(pids).unwrap_or_default();
        pids.lines().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    };
    wait_until(|| pids().last() == Some(&node.pid));
    let living: Vec<u32> = pids().into_iter().filter(|pid| lives(*pid)).collect();
    assert_eq!(living, [node.pid]);
    assert_eq!(host.living().len(), 3, "one supervisor, one guard, one node");
}

#[tokio::test]
async fn a_node_that_died_while_no_supervisor_ran_is_started_again() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let node = host.node("worker-1").await;
    assert!(host.shutdown(true).await.accepted);
    wait_until(|| host.living().len() == 1);
    assert!(lives(node.pid), "leave_nodes leaves them");
    kill9(node.pid);
    wait_until(|| host.living().is_empty());

    host.up();
    let again = host.node("worker-1").await;
    assert_eq!(again.restarts, 1);
    assert!(lives(again.pid));
}

#[tokio::test]
async fn a_node_taken_over_is_stopped_like_any_other() {
    let host = Host::new(&[("worker-1", IGNORES_TERM)]);
    host.up();
    host.start("worker-1", 300).await;
    let node = host.node("worker-1").await;
    let before = host.status().await;
    kill9(before.supervisor_pid);
    host.status_until(|now| now.supervisor_pid != before.supervisor_pid).await;
    let result = host.stop("worker-1", 200).await;
    assert_eq!((result.ok, result.message.as_str()), (true, "did not terminate ... killing ..."));
    assert!(!lives(node.pid));
}

#[tokio::test]
async fn shutdown_is_refused_while_nodes_run_and_else_leaves_nothing() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let refused = host.shutdown(false).await;
    assert_eq!((refused.accepted, refused.message.as_str()), (false, "not stopped: worker-1"));
    host.stop("worker-1", 0).await;
    let status = host.status_until(|status| status.guard_pid != 0).await;

    assert!(host.shutdown(false).await.accepted);
    wait_until(|| !lives(status.supervisor_pid) && !lives(status.guard_pid));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(host.living().is_empty());
    assert!(!host.layout.supervisor_sock().exists());
}

#[tokio::test]
async fn sigterm_ends_supervisor_and_guard_and_leaves_nodes() {
    let host = Host::new(&[("worker-1", LIVES)]);
    host.up();
    host.start("worker-1", 0).await;
    let node = host.node("worker-1").await;
    let status = host.status_until(|status| status.guard_pid != 0).await;
    let pid = i32::try_from(status.supervisor_pid).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
    wait_until(|| !lives(status.supervisor_pid) && !lives(status.guard_pid));
    assert!(lives(node.pid));
}

#[tokio::test]
async fn a_supervisor_of_another_program_gives_way_and_leaves_its_nodes() {
    let host = Host::new(&[("worker-1", LIVES)]);
    let old = host.layout.prefix().join("old-supervisor");
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_supervisor")).unwrap();
    bytes.push(0); // behind the last section: another file, the same code
    std::fs::write(&old, bytes).unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&old);
    command.arg("start").arg("--prefix").arg(host.layout.prefix()).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
    host.start("worker-1", 0).await;
    let (node, before) = (host.node("worker-1").await, host.status().await);

    host.up();
    let after = host.status().await;
    assert_ne!(after.supervisor_pid, before.supervisor_pid);
    assert_eq!(host.node("worker-1").await.pid, node.pid);
    let exe = std::fs::read_link(format!("/proc/{}/exe", after.supervisor_pid)).unwrap();
    assert_ne!(exe, old);
}

/// The preface of HTTP/2 (RFC 9113 section 3.4) and an empty SETTINGS frame get SETTINGS back.
#[test]
fn connect_relays_the_socket_over_stdio_and_ends_with_stdin() {
    let host = Host::new(&[]);
    host.up();
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    command.args(["connect", "supervisor", "--prefix"]).arg(host.layout.prefix());
    let mut relay = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = relay.stdin.take().unwrap();
    stdin.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frame = [0; 9];
    relay.stdout.as_mut().unwrap().read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "SETTINGS");
    drop(stdin);
    assert!(relay.wait_with_output().unwrap().status.success());
}

#[test]
fn connect_says_when_nobody_listens() {
    let host = Host::new(&[]);
    assert_eq!(host.supervisor(&["connect", "manager"]).0, 1);
}

fn wait_until(done: impl Fn() -> bool) {
    let give_up_at = std::time::Instant::now() + fixture::PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < give_up_at, "not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}
