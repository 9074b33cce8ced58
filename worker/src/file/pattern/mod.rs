//! Patterns of bytes, written as regular expressions and matched at the first byte of a file. A
//! pattern is followed with the set of all positions at which its rest may begin, so that no
//! input makes it go back, and nothing has to be built before the first match: what is compiled
//! is the list of steps that the pattern's text names.
//!
//! What patterns may have: bytes, `\xNN`, `.` (any byte), classes, `?`, `*`, `+`, `{n}`,
//! `{n,m}`, groups `(?:a|b)`, and such without regard to case `(?i:a)`.

mod text;

use std::sync::OnceLock;

use memchr::memmem::Finder;

use self::text::Reader;

/// Bytes of an input that are looked at.
pub(super) const INPUT_BYTES_MAX: usize = 4096;
/// Words of 64 positions; there is one more position than bytes.
const WORDS: usize = INPUT_BYTES_MAX / 64 + 1;
/// Positions beyond which a literal is searched for, not compared at each.
const COMPARED_MAX: usize = 16;

/// A pattern that is ready to match.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Each is a way to match.
    alternatives: Vec<Vec<Step>>,
}

#[derive(Debug)]
enum Step {
    Literal(Literal),
    /// One byte of a set, `min` to `max` times.
    Class {
        set: ByteSet,
        min: usize,
        max: usize,
    },
    /// Any byte, `min` to `max` times.
    Any {
        min: usize,
        max: usize,
    },
    Group {
        pattern: Pattern,
        min: usize,
        max: usize,
    },
}

/// Bytes that stand for themselves.
#[derive(Debug, Default)]
struct Literal {
    bytes: Vec<u8>,
    /// Searches for them; made when it is first needed.
    finder: OnceLock<Box<Finder<'static>>>,
}

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ByteSet([u64; 4]);

/// Positions in an input. Most steps leave one position, or all from one to another.
#[derive(Clone)]
enum Positions {
    None,
    Range { first: usize, last: usize },
    Set(Box<PositionSet>),
}

/// A bit for each position.
#[derive(Clone)]
struct PositionSet([u64; WORDS]);

impl Pattern {
    /// Reads a pattern. None for what is not one.
    pub(super) fn new(text: &str) -> Option<Self> {
        let mut reader = Reader::new(text);
        let pattern = reader.alternatives(false)?;
        reader.is_empty().then_some(pattern)
    }

    /// Whether `input`, of which [`INPUT_BYTES_MAX`] bytes count, begins with a match.
    pub(super) fn matches(&self, input: &[u8]) -> bool {
        let input = input.get(..INPUT_BYTES_MAX).unwrap_or(input);
        if !self.can_begin(input) {
            return false;
        }
        !matches!(self.follow(Positions::one(0), input), Positions::None)
    }

    /// Whether a match may begin where `input` does, by what is told without following: the first
    /// literal or byte. Most patterns that are tried fail here, at the price of a comparison or two.
    fn can_begin(&self, input: &[u8]) -> bool {
        self.alternatives.iter().any(|steps| Step::can_begin(steps, input))
    }

    /// From the positions where it begins to those where it ends.
    fn follow(&self, begins: Positions, input: &[u8]) -> Positions {
        let follow_one = |steps: &[Step], mut positions: Positions| {
            for step in steps {
                positions = step.follow(positions, input);
                if matches!(positions, Positions::None) {
                    break;
                }
            }
            positions
        };
        if let [steps] = self.alternatives.as_slice() {
            return follow_one(steps, begins);
        }
        let mut ends = Positions::None;
        for steps in &self.alternatives {
            ends = ends.or(follow_one(steps, begins.clone()));
        }
        ends
    }
}

impl Step {
    /// Whether `steps` may match where `input` begins.
    fn can_begin(steps: &[Self], input: &[u8]) -> bool {
        let Some((first, others)) = steps.split_first() else { return true };
        match first {
            Self::Literal(literal) => {
                input.first() == literal.bytes.first() && input.starts_with(&literal.bytes)
            }
            Self::Class { min: 0, .. } | Self::Group { min: 0, .. } => true,
            Self::Class { set, min, max } => match input.split_first() {
                Some((byte, _)) if !set.contains(*byte) => false,
                Some((_, rest)) => (*min, *max) != (1, 1) || Self::can_begin(others, rest),
                None => false,
            },
            Self::Any { min, max } if max - min > COMPARED_MAX => true,
            Self::Any { min, max } => (*min..=*max)
                .any(|at| input.get(at..).is_some_and(|rest| Self::can_begin(others, rest))),
            Self::Group { pattern, .. } => pattern.can_begin(input),
        }
    }

