//! Whole configurations: what becomes of node.cfg, networks.cfg and tyto.yaml together.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};
use tyto_core::config::error::Faults;
use tyto_core::config::name::HostName;
use tyto_core::config::node_keys::{NODE_KEYS, Scope};
use tyto_core::config::runtime::{ChecksumMode, FanoutMode, HostConfig, NodeConfig, Role};
use tyto_core::config::setting_keys::SETTING_KEYS;
use tyto_core::config::settings::Settings;

const NODE_CFG_EXAMPLE: &str = include_str!("../../node.cfg.example");
const NETWORKS_CFG_EXAMPLE: &str = include_str!("../../networks.cfg.example");
const TYTO_YAML_EXAMPLE: &str = include_str!("../../tyto.yaml.example");

/// Manager, logger and proxy on one host, to put workers below.
const BASE: &str = "[manager]\ntype=manager\nhost=10.0.0.1\n\
                    [logger-1]\ntype=logger\nhost=10.0.0.1\n\
                    [proxy-1]\ntype=proxy\nhost=10.0.0.1\n";

fn load(nodes: &str, networks: &str, settings: &str) -> Result<Cluster, Faults> {
    let file = |name, text| ConfigFile { name, text };
    Cluster::load(ConfigFiles {
        nodes: file("node.cfg", nodes),
        networks: Some(file("networks.cfg", networks)),
        settings: Some(file("tyto.yaml", settings)),
    })
}

fn cluster(workers: &str) -> Cluster {
    load(&format!("{BASE}{workers}"), "", "").unwrap_or_else(|faults| panic!("{faults}"))
}

/// Each host gets the address that it is named by.
fn addresses(cluster: &Cluster) -> BTreeMap<HostName, IpAddr> {
    let address = |host: &HostName| host.parse().unwrap_or(IpAddr::from([127, 0, 0, 1]));
    cluster.hosts().into_iter().map(|host| (host.clone(), address(host))).collect()
}

fn node_config(cluster: &Cluster, name: &str) -> NodeConfig {
    cluster.node_config(cluster.node(name).unwrap(), &addresses(cluster)).unwrap()
}

fn fanout_id(cluster: &Cluster, name: &str) -> Option<u16> {
    node_config(cluster, name).capture.unwrap().fanout_id
}

#[test]
fn lb_procs_makes_numbered_nodes_that_share_one_group_and_have_a_cpu_each() {
    let cluster = cluster(
        "[w]\ntype=worker\nhost=10.0.0.2\ninterface=af_packet::eth0\nlb_method=af_packet\n\
         lb_procs=3\npin_cpus=4,6\nenv_vars=A=1\n",
    );
    let workers: Vec<_> = cluster.nodes.iter().filter(|n| n.role == Role::Worker).collect();
    let named: Vec<_> = workers.iter().map(|n| (n.name.as_str(), n.count, n.cpu)).collect();
    assert_eq!(named, [("w-1", 1, Some(4)), ("w-2", 2, Some(6)), ("w-3", 3, Some(4))]);
    let group = fanout_id(&cluster, "w-1");
    assert!(group.is_some());
    assert_eq!(fanout_id(&cluster, "w-2"), group);
    assert_eq!(node_config(&cluster, "w-3").capture.unwrap().interface, "eth0");
}

#[test]
fn a_node_without_lb_procs_takes_the_first_cpu_only() {
    let cluster = cluster("[w]\ntype=worker\nhost=10.0.0.2\ninterface=eth0\npin_cpus=2-5\n");
    assert_eq!(cluster.node("w").unwrap().cpu, Some(2));
    let host = cluster.host_config(&"10.0.0.2".into(), "r1");
    assert_eq!(host.nodes[0].cpus, [2]);
}

#[test]
fn two_interfaces_of_a_host_have_distinct_groups_and_a_lone_worker_has_none() {
    let pair = |name: &str, host: &str, interface: &str| {
        format!(
            "[{name}]\ntype=worker\nhost={host}\ninterface={interface}\nlb_method=af_packet\n\
             lb_procs=2\n"
        )
    };
    let lone = "[lone]\ntype=worker\nhost=10.0.0.4\ninterface=eth0\n";
    let cluster = cluster(
        &[pair("a", "10.0.0.2", "eth0"), pair("b", "10.0.0.2", "eth1"), lone.into()].concat(),
    );
    assert_ne!(fanout_id(&cluster, "a-1"), fanout_id(&cluster, "b-1"));
    assert_eq!(fanout_id(&cluster, "lone"), None);
}

