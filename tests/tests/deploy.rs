//! Deploy as a plan (issue 3, point 6), on three lab hosts with a real sshd: what is told before
//! is what is done; only nodes that are concerned restart; a change that fails stops at its first
//! node and can be taken back; one operator at a time; a deploy that is cut off leaves each host
//! on a whole release, and the next one finishes it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tyto_tests::cluster::Cluster;
use tyto_tests::lab::{Lab, Seat};
use tyto_tests::node_cfg::NodeCfg;
use tyto_tests::program::Outcome;
use tyto_tests::{tree, wait};

const HOSTS: usize = 3;
/// Time for a ctl that runs in the background to get somewhere.
const SOON: Duration = Duration::from_secs(30);
/// A reader may not wait for a change that goes on; that one takes longer than this.
const READ_LIMIT: Duration = Duration::from_secs(15);

type Pids = BTreeMap<String, u64>;

#[test]
fn what_is_planned_is_done_and_nothing_else() -> Result<()> {
    let Some(cluster) = deployed("testdeploy", "what_is_planned_is_done_and_nothing_else")? else {
        return Ok(());
    };
    nothing_new_is_nothing_done(&cluster)?;
    a_key_restarts_the_nodes_that_have_it(&cluster)?;
    a_further_proxy_restarts_nobody(&cluster)?;
    a_rollback_restarts_what_differs(&cluster)?;
    a_group_that_becomes_another_stops_together(&cluster)?;
    a_broken_program_stops_at_its_first_node(&cluster)?;
    one_change_at_a_time(&cluster)?;
    a_logger_comes_and_goes_under_traffic(&cluster)?;
    a_deploy_that_is_cut_off_is_finished_by_the_next(&cluster)
}

/// The cluster as it is deployed first.
fn node_cfg() -> NodeCfg {
    NodeCfg::default()
        .node("manager", "manager", 1)
        .node("logger", "logger-1", 1)
        .proxy("proxy-1", 1)
        .worker("worker-1", 2)
        .procs(2)
        .worker("worker-2", 3)
        .procs(2)
}

/// Writes another node.cfg.
fn configure(cluster: &Cluster, node_cfg: &NodeCfg) -> Result<()> {
    cluster.lab.configure(Seat::Operator, "node.cfg", node_cfg.text())
}

fn deployed(lab: &str, test: &str) -> Result<Option<Cluster>> {
    let lab = match Lab::up(lab, HOSTS)? {
        Ok(lab) => lab,
        Err(why) => {
            tree::skipped(test, &why);
            return Ok(None);
        }
    };
    let cluster = Cluster::deploy(lab, Seat::Operator, node_cfg().text())?;
    cluster.wait_until_running(SOON)?;
    Ok(Some(cluster))
}

fn nothing_new_is_nothing_done(cluster: &Cluster) -> Result<()> {
    let before = cluster.pids()?;
    let plan = plan(cluster)?;
    ensure!(names(&plan["nodes"], "node").is_empty(), "{plan:#}");
    let said = cluster.ctl(&["deploy", "--plan"])?.ok()?.stdout;
    ensure!(said.contains("nothing would change"), "{said}");
    let start = Instant::now();
    cluster.ctl(&["deploy"])?.ok()?;
    eprintln!("deploy: nothing changed on {HOSTS} hosts, {:?}", start.elapsed());
    ensure!(cluster.pids()? == before, "a deploy of the same restarted nodes");
    let entries = history(cluster)?;
    ensure!(entries.len() == 1, "a deploy of the same is in the history: {entries:#?}");
    ensure!(entries[0]["outcome"] == "done" && entries[0]["id"] == 1, "{entries:#?}");
    Ok(())
}

fn a_key_restarts_the_nodes_that_have_it(cluster: &Cluster) -> Result<()> {
    configure(cluster, &node_cfg().key("snaplen", 9000))?;
    let status = cluster.ctl(&["status"])?.ok()?;
    ensure!(status.stderr.contains("differs from what is deployed"), "{}", status.stderr);
    let plan = plan(cluster)?;
    ensure!(names(&plan["nodes"], "node") == ["worker-2-1", "worker-2-2"], "{plan:#}");
    ensure!(names(&plan["hosts"], "host") == ["10.99.0.3"], "{plan:#}");
    let change = &plan["changes"][0];
    ensure!(change["key"] == "snaplen" && change["new"] == "9000", "{plan:#}");
    ensure!(change["at"] == "node.cfg:26", "{plan:#}");

    let before = cluster.pids()?;
    let said = cluster.ctl(&["deploy", "--settle", "1"])?.ok()?.stdout;
    ensure!(said.contains("change snaplen: 9216 -> 9000 (node.cfg:26)"), "{said}");
    ensure!(restarted(&before, &cluster.pids()?) == ["worker-2-1", "worker-2-2"], "{said}");
    let status = cluster.ctl(&["status"])?.ok()?;
    ensure!(!status.stderr.contains("differs"), "{}", status.stderr);
    let entries = history(cluster)?;
    let last = entries.last().context("no history")?;
    ensure!(last["outcome"] == "done" && last["keys"][0] == "snaplen: 9216 -> 9000", "{last:#}");
    let shown = cluster.ctl(&["history", "2", "--diff"])?.ok()?.stdout;
    ensure!(shown.contains("+snaplen=9000"), "{shown}");
    let first = cluster.ctl(&["history", "1"])?.ok()?.stdout;
    ensure!(first.contains("[worker-2]") && !first.contains("snaplen=9000"), "{first}");
    Ok(())
}

