//! Rows from a worker's delivery to real loggers over mTLS, while the loggers are killed: each
//! row is in the archive exactly once, and the ledger says so (issue 2, point 10).
//! Longer than 500 lines: all cases share the loggers, their disks and the count of their rows.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use tempfile::TempDir;
use tokio_stream::wrappers::ReceiverStream;
use tyto_core::config::runtime::{NodeConfig, Peer, PeersConfig, Role};
use tyto_daemon::tls::{self, Identity};
use tyto_daemon::{channel, clock};
use tyto_proto::v1::deliver_request::Kind;
use tyto_proto::v1::log_sink_client::LogSinkClient;
use tyto_proto::v1::{DeliverRequest, Hello, LedgerRow, NodeHealth};
use tyto_tests::pki::{Pki, loopback_peer};
use tyto_tests::{numbered_rows, tree};
use tyto_worker::ship::Shipper;

/// Rows of one test.
const ROWS: u64 = 40_000;
/// How long all rows may take to be acked in the end.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// How long a logger may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// It ended with an exit code that is not 0.
const FAULT: &str = "ended by a fault";

struct Loggers {
    dir: TempDir,
    pki: Pki,
    worker: NodeConfig,
    configs: Vec<NodeConfig>,
    running: Vec<Option<Child>>,
}

impl Loggers {
    fn start(count: usize) -> Result<Self> {
        tls::install_crypto();
        let (dir, pki) = (tempfile::tempdir()?, Pki::new()?);
        let peers = (1..=count)
            .map(|i| loopback_peer(Role::Logger, &format!("logger-{i}")))
            .collect::<Result<Vec<_>>>()?;
        let worker = pki.enroll(&dir.path().join("worker"), Role::Worker, "worker-1", &peers)?;
        let mut configs = Vec::new();
        for peer in &peers {
            let prefix = dir.path().join(&peer.node);
            let mut config = pki.enroll(&prefix, Role::Logger, &peer.node, &peers)?;
            config.logs.rotation_interval_s = 2;
            config.logs.name_in_archive = count > 1;
            configs.push(config);
        }
        let running = peers.iter().map(|_| None).collect();
        let mut loggers = Self { dir, pki, worker, configs, running };
        for logger in 0..count {
            loggers.run(logger)?;
        }
        Ok(loggers)
    }

    fn run(&mut self, logger: usize) -> Result<()> {
        self.run_behind(logger, "exec \"$@\"")
    }

