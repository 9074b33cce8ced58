//! In which order nodes are touched. Pure: facts in, decisions out.
//!
//! Start order is ZeekControl's: loggers, manager or standalone, proxies, workers; stop order is
//! the reverse. Nodes that run already are restarted one after the other where they stand in for
//! each other: loggers (delivery goes on by the others), proxies (each entry is on two), workers
//! of one fanout group. Groups of workers are independent and go at the same time, those of the
//! first host before all others when a change is being tried: it is the canary.

use std::collections::BTreeSet;

use serde::Serialize;
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;

/// Tiers in start order.
const START_ORDER: [Role; 5] =
    [Role::Logger, Role::Manager, Role::Standalone, Role::Proxy, Role::Worker];

/// Place of a role in the start order.
pub fn start_order(role: Role) -> usize {
    START_ORDER.iter().position(|known| *known == role).unwrap_or(START_ORDER.len())
}

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

/// A node as far as the order is concerned, of node.cfg or of an earlier release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its name.
    pub node: String,
    /// Its role.
    pub role: Role,
    /// The host it runs on.
    pub host: HostName,
    /// Interface it captures on.
    pub interface: Option<String>,
}

impl Member {
    /// A node of node.cfg.
    pub fn of(node: &Node) -> Self {
        Self {
            node: node.name.to_string(),
            role: node.role,
            host: node.host.clone(),
            interface: node.interface.clone(),
        }
    }
}

/// A node that is to be touched.
#[derive(Clone, Debug)]
pub struct Touched<'a> {
    /// The node.
    pub member: &'a Member,
    /// It has a process, which goes first.
    pub runs: bool,
    /// Its fanout group becomes another one.
    pub regroups: bool,
}

/// One after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Wave {
    /// Hosts that get their release at once: nothing that runs on them is concerned.
    Switch {
        /// The hosts.
        hosts: Vec<HostName>,
    },
    /// Nodes that do not run, all at once.
    Start {
        /// As a heading names them.
        label: String,
        /// The nodes.
        nodes: Vec<Place>,
    },
    /// Nodes that run.
    Restart {
        /// As a heading names them.
        label: String,
        /// When these fail the change is not tried on other hosts.
        canary: bool,
        /// Lanes at the same time; the nodes of a lane one after the other.
        lanes: Vec<Vec<Place>>,
    },
    /// Workers whose fanout group becomes another one: the kernel takes no member that differs, so
    /// that the workers of a group stop together before they start.
    Regroup {
        /// As a heading names them.
        label: String,
        /// The groups, one after the other.
        groups: Vec<Vec<Place>>,
    },
}

/// A node and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Name of the node.
    pub node: String,
    /// Its host.
    pub host: HostName,
}

impl Place {
    fn of(touched: &Touched<'_>) -> Self {
        Self { node: touched.member.node.clone(), host: touched.member.host.clone() }
    }
}

