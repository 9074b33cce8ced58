//! Starting and stopping nodes, tier by tier. Inside a tier all hosts work at once and an error
//! on one never aborts another; a tier that fails keeps the later ones from being touched, as
//! in ZeekControl. A host that cannot be reached costs its own nodes only.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_core::layout::Layout;
use tyto_proto::v1::{NodeResult, NodesResult};

use crate::deploy::order::{self, Tier};
use crate::hosts::{Host, Hosts};
use crate::progress::Progress;
use crate::remote::error::RemoteError;
use crate::remote::peers::Supervisor;
use crate::remote::shell::quote_path;
use crate::remote::{Input, Remote};
use crate::report::Report;

/// How long a host waits for its nodes to run before it says that they are still at it.
const START_WAIT: Duration = Duration::from_secs(20);
/// How long a supervisor may take to be gone after it was told to end.
const GONE_PATIENCE: Duration = Duration::from_secs(10);
/// Time between two looks whether it is gone.
const GONE_INTERVAL: Duration = Duration::from_millis(50);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Start,
    /// `starts_again`: at once, so that captures go on meanwhile.
    Stop {
        patience: Duration,
        starts_again: bool,
    },
}

/// Starts nodes in ZeekControl's order. False when a node of a host that answers is not on its
/// way: what would come next must not be done then.
pub async fn start(
    hosts: &Hosts,
    nodes: &[&Node],
    progress: &Progress,
    report: &mut Report,
) -> bool {
    run(hosts, nodes, order::start_tiers(nodes.iter().copied()), Verb::Start, progress, report)
        .await
}

/// Stops nodes in the reverse order, perhaps to start them again at once. False when a node of a
/// host that answers may still run.
pub async fn stop(
    hosts: &Hosts,
    nodes: &[&Node],
    patience: Duration,
    starts_again: bool,
    progress: &Progress,
    report: &mut Report,
) -> bool {
    let tiers = order::stop_tiers(nodes.iter().copied());
    run(hosts, nodes, tiers, Verb::Stop { patience, starts_again }, progress, report).await
}

async fn run(
    hosts: &Hosts,
    nodes: &[&Node],
    tiers: Vec<Tier>,
    verb: Verb,
    progress: &Progress,
    report: &mut Report,
) -> bool {
    // Supervisors that answered this command already. Hosts take the lock for a moment each.
    let ready: Arc<Mutex<HashSet<HostName>>> = Arc::default();
    let mut tiers = tiers.into_iter();
    while let Some(tier) = tiers.next() {
        let word = if verb == Verb::Start { "starting" } else { "stopping" };
        progress.heading(&format!("{word} {} ...", tier.label));
        let outcome = run_tier(hosts, nodes, &tier, verb, &ready, progress).await;
        let aborts = outcome.iter().any(NodeOutcome::aborts);
        for node in &outcome {
            node.tell(verb, progress, report);
        }
        if aborts {
            for left in tiers.flat_map(|tier| tier.nodes) {
                report.error(format!("{left}: not touched, because nodes before it failed"));
            }
            return false;
        }
    }
    true
}

/// What became of one node.
struct NodeOutcome {
    node: String,
    result: Result<String, Failure>,
}

enum Failure {
    /// The supervisor said so.
    Node(String),
    /// Its host could not be asked.
    Host(Arc<RemoteError>),
}

impl NodeOutcome {
    /// Whether later tiers must not be touched.
    fn aborts(&self) -> bool {
        match &self.result {
            Ok(_) => false,
            Err(Failure::Node(_)) => true,
            Err(Failure::Host(error)) => !error.is_unreachable(),
        }
    }

    fn tell(&self, verb: Verb, progress: &Progress, report: &mut Report) {
        let node = &self.node;
        match &self.result {
            Ok(message) if message == "still initializing" => {
                progress.heading(&format!("({node} still initializing)"));
            }
            Ok(message) if message.is_empty() || message == "already running" => {}
            Ok(message) => progress.heading(&format!("({node}: {message})")),
            Err(Failure::Node(message)) => {
                let tried = if verb == Verb::Start { "start" } else { "stop" };
                report.error_hint(
                    format!("cannot {tried} {node}: {message}"),
                    format!("`ctl diag {node}` tells more"),
                );
            }
            Err(Failure::Host(error)) => report.remote_error(node, error),
        }
    }
}

async fn run_tier(
    hosts: &Hosts,
    nodes: &[&Node],
    tier: &Tier,
    verb: Verb,
    ready: &Arc<Mutex<HashSet<HostName>>>,
    progress: &Progress,
) -> Vec<NodeOutcome> {
    let names_on = |host: &HostName| -> Vec<String> {
        let here =
            |name: &&String| nodes.iter().any(|n| n.name == name.as_str() && n.host == *host);
        tier.nodes.iter().filter(here).cloned().collect()
    };
    let mut concerned = hosts.clone();
    concerned.retain(|host| !names_on(&host.name).is_empty());
    let results = concerned
        .each(|host| {
            let (names, ready) = (names_on(&host.name), Arc::clone(ready));
            let progress = progress.clone();
            async move {
                let line = progress.host(&host.name);
                line.say(if verb == Verb::Start { "starting" } else { "stopping" });
                match verb {
                    Verb::Start => start_on(&host, names, &ready).await,
                    Verb::Stop { patience, starts_again } => {
                        stop_on(&host, names, patience, starts_again).await
                    }
                }
            }
        })
        .await;
    let mut outcome = Vec::new();
    for (host, result) in results {
        outcome.extend(node_outcomes(names_on(&host), result));
    }
    outcome
}

