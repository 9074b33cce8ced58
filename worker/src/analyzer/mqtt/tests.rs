//! Rows of MQTT conversations, whole and in pieces.

use super::parser::BadLength;
use super::*;

/// CONNECT of client `c` with a last will, PUBLISH of `hi` to `t` (MQTT 3.1.1 sections 3.1, 3.3).
const STREAM: &[u8] =
    b"\x10\x16\x00\x04MQTT\x04\x06\x00\x3c\x00\x01c\x00\x01w\x00\x04gone\x30\x05\x00\x01thi";

fn packets(stream: &[u8], step: usize) -> Result<Vec<(u8, Vec<u8>)>, BadLength> {
    let mut packets = Packets::default();
    let mut told = Vec::new();
    for piece in stream.chunks(step) {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = packets.take(rest, |packet| told.push((packet.header, packet.body.to_vec())))?;
        }
    }
    Ok(told)
}

#[test]
fn packets_come_whole_out_of_pieces_of_any_size() {
    let whole = packets(STREAM, STREAM.len()).unwrap();
    assert_eq!(whole.len(), 2);
    for step in 1..STREAM.len() {
        assert_eq!(packets(STREAM, step).unwrap(), whole);
    }
}

#[test]
fn a_connect_packet_names_client_and_last_will() {
    let (_, body) = &packets(STREAM, STREAM.len()).unwrap()[0];
    let connect = Connect::parse(body).unwrap();
    assert_eq!(
        (connect.protocol, connect.version, connect.client_id),
        (&b"MQTT"[..], 4, &b"c"[..])
    );
    assert_eq!(connect.will, Some((&b"w"[..], &b"gone"[..])));
    assert_eq!(Connect::parse(&body[..12]), None);
}

/// MQTT 3.1.1 section 2.2.3.
#[test]
fn a_length_has_four_bytes_at_most() {
    assert_eq!(packets(b"\x30\xff\xff\xff\xff\x01", 100), Err(BadLength));
    assert_eq!(packets(b"\x30\xff\xff\xff\x7f", 100), Ok(vec![]));
}
