//! Packets in any split, and what they tell.

use super::Packets;
use super::packet::{Broken, Dialog, Told};

fn bodies(packets: &mut Packets, pieces: &[&[u8]]) -> Vec<(u8, Vec<u8>)> {
    let mut bodies = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while let Some(packet) = packets.next(&mut rest) {
            bodies.push((packet.seq, packet.body));
        }
    }
    bodies
}

#[test]
fn packets_come_out_whole_however_their_bytes_come() {
    let wire = b"\x03\x00\x00\x00abc\x00\x00\x00\x01\x02\x00\x00\x02de";
    let whole = bodies(&mut Packets::default(), &[wire]);
    assert_eq!(whole, [(0, b"abc".to_vec()), (1, vec![]), (2, b"de".to_vec())]);
    let single: Vec<&[u8]> = wire.chunks(1).collect();
    assert_eq!(bodies(&mut Packets::default(), &single), whole);
}

#[test]
fn a_login_that_fails_tells_user_and_error() {
    let mut dialog = Dialog::default();
    let mut hello = b"\x0a8.0\0".to_vec();
    hello.extend([0; 4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10 + 13]);
    assert_eq!(dialog.server(0, hello.len(), &hello), Ok(Told::Nothing));
    let mut login = vec![0; 32];
    login.extend(b"root\0\0");
    assert_eq!(dialog.client(&login), Ok(Told::Login(b"root".to_vec())));
    let refused = b"\xff\x15\x04#28000Access denied";
    let told = dialog.server(2, refused.len(), refused);
    assert_eq!(told, Ok(Told::Error(b"Access denied".to_vec())));
}

#[test]
fn what_is_cut_is_broken() {
    assert_eq!(Dialog::default().server(0, 3, b"\x0a8."), Err(Broken));
    assert_eq!(Dialog::default().client(b"\x00"), Err(Broken));
}
