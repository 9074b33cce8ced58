//! What reassembly promises: every piece once, in order, gaps told, bounds kept.

use proptest::prelude::*;

use super::*;

const UNACKED: SenderView =
    SenderView { nothing_acked: true, sent_bytes: 0, acked: 1, beyond_room: u64::MAX >> 1 };
const ACKED: SenderView =
    SenderView { nothing_acked: false, sent_bytes: 0, acked: 1, beyond_room: u64::MAX >> 1 };

fn acked(stream: &mut Reassembler, seq: u64) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let is_news = stream.acked(seq, false, &mut |out: Delivery<'_>| {
        if let Delivery::Gap(gap) = out {
            gaps.push((gap.seq, gap.len));
        }
    });
    assert!(is_news);
    gaps
}

/// `len` bytes, each the low byte of its own number.
fn sent(stream: &mut Reassembler, seq: u64, len: u64, view: SenderView) -> Followed {
    let bytes: Vec<u8> = (seq..seq + len).map(|at| at as u8).collect();
    stream.sent(seq, &bytes, view, &mut |_| {})
}

#[test]
fn bytes_in_order_are_delivered_and_wait_for_their_acknowledgement() {
    let mut stream = Reassembler::default();
    sent(&mut stream, 1, 100, UNACKED);
    sent(&mut stream, 101, 100, UNACKED);
    assert_eq!(stream.delivered(), 201);
    assert!(stream.has_pending());
    assert_eq!(acked(&mut stream, 201), []);
    assert!(!stream.has_pending());
}

#[test]
fn bytes_beyond_a_hole_wait_until_it_is_filled() {
    let mut stream = Reassembler::default();
    sent(&mut stream, 101, 100, UNACKED);
    sent(&mut stream, 301, 100, UNACKED);
    assert_eq!(stream.delivered(), 1);
    sent(&mut stream, 1, 100, UNACKED);
    assert_eq!(stream.delivered(), 201);
    sent(&mut stream, 201, 100, UNACKED);
    assert_eq!(stream.delivered(), 401);
}

#[test]
fn what_is_acknowledged_and_never_came_is_a_gap() {
    let mut stream = Reassembler::default();
    sent(&mut stream, 1, 10, UNACKED);
    sent(&mut stream, 21, 10, UNACKED);
    sent(&mut stream, 41, 10, UNACKED);
    assert_eq!(acked(&mut stream, 61), [(11, 10), (31, 10), (51, 10)]);
    assert_eq!(stream.delivered(), 61);
}

#[test]
fn an_acknowledgement_inside_a_block_delivers_its_rest() {
    let mut stream = Reassembler::default();
    sent(&mut stream, 21, 20, UNACKED);
    assert_eq!(acked(&mut stream, 31), [(1, 20)]);
    assert_eq!(stream.delivered(), 41);
    assert!(stream.has_pending());
}

#[test]
fn the_first_acknowledgement_of_a_partial_connection_is_no_gap() {
    let mut stream = Reassembler::default();
    let mut gaps = 0;
    stream.acked(2, true, &mut |_| gaps += 1);
    assert_eq!(gaps, 0);
}

#[test]
fn without_any_acknowledgement_little_is_kept_beyond_a_hole() {
    let mut stream = Reassembler::default();
    assert_eq!(
        sent(&mut stream, 1000, ABOVE_HOLE_UNACKED_MAX, UNACKED),
        Followed::AboveHoleUnacked
    );
    assert!(stream.is_skipping() && !stream.has_pending());
    let mut stream = Reassembler::default();
    assert_eq!(sent(&mut stream, 1000, ABOVE_HOLE_UNACKED_MAX, ACKED), Followed::Fine);
}

proptest! {
    /// Every byte is delivered once or reported as a gap once, however the pieces come.
    #[test]
    fn delivered_and_missed_bytes_add_up(
        pieces in proptest::collection::vec((1_u64..2000, 1_u64..300), 1..60),
        acks in proptest::collection::vec(1_u64..2500, 1..10),
    ) {
        let mut stream = Reassembler::default();
        let mut missed = 0;
        let mut present = vec![false; 3000];
        let mut highest_ack = 1;
        for (index, (seq, len)) in pieces.iter().enumerate() {
            let alive = stream.delivered();
            sent(&mut stream, *seq, *len, ACKED);
            for at in (*seq).max(alive)..seq + len {
                present[at as usize] = true;
            }
            if let Some(ack) = acks.get(index) {
                highest_ack = highest_ack.max(*ack);
                stream.acked(highest_ack, false, &mut |out: Delivery<'_>| {
                    if let Delivery::Gap(gap) = out {
                        missed += gap.len;
                    }
                });
            }
        }
        let delivered = (1..stream.delivered()).filter(|at| present[*at as usize]).count() as u64;
        prop_assert_eq!(delivered + missed, stream.delivered() - 1);
    }
}

