//! `ctl rollback`: back to what hosts ran before the last change, or after a given one. The
//! releases are still on the hosts: a switch of the symlink, and a restart of the nodes that
//! differ. Nothing of the new release is needed for it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use clap::{Arg, ArgMatches, value_parser};
use serde_yaml::Value;
use tyto_core::config::name::HostName;
use tyto_core::config::runtime::Role;

use super::{Command, Run};
use crate::context::Context;
use crate::deploy::apply::{self, Job};
use crate::deploy::bundle::{configuration_half, node_file};
use crate::deploy::drift;
use crate::deploy::history::{Entry, Files, History, Switched};
use crate::deploy::order::{Member, start_order};
use crate::deploy::origins::Origins;
use crate::deploy::plan::{Plan, Target};
use crate::deploy::plan_text;
use crate::deploy::planning::{Scene, plan};
use crate::deploy::survey::{Questions, Survey, look};
use crate::deploy::texts::{Texts, fetch};
use crate::hosts::Hosts;
use crate::lock::{self, Lock};
use crate::report::{Report, hinted};

const HOST_YAML: &str = "etc/host.yaml";

pub(super) const COMMAND: Command = Command {
    name: "rollback",
    summary: "Goes back to the release before, or to an earlier one",
    details: "Without a number, undoes the last change of `ctl history`, a failed one too; a \
              second rollback takes the first one back. With a number, goes to what that change \
              had deployed. Each host keeps its last releases (keep_releases), so nothing is \
              copied; only nodes that differ are restarted, as carefully as by deploy. The files \
              in etc stay as they are: the next deploy brings what they say.",
    args: || {
        let id =
            |name: &'static str| Arg::new(name).value_name("ID").value_parser(value_parser!(u64));
        let mut args = vec![
            id("id").help("Number in `ctl history`"),
            id("to").long("to").conflicts_with("id").help("The same as ID"),
            apply::plan_arg(),
        ];
        args.extend(apply::care_args());
        args
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    if args.get_flag("plan") {
        return rollback(ctx, args, None).await;
    }
    lock::with_lock(ctx, args, async |lock| rollback(ctx, args, Some(lock)).await).await
}

/// Without a lock only tells what would be done.
async fn rollback(
    ctx: &Context,
    args: &ArgMatches,
    lock: Option<&mut Lock>,
) -> anyhow::Result<Report> {
    let mut report = Report::new();
    let history = History::of(ctx)?.context("node.cfg has no manager and no standalone node")?;
    let wanted = args.get_one::<u64>("id").or_else(|| args.get_one("to")).copied();
    let goal = goal(&history, wanted).await?;
    let Some(past) = look_back(ctx, &goal, &mut report).await? else { return Ok(report) };
    let plan = past.plan(&mut report).await;
    let lines = plan_text::lines(&plan);
    report.json(&plan);
    let Some(lock) = lock else {
        lines.into_iter().for_each(|line| report.line(line));
        return Ok(report);
    };
    ctx.progress.heading(&format!("back to {} ...", goal.name));
    lines.iter().for_each(|line| ctx.progress.heading(line));
    if !plan.is_empty() {
        let job = Job {
            ctx,
            plan: &plan,
            hosts: &past.hosts,
            members: &past.members,
            releases: past.releases(),
            files: goal.files.clone(),
            care: apply::care(ctx, args),
            lock: lock.watch(),
        };
        apply::apply(job, &mut report).await?;
    }
    let in_use = past
        .targets
        .iter()
        .map(|(host, target)| (host.clone(), configuration_half(&target.id).to_owned()));
    drift::warn(ctx, &in_use.collect(), &mut report);
    Ok(report)
}

/// What to go back to.
struct Goal {
    /// In words.
    name: String,
    /// Release by host.
    releases: BTreeMap<HostName, String>,
    /// The operator's files that led to it.
    files: Files,
}

async fn goal(history: &History, wanted: Option<u64>) -> anyhow::Result<Goal> {
    let entries = history.entries().await?;
    let none = |text: String| hinted(text, "`ctl history` lists what was deployed");
    if let Some(id) = wanted {
        let found = history.entry(id).await?;
        let (entry, files) = found.ok_or_else(|| none(format!("there is no change {id}")))?;
        let after = |(host, s): (&String, &Switched)| (HostName::from(host.as_str()), s.to.clone());
        let releases = entry.releases.iter().map(after).collect();
        return Ok(Goal { name: format!("change {id}"), releases, files });
    }
    let (last, before) = last_switch(&entries)
        .ok_or_else(|| none("there is no release before the one in use".to_owned()))?;
    let files = match before {
        Some(before) => history.entry(before).await?.map(|(_, files)| files).unwrap_or_default(),
        None => Files::new(),
    };
    let from =
        |(host, s): (&String, &Switched)| Some((HostName::from(host.as_str()), s.from.clone()?));
    let releases = last.releases.iter().filter_map(from).collect();
    Ok(Goal { name: format!("what ran before change {}", last.id), releases, files })
}

/// The last change that gave hosts another release than they had, and the one whose files were
/// in use before it.
fn last_switch(entries: &[Entry]) -> Option<(&Entry, Option<u64>)> {
    let switched = |s: &Switched| s.from.as_ref().is_some_and(|from| *from != s.to);
    let last = entries.iter().rposition(|entry| entry.releases.values().any(switched))?;
    let entry = entries.get(last)?;
    // The one that brought what the last one replaced.
    let brought = |e: &&Entry| {
        entry
            .releases
            .iter()
            .any(|(host, s)| switched(s) && e.releases.get(host).map(|b| &b.to) == s.from.as_ref())
    };
    let before = entries.get(..last)?.iter().rev().find(brought).map(|entry| entry.id);
    Some((entry, before))
}

/// The hosts with the releases to go back to.
struct Past {
    hosts: Hosts,
    surveys: BTreeMap<HostName, Survey>,
    targets: BTreeMap<HostName, Target>,
    texts: BTreeMap<HostName, Texts>,
    members: Vec<Member>,
}

/// Looks whether the releases are still there; none, with an error told, when one is not.
async fn look_back(
    ctx: &Context,
    goal: &Goal,
    report: &mut Report,
) -> anyhow::Result<Option<Past>> {
    let mut hosts = Hosts::named(ctx, in_order(ctx, goal.releases.keys()))?;
    let questions = Questions::default();
    let results = hosts
        .each(|host| {
            let questions = questions.clone();
            async move { look(&*host.remote, &host.layout, &questions, host.deadline).await }
        })
        .await;
    let (mut surveys, mut targets) = (BTreeMap::new(), BTreeMap::new());
    let mut wanted = BTreeMap::new();
    for (host, result) in results {
        let survey: Survey = match result {
            Ok(survey) => survey,
            Err(error) => {
                report.remote_error(&host, &error);
                continue;
            }
        };
        let id = goal.releases.get(&host).cloned().unwrap_or_default();
        let Some(manifest) = survey.releases.get(&id).cloned() else {
            report.error_hint(
                format!("host `{host}`: release {id} is no longer there, or not whole"),
                "deploy the files of then: `ctl history ID` shows them; `keep_releases` in \
                 tyto.yaml says how many releases stay",
            );
            return Ok(None);
        };
        let paths = manifest.files.keys().filter(|path| path.starts_with("etc/"));
        let files: BTreeSet<_> = paths.map(|path| (id.clone(), path.clone())).collect();
        wanted.insert(host.clone(), files);
        targets.insert(host.clone(), Target { id, manifest });
        surveys.insert(host, survey);
    }
    let (mut texts, mut members) = (BTreeMap::new(), Vec::new());
    for (host, result) in fetch(&hosts, &wanted).await {
        match result {
            Ok(found) => {
                let id = targets.get(&host).map_or("", |target| &target.id);
                members.extend(members_of(&host, id, &found));
                texts.insert(host, found);
            }
            Err(error) => report.remote_error(&host, &error),
        }
    }
    hosts.retain(|host| texts.contains_key(&host.name));
    members.sort_by_key(|member: &Member| start_order(member.role));
    Ok(Some(Past { hosts, surveys, targets, texts, members }))
}

/// Hosts in node.cfg order, then those that are no more in it.
fn in_order<'a>(ctx: &Context, names: impl Iterator<Item = &'a HostName>) -> Vec<HostName> {
    let known = ctx.cluster.hosts();
    let place = |name: &HostName| known.iter().position(|host| *host == name);
    let mut names: Vec<HostName> = names.cloned().collect();
    names.sort_by_key(|name| place(name).unwrap_or(usize::MAX));
    names
}

