//! From a transport header into the tunnel behind it, if it is one. The formats are those
//! that the worker's decoder looks into; Teredo and AYIYA are told by their content there and
//! hashed by their outer flow here.

use super::{Level, Writer, kind, word};
use crate::filter::assembler::Label;
use crate::filter::instruction::op;

/// UDP ports of tunnels (IANA).
const VXLAN_PORT: u32 = 4789;
const GENEVE_PORT: u32 = 6081;
const GTP_PORT: u32 = 2152;
/// Extension headers of GTP that are looked through.
const GTP_EXTENSIONS_MAX: usize = 2;

/// X: a header behind IP; A: its number. Goes on behind when it is no tunnel, A as it was.
pub(super) fn enter(writer: &mut Writer, inside: &Level) {
    let [gre, udp, other, no_tunnel] = [(); 4].map(|()| writer.out.label());
    writer.out_if(4, inside.ip);
    writer.out_if(41, inside.ip6);
    writer.out_if(47, gre);
    writer.out_if(17, udp);
    writer.out.goto(other);
    writer.out.bind(udp);
    self::udp(writer, inside, no_tunnel);
    writer.out.bind(gre);
    self::gre(writer, inside);
    writer.out.bind(no_tunnel);
    writer.out.push(op::LD_IMM, 17);
    writer.out.bind(other);
}

/// Moves X by `bytes`; A is lost.
fn advance(writer: &mut Writer, bytes: u32) {
    writer.out.push(op::TXA, 0);
    writer.out.push(op::ADD, bytes);
    writer.out.push(op::TAX, 0);
}

fn udp(writer: &mut Writer, inside: &Level, no_tunnel: Label) {
    let [vxlan, geneve, gtp] = [(); 3].map(|()| writer.out.label());
    writer.out.push(op::LD_H_IND, 2);
    writer.out_if(VXLAN_PORT, vxlan);
    writer.out_if(GENEVE_PORT, geneve);
    writer.out_if(GTP_PORT, gtp);
    writer.out.goto(no_tunnel);

    // RFC 7348 section 5: the flag says that the network's number is there.
    writer.out.bind(vxlan);
    let is_vxlan = writer.out.label();
    writer.out.push(op::LD_B_IND, 8);
    writer.out.jump(op::JSET, 0x08, is_vxlan, no_tunnel);
    writer.out.bind(is_vxlan);
    advance(writer, 16);
    writer.out.goto(inside.ethernet);

    // RFC 8926 section 3.4: version 0, length of options in words of four bytes.
    writer.out.bind(geneve);
    let is_geneve = writer.out.label();
    writer.out.push(op::LD_B_IND, 8);
    writer.out.jump(op::JSET, 0xc0, no_tunnel, is_geneve);
    writer.out.bind(is_geneve);
    writer.out.push(op::LD_H_IND, 10);
    writer.out.push(op::ST, word::PROTOCOL);
    writer.out.push(op::LD_B_IND, 8);
    writer.out.push(op::AND, 0x3f);
    writer.out.push(op::LSH, 2);
    writer.out.push(op::ADD, 16);
    writer.advance_by_a();
    by_type(writer, inside);
    let addresses_only = writer.addresses_only;
    writer.out.goto(addresses_only);

    self::gtp(writer, inside, gtp, no_tunnel);
}

/// GTP version 1, user packets (3GPP TS 29.281 section 5).
fn gtp(writer: &mut Writer, inside: &Level, gtp: Label, no_tunnel: Label) {
    let [user_packet, long, short, extended] = [(); 4].map(|()| writer.out.label());
    writer.out.bind(gtp);
    writer.out.push(op::LD_H_IND, 8);
    writer.out.push(op::ST, word::FLAGS);
    writer.out.push(op::AND, 0xf0ff);
    writer.out.jump(op::JEQ, 0x30ff, user_packet, no_tunnel);
    writer.out.bind(user_packet);
    writer.out.push(op::LD_MEM, word::FLAGS);
    writer.out.jump(op::JSET, 0x0700, long, short);
    writer.out.bind(short);
    advance(writer, 16);
    writer.out.goto(inside.any_ip);
    writer.out.bind(long);
    let plain = writer.out.label();
    writer.out.jump(op::JSET, 0x0400, extended, plain);
    writer.out.bind(plain);
    advance(writer, 20);
    writer.out.goto(inside.any_ip);
    writer.out.bind(extended);
    writer.out.push(op::LD_B_IND, 19);
    writer.advance_keeping_a(20);
    for _ in 0..GTP_EXTENSIONS_MAX {
        // A: the kind of the header at X; its first byte counts words of four bytes, its last
        // byte is the kind of the next.
        writer.out_if(0, inside.any_ip);
        writer.out.push(op::LD_B_IND, 0);
        writer.out.push(op::LSH, 2);
        writer.out.push(op::SUB, 1);
        writer.out.push(op::ADD | op::X, 0);
        writer.out.push(op::TAX, 0);
        writer.out.push(op::LD_B_IND, 0);
        writer.advance_keeping_a(1);
    }
    writer.out_if(0, inside.any_ip);
    let addresses_only = writer.addresses_only;
    writer.out.goto(addresses_only);
}

/// GRE version 0 with checksum, key and sequence number (RFC 2784, RFC 2890), and ERSPAN.
fn gre(writer: &mut Writer, inside: &Level) {
    let [plain, erspan2, erspan3] = [(); 3].map(|()| writer.out.label());
    let addresses_only = writer.addresses_only;
    writer.out.push(op::LD_H_IND, 0);
    writer.out.push(op::ST, word::FLAGS);
    // Routing, or another version.
    writer.out.jump(op::JSET, 0x4007, addresses_only, plain);
    writer.out.bind(plain);
    writer.out.push(op::LD_H_IND, 2);
    writer.advance_keeping_a(4);
    // Each of the three flags means four more bytes.
    for shift in [13, 11, 10] {
        writer.out.push(op::LD_MEM, word::FLAGS);
        writer.out.push(op::RSH, shift);
        writer.out.push(op::AND, 4);
        writer.advance_by_a();
    }
    by_type(writer, inside);
    writer.out_if(0x88be, erspan2);
    writer.out_if(0x22eb, erspan3);
    writer.out.goto(addresses_only);

    // Without a sequence number it is version I, which has no header.
    writer.out.bind(erspan2);
    let has_header = writer.out.label();
    writer.out.push(op::LD_MEM, word::FLAGS);
    writer.out.jump(op::JSET, 0x1000, has_header, inside.ethernet);
    writer.out.bind(has_header);
    advance(writer, 8);
    writer.out.goto(inside.ethernet);

    writer.out.bind(erspan3);
    let [longer, shorter] = [(); 2].map(|()| writer.out.label());
    writer.out.push(op::LD_B_IND, 11);
    writer.out.jump(op::JSET, 1, longer, shorter);
    writer.out.bind(longer);
    advance(writer, 20);
    writer.out.goto(inside.ethernet);
    writer.out.bind(shorter);
    advance(writer, 12);
    writer.out.goto(inside.ethernet);
}

/// Into what an Ethernet type in A announces at X.
fn by_type(writer: &mut Writer, inside: &Level) {
    writer.out_if(kind::IP, inside.ip);
    writer.out_if(kind::IP6, inside.ip6);
    writer.out_if(kind::ETHERNET, inside.ethernet);
}
