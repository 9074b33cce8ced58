//! MD5, SHA-1 and SHA-256 of a file, while it comes without a gap.

use std::fmt;

use fast_md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::analyzer::text::hex;

/// What a hash works on at once. So much is given to one after the other: few enough bytes that
/// the processor works on two hashes at once, for MD5 alone leaves most of it idle.
const BLOCK_BYTES: usize = 64;

/// The hashes so far.
pub(super) struct Hashes {
    md5: Md5,
    sha1: Sha1,
    sha256: Sha256,
    /// Bytes that came.
    bytes: usize,
}

impl Default for Hashes {
    fn default() -> Self {
        Self { md5: Md5::new(), sha1: Sha1::new(), sha256: Sha256::new(), bytes: 0 }
    }
}

impl fmt::Debug for Hashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashes").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Hashes {
    /// The next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        // Whole blocks are hashed where they lie, others are copied first.
        let to_block = self.bytes.next_multiple_of(BLOCK_BYTES) - self.bytes;
        let (head, rest) = bytes.split_at(to_block.min(bytes.len()));
        for piece in std::iter::once(head).chain(rest.chunks(BLOCK_BYTES)) {
            self.md5.update(piece);
            self.sha1.update(piece);
            self.sha256.update(piece);
        }
        self.bytes += bytes.len();
    }

    /// The hashes as text: MD5, SHA-1, SHA-256. None of a file without a byte.
    pub(super) fn finish(self) -> Option<[String; 3]> {
        (self.bytes > 0).then(|| {
            [hex(&self.md5.finalize()), hex(&self.sha1.finalize()), hex(&self.sha256.finalize())]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by another library.
    fn reference(bytes: &[u8]) -> [String; 3] {
        let md5 = <md5::Md5 as Digest>::digest(bytes);
        [hex(&md5), hex(&Sha1::digest(bytes)), hex(&Sha256::digest(bytes))]
    }

    #[test]
    fn hashes_are_those_of_the_standards() {
        let mut hashes = Hashes::default();
        hashes.update(b"a");
        hashes.update(b"bc");
        let expected = [
            "900150983cd24fb0d6963f7d28e17f72",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ];
        assert_eq!(hashes.finish(), Some(expected.map(str::to_owned)));
        assert_eq!(Hashes::default().finish(), None);
    }

    #[test]
    fn hashes_are_the_same_in_all_pieces() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n * n).to_le_bytes()[0]).collect();
        let whole = reference(&bytes);
        for len in [1, 63, 64, 65, 127, 128, 300, 1000] {
            let mut hashes = Hashes::default();
            bytes.chunks(len).for_each(|piece| hashes.update(piece));
            assert_eq!(hashes.finish(), Some(whole.clone()), "{len}");
        }
    }

    #[test]
    fn hashes_of_all_lengths_are_those_of_another_library() {
        let bytes: Vec<u8> =
            (0..300_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
        for len in 1..bytes.len() {
            let mut hashes = Hashes::default();
            hashes.update(&bytes[..len]);
            assert_eq!(hashes.finish(), Some(reference(&bytes[..len])), "{len}");
        }
    }
}
