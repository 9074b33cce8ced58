//! A worker's disk that others have filled, and one that is read-only when the worker begins:
//! capture goes on, what is lost is counted with its reason, and when the disk is well again
//! everything flows without hand work (issue 5). A disk that the spool itself has filled:
//! worker/src/ship/tests/disk/cases.rs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tyto_tests::cluster::Cluster;
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::node_cfg::NodeCfg;
use tyto_tests::{tree, wait};

/// The only host.
const HOST: usize = 1;
/// The worker's folder, which gets a small disk.
const SPOOL: &str = "/opt/tyto/spool/worker";
/// What the disk has room for, MiB: the spool leaves 16 of them free.
const DISK_MIB: u32 = 40;
/// The capture's seven seconds as fast as the host can send them.
const PACE: [&str; 2] = ["-M", "100"];
/// Time for a state to come about.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_workers_disk_that_takes_nothing_costs_rows_that_are_counted_and_needs_no_hand() -> Result<()> {
    let name = "a_workers_disk_that_takes_nothing_costs_rows_that_are_counted_and_needs_no_hand";
    let lab = match Lab::up("testspool", 1)? {
        Ok(lab) => lab,
        Err(why) => {
            tree::skipped(name, &why);
            return Ok(());
        }
    };
    let node_cfg = NodeCfg::with_head(HOST).worker("worker", HOST);
    let cluster = Cluster::deploy(lab, Seat::Operator, node_cfg.text())?;
    cluster.wait_until_running(LIMIT)?;
    onto_a_small_disk(&cluster)?;
    filled_by_others(&cluster)?;
    read_only_at_the_start(&cluster)?;
    // An orderly end writes the connections that are still open.
    cluster.ctl(&["restart", "worker"])?.ok()?;
    cluster.conn_rows_of_the_ledger().map(drop)
}

fn onto_a_small_disk(cluster: &Cluster) -> Result<()> {
    cluster.ctl(&["stop", "worker"])?.ok()?;
    let mount = format!(
        "set -e; d=$(mktemp -d); cp -a {SPOOL}/. $d; \
         mount -t tmpfs -o size={DISK_MIB}m,mode=755 tmpfs {SPOOL}; cp -a $d/. {SPOOL}; \
         chown --reference=$d {SPOOL}; chmod --reference=$d {SPOOL}; rm -r $d"
    );
    cluster.lab.sh(HOST, &mount)?;
    cluster.ctl(&["start", "worker"])?.ok()?;
    cluster.wait_until_running(LIMIT)
}

/// Rows that come while the disk is full are dropped and counted; the worker lives on.
fn filled_by_others(cluster: &Cluster) -> Result<()> {
    let pid = cluster.pids()?["worker"];
    // It ends with "no space left", which is what it is for.
    let fill = format!("dd if=/dev/zero of={SPOOL}/filler bs=64k 2>/dev/null || true");
    cluster.lab.sh(HOST, &fill)?;
    cluster.replay(&[HOST], &PACE)?.finish()?;
    wait::until("rows are counted as lost to the disk", LIMIT, || {
        let lost = lost(cluster)?;
        Ok(if lost > 0 { Ok(()) } else { Err("no rows".to_owned()) })
    })?;
    let told = cluster.ctl(&["loss", "--interval", "0"])?;
    ensure!(told.stdout.contains("spool_fault"), "ctl loss does not tell:\n{}", told.stdout);
    ensure!(cluster.pids()?["worker"] == pid, "the worker did not live through it");

    cluster.lab.sh(HOST, &format!("rm {SPOOL}/filler"))?;
    let before = cluster.log("conn")?.len();
    wait::until("rows flow again", LIMIT, || {
        cluster.replay(&[HOST], &PACE)?.finish()?;
        let rows = cluster.log("conn")?.len();
        Ok(if rows > before { Ok(()) } else { Err(format!("{rows} rows")) })
    })?;
    ensure!(cluster.pids()?["worker"] == pid, "it went on in another life");
    Ok(())
}

/// A worker that begins on such a disk says so, is tried again, and comes when it can.
fn read_only_at_the_start(cluster: &Cluster) -> Result<()> {
    cluster.ctl(&["stop", "worker"])?.ok()?;
    cluster.lab.sh(HOST, &format!("mount -o remount,ro {SPOOL}"))?;
    let start = cluster.ctl(&["start", "worker"])?;
    let diag = cluster.ctl(&["diag", "worker"])?;
    let all = format!("{}{}{}", start.stdout, start.stderr, diag.stdout);
    ensure!(all.contains("Read-only file system"), "not told:\n{all}");
    cluster.lab.sh(HOST, &format!("mount -o remount,rw {SPOOL}"))?;
    cluster.wait_until_running(LIMIT)?;
    cluster.replay(&[HOST], &PACE)?.finish()
}

/// Rows that were dropped because of the disk.
fn lost(cluster: &Cluster) -> Result<u64> {
    let answer = cluster.ctl(&["--json", "ledger"])?.json()?;
    let streams = answer["result"]["streams"].as_array().context("no streams")?;
    let rows = |line: &Value| line["dropped"]["spool_fault"].as_u64().unwrap_or(0);
    Ok(streams.iter().map(rows).sum())
}
