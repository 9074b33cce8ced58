//! Hosts that have IPv6 addresses only: what ctl writes for them, and what daemons read of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};
use tyto_core::config::runtime::{NodeConfig, PeersConfig, Role};

const NODE_CFG: &str = "[manager]\ntype=manager\nhost=2001:db8::1\n\
                        [logger-1]\ntype=logger\nhost=2001:db8::1\n\
                        [proxy-1]\ntype=proxy\nhost=sensor.example\n\
                        [worker-1]\ntype=worker\nhost=sensor.example\ninterface=eth0\n";

fn cluster(networks: &str) -> Cluster {
    let file = |name, text| ConfigFile { name, text };
    Cluster::load(ConfigFiles {
        nodes: file("node.cfg", NODE_CFG),
        networks: Some(file("networks.cfg", networks)),
        settings: None,
    })
    .unwrap_or_else(|faults| panic!("{faults}"))
}

/// By node, where it listens.
fn listening(peers: &PeersConfig) -> Vec<(&str, String)> {
    peers.peers.iter().map(|peer| (peer.node.as_str(), peer.addr.to_string())).collect()
}

#[test]
fn addresses_stand_in_brackets_before_their_ports_and_are_read_again() {
    let cluster = cluster("2001:db8:77::/48 office\n");
    let sensor: IpAddr = "2001:db8::2".parse().unwrap();
    let addrs: BTreeMap<_, _> = cluster
        .hosts()
        .into_iter()
        .map(|host| (host.clone(), host.parse().unwrap_or(sensor)))
        .collect();
    let peers = cluster.peers_config(&addrs).unwrap();
    assert_eq!(
        listening(&peers),
        [
            ("manager", "[2001:db8::1]:27763".to_owned()),
            ("logger-1", "[2001:db8::1]:27764".to_owned()),
            ("proxy-1", "[2001:db8::2]:27765".to_owned()),
        ]
    );
    let text = serde_yaml::to_string(&peers).unwrap();
    assert_eq!(serde_yaml::from_str::<PeersConfig>(&text).unwrap(), peers);

    let logger = cluster.node_config(cluster.node("logger-1").unwrap(), &addrs).unwrap();
    assert_eq!(logger.role, Role::Logger);
    assert_eq!(logger.listen, Some(SocketAddr::new("2001:db8::1".parse().unwrap(), 27764)));
    let worker = cluster.node_config(cluster.node("worker-1").unwrap(), &addrs).unwrap();
    assert_eq!(worker.analysis.local_nets, ["2001:db8:77::/48".parse().unwrap()]);
    let text = serde_yaml::to_string(&worker).unwrap();
    assert_eq!(serde_yaml::from_str::<NodeConfig>(&text).unwrap(), worker);
}

#[test]
fn an_address_in_brackets_or_with_a_zone_is_told() {
    // configparser takes a doubled per cent sign for one.
    for (written, host) in [("[2001:db8::1]", "[2001:db8::1]"), ("fe80::1%%eth0", "fe80::1%eth0")] {
        let text = NODE_CFG.replace("2001:db8::1", written);
        let loaded = Cluster::load(ConfigFiles {
            nodes: ConfigFile { name: "node.cfg", text: &text },
            networks: None,
            settings: None,
        });
        let faults = loaded.unwrap_err().to_string();
        assert!(faults.contains(&format!("`host` is `{host}`; expected")), "{faults}");
    }
}
