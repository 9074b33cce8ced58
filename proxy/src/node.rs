//! The life of a proxy node: load, listen, gather, answer, save.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tracing::{info, warn};
use tyto_core::config::runtime::{NodeConfig, Role};
use tyto_core::layout::Layout;
use tyto_daemon::health::{self, Phase};
use tyto_daemon::peers::Peers;
use tyto_daemon::shutdown::CancellationToken;
use tyto_daemon::telemetry::chain;
use tyto_daemon::tls::Identity;
use tyto_daemon::{channel, clock, stream};
use tyto_proto::v1::relay_server::RelayServer;
use tyto_proto::v1::state_server::StateServer;

use crate::handover;
use crate::relay::Relay;
use crate::relay_rpc::RelayService;
use crate::rpc::{Counters, Members, Shared, StateService};
use crate::snapshot;
use crate::table::{ENTRIES_MAX, Table};

pub use crate::rpc::Clock;

/// Time between snapshots of a table that changes: what a crash of all holders at once can
/// cost. A write of a large table may take longer; then it is that long at least.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(3);
/// Time between two looks for expired entries.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
/// How long calls under way may take at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs a proxy by the wall clock until `shutdown`.
///
/// # Errors
/// When it cannot begin: no identity, or the address is taken.
pub async fn run(config: NodeConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    run_with(config, Arc::new(clock::now), shutdown).await
}

/// Runs a proxy whose entries expire by `clock`, until `shutdown`.
///
/// # Errors
/// When it cannot begin: no identity, or the address is taken.
pub async fn run_with(
    config: NodeConfig,
    clock: Clock,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let identity = Identity::load(&config).context("this node has no identity")?;
    let address = config.listen.context("the configuration of a proxy needs `listen`")?;
    let mut peers = Peers::follow(&config);
    let members = Members::new(&peers.of(Role::Proxy), &config.node, &identity)
        .context("cannot use this node's identity")?;
    let shared = Arc::new(Shared {
        cluster: config.cluster.clone(),
        node: config.node.clone(),
        members: ArcSwap::from_pointee(members),
        table: Table::new(ENTRIES_MAX),
        clock,
        ready: AtomicBool::new(false),
        counters: Counters::default(),
        relay: Relay::default(),
    });
    let snapshots = Snapshots::open(&config)?;
    snapshots.load(&shared);
    let fill = {
        let shared = shared.clone();
        move |report: &mut tyto_proto::v1::NodeHealth| report.counters = shared.report()
    };
    let reporter = health::spawn_reporter(&config, Some(&identity), health::epoch_now(), fill)
        .context("cannot report health")?;
    let serve_end = CancellationToken::new();
    let server = serve(&identity, address, shared.clone(), serve_end.clone()).await?;
    // Copies are taken from here on, so that nothing falls between handover and first claim.
    tokio::select! {
        () = handover::gather(&shared) => {
            shared.ready.store(true, Ordering::Release);
            reporter.set_phase(Phase::Running);
            info!(%address, entries = shared.table.len(), "answering claims");
            tokio::select! {
                () = tend(&shared, &snapshots, &shutdown) => {}
                () = follow(&shared, peers, &identity) => {}
            }
        }
        () = shutdown.cancelled() => {}
    }
    reporter.set_phase(Phase::Terminating);
    shared.relay.close();
    serve_end.cancel();
    if tokio::time::timeout(DRAIN_TIMEOUT, server).await.is_err() {
        warn!("calls under way were cut off");
    }
    snapshots.save(&shared).await;
    reporter.stop().await;
    Ok(())
}

/// Listens at `address`; the task ends after `end`, when the last call is answered.
async fn serve(
    identity: &Identity,
    address: SocketAddr,
    shared: Arc<Shared>,
    end: CancellationToken,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
    let state = StateServer::new(StateService { shared: shared.clone() })
        .max_decoding_message_size(channel::MESSAGE_BYTES_MAX);
    let relay = RelayServer::new(RelayService { shared })
        .max_decoding_message_size(channel::MESSAGE_BYTES_MAX);
    let router = channel::server().add_service(state).add_service(relay);
    let incoming = stream::incoming(listener, identity);
    Ok(tokio::spawn(async move {
        let served = router.serve_with_incoming_shutdown(incoming, end.cancelled_owned()).await;
        if let Err(error) = served {
            warn!(error = chain(&error), "server ended by a fault");
        }
    }))
}

/// Takes each new list of proxies, and what this one is to hold by it; never ends.
async fn follow(shared: &Arc<Shared>, mut peers: Peers, identity: &Identity) {
    loop {
        peers.changed().await;
        let proxies = peers.of(Role::Proxy);
        // Without this node the list is of a cluster that it is about to leave.
        if !proxies.iter().any(|proxy| proxy.node == shared.node) {
            continue;
        }
        match Members::new(&proxies, &shared.node, identity) {
            Ok(members) => {
                info!(proxies = proxies.len(), "the list of proxies has changed");
                shared.members.store(Arc::new(members));
                handover::gather(shared).await;
            }
            Err(error) => warn!(%error, "the list of proxies cannot be used"),
        }
    }
}

/// Expires and saves entries until `shutdown`.
async fn tend(shared: &Arc<Shared>, snapshots: &Snapshots, shutdown: &CancellationToken) {
    let mut expire = tokio::time::interval(EXPIRE_INTERVAL);
    let mut save = tokio::time::interval(SNAPSHOT_INTERVAL);
    save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut saved = None;
    loop {
        tokio::select! {
            _ = expire.tick() => {
                shared.table.expire(shared.now());
                shared.relay.expire(shared.now());
            }
            _ = save.tick() => {
                let changes = shared.table.changes();
                if saved != Some(changes) {
                    saved = snapshots.save(shared).await.then_some(changes);
                }
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// The snapshot file of this node.
struct Snapshots {
    path: PathBuf,
}

impl Snapshots {
    fn open(config: &NodeConfig) -> anyhow::Result<Self> {
        let folder = Layout::new(&config.prefix).node_spool(&config.node);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make `{}`", folder.display()))?;
        Ok(Self { path: folder.join("snapshot") })
    }

    fn load(&self, shared: &Shared) {
        match snapshot::load(&shared.table, &self.path, shared.now()) {
            Ok(entries) => info!(entries, "snapshot loaded"),
            Err(error) => warn!(
                error = chain(&error),
                "snapshot not used; the entries come from the other proxies"
            ),
        }
    }

    /// Returns whether the table was saved.
    async fn save(&self, shared: &Arc<Shared>) -> bool {
        let (path, owned) = (self.path.clone(), shared.clone());
        let write = move || snapshot::save(&owned.table, &path, owned.now());
        let error = match tokio::task::spawn_blocking(write).await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => chain(&error),
            Err(error) => error.to_string(),
        };
        shared.counters.snapshot_failures.fetch_add(1, Ordering::Relaxed);
        warn!(error, "snapshot not written; the one before stays");
        false
    }
}
