//! Resource records (RFC 1035 section 3.3 and the RFCs of each type): what of each is shown
//! among the answers, and what is odd about it.
//!
//! A record that cannot be read ends its message; one that is shorter or longer than its type
//! wants is read by its type, as Zeek does.

use std::net::{Ipv4Addr, Ipv6Addr};

use tyto_core::record::print::print_addr;

use super::message::{Message, Section};
use super::name::{Name, Reader};
use super::{dnssec, names, svcb};
use crate::analyzer::Cx;
use crate::analyzer::text::{LOWER, push_hex};

const CLASS_NONE: u16 = 254;
const CLASS_ANY: u16 = 255;
const TYPE_ANY: u16 = 255;

/// A record up to what its type says.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) owner: Name,
    pub(super) rtype: u16,
    class: u16,
    ttl: u32,
    /// Length of what follows; no more than the message has.
    pub(super) len: usize,
}

/// What a type says: text to show, perhaps none.
pub(super) type Says = Option<Vec<u8>>;

/// Reads one record and adds it to the row.
pub(super) fn record(message: &mut Message<'_, '_>, cx: &mut Cx<'_>) -> Option<()> {
    let mut owner = Name::root();
    let (rtype, class) = message.owner(&mut owner, cx)?;
    let ttl = message.reader.long();
    let len = usize::from(message.reader.short());
    if len > message.reader.len() {
        cx.weird("DNS_truncated_RR_rdlength_lt_len");
        return None;
    }
    let record = Record { owner, rtype, class, ttl, len };
    if message.header.is_update() && update(message, &record, cx) {
        message.reader.at += len;
        return Some(());
    }
    if len == 0 && message.reader.len() > 0 {
        if message.header.is_update() {
            return Some(());
        }
        cx.weird("DNS_zero_rdlength");
        return None;
    }
    body(message, &record, cx)
}

/// The parts of an update that have a meaning of their own (RFC 2136 sections 2.4 and 2.5).
/// False when it is a record as any other.
fn update(message: &mut Message<'_, '_>, record: &Record, cx: &mut Cx<'_>) -> bool {
    let &Record { class, ttl, len, rtype, .. } = record;
    let is_of_zone = class == message.zone_class;
    let rtype_name = names::qtype(rtype);
    if message.section == Section::Update {
        if class == CLASS_ANY && ttl == 0 && len == 0 {
            let what = if rtype == TYPE_ANY { b"del: RRSet * ".as_slice() } else { b"" };
            let says = if what.is_empty() {
                format!("del: RRSet {rtype_name}").into_bytes()
            } else {
                [what, record.owner.as_bytes()].concat()
            };
            message.reply(&record.owner, ttl, says, cx);
            return true;
        }
        if !((class == CLASS_NONE && ttl == 0) || is_of_zone) {
            cx.weird("DNS_dynamic_update_invalid_update");
            return true;
        }
        return false;
    }
    if ttl != 0 {
        let shown = ttl.cast_signed().to_string();
        cx.weird_with("DNS_dynamic_update_prereq_nonzero_ttl", &shown);
    } else if (matches!(class, CLASS_ANY | CLASS_NONE) && len == 0) || is_of_zone {
        let what = match (class, rtype) {
            (CLASS_NONE, TYPE_ANY) => "pre: NameNotInUse ".to_owned(),
            (CLASS_ANY, TYPE_ANY) => "pre: NameInUse ".to_owned(),
            (CLASS_NONE, _) => format!("pre: NoRRSet {rtype_name} "),
            _ => format!("pre: RRSetExists {rtype_name} "),
        };
        let says = [what.as_bytes(), record.owner.as_bytes()].concat();
        message.reply(&record.owner, ttl, says, cx);
    } else {
        cx.weird("DNS_dynamic_update_invalid_prereq");
    }
    true
}

fn body(message: &mut Message<'_, '_>, record: &Record, cx: &mut Cx<'_>) -> Option<()> {
    let reader = &mut message.reader;
    let mut is_whole = true;
    let says: Says = match record.rtype {
        1 | 28 | 38 => address(reader, record, message.header.is_update(), cx)?,
        2 | 5 | 12 => Some(target(reader, 0, record.len, cx)?),
        6 => Some(soa(reader, record.len, cx)?),
        // WKS shows nothing, but counts as an answer. Zeek does not pass over it: what follows
        // is read from its begin, and tells of itself that it is odd.
        11 => Some(Vec::new()),
        15 => Some(target(reader, 2, record.len, cx)?),
        16 | 99 => {
            let label = if record.rtype == 16 { "TXT" } else { "SPF" };
            let (text, read_whole) = text(reader, label, record.len, cx);
            is_whole = read_whole;
            Some(text)
        }
        // A node status of NetBIOS (RFC 1002 section 4.2.18), which has the number of SRV.
        33 if reader.is_netbios => skip(reader, record.len),
        33 => Some(target(reader, 6, record.len, cx)?),
        35 => Some(naptr(reader, record.len, cx)?),
        41 => {
            edns_options(reader, record.len, cx)?;
            None
        }
        29 => location(reader, cx)?,
        44 => sshfp(reader, record.len)?,
        43 | 46 | 47 | 48 | 50 | 51 | 65534 => dnssec::says(reader, record, cx)?,
        64 | 65 => {
            svcb::check(reader, record.len, cx)?;
            None
        }
        250 => {
            signature(reader, cx)?;
            None
        }
        // HINFO, NetBIOS names, TKEY, CAA: known, and nothing is shown of them.
        13 | 32 | 249 | 257 => skip(reader, record.len),
        unknown => {
            cx.weird_with("DNS_RR_unknown_type", &unknown.to_string());
            reader.at += record.len;
            Some(format!("<unknown type={unknown}>").into_bytes())
        }
    };
    if let Some(says) = says {
        message.reply(&record.owner, record.ttl, says, cx);
    }
    is_whole.then_some(())
}