/// The deploy of a new interface must not restart the workers of the old one.
#[test]
fn a_new_section_does_not_change_the_group_of_another() {
    let old = "[a]\ntype=worker\nhost=h\ninterface=eth1\nlb_method=af_packet\nlb_procs=2\n";
    let new = "[new]\ntype=worker\nhost=h\ninterface=eth0\nlb_method=af_packet\nlb_procs=2\n";
    let before = fanout_id(&cluster(old), "a-1");
    assert_eq!(fanout_id(&cluster(&format!("{new}{old}")), "a-1"), before);
}

#[test]
fn a_written_group_number_counts_for_all_workers_of_the_interface() {
    let cluster = cluster(
        "[a]\ntype=worker\nhost=h\ninterface=eth0\naf_packet_fanout_id=23\n\
         [b]\ntype=worker\nhost=h\ninterface=eth0\n\
         [tap]\ntype=worker\nhost=h\ninterface=eth0\naf_packet_enable_fanout=F\n",
    );
    assert_eq!(fanout_id(&cluster, "a"), Some(23));
    assert_eq!(fanout_id(&cluster, "b"), Some(23));
    assert_eq!(fanout_id(&cluster, "tap"), None);
}

#[test]
fn af_packet_keys_win_over_tyto_yaml_and_take_zeeks_spelling() {
    let text = format!(
        "{BASE}[w]\ntype=worker\nhost=10.0.0.2\ninterface=eth0\n\
         af_packet_buffer_size=64*1024*1024\naf_packet.block_size=65536\n\
         af_packet_block_timeout=20msec\naf_packet_fanout_mode=AF_Packet::FANOUT_QM\n\
         af_packet_enable_defrag=F\n\
         af_packet_checksum_validation_mode=AF_Packet::CHECKSUM_OFF\n\
         [v]\ntype=worker\nhost=10.0.0.2\ninterface=eth1\n"
    );
    let yaml = "snaplen_bytes: 1500\naf_packet:\n  block_timeout_ms: 7\n";
    let cluster = load(&text, "", yaml).unwrap();
    let own = node_config(&cluster, "w");
    let capture = own.capture.unwrap();
    assert_eq!(capture.buffer_size_bytes, 64 << 20);
    assert_eq!(capture.block_size_bytes, 65536);
    assert_eq!(capture.block_timeout_ms, 20);
    assert_eq!(capture.fanout_mode, FanoutMode::Qm);
    assert!(!capture.fanout_defrag);
    assert!(own.analysis.ignore_checksums);
    assert_eq!(capture.snaplen_bytes, 1500);
    let other = node_config(&cluster, "v");
    assert_eq!(other.capture.unwrap().block_timeout_ms, 7);
    assert!(!other.analysis.ignore_checksums);
}

#[test]
fn capture_keys_of_node_cfg_win_over_tyto_yaml() {
    let text = format!(
        "{BASE}[w]\ntype=worker\nhost=10.0.0.2\ninterface=eth0\nsnaplen=4*1024\n\
         filter=not port 22\n  and ip\naf_packet_fanout_mode=FANOUT_EBPF\n\
         af_packet_fanout_inner=T\naf_packet_promiscuous=F\n\
         af_packet_checksum_validation_mode=CHECKSUM_ON\n\
         af_packet_enable_hw_timestamping=F\naf_packet_link_type=101\n\
         [v]\ntype=worker\nhost=10.0.0.2\ninterface=eth1\n"
    );
    let yaml = "filter: ip\nsnaplen_bytes: 1500\naf_packet:\n  fanout_mode: cbpf\n  \
                fanout_inner: false\n  promiscuous: true\n  checksums: off\n  \
                hw_timestamps: true\n";
    let cluster = load(&text, "", yaml).unwrap_or_else(|faults| panic!("{faults}"));
    let own = node_config(&cluster, "w");
    let capture = own.capture.unwrap();
    assert_eq!(capture.filter.as_deref(), Some("not port 22 and ip"));
    assert_eq!((capture.snaplen_bytes, capture.link_type), (4096, Some(101)));
    assert_eq!((capture.fanout_mode, capture.fanout_inner), (FanoutMode::Ebpf, true));
    assert!(!capture.promiscuous && !capture.hw_timestamps);
    assert_eq!((capture.checksums, own.analysis.ignore_checksums), (ChecksumMode::On, false));
    let other = node_config(&cluster, "v");
    let capture = other.capture.unwrap();
    assert_eq!(capture.filter.as_deref(), Some("ip"));
    assert_eq!((capture.snaplen_bytes, capture.link_type), (1500, None));
    assert_eq!((capture.fanout_mode, capture.fanout_inner), (FanoutMode::Cbpf, false));
    assert!(capture.promiscuous && capture.hw_timestamps);
    assert_eq!((capture.checksums, other.analysis.ignore_checksums), (ChecksumMode::Off, true));
}

