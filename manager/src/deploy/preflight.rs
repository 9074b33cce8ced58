//! What can be told before anything is changed: addresses, releases, and whether each host is
//! able to run its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;

use super::bundle::{BundleError, Programs, Release};
use super::ship::missing_bytes;
use super::survey::{Questions, Survey, look};
use crate::context::Context;
use crate::hosts::{Host, Hosts};
use crate::remote::error::RemoteError;
use crate::remote::pool;
use crate::report::Report;

/// Room that must be left on a host beside the release, bytes: spools and logs begin at once.
const SPARE_BYTES_MIN: u64 = 64 << 20;

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
    let addrs = addresses(ctx);
    let faults = ctx.cluster.check_addresses(&addrs);
    faults.iter().for_each(|fault| report.fault(fault));
    if !faults.is_empty() {
        return Ok(None);
    }
    let releases = releases(ctx, &addrs).await?;
    let mut hosts = Hosts::of(ctx, &nodes)?;
    let (mut surveys, mut is_fit) = (BTreeMap::new(), true);
    for (host, result) in survey_all(ctx, &hosts).await {
        match result {
            Ok(survey) => {
                for problem in problems(&survey, releases.get(&host)) {
                    is_fit = false;
                    report.error_hint(format!("host `{host}`: {}", problem.0), problem.1);
                }
                surveys.insert(host, survey);
            }
            Err(error) => {
                is_fit &= error.is_unreachable();
                report.remote_error(&host, &error);
            }
        }
    }
    hosts.retain(|host| surveys.contains_key(&host.name));
    let answered = !surveys.is_empty();
    Ok((is_fit && answered).then_some(Preflight { hosts, surveys, releases }))
}

/// Addresses of the hosts that have one; who needs one that is missing says so.
fn addresses(ctx: &Context) -> BTreeMap<HostName, IpAddr> {
    let hosts = ctx.cluster.hosts().into_iter();
    hosts.filter_map(|host| Some((host.clone(), pool::resolve(host).ok()?))).collect()
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
    hosts
        .each(|host: Host| {
            let nodes = ctx.cluster.nodes.iter().filter(|node| node.host == host.name);
            let interfaces: BTreeSet<String> =
                nodes.clone().filter_map(|node| node.interface.clone()).collect();
            let questions = Questions {
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

/// What keeps a host from running its release, each with what to do about it.
fn problems(survey: &Survey, release: Option<&Release>) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let ours = std::env::consts::ARCH;
    if survey.machine != ours {
        problems.push((
            format!("it is {}; the programs beside ctl are for {ours}", survey.machine),
            format!("build Tyto for {} and deploy from there", survey.machine),
        ));
    }
    if !survey.missing_tools.is_empty() {
        problems.push((
            format!("its shell has no {}", survey.missing_tools.join(", ")),
            "install coreutils and findutils, or busybox".to_owned(),
        ));
    }
    if let Some(folder) = &survey.unwritable {
        problems.push((
            format!("`{folder}` is not writable for the login of ssh"),
            format!("chown it to that login, or choose another `prefix` in tyto.yaml ({folder})"),
        ));
    }
    for interface in &survey.missing_interfaces {
        problems.push((
            format!("there is no interface `{interface}`"),
            format!("`ctl exec ls /sys/class/net` lists them; is it `{interface}` in node.cfg?"),
        ));
    }
    let needed = release.map_or(0, |release| missing_bytes(release, survey));
    if let Some(free) = survey.free_bytes
        && free < needed + SPARE_BYTES_MIN
    {
        let (free, needed) = (free >> 20, (needed + SPARE_BYTES_MIN) >> 20);
        problems.push((
            format!("{free} MiB are free below the prefix; {needed} MiB are needed"),
            "make room, or lower `keep_releases` in tyto.yaml".to_owned(),
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Survey {
        let free_bytes = Some(1 << 40);
        Survey { machine: std::env::consts::ARCH.into(), free_bytes, ..Survey::default() }
    }

    #[test]
    fn a_fit_host_has_no_problem_and_each_lack_is_one() {
        assert!(problems(&fit(), None).is_empty());
        let lacking = Survey {
            machine: "vax".into(),
            free_bytes: Some(1),
            unwritable: Some("/opt".into()),
            missing_interfaces: vec!["eth9".into()],
            missing_tools: vec!["sha256sum".into()],
            ..fit()
        };
        let all = problems(&lacking, None);
        for (problem, word) in all.iter().zip(["vax", "sha256sum", "/opt", "eth9", "MiB"]) {
            assert!(problem.0.contains(word), "{problem:?}");
        }
        assert_eq!(all.len(), 5);
    }
}
