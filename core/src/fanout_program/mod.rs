//! The program that spreads packets over the members of a fanout group (packet(7),
//! PACKET_FANOUT_CBPF): a flow hash that is the same in both directions. It looks through
//! VLAN tags, MPLS labels, PPPoE and IPv6 extension headers, and when asked into tunnels, to
//! the flow inside. The kernel takes the result modulo the number of members.
//!
//! **What is hashed**: both addresses, and both ports where there are any.
//! - **Fragments**: addresses only, for the first fragment too, though it has ports: the later
//!   ones have none, and one worker must see all fragments to join them. The other packets of
//!   such a flow may go elsewhere; PACKET_FANOUT_FLAG_DEFRAG has the kernel join IPv4
//!   fragments first, and then there are none.
//! - **ICMP** and whatever else has no ports: addresses only, so that both directions meet.
//! - **No IP** (ARP, LLDP): the first member.
//! - **Tunnels** (GRE with ERSPAN, VXLAN, Geneve, GTP-U, IP in IP): with `inner` the flow
//!   inside, [`TUNNELS_MAX`] deep; where what is inside cannot be read, the outer addresses.
//!
//! A packet that ends before what is asked for goes to the first member: the kernel's rule for
//! a load past the end.
//!
//! Classic BPF has no loops, so each step that may repeat is written out as often as its
//! `_MAX` says. [`ebpf`] says the same in eBPF.

pub mod ebpf;
mod tunnel;

use crate::filter::assembler::{Assembler, Label};
use crate::filter::instruction::{ancillary, op};
use crate::filter::{Program, ProgramError};

/// Why PACKET_FANOUT_FLAG_ROLLOVER is not offered.
pub const ROLLOVER_REFUSED: &str = "a full ring would spill packets of its flows to workers \
    that do not know these flows: each would log a part of a connection";

/// VLAN tags in the frame's bytes that are looked through; the outermost is beside the frame.
const VLAN_TAGS_MAX: usize = 3;
/// MPLS labels that are looked through.
const MPLS_LABELS_MAX: usize = 4;
/// IPv6 extension headers (and AH) that are looked through, per IP header.
const EXTENSION_HEADERS_MAX: usize = 4;
/// Tunnels in tunnels.
pub const TUNNELS_MAX: usize = 2;

/// Which packets, and how deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanoutProgram {
    /// The interface's frames have an Ethernet header; else they begin with the IP packet.
    pub has_ethernet_header: bool,
    /// Hash the flow inside of tunnels.
    pub inner: bool,
}

/// Words of scratch memory.
mod word {
    /// Where the header at hand begins.
    pub(super) const AT: u32 = 0;
    /// A protocol's number while X moves.
    pub(super) const PROTOCOL: u32 = 1;
    /// The sum of both addresses.
    pub(super) const ADDRESS_SUM: u32 = 2;
    /// Their exclusive or.
    pub(super) const ADDRESS_XOR: u32 = 3;
    /// What both ports come to; 0 without.
    pub(super) const PORTS: u32 = 4;
    /// One of two operands.
    pub(super) const LEFT: u32 = 5;
    /// The other.
    pub(super) const RIGHT: u32 = 6;
    /// Flags of a tunnel's header.
    pub(super) const FLAGS: u32 = 7;
}

/// Ethernet types.
mod kind {
    pub(super) const IP: u32 = 0x0800;
    pub(super) const IP6: u32 = 0x86dd;
    pub(super) const VLAN: [u32; 3] = [0x8100, 0x88a8, 0x9100];
    pub(super) const MPLS: [u32; 2] = [0x8847, 0x8848];
    pub(super) const PPPOE_SESSION: u32 = 0x8864;
    pub(super) const ETHERNET: u32 = 0x6558;
}

/// Odd constants that spread bits over the word (those of MurmurHash3).
const MULTIPLIERS: [u32; 5] = [0xcc9e_2d51, 0x1b87_3593, 0x9e37_79b1, 0x85eb_ca6b, 0xc2b2_ae35];