/// node.cfg, else `ignore_checksums`, else `af_packet.checksums`, else the kernel's word.
#[test]
fn who_verifies_checksums_is_said_in_three_places() {
    let nodes = format!("{BASE}[w]\ntype=worker\nhost=h\ninterface=eth0\n");
    let on = format!("{nodes}af_packet_checksum_validation_mode=CHECKSUM_ON\n");
    for (nodes, yaml, mode, warnings) in [
        (&nodes, "", ChecksumMode::Kernel, 0),
        (&nodes, "af_packet: {checksums: 'on'}\n", ChecksumMode::On, 0),
        (&nodes, "ignore_checksums: true\n", ChecksumMode::Off, 0),
        (&on, "ignore_checksums: true\n", ChecksumMode::On, 0),
        (&nodes, "ignore_checksums: true\naf_packet: {checksums: 'on'}\n", ChecksumMode::Off, 1),
    ] {
        let cluster = load(nodes, "", yaml).unwrap();
        let config = node_config(&cluster, "w");
        assert_eq!(config.capture.unwrap().checksums, mode, "{yaml}");
        assert_eq!(config.analysis.ignore_checksums, mode == ChecksumMode::Off, "{yaml}");
        assert_eq!(cluster.warnings.len(), warnings, "{yaml}");
    }
}

#[test]
fn limits_of_node_cfg_win_and_nought_takes_the_memory_limit_back() {
    let text = format!(
        "{BASE}[w]\ntype=worker\nhost=h\nmemory_bytes_max=2*1024*1024*1024\nnice=-5\n\
         core_dumps=T\n[v]\ntype=worker\nhost=h\nmemory_bytes_max=0\n\
         [u]\ntype=worker\nhost=h\n"
    );
    let yaml = "memory_bytes_max: 1073741824\nnice: 3\nwatchdog_s: 0\ncrash_reports_max: 5\n\
                crash_expire_days: 7\n";
    let host = load(&text, "", yaml).unwrap().host_config(&"h".into(), "r1");
    let limits = |n: usize| {
        let limits = &host.nodes[n].limits;
        (limits.memory_bytes_max, limits.nice, limits.core_dumps)
    };
    assert_eq!(limits(0), (Some(2 << 30), -5, true));
    assert_eq!(limits(1), (None, 3, false));
    assert_eq!(limits(2), (Some(1 << 30), 3, false));
    let watch = &host.watch;
    assert_eq!((watch.watchdog_s, watch.crash_reports_max, watch.crash_expire_days), (0, 5, 7));
}

/// ZeekControl with ZeroMQ: control is port + 2, then manager, loggers, proxies.
#[test]
fn ports_follow_zeekcontrols_plan() {
    let cluster = load(
        "[proxy-1]\ntype=proxy\nhost=10.0.0.1\n[logger-2]\ntype=logger\nhost=10.0.0.2\n\
         [manager]\ntype=manager\nhost=10.0.0.1\n[logger-1]\ntype=logger\nhost=10.0.0.1\n\
         [proxy-2]\ntype=proxy\nhost=10.0.0.2\n",
        "",
        "",
    )
    .unwrap();
    let config = node_config(&cluster, "logger-1");
    let peers_config = cluster.peers_config(&addresses(&cluster)).unwrap();
    let peers: Vec<String> =
        peers_config.peers.iter().map(|peer| format!("{} {}", peer.node, peer.addr)).collect();
    assert_eq!(
        peers,
        [
            "proxy-1 10.0.0.1:27766",
            "logger-2 10.0.0.2:27764",
            "manager 10.0.0.1:27763",
            "logger-1 10.0.0.1:27765",
            "proxy-2 10.0.0.2:27767",
        ]
    );
    assert_eq!(config.listen.unwrap().to_string(), "10.0.0.1:27765");
    assert!(config.logs.name_in_archive);
    let order: Vec<_> = cluster.ordered().into_iter().map(|n| n.name.as_str()).collect();
    assert_eq!(order, ["logger-2", "logger-1", "manager", "proxy-1", "proxy-2"]);
}

