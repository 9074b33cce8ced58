//! `ctl nodes`: every node with all its keys, as ZeekControl lists them.

use std::collections::BTreeMap;

use clap::ArgMatches;
use tyto_core::config::cluster::Cluster;
use tyto_core::config::node::Node;
use tyto_core::config::node_keys::NODE_KEYS;

use super::{Command, Run, no_args};
use crate::context::Context;
use crate::remote::pool;
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "nodes",
    summary: "Lists all nodes with their keys",
    details: "One line per node: its name, then each key of node.cfg with its value after \
              lb_procs is expanded. addr is empty when the host has no address here.",
    args: no_args,
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, _args: &ArgMatches) -> anyhow::Result<Report> {
    let mut report = Report::new();
    let mut all = Vec::new();
    for node in ctx.cluster.ordered() {
        let keys = keys(&ctx.cluster, node);
        let words: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
        report.line(format!("{:>16} - {}", node.name, words.join(" ")));
        all.push(keys);
    }
    report.json(&all);
    Ok(report)
}

/// ZeekControl's attributes of a node: the keys, its name, number and address.
fn keys(cluster: &Cluster, node: &Node) -> BTreeMap<&'static str, String> {
    let mut keys: BTreeMap<&str, String> = NODE_KEYS
        .iter()
        // ZeekControl's keys are all there, ours where they are given.
        .filter(|key| !key.is_ours || node.given.contains_key(key.name))
        .map(|key| {
            (
                key.name,
                node.given.get(key.name).map(|given| given.value.clone()).unwrap_or_default(),
            )
        })
        .collect();
    let addr = pool::resolve(&node.host).map(|addr| addr.to_string());
    keys.insert("addr", addr.unwrap_or_default());
    keys.insert("name", node.name.to_string());
    keys.insert("count", node.count.to_string());
    keys.insert("interface", node.interface.clone().unwrap_or_default());
    keys.insert("pin_cpus", node.cpu.map(|cpu| cpu.to_string()).unwrap_or_default());
    let env = cluster.env(node);
    let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    keys.insert("env_vars", env.join(","));
    keys
}
