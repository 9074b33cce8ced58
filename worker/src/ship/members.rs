//! Which loggers there are: follows the cluster's list while the node runs, and begins and ends
//! the links to them. A logger that leaves the list gets no new batches; its link lives until
//! what is bound to it is settled.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tyto_core::config::runtime::{Peer, Role};
use tyto_daemon::peers::Peers;

use super::link::{Dial, LinkContext, LinkEvent, Transport};
use super::sender::GrpcTransport;

/// The links of a node to its cluster's loggers.
#[derive(Debug)]
pub(crate) struct Members {
    dial: Arc<dyn Dial>,
    peers: Peers,
    /// What each link is given, but for the token that ends it.
    context: LinkContext,
    /// Loggers of the list.
    live: BTreeMap<String, Member>,
    links: JoinSet<()>,
}

/// A logger of the list.
#[derive(Debug)]
struct Member {
    addr: SocketAddr,
    end: CancellationToken,
}

impl Members {
    /// Links by `dial`; `context.end` ends them all.
    pub(crate) fn new(dial: Arc<dyn Dial>, peers: Peers, context: LinkContext) -> Self {
        let (live, links) = (BTreeMap::new(), JoinSet::new());
        Self { dial, peers, context, live, links }
    }

    /// Keeps the links in step with the list until the context ends them.
    pub(crate) async fn run(mut self) {
        loop {
            let loggers = self.peers.of(Role::Logger);
            self.retire(&loggers).await;
            let gone = self.peers.loggers_gone();
            self.tell(LinkEvent::Gone { loggers: gone }).await;
            for logger in loggers {
                self.join(logger).await;
            }
            tokio::select! {
                biased;
                () = self.peers.changed() => {}
                // Links that have ended leave the set.
                Some(_) = self.links.join_next() => {}
                () = self.context.end.cancelled() => break,
            }
        }
        while self.links.join_next().await.is_some() {}
    }

    async fn retire(&mut self, loggers: &[Peer]) {
        let left = |name: &&String| !loggers.iter().any(|logger| logger.node == **name);
        let gone: Vec<String> = self.live.keys().filter(left).cloned().collect();
        for name in gone {
            let Some(member) = self.live.remove(&name) else { continue };
            tracing::info!(peer = name, "logger has left the cluster");
            self.tell(LinkEvent::Retired { logger: name.as_str().into(), end: member.end }).await;
        }
    }

    async fn join(&mut self, logger: Peer) {
        if self.live.get(&logger.node).is_some_and(|member| member.addr == logger.addr) {
            return;
        }
        let member = Member { addr: logger.addr, end: self.context.end.child_token() };
        let context = LinkContext { end: member.end.clone(), ..self.context.clone() };
        if let Some(before) = self.live.insert(logger.node.clone(), member) {
            tracing::info!(peer = logger.node, addr = %logger.addr, "logger has moved");
            before.end.cancel();
            self.tell(LinkEvent::Down { logger: logger.node.as_str().into() }).await;
        }
        self.tell(LinkEvent::Joined { logger: logger.node.as_str().into() }).await;
        let grpc = GrpcTransport::new(self.dial.clone(), logger);
        self.links.spawn(grpc.run(context));
    }

    async fn tell(&self, event: LinkEvent) {
        if self.context.events.send(event).await.is_err() {
            tracing::debug!("the ship thread has ended");
        }
    }
}
