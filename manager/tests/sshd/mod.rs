//! A real sshd on a loopback port, with keys and known_hosts of its own, and an ssh
//! configuration with one host per way to fail. Skipped, with the reason told, where sshd or ssh
//! is missing.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tyto_core::config::settings::{SshMode, SshSettings};
use tyto_manager::remote::error::RemoteError;
use tyto_manager::remote::ssh::Ssh;
use tyto_manager::remote::{Input, Output, Remote};

/// Longer than anything here takes.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What every sshd here has beside the options of its test.
const SSHD_CONFIG: &str = "PidFile none\nStrictModes no\nUsePAM no\n\
    KbdInteractiveAuthentication no\nPermitRootLogin yes\nPrintLastLog no\n";

/// An sshd that lets one key in; it ends with this value.
pub(crate) struct Sshd {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
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
    pub(crate) fn start() -> Option<Self> {
        Self::with("", &[])
    }

    /// With lines of sshd_config before ours (sshd takes the first it finds), and run by other
    /// programs: `["setarch", "linux32"]`.
    pub(crate) fn with(options: &str, run_by: &[&str]) -> Option<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|p| Path::new(p).exists());
        let (Some(sshd), true) = (sshd, Path::new("/usr/bin/ssh").exists()) else {
            eprintln!("skipped: no sshd or no ssh here (apt-get install openssh-server)");
            return None;
        };
        if is_root() {
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
        let options = options.replace("DIR", &d.to_string());
        let config = format!(
            "{options}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {d}/host\n\
             AuthorizedKeysFile {d}/authorized\nPasswordAuthentication no\n{SSHD_CONFIG}"
        );
        fs::write(dir.path().join("sshd_config"), config).unwrap();
        write_ssh_config(dir.path(), port, closed, mute.local_addr().unwrap().port());
        let mut words: Vec<&str> = run_by.to_vec();
        words.push(sshd);
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(["-D", "-e", "-f"])
            .arg(dir.path().join("sshd_config"))
            .current_dir(dir.path())
            .stderr(fs::File::create(dir.path().join("sshd.log")).unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let log = || fs::read_to_string(dir.path().join("sshd.log")).unwrap();
        while !log().contains("Server listening") {
            assert!(started.elapsed() < SOON, "sshd does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { dir, port, child, _mute: mute })
    }

    pub(crate) fn settings(&self) -> SshSettings {
        let config_file = Some(self.dir.path().join("ssh_config"));
        SshSettings { config_file, connect_timeout_s: 2, ..Default::default() }
    }

    pub(crate) fn host(&self, alias: &str, mode: SshMode) -> Ssh {
        Ssh::new(alias, SshSettings { mode, ..self.settings() }).unwrap()
    }

    pub(crate) async fn error(&self, alias: &str) -> RemoteError {
        self.host(alias, SshMode::Native).run("true", Input::None, SOON).await.unwrap_err()
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Runs a script that cannot fail.
pub(crate) async fn sh(host: &Ssh, script: &str) -> Output {
    host.run(script, Input::None, SOON).await.unwrap()
}

pub(crate) fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
}

pub(crate) fn free_port() -> u16 {
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
        ("twin", port, "known", "user"),
    ] {
        config += &format!(
            "Host {alias}\n  Port {port}\n  UserKnownHostsFile {d}/{known}\n  IdentityFile {d}/{key}\n"
        );
    }
    for (alias, port, known, jump) in [
        ("behind", port, "known", "good"),
        ("closed-behind", closed, "known", "good"),
        ("behind-closed", port, "known", "closed"),
        ("behind-changed", port, "known", "changed"),
        ("behind-mute", port, "known", "mute"),
    ] {
        config += &format!(
            "Host {alias}\n  Port {port}\n  UserKnownHostsFile {d}/{known}\n  \
             IdentityFile {d}/user\n  ProxyJump {jump}\n"
        );
    }
    config += "Host nameless\n  HostName no-such-host.invalid\n";
    // ssh takes the first value it finds: the aliases first, what holds for all at the end.
    let (all, hosts) = config.split_at(config.find("Host good").unwrap());
    fs::write(dir.join("ssh_config"), format!("{hosts}{all}")).unwrap();
}