/// What a direction delivered: bytes, and `None` for each that was told as missing.
#[derive(Default)]
struct Told(Vec<Option<u8>>);

impl Told {
    fn take(&mut self, delivery: Delivery<'_>) {
        match delivery {
            Delivery::Bytes(bytes) => self.0.extend(bytes.iter().copied().map(Some)),
            Delivery::Gap(gap) => {
                assert_eq!(gap.seq, self.0.len() as u64 + 1, "a gap stands where it is told");
                self.0.extend((0..gap.len).map(|_| None));
            }
        }
    }
}

/// A segment of a hostile sender: each copy of a byte has a value of its own.
fn segment(number: usize, seq: u64, len: u64) -> Vec<u8> {
    (seq..seq + len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(number as u8)).collect()
}

proptest! {
    /// Whatever the order, the splits, the overlaps and the acknowledgements: each byte is
    /// delivered at its place with the value that came first while it could still count.
    #[test]
    fn what_is_delivered_are_the_bytes_that_came_first(
        steps in proptest::collection::vec((1_u64..600, 0_u64..200, any::<bool>()), 1..80),
    ) {
        let mut stream = Reassembler::default();
        let mut told = Told::default();
        // The model: one place per byte, and how far all is settled.
        let mut model: Vec<Option<u8>> = vec![None; 1000];
        let mut highest_ack = 1;
        for (number, (seq, len, is_ack)) in steps.into_iter().enumerate() {
            if is_ack {
                highest_ack = highest_ack.max(seq);
                if stream.is_news(highest_ack) {
                    stream.acked(highest_ack, false, &mut |out| told.take(out));
                }
                continue;
            }
            let settled = stream.delivered().max(highest_ack);
            let bytes = segment(number, seq, len);
            for (at, byte) in (seq..).zip(&bytes).filter(|(at, _)| *at >= settled) {
                let place = &mut model[at as usize];
                *place = place.or(Some(*byte));
            }
            stream.sent(seq, &bytes, ACKED, &mut |out| told.take(out));
            prop_assert_eq!(told.0.len() as u64 + 1, stream.delivered());
        }
        prop_assert_eq!(&told.0[..], &model[1..stream.delivered() as usize]);
    }

    /// Pieces of one stream in any order, some twice, none missing: the stream comes out.
    #[test]
    fn a_stream_in_any_order_comes_out_whole(
        cuts in proptest::collection::btree_set(1_usize..2000, 0..40),
        order in any::<u64>(),
        repeats in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10),
    ) {
        let whole: Vec<u8> = (0..2000_u32).map(|at| ((at * at) >> 3) as u8).collect();
        let mut ends: Vec<usize> = cuts.into_iter().collect();
        ends.push(whole.len());
        let mut start = 0;
        let mut pieces: Vec<(usize, usize)> =
            ends.into_iter().map(|end| (std::mem::replace(&mut start, end), end)).collect();
        let again: Vec<_> = repeats.iter().map(|index| pieces[index.index(pieces.len())]).collect();
        pieces.extend(again);
        let key = |piece: &(usize, usize)| (piece.0 as u64 ^ order).wrapping_mul(order | 1);
        pieces.sort_by_key(key);
        let mut stream = Reassembler::default();
        let mut told = Told::default();
        for (from, to) in pieces {
            stream.sent(from as u64 + 1, &whole[from..to], ACKED, &mut |out| told.take(out));
        }
        let bytes: Vec<u8> = told.0.into_iter().flatten().collect();
        prop_assert_eq!(bytes, whole);
        prop_assert_eq!(stream.beyond_bytes(), 0);
    }

    /// With little room in the worker, a stream that wants more is given up and holds nothing.
    #[test]
    fn what_waits_beyond_holes_has_a_bound(
        steps in proptest::collection::vec((2_u64..100_000, 1_u64..1500), 1..200),
        room in 0_u64..20_000,
    ) {
        let mut stream = Reassembler::default();
        for (seq, len) in steps {
            let left = room.saturating_sub(stream.beyond_bytes());
            let view = SenderView { beyond_room: left, ..ACKED };
            let followed = stream.sent(seq, &segment(0, seq, len), view, &mut |_| {});
            prop_assert!(stream.beyond_bytes() <= room);
            prop_assert_eq!(followed != Followed::Fine, stream.is_skipping());
            if stream.is_skipping() {
                return Ok(());
            }
        }
    }
}
