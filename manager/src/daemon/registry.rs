//! Which nodes there are and when each was last heard of. Pure but for [`Membership`], whose
//! task owns the [`Registry`], writes its changes and the alarms to cluster.log, and keeps what
//! nodes said last on disk.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};
use tyto_daemon::alarm::Watch;
use tyto_daemon::ledger::Known;
use tyto_daemon::{clock, health};
use tyto_proto::v1;

use super::cluster_log::ClusterLog;
use super::kept::Kept;

/// A node that was heard of within this time is up. Nodes report each second.
const UP_WINDOW: Duration = Duration::from_secs(10);

/// A node that was heard of within this time is taken to report on; see [`Judge`].
///
/// [`Judge`]: tyto_daemon::ledger::Judge
const LIVE_WINDOW: Duration = Duration::from_secs(3);

/// Looks between two times that what nodes said last is put on disk.
const KEEP_LOOKS: u32 = 10;

/// Time between two looks for nodes that have fallen silent.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Nodes known at most. Each has a certificate of the cluster's CA, so that more than these
/// are a mistake; past the limit the one that has been silent longest makes way, and while
/// all are up a new one is refused and counted.
const MEMBERS_MAX: usize = 4096;

/// Reports and questions that may wait for the registry; past it callers wait.
const ASKS_MAX: usize = 256;

/// The nodes.
#[derive(Debug, Default)]
struct Registry {
    members: BTreeMap<String, Member>,
}

#[derive(Debug)]
struct Member {
    health: v1::NodeHealth,
    heard_at: Instant,
    up: bool,
}

/// Something that cluster.log tells.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// Heard of for the first time, or again after a silence.
    Up(String),
    /// Another process than before, without a silence in between.
    Restarted { node: String, pid: u32 },
    /// Not heard of within [`UP_WINDOW`].
    Down(String),
}

/// The registry has no place for another node.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MEMBERS_MAX} nodes are known and up already")]
pub(crate) struct Full;

impl Registry {
    /// Takes a node's report.
    fn heard(&mut self, health: v1::NodeHealth, now: Instant) -> Result<Option<Change>, Full> {
        let node = health.node.clone();
        if let Some(member) = self.members.get_mut(&node) {
            let change = if !member.up {
                Some(Change::Up(node))
            } else if member.health.started_ns != health.started_ns {
                Some(Change::Restarted { node, pid: health.pid })
            } else {
                None
            };
            *member = Member { health, heard_at: now, up: true };
            return Ok(change);
        }
        if self.members.len() >= MEMBERS_MAX {
            self.forget_most_silent()?;
        }
        self.members.insert(node.clone(), Member { health, heard_at: now, up: true });
        Ok(Some(Change::Up(node)))
    }

    /// Nodes that have fallen silent since the last look.
    fn look(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for (node, member) in &mut self.members {
            if member.up && now.saturating_duration_since(member.heard_at) >= UP_WINDOW {
                member.up = false;
                changes.push(Change::Down(node.clone()));
            }
        }
        changes
    }

    /// All nodes by name.
    fn members(&self, now: Instant) -> Vec<v1::MemberState> {
        let state = |member: &Member| {
            let silence = now.saturating_duration_since(member.heard_at);
            v1::MemberState {
                health: Some(member.health.clone()),
                last_seen_ms_ago: u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
                up: member.up && silence < UP_WINDOW,
            }
        };
        self.members.values().map(state).collect()
    }

    /// Goes on with what an earlier life knew: nodes that have not reported to this one.
    fn remember(&mut self, health: v1::NodeHealth, now: Instant, now_ns: u64) {
        let silence = Duration::from_nanos(now_ns.saturating_sub(health.reported_ns));
        // As far as this host's clock goes back.
        let heard_at = now.checked_sub(silence.max(UP_WINDOW)).unwrap_or(now);
        if self.members.len() < MEMBERS_MAX {
            self.members.insert(health.node.clone(), Member { health, heard_at, up: false });
        }
    }

    /// The last reports of all nodes.
    fn known(&self, now: Instant) -> Vec<Known<'_>> {
        let known = |member: &'_ Member| {
            let silence = now.saturating_duration_since(member.heard_at);
            member.up && silence < LIVE_WINDOW
        };
        let members = self.members.values();
        members.map(|member| Known { health: &member.health, is_live: known(member) }).collect()
    }

    fn up(&self) -> usize {
        self.members.values().filter(|member| member.up).count()
    }

    fn forget_most_silent(&mut self) -> Result<(), Full> {
        let silent = self.members.iter().filter(|(_, member)| !member.up);
        let longest = silent.min_by_key(|(_, member)| member.heard_at).map(|(node, _)| node);
        match longest.cloned() {
            Some(node) => {
                self.members.remove(&node);
                Ok(())
            }
            None => Err(Full),
        }
    }
}

