//! What the spool of earlier lives says: which batches are not settled, and the counts of
//! those that are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use tyto_core::record::schema::Schema;
use tyto_writer::disk::Disk;

use super::backlog::{Home, Item};
use super::ledger::{Ledger, Reason};
use super::spool::{BatchHead, Lease, Record, Spool};

/// State after all segments have been read.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Batches that are not settled.
    pub(crate) items: BTreeMap<u64, Item>,
    /// What the segments stand for.
    pub(crate) homes: BTreeMap<u64, Home>,
    /// Columns by fingerprint.
    pub(crate) schemas: HashMap<u64, Arc<Schema>>,
    /// Sequence number behind the last row of each life and log stream.
    pub(crate) ends: BTreeMap<(u64, Arc<str>), u64>,
    /// Batches that an earlier life wrote once more: where they are now may not be on disk.
    pub(crate) moved: BTreeSet<u64>,
    /// Who got batches from a number on; nobody when the name is empty.
    leases: BTreeMap<u64, String>,
    /// Batches that a logger has, and no record says which one.
    acked_by_lease: Vec<Item>,
    /// The wall clock at this start, seconds.
    opened_s: u64,
}

/// Opens the spool in `folder`.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    folder: &Path,
    spool_bytes_max: u64,
    opened_s: u64,
) -> io::Result<(Spool, Ledger, Recovered)> {
    disk.create_dir_all(folder)?;
    // A crash of the host must not take the folder along, with all that is synced in it.
    folder.parent().map_or(Ok(()), |above| disk.sync_folder(above))?;
    let mut ledger = Ledger::load(&*disk, &folder.join("ledger"))?;
    let mut found = Recovered { opened_s, ..Recovered::default() };
    let (mut next_number, mut epoch) = (ledger.next_number, ledger.epoch);
    // A crash of the host may lose the latest leases of the spool, and not the ledger that has
    // them: those that it left end none of the ledger's.
    let mut is_behind = false;
    let first = ledger.first_segment;
    let spool = Spool::open(disk, folder, spool_bytes_max, first, |place, record| {
        if place >= ledger.leases_until && !std::mem::replace(&mut is_behind, true) {
            found.lease_all(&ledger.leases);
        }
        if let Record::Batch { head, origin, .. } = &record {
            next_number = next_number.max(head.number + 1);
            epoch = epoch.max(Ledger::life_of(head.epoch, origin.replaces.is_some()));
        }
        found.apply(record);
    })?;
    if !is_behind {
        found.lease_all(&ledger.leases);
    }
    if let Some((&from, _)) = found.leases.last_key_value() {
        next_number = next_number.max(from);
    }
    (ledger.next_number, ledger.epoch) = (next_number, epoch);
    found.presume();
    // The leases hold until what they say of batches is written down.
    let lease = |(&from, logger): (&u64, &String)| Lease { from, logger: logger.clone() };
    ledger.leases = found.leases.iter().map(lease).collect();
    ledger.leases_until = spool.end();
    Ok((spool, ledger, found))
}

/// Counts a batch in another segment than before.
pub(crate) fn move_home(homes: &mut BTreeMap<u64, Home>, head: &BatchHead, from: u64, to: u64) {
    leave_home(homes, head, from);
    let numbered = homes.get_mut(&from).map(|home| &mut home.numbered);
    if let Some(rows) = numbered.and_then(|n| n.get_mut(&(head.epoch, head.stream.clone()))) {
        *rows -= u64::from(head.rows);
    }
    homes.entry(to).or_default().enter(head);
}

/// Counts a batch no more in its segment; that it had numbers remains.
pub(crate) fn leave_home(homes: &mut BTreeMap<u64, Home>, head: &BatchHead, from: u64) {
    if let Some(home) = homes.get_mut(&from) {
        home.live.remove(&head.number);
        home.tallies.entry(head.stream.clone()).or_default().produced -= u64::from(head.rows);
    }
}

/// Who has the lease that a batch falls under.
fn lessee(leases: &BTreeMap<u64, String>, number: u64) -> Option<&str> {
    let (_, logger) = leases.range(..=number).next_back()?;
    Some(logger.as_str()).filter(|logger| !logger.is_empty())
}

