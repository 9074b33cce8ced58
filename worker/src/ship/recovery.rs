//! What the spool of earlier lives says: which batches are not settled, and the counts of
//! those that are.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use tyto_core::record::schema::Schema;

use super::backlog::{Home, Item};
use super::ledger::{Ledger, Reason};
use super::spool::{BatchHead, Record, Spool};

/// State after all segments have been read.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Batches that are not settled.
    pub(crate) items: BTreeMap<u64, Item>,
    /// What the segments stand for.
    pub(crate) homes: BTreeMap<u64, Home>,
    /// Columns by fingerprint.
    pub(crate) schemas: HashMap<u64, Arc<Schema>>,
}

/// Opens the spool in `folder`.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn open(
    folder: &Path,
    spool_bytes_max: u64,
    loggers: &[Arc<str>],
) -> io::Result<(Spool, Ledger, Recovered)> {
    std::fs::create_dir_all(folder)?;
    let mut ledger = Ledger::load(&folder.join("ledger"))?;
    let mut found = Recovered::default();
    let (mut next_number, mut epoch) = (ledger.next_number, ledger.epoch);
    let spool = Spool::open(folder, spool_bytes_max, ledger.first_segment, |record| {
        if let Record::Batch { head, .. } = &record {
            next_number = next_number.max(head.number + 1);
            epoch = epoch.max(head.epoch);
        }
        found.apply(record);
    })?;
    (ledger.next_number, ledger.epoch) = (next_number, epoch);
    found.tell_of_removed(loggers);
    Ok((spool, ledger, found))
}

/// Counts a batch in another segment than before.
pub(crate) fn move_home(homes: &mut BTreeMap<u64, Home>, head: &BatchHead, from: u64, to: u64) {
    let rows = u64::from(head.rows);
    if let Some(home) = homes.get_mut(&from) {
        home.live.remove(&head.number);
        home.tallies.entry(head.stream.clone()).or_default().produced -= rows;
    }
    let home = homes.entry(to).or_default();
    home.live.insert(head.number);
    home.tallies.entry(head.stream.clone()).or_default().produced += rows;
}

impl Recovered {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Schema(schema) => {
                self.schemas.insert(schema.fingerprint(), schema);
            }
            Record::Batch { head, logger, location } => {
                let bytes = location.bytes();
                if let Some(before) = self.items.get(&head.number) {
                    move_home(&mut self.homes, &head, before.location.segment, location.segment);
                } else {
                    let home = self.homes.entry(location.segment).or_default();
                    home.live.insert(head.number);
                    let tally = home.tallies.entry(head.stream.clone()).or_default();
                    tally.produced += u64::from(head.rows);
                }
                self.items.insert(head.number, Item { head, location, logger, bytes });
            }
            Record::Bound { number, logger } => {
                if let Some(item) = self.items.get_mut(&number) {
                    item.logger = Some(logger);
                }
            }
            Record::Acked(numbers) => self.settle(&numbers, None),
            Record::Dropped { reason, numbers } => self.settle(&numbers, Some(reason)),
        }
    }

    fn settle(&mut self, numbers: &[u64], dropped: Option<Reason>) {
        for number in numbers {
            // Marks may speak of batches whose segment is gone: the ledger has them.
            let Some(item) = self.items.remove(number) else { continue };
            let home = self.homes.entry(item.location.segment).or_default();
            home.live.remove(number);
            let tally = home.tallies.entry(item.head.stream.clone()).or_default();
            let rows = u64::from(item.head.rows);
            match dropped {
                None => tally.acked += rows,
                Some(reason) => *tally.dropped.entry(reason).or_default() += rows,
            }
        }
    }

    /// Batches bound to a logger that is no longer part of the cluster wait for its return,
    /// seen as spooled in the ledger. They cannot go elsewhere: the logger may have written
    /// them, and another one takes no sequence numbers below those it has.
    fn tell_of_removed(&self, loggers: &[Arc<str>]) {
        let removed = |item: &&Item| item.logger.as_ref().is_some_and(|l| !loggers.contains(l));
        let rows: u64 =
            self.items.values().filter(removed).map(|item| u64::from(item.head.rows)).sum();
        if rows > 0 {
            tracing::warn!(rows, "rows in the spool wait for a logger that was removed");
        }
    }
}
