//! Carries out a plan and tells what became of it: nodes that left are stopped, the rest is rolled
//! out, the history gets its entry. Used by every verb that changes what hosts run.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use serde_json::json;
use tyto_core::config::name::HostName;
use tyto_core::config::runtime::Role;

use super::history::{Entry, Files, History, Outcome as Ended, Switched};
use super::order::Member;
use super::plan::Plan;
use super::rollout::{Care, Cause, Failure, Outcome, Rollout, Switch};
use super::strays;
use crate::context::Context;
use crate::hosts::Hosts;
use crate::lock::{self, LockWatch};
use crate::report::Report;

/// How long a restarted node must run without a fault, seconds, when nothing else is said.
const SETTLE_DEFAULT: &str = "2";

/// The argument `--plan` of verbs that bring hosts another release.
pub fn plan_arg() -> Arg {
    Arg::new("plan").long("plan").action(ArgAction::SetTrue).help("Only say what would be done")
}

/// The arguments of verbs that restart nodes: `--settle` and `--parallel`, which [`care`] reads,
/// and `--no-wait`.
pub fn care_args() -> Vec<Arg> {
    vec![
        Arg::new("settle")
            .long("settle")
            .value_name("SECONDS")
            .default_value(SETTLE_DEFAULT)
            .value_parser(value_parser!(u64).range(0..=3600))
            .help("How long a restarted node must run without a fault before the next is touched"),
        Arg::new("parallel")
            .long("parallel")
            .value_name("N")
            .value_parser(value_parser!(u32).range(1..=256))
            .help("Groups of workers restarted at the same time [default: ssh.parallel_max]"),
        lock::no_wait_arg(),
    ]
}

/// How careful the operator wants it.
pub fn care(ctx: &Context, args: &ArgMatches) -> Care {
    let settings = &ctx.cluster.settings;
    let settle_s = args.get_one::<u64>("settle").copied().unwrap_or_default();
    Care {
        settle: Duration::from_secs(settle_s),
        patience: Duration::from_secs(settings.stop_timeout_s),
        parallel_max: args.get_one::<u32>("parallel").copied().unwrap_or(settings.ssh.parallel_max),
    }
}

/// A plan with all that is needed to carry it out.
#[derive(Debug)]
pub struct Job<'a> {
    /// The operator's files and settings.
    pub ctx: &'a Context,
    /// What is to be done.
    pub plan: &'a Plan,
    /// The hosts that answer.
    pub hosts: &'a Hosts,
    /// Nodes that there shall be.
    pub members: &'a [Member],
    /// Release of each host before and after.
    pub releases: BTreeMap<String, Switched>,
    /// The operator's files, as the history is to keep them.
    pub files: Files,
    /// How careful.
    pub care: Care,
    /// The lock it is done under.
    pub lock: LockWatch,
}

/// Carries out the plan. What was done is told in `report`, or what failed, with what runs what
/// now.
///
/// # Errors
/// When SSH cannot be prepared on this machine.
pub async fn apply(job: Job<'_>, report: &mut Report) -> anyhow::Result<Outcome> {
    let mut entry = Entry { releases: job.releases.clone(), ..Entry::of(job.plan) };
    let history = begin(&job, &mut entry, report).await?;
    stop_what_left(&job, report).await?;
    let rollout = Rollout::new(
        job.hosts,
        job.members.iter().cloned(),
        switches(&job),
        job.care,
        job.lock.clone(),
        &job.ctx.progress,
    );
    let outcome = rollout.run(&job.plan.waves).await;
    tell(job.plan, &outcome, report);
    if outcome.failures.is_empty() {
        let (started, unchanged) = (outcome.done.len(), job.plan.untouched.len());
        report.line(format!("nodes started: {started}, left as they were: {unchanged}"));
    }
    let mut result = serde_json::to_value(job.plan)?;
    result["done"] = json!(outcome.done);
    report.json(&result);
    entry.ended = Some(jiff::Timestamp::now().to_string());
    entry.failures = outcome.failures.iter().map(Failure::to_string).collect();
    entry.outcome = if outcome.failures.is_empty() { Ended::Done } else { Ended::Failed };
    if let Some(history) = history
        && let Err(error) = history.end(&entry, &job.files).await
    {
        report.warn_about("history", &error.into());
    }
    Ok(outcome)
}

