//! Filters by themselves: what is refused and how it is said, what a program may be, and that
//! neither any text, nor any program, nor any packet does harm. That a filter means what
//! tcpdump means is tested in `filter_oracle.rs`.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

mod filter_packets;

use filter_packets::{frames, network_packets, on_link};
use proptest::prelude::*;
use tyto_core::filter::instruction::op;
use tyto_core::filter::{Filter, Instruction, PacketFacts, Program, ProgramError, Target};

const FILE: Target = Target::File { snaplen: 1500 };
const LIVE: Target = Target::Live { snaplen: 1500 };

/// Column, message and hint of a filter that cannot be read.
fn refused(text: &str) -> (usize, String, String) {
    let error = Filter::parse(text).and_then(|filter| filter.compile(1, FILE)).unwrap_err();
    let hint = error.suggestion().unwrap_or_default().to_owned();
    (error.column(), error.to_string(), hint)
}

#[test]
fn a_fault_is_told_with_its_place_and_what_was_expected() {
    for (text, column, found, hint) in [
        ("tcp and prt 80", 9, "found `prt`", "did you mean `port`?"),
        ("hsot 10.0.0.1", 1, "found `hsot`", "did you mean `host`?"),
        ("host", 5, "found the end; expected an IPv4 or IPv6 address", ""),
        ("host 10.0.0.256", 6, "found `10.0.0.256`; expected an IPv4", ""),
        ("host www.example.com", 6, "found `www.example.com`", "daemons get addresses only"),
        ("host 10.1", 6, "found `10.1`", "`net 10.1`"),
        ("host 10.0.0.0/8", 14, "found `/`", "`net 10.0.0.0/"),
        ("net 10.1.2.3/8", 5, "`10.1.2.3` has bits behind its mask", "`net 10.0.0.0/8`"),
        ("net fe80::1/10", 5, "`fe80::1` has bits behind its mask", "`net fe80::/10`"),
        ("net 10.0.0.0/33", 14, "found `33`; expected a number up to 32", ""),
        ("port 65536", 6, "found `65536`; expected a port from 0 to 65535", ""),
        ("port htpps", 6, "found `htpps`", "did you mean `https`?"),
        ("port 6000-6010", 6, "found `6000-6010`", "`portrange 6000-6010`"),
        ("1.2.3.4", 1, "found `1.2.3.4`; expected what it is", "`host 1.2.3.4`"),
        ("tcp and 80", 9, "found `80`; expected what it is", "`port 80`"),
        ("tcp host 10.0.0.1", 5, "found `host` behind `tcp`", "`tcp and host ...`"),
        ("tcp src 80", 9, "found `host` behind `tcp`", "type `port`"),
        (
            "ip port 80",
            4,
            "found `port` behind `ip`; expected it behind tcp, udp or sctp",
            "`ip and port",
        ),
        ("gateway 10.0.0.1", 1, "`gateway` needs", "`ether host ADDRESS"),
        ("ip broadcast", 1, "`ip broadcast` needs the interface's netmask", "`dst host"),
        ("ip protochain 6", 4, "`protochain` is not supported", "loop"),
        ("geneve", 1, "`geneve` is not supported", "`udp port 6081`"),
        ("tcp or (udp", 12, "found the end; expected `and`, `or` or `)`", ""),
        ("tcp)", 4, "found `)`; expected `and`, `or` or the end", ""),
        ("tcp udp", 5, "found `udp`; expected `and`, `or` or the end", ""),
        ("ip[0", 5, "found the end; expected `]`", ""),
        ("ip[0:3] = 1", 6, "found `3`; expected a size of 1, 2 or 4 bytes", ""),
        ("ip[0] = ", 9, "found the end; expected a number", ""),
        ("ip[0]", 6, "found the end; expected a comparison", ""),
        ("ip[0] / 0 = 1", 9, "found a division by zero", ""),
        ("len << 32 = 1", 8, "found a shift by 32 bits; expected at most 31", ""),
        ("tcp[tcpflag] = 1", 5, "found `tcpflag`", "did you mean `tcpflags`?"),
        ("len > 10-1", 7, "found `10-1`", "`10 - 1`"),
        ("vlan 4096", 6, "found `4096`; expected a number up to 4095", ""),
        ("ether proto 0xe0", 13, "`ether proto 0xe0` is not supported", "LLC"),
        ("host 1.2.3.4 \u{a7} tcp", 14, "found `\u{a7}`", ""),
        ("ether host 10.0.0.1", 12, "found `10.0.0.1`; expected an Ethernet address", ""),
        ("host 02:00:00:00:00:01", 6, "expected an IPv4 or IPv6 address", "`ether host 02:"),
        ("inbound", 1, "a file of Ethernet does not tell what was inbound", "`src host"),
        ("tcp and udp and ip6 and arp", 1, "no packet of Ethernet can match", ""),
    ] {
        let (at, message, tip) = refused(text);
        assert_eq!(at, column, "`{text}`: {message}");
        assert!(message.contains(found), "`{text}`: {message}");
        assert!(tip.contains(hint) && tip.is_empty() == hint.is_empty(), "`{text}`: {tip}");
    }
}

