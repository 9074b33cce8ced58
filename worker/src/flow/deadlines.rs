//! Which of the entries that were made for someone counts: owners are named by small numbers, which
//! are used again, and each has one deadline at most. An entry of another time was moved or taken
//! back; it stays where it is and is passed over when its turn comes.

use tyto_core::time::Ts;

use super::conn::NEVER;

/// Entries that may wait although they count no more, beside one for each that does.
const STALE_MAX: usize = 1 << 16;

/// A deadline and who has it.
pub(super) type Entry = (Ts, u32);

/// The deadline of each owner.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// [`NEVER`] of those that have none.
    by_owner: Vec<Ts>,
    /// Owners that have one.
    running: usize,
}

impl Deadlines {
    /// Sets the deadline of `id`; gives the one it had, [`NEVER`] if it had none.
    pub(super) fn set(&mut self, id: u32, deadline: Ts) -> Ts {
        let index = id as usize;
        if index >= self.by_owner.len() {
            self.by_owner.resize(index + 1, NEVER);
        }
        let before = std::mem::replace(&mut self.by_owner[index], deadline);
        self.running += usize::from(before == NEVER);
        self.running -= usize::from(deadline == NEVER);
        before
    }

    /// Takes the deadline of `id` out and gives it; [`NEVER`] if it had none.
    pub(super) fn take(&mut self, id: u32) -> Ts {
        let Some(deadline) = self.by_owner.get_mut(id as usize) else { return NEVER };
        self.running -= usize::from(*deadline != NEVER);
        std::mem::replace(deadline, NEVER)
    }

    /// Where the deadline of `id` lies, to be asked for ahead.
    pub(super) fn place(&self, id: u32) -> Option<&Ts> {
        self.by_owner.get(id as usize)
    }

    /// Whether `entry` is that of its owner's deadline.
    pub(super) fn counts(&self, entry: &Entry) -> bool {
        self.by_owner.get(entry.1 as usize) == Some(&entry.0)
    }

    /// Whether so many of `entries` count no more that they are to be swept out.
    pub(super) const fn are_stale(&self, entries: usize) -> bool {
        entries > 2 * self.running + STALE_MAX
    }

    /// What a test fills up to see that entries are swept out.
    #[cfg(test)]
    pub(super) const STALE_MAX: usize = STALE_MAX;

    /// Owners that have a deadline.
    #[cfg(test)]
    pub(super) const fn running(&self) -> usize {
        self.running
    }
}
