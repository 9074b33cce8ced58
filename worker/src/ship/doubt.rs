//! Batches in doubt: bound to a logger that is away, which may or may not have written them.
//!
//! They wait for it. After a time another logger gets a *copy*, kept apart from its log files
//! until the batch is settled: so who has to read the rows now can, and no row can come twice,
//! because a copy never becomes part of the files. All state that this needs is in the spool:
//! each logger is told what is in doubt, and forgets copies of anything else.
//!
//! A logger that ends in order says so, after its last ack: nothing is in doubt there, and what is
//! bound to it goes out again as batches of this life, to whichever logger takes them. One that
//! the operator declares gone for good never answers: what is bound to it counts as not written.

use std::sync::Arc;

use tyto_writer::BatchName;

use super::backlog::{Backlog, Item};
use super::links::{Outgoing, Parcel};
use super::recovery;
use super::spool::{BatchHead, Origin};

/// Batches in doubt that a logger is told of at most; of further ones it keeps no copy.
const NAMED_MAX: usize = 10_000;

impl Backlog {
    /// Tells a logger of all that is bound to others.
    pub(super) fn name_all(&mut self, logger: &str) {
        let Some(link) = self.links.iter_mut().find(|link| *link.logger == *logger) else { return };
        let Some(outgoing) = &link.outgoing else { return };
        // No room: the next turn tells.
        link.names_changed = true;
        let Ok(permit) = outgoing.try_reserve() else { return };
        let is_others =
            |item: &&Item| item.logger.as_ref().is_some_and(|bound_to| **bound_to != *logger);
        let named: Vec<&BatchHead> =
            self.items.values().filter(is_others).map(|item| &item.head).take(NAMED_MAX).collect();
        link.named = named.iter().map(|head| head.number).collect();
        link.copied.retain(|number| link.named.contains(number));
        link.copies_sent.retain(|number| link.named.contains(number));
        permit.send(Outgoing::InDoubt(named.into_iter().map(name_of).collect()));
        link.names_changed = false;
    }

    /// A logger has a copy.
    pub(crate) fn copied(&mut self, logger: &str, name: &BatchName) {
        let Some(link) = self.links.iter_mut().find(|link| *link.logger == *logger) else { return };
        let is_it =
            |number: &&u64| self.items.get(number).is_some_and(|item| name_of(&item.head) == *name);
        let found = link.named.iter().find(is_it).copied();
        link.copied.extend(found);
    }

    /// Copies what has been in doubt for too long to a logger that is there, and tells loggers
    /// what is no longer in doubt.
    pub(super) fn copy_doubtful(&mut self) {
        let changed: Vec<Arc<str>> =
            self.links.iter().filter(|l| l.names_changed).map(|l| l.logger.clone()).collect();
        changed.iter().for_each(|logger| self.name_all(logger));
        let Some(timeout) = self.bounds.doubt_timeout else { return };
        let is_target = |place: &usize| {
            let link = &self.links[*place];
            link.outgoing.is_some() && link.retired.is_none()
        };
        let Some(target) = (0..self.links.len()).find(is_target) else { return };
        let away = |link: &&super::links::Link| {
            link.outgoing.is_none() && self.now.saturating_sub(link.away_since) >= timeout
        };
        let doubtful: Vec<u64> =
            self.links.iter().filter(away).flat_map(|link| link.bound.iter().copied()).collect();
        for number in doubtful {
            let has_copy = |link: &super::links::Link| {
                link.outgoing.is_some() && link.copies_sent.contains(&number)
            };
            if !self.links.iter().any(has_copy) && !self.copy(number, target) {
                return;
            }
        }
    }

    /// False when there is no room for now.
    fn copy(&mut self, number: u64, target: usize) -> bool {
        let link = &mut self.links[target];
        let Some(Ok(permit)) = link.outgoing.as_ref().map(|outgoing| outgoing.try_reserve()) else {
            return false;
        };
        let Some(item) = self.items.get(&number) else { return true };
        let (Some(schema), Some(bound_to)) =
            (self.schemas.get(&item.head.fingerprint), item.logger.clone())
        else {
            return true;
        };
        let (head, schema) = (item.head.clone(), schema.clone());
        match self.spool.payload(item.location) {
            Ok(payload) => {
                let parcel = Parcel { head, schema, payload };
                permit.send(Outgoing::Copy { parcel, bound_to });
                link.named.insert(number);
                link.copies_sent.insert(number);
            }
            Err(error) => tracing::warn!(%error, "cannot read a batch in doubt back"),
        }
        true
    }

