//! Messages with their length in front, out of a byte stream that comes in any pieces.

use super::reader::Fault;

/// What a stream's first bytes say of the message that begins there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// More bytes are needed to tell.
    Unknown,
    /// Bytes of the whole message.
    Known(usize),
}

/// The bytes of one side that do not yet make a message.
#[derive(Debug, Default)]
pub struct Frames {
    kept: Vec<u8>,
}

impl Frames {
    /// Takes the next bytes and calls `message` for every message that is whole. `length` tells
    /// it from its first bytes; `max` bytes are kept at most.
    ///
    /// # Errors
    /// Those of `length` and `message`, and when a message is too long. All bytes are dropped.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        max: usize,
        length: impl Fn(&[u8]) -> Result<Length, Fault>,
        mut message: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut kept = std::mem::take(&mut self.kept);
        let is_kept = !kept.is_empty();
        if is_kept {
            kept.extend_from_slice(bytes);
        }
        let all: &[u8] = if is_kept { &kept } else { bytes };
        let mut rest = all;
        while let Length::Known(len) = length(rest)? {
            if len > max {
                return Err(Fault::TooLong { length: len as u64 });
            }
            let Some((whole, after)) = rest.split_at_checked(len.max(1)) else { break };
            rest = after;
            message(whole)?;
        }
        let used = all.len() - rest.len();
        if is_kept {
            kept.drain(..used);
            self.kept = kept;
        } else {
            self.kept.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Drops what is kept, and gives it.
    pub fn clear(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    /// Nothing is kept.
    pub const fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_first_byte(bytes: &[u8]) -> Result<Length, Fault> {
        Ok(bytes.first().map_or(Length::Unknown, |len| Length::Known(usize::from(*len))))
    }

    #[test]
    fn messages_are_the_same_in_every_split() {
        let stream = [3, 1, 2, 1, 2, 9, 4, 0, 0];
        for split in 0..=stream.len() {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for piece in [&stream[..split], &stream[split..]] {
                let each = |message: &[u8]| {
                    got.push(message.to_vec());
                    Ok(())
                };
                frames.feed(piece, 10, by_first_byte, each).unwrap();
            }
            assert_eq!(got, [vec![3, 1, 2], vec![1], vec![2, 9]]);
            assert!(!frames.is_empty());
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_and_nothing_kept() {
        let mut frames = Frames::default();
        assert!(frames.feed(&[11], 10, by_first_byte, |_| Ok(())).is_err());
        assert!(frames.is_empty());
    }
}
