//! Carries out the waves of a plan. A host gets its release at the moment the first of its nodes
//! is touched, so that a change that fails on one host has not reached the others: what dies
//! there meanwhile comes back as it was. After each node its health is awaited; when it is not
//! healthy, nothing further is touched.
//!
//! A host that cannot be reached costs its own nodes only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;
use tyto_core::config::name::HostName;

use super::health;
use super::order::{Member, Place, Wave};
use super::ship;
use crate::hosts::{Host, Hosts};
use crate::lock::LockWatch;
use crate::progress::Progress;
use crate::remote::error::RemoteError;
use crate::remote::peers::Supervisor;
use crate::tiers;

/// How long a host waits for its nodes to run before it says that they are still at it.
const START_WAIT: Duration = Duration::from_secs(20);

/// The release that a host is to run.
#[derive(Clone, Debug)]
pub struct Switch {
    /// Its id.
    pub release: String,
    /// The node whose logs `logs/current` shows; of several, each sees to that itself.
    pub logger: Option<String>,
}

/// How careful a rollout is.
#[derive(Clone, Copy, Debug)]
pub struct Care {
    /// How long a restarted node must run without a fault before the next is touched.
    pub settle: Duration,
    /// From SIGTERM to SIGKILL.
    pub patience: Duration,
    /// Fanout groups that are restarted at the same time.
    pub parallel_max: u32,
}

/// What went wrong.
#[derive(Debug)]
pub struct Failure {
    /// Host it went wrong on.
    pub host: HostName,
    /// The node; none when the host itself was the matter.
    pub node: Option<String>,
    /// Why.
    pub cause: Cause,
}

/// Why it went wrong.
#[derive(Debug)]
pub enum Cause {
    /// The node is not healthy; its supervisor's words.
    Node(String),
    /// The host did not do its part.
    Host(RemoteError),
    /// The lock was lost.
    Lock(String),
}

/// What became of it all.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Nodes that run as they should now, in the order they were done.
    pub done: Vec<String>,
    /// Hosts that have their release.
    pub switched: BTreeSet<HostName>,
    /// What went wrong.
    pub failures: Vec<Failure>,
    /// Something failed, and what came after it was left alone.
    pub is_stopped: bool,
}

/// A rollout in progress.
#[derive(Debug)]
pub struct Rollout {
    hosts: Hosts,
    members: BTreeMap<Place, Member>,
    switches: BTreeMap<HostName, Switch>,
    care: Care,
    lock: LockWatch,
    progress: Progress,
    // Each host is made ready once, by whichever lane comes first.
    ready: BTreeMap<HostName, OnceCell<()>>,
    stop: AtomicBool,
    // Lanes add what they did; held for a moment only.
    outcome: Mutex<Outcome>,
}

impl Rollout {
    /// Nothing is done yet.
    pub fn new(
        hosts: &Hosts,
        members: impl IntoIterator<Item = Member>,
        switches: BTreeMap<HostName, Switch>,
        care: Care,
        lock: LockWatch,
        progress: &Progress,
    ) -> Arc<Self> {
        let place =
            |member: &Member| Place { node: member.node.clone(), host: member.host.clone() };
        Arc::new(Self {
            hosts: hosts.clone(),
            members: members.into_iter().map(|member| (place(&member), member)).collect(),
            switches,
            care,
            lock,
            progress: progress.clone(),
            ready: hosts.iter().map(|host| (host.name.clone(), OnceCell::new())).collect(),
            stop: AtomicBool::new(false),
            outcome: Mutex::default(),
        })
    }

    /// Carries out `waves`, until the end or the first failure.
    pub async fn run(self: Arc<Self>, waves: &[Wave]) -> Outcome {
        for wave in waves {
            if self.is_stopped() {
                break;
            }
            self.tell(wave);
            match wave {
                Wave::Switch { hosts } => self.switch(hosts).await,
                Wave::Start { nodes, .. } => self.start(nodes).await,
                Wave::Restart { lanes, .. } => self.restart(lanes).await,
                Wave::Regroup { groups, .. } => self.regroup(groups).await,
            }
        }
        let mut outcome = self.outcome();
        outcome.is_stopped = self.stop.load(Ordering::SeqCst);
        std::mem::take(&mut *outcome)
    }

