//! Filters against tcpdump: for the same expression, its program (`tcpdump -ddd`) and ours say
//! the same of every packet, whole or cut anywhere. Says SKIPPED where there is no tcpdump.
//!
//! A load past the end of a packet means "no match", so a packet cut short can make a
//! difference between tcpdump's program and the same one without its optimiser (-O). Where
//! these two differ there is nothing to agree with.
//!
//! Longer than 500 lines: half of it are the tables of expressions.
#![allow(clippy::unwrap_used)] // a test ends at the first thing that does not work

mod filter_packets;

use std::process::Command;

use filter_packets::{frames, network_packets, on_link};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tyto_core::filter::{Filter, Instruction, PacketFacts, Program, Target};

const SNAPLEN: u32 = 262_144;
/// Link types by number and as tcpdump names them.
const ETHERNET: (u32, &str) = (1, "EN10MB");
const OTHER_LINKS: [(u32, &str); 6] =
    [(101, "RAW"), (0, "NULL"), (108, "LOOP"), (9, "PPP"), (113, "LINUX_SLL"), (276, "LINUX_SLL2")];

/// For all kinds of link that carry IP.
const EXPRESSIONS: &[&str] = &[
    "host 10.1.2.3",
    "src host 10.1.2.3",
    "dst host 10.1.2.3",
    "src or dst 10.1.2.3",
    "src and dst host 10.1.2.3",
    "dst and src host 10.1.2.3",
    "ip host 10.1.2.3",
    "host 10.1.2.3 or 192.168.7.9",
    "host 10.1.2.3 and 192.168.7.9",
    "host 10.1.2.3 and not 192.168.7.9",
    "not host 10.1.2.3 and port 53",
    "not (host 10.1.2.3 and port 53)",
    "! host 10.1.2.3 || port 80",
    "host (10.1.2.3 or 10.1.2.4) and dst port (53 or 443)",
    "net 10.1.2.0/24",
    "net 10",
    "net 10.1",
    "src net 192.168",
    "dst net 192.168.7.9",
    "net 10.0.0.0 mask 255.0.0.0",
    "src net 10.1 mask 255.255.0.0",
    "ip net 10.1.0.0/16 and ip6 net 2001:db8::/32",
    "ip6 host 2001:db8::1",
    "host 2001:db8::1",
    "src host fe80::200:ff:fe00:9",
    "dst net fe80::/10",
    "net 2001:db8::/32 or ff00::/8",
    "ip6 net ::/0",
    "net 0.0.0.0/0",
    "port 80",
    "src port 80",
    "dst port 80",
    "src and dst port 80",
    "tcp port 80",
    "tcp src port 80 or 443",
    "udp port 53",
    "udp dst port domain",
    "sctp port 80",
    "port 53 or 80 or 443",
    "tcp port http or https or ssh",
    "portrange 6000-6010",
    "src portrange 22-80",
    "tcp dst portrange 1-1023",
    "portrange 80-22",
    "portrange 80",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "igmp",
    "igrp",
    "pim",
    "vrrp",
    "carp",
    "ah",
    "esp",
    "ip",
    "ip6",
    "ip or ip6",
    "tcp or udp",
    "tcp or udp port 53",
    "ip and not tcp and not udp",
    "ip proto 47",
    "ip proto \\tcp",
    "ip proto \\icmp or \\udp",
    "ip6 proto 58",
    "ip6 proto \\udp",
    "proto 17",
    "proto \\tcp",
    "less 60",
    "greater 60",
    "len > 60",
    "len - 4 > 60 and len < 100",
    "len = 78",
    "length != 78",
    "ip[0] & 0xf != 5",
    "ip[0] & 0xf > 5",
    "ip[6:2] & 0x1fff = 0",
    "ip[6:2] & 0x2000 != 0",
    "ip[2:2] > 60",
    "ip[12:4] = 0x0a010203",
    "ip[8] = 64 and ip[9] = 6",
    "ip[9] != 6",
    "ip6[6] = 58",
    "ip6[4:2] > 20",
    "tcp[tcpflags] & tcp-syn != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[tcpflags] = tcp-syn|tcp-ack",
    "tcp[13] & 3 != 0 and not src and dst net 10.1",
    "tcp[0:2] = 80 or tcp[2:2] = 80",
    "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x616e7377",
    "icmp[icmptype] = icmp-echo",
    "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
    "icmp[icmptype] = icmp-unreach and icmp[icmpcode] = 1",
    "icmp6[icmp6type] = icmp6-neighborsolicit",
    "icmp6[0] = 128",
    "udp[4:2] > 20",
    "udp[8:4] = 0x71756573",
    "ip[ip[9]] = 0",
    "ip[len - len] = 0x45",
    "ip[0] + ip[1] * 2 - 3 > 60",
    "ip[8] / 2 = 32 and ip[8] % 7 = 1",
    "ip[2:2] / ip[1] = 3",
    "(ip[9] ^ 6) = 0",
    "ip[9] << 4 = 0x60 or ip[9] >> 1 = 8",
    "-ip[0] + 70 = 1",
    "1 = 1 and tcp",
    "5 < ip[9]",
    "ip[9] = ip[8] - 58",
    "tcp[0:2] < tcp[2:2]",
    "ip multicast",
    "ip6 multicast",
    "ip multicast or ip6 multicast",
    "not ip",
    "not tcp",
    "not port 80",
    "not (tcp or udp or icmp)",
    "tcp and (port 80 or port 443) and not net 10.1.2.0/24",
    "(host 10.1.2.3 or host 192.168.7.9) and (port 53 or port 80) or icmp",
    "host 10.1.2.3 and tcp port 80 or host 192.168.7.9 and udp port 53",
    "port 1 or 2 or 3 or 4 or 5 or 6 or 7 or 8 or 9 or 10 or 11 or 12 or 13 or 14 or 15 or 53",
    "not port 1 and not port 2 and not port 3 and not port 4 and not port 5 and not port 53",
    "tcp and tcp and tcp or udp and not udp",
    "not not tcp",
    "link[0] = 0x45",
];

