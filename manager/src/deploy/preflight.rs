//! What can be told before anything is changed: names, releases, and whether each host is able
//! to run its own. One call per host; all that is wrong with all hosts is told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use tyto_core::config::error::At;
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;

use super::bundle::{BundleError, Programs, Release};
use super::elf;
use super::fitness::{self, Expected};
use super::ship::missing_bytes;
use super::survey::{Questions, Survey, look};
use crate::context::Context;
use crate::hosts::{Host, Hosts};
use crate::remote::error::RemoteError;
use crate::remote::names::{self, NameFault, Names};
use crate::report::{Report, hinted};

/// Hosts that can be deployed to, with what they have and what they shall have.
#[derive(Debug)]
pub struct Preflight {
    /// The hosts that answered.
    pub hosts: Hosts,
    /// What each of them has.
    pub surveys: BTreeMap<HostName, Survey>,
    /// What each of them shall have.
    pub releases: BTreeMap<HostName, Release>,
}

impl Preflight {
    /// The host had another release in use than it shall have, or none.
    pub fn is_new(&self, host: &HostName) -> bool {
        let current = self.surveys.get(host).and_then(|survey| survey.current.as_ref());
        current != self.releases.get(host).map(|release| &release.id)
    }
}

/// Looks at all hosts. Those that do not answer are told of and left out; anything else that is
/// wrong with one keeps the cluster from being touched (`None`).
///
/// # Errors
/// When the programs or the configuration do not make a release.
pub async fn preflight(ctx: &Context, report: &mut Report) -> anyhow::Result<Option<Preflight>> {
    let nodes: Vec<&Node> = ctx.cluster.nodes.iter().collect();
    let names = names::resolve_all(&ctx.cluster);
    let mut is_fit = tell_names(ctx, &names, report);
    // Without all addresses there is no release; what is wrong with hosts is told all the same.
    let releases = if is_fit { releases(ctx, &names.addrs).await? } else { BTreeMap::default() };
    let mut hosts = Hosts::of(ctx, &nodes)?;
    let mut surveys = BTreeMap::new();
    for (host, result) in survey_all(ctx, &hosts).await {
        match result {
            Ok(survey) => drop(surveys.insert(host, survey)),
            Err(error) => {
                is_fit &= error.is_unreachable();
                tell_unsurveyed(&names, &host, &error, report);
            }
        }
    }
    let bin = ctx.bin.clone();
    let machine = tokio::task::spawn_blocking(move || elf::machine_of(&bin.join("supervisor")));
    let machine = machine.await?.unwrap_or(std::env::consts::ARCH);
    for (host, survey) in &surveys {
        let release = releases.get(host);
        let expected = expected(ctx, host, machine, &names, release, survey);
        is_fit &= tell_faults(host, survey, &expected, report);
    }
    is_fit &= tell_same(ctx, &surveys, report);
    hosts.retain(|host| surveys.contains_key(&host.name));
    let answered = !surveys.is_empty();
    Ok((is_fit && answered).then_some(Preflight { hosts, surveys, releases }))
}

/// Tells what is wrong with names and addresses; false when something is that keeps from going
/// on. A name that only ssh has to know is not told here: ssh may know it.
fn tell_names(ctx: &Context, names: &Names, report: &mut Report) -> bool {
    let mut is_good = true;
    for fault in &names.faults {
        match fault {
            NameFault::Unresolved { is_needed: false, .. } => {}
            fault if fault.is_warning() => report.warn_hint(fault.to_string(), fault.hint()),
            fault => {
                is_good = false;
                report.error_hint(fault.to_string(), fault.hint());
            }
        }
    }
    for fault in ctx.cluster.check_addresses(&names.addrs) {
        is_good = false;
        report.fault(&fault);
    }
    is_good
}

/// Tells why there is no survey of a host; a name that means nothing is told with its line in
/// node.cfg, once.
fn tell_unsurveyed(names: &Names, host: &HostName, error: &RemoteError, report: &mut Report) {
    let of_host =
        |fault: &&NameFault| matches!(fault, NameFault::Unresolved { host: h, .. } if h == host);
    match (error, names.faults.iter().find(of_host)) {
        (RemoteError::NoAddress { .. }, Some(NameFault::Unresolved { is_needed: true, .. })) => {}
        (RemoteError::NoAddress { .. }, Some(fault)) => {
            report.error_about(host, &hinted(fault.to_string(), fault.hint()));
        }
        _ => report.remote_error(host, error),
    }
}

