//! Hosts that cannot run their release, each for real: a survey over a real sshd (see [`sshd`])
//! that runs on another kernel's terms, in a file system of its own, or with other tools. What
//! needs several hosts or a network is in the lab (tests/tests/faults.rs).
#![allow(clippy::unwrap_used, reason = "a test may fall")]

mod sshd;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_core::config::settings::{SshMode, SshSettings};
use tyto_core::layout::Layout;
use tyto_manager::deploy::fitness::{Expected, HostFault, faults, same_hosts};
use tyto_manager::deploy::survey::{Questions, Survey, look};
use tyto_manager::remote::error::RemoteError;
use tyto_manager::remote::ssh::Ssh;
use tyto_manager::remote::{Input, Put, Remote};

use sshd::{SOON, Sshd, is_root};

/// Tools that scripts on hosts use.
const TOOLS: &str = "cat chmod cp cut date df dirname find id ln ls mkdir mv readlink rm sed sh \
                     sha256sum stat tail touch uname";

/// A cluster all of whose nodes are on one host, with this first port and interface.
fn cluster(port: u16, interface: &str) -> Cluster {
    let nodes = format!(
        "[DEFAULT]\nhost=10.0.0.1\n[manager]\ntype=manager\n[logger]\ntype=logger\n[proxy]\n\
         type=proxy\n[worker]\ntype=worker\ninterface={interface}\n"
    );
    let settings = format!("port: {port}\n");
    Cluster::load(ConfigFiles {
        nodes: ConfigFile { name: "node.cfg", text: &nodes },
        networks: None,
        settings: Some(ConfigFile { name: "tyto.yaml", text: &settings }),
    })
    .unwrap()
}

async fn survey(host: &Ssh, prefix: &Path, cluster: &Cluster) -> Survey {
    let questions = Questions {
        interfaces: cluster.nodes.iter().filter_map(|node| node.interface.clone()).collect(),
        ports: cluster.ports().into_values().collect(),
        ..Questions::default()
    };
    look(host, &Layout::new(prefix), &questions, SOON).await.unwrap()
}

fn judge(survey: &Survey, prefix: &Path, cluster: &Cluster) -> Vec<HostFault> {
    let ports = cluster.ports();
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    let expected = Expected {
        cluster: "tyto",
        prefix,
        machine: std::env::consts::ARCH,
        missing_bytes: 0,
        ports: nodes.iter().filter_map(|&node| Some((node, *ports.get(&node.name)?))).collect(),
        nodes,
        addr: None,
    };
    faults(survey, &expected)
}

/// What is wrong with a host whose prefix is this folder beside the sshd's files.
async fn found(sshd: &Sshd, below: &str) -> Vec<HostFault> {
    found_with(sshd, below, &cluster(27760, "lo")).await
}

async fn found_with(sshd: &Sshd, below: &str, cluster: &Cluster) -> Vec<HostFault> {
    let prefix = sshd.dir.path().join(below);
    let host = sshd.host("good", SshMode::Native);
    judge(&survey(&host, &prefix, cluster).await, &prefix, cluster)
}

/// The one fault that is expected, in words.
fn only(faults: &[HostFault]) -> String {
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].to_string()
}

/// A folder of tools, and with them what `change` does to it.
fn tools(sshd: &Sshd, change: impl FnOnce(&Path)) {
    let bin = sshd.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for tool in TOOLS.split_whitespace() {
        let path = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
        symlink(path.into_iter().find(|path| path.exists()).unwrap(), bin.join(tool)).unwrap();
    }
    change(&bin);
}

#[tokio::test]
async fn a_host_that_lacks_nothing_has_no_fault() {
    let Some(sshd) = Sshd::start() else { return };
    let faults = found(&sshd, "p").await;
    // Whoever runs this may not be root; the rest holds for every machine.
    let rights = |fault: &HostFault| matches!(fault, HostFault::NoCapture { .. });
    assert!(faults.iter().all(rights), "{faults:?}");
    assert!(!sshd.dir.path().join("p").exists());
}

#[tokio::test]
async fn a_host_of_another_architecture_is_told_by_both_names() {
    let Some(sshd) = Sshd::with("", &["setarch", "linux32"]) else { return };
    if std::env::consts::ARCH != "x86_64" {
        println!("skipped: only x86_64 has this other personality");
        return;
    }
    let fault = only(&found(&sshd, "p").await);
    assert_eq!(fault, "it is i686; the programs beside ctl are for x86_64");
}

#[tokio::test]
async fn a_kernel_that_is_too_old_is_told_with_its_version() {
    let Some(sshd) = Sshd::with("", &["setarch", "--uname-2.6"]) else { return };
    let fault = only(&found(&sshd, "p").await);
    assert!(fault.starts_with("its kernel is 2.6."), "{fault}");
    assert!(fault.contains("expected 5.4 or later"), "{fault}");
}

