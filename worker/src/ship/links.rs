//! The loggers as the backlog knows them: who is there, who is away, who has left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tyto_core::record::schema::Schema;
use tyto_writer::{BatchName, Position};

use super::backlog::{Backlog, Item};
use super::spool::BatchHead;

/// A batch on its way to a logger.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) head: BatchHead,
    pub(crate) schema: Arc<Schema>,
    pub(crate) payload: Bytes,
}

/// What goes to a logger.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    /// A batch that is bound to it.
    Batch(Parcel),
    /// A copy of a batch that is bound to another one, which is away.
    Copy { parcel: Parcel, bound_to: Arc<str> },
    /// All batches that are bound to others.
    InDoubt(Vec<BatchName>),
}

/// A logger.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) logger: Arc<str>,
    pub(super) bound: BTreeSet<u64>,
    pub(super) bytes: usize,
    pub(super) outgoing: Option<mpsc::Sender<Outgoing>>,
    /// The latest batch sent in this session.
    pub(super) sent: Option<u64>,
    /// The logger left the cluster: nothing more is bound to it, and this ends its link when
    /// nothing is.
    pub(super) retired: Option<CancellationToken>,
    /// It will write nothing of what it was sent: it said farewell, or is gone for good.
    pub(super) has_ended: bool,
    /// Since when it has been away.
    pub(super) away_since: Duration,
    /// Batches of others that this logger may have copies of.
    pub(super) named: BTreeSet<u64>,
    /// Of these, the ones that were copied to it in this session.
    pub(super) copies_sent: BTreeSet<u64>,
    /// Of these, the ones that it said it has.
    pub(super) copied: BTreeSet<u64>,
    /// One of those was settled, and the logger has not been told.
    pub(super) names_changed: bool,
}

impl Link {
    /// A link that is not up, with what earlier sessions left bound to it.
    pub(super) fn new(logger: Arc<str>, items: &BTreeMap<u64, Item>, now: Duration) -> Self {
        let bound = items.values().filter(|item| item.logger.as_ref() == Some(&logger));
        let bytes = bound.clone().map(|item| item.bytes).sum();
        let bound = bound.map(|item| item.head.number).collect();
        Self {
            logger,
            bound,
            bytes,
            outgoing: None,
            sent: None,
            retired: None,
            has_ended: false,
            away_since: now,
            named: BTreeSet::new(),
            copies_sent: BTreeSet::new(),
            copied: BTreeSet::new(),
            names_changed: false,
        }
    }
}

impl Backlog {
    /// A logger is there: what it has is settled, what is bound to it goes out again. `written`
    /// are its rows of this node, if it tells.
    pub(crate) fn link_up(
        &mut self,
        logger: &str,
        durable: &[Position],
        written: Option<&[(Arc<str>, u64)]>,
        outgoing: mpsc::Sender<Outgoing>,
    ) {
        self.hear_welcome(logger, durable, written);
        if let Some(link) = self.links.iter_mut().find(|link| *link.logger == *logger) {
            link.outgoing = Some(outgoing);
            link.has_ended = false;
            link.sent = None;
            link.copied.clear();
            link.copies_sent.clear();
        }
        self.name_all(logger);
        self.pump();
    }

    /// A logger is gone; what is bound to it waits for its return.
    pub(crate) fn link_down(&mut self, logger: &str) {
        if let Some(link) = self.links.iter_mut().find(|link| *link.logger == *logger) {
            link.outgoing = None;
            link.away_since = self.now;
        }
        self.end_lease_of(logger);
    }

    /// A logger is part of the cluster, from now on or again.
    pub(crate) fn logger_joined(&mut self, logger: Arc<str>) {
        match self.links.iter_mut().find(|link| link.logger == logger) {
            // Back before its old link had ended: a new one begins.
            Some(link) => {
                if let Some(end) = link.retired.take() {
                    end.cancel();
                    link.outgoing = None;
                    link.away_since = self.now;
                }
            }
            None => self.links.push(Link::new(logger, &self.items, self.now)),
        }
    }

    /// A logger is no more part of the cluster: it still gets what is bound to it, and nothing
    /// more; then `end` is cancelled.
    pub(crate) fn logger_retired(&mut self, logger: &str, end: CancellationToken) {
        if let Some(link) = self.links.iter_mut().find(|link| *link.logger == *logger) {
            link.retired = Some(end);
        }
        self.part_with_retired();
    }

    pub(super) fn part_with_retired(&mut self) {
        self.links.retain(|link| match &link.retired {
            Some(end) if link.bound.is_empty() => {
                tracing::info!(peer = %link.logger, "nothing is left to send to this logger");
                end.cancel();
                false
            }
            _ => true,
        });
    }
}
