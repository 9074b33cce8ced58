//! `Cluster::explain`: every field of what a node gets is explained, with the value it has and
//! the line that says so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};
use tyto_core::config::explain::Effective;
use tyto_core::config::name::HostName;

const NODES: &str = "\
[DEFAULT]
host=10.0.0.1
[manager]
type=manager
[logger-1]
type=logger
nice=2
[proxy-1]
type=proxy
[w]
type=worker
host=10.0.0.2
interface=eth0
lb_method=af_packet
lb_procs=2
pin_cpus=4,6
snaplen=1500
env_vars=A=own,B=2
memory_bytes_max=0
[tap]
type=worker
host=10.0.0.2
interface=eth0
af_packet_enable_fanout=F
af_packet_checksum_validation_mode=CHECKSUM_OFF
";

const NETWORKS: &str = "# ours\n192.0.2.0/24 office\n";

const SETTINGS: &str = "\
port: 28000
snaplen_bytes: 9000
memory_bytes_max: 4294967296
community_id: true
filter: not port 22
env_vars:
  A: all
  C: \"3\"
af_packet:
  fanout_mode: cbpf
  checksums: on
";

fn cluster(settings: &str) -> Cluster {
    let file = |name, text| ConfigFile { name, text };
    Cluster::load(ConfigFiles {
        nodes: file("node.cfg", NODES),
        networks: Some(file("networks.cfg", NETWORKS)),
        settings: Some(file("tyto.yaml", settings)),
    })
    .unwrap_or_else(|faults| panic!("{faults}"))
}

fn addresses(cluster: &Cluster) -> BTreeMap<HostName, IpAddr> {
    cluster.hosts().into_iter().map(|host| (host.clone(), host.parse().unwrap())).collect()
}

fn explained(cluster: &Cluster, node: &str) -> Vec<Effective> {
    cluster.explain(cluster.node(node).unwrap(), &addresses(cluster)).unwrap()
}

/// `value, from, over` of one key.
fn told(cluster: &Cluster, node: &str, key: &str) -> String {
    let all = explained(cluster, node);
    let found = all.iter().find(|effective| effective.name == key);
    let Some(found) = found else { return "nothing".to_owned() };
    let over = found.over.as_ref().map(|at| format!(", over {at}")).unwrap_or_default();
    format!("{}, {}{over}", found.value, found.source.words())
}

#[test]
fn a_value_comes_from_node_cfg_tyto_yaml_or_the_default() {
    let cluster = cluster(SETTINGS);
    let told = |node, key| told(&cluster, node, key);
    assert_eq!(told("w-2", "snaplen"), "1500, node.cfg:17, over tyto.yaml:2");
    assert_eq!(told("tap", "snaplen"), "9000, tyto.yaml:2");
    assert_eq!(told("w-1", "filter"), "not port 22, tyto.yaml:5");
    assert_eq!(told("w-1", "memory_bytes_max"), ", node.cfg:19, over tyto.yaml:3");
    assert_eq!(told("w-1", "af_packet_block_timeout"), "10, default");
    assert_eq!(told("w-1", "af_packet_fanout_mode"), "cbpf, tyto.yaml:10");
    assert_eq!(told("w-1", "community_id"), "true, tyto.yaml:4");
    assert_eq!(told("logger-1", "nice"), "2, node.cfg:7");
    assert_eq!(told("logger-1", "log_rotation_interval_s"), "3600, default");
    assert_eq!(told("w-1", "cluster"), "tyto, default");
    assert_eq!(told("manager", "host"), "10.0.0.1, node.cfg:2");
    assert_eq!(told("w-1", "host"), "10.0.0.2, node.cfg:12");
}

#[test]
fn what_is_made_of_other_things_says_of_which() {
    let cluster = cluster(SETTINGS);
    let told = |node, key| told(&cluster, node, key);
    assert_eq!(told("w-2", "name"), "w-2, `[w]` at node.cfg:10 and lb_procs");
    assert_eq!(told("tap", "name"), "tap, node.cfg:20");
    assert_eq!(told("w-2", "pin_cpus"), "6, node.cfg:16");
    assert_eq!(
        told("logger-1", "listen"),
        "10.0.0.1:28004, `port` (tyto.yaml:1) and the node's place in node.cfg"
    );
    assert_eq!(told("w-1", "listen"), "nothing");
    assert_eq!(told("w-1", "peer.proxy-1"), "10.0.0.1:28005, node.cfg:8");
    assert_eq!(told("proxy-1", "peer.proxy-1"), "nothing");
    assert_eq!(told("w-1", "local_net"), "192.0.2.0/24, networks.cfg:2");
    assert!(told("w-1", "af_packet_fanout_id").ends_with(", the name of the interface"));
    assert_eq!(told("tap", "af_packet_fanout_id"), ", af_packet_enable_fanout=F");
    assert_eq!(told("w-1", "env_vars.A"), "own, node.cfg:18, over tyto.yaml:6");
    assert_eq!(told("w-1", "env_vars.C"), "3, tyto.yaml:6");
    assert_eq!(told("w-1", "af_packet_link_type"), ", what the interface is");
}

