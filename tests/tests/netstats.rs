//! A cluster whose nodes reach each other over IPv6 only, and its counters: what was replayed is
//! what card, rings and workers account for, and what `ctl netstats`, `capstats` and `top` show.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tyto_tests::cluster::{Cluster, read_capture};
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::node_cfg::NodeCfg;
use tyto_tests::{tree, wait};

/// How long counters may take to be reported: nodes do once a second.
const REPORTED: Duration = Duration::from_secs(10);

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
    let cluster = Cluster::deploy(lab, Seat::Host(1), &node_cfg)?;
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
    a_node_that_does_not_run_is_told(&cluster)
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
