//! WebSocket frames and handshakes.

use super::*;

/// RFC 6455 section 5.7: `Hello`, masked.
const HELLO: [u8; 11] = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];

#[test]
fn headers_of_all_three_lengths_are_read() {
    let short = FrameHeader::parse(&HELLO).unwrap();
    assert_eq!((short.is_final, short.opcode, short.payload_bytes), (true, TEXT, 5));
    assert_eq!(short.mask, Some([0x37, 0xfa, 0x21, 0x3d]));
    let middle = FrameHeader::parse(&[2, 126, 1, 0]).unwrap();
    assert_eq!((middle.is_final, middle.opcode, middle.payload_bytes), (false, BINARY, 256));
    let long = FrameHeader::parse(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]).unwrap();
    assert_eq!(long.payload_bytes, 65_536);
    assert_eq!(FrameHeader::parse(&[0x82, 127, 0]), None);
}

/// RFC 6455 section 5.3.
#[test]
fn payload_is_unmasked_in_pieces_of_any_size() {
    for step in 1..=5 {
        let mut frames = Frames::default();
        let mut clear = Vec::new();
        for piece in HELLO[6..].chunks(step) {
            frames.unmasked([0x37, 0xfa, 0x21, 0x3d], piece, |out| clear.extend_from_slice(out));
        }
        assert_eq!(clear, b"Hello");
    }
}
