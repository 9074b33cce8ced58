//! Brings together what a [`Plan`] is made of: what hosts have, what runs there, what they shall
//! have. Asks hosts for the configuration in use only where another one is to follow.

use std::collections::{BTreeMap, BTreeSet};

use tyto_core::config::name::HostName;
use tyto_proto::v1::StatusReply;

use super::bundle::node_file;
use super::changes::{self, Pair, host_part, node_part};
use super::order::Member;
use super::origins::Origins;
use super::plan::{HostChange, Plan, Reason, Stopping, Target, reasons, status_of, strays};
use super::survey::Survey;
use super::texts::{Texts, fetch};
use crate::hosts::Hosts;
use crate::report::Report;

const HOST_YAML: &str = "etc/host.yaml";
const PEERS_YAML: &str = "etc/peers.yaml";

/// What is known when a plan is made.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Nodes that there shall be, in ZeekControl's order.
    pub members: Vec<Member>,
    /// The hosts that answer.
    pub hosts: &'a Hosts,
    /// What they have.
    pub surveys: &'a BTreeMap<HostName, Survey>,
    /// What runs there.
    pub statuses: &'a BTreeMap<HostName, StatusReply>,
    /// What they shall run.
    pub targets: BTreeMap<HostName, Target>,
    /// Files of the targets that are not on the hosts yet.
    pub new_texts: BTreeMap<HostName, Texts>,
    /// Where keys are written.
    pub origins: Origins,
}

/// What has to be done to get from what is to what shall be. Certificates, files to copy and
/// hosts that left are for the caller to add.
pub async fn plan(scene: &Scene<'_>, report: &mut Report) -> Plan {
    let mut plan = Plan::default();
    for host in scene.hosts.iter() {
        let (survey, target) = (scene.surveys.get(&host.name), scene.targets.get(&host.name));
        let (Some(survey), Some(target)) = (survey, target) else { continue };
        if survey.current.as_ref() != Some(&target.id) {
            let (from, to) = (survey.current.clone(), target.id.clone());
            plan.hosts.push(HostChange { host: host.name.clone(), from, to, files: Vec::new() });
        }
        if let Some(status) = scene.statuses.get(&host.name) {
            for node in strays(&status.nodes, &target.manifest.fingerprints) {
                let node = Some(node.to_owned());
                plan.stops.push(Stopping { host: host.name.clone(), node });
            }
        }
    }
    let touched = touched(scene);
    plan.untouched = untouched(scene, &touched);
    plan.changes = changed_keys(scene, &plan.hosts, report).await;
    let idle = idle(scene);
    plan.set_nodes(touched, &idle, true);
    plan
}

/// Nodes to touch, why, and whether they run.
fn touched(scene: &Scene<'_>) -> Vec<(Member, Vec<Reason>, bool)> {
    let of = |member: &Member| {
        scene.hosts.find(&member.host)?;
        let status = status_of(scene.statuses, &member.host, &member.node);
        let survey = scene.surveys.get(&member.host)?;
        let reasons = reasons(member, scene.targets.get(&member.host)?, status, survey);
        let runs =
            status.is_some_and(|status| status.pid != 0) && !reasons.contains(&Reason::NotRunning);
        (!reasons.is_empty()).then(|| (member.clone(), reasons, runs))
    };
    scene.members.iter().filter_map(of).collect()
}

fn untouched(scene: &Scene<'_>, touched: &[(Member, Vec<Reason>, bool)]) -> Vec<String> {
    let is_touched = |member: &Member| touched.iter().any(|(t, ..)| t == member);
    let answers = |member: &&Member| scene.hosts.find(&member.host).is_some();
    let members = scene.members.iter().filter(answers);
    members.filter(|member| !is_touched(member)).map(|member| member.node.clone()).collect()
}

fn idle(scene: &Scene<'_>) -> BTreeSet<HostName> {
    let is_idle = |host: &HostName| {
        let status = scene.statuses.get(host);
        status.is_none_or(|status| status.nodes.iter().all(|node| node.pid == 0))
    };
    scene.hosts.iter().map(|host| host.name.clone()).filter(is_idle).collect()
}

/// The keys that differ between the releases in use and those to be in use. Where the old ones
/// cannot be read any more, the plan goes without.
async fn changed_keys(
    scene: &Scene<'_>,
    hosts: &[HostChange],
    report: &mut Report,
) -> Vec<changes::Change> {
    let mut wanted = BTreeMap::new();
    for change in hosts {
        wanted.insert(change.host.clone(), files_wanted(scene, change));
    }
    let mut pairs = Vec::new();
    for (host, texts) in fetch(scene.hosts, &wanted).await {
        match texts {
            Ok(texts) => {
                let change = hosts.iter().find(|change| change.host == host);
                pairs.extend(change.into_iter().flat_map(|change| pairs_of(scene, change, &texts)));
            }
            Err(error) => report.warn_about(&host, &error.into()),
        }
    }
    changes::changes(&pairs, &scene.origins)
}

/// The files of one host that are worth a comparison: those whose hash differs.
fn files_wanted(scene: &Scene<'_>, change: &HostChange) -> BTreeSet<(String, String)> {
    let mut wanted = BTreeSet::new();
    let Some(from) = &change.from else { return wanted };
    let (survey, target) = (scene.surveys.get(&change.host), scene.targets.get(&change.host));
    let (Some(before), Some(target)) = (survey.and_then(|s| s.releases.get(from)), target) else {
        return wanted;
    };
    for (path, hash) in &target.manifest.files {
        let differs = before.files.get(path).is_some_and(|old| old != hash);
        if path.starts_with("etc/") && differs {
            wanted.insert((from.clone(), path.clone()));
            let is_here = scene
                .new_texts
                .get(&change.host)
                .is_some_and(|texts| texts.contains_key(&(target.id.clone(), path.clone())));
            if !is_here {
                wanted.insert((target.id.clone(), path.clone()));
            }
        }
    }
    wanted
}

fn pairs_of(scene: &Scene<'_>, change: &HostChange, fetched: &Texts) -> Vec<Pair> {
    let none = Texts::new();
    let fresh = scene.new_texts.get(&change.host).unwrap_or(&none);
    let from = change.from.clone().unwrap_or_default();
    let old = |path: &str| fetched.get(&(from.clone(), path.to_owned())).cloned();
    let new = |path: &str| {
        let key = (change.to.clone(), path.to_owned());
        fresh.get(&key).or_else(|| fetched.get(&key)).cloned()
    };
    let both = |path: &str| Some((old(path)?, new(path)?));
    let host_yaml = both(HOST_YAML);
    let mut pairs = Vec::new();
    for member in scene.members.iter().filter(|member| member.host == change.host) {
        let mut pair = Pair { node: Some(member.node.clone()), ..Pair::default() };
        if let Some((old, new)) = both(&node_file(&member.node)) {
            pair.old.push(old);
            pair.new.push(new);
        }
        if let Some((old, new)) = &host_yaml {
            let (old, new) = (node_part(old, &member.node), node_part(new, &member.node));
            // A node that was not there before is new as a whole.
            if !old.is_empty() && !new.is_empty() {
                pair.old.push(old);
                pair.new.push(new);
            }
        }
        pairs.push(pair);
    }
    let mut of_host = Pair::default();
    if let Some((old, new)) = &host_yaml {
        of_host.old.push(host_part(old));
        of_host.new.push(host_part(new));
    }
    if let Some((old, new)) = both(PEERS_YAML) {
        of_host.old.push(old);
        of_host.new.push(new);
    }
    pairs.push(of_host);
    pairs
}
