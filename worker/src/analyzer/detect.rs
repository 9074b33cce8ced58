//! Detection by content: the first bytes of a stage are kept and shown to the probes of all
//! protocols; one that matches begins with all that was kept. Limits and order are Zeek's
//! (`dpd_buffer_size`, `dpd_max_packets`, `dpd_match_only_beginning`).

use tyto_core::net::{Proto, Side};

use super::{SPECS, Spec};

/// Bytes of both sides together after which detection ends; the piece that passes the limit is
/// still looked at.
const BYTES_MAX: usize = 1024;
/// Pieces, gaps included, after which detection ends.
const PIECES_MAX: usize = 100;

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

/// The state of detection on one stage.
#[derive(Debug)]
pub(super) struct Detection {
    proto: Proto,
    /// What came, by [`Side::index`].
    bytes: [Vec<u8>; 2],
    /// Begin of the latest datagram in `bytes`, by side.
    latest: [usize; 2],
    pieces: Vec<Piece>,
    /// Bit per index of [`SPECS`]: still possible.
    candidates: u128,
    ended: bool,
}

/// What came, in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    Bytes { side: Side, start: usize, end: usize },
    Gap { side: Side, missed_bytes: u64 },
}

impl Detection {
    pub(super) fn new(proto: Proto) -> Self {
        let has_probe = |spec: &Spec| match proto {
            Proto::Udp => spec.udp_probe.is_some(),
            _ => spec.tcp_probe.is_some(),
        };
        let candidates = SPECS
            .iter()
            .enumerate()
            .filter(|(_, spec)| has_probe(spec))
            .fold(0, |bits, (index, _)| bits | 1 << index);
        Self {
            proto,
            bytes: [Vec::new(), Vec::new()],
            latest: [0; 2],
            pieces: Vec::new(),
            candidates,
            ended: candidates == 0,
        }
    }

    /// Nothing more is to be found.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes of `side` came; calls `found` for each protocol that they show. The caller gives it
    /// [`Detection::replay`] afterwards.
    pub(super) fn deliver(
        &mut self,
        side: Side,
        bytes: &[u8],
        resp_port: u16,
        found: &mut Vec<&'static Spec>,
    ) {
        if self.ended {
            return;
        }
        if let (Some(kept), Some(latest)) =
            (self.bytes.get_mut(side.index()), self.latest.get_mut(side.index()))
        {
            let start = kept.len();
            kept.extend_from_slice(bytes);
            if self.proto == Proto::Udp {
                *latest = start;
            }
            self.pieces.push(Piece::Bytes { side, start, end: kept.len() });
        }
        self.ask(resp_port, found);
        let kept: usize = self.bytes.iter().map(Vec::len).sum();
        self.ended = kept > BYTES_MAX || self.pieces.len() > PIECES_MAX || self.candidates == 0;
    }

    /// Bytes of `side` will not come. What is looked at closes up over them.
    pub(super) fn gap(&mut self, side: Side, missed_bytes: u64) {
        if self.ended || self.pieces.is_empty() {
            return;
        }
        self.pieces.push(Piece::Gap { side, missed_bytes });
        self.ended = self.pieces.len() > PIECES_MAX;
    }

    /// All that came, in order.
    pub(super) fn replay(&self) -> impl Iterator<Item = (Piece, &[u8])> {
        self.pieces.iter().map(|piece| match *piece {
            Piece::Bytes { side, start, end } => {
                let kept = self.bytes.get(side.index()).and_then(|kept| kept.get(start..end));
                (*piece, kept.unwrap_or_default())
            }
            Piece::Gap { .. } => (*piece, &[][..]),
        })
    }

    fn ask(&mut self, resp_port: u16, found: &mut Vec<&'static Spec>) {
        let [orig, resp] = &self.bytes;
        let [orig_start, resp_start] = self.latest;
        let first = First {
            orig: orig.get(orig_start..).unwrap_or_default(),
            resp: resp.get(resp_start..).unwrap_or_default(),
            resp_port,
        };
        let mut left = self.candidates;
        while left != 0 {
            let index = left.trailing_zeros();
            left &= left - 1;
            let Some(&spec) = SPECS.get(index as usize) else { continue };
            let is_udp = self.proto == Proto::Udp;
            let probe = if is_udp { spec.udp_probe } else { spec.tcp_probe };
            match probe.map_or(Match::No, |probe| probe(&first)) {
                Match::Yes => {
                    self.candidates &= !(1 << index);
                    found.push(spec);
                }
                Match::No if !is_udp => self.candidates &= !(1 << index),
                Match::No | Match::Later => {}
            }
        }
    }
}