#[test]
fn environment_of_node_cfg_wins_over_tyto_yaml() {
    let text = format!("{BASE}[w]\ntype=worker\nhost=h\nenv_vars=A=node,B=2\n");
    let cluster = load(&text, "", "env_vars:\n  A: yaml\n  C: 'x y'\n").unwrap();
    let env = &cluster.host_config(&"h".into(), "r1").nodes[0].env;
    let pairs: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(pairs, ["A=node", "B=2", "C=x y"]);
}

#[test]
fn networks_are_cut_to_their_prefix_and_tags_kept() {
    let cluster = load(
        NODE_CFG_EXAMPLE,
        "# c\n10.1.2.3/8 \t Admin network\n  [2001:db8::]/32\n192.0.2.0/24\n",
        "private_address_space_is_local: false\n",
    )
    .unwrap();
    assert_eq!(cluster.networks[0].tag, "Admin network");
    assert_eq!(
        cluster.warnings[0].to_string(),
        "networks.cfg:2: `10.1.2.3/8` has bits behind its prefix; taken as `10.0.0.0/8`"
    );
    let analysis = node_config(&cluster, "zeek").analysis;
    let nets: Vec<String> = analysis.local_nets.iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.0.0.0/8", "2001:db8::/32", "192.0.2.0/24"]);
    assert!(!analysis.private_address_space_is_local);
}

#[test]
fn the_example_files_are_a_standalone_node_with_the_defaults() {
    let cluster = load(NODE_CFG_EXAMPLE, NETWORKS_CFG_EXAMPLE, TYTO_YAML_EXAMPLE).unwrap();
    assert_eq!(cluster.nodes.len(), 1);
    let config = node_config(&cluster, "zeek");
    assert_eq!((config.role, config.listen), (Role::Standalone, None));
    assert_eq!(config.capture.unwrap().interface, "eth0");
    assert_eq!(cluster.settings, Settings::default());
    assert_eq!(cluster.warnings, []);
}

/// The commented half of the example works when it is uncommented as the example says.
#[test]
fn the_example_cluster_is_a_good_one() {
    let standalone = NODE_CFG_EXAMPLE.find("[zeek]").unwrap();
    let text: String = NODE_CFG_EXAMPLE[standalone..]
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let cluster = load(&text, "", "").unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(cluster.nodes.len(), 8);
    assert_eq!(cluster.warnings, []);
}

#[test]
fn the_examples_show_every_key() {
    for key in NODE_KEYS.iter().filter(|key| key.scope != Scope::Nothing) {
        let shown = NODE_CFG_EXAMPLE.contains(&format!("{}=", key.name));
        // Refused with a word on what to write instead: nothing to show.
        assert!(shown || key.name == "lb_interfaces", "node.cfg.example lacks {}", key.name);
    }
    let yaml: serde_yaml::Value = serde_yaml::from_str(TYTO_YAML_EXAMPLE).unwrap();
    for key in SETTING_KEYS {
        let found = key.name.split('.').try_fold(&yaml, |value, part| value.get(part));
        assert!(found.is_some(), "tyto.yaml.example lacks {}", key.name);
    }
}

/// The table of keys and the struct of values are two; this holds them together.
#[test]
fn every_setting_is_in_the_table_and_the_table_has_no_other() {
    let tree = serde_yaml::to_value(Settings::default()).unwrap();
    let mut names = Vec::new();
    for (name, value) in tree.as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        match value.as_mapping() {
            Some(below) if !below.is_empty() => {
                names.extend(below.keys().map(|key| format!("{name}.{}", key.as_str().unwrap())));
            }
            _ => names.push(name.to_owned()),
        }
    }
    let table: Vec<&str> = SETTING_KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names, table);
}

#[test]
fn addresses_find_one_machine_under_two_names() {
    let cluster = cluster("[w]\ntype=worker\nhost=sensor\ninterface=eth0\n");
    let mut addrs = addresses(&cluster);
    addrs.insert("sensor".into(), IpAddr::from([10, 0, 0, 1]));
    let faults: Vec<String> =
        cluster.check_addresses(&addrs).iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        ["node.cfg:10: hosts `sensor` and `10.0.0.1` are the same machine: both are 10.0.0.1"]
    );
    addrs.insert("sensor".into(), IpAddr::from([127, 0, 1, 1]));
    let faults: Vec<String> =
        cluster.check_addresses(&addrs).iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["node.cfg:10: node `w` is on `sensor` but the manager is on `10.0.0.1`"]);
    let error = cluster.node_config(&cluster.nodes[0], &BTreeMap::new()).unwrap_err();
    assert_eq!(error.to_string(), "no address is known for host `10.0.0.1`");
}

