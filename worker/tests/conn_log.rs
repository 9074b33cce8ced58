//! What conn.log and known_hosts.log say of packets made by hand: one test per rule. The rules
//! are Zeek's (`base/protocols/conn`, its TCP state machine, its timeouts).
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod frames;

use frames::{
    ACK, FIN, ORIG, RESP, RST, Replay, SYN, ethernet, handshake, ipv4, ipv6, orig, resp, tcp, udp,
};
use tyto_capture::LinkType;

const COUNTS: [&str; 7] =
    ["conn_state", "history", "orig_bytes", "resp_bytes", "orig_pkts", "resp_pkts", "missed_bytes"];

#[test]
fn a_whole_connection_is_sf_with_its_bytes() {
    let mut replay = Replay::new();
    handshake(&mut replay)
        .ip(0.3, &orig(ACK, 1, 1, &[7; 100]))
        .ip(0.4, &resp(ACK, 1, 101, &[8; 200]))
        .ip(0.5, &orig(FIN | ACK, 101, 201, b""))
        .ip(0.6, &resp(FIN | ACK, 201, 102, b""))
        .ip(0.7, &orig(ACK, 102, 202, b""));
    assert_eq!(replay.rows("conn", &COUNTS), ["SF ShADdFf 100 200 5 3 0"]);
}

#[test]
fn how_a_connection_ends_names_its_state() {
    let syn = || orig(SYN, 0, 0, b"");
    let cases: [(&str, Vec<Vec<u8>>); 8] = [
        ("S0 S", vec![syn()]),
        ("REJ Sr", vec![syn(), resp(RST | ACK, 0, 1, b"")]),
        ("RSTOS0 SR", vec![syn(), orig(RST, 1, 0, b"")]),
        ("SH SF", vec![syn(), orig(FIN, 1, 0, b"")]),
        ("S1 Sh", vec![syn(), resp(SYN | ACK, 0, 1, b"")]),
        ("RSTO ShR", vec![syn(), resp(SYN | ACK, 0, 1, b""), orig(RST, 1, 0, b"")]),
        ("RSTR Shr", vec![syn(), resp(SYN | ACK, 0, 1, b""), resp(RST, 1, 0, b"")]),
        ("S2 ShF", vec![syn(), resp(SYN | ACK, 0, 1, b""), orig(FIN | ACK, 1, 1, b"")]),
    ];
    for (expected, packets) in cases {
        let mut replay = Replay::new();
        for (index, packet) in packets.iter().enumerate() {
            replay.ip(index as f64 / 10.0, packet);
        }
        assert_eq!(replay.states(), [expected]);
    }
}

#[test]
fn the_middle_of_a_connection_is_other() {
    let mut replay = Replay::new();
    replay.ip(0.0, &orig(ACK, 1, 1, &[1; 10])).ip(0.1, &resp(ACK, 1, 11, &[2; 10]));
    assert_eq!(replay.states(), ["OTH Dd"]);
}

#[test]
fn bytes_that_were_acknowledged_and_never_seen_are_a_gap() {
    let mut replay = Replay::new();
    handshake(&mut replay)
        .ip(0.3, &orig(ACK, 1, 1, &[7; 100]))
        .ip(0.4, &orig(ACK, 301, 1, &[7; 100]))
        .ip(0.5, &resp(ACK, 1, 401, b""));
    assert_eq!(replay.rows("conn", &COUNTS), ["S1 ShADaG 400 0 4 2 200"]);
}

#[test]
fn a_cut_payload_is_a_gap_too() {
    let mut replay = Replay::new();
    let whole = orig(ACK, 1, 1, &[7; 100]);
    handshake(&mut replay)
        .frame(0.3, &whole[..60], whole.len() as u32, LinkType::RAW)
        .ip(0.4, &resp(ACK, 1, 101, b""));
    assert_eq!(replay.rows("conn", &COUNTS), ["S1 ShADaG 100 0 3 2 100"]);
}

#[test]
fn a_repeated_segment_is_a_retransmission() {
    let mut replay = Replay::new();
    let data = orig(ACK, 1, 1, &[7; 100]);
    handshake(&mut replay).ip(0.3, &data).ip(0.4, &data);
    assert_eq!(replay.states(), ["S1 ShADT"]);
}

#[test]
fn a_zero_window_has_its_letter() {
    let mut replay = Replay::new();
    let mut closed = resp(ACK, 1, 1, b"");
    closed[20 + 14..20 + 16].fill(0);
    handshake(&mut replay).ip(0.3, &closed);
    assert_eq!(replay.states(), ["S1 ShAaw"]);
}

#[test]
fn a_connection_that_begins_with_a_syn_ack_is_flipped_when_it_goes_on() {
    let mut replay = Replay::new();
    replay.ip(0.0, &resp(SYN | ACK, 0, 1, b"")).ip(0.1, &orig(ACK, 1, 1, b""));
    assert_eq!(replay.rows("conn", &["id.orig_p", "history"]), ["40000 ^hA"]);
}

