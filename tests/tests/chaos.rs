//! SIGKILL, one process at a time, under traffic (issue 2): a worker, the logger, a proxy, the
//! manager, the supervisor. Each is back by itself, no other node is touched, and at the end every
//! row that the ledger calls acked is in the files exactly once. Capture has no gap: what the
//! cards received the workers received, over all lives of each.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tyto_tests::cluster::Cluster;
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::node_cfg::NodeCfg;
use tyto_tests::{tree, wait};

const WORKER_HOSTS: [usize; 2] = [2, 3];
/// Nodes that are killed, in this order; then the supervisor of the first worker's host.
const VICTIMS: [&str; 4] = ["worker-1-1", "logger", "proxy-1", "manager"];
const SUPERVISED: &str = "worker-1-2";
/// Traffic that runs before a node is killed.
const WARM_UP: Duration = Duration::from_secs(2);
/// Time to be back. The supervisor takes milliseconds; the machine may be busy.
const BACK_LIMIT: Duration = Duration::from_secs(10);
/// Five replays have 6,875 TCP connections. The other flows of a replay go on in the next when
/// that begins within their idle time, so they count once at least; what was open on a killed
/// worker is lost (two kills, a quarter of two seconds of traffic each).
const CONNECTIONS_MIN: usize = 6_000;
/// Twice the pace of the capture: some seven seconds.
const PACE: [&str; 2] = ["-x", "2"];

#[test]
fn whatever_is_killed_is_back_and_every_acked_row_is_there_once() -> Result<()> {
    let lab = match Lab::up("testchaos", 3)? {
        Ok(lab) => lab,
        Err(why) => {
            tree::skipped("whatever_is_killed_is_back_and_every_acked_row_is_there_once", &why);
            return Ok(());
        }
    };
    // The kernel would count the fragments that it joins as one packet.
    let (defrag, no) = ("af_packet_enable_defrag", "F");
    let node_cfg = NodeCfg::with_head(1)
        .proxy("proxy-2", 2)
        .worker("worker-1", 2)
        .procs(2)
        .key(defrag, no)
        .worker("worker-2", 3)
        .procs(2)
        .key(defrag, no);
    let cluster = Cluster::deploy(lab, Seat::Operator, node_cfg.text())?;
    cluster.wait_until_running(BACK_LIMIT)?;
    let begin = captured(&cluster)?;
    for victim in VICTIMS {
        a_killed_node_is_back(&cluster, victim)?;
    }
    a_killed_supervisor_is_back_and_knows_its_nodes(&cluster)?;
    no_packet_was_lost(&cluster, &begin)?;
    // An orderly end writes the connections that are still open.
    cluster.ctl(&["restart", "workers"])?.ok()?;
    acked_rows_are_in_the_files_once(&cluster)
}

fn a_killed_node_is_back(cluster: &Cluster, victim: &str) -> Result<()> {
    let before = cluster.pids()?;
    let traffic = cluster.replay(&WORKER_HOSTS, &PACE)?;
    sleep(WARM_UP);
    let host = host_of(cluster, victim)?;
    let start = Instant::now();
    cluster.lab.sh(host, &format!("kill -KILL {}", before[victim]))?;
    let after = wait_for_others(cluster, &before, &[victim])?;
    eprintln!("chaos: {victim} is back, seen after {:?}", start.elapsed());
    traffic.finish()?;
    ensure!(cluster.pids()? == after, "after `{victim}` was killed another node was restarted");
    Ok(())
}

fn a_killed_supervisor_is_back_and_knows_its_nodes(cluster: &Cluster) -> Result<()> {
    let before = cluster.pids()?;
    let host = host_of(cluster, SUPERVISED)?;
    let killed = supervisor(cluster, host)?.context("there is no supervisor")?;
    let traffic = cluster.replay(&WORKER_HOSTS, &PACE)?;
    sleep(WARM_UP);
    let start = Instant::now();
    cluster.lab.sh(host, &format!("kill -KILL {killed}"))?;
    wait::until("the supervisor is back", BACK_LIMIT, || match supervisor(cluster, host)? {
        Some(pid) if pid != killed => Ok(Ok(())),
        other => Ok(Err(format!("{other:?}"))),
    })?;
    eprintln!("chaos: the supervisor is back, seen after {:?}", start.elapsed());
    wait_for_others(cluster, &before, &[])?;
    // It watches what it did not start itself.
    cluster.lab.sh(host, &format!("kill -KILL {}", before[SUPERVISED]))?;
    wait_for_others(cluster, &before, &[SUPERVISED])?;
    traffic.finish()
}

