//! `ctl status`: ZeekControl's table. The manager has just heard of every node that runs, so that
//! one question tells of all of them; supervisors are asked about the others. Takes no lock; a host
//! that does not answer costs its own rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use jiff::Timestamp;
use tokio::time::timeout;
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;
use tyto_proto::v1::{MemberState, NodeStatus};

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::deploy::bundle::configuration_half;
use crate::deploy::drift;
use crate::hosts::Hosts;
use crate::identity::refused;
use crate::remote::peers::Manager;
use crate::report::{Report, hinted};
use crate::status_table::StatusRow;

/// A node that the manager heard of this long ago at most runs: nodes report each second.
const FRESH: Duration = Duration::from_millis(2_500);
/// How long the manager may take before the supervisors are asked.
const MANAGER_PATIENCE: Duration = Duration::from_secs(2);

pub(super) const COMMAND: Command = Command {
    name: "status",
    summary: "Shows which nodes run, where, and since when",
    details: "The exit code is 0 only when all nodes shown are running. `???` stands for nodes of \
              a host that does not answer; standard error says why. Other states: stopped, \
              initializing, terminating, crashed (it died and is not started again by itself), \
              backoff (about to be started again), failed (it dies again and again), unwatched (it \
              runs, but its host's supervisor was killed; `ctl start` brings one back). Why a node \
              is down is told on standard error. A node \
              that runs is shown as the manager heard of it at most 2.5 seconds ago; with --live \
              the supervisor of each host is asked. In JSON `boot` tells what starts a host's \
              supervisor when it boots (where its supervisor was asked).",
    args: || {
        let live = Arg::new("live").long("live").action(ArgAction::SetTrue);
        vec![nodes_arg(), live.help("Ask the supervisor of each host, not the manager")]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let mut report = Report::new();
    let mut known: BTreeMap<HostName, Vec<NodeStatus>> = BTreeMap::new();
    let mut in_use = BTreeMap::new();
    let mut boots: BTreeMap<HostName, String> = BTreeMap::new();
    let (heard, last) = if args.get_flag("live") {
        (Vec::new(), None)
    } else {
        let (heard, last) = tokio::join!(heard(ctx, &nodes), drift::last_change(ctx));
        (heard?, last)
    };
    let is_heard = |node: &Node| heard.iter().any(|status| node.name == status.node.as_str());
    let silent: Vec<&Node> = nodes.iter().copied().filter(|node| !is_heard(node)).collect();
    for status in &heard {
        if let Some(node) = nodes.iter().find(|node| node.name == status.node.as_str()) {
            known.entry(node.host.clone()).or_default().push(status.clone());
        }
    }
    let hosts = Hosts::of(ctx, &silent)?;
    for (host, result) in hosts.statuses().await {
        match result {
            Ok(reply) => {
                let half = configuration_half(&reply.release).to_owned();
                in_use.insert(host.clone(), half);
                if reply.supervisor_pid != 0 {
                    boots.insert(host.clone(), reply.boot);
                }
                known.insert(host, reply.nodes);
            }
            Err(error) => {
                // Of its silent nodes nothing is known: they are not to be shown as stopped.
                known.remove(&host);
                report.remote_error(&host, &error);
            }
        }
    }
    if let Some(last) = last {
        drift::add_last(&last, &mut in_use, &mut report);
    }
    drift::warn(ctx, &in_use, &mut report);
    let is_shown =
        |status: &&NodeStatus| nodes.iter().any(|node| node.name == status.node.as_str());
    for status in known.values().flatten().filter(is_shown) {
        let lines = refused::lines(status, refused::NEWS, Timestamp::now());
        lines.into_iter().for_each(|line| report.warn(line));
    }
    let rows: Vec<StatusRow> =
        nodes.iter().map(|node| row(node, known.get(&node.host), boots.get(&node.host))).collect();
    tell_why(&rows, &mut report);
    report.status(rows);
    Ok(report)
}

/// The nodes of a cluster that told the manager within [`FRESH`] that they run, and that their
/// supervisors know. None when the manager does not answer soon.
async fn heard(ctx: &Context, nodes: &[&Node]) -> anyhow::Result<Vec<NodeStatus>> {
    let manager = ctx.cluster.head().filter(|head| head.role == Role::Manager);
    // One host is asked either way: then its supervisor, which knows best.
    let Some(manager) = manager.filter(|_| nodes.iter().any(|node| node.host != nodes[0].host))
    else {
        return Ok(Vec::new());
    };
    let hosts = Hosts::of(ctx, &[manager])?;
    let Some(host) = hosts.find(&manager.host) else { return Ok(Vec::new()) };
    let ask = async {
        let mut manager = Manager::open(Arc::clone(&host.remote), &host.layout).await.ok()?;
        manager.nodes().await.ok()
    };
    // Its host is among those asked afterwards: what is wrong with it is told there.
    let reply = timeout(MANAGER_PATIENCE, ask).await.ok().flatten().unwrap_or_default();
    Ok(reply.members.into_iter().filter_map(running).collect())
}

/// What the manager heard of a node that runs.
fn running(member: MemberState) -> Option<NodeStatus> {
    let MemberState { health, last_seen_ms_ago, .. } = member;
    let health = health?;
    let is_fresh = u128::from(last_seen_ms_ago) <= FRESH.as_millis();
    (is_fresh && health.phase == "running" && !health.unwatched).then(|| NodeStatus {
        node: health.node.clone(),
        role: health.role.clone(),
        state: health.phase.clone(),
        pid: health.pid,
        started_ns: health.started_ns,
        health: Some(health),
        ..NodeStatus::default()
    })
}

/// The row of a node; none known when its host did not answer.
fn row(node: &Node, known: Option<&Vec<NodeStatus>>, boot: Option<&String>) -> StatusRow {
    let status = known.map(|nodes| nodes.iter().find(|status| node.name == status.node.as_str()));
    let (word, pid, started_ns) = match status {
        None => ("???", None, None),
        // The supervisor does not know it, or there is none: it was not started there.
        Some(None) => ("stopped", None, None),
        Some(Some(s)) => (
            s.state.as_str(),
            Some(s.pid).filter(|&pid| pid != 0),
            Some(s.started_ns).filter(|&ns| ns != 0),
        ),
    };
    let why = status.flatten().map(why).filter(|why| !why.is_empty());
    StatusRow {
        name: node.name.to_string(),
        role: node.role,
        host: node.host.to_string(),
        status: word.to_owned(),
        pid,
        started_ns,
        why,
        boot: boot.cloned(),
    }
}

/// What went wrong with a node, and what it said last.
fn why(status: &NodeStatus) -> String {
    match status.last_stderr.last() {
        Some(said) if !status.failure.is_empty() => format!("{}: {said}", status.failure),
        _ => status.failure.clone(),
    }
}

/// Says about each node that is down against the operator's wish why that is.
fn tell_why(rows: &[StatusRow], report: &mut Report) {
    for row in rows {
        let hint = format!("ctl diag {}", row.name);
        let why = row.why.as_deref().unwrap_or("it died");
        match row.status.as_str() {
            "failed" => report.error_about(
                &row.name,
                &hinted(
                    format!("fails again and again, {why}"),
                    format!(
                        "{hint}; when that is \
                    mended: ctl start {}",
                        row.name
                    ),
                ),
            ),
            "crashed" => report.error_about(&row.name, &hinted(format!("crashed, {why}"), hint)),
            "waiting" => report.warn_about(&row.name, &anyhow::anyhow!(why.to_owned())),
            "backoff" => {
                let text = format!("is about to be started again, {why}");
                report.warn_about(&row.name, &hinted(text, hint));
            }
            _ => {}
        }
    }
}
