//! `ctl import` and `ctl explain` as an operator meets them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const ZEEKCTL: &str = "LogRotationInterval = 900\nMailTo = root\n";
const NODES: &str = "[manager]\ntype=manager\nhost=localhost\n[proxy-1]\ntype=proxy\n\
                     host=localhost\n[w]\ntype=worker\nhost=localhost\ninterface=eth0\n\
                     lb_method=pf_ring\nlb_procs=2\npin_cpus=1,2\n";

fn ctl(args: &[&str]) -> Output {
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_ctl"));
    ctl.args(args).env_remove("TYTO_ETC").output().unwrap()
}

/// An installation of ZeekControl below a folder.
fn zeek() -> tempfile::TempDir {
    let prefix = tempfile::tempdir().unwrap();
    let etc = prefix.path().join("etc");
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("zeekctl.cfg"), ZEEKCTL).unwrap();
    fs::write(etc.join("node.cfg"), NODES).unwrap();
    fs::write(etc.join("networks.cfg"), "10.0.0.0/8 ours\n").unwrap();
    prefix
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn result(output: &Output) -> Value {
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["ok"], true, "{answer:#}");
    answer["result"].clone()
}

#[test]
fn what_is_imported_is_a_configuration_and_is_explained() {
    let (zeek, out) = (zeek(), tempfile::tempdir().unwrap());
    let (prefix, etc) = (text(zeek.path()), text(out.path()));
    let imported = ctl(&["import", prefix, "--out", etc, "--json"]);
    let notes = result(&imported)["notes"].as_array().unwrap().clone();
    let about = |what: &str| notes.iter().find(|note| note["what"] == what).unwrap().clone();
    assert_eq!(about("MailTo")["change"], "left out");
    assert_eq!(about("MailTo")["line"], 2);
    assert_eq!(about("lb_method")["change"], "changed");
    let told = result(&ctl(&["--etc", etc, "explain", "w-2", "--json"]));
    let told = told.as_array().unwrap();
    let about = |key: &str| told.iter().find(|row| row["key"] == key).unwrap().clone();
    assert_eq!(about("pin_cpus")["value"], "2");
    assert_eq!(about("pin_cpus")["source"]["file"], "node.cfg");
    assert_eq!(about("pin_cpus")["source"]["line"], 13);
    assert_eq!(about("local_net")["source"]["file"], "networks.cfg");
    let logger = ctl(&["--etc", etc, "explain", "loggers", "log_rotation_interval_s"]);
    let logger = String::from_utf8(logger.stdout).unwrap();
    assert!(logger.contains("900  seconds  tyto.yaml:5"), "{logger}");
}

#[test]
fn a_second_import_replaces_nothing_unless_told_to() {
    let (zeek, out) = (zeek(), tempfile::tempdir().unwrap());
    let (prefix, etc) = (text(zeek.path()), text(out.path()));
    assert!(ctl(&["import", prefix, "--out", etc]).status.success());
    // The same again is no change.
    assert!(ctl(&["import", prefix, "--out", etc]).status.success());
    fs::write(out.path().join("node.cfg"), "# mine\n").unwrap();
    let refused = ctl(&["import", prefix, "--out", etc]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("`node.cfg` in"), "{}", stderr(&refused));
    assert_eq!(fs::read_to_string(out.path().join("node.cfg")).unwrap(), "# mine\n");
    assert!(ctl(&["import", prefix, "--out", etc, "--plan"]).status.success());
    assert_eq!(fs::read_to_string(out.path().join("node.cfg")).unwrap(), "# mine\n");
    assert!(ctl(&["import", prefix, "--out", etc, "--force"]).status.success());
    assert_ne!(fs::read_to_string(out.path().join("node.cfg")).unwrap(), "# mine\n");
}

#[test]
fn an_installation_that_zeekcontrol_would_refuse_is_told_with_its_lines() {
    let (zeek, out) = (zeek(), tempfile::tempdir().unwrap());
    let nodes = zeek.path().join("etc/node.cfg");
    fs::write(&nodes, NODES.replace("[proxy-1]\ntype=proxy", "[proxy-1]\ntype=porxy")).unwrap();
    let refused = ctl(&["import", text(zeek.path()), "--out", text(out.path())]);
    assert_eq!(refused.status.code(), Some(1));
    let place = format!("ctl: {}:5: node `proxy-1`: `type` is `porxy`", nodes.display());
    assert!(stderr(&refused).starts_with(&place), "{}", stderr(&refused));
    assert!(fs::read_dir(out.path()).unwrap().next().is_none());
    let nothing = ctl(&["import", text(out.path())]);
    assert!(stderr(&nothing).contains("there is no node.cfg of ZeekControl"));
}

#[test]
fn a_slip_in_the_name_of_a_node_or_key_gets_the_nearest_one() {
    let etc = tempfile::tempdir().unwrap();
    let standalone = "[zeek]\ntype=standalone\nhost=localhost\ninterface=eth0\n";
    fs::write(etc.path().join("node.cfg"), standalone).unwrap();
    let explain = |args: &[&str]| ctl(&[&["--etc", text(etc.path()), "explain"], args].concat());
    let said = stderr(&explain(&["zeke"]));
    assert!(said.contains("unknown node 'zeke'") && said.contains("`zeek`"), "{said}");
    let said = stderr(&explain(&["zeek", "snapeln"]));
    assert!(said.contains("no key `snapeln`") && said.contains("`snaplen`"), "{said}");
    let snaplen = explain(&["zeek", "snaplen_bytes"]);
    assert!(String::from_utf8(snaplen.stdout).unwrap().contains("9216"));
}