/// The order of a change. `switched`: hosts that get another release; `idle`: hosts on which
/// nothing runs; `has_canary`: a change is tried on one host's workers first.
pub fn waves(
    touched: &[Touched<'_>],
    switched: &[HostName],
    idle: &BTreeSet<HostName>,
    has_canary: bool,
) -> Vec<Wave> {
    let mut waves = Vec::new();
    let (at_once, later): (Vec<HostName>, Vec<HostName>) =
        switched.iter().cloned().partition(|host| idle.contains(host));
    push_switch(&mut waves, at_once);
    for role in START_ORDER {
        let of_role: Vec<&Touched<'_>> = touched.iter().filter(|t| t.member.role == role).collect();
        let (up, down): (Vec<&Touched<'_>>, Vec<&Touched<'_>>) =
            of_role.into_iter().partition(|touched| touched.runs);
        if let Some(first) = down.first() {
            let label = label(role, &first.member.node, down.len());
            waves.push(Wave::Start { label, nodes: down.iter().map(|t| Place::of(t)).collect() });
        }
        if let Some(first) = up.first() {
            let label = label(role, &first.member.node, up.len());
            waves.extend(restarts(role, label, &up, has_canary));
        }
    }
    let is_concerned = |host: &HostName| touched.iter().any(|t| t.member.host == *host);
    push_switch(&mut waves, later.into_iter().filter(|host| !is_concerned(host)).collect());
    waves
}

fn push_switch(waves: &mut Vec<Wave>, hosts: Vec<HostName>) {
    if !hosts.is_empty() {
        waves.push(Wave::Switch { hosts });
    }
}

fn restarts(role: Role, label: String, up: &[&Touched<'_>], has_canary: bool) -> Vec<Wave> {
    if role != Role::Worker {
        let lane = up.iter().map(|touched| Place::of(touched)).collect();
        return vec![Wave::Restart { label, canary: false, lanes: vec![lane] }];
    }
    let first_host = up.first().map(|touched| &touched.member.host);
    let has_canary = has_canary && up.iter().any(|t| Some(&t.member.host) != first_host);
    let (canary, others): (Vec<&Touched<'_>>, Vec<&Touched<'_>>) =
        up.iter().copied().partition(|t| has_canary && Some(&t.member.host) == first_host);
    let mut waves = Vec::new();
    if !canary.is_empty() {
        let label = format!("{} first", label_of_host(&canary));
        push_restarts(&mut waves, label, true, &canary);
    }
    if !others.is_empty() {
        push_restarts(&mut waves, label, false, &others);
    }
    waves
}

fn push_restarts(waves: &mut Vec<Wave>, label: String, canary: bool, up: &[&Touched<'_>]) {
    let regroups = |lane: &Vec<Place>| {
        up.iter().any(|touched| touched.regroups && lane.contains(&Place::of(touched)))
    };
    let (groups, lanes): (Vec<_>, Vec<_>) = lanes(up).into_iter().partition(regroups);
    if !lanes.is_empty() {
        waves.push(Wave::Restart { label: label.clone(), canary, lanes });
    }
    if !groups.is_empty() {
        waves.push(Wave::Regroup { label, groups });
    }
}

fn label_of_host(up: &[&Touched<'_>]) -> String {
    let host = up.first().map_or_else(String::new, |touched| touched.member.host.to_string());
    format!("workers of {host}")
}

/// A lane per fanout group, which is the workers of one interface of one host.
fn lanes(up: &[&Touched<'_>]) -> Vec<Vec<Place>> {
    let mut groups: Vec<(&HostName, Option<&String>, Vec<Place>)> = Vec::new();
    for touched in up {
        let (host, interface) = (&touched.member.host, touched.member.interface.as_ref());
        match groups.iter_mut().find(|group| (group.0, group.1) == (host, interface)) {
            Some(group) => group.2.push(Place::of(touched)),
            None => groups.push((host, interface, vec![Place::of(touched)])),
        }
    }
    groups.into_iter().map(|group| group.2).collect()
}

#[cfg(test)]
mod tests {
    use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};

    use super::*;

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

    const WIDE: &str = "[logger-1]\ntype=logger\nhost=h1\n[logger-2]\ntype=logger\nhost=h2\n\
        [manager]\ntype=manager\nhost=h1\n[proxy-1]\ntype=proxy\nhost=h1\n\
        [a]\ntype=worker\nhost=h2\ninterface=eth0\nlb_method=af_packet\nlb_procs=2\n\
        [b]\ntype=worker\nhost=h2\ninterface=eth1\n\
        [c]\ntype=worker\nhost=h3\ninterface=eth0\nlb_method=af_packet\nlb_procs=2\n";

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

    /// The order in one line per wave: `a b` one after the other, `a | b` at the same time.
    fn told(waves: &[Wave]) -> Vec<String> {
        let names = |places: &[Place], between: &str| {
            places.iter().map(|p| p.node.clone()).collect::<Vec<_>>().join(between)
        };
        let tell = |wave: &Wave| match wave {
            Wave::Switch { hosts } => format!("switch {}", hosts.join(" ")),
            Wave::Start { nodes, .. } => format!("start {}", names(nodes, " | ")),
            Wave::Restart { canary, lanes, .. } => {
                let lanes: Vec<String> = lanes.iter().map(|lane| names(lane, " ")).collect();
                format!("{} {}", if *canary { "canary" } else { "restart" }, lanes.join(" | "))
            }
            Wave::Regroup { groups, .. } => {
                let groups: Vec<String> = groups.iter().map(|group| names(group, "+")).collect();
                format!("regroup {}", groups.join(" "))
            }
        };
        waves.iter().map(tell).collect()
    }

    fn members(text: &str) -> Vec<Member> {
        cluster(text).ordered().into_iter().map(Member::of).collect()
    }

    #[test]
    fn what_runs_is_restarted_one_of_a_group_at_a_time_and_first_on_one_host() {
        let members = members(WIDE);
        let touched: Vec<_> =
            members.iter().map(|member| Touched { member, runs: true, regroups: false }).collect();
        let hosts = ["h1", "h2", "h3", "h4"].map(HostName::from);
        let waves = waves(&touched, &hosts, &BTreeSet::new(), true);
        assert_eq!(
            told(&waves),
            [
                "restart logger-1 logger-2",
                "restart manager",
                "restart proxy-1",
                "canary a-1 a-2 | b",
                "restart c-1 c-2",
                "switch h4",
            ]
        );
    }

    /// packet(7): all members of a fanout group have one mode.
    #[test]
    fn the_workers_of_a_group_that_becomes_another_stop_together() {
        let members = members(WIDE);
        let workers = members.iter().filter(|member| member.role == Role::Worker);
        let touched: Vec<_> = workers
            .map(|member| Touched { member, runs: true, regroups: member.node.starts_with("c-") })
            .collect();
        let waves = waves(&touched, &[], &BTreeSet::new(), false);
        assert_eq!(told(&waves), ["restart a-1 a-2 | b", "regroup c-1+c-2"]);
    }

    #[test]
    fn without_a_change_to_try_there_is_no_canary() {
        let members = members(WIDE);
        let workers = members.iter().filter(|member| member.role == Role::Worker);
        let touched: Vec<_> =
            workers.map(|member| Touched { member, runs: true, regroups: false }).collect();
        let waves = waves(&touched, &[], &BTreeSet::new(), false);
        assert_eq!(told(&waves), ["restart a-1 a-2 | b | c-1 c-2"]);
    }

    #[test]
    fn what_does_not_run_is_started_tier_by_tier_all_at_once() {
        let members = members(WIDE);
        let touched: Vec<_> =
            members.iter().map(|member| Touched { member, runs: false, regroups: false }).collect();
        let hosts = ["h1", "h2", "h3"].map(HostName::from);
        let waves = waves(&touched, &hosts, &hosts.clone().into(), true);
        assert_eq!(
            told(&waves),
            [
                "switch h1 h2 h3",
                "start logger-1 | logger-2",
                "start manager",
                "start proxy-1",
                "start a-1 | a-2 | b | c-1 | c-2",
            ]
        );
    }

    #[test]
    fn a_change_of_one_hosts_workers_needs_no_canary() {
        let members = members(WIDE);
        let of_h3 = members.iter().filter(|member| member.host == "h3");
        let touched: Vec<_> =
            of_h3.map(|member| Touched { member, runs: true, regroups: false }).collect();
        let waves = waves(&touched, &["h3".into()], &BTreeSet::new(), true);
        assert_eq!(told(&waves), ["restart c-1 c-2"]);
    }
}