#[test]
fn a_likely_server_port_makes_its_host_the_responder() {
    let mut replay = Replay::new();
    let (web, host) = ((RESP, 443), (ORIG, 40000));
    replay.ip(0.0, &tcp(web, host, ACK, 1, 1, &[1; 10]));
    replay.ip(1.0, &udp((RESP, 53), (ORIG, 40000), &[0; 12]));
    assert_eq!(
        replay.rows("conn", &["id.resp_p", "history", "resp_pkts"]),
        ["443 ^d 1", "53 ^d 1"]
    );
}

#[test]
fn a_syn_with_another_number_begins_another_connection() {
    let mut replay = Replay::new();
    replay.ip(0.0, &orig(SYN, 0, 0, b"")).ip(1.0, &orig(SYN, 5000, 0, b""));
    assert_eq!(replay.states(), ["S0 S", "S0 S"]);
    let mut replay = Replay::new();
    replay.ip(0.0, &orig(SYN, 0, 0, b"")).ip(1.0, &orig(SYN, 0, 0, b""));
    assert_eq!(replay.states(), ["S0 S"]);
}

/// Zeek: `tcp_max_above_hole_without_any_acks`, 16,384 bytes.
#[test]
fn a_stream_that_is_no_longer_followed_is_counted() {
    let mut replay = Replay::new();
    replay.ip(0.0, &orig(SYN, 0, 0, b""));
    for segment in 0..13 {
        // Byte 1 never comes, and nobody acknowledges anything.
        replay.ip(0.1, &orig(ACK, 1_001 + segment * 1_400, 0, &[7; 1_400]));
    }
    assert_eq!(replay.finish().streams_given_up, 1);
}

#[test]
fn an_unanswered_syn_is_given_up_after_five_seconds() {
    let mut replay = Replay::new();
    replay.ip(0.0, &orig(SYN, 0, 0, b"")).ip(5.1, &orig(SYN, 0, 0, b""));
    assert_eq!(replay.states(), ["S0 S", "S0 S"]);
}

#[test]
fn an_established_connection_is_over_after_five_idle_minutes() {
    for (pause, expected) in [(299.0, 1), (301.0, 2)] {
        let mut replay = Replay::new();
        handshake(&mut replay).ip(0.2 + pause, &orig(ACK, 1, 1, &[1; 10]));
        assert_eq!(replay.states().len(), expected, "{pause}");
    }
}

#[test]
fn an_interactive_connection_may_be_idle_for_an_hour() {
    for (port, expected) in [(22, 1), (2022, 2)] {
        let (host, server) = ((ORIG, 40000), (RESP, port));
        let mut replay = Replay::new();
        replay
            .ip(0.0, &tcp(host, server, SYN, 100, 0, b""))
            .ip(0.1, &tcp(server, host, SYN | ACK, 500, 101, b""))
            .ip(0.2, &tcp(host, server, ACK, 101, 501, b""))
            .ip(3000.0, &tcp(host, server, ACK, 101, 501, &[1; 10]));
        assert_eq!(replay.states().len(), expected, "{port}");
    }
}

#[test]
fn a_closed_connection_is_over_five_seconds_later() {
    let mut replay = Replay::new();
    handshake(&mut replay)
        .ip(0.3, &orig(FIN | ACK, 1, 1, b""))
        .ip(0.4, &resp(FIN | ACK, 1, 2, b""))
        .ip(5.3, &orig(ACK, 2, 2, b""))
        .ip(5.5, &orig(ACK, 2, 2, b""));
    assert_eq!(replay.rows("conn", &["conn_state", "orig_pkts"]), ["SF 4", "OTH 1"]);
}

#[test]
fn udp_is_over_after_an_idle_minute_and_dns_after_ten_seconds() {
    for (port, pause, expected) in [(9999, 59.0, 1), (9999, 61.0, 2), (53, 11.0, 2), (53, 5.0, 1)] {
        let packet = udp((ORIG, 40000), (RESP, port), &[0; 12]);
        let mut replay = Replay::new();
        replay.ip(0.0, &packet).ip(pause, &packet);
        assert_eq!(replay.states().len(), expected, "port {port}, {pause} s");
    }
}

#[test]
fn udp_counts_both_sides() {
    let mut replay = Replay::new();
    replay
        .ip(0.0, &udp((ORIG, 40000), (RESP, 9999), &[0; 30]))
        .ip(0.5, &udp((RESP, 9999), (ORIG, 40000), &[0; 50]));
    assert_eq!(replay.rows("conn", &COUNTS), ["SF Dd 30 50 1 1 0"]);
}

