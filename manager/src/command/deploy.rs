//! `ctl deploy`: looks at what is and at what shall be, makes a plan of the difference, and does
//! just that. Nodes that run by the same program, configuration and environment as before are not
//! touched.

use std::collections::BTreeMap;

use clap::ArgMatches;
use tyto_core::config::name::HostName;
use tyto_core::config::runtime::Role;
use tyto_proto::v1::StatusReply;

use super::{Command, Run};
use crate::context::Context;
use crate::deploy::apply::{self, Job};
use crate::deploy::bundle::{Content, Release};
use crate::deploy::history::{Switched, files_of};
use crate::deploy::order::Member;
use crate::deploy::origins::Origins;
use crate::deploy::plan::{Due, FileToCopy, Plan, Stopping, Target};
use crate::deploy::planning::{Scene, plan};
use crate::deploy::preflight::{Preflight, preflight};
use crate::deploy::survey::Survey;
use crate::deploy::texts::Texts;
use crate::deploy::{install, plan_text, ship, strays};
use crate::hosts::Host;
use crate::lock::{self, Lock};
use crate::remote::error::RemoteError;
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "deploy",
    summary: "Checks, installs, and restarts the nodes that are concerned",
    details: "Shows a plan of what differs from what is deployed, then does it. All nodes are \
              started the first time. Later a node is restarted when its program, its \
              configuration, its CPUs, its environment or its limits have changed, or when it \
              does not run: one worker of an interface at a time, loggers and proxies one at a \
              time, and a change of several hosts' workers on the first host before the others. \
              When a node is not healthy afterwards, nothing further is touched; `ctl rollback` \
              goes back. Nodes and hosts that left node.cfg are stopped. With --plan, only shows \
              the plan; that waits for nobody.",
    args: || {
        let mut args = vec![apply::plan_arg()];
        args.extend(apply::care_args());
        args
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    if !args.get_flag("plan") {
        return lock::with_lock(ctx, args, async |lock| deploy(ctx, args, lock).await).await;
    }
    let mut report = Report::new();
    let Some(mut preflight) = preflight(ctx, &mut report).await? else { return Ok(report) };
    let plan = make_plan(ctx, &mut preflight, &mut report).await;
    plan_text::lines(&plan).into_iter().for_each(|line| report.line(line));
    report.json(&plan);
    Ok(report)
}

async fn deploy(ctx: &Context, args: &ArgMatches, lock: &mut Lock) -> anyhow::Result<Report> {
    let mut report = Report::new();
    ctx.progress.heading("checking configurations ...");
    let Some(mut preflight) = preflight(ctx, &mut report).await? else { return Ok(report) };
    let plan = make_plan(ctx, &mut preflight, &mut report).await;
    report.json(&plan);
    plan_text::lines(&plan).iter().for_each(|line| ctx.progress.heading(line));
    if plan.is_empty() {
        return Ok(report);
    }
    ctx.progress.heading("installing ...");
    if !install::bring(ctx, &mut preflight, lock, &mut report).await? {
        return Ok(report);
    }
    let job = Job {
        ctx,
        plan: &plan,
        hosts: &preflight.hosts,
        members: &members(ctx),
        releases: releases(&preflight),
        files: files_of(&ctx.etc, &ctx.cluster),
        care: apply::care(ctx, args),
        lock: lock.watch(),
    };
    let outcome = apply::apply(job, &mut report).await?;
    if outcome.failures.is_empty() {
        prune(ctx, &preflight, &mut report).await;
    }
    Ok(report)
}

/// Nodes of node.cfg in ZeekControl's order.
fn members(ctx: &Context) -> Vec<Member> {
    ctx.cluster.ordered().into_iter().map(Member::of).collect()
}