/// The nodes of a release, by its own files. Read loosely: another version may have other keys.
fn members_of(host: &HostName, id: &str, texts: &Texts) -> Vec<Member> {
    let yaml = |path: &str| -> Value {
        let text = texts.get(&(id.to_owned(), path.to_owned()));
        text.and_then(|text| serde_yaml::from_str(text).ok()).unwrap_or_default()
    };
    let host_yaml = yaml(HOST_YAML);
    let nodes = host_yaml.get("nodes").and_then(Value::as_sequence);
    let member = |node: &Value| {
        let name = node.get("node")?.as_str()?.to_owned();
        let role: Role = node.get("role")?.as_str()?.parse().ok()?;
        let config = yaml(&node_file(&name));
        let interface = config.get("capture").and_then(|c| c.get("interface")?.as_str());
        let interface = interface.map(str::to_owned);
        Some(Member { node: name, role, host: host.clone(), interface })
    };
    nodes.into_iter().flatten().filter_map(member).collect()
}

impl Past {
    async fn plan(&self, report: &mut Report) -> Plan {
        let mut statuses = BTreeMap::new();
        for (host, result) in self.hosts.statuses().await {
            match result {
                Ok(status) => drop(statuses.insert(host, status)),
                Err(error) => report.remote_error(&host, &error),
            }
        }
        // A host without an answer would look as if nothing ran there.
        let mut hosts = self.hosts.clone();
        hosts.retain(|host| statuses.contains_key(&host.name));
        let scene = Scene {
            members: self.members.clone(),
            hosts: &hosts,
            surveys: &self.surveys,
            statuses: &statuses,
            targets: self.targets.clone(),
            new_texts: self.texts.clone(),
            // The files of now are not those of then: keys go without a place.
            origins: Origins::default(),
        };
        plan(&scene, report).await
    }

