//! Chance by a seed (SplitMix64, Steele, Lea and Flood 2014): the same numbers on every machine.

/// A sequence of numbers that a seed decides.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let number = self.number().checked_rem(end as u64).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    }

    /// A number from `first` to `last`.
    pub const fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.number() % (last - first + 1)
    }

    /// True half the time.
    pub const fn chance(&mut self) -> bool {
        self.number() & 1 == 1
    }

    /// True `count` times of a thousand.
    pub const fn per_mille(&mut self, count: u32) -> bool {
        count > 0 && self.number() % 1_000 < count as u64
    }

    /// Another sequence, which this one decides.
    pub const fn fork(&mut self) -> Self {
        Self(self.number())
    }
}