fn skip(reader: &mut Reader<'_>, len: usize) -> Says {
    reader.at += len;
    None
}

/// A, AAAA and A6; in updates with the name.
fn address(
    reader: &mut Reader<'_>,
    record: &Record,
    is_update: bool,
    cx: &mut Cx<'_>,
) -> Option<Says> {
    const A: u16 = 1;
    const AAAA: u16 = 28;
    const V4_LEN_MAX: usize = 15;
    let (label, shown) = if record.rtype == A {
        if record.len != 4 {
            cx.weird("DNS_RR_bad_length");
            return None;
        }
        let mut shown = Vec::with_capacity(V4_LEN_MAX + 1);
        print_addr(&mut shown, Ipv4Addr::from_bits(reader.long()).into());
        ("A ", shown)
    } else {
        let [a, b, c, d] = [reader.long(), reader.long(), reader.long(), reader.long()];
        let bits = [a, b, c, d].into_iter().fold(0, |bits, word| bits << 32 | u128::from(word));
        (if record.rtype == AAAA { "AAAA " } else { "A6 " }, show_v6(bits))
    };
    Some(Some(if is_update {
        [label.as_bytes(), record.owner.as_bytes(), b" ", &shown].concat()
    } else {
        shown
    }))
}

/// An IPv6 address as the C library prints it: old forms that carry one of IPv4 show it.
fn show_v6(bits: u128) -> Vec<u8> {
    const LEN_MAX: usize = 39;
    let addr = Ipv6Addr::from_bits(bits);
    let mut shown = Vec::with_capacity(LEN_MAX + 1);
    match (addr.to_ipv4_mapped(), u32::try_from(bits)) {
        (Some(v4), _) => print_addr(&mut shown, v4.into()),
        (None, Ok(low)) if low > 0xffff => {
            shown.extend_from_slice(b"::");
            print_addr(&mut shown, Ipv4Addr::from_bits(low).into());
        }
        _ => print_addr(&mut shown, addr.into()),
    }
    shown
}

/// A name behind `before` bytes: NS, CNAME, PTR, MX, SRV.
fn target(reader: &mut Reader<'_>, before: usize, len: usize, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    let start = reader.at;
    for _ in 0..before / 2 {
        reader.short();
    }
    let mut name = Name::root();
    reader.name(&mut name, cx)?;
    check_length(reader, start, len, cx);
    Some(name.as_bytes().to_vec())
}

fn soa(reader: &mut Reader<'_>, len: usize, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    const NUMBERS_LEN: usize = 20;
    let start = reader.at;
    let (mut primary, mut person) = (Name::root(), Name::root());
    reader.name(&mut primary, cx)?;
    reader.name(&mut person, cx)?;
    if reader.len() < NUMBERS_LEN {
        return None;
    }
    reader.up_to(NUMBERS_LEN);
    check_length(reader, start, len, cx);
    Some(primary.as_bytes().to_vec())
}

fn check_length(reader: &Reader<'_>, start: usize, len: usize, cx: &mut Cx<'_>) {
    if reader.at - start != len {
        cx.weird("DNS_RR_length_mismatch");
    }
}

/// A character string (RFC 1035 section 3.3) from the `left` bytes of a record.
fn string<'a>(reader: &mut Reader<'a>, left: &mut usize, cx: &mut Cx<'_>) -> Option<&'a [u8]> {
    *left = left.checked_sub(1)?;
    let len = usize::from(reader.byte());
    let Some(rest) = left.checked_sub(len) else {
        cx.weird("DNS_TXT_char_str_past_rdlen");
        return None;
    };
    *left = rest;
    Some(reader.up_to(len))
}

/// The strings of a TXT or SPF record, each with its length, and whether they were all of it.
fn text(reader: &mut Reader<'_>, label: &str, len: usize, cx: &mut Cx<'_>) -> (Vec<u8>, bool) {
    let mut left = len;
    let mut shown = Vec::with_capacity(len + label.len() + 5);
    while let Some(string) = string(reader, &mut left, cx) {
        if !shown.is_empty() {
            shown.push(b' ');
        }
        shown.extend_from_slice(format!("{label} {} ", string.len()).as_bytes());
        shown.extend_from_slice(string);
    }
    (shown, left == 0)
}

