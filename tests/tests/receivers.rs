//! Rows to others besides the files: a subscriber (the Python client of docs/examples) and a
//! sink (a real rsyslog, by TCP and by TLS), while they and the logger are killed.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tyto_core::config::runtime::{NodeConfig, Role};
use tyto_core::config::sinks::SinkConfig;
use tyto_core::layout::Layout;
use tyto_daemon::tls::{self, Identity};
use tyto_daemon::{channel, clock};
use tyto_proto::v1::FollowRequest;
use tyto_proto::v1::log_follow_client::LogFollowClient;
use tyto_tests::pki::{Pki, loopback_peer};
use tyto_tests::{numbered_rows, tree, wait};
use tyto_worker::ship::Shipper;

/// Rows of one test.
const ROWS: u64 = 12_000;
/// How long a program may take to listen, or all rows to arrive.
const LIMIT: Duration = Duration::from_secs(60);

/// A program of the test; it is killed with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A logger, a worker that sends it rows, and whom they trust.
struct World {
    dir: TempDir,
    pki: Pki,
    worker: NodeConfig,
    logger: NodeConfig,
    running: Option<Running>,
}

impl World {
    fn new(sinks: Vec<SinkConfig>) -> Result<Self> {
        tls::install_crypto();
        let (dir, pki) = (tempfile::tempdir()?, Pki::new()?);
        let peer = loopback_peer(Role::Logger, "logger-1")?;
        let peers = [peer];
        let worker = pki.enroll(&dir.path().join("worker"), Role::Worker, "worker-1", &peers)?;
        let prefix = dir.path().join("logger");
        let mut logger = pki.enroll(&prefix, Role::Logger, "logger-1", &peers)?;
        logger.logs.rotation_interval_s = 2;
        logger.sinks = sinks;
        Ok(Self { dir, pki, worker, logger, running: None })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn address(&self) -> Result<SocketAddr> {
        self.logger.listen.context("a logger listens")
    }

    /// Kills the logger if it runs, and starts it.
    fn start_logger(&mut self) -> Result<()> {
        self.running = None;
        let path = self.path("logger.yaml");
        fs::write(&path, serde_yaml::to_string(&self.logger)?)?;
        let child = Command::new(tree::program("logger")).arg("--config").arg(path).spawn()?;
        self.running = Some(Running(child));
        listens(self.address()?)
    }
}

async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

fn listens(address: SocketAddr) -> Result<()> {
    wait::until(&format!("{address} listens"), LIMIT, || {
        Ok(TcpStream::connect(address).map(drop).map_err(|error| error.to_string()))
    })
}

/// A Python that has gRPC, and protoc beside it; or why there is none.
fn python() -> Result<&'static str, &'static str> {
    let runs = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        let command = command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !runs("protoc", &["--version"]) {
        return Err("there is no protoc; `scripts/setup lab` installs it");
    }
    let has_grpc = |python: &&str| runs(python, &["-c", "import grpc, google.protobuf"]);
    let found = ["python3", "/usr/bin/python3"].into_iter().find(|python| has_grpc(python));
    found.ok_or("there is no python3 with grpc; `scripts/setup lab` installs it")
}

/// Makes what the client of the docs needs: keys of a subscriber, and the messages.
fn prepare_client(world: &World) -> Result<()> {
    let prefix = world.path("subscriber");
    world.pki.enroll(&prefix, Role::Subscriber, "siem", &[])?;
    let layout = Layout::new(&prefix);
    let keys = world.path("keys");
    fs::create_dir_all(&keys)?;
    fs::copy(layout.ca_cert(), keys.join("ca.pem"))?;
    fs::copy(layout.node_cert("siem"), keys.join("siem.pem"))?;
    fs::copy(layout.node_key("siem"), keys.join("siem.key"))?;
    let made = Command::new("protoc")
        .arg("-I")
        .arg(tree::root().join("proto"))
        .arg(format!("--python_out={}", world.dir.path().display()))
        .arg("tyto/v1/follow.proto")
        .status()?;
    ensure!(made.success(), "protoc cannot make follow_pb2.py");
    Ok(())
}

fn run_client(world: &World, python: &str) -> Result<Running> {
    let child = Command::new(python)
        .arg(tree::root().join("docs/examples/follow.py"))
        .args(["--logger", &format!("logger-1={}", world.address()?), "--name", "siem"])
        .arg("--keys")
        .arg(world.path("keys"))
        .args(["--stream", "conn", "--fields", "n"])
        .arg(world.path("conn.rows"))
        .env("PYTHONPATH", world.dir.path())
        .spawn()?;
    Ok(Running(child))
}

/// Values of `n` in a file of lines; a last line under way is none yet.
fn rows_of(path: &Path) -> Result<Vec<u64>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(n_of).collect()
}

