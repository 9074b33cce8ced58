//! `ctl loss`: where packets and rows were lost, from the network card to the log file, in one
//! view. Two looks, so that what is lost now is told from what was lost once. Takes no lock.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;
use tyto_core::config::node::Node;
use tyto_proto::v1::NodeHealth;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::drop_hint::hint_of;
use crate::log_lag::{self, Lag};
use crate::report::Report;
use crate::sight::{Sight, counter};
use crate::sink_report::{self, SinkReport};
use crate::survey::{self, Ask, Survey};

/// Seconds between two looks unless the operator says otherwise.
const INTERVAL_S: &str = "5";

pub(super) const COMMAND: Command = Command {
    name: "loss",
    summary: "Shows where packets and rows are lost, from the network card to the log file",
    details: "One line per stage and node: network card, ring, worker, analysis, spool, logger; what \
              it took, what it lost since its start and during the interval, and what helps. Counts \
              of packets begin with the capture, those of analysis with the worker's process, those \
              of rows with the node's first life. Below it is the log lag of each logger: the time \
              from a packet until its rows were on disk, in the last minute and since its start. Exit code 1: something was lost (with --lately: \
              during the interval), or a host does not answer.",
    args: || {
        vec![
            nodes_arg(),
            Arg::new("interval")
                .long("interval")
                .value_name("SECONDS")
                .default_value(INTERVAL_S)
                .value_parser(value_parser!(u64).range(0..=3600))
                .help("Time between the two looks; 0: one look only"),
            Arg::new("lately")
                .long("lately")
                .action(ArgAction::SetTrue)
                .help("Only what was lost during the interval decides the exit code"),
            Arg::new("streams")
                .long("streams")
                .action(ArgAction::SetTrue)
                .help("The log lag of each log stream too"),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

/// A stage of the way from the wire to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    NetworkCard,
    Ring,
    Worker,
    Analysis,
    Spool,
    Logger,
    Sink,
}

impl Stage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkCard => "network card",
            Self::Ring => "ring",
            Self::Worker => "worker",
            Self::Analysis => "analysis",
            Self::Spool => "spool",
            Self::Logger => "logger",
            Self::Sink => "sink",
        }
    }
}

/// A way to lose something.
#[derive(Clone, Copy, Debug)]
struct Way {
    stage: Stage,
    /// The counter of what was lost, and of what was taken (lost ones included or not).
    counter: &'static str,
    of: &'static str,
    /// What is counted, and what became of it.
    what: &'static str,
    hint: &'static str,
}

const fn way(
    stage: Stage,
    counter: &'static str,
    of: &'static str,
    what: &'static str,
    hint: &'static str,
) -> Way {
    Way { stage, counter, of, what, hint }
}

const MORE_WORKERS: &str =
    "more workers (`lb_procs`), a larger `af_packet_buffer_size`, or a `filter`";
const LESS_WORK: &str = "more workers (`lb_procs`); see `ctl top` and `ctl capstats`";

/// All ways to lose packets and depth, in the order of the way.
const WAYS: &[Way] = &[
    way(
        Stage::NetworkCard,
        "nic_dropped",
        "nic_packets",
        "packets: card or kernel had no room",
        "more receive queues (`ethtool -L`), larger ones (`ethtool -G`)",
    ),
    way(
        Stage::NetworkCard,
        "nic_fifo",
        "nic_packets",
        "packets: the queue of the card ran over",
        "larger receive queues (`ethtool -G`)",
    ),
    way(
        Stage::NetworkCard,
        "nic_errors",
        "nic_packets",
        "packets: broken on the wire",
        "mend cable, optics or the tap; `ethtool -S` tells more",
    ),
    way(Stage::Ring, "packets_dropped", "packets_link", "packets: the ring was full", MORE_WORKERS),
    way(
        Stage::Worker,
        "packets_malformed",
        "packets_received",
        "packets: the ring told nonsense of them",
        "a fault of the kernel: update it",
    ),
    way(
        Stage::Worker,
        "packets_truncated",
        "packets_received",
        "packets: cut",
        "a larger `snaplen`",
    ),
    way(
        Stage::Analysis,
        "flows_evicted",
        "flows",
        "connections: logged before their end, `flows_max` was reached",
        "a larger `flows_max`, or more workers",
    ),
    way(
        Stage::Analysis,
        "streams_given_up",
        "flows",
        "TCP streams: given up behind a hole",
        "packets are missing in what is captured: see the stages above, and the tap",
    ),
    way(
        Stage::Analysis,
        "shed_undetected",
        "flows",
        "connections: analysed by port only, the ring filled",
        LESS_WORK,
    ),
    way(
        Stage::Analysis,
        "shed_cut_short",
        "flows",
        "connections: analysed to 1 MiB only, the ring filled",
        LESS_WORK,
    ),
    way(
        Stage::Analysis,
        "shed_unanalysed",
        "flows",
        "connections: counted only, the ring filled",
        LESS_WORK,
    ),
];

