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
