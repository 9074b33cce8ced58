//! What the two sides of a flow of datagrams sent, as their own headers state it.

use tyto_core::net::Side;

/// Payload bytes by [`Side::index`]; [`NOTHING`] before the first datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent([i64; 2]);

/// Nothing was sent: less than any sum of lengths can be.
const NOTHING: i64 = i64::MIN;

impl Default for Sent {
    fn default() -> Self {
        Self([NOTHING; 2])
    }
}

impl Sent {
    /// `side` sent `len` bytes by a header, which may be wrong. Below zero it counts as nothing
    /// sent, as in Zeek.
    pub(super) fn add(&mut self, side: Side, len: i64) {
        if let Some(sent) = self.0.get_mut(side.index()) {
            *sent = if *sent >= 0 { sent.saturating_add(len) } else { len };
        }
    }

    /// Whether `side` sent anything.
    pub(super) fn has_sent(self, side: Side) -> bool {
        self.0.get(side.index()).is_some_and(|sent| *sent != NOTHING)
    }

    /// Bytes of `side`; `None` when it sent nothing, or less.
    pub(super) fn bytes(self, side: Side) -> Option<u64> {
        u64::try_from(self.0.get(side.index()).copied()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_below_zero_was_sent_and_does_not_count() {
        let mut sent = Sent::default();
        assert!(!sent.has_sent(Side::Orig) && sent.bytes(Side::Orig).is_none());
        sent.add(Side::Orig, -8);
        assert!(sent.has_sent(Side::Orig) && sent.bytes(Side::Orig).is_none());
        sent.add(Side::Orig, 5);
        sent.add(Side::Orig, 0);
        assert_eq!((sent.bytes(Side::Orig), sent.has_sent(Side::Resp)), (Some(5), false));
    }
}