fn a_further_proxy_restarts_nobody(cluster: &Cluster) -> Result<()> {
    let before = cluster.pids()?;
    configure(cluster, &node_cfg().key("snaplen", 9000).proxy("proxy-2", 2))?;
    let plan = plan(cluster)?;
    ensure!(names(&plan["nodes"], "node") == ["proxy-2"], "{plan:#}");
    cluster.ctl(&["deploy"])?.ok()?;
    let after = cluster.pids()?;
    ensure!(restarted(&before, &after).is_empty() && after.contains_key("proxy-2"), "{after:?}");
    Ok(())
}

/// Back to before the proxy: it is stopped, and nobody else notices. Then to the first deploy.
fn a_rollback_restarts_what_differs(cluster: &Cluster) -> Result<()> {
    let before = cluster.pids()?;
    let said = cluster.ctl(&["rollback", "--plan"])?.ok()?.stdout;
    ensure!(said.contains("stop proxy-2"), "{said}");
    ensure!(cluster.pids()? == before, "a plan changed something");
    let back = cluster.ctl(&["rollback"])?.ok()?;
    ensure!(back.stderr.contains("differs from what is deployed"), "{}", back.stderr);
    let status = cluster.status()?;
    ensure!(status["proxy-2"].status == "stopped", "{status:?}");

    configure(cluster, &node_cfg())?;
    let before = cluster.pids()?;
    let back = cluster.ctl(&["--json", "rollback", "1", "--settle", "1"])?.ok()?.json()?;
    let nodes = names(&back["result"]["nodes"], "node");
    ensure!(nodes == ["worker-2-1", "worker-2-2"], "{back:#}");
    let status = cluster.ctl(&["status"])?.ok()?;
    ensure!(!status.stderr.contains("differs"), "{}", status.stderr);
    ensure!(restarted(&before, &cluster.pids()?) == nodes, "{back:#}");
    let plan = plan(cluster)?;
    ensure!(names(&plan["hosts"], "host").is_empty(), "the files of now are deployed: {plan:#}");
    Ok(())
}

/// packet(7): all members of a fanout group have the same mode and flags, so that one after the
/// other could not be another.
fn a_group_that_becomes_another_stops_together(cluster: &Cluster) -> Result<()> {
    let before = cluster.pids()?;
    for node_cfg in [node_cfg().key("af_packet_fanout_mode", "FANOUT_CBPF"), node_cfg()] {
        configure(cluster, &node_cfg)?;
        let said = cluster.ctl(&["deploy", "--settle", "1"])?.ok()?.stdout;
        ensure!(said.contains("restart together worker-2-1, worker-2-2"), "{said}");
        cluster.wait_until_running(SOON)?;
    }
    let nodes = restarted(&before, &cluster.pids()?);
    ensure!(nodes == ["worker-2-1", "worker-2-2"], "{nodes:?}");
    Ok(())
}

/// A worker that ends at once: the first one fails, and no other node of it is touched.
fn a_broken_program_stops_at_its_first_node(cluster: &Cluster) -> Result<()> {
    let before = cluster.pids()?;
    let programs = tempfile::tempdir()?;
    copy_programs(programs.path())?;
    std::fs::remove_file(programs.path().join("worker"))?;
    let broken = "#!/bin/sh\necho 'worker: out of order' >&2\nexit 3\n";
    write_program(&programs.path().join("worker"), broken)?;
    let ctl = programs.path().join("ctl");
    let failed = ctl_of(cluster, &ctl, &["deploy", "--settle", "1"])?.ended_with(1)?;
    let told = &failed.stderr;
    ensure!(told.contains("worker-1-1") && told.contains("worker: out of order"), "{told}");
    ensure!(told.contains("ctl rollback") && told.contains("ctl diag worker-1-1"), "{told}");
    let said = &failed.stdout;
    ensure!(said.contains("not touched: worker-1-2, worker-2-1, worker-2-2"), "{said}");
    ensure!(said.contains("hosts still on the release before: 10.99.0.1, 10.99.0.3"), "{said}");

    let now = cluster.status()?;
    let mut left: Pids = before.clone();
    left.remove("worker-1-1");
    for (node, pid) in &left {
        ensure!(now[node].pid == Some(*pid), "`{node}` was touched: {now:?}");
    }
    let last = history(cluster)?.pop().context("no history")?;
    ensure!(last["outcome"] == "failed", "{last:#}");

    // With the ctl of before, or with that of the broken release: it does not matter.
    ctl_of(cluster, &ctl, &["rollback", "--settle", "1"])?.ok()?;
    cluster.wait_until_running(SOON)?;
    let after = cluster.pids()?;
    for (node, pid) in &left {
        ensure!(after[node] == *pid, "the rollback touched `{node}`");
    }
    ensure!(names(&plan(cluster)?["nodes"], "node").is_empty(), "the old programs are back");
    Ok(())
}

