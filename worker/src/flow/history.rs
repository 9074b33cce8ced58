//! The `history` column: one letter per thing that happened on a connection.

use std::fmt;

use tyto_core::net::Side;

/// Letters kept without another allocation; nearly all connections have fewer.
const INLINE_LEN: usize = 14;
/// Letters that one connection may have. What resets or opens again and again adds a letter
/// each time; beyond the limit letters are dropped and the last one kept is `X`, Zeek's sign
/// for an analysis that gave up.
pub const HISTORY_LEN_MAX: usize = 4096;

/// Letters in the order in which they came: upper case from the originator.
#[derive(Clone, Default)]
pub struct History {
    letters: Letters,
    /// Letters that are written once per side and were.
    seen: u32,
}

#[derive(Clone)]
enum Letters {
    Inline([u8; INLINE_LEN], u8),
    /// All of them, once they are more than fit inline.
    #[allow(clippy::box_collection, reason = "rare: a pointer's place in each connection")]
    Spilled(Box<Vec<u8>>),
}

impl Default for Letters {
    fn default() -> Self {
        Self::Inline([0; INLINE_LEN], 0)
    }
}

impl History {
    /// Appends `letter` of `side`.
    pub fn push(&mut self, side: Side, letter: u8) {
        let letter = match side {
            Side::Orig => letter,
            Side::Resp => letter.to_ascii_lowercase(),
        };
        match &mut self.letters {
            Letters::Inline(inline, len) => match inline.get_mut(usize::from(*len)) {
                Some(place) => {
                    *place = letter;
                    *len += 1;
                }
                None => {
                    let spilled = [&inline[..], &[letter]].concat();
                    self.letters = Letters::Spilled(Box::new(spilled));
                }
            },
            Letters::Spilled(spilled) => match spilled.len() {
                ..HISTORY_LEN_MAX => spilled.push(letter),
                HISTORY_LEN_MAX => spilled.push(b'X'),
                _ => {}
            },
        }
    }

    /// Appends `letter` unless `side` wrote one of the same kind before. True when it did: the
    /// letter is then the caller's to repeat.
    pub fn push_once(&mut self, side: Side, letter: u8) -> bool {
        let bit = Self::bit(side, letter);
        if self.seen & bit != 0 {
            return true;
        }
        self.seen |= bit;
        self.push(side, letter);
        false
    }

    /// The roles were swapped.
    pub fn push_flip(&mut self) {
        self.push(Side::Orig, b'^');
    }

    /// Replaces all letters, keeping which kinds were seen.
    pub fn replace(&mut self, letters: &[u8]) {
        self.letters = Letters::default();
        letters.iter().for_each(|letter| self.push(Side::Orig, *letter));
    }

    /// The letters.
    pub fn letters(&self) -> &[u8] {
        match &self.letters {
            Letters::Inline(inline, len) => inline.get(..usize::from(*len)).unwrap_or_default(),
            Letters::Spilled(spilled) => spilled,
        }
    }

    /// One bit per kind and side: a SYN counts as one kind with and without ACK.
    const fn bit(side: Side, letter: u8) -> u32 {
        let kind = match letter {
            b'S' | b'H' => 0,
            b'F' => 1,
            b'R' => 2,
            b'I' => 3,
            b'D' => 4,
            b'A' => 5,
            b'Q' => 6,
            b'X' => 7,
            _ => 8,
        };
        1 << (kind + 16 * side.index())
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(self.letters()), f)
    }
}

/// Counts what is written into the history at the 1st, 10th, 100th … time only.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScaledCount(u32);

impl ScaledCount {
    /// Counts one more; true when it is to be written.
    pub const fn count(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        matches!(
            self.0,
            1 | 10 | 100 | 1000 | 10_000 | 100_000 | 1_000_000 | 10_000_000 | 100_000_000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_the_responder_are_lower_case() {
        let mut history = History::default();
        history.push(Side::Orig, b'S');
        history.push(Side::Resp, b'H');
        history.push_flip();
        assert_eq!(history.letters(), b"Sh^");
    }

    #[test]
    fn a_letter_that_counts_once_is_written_once_per_side() {
        let mut history = History::default();
        assert!(!history.push_once(Side::Orig, b'D'));
        assert!(history.push_once(Side::Orig, b'D'));
        assert!(!history.push_once(Side::Resp, b'D'));
        assert!(!history.push_once(Side::Orig, b'S'));
        assert!(history.push_once(Side::Orig, b'H'));
        assert_eq!(history.letters(), b"DdS");
    }

    #[test]
    fn long_histories_end_at_the_limit() {
        let mut history = History::default();
        for _ in 0..HISTORY_LEN_MAX + 10 {
            history.push(Side::Orig, b'R');
        }
        assert_eq!(history.letters().len(), HISTORY_LEN_MAX + 1);
        assert_eq!(history.letters().last(), Some(&b'X'));
    }

    #[test]
    fn scaled_counts_are_written_at_powers_of_ten() {
        let mut count = ScaledCount::default();
        let written = (1..=1000).filter(|_| count.count()).count();
        assert_eq!(written, 4);
    }
}
