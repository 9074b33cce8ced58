//! Zeek's JSON log format: one object per line, unset columns left out, times in one of the
//! styles of `LogAscii::json_timestamps`, seconds unless asked for another.
//! Source of truth: Zeek's JSON formatter with its default options.

use std::net::IpAddr;

use super::FieldSink;
use super::print::{print_addr, print_micros};
use super::schema::Schema;
use super::tsv::is_clean_utf8;
use crate::config::logs::JsonTimestamps;
use crate::time::{Interval, Ts};

/// Writes one line into a buffer: columns by the methods of [`FieldSink`], then [`JsonRow::end_row`].
#[derive(Debug)]
pub struct JsonRow<'a> {
    schema: &'a Schema,
    out: &'a mut Vec<u8>,
    start: usize,
    column: usize,
    written: usize,
    container: Option<usize>,
    times: JsonTimestamps,
}

impl<'a> JsonRow<'a> {
    /// Begins a line behind what `out` holds already.
    pub fn new(schema: &'a Schema, out: &'a mut Vec<u8>) -> Self {
        Self::with_times(schema, out, JsonTimestamps::Epoch)
    }

    /// The same, with times in another style.
    pub fn with_times(schema: &'a Schema, out: &'a mut Vec<u8>, times: JsonTimestamps) -> Self {
        let start = out.len();
        out.push(b'{');
        Self { schema, out, start, column: 0, written: 0, container: None, times }
    }

    /// Ends the line.
    pub fn end_row(self) {
        self.out.extend_from_slice(b"}\n");
    }

    /// Takes the line back: its row turned out to be broken.
    pub fn discard(self) {
        self.out.truncate(self.start);
    }

    /// Separator, and the column's name unless in a container.
    fn key(&mut self) {
        if let Some(values) = &mut self.container {
            if *values > 0 {
                self.out.push(b',');
            }
            *values += 1;
            return;
        }
        if self.written > 0 {
            self.out.push(b',');
        }
        self.written += 1;
        let name = self.schema.fields.get(self.column).map_or("", |field| field.name.as_ref());
        self.column += 1;
        quote(self.out, name.as_bytes());
        self.out.push(b':');
    }

    fn number(&mut self, value: f64) {
        self.key();
        print_double(self.out, value);
    }

    fn text(&mut self, print: impl FnOnce(&mut Vec<u8>)) {
        self.key();
        self.out.push(b'"');
        print(self.out);
        self.out.push(b'"');
    }
}

