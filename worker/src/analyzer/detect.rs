//! Detection by content: the first bytes of a stage are kept and shown to the probes of all
//! protocols; one that matches begins with all that was kept. Limits and order are Zeek's
//! (`dpd_buffer_size`, `dpd_max_packets`, `dpd_match_only_beginning`).

use std::sync::LazyLock;

use tyto_core::net::{Proto, Side};

use super::late::Late;
use super::spare::SpareBuffers;
use super::{SPECS, Spec};

/// Bytes of both sides together after which detection ends; the piece that passes the limit is
/// still looked at.
const BYTES_MAX: usize = 1024;
/// Pieces, gaps included, after which detection ends.
const PIECES_MAX: usize = 100;
/// Pieces, gaps included, that are kept beyond the end of detection.
const LATE_PIECES_MAX: usize = 1024;

/// The first bytes of a stage, by side; empty when nothing came yet. Of datagrams: the latest
/// of each side.
#[derive(Clone, Copy, Debug)]
pub struct First<'a> {
    /// What the originator sent.
    pub orig: &'a [u8],
    /// What the responder sent.
    pub resp: &'a [u8],
    /// Responder's port.
    pub resp_port: u16,
}

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is the protocol, or so likely that the analyzer is to be tried.
    Yes,
    /// More bytes are needed.
    Later,
    /// It is not and will not be. (For datagrams: asked again with the next one in any case.)
    No,
}

/// What stands behind each end of a line; a carriage return is one too.
pub(super) fn line_ends(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    memchr::memchr2_iter(b'\r', b'\n', bytes).filter_map(|at| bytes.get(at + 1..))
}

/// The bytes from the begin of each line on.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::once(bytes).chain(line_ends(bytes))
}

/// The state of detection on one stage.
#[derive(Debug)]
pub(super) struct Detection {
    proto: Proto,
    /// What came before the latest piece, by [`Side::index`]; of a byte stream that goes on, the
    /// latest piece too.
    bytes: [Vec<u8>; 2],
    /// Begin of the latest datagram in `bytes`, by side.
    latest: [usize; 2],
    pieces: Vec<Piece>,
    candidates: SpecSet,
    /// Protocols that one side showed by itself, by the [`Side::index`] of the other, which may
    /// show them once more: Zeek has a signature for each side and begins an analyzer that failed
    /// meanwhile anew.
    again: [SpecSet; 2],
    ended: bool,
    /// The connection may be announced yet: its bytes are kept beyond the end of detection.
    pub(super) may_join: bool,
    /// Bytes that were kept since, with the piece that ended it.
    late_bytes: usize,
}

/// Bit per index of [`SPECS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SpecSet(u128);

/// What came, in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    Bytes { side: Side, start: usize, end: usize },
    Gap { side: Side, missed_bytes: u64 },
}

impl Detection {
    pub(super) fn new(proto: Proto) -> Self {
        static TCP: LazyLock<SpecSet> = LazyLock::new(|| SpecSet::of(|s| s.tcp_probe.is_some()));
        static UDP: LazyLock<SpecSet> = LazyLock::new(|| SpecSet::of(|s| s.udp_probe.is_some()));
        let candidates = if proto == Proto::Udp { *UDP } else { *TCP };
        Self {
            proto,
            bytes: [Vec::new(), Vec::new()],
            latest: [0; 2],
            pieces: Vec::new(),
            candidates,
            again: [SpecSet::default(); 2],
            ended: candidates == SpecSet::default(),
            may_join: false,
            late_bytes: 0,
        }
    }

    /// It is over: what it kept goes to `buffers`.
    pub(super) fn give_back(&mut self, buffers: &mut SpareBuffers) {
        std::mem::take(&mut self.bytes).into_iter().for_each(|kept| buffers.give(kept));
    }

    /// Becomes one that begins, after it was over.
    pub(super) fn begin_anew(&mut self, proto: Proto) {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.clear();
        *self = Self { pieces, ..Self::new(proto) };
    }

    /// Nothing more is to be found.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes of `side` came; gives the protocols that they show. The caller gives those
    /// [`Detection::replay`], and unless it has ended [`Detection::keep`]s the bytes afterwards.
    pub(super) fn deliver(
        &mut self,
        side: Side,
        bytes: &[u8],
        resp_port: u16,
        buffers: &mut SpareBuffers,
    ) -> SpecSet {
        if self.ended {
            return SpecSet::default();
        }
        let is_appended = self.is_appended(side);
        if is_appended && let Some(kept) = self.bytes.get_mut(side.index()) {
            buffers.extend(kept, bytes);
        }
        let found = self.ask(side, bytes, resp_port);
        let kept: usize = self.bytes.iter().map(Vec::len).sum();
        let kept = if is_appended { kept } else { kept + bytes.len() };
        self.ended = kept > BYTES_MAX
            || self.pieces.len() >= PIECES_MAX
            || self.candidates == SpecSet::default() && self.again == [SpecSet::default(); 2];
        found
    }

    /// Keeps the bytes of `side` that were delivered last. What ends detection is never copied.
    pub(super) fn keep(&mut self, side: Side, bytes: &[u8], buffers: &mut SpareBuffers) {
        let is_appended = self.is_appended(side);
        let Some(kept) = self.bytes.get_mut(side.index()) else { return };
        if !is_appended {
            if let Some(latest) = self.latest.get_mut(side.index())
                && self.proto == Proto::Udp
            {
                *latest = kept.len();
            }
            buffers.extend(kept, bytes);
        }
        let end = kept.len();
        self.pieces.push(Piece::Bytes { side, start: end - bytes.len(), end });
    }