/// Three places say who verifies checksums; the one that decided is told.
#[test]
fn who_decided_about_checksums_is_told() {
    const MODE: &str = "af_packet_checksum_validation_mode";
    let cluster_on = cluster(SETTINGS);
    assert_eq!(told(&cluster_on, "w-1", MODE), "on, tyto.yaml:11");
    assert_eq!(told(&cluster_on, "w-1", "ignore_checksums"), "false, tyto.yaml:11");
    assert_eq!(told(&cluster_on, "tap", MODE), "off, node.cfg:25, over tyto.yaml:11");
    assert_eq!(told(&cluster_on, "tap", "ignore_checksums"), "true, node.cfg:25");
    let ignoring = cluster("ignore_checksums: true\naf_packet:\n  checksums: on\n");
    assert_eq!(told(&ignoring, "w-1", MODE), "off, tyto.yaml:1");
    assert_eq!(told(&ignoring, "w-1", "ignore_checksums"), "true, tyto.yaml:1");
    assert_eq!(told(&cluster(""), "w-1", MODE), "kernel, default");
}

#[test]
fn a_host_without_an_address_is_shown_by_its_name() {
    let cluster = cluster(SETTINGS);
    let all = cluster.explain(cluster.node("w-1").unwrap(), &BTreeMap::new()).unwrap();
    let proxy = all.iter().find(|effective| effective.name == "peer.proxy-1").unwrap();
    assert_eq!(proxy.value, "10.0.0.1:28005");
    assert!(!all.iter().any(|effective| effective.value.contains("0.0.0.0")));
}

/// The leaves of a YAML tree by their path; lists and maps with free keys count as one.
fn leaves(above: &str, tree: &serde_yaml::Value, found: &mut BTreeMap<String, String>) {
    for (name, value) in tree.as_mapping().unwrap() {
        let path = format!("{above}{}", name.as_str().unwrap());
        match value {
            serde_yaml::Value::Mapping(_) => leaves(&format!("{path}."), value, found),
            serde_yaml::Value::Sequence(_) => drop(found.insert(path, "list".to_owned())),
            serde_yaml::Value::Null => drop(found.insert(path, String::new())),
            value => {
                let text = serde_yaml::to_string(value).unwrap();
                let text = text.trim().trim_matches('\'').to_owned();
                found.insert(path, text);
            }
        }
    }
}

/// A new field of the generated files has to be explained, too.
#[test]
fn every_field_that_a_node_gets_is_explained_with_the_value_it_has() {
    let cluster = cluster(SETTINGS);
    for (node, foreign) in [
        ("w-1", ["logs", "listen"].as_slice()),
        ("tap", &["logs", "listen"]),
        ("logger-1", &["capture", "analysis", "ship"]),
        ("manager", &["capture", "analysis", "ship", "logs"]),
    ] {
        let config = cluster.node_config(cluster.node(node).unwrap(), &addresses(&cluster));
        let mut fields = BTreeMap::new();
        leaves("", &serde_yaml::to_value(config.unwrap()).unwrap(), &mut fields);
        let limits = cluster.limits(cluster.node(node).unwrap());
        leaves("limits.", &serde_yaml::to_value(limits).unwrap(), &mut fields);
        let watch = cluster.host_config(&"10.0.0.1".into(), "").watch;
        leaves("watch.", &serde_yaml::to_value(watch).unwrap(), &mut fields);
        let all = explained(&cluster, node);
        for (field, value) in &fields {
            if foreign.contains(&field.split('.').next().unwrap()) {
                continue;
            }
            let told = all.iter().find(|effective| effective.field == field);
            let told = told.unwrap_or_else(|| panic!("{node}: `{field}` is not explained"));
            if value != "list" {
                assert_eq!(&told.value, value, "{node}: {field}");
            }
        }
    }
}