/// RFC 3403 section 4.1.
fn naptr(reader: &mut Reader<'_>, len: usize, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    let (order, preference) = (reader.short(), reader.short());
    let Some(mut left) = len.checked_sub(4).filter(|left| *left > 0) else {
        cx.violation("DNS_NAPTR_too_short", &[]);
        return None;
    };
    let flags = string(reader, &mut left, cx);
    let service = string(reader, &mut left, cx);
    let expression = string(reader, &mut left, cx);
    let mut replacement = Name::root();
    let is_replaced = reader.name_as_is(&mut replacement, cx);
    let (Some(flags), Some(service), Some(expression), Some(())) =
        (flags, service, expression, is_replaced)
    else {
        cx.violation("DNS_NAPTR_RR_too_short", &[]);
        return None;
    };
    let mut shown = format!("NAPTR {order} {preference} ").into_bytes();
    shown.extend_from_slice(flags);
    shown.push(b' ');
    shown.extend_from_slice(service);
    shown.push(b' ');
    shown.extend_from_slice(expression);
    let replacement = replacement.as_bytes();
    if !expression.is_empty() && !replacement.is_empty() {
        shown.push(b' ');
    }
    shown.extend_from_slice(replacement);
    Some(shown)
}

/// The options of an OPT record (RFC 6891 section 6.1.2) are checked for their lengths.
fn edns_options(reader: &mut Reader<'_>, len: usize, cx: &mut Cx<'_>) -> Option<()> {
    const CLIENT_SUBNET: u16 = 8;
    const TCP_KEEPALIVE: u16 = 11;
    let mut left = len;
    while left >= 4 {
        let (code, option_len) = (reader.short(), usize::from(reader.short()));
        left -= 4;
        if option_len > left {
            cx.weird("EDNS_truncated_option");
            return None;
        }
        let option = reader.up_to(option_len);
        match code {
            CLIENT_SUBNET => client_subnet(option, cx),
            TCP_KEEPALIVE
                if matches!(option_len, 0 | 2) && cx.proto == tyto_core::net::Proto::Udp =>
            {
                cx.weird("EDNS_TCP_Keepalive_In_UDP");
            }
            _ => {}
        }
        left -= option_len;
    }
    if left != 0 {
        cx.weird("EDNS_truncated_option");
        return None;
    }
    Some(())
}

/// RFC 7871 section 6.
fn client_subnet(option: &[u8], cx: &mut Cx<'_>) {
    let (Some(&[family_high, family_low, prefix, _]), Some(addr)) =
        (option.first_chunk::<4>(), option.get(4..).filter(|addr| !addr.is_empty()))
    else {
        cx.weird("EDNS_ECS_invalid_option_len");
        return;
    };
    let (bits_max, bad_prefix, bad_addr) = match u16::from_be_bytes([family_high, family_low]) {
        1 => (32, "EDNS_ECS_invalid_addr_v4_prefix", "EDNS_ECS_invalid_addr_v4"),
        2 => (128, "EDNS_ECS_invalid_addr_v6_prefix", "EDNS_ECS_invalid_addr_v6"),
        _ => return,
    };
    if prefix > bits_max {
        cx.weird_with(bad_prefix, &format!("{prefix} bits"));
    } else if usize::from(prefix) > addr.len() * 8 {
        let bits = addr.len() * 8;
        cx.weird_with(bad_addr, &format!("need {prefix} bits, have {bits} bits"));
    }
}

/// RFC 1876 section 2. Read by the length of the type, whatever the record says: what follows
/// tells then that it was wrong.
fn location(reader: &mut Reader<'_>, cx: &mut Cx<'_>) -> Option<Says> {
    const LEN: usize = 16;
    if reader.len() < LEN - 1 {
        return None;
    }
    let &[version, size, horizontal, vertical] = reader.up_to(LEN).first_chunk()?;
    if version != 0 {
        cx.weird_with("DNS_LOC_version_unrecognized", &version.to_string());
    }
    Some(Some(format!("LOC:  {size} {horizontal} {vertical}").into_bytes()))
}

/// RFC 4255 section 3.1.
fn sshfp(reader: &mut Reader<'_>, len: usize) -> Option<Says> {
    if reader.len() < 2 {
        return None;
    }
    reader.short();
    let fingerprint = reader.up_to(len.saturating_sub(2));
    let mut shown = String::from("SSHFP: ");
    push_hex(&mut shown, fingerprint, LOWER);
    Some(Some(shown.into_bytes()))
}

/// TSIG (RFC 8945 section 4.2) is passed over by its own lengths.
fn signature(reader: &mut Reader<'_>, cx: &mut Cx<'_>) -> Option<()> {
    reader.name(&mut Name::root(), cx)?;
    reader.long();
    reader.short();
    reader.short();
    let mac_len = reader.short();
    reader.up_to(usize::from(mac_len));
    reader.short();
    reader.short();
    let other_len = reader.short();
    reader.up_to(usize::from(other_len));
    Some(())
}
