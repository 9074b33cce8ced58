//! Rendezvous hashing: which of the live nodes owns a key. Every host and every release must
//! agree, so the hash is fixed and pinned by golden values.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// Seed of the secrets below; changing it moves every key of a running cluster.
static SECRETS: RapidSecrets = RapidSecrets::seed(0x7479_746f_5f76_3031);

/// How strongly `node` claims `key`; the highest weight owns it.
pub fn weight(node: &str, key: &[u8]) -> u64 {
    let node = rapidhash_v3_seeded(node.as_bytes(), &SECRETS);
    let key = rapidhash_v3_seeded(key, &SECRETS);
    let mut both = [0; 16];
    both[..8].copy_from_slice(&node.to_le_bytes());
    both[8..].copy_from_slice(&key.to_le_bytes());
    rapidhash_v3_seeded(&both, &SECRETS)
}

/// The nodes from owner downwards, each with its place in `nodes`. Taking a node away moves
/// only the keys which that node owned, each to the next in its rank.
pub fn rank(nodes: &[&str], key: &[u8]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse((weight(nodes[i], key), nodes[i])));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXIES: [&str; 4] = ["proxy-1", "proxy-2", "proxy-3", "proxy-4"];

    #[test]
    fn weights_are_pinned_for_all_hosts_and_releases() {
        let found = ["proxy-1", "proxy-2"].map(|node| weight(node, &[192, 0, 2, 1]));
        assert_eq!(found, [8_256_351_556_613_438_909, 2_858_782_694_551_920_420]);
    }

    #[test]
    fn removing_a_node_moves_only_its_own_keys() {
        for n in 0..2_000_u32 {
            let key = n.to_be_bytes();
            let before = rank(&PROXIES, &key);
            let after = rank(&PROXIES[..3], &key);
            let expected: Vec<usize> = before.into_iter().filter(|&i| i != 3).collect();
            assert_eq!(after, expected);
        }
    }

    #[test]
    fn keys_spread_evenly() {
        let mut owned = [0_u32; 4];
        for n in 0..40_000_u32 {
            owned[rank(&PROXIES, &n.to_be_bytes())[0]] += 1;
        }
        assert!(owned.iter().all(|n| (9_000..11_000).contains(n)), "{owned:?}");
    }
}
