//! `ctl restart`: stop and start of the named nodes, and of no others. Nodes that stand in for
//! each other are restarted one after the other, so that the cluster goes on with its work.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Arg, ArgAction, ArgMatches};
use serde_json::json;
use tyto_core::config::node::Node;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::deploy::apply::{self, tell};
use crate::deploy::order::Member;
use crate::deploy::plan::{Plan, Reason, status_of};
use crate::deploy::rollout::Rollout;
use crate::hosts::Hosts;
use crate::lock::{self, Lock};
use crate::report::Report;
use crate::tiers;

pub(super) const COMMAND: Command = Command {
    name: "restart",
    summary: "Stops nodes and starts them again, one of a group at a time",
    details: "One worker of an interface at a time, loggers and proxies one at a time; different \
              interfaces and hosts at the same time. When a node is not healthy afterwards, \
              nothing further is touched. With --at-once all named nodes are stopped before the \
              first is started, as ZeekControl does it. Other nodes are not touched.",
    args: || {
        let mut args = vec![
            nodes_arg(),
            Arg::new("at-once")
                .long("at-once")
                .action(ArgAction::SetTrue)
                .help("Stop all before the first is started"),
        ];
        args.extend(apply::care_args());
        args
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    lock::with_lock(ctx, args, async |lock| match args.get_flag("at-once") {
        true => at_once(ctx, args, &nodes).await,
        false => rolling(ctx, args, &nodes, lock).await,
    })
    .await
}

async fn at_once(ctx: &Context, args: &ArgMatches, nodes: &[&Node]) -> anyhow::Result<Report> {
    let hosts = Hosts::of(ctx, nodes)?;
    let mut report = Report::new();
    let patience = apply::care(ctx, args).patience;
    ctx.progress.heading("stopping ...");
    // What may still run is not started: see what keeps it first.
    if tiers::stop(&hosts, nodes, patience, true, &ctx.progress, &mut report).await {
        ctx.progress.heading("starting ...");
        tiers::start(&hosts, nodes, &ctx.progress, &mut report).await;
    }
    Ok(report)
}

async fn rolling(
    ctx: &Context,
    args: &ArgMatches,
    nodes: &[&Node],
    lock: &Lock,
) -> anyhow::Result<Report> {
    let mut hosts = Hosts::of(ctx, nodes)?;
    let mut report = Report::new();
    let mut statuses = BTreeMap::new();
    for (host, result) in hosts.statuses().await {
        match result {
            Ok(status) => drop(statuses.insert(host, status)),
            Err(error) => report.remote_error(&host, &error),
        }
    }
    hosts.retain(|host| statuses.contains_key(&host.name));
    let touched = nodes.iter().filter(|node| hosts.find(&node.host).is_some()).map(|node| {
        let status = status_of(&statuses, &node.host, &node.name);
        let runs = status.is_some_and(|status| status.pid != 0);
        (Member::of(node), vec![Reason::Asked], runs)
    });
    let mut plan = Plan::default();
    plan.set_nodes(touched.collect(), &BTreeSet::new(), false);
    let members = plan.nodes.iter().map(|node| node.member.clone());
    let care = apply::care(ctx, args);
    let none = BTreeMap::new();
    let rollout = Rollout::new(&hosts, members, none, care, lock.watch(), &ctx.progress);
    let outcome = rollout.run(&plan.waves).await;
    tell(&plan, &outcome, &mut report);
    report.json(&json!({ "nodes": plan.nodes, "done": outcome.done }));
    Ok(report)
}