fn node_outcomes(names: Vec<String>, result: Result<NodesResult, RemoteError>) -> Vec<NodeOutcome> {
    match result {
        Err(error) => {
            let error = Arc::new(error);
            let failed = |node| NodeOutcome { node, result: Err(Failure::Host(error.clone())) };
            names.into_iter().map(failed).collect()
        }
        Ok(reply) => {
            let of = |NodeResult { node, ok, message, .. }: NodeResult| NodeOutcome {
                node,
                result: if ok { Ok(message) } else { Err(Failure::Node(message)) },
            };
            reply.results.into_iter().map(of).collect()
        }
    }
}

async fn start_on(
    host: &Host,
    names: Vec<String>,
    ready: &Mutex<HashSet<HostName>>,
) -> Result<NodesResult, RemoteError> {
    let is_ready = ready.lock().is_ok_and(|ready| ready.contains(&host.name));
    if !is_ready {
        start_supervisor(&*host.remote, &host.layout, host.deadline).await?;
        if let Ok(mut ready) = ready.lock() {
            ready.insert(host.name.clone());
        }
    }
    let mut supervisor = Supervisor::open(Arc::clone(&host.remote), &host.layout).await?;
    supervisor.start(names, START_WAIT).await
}

/// Makes sure that a supervisor of the release in use runs on a host. One of an earlier
/// release gives way to it; the nodes stay as they are.
///
/// # Errors
/// When nothing is installed there, or the supervisor does not come up.
pub async fn start_supervisor(
    remote: &dyn Remote,
    layout: &Layout,
    deadline: Duration,
) -> Result<(), RemoteError> {
    let program = quote_path(&layout.current_bin("supervisor"));
    let prefix = quote_path(layout.prefix());
    let script = format!("[ -x {program} ] || exit 42; exec {program} start --prefix {prefix}");
    let output = remote.run(&script, Input::None, deadline).await?;
    match output.code {
        0 => Ok(()),
        42 => Err(RemoteError::NotInstalled { host: remote.host().to_owned() }),
        _ => Err(RemoteError::from_output(remote.host(), "start the supervisor", &output)),
    }
}

async fn stop_on(
    host: &Host,
    names: Vec<String>,
    patience: Duration,
    starts_again: bool,
) -> Result<NodesResult, RemoteError> {
    let stopped = match Supervisor::open(Arc::clone(&host.remote), &host.layout).await {
        Ok(mut supervisor) => supervisor.stop(names.clone(), patience, starts_again).await,
        Err(error) => Err(error),
    };
    match stopped {
        Err(RemoteError::NoSupervisor { .. }) if !host.unwatched().await?.is_empty() => {
            // Nodes outlived it. A new one takes them over and can end them.
            start_supervisor(&*host.remote, &host.layout, host.deadline).await?;
            let remote = Arc::clone(&host.remote);
            let mut supervisor = Supervisor::open(remote, &host.layout).await?;
            supervisor.stop(names, patience, starts_again).await
        }
        Err(RemoteError::NoSupervisor { .. } | RemoteError::NotInstalled { .. }) => {
            let gone = |node| NodeResult { node, ok: true, ..NodeResult::default() };
            Ok(NodesResult { results: names.into_iter().map(gone).collect() })
        }
        other => other,
    }
}

/// Ends the supervisors of hosts on which no node runs or shall run any more.
pub async fn end_idle_supervisors(hosts: &Hosts, report: &mut Report) {
    for (host, result) in hosts.each(|host| async move { end_if_idle(&host).await }).await {
        if let Err(error) = result
            && !error.is_unreachable()
        {
            report.remote_error(&host, &error);
        }
    }
}

async fn end_if_idle(host: &Host) -> Result<(), RemoteError> {
    let ended = match Supervisor::open(Arc::clone(&host.remote), &host.layout).await {
        Ok(mut supervisor) => supervisor.shutdown(false).await,
        Err(error) => Err(error),
    };
    match ended {
        Err(RemoteError::NoSupervisor { .. } | RemoteError::NotInstalled { .. }) => Ok(()),
        Err(error) => Err(error),
        // It has nodes yet.
        Ok(reply) if !reply.accepted => Ok(()),
        Ok(_) => until_gone(host).await,
    }
}

async fn until_gone(host: &Host) -> Result<(), RemoteError> {
    let give_up = tokio::time::Instant::now() + GONE_PATIENCE;
    while tokio::time::Instant::now() < give_up {
        if host.status().await.is_ok_and(|reply| reply.supervisor_pid == 0) {
            return Ok(());
        }
        tokio::time::sleep(GONE_INTERVAL).await;
    }
    let (host, what) = (host.name.to_string(), "end of the supervisor");
    Err(RemoteError::TimedOut { host, what, deadline: GONE_PATIENCE })
}