    fn releases(&self) -> BTreeMap<String, Switched> {
        let of = |(host, target): (&HostName, &Target)| {
            let from = self.surveys.get(host).and_then(|survey| survey.current.clone());
            (host.to_string(), Switched { from, to: target.id.clone() })
        };
        self.targets.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, hosts: &[(&str, Option<&str>, &str)]) -> Entry {
        let of = |&(host, from, to): &(&str, Option<&str>, &str)| {
            let from = from.map(str::to_owned);
            (host.to_owned(), Switched { from, to: to.to_owned() })
        };
        Entry { id, releases: hosts.iter().map(of).collect(), ..Entry::default() }
    }

    fn found(entries: &[Entry]) -> Option<(u64, Option<u64>)> {
        last_switch(entries).map(|(entry, before)| (entry.id, before))
    }

    #[test]
    fn the_last_change_that_switched_a_release_is_undone() {
        let first = entry(1, &[("h", None, "a")]);
        let second = entry(2, &[("h", Some("a"), "b")]);
        let only_started = entry(3, &[("h", Some("b"), "b")]);
        assert_eq!(found(&[]), None);
        assert_eq!(found(std::slice::from_ref(&first)), None);
        let all = [first, second, only_started];
        assert_eq!(found(&all), Some((2, Some(1))));
    }

    #[test]
    fn a_second_rollback_takes_the_first_one_back() {
        let all = [
            entry(1, &[("h", None, "a")]),
            entry(2, &[("h", Some("a"), "b")]),
            entry(3, &[("h", Some("b"), "a")]),
        ];
        let (last, before) = last_switch(&all).unwrap();
        assert_eq!((last.releases["h"].from.as_deref(), before), (Some("b"), Some(2)));
    }

    #[test]
    fn nodes_of_an_earlier_release_come_from_its_own_files() {
        let text = |path: &str, text: &str| (("aa".to_owned(), path.to_owned()), text.to_owned());
        let texts = Texts::from([
            text(
                HOST_YAML,
                "key_of_tomorrow: 1\nnodes:\n- node: w\n  role: worker\n- node: l\n  role: logger\n",
            ),
            text("etc/nodes/w.yaml", "capture:\n  interface: eth0\n"),
        ]);
        let members = members_of(&"h".into(), "aa", &texts);
        let told: Vec<_> =
            members.iter().map(|m| (m.node.as_str(), m.interface.as_deref())).collect();
        assert_eq!(told, [("w", Some("eth0")), ("l", None)]);
    }
}
