//! `ctl deploy`: check, install, and restart what is concerned: nodes that do not run, or run by
//! another program, configuration, environment or certificate. Nothing else is touched.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use jiff::Timestamp;
use serde_json::json;
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;
use tyto_proto::v1::{NodeStatus, StatusReply};

use super::{Command, Run};
use crate::context::Context;
use crate::deploy::plan::{self, Reason};
use crate::deploy::preflight::{Preflight, preflight};
use crate::deploy::survey::HostCert;
use crate::deploy::{install, ship, strays};
use crate::hosts::Host;
use crate::lock::Lock;
use crate::remote::error::RemoteError;
use crate::report::Report;
use crate::tiers;

pub(super) const COMMAND: Command = Command {
    name: "deploy",
    summary: "Checks, installs, and restarts the nodes that are concerned",
    details: "Starts all nodes the first time. Later a node is restarted when its program, its \
              configuration, its CPU, its environment or its certificate has changed, or when it \
              does not run. Nodes and hosts that left node.cfg are stopped. With --plan, only says \
              what would be done.",
    args: || {
        vec![
            Arg::new("plan")
                .long("plan")
                .action(ArgAction::SetTrue)
                .help("Only say what would be done"),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

/// A node that is to be touched, and why.
type Concerned<'a> = (&'a Node, Reason);

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let mut report = Report::new();
    if args.get_flag("plan") {
        let Some(mut preflight) = preflight(ctx, &mut report).await? else { return Ok(report) };
        show_plan(ctx, &mut preflight, &mut report).await;
        return Ok(report);
    }
    let _lock = Lock::take(&ctx.etc, &ctx.progress).await?;
    ctx.progress.heading("checking configurations ...");
    let Some(mut preflight) = preflight(ctx, &mut report).await? else { return Ok(report) };
    let gone = strays::gone_hosts(ctx, &preflight);
    ctx.progress.heading("installing ...");
    if !install::install(ctx, &mut preflight, &mut report).await? {
        return Ok(report);
    }
    if !gone.is_empty() {
        let patience = Duration::from_secs(ctx.cluster.settings.stop_timeout_s);
        strays::stop_hosts(ctx, gone, patience, &mut report).await?;
    }
    let statuses = bring_up_supervisors(&mut preflight, &mut report).await;
    let concerned = concerned(ctx, &preflight, &statuses);
    if restart(ctx, &preflight, &statuses, &concerned, &mut report).await {
        prune(ctx, &preflight, &mut report).await;
        let answering =
            ctx.cluster.nodes.iter().filter(|node| preflight.hosts.find(&node.host).is_some());
        let (started, unchanged) = (concerned.len(), answering.count() - concerned.len());
        report.line(format!("nodes started: {started}, left as they were: {unchanged}"));
    }
    report.json(&plan_json(&concerned));
    Ok(report)
}

/// A supervisor of the new release on each host; nodes go on running meanwhile. Those that run
/// from an unchanged release are only asked.
async fn bring_up_supervisors(
    preflight: &mut Preflight,
    report: &mut Report,
) -> BTreeMap<HostName, StatusReply> {
    let changed: Vec<HostName> =
        preflight.hosts.iter().map(|h| h.name.clone()).filter(|h| preflight.is_new(h)).collect();
    let bring_up = |host: Host| {
        let is_changed = changed.contains(&host.name);
        async move {
            if !is_changed {
                let status = host.status().await?;
                if status.supervisor_pid != 0 {
                    return Ok(status);
                }
            }
            tiers::start_supervisor(&*host.remote, &host.layout, host.deadline).await?;
            host.status().await
        }
    };
    let results = preflight.hosts.each(bring_up).await;
    leave_out_failed(preflight, results, report).into_iter().collect()
}

/// What runs on the hosts; those that do not answer leave the deploy.
async fn ask(preflight: &mut Preflight, report: &mut Report) -> BTreeMap<HostName, StatusReply> {
    let results = preflight.hosts.statuses().await;
    leave_out_failed(preflight, results, report).into_iter().collect()
}

fn leave_out_failed<T>(
    preflight: &mut Preflight,
    results: Vec<(HostName, Result<T, RemoteError>)>,
    report: &mut Report,
) -> Vec<(HostName, T)> {
    let mut good = Vec::new();
    for (host, result) in results {
        match result {
            Ok(value) => good.push((host, value)),
            Err(error) => {
                report.remote_error(&host, &error);
                preflight.hosts.retain(|kept| kept.name != host);
            }
        }
    }
    good
}

fn status_of<'a>(
    statuses: &'a BTreeMap<HostName, StatusReply>,
    node: &Node,
) -> Option<&'a NodeStatus> {
    statuses.get(&node.host)?.nodes.iter().find(|status| node.name == status.node.as_str())
}

