//! `ctl capstats`: the load of each captured interface, from two reads of its counters. Takes no
//! lock.

use std::time::Duration;

use anyhow::bail;
use clap::{Arg, ArgMatches};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tyto_core::config::name::HostName;
use tyto_core::config::runtime::Role;

use super::{Command, Run};
use crate::context::Context;
use crate::hosts::Hosts;
use crate::report::Report;
use crate::sight::{self, Sight};

/// Seconds that the load is measured over unless the operator says otherwise.
const SECONDS: u64 = 10;
/// Seconds that may be asked for.
const SECONDS_MAX: u64 = 3600;

pub(super) const COMMAND: Command = Command {
    name: "capstats",
    summary: "Shows the load of each captured interface",
    details: "Thousands of packets and millions of bits a second that each interface received, \
              by its own counters, over some seconds: `ctl capstats worker-1 30`. Workers report \
              once a second, so fewer than two seconds are not measured.",
    args: || {
        vec![Arg::new("words").value_name("NODES|SECONDS").num_args(0..).help(
            "Names of nodes or groups [default: all that capture], then seconds [default: 10]",
        )]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

/// An interface in the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Load {
    host: String,
    interface: String,
    packets: u64,
    bytes: u64,
    seconds: f64,
    kpps: f64,
    mbps: f64,
}

/// What an interface had counted at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    packets: u64,
    bytes: u64,
    at: Instant,
}

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let words: Vec<&str> =
        args.get_many::<String>("words").into_iter().flatten().map(String::as_str).collect();
    let (words, seconds) = split(&words);
    if !(2..=SECONDS_MAX).contains(&seconds) {
        bail!("{seconds} seconds cannot be measured; expected 2 to {SECONDS_MAX}");
    }
    let mut nodes = ctx.select(words.iter().copied())?;
    nodes.retain(|node| {
        matches!(node.role, Role::Worker | Role::Standalone) && node.interface.is_some()
    });
    if nodes.is_empty() {
        bail!("none of these nodes captures an interface");
    }
    let hosts = Hosts::of(ctx, &nodes)?;
    let before = sight::look(&hosts, &nodes, &mut Report::new()).await;
    sleep(Duration::from_secs(seconds)).await;
    let mut report = Report::new();
    let after = sight::look(&hosts, &nodes, &mut report).await;
    let mut loads = Vec::new();
    for (host, interface) in interfaces(&after) {
        let readings = reading(&before, host, interface).zip(reading(&after, host, interface));
        match readings.and_then(|(before, after)| load(host, interface, before, after)) {
            Some(load) => loads.push(load),
            None => report.error(format!("{host}/{interface}: no worker of it reported")),
        }
    }
    report.raw(render(&loads, seconds));
    report.json(&loads);
    Ok(report)
}

/// A last word that is a number is the seconds, as in ZeekControl.
fn split<'a, 'b>(words: &'a [&'b str]) -> (&'a [&'b str], u64) {
    match words.split_last().map(|(last, nodes)| (nodes, last.parse())) {
        Some((nodes, Ok(seconds))) => (nodes, seconds),
        _ => (words, SECONDS),
    }
}

/// Each captured interface once, in the order of the nodes.
fn interfaces<'a>(sights: &'a [Sight<'_>]) -> Vec<(&'a HostName, &'a str)> {
    let mut all = Vec::new();
    for sight in sights {
        let of = sight.node.interface.as_deref().map(|name| (&sight.node.host, name));
        if let Some(of) = of.filter(|of| !all.contains(of)) {
            all.push(of);
        }
    }
    all
}

/// What the interface's card has counted, by the youngest report of its workers. They count
/// the same, and a worker that was restarted meanwhile changes nothing.
fn reading(sights: &[Sight<'_>], host: &HostName, interface: &str) -> Option<Reading> {
    let own = |sight: &&Sight<'_>| {
        sight.node.host == *host && sight.node.interface.as_deref() == Some(interface)
    };
    let reports = sights.iter().filter(own).filter_map(Sight::report);
    let readings = reports.filter_map(|(health, at)| {
        let packets = sight::counter(health, "nic_packets")?;
        Some(Reading { packets, bytes: sight::counter(health, "nic_bytes")?, at })
    });
    readings.max_by_key(|reading| reading.at)
}

#[allow(clippy::cast_precision_loss, reason = "rates for people, one digit behind the point")]
fn load(host: &HostName, interface: &str, before: Reading, after: Reading) -> Option<Load> {
    let seconds = after.at.checked_duration_since(before.at)?.as_secs_f64();
    if seconds < 0.5 {
        return None;
    }
    let packets = after.packets.saturating_sub(before.packets);
    let bytes = after.bytes.saturating_sub(before.bytes);
    Some(Load {
        host: host.to_string(),
        interface: interface.to_owned(),
        packets,
        bytes,
        seconds,
        kpps: packets as f64 / seconds / 1e3,
        mbps: bytes as f64 * 8.0 / seconds / 1e6,
    })
}

fn render(loads: &[Load], seconds: u64) -> String {
    let line = |name: &str, kpps: f64, mbps: f64| format!("{name:<21} {kpps:<10.1} {mbps:.1}\n");
    let head = format!("{:<21} {:<10} {:<10}", "Interface", "kpps", "mbps");
    let mut text = format!("{head} ({seconds}s average)\n{}\n", "-".repeat(40));
    for load in loads {
        text.push_str(&line(&format!("{}/{}", load.host, load.interface), load.kpps, load.mbps));
    }
    if loads.len() > 1 {
        let sum = |of: fn(&Load) -> f64| loads.iter().map(of).sum();
        text.push('\n');
        text.push_str(&line("Total", sum(|load| load.kpps), sum(|load| load.mbps)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostName {
        "h1".into()
    }

    #[test]
    fn columns_are_those_of_zeekcontrol() {
        let at = Instant::now();
        let before = Reading { packets: 1000, bytes: 0, at };
        let after =
            Reading { packets: 72_000, bytes: 313_000_000, at: at + Duration::from_secs(10) };
        let load = load(&host(), "eth0", before, after).unwrap();
        let head = "Interface             kpps       mbps       (10s average)\n\
                    ----------------------------------------\n";
        let one = "h1/eth0               7.1        250.4\n";
        assert_eq!(render(std::slice::from_ref(&load), 10), format!("{head}{one}"));
        assert_eq!(
            render(&[load.clone(), load], 10),
            format!("{head}{one}{one}\nTotal                 14.2       500.8\n")
        );
    }

    #[test]
    fn counters_that_were_read_at_one_time_tell_no_load() {
        let reading = Reading { packets: 1, bytes: 1, at: Instant::now() };
        assert!(load(&host(), "eth0", reading, reading).is_none());
    }

    #[test]
    fn a_last_number_is_the_seconds() {
        assert_eq!(split(&["workers", "30"]), (&["workers"][..], 30));
        assert_eq!(split(&["7"]), (&[][..], 7));
        assert_eq!(split(&["workers"]), (&["workers"][..], SECONDS));
        assert_eq!(split(&[]), (&[][..], SECONDS));
    }
}
