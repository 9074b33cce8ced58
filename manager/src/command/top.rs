//! `ctl top`: memory and processor time of each node's process, in ZeekControl's table. Takes
//! no lock.

use std::time::Duration;

use clap::ArgMatches;
use serde::Serialize;
use tokio::time::sleep;
use tyto_core::config::runtime::Role;
use tyto_proto::v1::Usage;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::hosts::Hosts;
use crate::report::Report;
use crate::sight::{self, Sight};

/// Time over which processor time is measured.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) const COMMAND: Command = Command {
    name: "top",
    summary: "Shows memory and processor time of each node's process",
    details: "Cpu is the share of one processor during a second, over 100 % for a process that \
              keeps more than one busy. Fails when a node does not run.",
    args: || vec![nodes_arg()],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

/// A node in the table.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    name: String,
    #[serde(rename = "type")]
    role: Role,
    host: String,
    process: Option<Process>,
    /// Why there is none.
    error: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Process {
    pid: u32,
    virtual_bytes: u64,
    resident_bytes: u64,
    cpu_percent: u64,
    command: &'static str,
}

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let hosts = Hosts::of(ctx, &nodes)?;
    // Hosts that do not answer are told once, by the second look.
    let before = sight::look(&hosts, &nodes, &mut Report::new()).await;
    sleep(INTERVAL).await;
    let mut report = Report::new();
    let after = sight::look(&hosts, &nodes, &mut report).await;
    let rows: Vec<Row> = before.iter().zip(&after).map(|(b, a)| row(b, a)).collect();
    report.raw(render(&rows));
    if rows.iter().any(|row| row.process.is_none()) {
        report.fail();
    }
    report.json(&rows);
    Ok(report)
}

fn row(before: &Sight<'_>, after: &Sight<'_>) -> Row {
    let node = after.node;
    let process = after.running().and_then(|status| {
        let usage = status.usage?;
        let earlier = before.running().filter(|earlier| earlier.pid == status.pid);
        let elapsed = after.at.saturating_duration_since(before.at);
        Some(Process {
            pid: status.pid,
            virtual_bytes: usage.virtual_bytes,
            resident_bytes: usage.resident_bytes,
            cpu_percent: cpu_percent(earlier.and_then(|status| status.usage), usage, elapsed),
            command: node.role.program(),
        })
    });
    let error = match (&process, after.running()) {
        (Some(_), _) => None,
        (None, None) => Some(after.why_not().to_owned()),
        // An older supervisor, or the process ended between two questions.
        (None, Some(_)) => Some("not measured".to_owned()),
    };
    let (name, host) = (node.name.to_string(), node.host.to_string());
    Row { name, role: node.role, host, process, error }
}

/// Processor time between two looks; since the start of a process that was not there before.
fn cpu_percent(before: Option<Usage>, after: Usage, elapsed: Duration) -> u64 {
    let spent_ms = after.cpu_ms.saturating_sub(before.map_or(0, |usage| usage.cpu_ms));
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    (spent_ms * 100 + elapsed_ms / 2) / elapsed_ms
}

fn render(rows: &[Row]) -> String {
    // ZeekControl widens the column for `standalone`, at the cost of the host's.
    let is_standalone = rows.first().is_some_and(|row| row.role == Role::Standalone);
    let (role_width, host_width) = if is_standalone { (10, 13) } else { (7, 16) };
    let mut text = format!(
        "{:<12} {:<role_width$} {:<host_width$} {:<7} {:<6} {:<4} {:<5} {}\n",
        "Name", "Type", "Host", "Pid", "VSize", "Rss", "Cpu", "Cmd"
    );
    for row in rows {
        let (name, role, host) = (&row.name, row.role.as_str(), &row.host);
        let head = format!("{name:<12} {role:<role_width$} {host:<host_width$}");
        let rest = match (&row.process, &row.error) {
            (Some(p), _) => format!(
                "{:<7} {:<6} {:<4} {:>3}%  {}",
                p.pid,
                size(p.virtual_bytes),
                size(p.resident_bytes),
                p.cpu_percent,
                p.command
            ),
            (None, error) => format!("<{}>", error.as_deref().unwrap_or("not running")),
        };
        text.push_str(&format!("{head} {rest}\n"));
    }
    text
}

/// `37M`, `1G`: whole units of 1024, rounded down.
fn size(bytes: u64) -> String {
    let mut value = bytes;
    for unit in ["", "K", "M", "G"] {
        if value < 1024 {
            return format!("{value}{unit}");
        }
        value /= 1024;
    }
    format!("{value}T")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_zeekcontrol() {
        let process = Process {
            pid: 13363,
            virtual_bytes: 954 << 20,
            resident_bytes: 99 << 20,
            cpu_percent: 50,
            command: "manager",
        };
        let row = |name: &str, role, process: Option<Process>| Row {
            name: name.into(),
            role,
            host: "localhost".into(),
            error: process.is_none().then(|| "not running".to_owned()),
            process,
        };
        let rows = [row("manager", Role::Manager, Some(process)), row("w-1", Role::Worker, None)];
        assert_eq!(
            render(&rows),
            "Name         Type    Host             Pid     VSize  Rss  Cpu   Cmd\n\
             manager      manager localhost        13363   954M   99M   50%  manager\n\
             w-1          worker  localhost        <not running>\n"
        );
    }

    #[test]
    fn sizes_have_units_of_1024() {
        let sizes = [0, 1023, 1024, 37 << 20, 3 << 29, 5 << 40].map(size);
        assert_eq!(sizes, ["0", "1023", "1K", "37M", "1G", "5T"]);
    }

    #[test]
    fn processor_time_is_that_of_the_interval() {
        let usage = |cpu_ms| Usage { cpu_ms, ..Usage::default() };
        let second = Duration::from_secs(1);
        assert_eq!(cpu_percent(Some(usage(5000)), usage(5500), second), 50);
        assert_eq!(cpu_percent(Some(usage(5000)), usage(6996), second), 200);
        assert_eq!(cpu_percent(None, usage(250), second), 25);
        // A process that was given the pid of another one.
        assert_eq!(cpu_percent(Some(usage(9000)), usage(10), second), 0);
    }
}