/// What one stage of one node took and lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Loss {
    stage: Stage,
    host: String,
    /// The node; the interface for the network card.
    at: String,
    /// Name of the counter, or the reason for which rows were dropped.
    counter: String,
    what: String,
    taken: u64,
    lost: u64,
    percent: f64,
    /// During the interval; none when there was no second look, or the node began anew.
    lost_lately: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'static str,
}

/// Which loss: stage, host, node or interface, counter.
type Id = (Stage, String, String, String);

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes: Vec<&Node> = ctx.nodes(args)?;
    let seconds = args.get_one::<u64>("interval").copied().unwrap_or(0);
    let mut report = Report::new();
    let first = survey::look(ctx, &nodes, Ask::ManagerFirst, &mut report).await?;
    let (mut losses, mut lags, mut sinks) = (all(&first), lags(&first), sinks(&first));
    if seconds > 0 {
        sleep(Duration::from_secs(seconds)).await;
        // Hosts that do not answer are told once, by the second look.
        report = Report::new();
        let second = survey::look(ctx, &nodes, Ask::ManagerFirst, &mut report).await?;
        losses = lately(&losses, all(&second));
        (lags, sinks) = (self::lags(&second), self::sinks(&second));
    }
    show(&losses, seconds, args.get_flag("lately"), &mut report);
    show_lags(&lags, args.get_flag("streams"), &mut report);
    if !sinks.is_empty() {
        report.line("");
        report.table(&sink_report::HEADER, sinks.iter().map(SinkReport::cells).collect());
    }
    for sink in sinks.iter().filter(|sink| !sink.connected) {
        let text = format!("`{}` does not reach its sink `{}`", sink.node, sink.sink);
        report.warn_hint(text, format!("`ctl diag {}` tells why; its rows wait", sink.node));
    }
    report.json(&json!({ "losses": losses, "lag": lags, "sinks": sinks }));
    Ok(report)
}

/// The log lag of nodes that run.
fn lags(survey: &Survey<'_>) -> Vec<Lag> {
    let live = survey.sights.iter().filter_map(Sight::report);
    live.flat_map(|(health, _)| log_lag::of(health)).collect()
}

/// The sinks of loggers that run.
fn sinks(survey: &Survey<'_>) -> Vec<SinkReport> {
    survey.sights.iter().filter_map(Sight::report).flat_map(|(h, _)| sink_report::of(h)).collect()
}

fn show_lags(lags: &[Lag], each_stream: bool, report: &mut Report) {
    let shown = lags.iter().filter(|lag| each_stream || lag.stream.is_none());
    let rows: Vec<_> = shown.map(log_lag::cells).collect();
    if !rows.is_empty() {
        report.line("");
        report.table(&log_lag::HEADER, rows);
    }
}

/// What every stage counts, lost or not, in the order of the way.
fn all(survey: &Survey<'_>) -> Vec<Loss> {
    let mut losses: BTreeMap<(usize, Id), Loss> = BTreeMap::new();
    let reports = survey.known();
    for sight in &survey.sights {
        let name = sight.node.name.as_str();
        if let Some((health, _)) = sight.report() {
            for (place, way) in WAYS.iter().enumerate() {
                if let Some(loss) = of_way(sight, health, way) {
                    // Workers of one interface see the same card.
                    losses.insert((place, id(&loss)), loss);
                }
            }
        }
        if let Some(known) = reports.iter().find(|known| known.health.node == name) {
            for loss in of_rows(&sight.node.host, known.health) {
                losses.insert((WAYS.len(), id(&loss)), loss);
            }
        }
    }
    losses.into_values().collect()
}

fn id(loss: &Loss) -> Id {
    (loss.stage, loss.host.clone(), loss.at.clone(), loss.counter.clone())
}

