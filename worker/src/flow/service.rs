//! The `service` column of conn.log: the protocols that were recognised on a connection.

use smallvec::SmallVec;

/// Protocols that one connection may show; more are not listed.
const SERVICES_MAX: usize = 16;

/// Names of protocols, in the order in which they were recognised. Most connections of a flood
/// have none, so their place is made with the first.
#[derive(Clone, Debug, Default)]
pub struct Services(Option<Box<Lists>>);

#[derive(Clone, Debug, Default)]
struct Lists {
    confirmed: Names,
    failed: Names,
}

/// Two lie beside each other: few connections show more.
type Names = SmallVec<[&'static str; 2]>;

impl Services {
    /// `name` was recognised.
    pub fn add(&mut self, name: &'static str) {
        let confirmed = &mut self.0.get_or_insert_default().confirmed;
        if !confirmed.contains(&name) && confirmed.len() < SERVICES_MAX {
            confirmed.push(name);
        }
    }

    /// `name` was given up. True when it was recognised before, and fails for the first time.
    pub fn fail(&mut self, name: &'static str) -> bool {
        let Some(Lists { confirmed, failed }) = self.0.as_deref_mut() else { return false };
        let Some(index) = confirmed.iter().position(|service| *service == name) else {
            return false;
        };
        confirmed.remove(index);
        let is_first = !failed.contains(&name);
        if is_first {
            failed.push(name);
        }
        is_first
    }

    /// Whether `name` is recognised.
    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|service| service == name)
    }

    /// The recognised ones, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().flat_map(|lists| lists.confirmed.iter().copied())
    }

    /// What the column says: lower case, with commas between.
    pub fn column(&self) -> Option<String> {
        let confirmed = &self.0.as_ref()?.confirmed;
        let mut column = confirmed.join(",");
        column.make_ascii_lowercase();
        (!confirmed.is_empty()).then_some(column)
    }
}
