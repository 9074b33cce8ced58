//! `remote/ssh.rs` against a real sshd on a loopback port, with keys and known_hosts of its own.
//! Skipped, with the reason told, where sshd or ssh is missing.
#![allow(clippy::unwrap_used, reason = "a test may fall")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tyto_core::config::settings::{SshMode, SshSettings};
use tyto_manager::remote::error::RemoteError;
use tyto_manager::remote::ssh::Ssh;
use tyto_manager::remote::{Input, Output, Put, Remote};

const SOON: Duration = Duration::from_secs(30);

/// An sshd that lets one key in, and an ssh configuration with one host per way to fail.
struct Sshd {
    dir: tempfile::TempDir,
    child: Child,
    // Takes connections and says nothing.
    _mute: TcpListener,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Sshd {
    /// None, with the reason printed, where this machine has no sshd.
    fn start() -> Option<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|p| Path::new(p).exists());
        let (Some(sshd), true) = (sshd, Path::new("/usr/bin/ssh").exists()) else {
            eprintln!("skipped: no sshd or no ssh here (apt-get install openssh-server)");
            return None;
        };
        if rustix::process::getuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        for key in ["host", "other-host", "user", "stranger"] {
            keygen(&dir.path().join(key));
        }
        fs::copy(dir.path().join("user.pub"), dir.path().join("authorized")).unwrap();
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, closed) = (free_port(), free_port());
        let d = dir.path().display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {d}/host\nPidFile none\n\
             AuthorizedKeysFile {d}/authorized\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        );
        fs::write(dir.path().join("sshd_config"), config).unwrap();
        write_ssh_config(dir.path(), port, closed, mute.local_addr().unwrap().port());
        let child = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(dir.path().join("sshd_config"))
            .stderr(fs::File::create(dir.path().join("sshd.log")).unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < SOON, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { dir, child, _mute: mute })
    }

    fn host(&self, alias: &str, mode: SshMode) -> Ssh {
        let config_file = Some(self.dir.path().join("ssh_config"));
        let settings =
            SshSettings { mode, config_file, connect_timeout_s: 2, ..Default::default() };
        Ssh::new(alias, settings).unwrap()
    }

    async fn error(&self, alias: &str) -> RemoteError {
        self.host(alias, SshMode::Native).run("true", Input::None, SOON).await.unwrap_err()
    }
}

fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn write_ssh_config(dir: &Path, port: u16, closed: u16, mute: u16) {
    let known = |name: &str, key: &str| {
        let key = fs::read_to_string(dir.join(key)).unwrap();
        fs::write(dir.join(name), format!("[127.0.0.1]:{port} {key}")).unwrap();
    };
    known("known", "host.pub");
    known("known-other", "other-host.pub");
    fs::write(dir.join("known-none"), "").unwrap();
    let d = dir.display();
    let mut config =
        "Match all\n  GlobalKnownHostsFile none\n  IdentitiesOnly yes\n  HostName 127.0.0.1\n"
            .to_owned();
    for (alias, port, known, key) in [
        ("good", port, "known", "user"),
        ("changed", port, "known-other", "user"),
        ("unknown", port, "known-none", "user"),
        ("refused", port, "known", "stranger"),
        ("closed", closed, "known", "user"),
        ("mute", mute, "known", "user"),
    ] {
        config += &format!(
            "Host {alias}\n  Port {port}\n  UserKnownHostsFile {d}/{known}\n  IdentityFile {d}/{key}\n"
        );
    }
    config += "Host nameless\n  HostName no-such-host.invalid\n";
    // ssh takes the first value it finds: the aliases first, what holds for all at the end.
    let (all, hosts) = config.split_at(config.find("Host good").unwrap());
    fs::write(dir.join("ssh_config"), format!("{hosts}{all}")).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

async fn sh(host: &Ssh, script: &str) -> Output {
    host.run(script, Input::None, SOON).await.unwrap()
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
async fn each_way_to_fail_has_its_own_message() {
    let Some(sshd) = Sshd::start() else { return };
    let error = sshd.error("changed").await;
    assert!(matches!(error, RemoteError::HostKeyChanged { .. }), "{error}");
    let error = sshd.error("unknown").await;
    assert!(matches!(error, RemoteError::HostKeyUnknown { .. }), "{error}");
    let error = sshd.error("refused").await;
    assert!(matches!(error, RemoteError::LoginRefused { .. }), "{error}");
    let error = sshd.error("closed").await;
    assert!(matches!(error, RemoteError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("`closed`"), "{error}");
    let error = sshd.error("nameless").await;
    assert!(matches!(error, RemoteError::NoAddress { .. }), "{error}");
    // A strict check never learns a key by itself.
    assert_eq!(fs::read(sshd.dir.path().join("known-none")).unwrap(), b"");
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
