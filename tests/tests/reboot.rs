//! A host that boots runs again what ran before, by what `ctl install --boot` left there, and
//! nothing that had been stopped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tyto_tests::cluster::Cluster;
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::node_cfg::NodeCfg;
use tyto_tests::{tree, wait};

#[test]
fn a_host_that_boots_runs_what_was_wanted_and_nothing_else() -> Result<()> {
    let lab = match Lab::up("testreboot", 2)? {
        Ok(lab) => lab,
        Err(why) => {
            tree::skipped("a_host_that_boots_runs_what_was_wanted_and_nothing_else", &why);
            return Ok(());
        }
    };
    let node_cfg = NodeCfg::with_head(1).worker("worker-1", 1).worker("worker-2", 2).procs(2);
    let cluster = Cluster::deploy(lab, Seat::Operator, node_cfg.text())?;
    cluster.wait_until_running(Duration::from_secs(20))?;
    cluster.ctl(&["stop", "worker-2-2"])?.ok()?;
    let before = cluster.status()?;
    let line = boot_line(&cluster)?;
    let command = line.strip_prefix("@reboot ").context("no @reboot")?;

    cluster.lab.reboot(2)?;
    let living = cluster.lab.sh(2, "pgrep -f '[/]opt/tyto/' || true")?;
    ensure!(living.trim().is_empty(), "a boot leaves nothing running: {living}");
    cluster.lab.sh(2, command)?;
    let after = wait::until("worker-2-1 after the boot", Duration::from_secs(20), || {
        let after = cluster.status()?;
        let runs = after["worker-2-1"].status == "running";
        Ok(if runs { Ok(after) } else { Err(format!("{after:?}")) })
    })?;
    ensure!(after["worker-2-1"].status == "running" && after["worker-2-2"].status == "stopped");
    ensure!(before["worker-1"] == after["worker-1"], "another host was touched");
    ensure!(after["worker-2-2"].pid.is_none(), "a node that was stopped has a process");
    Ok(())
}

/// The line that starts a host's supervisor at boot: from its crontab, or from ctl's message where
/// the host has no cron.
fn boot_line(cluster: &Cluster) -> Result<String> {
    let has_crontab = cluster.lab.sh(2, "command -v crontab || true")?;
    if has_crontab.trim().is_empty() {
        let said = cluster.ctl(&["install", "--boot"])?.ended_with(1)?;
        let line = said.stderr.lines().find_map(|line| line.split_once("at boot: "));
        return Ok(line.context("no line to add by hand")?.1.to_owned());
    }
    cluster.ctl(&["install", "--boot"])?.ok()?;
    cluster.ctl(&["install", "--boot"])?.ok()?;
    let table = cluster.lab.sh(2, "crontab -l")?;
    let lines: Vec<&str> = table.lines().filter(|line| line.starts_with("@reboot")).collect();
    ensure!(lines.len() == 1, "one line, however often it is installed: {table}");
    Ok(lines.concat())
}
