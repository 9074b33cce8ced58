//! `ctl ledger`: where every row is. Asks the manager; when it is gone, the supervisors. Takes
//! no lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tyto_core::config::runtime::Role;
use tyto_proto::v1::NodeHealth;

use super::{Command, Run};
use crate::context::Context;
use crate::hosts::Hosts;
use crate::ledger::{Line, by_producer, by_stream};
use crate::remote::error::RemoteError;
use crate::remote::peers::Manager;
use crate::report::Report;

/// How long reports of one moment are waited for when the sums do not match: nodes report each
/// second, each at its own.
const PATIENCE: Duration = Duration::from_secs(6);
/// Time between two questions.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

pub(super) const COMMAND: Command = Command {
    name: "ledger",
    summary: "Shows where every log row is; fails when one is unaccounted for",
    details: "Per log stream: rows produced, written to log files, in flight, spooled on a \
              producer's disk, and dropped with the reason. When the sum does not match at first \
              it is asked again for a few seconds, because nodes report at different moments.",
    args: || {
        vec![
            Arg::new("nodes")
                .long("nodes")
                .short('v')
                .action(ArgAction::SetTrue)
                .help("One line per node and stream"),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

type Lines = BTreeMap<(String, String), Line>;

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let names: Vec<&str> = ctx.cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    let nodes: Vec<_> = ctx.cluster.nodes.iter().collect();
    let hosts = Hosts::of(ctx, &nodes)?;
    let give_up = Instant::now() + PATIENCE;
    let (report, lines) = loop {
        let mut report = Report::new();
        let healths = ask(ctx, &hosts, &mut report).await;
        let lines = by_producer(&healths, &names);
        warn_silent(ctx, &healths, &mut report);
        if lines.values().all(Line::adds_up) || Instant::now() >= give_up {
            break (report, lines);
        }
        sleep(ASK_INTERVAL).await;
    };
    Ok(show(report, &lines, args.get_flag("nodes")))
}

/// Rows of a node that nobody has a report of are not in the sums.
fn warn_silent(ctx: &Context, healths: &[NodeHealth], report: &mut Report) {
    if healths.is_empty() {
        return report.error_hint("no node reports: nothing can be said", "`ctl start`");
    }
    let counts = |role| matches!(role, Role::Worker | Role::Standalone | Role::Logger);
    for node in ctx.cluster.ordered().into_iter().filter(|node| counts(node.role)) {
        if !healths.iter().any(|health| node.name == health.node.as_str()) {
            report.warn(format!("{}: no report; its rows are not counted", node.name));
        }
    }
}

/// The last reports of all nodes.
async fn ask(ctx: &Context, hosts: &Hosts, report: &mut Report) -> Vec<NodeHealth> {
    match ask_manager(ctx, hosts).await {
        Some(Ok(healths)) => return healths,
        Some(Err(error)) => report.warn_about("manager", &error.into()),
        None => {}
    }
    let mut healths = Vec::new();
    for (host, result) in hosts.statuses().await {
        match result {
            Ok(reply) => healths.extend(reply.nodes.into_iter().filter_map(|node| node.health)),
            Err(error) => report.remote_error(&host, &error),
        }
    }
    healths
}

/// None when the cluster has no manager.
async fn ask_manager(ctx: &Context, hosts: &Hosts) -> Option<Result<Vec<NodeHealth>, RemoteError>> {
    let head = ctx.cluster.head().filter(|node| node.role == Role::Manager)?;
    let host = hosts.find(&head.host)?;
    let asked = match Manager::open(Arc::clone(&host.remote), &host.layout).await {
        Ok(mut manager) => manager.nodes().await,
        Err(error) => Err(error),
    };
    Some(asked.map(|reply| reply.members.into_iter().filter_map(|member| member.health).collect()))
}

fn show(mut report: Report, lines: &Lines, per_node: bool) -> Report {
    let streams = by_stream(lines);
    if per_node {
        let rows = lines.iter().map(|((node, _), line)| {
            let mut cells = vec![node.clone()];
            cells.extend(cells_of(line));
            cells
        });
        let header = ["node", "stream", "produced", "written", "in flight", "spooled", "dropped"];
        report.table(&[&header[..], &["adds up"]].concat(), rows.collect());
    } else {
        let header = ["stream", "produced", "written", "in flight", "spooled", "dropped"];
        let rows = streams.iter().map(cells_of).collect();
        report.table(&[&header[..], &["adds up"]].concat(), rows);
    }
    for fault in streams.iter().flat_map(|line| &line.faults) {
        report.error(fault.clone());
    }
    let nodes: Vec<_> =
        lines.iter().map(|((node, _), line)| json!({ "node": node, "line": line })).collect();
    let adds_up = streams.iter().all(Line::adds_up);
    report.json(&json!({ "adds_up": adds_up, "streams": streams, "nodes": nodes }));
    report
}

fn cells_of(line: &Line) -> Vec<String> {
    let dropped = match line.dropped_rows() {
        0 => "0".to_owned(),
        rows => {
            let reasons: Vec<String> =
                line.dropped.iter().map(|(reason, rows)| format!("{reason} {rows}")).collect();
            format!("{rows} ({})", reasons.join(", "))
        }
    };
    vec![
        line.stream.clone(),
        line.produced_rows.to_string(),
        line.written_rows.to_string(),
        line.in_flight_rows.to_string(),
        line.spooled_rows.to_string(),
        dropped,
        if line.adds_up() { "yes" } else { "no" }.to_owned(),
    ]
}