fn of_way(sight: &Sight<'_>, health: &NodeHealth, way: &Way) -> Option<Loss> {
    let (lost, taken) = (counter(health, way.counter)?, counter(health, way.of)?);
    let at = match way.stage {
        Stage::NetworkCard => sight.node.interface.clone()?,
        _ => health.node.clone(),
    };
    Some(Loss {
        stage: way.stage,
        host: sight.node.host.to_string(),
        at,
        counter: way.counter.to_owned(),
        what: way.what.to_owned(),
        taken,
        lost,
        percent: percent(lost, taken),
        lost_lately: None,
        hint: way.hint,
    })
}

/// Rows of a producer by reason, and what a logger wrote.
fn of_rows(host: &str, health: &NodeHealth) -> Vec<Loss> {
    let rows = |stage, counter: &str, what: &str, taken, lost, hint| Loss {
        stage,
        host: host.to_owned(),
        at: health.node.clone(),
        counter: counter.to_owned(),
        what: what.to_owned(),
        taken,
        lost,
        percent: percent(lost, taken),
        lost_lately: None,
        hint,
    };
    let produced: u64 = health.ledger.iter().map(|row| row.produced_rows).sum();
    let mut losses = Vec::new();
    if produced > 0 {
        losses.push(rows(Stage::Spool, "", "rows", produced, 0, ""));
    }
    let mut dropped: BTreeMap<&str, u64> = BTreeMap::new();
    for part in health.ledger.iter().flat_map(|row| &row.dropped) {
        *dropped.entry(&part.reason).or_default() += part.rows;
    }
    for (reason, lost) in dropped {
        let what = format!("rows: dropped ({reason})");
        losses.push(rows(Stage::Spool, reason, &what, produced, lost, hint_of(reason)));
    }
    let written = health.ledger.iter().flat_map(|row| &row.written);
    let written: u64 = written.map(|part| part.rows).sum();
    if written > 0 {
        losses.push(rows(Stage::Logger, "", "rows", written, 0, ""));
    }
    for sink in sink_report::of(health) {
        let ways = [
            (
                "expired",
                sink.expired_rows,
                "the sink was away or slow for longer than logs are kept",
            ),
            (
                "broken",
                sink.broken_rows,
                "its `where` does not fit them: see stderr.log (`ctl diag`)",
            ),
        ];
        for (why, lost, hint) in ways {
            let (counter, what) = (
                format!("sink_{why}_rows@{}", sink.sink),
                format!("rows: {why} at `{}`", sink.sink),
            );
            losses.push(rows(Stage::Sink, &counter, &what, sink.rows + lost, lost, hint));
        }
    }
    losses
}

#[allow(clippy::cast_precision_loss, reason = "for people, three digits behind the point")]
fn percent(lost: u64, taken: u64) -> f64 {
    let all = lost.max(taken);
    if all == 0 { 0.0 } else { lost as f64 * 100.0 / all as f64 }
}

/// Adds what was lost between two looks. A count that fell began anew: nothing is known of it.
fn lately(before: &[Loss], mut after: Vec<Loss>) -> Vec<Loss> {
    let known: BTreeMap<Id, u64> = before.iter().map(|loss| (id(loss), loss.lost)).collect();
    for loss in &mut after {
        // A reason that was not there before counts from 0, when its node was.
        let was_there = before.iter().any(|b| (b.stage, &b.at) == (loss.stage, &loss.at));
        let from = known.get(&id(loss)).copied().or(was_there.then_some(0));
        loss.lost_lately = from.and_then(|from| loss.lost.checked_sub(from));
    }
    after
}

fn show(losses: &[Loss], seconds: u64, only_lately: bool, report: &mut Report) {
    let since = format!("last {seconds} s");
    // Of what a stage does not lose one line tells what it took.
    let mut shown: BTreeMap<(Stage, &str, &str), bool> = BTreeMap::new();
    for loss in losses {
        *shown.entry((loss.stage, &loss.host, &loss.at)).or_default() |= loss.lost > 0;
    }
    let mut rows = Vec::new();
    for loss in losses {
        let Some(lossy) = shown.get_mut(&(loss.stage, &loss.host, &loss.at)) else { continue };
        if loss.lost == 0 && std::mem::replace(lossy, true) {
            continue;
        }
        let what = if loss.lost == 0 { "-" } else { &loss.what };
        rows.push(vec![
            loss.stage.as_str().to_owned(),
            loss.host.clone(),
            loss.at.clone(),
            loss.taken.to_string(),
            loss.lost.to_string(),
            format!("{:.3}%", loss.percent),
            loss.lost_lately.map_or_else(|| "-".to_owned(), |lost| lost.to_string()),
            what.to_owned(),
        ]);
    }
    report.table(&["stage", "host", "at", "took", "lost", "share", &since, ""], rows);
    for loss in losses.iter().filter(|loss| loss.lost > 0) {
        let now = match loss.lost_lately {
            Some(lost) if lost > 0 => format!(", {lost} of them in the last {seconds} s"),
            _ => String::new(),
        };
        let at = format!("{} {}", loss.stage.as_str(), loss.at);
        report.warn_hint(format!("{at}: {} {}{now}", loss.lost, loss.what), loss.hint);
    }
    let counts = |loss: &Loss| match only_lately {
        true => loss.lost_lately.unwrap_or(0),
        false => loss.lost,
    };
    if losses.iter().any(|loss| counts(loss) > 0) {
        report.fail();
    }
}