/// For Ethernet alone.
const ETHERNET_EXPRESSIONS: &[&str] = &[
    "arp",
    "rarp",
    "arp host 10.1.2.3",
    "arp src host 10.1.2.3 or rarp dst host 10.1.2.3",
    "arp net 10",
    "ether host 02:00:00:00:00:0a",
    "ether src 2:0:0:0:0:b",
    "ether dst 02:00:00:00:00:0b",
    "ether src or dst 02:00:00:00:00:0b",
    "ether src and dst 02-00-00-00-00-0b",
    "not ether host 02:00:00:00:00:0a",
    "ether broadcast",
    "broadcast",
    "ether multicast",
    "multicast and not broadcast",
    "ether proto 0x88cc",
    "ether proto \\arp",
    "ether proto \\ip or \\ip6",
    "ether proto 0x42",
    "ether[0] & 1 = 0 and ip[16] >= 224",
    "ether[12:2] = 0x86dd",
    "ether[0:4] = 0x02000000",
    "arp[6:2] = 1",
    "vlan",
    "vlan 5",
    "vlan 0",
    "vlan and tcp",
    "vlan 100 and port 80",
    "vlan 5 and host 10.1.2.3",
    "vlan 7 and vlan 5 and udp",
    "vlan and vlan",
    "vlan and vlan and ip6",
    "not vlan",
    "not vlan and tcp",
    "tcp or vlan and tcp",
    "tcp or (vlan and (tcp or udp))",
    "port 53 or (vlan and port 53) or (vlan and port 53)",
    "vlan and ether src 02:00:00:00:00:0b",
    "vlan and ip[9] = 17",
    "vlan and ether[16:2] = 0x0800",
    "mpls",
    "mpls 1024",
    "mpls 1024 and mpls 1283 and host 10.1.2.3",
    "mpls and tcp port 80",
    "mpls and mpls and ip6",
    "mpls and not ip",
    "pppoed",
    "pppoes",
    "pppoes 5 and ip6",
    "pppoes 6",
    "pppoes and tcp port 80",
    "pppoes and host 10.1.2.3",
    "pppoes and ip[9] = 17",
    "vlan and pppoes",
];