/// RFC 1035 section 4.1.1: QR says which message answers.
#[test]
fn a_dns_answer_first_swaps_the_roles() {
    let mut replay = Replay::new();
    let answer = [0, 1, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0];
    replay.ip(0.0, &udp((RESP, 5353), (ORIG, 53), &answer));
    assert_eq!(replay.rows("conn", &["id.orig_p", "history"]), ["53 D^"]);
}

/// RFC 5905 section 7.3: mode 4 is a server's.
#[test]
fn an_ntp_server_is_the_responder() {
    let mut replay = Replay::new();
    let mut answer = [0; 48];
    answer[0] = 0x24;
    replay.ip(0.0, &udp((RESP, 123), (ORIG, 123), &answer));
    assert_eq!(replay.rows("conn", &["id.orig_h", "history"]), ["10.0.0.1 D^"]);
}

#[test]
fn an_echo_and_its_reply_are_one_flow_and_an_error_is_another() {
    let mut replay = Replay::new();
    let icmp = |kind: u8, code: u8| [&[kind, code, 0, 0, 0, 0, 0, 0][..], &[5; 40]].concat();
    replay
        .ip(0.0, &ipv4(ORIG, RESP, 1, &icmp(8, 0)))
        .ip(0.1, &ipv4(RESP, ORIG, 1, &icmp(0, 0)))
        .ip(0.2, &ipv4(RESP, ORIG, 1, &icmp(3, 1)));
    let columns = ["id.orig_p", "id.resp_p", "proto", "orig_bytes", "resp_bytes", "conn_state"];
    assert_eq!(replay.rows("conn", &columns), ["8 0 icmp 40 40 OTH", "3 1 icmp - - OTH"]);
}

#[test]
fn other_protocols_are_flows_without_ports() {
    let mut replay = Replay::new();
    replay.ip(0.0, &ipv4(ORIG, RESP, 2, &[0; 8]));
    let columns = ["id.orig_p", "proto", "ip_proto", "orig_ip_bytes"];
    assert_eq!(replay.rows("conn", &columns), ["0 unknown_transport 2 28"]);
}

#[test]
fn broken_checksums_count_by_their_letter_only() {
    let mut replay = Replay::strict();
    // The IP header's checksum is right, the segment's is not.
    let with_header_checksum = |mut packet: Vec<u8>| {
        let sum: u32 = packet[..20]
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        let folded = !(((sum >> 16) + (sum & 0xffff)) as u16);
        packet[10..12].copy_from_slice(&folded.to_be_bytes());
        packet
    };
    replay
        .ip(0.0, &with_header_checksum(orig(SYN, 0, 0, b"")))
        .ip(1.0, &with_header_checksum(udp((ORIG, 1), (RESP, 2), &[0; 4])))
        .ip(2.0, &orig(SYN, 9, 0, b""));
    let columns = ["proto", "history", "orig_pkts"];
    assert_eq!(replay.rows("conn", &columns), ["tcp C 0", "udp D 1"]);
    assert_eq!(replay.finish().bad_checksums, 2);
}

#[test]
fn fragments_are_one_packet() {
    let whole = udp((ORIG, 40000), (RESP, 9999), &[7; 72]);
    let fragment = |offset: usize, len: usize, more: bool| {
        let mut packet = ipv4(ORIG, RESP, 17, &whole[20 + offset..20 + offset + len]);
        let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet
    };
    let mut replay = Replay::new();
    replay.ip(0.0, &fragment(40, 40, false)).ip(0.1, &fragment(0, 40, true));
    assert_eq!(replay.rows("conn", &["orig_pkts", "orig_ip_bytes"]), ["1 100"]);
}

#[test]
fn vlan_tags_do_not_part_a_connection() {
    let mut replay = Replay::new();
    let plain = ethernet(0x0800, &orig(SYN, 0, 0, b""));
    let tagged = ethernet(0x8100, &[&[0, 5, 8, 0][..], &resp(SYN | ACK, 0, 1, b"")].concat());
    replay.frame(0.0, &plain, plain.len() as u32, LinkType::ETHERNET);
    replay.frame(0.1, &tagged, tagged.len() as u32, LinkType::ETHERNET);
    assert_eq!(replay.states(), ["S1 Sh"]);
}