impl FanoutProgram {
    /// The program in classic BPF.
    ///
    /// # Errors
    /// Never, as long as the limits of this module fit the kernel's.
    pub fn classic(&self) -> Result<Program, ProgramError> {
        let mut writer = Writer::new();
        let levels = if self.inner { 1 + TUNNELS_MAX } else { 1 };
        let labels: Vec<Level> = (0..levels).map(|_| Level::new(&mut writer)).collect();
        if let Some(first) = labels.first() {
            writer.begin(self.has_ethernet_header, first);
        }
        for (depth, level) in labels.iter().enumerate() {
            writer.level(level, depth, labels.get(depth + 1));
        }
        writer.end();
        writer.out.finish()
    }
}

/// Where the parts of one level begin: an Ethernet type and what it announces.
struct Level {
    /// X: behind an Ethernet type; A: that type.
    behind_type: Label,
    /// X: an Ethernet header.
    ethernet: Label,
    /// X: an IP packet of whatever version.
    any_ip: Label,
    ip: Label,
    ip6: Label,
}

impl Level {
    fn new(writer: &mut Writer) -> Self {
        let out = &mut writer.out;
        Self {
            behind_type: out.label(),
            ethernet: out.label(),
            any_ip: out.label(),
            ip: out.label(),
            ip6: out.label(),
        }
    }
}

/// Writes the program, front to back.
struct Writer {
    out: Assembler,
    /// X: two ports.
    ports: Label,
    addresses_only: Label,
    first_member: Label,
}

impl Writer {
    fn new() -> Self {
        let mut out = Assembler::default();
        let [ports, addresses_only, first_member] = [(); 3].map(|()| out.label());
        Self { out, ports, addresses_only, first_member }
    }

    /// Finds the Ethernet type and what is behind it. A member gets received packets from the
    /// network header on, its own host's from the link header on.
    fn begin(&mut self, has_ethernet_header: bool, first: &Level) {
        let [outgoing, received] = [self.out.label(), self.out.label()];
        if has_ethernet_header {
            self.out.push(op::LD_B_ABS, ancillary::PACKET_TYPE);
            self.out.jump(op::JEQ, ancillary::PACKET_OUTGOING, outgoing, received);
            self.out.bind(outgoing);
            self.out.push(op::LDX_IMM, 0);
            self.out.goto(first.ethernet);
        }
        self.out.bind(received);
        self.out.push(op::LDX_IMM, 0);
        self.out.push(op::LD_H_ABS, ancillary::PROTOCOL);
        self.out.goto(first.behind_type);
    }

    fn level(&mut self, level: &Level, depth: usize, inside: Option<&Level>) {
        // Of a packet that is no IP nothing is known; inside of a tunnel, the outer addresses.
        let unread = if depth == 0 { self.first_member } else { self.addresses_only };
        let [extension, transport] = [self.out.label(), self.out.label()];
        self.out.bind(level.ethernet);
        self.out.push(op::LD_H_IND, 12);
        self.advance_keeping_a(14);
        self.out.bind(level.behind_type);
        self.link(level, unread);
        self.ip(level, extension);
        self.ip6(level);
        self.extensions(extension, transport);
        self.out.bind(transport);
        if let Some(inside) = inside {
            tunnel::enter(self, inside);
        }
        // TCP, UDP, DCCP, SCTP, UDP-Lite.
        let ports = self.ports;
        self.any_of(&[6, 17, 33, 132, 136], ports);
        let addresses_only = self.addresses_only;
        self.out.goto(addresses_only);
    }

