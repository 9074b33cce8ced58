//! Messages, options and transactions (RFC 2131, RFC 2132).

use tyto_core::net::{Proto, Side};

use super::join::TRANSACTIONS_MAX;
use super::{SPEC, parser, probe};
use crate::analyzer::conversation_tests::{Bench, hex};
use crate::analyzer::{First, Match};

/// A message of transaction 7 with `your` address and options, which begin with its kind.
fn message(your: [u8; 4], options: &str) -> Vec<u8> {
    let mut bytes = hex("01 01 06 00 00000007 0000 0000 00000000");
    bytes.extend(your);
    bytes.extend([0; 8]);
    bytes.extend(hex("020000000001 00000000000000000000"));
    bytes.extend([0; 192]);
    bytes.extend(hex("63825363"));
    bytes.extend(hex(options));
    bytes.push(255);
    bytes
}

#[test]
fn all_messages_of_a_transaction_are_one_row() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.send(
        Side::Orig,
        &message([0; 4], "35 01 01  0c 03 616263  3d 07 01 020000000002  32 04 0a000009"),
    );
    bench.send(Side::Resp, &message([10, 0, 0, 9], "35 01 02  33 04 00000e10  0f 05 6c61620000"));
    bench.send(Side::Orig, &message([0; 4], "35 01 03  51 07 000000 616263 64"));
    bench.send(Side::Resp, &message([10, 0, 0, 9], "35 01 05  38 02 6f6b"));
    assert_eq!(bench.service(), "dhcp");
    let rows = bench.end();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    for part in [
        r#""client_addr":"10.0.0.1","server_addr":"192.0.2.80","mac":"02:00:00:00:00:02""#,
        r#""host_name":"abc","client_fqdn":"abcd","domain":"lab","requested_addr":"10.0.0.9""#,
        r#""assigned_addr":"10.0.0.9","lease_time":3600.0,"server_message":"ok""#,
        r#""msg_types":["DISCOVER","OFFER","REQUEST","ACK"],"duration":0.3"#,
    ] {
        assert!(row.contains(part), "{part} in {row}");
    }
}

#[test]
fn a_row_is_written_when_it_has_fifty_messages() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    for _ in 0..60 {
        bench.send(Side::Orig, &message([0; 4], "35 01 01"));
    }
    let rows = bench.end();
    let counts: Vec<_> = rows.iter().map(|row| row.matches("DISCOVER").count()).collect();
    assert_eq!(counts, [50, 10]);
}

#[test]
fn options_have_an_end() {
    let mut whole = message([0; 4], "35 01 01");
    assert!(parser::parse(&whole).is_ok());
    whole.pop();
    assert_eq!(parser::parse(&whole).err().as_deref(), Some("out_of_bound: Option:code: 1 > 0"));
    for len in 0..whole.len() {
        assert!(parser::parse(&whole[..len]).is_err(), "{len}");
    }
}

#[test]
fn a_message_is_known_by_its_cookie_at_any_port() {
    let whole = message([0; 4], "35 01 01");
    let ask = |orig| probe(&First { orig, resp: b"", resp_port: 9 });
    assert_eq!(ask(&whole), Match::Yes);
    assert_eq!(ask(&whole[..238]), Match::No);
    let mut other = whole.clone();
    other[236] = 0;
    assert_eq!(ask(&other), Match::No);
}

#[test]
fn hardware_addresses_have_six_or_eight_bytes() {
    assert_eq!(parser::mac(&hex("0102030405060000000000000000000000")), "01:02:03:04:05:06");
    assert_eq!(parser::mac(&hex("0102030405060708")), "01:02:03:04:05:06:07:08");
    assert_eq!(parser::mac(&hex("01020304")), "");
}

#[test]
fn one_transaction_too_many_is_a_weird_and_writes_the_oldest() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    let mut discover = message([0; 4], "35 01 01");
    for transaction in 0..=u32::try_from(TRANSACTIONS_MAX).unwrap() {
        discover[4..8].copy_from_slice(&transaction.to_be_bytes());
        // Within less time than a transaction may take.
        bench.conn.deliver(Side::Orig, &discover);
    }
    let rows = bench.end();
    let weirds: Vec<_> = rows.iter().filter(|row| row.starts_with("weird ")).collect();
    assert_eq!(weirds.len(), 1, "{weirds:?}");
    let told = r#""name":"DHCP_max_tracked_transactions_exceeded","addl":"100000""#;
    assert!(weirds[0].contains(told) && weirds[0].contains(r#""source":"DHCP""#), "{weirds:?}");
    assert_eq!(rows.len(), TRANSACTIONS_MAX + 2);
}
