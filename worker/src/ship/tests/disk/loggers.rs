//! The loggers of the model: what they take, write, refuse, and how they end.

use super::*;

/// A logger as `tyto_writer::LogStore` behaves.
#[derive(Default)]
pub(super) struct Store {
    pub(super) outgoing: Option<mpsc::Receiver<Outgoing>>,
    pub(super) positions: BTreeMap<(u64, Arc<str>), u64>,
    /// Batches in its files, and those that it refused.
    pub(super) written: Vec<usize>,
    pub(super) refused: BTreeSet<usize>,
}

impl Host {
    pub(super) fn up(&mut self, logger: usize) {
        let Some(backlog) = &mut self.backlog else { return };
        let (sender, outgoing) = mpsc::channel(128);
        let store = &mut self.loggers[logger];
        store.outgoing = Some(outgoing);
        let position = |((epoch, stream), &next_seq): (&(u64, Arc<str>), &u64)| Position {
            epoch: *epoch,
            stream: stream.clone(),
            next_seq,
        };
        let durable: Vec<Position> = store.positions.iter().map(position).collect();
        let rows = |stream| {
            let made = store.written.iter().map(|&batch| &self.made[batch]);
            made.filter(|made| made.stream == stream).map(|made| made.rows).sum::<u64>()
        };
        let written = (0..2).map(|stream| (STREAMS[stream].name.into(), rows(stream)));
        let written: Vec<(Arc<str>, u64)> = written.filter(|(_, rows)| *rows > 0).collect();
        backlog.link_up(LOGGERS[logger], &durable, Some(&written), sender);
    }

    pub(super) fn down(&mut self, logger: usize) {
        self.loggers[logger].outgoing = None;
        if let Some(backlog) = &mut self.backlog {
            backlog.link_down(LOGGERS[logger]);
        }
    }

    /// A logger commits some of what it was sent and ends in order.
    pub(super) fn end_logger(&mut self, logger: usize, batches: usize) {
        if self.loggers[logger].outgoing.is_none() {
            return;
        }
        self.commit(logger, batches, true);
        self.loggers[logger].outgoing = None;
        if let Some(backlog) = &mut self.backlog {
            backlog.logger_ended(LOGGERS[logger]);
        }
    }

    pub(super) fn next_parcel(&mut self, logger: usize) -> Option<Parcel> {
        loop {
            match self.loggers[logger].outgoing.as_mut()?.try_recv().ok()? {
                Outgoing::Batch(parcel) => return Some(parcel),
                Outgoing::Copy { .. } | Outgoing::InDoubt(_) => {}
            }
        }
    }

    /// A logger writes some of what it was sent; unless the acks arrive, the session breaks.
    pub(super) fn commit(&mut self, logger: usize, batches: usize, is_acked: bool) {
        let mut acks = Vec::new();
        for _ in 0..batches {
            let Some(Parcel { head, payload, .. }) = self.next_parcel(logger) else { break };
            let batch = usize::from_le_bytes(*payload.first_chunk().unwrap());
            assert!(payload == self.made[batch].payload, "batch {batch} is not as it was made");
            if self.loggers[logger].refused.contains(&batch) {
                // What cannot be written today cannot tomorrow.
                self.tell_refusal(logger, head, is_acked);
                continue;
            }
            let store = &mut self.loggers[logger];
            let next_seq = store.positions.entry((head.epoch, head.stream.clone())).or_default();
            if head.first_seq >= *next_seq {
                *next_seq = head.end_seq();
                // One that was given up, and the disk refused to say so, may come again late.
                let is_late = |before: usize| {
                    let same_stream = self.made[before].stream == self.made[batch].stream;
                    same_stream && before > batch && !self.once_given_up.contains(&batch)
                };
                let may_be_late = self.taken_back.contains(&batch);
                let is_late = store.written.iter().any(|&before| is_late(before));
                assert!(!is_late || may_be_late, "out of order");
                store.written.push(batch);
            } else {
                let was_given_up = self.once_given_up.contains(&batch);
                let is_known = was_given_up || store.written.contains(&batch);
                assert!(is_known, "another batch had these numbers");
            }
            let (epoch, next_seq) = (head.epoch, *next_seq);
            acks.push(Position { epoch, stream: head.stream, next_seq });
        }
        if !is_acked {
            return self.down(logger);
        }
        let Some(backlog) = &mut self.backlog else { return };
        acks.iter().for_each(|position| backlog.acked(LOGGERS[logger], position));
        backlog.pump();
    }

    pub(super) fn refuse(&mut self, logger: usize, is_told: bool) {
        let Some(Parcel { head, payload, .. }) = self.next_parcel(logger) else { return };
        let batch = usize::from_le_bytes(*payload.first_chunk().unwrap());
        if self.loggers[logger].written.contains(&batch) {
            return;
        }
        self.loggers[logger].refused.insert(batch);
        self.tell_refusal(logger, head, is_told);
    }

    fn tell_refusal(&mut self, logger: usize, head: BatchHead, is_told: bool) {
        let BatchHead { epoch, stream, first_seq, rows, .. } = head;
        let refusal = Refusal { epoch, stream, first_seq, rows, reason: "test".into() };
        if let Some(backlog) = self.backlog.as_mut().filter(|_| is_told) {
            backlog.refused(LOGGERS[logger], &refusal);
        }
    }
}
