//! Questions, answers, names and records (RFC 1035).
#![expect(clippy::cast_possible_truncation, reason = "what tests make is short")]

use tyto_core::net::{Proto, Side};

use super::SPEC;
use crate::analyzer::conversation_tests::{Bench, hex, whole_or_in_pieces};

/// A header: id, flags, and counts of questions and answers.
fn header(id: u16, flags: u16, questions: u16, answers: u16) -> Vec<u8> {
    let numbers = [id, flags, questions, answers, 0, 0];
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn question(id: u16, asked: &str, qtype: u16) -> Vec<u8> {
    [header(id, 0x0100, 1, 0), name(asked), qtype.to_be_bytes().to_vec(), vec![0, 1]].concat()
}

/// An answer with one record, whose owner is a pointer to the question.
fn answer(id: u16, asked: &str, qtype: u16, body: &[u8]) -> Vec<u8> {
    let qtype = qtype.to_be_bytes().to_vec();
    let len = (body.len() as u16).to_be_bytes().to_vec();
    let record = [vec![0xc0, 12], qtype.clone(), vec![0, 1, 0, 0, 0, 60], len].concat();
    [header(id, 0x8180, 1, 1), name(asked), qtype, vec![0, 1], record, body.to_vec()].concat()
}

fn udp(messages: &[(Side, Vec<u8>)]) -> Vec<String> {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    for (side, bytes) in messages {
        bench.send(*side, bytes);
    }
    bench.end()
}

/// What the only row shows in `column`.
fn only(rows: &[String], column: &str) -> String {
    let [row] = rows else { panic!("one row: {rows:?}") };
    let begin = format!("\"{column}\":");
    let Some(at) = row.find(&begin) else { return "-".to_owned() };
    let rest = &row[at + begin.len()..];
    let end = if rest.starts_with('[') { rest.find(']').map(|end| end + 1) } else { None };
    let end = end.or_else(|| rest.find([',', '}'])).unwrap_or(rest.len());
    rest[..end].to_owned()
}

fn answers_of(qtype: u16, body: &[u8]) -> String {
    let rows = udp(&[
        (Side::Orig, question(7, "www.example.com", qtype)),
        (Side::Resp, answer(7, "www.example.com", qtype, body)),
    ]);
    let rows: Vec<_> = rows.into_iter().filter(|row| row.starts_with("dns ")).collect();
    only(&rows, "answers")
}

#[test]
fn a_question_and_its_answer_are_one_row() {
    let rows = udp(&[
        (Side::Orig, question(7, "WWW.example.com", 1)),
        (Side::Resp, answer(7, "www.example.com", 1, &[192, 0, 2, 1])),
    ]);
    for (column, expected) in [
        ("ts", "1000000.1"),
        ("trans_id", "7"),
        ("rtt", "0.1"),
        ("query", "\"www.example.com\""),
        ("qtype_name", "\"A\""),
        ("rcode_name", "\"NOERROR\""),
        ("RD", "true"),
        ("RA", "true"),
        ("answers", "[\"192.0.2.1\"]"),
        ("TTLs", "[60.0]"),
        ("rejected", "false"),
    ] {
        assert_eq!(only(&rows, column), expected, "{column}");
    }
}

/// What was asked, in the order of the rows, by questions with these ids that nobody answers.
fn asked(ids: &[u16]) -> Vec<usize> {
    let questions = ids.iter().enumerate();
    let questions = questions.map(|(at, id)| (Side::Orig, question(*id, &format!("q{at}"), 1)));
    let rows = udp(&questions.collect::<Vec<_>>());
    let number = |row: String| only(&[row], "query").replace(['"', 'q'], "");
    rows.into_iter().map(|row| number(row).parse().unwrap()).collect()
}

#[test]
fn answers_find_their_questions_oldest_first_and_nobodys_place_is_overtaken() {
    let answer = |id| (Side::Resp, answer(id, "any", 1, &[192, 0, 2, 1]));
    let ask = |id, name| (Side::Orig, question(id, name, 1));
    let rows = udp(&[
        ask(9, "first"),
        ask(7, "a"),
        ask(7, "b"),
        ask(5, "c"),
        answer(7),
        answer(7),
        answer(9),
        answer(5),
    ]);
    let queries: Vec<_> = rows.into_iter().map(|row| only(&[row], "query")).collect();
    assert_eq!(queries, [r#""a""#, r#""b""#, r#""first""#, r#""c""#]);
}

#[test]
fn questions_that_are_too_many_are_written_as_they_are() {
    // One waits apart; the 51 behind it are written by their ids when one more id comes.
    let ids: Vec<u16> = (0..53).rev().collect();
    let expected: Vec<usize> = (1..52).rev().chain([0, 52]).collect();
    assert_eq!(asked(&ids), expected);
    // Those of one id are written in the order in which they came.
    let ids: Vec<u16> = std::iter::once(1).chain([2; 52]).chain([3]).collect();
    let expected: Vec<usize> = (1..52).chain([0, 52, 53]).collect();
    assert_eq!(asked(&ids), expected);
}

#[test]
fn each_type_shows_what_it_says() {
    let txt = [b"\x05hello".as_slice(), b"\x02hi"].concat();
    let soa = [name("ns.example.com"), name("root.example.com"), vec![0; 20]].concat();
    let srv = [vec![0, 1, 0, 2, 0, 80], name("srv.example.com")].concat();
    let naptr = [hex("0001 0002 01 53 03 534950 00"), name("SIP.example.com")].concat();
    let rrsig = [hex("0001 08 02 0000003c 00000001 00000000 1234"), vec![0], vec![9; 8]].concat();
    for (qtype, body, expected) in [
        (28, hex("20010db8000000000000000000000001"), "[\"2001:db8::1\"]"),
        (28, hex("000000000000000000000000c0000201"), "[\"::192.0.2.1\"]"),
        (5, name("other.example.com"), "[\"other.example.com\"]"),
        (15, [vec![0, 10], name("mail.example.com")].concat(), "[\"mail.example.com\"]"),
        (16, txt, "[\"TXT 5 hello TXT 2 hi\"]"),
        (6, soa, "[\"ns.example.com\"]"),
        (33, srv, "[\"srv.example.com\"]"),
        (35, naptr, "[\"NAPTR 1 2 S SIP SIP.example.com\"]"),
        (43, hex("1234 08 02 aabb"), "[\"DS 8 2\"]"),
        (44, hex("01 01 00ff"), "[\"SSHFP: 00ff\"]"),
        (46, rrsig, "[\"RRSIG 1 <Root>\"]"),
        (48, hex("0100 03 08 00"), "[\"DNSKEY 8\"]"),
        (29, hex("00 01 02 03 000000000000000000000000"), "[\"LOC:  1 2 3\"]"),
        (999, vec![1], "[\"<unknown type=999>\"]"),
        (257, hex("00 05 6973737565 61"), "-"),
    ] {
        assert_eq!(answers_of(qtype, &body), expected, "type {qtype}");
    }
}

#[test]
fn a_question_without_an_answer_is_written_at_the_end_and_so_is_an_answer_without_one() {
    let rows = udp(&[
        (Side::Orig, question(1, "a.example", 1)),
        (Side::Orig, question(2, "b.example", 1)),
        (Side::Resp, answer(3, "c.example", 1, &[192, 0, 2, 1])),
    ]);
    let ids: Vec<_> = rows.iter().map(|row| only(std::slice::from_ref(row), "trans_id")).collect();
    assert_eq!(ids, ["1", "2", "3"]);
}

/// RFC 1035 section 4.1.4: pointers point backwards.
#[test]
fn a_forward_pointer_is_odd_and_the_message_ends_there() {
    let message = [header(7, 0x0100, 1, 0), vec![0xc0, 0x0c, 0, 1, 0, 1]].concat();
    let rows = udp(&[(Side::Orig, message)]);
    assert!(rows[0].contains("DNS_label_forward_compress_offset"), "{rows:?}");
    assert_eq!(only(&rows[1..], "query"), "-");
}

#[test]
fn a_chain_of_pointers_ends() {
    let mut message = header(7, 0x0100, 1, 0);
    message.extend([1, b'a', 0]);
    for _ in 0..40 {
        let at = message.len() as u16 - 2;
        message.extend((0xc000 | at).to_be_bytes());
    }
    let mut bytes = header(7, 0x8180, 0, 1);
    bytes.extend_from_slice(&message[12..]);
    assert!(!udp(&[(Side::Resp, bytes)]).is_empty());
}

#[test]
fn an_answer_that_comes_first_swaps_the_roles() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.send(Side::Orig, &answer(7, "a.example", 1, &[192, 0, 2, 1]));
    assert_eq!(bench.conn.core.history.letters(), b"^");
    assert_eq!(bench.service(), "dns");
    assert!(bench.end()[0].contains("\"id.orig_h\":\"192.0.2.80\""));
}

#[test]
fn a_session_is_over_when_nothing_came_for_ten_seconds() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.send(Side::Orig, &question(7, "a.example", 1));
    bench.pause(5);
    assert!(!bench.conn.core.wants_end);
    bench.pause(5);
    assert!(bench.conn.core.wants_end);
}

/// RFC 1001 section 14.1.
#[test]
fn names_of_netbios_are_read_from_their_letters() {
    let name = super::name::netbios_name(b"feeieFCAEOEFFEECEJEPFDCAEOEBENEF");
    assert_eq!(name.as_deref(), Some(b"THE NETBIOS NAM".as_slice()));
    assert_eq!(
        super::name::netbios_name(b"CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").as_deref(),
        Some(b"*".as_slice())
    );
    assert_eq!(super::name::netbios_name(b"CKAA"), None);
    assert_eq!(super::name::netbios_name(&[b'Z'; 32]), None);
}

/// RFC 1035 section 4.2.2.
#[test]
fn messages_in_a_stream_are_found_by_their_length() {
    let framed =
        |message: Vec<u8>| [(message.len() as u16).to_be_bytes().to_vec(), message].concat();
    let questions = [question(1, "a.example", 1), question(2, "b.example", 28)];
    let talk = [
        (Side::Orig, questions.into_iter().flat_map(framed).collect()),
        (Side::Resp, framed(answer(2, "b.example", 28, &[0; 16]))),
        (Side::Resp, framed(answer(1, "a.example", 1, &[192, 0, 2, 1]))),
    ];
    let rows = whole_or_in_pieces(&SPEC, &talk);
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.contains("answers") && row.contains("\"proto\":\"tcp\"")));
}

#[test]
fn messages_that_are_cut_anywhere_do_no_harm() {
    let whole = answer(7, "www.example.com", 16, b"\x05hello");
    for len in 0..whole.len() {
        udp(&[(Side::Resp, whole[..len].to_vec())]);
    }
}

#[test]
fn a_datagram_without_a_byte_is_no_message() {
    let mut bench = Bench::new(&SPEC, Proto::Udp);
    bench.conn.on_stage(|stage, cx| stage.empty(cx));
    let rows = bench.end();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(row.contains(r#""name":"DNS_truncated_len_lt_hdr_len""#), "{row}");
}
