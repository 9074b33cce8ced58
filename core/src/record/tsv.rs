//! Zeek's tab-separated log format: header, rows, trailer, escapes.
//! Source of truth: Zeek's ASCII writer with its default options (`\t`, `,`, `-`, `(empty)`,
//! UTF-8 on); reference/zeek.md section 5.

use std::net::IpAddr;

use super::FieldSink;
use super::print::{print_addr, print_micros};
use super::schema::Schema;
use crate::time::{Interval, Ts};

const UNSET: &[u8] = b"-";
const EMPTY: &[u8] = b"(empty)";

/// The lines above the first row. `open` is the local time as `YYYY-MM-DD-HH-MM-SS`.
pub fn header(schema: &Schema, open: &str) -> String {
    let mut text = String::from(
        "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n",
    );
    text.push_str(&format!("#path\t{}\n#open\t{open}\n#fields", schema.stream));
    for field in &schema.fields {
        text.push('\t');
        text.push_str(&field.name);
    }
    text.push_str("\n#types");
    for field in &schema.fields {
        text.push('\t');
        text.push_str(&field.field_type.to_string());
    }
    text.push('\n');
    text
}

/// The line below the last row.
pub fn trailer(close: &str) -> String {
    format!("#close\t{close}\n")
}

/// Writes one line into a buffer: columns by the methods of [`FieldSink`], then [`TsvRow::end_row`].
#[derive(Debug)]
pub struct TsvRow<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    columns: usize,
    container: Option<Container>,
}

#[derive(Clone, Copy, Debug)]
struct Container {
    values: usize,
}

impl<'a> TsvRow<'a> {
    /// Begins a line behind what `out` holds already.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start, columns: 0, container: None }
    }

    /// Ends the line. One that begins with `#` would read as part of the header, so that its
    /// first byte is escaped.
    pub fn end_row(self) {
        self.out.push(b'\n');
        if self.out.get(self.start) == Some(&b'#') {
            self.out.splice(self.start..=self.start, *b"\\x23");
        }
    }

    /// Takes the line back: its row turned out to be broken.
    pub fn discard(self) {
        self.out.truncate(self.start);
    }

    fn next(&mut self) {
        match &mut self.container {
            Some(container) => {
                if container.values > 0 {
                    self.out.push(b',');
                }
                container.values += 1;
            }
            None => {
                if self.columns > 0 {
                    self.out.push(b'\t');
                }
                self.columns += 1;
            }
        }
    }

    fn digits(&mut self, value: u64) {
        // Nearly half of all numbers are a digit.
        if let Ok(digit @ 0..=9) = u8::try_from(value) {
            return self.out.push(b'0' + digit);
        }
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

impl FieldSink for TsvRow<'_> {
    fn unset(&mut self) {
        self.next();
        self.out.extend_from_slice(UNSET);
    }

    fn time(&mut self, value: Ts) {
        self.next();
        if value.nanos_signed() < 0 {
            self.out.push(b'-');
        }
        print_micros(self.out, value.nanos_signed().unsigned_abs() / 1_000);
    }

    fn interval(&mut self, value: Interval) {
        self.next();
        if value.0 < 0 {
            self.out.push(b'-');
        }
        print_micros(self.out, (value.0.unsigned_abs() + 500) / 1_000);
    }

    fn addr(&mut self, value: IpAddr) {
        self.next();
        print_addr(self.out, value);
    }

    fn port(&mut self, value: u16) {
        self.next();
        self.digits(u64::from(value));
    }

    fn subnet(&mut self, net: IpAddr, prefix_len: u8) {
        self.next();
        print_addr(self.out, net);
        self.out.push(b'/');
        self.digits(u64::from(prefix_len));
    }

    fn count(&mut self, value: u64) {
        self.next();
        self.digits(value);
    }

    fn int(&mut self, value: i64) {
        self.next();
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn double(&mut self, value: f64) {
        self.next();
        print_double(self.out, value);
    }

    fn bool(&mut self, value: bool) {
        self.next();
        self.out.push(if value { b'T' } else { b'F' });
    }

    fn string(&mut self, value: &[u8]) {
        self.next();
        let in_container = self.container.is_some();
        if value.is_empty() {
            self.out.extend_from_slice(EMPTY);
        } else if value == UNSET || value == EMPTY {
            // Would read as unset or empty: Zeek escapes the first byte.
            push_hex(self.out, value[0]);
            self.out.extend_from_slice(&value[1..]);
        } else {
            escape(self.out, value, in_container);
        }
    }

    fn begin(&mut self, len: usize) {
        self.next();
        self.container = Some(Container { values: 0 });
        if len == 0 {
            self.out.extend_from_slice(EMPTY);
        }
    }

    fn end(&mut self) {
        self.container = None;
    }
}

/// Six decimals at most, trailing zeros cut, a whole number as `N.0`, never an exponent.
fn print_double(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"nan");
        return;
    }
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
        return;
    }
    let text = format!("{value:.6}");
    let cut = text.trim_end_matches('0');
    out.extend_from_slice(cut.as_bytes());
    if cut.ends_with('.') {
        out.push(b'0');
    }
}

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// What is escaped, or needs a closer look: all but printable ASCII, and the backslash.
const ESCAPED: u8 = 1;
/// What is escaped between the separators of a container.
const ESCAPED_IN_CONTAINER: u8 = 2;
/// Which of them each byte is.
const MARKS: [u8; 256] = {
    let mut marks = [ESCAPED; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        marks[byte] = 0;
        byte += 1;
    }
    marks[b'\\' as usize] = ESCAPED;
    marks[b',' as usize] = ESCAPED_IN_CONTAINER;
    marks
};

