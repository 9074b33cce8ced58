//! SIGKILL of random processes under live traffic, one after the other, without waiting for what
//! was killed before (issue 5): workers, loggers, proxies, the manager, supervisors. Then the
//! logger's host is cut off for a while, and its disk is full for a while. At the end each
//! row that a fault-free replay writes is there exactly once, but for what the ledger counts as
//! lost when a worker was killed: the connections that it had open, and rows that it had not
//! handed to its spool yet.
//!
//! `TYTO_KILLS` is the number of kills, `TYTO_KILLS_S` the time that they are spread over: 20 in
//! 40 s, or 1,000 in 1,200 s by `make chaos`. `TYTO_SEED` repeats a run.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tyto_tests::cluster::{Cluster, Traffic, read_capture};
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::node_cfg::NodeCfg;
use tyto_tests::tree;
use tyto_tests::zeek_log::ZeekLog;

const HEAD: usize = 1;
const WORKER_HOSTS: [usize; 2] = [2, 3];
/// Programs whose processes are killed; of the supervisors the one that watches, not its guard:
/// who kills both at once has turned the host off.
const VICTIMS: [&str; 5] = ["worker", "logger", "proxy", "manager", "supervisor run"];
/// Twice the pace of the capture: some seven seconds.
const PACE: [&str; 2] = ["-x", "2"];
/// Time to be back after the last kill, delays after many deaths included.
const BACK_LIMIT: Duration = Duration::from_secs(120);
/// Size of the logger's disk while it is full, MiB.
const DISK_MIB: u32 = 24;
/// What tells a connection of the capture: it has each of these once.
const ENDS: [&str; 5] = ["id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto"];

/// Numbers that a seed repeats (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end.max(1) as u64).unwrap_or(0)
    }
}

/// The capture, replayed again and again.
struct Rounds<'a> {
    cluster: &'a Cluster,
    running: Option<(Traffic, Instant)>,
    begun: u32,
}

#[test]
fn after_many_random_kills_each_row_is_there_once_or_counted_as_lost() -> Result<()> {
    let name = "after_many_random_kills_each_row_is_there_once_or_counted_as_lost";
    let lab = match Lab::up(&lab_name(), 3)? {
        Ok(lab) => lab,
        Err(why) => {
            tree::skipped(name, &why);
            return Ok(());
        }
    };
    #[expect(clippy::disallowed_methods, reason = "another seed each time")]
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|t| t.as_secs());
    let seed = from_env("TYTO_SEED").map_or_else(now, Ok)?;
    eprintln!("kills: TYTO_SEED={seed}");
    run(lab, seed).with_context(|| format!("again with TYTO_SEED={seed}"))
}

fn run(lab: Lab, seed: u64) -> Result<()> {
    let node_cfg = NodeCfg::with_head(HEAD)
        .proxy("proxy-2", WORKER_HOSTS[0])
        .worker("worker-1", WORKER_HOSTS[0])
        .procs(2)
        .worker("worker-2", WORKER_HOSTS[1])
        .procs(2);
    let cluster = Cluster::deploy(lab, Seat::Operator, node_cfg.text())?;
    cluster.wait_until_running(BACK_LIMIT)?;
    let mut rounds = Rounds { cluster: &cluster, running: None, begun: 0 };
    kill_at_random(&cluster, seed, &mut rounds)?;
    cluster.wait_until_running(BACK_LIMIT)?;
    cut_the_head_off(&cluster, &mut rounds)?;
    fill_the_disk(&cluster, &mut rounds)?;
    let begun = rounds.finish()?;
    cluster.wait_until_running(BACK_LIMIT)?;
    // An orderly end writes the connections that are still open.
    cluster.ctl(&["restart", "workers"])?.ok()?;
    let verdict = each_row_is_there(&cluster, begun);
    if verdict.is_err() {
        for words in [&["loss", "--interval", "0"][..], &["ledger"], &["status"]] {
            eprintln!("{}", cluster.ctl(words)?.stdout);
        }
    }
    verdict
}

fn kill_at_random(cluster: &Cluster, seed: u64, rounds: &mut Rounds<'_>) -> Result<()> {
    let kills = from_env("TYTO_KILLS").unwrap_or(20);
    let time = Duration::from_secs(from_env("TYTO_KILLS_S").unwrap_or(40));
    let (mut random, start) = (Random(seed), Instant::now());
    let mut killed: BTreeMap<String, u64> = BTreeMap::new();
    for kill in 0..kills {
        let due = time * u32::try_from(kill)? / u32::try_from(kills)?;
        sleep(due.saturating_sub(start.elapsed()));
        rounds.go_on()?;
        let host = 1 + random.below(3);
        let mut victims: Vec<(u64, String)> = cluster
            .processes(host)?
            .into_iter()
            .filter_map(|(pid, args)| Some((pid, victim(&args)?.to_owned())))
            .collect();
        victims.sort();
        let Some((pid, program)) = victims.get(random.below(victims.len())) else { continue };
        // It may have died of itself: a supervisor ends what it does not know.
        cluster.lab.sh(host, &format!("kill -KILL {pid} 2>/dev/null || true"))?;
        *killed.entry(program.clone()).or_default() += 1;
    }
    eprintln!("kills: {killed:?} in {:?}", start.elapsed());
    Ok(())
}