    /// Rows in doubt that another logger has a copy of.
    pub(crate) fn copied_rows(&self) -> u64 {
        let copied: std::collections::BTreeSet<u64> =
            self.links.iter().flat_map(|link| link.copied.iter().copied()).collect();
        let rows = |number| self.items.get(number).map(|item| u64::from(item.head.rows));
        copied.iter().filter_map(rows).sum()
    }

    /// Rows bound to loggers that are away.
    pub(crate) fn doubt_rows(&self) -> u64 {
        let away = self.links.iter().filter(|link| link.outgoing.is_none());
        let numbers = away.flat_map(|link| &link.bound);
        numbers.filter_map(|number| self.items.get(number)).map(|i| u64::from(i.head.rows)).sum()
    }

    /// A logger will not come back, says the operator: what is bound to it goes to others. Rows
    /// that it has in files of its own are then there twice, should anybody find those.
    pub(crate) fn logger_gone(&mut self, logger: &str) {
        self.heard(logger);
        let Some(link) = self.links.iter_mut().find(|link| *link.logger == *logger) else { return };
        if !std::mem::replace(&mut link.has_ended, true) && !link.bound.is_empty() {
            let batches = link.bound.len();
            tracing::warn!(peer = logger, batches, "a logger is gone for good; others get these");
        }
        self.take_from_ended();
        self.part_with_retired();
        self.pump();
    }

    /// A logger has ended in order: what it has was acked, and it will write nothing else. So
    /// nothing is in doubt, and nothing has to wait for its return.
    pub(crate) fn logger_ended(&mut self, logger: &str) {
        self.link_down(logger);
        let Some(link) = self.links.iter_mut().find(|link| *link.logger == *logger) else { return };
        link.has_ended = true;
        self.take_from_ended();
        self.part_with_retired();
    }

    /// What is bound to loggers that will not write it is bound to nobody again. Tried until the
    /// disk lets it.
    pub(super) fn take_from_ended(&mut self) {
        let ended = self.links.iter().filter(|link| link.has_ended && link.outgoing.is_none());
        let bound: Vec<u64> = ended.flat_map(|link| link.bound.iter().copied()).collect();
        if bound.is_empty() || self.sync_fails() {
            return;
        }
        // That it was there under its first number must outlive a crash of the host as long as
        // that it has another one may not.
        let job = self.spool.sync_job();
        if let Err(fault) = job.run() {
            return self.sync_failed(&job, &fault);
        }
        // Nor must a crash bring the first back when it went elsewhere under the other.
        self.sync_before_binding();
        for number in bound {
            if let Err(error) = self.begin_anew(number) {
                return tracing::debug!(%error, "cannot take a batch back from a logger");
            }
        }
    }

    /// Gives a batch other numbers, bound to nobody. One record says both that it is new and which
    /// it stands for.
    fn begin_anew(&mut self, number: u64) -> std::io::Result<()> {
        let bytes = self.items.get(&number).map_or(0, |item| item.bytes);
        if !self.make_room(bytes) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let Some(item) = self.items.get(&number) else { return Ok(()) };
        let schema =
            self.schemas.get(&item.head.fingerprint).ok_or(std::io::ErrorKind::NotFound)?;
        let payload = self.spool.payload(item.location)?;
        let head = BatchHead {
            number: self.ledger.next_number,
            epoch: self.ledger.again_epoch(),
            first_seq: self.next_again_seqs.get(&item.head.stream).copied().unwrap_or(0),
            ..item.head.clone()
        };
        let origin = Origin { replaces: Some(number), ..item.origin };
        let location = self.spool.append_batch((&head, origin), schema, None, &payload)?;
        let taken_at_s = item.taken_at_s;
        self.forget(number);
        let new = head.number;
        self.syncs.note_moved(new);
        self.enter(head, location, (None, origin), payload.len());
        if let Some(item) = self.items.get_mut(&new) {
            item.taken_at_s = taken_at_s;
        }
        Ok(())
    }

    /// Another batch stands for this one now: it was never produced.
    fn forget(&mut self, number: u64) {
        let Some(item) = self.items.remove(&number) else { return };
        self.live_bytes -= item.spool_bytes();
        for link in &mut self.links {
            if link.bound.remove(&number) {
                link.bytes -= item.bytes;
            }
            link.names_changed |= link.named.contains(&number);
        }
        recovery::leave_home(&mut self.homes, &item.head, item.location.segment);
        if let Some(tally) = self.totals.get_mut(&item.head.stream) {
            tally.produced -= u64::from(item.head.rows);
        }
    }
}

fn name_of(head: &BatchHead) -> BatchName {
    let (epoch, stream, first_seq) = (head.epoch, head.stream.clone(), head.first_seq);
    BatchName { epoch, stream, first_seq }
}
