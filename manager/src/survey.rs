//! One way of asking how a cluster is: the manager, which has just heard of every node that runs,
//! then the supervisors of those that it has not heard of. A host that does not answer costs its
//! own nodes only. Takes no lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;
use tyto_daemon::ledger::Known;
use tyto_proto::v1::{Alarm, MemberState, NodeHealth, NodeStatus, NodesReply, StatusReply};

use crate::context::Context;
use crate::hosts::Hosts;
use crate::remote::error::RemoteError;
use crate::remote::peers::Manager;
use crate::report::Report;
use crate::sight::{Seen, Sight};

/// A node that the manager heard of this long ago at most runs: nodes report each second.
const FRESH: Duration = Duration::from_millis(2_500);
/// How long the manager may take before the supervisors are asked.
const MANAGER_PATIENCE: Duration = Duration::from_secs(4);
/// Alarms that are over are told of this time.
const OVER_TOLD: Duration = Duration::from_secs(3600);

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The manager, then supervisors of nodes that it has not just heard of.
    ManagerFirst,
    /// All supervisors; the manager for the alarms, and for nodes that no supervisor knows.
    Supervisors,
    /// Supervisors only.
    SupervisorsOnly,
}

/// A cluster as it was seen.
#[derive(Debug, Default)]
pub struct Survey<'a> {
    /// The nodes that were asked about, in their order.
    pub sights: Vec<Sight<'a>>,
    /// Last reports of nodes that have none in their sight, or are not in node.cfg any more.
    pub others: Vec<NodeHealth>,
    /// What supervisors that were asked said, by host.
    pub replies: BTreeMap<HostName, StatusReply>,
    /// Those that stand, and those that are over.
    pub alarms: Vec<Alarm>,
    /// What kept the manager from answering; none when it did, or is not there at all.
    pub manager_error: Option<RemoteError>,
    /// The manager answered.
    pub has_manager: bool,
}

impl Survey<'_> {
    /// The last report of every node that anybody has one of, each node once.
    pub fn known(&self) -> Vec<Known<'_>> {
        let mut known: BTreeMap<&str, Known<'_>> = BTreeMap::new();
        let of_sights = self.sights.iter().filter_map(|sight| match &sight.seen {
            Seen::Status(status) => {
                let live = status.health.as_ref().filter(|health| health.pid == status.pid);
                let is_live = live.is_some() && status.pid != 0 && is_fresh(status.health_age_ms);
                let health = live.or(status.last_report.as_ref()).or(status.health.as_ref())?;
                Some(Known { health, is_live })
            }
            Seen::Nothing | Seen::Absent => None,
        });
        let others = self.others.iter().map(|health| Known { health, is_live: false });
        for one in of_sights.chain(others) {
            let before = known.get(one.health.node.as_str());
            if before.is_none_or(|before| before.health.reported_ns < one.health.reported_ns) {
                known.insert(&one.health.node, one);
            }
        }
        known.into_values().collect()
    }

    /// Alarms that stand.
    pub fn standing(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.iter().filter(|alarm| alarm.cleared_ns == 0)
    }

    /// Tells the alarms that stand, and those that were over a short while ago.
    pub fn warn_alarms(&self, report: &mut Report) {
        for alarm in self.standing() {
            let since = told_time(alarm.raised_ns);
            let text = format!("alarm ({}) since {since}: {}", alarm.kind, alarm.text);
            report.warn_hint(text, hint_of(&alarm.kind));
        }
    }
}

/// What can be typed about an alarm.
fn hint_of(kind: &str) -> &'static str {
    match kind {
        "ledger" => "`ctl ledger --nodes`; docs/operate.md, \"Alarms\"",
        "dropped" => "`ctl loss` tells where and what helps",
        _ => "`ctl ledger` and `ctl loss`; docs/operate.md, \"Alarms\"",
    }
}

/// A time of now for people, local.
pub fn told_time(ns: u64) -> String {
    Timestamp::from_nanosecond(ns.into()).map_or_else(
        |_| "-".to_owned(),
        |at| {
            let at = at.to_zoned(jiff::tz::TimeZone::system());
            at.strftime("%Y-%m-%d %H:%M:%S").to_string()
        },
    )
}

/// Alarms worth telling: those that stand, and those that were over a short while ago.
pub fn told_alarms(alarms: &[Alarm]) -> impl Iterator<Item = &Alarm> {
    let now_ns = Timestamp::now().as_nanosecond();
    let told_ns = i128::try_from(OVER_TOLD.as_nanos()).unwrap_or_default();
    alarms.iter().filter(move |alarm| {
        alarm.cleared_ns == 0 || i128::from(alarm.cleared_ns) + told_ns >= now_ns
    })
}