/// Notes that a change begins. A change is not kept from being made because it cannot be noted.
async fn begin(
    job: &Job<'_>,
    entry: &mut Entry,
    report: &mut Report,
) -> anyhow::Result<Option<History>> {
    let Some(history) = History::of(job.ctx)? else { return Ok(None) };
    match history.begin(entry, &job.files).await {
        Ok(()) => Ok(Some(history)),
        Err(error) => {
            report.warn_about("history", &error.into());
            Ok(None)
        }
    }
}

async fn stop_what_left(job: &Job<'_>, report: &mut Report) -> anyhow::Result<()> {
    let mut nodes: BTreeMap<HostName, Vec<String>> = BTreeMap::new();
    let mut gone = Vec::new();
    for stop in &job.plan.stops {
        match &stop.node {
            Some(node) => nodes.entry(stop.host.clone()).or_default().push(node.clone()),
            None => gone.push(stop.host.clone()),
        }
    }
    if !gone.is_empty() {
        strays::stop_hosts(job.ctx, gone, job.care.patience, report).await?;
    }
    strays::stop_nodes(job.hosts, &nodes, job.care.patience, report).await;
    Ok(())
}

/// The release of each host that gets another one.
fn switches(job: &Job<'_>) -> BTreeMap<HostName, Switch> {
    let writes = |member: &&Member| matches!(member.role, Role::Logger | Role::Standalone);
    let of = |host: &HostName| {
        let members = job.members.iter().filter(|member| member.host == *host);
        let mut writers = members.filter(writes);
        let first = writers.next().map(|member| member.node.clone());
        // Several make a folder with a link for each of them.
        if writers.next().is_some() { None } else { first }
    };
    let hosts = job.plan.hosts.iter();
    hosts
        .map(|change| {
            let switch = Switch { release: change.to.clone(), logger: of(&change.host) };
            (change.host.clone(), switch)
        })
        .collect()
}

/// Tells what failed, and which nodes run what after it.
pub fn tell(plan: &Plan, outcome: &Outcome, report: &mut Report) {
    for failure in &outcome.failures {
        match (&failure.node, &failure.cause) {
            (Some(node), Cause::Node(_)) => {
                let hint = match plan.hosts.is_empty() {
                    true => format!("`ctl diag {node}` tells more"),
                    false => format!(
                        "`ctl diag {node}` tells more; `ctl rollback` goes back to the release before"
                    ),
                };
                report.error_hint(failure.to_string(), hint);
            }
            (_, Cause::Host(error)) => report.remote_error(&failure.host, error),
            (_, Cause::Node(_) | Cause::Lock(_)) => report.error(failure.to_string()),
        }
    }
    if outcome.failures.is_empty() {
        return;
    }
    let failed = |node: &String| outcome.failures.iter().any(|f| f.node.as_ref() == Some(node));
    let all: Vec<String> = plan.nodes.iter().map(|node| node.member.node.clone()).collect();
    let (done, rest): (Vec<String>, Vec<String>) =
        all.into_iter().partition(|node| outcome.done.contains(node));
    let not_touched: Vec<String> = rest.into_iter().filter(|node| !failed(node)).collect();
    if outcome.is_stopped || !not_touched.is_empty() {
        report.line(format!("done before that: {}", list(&done)));
        report.line(format!("not touched: {}", list(&not_touched)));
    }
    let left: Vec<String> = plan
        .hosts
        .iter()
        .filter(|host| !outcome.switched.contains(&host.host))
        .map(|host| host.host.to_string())
        .collect();
    if !left.is_empty() {
        report.line(format!("hosts still on the release before: {}", list(&left)));
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.node, &self.cause) {
            (Some(node), Cause::Node(why)) => {
                write!(f, "{node} on host `{}` is not healthy: {why}", self.host)
            }
            (None, Cause::Node(why)) | (_, Cause::Lock(why)) => f.write_str(why),
            (_, Cause::Host(error)) => write!(f, "{error}"),
        }
    }
}
