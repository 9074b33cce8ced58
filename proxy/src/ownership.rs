//! Which proxies hold an entry: the first two that rendezvous hashing ranks for its key among
//! all configured proxies, dead or alive. The first is its owner.

use tyto_core::shard;

/// The cluster's proxies, and which of them this one is.
#[derive(Clone, Debug)]
pub(crate) struct Ownership {
    proxies: Vec<String>,
    me: String,
}

impl Ownership {
    /// `proxies` are all configured proxies, `me` among them.
    pub(crate) fn new(proxies: Vec<String>, me: String) -> Self {
        Self { proxies, me }
    }

    /// The names of all proxies.
    pub(crate) fn proxies(&self) -> &[String] {
        &self.proxies
    }

    /// Owner and copy holder of `key`; fewer than two when there are fewer proxies.
    fn holders(&self, key: &[u8]) -> impl Iterator<Item = &str> {
        let names: Vec<&str> = self.proxies.iter().map(String::as_str).collect();
        let ranked = shard::rank(&names, key);
        ranked.into_iter().take(2).filter_map(|place| self.proxies.get(place)).map(String::as_str)
    }

    /// The holders of `key` besides this proxy: one as a rule, none when it is the only proxy,
    /// two when workers ask it because both holders are dead.
    pub(crate) fn other_holders(&self, key: &[u8]) -> impl Iterator<Item = &str> {
        self.holders(key).filter(|proxy| *proxy != self.me)
    }

    /// Whether `proxy` is owner or copy holder of `key`.
    pub(crate) fn holds(&self, proxy: &str, key: &[u8]) -> bool {
        self.holders(key).any(|holder| holder == proxy)
    }

    /// Whether `proxy` ranks before this one for `key`.
    pub(crate) fn outranks_me(&self, proxy: &str, key: &[u8]) -> bool {
        let names = [proxy, self.me.as_str()];
        proxy != self.me && shard::rank(&names, key).first() == Some(&0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ownership(me: &str) -> Ownership {
        Ownership::new(["proxy-1", "proxy-2", "proxy-3"].map(String::from).to_vec(), me.into())
    }

    #[test]
    fn every_key_has_two_holders_and_they_name_each_other() {
        for n in 0..500_u32 {
            let key = n.to_be_bytes();
            let holders: Vec<String> =
                ownership("proxy-1").holders(&key).map(String::from).collect();
            assert_eq!(holders.len(), 2);
            let others = |me: &str| -> Vec<String> {
                ownership(me).other_holders(&key).map(String::from).collect()
            };
            assert_eq!(others(&holders[0]), [holders[1].clone()]);
            assert_eq!(others(&holders[1]), [holders[0].clone()]);
            assert!(ownership(&holders[1]).outranks_me(&holders[0], &key));
            assert!(!ownership(&holders[0]).outranks_me(&holders[1], &key));
        }
    }

    #[test]
    fn only_proxy_has_nobody_to_copy_to() {
        let alone = Ownership::new(vec!["proxy-1".into()], "proxy-1".into());
        assert_eq!(alone.other_holders(b"key").count(), 0);
        assert!(alone.holds("proxy-1", b"key"));
    }
}