    fn follow(&self, positions: Positions, input: &[u8]) -> Positions {
        match self {
            Self::Literal(literal) => positions.behind_literal(literal, input),
            Self::Any { min, max } => positions.behind_any(*min, *max, input.len()),
            Self::Class { set, min, max } => positions.behind_class(set, *min, *max, input),
            Self::Group { pattern, min, max } => {
                let mut ends = positions;
                for _ in 0..*min {
                    ends = pattern.follow(ends, input);
                }
                let mut latest = ends.clone();
                for _ in *min..*max {
                    latest = pattern.follow(latest, input);
                    if latest.is_in(&ends) {
                        break;
                    }
                    ends = ends.or(latest.clone());
                }
                ends
            }
        }
    }
}

impl Literal {
    fn finder(&self) -> &Finder<'static> {
        self.finder.get_or_init(|| Box::new(Finder::new(&self.bytes).into_owned()))
    }
}

impl Positions {
    const fn one(position: usize) -> Self {
        Self::Range { first: position, last: position }
    }

    fn is_in(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, _) => true,
            (Self::Range { first, last }, Self::Range { first: low, last: high }) => {
                low <= first && last <= high
            }
            _ => self.iter().all(|position| other.contains(position)),
        }
    }

    fn contains(&self, position: usize) -> bool {
        match self {
            Self::None => false,
            Self::Range { first, last } => (*first..=*last).contains(&position),
            Self::Set(set) => set.contains(position),
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        let (range, set) = match self {
            Self::None => (0..0, None),
            Self::Range { first, last } => (*first..last + 1, None),
            Self::Set(set) => (0..0, Some(set.iter())),
        };
        range.chain(set.into_iter().flatten())
    }

    /// With `position`, which is behind all others.
    fn and(self, position: usize) -> Self {
        self.or(Self::one(position))
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (positions, Self::None) | (Self::None, positions) => positions,
            (Self::Range { first, last }, Self::Range { first: low, last: high })
                if low <= last + 1 && first <= high + 1 =>
            {
                Self::Range { first: first.min(low), last: last.max(high) }
            }
            (Self::Set(mut set), other) | (other, Self::Set(mut set)) => {
                set.add(&other);
                Self::Set(set)
            }
            (one, other) => {
                let mut set = Box::new(PositionSet([0; WORDS]));
                set.add(&one);
                set.add(&other);
                Self::Set(set)
            }
        }
    }

    /// Behind `literal`, where it is.
    fn behind_literal(&self, literal: &Literal, input: &[u8]) -> Self {
        let bytes = literal.bytes.as_slice();
        let mut passed = Self::None;
        let mut positions = self.iter();
        for at in positions.by_ref().take(COMPARED_MAX) {
            let rest = input.get(at..).unwrap_or_default();
            if rest.first() == bytes.first() && rest.starts_with(bytes) {
                passed = passed.and(at + bytes.len());
            }
        }
        let Some(mut from) = positions.next() else { return passed };
        let finder = literal.finder();
        while let Some(found) = input.get(from..).and_then(|rest| finder.find(rest)) {
            let at = from + found;
            if self.contains(at) {
                passed = passed.and(at + bytes.len());
            }
            from = at + 1;
        }
        passed
    }

    fn behind_any(&self, min: usize, max: usize, len: usize) -> Self {
        let reach = |first: usize, last: usize| {
            let (first, last) = (first + min, last.saturating_add(max).min(len));
            if first <= last { Self::Range { first, last } } else { Self::None }
        };
        match self {
            Self::Range { first, last } => reach(*first, *last),
            _ => self.iter().fold(Self::None, |passed, at| passed.or(reach(at, at))),
        }
    }

    fn behind_class(&self, set: &ByteSet, min: usize, max: usize, input: &[u8]) -> Self {
        let mut passed = Self::None;
        // Where there is no limit, positions within a run reach nothing that its begin does not:
        // each byte is looked at once.
        let mut next = 0;
        for at in self.iter() {
            if max == usize::MAX && at < next {
                continue;
            }
            let rest = input.get(at..).unwrap_or_default();
            let run = rest.iter().take(max).take_while(|byte| set.contains(**byte)).count();
            if run >= min {
                passed = passed.or(Self::Range { first: at + min, last: at + run });
            }
            next = at + run + 1;
        }
        passed
    }
}

