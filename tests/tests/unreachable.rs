//! A host that does not answer costs its own rows and exit code 1, and nothing else: the other
//! rows are there, and the answer comes within the time that ssh may take.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tyto_tests::cluster::{Cluster, node_rows};
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::node_cfg::NodeCfg;
use tyto_tests::tree;

/// The host that is unplugged.
const SILENT: usize = 3;
/// The answer may take the connection's limit (3 s in these tests) and some work besides.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// A node that the manager has not heard of for so long is asked after: 2.5 s, and some more.
const SILENCE: Duration = Duration::from_secs(4);

#[test]
fn a_silent_host_costs_its_own_row_and_exit_code_1() -> Result<()> {
    let lab = match Lab::up("testsilent", 3)? {
        Ok(lab) => lab,
        Err(why) => {
            tree::skipped("a_silent_host_costs_its_own_row_and_exit_code_1", &why);
            return Ok(());
        }
    };
    let node_cfg = NodeCfg::with_head(1).worker("worker-1", 2).worker("worker-2", 3);
    let cluster = Cluster::deploy(lab, Seat::Operator, node_cfg.text())?;
    cluster.wait_until_running(Duration::from_secs(10))?;
    let before = cluster.pids()?;
    cluster.lab.cut(SILENT)?;

    // Each host is asked; then the manager, once the host has been silent long enough for it.
    its_own_row_is_unknown(&cluster, &before, &["--json", "status", "--live"])?;
    sleep(SILENCE);
    its_own_row_is_unknown(&cluster, &before, &["--json", "status"])?;
    commands_still_reach_the_others(&cluster)
}

fn its_own_row_is_unknown(
    cluster: &Cluster,
    before: &BTreeMap<String, u64>,
    words: &[&str],
) -> Result<()> {
    let start = Instant::now();
    let answer = cluster.ctl(words)?.ended_with(1)?;
    ensure!(start.elapsed() < ANSWER_LIMIT, "status took {:?}", start.elapsed());
    let rows = node_rows(&answer.json()?)?;
    ensure!(rows.len() == before.len(), "rows are missing: {rows:?}");
    for (name, row) in &rows {
        let is_cut = row.host == "10.99.0.3";
        ensure!((row.status != "running") == is_cut, "`{name}` is {}", row.status);
        ensure!(is_cut || row.pid == before.get(name).copied(), "`{name}` was touched");
    }
    Ok(())
}

fn commands_still_reach_the_others(cluster: &Cluster) -> Result<()> {
    let start = Instant::now();
    let said = cluster.ctl(&["exec", "echo", "here-I-am"])?.ended_with(1)?;
    ensure!(said.stdout.matches("here-I-am").count() >= 2, "{}", said.stdout);
    ensure!(start.elapsed() < ANSWER_LIMIT, "exec took {:?}", start.elapsed());

    let before = cluster.status()?;
    cluster.ctl(&["restart", "worker-1"])?.ok()?;
    let after = cluster.status()?;
    ensure!(before["worker-1"].pid != after["worker-1"].pid, "worker-1 was not restarted");
    ensure!(before["logger"] == after["logger"], "the logger was touched");
    Ok(())
}
