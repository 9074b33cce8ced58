//! What a change of the cluster would do: files to copy, keys that change, nodes to touch and
//! why, in which order. Pure: facts in, decisions out. `--plan` shows it, and what then is done
//! is done by it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tyto_core::config::name::HostName;
use tyto_proto::v1::{NodeStatus, StatusReply};

use super::bundle::{Manifest, node_file, program_file};
use super::changes::Change;
use super::order::{Member, Touched, Wave, waves};
use super::survey::Survey;

/// States of a node that needs no start.
const UP_STATES: [&str; 2] = ["running", "initializing"];

/// Why a node is started, after stopping it if it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It does not run.
    NotRunning,
    /// Its program is another.
    Program,
    /// Its configuration is another.
    Configuration,
    /// Its CPUs, environment or limits are others.
    Surroundings,
    /// The release it runs from is no longer there: what differs cannot be told.
    Forgotten,
    /// The operator said so.
    Asked,
}

impl Reason {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRunning => "not running",
            Self::Program => "other program",
            Self::Configuration => "other configuration",
            Self::Surroundings => "other CPUs, environment or limits",
            Self::Forgotten => "runs from a release that is no longer there",
            Self::Asked => "asked for",
        }
    }
}

/// What a host shall run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Id of the release.
    pub id: String,
    /// Its manifest.
    pub manifest: Manifest,
}

/// Why a node has to be touched; nothing when it runs as it should.
pub fn reasons(
    member: &Member,
    target: &Target,
    status: Option<&NodeStatus>,
    survey: &Survey,
) -> Vec<Reason> {
    let node = member.node.as_str();
    let Some(status) = status.filter(|s| s.pid != 0 && s.desired) else {
        return vec![Reason::NotRunning];
    };
    if !UP_STATES.contains(&status.state.as_str()) {
        return vec![Reason::NotRunning];
    }
    let Some(before) = survey.releases.get(&status.release) else { return vec![Reason::Forgotten] };
    let print = |manifest: &Manifest| manifest.fingerprints.get(node).cloned();
    if print(before).is_none() || print(before) != print(&target.manifest) {
        return differences(member, before, &target.manifest);
    }
    // Certificates are no reason: nodes look for new ones themselves.
    Vec::new()
}

/// What of a node differs between two releases that are not the same to it.
fn differences(member: &Member, before: &Manifest, after: &Manifest) -> Vec<Reason> {
    let differs = |path: String| before.files.get(&path) != after.files.get(&path);
    let mut reasons = Vec::new();
    if differs(program_file(member.role)) {
        reasons.push(Reason::Program);
    }
    if differs(node_file(&member.node)) {
        reasons.push(Reason::Configuration);
    }
    if reasons.is_empty() {
        reasons.push(Reason::Surroundings);
    }
    reasons
}

/// Nodes that run on a host but are not of its release.
pub fn strays<'a>(
    running: &'a [NodeStatus],
    configured: &BTreeMap<String, String>,
) -> Vec<&'a str> {
    let stray = |status: &&NodeStatus| {
        (status.pid != 0 || status.desired) && !configured.contains_key(&status.node)
    };
    running.iter().filter(stray).map(|status| status.node.as_str()).collect()
}

/// All that a change would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// Hosts that get another release, in node.cfg order.
    pub hosts: Vec<HostChange>,
    /// Keys that change.
    pub changes: Vec<Change>,
    /// Certificates that are due, by host and node.
    pub certificates: Vec<Due>,
    /// Hosts that are to trust other CAs than they do.
    pub trust: Vec<HostName>,
    /// Nodes that are stopped for good.
    pub stops: Vec<Stopping>,
    /// Nodes that are started or restarted, in order.
    pub nodes: Vec<NodeChange>,
    /// How they follow each other.
    pub waves: Vec<Wave>,
    /// Nodes of hosts that answer which are left as they are.
    pub untouched: Vec<String>,
}

/// A host that gets another release.
#[derive(Clone, Debug, Serialize)]
pub struct HostChange {
    /// The host.
    pub host: HostName,
    /// Release in use; none on a host that has none.
    pub from: Option<String>,
    /// Release to be in use.
    pub to: String,
    /// Files that it lacks.
    pub files: Vec<FileToCopy>,
}

/// A file that a host lacks.
#[derive(Clone, Debug, Serialize)]
pub struct FileToCopy {
    /// Path inside the release.
    pub path: String,
    /// Size, bytes.
    pub bytes: u64,
}

/// A certificate to be issued.
#[derive(Clone, Debug, Serialize)]
pub struct Due {
    /// Host of the node.
    pub host: HostName,
    /// The node.
    pub node: String,
    /// Why.
    pub reason: &'static str,
}

/// What is stopped for good.
#[derive(Clone, Debug, Serialize)]
pub struct Stopping {
    /// The host.
    pub host: HostName,
    /// The node; none for all of a host that left the cluster.
    pub node: Option<String>,
}

/// A node that is touched.
#[derive(Clone, Debug, Serialize)]
pub struct NodeChange {
    /// The node.
    #[serde(flatten)]
    pub member: Member,
    /// It has a process, which goes first: a restart.
    pub runs: bool,
    /// Why.
    pub reasons: Vec<Reason>,
    /// The same in words, with the keys that differ.
    pub reason: String,
}