/// While one ctl changes the cluster, another is told who it is, readers do not wait, and a
/// holder that is killed leaves no lock behind.
fn one_change_at_a_time(cluster: &Cluster) -> Result<()> {
    let mut holder = begin(cluster, &["restart", "worker-1-1", "--settle", "60"])?;
    wait::until("the lock is held", SOON, || {
        let said = std::fs::read_to_string(&holder.1)?;
        Ok(if said.contains("restarting worker") { Ok(()) } else { Err(said) })
    })?;
    let refused = cluster.ctl(&["stop", "worker-2-2", "--no-wait"])?.ended_with(1)?.stderr;
    ensure!(refused.contains("restart worker-1-1 --settle 60"), "{refused}");
    ensure!(refused.contains("process ") && refused.contains("since "), "{refused}");
    for words in [&["status"][..], &["deploy", "--plan"], &["history"], &["ledger"]] {
        let start = Instant::now();
        cluster.ctl(words)?;
        ensure!(start.elapsed() < READ_LIMIT, "{words:?} waited {:?}", start.elapsed());
    }
    holder.kill()?;
    let start = Instant::now();
    cluster.ctl(&["start", "worker-2-2"])?.ok()?;
    ensure!(start.elapsed() < READ_LIMIT, "the lock of a dead ctl was kept {:?}", start.elapsed());
    cluster.wait_until_running(SOON)
}

/// Cut off at each of these words, every host has a whole release in use, and all nodes are there
/// when the next deploy is over.
/// It is stopped before workers know that it left, and on its host by a release without it.
fn a_logger_comes_and_goes_under_traffic(cluster: &Cluster) -> Result<()> {
    configure(cluster, &node_cfg())?;
    cluster.ctl(&["deploy", "--settle", "1"])?.ok()?;
    let begun = jiff::Timestamp::now().to_string();
    let traffic = cluster.replay(&[2, 3], &[])?;
    configure(cluster, &node_cfg().node("logger", "logger-2", 2))?;
    cluster.ctl(&["deploy", "--settle", "1"])?.ok()?;
    wait::until("the new logger has rows", SOON, || {
        let files = "find /opt/tyto/logs/ /opt/tyto/spool/logger-2/ -name 'conn*.log*'";
        let found = cluster.lab.sh(2, files)?;
        Ok(if found.is_empty() { Err("none".to_owned()) } else { Ok(()) })
    })?;
    configure(cluster, &node_cfg())?;
    let said = cluster.ctl(&["deploy", "--settle", "1"])?.ok()?.stdout;
    ensure!(said.contains("logger-2: stopped, no more in node.cfg"), "{said}");
    traffic.finish()?;
    // An orderly end writes the connections that are still open.
    cluster.ctl(&["restart", "workers"])?.ok()?;
    cluster.settled_ledger()?;
    let ledger = cluster.ctl(&["--json", "ledger"])?.ok()?.json()?;
    let streams = ledger["result"]["streams"].as_array().context("no streams")?;
    let conn = streams.iter().find(|line| line["stream"] == "conn").context("no conn")?;
    let rows = cluster.ctl(&["logs", "conn", "--since", &begun, "--fields", "uid"])?.ok()?.stdout;
    let mut uids: Vec<&str> = rows.lines().filter(|line| !line.starts_with('#')).collect();
    let count = uids.len() as u64;
    uids.sort_unstable();
    uids.dedup();
    ensure!(
        uids.len() as u64 == count,
        "{} of {count} rows are there twice",
        count - uids.len() as u64
    );
    ensure!(
        conn["written_rows"] == count && conn["produced_rows"] == count,
        "{count} rows: {conn}"
    );
    Ok(())
}

