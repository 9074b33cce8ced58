//! Base64 (RFC 4648 section 4) as lenient as Zeek's: what is no digit is passed over, in pieces
//! of any size.

/// The decoder of one body or header.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    bits: u32,
    digits: u8,
    padding: u8,
    is_over: bool,
    errors: u32,
}

/// What is wrong with the input, in Zeek's words. Of characters and groups only the first is told.
pub(super) type Complaint = String;

impl Base64 {
    /// Decodes `text` to the end of `out`.
    pub(super) fn feed(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Complaint> {
        let mut complaint = None;
        for &c in text {
            let value = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => {
                    self.padding = self.padding.saturating_add(1);
                    0
                }
                _ => {
                    let told = format!("character {c} ignored by Base64 decoding");
                    complaint = self.error(told).or(complaint);
                    continue;
                }
            };
            self.bits = self.bits << 6 | u32::from(value);
            self.digits += 1;
            if self.digits == 4 {
                complaint = self.group(out).or(complaint);
            }
        }
        complaint
    }

    /// The text is over.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Option<Complaint> {
        if self.digits == 0 {
            return None;
        }
        let missing = 4 - self.digits;
        let bits = u32::from(missing) * 6;
        let told = format!("incomplete base64 group, padding with {bits} bits of 0");
        let _ = self.feed(b"===".get(..usize::from(missing)).unwrap_or_default(), out);
        Some(told)
    }

    /// Something was passed over.
    pub(super) const fn has_erred(&self) -> bool {
        self.errors > 0
    }

    fn group(&mut self, out: &mut Vec<u8>) -> Option<Complaint> {
        self.digits = 0;
        let bits = std::mem::take(&mut self.bits);
        if self.is_over {
            return self.error("extra base64 groups after '=' padding are ignored".to_owned());
        }
        let [_, octets @ ..] = bits.to_be_bytes();
        let len = 3_usize.saturating_sub(usize::from(self.padding));
        out.extend_from_slice(octets.get(..len).unwrap_or_default());
        self.is_over = self.padding > 0;
        self.padding = 0;
        None
    }

    fn error(&mut self, told: Complaint) -> Option<Complaint> {
        self.errors += 1;
        (self.errors == 1).then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_in_pieces_and_odd_characters_are_passed_over() {
        let mut base64 = Base64::default();
        let mut out = Vec::new();
        assert_eq!(base64.feed(b"aGVs", &mut out), None);
        assert!(base64.feed(b"b*G8", &mut out).is_some());
        assert!(base64.end(&mut out).is_some());
        assert_eq!((&*out, base64.has_erred()), (&b"hello"[..], true));
    }

    #[test]
    fn padding_ends_the_text() {
        let mut base64 = Base64::default();
        let mut out = Vec::new();
        assert_eq!(base64.feed(b"aA==", &mut out), None);
        assert!(base64.feed(b"aGVs", &mut out).is_some());
        assert_eq!(out, b"h");
    }
}
