//! `remote/ssh.rs` against a real sshd (see [`sshd`]): what works, and each way to fail.
#![allow(clippy::unwrap_used, reason = "a test may fall")]

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tyto_core::config::settings::{SshMode, SshSettings};
use tyto_manager::remote::error::RemoteError;
use tyto_manager::remote::ssh::Ssh;
use tyto_manager::remote::{Input, Put, Remote};

use sshd::{SOON, Sshd, sh};

mod sshd;
fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn scripts_run_and_exit_codes_come_back_in_both_modes() {
    let Some(sshd) = Sshd::start() else { return };
    for mode in [SshMode::Native, SshMode::Process] {
        let host = sshd.host("good", mode);
        let input = Input::Bytes(b"in");
        let output = host.run("cat; echo ' out'; echo err >&2; exit 3", input, SOON).await.unwrap();
        assert_eq!(
            (output.code, output.stdout_text().as_str(), output.stderr_text().as_str()),
            (3, "in out\n", "err"),
            "{mode:?}"
        );
        assert_eq!(sh(&host, "no-such-command").await.code, 127, "{mode:?}");
        assert_eq!(sh(&host, "printf %s 'it'\\''s $HOME \"!\"'").await.stdout, b"it's $HOME \"!\"");
    }
}

#[tokio::test]
async fn a_death_by_signal_is_no_lost_connection() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.host("good", SshMode::Native);
    assert!(sh(&host, "kill -9 $$").await.code >= 128);
    assert!(sh(&host, "true").await.ok());
}

#[tokio::test]
async fn a_file_arrives_whole_with_its_mode() {
    let Some(sshd) = Sshd::start() else { return };
    let from = sshd.dir.path().join("from");
    let path: PathBuf = sshd.dir.path().join("to 'here'");
    let bytes: Vec<u8> =
        (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&from, &bytes).unwrap();
    let host: &dyn Remote = &sshd.host("good", SshMode::Native);
    let sha256 = hex(&bytes);
    let put = Put { content: Input::File(&from), path: &path, sha256: &sha256, mode: 0o750 };
    host.put(put, SOON).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o750);
}

#[tokio::test]
async fn a_byte_stream_goes_both_ways_until_its_input_ends() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.host("good", SshMode::Native);
    let mut stream = host.open("cat", SOON).await.unwrap();
    stream.writer.write_all(b"ping").await.unwrap();
    let mut four = [0; 4];
    stream.reader.read_exact(&mut four).await.unwrap();
    assert_eq!(&four, b"ping");
    stream.writer.shutdown().await.unwrap();
    drop(stream.writer);
    let mut rest = Vec::new();
    stream.reader.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn twelve_calls_at_once_share_one_connection() {
    let Some(sshd) = Sshd::start() else { return };
    let host = std::sync::Arc::new(sshd.host("good", SshMode::Native));
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..12 {
        let host = std::sync::Arc::clone(&host);
        calls.spawn(async move { sh(&host, &format!("sleep 0.1; echo {n}")).await.ok() });
    }
    while let Some(ok) = calls.join_next().await {
        assert!(ok.unwrap());
    }
    let log = fs::read_to_string(sshd.dir.path().join("sshd.log")).unwrap();
    assert_eq!(log.matches("Accepted publickey").count(), 1, "{log}");
}