impl Change {
    fn message(&self) -> String {
        match self {
            Self::Up(node) => format!("node up: {node}"),
            Self::Restarted { node, pid } => format!("node restarted: {node} is process {pid}"),
            Self::Down(node) => format!("node down: {node}"),
        }
    }
}

/// What the manager counts about itself.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    known: AtomicU64,
    up: AtomicU64,
    reports: AtomicU64,
    refused: AtomicU64,
    cluster_log_lost: AtomicU64,
    alarms_unraised: AtomicU64,
    /// Those of the cluster. The registry's task replaces them, reports copy them.
    alarms: Mutex<Vec<v1::Alarm>>,
}

impl Counters {
    /// Adds counters and alarms to the manager's own report.
    pub(crate) fn fill(&self, health: &mut v1::NodeHealth) {
        health.counters = self.report();
        health.alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner).clone();
    }

    fn report(&self) -> Vec<v1::Counter> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            health::counter("known_nodes", of(&self.known)),
            health::counter("up_nodes", of(&self.up)),
            health::counter("taken_reports", of(&self.reports)),
            health::counter("refused_reports", of(&self.refused)),
            health::counter("cluster_log_lost_rows", of(&self.cluster_log_lost)),
            health::counter("alarms_unraised", of(&self.alarms_unraised)),
        ]
    }
}

/// The way to the task that owns the registry.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    asks: mpsc::Sender<Ask>,
}

#[derive(Debug)]
enum Ask {
    Heard {
        health: Box<v1::NodeHealth>,
        reply: oneshot::Sender<Result<(), Full>>,
    },
    Members(oneshot::Sender<v1::NodesReply>),
    /// The manager is about to end: keep what is known.
    Keep(oneshot::Sender<()>),
}

/// The task has gone: the manager is ending.
#[derive(Debug, thiserror::Error)]
#[error("the manager is ending")]
pub(crate) struct Ending;

impl Membership {
    /// Starts the task; it ends with the last handle.
    pub(crate) fn spawn(
        log: ClusterLog,
        kept: Kept,
        lag_max: Duration,
        counters: Arc<Counters>,
    ) -> Self {
        let (asks, inbox) = mpsc::channel(ASKS_MAX);
        let (mut registry, before) = (Registry::default(), kept.load());
        let (now, now_ns) = (Instant::now(), clock::now().0);
        for health in before.members.into_iter().filter_map(|member| member.health) {
            registry.remember(health, now, now_ns);
        }
        let watch = Watch::new(before.alarms);
        let owner = Owner { registry, watch, lag_max, log, kept, looks: 0, counters };
        tokio::spawn(owner.run(inbox));
        Self { asks }
    }

    /// Takes a node's report; whether it has a place.
    ///
    /// # Errors
    /// When the manager is ending.
    pub(crate) async fn heard(&self, health: v1::NodeHealth) -> Result<Result<(), Full>, Ending> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Heard { health: Box::new(health), reply };
        self.asks.send(ask).await.map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }

    /// All nodes by name, and the alarms.
    ///
    /// # Errors
    /// When the manager is ending.
    pub(crate) async fn members(&self) -> Result<v1::NodesReply, Ending> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Members(reply)).await.map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }

    /// Puts what is known on disk.
    ///
    /// # Errors
    /// When the manager is ending.
    pub(crate) async fn keep(&self) -> Result<(), Ending> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Keep(reply)).await.map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }
}

