//! All nodes of this host: those that the release in use names, in its order, and those that
//! still run from an earlier one. Joins what the supervisor knows of a node with what the
//! node reports of itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use tracing::{info, warn};
use tyto_core::config::runtime::HostConfig;
use tyto_core::layout::Layout;
use tyto_daemon::clock;
use tyto_proto::v1::NodeHealth;

use crate::capture_store::CaptureStore;
use crate::crash;
use crate::handle::{Ending, Life, NodeHandle, Stopped, View};
use crate::host::{self, HostError};
use crate::last_reports::LastReports;
use crate::output;
use crate::watchdog::{self, Heard, Hung, Vigil};

/// Seconds from SIGTERM to SIGKILL when neither the caller nor the configuration says.
const STOP_TIMEOUT_DEFAULT_S: u64 = 60;

/// Time between two looks at files that grow.
const CUT_INTERVAL: Duration = Duration::from_secs(60);

/// The phase of a node at work, and the word for its state then.
const RUNNING: &str = "running";

/// The same of a node on its way out.
const TERMINATING: &str = "terminating";

/// Time between two times that the last reports are put on disk.
const KEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The nodes of this host.
#[derive(Debug)]
pub(crate) struct Fleet {
    layout: Layout,
    captures: Arc<CaptureStore>,
    reports: LastReports,
    /// Held over an await by [`Fleet::members`] alone, while it adds a node, so that no node
    /// gets two tasks. Bounded by the nodes of the host's configurations.
    nodes: Mutex<BTreeMap<String, Arc<Member>>>,
}

/// A node and its last report.
#[derive(Debug)]
pub(crate) struct Member {
    /// Name of the node.
    pub(crate) name: String,
    handle: NodeHandle,
    heard: watch::Sender<Option<Heard>>,
    /// What its processes said last to earlier supervisors.
    before: Option<NodeHealth>,
}

/// A node for the status table.
#[derive(Debug)]
pub(crate) struct Row {
    /// Name of the node.
    pub(crate) name: String,
    /// Its role: that of its process, else that of the release in use.
    pub(crate) role: String,
    /// One of the words of `NodeStatus.state`.
    pub(crate) state: &'static str,
    /// What the supervisor knows.
    pub(crate) view: View,
    /// The last report of the process that runs now.
    pub(crate) heard: Option<Heard>,
    /// Else that of an earlier process.
    pub(crate) last_report: Option<NodeHealth>,
}

/// Why a report was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// Not of this host.
    #[error("no node `{0}` on this host")]
    NoSuchNode(String),
    /// A process that this supervisor does not run as that node.
    #[error("node `{node}` is process {runs}, not {says}")]
    NotTheNode {
        /// Name of the node.
        node: String,
        /// The node's process; 0 when it has none.
        runs: u32,
        /// Who reported.
        says: u32,
    },
}

impl Fleet {
    /// Takes over every node of this host that runs, and starts those that should.
    pub(crate) async fn restore(layout: Layout, captures: Arc<CaptureStore>) -> Self {
        let reports = LastReports::new(layout.clone());
        let fleet = Self { layout, captures, reports, nodes: Mutex::default() };
        fleet.members().await;
        let mut nodes = fleet.nodes.lock().await;
        for name in fleet.recorded() {
            fleet.ensure(&mut nodes, &name).await;
        }
        fleet.captures.forget_unknown(|name| nodes.contains_key(name));
        drop(nodes);
        fleet
    }

    /// All nodes: first those of the release in use in its order, then others that live.
    pub(crate) async fn members(&self) -> Vec<Arc<Member>> {
        self.members_and_config().await.0
    }

    async fn members_and_config(&self) -> (Vec<Arc<Member>>, Option<HostConfig>) {
        let config = self.config();
        let mut nodes = self.nodes.lock().await;
        let mut members = Vec::new();
        match &config {
            Ok(config) => {
                for node in &config.nodes {
                    members.push(self.ensure(&mut nodes, &node.node).await);
                }
                let named = |name: &str| config.nodes.iter().any(|node| node.node == name);
                nodes.retain(|name, member| named(name) || !self.forget_if_idle(member));
            }
            Err(error) => {
                warn!(error = %tyto_daemon::telemetry::chain(error), "cannot tell which nodes to run");
            }
        }
        for member in nodes.values() {
            if !members.iter().any(|listed| listed.name == member.name) {
                members.push(Arc::clone(member));
            }
        }
        (members, config.ok())
    }

    /// Keeps what nodes and supervisor write to stderr and stdout within bounds, and what is kept
    /// of crashes; never ends.
    pub(crate) async fn tidy(&self) {
        loop {
            tokio::time::sleep(CUT_INTERVAL).await;
            let (members, config) = self.members_and_config().await;
            let layout = self.layout.clone();
            let cut = tokio::task::spawn_blocking(move || {
                output::cut_all(&layout, members.iter().map(|member| member.name.as_str()));
                let watch = config.map(|config| config.watch).unwrap_or_default();
                crash::expire(&layout, &watch, clock::now().0);
            });
            if let Err(error) = cut.await {
                warn!(%error, "cannot cut files that have grown");
            }
        }
    }

