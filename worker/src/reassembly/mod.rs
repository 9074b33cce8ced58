//! One direction of a TCP stream, put in order: what can be delivered, what is missing, what
//! the receiver acknowledged although it never passed here. Zeek's rules decide when bytes count
//! as missed, because `missed_bytes` and the letters `G` and `g` come from here.
//!
//! Sequence numbers are relative: 0 is the SYN, 1 the first byte of data. Delivered bytes are
//! not kept; of the others only the ranges are, until analyzers want them.

/// Ranges beyond a hole that one direction may hold. Real streams have a handful; beyond the
/// limit this direction is no longer followed ([`Followed::TooMuch`]).
const RANGES_MAX: usize = 4096;
/// Bytes beyond a hole with no acknowledgement ever seen: the other direction does not pass
/// here (Zeek: `tcp_max_above_hole_without_any_acks`).
const ABOVE_HOLE_UNACKED_MAX: u64 = 16_384;
/// Bytes sent with no acknowledgement ever seen, after which delivered ones are forgotten
/// (Zeek: `tcp_max_initial_window`).
const INITIAL_WINDOW_MAX: u64 = 16_384;
/// Bytes that wait for an acknowledgement, after which this direction is no longer followed
/// (Zeek: `tcp_excessive_data_without_further_acks`).
const UNACKED_MAX: u64 = 10 << 20;

/// One direction of a stream.
#[derive(Debug)]
pub struct Reassembler {
    /// All before this is delivered or given up.
    delivered: u64,
    /// All before this is acknowledged or otherwise done with.
    trimmed: u64,
    /// End of the last bytes that were delivered, not skipped.
    delivered_end: u64,
    /// What came beyond a hole: sorted, disjoint, not touching.
    beyond: Vec<Range>,
    /// This direction is no longer followed.
    skipping: bool,
    /// The end of the stream was told.
    pub ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
}

/// What the direction's state says at the moment bytes are taken.
#[derive(Clone, Copy, Debug)]
pub struct SenderView {
    /// The peer acknowledged nothing beyond the SYN.
    pub nothing_acked: bool,
    /// Bytes that the sender sent by its sequence numbers.
    pub sent_bytes: u64,
}

/// Bytes that will never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where they begin.
    pub seq: u64,
    /// How many they are.
    pub len: u64,
}

/// What taking bytes led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Nothing remarkable.
    Fine,
    /// More came than is kept: the direction is no longer followed.
    TooMuch,
}

impl Default for Reassembler {
    fn default() -> Self {
        Self {
            delivered: 1,
            trimmed: 1,
            delivered_end: 0,
            beyond: Vec::new(),
            skipping: false,
            ended: false,
        }
    }
}

impl Reassembler {
    /// Takes the bytes `seq..seq + len`.
    pub fn sent(&mut self, seq: u64, len: u64, view: SenderView) -> Followed {
        let Some(end) = seq.checked_add(len) else { return Followed::Fine };
        if self.skipping {
            return Followed::Fine;
        }
        let (start, before) = (seq.max(self.trimmed), self.delivered);
        if start < end {
            self.insert(start, end);
            self.deliver_contiguous();
        }
        if self.delivered > before && view.nothing_acked && view.sent_bytes > INITIAL_WINDOW_MAX {
            // Nobody acknowledges, or not here: do not wait for it.
            self.trimmed = self.trimmed.max(self.delivered);
        }
        let undelivered = self.beyond.last().map_or(0, |last| last.end - self.delivered);
        let too_much = (view.nothing_acked && undelivered > ABOVE_HOLE_UNACKED_MAX)
            || self.held_bytes() > UNACKED_MAX
            || self.beyond.len() > RANGES_MAX;
        if too_much {
            self.beyond = Vec::new();
            self.delivered_end = 0;
            self.skipping = true;
            return Followed::TooMuch;
        }
        Followed::Fine
    }

    /// The peer acknowledged all before `seq`. Calls `gap` for what it acknowledged and never
    /// passed here; `is_partial` says that the connection's begin was not seen.
    /// True when that was news.
    pub fn acked(&mut self, seq: u64, is_partial: bool, gap: &mut impl FnMut(Gap)) -> bool {
        let is_news = seq > self.trimmed;
        if is_news {
            self.trim(seq, is_partial, gap);
        }
        is_news
    }

    /// All before this is delivered or given up.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes wait for an acknowledgement or for others before them.
    pub const fn has_pending(&self) -> bool {
        self.delivered_end > self.trimmed || !self.beyond.is_empty()
    }

    /// This direction is no longer followed.
    pub const fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Puts a range in, merged with those it touches.
    fn insert(&mut self, start: u64, end: u64) {
        // The usual case: the next bytes in order, nothing beyond.
        if self.beyond.is_empty() && start <= self.delivered {
            if end > self.delivered {
                self.delivered = end;
                self.delivered_end = end;
            }
            return;
        }
        let start = start.max(self.delivered);
        if start >= end {
            return;
        }
        let from = self.beyond.partition_point(|range| range.end < start);
        let to = self.beyond.partition_point(|range| range.start <= end);
        let mut merged = Range { start, end };
        let touched = self.beyond.get(from..to).unwrap_or_default();
        if let (Some(first), Some(last)) = (touched.first(), touched.last()) {
            merged.start = merged.start.min(first.start);
            merged.end = merged.end.max(last.end);
        }
        self.beyond.splice(from..to, [merged]);
    }

    /// Delivers what has no hole before it any more.
    fn deliver_contiguous(&mut self) {
        let ready = self.beyond.partition_point(|range| range.start <= self.delivered);
        for range in self.beyond.drain(..ready) {
            if range.end > self.delivered {
                self.delivered = range.end;
                self.delivered_end = range.end;
            }
        }
    }

    fn trim(&mut self, seq: u64, is_partial: bool, gap: &mut impl FnMut(Gap)) {
        if seq > self.delivered {
            self.give_up(seq, is_partial, gap);
        }
        self.beyond.retain(|range| range.end > seq);
        self.deliver_contiguous();
        self.trimmed = seq;
    }

    /// What is missing before `seq` will not come.
    fn give_up(&mut self, seq: u64, is_partial: bool, gap: &mut impl FnMut(Gap)) {
        // Of a connection whose begin was not seen, the first acknowledgement asks for a byte
        // that only our faked SYN made up.
        if seq <= 2 && is_partial {
            return;
        }
        if !self.skipping {
            while let Some(first) = self.beyond.first().copied() {
                if first.start >= seq {
                    break;
                }
                gap(Gap { seq: self.delivered, len: first.start - self.delivered });
                self.delivered = first.start;
                self.deliver_contiguous();
            }
            if seq > self.delivered {
                gap(Gap { seq: self.delivered, len: seq - self.delivered });
            }
        }
        self.delivered = self.delivered.max(seq);
    }

    /// Bytes that wait, delivered and not acknowledged ones included.
    fn held_bytes(&self) -> u64 {
        let beyond: u64 = self.beyond.iter().map(|range| range.end - range.start).sum();
        beyond + self.delivered_end.saturating_sub(self.trimmed)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small offsets")]
mod tests;
