//! MD5, SHA-1 and SHA-256 of a file, while it comes without a gap.

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

/// The hashes so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Hashes {
    md5: Md5,
    sha1: Sha1,
    sha256: Sha256,
    fed: bool,
}

impl Hashes {
    /// The next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.fed |= !bytes.is_empty();
        self.md5.update(bytes);
        self.sha1.update(bytes);
        self.sha256.update(bytes);
    }

    /// The hashes as text: MD5, SHA-1, SHA-256. None of a file without a byte.
    pub(super) fn finish(self) -> Option<[String; 3]> {
        self.fed.then(|| {
            [hex(&self.md5.finalize()), hex(&self.sha1.finalize()), hex(&self.sha256.finalize())]
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
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
}