/// Zeek looks at the pieces between escapes one by one: a piece that is clean UTF-8 stays as
/// it is, in any other each byte that is not printable ASCII becomes `\xNN`.
fn escape(out: &mut Vec<u8>, value: &[u8], in_container: bool) {
    let special = |byte: u8| byte == b'\\' || byte == b'\t' || (in_container && byte == b',');
    // Nearly all values are plain: looks at all bytes without a branch for each.
    let marks = if in_container { ESCAPED | ESCAPED_IN_CONTAINER } else { ESCAPED };
    let found = value.iter().fold(0, |found, &byte| found | MARKS[usize::from(byte)]);
    if found & marks == 0 {
        out.extend_from_slice(value);
        return;
    }
    let mut rest = value;
    while !rest.is_empty() {
        let len = rest.iter().position(|&byte| special(byte)).unwrap_or(rest.len());
        let (piece, tail) = rest.split_at(len);
        if is_clean_utf8(piece) {
            out.extend_from_slice(piece);
        } else {
            for &byte in piece {
                match byte {
                    0x20..0x7f => out.push(byte),
                    _ => push_hex(out, byte),
                }
            }
        }
        rest = match tail.split_first() {
            Some((b'\\', tail)) => {
                out.extend_from_slice(b"\\\\");
                tail
            }
            Some((&byte, tail)) => {
                push_hex(out, byte);
                tail
            }
            None => tail,
        };
    }
}

/// UTF-8 without control characters, private use area and specials.
pub(super) fn is_clean_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        !text.chars().any(|c| {
            matches!(c, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}'
                | '\u{fff0}'..='\u{ffff}')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(write: impl FnOnce(&mut TsvRow<'_>)) -> String {
        let mut out = Vec::new();
        let mut row = TsvRow::new(&mut out);
        write(&mut row);
        row.end_row();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_and_intervals_have_six_decimals() {
        let text = line(|row| {
            row.time(Ts::new(1_300_475_167, 96_535_999));
            row.time(Ts::signed(-2_082_844_800_000_001_000));
            row.interval(Interval(-1_500_000));
        });
        assert_eq!(text, "1300475167.096535\t-2082844800.000001\t-0.001500\n");
    }

    #[test]
    fn doubles_lose_trailing_zeros_but_not_the_point() {
        let text = line(|row| {
            for value in [1.0, 0.25, 1e12, -0.000_000_1] {
                row.double(value);
            }
        });
        assert_eq!(text, "1.0\t0.25\t1000000000000.0\t-0.0\n");
    }

    #[test]
    fn strings_that_would_read_as_unset_or_empty_are_escaped() {
        let text = line(|row| {
            row.string(b"-");
            row.string(b"(empty)");
            row.string(b"");
            row.unset();
        });
        assert_eq!(text, "\\x2d\t\\x28empty)\t(empty)\t-\n");
    }

    #[test]
    fn separators_backslashes_and_bad_bytes_are_escaped() {
        let text = line(|row| {
            row.string(b"a\tb\\c,d");
            row.string("grün".as_bytes());
            row.string(b"gr\xfcn");
            row.string("a\nü".as_bytes());
        });
        assert_eq!(text, "a\\x09b\\\\c,d\tgrün\tgr\\xfcn\ta\\x0a\\xc3\\xbc\n");
    }

    #[test]
    fn containers_escape_the_comma_and_print_empty() {
        let text = line(|row| {
            row.begin(2);
            row.string(b"a,b");
            row.unset();
            row.end();
            row.begin(0);
            row.end();
            row.count(7);
        });
        assert_eq!(text, "a\\x2cb,-\t(empty)\t7\n");
    }

    #[test]
    fn a_line_that_begins_with_a_hash_is_escaped() {
        assert_eq!(line(|row| row.string(b"#x")), "\\x23x\n");
    }
}
