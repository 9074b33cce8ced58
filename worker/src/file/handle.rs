//! Handles of files, spelt as Zeek does: the same handle is the same id.

use std::net::IpAddr;

use tyto_core::net::ConnId;
use tyto_core::record::print::{print_addr, print_micros};
use tyto_core::time::Ts;

use crate::analyzer::text::hex;

/// Bytes that most handles have at most.
const USUAL_BYTES: usize = 128;

/// A handle that is being written.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Vec<u8>);

impl Handle {
    /// The handle of a file that `analyzer` found.
    pub(crate) fn of(analyzer: &str) -> Self {
        let mut text = Vec::with_capacity(USUAL_BYTES);
        text.extend_from_slice(b"Analyzer::ANALYZER_");
        text.extend_from_slice(analyzer.as_bytes());
        Self(text)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Adds `text`.
    pub(crate) fn text(mut self, text: &[u8]) -> Self {
        self.0.extend_from_slice(text);
        self
    }

    /// Adds whether the originator sends it.
    pub(crate) fn sender(self, is_orig: bool) -> Self {
        self.text(if is_orig { b"T" } else { b"F" })
    }

    /// Adds a number.
    pub(crate) fn number(self, number: u64) -> Self {
        self.text(itoa::Buffer::new().format(number).as_bytes())
    }

    /// Adds a time in seconds, without zeros at the end.
    pub(crate) fn time(mut self, ts: Ts) -> Self {
        print_micros(&mut self.0, ts.0 / 1000);
        while self.0.ends_with(b"0") {
            self.0.pop();
        }
        if self.0.ends_with(b".") { self.text(b"0") } else { self }
    }

    /// Adds an address.
    pub(crate) fn addr(mut self, addr: IpAddr) -> Self {
        print_addr(&mut self.0, addr);
        self
    }

    /// Adds who with whom.
    pub(crate) fn id(self, id: &ConnId) -> Self {
        let handle = self.addr(id.orig_h).text(b":").number(id.orig_p.0.into());
        handle.text(b" > ").addr(id.resp_h).text(b":").number(id.resp_p.0.into())
    }

    /// Adds text in which bytes that cannot be printed are spelt `\xNN` (Zeek: `clean`).
    pub(crate) fn printable(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            match byte {
                b' '..=b'~' => self.0.push(*byte),
                other => {
                    self.0.extend_from_slice(b"\\x");
                    self.0.extend_from_slice(hex(&[*other]).as_bytes());
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use tyto_core::net::Port;

    use super::*;

    fn of(write: impl FnOnce(Handle) -> Handle) -> String {
        let handle = write(Handle::of("HTTP")).into_bytes();
        String::from_utf8(handle).unwrap().replace("Analyzer::ANALYZER_HTTP", "")
    }

    #[test]
    fn times_have_no_zeros_at_their_end() {
        assert_eq!(of(|h| h.time(Ts::new(1_398_362_902, 712_000_000))), "1398362902.712");
        assert_eq!(of(|h| h.time(Ts::new(1_398_362_902, 0))), "1398362902.0");
        assert_eq!(of(|h| h.time(Ts(0))), "0.0");
    }

    #[test]
    fn what_cannot_be_printed_is_spelt_out() {
        assert_eq!(of(|h| h.printable(b"\\\\a\\b c\0\xe9")), r"\\a\b c\x00\xe9");
    }

    #[test]
    fn all_of_a_handle_stands_in_its_order() {
        let id = ConnId {
            orig_h: [192, 0, 2, 1].into(),
            orig_p: Port(1234),
            resp_h: "2001:db8::1".parse().unwrap(),
            resp_p: Port(80),
        };
        let handle = |h: Handle| h.time(Ts::new(1, 500_000_000)).sender(true).number(2).id(&id);
        assert_eq!(of(handle), "1.5T2192.0.2.1:1234 > 2001:db8::1:80");
    }
}