    fn tell(&self, wave: &Wave) {
        let text = match wave {
            Wave::Switch { .. } => return,
            Wave::Start { label, .. } => format!("starting {label} ..."),
            Wave::Restart { label, .. } | Wave::Regroup { label, .. } => {
                format!("restarting {label} ...")
            }
        };
        self.progress.heading(&text);
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when nothing further may be touched; looks after the lock too.
    fn is_stopped(&self) -> bool {
        if self.stop.load(Ordering::SeqCst) {
            return true;
        }
        let Err(lost) = self.lock.check() else { return false };
        let host = self.hosts.iter().next().map_or_else(|| "".into(), |host| host.name.clone());
        self.fail(host, None, Cause::Lock(lost.to_string()));
        true
    }

    fn fail(&self, host: HostName, node: Option<String>, cause: Cause) {
        let costs_itself_only = matches!(&cause, Cause::Host(error) if error.is_unreachable());
        if !costs_itself_only {
            self.stop.store(true, Ordering::SeqCst);
        }
        self.outcome().failures.push(Failure { host, node, cause });
    }

    /// Puts the release of a host in use and a supervisor of it in charge, once.
    async fn make_ready(&self, host: &Host) -> Result<(), RemoteError> {
        let Some(cell) = self.ready.get(&host.name) else { return Ok(()) };
        let switch = self.switches.get(&host.name);
        cell.get_or_try_init(|| async {
            if let Some(Switch { release, logger }) = switch {
                let (remote, layout) = (&*host.remote, &host.layout);
                ship::switch(remote, layout, release, logger.as_deref(), host.deadline).await?;
                self.outcome().switched.insert(host.name.clone());
            }
            tiers::start_supervisor(&*host.remote, &host.layout, host.deadline).await
        })
        .await
        .map(|_| ())
    }

    async fn switch(self: &Arc<Self>, names: &[HostName]) {
        let mut hosts = self.hosts.clone();
        hosts.retain(|host| names.contains(&host.name));
        let this = self;
        let results = hosts
            .each(|host| {
                let this = Arc::clone(this);
                async move { this.make_ready(&host).await }
            })
            .await;
        for (host, result) in results {
            if let Err(error) = result {
                self.fail(host, None, Cause::Host(error));
            }
        }
    }

    /// Starts nodes that do not run, all at once.
    async fn start(self: &Arc<Self>, nodes: &[Place]) {
        let names_on = |host: &HostName| -> Vec<String> {
            nodes.iter().filter(|place| place.host == *host).map(|p| p.node.clone()).collect()
        };
        let mut hosts = self.hosts.clone();
        hosts.retain(|host| !names_on(&host.name).is_empty());
        let results = hosts
            .each(|host| {
                let (this, names) = (Arc::clone(self), names_on(&host.name));
                async move {
                    let line = this.progress.host(&host.name);
                    line.say("starting");
                    this.make_ready(&host).await?;
                    let remote = Arc::clone(&host.remote);
                    let mut supervisor = Supervisor::open(remote, &host.layout).await?;
                    supervisor.start(names, START_WAIT).await
                }
            })
            .await;
        for (host, result) in results {
            match result {
                Ok(reply) => {
                    for node in reply.results {
                        self.started(&host, node.node, node.ok, node.message);
                    }
                }
                Err(error) => self.fail(host, None, Cause::Host(error)),
            }
        }
    }

    fn started(&self, host: &HostName, node: String, ok: bool, message: String) {
        if !ok {
            return self.fail(host.clone(), Some(node), Cause::Node(message));
        }
        if !message.is_empty() && message != "already running" {
            self.progress.heading(&format!("({node}: {message})"));
        }
        self.outcome().done.push(node);
    }

    /// Restarts the nodes of each lane one after the other, a bounded number of lanes at once.
    async fn restart(self: &Arc<Self>, lanes: &[Vec<Place>]) {
        let seats = Arc::new(Semaphore::new(self.care.parallel_max.max(1) as usize));
        let mut tasks = JoinSet::new();
        for lane in lanes {
            let (this, seats, lane) = (Arc::clone(self), Arc::clone(&seats), lane.clone());
            tasks.spawn(async move {
                // The semaphore is never closed; without a seat the work is done all the same.
                let _seat = seats.acquire_owned().await.ok();
                this.restart_lane(&lane).await;
            });
        }
        while let Some(done) = tasks.join_next().await {
            if let Err(error) = done {
                let host = self.hosts.iter().next().map_or_else(|| "".into(), |h| h.name.clone());
                let said = format!("a task broke off; please report this ({error})");
                self.fail(host, None, Cause::Node(said));
            }
        }
    }

    async fn restart_lane(&self, lane: &[Place]) {
        // The way to the last host: the nodes of a lane are mostly on one.
        let mut way: Option<(HostName, Supervisor)> = None;
        let mut lost: BTreeSet<HostName> = BTreeSet::new();
        for place in lane {
            if self.is_stopped() {
                return;
            }
            let (Some(host), Some(member)) =
                (self.hosts.find(&place.host), self.members.get(place))
            else {
                continue;
            };
            if lost.contains(&place.host) {
                continue;
            }
            let line = self.progress.host(&place.host);
            line.say(format!("restarting {}", place.node));
            match self.restart_one(host, member, &mut way).await {
                Ok(Ok(())) => self.outcome().done.push(place.node.clone()),
                Ok(Err(why)) => {
                    self.fail(place.host.clone(), Some(place.node.clone()), Cause::Node(why));
                }
                Err(error) => {
                    lost.insert(place.host.clone());
                    self.fail(place.host.clone(), Some(place.node.clone()), Cause::Host(error));
                }
            }
        }
    }

    /// Stops the nodes of each group together and starts them again, a group after the other.
    async fn regroup(&self, groups: &[Vec<Place>]) {
        for group in groups {
            let host = group.first().and_then(|place| self.hosts.find(&place.host));
            let Some(host) = host.filter(|_| !self.is_stopped()) else { continue };
            self.progress.host(&host.name).say("restarting a group");
            match self.regroup_one(host, group).await {
                Ok(None) => {
                    self.outcome().done.extend(group.iter().map(|place| place.node.clone()));
                }
                Ok(Some((node, why))) => {
                    self.fail(host.name.clone(), Some(node), Cause::Node(why));
                }
                Err(error) => self.fail(host.name.clone(), None, Cause::Host(error)),
            }
        }
    }

    /// The first node that is not well afterwards, and why.
    async fn regroup_one(
        &self,
        host: &Host,
        group: &[Place],
    ) -> Result<Option<(String, String)>, RemoteError> {
        self.make_ready(host).await?;
        let mut supervisor = Supervisor::open(Arc::clone(&host.remote), &host.layout).await?;
        let names: Vec<String> = group.iter().map(|place| place.node.clone()).collect();
        // Their sockets go with them: the new ones make another group.
        let stopped = supervisor.stop(names.clone(), self.care.patience, false).await?;
        let started = supervisor.start(names, START_WAIT).await?;
        let results = stopped.results.into_iter().chain(started.results);
        if let Some(result) = results.into_iter().find(|result| !result.ok) {
            return Ok(Some((result.node, result.message)));
        }
        for member in group.iter().filter_map(|place| self.members.get(place)) {
            if let Err(why) = health::settled(&mut supervisor, member, self.care.settle).await? {
                return Ok(Some((member.node.clone(), why)));
            }
        }
        Ok(None)
    }

    async fn restart_one(
        &self,
        host: &Host,
        member: &Member,
        way: &mut Option<(HostName, Supervisor)>,
    ) -> Result<Result<(), String>, RemoteError> {
        // Another supervisor may come by this: the way to it is opened afterwards.
        self.make_ready(host).await?;
        let mut supervisor = match way.take() {
            Some((name, supervisor)) if name == host.name => supervisor,
            _ => Supervisor::open(Arc::clone(&host.remote), &host.layout).await?,
        };
        let names = vec![member.node.clone()];
        let reply = supervisor.restart(names, self.care.patience, START_WAIT).await?;
        if let Some(result) = reply.results.into_iter().find(|result| !result.ok) {
            return Ok(Err(result.message));
        }
        let health = health::settled(&mut supervisor, member, self.care.settle).await?;
        *way = Some((host.name.clone(), supervisor));
        Ok(health)
    }
}