#[tokio::test]
async fn each_way_to_fail_has_its_own_message_and_says_what_to_type() {
    let Some(sshd) = Sshd::start() else { return };
    let (d, port) = (sshd.dir.path().display(), sshd.port);
    let error = sshd.error("changed").await;
    assert!(matches!(error, RemoteError::HostKeyChanged { .. }), "{error}");
    assert!(error.to_string().contains(&format!("in {d}/known-other:1;")), "{error}");
    let hint = error.hint().unwrap();
    assert!(
        hint.contains(&format!("ssh-keygen -f {d}/known-other -R '[127.0.0.1]:{port}'")),
        "{hint}"
    );
    let error = sshd.error("unknown").await;
    assert!(matches!(error, RemoteError::HostKeyUnknown { .. }), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("`ssh-keyscan -p {port} 127.0.0.1`")), "{hint}");
    let error = sshd.error("refused").await;
    assert!(matches!(error, RemoteError::LoginRefused { .. }), "{error}");
    assert!(error.hint().unwrap().contains("ssh-copy-id refused"));
    let error = sshd.error("closed").await;
    assert!(matches!(error, RemoteError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("`closed`"), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    let error = sshd.error("nameless").await;
    assert!(matches!(error, RemoteError::NoAddress { .. }), "{error}");
    // A strict check never learns a key by itself.
    assert_eq!(fs::read(sshd.dir.path().join("known-none")).unwrap(), b"");
}

#[tokio::test]
async fn a_login_that_is_not_there_is_refused_with_its_name() {
    let Some(sshd) = Sshd::start() else { return };
    let settings = SshSettings { user: Some("nobody-of-that-name".into()), ..sshd.settings() };
    let host = Ssh::new("good", settings).unwrap();
    let error = host.run("true", Input::None, SOON).await.unwrap_err();
    assert!(matches!(error, RemoteError::LoginRefused { .. }), "{error}");
    assert!(error.to_string().contains("nobody-of-that-name@127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_host_that_takes_passwords_only_says_so_and_nothing_is_asked() {
    let options = "PubkeyAuthentication no\nPasswordAuthentication yes";
    let Some(sshd) = Sshd::with(options, &[]) else { return };
    let error = sshd.error("good").await;
    assert!(matches!(error, RemoteError::PasswordOnly { .. }), "{error}");
    assert!(error.to_string().contains("lets in by password only"), "{error}");
    assert!(error.hint().unwrap().contains("PubkeyAuthentication yes"));
}

#[tokio::test]
async fn a_jump_host_carries_calls_and_when_it_fails_it_is_named() {
    let Some(sshd) = Sshd::start() else { return };
    let behind = sshd.host("behind", SshMode::Native);
    assert_eq!(sh(&behind, "echo here").await.stdout, b"here\n");
    let said = |alias: &'static str| {
        let sshd = &sshd;
        async move { sshd.error(alias).await.to_string() }
    };
    let closed = said("behind-closed").await;
    assert!(closed.contains("its jump host `closed` cannot be reached:"), "{closed}");
    assert!(closed.contains("Connection refused"), "{closed}");
    let changed = said("behind-changed").await;
    assert!(changed.contains("its jump host `changed` shows another key"), "{changed}");
    let mute = said("behind-mute").await;
    assert!(mute.contains("jump host `mute`") || mute.contains("did not answer"), "{mute}");
    let target = sshd.error("closed-behind").await;
    assert!(matches!(target, RemoteError::Unreachable { .. }), "{target}");
    assert!(target.to_string().contains("its jump host `good` says:"), "{target}");
}

#[tokio::test]
async fn an_sshd_with_too_many_at_its_door_is_tried_again() {
    let Some(sshd) = Sshd::with("MaxStartups 1:100:1\nLoginGraceTime 60", &[]) else { return };
    let at_the_door = TcpStream::connect(("127.0.0.1", sshd.port)).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let error = sshd.error("good").await;
    assert!(matches!(error, RemoteError::Busy { what: "a connection", .. }), "{error}");
    assert!(error.hint().unwrap().contains("MaxStartups"));

    let leaves = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        drop(at_the_door);
    });
    assert!(sh(&sshd.host("good", SshMode::Native), "true").await.ok());
    leaves.await.unwrap();
}

#[tokio::test]
async fn a_call_waits_for_its_place_where_sshd_allows_one_session() {
    let Some(sshd) = Sshd::with("MaxSessions 1", &[]) else { return };
    let host = sshd.host("good", SshMode::Native);
    sh(&host, "true").await;
    let (slow, quick) = tokio::join!(sh(&host, "sleep 0.5; echo slow"), sh(&host, "echo quick"));
    assert_eq!((slow.stdout_text().trim(), quick.stdout_text().trim()), ("slow", "quick"));

    let open = host.open("cat", SOON).await.unwrap();
    let error = host.run("true", Input::None, SOON).await.unwrap_err();
    assert!(matches!(error, RemoteError::Busy { what: "a session", .. }), "{error}");
    assert!(error.hint().unwrap().contains("MaxSessions"));
    drop(open);
}

#[tokio::test]
async fn what_a_login_shell_prints_by_itself_is_no_output() {
    let greets =
        "ForceCommand echo 'Welcome!'; echo to you >&2; exec sh -c \"$SSH_ORIGINAL_COMMAND\"";
    let Some(sshd) = Sshd::with(greets, &[]) else { return };
    let host = sshd.host("good", SshMode::Native);
    let output = host.run("cat; exit 3", Input::Bytes(b"in"), SOON).await.unwrap();
    assert_eq!((output.code, output.stdout.as_slice()), (3, b"in".as_slice()));
    let mut stream = host.open("echo first; cat", SOON).await.unwrap();
    stream.writer.write_all(b"second").await.unwrap();
    stream.writer.shutdown().await.unwrap();
    drop(stream.writer);
    let mut all = String::new();
    stream.reader.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "first\nsecond");
}