    /// VLAN tags, MPLS labels and PPPoE, down to an IP packet at X.
    fn link(&mut self, level: &Level, unread: Label) {
        let [mpls, pppoe] = [self.out.label(), self.out.label()];
        for tag in 0..=VLAN_TAGS_MAX {
            self.out_if(kind::IP, level.ip);
            self.out_if(kind::IP6, level.ip6);
            if tag == VLAN_TAGS_MAX {
                break;
            }
            let [tagged, other] = [self.out.label(), self.out.label()];
            self.any_of(&kind::VLAN, tagged);
            self.out.goto(other);
            self.out.bind(tagged);
            self.out.push(op::LD_H_IND, 2);
            self.advance_keeping_a(4);
            let next = self.out.label();
            self.out.goto(next);
            self.out.bind(other);
            self.any_of(&kind::MPLS, mpls);
            self.out_if(kind::PPPOE_SESSION, pppoe);
            self.out.goto(unread);
            self.out.bind(next);
        }
        self.out.goto(unread);
        self.out.bind(pppoe);
        self.out.push(op::LD_H_IND, 6);
        self.advance_keeping_a(8);
        self.out_if(0x21, level.ip);
        self.out_if(0x57, level.ip6);
        self.out.goto(unread);
        self.out.bind(mpls);
        for _ in 0..MPLS_LABELS_MAX {
            let next = self.out.label();
            self.out.push(op::LD_B_IND, 2);
            self.advance_keeping_a(4);
            self.out.jump(op::JSET, 1, level.any_ip, next);
            self.out.bind(next);
        }
        self.out.goto(unread);
        self.out.bind(level.any_ip);
        self.out.push(op::LD_B_IND, 0);
        self.out.push(op::RSH, 4);
        self.out_if(4, level.ip);
        self.out_if(6, level.ip6);
        self.out.goto(unread);
    }

    /// An IPv4 packet (RFC 791) at X.
    fn ip(&mut self, level: &Level, extension: Label) {
        self.out.bind(level.ip);
        self.out.push(op::LD_W_IND, 12);
        self.out.push(op::ST, word::LEFT);
        self.out.push(op::LD_W_IND, 16);
        self.out.push(op::STX, word::AT);
        self.addresses();
        self.out.push(op::LDX_MEM, word::AT);
        // More fragments, or an offset.
        self.out.push(op::LD_H_IND, 6);
        let whole = self.out.label();
        self.out.jump(op::JSET, 0x3fff, self.addresses_only, whole);
        self.out.bind(whole);
        self.out.push(op::LD_B_IND, 9);
        self.out.push(op::ST, word::PROTOCOL);
        self.out.push(op::LD_B_IND, 0);
        self.out.push(op::AND, 0xf);
        self.out.push(op::LSH, 2);
        self.advance_by_a();
        self.out.goto(extension);
    }

    /// An IPv6 packet (RFC 8200) at X.
    fn ip6(&mut self, level: &Level) {
        self.out.bind(level.ip6);
        self.out.push(op::STX, word::AT);
        self.fold_address(24);
        self.out.push(op::ST, word::RIGHT);
        self.out.push(op::LDX_MEM, word::AT);
        self.fold_address(8);
        self.out.push(op::ST, word::LEFT);
        self.out.push(op::LD_MEM, word::RIGHT);
        self.addresses();
        self.out.push(op::LDX_MEM, word::AT);
        self.out.push(op::LD_B_IND, 6);
        self.advance_keeping_a(40);
    }

    /// A: the four words at X + `offset`, folded. X is lost.
    fn fold_address(&mut self, offset: u32) {
        self.out.push(op::LD_W_IND, offset);
        for step in 1..4 {
            self.out.push(op::MUL, MULTIPLIERS[0]);
            self.out.push(op::ST, word::FLAGS);
            self.out.push(op::LDX_MEM, word::AT);
            self.out.push(op::LD_W_IND, offset + 4 * step);
            self.out.push(op::LDX_MEM, word::FLAGS);
            self.out.push(op::XOR | op::X, 0);
        }
    }

    /// Keeps what both addresses come to, LEFT and A, in either order. X is lost.
    fn addresses(&mut self) {
        self.out.push(op::ST, word::RIGHT);
        self.out.push(op::LDX_MEM, word::LEFT);
        self.out.push(op::ADD | op::X, 0);
        self.out.push(op::ST, word::ADDRESS_SUM);
        self.out.push(op::LD_MEM, word::RIGHT);
        self.out.push(op::XOR | op::X, 0);
        self.out.push(op::ST, word::ADDRESS_XOR);
    }

