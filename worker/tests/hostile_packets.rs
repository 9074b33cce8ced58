//! Whatever comes from the network: no panic, and the counts add up.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[allow(dead_code, reason = "shared with conn_log.rs, which uses all of it")]
mod frames;

use frames::{ACK, FIN, ORIG, RESP, RST, Replay, SYN, ethernet, ipv4, ipv6, orig, resp, udp};
use proptest::prelude::*;
use tyto_capture::LinkType;

const LINK_TYPES: [u32; 12] = [0, 1, 9, 10, 12, 50, 101, 105, 113, 127, 239, 276];

/// Packets that reach each part of the decoder, to be damaged.
fn seeds() -> Vec<Vec<u8>> {
    let inner = udp((ORIG, 7), (RESP, 53), &[0, 1, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    let teredo = ipv6([0x20; 16], [0x21; 16], 59, b"");
    let over_udp = |port: u16, header: &[u8], payload: &[u8]| {
        udp((ORIG, 40000), (RESP, port), &[header, payload].concat())
    };
    let mut fragment = ipv4(ORIG, RESP, 17, &[1; 64]);
    fragment[6] = 0x20;
    let chain =
        [&[43, 0, 1, 4, 0, 0, 0, 0][..], &[44, 2, 0, 1], &[0; 20], &[17, 0, 0, 1, 0, 0, 0, 9]];
    vec![
        orig(SYN, 0, 0, b""),
        resp(SYN | ACK, 0, 1, b""),
        orig(ACK, 1, 1, &[1; 50]),
        resp(ACK | FIN, 1, 60, &[2; 50]),
        orig(RST, 9, 9, b"x"),
        inner.clone(),
        fragment,
        ipv6([0x20; 16], [0x21; 16], 0, &chain.concat()),
        ipv4(ORIG, RESP, 47, &[&[0, 0, 8, 0][..], &inner].concat()),
        ipv4(ORIG, RESP, 4, &inner),
        over_udp(4789, &[8, 0, 0, 0, 0, 0, 1, 0], &ethernet(0x0800, &inner)),
        over_udp(6081, &[0, 0, 8, 0, 0, 0, 1, 0], &inner),
        over_udp(2152, &[0x30, 255, 0, 40, 0, 0, 0, 1], &inner),
        over_udp(3544, &[0, 0, 1, 2, 3, 4, 5, 6], &teredo),
        over_udp(5072, &[0x41, 0x52, 0x11, 41, 0, 0, 0, 0], &[&[0; 36][..], &teredo].concat()),
        ipv4(ORIG, RESP, 1, &[8, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3]),
    ]
}

/// What is done to a packet: (which, (position, value) …, bytes kept, link type, pause in ms).
type Damage = (usize, Vec<(usize, u8)>, usize, usize, u32);

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = proptest::collection::vec((0_usize..120, any::<u8>()), 0..5);
    (0_usize..64, bytes, 0_usize..400, 0_usize..64, prop_oneof![Just(1_u32), 0_u32..400_000])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_packets_never_panic(damages in proptest::collection::vec(damage(), 1..60)) {
        for mut replay in [Replay::new(), Replay::strict()] {
            let seeds = seeds();
            let mut at = 0.0;
            for (which, bytes, kept, link, pause_ms) in &damages {
                let mut frame = seeds[which % seeds.len()].clone();
                let link = LINK_TYPES[link % LINK_TYPES.len()];
                if link == 1 {
                    frame = ethernet(0x0800, &frame);
                }
                for (at, value) in bytes {
                    let len = frame.len();
                    frame[at % len] = *value;
                }
                let wire_len = frame.len() as u32;
                frame.truncate(*kept);
                at += f64::from(*pause_ms) / 1000.0;
                replay.frame(at, &frame, wire_len, LinkType(link));
            }
            let open_before = replay.finish();
            prop_assert_eq!(open_before.flows_open, 0);
            prop_assert_eq!(replay.rows("conn", &["uid"]).len() as u64, open_before.flows);
        }
    }

    #[test]
    fn random_bytes_never_panic(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..40),
        link in 0_usize..12,
    ) {
        let mut replay = Replay::new();
        for (index, frame) in frames.iter().enumerate() {
            let wire_len = frame.len() as u32;
            replay.frame(index as f64, frame, wire_len, LinkType(LINK_TYPES[link]));
        }
        replay.finish();
    }
}
