//! The first bytes of HTTP (Zeek: `dpd_http_client`, `dpd_http_server`). Either side will do:
//! one may be larger than what detection keeps.

use super::super::{First, Match};

/// Methods by which requests are recognised.
const METHODS: &[&[u8]] = &[
    b"OPTIONS",
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"ACL",
    b"BASELINE-CONTROL",
    b"BIND",
    b"CHECKIN",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"LABEL",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MKREDIRECTREF",
    b"MOVE",
    b"ORDERPATCH",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"TRACE",
    b"UNBIND",
    b"UNCHECKOUT",
    b"UNLINK",
    b"UNLOCK",
    b"UPDATE",
    b"VERSION-CONTROL",
    b"BCOPY",
    b"BDELETE",
    b"BMOVE",
    b"BPROPFIND",
    b"BPROPPATCH",
    b"NOTIFY",
    b"POLL",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
    b"X-MS-ENUMATTS",
    b"MKWORKSPACE",
    b"RPC_IN_DATA",
    b"RPC_OUT_DATA",
];

pub(super) fn probe(first: &First<'_>) -> Match {
    match (request(first.orig), reply(first.resp)) {
        (Match::Yes, _) | (_, Match::Yes) => Match::Yes,
        (Match::No, Match::No) => Match::No,
        _ => Match::Later,
    }
}

fn request(bytes: &[u8]) -> Match {
    let is_space = |c: &u8| c.is_ascii_whitespace() || *c == 0x0b;
    let space = bytes.iter().take_while(|c| is_space(c)).count();
    let rest = bytes.get(space..).unwrap_or_default();
    let Some(byte) = rest.first() else { return Match::Later };
    if !byte.is_ascii_uppercase() {
        return Match::No;
    }
    if METHODS.iter().any(|method| rest.starts_with(method)) {
        Match::Yes
    } else if METHODS.iter().any(|method| method.starts_with(rest)) {
        Match::Later
    } else {
        Match::No
    }
}

fn reply(bytes: &[u8]) -> Match {
    let len = bytes.len().min(5);
    let (begin, rest) = bytes.split_at_checked(len).unwrap_or_default();
    let expected = b"HTTP/".get(..len).unwrap_or_default();
    match rest.first() {
        _ if !begin.eq_ignore_ascii_case(expected) => Match::No,
        None => Match::Later,
        Some(c) if c.is_ascii_digit() => Match::Yes,
        Some(_) => Match::No,
    }
}
