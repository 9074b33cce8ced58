//! Each node tells once a second how it is: to its host's supervisor (unix socket) and to the
//! cluster's manager (mTLS). Neither being away changes anything for the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tyto_core::config::runtime::{NodeConfig, Role};
use tyto_core::layout::Layout;
use tyto_proto::v1::manager_client::ManagerClient;
use tyto_proto::v1::supervisor_client::SupervisorClient;
use tyto_proto::v1::{Counter, NodeHealth};

use crate::channel::PeerChannel;
use crate::peers::Peers;
use crate::shutdown::CancellationToken;
use crate::tls::Identity;
use crate::{channel, clock};

/// Time between reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long one report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// The peer that every node of an installation has.
const SUPERVISOR: &str = "supervisor";

/// Where a node stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Started, not yet at work.
    Initializing,
    /// At work.
    Running,
    /// On its orderly way out.
    Terminating,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Initializing, Self::Running, Self::Terminating];

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Running => "running",
            Self::Terminating => "terminating",
        }
    }
}

/// Sends the reports of one node; [`Reporter::stop`] sends a last one.
#[derive(Debug)]
pub struct Reporter {
    phase: Arc<AtomicU8>,
    wake: Arc<tokio::sync::Notify>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

/// One named number of a report. The unit is the last word of the name.
pub fn counter(name: &str, value: u64) -> Counter {
    Counter { name: name.to_owned(), value }
}

/// Starts reporting. `fill` adds counters and ledger to each report; `started_ns` is the
/// node's epoch. `identity` is absent for a standalone node, which has no manager; it follows
/// its files from here on.
///
/// # Errors
/// When the identity cannot be used for a channel to the manager.
pub fn spawn_reporter(
    config: &NodeConfig,
    identity: Option<&Identity>,
    started_ns: u64,
    fill: impl Fn(&mut NodeHealth) + Send + Sync + 'static,
) -> Result<Reporter, tonic::transport::Error> {
    let supervisor = channel::to_socket(&Layout::new(&config.prefix).supervisor_sock());
    let supervisor = Outlet::Supervisor(SupervisorClient::new(supervisor));
    let mut peers = Peers::follow(config);
    let identity = identity.cloned();
    let manager = manager_of(&mut peers, identity.as_ref())?;
    let template = NodeHealth {
        node: config.node.clone(),
        role: config.role.to_string(),
        pid: std::process::id(),
        started_ns,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..NodeHealth::default()
    };
    let phase = Arc::new(AtomicU8::new(Phase::Initializing as u8));
    let (wake, end) = (Arc::new(tokio::sync::Notify::new()), CancellationToken::new());
    if let Some(identity) = identity.clone() {
        let end = end.clone();
        tokio::spawn(async move { identity.keep_fresh(end).await });
    }
    let sender = Sender {
        template,
        phase: phase.clone(),
        fill: Box::new(fill),
        supervisor,
        manager,
        peers,
        identity,
    };
    let task = tokio::spawn(sender.run(wake.clone(), end.clone()));
    Ok(Reporter { phase, wake, end, task })
}

/// A started-at stamp that serves as the node's epoch: wall-clock nanoseconds.
pub fn epoch_now() -> u64 {
    clock::now().0
}

impl Reporter {
    /// Changes the phase; a report goes out at once.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Sends a last report and ends.
    pub async fn stop(self) {
        self.phase.store(Phase::Terminating as u8, Ordering::Relaxed);
        self.end.cancel();
        drop(self.task.await);
    }
}

struct Sender {
    template: NodeHealth,
    phase: Arc<AtomicU8>,
    fill: Box<dyn Fn(&mut NodeHealth) + Send + Sync>,
    supervisor: Outlet,
    manager: Option<Outlet>,
    /// Where the manager is, now.
    peers: Peers,
    identity: Option<Identity>,
}

/// The way to the cluster's manager, for a node that has an identity to show.
fn manager_of(
    peers: &mut Peers,
    identity: Option<&Identity>,
) -> Result<Option<Outlet>, tonic::transport::Error> {
    let (Some(manager), Some(identity)) = (peers.of(Role::Manager).pop(), identity) else {
        return Ok(None);
    };
    Ok(Some(Outlet::Manager(ManagerClient::new(channel::to_peer(identity, &manager)?))))
}

impl Sender {
    async fn run(mut self, wake: Arc<tokio::sync::Notify>, end: CancellationToken) {
        let mut ticks = tokio::time::interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                _ = ticks.tick() => false,
                () = wake.notified() => false,
                () = end.cancelled() => true,
            };
            if self.peers.has_changed() {
                match manager_of(&mut self.peers, self.identity.as_ref()) {
                    Ok(manager) => self.manager = manager,
                    Err(error) => tracing::error!(%error, "cannot report to the manager"),
                }
            }
            let mut report = self.template.clone();
            let phase = Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed)) % 3];
            phase.as_str().clone_into(&mut report.phase);
            report.reported_ns = clock::now().0;
            report.identity = self.identity.as_ref().map(Identity::health);
            (self.fill)(&mut report);
            // Side by side: a manager that is away must not delay the supervisor's report.
            let mut sends = tokio::task::JoinSet::new();
            for outlet in [Some(&self.supervisor), self.manager.as_ref()].into_iter().flatten() {
                sends.spawn(outlet.clone().send(report.clone()));
            }
            while let Some(sent) = sends.join_next().await {
                if let Ok((SUPERVISOR, taken)) = sent {
                    self.template.unwatched = !taken;
                }
            }
            if last {
                return;
            }
        }
    }
}

#[derive(Clone)]
enum Outlet {
    Supervisor(SupervisorClient<Channel>),
    Manager(ManagerClient<PeerChannel>),
}

impl Outlet {
    /// Whom the report went to, and whether it was taken.
    async fn send(self, report: NodeHealth) -> (&'static str, bool) {
        let peer = match self {
            Self::Supervisor(_) => SUPERVISOR,
            Self::Manager(_) => "manager",
        };
        let sent = tokio::time::timeout(REPORT_TIMEOUT, async {
            match self {
                Self::Supervisor(mut client) => client.report(report).await,
                Self::Manager(mut client) => client.report(report).await,
            }
        });
        match sent.await {
            Ok(Ok(_)) => return (peer, true),
            Ok(Err(status)) => tracing::debug!(peer, %status, "health report not taken"),
            Err(_) => tracing::debug!(peer, "health report timed out"),
        }
        (peer, false)
    }
}