impl FieldSink for JsonRow<'_> {
    fn unset(&mut self) {
        if self.container.is_some() {
            self.key();
            self.out.extend_from_slice(b"null");
        } else {
            self.column += 1;
        }
    }

    fn time(&mut self, value: Ts) {
        let nanos = value.nanos_signed();
        match self.times {
            JsonTimestamps::Epoch => {
                self.key();
                if nanos < 0 {
                    self.out.push(b'-');
                }
                print_seconds(self.out, nanos.unsigned_abs() / 1_000);
            }
            // Towards zero, as the cast of a double in Zeek.
            JsonTimestamps::Millis => self.int(nanos / 1_000_000),
            JsonTimestamps::MillisUnsigned => self.count((nanos / 1_000_000).cast_unsigned()),
            JsonTimestamps::Iso8601 => self.text(|out| print_iso8601(out, nanos)),
        }
    }

    fn interval(&mut self, value: Interval) {
        self.key();
        if value.0 < 0 {
            self.out.push(b'-');
        }
        print_seconds(self.out, (value.0.unsigned_abs() + 500) / 1_000);
    }

    fn addr(&mut self, value: IpAddr) {
        self.text(|out| print_addr(out, value));
    }

    fn port(&mut self, value: u16) {
        self.count(u64::from(value));
    }

    fn subnet(&mut self, net: IpAddr, prefix_len: u8) {
        self.text(|out| {
            print_addr(out, net);
            out.extend_from_slice(format!("/{prefix_len}").as_bytes());
        });
    }

    fn count(&mut self, value: u64) {
        self.key();
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn int(&mut self, value: i64) {
        self.key();
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn double(&mut self, value: f64) {
        self.number(value);
    }

    fn bool(&mut self, value: bool) {
        self.key();
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn string(&mut self, value: &[u8]) {
        self.key();
        quote(self.out, value);
    }

    fn begin(&mut self, _len: usize) {
        self.key();
        self.out.push(b'[');
        self.container = Some(0);
    }

    fn end(&mut self) {
        self.container = None;
        self.out.push(b']');
    }
}

/// `micros` as the shortest text of so many seconds. Below 2^33 s a double tells microseconds
/// apart, so that the shortest text is the decimal one without its trailing zeros: printing it
/// from the integer gives the same bytes as from the double, in a fifth of the time.
fn print_seconds(out: &mut Vec<u8>, micros: u64) {
    if micros >= 1_000_000 << 33 {
        print_double(out, micros as f64 / 1e6);
        return;
    }
    print_micros(out, micros);
    while out.ends_with(b"0") && !out.ends_with(b".0") {
        out.pop();
    }
}

/// `2026-11-22T09:10:11.123456Z`; cut off behind the microseconds.
fn print_iso8601(out: &mut Vec<u8>, nanos: i64) {
    let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let micros = rest / 1_000;
    let text =
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
    out.extend_from_slice(text.as_bytes());
}

/// Year, month and day of a day counted from 1970-01-01, by the Gregorian calendar: Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
const fn civil(days: i64) -> (i64, i64, i64) {
    // Years begin in March, so that leap days come last; eras have 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + (month <= 2) as i64, month, day)
}

/// Shortest text that reads back as the same number, with a point; `null` for what JSON lacks.
fn print_double(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    let size = value.abs();
    let plain = size == 0.0 || (1e-6..1e21).contains(&size);
    let text = if plain { format!("{value}") } else { format!("{value:e}") };
    out.extend_from_slice(text.as_bytes());
    if plain && !text.contains('.') {
        out.extend_from_slice(b".0");
    }
}

/// A JSON string. Bytes that are not clean UTF-8 come as the text `\xNN`, as in Zeek.
fn quote(out: &mut Vec<u8>, value: &[u8]) {
    let printable = |byte: u8| matches!(byte, 0x20..0x7f | 0x08 | 0x0a | 0x0c | 0x0d | b'\t');
    out.push(b'"');
    let clean = value.split(|&byte| printable(byte)).all(is_clean_utf8);
    for &byte in value {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x20..0x7f => out.push(byte),
            _ if clean => out.push(byte),
            _ => out.extend_from_slice(format!("\\\\x{byte:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::schema::{FieldType, Scalar, SchemaField};

    /// Zeek 8.2: `LogAscii::json_timestamps` of each style.
    #[test]
    fn times_print_in_each_of_zeeks_styles() {
        let field = SchemaField {
            name: "ts".into(),
            field_type: FieldType::One(Scalar::Time),
            doc: "".into(),
        };
        let schema = Schema { stream: "conn".into(), fields: vec![field] };
        let printed = |times, nanos: i64| {
            let mut out = Vec::new();
            let mut row = JsonRow::with_times(&schema, &mut out, times);
            row.time(Ts(nanos.cast_unsigned()));
            row.end_row();
            String::from_utf8(out).unwrap()
        };
        let at = 1_709_210_096_789_012_345;
        for (times, expected) in [
            (JsonTimestamps::Epoch, "1709210096.789012"),
            (JsonTimestamps::Millis, "1709210096789"),
            (JsonTimestamps::MillisUnsigned, "1709210096789"),
            (JsonTimestamps::Iso8601, "\"2024-02-29T12:34:56.789012Z\""),
        ] {
            assert_eq!(printed(times, at), format!("{{\"ts\":{expected}}}\n"));
        }
        let before = -1_500_000_000;
        for (times, expected) in [
            (JsonTimestamps::Millis, "-1500"),
            (JsonTimestamps::MillisUnsigned, "18446744073709550116"),
            (JsonTimestamps::Iso8601, "\"1969-12-31T23:59:58.500000Z\""),
        ] {
            assert_eq!(printed(times, before), format!("{{\"ts\":{expected}}}\n"));
        }
    }

    proptest! {
        /// As Zeek prints it, from the double.
        #[test]
        fn seconds_print_as_the_double_does(
            micros in prop_oneof![0_u64..3_000_000, 0_u64..2_000_000_000_000_000, any::<u64>()],
        ) {
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            print_seconds(&mut found, micros);
            print_double(&mut expected, micros as f64 / 1e6);
            prop_assert_eq!(String::from_utf8(found), String::from_utf8(expected));
        }
    }
}
