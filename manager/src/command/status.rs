//! `ctl status`: ZeekControl's table. The manager has just heard of every node that runs, so that
//! one question tells of all of them; supervisors are asked about the others. Takes no lock; a host
//! that does not answer costs its own rows.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches};
use jiff::Timestamp;
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_proto::v1::NodeStatus;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::deploy::bundle::configuration_half;
use crate::deploy::drift;
use crate::identity::refused;
use crate::report::{Report, hinted};
use crate::sight::{Seen, Sight};
use crate::status_table::StatusRow;
use crate::survey::{self, Ask};

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
              supervisor when it boots (where its supervisor was asked). Alarms that stand (rows \
              unaccounted for, dropped or late) are told on standard error; they leave the exit \
              code as it is.",
    args: || {
        let live = Arg::new("live").long("live").action(ArgAction::SetTrue);
        vec![nodes_arg(), live.help("Ask the supervisor of each host, not the manager")]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let mut report = Report::new();
    // One host is asked either way: then its supervisor, which knows best.
    let one_host = nodes.iter().all(|node| node.host == nodes[0].host);
    let (ask, last) = match (args.get_flag("live"), one_host) {
        (true, _) => (Ask::SupervisorsOnly, None),
        (false, true) => (Ask::Supervisors, drift::last_change(ctx).await),
        (false, false) => (Ask::ManagerFirst, drift::last_change(ctx).await),
    };
    let survey = survey::look(ctx, &nodes, ask, &mut report).await?;
    let mut in_use: BTreeMap<HostName, String> = survey
        .replies
        .iter()
        .map(|(host, reply)| (host.clone(), configuration_half(&reply.release).to_owned()))
        .collect();
    if let Some(last) = last {
        drift::add_last(&last, &mut in_use, &mut report);
    }
    drift::warn(ctx, &in_use, &mut report);
    for sight in &survey.sights {
        if let Seen::Status(status) = &sight.seen {
            let lines = refused::lines(status, refused::NEWS, Timestamp::now());
            lines.into_iter().for_each(|line| report.warn(line));
        }
    }
    survey.warn_alarms(&mut report);
    for (host, reply) in survey.replies.iter().filter(|(_, r)| r.metrics.starts_with("not at")) {
        let hint = "another address: `metrics_listen` in tyto.yaml, then `ctl deploy`";
        report.warn_hint(format!("{host}: metrics are not told: {}", reply.metrics), hint);
    }
    let boot = |node: &Node| survey.replies.get(&node.host).filter(|r| r.supervisor_pid != 0);
    let rows = survey.sights.iter().map(|sight| row(sight, boot(sight.node).map(|r| &r.boot)));
    let rows: Vec<StatusRow> = rows.collect();
    tell_why(&rows, &mut report);
    report.status(rows);
    Ok(report)
}

/// The row of a node.
fn row(sight: &Sight<'_>, boot: Option<&String>) -> StatusRow {
    let node = sight.node;
    let status = match &sight.seen {
        Seen::Status(status) => Some(status.as_ref()),
        Seen::Nothing | Seen::Absent => None,
    };
    let (word, pid, started_ns) = match &sight.seen {
        Seen::Nothing => ("???", None, None),
        // The supervisor does not know it, or there is none: it was not started there.
        Seen::Absent => ("stopped", None, None),
        Seen::Status(s) => (
            s.state.as_str(),
            Some(s.pid).filter(|&pid| pid != 0),
            Some(s.started_ns).filter(|&ns| ns != 0),
        ),
    };
    let why = status.map(why).filter(|why| !why.is_empty());
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