/// For Linux's cooked captures.
const COOKED_EXPRESSIONS: &[&str] = &["arp", "inbound", "outbound", "outbound and tcp port 80"];

/// On a live interface.
const LIVE_EXPRESSIONS: &[&str] = &[
    "inbound",
    "outbound and tcp",
    "ifindex 3",
    "tcp port 80",
    "vlan",
    "vlan 5",
    "vlan 5 and tcp",
    "vlan and vlan",
    "vlan and vlan 5 and udp",
    "not vlan",
    "tcp or vlan and udp port 53",
    "port 80 or (vlan and port 80)",
    "vlan and ip[9] = 6",
    "vlan 7 or vlan 5",
];

/// Runs tcpdump for its program; what it says when it refuses.
fn tcpdump(arguments: &[&str], expression: &str) -> Result<Program, String> {
    let mut command = Command::new("tcpdump");
    let output = command.args(arguments).arg("-ddd").arg("--").arg(expression).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let instructions = text.lines().skip(1).map(|line| {
        let numbers: Vec<u32> = line.split(' ').map(|n| n.parse().unwrap()).collect();
        let byte = |at: usize| u8::try_from(numbers[at]).unwrap();
        let code = u16::try_from(numbers[0]).unwrap();
        Instruction { code, jt: byte(1), jf: byte(2), k: numbers[3] }
    });
    Ok(Program::new(instructions.collect()).unwrap())
}

fn is_missing(test: &str) -> bool {
    let is_missing = Command::new("tcpdump").arg("--version").output().is_err();
    if is_missing {
        eprintln!("SKIPPED {test}: needs `tcpdump`; `scripts/setup lab` installs it");
    }
    is_missing
}

/// tcpdump's program, optimised and not.
struct Oracle {
    optimised: Program,
    plain: Program,
}

impl Oracle {
    fn new(arguments: &[&str], expression: &str) -> Result<Self, String> {
        let optimised = tcpdump(arguments, expression)?;
        let plain = tcpdump(&[arguments, &["-O"]].concat(), expression)?;
        Ok(Self { optimised, plain })
    }

    /// Whether both of tcpdump's take a packet.
    fn matches(&self, packet: &[u8]) -> bool {
        let wire_len = u32::try_from(packet.len()).unwrap();
        [&self.optimised, &self.plain].iter().all(|program| program.run(packet, wire_len) != 0)
    }

    /// Where ours says something else than both of tcpdump's.
    fn disagrees(&self, ours: &Program, packet: &[u8], facts: &PacketFacts) -> Option<String> {
        let wire_len = u32::try_from(packet.len()).unwrap();
        let said = [ours, &self.optimised, &self.plain]
            .map(|program| program.run_with(packet, wire_len, facts) != 0);
        let [ours, optimised, plain] = said;
        (optimised == plain && ours != plain)
            .then(|| format!("ours {ours}, tcpdump {plain}: {facts:?} {packet:02x?}"))
    }
}

/// Each packet whole, and cut at every length.
fn whole_and_cut(packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let cut = |packet: &Vec<u8>| -> Vec<Vec<u8>> {
        (0..packet.len().min(84)).map(|len| packet[..len].to_vec()).collect()
    };
    let cuts: Vec<Vec<u8>> = packets.iter().step_by(5).flat_map(cut).collect();
    [packets, cuts].concat()
}

fn compare(link: (u32, &str), expressions: &[&str], packets: &[Vec<u8>]) -> usize {
    let mut matches = 0;
    for expression in expressions {
        let target = Target::File { snaplen: SNAPLEN };
        let ours = Filter::parse(expression).and_then(|filter| filter.compile(link.0, target));
        let oracle = Oracle::new(&["-y", link.1], expression);
        let (ours, oracle) = match (ours, oracle) {
            (Ok(ours), Ok(oracle)) => (ours, oracle),
            (Err(_), Err(_)) => continue,
            // We need not find out that nothing can match.
            (Ok(ours), Err(error)) if error.contains("rejects all packets") => {
                let matches = |packet: &Vec<u8>| ours.run(packet, 1500) != 0;
                assert!(!packets.iter().any(matches), "`{expression}` on {}", link.1);
                continue;
            }
            (ours, oracle) => {
                panic!("`{expression}` on {}: {:?}, tcpdump {:?}", link.1, ours.err(), oracle.err())
            }
        };
        for packet in packets {
            let facts = PacketFacts::default();
            if let Some(difference) = oracle.disagrees(&ours, packet, &facts) {
                panic!("`{expression}` on {}: {difference}\n{ours:#?}", link.1);
            }
            matches += usize::from(ours.run(packet, u32::try_from(packet.len()).unwrap()) != 0);
        }
    }
    matches
}

