//! `ctl check`: everything that can be told without touching a host, and with `--hosts` all
//! that a look at the hosts tells. The configuration itself is checked before any command runs;
//! all its faults are shown at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches};
use serde_json::json;
use tyto_core::config::name::HostName;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::deploy::preflight::preflight;
use crate::remote::names;
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "check",
    summary: "Checks the configuration and the programs beside ctl",
    details: "Checks node.cfg, networks.cfg and tyto.yaml as a whole, that each host has an \
              address of its own, and that the programs which the nodes run are beside this \
              ctl. Touches no host. With --hosts, looks at every host too, as deploy would, and \
              tells all that keeps it from running its nodes; changes nothing there.",
    args: || {
        vec![
            nodes_arg(),
            Arg::new("hosts")
                .long("hosts")
                .action(ArgAction::SetTrue)
                .help("Look at the hosts too: login, room, rights, interfaces, ports, clock"),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

/// Programs that every host needs besides those of its nodes.
const ALWAYS_NEEDED: [&str; 2] = ["ctl", "supervisor"];

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let mut report = Report::new();
    let programs: BTreeSet<&str> =
        nodes.iter().map(|node| node.role.program()).chain(ALWAYS_NEEDED).collect();
    let missing: BTreeMap<&str, String> = programs
        .into_iter()
        .filter_map(|program| Some((program, runnable(&ctx.bin.join(program)).err()?)))
        .collect();
    // Without its programs there is no release to look for room for.
    let looks = args.get_flag("hosts") && missing.is_empty();
    let mut addrs = addresses(ctx, looks, &mut report);
    // Hosts without an address are told of already: put one in their place.
    for host in ctx.cluster.hosts() {
        addrs.entry(host.clone()).or_insert(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
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
    if looks {
        preflight(ctx, &mut report).await?;
    }
    Ok(report)
}

/// Addresses of all hosts. One without is an error only when other hosts need it: ssh may know a
/// name by an alias of its own. With a look at the hosts, all this is told there.
fn addresses(ctx: &Context, looks: bool, report: &mut Report) -> BTreeMap<HostName, IpAddr> {
    let names = names::resolve_all(&ctx.cluster);
    if looks {
        return names.addrs;
    }
    for fault in &names.faults {
        if fault.is_warning() {
            report.warn_hint(fault.to_string(), fault.hint());
        } else {
            report.error_hint(fault.to_string(), fault.hint());
        }
    }
    for fault in ctx.cluster.check_addresses(&names.addrs) {
        report.fault(&fault);
    }
    names.addrs
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