#[tokio::test]
async fn tools_that_are_missing_are_named() {
    let Some(sshd) = Sshd::with("SetEnv PATH=DIR/bin HOME=/no/such", &[]) else { return };
    tools(&sshd, |bin| {
        for tool in ["sha256sum", "touch"] {
            fs::remove_file(bin.join(tool)).unwrap();
        }
    });
    assert_eq!(only(&found(&sshd, "p").await), "its shell has no sha256sum, touch");
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_with_both_times() {
    let Some(sshd) = Sshd::with("SetEnv PATH=DIR/bin HOME=/no/such", &[]) else { return };
    let date = |off: &str| format!("#!/bin/sh\nexec /usr/bin/env -i /bin/date -d '{off}' \"$@\"\n");
    tools(&sshd, |bin| fs::remove_file(bin.join("date")).unwrap());
    let path = sshd.dir.path().join("bin/date");
    for (off, said, is_warning) in [
        ("+3 hours", "its clock is 3 h ahead of ours", true),
        ("-5 minutes", "its clock is 5 min behind ours", true),
        ("-3 hours", "its clock is 3 h behind ours", false),
    ] {
        fs::write(&path, date(off)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let faults = found(&sshd, "p").await;
        let fault = only(&faults);
        assert!(fault.starts_with(said), "{off}: {fault}");
        assert!(fault.contains("it shows 20") && fault.contains("here it is 20"), "{fault}");
        assert_eq!(faults[0].is_warning(), is_warning, "{off}");
        assert!(faults[0].hint().contains("chronyc"));
    }
}

/// An sshd whose `p` is a small file system of its own, mounted with these options.
fn mounted(options: &str) -> Option<Sshd> {
    if !is_root() {
        eprintln!("skipped: mounting needs root");
        return None;
    }
    let script = format!("mkdir p && mount -t tmpfs -o {options} none p && exec \"$@\"");
    Sshd::with("", &["unshare", "--mount", "sh", "-c", &script, "sh"])
}

#[tokio::test]
async fn a_prefix_that_is_read_only_names_the_mount() {
    let Some(sshd) = mounted("ro,size=99m") else { return };
    let faults = found(&sshd, "p").await;
    let point = sshd.dir.path().join("p").display().to_string();
    assert_eq!(only(&faults), format!("`{point}` is on `{point}`, which is mounted read-only"));
    assert!(faults[0].hint().contains(&format!("mount -o remount,rw {point}")));
}

#[tokio::test]
async fn a_prefix_from_which_no_program_runs_names_the_mount() {
    let Some(sshd) = mounted("noexec,size=99m") else { return };
    let faults = found(&sshd, "p/deeper").await;
    assert!(only(&faults).contains("mounted noexec"), "{faults:?}");
}

#[tokio::test]
async fn a_prefix_without_room_is_told_before_anything_is_copied_and_while_it_is() {
    let Some(sshd) = mounted("size=1m") else { return };
    let faults = found(&sshd, "p").await;
    assert_eq!(only(&faults), "1 MiB are free below the prefix; 64 MiB are needed");

    let bytes = vec![7_u8; 3 << 20];
    let sha256: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let path: PathBuf = sshd.dir.path().join("p/file");
    let host = sshd.host("good", SshMode::Native);
    let remote: &dyn Remote = &host;
    let put = Put { content: Input::Bytes(&bytes), path: &path, sha256: &sha256, mode: 0o644 };
    let error = remote.put(put, SOON).await.unwrap_err();
    assert!(matches!(error, RemoteError::NoSpace { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("1024 KiB are free; 3072 KiB are needed for this file"), "{said}");
    // Not even half of it is there.
    let left = sshd::sh(&host, &format!("ls -A {}", path.parent().unwrap().display())).await;
    assert_eq!(left.stdout_text(), "");
}

#[tokio::test]
async fn a_login_that_may_neither_write_nor_capture_is_named() {
    if !is_root() {
        println!("skipped: another login needs root");
        return;
    }
    let script = "cp /etc/passwd passwd && echo 'sensor:x:4711:4711::/:/bin/sh' >> passwd && \
                  mount --bind passwd /etc/passwd && exec \"$@\"";
    let Some(sshd) = Sshd::with("", &["unshare", "--mount", "sh", "-c", script, "sh"]) else {
        return;
    };
    // sshd reads the keys as the login.
    fs::set_permissions(sshd.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let prefix = sshd.dir.path().join("p");
    fs::create_dir(&prefix).unwrap();
    let settings = SshSettings { user: Some("sensor".into()), ..sshd.settings() };
    let host = Ssh::new("good", settings).unwrap();
    let cluster = cluster(27760, "lo");
    let faults = judge(&survey(&host, &prefix, &cluster).await, &prefix, &cluster);
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let folder = prefix.display();
    assert_eq!(
        told,
        [
            format!("`{folder}` is not writable for the login of ssh (`sensor`)"),
            "login `sensor` may not capture (no CAP_NET_RAW)".to_owned()
        ]
    );
    assert!(faults[1].is_warning() && faults[1].hint().contains("setcap"));
}

#[tokio::test]
async fn a_prefix_of_others_is_left_alone() {
    let Some(sshd) = Sshd::start() else { return };
    let prefix = sshd.dir.path().join("p");
    fs::create_dir_all(prefix.join("etc")).unwrap();
    fs::create_dir_all(prefix.join("share")).unwrap();
    fs::write(prefix.join(".profile"), "").unwrap();
    let fault = only(&found(&sshd, "p").await);
    assert!(fault.ends_with("holds what is not of Tyto: share, .profile"), "{fault}");

    fs::create_dir_all(prefix.join("releases/aa/etc")).unwrap();
    fs::write(prefix.join("releases/aa/etc/host.yaml"), "cluster: north\nhost: a\n").unwrap();
    symlink("releases/aa", prefix.join("current")).unwrap();
    let faults = found(&sshd, "p").await;
    let fault = only(&faults);
    assert!(fault.contains("the installation of cluster `north`; this one is `tyto`"), "{fault}");
    assert!(faults[0].hint().contains("cluster: north"));
}

#[tokio::test]
async fn an_interface_that_is_not_there_is_told_with_those_that_are() {
    let Some(sshd) = Sshd::start() else { return };
    let faults = found_with(&sshd, "p", &cluster(27760, "l0")).await;
    let fault = faults.iter().find(|f| matches!(f, HostFault::NoInterface { .. })).unwrap();
    let said = fault.to_string();
    assert!(said.starts_with("node.cfg:11: there is no interface `l0`; it has "), "{said}");
    assert!(said.contains("lo"), "{said}");
    assert_eq!(fault.hint(), "did you mean `interface=lo`?");
}

#[tokio::test]
async fn a_port_that_is_taken_names_the_program() {
    let Some(sshd) = Sshd::start() else { return };
    for address in ["0.0.0.0:0", "[::]:0"] {
        let Ok(other) = TcpListener::bind(address) else {
            println!("skipped: no {address} on this machine");
            continue;
        };
        // The manager's port is the third after the first.
        let port = other.local_addr().unwrap().port();
        let faults = found_with(&sshd, "p", &cluster(port - 3, "lo")).await;
        let taken = faults.iter().find(|f| matches!(f, HostFault::PortTaken { .. })).unwrap();
        let (said, pid) = (taken.to_string(), std::process::id());
        assert!(said.starts_with(&format!("port {port} of node `manager` is taken by")), "{said}");
        assert!(said.ends_with(&format!("(process {pid})")), "{said}");
        assert!(taken.hint().contains("`port` in tyto.yaml"));
    }
}

#[tokio::test]
async fn two_names_of_one_machine_are_found_by_its_folder() {
    let Some(sshd) = Sshd::start() else { return };
    let (cluster, prefix) = (cluster(27760, "lo"), sshd.dir.path().join("p"));
    let mut surveys = BTreeMap::new();
    for alias in ["good", "twin"] {
        let host = sshd.host(alias, SshMode::Native);
        surveys.insert(HostName::from(alias), survey(&host, &prefix, &cluster).await);
    }
    let same: Vec<_> = same_hosts(&surveys).into_iter().map(|(a, b, _)| (&**a, &**b)).collect();
    assert_eq!(same, [("twin", "good")]);
}

/// The whole way: the operator's files in, the messages and the exit code out. The host's name
/// means something to ssh only, which is enough where nobody else needs an address.
#[test]
fn ctl_check_tells_all_of_it_at_once_and_ends_with_1() {
    let Some(sshd) = Sshd::with("SetEnv PATH=DIR/bin HOME=/no/such", &["setarch", "--uname-2.6"])
    else {
        return;
    };
    tools(&sshd, |bin| fs::remove_file(bin.join("touch")).unwrap());
    let d = sshd.dir.path();
    let (etc, bin) = (d.join("etc"), d.join("programs"));
    fs::create_dir_all(d.join("p/share")).unwrap();
    for folder in [&etc, &bin] {
        fs::create_dir(folder).unwrap();
    }
    let node_cfg = "[zeek]\ntype=standalone\nhost=good\ninterface=l0\n";
    fs::write(etc.join("node.cfg"), node_cfg).unwrap();
    let (p, ssh) = (d.join("p"), d.join("ssh_config"));
    let yaml = format!("prefix: {}\nssh:\n  config_file: {}\n", p.display(), ssh.display());
    fs::write(etc.join("tyto.yaml"), yaml).unwrap();
    // Programs of this machine, small ones: nothing is deployed.
    fs::copy(env!("CARGO_BIN_EXE_ctl"), bin.join("ctl")).unwrap();
    for program in ["manager", "supervisor", "worker", "logger", "proxy"] {
        fs::copy("/bin/true", bin.join(program)).unwrap();
    }
    let output = Command::new(bin.join("ctl"))
        .arg("--etc")
        .arg(&etc)
        .args(["check", "--hosts"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "host `good`: its kernel is 2.6.",
        "host `good`: its shell has no touch",
        "holds what is not of Tyto: share",
        "host `good`: node.cfg:4: there is no interface `l0`",
        "hint: did you mean `interface=lo`?",
    ] {
        assert!(said.contains(part), "no `{part}` in:\n{said}");
    }
    assert!(!p.join("releases").exists());
}