/// Frames of the golden capture, a part of them.
fn golden_frames() -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/lab-traffic/in.pcap");
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[24..];
    let mut frames = Vec::new();
    while rest.len() > 16 {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames.into_iter().step_by(11).collect()
}

#[test]
fn on_ethernet_each_packet_has_tcpdumps_verdict() {
    if is_missing("on_ethernet_each_packet_has_tcpdumps_verdict") {
        return;
    }
    let packets = [whole_and_cut(frames()), golden_frames()].concat();
    let matches = compare(ETHERNET, &[EXPRESSIONS, ETHERNET_EXPRESSIONS].concat(), &packets);
    assert!(matches > 10_000, "only {matches} matches: the packets test nothing");
}

#[test]
fn on_other_links_each_packet_has_tcpdumps_verdict() {
    if is_missing("on_other_links_each_packet_has_tcpdumps_verdict") {
        return;
    }
    for link in OTHER_LINKS {
        let packets = network_packets();
        let packets = packets.iter().map(|(kind, packet)| on_link(link.0, *kind, packet)).collect();
        let packets = whole_and_cut(packets);
        let matches = compare(link, EXPRESSIONS, &packets);
        assert!(matches > 1000, "{}: only {matches} matches", link.1);
        if link.0 == 113 || link.0 == 276 {
            compare(link, COOKED_EXPRESSIONS, &packets);
        }
    }
}

/// On a live interface of Linux the outer tag is beside the frame.
#[test]
fn live_each_packet_has_tcpdumps_verdict() {
    if is_missing("live_each_packet_has_tcpdumps_verdict") {
        return;
    }
    if tcpdump(&["-i", "lo"], "tcp").is_err() {
        eprintln!("SKIPPED live_each_packet_has_tcpdumps_verdict: tcpdump may not open `lo`");
        return;
    }
    let packets = whole_and_cut(frames());
    for expression in LIVE_EXPRESSIONS {
        let oracle = Oracle::new(&["-i", "lo"], expression).unwrap();
        let target = Target::Live { snaplen: SNAPLEN };
        let ours = Filter::parse(expression).unwrap().compile(1, target).unwrap();
        for vlan_tag in [None, Some(0x6005), Some(7)] {
            for packet_type in [0, 4] {
                let facts =
                    PacketFacts { vlan_tag, packet_type, interface: 3, ..PacketFacts::default() };
                for packet in &packets {
                    if let Some(difference) = oracle.disagrees(&ours, packet, &facts) {
                        panic!("`{expression}`: {difference}\n{ours:#?}");
                    }
                }
            }
        }
    }
}

/// Tests that both take, in any mixture.
fn primitive() -> impl Strategy<Value = String> {
    let word = |words: &'static [&'static str]| proptest::sample::select(words);
    prop_oneof![
        (
            word(&["", "src ", "dst ", "src or dst ", "src and dst "]),
            word(&["10.1.2.3", "192.168.7.9", "2001:db8::1"])
        )
            .prop_map(|(direction, host)| format!("{direction}host {host}")),
        (
            word(&["", "src ", "dst "]),
            word(&["10.1.2.0/24", "192.168", "fe80::/10", "10.1.0.0 mask 255.255.0.0"])
        )
            .prop_map(|(direction, net)| format!("{direction}net {net}")),
        (
            word(&["", "tcp ", "udp ", "sctp "]),
            word(&["", "src ", "dst "]),
            word(&["53", "80", "443"])
        )
            .prop_map(|(protocol, direction, port)| format!("{protocol}{direction}port {port}")),
        (word(&["", "tcp "]), 0..9000_u16, 0..9000_u16)
            .prop_map(|(protocol, from, to)| format!("{protocol}portrange {from}-{to}")),
        word(&[
            "tcp",
            "udp",
            "icmp",
            "icmp6",
            "ip",
            "ip6",
            "arp",
            "igmp",
            "sctp",
            "ip multicast",
            "ip6 multicast",
            "broadcast",
            "multicast"
        ])
        .prop_map(str::to_owned),
        word(&["vlan", "vlan 5", "vlan 7", "pppoes", "mpls"]).prop_map(str::to_owned),
        word(&[
            "less 70",
            "greater 70",
            "len > 60",
            "ip proto 17",
            "ether proto 0x800",
            "ether src 02:00:00:00:00:0a"
        ])
        .prop_map(str::to_owned),
        (number(), word(&["=", "!=", "<", "<=", ">", ">="]), number())
            .prop_map(|(left, relation, right)| format!("{left} {relation} {right}")),
    ]
}