fn n_of(line: &str) -> Result<u64> {
    let n = line.split_once("\"n\":").and_then(|(_, rest)| rest.split([',', '}']).next());
    n.with_context(|| format!("a row without n: {line}"))?.parse().context("n is no number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_gets_each_row_once_though_it_and_the_logger_are_killed() -> Result<()> {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            tree::skipped(
                "a_subscriber_gets_each_row_once_though_it_and_the_logger_are_killed",
                why,
            );
            return Ok(());
        }
    };
    let mut world = World::new(Vec::new())?;
    world.start_logger()?;
    prepare_client(&world)?;
    let refused = follow(&world, &world.worker).await?;
    ensure!(refused.code() == tonic::Code::PermissionDenied, "a worker may follow: {refused}");
    let identity = Identity::load(&world.worker)?;
    let shipper = Shipper::start(&world.worker, Some(&identity), clock::now().0, None)?;
    let writing = numbered_rows::write(&shipper, ROWS, Duration::from_secs(5));
    for turn in 0..3 {
        let client = run_client(&world, python)?;
        pause(Duration::from_millis(1_200)).await;
        drop(client);
        if turn == 1 {
            world.start_logger()?;
        }
    }
    let client = run_client(&world, python)?;
    numbered_rows::ended(writing).await?;
    let file = world.path("conn.rows");
    has_all(&file, "the subscriber")?;
    drop(client);
    let mut rows = rows_of(&file)?;
    rows.sort_unstable();
    ensure!(rows == (0..ROWS).collect::<Vec<_>>(), "rows are doubled");
    shipper.stop().await;
    Ok(())
}

/// Waits until each row is in the file, once at least. Returns how many come more than once.
fn has_all(file: &Path, who: &str) -> Result<u64> {
    wait::until(&format!("{who} has each row"), LIMIT, || {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for n in rows_of(file)? {
            *counts.entry(n).or_default() += 1;
        }
        let found = counts.len() as u64;
        let doubled = counts.values().map(|count| count - 1).sum();
        Ok(if found == ROWS { Ok(doubled) } else { Err(format!("{found} different rows")) })
    })
}

/// What the logger answers when `caller` follows.
async fn follow(world: &World, caller: &NodeConfig) -> Result<tonic::Status> {
    let identity = Identity::load(caller)?;
    let peer = world.worker.peers_of(Role::Logger).next().context("no logger")?;
    let mut client = LogFollowClient::new(channel::to_peer(&identity, peer)?);
    let wanted = FollowRequest { stream: "conn".into(), ..FollowRequest::default() };
    Ok(match client.follow(wanted).await {
        Ok(_) => tonic::Status::ok("followed"),
        Err(status) => status,
    })
}

/// Where a rsyslog listens, and what it writes.
struct Rsyslog {
    config: PathBuf,
    file: PathBuf,
    address: SocketAddr,
}

