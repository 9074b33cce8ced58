//! `ctl check`: everything that can be told without touching a host. The configuration itself
//! is checked before any command runs; all its faults are shown at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::ArgMatches;
use serde_json::json;
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::remote::pool;
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "check",
    summary: "Checks the configuration and the programs beside ctl",
    details: "Checks node.cfg, networks.cfg and tyto.yaml as a whole, that each host has an \
              address of its own, and that the programs which the nodes run are beside this \
              ctl. Touches no host.",
    args: || vec![nodes_arg()],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

/// Programs that every host needs besides those of its nodes.
const ALWAYS_NEEDED: [&str; 2] = ["ctl", "supervisor"];

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let mut report = Report::new();
    let addrs = addresses(ctx, &mut report);
    for fault in ctx.cluster.check_addresses(&addrs) {
        report.fault(&fault);
    }
    for program in ALWAYS_NEEDED {
        if let Err(problem) = runnable(&ctx.bin.join(program)) {
            report.error(problem);
        }
    }
    let results: Vec<_> = nodes
        .into_iter()
        .map(|node| {
            let problem = check_node(ctx, node, &addrs).err();
            match &problem {
                None => report.line(format!("{} is ok.", node.name)),
                Some(problem) => {
                    report.line(format!("{} failed.", node.name));
                    report.error(format!("{}: {problem}", node.name));
                }
            }
            json!({ "node": node.name, "ok": problem.is_none(), "problem": problem })
        })
        .collect();
    report.json(&results);
    Ok(report)
}

/// Addresses of all hosts that have one. A host without one is a warning only: ssh may know
/// it by an alias of its own, and install asks again.
fn addresses(ctx: &Context, report: &mut Report) -> BTreeMap<HostName, IpAddr> {
    let mut addrs = BTreeMap::new();
    for host in ctx.cluster.hosts() {
        match pool::resolve(host) {
            Ok(addr) => {
                addrs.insert(host.clone(), addr);
            }
            Err(error) => report.warn_about(host, &error.into()),
        }
    }
    addrs
}

/// What is wrong with one node.
fn check_node(
    ctx: &Context,
    node: &Node,
    addrs: &BTreeMap<HostName, IpAddr>,
) -> Result<(), String> {
    runnable(&ctx.bin.join(node.role.program()))?;
    // Hosts without an address are told of already: put one in their place.
    let mut addrs = addrs.clone();
    for host in ctx.cluster.hosts() {
        addrs.entry(host.clone()).or_insert(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    ctx.cluster.node_config(node, &addrs).map(|_| ()).map_err(|error| error.to_string())
}

fn runnable(program: &Path) -> Result<(), String> {
    let shown = program.display();
    match program.metadata() {
        Err(error) => Err(format!("program `{shown}` is missing: {error}")),
        Ok(file) if !file.is_file() || file.permissions().mode() & 0o111 == 0 => {
            Err(format!("`{shown}` is not a program"))
        }
        Ok(_) => Ok(()),
    }
}
