//! Bytes of a file that came before those in front of them, as with SMB reads and HTTP ranges.

use std::collections::BTreeMap;

/// Blocks by their offset in the file. None overlaps another; of bytes that come twice the first
/// count.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
}

impl Blocks {
    /// Bytes that are kept.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps what of `bytes` at `offset` stands at or behind `from` and is not kept yet.
    pub(super) fn insert(&mut self, from: u64, offset: u64, bytes: &[u8]) {
        let skipped = usize::try_from(from.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut rest = bytes.get(skipped..).unwrap_or_default();
        let mut at = offset.max(from);
        if let Some((&start, block)) = self.blocks.range(..=at).next_back() {
            let end = start + block.len() as u64;
            let known = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            at = at.max(end);
            rest = rest.get(known..).unwrap_or_default();
        }
        while !rest.is_empty() {
            let next = self.blocks.range(at..).next().map(|(&start, block)| (start, block.len()));
            let room = next.map_or(u64::MAX, |(start, _)| start - at);
            let len = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (new, behind) = rest.split_at(len);
            if !new.is_empty() {
                self.bytes += new.len();
                self.blocks.insert(at, new.to_vec());
            }
            let Some((start, next_len)) = next else { return };
            at = start + next_len as u64;
            rest = behind.get(next_len..).unwrap_or_default();
        }
    }

    /// The first block, if it begins before `below`.
    pub(super) fn take_first(&mut self, below: u64) -> Option<(u64, Vec<u8>)> {
        let entry = self.blocks.first_entry()?;
        if *entry.key() >= below {
            return None;
        }
        let (offset, block) = entry.remove_entry();
        self.bytes -= block.len();
        Some((offset, block))
    }

    /// Where the last block ends.
    pub(super) fn end(&self) -> Option<u64> {
        self.blocks.last_key_value().map(|(start, block)| start + block.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_bytes_that_come_twice_count() {
        let mut blocks = Blocks::default();
        blocks.insert(0, 4, b"EF");
        blocks.insert(0, 8, b"IJ");
        blocks.insert(0, 3, b"defghijkl");
        assert_eq!(blocks.bytes(), 9);
        let mut all = Vec::new();
        while let Some((offset, block)) = blocks.take_first(100) {
            assert_eq!(offset, 3 + all.len() as u64);
            all.extend(block);
        }
        assert_eq!(all, b"dEFghIJkl");
        assert_eq!(blocks.bytes(), 0);
    }

    #[test]
    fn what_was_delivered_is_not_kept() {
        let mut blocks = Blocks::default();
        blocks.insert(10, 4, b"abcdef");
        assert_eq!(blocks.bytes(), 0);
        blocks.insert(10, 4, b"abcdefgh");
        assert_eq!(blocks.take_first(u64::MAX), Some((10, b"gh".to_vec())));
    }
}