#[test]
fn what_a_tunnel_carries_names_the_tunnel_as_its_parent() {
    let inner = udp(([10, 9, 9, 1], 1000), ([10, 9, 9, 2], 2000), &[0; 8]);
    let frame = ethernet(0x0800, &inner);
    let vxlan = udp((ORIG, 5000), (RESP, 4789), &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame].concat());
    let mut replay = Replay::new();
    replay.ip(0.0, &vxlan);
    let rows = replay.rows("conn", &["uid", "id.resp_p", "tunnel_parents"]);
    let outer = rows.iter().find(|row| row.contains(" 4789 ")).unwrap();
    let inner_row = rows.iter().find(|row| row.contains(" 2000 ")).unwrap();
    assert!(inner_row.ends_with(outer.split(' ').next().unwrap()), "{rows:?}");

    let gre = ipv4(ORIG, RESP, 47, &[&[0, 0, 8, 0][..], &inner].concat());
    let ip_in_ip = ipv4(ORIG, RESP, 4, &inner);
    for packet in [gre, ip_in_ip] {
        let mut replay = Replay::new();
        replay.ip(0.0, &packet);
        let rows = replay.rows("conn", &["id.resp_p", "tunnel_parents"]);
        assert!(rows.len() == 1 && rows[0].starts_with("2000 C"), "{rows:?}");
    }
}

#[test]
fn tunnels_within_tunnels_end_at_the_limit() {
    let mut packet = udp((ORIG, 1), (RESP, 2), b"x");
    for _ in 0..10 {
        packet = ipv4(ORIG, RESP, 4, &packet);
    }
    let mut replay = Replay::new();
    replay.ip(0.0, &packet);
    assert!(replay.rows("conn", &["uid"]).is_empty());
}

/// Teredo is easily seen where there is none: what is cut is odd only once both sides spoke it.
#[test]
fn teredo_that_is_cut_is_a_weird_once_it_was_confirmed() {
    let odd = |from_both: bool| {
        let packet = ipv6([0x20; 16], [0x21; 16], 59, b"");
        let (a, b) = ((ORIG, 40_000), (RESP, 3544));
        let mut replay = Replay::new();
        replay.ip(0.0, &udp(a, b, &packet));
        if from_both {
            replay.ip(0.1, &udp(b, a, &packet));
        }
        replay.ip(0.2, &udp(a, b, &packet[..39])).ip(0.3, &udp(a, b, &[0]));
        assert_eq!(replay.rows("analyzer", &["failure_reason"]), ["Bad Teredo encapsulation"]);
        replay.rows("weird", &["name", "source", "id.resp_p"])
    };
    assert_eq!(odd(true), ["truncated_IPv6_in_Teredo TEREDO 3544"]);
    assert!(odd(false).is_empty());
}

#[test]
fn ipv6_connections_are_logged_too() {
    let (a, b) = ([0x20; 16], [0x21; 16]);
    let datagram = [&[0, 1, 0, 2, 0, 12, 0, 0][..], &[5; 4]].concat();
    let mut replay = Replay::new();
    replay.ip(0.0, &ipv6(a, b, 17, &datagram));
    let columns = ["id.orig_h", "local_orig", "orig_ip_bytes"];
    assert_eq!(replay.rows("conn", &columns), ["2020:2020:2020:2020:2020:2020:2020:2020 F 52"]);
}

#[test]
fn local_hosts_of_established_connections_are_known_once_a_day() {
    let mut replay = Replay::new();
    for day in [0.0, 0.5, 1.5] {
        let at = day * 86_400.0;
        replay.ip(at, &orig(SYN, 0, 0, b"")).ip(at + 0.1, &resp(SYN | ACK, 0, 1, b""));
        replay.ip(at + 400.0, &udp((ORIG, 1), (RESP, 2), b"time passes"));
    }
    let mut hosts = replay.rows("known_hosts", &["host"]);
    hosts.sort();
    assert_eq!(hosts, ["10.0.0.1", "10.0.0.1", "192.0.2.80", "192.0.2.80"]);
}

#[test]
fn the_same_packets_give_the_same_rows_with_the_same_uids() {
    let rows = || {
        let mut replay = Replay::new();
        handshake(&mut replay).ip(9.0, &udp((ORIG, 1), (RESP, 2), b"x"));
        replay.rows("conn", &["uid", "conn_state"])
    };
    assert_eq!(rows(), rows());
}

/// With a ring nearly full nothing is analysed, and all connections are logged.
#[test]
fn what_is_left_out_when_packets_come_too_fast_is_never_a_connection() {
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let services = |fill: u8| {
        let mut replay = Replay::new();
        replay.ring_fill(fill);
        handshake(&mut replay).ip(0.3, &orig(ACK, 1, 1, request));
        replay.ip(0.4, &resp(ACK, 1, 1 + request.len() as u32, b"HTTP/1.1 200 OK\r\n\r\n"));
        let services = replay.rows("conn", &["service", "orig_bytes"]);
        (services, replay.finish().shed)
    };
    let (rows, shed) = services(0);
    assert_eq!((rows, shed.unanalysed), (vec!["http 27".to_owned()], 0));
    let (rows, shed) = services(60);
    assert_eq!((rows, shed.undetected), (vec!["- 27".to_owned()], 1));
    let (rows, shed) = services(90);
    assert_eq!((rows, shed.unanalysed), (vec!["- 27".to_owned()], 1));
}
