//! Packet time and spans of it. Nothing here reads a clock.

use std::ops::{Add, Sub};

/// Nanoseconds in a second.
pub const NANOS: u64 = 1_000_000_000;

/// Packet time: nanoseconds since the Unix epoch by the capture's clock, never ours,
/// so that a pcap replayed next year writes the same log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ts(pub u64);

/// A span of packet time in nanoseconds; negative when packets came out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(pub i64);

impl Ts {
    /// From whole seconds and nanoseconds since the Unix epoch.
    pub const fn new(secs: u64, nanos: u32) -> Self {
        Self(secs.saturating_mul(NANOS).saturating_add(nanos as u64))
    }

    /// From nanoseconds since the Unix epoch, or before it: files have times of all ages. Packets
    /// have not, and such a time is only good for printing.
    pub const fn signed(nanos: i64) -> Self {
        Self(nanos.cast_unsigned())
    }

    /// Nanoseconds since the Unix epoch, negative before it.
    pub const fn nanos_signed(self) -> i64 {
        self.0.cast_signed()
    }

    /// Whole seconds since the Unix epoch.
    pub const fn secs(self) -> u64 {
        self.0 / NANOS
    }

    /// The part below a second, in microseconds: what Zeek's logs print.
    pub const fn micros_part(self) -> u64 {
        self.0 % NANOS / 1_000
    }

    /// Time from `earlier` to `self`; negative when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Interval {
        Interval(self.0.wrapping_sub(earlier.0).cast_signed())
    }

    /// This time plus whole seconds.
    pub const fn plus_secs(self, secs: u64) -> Self {
        Self(self.0.saturating_add(secs.saturating_mul(NANOS)))
    }
}

impl Interval {
    /// From whole seconds.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NANOS.cast_signed()))
    }
}

impl Add<Interval> for Ts {
    type Output = Self;

    fn add(self, span: Interval) -> Self {
        Self(self.0.saturating_add_signed(span.0))
    }
}

impl Sub for Ts {
    type Output = Interval;

    fn sub(self, earlier: Self) -> Interval {
        self.since(earlier)
    }
}
