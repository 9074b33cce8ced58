//! The shipped default (issue 2): one node on localhost. No ssh is used: ctl runs on the host
//! itself, where nothing is set up that could log in anywhere.

use std::time::Duration;

use anyhow::{Result, ensure};
use tyto_tests::cluster::{Cluster, read_capture};
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::tree;

#[test]
fn one_node_on_localhost_needs_no_ssh_and_the_same_commands() -> Result<()> {
    let lab = match Lab::up("testalone", 1)? {
        Ok(lab) => lab,
        Err(why) => {
            tree::skipped("one_node_on_localhost_needs_no_ssh_and_the_same_commands", &why);
            return Ok(());
        }
    };
    let example = std::fs::read_to_string(tree::root().join("node.cfg.example"))?;
    let node_cfg = example.replace("interface=eth0", "interface=cap0");
    let cluster = Cluster::deploy(lab, Seat::Host(1), &node_cfg)?;
    cluster.wait_until_running(Duration::from_secs(10))?;

    cluster.replay(&[1], &["-x", "2"])?.finish()?;
    cluster.ctl(&["restart"])?.ok()?;
    let reference = read_capture(&tree::lab_capture(), &["conn"])?;
    cluster.has_conn_rows_of(&reference[0])?;
    cluster.ctl(&["ledger"])?.ok()?;
    cluster.ctl(&["stop"])?.ok()?;
    let left = cluster.processes(1)?;
    ensure!(left.is_empty(), "there still runs {left:?}");
    Ok(())
}