    /// X: the header behind the IP header; A: its number. Leads to the transport header.
    fn extensions(&mut self, extension: Label, transport: Label) {
        self.out.bind(extension);
        for _ in 0..EXTENSION_HEADERS_MAX {
            let [options, fragment, authentication, next, whole] =
                [(); 5].map(|()| self.out.label());
            // Hop-by-hop, routing, destination options.
            self.any_of(&[0, 43, 60], options);
            self.out_if(44, fragment);
            self.out_if(51, authentication);
            self.out.goto(transport);
            self.out.bind(fragment);
            self.out.push(op::LD_H_IND, 2);
            self.out.jump(op::JSET, 0xfff9, self.addresses_only, whole);
            self.out.bind(whole);
            self.out.push(op::LD_B_IND, 0);
            self.advance_keeping_a(8);
            self.out.goto(next);
            self.out.bind(authentication);
            self.skip_by_length(2, 2);
            self.out.goto(next);
            self.out.bind(options);
            self.skip_by_length(1, 3);
            self.out.bind(next);
        }
    }

    /// Moves X behind a header whose second byte is its length: that many units, and `more`,
    /// of 2 to the power `unit` bytes. A: its first byte.
    fn skip_by_length(&mut self, more: u32, unit: u32) {
        self.out.push(op::LD_B_IND, 0);
        self.out.push(op::ST, word::PROTOCOL);
        self.out.push(op::LD_B_IND, 1);
        self.out.push(op::ADD, more);
        self.out.push(op::LSH, unit);
        self.advance_by_a();
    }

    /// X = X + A; A: the protocol kept.
    fn advance_by_a(&mut self) {
        self.out.push(op::ADD | op::X, 0);
        self.out.push(op::TAX, 0);
        self.out.push(op::LD_MEM, word::PROTOCOL);
    }

    /// X = X + `bytes`; A stays.
    fn advance_keeping_a(&mut self, bytes: u32) {
        self.out.push(op::ST, word::PROTOCOL);
        self.out.push(op::TXA, 0);
        self.out.push(op::ADD, bytes);
        self.out.push(op::TAX, 0);
        self.out.push(op::LD_MEM, word::PROTOCOL);
    }

    fn out_if(&mut self, value: u32, there: Label) {
        let next = self.out.label();
        self.out.jump(op::JEQ, value, there, next);
        self.out.bind(next);
    }

    fn any_of(&mut self, values: &[u32], there: Label) {
        values.iter().for_each(|value| self.out_if(*value, there));
    }

    /// Hashes what was kept and ends.
    fn end(&mut self) {
        let [m1, m2, m3, m4, m5] = MULTIPLIERS;
        let hash = self.out.label();
        self.out.bind(self.ports);
        self.out.push(op::LD_H_IND, 0);
        self.out.push(op::ST, word::LEFT);
        self.out.push(op::LD_H_IND, 2);
        self.out.push(op::ST, word::RIGHT);
        self.out.push(op::LDX_MEM, word::LEFT);
        self.out.push(op::ADD | op::X, 0);
        self.out.push(op::LSH, 16);
        self.out.push(op::ST, word::PORTS);
        self.out.push(op::LD_MEM, word::RIGHT);
        self.out.push(op::XOR | op::X, 0);
        self.out.push(op::LDX_MEM, word::PORTS);
        self.out.push(op::XOR | op::X, 0);
        self.out.push(op::ST, word::PORTS);
        self.out.goto(hash);
        self.out.bind(self.addresses_only);
        self.out.push(op::LD_IMM, 0);
        self.out.push(op::ST, word::PORTS);
        self.out.bind(hash);
        self.out.push(op::LD_MEM, word::ADDRESS_SUM);
        self.out.push(op::MUL, m1);
        self.out.push(op::TAX, 0);
        self.out.push(op::LD_MEM, word::ADDRESS_XOR);
        self.out.push(op::MUL, m2);
        self.out.push(op::XOR | op::X, 0);
        self.out.push(op::TAX, 0);
        self.out.push(op::LD_MEM, word::PORTS);
        self.out.push(op::MUL, m3);
        self.out.push(op::ADD | op::X, 0);
        for (shift, multiplier) in [(16, Some(m4)), (13, Some(m5)), (16, None)] {
            self.out.push(op::TAX, 0);
            self.out.push(op::RSH, shift);
            self.out.push(op::XOR | op::X, 0);
            if let Some(multiplier) = multiplier {
                self.out.push(op::MUL, multiplier);
            }
        }
        self.out.push(op::RET_A, 0);
        self.out.bind(self.first_member);
        self.out.push(op::RET_K, 0);
    }
}
