//! `ctl status`: ZeekControl's table. Takes no lock; a host that does not answer costs its own
//! rows.

use std::collections::BTreeMap;

use clap::ArgMatches;
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_proto::v1::NodeStatus;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::hosts::Hosts;
use crate::report::Report;
use crate::status_table::StatusRow;

pub(super) const COMMAND: Command = Command {
    name: "status",
    summary: "Shows which nodes run, where, and since when",
    details: "The exit code is 0 only when all nodes shown are running. `???` stands for nodes of \
              a host that does not answer; standard error says why. Other states: stopped, \
              initializing, terminating, crashed (it died and is not started again by itself), \
              backoff (about to be started again), failed (it dies again and again), unwatched (it \
              runs, but its host's supervisor was killed; `ctl start` brings one back).",
    args: || vec![nodes_arg()],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let hosts = Hosts::of(ctx, &nodes)?;
    let mut report = Report::new();
    let mut known: BTreeMap<HostName, Vec<NodeStatus>> = BTreeMap::new();
    for (host, result) in hosts.statuses().await {
        match result {
            Ok(reply) => drop(known.insert(host, reply.nodes)),
            Err(error) => report.remote_error(&host, &error),
        }
    }
    report.status(nodes.iter().map(|node| row(node, known.get(&node.host))).collect());
    Ok(report)
}

/// The row of a node; none known when its host did not answer.
fn row(node: &Node, known: Option<&Vec<NodeStatus>>) -> StatusRow {
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
    StatusRow {
        name: node.name.to_string(),
        role: node.role,
        host: node.host.to_string(),
        status: word.to_owned(),
        pid,
        started_ns,
    }
}