/// A cluster of any shape that is allowed.
fn any_cluster() -> impl Strategy<Value = String> {
    let worker = (1_u8..4, 0_u8..3, prop::option::of(1_u8..5), prop::option::of(0_u8..8));
    (1_u8..3, 1_u8..3, prop::collection::vec(worker, 0..6)).prop_map(
        |(loggers, proxies, workers)| {
            let mut text = "[manager]\ntype=manager\nhost=10.0.0.1\n".to_owned();
            for n in 1..=loggers {
                text.push_str(&format!("[logger-{n}]\ntype=logger\nhost=10.0.0.{n}\n"));
            }
            for n in 1..=proxies {
                text.push_str(&format!("[proxy-{n}]\ntype=proxy\nhost=10.0.0.{n}\n"));
            }
            for (n, (host, interface, procs, cpu)) in workers.into_iter().enumerate() {
                text.push_str(&format!("[w{n}]\ntype: worker\nhost: 10.0.1.{host}\n"));
                text.push_str(&format!("interface=eth{interface}\n"));
                if let Some(procs) = procs {
                    text.push_str(&format!("lb_method=af_packet\nlb_procs={procs}\n"));
                }
                if let Some(cpu) = cpu {
                    text.push_str(&format!("pin_cpus={cpu}\n"));
                }
            }
            text
        },
    )
}

proptest! {
    #[test]
    fn what_is_generated_reads_back_and_every_node_is_on_one_host(text in any_cluster()) {
        let cluster = load(&text, "192.0.2.0/24", "").unwrap();
        let addrs = addresses(&cluster);
        let mut listening = Vec::new();
        for node in &cluster.nodes {
            let config = cluster.node_config(node, &addrs).unwrap();
            let yaml = serde_yaml::to_string(&config).unwrap();
            prop_assert_eq!(&serde_yaml::from_str::<NodeConfig>(&yaml).unwrap(), &config);
            let listens = matches!(node.role, Role::Manager | Role::Logger | Role::Proxy);
            prop_assert_eq!(config.listen.is_some(), listens);
            listening.extend(config.listen.map(|addr| addr.port()));
        }
        listening.sort_unstable();
        let first = 27763;
        let expected: Vec<u16> = (first..).take(listening.len()).collect();
        prop_assert_eq!(listening, expected);
        let mut placed = 0;
        for host in cluster.hosts() {
            let config = cluster.host_config(host, "r1");
            placed += config.nodes.len();
            let yaml = serde_yaml::to_string(&config).unwrap();
            prop_assert_eq!(serde_yaml::from_str::<HostConfig>(&yaml).unwrap(), config);
        }
        prop_assert_eq!(placed, cluster.nodes.len());
    }

    #[test]
    fn workers_share_a_group_exactly_when_they_share_an_interface(text in any_cluster()) {
        let cluster = load(&text, "", "").unwrap();
        let workers: Vec<_> = cluster.nodes.iter().filter(|n| n.role == Role::Worker).collect();
        for a in &workers {
            for b in workers.iter().filter(|b| b.host == a.host && b.name != a.name) {
                let (id_a, id_b) = (fanout_id(&cluster, &a.name), fanout_id(&cluster, &b.name));
                if a.interface == b.interface {
                    prop_assert!(id_a.is_some() && id_a == id_b);
                } else if id_a.is_some() {
                    prop_assert_ne!(id_a, id_b);
                }
            }
        }
    }

    #[test]
    fn no_text_makes_loading_panic(
        nodes in "(\\[[a-z]{0,3}\\]\n|[a-z_]{1,9}=[ -~]{0,9}\n|type=(worker|manager)\n){0,12}",
        networks in any::<String>(),
        settings in "([a-z_]{1,9}:[ -~]{0,9}\n| {0,2}[a-z]{1,4}: [ -~]{0,4}\n){0,8}",
    ) {
        prop_assert!(!matches!(load(&nodes, &networks, &settings), Err(Faults(faults)) if faults.is_empty()));
    }
}
