//! A cluster whose nodes reach each other over IPv6 only, and its counters: what was replayed is
//! what card, rings and workers account for, and what `ctl netstats`, `capstats` and `top` show. Then
//! what Prometheus is told, the ledger without a manager, and the alarm when a logger is away.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tyto_tests::cluster::{Cluster, read_capture};
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::node_cfg::NodeCfg;
use tyto_tests::{tree, wait};

/// How long counters may take to be reported: nodes do once a second.
const REPORTED: Duration = Duration::from_secs(10);

/// How long an alarm may take to be raised or cleared: `log_lag_max_s`, and some reports.
const RAISED: Duration = Duration::from_secs(30);

#[test]
fn counters_of_a_cluster_on_ipv6_account_for_the_replayed_packets() -> Result<()> {
    let lab = match Lab::up("testnetstats", 1)? {
        Ok(lab) => lab,
        Err(why) => {
            let test = "counters_of_a_cluster_on_ipv6_account_for_the_replayed_packets";
            tree::skipped(test, &why);
            return Ok(());
        }
    };
    let loopback = "sysctl -qw net.ipv6.conf.lo.disable_ipv6=0 && ip -6 addr show dev lo";
    if !lab.sh(1, loopback).is_ok_and(|shown| shown.contains("::1/128")) {
        tree::skipped("the cluster on IPv6", "this kernel has no IPv6");
        return Ok(());
    }
    // The kernel joins no fragments: their number would be a part of the sum that it does not tell.
    let node_cfg = NodeCfg::with_head(1).worker("worker-1", 1).procs(2);
    let node_cfg = node_cfg.key("af_packet_enable_defrag", "F").text().replace("10.99.0.1", "::1");
    let cluster = Cluster::configure_with(lab, Seat::Host(1), &node_cfg, "log_lag_max_s: 2\n")?;
    cluster.ctl(&["deploy"])?.ok()?;
    cluster.wait_until_running(REPORTED)?;
    let listening = cluster.lab.sh(1, "cat /proc/net/tcp6")?;
    ensure!(listening.contains(":6C73 "), "the manager does not listen on IPv6:\n{listening}");

    let begin = card(&reported(&cluster)?)?;
    cluster.replay(&[1], &["-x", "2"])?.finish()?;
    packets_are_accounted_for(&cluster, begin)?;
    tables_are_there(&cluster)?;

    cluster.ctl(&["restart", "workers"])?.ok()?;
    cluster.has_conn_rows_of(&read_capture(&tree::lab_capture(), &["conn"])?[0])?;
    cluster.ctl(&["ledger"])?.ok()?;
    prometheus_is_told_what_the_ledger_has(&cluster)?;
    without_the_manager_the_ledger_is_the_same(&cluster)?;
    a_logger_that_is_away_is_an_alarm_until_it_is_back(&cluster)?;
    a_node_that_does_not_run_is_told(&cluster)
}