    /// Keeps the last reports on disk; never ends.
    pub(crate) async fn keep_reports(self: Arc<Self>) {
        loop {
            tokio::time::sleep(KEEP_INTERVAL).await;
            let fleet = Arc::clone(&self);
            let members: Vec<_> = self.nodes.lock().await.values().cloned().collect();
            let kept = tokio::task::spawn_blocking(move || {
                let heard = members.iter().filter_map(|member| member.heard.borrow().clone());
                heard.for_each(|heard| fleet.reports.keep(&heard.health, false));
            });
            if let Err(error) = kept.await {
                warn!(%error, "cannot keep the last reports");
            }
        }
    }

    /// Last reports of nodes that are no more of this host.
    pub(crate) async fn departed(&self) -> Vec<NodeHealth> {
        let nodes = self.nodes.lock().await;
        self.reports.departed(|name| nodes.contains_key(name))
    }

    /// Has nodes killed that live and hang; never ends.
    pub(crate) async fn watch(&self) {
        let mut vigil = Vigil::new(Instant::now());
        loop {
            tokio::time::sleep(watchdog::LOOK_INTERVAL).await;
            let (members, config) = self.members_and_config().await;
            let now = Instant::now();
            let from = vigil.look(now);
            let patience_s = config.map_or(0, |config| config.watch.watchdog_s);
            if patience_s > 0 {
                let patience = Duration::from_secs(patience_s);
                members.iter().for_each(|member| member.look(now, from, patience));
            }
        }
    }

    /// All nodes for the status table.
    pub(crate) async fn rows(&self) -> Vec<Row> {
        let (members, config) = self.members_and_config().await;
        members.iter().map(|member| member.row(config.as_ref())).collect()
    }

    /// Where metrics are told by the release in use; none: nowhere.
    pub(crate) fn metrics_listen(&self) -> Option<SocketAddr> {
        self.config().ok()?.metrics_listen
    }

    /// Names of cluster and host by the release in use; empty when there is none.
    pub(crate) fn names(&self) -> (String, String) {
        self.config().map_or_else(|_| Default::default(), |config| (config.cluster, config.host))
    }

    /// Log lag beyond it is an alarm; zero: none is.
    pub(crate) fn log_lag_max(&self) -> Duration {
        let alarms = self.config().map(|config| config.alarms).unwrap_or_default();
        Duration::from_secs(alarms.log_lag_max_s)
    }

    /// Paths of this host.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Id of the release in use; empty when there is none.
    pub(crate) fn release(&self) -> String {
        host::release(&self.layout).map_or_else(|_| String::new(), |release| release.id)
    }

    /// The configured time from SIGTERM to SIGKILL.
    pub(crate) fn stop_timeout(&self) -> Duration {
        let secs = self.config().map_or(STOP_TIMEOUT_DEFAULT_S, |config| config.stop_timeout_s);
        Duration::from_secs(secs)
    }

    /// Takes a node's report of itself.
    ///
    /// # Errors
    /// When it does not come from the process that runs as a node here.
    pub(crate) async fn report(&self, health: NodeHealth) -> Result<(), ReportError> {
        let known = self.nodes.lock().await.get(&health.node).cloned();
        let Some(member) = known else { return Err(ReportError::NoSuchNode(health.node)) };
        let runs = member.handle.view().pid;
        if runs != health.pid {
            return Err(ReportError::NotTheNode { node: health.node, runs, says: health.pid });
        }
        if health.phase == RUNNING {
            member.handle.runs(health.pid);
        }
        if health.phase == TERMINATING {
            // It may be the last one.
            self.reports.keep(&health, true);
        }
        member.heard.send_modify(|heard| {
            *heard = Some(Heard::new(heard.as_ref(), health, Instant::now()));
        });
        Ok(())
    }

    fn config(&self) -> Result<HostConfig, HostError> {
        host::config(&host::release(&self.layout)?)
    }

    async fn ensure(&self, nodes: &mut BTreeMap<String, Arc<Member>>, name: &str) -> Arc<Member> {
        if let Some(member) = nodes.get(name) {
            return Arc::clone(member);
        }
        let heard = watch::Sender::new(None);
        let (layout, captures) = (self.layout.clone(), Arc::clone(&self.captures));
        let handle = NodeHandle::restore(layout, captures, name, heard.subscribe()).await;
        let before = self.reports.load(name);
        let member = Arc::new(Member { name: name.to_owned(), handle, heard, before });
        nodes.insert(name.to_owned(), Arc::clone(&member));
        member
    }

