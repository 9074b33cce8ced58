//! The table on this proxy's own disk, so that a restart of the whole cluster forgets nothing:
//! `PREFIX/spool/PROXY/snapshot`, written anew as a whole and moved into place.
//!
//! ```text
//! "TYTOSNP1"  number of entries (u32)
//! per entry:  length (u16) table · length (u16) key · length (u16) claiming node ·
//!             packet time of the claim (u64 ns) · expiry (u64 ns since the Unix epoch)
//! CRC-32 of all before (u32)            numbers are little-endian
//! ```
//! A claim that nobody is known to hold has an empty node. A file that is cut or damaged is
//! refused as a whole: the other proxies' copies are the better source then.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use tyto_core::time::Ts;

use crate::table::{Claimant, Grant, Key, Table};

const MAGIC: &[u8; 8] = b"TYTOSNP1";
const CRC_LEN: usize = 4;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The file cannot be read or written.
    #[error("cannot access the snapshot")]
    Io(#[from] io::Error),
    /// It was cut or damaged.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
}

/// Writes what is alive in `table` at `now` and returns how many entries that is. The file at
/// `path` is the old one or the new one, whatever happens meanwhile.
///
/// # Errors
/// When the disk is full or the folder not writable; the old snapshot stays.
pub(crate) fn save(table: &Table, path: &Path, now: Ts) -> Result<u32, SnapshotError> {
    let mut body = Vec::with_capacity(64 * table.len());
    let mut entries = 0_u32;
    table.for_each(now, |key, grant| {
        if append(&mut body, key, grant) {
            entries += 1;
        }
    });
    let mut bytes = Vec::with_capacity(body.len() + 16);
    bytes.extend(MAGIC);
    bytes.extend(entries.to_le_bytes());
    bytes.append(&mut body);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    fs::rename(&fresh, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_data()?;
    }
    Ok(entries)
}

/// Reads the snapshot at `path` into `table`, without what expired before `now`. Returns the
/// number of entries taken; 0 when there is no file yet.
///
/// # Errors
/// When the file cannot be read or is damaged; the table is as it was then.
pub(crate) fn load(table: &Table, path: &Path, now: Ts) -> Result<u32, SnapshotError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        read => read?,
    };
    let (body, crc) = bytes
        .split_last_chunk::<CRC_LEN>()
        .ok_or(SnapshotError::Damaged("shorter than its checksum"))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(SnapshotError::Damaged("its checksum does not match"));
    }
    let mut reader = Reader { rest: body };
    let cut = || SnapshotError::Damaged("it ends within an entry");
    if reader.take(MAGIC.len()) != Some(MAGIC.as_slice()) {
        return Err(SnapshotError::Damaged("it begins with another magic"));
    }
    let count = reader.number().map(u32::from_le_bytes).ok_or_else(cut)?;
    let mut grants = Vec::new();
    for _ in 0..count {
        grants.push(reader.entry().ok_or_else(cut)?);
    }
    let mut taken = 0;
    for (key, grant) in grants.into_iter().filter(|(_, grant)| grant.expires_at > now) {
        taken += u32::from(table.accept(&key, grant, false, now));
    }
    Ok(taken)
}

/// False, and nothing appended, when a part is too long for its length field; the bounds of
/// the RPC are far below.
fn append(body: &mut Vec<u8>, key: &Key, grant: &Grant) -> bool {
    let (node, ts) =
        grant.claimant.as_ref().map_or((&b""[..], Ts(0)), |c| (c.node.as_bytes(), c.ts));
    let parts = [key.table.as_bytes(), &key.key, node];
    let lengths = parts.map(|part| u16::try_from(part.len()));
    for (part, length) in parts.iter().zip(lengths) {
        let Ok(length) = length else { return false };
        body.extend(length.to_le_bytes());
        body.extend(*part);
    }
    body.extend(ts.0.to_le_bytes());
    body.extend(grant.expires_at.0.to_le_bytes());
    true
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_le_bytes(self.number()?);
        self.take(len.into())
    }

    fn text(&mut self) -> Option<Arc<str>> {
        std::str::from_utf8(self.part()?).ok().map(Arc::from)
    }

    fn entry(&mut self) -> Option<(Key, Grant)> {
        let table = self.text()?;
        let key = self.part()?.into();
        let node = self.text()?;
        let ts = Ts(u64::from_le_bytes(self.number()?));
        let expires_at = Ts(u64::from_le_bytes(self.number()?));
        let claimant = (!node.is_empty()).then_some(Claimant { node, ts });
        Some((Key { table, key }, Grant { claimant, expires_at, confirmed: true }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents(table: &Table, now: Ts) -> Vec<(Key, Grant)> {
        let mut found = Vec::new();
        table.for_each(now, |key, grant| found.push((key.clone(), grant.clone())));
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    proptest! {
        #[test]
        fn what_was_saved_is_loaded(
            entries in prop::collection::btree_map(
                ("[a-z_]{1,12}", prop::collection::vec(any::<u8>(), 0..20)),
                (prop::option::of(("[a-z0-9-]{1,12}", any::<u64>())), 1_u64..1000),
                0..50,
            ),
            now in 0_u64..1000,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("snapshot");
            let table = Table::new(100);
            for ((name, key), (claimant, expires_at)) in entries {
                let key = Key { table: name.as_str().into(), key: key.into() };
                let claimant = claimant
                    .map(|(node, ts)| Claimant { node: node.as_str().into(), ts: Ts(ts) });
                let grant = Grant { claimant, expires_at: Ts(expires_at), confirmed: true };
                prop_assert!(table.accept(&key, grant, false, Ts(0)));
            }
            save(&table, &path, Ts(0)).unwrap();
            let loaded = Table::new(100);
            load(&loaded, &path, Ts(now)).unwrap();
            prop_assert_eq!(contents(&loaded, Ts(0)), contents(&table, Ts(now)));
        }
    }

    #[test]
    fn snapshot_that_is_cut_or_damaged_anywhere_is_refused_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let table = Table::new(10);
        for name in ["a", "b"] {
            let key = Key { table: "known_hosts".into(), key: name.as_bytes().into() };
            let grant = Grant { claimant: None, expires_at: Ts(9), confirmed: true };
            table.accept(&key, grant, false, Ts(0));
        }
        assert_eq!(save(&table, &path, Ts(0)).unwrap(), 2);
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(matches!(load(&table, &path, Ts(0)), Err(SnapshotError::Damaged(_))));
            let mut flipped = whole.clone();
            flipped[len] ^= 1;
            fs::write(&path, flipped).unwrap();
            let empty = Table::new(10);
            assert!(matches!(load(&empty, &path, Ts(0)), Err(SnapshotError::Damaged(_))));
            assert_eq!(empty.len(), 0);
        }
    }

    #[test]
    fn missing_snapshot_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(&Table::new(1), &folder.path().join("none"), Ts(0)).unwrap(), 0);
    }
}
