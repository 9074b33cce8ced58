//! Faults that need a network and several hosts: cut in the middle of a deploy, a connection
//! that is half open, a jump host that is down, an interface that is down, a port that is taken,
//! a configuration that was written by half. Each costs its own host, says what is the matter
//! and what to type, and is over when its cause is. What one host is enough for is in
//! manager/tests/host_faults.rs, what is about ssh alone in manager/tests/ssh.rs.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tyto_tests::cluster::Cluster;
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::node_cfg::NodeCfg;
use tyto_tests::program::Outcome;
use tyto_tests::{tree, wait};

/// The host that is cut; no other depends on it.
const CUT: usize = 3;
/// ssh gives a silent connection up after three signs of life that did not come, 5 s each; the
/// rest is work.
const CUT_LIMIT: Duration = Duration::from_secs(60);
/// The nodes run within this time after ctl said so.
const RUNNING_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn each_fault_costs_its_own_host_and_says_what_to_type() -> Result<()> {
    let lab = match Lab::up("testfaults", 3)? {
        Ok(lab) => lab,
        Err(why) => {
            tree::skipped("each_fault_costs_its_own_host_and_says_what_to_type", &why);
            return Ok(());
        }
    };
    let node_cfg = NodeCfg::with_head(1).worker("worker-1", 2).worker("worker-2", 3);
    let cluster = Cluster::configure(lab, Seat::Operator, node_cfg.text())?;
    a_host_cut_while_files_are_copied_is_left_out_and_finished_later(&cluster)?;
    a_half_open_connection_ends_and_the_next_call_has_its_own(&cluster)?;
    a_jump_host_that_is_down_is_named(&cluster)?;
    a_look_at_the_hosts_tells_what_is_down_or_taken(&cluster)?;
    a_configuration_written_by_half_is_told_by_the_node(&cluster)?;
    a_spool_that_cannot_be_written_is_told_by_the_node(&cluster)
}

/// Something said this.
fn said(outcome: &Outcome, part: &str) -> Result<()> {
    let all = format!("{}{}", outcome.stdout, outcome.stderr);
    ensure!(all.contains(part), "no `{part}` in what `{}` said:\n{all}", outcome.command);
    Ok(())
}

fn a_host_cut_while_files_are_copied_is_left_out_and_finished_later(
    cluster: &Cluster,
) -> Result<()> {
    let lab = &cluster.lab;
    thread::scope(|scope| {
        let start = Instant::now();
        let deploy = scope.spawn(|| cluster.ctl(&["deploy"]));
        // The first byte of the first file is there, and dozens of megabytes are to come.
        lab.sh(CUT, "until [ -n \"$(ls /opt/tyto/releases/.store 2>/dev/null)\" ]; do :; done")?;
        lab.cut(CUT)?;
        let outcome = deploy.join().ok().context("deploy fell")??.ended_with(1)?;
        ensure!(start.elapsed() < CUT_LIMIT, "deploy took {:?}", start.elapsed());
        said(&outcome, "host `10.99.0.3`")?;
        ensure!(!outcome.stderr.contains("host `10.99.0.2`"), "{}", outcome.stderr);
        Ok::<(), anyhow::Error>(())
    })?;
    let current = lab.exec(CUT, &["test", "-e", "/opt/tyto/current"])?;
    ensure!(current.code != 0, "half a release was made current");

    lab.mend(CUT)?;
    cluster.ctl(&["deploy"])?.ok()?;
    cluster.wait_until_running(RUNNING_LIMIT)
}

fn a_half_open_connection_ends_and_the_next_call_has_its_own(cluster: &Cluster) -> Result<()> {
    thread::scope(|scope| {
        let start = Instant::now();
        let exec = scope.spawn(|| cluster.ctl(&["exec", "touch /tmp/begun; sleep 45; echo slept"]));
        cluster.lab.sh(CUT, "until [ -e /tmp/begun ]; do :; done")?;
        cluster.lab.cut(CUT)?;
        // While the first still waits: another call does not hang on its connection.
        let asked = Instant::now();
        let second = cluster.ctl(&["exec", "true"])?.ended_with(1)?;
        ensure!(asked.elapsed() < Duration::from_secs(20), "it took {:?}", asked.elapsed());
        said(&second, "host `10.99.0.3` cannot be reached")?;
        let outcome = exec.join().ok().context("exec fell")??.ended_with(1)?;
        ensure!(start.elapsed() < CUT_LIMIT + Duration::from_secs(30), "{:?}", start.elapsed());
        ensure!(outcome.stdout.matches("slept").count() >= 2, "{}", outcome.stdout);
        said(&outcome, "host `10.99.0.3`")?;
        Ok::<(), anyhow::Error>(())
    })?;
    cluster.lab.mend(CUT)?;
    cluster.ctl(&["exec", "true"])?.ok()?;
    Ok(())
}