#[test]
fn what_a_link_does_not_have_is_refused_there() {
    for (text, link_type) in [
        ("vlan", 101),
        ("ether host 02:00:00:00:00:01", 113),
        ("broadcast", 9),
        ("multicast", 101),
        ("mpls", 276),
        ("inbound", 101),
        ("ifindex 2", 113),
        ("arp", 101),
    ] {
        let filter = Filter::parse(text).unwrap();
        assert!(filter.compile(link_type, FILE).is_err(), "`{text}` on {link_type}");
    }
    let error = Filter::parse("tcp").unwrap().compile(127, FILE).unwrap_err();
    assert!(error.to_string().contains("found link type 127; expected Ethernet"), "{error}");
}

#[test]
fn an_empty_filter_matches_everything_up_to_the_snaplen() {
    for text in ["", "  "] {
        let program = Filter::parse(text).unwrap().compile(127, LIVE).unwrap();
        assert_eq!(program.run(&[], 0), 1500);
    }
}

#[test]
fn protocol_names_need_no_backslash() {
    let compiled = |text| Filter::parse(text).unwrap().compile(1, FILE).unwrap();
    assert_eq!(compiled("ip proto tcp"), compiled("ip proto \\tcp"));
    assert_eq!(compiled("ether proto ip6"), compiled("ether proto \\ip6"));
}

/// Captures of a host with the other byte order, or of another BSD.
#[test]
fn loopback_families_are_known_in_both_byte_orders() {
    let program = Filter::parse("ip6 or ip").unwrap().compile(0, FILE).unwrap();
    for family in [2_u32, 10, 24, 28, 30] {
        for bytes in [family.to_le_bytes(), family.to_be_bytes()] {
            assert_ne!(program.run(&bytes, 4), 0, "{bytes:?}");
        }
    }
    assert_eq!(program.run(&[0, 0, 0, 7], 4), 0);
}

/// Each test once: what is known already is not asked again.
#[test]
fn programs_have_no_needless_tests() {
    for (text, instructions_max) in [
        ("tcp", 12),
        ("port 80", 24),
        ("host 10.1.2.3", 14),
        ("host 10.1.2.3 and tcp port 80", 18),
        ("tcp or udp port 53", 25),
        ("tcp and tcp and tcp", 12),
        ("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", 11),
    ] {
        let program = Filter::parse(text).unwrap().compile(1, FILE).unwrap();
        let found = program.instructions().len();
        assert!(found <= instructions_max, "`{text}`: {found} {program:#?}");
    }
}

#[test]
fn a_filter_larger_than_the_kernel_takes_is_refused_and_a_large_one_is_not() {
    let hosts = |count: u32| {
        let host = |n: u32| format!("host 10.0.{}.{}", n / 256, n % 256);
        (0..count).map(host).collect::<Vec<String>>().join(" or ")
    };
    // Jumps farther than eight bits go by relays.
    let filter = Filter::parse(&hosts(300)).unwrap();
    let program = filter.compile(1, FILE).unwrap();
    assert!(program.instructions().len() > 600);
    let of = |source: [u8; 4]| {
        filter_packets::ethernet(
            filter_packets::MAC_A,
            filter_packets::MAC_B,
            filter_packets::IP,
            &filter_packets::ipv4(6, source, [1, 1, 1, 1], 0, &[0; 20]),
        )
    };
    for (source, matches) in
        [([10, 0, 0, 0], true), ([10, 0, 1, 43], true), ([10, 0, 1, 44], false)]
    {
        assert_eq!(program.run(&of(source), 60) != 0, matches, "{source:?}");
    }
    let error = Filter::parse(&hosts(500)).unwrap_err();
    assert!(error.to_string().contains("at most 8192 characters"), "{error}");
    let nested = format!("{}tcp{}", "(".repeat(65), ")".repeat(65));
    let error = Filter::parse(&nested).unwrap_err();
    assert!(error.to_string().contains("nested too deep"), "{error}");
    let mixed = (0..500).map(|n| format!("2::{n:x}")).collect::<Vec<String>>().join(" or ");
    let mixed = format!("host {mixed}");
    let error = Filter::parse(&mixed).and_then(|filter| filter.compile(1, FILE)).unwrap_err();
    assert!(error.to_string().contains("the kernel takes 4096"), "{error}");
    assert!(error.suggestion().is_some());
}