/// Which of the victims a command line is.
fn victim(args: &str) -> Option<&'static str> {
    let program = args.split_whitespace().next()?;
    VICTIMS.into_iter().find(|victim| match victim.split_once(' ') {
        Some((name, verb)) => {
            program.ends_with(&format!("/{name}")) && args.split_whitespace().nth(1) == Some(verb)
        }
        None => program.ends_with(&format!("/{victim}")),
    })
}

/// The workers cannot reach the logger: their rows wait.
fn cut_the_head_off(cluster: &Cluster, rounds: &mut Rounds<'_>) -> Result<()> {
    let time = Duration::from_secs(from_env("TYTO_CUT_S").unwrap_or(15));
    cluster.lab.cut(HEAD)?;
    let start = Instant::now();
    while start.elapsed() < time {
        rounds.go_on()?;
        sleep(Duration::from_millis(500));
    }
    cluster.lab.mend(HEAD)
}

/// The logger gets a small disk, which is full for a while.
fn fill_the_disk(cluster: &Cluster, rounds: &mut Rounds<'_>) -> Result<()> {
    let time = Duration::from_secs(from_env("TYTO_FULL_S").unwrap_or(8));
    cluster.ctl(&["stop", "logger"])?.ok()?;
    let folder = "/opt/tyto/spool/logger";
    let mount = format!(
        "set -e; d=$(mktemp -d); cp -a {folder}/. $d; \
         mount -t tmpfs -o size={DISK_MIB}m,mode=755 tmpfs {folder}; cp -a $d/. {folder}; \
         chown --reference=$d {folder}; rm -r $d"
    );
    cluster.lab.sh(HEAD, &mount)?;
    cluster.ctl(&["start", "logger"])?.ok()?;
    rounds.go_on()?;
    sleep(Duration::from_secs(2));
    // It ends with "no space left", which is what it is for.
    let fill = format!("dd if=/dev/zero of={folder}/filler bs=64k 2>/dev/null || true");
    cluster.lab.sh(HEAD, &fill)?;
    let start = Instant::now();
    while start.elapsed() < time {
        rounds.go_on()?;
        sleep(Duration::from_millis(500));
    }
    cluster.lab.sh(HEAD, &format!("rm {folder}/filler"))?;
    Ok(())
}

fn each_row_is_there(cluster: &Cluster, rounds: u32) -> Result<()> {
    let conn = cluster.conn_rows_of_the_ledger()?;
    let lost = lost_conn_rows(cluster)?;
    eprintln!(
        "kills: {rounds} replays, {} rows of conn, {lost} counted as lost with killed workers",
        conn.len()
    );
    let missing = missing_rows(&conn, rounds)?;
    eprintln!("kills: {missing} rows of a fault-free replay are missing");
    ensure!(missing <= lost, "{missing} rows are missing, {lost} counted as lost");
    Ok(())
}

/// Rows of TCP connections, ended within the capture, that are fewer in the files than replays
/// were made. Other connections may go on from one replay to the next: of UDP they all do, as
/// less than their idle time lies between two replays.
fn missing_rows(conn: &ZeekLog, rounds: u32) -> Result<u64> {
    let expected = read_capture(&tree::lab_capture(), &["conn"])?.remove(0);
    let columns = [&ENDS[..], &["conn_state"]].concat();
    let found = conn.counts(&ENDS)?;
    let mut missing = 0;
    for (key, _) in expected.counts(&columns)? {
        let Some((ends, "SF")) = key.rsplit_once('\t') else { continue };
        if !ends.ends_with("\ttcp") {
            continue;
        }
        let times = found.get(ends).copied().unwrap_or(0) as u64;
        missing += u64::from(rounds).saturating_sub(times);
    }
    Ok(missing)
}

/// Rows of conn.log that the ledger counts as lost; all of them when a worker was killed.
fn lost_conn_rows(cluster: &Cluster) -> Result<u64> {
    let answer = cluster.ctl(&["--json", "ledger"])?.json()?;
    let streams = answer["result"]["streams"].as_array().context("no streams")?;
    let conn = streams.iter().find(|line| line["stream"] == "conn").context("no conn")?;
    let dropped = conn["dropped"].as_object().cloned().unwrap_or_default();
    let others: Vec<_> = dropped.keys().filter(|reason| *reason != "killed").collect();
    ensure!(others.is_empty(), "rows were dropped for {others:?}: {conn}");
    Ok(dropped.get("killed").and_then(serde_json::Value::as_u64).unwrap_or(0))
}

impl Rounds<'_> {
    /// Begins another replay when the one before is over.
    fn go_on(&mut self) -> Result<()> {
        const ROUND: Duration = Duration::from_secs(9);
        if self.running.as_ref().is_some_and(|(_, begun)| begun.elapsed() < ROUND) {
            return Ok(());
        }
        if let Some((traffic, _)) = self.running.take() {
            traffic.finish()?;
        }
        self.running = Some((self.cluster.replay(&WORKER_HOSTS, &PACE)?, Instant::now()));
        self.begun += 1;
        Ok(())
    }

    /// Waits for the last replay; how many there were.
    fn finish(self) -> Result<u32> {
        if let Some((traffic, _)) = self.running {
            traffic.finish()?;
        }
        Ok(self.begun)
    }
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn lab_name() -> String {
    std::env::var("TYTO_LAB").unwrap_or_else(|_| "testkills".to_owned())
}
