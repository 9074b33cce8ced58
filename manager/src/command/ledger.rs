//! `ctl ledger`: where every row is. Asks the manager; when it is gone, the supervisors. Takes
//! no lock.

use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches};
use serde_json::json;
use tokio::time::sleep;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;
use tyto_daemon::ledger::{Judge, Line, Lines, by_stream};
use tyto_proto::v1::Alarm;

use super::{Command, Run};
use crate::context::Context;
use crate::report::{Report, hinted};
use crate::survey::{self, Ask, Survey, told_alarms, told_time};

/// How long reports of one moment are waited for when the sums do not match: nodes report each
/// second, each at its own.
const PATIENCE: Duration = Duration::from_secs(6);
/// Time between two questions.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

pub(super) const COMMAND: Command = Command {
    name: "ledger",
    summary: "Shows where every log row is; fails when one is unaccounted for",
    details: "Per log stream: rows produced, written to log files, in flight, spooled on a \
              producer's disk, and dropped with the reason. What one node says and another has to \
              confirm is asked again for a few seconds, because nodes report at different moments. \
              Of a node that does not run its last report counts. Exit code 1: rows are \
              unaccounted for, or a host does not answer; dropped rows and alarms do not count.",
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

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes: Vec<&Node> = ctx.cluster.nodes.iter().collect();
    let is_known = |name: &str| nodes.iter().any(|node| node.name == name);
    let mut judge = Judge::new(PATIENCE);
    let mut first = None;
    let (mut report, survey, lines) = loop {
        let mut report = Report::new();
        let survey = survey::look(ctx, &nodes, Ask::ManagerFirst, &mut report).await?;
        let now = Instant::now();
        let lines = judge.look(&survey.known(), is_known, now);
        let first = *first.get_or_insert(now);
        // What came up since is about later rows.
        if !judge.is_open(first) || now >= first + PATIENCE {
            break (report, survey, lines);
        }
        sleep(ASK_INTERVAL).await;
    };
    warn_silent(ctx, &survey, &mut report);
    warn_kept(&survey, &mut report);
    Ok(show(report, &survey, &lines, args.get_flag("nodes")))
}

/// Rows of a node that nobody has a report of are not in the sums, and of one that died what came
/// after its last report is not known.
fn warn_silent(ctx: &Context, survey: &Survey<'_>, report: &mut Report) {
    let known = survey.known();
    if let Some(error) = &survey.manager_error {
        report.warn(format!("the manager does not answer, the supervisors were asked: {error}"));
    }
    if known.is_empty() {
        return report.error_hint("no node reports: nothing can be said", "`ctl start`");
    }
    let counts = |role| matches!(role, Role::Worker | Role::Standalone | Role::Logger);
    for node in ctx.cluster.ordered().into_iter().filter(|node| counts(node.role)) {
        match known.iter().find(|known| node.name == known.health.node.as_str()) {
            None => report.warn(format!("{}: no report; its rows are not counted", node.name)),
            Some(known) if !known.is_live && known.health.phase != "terminating" => {
                let text = "it is silent; its last report counts".to_owned();
                let hint = format!("ctl diag {}", node.name);
                report.warn_about(&node.name, &hinted(text, hint));
            }
            Some(_) => {}
        }
    }
}

/// Rows of a later release that this one does not understand, after a rollback.
fn warn_kept(survey: &Survey<'_>, report: &mut Report) {
    for known in survey.known() {
        let of = |name| known.health.counters.iter().find(|counter| counter.name == name);
        let value = |name| of(name).map_or(0, |counter| counter.value);
        let (kept, removed) = (value("spool_kept_segments"), value("spool_kept_removed"));
        if kept + removed > 0 {
            let node = &known.health.node;
            let text = format!(
                "{kept} files of its spool hold records of a later release and are kept; {removed} \
                 more were removed"
            );
            let hint = format!("PREFIX/spool/{node}/ship/*.seg.kept; remove them when not needed");
            report.warn_about(node, &hinted(text, hint));
        }
    }
}

/// An alarm for people.
fn alarm_cells(alarm: &Alarm) -> Vec<String> {
    let until = if alarm.cleared_ns == 0 { "-".to_owned() } else { told_time(alarm.cleared_ns) };
    vec![alarm.kind.clone(), told_time(alarm.raised_ns), until, alarm.text.clone()]
}

fn alarm_json(alarm: &Alarm) -> serde_json::Value {
    let cleared_ns = Some(alarm.cleared_ns).filter(|&ns| ns != 0);
    json!({
        "kind": alarm.kind, "node": alarm.node, "stream": alarm.stream, "reason": alarm.reason,
        "text": alarm.text, "value": alarm.value, "raised_ns": alarm.raised_ns,
        "cleared_ns": cleared_ns,
    })
}

fn show(mut report: Report, survey: &Survey<'_>, lines: &Lines, per_node: bool) -> Report {
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
    let alarms: Vec<&Alarm> = told_alarms(&survey.alarms).collect();
    if !alarms.is_empty() {
        report.line("");
        let rows = alarms.iter().map(|alarm| alarm_cells(alarm)).collect();
        report.table(&["alarm", "since", "until", ""], rows);
    }
    for fault in streams.iter().flat_map(|line| &line.faults) {
        report.error(fault.clone());
    }
    let nodes: Vec<_> =
        lines.iter().map(|((node, _), line)| json!({ "node": node, "line": line })).collect();
    let adds_up = streams.iter().all(Line::adds_up);
    let asked = if survey.has_manager { "manager" } else { "supervisors" };
    let alarms: Vec<_> = alarms.into_iter().map(alarm_json).collect();
    report.json(&json!({
        "adds_up": adds_up, "streams": streams, "nodes": nodes, "alarms": alarms, "asked": asked,
    }));
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
