//! One direction of a TCP stream, put in order: what can be delivered, what is missing, what
//! the receiver acknowledged although it never passed here. Zeek's rules decide when bytes count
//! as missed, because `missed_bytes` and the letters `G` and `g` come from here.
//!
//! Sequence numbers are relative: 0 is the SYN, 1 the first byte of data. Bytes in order are
//! handed on as they lie in the packet; those beyond a hole are copied. Of bytes that came
//! twice the first count.

/// Blocks beyond a hole that one direction may hold. Real streams have a handful; beyond the
/// limit this direction is no longer followed ([`Followed::TooMuch`]).
const BLOCKS_MAX: usize = 4096;
/// Bytes beyond a hole with no acknowledgement ever seen: the other direction does not pass
/// here (Zeek: `tcp_max_above_hole_without_any_acks`).
const ABOVE_HOLE_UNACKED_MAX: u64 = 16_384;
/// Bytes sent with no acknowledgement ever seen, after which delivered ones are forgotten
/// (Zeek: `tcp_max_initial_window`).
const INITIAL_WINDOW_MAX: u64 = 16_384;
/// Bytes that wait for an acknowledgement, after which this direction is no longer followed
/// (Zeek: `tcp_excessive_data_without_further_acks`).
const UNACKED_MAX: u64 = 10 << 20;

/// Bytes beyond holes that all streams of a worker may hold together. At the limit the stream
/// that wants more is no longer followed.
pub const WORKER_BEYOND_BYTES_MAX: u64 = 128 << 20;

/// What the streams of a worker have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamTotals {
    /// Bytes beyond holes that wait now.
    pub beyond_bytes: u64,
    /// Acknowledgements on established connections that told something new (Zeek: `ack_events`).
    pub acks: u64,
    /// Those among them that asked for nothing that had passed here (Zeek: `gap_events`).
    pub gaps: u64,
}

impl StreamTotals {
    /// Bytes beyond holes that may come in addition.
    pub const fn beyond_room(&self) -> u64 {
        WORKER_BEYOND_BYTES_MAX.saturating_sub(self.beyond_bytes)
    }
}

/// One direction of a stream.
#[derive(Debug)]
pub struct Reassembler {
    /// All before this is delivered or given up.
    delivered: u64,
    /// All before this is acknowledged or otherwise done with.
    trimmed: u64,
    /// What came beyond holes; made with the first, since most streams have none.
    beyond: Option<Box<Beyond>>,
    /// Bytes from `trimmed` to the end of the last that were delivered, not skipped.
    unacked: u32,
    /// This direction is no longer followed.
    skipping: bool,
    /// The end of the stream was told.
    pub ended: bool,
}

/// What came beyond holes.
#[derive(Debug, Default)]
struct Beyond {
    /// Sorted, disjoint.
    blocks: Vec<Block>,
    /// Their bytes.
    bytes: u64,
}

/// Bytes that wait for others before them.
#[derive(Debug)]
struct Block {
    start: u64,
    end: u64,
    bytes: Box<[u8]>,
}

/// What the direction's state says at the moment bytes are taken.
#[derive(Clone, Copy, Debug)]
pub struct SenderView {
    /// The peer acknowledged nothing beyond the SYN.
    pub nothing_acked: bool,
    /// Bytes that the sender sent by its sequence numbers.
    pub sent_bytes: u64,
    /// What the peer acknowledged.
    pub acked: u64,
    /// Bytes beyond holes that the worker has room for, in addition to those that it keeps.
    pub beyond_room: u64,
}

/// Bytes that will never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where they begin.
    pub seq: u64,
    /// How many they are.
    pub len: u64,
}

/// What comes out of a direction, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// The next bytes.
    Bytes(&'a [u8]),
    /// Bytes that will not come.
    Gap(Gap),
}

/// What taking bytes led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Nothing remarkable.
    Fine,
    /// Much came beyond a hole and nothing was ever acknowledged: no longer followed.
    AboveHoleUnacked,
    /// Much came and is not acknowledged: no longer followed.
    TooMuchUnacked,
    /// No place for what came beyond a hole, here or in the whole worker: no longer followed.
    NoRoom,
}

impl Default for Reassembler {
    fn default() -> Self {
        Self { delivered: 1, trimmed: 1, beyond: None, unacked: 0, skipping: false, ended: false }
    }
}

