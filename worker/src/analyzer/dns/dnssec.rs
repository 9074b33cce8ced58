//! Records of DNSSEC (RFC 4034, RFC 5155), and BIND's private one that tells how far signing is.

use super::name::{Name, Reader};
use super::record::{Record, Says};
use crate::analyzer::Cx;

const DS: u16 = 43;
const RRSIG: u16 = 46;
const NSEC: u16 = 47;
const DNSKEY: u16 = 48;
const NSEC3: u16 = 50;
const NSEC3PARAM: u16 = 51;

/// What is shown of a record of these types.
pub(super) fn says(reader: &mut Reader<'_>, record: &Record, cx: &mut Cx<'_>) -> Option<Says> {
    let says = match record.rtype {
        DS => ds(reader, record.len, cx)?,
        RRSIG => rrsig(reader, record.len, cx)?,
        NSEC => nsec(reader, record, cx)?,
        DNSKEY => dnskey(reader, record.len, cx)?,
        NSEC3 => nsec3(reader, record.len, cx)?,
        NSEC3PARAM => nsec3param(reader)?,
        _ => bind_signing(reader)?,
    };
    Some(Some(says))
}

fn ds(reader: &mut Reader<'_>, len: usize, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    if reader.len() < 4 {
        return None;
    }
    reader.short();
    let (algorithm, digest) = (reader.byte(), reader.byte());
    reader.up_to(len.saturating_sub(4));
    match digest {
        1..=4 => {}
        0 => cx.weird_with("DNSSEC_DS_ReservedDigestType", "0"),
        _ => cx.weird_with("DNSSEC_DS_unknown_DigestType", &digest.to_string()),
    }
    Some(format!("DS {algorithm} {digest}").into_bytes())
}

/// Weirds of an algorithm that signs zones (RFC 8624 section 3.1): not recommended, indirect, of a
/// private name, of a private object identifier, unknown.
type AlgorithmWeirds = [&'static str; 5];

const RRSIG_ALGORITHMS: AlgorithmWeirds = [
    "DNSSEC_RRSIG_NotRecommended_ZoneSignAlgo",
    "DNSSEC_RRSIG_Indirect_ZoneSignAlgo",
    "DNSSEC_RRSIG_PrivateDNS_ZoneSignAlgo",
    "DNSSEC_RRSIG_PrivateOID_ZoneSignAlgo",
    "DNSSEC_RRSIG_unknown_ZoneSignAlgo",
];
const DNSKEY_ALGORITHMS: AlgorithmWeirds = [
    "DNSSEC_DNSKEY_NotRecommended_ZoneSignAlgo",
    "DNSSEC_DNSKEY_Indirect_ZoneSignAlgo",
    "DNSSEC_DNSKEY_PrivateDNS_ZoneSignAlgo",
    "DNSSEC_DNSKEY_PrivateOID_ZoneSignAlgo",
    "DNSSEC_DNSKEY_unknown_ZoneSignAlgo",
];

fn odd_algorithm(algorithm: u8, weirds: &AlgorithmWeirds, cx: &mut Cx<'_>) {
    let [not_recommended, indirect, private_name, private_oid, unknown] = weirds;
    let weird = match algorithm {
        1 => not_recommended,
        2..=8 | 10 | 12..=16 => return,
        252 => indirect,
        253 => private_name,
        254 => private_oid,
        _ => unknown,
    };
    cx.weird_with(weird, &algorithm.to_string());
}

fn rrsig(reader: &mut Reader<'_>, len: usize, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    const FIXED_LEN: usize = 18;
    if reader.len() < FIXED_LEN {
        return None;
    }
    let covered = reader.short();
    let algorithm = reader.byte();
    reader.up_to(FIXED_LEN - 3);
    let start = reader.at;
    let mut signer = Name::root();
    reader.name(&mut signer, cx)?;
    reader.up_to(len.saturating_sub(reader.at - start + FIXED_LEN));
    odd_algorithm(algorithm, &RRSIG_ALGORITHMS, cx);
    let mut shown = format!("RRSIG {covered} ").into_bytes();
    match signer.as_bytes() {
        b"" => shown.extend_from_slice(b"<Root>"),
        name => shown.extend_from_slice(name),
    }
    Some(shown)
}

fn dnskey(reader: &mut Reader<'_>, len: usize, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    /// Zone key, revoked, secure entry point (RFC 4034 section 2.1.1, RFC 5011 section 3).
    const KNOWN_FLAGS: u16 = 0x0181;
    if reader.len() < 4 {
        return None;
    }
    let flags = reader.short();
    let (protocol, algorithm) = (reader.byte(), reader.byte());
    reader.up_to(len.saturating_sub(4));
    if flags & !KNOWN_FLAGS != 0 {
        cx.weird_with("DNSSEC_DNSKEY_Invalid_Flag", &flags.to_string());
    }
    if flags & KNOWN_FLAGS == KNOWN_FLAGS {
        cx.weird_with("DNSSEC_DNSKEY_Revoked_KSK", &flags.to_string());
    }
    if protocol != 3 {
        cx.weird_with("DNSSEC_DNSKEY_Invalid_Protocol", &protocol.to_string());
    }
    odd_algorithm(algorithm, &DNSKEY_ALGORITHMS, cx);
    Some(format!("DNSKEY {algorithm}").into_bytes())
}

fn nsec(reader: &mut Reader<'_>, record: &Record, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    let start = reader.at;
    let mut next = Name::root();
    reader.name(&mut next, cx)?;
    type_maps(reader, start, record.len, "DNSSEC_NSEC_bitmapLen0", cx);
    Some([b"NSEC ", record.owner.as_bytes(), b" ", next.as_bytes()].concat())
}

fn nsec3(reader: &mut Reader<'_>, len: usize, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    if reader.len() < 6 {
        return None;
    }
    let start = reader.at;
    reader.long();
    for _salt_then_hash in 0..2 {
        let len = reader.byte();
        reader.up_to(usize::from(len));
    }
    type_maps(reader, start, len, "DNSSEC_NSEC3_bitmapLen0", cx);
    Some(b"NSEC3".to_vec())
}

/// Which types there are, in windows (RFC 4034 section 4.1.2), from here to the end of the
/// record that began at `start`.
fn type_maps(
    reader: &mut Reader<'_>,
    start: usize,
    len: usize,
    empty: &'static str,
    cx: &mut Cx<'_>,
) {
    while reader.at - start < len && reader.len() > 0 {
        if reader.len() < 2 {
            reader.up_to(1);
            return;
        }
        let (window, map_len) = (reader.byte(), reader.byte());
        if map_len == 0 {
            cx.weird_with(empty, &window.to_string());
            return;
        }
        reader.up_to(usize::from(map_len));
    }
}

fn nsec3param(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    if reader.len() < 5 {
        return None;
    }
    reader.long();
    let salt_len = reader.byte();
    reader.up_to(usize::from(salt_len));
    Some(b"NSEC3PARAM".to_vec())
}

fn bind_signing(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    const LEN: usize = 5;
    if reader.len() < LEN {
        return None;
    }
    reader.up_to(LEN);
    Some(b"BIND9 signing signal".to_vec())
}