/// Waits until `killed` have new processes and all are running; the others must be as before.
fn wait_for_others(
    cluster: &Cluster,
    before: &BTreeMap<String, u64>,
    killed: &[&str],
) -> Result<BTreeMap<String, u64>> {
    wait::until(&format!("{killed:?} are back"), BACK_LIMIT, || {
        let rows = cluster.status()?;
        let mut after = BTreeMap::new();
        for (name, row) in rows {
            let is_killed = killed.contains(&name.as_str());
            let (old, new) = (before.get(&name).copied(), row.pid);
            if row.status != "running" || (is_killed && new == old) {
                return Ok(Err(format!("`{name}` is {}, {old:?} then {new:?}", row.status)));
            }
            ensure!(is_killed || new == old, "`{name}` was restarted: {old:?}, {new:?}");
            after.extend(new.map(|pid| (name, pid)));
        }
        Ok(Ok(after))
    })
}

/// What the card of each worker host has had, and its workers together, once all report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Captured {
    card: u64,
    link: u64,
    received: u64,
    dropped: u64,
}

fn captured(cluster: &Cluster) -> Result<BTreeMap<String, Captured>> {
    wait::until("all workers report", BACK_LIMIT, || {
        let said = cluster.ctl(&["--json", "netstats"])?;
        let rows = said.json()?["result"].as_array().cloned().unwrap_or_default();
        let mut hosts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for row in rows {
            hosts.entry(row["host"].to_string()).or_default().push(row["counters"].clone());
        }
        let whole = hosts.len() == WORKER_HOSTS.len()
            && hosts.values().all(|workers| {
                workers.len() == 2 && workers.iter().all(|of| of["nic_packets"].is_u64())
            });
        Ok(if whole { Ok(hosts) } else { Err(said.stderr) })
    })?
    .into_iter()
    .map(|(host, workers)| {
        let each = |name: &'static str| {
            workers.iter().map(move |of| of[name].as_u64().with_context(|| format!("no `{name}`")))
        };
        let card = each("nic_packets").zip(each("nic_sent")).map(|(a, b)| Ok(a? + b?));
        let card = card.collect::<Result<Vec<u64>>>()?.into_iter().max().unwrap_or(0);
        let sum = |name| each(name).sum::<Result<u64>>();
        let (link, received) = (sum("packets_link")?, sum("packets_received")?);
        let dropped = sum("packets_dropped")?;
        Ok((host, Captured { card, link, received, dropped }))
    })
    .collect()
}

fn no_packet_was_lost(cluster: &Cluster, begin: &BTreeMap<String, Captured>) -> Result<()> {
    wait::until("all packets are accounted for", BACK_LIMIT, || {
        let end = captured(cluster)?;
        for (host, end) in &end {
            let begin = begin.get(host).context("a host that was not there before")?;
            let card = end.card - begin.card;
            let (link, received) = (end.link - begin.link, end.received - begin.received);
            let dropped = end.dropped - begin.dropped;
            let found =
                format!("{host}: card {card} link {link} received {received} dropped {dropped}");
            if card == 0 || dropped != 0 || link != card || received != card {
                return Ok(Err(found));
            }
            eprintln!("chaos: {found}");
        }
        Ok(Ok(()))
    })
}

fn acked_rows_are_in_the_files_once(cluster: &Cluster) -> Result<()> {
    let ledger = cluster.settled_ledger()?;
    let acked: u64 =
        ledger.iter().filter(|((_, stream), _)| stream == "conn").map(|(_, rows)| rows).sum();
    let conn = cluster.log("conn")?;
    eprintln!("chaos: {acked} rows acked, {} in the files", conn.len());
    let uids = conn.counts(&["uid"])?;
    let twice: Vec<_> = uids.iter().filter(|(_, times)| **times > 1).take(5).collect();
    ensure!(twice.is_empty(), "rows that are in the files more than once: {twice:?}");
    ensure!(acked == conn.len() as u64, "{acked} rows were acked, {} are there", conn.len());
    ensure!(conn.len() >= CONNECTIONS_MIN, "only {} connections were logged", conn.len());
    hosts_are_known_once(cluster)
}

/// One proxy was killed, and the workers saw every host again with each replay.
fn hosts_are_known_once(cluster: &Cluster) -> Result<()> {
    let hosts = cluster.log("known_hosts")?.counts(&["host"])?;
    let twice: Vec<_> = hosts.iter().filter(|(_, times)| **times > 1).take(5).collect();
    ensure!(twice.is_empty(), "hosts that known_hosts.log has more than once: {twice:?}");
    ensure!(!hosts.is_empty(), "known_hosts.log is empty");
    Ok(())
}

fn host_of(cluster: &Cluster, node: &str) -> Result<usize> {
    let rows = cluster.status()?;
    let row = rows.get(node).with_context(|| format!("there is no `{node}`"))?;
    row.host.rsplit('.').next().and_then(|n| n.parse().ok()).context("an address of the lab")
}

/// Process id of the supervisor of a host; none when there is none.
fn supervisor(cluster: &Cluster, host: usize) -> Result<Option<u64>> {
    let processes = cluster.processes(host)?;
    Ok(processes.into_iter().find(|(_, args)| args.contains("supervisor run")).map(|(pid, _)| pid))
}