#[tokio::test]
async fn csh_and_fish_for_a_login_shell_run_the_same_script() {
    let script = "for w in 'it'\\''s' \"a b\" '!x' '\\'; do\n  printf '%s.' \"$w\"\ndone";
    for shell in ["tcsh", "fish", "zsh", "bash"] {
        if !PathBuf::from(format!("/usr/bin/{shell}")).exists() {
            println!("skipped: no {shell} here (apt-get install {shell})");
            continue;
        }
        // As sshd calls the login's shell.
        let command = format!("ForceCommand {shell} -c \"$SSH_ORIGINAL_COMMAND\"");
        let Some(sshd) = Sshd::with(&command, &[]) else { return };
        for mode in [SshMode::Native, SshMode::Process] {
            let output = sh(&sshd.host("good", mode), script).await;
            assert_eq!(output.stdout_text(), "it's.a b.!x.\\.", "{shell} {mode:?}");
        }
    }
}

#[tokio::test]
async fn a_login_without_a_shell_is_told_in_its_own_words() {
    let Some(sshd) = Sshd::with("ForceCommand /usr/sbin/nologin", &[]) else { return };
    let error = sshd.error("good").await;
    assert!(matches!(error, RemoteError::LoginShell { .. }), "{error}");
    assert!(error.to_string().contains("This account is currently not available"), "{error}");
}

#[tokio::test]
async fn a_home_that_is_not_there_is_no_fault() {
    let Some(sshd) = Sshd::with("SetEnv HOME=/no/such/home", &[]) else { return };
    let host = sshd.host("good", SshMode::Native);
    assert_eq!(sh(&host, "echo ok").await.stdout, b"ok\n");
}

#[tokio::test]
async fn an_ssh_that_is_stuck_is_ended_and_the_next_call_connects_anew() {
    let Some(sshd) = Sshd::start() else { return };
    for mode in [SshMode::Native, SshMode::Process] {
        let host = sshd.host("good", mode);
        stop_master(&sh(&host, "echo $SSH_CONNECTION").await.stdout_text());
        let started = Instant::now();
        assert!(sh(&host, "true").await.ok(), "{mode:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());

        stop_master(&sh(&host, "echo $SSH_CONNECTION").await.stdout_text());
        let started = Instant::now();
        drop(host);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

/// Stops (as `kill -STOP`) the ssh at our end of this connection.
fn stop_master(connection: &str) {
    let port: u16 = connection.split(' ').nth(1).unwrap().parse().unwrap();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let ours = |line: &&str| {
        let local = line.split_whitespace().nth(1).unwrap();
        local.ends_with(&format!(":{port:04X}"))
    };
    let line = table.lines().skip(1).find(ours).unwrap();
    let socket = format!("socket:[{}]", line.split_whitespace().nth(9).unwrap());
    let pid = process_with(&socket).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
}

fn process_with(socket: &str) -> Option<rustix::process::Pid> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let has_it = files.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == *socket));
        has_it.then(|| rustix::process::Pid::from_raw(pid))?
    })
}

#[tokio::test]
async fn a_host_that_says_nothing_costs_the_connect_timeout_only() {
    let Some(sshd) = Sshd::start() else { return };
    let started = Instant::now();
    let error = sshd.error("mute").await;
    assert!(error.is_unreachable(), "{error}");
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_command_that_hangs_ends_by_its_deadline_and_the_host_can_be_used_on() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.host("good", SshMode::Native);
    let error = host.run("sleep 5", Input::None, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, RemoteError::TimedOut { .. }), "{error}");
    assert!(sh(&host, "true").await.ok());
}

#[tokio::test]
async fn a_lost_connection_is_made_anew_at_the_next_call() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.host("good", SshMode::Native);
    // The session's own sshd process is the parent of the shell.
    let cut = host.run("kill -9 $PPID; sleep 20", Input::None, SOON).await;
    assert!(matches!(cut, Err(RemoteError::Lost { .. })), "{cut:?}");
    assert!(sh(&host, "true").await.ok());
}
