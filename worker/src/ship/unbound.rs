//! Batches that are bound to no logger: by number, as they are sent, and by how precious their
//! log stream is, as a full spool gives them up.

use std::collections::BTreeSet;

/// Streams that go last when the configuration does not name them: what an analyst starts from.
const LAST: [&str; 2] = ["notice", "conn"];

/// In what order log streams are given up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preciousness {
    first: Vec<String>,
}

/// The batches.
#[derive(Debug, Default)]
pub(super) struct Unbound {
    by_number: BTreeSet<u64>,
    by_rank: BTreeSet<(usize, u64)>,
    order: Preciousness,
}

impl Preciousness {
    /// `first` go first, in their order; then all others, then notice and conn.
    pub(crate) fn new(first: &[String]) -> Self {
        Self { first: first.to_vec() }
    }

    /// A lower rank goes first.
    fn rank(&self, stream: &str) -> usize {
        if let Some(place) = self.first.iter().position(|name| name == stream) {
            return place;
        }
        let last = LAST.iter().position(|name| *name == stream);
        self.first.len() + last.map_or(0, |place| place + 1)
    }
}

impl Unbound {
    pub(super) fn new(order: Preciousness) -> Self {
        Self { order, ..Self::default() }
    }

    pub(super) fn insert(&mut self, number: u64, stream: &str) {
        self.by_number.insert(number);
        self.by_rank.insert((self.order.rank(stream), number));
    }

    pub(super) fn remove(&mut self, number: u64, stream: &str) {
        self.by_number.remove(&number);
        self.by_rank.remove(&(self.order.rank(stream), number));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// The batch that is sent next.
    pub(super) fn first(&self) -> Option<u64> {
        self.by_number.first().copied()
    }

    /// The batch that a full spool gives up next: the oldest of the least precious stream.
    pub(super) fn least_precious(&self) -> Option<u64> {
        self.by_rank.first().map(|&(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_least_precious_goes_first_and_conn_last() {
        let named = ["stats".to_owned(), "weird".to_owned()];
        let mut unbound = Unbound::new(Preciousness::new(&named));
        let streams = ["conn", "notice", "dns", "weird", "http", "stats", "weird", "conn"];
        for (number, stream) in (0..).zip(streams) {
            unbound.insert(number, stream);
        }
        let mut given_up = Vec::new();
        while let Some(number) = unbound.least_precious() {
            let stream = streams[usize::try_from(number).unwrap()];
            unbound.remove(number, stream);
            given_up.push((stream, number));
        }
        let expected = [
            ("stats", 5),
            ("weird", 3),
            ("weird", 6),
            ("dns", 2),
            ("http", 4),
            ("notice", 1),
            ("conn", 0),
            ("conn", 7),
        ];
        assert_eq!(given_up, expected);
    }

    #[test]
    fn who_names_conn_decides_over_it() {
        let mut unbound = Unbound::new(Preciousness::new(&["conn".to_owned()]));
        unbound.insert(0, "dns");
        unbound.insert(1, "conn");
        assert_eq!(unbound.least_precious(), Some(1));
    }
}
