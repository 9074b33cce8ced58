//! What is odd about TCP, by Zeek's names (TCPSessionAdapter, TCP_Reassembler).
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[allow(dead_code, reason = "shared with conn_log.rs, which uses all of it")]
mod frames;

use frames::{ACK, FIN, RST, Replay, SYN, handshake, orig, resp};

/// Names of all weirds.
fn weirds(replay: &mut Replay) -> Vec<String> {
    replay.rows("weird", &["name", "source"])
}

#[test]
fn an_orderly_connection_is_not_odd() {
    let mut replay = Replay::new();
    handshake(&mut replay)
        .ip(0.3, &orig(ACK, 1, 1, b"?"))
        .ip(0.4, &resp(ACK, 1, 2, b"!"))
        .ip(0.5, &orig(FIN | ACK, 2, 2, b""))
        .ip(0.6, &resp(FIN | ACK, 2, 3, b""))
        .ip(0.7, &orig(ACK, 3, 3, b""));
    assert!(weirds(&mut replay).is_empty());
}

#[test]
fn data_before_the_handshake_is_done() {
    let mut replay = Replay::new();
    replay.ip(0.0, &orig(SYN, 0, 0, b"")).ip(0.1, &orig(ACK, 1, 0, b"x"));
    assert!(weirds(&mut replay).contains(&"data_before_established TCP".to_owned()));
}

#[test]
fn acknowledgements_of_an_end_that_never_spoke_are_split_routing_once() {
    let mut replay = Replay::new();
    replay
        .ip(0.0, &orig(SYN, 0, 0, b""))
        .ip(0.1, &orig(ACK, 1, 1, b""))
        .ip(0.2, &orig(ACK, 1, 1, b""));
    assert_eq!(weirds(&mut replay), ["possible_split_routing -"]);
}

#[test]
fn a_window_that_is_taken_back() {
    let mut replay = Replay::new();
    let mut smaller = resp(ACK, 1, 1, b"");
    smaller[34..36].copy_from_slice(&100_u16.to_be_bytes());
    // The first number seen counts, as in Zeek, only when it is ahead of 0 by less than 2^31.
    handshake(&mut replay).ip(0.3, &resp(ACK, 1, 1, b"")).ip(0.4, &smaller);
    assert_eq!(weirds(&mut replay), ["window_recision -"]);
}

#[test]
fn a_fin_of_an_end_whose_syn_got_no_answer() {
    let mut replay = Replay::new();
    replay.ip(0.0, &orig(SYN, 0, 0, b"")).ip(0.1, &orig(FIN, 1, 0, b""));
    assert_eq!(weirds(&mut replay), ["inappropriate_FIN TCP"]);
}

#[test]
fn what_comes_after_a_reset() {
    let mut replay = Replay::new();
    handshake(&mut replay).ip(0.3, &orig(RST, 1, 0, b"")).ip(0.4, &orig(FIN, 1, 0, b"x"));
    // Zeek ignores the FIN itself (`FIN_after_reset`).
    assert_eq!(weirds(&mut replay), ["data_after_reset TCP"]);
}

#[test]
fn a_syn_on_a_connection_that_is_open() {
    let mut replay = Replay::new();
    handshake(&mut replay).ip(0.3, &orig(SYN, 7000, 0, b""));
    assert_eq!(weirds(&mut replay), ["active_connection_reuse TCP"]);
    let mut replay = Replay::new();
    replay.ip(0.0, &orig(SYN, 0, 0, b"")).ip(0.1, &orig(SYN, 7000, 0, b""));
    assert_eq!(weirds(&mut replay), ["SYN_seq_jump TCP"]);
}

#[test]
fn much_beyond_a_hole_and_no_acknowledgement() {
    let mut replay = Replay::new();
    replay.ip(0.0, &orig(SYN, 0, 0, b""));
    for segment in 0..13 {
        replay.ip(0.1, &orig(ACK, 1_001 + segment * 1_400, 0, &[7; 1_400]));
    }
    let found = weirds(&mut replay);
    assert!(found.contains(&"above_hole_data_without_any_acks TCP".to_owned()), "{found:?}");
}
