//! What a deploy concerns, and in which order. Pure: facts in, decisions out.
//!
//! Start order is ZeekControl's: loggers, manager or standalone, proxies, workers; stop order is
//! the reverse. A tier that fails keeps the later ones from being touched.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;
use tyto_proto::v1::NodeStatus;

use super::survey::Survey;

/// Tiers in start order.
const START_ORDER: [Role; 5] =
    [Role::Logger, Role::Manager, Role::Standalone, Role::Proxy, Role::Worker];

/// Nodes that are started or stopped together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// As a heading names them: `loggers`, `manager`, `proxy`, …
    pub label: String,
    /// Their names, in node.cfg order.
    pub nodes: Vec<String>,
}

/// The nodes in tiers, in start order.
pub fn start_tiers<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<Tier> {
    let nodes: Vec<&Node> = nodes.into_iter().collect();
    let tier = |role: Role| {
        let of_role = nodes.iter().filter(|node| node.role == role);
        let names: Vec<String> = of_role.map(|node| node.name.to_string()).collect();
        let first = names.first()?;
        Some(Tier { label: label(role, first, names.len()), nodes: names })
    };
    START_ORDER.into_iter().filter_map(tier).collect()
}

/// The nodes in tiers, in stop order.
pub fn stop_tiers<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<Tier> {
    let mut tiers = start_tiers(nodes);
    tiers.reverse();
    tiers
}

fn label(role: Role, first: &str, count: usize) -> String {
    match (role, count) {
        (Role::Standalone, _) => first.to_owned(),
        (Role::Proxy, 2..) => "proxies".to_owned(),
        (Role::Logger | Role::Worker, 2..) => format!("{role}s"),
        _ => role.to_string(),
    }
}

/// Why a deploy starts a node, after stopping it if it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It does not run.
    NotRunning,
    /// It runs by another program, configuration, CPU or environment.
    Changed,
    /// Its certificate is newer than its process.
    NewCertificate,
}

impl Reason {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRunning => "not running",
            Self::Changed => "changed",
            Self::NewCertificate => "new certificate",
        }
    }
}

/// Why a deploy has to touch a node; none when it runs as it should.
pub fn reason(
    node: &str,
    fingerprint: Option<&String>,
    status: Option<&NodeStatus>,
    survey: &Survey,
) -> Option<Reason> {
    let Some(status) = status.filter(|status| status.pid != 0) else {
        return Some(Reason::NotRunning);
    };
    if !status.desired || !matches!(status.state.as_str(), "running" | "initializing") {
        return Some(Reason::NotRunning);
    }
    let started_by = survey.releases.get(&status.release).and_then(|m| m.fingerprints.get(node));
    if fingerprint.is_none() || started_by != fingerprint {
        return Some(Reason::Changed);
    }
    let started = UNIX_EPOCH + Duration::from_nanos(status.started_ns);
    let cert_since = survey.certs.get(node).map_or(SystemTime::UNIX_EPOCH, |cert| cert.since);
    (cert_since > started).then_some(Reason::NewCertificate)
}

/// Nodes that run on a host but are no more in node.cfg there.
pub fn strays<'a>(
    running: &'a [NodeStatus],
    configured: &BTreeMap<String, String>,
) -> Vec<&'a str> {
    let stray = |status: &&NodeStatus| {
        (status.pid != 0 || status.desired) && !configured.contains_key(&status.node)
    };
    running.iter().filter(stray).map(|status| status.node.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};

    use super::*;
    use crate::deploy::bundle::Manifest;
    use crate::deploy::survey::HostCert;

    fn cluster(text: &str) -> Cluster {
        let nodes = ConfigFile { name: "node.cfg", text };
        Cluster::load(ConfigFiles { nodes, networks: None, settings: None }).unwrap()
    }

    fn labels(tiers: &[Tier]) -> Vec<&str> {
        tiers.iter().map(|tier| tier.label.as_str()).collect()
    }

    const CLUSTER: &str = "[worker-1]\ntype=worker\nhost=h2\ninterface=eth0\n\
        [worker-2]\ntype=worker\nhost=h3\ninterface=eth0\n\
        [proxy-1]\ntype=proxy\nhost=h1\n[manager]\ntype=manager\nhost=h1\n\
        [logger-1]\ntype=logger\nhost=h1\n[logger-2]\ntype=logger\nhost=h2\n";

    #[test]
    fn tiers_start_in_zeekcontrols_order_and_stop_in_reverse() {
        let cluster = cluster(CLUSTER);
        let start = start_tiers(&cluster.nodes);
        assert_eq!(labels(&start), ["loggers", "manager", "proxy", "workers"]);
        assert_eq!(start[3].nodes, ["worker-1", "worker-2"]);
        assert_eq!(labels(&stop_tiers(&cluster.nodes)), ["workers", "proxy", "manager", "loggers"]);
    }

    #[test]
    fn a_standalone_node_is_a_tier_by_its_name() {
        let cluster = cluster("[sensor]\ntype=standalone\nhost=localhost\ninterface=eth0\n");
        assert_eq!(labels(&start_tiers(&cluster.nodes)), ["sensor"]);
    }

    fn running() -> NodeStatus {
        NodeStatus {
            node: "w".into(),
            state: "running".into(),
            pid: 7,
            started_ns: 2_000_000_000_000,
            desired: true,
            release: "old".into(),
            ..NodeStatus::default()
        }
    }

    fn survey(cert_since_s: u64) -> Survey {
        let since = UNIX_EPOCH + Duration::from_secs(cert_since_s);
        let cert = HostCert { pem: String::new(), since, has_key: true };
        let fingerprints = BTreeMap::from([("w".to_owned(), "77".to_owned())]);
        let manifest = Manifest { fingerprints, hosts: Vec::new() };
        Survey {
            releases: BTreeMap::from([("old".to_owned(), manifest)]),
            certs: BTreeMap::from([("w".to_owned(), cert)]),
            ..Survey::default()
        }
    }

    #[test]
    fn a_node_that_runs_as_it_should_is_not_touched() {
        let same = Some("77".to_owned());
        assert_eq!(reason("w", same.as_ref(), Some(&running()), &survey(1000)), None);
    }

    #[test]
    fn each_reason_to_touch_a_node() {
        let (same, other) = ("77".to_owned(), "88".to_owned());
        let why = |print: &String, status: Option<&NodeStatus>, since| {
            reason("w", Some(print), status, &survey(since))
        };
        assert_eq!(why(&same, None, 0), Some(Reason::NotRunning));
        let dead = NodeStatus { pid: 0, state: "crashed".into(), ..running() };
        assert_eq!(why(&same, Some(&dead), 0), Some(Reason::NotRunning));
        assert_eq!(why(&other, Some(&running()), 0), Some(Reason::Changed));
        let forgotten = NodeStatus { release: "pruned".into(), ..running() };
        assert_eq!(why(&same, Some(&forgotten), 0), Some(Reason::Changed));
        assert_eq!(why(&same, Some(&running()), 3000), Some(Reason::NewCertificate));
    }

    #[test]
    fn a_node_that_left_node_cfg_is_a_stray_while_it_runs() {
        let configured = BTreeMap::from([("w".to_owned(), "77".to_owned())]);
        let gone = NodeStatus { node: "old-worker".into(), ..running() };
        let idle = NodeStatus { node: "idle".into(), pid: 0, desired: false, ..running() };
        assert_eq!(strays(&[running(), gone, idle], &configured), ["old-worker"]);
    }
}