impl Recovered {
    /// Rows of a life and log stream in the segments.
    pub(crate) fn numbered(&self, epoch: u64, stream: &Arc<str>) -> u64 {
        let name = (epoch, stream.clone());
        self.homes.values().filter_map(|home| home.numbered.get(&name)).sum()
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Schema(schema) => {
                self.schemas.insert(schema.fingerprint(), schema);
            }
            Record::Batch { head, logger, location, origin } => {
                let bytes = location.bytes();
                let end = self.ends.entry((head.epoch, head.stream.clone())).or_default();
                *end = head.end_seq().max(*end);
                if let Some(before) = origin.replaces.and_then(|before| self.items.remove(&before))
                {
                    leave_home(&mut self.homes, &before.head, before.location.segment);
                    self.moved.insert(head.number);
                }
                if let Some(before) = self.items.get(&head.number) {
                    move_home(&mut self.homes, &head, before.location.segment, location.segment);
                    self.moved.insert(head.number);
                } else {
                    self.homes.entry(location.segment).or_default().enter(&head);
                }
                let taken_at_s = self.taken_at_s(origin.taken_s);
                let is_presumed = false;
                let number = head.number;
                let item = Item { head, location, logger, bytes, origin, taken_at_s, is_presumed };
                self.items.insert(number, item);
            }
            Record::Bound { number, logger } => {
                if let Some(item) = self.items.get_mut(&number) {
                    item.logger = Some(logger);
                }
            }
            Record::Acked(numbers) => self.settle(&numbers, None),
            Record::Dropped { reason, numbers } => self.settle(&numbers, Some(reason)),
            Record::Lease(lease) => self.lease(lease),
        }
    }

    fn lease(&mut self, Lease { from, logger }: Lease) {
        // Batches behind it were asked for anew.
        self.leases.split_off(&from);
        self.leases.insert(from, logger);
    }

    /// Each was given after the one before.
    fn lease_all(&mut self, leases: &[Lease]) {
        leases.iter().for_each(|lease| self.lease(lease.clone()));
    }

    fn settle(&mut self, numbers: &[u64], dropped: Option<Reason>) {
        for number in numbers {
            // Marks may speak of batches whose segment is gone: the ledger has them.
            let Some(item) = self.items.remove(number) else { continue };
            let home = self.homes.entry(item.location.segment).or_default();
            home.live.remove(number);
            let tally = home.tallies.entry(item.head.stream.clone()).or_default();
            let rows = u64::from(item.head.rows);
            match (dropped, &item.logger) {
                (None, Some(logger)) => tally.add_acked(Some(logger), rows),
                // That it was bound may never have been written: then its lease says by whom.
                (None, None) => self.acked_by_lease.push(item),
                (Some(reason), _) => *tally.dropped.entry(reason).or_default() += rows,
            }
        }
    }

    /// What no record says of a batch, the lease does that it falls under.
    fn presume(&mut self) {
        for Item { head, location, .. } in std::mem::take(&mut self.acked_by_lease) {
            let home = self.homes.entry(location.segment).or_default();
            let tally = home.tallies.entry(head.stream).or_default();
            tally.add_acked(lessee(&self.leases, head.number), u64::from(head.rows));
        }
        for (number, item) in self.items.iter_mut().filter(|(_, item)| item.logger.is_none()) {
            if let Some(logger) = lessee(&self.leases, *number) {
                item.logger = Some(logger.into());
                item.is_presumed = true;
            }
        }
        self.presume_by_order();
    }

    /// A crash of the host may lose a mark and not those behind it. Batches are bound in order, so
    /// who got a later one of a log stream got this one too, or nobody did; and it must come there
    /// before that one, or it would pass for one that the logger has.
    fn presume_by_order(&mut self) {
        let mut later: HashMap<Arc<str>, Arc<str>> = HashMap::new();
        for item in self.items.values_mut().rev() {
            match (&item.logger, later.get(&item.head.stream)) {
                (Some(logger), _) => {
                    later.insert(item.head.stream.clone(), logger.clone());
                }
                (None, Some(logger)) => {
                    item.logger = Some(logger.clone());
                    item.is_presumed = true;
                }
                (None, None) => {}
            }
        }
    }

    /// A clock that went back makes rows younger, never older than this start.
    fn taken_at_s(&self, taken_s: u64) -> i64 {
        if taken_s == 0 {
            return 0;
        }
        taken_s.cast_signed().saturating_sub(self.opened_s.cast_signed()).min(0)
    }
}
