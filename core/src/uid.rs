//! Ids of connections and files as Zeek prints them: 96 bits in base 62 behind a letter.

use std::fmt;

/// Digits of base 62, least significant digit printed first.
const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Longest printed form: letter, 6 digits of 32 bits, 11 digits of 64 bits.
pub const UID_LEN_MAX: usize = 18;

/// The id of a connection (`C…`): the same in logs, sessions and packets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid {
    /// The upper 32 of the 96 bits.
    pub hi: u32,
    /// The lower 64 of the 96 bits.
    pub lo: u64,
}

/// The id of a file (`F…`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fuid(pub Uid);

/// Makes the uids of one worker: a keyed hash of a counter, so that equal seeds give
/// equal uids and different workers never meet.
#[derive(Clone, Debug)]
pub struct UidMaker {
    seed: u64,
    counter: u64,
}

impl UidMaker {
    /// A maker whose uids depend on `seed` alone.
    pub const fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next uid.
    pub fn next_uid(&mut self) -> Uid {
        self.counter += 1;
        let lo = mix(self.seed ^ mix(self.counter));
        let hi = mix(lo ^ self.seed.rotate_left(32) ^ self.counter);
        Uid { hi: (hi >> 32) as u32, lo }
    }
}

/// The finalizer of SplitMix64: a bijection of 64 bits in which each input bit moves half of
/// the output bits. Spreads counters; not meant to resist an adversary.
const fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Uid {
    /// Prints behind `prefix` into `buf` and returns what was printed.
    pub fn print(self, prefix: u8, buf: &mut [u8; UID_LEN_MAX]) -> &[u8] {
        let mut len = 1;
        buf[0] = prefix;
        for mut word in [u64::from(self.hi), self.lo] {
            loop {
                buf[len] = DIGITS[(word % 62) as usize];
                len += 1;
                word /= 62;
                if word == 0 {
                    break;
                }
            }
        }
        &buf[..len]
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buf = [0; UID_LEN_MAX];
        f.write_str(&String::from_utf8_lossy(self.print(b'C', &mut buf)))
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Fuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buf = [0; UID_LEN_MAX];
        f.write_str(&String::from_utf8_lossy(self.0.print(b'F', &mut buf)))
    }
}

impl fmt::Debug for Fuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// zeek.md section 5: both words least significant digit first, without padding.
    #[test]
    fn words_print_least_significant_digit_first() {
        assert_eq!(Uid { hi: 0, lo: 62 }.to_string(), "C001");
        assert_eq!(Uid { hi: 61, lo: 0 }.to_string(), "CZ0");
        assert_eq!(Fuid(Uid { hi: 1, lo: 10 }).to_string(), "F1a");
    }

    #[test]
    fn equal_seeds_give_equal_uids_and_other_seeds_others() {
        let (mut a, mut b, mut c) = (UidMaker::new(7), UidMaker::new(7), UidMaker::new(8));
        let first = a.next_uid();
        assert_eq!(first, b.next_uid());
        assert_ne!(first, c.next_uid());
        assert_ne!(first, a.next_uid());
    }
}