impl Reassembler {
    /// Takes the `bytes` that stand at `seq`; calls `out` with what can be delivered.
    pub fn sent(
        &mut self,
        seq: u64,
        bytes: &[u8],
        view: SenderView,
        out: &mut impl FnMut(Delivery<'_>),
    ) -> Followed {
        let Some(end) = seq.checked_add(bytes.len() as u64) else { return Followed::Fine };
        if self.skipping {
            return Followed::Fine;
        }
        let had_beyond = self.beyond_bytes();
        let (start, before) = (seq.max(self.trimmed).max(view.acked), self.delivered);
        if start < end {
            let kept = usize::try_from(end - start).unwrap_or(0);
            let bytes = bytes.get(bytes.len() - kept..).unwrap_or_default();
            self.insert(start, bytes, out);
            self.deliver_contiguous(out);
        }
        if self.delivered > before && view.nothing_acked && view.sent_bytes > INITIAL_WINDOW_MAX {
            // Nobody acknowledges, or not here: do not wait for it.
            self.trim_to(self.trimmed.max(self.delivered));
        }
        let undelivered = self.blocks().last().map_or(0, |last| last.end - self.delivered);
        let followed = if view.nothing_acked && undelivered > ABOVE_HOLE_UNACKED_MAX {
            Followed::AboveHoleUnacked
        } else if self.held_bytes() > UNACKED_MAX {
            Followed::TooMuchUnacked
        } else if self.blocks().len() > BLOCKS_MAX
            || self.beyond_bytes() > had_beyond + view.beyond_room
        {
            Followed::NoRoom
        } else {
            return Followed::Fine;
        };
        self.beyond = None;
        self.unacked = 0;
        self.skipping = true;
        followed
    }

    /// Whether it is news that all before `seq` is acknowledged.
    pub const fn is_news(&self, seq: u64) -> bool {
        seq > self.trimmed
    }

    /// All before `seq` was delivered, and nothing waits: to acknowledge it delivers nothing.
    pub fn is_delivered(&self, seq: u64) -> bool {
        seq <= self.delivered && self.blocks().is_empty()
    }

    /// Bytes beyond a hole that wait.
    pub fn beyond_bytes(&self) -> u64 {
        self.beyond.as_ref().map_or(0, |beyond| beyond.bytes)
    }

    /// The peer acknowledged all before `seq`. Calls `out` for what it acknowledged and never
    /// passed here, and for what waited behind; `is_partial` says that the connection's begin
    /// was not seen. True when that was news.
    pub fn acked(
        &mut self,
        seq: u64,
        is_partial: bool,
        out: &mut impl FnMut(Delivery<'_>),
    ) -> bool {
        let is_news = seq > self.trimmed;
        if is_news {
            self.trim(seq, is_partial, out);
        }
        is_news
    }

    /// All before this is delivered or given up.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes wait for an acknowledgement or for others before them.
    pub fn has_pending(&self) -> bool {
        self.unacked > 0 || !self.blocks().is_empty()
    }

    /// This direction is no longer followed.
    pub const fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Delivers bytes that are next, or puts them between those that wait.
    fn insert(&mut self, start: u64, bytes: &[u8], out: &mut impl FnMut(Delivery<'_>)) {
        let end = start + bytes.len() as u64;
        // The usual case: the next bytes in order, nothing beyond.
        if self.blocks().is_empty() && start <= self.delivered {
            if end > self.delivered {
                out(Delivery::Bytes(since(bytes, self.delivered - start)));
                self.delivered_to(end);
            }
            return;
        }
        let beyond = self.beyond.get_or_insert_default();
        let mut at = start.max(self.delivered);
        let mut index = beyond.blocks.partition_point(|block| block.end <= at);
        while at < end {
            let next = beyond.blocks.get(index);
            let hole_end = next.map_or(end, |block| block.start.min(end));
            if at < hole_end {
                let bytes = since(bytes, at - start);
                let len = usize::try_from(hole_end - at).unwrap_or(0);
                let bytes = bytes.get(..len).unwrap_or(bytes);
                beyond.bytes += bytes.len() as u64;
                let block = Block { start: at, end: hole_end, bytes: bytes.into() };
                beyond.blocks.insert(index, block);
                index += 1;
            }
            let Some(block) = beyond.blocks.get(index) else { return };
            at = block.end.max(hole_end);
            index += 1;
        }
    }

    /// Delivers what has no hole before it any more.
    fn deliver_contiguous(&mut self, out: &mut impl FnMut(Delivery<'_>)) {
        let Some(mut beyond) = self.beyond.take() else { return };
        let mut ready = 0;
        for block in &beyond.blocks {
            if block.start > self.delivered {
                break;
            }
            ready += 1;
            beyond.bytes -= block.end - block.start;
            if block.end > self.delivered {
                out(Delivery::Bytes(since(&block.bytes, self.delivered - block.start)));
                self.delivered_to(block.end);
            }
        }
        beyond.blocks.drain(..ready);
        self.beyond = Some(beyond);
    }

    fn blocks(&self) -> &[Block] {
        self.beyond.as_ref().map_or(&[], |beyond| &beyond.blocks)
    }

    /// All before `end` is delivered.
    fn delivered_to(&mut self, end: u64) {
        self.delivered = end;
        let unacked = end.saturating_sub(self.trimmed);
        self.unacked = u32::try_from(unacked).unwrap_or(u32::MAX);
    }

    /// All before `seq`, which is not less than it was, is done with.
    fn trim_to(&mut self, seq: u64) {
        let passed = seq.saturating_sub(self.trimmed);
        self.unacked = self.unacked.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
        self.trimmed = seq;
    }

    fn trim(&mut self, seq: u64, is_partial: bool, out: &mut impl FnMut(Delivery<'_>)) {
        if seq > self.delivered {
            self.give_up(seq, is_partial, out);
        }
        self.deliver_contiguous(out);
        self.trim_to(seq);
    }

    /// What is missing before `seq` will not come.
    #[inline(never)]
    fn give_up(&mut self, seq: u64, is_partial: bool, out: &mut impl FnMut(Delivery<'_>)) {
        // Of a connection whose begin was not seen, the first acknowledgement asks for a byte
        // that only our faked SYN made up.
        if seq <= 2 && is_partial {
            return;
        }
        if !self.skipping {
            while let Some(start) = self.blocks().first().map(|first| first.start) {
                if start >= seq {
                    break;
                }
                if start > self.delivered {
                    out(Delivery::Gap(Gap { seq: self.delivered, len: start - self.delivered }));
                    self.delivered = start;
                }
                self.deliver_contiguous(out);
            }
            if seq > self.delivered {
                out(Delivery::Gap(Gap { seq: self.delivered, len: seq - self.delivered }));
            }
        }
        self.delivered = self.delivered.max(seq);
    }

    /// Bytes that wait, delivered and not acknowledged ones included.
    fn held_bytes(&self) -> u64 {
        self.beyond_bytes() + u64::from(self.unacked)
    }
}

/// `bytes` without the first `count`.
fn since(bytes: &[u8], count: u64) -> &[u8] {
    usize::try_from(count).ok().and_then(|count| bytes.get(count..)).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small offsets")]
mod tests;