/// What a scrape of the host says: samples by name and labels.
fn scraped(cluster: &Cluster) -> Result<BTreeMap<String, f64>> {
    let text = cluster.lab.sh(1, "curl -sSf http://127.0.0.1:27759/metrics")?;
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').context("no value")?;
        Ok((name.to_owned(), value.parse().with_context(|| format!("value of {line}"))?))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// Producer and log stream with their rows: produced, written, waiting.
fn ledger(cluster: &Cluster) -> Result<BTreeMap<(String, String), [u64; 3]>> {
    let told = cluster.ctl(&["--json", "ledger"])?.ok()?.json()?;
    let lines = told["result"]["nodes"].as_array().context("no lines")?.clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |row: &Value| {
        let line = &row["line"];
        let rows = |name: &str| line[name].as_u64().unwrap_or(u64::MAX);
        let waiting = rows("in_flight_rows") + rows("spooled_rows");
        let key = (text(&row["node"]), text(&line["stream"]));
        (key, [rows("produced_rows"), rows("written_rows"), waiting])
    };
    Ok(lines.iter().map(of).collect())
}

fn prometheus_is_told_what_the_ledger_has(cluster: &Cluster) -> Result<()> {
    wait::until("metrics and ledger have the same rows", REPORTED, || {
        let (ledger, metrics) = (ledger(cluster)?, scraped(cluster)?);
        ensure!(!ledger.is_empty(), "an empty ledger");
        for ((node, stream), [produced, written, waiting]) in &ledger {
            let of = format!("node=\"{node}\",role=\"worker\",stream=\"{stream}\"");
            let by =
                format!("node=\"logger\",role=\"logger\",stream=\"{stream}\",producer=\"{node}\"");
            let expected = [
                (format!("tyto_log_produced_rows_total{{{of}}}"), produced),
                (format!("tyto_log_written_rows_total{{{by}}}"), written),
                (format!("tyto_log_spooled_rows{{{of}}}"), waiting),
            ];
            for (name, rows) in expected {
                if metrics.get(&name).map(ToString::to_string) != Some(rows.to_string()) {
                    return Ok(Err(format!("{name}: {:?}, ledger {rows}", metrics.get(&name))));
                }
            }
        }
        let lag = "tyto_log_lag_seconds_count{node=\"logger\",role=\"logger\",stream=\"conn\"}";
        ensure!(metrics.get(lag).is_some_and(|&rows| rows > 0.0), "no row had a lag");
        ensure!(metrics.get("tyto_up{node=\"worker-1-1\",role=\"worker\"}") == Some(&1.0));
        Ok(Ok(()))
    })
}

fn without_the_manager_the_ledger_is_the_same(cluster: &Cluster) -> Result<()> {
    // A worker that is stopped counts with what it said last, whoever is asked.
    cluster.ctl(&["stop", "worker-1-2"])?.ok()?;
    let before = ledger(cluster)?;
    ensure!(before.keys().any(|(node, _)| node == "worker-1-2"), "{before:?}");
    cluster.ctl(&["stop", "manager"])?.ok()?;
    let told = cluster.ctl(&["--json", "ledger"])?.ok()?.json()?;
    ensure!(told["result"]["asked"] == "supervisors", "{told:#}");
    ensure!(ledger(cluster)? == before, "the supervisors tell another ledger");
    cluster.ctl(&["start", "manager"])?.ok()?;
    wait::until("the manager's ledger is the same", REPORTED, || {
        let told = cluster.ctl(&["--json", "ledger"])?.json()?;
        let by_manager = told["result"]["asked"] == "manager";
        let same = by_manager && ledger(cluster)? == before;
        Ok(if same { Ok(()) } else { Err(format!("{told:#}")) })
    })?;
    cluster.ctl(&["start", "worker-1-2"])?.ok()?;
    Ok(())
}

fn a_logger_that_is_away_is_an_alarm_until_it_is_back(cluster: &Cluster) -> Result<()> {
    const ALARM: &str = "tyto_alarm{kind=\"lag\",node=\"worker-1-";
    let is_raised = |cluster: &Cluster| -> Result<bool> {
        Ok(scraped(cluster)?.keys().any(|name| name.starts_with(ALARM)))
    };
    ensure!(!is_raised(cluster)?, "an alarm before anything happened");
    cluster.ctl(&["stop", "logger"])?.ok()?;
    cluster.replay(&[1], &["-x", "10"])?.finish()?;
    wait::until("rows that wait are an alarm", RAISED, || {
        let raised = is_raised(cluster)?;
        Ok(if raised { Ok(()) } else { Err("no alarm".to_owned()) })
    })?;
    let status = cluster.ctl(&["status"])?;
    ensure!(status.stderr.contains("alarm (lag) since "), "{status:?}");
    cluster.ctl(&["start", "logger"])?.ok()?;
    wait::until("the alarm is over", RAISED, || {
        let raised = is_raised(cluster)?;
        Ok(if raised { Err("it stands".to_owned()) } else { Ok(()) })
    })?;
    let log = cluster.lab.sh(1, "cat /opt/tyto/spool/manager/cluster.log")?;
    let of = |word: &str| log.matches(&format!("alarm {word}: lag: worker-1-")).count();
    ensure!(of("raised") > 0 && of("raised") == of("cleared"), "{log}");
    // Nothing was lost by it.
    cluster.ctl(&["ledger"])?.ok()?;
    // The logger is new and measures its lag from time to time.
    let loss = wait::until("the logger tells its lag", REPORTED, || {
        let loss = cluster.ctl(&["--json", "loss", "--interval", "0"])?.json()?;
        let lag = &loss["result"]["lag"][0];
        let is_told = lag["node"] == "logger" && lag["total"]["rows"] != 0;
        Ok(if is_told { Ok(loss) } else { Err(format!("{loss:#}")) })
    })?;
    let rows = loss["result"]["losses"].as_array().context("no stages")?;
    ensure!(rows.iter().any(|row| row["stage"] == "ring"), "{loss:#}");
    let lost = rows.iter().find(|row| row["stage"] == "spool" && row["lost"] != 0);
    ensure!(lost.is_none(), "rows were dropped: {lost:?}");
    Ok(())
}

/// The counters of each worker, once all have reported them.
fn reported(cluster: &Cluster) -> Result<Vec<Value>> {
    wait::until("both workers report", REPORTED, || {
        let said = cluster.ctl(&["--json", "netstats"])?;
        let rows = said.json()?["result"].as_array().cloned().unwrap_or_default();
        let whole = rows.iter().all(|row| row["counters"]["nic_packets"].is_u64());
        Ok(if rows.len() == 2 && whole { Ok(rows) } else { Err(said.stderr) })
    })
}

fn count(row: &Value, name: &str) -> Result<u64> {
    row["counters"][name].as_u64().with_context(|| format!("no `{name}` in {row:#}"))
}

/// What the card has received and sent; both workers see the same one.
fn card(rows: &[Value]) -> Result<u64> {
    let of = |row| Ok(count(row, "nic_packets")? + count(row, "nic_sent")?);
    rows.iter().map(of).collect::<Result<Vec<u64>>>()?.into_iter().max().context("no worker")
}

fn packets_are_accounted_for(cluster: &Cluster, begin: u64) -> Result<()> {
    wait::until("all packets are accounted for", REPORTED, || {
        let rows = reported(cluster)?;
        let all = card(&rows)? - begin;
        let sum = |name| rows.iter().map(|row| count(row, name)).sum::<Result<u64>>();
        let (link, received) = (sum("packets_link")?, sum("packets_received")?);
        let (dropped, analysed) = (sum("packets_dropped")?, sum("packets_analysed")?);
        let whole = all > 0 && link == all && received + dropped == link && analysed == received;
        let found = format!("card {all} link {link} received {received} dropped {dropped}");
        if whole {
            eprintln!("netstats: {found} analysed {analysed}");
        }
        Ok(if whole { Ok(()) } else { Err(found) })
    })
}

fn tables_are_there(cluster: &Cluster) -> Result<()> {
    let netstats = cluster.ctl(&["netstats"])?.ok()?.stdout;
    let lines: Vec<&str> = netstats.lines().collect();
    ensure!(lines.len() == 2 && lines[0].starts_with(" worker-1-1: "), "{netstats}");
    ensure!(lines[0].contains(" recvd=") && lines[0].contains(" link="), "{netstats}");

    let top = cluster.ctl(&["--json", "top"])?.ok()?.json()?;
    let rows = top["result"].as_array().context("no rows")?;
    ensure!(rows.len() == 5, "{top:#}");
    for row in rows {
        let process = &row["process"];
        let bytes = |name| process[name].as_u64().unwrap_or(0);
        let (all, resident) = (bytes("virtual_bytes"), bytes("resident_bytes"));
        ensure!(resident > 1 << 20 && all > resident, "{row:#}");
    }
    let capstats = cluster.ctl(&["capstats", "workers", "2"])?.ok()?.stdout;
    let lines: Vec<&str> = capstats.lines().collect();
    ensure!(lines[0].ends_with("(2s average)") && lines.len() == 3, "{capstats}");
    ensure!(lines[2].starts_with("::1/cap0 "), "{capstats}");
    Ok(())
}

fn a_node_that_does_not_run_is_told(cluster: &Cluster) -> Result<()> {
    cluster.ctl(&["stop", "worker-1-2"])?.ok()?;
    let netstats = cluster.ctl(&["netstats"])?.ended_with(1)?;
    ensure!(netstats.stdout.lines().count() == 1, "{netstats:?}");
    ensure!(netstats.stderr == "Error: worker-1-2: no counters: not running\n", "{netstats:?}");
    let top = cluster.ctl(&["top", "workers"])?.ended_with(1)?.stdout;
    ensure!(top.contains("<not running>"), "{top}");
    Ok(())
}