    /// Keeps the bytes of `side` that were delivered last beyond the end of detection, for an
    /// announcement that comes late. False when they are not kept, and so nothing more is.
    pub(super) fn keep_on(
        &mut self,
        side: Side,
        bytes: &[u8],
        late: &mut Late,
        buffers: &mut SpareBuffers,
    ) -> bool {
        if !self.may_join || self.pieces.len() >= LATE_PIECES_MAX {
            return false;
        }
        if !late.keep(self.late_bytes, bytes.len()) {
            return false;
        }
        if self.late_bytes == 0 {
            self.keep(side, bytes, buffers);
        } else if let Some(kept) = self.bytes.get_mut(side.index()) {
            let start = kept.len();
            kept.extend_from_slice(bytes);
            self.pieces.push(Piece::Bytes { side, start, end: kept.len() });
        }
        self.late_bytes += bytes.len();
        true
    }

    /// Bytes that [`Detection::keep_on`] kept.
    pub(super) const fn late_bytes(&self) -> usize {
        self.late_bytes
    }

    /// Of a byte stream what is looked at must lie in one piece; of datagrams the latest does.
    fn is_appended(&self, side: Side) -> bool {
        self.proto != Proto::Udp
            && self.bytes.get(side.index()).is_some_and(|kept| !kept.is_empty())
    }

    /// Bytes of `side` will not come. What is looked at closes up over them.
    pub(super) fn gap(&mut self, side: Side, missed_bytes: u64) {
        if self.late_bytes > 0 {
            // Past the limit the next bytes end it.
            if self.pieces.len() < LATE_PIECES_MAX {
                self.pieces.push(Piece::Gap { side, missed_bytes });
            }
            return;
        }
        if self.ended || self.pieces.is_empty() {
            return;
        }
        self.pieces.push(Piece::Gap { side, missed_bytes });
        self.ended = self.pieces.len() > PIECES_MAX;
    }

    /// All that came before the latest piece, in order.
    pub(super) fn replay(&self) -> impl Iterator<Item = (Piece, &[u8])> {
        self.pieces.iter().map(|piece| match *piece {
            Piece::Bytes { side, start, end } => {
                let kept = self.bytes.get(side.index()).and_then(|kept| kept.get(start..end));
                (*piece, kept.unwrap_or_default())
            }
            Piece::Gap { .. } => (*piece, &[][..]),
        })
    }

    fn ask(&mut self, side: Side, bytes: &[u8], resp_port: u16) -> SpecSet {
        let [orig, resp] = &self.bytes;
        let [orig_start, resp_start] = self.latest;
        let mut first = First {
            orig: orig.get(orig_start..).unwrap_or_default(),
            resp: resp.get(resp_start..).unwrap_or_default(),
            resp_port,
        };
        if !self.is_appended(side) {
            match side {
                Side::Orig => first.orig = bytes,
                Side::Resp => first.resp = bytes,
            }
        }
        let is_udp = self.proto == Proto::Udp;
        let ask = |spec: &Spec, first: &First<'_>| {
            let probe = if is_udp { spec.udp_probe } else { spec.tcp_probe };
            probe.map_or(Match::No, |probe| probe(first))
        };
        let (orig, resp) = (First { resp: &[], ..first }, First { orig: &[], ..first });
        let (mut found, mut excluded) = (SpecSet::default(), SpecSet::default());
        let mut again = self.again;
        let (own, alone) = match side {
            Side::Orig => (0, orig),
            Side::Resp => (1, resp),
        };
        if let Some(own) = again.get_mut(own) {
            for (index, spec) in own.iter() {
                match ask(spec, &alone) {
                    Match::Yes => (found.0, own.0) = (found.0 | 1 << index, own.0 & !(1 << index)),
                    Match::No if !is_udp => own.0 &= !(1 << index),
                    Match::No | Match::Later => {}
                }
            }
        }
        for (index, spec) in self.candidates.iter() {
            match ask(spec, &first) {
                Match::Yes => {
                    found.0 |= 1 << index;
                    excluded.0 |= 1 << index;
                    let [orig_again, resp_again] = &mut again;
                    match (ask(spec, &orig), ask(spec, &resp)) {
                        (Match::Yes, Match::Yes) => {}
                        (Match::Yes, _) => resp_again.0 |= 1 << index,
                        (_, Match::Yes) => orig_again.0 |= 1 << index,
                        _ => {}
                    }
                }
                Match::No if !is_udp => excluded.0 |= 1 << index,
                Match::No | Match::Later => {}
            }
        }
        self.candidates.0 &= !excluded.0;
        self.again = again;
        found
    }
}

impl SpecSet {
    fn of(is_in: impl Fn(&Spec) -> bool) -> Self {
        let indices = SPECS.iter().enumerate().filter(|(_, spec)| is_in(spec));
        Self(indices.fold(0, |bits, (index, _)| bits | 1 << index))
    }

    /// The protocols and their indices.
    pub(super) fn iter(self) -> impl Iterator<Item = (u32, &'static Spec)> {
        let next = |left: &u128| Some(left & (left - 1)).filter(|left| *left != 0);
        let first = Some(self.0).filter(|bits| *bits != 0);
        std::iter::successors(first, next)
            .map(|left| left.trailing_zeros())
            .filter_map(|index| Some((index, *SPECS.get(index as usize)?)))
    }
}