/// Nodes of the hosts still in the deploy that have to be touched.
fn concerned<'a>(
    ctx: &'a Context,
    preflight: &Preflight,
    statuses: &BTreeMap<HostName, StatusReply>,
) -> Vec<Concerned<'a>> {
    let of = |node: &'a Node| {
        preflight.hosts.find(&node.host)?;
        let (survey, release) =
            (preflight.surveys.get(&node.host)?, preflight.releases.get(&node.host)?);
        let print = release.fingerprints.get(node.name.as_str());
        let reason = plan::reason(&node.name, print, status_of(statuses, node), survey)?;
        Some((node, reason))
    };
    ctx.cluster.ordered().into_iter().filter_map(of).collect()
}

/// Stops and starts; false when that failed somewhere.
async fn restart(
    ctx: &Context,
    preflight: &Preflight,
    statuses: &BTreeMap<HostName, StatusReply>,
    concerned: &[Concerned<'_>],
    report: &mut Report,
) -> bool {
    let patience = Duration::from_secs(ctx.cluster.settings.stop_timeout_s);
    let hosts = &preflight.hosts;
    strays::stop_nodes(preflight, statuses, patience, report).await;
    let is_up = |node: &Node| status_of(statuses, node).is_some_and(|status| status.pid != 0);
    let up: Vec<&Node> =
        concerned.iter().map(|&(node, _)| node).filter(|node| is_up(node)).collect();
    if !up.is_empty() && !tiers::stop(hosts, &up, patience, &ctx.progress, report).await {
        return false;
    }
    let nodes: Vec<&Node> = concerned.iter().map(|&(node, _)| node).collect();
    nodes.is_empty() || tiers::start(hosts, &nodes, &ctx.progress, report).await
}

/// Removes releases that are neither among the last nor run by a node.
async fn prune(ctx: &Context, preflight: &Preflight, report: &mut Report) {
    let keep = ctx.cluster.settings.keep_releases;
    let mut hosts = preflight.hosts.clone();
    hosts.retain(|host| preflight.is_new(&host.name));
    let results = hosts
        .each(|host| async move {
            let running = host.status().await?.nodes;
            let in_use: Vec<String> = running.into_iter().map(|node| node.release).collect();
            ship::prune(&*host.remote, &host.layout, keep, &in_use, host.deadline).await
        })
        .await;
    for (host, result) in results {
        if let Err(error) = result {
            report.warn_about(&host, &error.into());
        }
    }
}

async fn show_plan(ctx: &Context, preflight: &mut Preflight, report: &mut Report) {
    let statuses = ask(preflight, report).await;
    plan_certificates(ctx, preflight, report);
    for host in strays::gone_hosts(ctx, preflight) {
        report.line(format!("{host}: stop all, no more in node.cfg"));
    }
    for host in preflight.hosts.iter() {
        for node in strays::strays_on(preflight, &statuses, &host.name) {
            report.line(format!("stop {node} (no more in node.cfg)"));
        }
        let (survey, release) =
            (preflight.surveys.get(&host.name), preflight.releases.get(&host.name));
        let (Some(survey), Some(release)) = (survey, release) else { continue };
        let bytes = ship::missing_bytes(release, survey);
        match survey.current.as_ref() {
            Some(current) if *current == release.id => {
                report.line(format!("{}: release {current} stays", host.name));
            }
            current => report.line(format!(
                "{}: release {} after {}, {} KiB to copy",
                host.name,
                release.id,
                current.map_or("none", |id| id),
                bytes.div_ceil(1024)
            )),
        }
    }
    let concerned = concerned(ctx, preflight, &statuses);
    for (node, reason) in &concerned {
        let verb = if *reason == Reason::NotRunning { "start" } else { "restart" };
        report.line(format!("{verb} {} ({})", node.name, reason.as_str()));
    }
    if concerned.is_empty() {
        report.line("no node would be touched");
    }
    report.json(&plan_json(&concerned));
}

/// Tells of certificates that are due, and lets their nodes count as having new ones.
fn plan_certificates(ctx: &Context, preflight: &mut Preflight, report: &mut Report) {
    let Some(head) = ctx.cluster.head().filter(|node| node.role == Role::Manager) else { return };
    let ca = preflight.surveys.get(&head.host).and_then(|survey| survey.own_ca.clone());
    let hosts: Vec<HostName> = preflight.hosts.iter().map(|host| host.name.clone()).collect();
    for host in hosts {
        let due = install::unidentified(ctx, preflight, &host, ca.as_deref());
        let Some(survey) = preflight.surveys.get_mut(&host) else { continue };
        for subject in due {
            report.line(format!("issue a certificate for {}", subject.node));
            let since = Timestamp::now().into();
            let cert = HostCert { pem: String::new(), since, has_key: true };
            survey.certs.insert(subject.node, cert);
        }
    }
}

fn plan_json(concerned: &[Concerned<'_>]) -> serde_json::Value {
    let row = |(node, reason): &Concerned<'_>| json!({ "node": node.name, "host": node.host, "reason": reason.as_str() });
    json!({ "nodes": concerned.iter().map(row).collect::<Vec<_>>() })
}