#[derive(Debug)]
struct Owner {
    registry: Registry,
    watch: Watch,
    /// Log lag beyond it is an alarm; zero: none is.
    lag_max: Duration,
    log: ClusterLog,
    kept: Kept,
    /// Since what nodes said was put on disk.
    looks: u32,
    counters: Arc<Counters>,
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::Receiver<Ask>) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ask = inbox.recv() => match ask {
                    // A caller that has gone meanwhile needs no answer.
                    Some(Ask::Heard { health, reply }) => drop(reply.send(self.heard(*health))),
                    Some(Ask::Members(reply)) => {
                        drop(reply.send(self.all()));
                    }
                    Some(Ask::Keep(reply)) => {
                        self.keep().await;
                        // The manager ends in any case.
                        reply.send(()).ok();
                    }
                    None => return,
                },
                _ = looks.tick() => self.look().await,
            }
        }
    }

    fn all(&self) -> v1::NodesReply {
        let members = self.registry.members(Instant::now());
        v1::NodesReply { members, alarms: self.watch.alarms() }
    }

    async fn look(&mut self) {
        let now = Instant::now();
        for change in self.registry.look(now) {
            self.tell(&change);
        }
        let known = self.registry.known(now);
        let changes = self.watch.look(&known, self.lag_max, now, clock::now().0);
        for change in changes {
            let alarm = &change.0;
            let (kind, text) = (&alarm.kind, &alarm.text);
            if alarm.cleared_ns == 0 {
                warn!(kind, node = alarm.node, stream = alarm.stream, text, "alarm raised");
            } else {
                info!(kind, node = alarm.node, stream = alarm.stream, text, "alarm cleared");
            }
            self.append(&change.to_string());
        }
        self.counters.alarms_unraised.store(self.watch.unraised(), Ordering::Relaxed);
        *self.counters.alarms.lock().unwrap_or_else(PoisonError::into_inner) = self.watch.alarms();
        self.looks += 1;
        if self.looks >= KEEP_LOOKS {
            self.keep().await;
        }
    }

    async fn keep(&mut self) {
        self.looks = 0;
        self.kept.store(&self.all()).await;
    }

    fn heard(&mut self, health: v1::NodeHealth) -> Result<(), Full> {
        let heard = self.registry.heard(health, Instant::now());
        let count = if heard.is_ok() { &self.counters.reports } else { &self.counters.refused };
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(change) = heard? {
            self.tell(&change);
        }
        Ok(())
    }

    fn tell(&mut self, change: &Change) {
        let message = change.message();
        match change {
            Change::Up(node) => info!(%node, "node up"),
            Change::Restarted { node, pid } => warn!(%node, pid, "node restarted"),
            Change::Down(node) => warn!(%node, "node down"),
        }
        self.counters.known.store(self.registry.members.len() as u64, Ordering::Relaxed);
        self.counters.up.store(self.registry.up() as u64, Ordering::Relaxed);
        self.append(&message);
    }

    fn append(&mut self, message: &str) {
        if let Err(error) = self.log.append(clock::now(), message) {
            self.counters.cluster_log_lost.fetch_add(1, Ordering::Relaxed);
            warn!(%error, message, "row of cluster.log lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(node: &str, started_ns: u64) -> v1::NodeHealth {
        v1::NodeHealth { node: node.to_owned(), pid: 7, started_ns, ..Default::default() }
    }

    #[test]
    fn a_node_of_an_earlier_life_is_known_and_down_until_it_reports() {
        let (mut registry, now) = (Registry::default(), Instant::now());
        let health = v1::NodeHealth { reported_ns: 5_000_000_000, ..report("a", 1) };
        registry.remember(health, now, 6_000_000_000);
        assert!(!registry.members(now)[0].up);
        assert!(!registry.known(now)[0].is_live);
        assert_eq!(registry.look(now), []);
        assert_eq!(registry.heard(report("a", 1), now), Ok(up("a")));
        assert!(registry.known(now)[0].is_live);
    }

    fn up(node: &str) -> Option<Change> {
        Some(Change::Up(node.to_owned()))
    }

    #[test]
    fn a_node_is_up_while_it_is_heard_of_within_ten_seconds() {
        let mut registry = Registry::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(registry.heard(report("a", 1), at(0)), Ok(up("a")));
        assert_eq!(registry.heard(report("a", 1), at(1_000)), Ok(None));
        assert_eq!(registry.look(at(10_999)), []);
        assert_eq!(registry.look(at(11_000)), [Change::Down("a".to_owned())]);
        assert_eq!(registry.look(at(12_000)), []);
        let state = &registry.members(at(12_000))[0];
        assert_eq!((state.up, state.last_seen_ms_ago), (false, 11_000));
        assert_eq!(registry.heard(report("a", 1), at(13_000)), Ok(up("a")));
    }

    #[test]
    fn a_restart_between_two_reports_is_seen() {
        let mut registry = Registry::default();
        let now = Instant::now();
        assert_eq!(registry.heard(report("a", 1), now), Ok(up("a")));
        let change = registry.heard(report("a", 2), now).unwrap();
        assert_eq!(change, Some(Change::Restarted { node: "a".to_owned(), pid: 7 }));
    }

    #[test]
    fn the_most_silent_node_makes_way_and_none_that_is_up() {
        let mut registry = Registry::default();
        let start = Instant::now();
        for index in 0..MEMBERS_MAX {
            let at = start + Duration::from_millis(index as u64);
            registry.heard(report(&format!("n{index:04}"), 1), at).unwrap();
        }
        let now = start + Duration::from_secs(5);
        assert_eq!(registry.heard(report("new", 1), now), Err(Full));

        let later = start + UP_WINDOW + Duration::from_millis(1);
        assert_eq!(registry.look(later).len(), 2);
        assert_eq!(registry.heard(report("new", 1), later), Ok(up("new")));
        assert!(!registry.members.contains_key("n0000"));
        assert!(registry.members.contains_key("n0001"));
        assert_eq!(registry.members.len(), MEMBERS_MAX);
    }
}