fn expected<'a>(
    ctx: &'a Context,
    host: &HostName,
    machine: &'a str,
    names: &Names,
    release: Option<&Release>,
    survey: &Survey,
) -> Expected<'a> {
    let nodes: Vec<&Node> = ctx.cluster.nodes.iter().filter(|node| node.host == *host).collect();
    let ports = ctx.cluster.ports();
    let ports = nodes.iter().filter_map(|&node| Some((node, *ports.get(&node.name)?))).collect();
    Expected {
        cluster: &ctx.cluster.settings.cluster,
        prefix: ctx.layout.prefix(),
        machine,
        missing_bytes: release.map_or(0, |release| missing_bytes(release, survey)),
        nodes,
        ports,
        addr: names.addrs.get(host).copied(),
    }
}

/// Tells the faults of a host; false when one keeps it from running its release.
fn tell_faults(
    host: &HostName,
    survey: &Survey,
    expected: &Expected<'_>,
    report: &mut Report,
) -> bool {
    let mut is_fit = true;
    for fault in fitness::faults(survey, expected) {
        let told = hinted(format!("host `{host}`: {fault}"), fault.hint());
        if fault.is_warning() {
            report.warn_about(host, &told);
        } else {
            is_fit = false;
            report.error_about(host, &told);
        }
    }
    is_fit
}

/// Tells of hosts that are one machine under two names; false when there are some.
fn tell_same(ctx: &Context, surveys: &BTreeMap<HostName, Survey>, report: &mut Report) -> bool {
    let same = fitness::same_hosts(surveys);
    for (host, other, survey) in &same {
        let text = format!(
            "{}: host `{host}` is the same machine as `{other}` ({}): it calls itself `{}`, and \
             both would use `{}`",
            first_line(ctx, host),
            first_line(ctx, other),
            survey.facts.hostname,
            ctx.layout.prefix().display(),
        );
        report.error_about(host, &hinted(text, format!("write `host={other}` in both places")));
    }
    same.is_empty()
}

/// Where node.cfg names a host first.
fn first_line(ctx: &Context, host: &HostName) -> String {
    let node = ctx.cluster.nodes.iter().find(|node| node.host == *host);
    let at = |node: &Node| node.given.get("host").map_or(&node.at, |given| &given.at).clone();
    node.map(at).as_ref().map_or_else(|| "node.cfg".to_owned(), At::to_string)
}

async fn releases(
    ctx: &Context,
    addrs: &BTreeMap<HostName, IpAddr>,
) -> anyhow::Result<BTreeMap<HostName, Release>> {
    let bin: PathBuf = ctx.bin.clone();
    let programs = tokio::task::spawn_blocking(move || Programs::read(&bin)).await?;
    let mut releases = BTreeMap::new();
    for host in ctx.cluster.hosts() {
        let release = Release::of_host(&ctx.cluster, host, addrs, &programs);
        let release = release.map_err(|error| match error {
            BundleError::Address(unknown) => anyhow::Error::from(RemoteError::NoAddress {
                host: unknown.host.to_string(),
                said: "its nodes listen, so the others need one".to_owned(),
            }),
            other => other.into(),
        })?;
        releases.insert(host.clone(), release);
    }
    Ok(releases)
}

async fn survey_all(ctx: &Context, hosts: &Hosts) -> Vec<(HostName, Result<Survey, RemoteError>)> {
    let ports = ctx.cluster.ports();
    hosts
        .each(|host: Host| {
            let nodes = ctx.cluster.nodes.iter().filter(|node| node.host == host.name);
            let interfaces: BTreeSet<String> =
                nodes.clone().filter_map(|node| node.interface.clone()).collect();
            let questions = Questions {
                ports: nodes.clone().filter_map(|node| ports.get(&node.name)).copied().collect(),
                nodes: nodes.map(|node| node.name.to_string()).collect(),
                interfaces: interfaces.into_iter().collect(),
            };
            let progress = ctx.progress.clone();
            async move {
                let line = progress.host(&host.name);
                line.say("looking at the host");
                look(&*host.remote, &host.layout, &questions, host.deadline).await
            }
        })
        .await
}