    /// Runs a logger by a line of shell, which executes its arguments.
    fn run_behind(&mut self, logger: usize, line: &str) -> Result<()> {
        let config = &self.configs[logger];
        let path = self.dir.path().join(format!("{}.yaml", config.node));
        fs::write(&path, serde_yaml::to_string(config)?)?;
        let program = tree::program("logger");
        let mut command = Command::new("sh");
        command.args(["-c", line, "sh"]).arg(&program).arg("--config").arg(path);
        let child = command.spawn();
        let child = child.with_context(|| format!("cannot run {}", program.display()))?;
        self.running[logger] = Some(child);
        let addr = config.listen.context("a logger listens")?;
        let begun = Instant::now();
        while TcpStream::connect(addr).is_err() {
            ensure!(begun.elapsed() < SETTLE_LIMIT, "{} does not listen", config.node);
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn kill(&mut self, logger: usize) -> Result<()> {
        let mut child = self.running[logger].take().context("not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and its orderly end.
    fn end(&mut self, logger: usize) -> Result<()> {
        let Some(mut child) = self.running[logger].take() else { return Ok(()) };
        Command::new("kill").arg(child.id().to_string()).status()?;
        let begun = Instant::now();
        while child.try_wait()?.is_none() && begun.elapsed() < STOP_LIMIT {
            thread::sleep(Duration::from_millis(20));
        }
        // Without effect on one that has ended.
        child.kill()?;
        let status = child.wait()?;
        ensure!(status.code().is_some(), "{} had to be killed", self.configs[logger].node);
        ensure!(status.success(), FAULT);
        Ok(())
    }

    /// Ends all: no file may be left in the spool.
    fn stop(&mut self) -> Result<()> {
        for logger in 0..self.configs.len() {
            self.end(logger)?;
        }
        for config in &self.configs {
            let spool = config.prefix.join("spool").join(&config.node);
            let left = files(&spool)?;
            // What numbers the rows in the archive stays, as the journal does.
            let stays = |path: &PathBuf| {
                let of_spool = |name| path.starts_with(spool.join(name));
                ["journal", "index", "schemas"].into_iter().any(of_spool)
            };
            let left: Vec<_> = left.into_iter().filter(|path| !stays(path)).collect();
            ensure!(left.is_empty(), "left in the spool: {left:?}");
        }
        Ok(())
    }

    /// Stops all; then each row has to be in the archives once.
    fn finish(&mut self) -> Result<()> {
        self.stop()?;
        self.has_each_row_once()
    }

    fn has_each_row_once(&self) -> Result<()> {
        let once_each: BTreeMap<u64, u32> = (0..ROWS).map(|n| (n, 1)).collect();
        ensure!(self.archived()? == once_each, "rows are missing or doubled");
        Ok(())
    }

    /// How often each row stands in the archives.
    fn archived(&self) -> Result<BTreeMap<u64, u32>> {
        let mut rows = BTreeMap::new();
        for config in &self.configs {
            for path in files(&config.prefix.join("logs"))? {
                let mut text = String::new();
                GzDecoder::new(fs::File::open(&path)?).read_to_string(&mut text)?;
                let complete = text.lines().last().is_some_and(|l| l.starts_with("#close\t"));
                ensure!(complete, "{} has no #close", path.display());
                for line in text.lines().filter(|line| !line.starts_with('#')) {
                    let n = line.split('\t').nth(1).context("a row without n")?.parse()?;
                    *rows.entry(n).or_default() += 1;
                }
            }
        }
        Ok(rows)
    }
}

impl Drop for Loggers {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        } else if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn ledger(shipper: &Shipper) -> LedgerRow {
    let mut health = NodeHealth::default();
    shipper.health()(&mut health);
    health.ledger.pop().unwrap_or_default()
}

async fn all_acked(shipper: &Shipper) -> Result<()> {
    let begun = Instant::now();
    loop {
        let row = ledger(shipper);
        let open = row.pending_rows + row.spooled_rows;
        ensure!(row.produced_rows == row.acked_rows + open, "ledger does not add up: {row:?}");
        if row.acked_rows == ROWS {
            return Ok(());
        }
        ensure!(begun.elapsed() < SETTLE_LIMIT, "not acked in time: {row:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_survive_a_logger_that_is_killed_again_and_again() -> Result<()> {
    let mut loggers = Loggers::start(1)?;
    let identity = Identity::load(&loggers.worker)?;
    let shipper = Shipper::start(&loggers.worker, Some(&identity), clock::now().0, None)?;
    let writing = numbered_rows::write(&shipper, ROWS, Duration::from_secs(5));
    for _ in 0..6 {
        pause(700).await;
        loggers.kill(0)?;
        pause(100).await;
        loggers.run(0)?;
    }
    numbered_rows::ended(writing).await?;
    all_acked(&shipper).await?;
    shipper.stop().await;
    loggers.finish()
}

/// Makes a list of loggers the one of the release in use, as a deploy does.
fn release(prefix: &Path, id: &str, peers: &[Peer]) -> Result<()> {
    make_current(prefix, id, &PeersConfig { peers: peers.to_vec(), ..PeersConfig::default() })
}

fn make_current(prefix: &Path, id: &str, list: &PeersConfig) -> Result<()> {
    let etc = prefix.join("releases").join(id).join("etc");
    fs::create_dir_all(&etc)?;
    fs::write(etc.join("peers.yaml"), serde_yaml::to_string(list)?)?;
    let fresh = prefix.join("current.new");
    std::os::unix::fs::symlink(format!("releases/{id}"), &fresh)?;
    Ok(fs::rename(fresh, prefix.join("current"))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn loggers_come_and_go_while_rows_flow_and_no_row_is_lost() -> Result<()> {
    let mut loggers = Loggers::start(2)?;
    let both = loggers.worker.peers.clone();
    let (first, second) = (&both[..1], &both[1..]);
    loggers.worker.peers = first.to_vec();
    let prefix = loggers.worker.prefix.clone();
    let identity = Identity::load(&loggers.worker)?;
    let shipper = Shipper::start(&loggers.worker, Some(&identity), clock::now().0, None)?;
    let writing = numbered_rows::write(&shipper, ROWS, Duration::from_secs(7));
    pause(1_000).await;
    release(&prefix, "two", &both)?;
    pause(3_000).await;
    release(&prefix, "second", second)?;
    // What was bound to the first is settled before it ends; rows go on to the second.
    pause(2_000).await;
    loggers.kill(0)?;
    numbered_rows::ended(writing).await?;
    all_acked(&shipper).await?;
    shipper.stop().await;
    loggers.run(0)?;
    loggers.finish()?;
    for config in &loggers.configs {
        let logs = files(&config.prefix.join("logs"))?;
        ensure!(!logs.is_empty(), "{} wrote nothing", config.node);
    }
    Ok(())
}

/// A deploy stops a logger that left node.cfg before workers have read that it did.
#[tokio::test(flavor = "multi_thread")]
async fn a_logger_that_is_stopped_leaves_nothing_in_doubt_and_may_be_gone_for_good() -> Result<()> {
    let mut loggers = Loggers::start(2)?;
    let second = loggers.worker.peers[1..].to_vec();
    let prefix = loggers.worker.prefix.clone();
    let identity = Identity::load(&loggers.worker)?;
    let shipper = Shipper::start(&loggers.worker, Some(&identity), clock::now().0, None)?;
    let writing = numbered_rows::write(&shipper, ROWS, Duration::from_secs(9));
    for logger in [0, 1, 0, 1, 0] {
        // So long that the worker finds both.
        pause(1_500).await;
        loggers.end(logger)?;
        until("nothing waits for a logger that has ended", || {
            Ok(counter(&shipper, "spool_doubt_rows") == 0)
        })
        .await?;
        if logger == 1 {
            loggers.run(0)?;
            loggers.run(1)?;
        }
    }
    release(&prefix, "second", &second)?;
    numbered_rows::ended(writing).await?;
    all_acked(&shipper).await?;
    shipper.stop().await;
    loggers.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_of_two_loggers_is_dead_the_other_takes_the_rows() -> Result<()> {
    let mut loggers = Loggers::start(2)?;
    let identity = Identity::load(&loggers.worker)?;
    let shipper = Shipper::start(&loggers.worker, Some(&identity), clock::now().0, None)?;
    let writing = numbered_rows::write(&shipper, ROWS, Duration::from_secs(4));
    pause(1_000).await;
    loggers.kill(0)?;
    numbered_rows::ended(writing).await?;
    pause(1_000).await;
    let waiting = ledger(&shipper);
    ensure!(waiting.acked_rows > ROWS / 2, "the other logger did not take over: {waiting:?}");
    loggers.run(0)?;
    all_acked(&shipper).await?;
    shipper.stop().await;
    loggers.finish()
}

/// A counter of the worker's health.
fn counter(shipper: &Shipper, name: &str) -> u64 {
    let mut health = NodeHealth::default();
    shipper.health()(&mut health);
    health.counters.iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value)
}

async fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        ensure!(begun.elapsed() < SETTLE_LIMIT, "not in time: {what}");
        pause(50).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_doubt_is_kept_by_the_other_logger_until_its_own_is_back() -> Result<()> {
    let mut loggers = Loggers::start(2)?;
    loggers.worker.ship.doubt_timeout_s = 1;
    let identity = Identity::load(&loggers.worker)?;
    let shipper = Shipper::start(&loggers.worker, Some(&identity), clock::now().0, None)?;
    let writing = numbered_rows::write(&shipper, ROWS, Duration::from_secs(6));
    pause(1_000).await;
    // It takes batches and writes none of them: they are in doubt when it is dead.
    let pid = loggers.running[0].as_ref().context("not running")?.id().to_string();
    ensure!(Command::new("kill").args(["-STOP", &pid]).status()?.success(), "cannot stop it");
    pause(4_000).await;
    loggers.kill(0)?;
    let other = loggers.configs[1].prefix.join("spool/logger-2/doubt");
    until("the other logger has copies", || {
        Ok(counter(&shipper, "spool_doubt_copied_rows") > 0 && !files(&other)?.is_empty())
    })
    .await?;
    ensure!(counter(&shipper, "spool_doubt_rows") > 0, "nothing is in doubt");
    // Kill who has the copies too: they are on its disk.
    loggers.kill(1)?;
    ensure!(!files(&other)?.is_empty(), "the copies died with the logger");
    loggers.run(1)?;
    loggers.run(0)?;
    numbered_rows::ended(writing).await?;
    all_acked(&shipper).await?;
    until("the copies are gone", || Ok(!other.exists())).await?;
    shipper.stop().await;
    loggers.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_doubt_at_a_logger_that_is_gone_for_good_go_to_the_other() -> Result<()> {
    let mut loggers = Loggers::start(2)?;
    let prefix = loggers.worker.prefix.clone();
    let identity = Identity::load(&loggers.worker)?;
    let shipper = Shipper::start(&loggers.worker, Some(&identity), clock::now().0, None)?;
    // Time to say hello.
    pause(2_000).await;
    let pid = loggers.running[0].as_ref().context("not running")?.id().to_string();
    ensure!(Command::new("kill").args(["-STOP", &pid]).status()?.success(), "cannot stop it");
    let writing = numbered_rows::write(&shipper, ROWS, Duration::from_secs(3));
    numbered_rows::ended(writing).await?;
    pause(2_000).await;
    loggers.kill(0)?;
    pause(500).await;
    let waiting = ledger(&shipper);
    ensure!(waiting.acked_rows < ROWS, "nothing waits for the first logger");
    let peers = PeersConfig {
        peers: loggers.worker.peers[1..].to_vec(),
        loggers_gone: vec!["logger-1".to_owned()],
    };
    make_current(&prefix, "gone", &peers)?;
    all_acked(&shipper).await?;
    shipper.stop().await;
    // It had been stopped before it wrote any: so the other one's archive has each row once.
    loggers.configs.remove(0);
    loggers.running.remove(0);
    loggers.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_worker_could_not_send_goes_out_in_its_next_life() -> Result<()> {
    let mut loggers = Loggers::start(1)?;
    let identity = Identity::load(&loggers.worker)?;
    loggers.kill(0)?;
    let shipper = Shipper::start(&loggers.worker, Some(&identity), clock::now().0, None)?;
    let writing = numbered_rows::write(&shipper, ROWS, Duration::ZERO);
    numbered_rows::ended(writing).await?;
    shipper.stop().await;
    loggers.run(0)?;
    let shipper = Shipper::start(&loggers.worker, Some(&identity), clock::now().0, None)?;
    all_acked(&shipper).await?;
    shipper.stop().await;
    loggers.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_node_writes_its_own_logs() -> Result<()> {
    let mut loggers = Loggers::start(0)?;
    let node =
        loggers.pki.enroll(&loggers.dir.path().join("alone"), Role::Standalone, "zeek", &[])?;
    let shipper = Shipper::start(&node, None, clock::now().0, None)?;
    let writing = numbered_rows::write(&shipper, ROWS, Duration::ZERO);
    numbered_rows::ended(writing).await?;
    all_acked(&shipper).await?;
    pause(500).await;
    let written = ledger(&shipper).written;
    ensure!(written.len() == 1 && written[0].rows == ROWS, "{written:?}");
    shipper.stop().await;
    loggers.configs.push(node);
    loggers.has_each_row_once()
}

/// A logger whose disk refuses in the middle of a commit (a file that may not grow stands for
/// a full disk), and a worker that wrote all its rows.
async fn refusing_disk() -> Result<(Loggers, Shipper)> {
    let mut loggers = Loggers::start(1)?;
    loggers.kill(0)?;
    loggers.configs[0].logs.rotation_interval_s = 0;
    loggers.run_behind(0, "trap '' XFSZ; ulimit -S -f 500; exec \"$@\"")?;
    let identity = Identity::load(&loggers.worker)?;
    let shipper = Shipper::start(&loggers.worker, Some(&identity), clock::now().0, None)?;
    let writing = numbered_rows::write(&shipper, ROWS, Duration::from_secs(1));
    numbered_rows::ended(writing).await?;
    pause(1_500).await;
    let waiting = ledger(&shipper);
    ensure!((1..ROWS).contains(&waiting.acked_rows), "the disk never refused: {waiting:?}");
    Ok((loggers, shipper))
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_disk_refuses_nothing_is_acked_and_all_goes_on_by_itself() -> Result<()> {
    let (mut loggers, shipper) = refusing_disk().await?;
    let pid = loggers.running[0].as_ref().context("not running")?.id().to_string();
    let lifted = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status()?;
    ensure!(lifted.success(), "prlimit failed");
    all_acked(&shipper).await?;
    shipper.stop().await;
    loggers.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logger_whose_disk_refuses_can_be_stopped_and_goes_on_in_its_next_life() -> Result<()> {
    let (mut loggers, shipper) = refusing_disk().await?;
    let stopped = loggers.stop().err().map(|error| error.to_string());
    ensure!(stopped.as_deref() == Some(FAULT), "{stopped:?}");
    loggers.run(0)?;
    all_acked(&shipper).await?;
    shipper.stop().await;
    loggers.finish()
}

/// What a logger answers to a hello that `caller` says for `node`.
async fn hello(loggers: &Loggers, caller: &NodeConfig, node: &str) -> Result<tonic::Status> {
    let identity = Identity::load(caller)?;
    let peer = loggers.worker.peers_of(Role::Logger).next().context("no logger")?;
    let begun = Instant::now();
    loop {
        let (requests, outgoing) = tokio::sync::mpsc::channel(1);
        let hello = Hello { node: node.to_owned(), oldest_epoch: 0 };
        requests.send(DeliverRequest { kind: Some(Kind::Hello(hello)) }).await?;
        let mut client = LogSinkClient::new(channel::to_peer(&identity, peer)?);
        let status = match client.deliver(ReceiverStream::new(outgoing)).await {
            Ok(replies) => match replies.into_inner().message().await {
                Ok(_) => tonic::Status::ok("welcome"),
                Err(status) => status,
            },
            Err(status) => status,
        };
        // The logger may still be starting.
        if status.code() != tonic::Code::Unavailable || begun.elapsed() > SETTLE_LIMIT {
            return Ok(status);
        }
        pause(50).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logger_takes_rows_from_producers_under_their_own_name_only() -> Result<()> {
    let mut loggers = Loggers::start(1)?;
    let told = hello(&loggers, &loggers.worker, "worker-1").await?;
    ensure!(told.code() == tonic::Code::Ok, "{told}");
    let told = hello(&loggers, &loggers.worker, "worker-2").await?;
    ensure!(told.code() == tonic::Code::PermissionDenied, "{told}");
    let other = loggers.pki.enroll(&loggers.dir.path().join("x"), Role::Logger, "logger-9", &[])?;
    let told = hello(&loggers, &other, "logger-9").await?;
    ensure!(told.code() == tonic::Code::PermissionDenied, "{told}");
    let stranger = Pki::new()?;
    let stranger = stranger.enroll(&loggers.dir.path().join("y"), Role::Worker, "worker-1", &[])?;
    fs::copy(loggers.worker.prefix.join("etc/tls/ca.pem"), stranger.prefix.join("etc/tls/ca.pem"))?;
    let identity = Identity::load(&stranger)?;
    let peer = loggers.worker.peers_of(Role::Logger).next().context("no logger")?;
    let mut client = LogSinkClient::new(channel::to_peer(&identity, peer)?);
    let outgoing = tokio_stream::empty::<DeliverRequest>();
    ensure!(client.deliver(outgoing).await.is_err(), "a stranger got in");
    loggers.stop()
}
