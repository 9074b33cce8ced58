//! Compressed bodies: gzip (RFC 1952), zlib (RFC 1950), and bare deflate (RFC 1951) from servers
//! that leave the header out. Pieces in, pieces out; nothing is kept but the decoder's window.

use flate2::{Decompress, FlushDecompress, Status};

/// Bytes that are decompressed at a time.
const PIECE_BYTES: usize = 4096;
/// Decompressed bytes up to which the ratio is not looked at.
const FREE_BYTES: u64 = 64 << 20;
/// Ratio of a body that has more: deflate reaches 1032, real content seldom 50.
const RATIO_MAX: u64 = 200;

/// The decoder of one body.
#[derive(Debug)]
pub(super) struct Inflate {
    decoder: Option<Decompress>,
    in_bytes: u64,
    out_bytes: u64,
}

/// A body is not what its header said, or a bomb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Inflate {
    /// The decoder of a body that begins with `first`: gzip is told by its first byte.
    pub(super) fn new(first: &[u8]) -> Self {
        let is_gzip = first.first() == Some(&0x1f);
        let decoder = if is_gzip { Decompress::new_gzip(15) } else { Decompress::new(true) };
        Self { decoder: Some(decoder), in_bytes: 0, out_bytes: 0 }
    }

    /// Gives `out` what the next `bytes` decompress to.
    ///
    /// # Errors
    /// Once, when they cannot be decompressed; what comes later is ignored.
    pub(super) fn feed(&mut self, bytes: &[u8], mut out: impl FnMut(&[u8])) -> Result<(), Broken> {
        let Some(mut decoder) = self.decoder.take() else { return Ok(()) };
        let mut piece = [0; PIECE_BYTES];
        let mut rest = bytes;
        let mut may_restart = true;
        self.in_bytes += bytes.len() as u64;
        loop {
            let (in_before, out_before) = (decoder.total_in(), decoder.total_out());
            match decoder.decompress(rest, &mut piece, FlushDecompress::Sync) {
                Ok(status @ (Status::Ok | Status::StreamEnd)) => {
                    may_restart = false;
                    let len = usize::try_from(decoder.total_out() - out_before);
                    let len = len.unwrap_or_default();
                    out(piece.get(..len).unwrap_or_default());
                    self.out_bytes += len as u64;
                    if status == Status::StreamEnd {
                        return Ok(());
                    }
                    let taken = usize::try_from(decoder.total_in() - in_before);
                    rest = rest.get(taken.unwrap_or_default()..).unwrap_or_default();
                    if rest.is_empty() {
                        self.decoder = Some(decoder);
                        return Ok(());
                    }
                    if self.is_bomb() {
                        return Err(Broken);
                    }
                }
                Err(_) if may_restart => {
                    // Some servers leave the header out.
                    decoder = Decompress::new(false);
                    rest = bytes;
                    may_restart = false;
                }
                Ok(Status::BufError) | Err(_) => return Err(Broken),
            }
        }
    }

    const fn is_bomb(&self) -> bool {
        self.out_bytes > FREE_BYTES && self.out_bytes / RATIO_MAX > self.in_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"What is this? What is this? It is a text, it is a text.";

    fn inflate(compressed: &[u8], step: usize) -> Vec<u8> {
        let mut inflate = Inflate::new(compressed);
        let mut all = Vec::new();
        for piece in compressed.chunks(step) {
            inflate.feed(piece, |out| all.extend_from_slice(out)).unwrap();
        }
        all
    }

    #[test]
    fn gzip_zlib_and_bare_deflate_are_told_apart_in_pieces_of_any_size() {
        let level = flate2::Compression::default();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
        gzip.write_all(TEXT).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), level);
        zlib.write_all(TEXT).unwrap();
        let zlib = zlib.finish().unwrap();
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), level);
        bare.write_all(TEXT).unwrap();
        for step in [1, 3, 7, 1000] {
            assert_eq!(inflate(&gzip, step), TEXT);
            assert_eq!(inflate(&zlib, step), TEXT);
        }
        assert_eq!(inflate(&bare.finish().unwrap(), 1000), TEXT);
    }

    #[test]
    fn a_bomb_is_given_up() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..2048 {
            encoder.write_all(&[0; 65_536]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        let mut inflate = Inflate::new(&bomb);
        let mut len = 0;
        assert_eq!(inflate.feed(&bomb, |out| len += out.len()), Err(Broken));
        assert!(len < 80 << 20);
    }
}
