//! From a command line to a running daemon: configuration, traces, crypto, runtime.

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde::de::DeserializeOwned;
use tyto_core::config::runtime::{NodeConfig, PeersConfig, Role};

use crate::shutdown::{self, CancellationToken};
use crate::{telemetry, tls};

/// Reads a node's configuration. Whom it can dial is in `../peers.yaml` unless the file says it
/// itself.
///
/// # Errors
/// When a file cannot be read, or is not what it should be.
pub fn load_config(path: &Path) -> anyhow::Result<NodeConfig> {
    let mut config: NodeConfig = load(path)?;
    if config.peers.is_empty() && config.role != Role::Standalone {
        let release_etc = path.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        config.peers = load::<PeersConfig>(&release_etc.join("peers.yaml"))?.peers;
    }
    Ok(config)
}

fn load<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("`{}` is broken", path.display()))
}

/// Runs a daemon until it ends by itself or SIGTERM cancels the token that it is given.
///
/// # Errors
/// What kept the daemon from starting, or what `run` ended with.
pub fn run_node<F, R>(config_path: &Path, threads: usize, run: F) -> anyhow::Result<()>
where
    F: FnOnce(NodeConfig, CancellationToken) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    telemetry::init();
    tls::install_crypto();
    let config = load_config(config_path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let node = config.node.clone();
    let ended = runtime.block_on(async move {
        let shutdown = shutdown::on_signal().context("cannot take signals")?;
        tracing::info!(node = %config.node, role = %config.role, "starting");
        run(config, shutdown).await
    });
    match &ended {
        Ok(()) => tracing::info!(%node, "ended"),
        Err(error) => tracing::error!(%node, error = %format!("{error:#}"), "ended by a fault"),
    }
    ended
}

/// The exit code of a program whose work ended so; a fault is told on stderr, on one line with
/// its causes.
pub fn exit_code(program: &str, ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