/// A number out of one protocol's bytes. It begins with them: of an operation's right side,
/// tcpdump forgets to test whether the packet has the protocol at all.
fn number() -> impl Strategy<Value = String> {
    let protocols = proptest::sample::select(&["ip", "tcp", "udp", "icmp", "ip6", "ether"][..]);
    protocols.prop_flat_map(|protocol| {
        let bytes = (0..20_u32, proptest::sample::select(&[1, 2, 4][..]))
            .prop_map(move |(index, size)| format!("{protocol}[{index}:{size}]"));
        bytes.prop_recursive(3, 12, 3, move |inner| {
            let sign = proptest::sample::select(&["+", "-", "*", "&", "|", "<<", ">>"][..]);
            let constant = (0..32_u32).prop_map(|number| number.to_string());
            let right = prop_oneof![constant, Just("len".to_owned()), inner.clone()];
            prop_oneof![
                (inner.clone(), sign, right)
                    .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
                inner.prop_map(move |index| format!("{protocol}[{index} & 0x1f]")),
            ]
        })
    })
}

fn expression() -> impl Strategy<Value = String> {
    primitive().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), proptest::sample::select(&["and", "or"][..]), inner.clone())
                .prop_map(|(left, joint, right)| format!("{left} {joint} {right}")),
            inner.clone().prop_map(|part| format!("not ({part})")),
            inner.prop_map(|part| format!("({part})")),
        ]
    })
}

#[test]
fn any_expression_has_tcpdumps_verdict() {
    if is_missing("any_expression_has_tcpdumps_verdict") {
        return;
    }
    // Whole ones: which contradictions an optimiser sees, and so which loads it leaves out,
    // makes a difference for cut ones.
    let packets = frames();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    // The same expressions each time, unless more are asked for.
    let rng_seed = if cases.is_some() { RngSeed::Random } else { RngSeed::Fixed(0) };
    let cases = cases.unwrap_or(300);
    let config = Config { cases, rng_seed, failure_persistence: None, ..Config::default() };
    let compared = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&expression(), |expression| {
            let target = Target::File { snaplen: SNAPLEN };
            let ours = Filter::parse(&expression).and_then(|filter| filter.compile(1, target));
            let Ok(oracle) = Oracle::new(&["-y", ETHERNET.1], &expression) else {
                // tcpdump finds out by more roads that nothing can match.
                return Ok(());
            };
            let ours = match ours {
                Ok(ours) => ours,
                // And we by roads that it does not take: then its program matches nothing.
                Err(error) if error.to_string().contains("can match") => {
                    let matches = packets.iter().any(|packet| oracle.matches(packet));
                    prop_assert!(!matches, "`{}`: {}", expression, error);
                    return Ok(());
                }
                Err(error) => return Err(TestCaseError::fail(format!("{expression}: {error}"))),
            };
            compared.set(compared.get() + 1);
            for packet in &packets {
                let difference = oracle.disagrees(&ours, packet, &PacketFacts::default());
                prop_assert!(difference.is_none(), "`{}`: {}", expression, difference.unwrap());
            }
            Ok(())
        })
        .unwrap();
    assert!(compared.get() > 50, "only {} expressions were compared", compared.get());
}
