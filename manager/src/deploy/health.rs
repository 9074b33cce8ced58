//! Whether a node that was just started does its work: its process is up, says that it runs,
//! keeps on saying so, and captures if it is there to capture.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tyto_proto::v1::NodeStatus;

use super::order::Member;
use crate::remote::error::RemoteError;
use crate::remote::peers::Supervisor;

/// How long a node may take until it runs: a logger reads its journal first, a worker its spool.
const RUNNING_PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Age of the last report of a node that hangs, milliseconds: nodes report each second.
const REPORT_AGE_MAX_MS: u64 = 5_000;
/// Counter that every node with a live capture reports.
const CAPTURE_COUNTER: &str = "packets_received";

/// What a node is found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It runs.
    Good,
    /// Not yet.
    Pending(String),
    /// It is down, or another process than before.
    Bad(String),
}

/// Waits until the node has run for `settle` without a fault; else why it is not healthy.
///
/// # Errors
/// When its host no longer answers.
pub async fn settled(
    supervisor: &mut Supervisor,
    member: &Member,
    settle: Duration,
) -> Result<Result<(), String>, RemoteError> {
    let began = Instant::now();
    let mut good_since: Option<Instant> = None;
    let mut process = None;
    loop {
        let reply = supervisor.status().await?;
        let status = reply.nodes.iter().find(|status| status.node == member.node);
        match finding(member, status, &mut process) {
            Finding::Good => {
                let since = *good_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= settle {
                    return Ok(Ok(()));
                }
            }
            Finding::Pending(why) if began.elapsed() < RUNNING_PATIENCE + settle => {
                tracing::debug!(node = member.node, why, "not healthy yet");
                good_since = None;
            }
            Finding::Pending(why) => {
                let waited = began.elapsed().as_secs();
                return Ok(Err(format!("{why} after {waited} s")));
            }
            Finding::Bad(why) => return Ok(Err(why)),
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Judges a status; `process` is the one seen first.
fn finding(member: &Member, status: Option<&NodeStatus>, process: &mut Option<u32>) -> Finding {
    let Some(status) = status else {
        return Finding::Bad("the supervisor no longer knows it".to_owned());
    };
    if status.pid == 0 {
        return Finding::Bad(died(status));
    }
    if *process.get_or_insert(status.pid) != status.pid {
        return Finding::Bad(died(status));
    }
    if status.state != "running" {
        return Finding::Pending(format!("still {}", status.state));
    }
    let Some(health) = status.health.as_ref() else {
        return Finding::Pending("it has reported nothing".to_owned());
    };
    if status.health_age_ms > REPORT_AGE_MAX_MS {
        return Finding::Pending("its reports stay out".to_owned());
    }
    let captures = health.counters.iter().any(|counter| counter.name == CAPTURE_COUNTER);
    if member.interface.is_some() && !captures {
        return Finding::Pending("it does not capture".to_owned());
    }
    Finding::Good
}

/// How it died, with its last words.
fn died(status: &NodeStatus) -> String {
    let mut text = match status.last_exit.as_str() {
        "" => format!("it is {}", status.state),
        exit => format!("it died: {exit}"),
    };
    for line in &status.last_stderr {
        text.push('\n');
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use tyto_core::config::runtime::Role;
    use tyto_proto::v1::{Counter, NodeHealth};

    use super::*;

    fn member(interface: Option<&str>) -> Member {
        let interface = interface.map(str::to_owned);
        Member { node: "w".into(), role: Role::Worker, host: "h".into(), interface }
    }

    fn running() -> NodeStatus {
        let counter = Counter { name: CAPTURE_COUNTER.into(), value: 0 };
        let health = NodeHealth { counters: vec![counter], ..NodeHealth::default() };
        NodeStatus {
            node: "w".into(),
            state: "running".into(),
            pid: 7,
            health: Some(health),
            ..NodeStatus::default()
        }
    }

    fn found(status: &NodeStatus) -> Finding {
        finding(&member(Some("eth0")), Some(status), &mut Some(7))
    }

    #[test]
    fn a_node_is_good_when_its_process_runs_reports_and_captures() {
        assert_eq!(found(&running()), Finding::Good);
        let starting = NodeStatus { state: "initializing".into(), ..running() };
        assert_eq!(found(&starting), Finding::Pending("still initializing".into()));
        let silent = NodeStatus { health_age_ms: 6_000, ..running() };
        assert_eq!(found(&silent), Finding::Pending("its reports stay out".into()));
        let idle = NodeStatus { health: Some(NodeHealth::default()), ..running() };
        assert_eq!(found(&idle), Finding::Pending("it does not capture".into()));
        assert_eq!(finding(&member(None), Some(&idle), &mut None), Finding::Good);
    }

    #[test]
    fn a_node_that_died_is_bad_even_when_it_is_back() {
        let dead = NodeStatus {
            pid: 0,
            last_exit: "exit code 3".into(),
            last_stderr: vec!["no such interface".into()],
            ..running()
        };
        assert_eq!(found(&dead), Finding::Bad("it died: exit code 3\nno such interface".into()));
        let back = NodeStatus { pid: 8, last_exit: "exit code 3".into(), ..running() };
        assert_eq!(found(&back), Finding::Bad("it died: exit code 3".into()));
    }
}