fn a_deploy_that_is_cut_off_is_finished_by_the_next(cluster: &Cluster) -> Result<()> {
    const WORDS: [&str; 5] = [
        "checking configurations",
        "installing ...",
        "copied)",
        "restarting workers of 10.99.0.2 first",
        "restarting workers ...",
    ];
    for (turn, word) in WORDS.into_iter().enumerate() {
        configure(cluster, &node_cfg().key("snaplen", 5000 + turn))?;
        // Programs with another hash, so that large files travel too.
        let programs = tempfile::tempdir()?;
        copy_programs(programs.path())?;
        let mut worker = std::fs::read(programs.path().join("worker"))?;
        worker.extend_from_slice(format!("turn {turn}").as_bytes());
        std::fs::remove_file(programs.path().join("worker"))?;
        write_program(&programs.path().join("worker"), &worker)?;
        let ctl = programs.path().join("ctl");
        let mut cut = begin_with(cluster, &ctl, &["deploy", "--settle", "1"])?;
        wait::until("what ctl says", SOON, || {
            let said = std::fs::read_to_string(&cut.1)?;
            Ok(if said.contains(word) { Ok(()) } else { Err(said) })
        })?;
        cut.kill()?;
        for host in 1..=HOSTS {
            whole_release_in_use(cluster, host).with_context(|| format!("cut off at `{word}`"))?;
        }
        ctl_of(cluster, &ctl, &["deploy", "--settle", "1"])?.ok()?;
        cluster.wait_until_running(SOON)?;
        let left = ctl_of(cluster, &ctl, &["--json", "deploy", "--plan"])?.ok()?.json()?;
        ensure!(names(&left["result"]["nodes"], "node").is_empty(), "{left:#}");
        ensure!(names(&left["result"]["hosts"], "host").is_empty(), "{left:#}");
    }
    Ok(())
}

/// `current` leads to a release all of whose files have the hash that its manifest says.
fn whole_release_in_use(cluster: &Cluster, host: usize) -> Result<()> {
    let script = "cd /opt/tyto/current/ && \
                  sed -n 's/^file [0-7]* \\([0-9a-f]*\\) \\(.*\\)/\\1  \\2/p' manifest | sha256sum -c --quiet";
    cluster.lab.exec(host, &["sh", "-c", script])?.ok()?;
    Ok(())
}

fn plan(cluster: &Cluster) -> Result<Value> {
    Ok(cluster.ctl(&["--json", "deploy", "--plan"])?.ok()?.json()?["result"].take())
}

fn history(cluster: &Cluster) -> Result<Vec<Value>> {
    let answer = cluster.ctl(&["--json", "history"])?.ok()?.json()?;
    answer["result"].as_array().cloned().with_context(|| format!("no history: {answer:#}"))
}

/// One field of each row, sorted.
fn names(rows: &Value, field: &str) -> Vec<String> {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<String> =
        rows.iter().filter_map(|row| row[field].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

/// Nodes of both times whose process is another.
fn restarted(before: &Pids, after: &Pids) -> Vec<String> {
    let other = |(name, pid): &(&String, &u64)| after.get(*name).is_some_and(|now| now != *pid);
    before.iter().filter(other).map(|(name, _)| name.clone()).collect()
}

fn copy_programs(to: &Path) -> Result<()> {
    for name in ["ctl", "manager", "supervisor", "worker", "logger", "proxy"] {
        std::fs::copy(tree::program(name), to.join(name))?;
    }
    Ok(())
}

fn write_program(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, content)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Runs another ctl than that of the tree, with the programs beside it.
fn ctl_of(cluster: &Cluster, ctl: &Path, words: &[&str]) -> Result<Outcome> {
    let program = ctl.display().to_string();
    let mut all = vec![program.as_str(), "--etc", "/opt/tyto/etc"];
    all.extend(words);
    cluster.lab.run_at(Seat::Operator, &all, tyto_tests::cluster::CTL_LIMIT)
}

/// A ctl in the background, and the file of what it says; killed with SIGKILL, and by its end.
struct Background(Child, tempfile::TempPath);

impl Background {
    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("a ctl in the background may still run: {error:#}");
        }
    }
}

fn begin(cluster: &Cluster, words: &[&str]) -> Result<Background> {
    begin_with(cluster, &tree::program("ctl"), words)
}

fn begin_with(cluster: &Cluster, ctl: &Path, words: &[&str]) -> Result<Background> {
    let ctl = ctl.display().to_string();
    let mut all = vec![ctl.as_str(), "--etc", "/opt/tyto/etc"];
    all.extend(words);
    let all = cluster.lab.words_at(Seat::Operator, &all);
    let (program, rest) = all.split_first().context("no command")?;
    let (said, path) = tempfile::NamedTempFile::new()?.into_parts();
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null()).stdout(said).stderr(Stdio::null());
    Ok(Background(command.spawn()?, path))
}
