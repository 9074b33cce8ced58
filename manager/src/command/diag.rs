//! `ctl diag`: how a node stands, what it wrote last, and what was kept of its crashes. Takes no
//! lock, and needs no supervisor on the host.

use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use jiff::Timestamp;
use serde_json::json;
use tyto_proto::v1::NodeStatus;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::crashes::{self, Crash, Excerpt, Remains};
use crate::hosts::{Host, Hosts};
use crate::identity::refused;
use crate::remote::Input;
use crate::remote::error::RemoteError;
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "diag",
    summary: "Tells why a node is as it is: state, last output, last crash",
    details: "State and last exit as the supervisor knows them, the end of stderr.log and \
              stdout.log, then the last crash: how and why it ended, versions, backtrace (where \
              it left a core and the host has a debugger), output, its last report, what the \
              supervisor traced, its configuration. Earlier crashes are listed; their folders \
              hold the same files. Works too when no supervisor runs there.",
    args: || vec![nodes_arg()],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

/// What is known of a host's nodes: what their supervisor says, or why it does not, and what is
/// on the disk.
struct Findings {
    known: Vec<NodeStatus>,
    silent: Option<String>,
    remains: Vec<Remains>,
}

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let hosts = Hosts::of(ctx, &nodes)?;
    let results = hosts
        .each(|host| {
            let here = nodes.iter().filter(|node| node.host == host.name);
            let names: Vec<String> = here.map(|node| node.name.to_string()).collect();
            async move { find(Arc::new(host), names).await }
        })
        .await;
    let mut report = Report::new();
    let mut all = Vec::new();
    for (host, result) in results {
        match result {
            Ok(findings) => {
                if let Some(silent) = &findings.silent {
                    report.warn(format!("{host}: {silent}; this is what lies on its disk"));
                }
                for remains in &findings.remains {
                    let status = findings.known.iter().find(|known| known.node == remains.node);
                    tell(status, remains, &mut report);
                    all.push(result_of(status, remains));
                }
            }
            Err(error) => report.remote_error(&host, &error),
        }
    }
    report.json(&all);
    Ok(report)
}

async fn find(host: Arc<Host>, names: Vec<String>) -> Result<Findings, RemoteError> {
    // The disk tells something even when the supervisor does not.
    let (known, silent) = match host.status().await {
        Ok(reply) if reply.supervisor_pid == 0 => {
            (reply.nodes, Some("no supervisor runs".to_owned()))
        }
        Ok(reply) => (reply.nodes, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let script = crashes::script(&host.layout, &names);
    let output = host.remote.run(&script, Input::None, host.deadline).await?;
    Ok(Findings { known, silent, remains: crashes::parse(&output.stdout_text()) })
}

/// ZeekControl's blocks: `[node]`, then `==== file` or `==== No file`.
fn tell(status: Option<&NodeStatus>, remains: &Remains, report: &mut Report) {
    report.line(format!("[{}]", remains.node));
    report.line(describe(status));
    let refused = |status| refused::lines(status, Duration::MAX, Timestamp::now());
    status.into_iter().flat_map(refused).for_each(|line| report.line(line));
    for excerpt in &remains.outputs {
        report.raw(block(excerpt));
    }
    let Some((last, earlier)) = remains.crashes.split_last() else {
        report.line("\n==== No crash");
        return;
    };
    report.line(format!("\n==== last crash: {}", line_of(last)));
    for excerpt in last.files.iter().filter(|excerpt| !excerpt.lines.is_empty()) {
        report.raw(block(excerpt));
    }
    if !earlier.is_empty() {
        report.line("\n==== earlier crashes");
        earlier.iter().rev().for_each(|crash| report.line(line_of(crash)));
    }
    report.line("");
}

fn block(excerpt: &Excerpt) -> String {
    if excerpt.lines.is_empty() {
        return format!("\n==== No {}\n", excerpt.file);
    }
    format!("\n==== {}\n{}\n", excerpt.file, excerpt.lines.join("\n"))
}

fn line_of(crash: &Crash) -> String {
    let Crash { dir, exit, cause, .. } = crash;
    match cause.as_str() {
        "" | "unknown" => format!("{dir}: {exit}"),
        cause => format!("{dir}: {exit}, {cause}"),
    }
}

fn describe(status: Option<&NodeStatus>) -> String {
    let Some(status) = status else { return "not known to a supervisor".to_owned() };
    let mut text = format!(
        "state {}, pid {}, restarts {}, release {}",
        status.state,
        status.pid,
        status.restarts,
        if status.release.is_empty() { "-" } else { &status.release }
    );
    if status.watchdog_kills > 0 {
        text.push_str(&format!(", killed by the watchdog {} times", status.watchdog_kills));
    }
    if !status.last_exit.is_empty() {
        text.push_str(&format!(", last exit: {}", status.last_exit));
    }
    if !status.failure.is_empty() {
        text.push_str(&format!("\nwhy: {}", status.failure));
    }
    if status.retry_in_ms > 0 {
        text.push_str(&format!("\nstarted again in {:.1} s", status.retry_in_ms as f64 / 1000.0));
    }
    if let Some(health) = &status.health {
        text.push_str(&format!("\nlast report {} ms ago", status.health_age_ms));
        for counter in &health.counters {
            text.push_str(&format!("\n  {} = {}", counter.name, counter.value));
        }
    }
    text
}

fn result_of(status: Option<&NodeStatus>, remains: &Remains) -> serde_json::Value {
    let (last, earlier) = match remains.crashes.split_last() {
        Some((last, earlier)) => (Some(last), earlier),
        None => (None, &[][..]),
    };
    json!({
        "node": remains.node,
        "state": status.map(|status| &status.state),
        "why": status.map(|status| &status.failure),
        "last_exit": status.map(|status| &status.last_exit),
        "restarts": status.map(|status| status.restarts),
        "watchdog_kills": status.map(|status| status.watchdog_kills),
        "retry_in_ms": status.map(|status| status.retry_in_ms),
        "outputs": remains.outputs,
        "last_crash": last,
        "earlier_crashes": earlier,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_a_crash_loop_says_why_and_when_it_is_tried_again() {
        let status = NodeStatus {
            state: "failed".into(),
            restarts: 4,
            watchdog_kills: 2,
            last_exit: "exit code 3".into(),
            failure: "terminated: exit code 3".into(),
            retry_in_ms: 28_400,
            ..NodeStatus::default()
        };
        assert_eq!(
            describe(Some(&status)),
            "state failed, pid 0, restarts 4, release -, killed by the watchdog 2 times, \
             last exit: exit code 3\nwhy: terminated: exit code 3\nstarted again in 28.4 s"
        );
        assert_eq!(describe(None), "not known to a supervisor");
    }

    #[test]
    fn blocks_are_those_of_zeekcontrol() {
        let excerpt = |lines: &[&str]| Excerpt {
            file: "stderr.log".into(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(block(&excerpt(&["a", "b"])), "\n==== stderr.log\na\nb\n");
        assert_eq!(block(&excerpt(&[])), "\n==== No stderr.log\n");
    }
}