fn a_jump_host_that_is_down_is_named(cluster: &Cluster) -> Result<()> {
    let lab = &cluster.lab;
    let operate = |script: &str| {
        lab.run_at(Seat::Operator, &["sh", "-c", script], Duration::from_secs(20))?.ok()
    };
    operate(
        "cd /run/lab && cp ssh_config direct && \
         { printf 'Host 10.99.0.3\\n  ProxyJump 10.99.0.2\\n'; cat direct; } > ssh_config",
    )?;
    cluster.ctl(&["exec", "echo through"])?.ok()?;
    lab.cut(2)?;
    let outcome = cluster.ctl(&["exec", "echo through"])?.ended_with(1)?;
    said(&outcome, "host `10.99.0.3` cannot be reached: its jump host `10.99.0.2`")?;
    said(&outcome, "`ssh 10.99.0.2 true`")?;
    ensure!(outcome.stdout.contains("through"), "the first host was not asked");
    lab.mend(2)?;
    operate("cd /run/lab && mv direct ssh_config")?;
    Ok(())
}

fn a_look_at_the_hosts_tells_what_is_down_or_taken(cluster: &Cluster) -> Result<()> {
    let lab = &cluster.lab;
    // Ports of nodes that run are their own.
    cluster.ctl(&["check", "--hosts"])?.ok()?;
    cluster.ctl(&["stop"])?.ok()?;
    lab.sh(2, "ip link set cap0 down")?;
    lab.sh(1, "/usr/sbin/sshd -f /run/lab/sshd_config -o Port=27763")?;
    let outcome = cluster.ctl(&["check", "--hosts"])?.ended_with(1)?;
    said(&outcome, "host `10.99.0.1`: port 27763 of node `manager` is taken by `sshd` (process ")?;
    said(&outcome, "Warning: host `10.99.0.2`: node.cfg:16: interface `cap0` is down")?;
    said(&outcome, "hint: ip link set cap0 up")?;
    lab.sh(1, "kill $(ps -e -o pid=,args= | sed -n 's/^ *\\([0-9]*\\) .*[P]ort=27763.*/\\1/p')")?;
    lab.sh(2, "ip link set cap0 up")?;
    wait::until("nothing is in the way", RUNNING_LIMIT, || {
        let outcome = cluster.ctl(&["check", "--hosts"])?;
        Ok(if outcome.code == 0 { Ok(()) } else { Err(outcome.stderr) })
    })?;
    cluster.ctl(&["start"])?.ok()?;
    cluster.wait_until_running(RUNNING_LIMIT)
}

/// What is said of a node that cannot begin, by `ctl start` and `ctl diag` together.
fn said_of_worker(cluster: &Cluster, parts: &[&str]) -> Result<()> {
    let restart = cluster.ctl(&["restart", "worker-1"])?;
    let diag = cluster.ctl(&["diag", "worker-1"])?;
    let all = format!("{}{}{}{}", restart.stdout, restart.stderr, diag.stdout, diag.stderr);
    for part in parts {
        ensure!(all.contains(part), "no `{part}` in:\n{all}");
    }
    ensure!(cluster.status()?["worker-2"].status == "running", "worker-2 was touched");
    Ok(())
}

fn a_configuration_written_by_half_is_told_by_the_node(cluster: &Cluster) -> Result<()> {
    // A file of its own in its place: others may share the content of the one that is there.
    let file = "/opt/tyto/current/etc/nodes/worker-1.yaml";
    cluster.lab.sh(2, &format!("mv {file} /tmp/whole && head -c 60 /tmp/whole > {file}"))?;
    said_of_worker(cluster, &["worker-1.yaml"])?;
    cluster.lab.sh(2, &format!("mv /tmp/whole {file}"))?;
    cluster.ctl(&["restart", "worker-1"])?.ok()?;
    cluster.wait_until_running(RUNNING_LIMIT)
}

fn a_spool_that_cannot_be_written_is_told_by_the_node(cluster: &Cluster) -> Result<()> {
    let spool = "/opt/tyto/spool/worker-1";
    cluster.ctl(&["stop", "worker-1"])?.ok()?;
    cluster.lab.sh(2, &format!("mv {spool}/ship /tmp/ship && touch {spool}/ship"))?;
    said_of_worker(cluster, &["cannot deliver rows", "ship"])?;
    cluster.lab.sh(2, &format!("rm {spool}/ship && mv /tmp/ship {spool}/ship"))?;
    cluster.ctl(&["restart", "worker-1"])?.ok()?;
    cluster.wait_until_running(RUNNING_LIMIT)
}