#[cfg(test)]
mod tests {
    use tyto_proto::v1::{Dropped, LedgerRow, Written};

    use super::*;

    fn health(node: &str, dropped: &[(&str, u64)]) -> NodeHealth {
        let dropped =
            dropped.iter().map(|&(reason, rows)| Dropped { reason: reason.to_owned(), rows });
        let row =
            LedgerRow { produced_rows: 100, dropped: dropped.collect(), ..LedgerRow::default() };
        NodeHealth { node: node.to_owned(), ledger: vec![row], ..NodeHealth::default() }
    }

    /// docs/operate.md lists the reasons, and a test of the worker holds that it lists all.
    #[test]
    fn each_reason_of_the_documentation_has_a_hint_that_can_be_typed() {
        let text = include_str!("../../../docs/operate.md");
        let (_, section) = text.split_once("## Where a row can be lost").unwrap();
        let (_, table) = section.split_once("|---|---|---|\n").unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let reasons: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
        assert!(reasons.len() >= 9, "{reasons:?}");
        for reason in reasons {
            let hint = hint_of(reason);
            assert!(hint.contains('`') && hint != hint_of("a_reason_yet_to_come"), "{reason}");
        }
    }

    #[test]
    fn rows_are_told_by_reason_and_lately() {
        let before = of_rows("h", &health("w", &[("spool_full", 5)]));
        let after = of_rows("h", &health("w", &[("spool_full", 7), ("new_reason", 1)]));
        let losses = lately(&before, after);
        let told: Vec<_> =
            losses.iter().map(|l| (l.counter.as_str(), l.lost, l.lost_lately)).collect();
        assert_eq!(
            told,
            [("", 0, Some(0)), ("new_reason", 1, Some(1)), ("spool_full", 7, Some(2))]
        );
        assert!((losses[2].percent - 7.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_count_that_began_anew_tells_nothing_lately() {
        let before = of_rows("h", &health("w", &[("refused", 5)]));
        let after = of_rows("h", &health("w", &[("refused", 2)]));
        assert_eq!(lately(&before, after)[1].lost_lately, None);
        assert_eq!(lately(&[], of_rows("h", &health("w", &[("refused", 2)])))[1].lost_lately, None);
    }

    #[test]
    fn something_lost_is_exit_code_1_and_with_lately_only_what_is_lost_now() {
        let once = lately(
            &of_rows("h", &health("w", &[("refused", 5)])),
            of_rows("h", &health("w", &[("refused", 5)])),
        );
        let is_good = |losses: &[Loss], only_lately| {
            let mut report = Report::new();
            show(losses, 5, only_lately, &mut report);
            report.is_good()
        };
        assert!(!is_good(&once, false) && is_good(&once, true));
        assert!(is_good(&of_rows("h", &health("w", &[])), false));
    }

    #[test]
    fn a_logger_tells_what_it_wrote() {
        let written = vec![Written { producer: "w".to_owned(), rows: 9 }];
        let row = LedgerRow { written, ..LedgerRow::default() };
        let logger = NodeHealth { ledger: vec![row], ..NodeHealth::default() };
        let losses = of_rows("h", &logger);
        assert_eq!((losses.len(), losses[0].stage, losses[0].taken), (1, Stage::Logger, 9));
    }

    #[test]
    fn shares_are_of_what_was_taken() {
        assert!((percent(1, 200) - 0.5).abs() < f64::EPSILON);
        assert!((percent(5, 0) - 100.0).abs() < f64::EPSILON);
        assert!(percent(0, 0).abs() < f64::EPSILON);
    }
}
