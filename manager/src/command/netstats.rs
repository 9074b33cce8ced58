//! `ctl netstats`: what each worker received and lost, as ZeekControl prints it. Takes no lock.

use std::collections::BTreeMap;

use clap::ArgMatches;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::report::Report;
use crate::sight::{self, Sight};
use crate::survey::{self, Ask};

pub(super) const COMMAND: Command = Command {
    name: "netstats",
    summary: "Shows what each worker received and lost",
    details: "recvd: packets that the worker took from its ring; dropped: packets that found the \
              ring full; link: both, and what still waits there. They count from the start of the \
              capture; the time is that of the worker's last report. --json has all counters, \
              those of the network card too; docs/operate.md tells how they add up.",
    args: || vec![nodes_arg().help("Names of nodes, or groups [default: workers]")],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

/// A node that captures, and its counters.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    node: String,
    host: String,
    interface: Option<String>,
    /// When the node reported, microseconds since the Unix epoch.
    ts_us: i64,
    counters: BTreeMap<String, u64>,
}

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = capturing(ctx, args)?;
    let mut report = Report::new();
    let sights = survey::look(ctx, &nodes, Ask::ManagerFirst, &mut report).await?.sights;
    let (now, wall) = (Instant::now(), Timestamp::now());
    let mut rows = Vec::new();
    for sight in &sights {
        match row(sight, now, wall) {
            Ok(row) => {
                report.line(line(&row));
                warn_of_merging(&row, &mut report);
                rows.push(row);
            }
            Err(why) => report.error(format!("{}: no counters: {why}", sight.node.name)),
        }
    }
    report.json(&rows);
    Ok(report)
}

/// The nodes that the operator names; those that capture when none are named.
pub(super) fn capturing<'c>(ctx: &'c Context, args: &ArgMatches) -> anyhow::Result<Vec<&'c Node>> {
    let mut nodes = ctx.nodes(args)?;
    if args.get_many::<String>("nodes").is_none_or(|words| words.len() == 0) {
        nodes.retain(|node| matches!(node.role, Role::Worker | Role::Standalone));
    }
    Ok(nodes)
}

fn row(sight: &Sight<'_>, now: Instant, wall: Timestamp) -> Result<Row, String> {
    if sight.running().is_none() {
        return Err(sight.why_not().to_owned());
    }
    let (health, at) = sight.report().ok_or("it has not reported yet")?;
    if sight::counter(health, "packets_received").is_none() {
        return Err(format!("a {} does not capture", health.role));
    }
    let age = now.saturating_duration_since(at);
    let ts_us = wall.as_microsecond() - i64::try_from(age.as_micros()).unwrap_or_default();
    let counters = health.counters.iter().map(|c| (c.name.clone(), c.value)).collect();
    Ok(Row {
        node: sight.node.name.to_string(),
        host: sight.node.host.to_string(),
        interface: sight.node.interface.clone(),
        ts_us,
        counters,
    })
}

/// Merged packets have sizes and numbers that were never on the wire.
fn warn_of_merging(row: &Row, report: &mut Report) {
    let interface = row.interface.as_deref().unwrap_or("IFACE");
    if row.counters.get("nic_merges").is_some_and(|&merges| merges != 0) {
        report.warn_hint(
            format!("{}: packets of {interface} are merged before they are captured", row.node),
            format!("on {}: ethtool -K {interface} gro off lro off", row.host),
        );
    }
}

fn line(row: &Row) -> String {
    let count = |name: &str| row.counters.get(name).copied().unwrap_or_default();
    format!(
        "{:>11}: {}.{:06} recvd={} dropped={} link={}",
        row.node,
        row.ts_us.div_euclid(1_000_000),
        row.ts_us.rem_euclid(1_000_000),
        count("packets_received"),
        count("packets_dropped"),
        count("packets_link"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_zeekcontrols() {
        let counters = [("packets_received", 70), ("packets_dropped", 5), ("packets_link", 80)];
        let row = Row {
            node: "worker-1".into(),
            host: "h".into(),
            interface: None,
            ts_us: 1_645_459_869_090_837,
            counters: counters.map(|(name, value)| (name.to_owned(), value)).into(),
        };
        assert_eq!(line(&row), "   worker-1: 1645459869.090837 recvd=70 dropped=5 link=80");
    }
}
