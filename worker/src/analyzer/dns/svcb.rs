//! SVCB and HTTPS records (RFC 9460 section 2.2): no column shows them, but what is odd about
//! them is told.

use super::name::{Name, Reader};
use crate::analyzer::Cx;
use crate::analyzer::bytes::Cursor;

/// Reads a record of `len` bytes.
pub(super) fn check(reader: &mut Reader<'_>, len: usize, cx: &mut Cx<'_>) -> Option<()> {
    const LEN_MIN: usize = 3;
    if reader.len() < LEN_MIN {
        cx.weird("DNS_SVCB_wrong_length");
        return None;
    }
    let start = reader.at;
    let priority = reader.short();
    reader.name_as_is(&mut Name::root(), cx)?;
    let left = len.saturating_sub(reader.at - start);
    if left == 0 {
        return Some(());
    }
    if priority == 0 {
        cx.weird("DNS_SVCB_aliasmode_with_params");
    }
    let mut params = Cursor::new(reader.up_to(left));
    while params.len() >= 4 {
        let (Some(key), Some(value_len)) = (params.be16(), params.be16()) else { break };
        let left = params.len();
        let Some(value) = params.take(usize::from(value_len)) else {
            let capped = format!("{value_len} capped to {left}");
            cx.weird_with("DNS_SVCB_param_value_toobig", &capped);
            break;
        };
        if let Some(weird) = param_weird(key, value) {
            cx.weird(weird);
        }
    }
    Some(())
}

fn param_weird(key: u16, value: &[u8]) -> Option<&'static str> {
    let len = value.len();
    match key {
        0 => (len == 0 || !len.is_multiple_of(2)).then_some("DNS_SVCB_mandatory_length_invalid"),
        1 => (!is_alpn(value)).then_some("DNS_SVCB_alpn_length_invalid"),
        2 => (len > 0).then_some("DNS_SVCB_nodefaultalpn_value"),
        3 => (len != 2).then_some("DNS_SVCB_port_length_invalid"),
        4 => (!len.is_multiple_of(4)).then_some("DNS_SVCB_hint_length_invalid"),
        6 => (!len.is_multiple_of(16)).then_some("DNS_SVCB_hint_length_invalid"),
        5 => None,
        _ => Some("DNS_SVCB_key_reserved_or_invalid"),
    }
}

/// Names with their lengths, none empty, up to the end.
fn is_alpn(value: &[u8]) -> bool {
    let mut names = Cursor::new(value);
    while let Some(len) = names.u8() {
        if len == 0 || names.skip(usize::from(len)).is_none() {
            return false;
        }
    }
    true
}