impl PositionSet {
    fn contains(&self, position: usize) -> bool {
        self.0.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 != 0)
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            let next = |left: &u64| Some(left & (left - 1)).filter(|left| *left != 0);
            std::iter::successors(Some(word).filter(|word| *word != 0), next)
                .map(move |left| index * 64 + left.trailing_zeros() as usize)
        })
    }

    fn add(&mut self, other: &Positions) {
        match other {
            Positions::None => {}
            Positions::Range { first, last } => self.add_range(*first, *last),
            Positions::Set(set) => {
                self.0.iter_mut().zip(&set.0).for_each(|(to, from)| *to |= from);
            }
        }
    }

    fn add_range(&mut self, first: usize, last: usize) {
        let (low, high) = (first / 64, last / 64);
        for (index, word) in self.0.iter_mut().enumerate().take(high + 1).skip(low) {
            let from = if index == low { first % 64 } else { 0 };
            let to = if index == high { last % 64 } else { 63 };
            *word |= u64::MAX << from & u64::MAX >> (63 - to);
        }
    }
}

impl ByteSet {
    fn insert(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte / 64)) {
            *word |= 1 << (byte % 64);
        }
    }

    fn contains(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte / 64)).is_some_and(|word| word >> (byte % 64) & 1 != 0)
    }

    /// The byte, where there is one only.
    fn only(&self) -> Option<u8> {
        let count: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        if count != 1 {
            return None;
        }
        (0..=u8::MAX).find(|byte| self.contains(*byte))
    }

    /// With the other case of each letter.
    fn in_both_cases(mut self) -> Self {
        for byte in b'a'..=b'z' {
            let upper = byte.to_ascii_uppercase();
            if self.contains(byte) || self.contains(upper) {
                self.insert(byte);
                self.insert(upper);
            }
        }
        self
    }

    fn inverted(self) -> Self {
        Self(self.0.map(|word| !word))
    }
}

#[cfg(test)]
impl Pattern {
    /// Bytes that match; `below` gives a number below its argument.
    pub(super) fn sample(&self, below: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let steps = &self.alternatives[below(self.alternatives.len())];
        for step in steps {
            let (min, max) = match step {
                Step::Literal(_) => (1, 1),
                Step::Class { min, max, .. }
                | Step::Any { min, max }
                | Step::Group { min, max, .. } => (*min, *max),
            };
            for _ in 0..min + below((max - min).min(3) + 1) {
                match step {
                    Step::Literal(literal) => bytes.extend_from_slice(&literal.bytes),
                    Step::Any { .. } => bytes.push(below(256).to_le_bytes()[0]),
                    Step::Group { pattern, .. } => bytes.extend(pattern.sample(below)),
                    Step::Class { set, .. } => {
                        let all: Vec<_> = (0..=u8::MAX).filter(|b| set.contains(*b)).collect();
                        bytes.push(all[below(all.len())]);
                    }
                }
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, input: &[u8]) -> bool {
        Pattern::new(pattern).unwrap().matches(input)
    }

    #[test]
    fn a_match_begins_at_the_first_byte_and_may_end_anywhere() {
        assert!(matches("ab", b"abc"));
        assert!(!matches("b", b"abc"));
        assert!(!matches("abcd", b"abc"));
        assert!(matches("", b""));
    }

    #[test]
    fn steps_are_repeated_as_often_as_they_say() {
        assert!(matches("a{2,3}b", b"aab") && matches("a{2,3}b", b"aaab"));
        assert!(!matches("a{2,3}b", b"ab") && !matches("a{2,3}b", b"aaaab"));
        assert!(matches(".*b+c", b"aabbbc") && !matches(".*b+c", b"aac"));
        assert!(matches("(?:ab|a){2}c", b"aabc") && matches("(?:ab|a){2}c", b"abac"));
        assert!(matches("(?:ab?)*c", b"abaabc") && !matches("(?:ab?)*c", b"abbc"));
    }

    #[test]
    fn classes_have_ranges_and_may_be_inverted() {
        assert!(matches(r"[\x00-\x02x\-]{3}", b"\x02x-"));
        assert!(matches(r"[^>]*>", b"a\n\xff>") && !matches("[^a-c]", b"b"));
        assert!(matches("(?i:A[x-z]b)", b"aYB") && !matches("A(?i:b)", b"ab"));
    }

    #[test]
    fn what_lies_beyond_the_limit_is_not_looked_at() {
        let mut input = vec![b' '; INPUT_BYTES_MAX];
        assert!(!matches(".*x", &[&input[..], b"x"].concat()));
        input[INPUT_BYTES_MAX - 1] = b'x';
        assert!(matches(".*x", &input) && !matches(".*xy", &[&input[..], b"y"].concat()));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["(?:a", "a)", "[a", "*a", "a{2", "a{3,2}", r"\x1", r"\d", "{word}", "^a"] {
            assert!(Pattern::new(text).is_none(), "{text}");
        }
    }
}
