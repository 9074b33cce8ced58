//! What a live worker leaves out when packets come faster than it analyses them: depth of
//! analysis goes before packets do. The ring's fill level decides; a file has no ring, and
//! nothing of it is left out. conn.log stays complete at every level.

/// What is left out; each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    Nothing,
    /// Detection by content on connections that begin: protocols on their own ports only.
    Detection,
    /// Analysis of connections beyond [`LONG_BYTES`] of payload, too.
    Long,
    /// All analysis: connections are counted and logged.
    Analysis,
}

/// Payload bytes, of both sides, beyond which a connection is long. Files and bulk transfers
/// are; what protocols say about themselves stands before that.
pub const LONG_BYTES: u64 = 1 << 20;

/// Fill of the ring, percent, from which on a level holds.
const ENTER_PERCENT: [(Level, u8); 3] =
    [(Level::Analysis, 85), (Level::Long, 70), (Level::Detection, 50)];
/// A level is left when the ring is emptier by this than where it began, percent: enough that
/// a ring which drains and fills does not switch with each block.
const LEAVE_BELOW_PERCENT: u8 = 25;

/// The level at hand and what the levels cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shedding {
    /// What is left out, and was so far.
    pub stats: ShedStats,
}

/// What was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShedStats {
    /// The level at hand.
    pub level: Level,
    /// Times that a higher level began.
    pub raised: u64,
    /// Connections begun without detection by content.
    pub undetected: u64,
    /// Connections whose analysis was broken off because they were long.
    pub cut_short: u64,
    /// Connections that carried something and were not analysed at all, or no further.
    pub unanalysed: u64,
}

impl Shedding {
    /// The level.
    pub const fn level(&self) -> Level {
        self.stats.level
    }

    /// The ring is filled to `percent`.
    pub fn ring_fill(&mut self, percent: u8) {
        let entered = ENTER_PERCENT.iter().find(|(_, from)| percent >= *from);
        let entered = entered.map_or(Level::Nothing, |(level, _)| *level);
        let held = ENTER_PERCENT
            .iter()
            .find(|(_, from)| percent >= from.saturating_sub(LEAVE_BELOW_PERCENT))
            .map_or(Level::Nothing, |(level, _)| *level);
        let next = entered.max(self.stats.level.min(held));
        self.stats.raised += u64::from(next > self.stats.level);
        self.stats.level = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(fills: &[u8]) -> Vec<Level> {
        let mut shedding = Shedding::default();
        fills
            .iter()
            .map(|percent| {
                shedding.ring_fill(*percent);
                shedding.level()
            })
            .collect()
    }

    #[test]
    fn the_fuller_the_ring_the_more_is_left_out() {
        use Level::{Analysis, Detection, Long, Nothing};
        assert_eq!(
            levels(&[0, 49, 50, 70, 85, 100]),
            [Nothing, Nothing, Detection, Long, Analysis, Analysis]
        );
        assert_eq!(levels(&[90]), [Analysis]);
    }

    #[test]
    fn a_level_is_left_when_the_ring_is_a_good_deal_emptier() {
        use Level::{Analysis, Detection, Long, Nothing};
        assert_eq!(
            levels(&[85, 61, 60, 59, 46, 44, 26, 24]),
            [Analysis, Analysis, Analysis, Long, Long, Detection, Detection, Nothing]
        );
        assert_eq!(
            levels(&[55, 30, 55, 30, 10]),
            [Detection, Detection, Detection, Detection, Nothing]
        );
    }

    #[test]
    fn raised_levels_are_counted() {
        let mut shedding = Shedding::default();
        for percent in [60, 90, 0, 60] {
            shedding.ring_fill(percent);
        }
        assert_eq!(shedding.stats.raised, 3);
    }
}