/// Looks at `nodes`. Hosts that do not answer are told in `report`.
///
/// # Errors
/// When SSH cannot be prepared on this machine.
pub async fn look<'a>(
    ctx: &Context,
    nodes: &[&'a Node],
    ask: Ask,
    report: &mut Report,
) -> Result<Survey<'a>, RemoteError> {
    let mut survey = Survey::default();
    let members = match ask {
        Ask::SupervisorsOnly => None,
        Ask::ManagerFirst | Ask::Supervisors => manager(ctx).await?,
    };
    let members = match members {
        Some(Ok(reply)) => {
            survey.has_manager = true;
            survey.alarms = reply.alarms;
            reply.members
        }
        Some(Err(error)) => {
            survey.manager_error = Some(error);
            Vec::new()
        }
        None => Vec::new(),
    };
    let at = Instant::now();
    let heard: BTreeMap<String, NodeStatus> = match ask {
        Ask::ManagerFirst => {
            let running = members.iter().filter_map(running);
            running.map(|status| (status.node.clone(), status)).collect()
        }
        Ask::Supervisors | Ask::SupervisorsOnly => BTreeMap::new(),
    };
    survey.others = members.into_iter().filter_map(|member| member.health).collect();
    let silent: Vec<&Node> =
        nodes.iter().copied().filter(|node| !heard.contains_key(node.name.as_str())).collect();
    let answers = Hosts::of(ctx, &silent)?;
    let mut failed = Vec::new();
    for (host, answer) in answers.statuses().await {
        match answer {
            Ok(reply) => drop(survey.replies.insert(host, reply)),
            Err(error) => {
                report.remote_error(&host, &error);
                failed.push(host);
            }
        }
    }
    for reply in survey.replies.values_mut() {
        survey.others.append(&mut reply.departed);
        survey.alarms.append(&mut reply.alarms);
    }
    let asked_at = Instant::now();
    let sight = |&node: &&'a Node| {
        // Of a host that does not answer nothing is known but what the manager has just heard, and
        // a supervisor that answers knows best.
        if let Some(reply) = survey.replies.get(&node.host) {
            let status = reply.nodes.iter().find(|status| node.name == status.node.as_str());
            let seen = status.map_or(Seen::Absent, |status| Seen::Status(Box::new(status.clone())));
            return Sight { node, seen, at: asked_at };
        }
        let seen = match heard.get(node.name.as_str()).filter(|_| !failed.contains(&node.host)) {
            Some(status) => Seen::Status(Box::new(status.clone())),
            None => Seen::Nothing,
        };
        Sight { node, seen, at }
    };
    survey.sights = nodes.iter().map(sight).collect();
    Ok(survey)
}

/// What the manager says; none when the cluster has none.
async fn manager(ctx: &Context) -> Result<Option<Result<NodesReply, RemoteError>>, RemoteError> {
    let Some(node) = ctx.cluster.head().filter(|head| head.role == Role::Manager) else {
        return Ok(None);
    };
    let hosts = Hosts::of(ctx, &[node])?;
    let Some(host) = hosts.find(&node.host) else { return Ok(None) };
    let ask = async { Manager::open(Arc::clone(&host.remote), &host.layout).await?.nodes().await };
    let too_late = || RemoteError::Failed {
        host: host.name.to_string(),
        what: "ask the manager",
        said: format!("no answer within {} s", MANAGER_PATIENCE.as_secs()),
    };
    Ok(Some(timeout(MANAGER_PATIENCE, ask).await.unwrap_or_else(|_| Err(too_late()))))
}

/// What the manager heard of a node that runs.
fn running(member: &MemberState) -> Option<NodeStatus> {
    let health = member.health.as_ref()?;
    let is_running = health.phase == "running" && !health.unwatched;
    (is_running && is_fresh(member.last_seen_ms_ago)).then(|| NodeStatus {
        node: health.node.clone(),
        role: health.role.clone(),
        state: health.phase.clone(),
        pid: health.pid,
        started_ns: health.started_ns,
        health: Some(health.clone()),
        health_age_ms: member.last_seen_ms_ago,
        ..NodeStatus::default()
    })
}

fn is_fresh(age_ms: u64) -> bool {
    u128::from(age_ms) <= FRESH.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(node: &str, pid: u32, reported_ns: u64) -> NodeHealth {
        NodeHealth { node: node.to_owned(), pid, reported_ns, ..NodeHealth::default() }
    }

    #[test]
    fn the_latest_report_of_a_node_counts_whoever_has_it() {
        let old = report("worker-1", 1, 10);
        let survey = Survey {
            others: vec![old.clone(), report("worker-1", 1, 30), report("gone", 9, 5), old],
            ..Survey::default()
        };
        let known: Vec<_> = survey
            .known()
            .iter()
            .map(|known| (known.health.node.clone(), known.health.reported_ns, known.is_live))
            .collect();
        assert_eq!(known, [("gone".to_owned(), 5, false), ("worker-1".to_owned(), 30, false)]);
    }

    #[test]
    fn the_manager_tells_of_nodes_that_it_has_just_heard_of_only() {
        let member = |phase: &str, last_seen_ms_ago| MemberState {
            health: Some(NodeHealth { phase: phase.to_owned(), ..report("worker-1", 7, 1) }),
            last_seen_ms_ago,
            up: true,
        };
        assert_eq!(running(&member("running", 2_500)).map(|status| status.pid), Some(7));
        assert!(running(&member("running", 2_501)).is_none());
        assert!(running(&member("terminating", 0)).is_none());
    }

    #[test]
    fn alarms_that_are_long_over_are_not_told() {
        let hour_ago = Timestamp::now().as_nanosecond() - 3_700 * 1_000_000_000;
        let alarm = |cleared_ns| Alarm { cleared_ns, ..Alarm::default() };
        let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap();
        let alarms = [alarm(0), alarm(now), alarm(u64::try_from(hour_ago).unwrap())];
        assert_eq!(told_alarms(&alarms).count(), 2);
    }
}
