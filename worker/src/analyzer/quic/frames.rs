//! Frames of first packets (RFC 9000 section 19), and the byte stream that CRYPTO frames carry.

use std::collections::BTreeMap;

use crate::analyzer::bytes::Cursor;

/// Bytes of a TLS message, its head included, at most (Zeek: 2^14 + 256).
const MESSAGE_BYTES_MAX: usize = (1 << 14) + 256;
/// Bytes that may come while the length of the message is not known.
const WITHOUT_LENGTH_MAX: usize = 2000;
/// Pieces of a message that wait for what stands in front of them.
const PIECES_MAX: usize = 64;
/// Head of a TLS message: kind and length.
const HEAD_LEN: usize = 4;

/// What a frame says, as far as it is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Crypto {
        offset: u64,
        bytes: &'a [u8],
    },
    ConnectionClose,
    /// Padding, pings, acknowledgements.
    Other,
}

/// Reads the next frame.
///
/// # Errors
/// With the reason, when it is cut or of a kind that first packets do not carry.
pub(super) fn read<'a>(cursor: &mut Cursor<'a>) -> Result<Frame<'a>, String> {
    let kind = cursor.u8().unwrap_or_default();
    let cut = || "not enough data".to_owned();
    match kind {
        0 => {
            while cursor.peek() == Some(0) {
                cursor.u8();
            }
            Ok(Frame::Other)
        }
        1 => Ok(Frame::Other),
        2 | 3 => acknowledgement(cursor, kind == 3).map(|()| Frame::Other).ok_or_else(cut),
        6 => {
            let offset = varint(cursor).ok_or_else(cut)?;
            let len = varint(cursor).and_then(|len| usize::try_from(len).ok()).ok_or_else(cut)?;
            let bytes = cursor.take(len).ok_or_else(cut)?;
            Ok(Frame::Crypto { offset, bytes })
        }
        0x1C => {
            varint(cursor).ok_or_else(cut)?;
            varint(cursor).ok_or_else(cut)?;
            let len = varint(cursor).and_then(|len| usize::try_from(len).ok()).ok_or_else(cut)?;
            cursor.skip(len).ok_or_else(cut)?;
            Ok(Frame::ConnectionClose)
        }
        _ => Err(format!("unhandled frame type {kind:#x}")),
    }
}

/// A number of one, two, four or eight bytes (RFC 9000 section 16).
pub(super) fn varint(cursor: &mut Cursor<'_>) -> Option<u64> {
    let first = cursor.u8()?;
    let rest = cursor.take((1 << (first >> 6)) - 1)?;
    Some(rest.iter().fold(u64::from(first & 0x3F), |n, byte| n << 8 | u64::from(*byte)))
}

fn acknowledgement(cursor: &mut Cursor<'_>, has_counts: bool) -> Option<()> {
    varint(cursor)?;
    varint(cursor)?;
    let ranges = varint(cursor)?;
    varint(cursor)?;
    for _ in 0..ranges {
        varint(cursor)?;
        varint(cursor)?;
    }
    for _ in 0..if has_counts { 3 } else { 0 } {
        varint(cursor)?;
    }
    Some(())
}

/// The first TLS message of one side, put together from CRYPTO frames.
#[derive(Debug, Default)]
pub(super) struct CryptoStream {
    bytes: Vec<u8>,
    waiting: BTreeMap<u64, Vec<u8>>,
    /// It was given out.
    pub(super) is_finished: bool,
}

impl CryptoStream {
    /// Adds a piece; gives the message once it is whole.
    ///
    /// # Errors
    /// With the reason, when more came than the message has bytes.
    pub(super) fn add(&mut self, offset: u64, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        if offset < MESSAGE_BYTES_MAX as u64 {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            if self.waiting.is_empty() && at <= self.bytes.len() {
                // In order, as most come: nothing waits.
                self.bytes
                    .extend_from_slice(bytes.get(self.bytes.len() - at..).unwrap_or_default());
            } else if self.waiting.len() < PIECES_MAX {
                self.waiting.entry(offset).or_insert_with(|| bytes.to_vec());
            }
        }
        while let Some(piece) = self.waiting.first_entry() {
            let at = usize::try_from(*piece.key()).unwrap_or(usize::MAX);
            if at > self.bytes.len() {
                break;
            }
            let piece = piece.remove();
            // What came first counts.
            self.bytes.extend(piece.iter().skip(self.bytes.len() - at));
        }
        let have = self.bytes.len();
        let Some(len) = self.message_len() else {
            if have > WITHOUT_LENGTH_MAX {
                return Err(format!("too much crypto data without length received {have}"));
            }
            return Ok(None);
        };
        // A message that is too long is never whole, as in Zeek.
        if len <= MESSAGE_BYTES_MAX && have >= len && !self.is_finished {
            self.is_finished = true;
            let message = self.bytes.get(..len).map(<[u8]>::to_vec);
            if have == len {
                return Ok(message);
            }
        }
        if have > len.min(MESSAGE_BYTES_MAX) {
            return Err(format!("too much crypto data received {have} > {len}"));
        }
        Ok(None)
    }

    /// Gives back the memory of a message that was given out; nothing is added any more.
    pub(super) fn forget(&mut self) {
        self.bytes = Vec::new();
        self.waiting.clear();
    }

    fn message_len(&self) -> Option<usize> {
        let mut cursor = Cursor::new(&self.bytes);
        cursor.u8()?;
        Some(cursor.be24()? as usize + HEAD_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000 appendix A.1.
    #[test]
    fn numbers_have_four_lengths() {
        let read = |bytes: &[u8]| varint(&mut Cursor::new(bytes));
        assert_eq!(read(&[0x25]), Some(37));
        assert_eq!(read(&[0x7B, 0xBD]), Some(15_293));
        assert_eq!(read(&[0x9D, 0x7F, 0x3E, 0x7D]), Some(494_878_333));
        assert_eq!(
            read(&[0xC2, 0x19, 0x7C, 0x5E, 0xFF, 0x14, 0xE8, 0x8C]),
            Some(151_288_809_941_952_652)
        );
        assert_eq!(read(&[0x40]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn pieces_are_put_in_order_and_those_that_come_first_count() {
        let mut stream = CryptoStream::default();
        assert_eq!(stream.add(5, b"b"), Ok(None));
        assert_eq!(stream.add(4, b"aX"), Ok(None));
        assert_eq!(stream.add(0, &[1, 0, 0, 2]), Ok(Some(b"\x01\0\0\x02aX".to_vec())));
        assert!(stream.is_finished);
    }

    #[test]
    fn more_than_the_message_has_is_an_error() {
        let mut stream = CryptoStream::default();
        assert!(stream.add(0, &[1, 0, 0, 1, 7, 8]).is_err());
        let mut stream = CryptoStream::default();
        assert_eq!(stream.add(3000, &[0; 10]), Ok(None));
        assert!(stream.add(0, &[1, 0xFF, 0xFF, 0xFF]).is_ok());
    }
}
