//! Words for the numbers of LDAP: operations (RFC 4511 section 4.2 on) and result codes (its
//! appendix A, and IANA's registry), spelled as Zeek's logs have them.

/// Operations, by their tags.
pub(super) mod op {
    pub(in super::super) const BIND_REQUEST: u8 = 0;
    pub(in super::super) const BIND_RESPONSE: u8 = 1;
    pub(in super::super) const UNBIND_REQUEST: u8 = 2;
    pub(in super::super) const SEARCH_REQUEST: u8 = 3;
    pub(in super::super) const SEARCH_RESULT_ENTRY: u8 = 4;
    pub(in super::super) const SEARCH_RESULT_DONE: u8 = 5;
    pub(in super::super) const MODIFY_REQUEST: u8 = 6;
    pub(in super::super) const MODIFY_RESPONSE: u8 = 7;
    pub(in super::super) const ADD_REQUEST: u8 = 8;
    pub(in super::super) const ADD_RESPONSE: u8 = 9;
    pub(in super::super) const DEL_REQUEST: u8 = 10;
    pub(in super::super) const DEL_RESPONSE: u8 = 11;
    pub(in super::super) const MOD_DN_REQUEST: u8 = 12;
    pub(in super::super) const MOD_DN_RESPONSE: u8 = 13;
    pub(in super::super) const COMPARE_REQUEST: u8 = 14;
    pub(in super::super) const COMPARE_RESPONSE: u8 = 15;
    pub(in super::super) const ABANDON_REQUEST: u8 = 16;
    pub(in super::super) const SEARCH_RESULT_REFERENCE: u8 = 19;
    pub(in super::super) const EXTENDED_REQUEST: u8 = 23;
    pub(in super::super) const EXTENDED_RESPONSE: u8 = 24;
    pub(in super::super) const INTERMEDIATE_RESPONSE: u8 = 25;
}

/// What is done, requests and answers alike.
pub(super) const fn operation(operation: u8) -> &'static str {
    match operation {
        op::BIND_REQUEST | op::BIND_RESPONSE => "bind",
        op::UNBIND_REQUEST => "unbind",
        op::SEARCH_REQUEST
        | op::SEARCH_RESULT_ENTRY
        | op::SEARCH_RESULT_DONE
        | op::SEARCH_RESULT_REFERENCE => "search",
        op::MODIFY_REQUEST | op::MODIFY_RESPONSE | op::MOD_DN_REQUEST | op::MOD_DN_RESPONSE => {
            "modify"
        }
        op::ADD_REQUEST | op::ADD_RESPONSE => "add",
        op::DEL_REQUEST | op::DEL_RESPONSE => "delete",
        op::COMPARE_REQUEST | op::COMPARE_RESPONSE => "compare",
        op::ABANDON_REQUEST => "abandon",
        op::EXTENDED_REQUEST | op::EXTENDED_RESPONSE => "extended",
        op::INTERMEDIATE_RESPONSE => "intermediate",
        _ => "unknown",
    }
}

/// How an operation ended.
pub(super) const fn result(code: u8) -> &'static str {
    // Longer than 70 lines: a table.
    match code {
        0 => "success",
        1 => "operations error",
        2 => "protocol error",
        3 => "time limit exceeded",
        4 => "size limit exceeded",
        5 => "compare false",
        6 => "compare true",
        7 => "auth method not supported",
        8 => "stronger auth required",
        9 => "partial results",
        10 => "referral",
        11 => "admin limit exceeded",
        12 => "unavailable critical extension",
        13 => "confidentiality required",
        14 => "SASL bind in progress",
        16 => "no such attribute",
        17 => "undefined attribute type",
        18 => "inappropriate matching",
        19 => "constraint violation",
        20 => "attribute or value exists",
        21 => "invalid attribute syntax",
        32 => "no such object",
        33 => "alias problem",
        34 => "invalid DN syntax",
        36 => "alias dereferencing problem",
        48 => "inappropriate authentication",
        49 => "invalid credentials",
        50 => "insufficient access rights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwilling to perform",
        54 => "loop detect",
        60 => "sort control missing",
        61 => "offset range error",
        64 => "naming violation",
        65 => "object class violation",
        66 => "not allowed on non-leaf",
        67 => "not allowed on RDN",
        68 => "entry already exists",
        69 => "object class mods prohibited",
        70 => "results too large",
        71 => "affects multiple DSAs",
        76 => "control error",
        80 => "other",
        81 => "server down",
        82 => "local error",
        83 => "encoding error",
        84 => "decoding error",
        85 => "timeout",
        86 => "auth unknown",
        87 => "filter error",
        88 => "user canceled",
        89 => "param error",
        90 => "no memory",
        91 => "connect error",
        92 => "not supported",
        93 => "control not found",
        94 => "no results returned",
        95 => "more results to return",
        96 => "client loop",
        97 => "referral limit exceeded",
        100 => "invalid response",
        101 => "ambiguous response",
        112 => "TLS not supported",
        113 => "intermediate response",
        114 => "unknown type",
        115 => "LCUP invalid data",
        116 => "LCUP unsupported scheme",
        117 => "LCUP reload required",
        118 => "canceled",
        119 => "no such operation",
        120 => "too late",
        121 => "cannot cancel",
        122 => "assertion failed",
        123 => "authorization denied",
        _ => "unknown",
    }
}

/// How far a search goes.
pub(super) const fn scope(scope: u8) -> &'static str {
    match scope {
        0 => "base",
        1 => "single",
        2 => "tree",
        _ => "unknown",
    }
}

/// Which aliases a search follows.
pub(super) const fn aliases(aliases: u8) -> &'static str {
    match aliases {
        0 => "never",
        1 => "searching",
        2 => "finding",
        3 => "always",
        _ => "unknown",
    }
}

/// Object id by which a client asks for TLS (RFC 4511 section 4.14.1).
pub(super) const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
const WHO_AM_I: &[u8] = b"1.3.6.1.4.1.4203.1.11.3";

/// What an extended operation is.
pub(super) fn extension(name: &[u8]) -> &'static str {
    match name {
        START_TLS => "StartTLS",
        WHO_AM_I => "whoami",
        _ => "unknown",
    }
}
