//! Between the backlog and a logger: what a transport tells, whichever it is. There are two:
//! [`sender`](super::sender) (gRPC to a logger) and [`local`](super::local) (the log files of a
//! standalone node).

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tyto_core::config::runtime::Peer;
use tyto_daemon::channel::{self, PeerChannel};
use tyto_daemon::tls::Identity;
use tyto_writer::{BatchName, Position, Refusal};

use super::links::Outgoing;

/// Events that may wait for the ship thread; a transport waits beyond.
pub(crate) const EVENTS_MAX: usize = 1_024;

/// How loggers are reached: by mTLS with an [`Identity`], or over a simulated network.
pub trait Dial: Debug + Send + Sync {
    /// A channel to a logger.
    ///
    /// # Errors
    /// When its address cannot be dialled.
    fn channel(&self, peer: &Peer) -> Result<PeerChannel, tonic::transport::Error>;

    /// Waits until sessions of this moment have to make way for new ones.
    fn renewed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl Dial for Identity {
    fn channel(&self, peer: &Peer) -> Result<PeerChannel, tonic::transport::Error> {
        channel::to_peer(self, peer)
    }

    fn renewed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.changed())
    }
}

/// What a transport tells of its logger.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A session began: what the logger has, and where batches go.
    Up { logger: Arc<str>, welcome: Heard, outgoing: mpsc::Sender<Outgoing> },
    /// Rows are on the logger's disk.
    Acked { logger: Arc<str>, position: Position },
    /// A batch can never be written.
    Refused { logger: Arc<str>, refusal: Refusal },
    /// A copy of a batch in doubt is on the logger's disk.
    Copied { logger: Arc<str>, name: BatchName },
    /// The logger has ended in order: what it has was acked, and it will write nothing else.
    Farewell { logger: Arc<str> },
    /// The session is over.
    Down { logger: Arc<str> },
    /// The logger is part of the cluster.
    Joined { logger: Arc<str> },
    /// It is no more: `end` ends its link once nothing is bound to it.
    Retired { logger: Arc<str>, end: CancellationToken },
    /// Loggers that will not come back, says the operator.
    Gone { loggers: Vec<String> },
}

/// What a logger says when a session begins.
#[derive(Debug)]
pub(crate) struct Heard {
    /// What it has on disk.
    pub(crate) durable: Vec<Position>,
    /// How many rows of this node, per log stream; none: it does not tell.
    pub(crate) written: Option<Vec<(Arc<str>, u64)>>,
}

/// What each transport is given.
#[derive(Clone, Debug)]
pub(crate) struct LinkContext {
    /// This node.
    pub(crate) node: Arc<str>,
    /// Where events go.
    pub(crate) events: mpsc::Sender<LinkEvent>,
    /// Lives before this one have nothing left to send.
    pub(crate) oldest_epoch: Arc<AtomicU64>,
    /// Ends the transport.
    pub(crate) end: CancellationToken,
}

impl LinkContext {
    /// Lives before this one have nothing left to send.
    pub(crate) fn oldest_epoch(&self) -> u64 {
        self.oldest_epoch.load(Ordering::Relaxed)
    }
}

/// Brings batches to one logger, until its context ends it.
pub(crate) trait Transport: Send + 'static {
    /// Name of the logger.
    fn logger(&self) -> Arc<str>;

    /// Runs, session after session.
    fn run(self, context: LinkContext) -> impl Future<Output = ()> + Send;
}
