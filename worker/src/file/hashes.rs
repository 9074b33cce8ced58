//! MD5, SHA-1 and SHA-256 of a file, while it comes without a gap.

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

use crate::analyzer::text::hex;

/// Bytes that are given to one hash after the other: few enough that the processor works on two
/// hashes at once, for MD5 alone leaves most of it idle.
const PIECE_BYTES: usize = 128;
/// What the hashes work on at once.
const BLOCK_BYTES: usize = 64;

/// The hashes so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Hashes {
    md5: Md5,
    sha1: Sha1,
    sha256: Sha256,
    fed: bool,
    /// Bytes of the block that is not whole yet.
    begun_bytes: usize,
}

impl Hashes {
    /// The next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        // Whole blocks are hashed where they lie, others are copied first.
        let to_block = (BLOCK_BYTES - self.begun_bytes) % BLOCK_BYTES;
        let (head, rest) = bytes.split_at(to_block.min(bytes.len()));
        for piece in std::iter::once(head).chain(rest.chunks(PIECE_BYTES)) {
            self.md5.update(piece);
            self.sha1.update(piece);
            self.sha256.update(piece);
        }
        self.fed |= !bytes.is_empty();
        self.begun_bytes = (self.begun_bytes + bytes.len()) % BLOCK_BYTES;
    }

    /// The hashes as text: MD5, SHA-1, SHA-256. None of a file without a byte.
    pub(super) fn finish(self) -> Option<[String; 3]> {
        self.fed.then(|| {
            [hex(&self.md5.finalize()), hex(&self.sha1.finalize()), hex(&self.sha256.finalize())]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let whole =
            [hex(&Md5::digest(&bytes)), hex(&Sha1::digest(&bytes)), hex(&Sha256::digest(&bytes))];
        for len in [1, 63, 64, 65, 127, 128, 300, 1000] {
            let mut hashes = Hashes::default();
            bytes.chunks(len).for_each(|piece| hashes.update(piece));
            assert_eq!(hashes.finish(), Some(whole.clone()), "{len}");
        }
    }
}
