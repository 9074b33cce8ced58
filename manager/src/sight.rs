//! One look at some nodes: what their supervisors say of them at one moment. A host that does
//! not answer costs its own nodes only. Takes no lock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_proto::v1::{NodeHealth, NodeStatus};

use crate::hosts::Hosts;
use crate::report::Report;

/// A node as it was seen.
#[derive(Clone, Debug)]
pub struct Sight<'a> {
    /// The node.
    pub node: &'a Node,
    /// What is known of it.
    pub seen: Seen,
    /// When its host answered.
    pub at: Instant,
}

/// What is known of a node.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Its host did not answer.
    Nothing,
    /// Its host has no such node.
    Absent,
    /// What the supervisor says.
    Status(Box<NodeStatus>),
}

impl Sight<'_> {
    /// What the supervisor says of it, while it has a process.
    pub fn running(&self) -> Option<&NodeStatus> {
        match &self.seen {
            Seen::Status(status) if status.pid != 0 => Some(status),
            _ => None,
        }
    }

    /// Its last report, while it has a process, and when that was made.
    pub fn report(&self) -> Option<(&NodeHealth, Instant)> {
        let status = self.running()?;
        let age = Duration::from_millis(status.health_age_ms);
        let health = status.health.as_ref().filter(|health| health.pid == status.pid)?;
        Some((health, self.at.checked_sub(age).unwrap_or(self.at)))
    }

    /// Why there is nothing to show of a node that is not [`Sight::running`]: a word for tables.
    pub fn why_not(&self) -> &str {
        match &self.seen {
            Seen::Nothing => "host does not answer",
            Seen::Absent => "not running",
            Seen::Status(status) if status.state == "stopped" => "not running",
            Seen::Status(status) => &status.state,
        }
    }
}

/// A counter of a report; none when it has none of that name.
pub fn counter(health: &NodeHealth, name: &str) -> Option<u64> {
    health.counters.iter().find(|counter| counter.name == name).map(|counter| counter.value)
}

/// Looks at `nodes`, which live on `hosts`; hosts that do not answer are told in `report`.
pub async fn look<'a>(hosts: &Hosts, nodes: &[&'a Node], report: &mut Report) -> Vec<Sight<'a>> {
    let answers =
        hosts.each(|host| async move { Ok((host.status().await?, Instant::now())) }).await;
    let mut known: BTreeMap<HostName, (Vec<NodeStatus>, Instant)> = BTreeMap::new();
    for (host, answer) in answers {
        match answer {
            Ok((reply, at)) => drop(known.insert(host, (reply.nodes, at))),
            Err(error) => report.remote_error(&host, &error),
        }
    }
    let sight = |&node: &&'a Node| {
        let Some((statuses, at)) = known.get(&node.host) else {
            return Sight { node, seen: Seen::Nothing, at: Instant::now() };
        };
        let status = statuses.iter().find(|status| node.name == status.node.as_str());
        let seen = status.map_or(Seen::Absent, |status| Seen::Status(Box::new(status.clone())));
        Sight { node, seen, at: *at }
    };
    nodes.iter().map(sight).collect()
}
