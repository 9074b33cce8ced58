//! `ctl check`: everything that can be told without touching a host. The configuration itself
//! is checked before any command runs; all its faults are shown at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::ArgMatches;
use serde_json::json;
use tyto_core::config::name::HostName;

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
    let mut addrs = addresses(ctx, &mut report);
    for fault in ctx.cluster.check_addresses(&addrs) {
        report.fault(&fault);
    }
    // Hosts without an address are told of already: put one in their place.
    for host in ctx.cluster.hosts() {
        addrs.entry(host.clone()).or_insert(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let programs: BTreeSet<&str> =
        nodes.iter().map(|node| node.role.program()).chain(ALWAYS_NEEDED).collect();
    let missing: BTreeMap<&str, String> = programs
        .into_iter()
        .filter_map(|program| Some((program, runnable(&ctx.bin.join(program)).err()?)))
        .collect();
    for problem in missing.values() {
        report.error(problem);
    }
    let mut results = Vec::new();
    for node in nodes {
        let mut ok = !missing.contains_key(node.role.program());
        if let Err(error) = ctx.cluster.node_config(node, &addrs) {
            report.error_about(&node.name, &error.into());
            ok = false;
        }
        report.line(format!("{} {}.", node.name, if ok { "is ok" } else { "failed" }));
        results.push(json!({ "node": node.name, "ok": ok }));
    }
    report.json(&results);
    Ok(report)
}

/// Addresses of all hosts. A host without one is a warning only: ssh may know it by an alias
/// of its own, and install asks again.
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
