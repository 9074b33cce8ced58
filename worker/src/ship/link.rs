//! Between the backlog and a logger: what a transport tells, whichever it is. There are two:
//! [`sender`](super::sender) (gRPC to a logger) and [`local`](super::local) (the log files of a
//! standalone node).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tyto_writer::{Position, Refusal};

use super::backlog::Parcel;

/// Events that may wait for the ship thread; a transport waits beyond.
pub(crate) const EVENTS_MAX: usize = 1_024;

/// What a transport tells of its logger.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A session began: what the logger has, and where batches go.
    Up { logger: Arc<str>, durable: Vec<Position>, parcels: mpsc::Sender<Parcel> },
    /// Rows are on the logger's disk.
    Acked { logger: Arc<str>, position: Position },
    /// A batch can never be written.
    Refused { logger: Arc<str>, refusal: Refusal },
    /// The session is over.
    Down { logger: Arc<str> },
    /// The logger is part of the cluster.
    Joined { logger: Arc<str> },
    /// It is no more: `end` ends its link once nothing is bound to it.
    Retired { logger: Arc<str>, end: CancellationToken },
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
