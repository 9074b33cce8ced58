//! NTLM messages by [MS-NLMP] section 4.2.

use super::parser::{Client, Message, Server, message};

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn place(len: usize, offset: usize) -> Vec<u8> {
    let len = u16::try_from(len).unwrap().to_le_bytes();
    [&len[..], &len, &u32::try_from(offset).unwrap().to_le_bytes()].concat()
}

fn pair(id: u16, value: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &u16::try_from(value.len()).unwrap().to_le_bytes(), value].concat()
}

fn challenge(pairs: &[u8], flags: u32) -> Vec<u8> {
    let head = [&b"NTLMSSP\0"[..], &2_u32.to_le_bytes()].concat();
    [
        head,
        place(0, 48),
        flags.to_le_bytes().to_vec(),
        vec![0; 16],
        place(pairs.len(), 48),
        pairs.to_vec(),
    ]
    .concat()
}

fn authenticate() -> Vec<u8> {
    let (user, domain) = (wide("User"), wide("DOM"));
    let head = [&b"NTLMSSP\0"[..], &3_u32.to_le_bytes()].concat();
    let places = [
        place(0, 64),
        place(0, 64),
        place(domain.len(), 64),
        place(user.len(), 64 + domain.len()),
        place(0, 64),
        place(0, 64),
    ]
    .concat();
    [head, places, 1_u32.to_le_bytes().to_vec(), domain, user].concat()
}

#[test]
fn a_challenge_names_the_server() {
    let pairs = [pair(1, &wide("SRV")), pair(7, &[0; 8]), pair(3, &wide("srv.lan")), pair(0, &[])];
    let expected = Server {
        nb_computer_name: Some(b"SRV".to_vec()),
        dns_computer_name: Some(b"srv.lan".to_vec()),
        ..Server::default()
    };
    let got = message(&challenge(&pairs.concat(), 0x0080_0000));
    assert_eq!(got, Ok(Message::Challenge(expected)));
}

#[test]
fn names_without_their_flag_are_not_read() {
    let got = message(&challenge(&pair(1, &wide("SRV")), 0));
    assert_eq!(got, Ok(Message::Challenge(Server::default())));
}

#[test]
fn a_list_of_names_without_its_end_is_told() {
    let Ok(Message::Challenge(server)) = message(&challenge(&pair(1, &wide("S")), 0x0080_0000))
    else {
        panic!("no challenge");
    };
    assert!(server.lacks_end);
}

#[test]
fn the_client_names_itself() {
    let expected =
        Client { domain: Some(b"DOM".to_vec()), user: Some(b"User".to_vec()), workstation: None };
    assert_eq!(message(&authenticate()), Ok(Message::Authenticate(expected)));
}

#[test]
fn names_outside_of_the_message_are_a_fault_and_cuts_never_a_panic() {
    let whole = authenticate();
    for len in 0..whole.len() {
        assert!(message(&whole[..len]).is_err(), "{len} bytes");
    }
    let mut wrong = whole;
    wrong[32] = 1;
    assert!(message(&wrong).is_err());
}