impl Plan {
    /// True when nothing would be done.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
            && self.stops.is_empty()
            && self.nodes.is_empty()
            && self.certificates.is_empty()
            && self.trust.is_empty()
    }

    /// Adds the nodes to touch and puts all in order. `idle`: hosts on which nothing runs.
    pub fn set_nodes(
        &mut self,
        nodes: Vec<(Member, Vec<Reason>, bool)>,
        idle: &BTreeSet<HostName>,
        has_canary: bool,
    ) {
        let change = |(member, reasons, runs): (Member, Vec<Reason>, bool)| {
            let reason = in_words(&member.node, &reasons, &self.changes);
            NodeChange { member, runs, reasons, reason }
        };
        self.nodes = nodes.into_iter().map(change).collect();
        let touched: Vec<Touched<'_>> = self
            .nodes
            .iter()
            .map(|node| Touched {
                member: &node.member,
                runs: node.runs,
                regroups: self
                    .changes
                    .iter()
                    .any(|change| change.regroups && change.nodes.contains(&node.member.node)),
            })
            .collect();
        let switched: Vec<HostName> = self.hosts.iter().map(|host| host.host.clone()).collect();
        self.waves = waves(&touched, &switched, idle, has_canary);
    }
}

/// `other configuration: log_format, snaplen`.
fn in_words(node: &str, reasons: &[Reason], changes: &[Change]) -> String {
    let mut words: Vec<String> = reasons.iter().map(|reason| reason.as_str().to_owned()).collect();
    let of_files = [Reason::Configuration, Reason::Surroundings];
    if reasons.iter().any(|reason| of_files.contains(reason)) {
        let keys: Vec<&str> = changes
            .iter()
            .filter(|change| change.nodes.iter().any(|name| name == node))
            .map(|change| change.key.as_str())
            .collect();
        if let (Some(last), false) = (words.last_mut(), keys.is_empty()) {
            *last = format!("{last}: {}", keys.join(", "));
        }
    }
    words.join("; ")
}

/// What the supervisor of its host says of a node.
pub fn status_of<'a>(
    statuses: &'a BTreeMap<HostName, StatusReply>,
    host: &HostName,
    node: &str,
) -> Option<&'a NodeStatus> {
    statuses.get(host)?.nodes.iter().find(|status| status.node == node)
}

#[cfg(test)]
mod tests {
    use tyto_core::config::runtime::Role;

    use super::*;

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

    fn member() -> Member {
        Member { node: "w".into(), role: Role::Worker, host: "h".into(), interface: None }
    }

    fn manifest(print: &str, program: &str, config: &str) -> Manifest {
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Manifest {
            files: [entry("bin/worker", program), entry("etc/nodes/w.yaml", config)].into(),
            fingerprints: [entry("w", print)].into(),
            hosts: Vec::new(),
        }
    }

    fn why(target: Manifest, status: Option<&NodeStatus>) -> Vec<Reason> {
        let releases = BTreeMap::from([("old".to_owned(), manifest("77", "p", "c"))]);
        let survey = Survey { releases, ..Survey::default() };
        let target = Target { id: "new".into(), manifest: target };
        reasons(&member(), &target, status, &survey)
    }

    #[test]
    fn a_node_that_runs_as_it_should_is_not_touched() {
        assert_eq!(why(manifest("77", "p", "c"), Some(&running())), []);
    }

    #[test]
    fn each_reason_to_touch_a_node() {
        let same = || manifest("77", "p", "c");
        assert_eq!(why(same(), None), [Reason::NotRunning]);
        let dead = NodeStatus { pid: 0, state: "crashed".into(), ..running() };
        assert_eq!(why(same(), Some(&dead)), [Reason::NotRunning]);
        let program = manifest("88", "q", "c");
        assert_eq!(why(program, Some(&running())), [Reason::Program]);
        let config = manifest("88", "p", "d");
        assert_eq!(why(config, Some(&running())), [Reason::Configuration]);
        let both = manifest("88", "q", "d");
        assert_eq!(why(both, Some(&running())), [Reason::Program, Reason::Configuration]);
        let neither = manifest("88", "p", "c");
        assert_eq!(why(neither, Some(&running())), [Reason::Surroundings]);
        let forgotten = NodeStatus { release: "pruned".into(), ..running() };
        assert_eq!(why(same(), Some(&forgotten)), [Reason::Forgotten]);
    }

    #[test]
    fn a_node_that_left_node_cfg_is_a_stray_while_it_runs() {
        let configured = BTreeMap::from([("w".to_owned(), "77".to_owned())]);
        let gone = NodeStatus { node: "old-worker".into(), ..running() };
        let idle = NodeStatus { node: "idle".into(), pid: 0, desired: false, ..running() };
        assert_eq!(strays(&[running(), gone, idle], &configured), ["old-worker"]);
    }

    #[test]
    fn the_reason_names_the_keys_of_that_node_only() {
        let change = |key: &str, node: &str| Change {
            key: key.to_owned(),
            nodes: vec![node.to_owned()],
            ..Change::default()
        };
        let changes = [change("snaplen", "w"), change("log_format", "logger")];
        let words = in_words("w", &[Reason::Configuration], &changes);
        assert_eq!(words, "other configuration: snaplen");
        assert_eq!(in_words("w", &[Reason::Program], &changes), "other program");
    }
}
