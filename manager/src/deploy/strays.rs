//! What runs where node.cfg no longer says so: nodes that left a host, and hosts that left the
//! cluster. Both are stopped by deploy, so that nothing goes on unseen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tyto_core::config::name::HostName;
use tyto_core::config::runtime::Role;
use tyto_proto::v1::{NodesResult, StatusReply};

use super::preflight::Preflight;
use crate::boot;
use crate::context::Context;
use crate::hosts::{Host, Hosts};
use crate::remote::error::RemoteError;
use crate::remote::peers::Supervisor;
use crate::report::Report;

/// Ends nodes that run on a host but are no more in node.cfg there.
pub async fn stop_nodes(
    hosts: &Hosts,
    nodes: &BTreeMap<HostName, Vec<String>>,
    patience: Duration,
    report: &mut Report,
) {
    let mut concerned: Hosts = hosts.clone();
    concerned.retain(|host| nodes.contains_key(&host.name));
    let results = concerned
        .each(|host| {
            let names = nodes.get(&host.name).cloned().unwrap_or_default();
            async move {
                let remote = Arc::clone(&host.remote);
                Supervisor::open(remote, &host.layout).await?.stop(names, patience, false).await
            }
        })
        .await;
    for (host, result) in results {
        match result {
            Ok(reply) => tell(reply, report),
            Err(error) => report.remote_error(&host, &error),
        }
    }
}

/// Hosts of the release that the head's host had in use, which are no more in node.cfg.
pub fn gone_hosts(ctx: &Context, preflight: &Preflight) -> Vec<HostName> {
    let Some(head) = ctx.cluster.head().filter(|node| node.role == Role::Manager) else {
        return Vec::new();
    };
    let Some(survey) = preflight.surveys.get(&head.host) else { return Vec::new() };
    let current = survey.current.as_ref().and_then(|id| survey.releases.get(id));
    let before = current.into_iter().flat_map(|manifest| &manifest.hosts);
    let hosts = ctx.cluster.hosts();
    before.map(|host| HostName::from(host.as_str())).filter(|host| !hosts.contains(&host)).collect()
}

/// Ends everything of Tyto on hosts that left the cluster. What cannot be ended is told.
pub async fn stop_hosts(
    ctx: &Context,
    gone: Vec<HostName>,
    patience: Duration,
    report: &mut Report,
) -> Result<(), RemoteError> {
    let hosts = Hosts::named(ctx, gone)?;
    for (host, result) in hosts.each(|host| async move { stop_all(&host, patience).await }).await {
        match result {
            Ok(reply) => {
                report.line(format!("{host}: no more in node.cfg, nothing runs there any more"));
                tell(reply, report);
            }
            Err(error) => {
                let text = format!("host `{host}` left node.cfg, but nodes may run there: {error}");
                let prefix = ctx.layout.prefix().display();
                report
                    .warn_hint(text, format!("`ssh {host} pkill -f {prefix}/releases` ends them"));
            }
        }
    }
    Ok(())
}

async fn stop_all(host: &Host, patience: Duration) -> Result<NodesResult, RemoteError> {
    let names = |reply: StatusReply| reply.nodes.into_iter().map(|node| node.node).collect();
    let running: Vec<String> = names(host.status().await?);
    // Or its next boot would bring a supervisor back.
    boot::forget(host).await;
    if running.is_empty() {
        return Ok(NodesResult::default());
    }
    let mut supervisor = Supervisor::open(Arc::clone(&host.remote), &host.layout).await?;
    let reply = supervisor.stop(running, patience, false).await?;
    supervisor.shutdown(false).await?;
    Ok(reply)
}

fn tell(reply: NodesResult, report: &mut Report) {
    for node in reply.results {
        match node.ok {
            true => report.line(format!("{}: stopped, no more in node.cfg", node.node)),
            false => report.error(format!("{}: {}", node.node, node.message)),
        }
    }
}