    /// Names that have a record, whether the release in use names them or not.
    fn recorded(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.layout.run_nodes()) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
    }

    /// For a node that the release in use does not name: whether it is gone for good.
    fn forget_if_idle(&self, member: &Member) -> bool {
        let view = member.handle.view();
        if view.pid != 0 || view.record.desired {
            return false;
        }
        info!(node = %member.name, "node is no more of this host");
        // The lock file stays: unlinking it would let two processes hold "the" lock.
        if let Err(error) = std::fs::remove_file(self.layout.node_record(&member.name)) {
            tracing::debug!(node = %member.name, %error, "no record to remove");
        }
        true
    }
}

impl Member {
    /// Starts the node and waits until it runs, has died, or `wait` is over: whether it is on
    /// its way, and what to tell the operator.
    ///
    /// # Errors
    /// When the supervisor is ending.
    pub(crate) async fn start(&self, wait: Duration) -> Result<(bool, String), Ending> {
        let give_up_at = tokio::time::Instant::now() + wait;
        let mut views = self.handle.watch();
        let mut heard = self.heard.subscribe();
        let before = self.handle.start().await?;
        if state(&before, self.heard_of(&before).as_ref()) == RUNNING {
            return Ok((true, "already running".to_owned()));
        }
        loop {
            let view = views.borrow_and_update().clone();
            heard.mark_unchanged();
            if view.deaths > before.deaths {
                return Ok((false, failure(&view)));
            }
            if !view.record.desired {
                return Ok((false, "stopped meanwhile".to_owned()));
            }
            if view.life == Life::Waiting {
                return Ok((false, view.failure));
            }
            if state(&view, self.heard_of(&view).as_ref()) == RUNNING {
                return Ok((true, String::new()));
            }
            tokio::select! {
                changed = views.changed() => changed.map_err(|_| Ending)?,
                changed = heard.changed() => changed.map_err(|_| Ending)?,
                () = tokio::time::sleep_until(give_up_at) => {
                    return Ok((true, "still initializing".to_owned()));
                }
            }
        }
    }

    /// Stops the node. `keep_capture`: it will be started again at once.
    ///
    /// # Errors
    /// When the supervisor is ending.
    pub(crate) async fn stop(
        &self,
        timeout: Duration,
        keep_capture: bool,
    ) -> Result<Stopped, Ending> {
        self.handle.stop(timeout, keep_capture).await
    }

    /// The node for the status table.
    pub(crate) fn row(&self, config: Option<&HostConfig>) -> Row {
        let view = self.handle.view();
        let heard = self.heard_of(&view);
        let configured = config.and_then(|c| c.nodes.iter().find(|node| node.node == self.name));
        let role = match configured {
            Some(node) if view.role.is_empty() => node.role.to_string(),
            _ => view.role.clone(),
        };
        let state = state(&view, heard.as_ref());
        let last_report = match &heard {
            Some(_) => None,
            None => self.last_report(),
        };
        Row { name: self.name.clone(), role, state, view, heard, last_report }
    }

    /// What any process of it said last.
    fn last_report(&self) -> Option<NodeHealth> {
        let heard = self.heard.borrow().as_ref().map(|heard| heard.health.clone());
        heard.or_else(|| self.before.clone())
    }

    /// Has the node killed when it runs and has hung for `patience`; see [`Heard::hung`].
    fn look(&self, now: Instant, from: Instant, patience: Duration) {
        let view = self.handle.view();
        if view.life != Life::Up || view.pid == 0 {
            return;
        }
        let hung = match self.heard_of(&view) {
            Some(heard) if heard.health.phase != RUNNING => None,
            Some(heard) => heard.hung(now, from, patience),
            // It said that it runs to an earlier supervisor, and nothing since we look.
            None if view.ran() => {
                let silence = now.saturating_duration_since(from);
                (silence >= patience).then_some(Hung::Silent(silence))
            }
            None => None,
        };
        if let Some(hung) = hung {
            self.handle.hung(view.pid, hung.to_string());
        }
    }

    /// The last report, if it is from the process that runs now.
    fn heard_of(&self, view: &View) -> Option<Heard> {
        self.heard.borrow().clone().filter(|heard| heard.health.pid == view.pid)
    }
}

/// The word for a node's state.
fn state(view: &View, heard: Option<&Heard>) -> &'static str {
    match view.life {
        Life::Stopped => "stopped",
        Life::Terminating => "terminating",
        Life::Crashed => "crashed",
        Life::Backoff => "backoff",
        Life::Failed => "failed",
        Life::Waiting => "waiting",
        Life::Up => match heard.map(|heard| heard.health.phase.as_str()) {
            Some(RUNNING) => RUNNING,
            Some(TERMINATING) => TERMINATING,
            // It said so to an earlier supervisor.
            None if view.ran() => RUNNING,
            _ => "initializing",
        },
    }
}

fn failure(view: &View) -> String {
    let mut message = view.failure.clone();
    for line in &view.last_stderr {
        message.push('\n');
        message.push_str(line);
    }
    message
}
