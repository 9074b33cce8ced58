//! A worker's end of delivery in this process, and the real logger beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::time::sleep;
use tyto_core::config::logs::Compression;
use tyto_core::config::runtime::{NodeConfig, Role};
use tyto_core::layout::Layout;
use tyto_daemon::clock;
use tyto_daemon::tls::Identity;
use tyto_proto::v1::{LedgerRow, NodeHealth};
use tyto_tests::pki::{Pki, loopback_peer};
use tyto_tests::tree;
use tyto_worker::output::Output;
use tyto_worker::ship::{Overflow, Shipper};

/// The two ends, and their files in a folder that goes with them.
pub(crate) struct Pair {
    dir: TempDir,
    shipper: Shipper,
    logger: NodeConfig,
    logging: Option<Child>,
}

impl Pair {
    /// Both run.
    pub(crate) fn start(folder: &Path, spool_bytes_max: u64) -> Result<Self> {
        let mut pair = Self::without_logger(folder, spool_bytes_max)?;
        pair.start_logger()?;
        Ok(pair)
    }

    /// The logger is away.
    pub(crate) fn without_logger(folder: &Path, spool_bytes_max: u64) -> Result<Self> {
        let (dir, pki) = (tempfile::tempdir_in(folder)?, Pki::new()?);
        let peers = [loopback_peer(Role::Logger, "logger")?];
        let mut logger = pki.enroll(&dir.path().join("l"), Role::Logger, "logger", &peers)?;
        logger.logs.compress = Compression::Off;
        logger.logs.rotation_interval_s = 0;
        let mut worker = pki.enroll(&dir.path().join("w"), Role::Worker, "worker-1", &peers)?;
        worker.ship.spool_bytes_max = spool_bytes_max;
        let identity = Identity::load(&worker)?;
        let shipper = Shipper::start(&worker, Some(&identity), clock::now().0, None)?;
        Ok(Self { dir, shipper, logger, logging: None })
    }

    /// The program as it is deployed, in a process of its own.
    pub(crate) fn start_logger(&mut self) -> Result<()> {
        let config = self.dir.path().join("logger.yaml");
        fs::write(&config, serde_yaml::to_string(&self.logger)?)?;
        let program = tree::program("logger");
        let log = fs::File::create(self.dir.path().join("logger.log"))?;
        let child = Command::new(program)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.logging = Some(child);
        Ok(())
    }

    /// The packet thread's end.
    pub(crate) fn output(&self) -> Result<Output> {
        Ok(Output::new(Box::new(self.shipper.output(Overflow::Wait))))
    }

    /// How the rows of conn stand.
    pub(crate) fn ledger(&self) -> Option<LedgerRow> {
        let mut report = NodeHealth::default();
        self.shipper.health()(&mut report);
        report.ledger.into_iter().next()
    }

    /// Waits until so many rows are acked, none dropped.
    pub(crate) async fn acked(&self, rows: u64) -> Result<()> {
        loop {
            let row = self.ledger().context("no ledger")?;
            ensure!(row.dropped.is_empty(), "rows dropped: {row:?}");
            if row.acked_rows == rows {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where the logger writes conn.log.
    pub(crate) fn conn_log(&self) -> PathBuf {
        Layout::new(&self.logger.prefix).node_spool("logger").join("conn.log")
    }

    /// Bytes that the spool takes on disk.
    pub(crate) fn spool_bytes(&self) -> Result<u64> {
        let mut total = 0;
        for entry in fs::read_dir(self.dir.path().join("w/spool/worker-1/ship"))? {
            let entry = entry?;
            if entry.metadata()?.is_file() {
                total += entry.metadata()?.len();
            }
        }
        Ok(total)
    }

    /// Ends both.
    pub(crate) async fn end(self) -> Result<()> {
        self.shipper.stop().await;
        if let Some(mut child) = self.logging {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}
