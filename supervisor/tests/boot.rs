//! What starts a supervisor when its host boots, and what is there after a boot.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a test that fails")]

mod fixture;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fixture::{Host, LIVES, PATIENCE, kill9, lives};

/// A `crontab` that keeps its table in a file beside it, as crontab(1) says: `-l` shows it,
/// `-` replaces it.
const CRONTAB: &str = "#!/bin/sh\ntable=${0%/*}/table\ncase $1 in\n\
    -l) [ -e \"$table\" ] && exec cat \"$table\"; echo 'no crontab for me' >&2; exit 1 ;;\n\
    -) exec cat > \"$table\" ;;\nesac\nexit 2\n";

fn boot(host: &Host, action: &str, path: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    command.args(["boot", action, "--prefix"]).arg(host.layout.prefix());
    command.env("PATH", path).stdin(Stdio::null()).output().unwrap()
}

fn told(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn has_systemd() -> bool {
    let has = Path::new("/run/systemd/system").exists();
    if has {
        eprintln!("systemd runs this machine: its units are left alone");
    }
    has
}

#[test]
fn a_crontab_line_is_installed_once_shown_and_removed() {
    if has_systemd() {
        return;
    }
    let host = Host::new(&[]);
    let bin = tempfile::tempdir().unwrap();
    let crontab = bin.path().join("crontab");
    fs::write(&crontab, CRONTAB).unwrap();
    fs::set_permissions(&crontab, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.path().display());
    let path = Path::new(&path);
    let table = bin.path().join("table");
    assert_eq!(told(&boot(&host, "show", path))["starts"], "");
    fs::write(&table, "0 4 * * * backup\n").unwrap();

    let first = told(&boot(&host, "install", path));
    assert_eq!((&first["starts"], &first["changed"]), (&"crontab @reboot".into(), &true.into()));
    let text = fs::read_to_string(&table).unwrap();
    assert!(text.starts_with("0 4 * * * backup\n@reboot "), "{text}");
    let second = told(&boot(&host, "install", path));
    assert_eq!(second["changed"], false);
    assert_eq!(fs::read_to_string(&table).unwrap(), text);
    assert_eq!(told(&boot(&host, "show", path))["starts"], "crontab @reboot");

    assert_eq!(told(&boot(&host, "remove", path))["changed"], true);
    assert_eq!(fs::read_to_string(&table).unwrap(), "0 4 * * * backup\n");
    assert_eq!(told(&boot(&host, "remove", path))["changed"], false);
}

#[test]
fn a_crontab_that_cannot_be_read_is_not_replaced() {
    if has_systemd() {
        return;
    }
    let host = Host::new(&[]);
    let bin = tempfile::tempdir().unwrap();
    let crontab = bin.path().join("crontab");
    fs::write(&crontab, "#!/bin/sh\necho 'you may not use cron' >&2; touch ${0%/*}/$1; exit 1\n")
        .unwrap();
    fs::set_permissions(&crontab, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.path().display());
    let output = boot(&host, "install", Path::new(&path));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("you may not use cron"), "{said}");
    assert!(bin.path().join("-l").exists() && !bin.path().join("-").exists());
}

#[test]
fn a_host_without_any_init_of_ours_gets_the_line_to_add_by_hand() {
    if has_systemd() {
        return;
    }
    let host = Host::new(&[]);
    let empty = tempfile::tempdir().unwrap();
    let output = boot(&host, "install", empty.path());
    let said = String::from_utf8_lossy(&output.stdout);
    let line = format!("@reboot {}/current/bin/supervisor start", host.layout.prefix().display());
    assert!(!output.status.success() && said.contains(&line), "{said}");
}

/// A boot leaves no process and no lock; what was wanted lies on the disk.
#[tokio::test]
async fn after_a_boot_desired_nodes_run_again_and_others_do_not() {
    let host = Host::new(&[("worker-1", LIVES), ("worker-2", LIVES), ("worker-3", LIVES)]);
    host.up();
    for node in ["worker-1", "worker-2"] {
        host.start(node, 0).await;
    }
    host.stop("worker-2", 0).await;
    host.status_until(|status| status.guard_pid != 0).await;
    // All at once, as power goes.
    for pid in host.living() {
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
    for pid in host.living() {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    let give_up_at = std::time::Instant::now() + PATIENCE;
    while !host.living().is_empty() {
        assert!(std::time::Instant::now() < give_up_at);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }

    host.up(); // what the line in a crontab does
    let node = host.node_until("worker-1", |node| node.pid != 0).await;
    assert!(node.desired && lives(node.pid));
    for node in ["worker-2", "worker-3"] {
        let node = host.node(node).await;
        assert_eq!((node.pid, node.state.as_str()), (0, "stopped"));
    }
}

/// What systemd's unit runs: it waits while a supervisor lives, and becomes one when none does,
/// from the release in use then.
#[tokio::test]
async fn a_stand_by_takes_over_when_supervisor_and_guard_are_gone() {
    let host = Host::new(&[("worker-1", LIVES)]);
    let program = host.layout.current_bin("supervisor");
    fs::copy(env!("CARGO_BIN_EXE_supervisor"), &program).unwrap();
    host.up();
    host.start("worker-1", 0).await;
    let node = host.node("worker-1").await.pid;
    let mut stand_by = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    stand_by.args(["stand-by", "--prefix"]).arg(host.layout.prefix());
    let mut stand_by = stand_by.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    let before = host.status_until(|status| status.guard_pid != 0).await;
    assert_ne!(before.supervisor_pid, stand_by.id(), "it waits");

    // Stopped first, so that neither can start the other again.
    for pid in [before.guard_pid, before.supervisor_pid] {
        fixture::signal(pid, rustix::process::Signal::STOP);
    }
    for pid in [before.guard_pid, before.supervisor_pid] {
        kill9(pid);
    }
    let after = host.status_until(|now| now.supervisor_pid != before.supervisor_pid).await;
    assert_eq!(after.supervisor_pid, stand_by.id(), "by the same process, as systemd wants it");
    assert_eq!(host.node("worker-1").await.pid, node, "nodes do not notice");
    let exe = fs::read_link(format!("/proc/{}/exe", after.supervisor_pid)).unwrap();
    assert_eq!(exe, program.canonicalize().unwrap());
    assert!(host.shutdown(true).await.accepted);
    assert!(stand_by.wait().unwrap().success());
}