#[test]
fn a_program_that_the_kernel_would_refuse_is_refused() {
    let new = |instructions: &[Instruction]| Program::new(instructions.to_vec()).unwrap_err();
    let done = Instruction::new(op::RET_K, 1);
    assert_eq!(new(&[]), ProgramError::Length { found: 0 });
    assert_eq!(new(&vec![done; 4097]), ProgramError::Length { found: 4097 });
    assert_eq!(new(&[Instruction::new(op::JA, 1), done]), ProgramError::Jump { at: 0 });
    assert_eq!(new(&[Instruction::new(op::JA, u32::MAX), done]), ProgramError::Jump { at: 0 });
    assert_eq!(new(&[Instruction::jump(op::JEQ, 0, 0, 1), done]), ProgramError::Jump { at: 0 });
    assert_eq!(new(&[Instruction::new(op::LD_IMM, 1)]), ProgramError::NoReturn);
    let operand = ProgramError::Operand { at: 0, k: 0 };
    assert_eq!(new(&[Instruction::new(op::DIV, 0), done]), operand);
    let operand = ProgramError::Operand { at: 0, k: 16 };
    assert_eq!(new(&[Instruction::new(op::ST, 16), done]), operand);
    let unknown = ProgramError::Unknown { at: 0, code: 0xff, k: 0 };
    assert_eq!(new(&[Instruction::new(0xff, 0), done]), unknown);
}

fn any_instruction() -> impl Strategy<Value = Instruction> {
    let codes = vec![
        0x20_u16, 0x28, 0x30, 0x40, 0x48, 0x50, 0x00, 0x60, 0x80, 0x01, 0x61, 0x81, 0xb1, 0x02,
        0x03, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c,
        0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45,
        0x4d, 0x06, 0x16, 0x07, 0x87,
    ];
    let code = prop_oneof![9 => proptest::sample::select(codes), 1 => any::<u16>()];
    let k = prop_oneof![0..20_u32, any::<u32>(), Just(0xffff_f000 + 44), Just(u32::MAX)];
    (code, 0..6_u8, 0..6_u8, k).prop_map(|(code, jt, jf, k)| Instruction { code, jt, jf, k })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// A program that passes the check ends, whatever the packet.
    #[test]
    fn any_program_over_any_packet_ends(
        mut instructions in proptest::collection::vec(any_instruction(), 1..40),
        packet in proptest::collection::vec(any::<u8>(), 0..64),
        wire_len in any::<u32>(),
        vlan_tag in any::<Option<u16>>(),
    ) {
        instructions.push(Instruction::new(op::RET_A, 0));
        if let Ok(program) = Program::new(instructions) {
            let facts = PacketFacts { vlan_tag, packet_type: 4, protocol: 8, interface: 1 };
            program.run_with(&packet, wire_len, &facts);
        }
    }

    /// Any text is a filter or is told why not; what is a filter runs over anything.
    #[test]
    fn any_text_is_a_filter_or_refused(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "host", "net", "port", "portrange", "src", "dst", "and", "or", "not", "(", ")", "[", "]",
            ":", "10.0.0.1", "10/8", "fe80::1", "80", "1-2", "tcp", "ip6", "vlan", "mpls", "pppoes",
            "len", "=", "<", "&", "-", "<<", "02:00:00:00:00:01", "ether", "proto", "\\tcp", "!",
            "tcp-syn", "0x", "\u{e9}", "/", "mask", "less", "inbound",
        ]), 0..14),
        packet in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let text = words.join(" ");
        let Ok(filter) = Filter::parse(&text) else { return Ok(()) };
        for link_type in [0, 1, 9, 101, 113, 276] {
            for target in [FILE, LIVE] {
                if let Ok(program) = filter.compile(link_type, target) {
                    program.run(&packet, 80);
                }
            }
        }
    }

    #[test]
    fn any_characters_are_a_filter_or_refused(text in "\\PC{0,60}") {
        if let Err(error) = Filter::parse(&text) {
            prop_assert!(error.column() <= text.chars().count() + 1);
        }
    }
}

/// All kinds of link say the same of the same network packet.
#[test]
fn a_filter_of_network_packets_means_the_same_on_every_link() {
    for text in ["tcp port 80", "host 10.1.2.3", "icmp6", "ip multicast", "ip[9] = 17"] {
        let filter = Filter::parse(text).unwrap();
        let on_ethernet = filter.compile(1, FILE).unwrap();
        for (kind, packet) in network_packets().iter().filter(|(kind, _)| *kind != 0x0806) {
            let frame = filter_packets::ethernet([0; 6], [0; 6], *kind, packet);
            let expected = on_ethernet.run(&frame, 99) != 0 && *kind != 0x8035;
            for link_type in [0, 9, 101, 108, 113, 276] {
                if *kind == 0x8035 {
                    continue;
                }
                let program = filter.compile(link_type, FILE).unwrap();
                let found = program.run(&on_link(link_type, *kind, packet), 99) != 0;
                assert_eq!(found, expected, "`{text}` on {link_type}: {packet:02x?}");
            }
        }
    }
    assert!(!frames().is_empty());
}