/// What is to be done. Hosts that do not answer any more leave `preflight`.
async fn make_plan(ctx: &Context, preflight: &mut Preflight, report: &mut Report) -> Plan {
    let statuses = ask(preflight, report).await;
    let certificates = due_certificates(ctx, preflight);
    let mut targets = BTreeMap::new();
    let mut new_texts = BTreeMap::new();
    for (host, release) in &preflight.releases {
        let target = Target { id: release.id.clone(), manifest: release.manifest() };
        targets.insert(host.clone(), target);
        new_texts.insert(host.clone(), texts_of(release));
    }
    let sections = ctx.cluster.nodes.iter();
    let sections = sections.map(|node| (node.name.to_string(), node.section.clone())).collect();
    let scene = Scene {
        members: members(ctx),
        hosts: &preflight.hosts,
        surveys: &preflight.surveys,
        statuses: &statuses,
        targets,
        new_texts,
        origins: Origins::read(&ctx.etc, sections),
    };
    let mut plan = plan(&scene, report).await;
    plan.certificates = certificates;
    plan.trust = behind_in_trust(ctx, preflight);
    for host in strays::gone_hosts(ctx, preflight) {
        plan.stops.push(Stopping { host, node: None });
    }
    for change in &mut plan.hosts {
        let (survey, release) =
            (preflight.surveys.get(&change.host), preflight.releases.get(&change.host));
        if let (Some(survey), Some(release)) = (survey, release) {
            change.files = files_to_copy(release, survey);
        }
    }
    plan
}

fn files_to_copy(release: &Release, survey: &Survey) -> Vec<FileToCopy> {
    let missing = ship::missing_files(release, survey).into_iter();
    missing.map(|file| FileToCopy { path: file.path.clone(), bytes: file.bytes }).collect()
}

/// The configurations of a release that is not on its host yet.
fn texts_of(release: &Release) -> Texts {
    let mut texts = Texts::new();
    for file in &release.files {
        if let Content::Bytes(bytes) = &file.content {
            let text = String::from_utf8_lossy(bytes).into_owned();
            texts.insert((release.id.clone(), file.path.clone()), text);
        }
    }
    texts
}

/// What runs on the hosts; those that do not answer leave the deploy.
async fn ask(preflight: &mut Preflight, report: &mut Report) -> BTreeMap<HostName, StatusReply> {
    let results = preflight.hosts.statuses().await;
    let mut statuses = BTreeMap::new();
    for (host, result) in results {
        match result {
            Ok(status) => drop(statuses.insert(host, status)),
            Err(error) => leave_out(preflight, &host, &error, report),
        }
    }
    statuses
}

fn leave_out(preflight: &mut Preflight, host: &HostName, error: &RemoteError, report: &mut Report) {
    report.remote_error(host, error);
    preflight.hosts.retain(|kept| kept.name != *host);
}

/// Hosts whose nodes trust other CAs than they should; as after a first install they trust none,
/// that comes with their certificates.
fn behind_in_trust(ctx: &Context, preflight: &Preflight) -> Vec<HostName> {
    let head = ctx.cluster.head().filter(|node| node.role == Role::Manager);
    let ca = head.and_then(|head| preflight.surveys.get(&head.host)?.own_ca.as_ref());
    let Some(ca) = ca else { return Vec::new() };
    let of = |host: &Host| {
        let trusted = preflight.surveys.get(&host.name)?.ca.as_ref()?;
        (trusted != ca).then(|| host.name.clone())
    };
    preflight.hosts.iter().filter_map(of).collect()
}

/// Certificates that are due. Nodes take them up without a restart.
fn due_certificates(ctx: &Context, preflight: &Preflight) -> Vec<Due> {
    let head = ctx.cluster.head().filter(|node| node.role == Role::Manager);
    let Some(head) = head else { return Vec::new() };
    let ca = preflight.surveys.get(&head.host).and_then(|survey| survey.own_ca.clone());
    let of_host = |host: &Host| {
        let due = install::unidentified(ctx, preflight, &host.name, ca.as_deref());
        let host = host.name.clone();
        due.into_iter().map(move |(subject, renewal)| Due {
            host: host.clone(),
            node: subject.node,
            reason: renewal.as_str(),
        })
    };
    preflight.hosts.iter().flat_map(of_host).collect()
}

/// The release of each host before and after, for the history.
fn releases(preflight: &Preflight) -> BTreeMap<String, Switched> {
    let of = |host: &HostName| {
        let to = preflight.releases.get(host)?.id.clone();
        let from = preflight.surveys.get(host)?.current.clone();
        Some((host.to_string(), Switched { from, to }))
    };
    preflight.hosts.iter().filter_map(|host| of(&host.name)).collect()
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
