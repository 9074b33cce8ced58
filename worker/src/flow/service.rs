//! The `service` column of conn.log: the protocols that were recognised on a connection.

/// Protocols that one connection may show; more are not listed.
const SERVICES_MAX: usize = 16;

/// Names of protocols, in the order in which they were recognised.
#[derive(Clone, Debug, Default)]
pub struct Services {
    confirmed: Vec<&'static str>,
    failed: Vec<&'static str>,
}

impl Services {
    /// `name` was recognised.
    pub fn add(&mut self, name: &'static str) {
        if !self.confirmed.contains(&name) && self.confirmed.len() < SERVICES_MAX {
            self.confirmed.push(name);
        }
    }

    /// `name` was given up. True when it was recognised before, and fails for the first time.
    pub fn fail(&mut self, name: &'static str) -> bool {
        let Some(index) = self.confirmed.iter().position(|service| *service == name) else {
            return false;
        };
        self.confirmed.remove(index);
        let is_first = !self.failed.contains(&name);
        if is_first {
            self.failed.push(name);
        }
        is_first
    }

    /// Whether `name` is recognised.
    pub fn contains(&self, name: &str) -> bool {
        self.confirmed.contains(&name)
    }

    /// The recognised ones, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.confirmed.iter().copied()
    }

    /// What the column says: lower case, with commas between.
    pub fn column(&self) -> Option<String> {
        (!self.confirmed.is_empty()).then(|| self.confirmed.join(",").to_ascii_lowercase())
    }
}