impl Rsyslog {
    /// With a certificate of its own, of the cluster's CA, if it is to speak TLS.
    fn configure(world: &World, address: SocketAddr, is_tls: bool) -> Result<Self> {
        let folder = world.path("rsyslog");
        fs::create_dir_all(&folder)?;
        let file = folder.join("rows.log");
        let (mut global, mut driver) = (String::new(), String::new());
        if is_tls {
            let prefix = world.path("receiver");
            world.pki.enroll(&prefix, Role::Worker, "localhost", &[])?;
            let layout = Layout::new(&prefix);
            global = format!(
                "defaultNetstreamDriverCAFile=\"{}\" defaultNetstreamDriverCertFile=\"{}\" \
                 defaultNetstreamDriverKeyFile=\"{}\"",
                layout.ca_cert().display(),
                layout.node_cert("localhost").display(),
                layout.node_key("localhost").display(),
            );
            driver = "streamDriver.name=\"ossl\" streamDriver.mode=\"1\" \
                      streamDriver.authMode=\"anon\""
                .to_owned();
        }
        let text = format!(
            "global(workDirectory=\"{folder}\" maxMessageSize=\"64k\" {global})\n\
             module(load=\"imtcp\" {driver})\n\
             template(name=\"line\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"rows\")\n\
             ruleset(name=\"rows\") {{ action(type=\"omfile\" file=\"{file}\" template=\"line\") }}\n",
            folder = folder.display(),
            port = address.port(),
            file = file.display(),
        );
        let config = folder.join("rsyslog.conf");
        fs::write(&config, text)?;
        Ok(Self { config, file, address })
    }

    fn run(&self) -> Result<Running> {
        let child = Command::new("rsyslogd")
            .args(["-n", "-i", "NONE", "-f"])
            .arg(&self.config)
            .spawn()
            .context("cannot run rsyslogd")?;
        let running = Running(child);
        listens(self.address)?;
        Ok(running)
    }
}

/// Why rsyslog cannot be run, if it cannot.
fn no_rsyslog() -> Option<&'static str> {
    let mut command = Command::new("rsyslogd");
    let found = command.arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!found.is_ok_and(|status| status.success()))
        .then_some("there is no rsyslogd; `scripts/setup lab` installs it")
}

/// rsyslog is killed, stays away while rows come, and comes back; so does the logger.
async fn a_killed_rsyslog_gets_each_row(is_tls: bool) -> Result<()> {
    let mut world = World::new(Vec::new())?;
    let address = loopback_peer(Role::Worker, "rsyslog")?.addr;
    let rsyslog = Rsyslog::configure(&world, address, is_tls)?;
    let (scheme, ca) = if is_tls {
        ("tls", format!(", ca: {}", Layout::new(world.path("receiver")).ca_cert().display()))
    } else {
        ("tcp", String::new())
    };
    let port = address.port();
    let sink = format!("{{name: siem, to: '{scheme}://localhost:{port}', streams: [conn]{ca}}}");
    world.logger.sinks = vec![serde_yaml::from_str(&sink)?];
    let receiver = rsyslog.run()?;
    world.start_logger()?;
    let identity = Identity::load(&world.worker)?;
    let shipper = Shipper::start(&world.worker, Some(&identity), clock::now().0, None)?;
    let writing = numbered_rows::write(&shipper, ROWS, Duration::from_secs(5));
    pause(Duration::from_millis(1_500)).await;
    drop(receiver);
    pause(Duration::from_millis(1_000)).await;
    let receiver = rsyslog.run()?;
    pause(Duration::from_millis(1_500)).await;
    world.start_logger()?;
    numbered_rows::ended(writing).await?;
    let doubled = has_all(&rsyslog.file, "rsyslog")?;
    eprintln!("receivers: {doubled} of {ROWS} rows came more than once");
    drop(receiver);
    shipper.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsyslog_that_is_killed_and_comes_back_gets_each_row() -> Result<()> {
    if let Some(why) = no_rsyslog() {
        tree::skipped("an_rsyslog_that_is_killed_and_comes_back_gets_each_row", why);
        return Ok(());
    }
    a_killed_rsyslog_gets_each_row(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsyslog_behind_tls_that_is_killed_and_comes_back_gets_each_row() -> Result<()> {
    if let Some(why) = no_rsyslog() {
        tree::skipped("an_rsyslog_behind_tls_that_is_killed_and_comes_back_gets_each_row", why);
        return Ok(());
    }
    a_killed_rsyslog_gets_each_row(true).await
}
