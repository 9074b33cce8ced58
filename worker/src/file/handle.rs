//! Pieces of the handles that Zeek gives files: the same handle is the same id.

use tyto_core::net::ConnId;
use tyto_core::time::Ts;

/// A time as Zeek prints it there: in seconds, without zeros at the end.
pub(crate) fn time(ts: Ts) -> String {
    let micros = ts.0 / 1000;
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

/// Who with whom.
pub(crate) fn id(id: &ConnId) -> String {
    format!("{}:{} > {}:{}", id.orig_h, id.orig_p.0, id.resp_h, id.resp_p.0)
}

/// Text in which bytes that cannot be printed are spelt `\xNN` (Zeek: `clean`).
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' '..=b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\x{other:02x}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_no_zeros_at_their_end() {
        assert_eq!(time(Ts::new(1_398_362_902, 712_000_000)), "1398362902.712");
        assert_eq!(time(Ts::new(1_398_362_902, 0)), "1398362902.0");
    }

    #[test]
    fn what_cannot_be_printed_is_spelt_out() {
        assert_eq!(printable(b"\\\\a\\b c\0\xe9"), r"\\a\b c\x00\xe9");
    }
}
