//! One declaration, three encodings: what goes over the wire prints as what was written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use tyto_core::net::{ConnId, Port, Proto};
use tyto_core::record::condition::Condition;
use tyto_core::record::json::JsonRow;
use tyto_core::record::line::{LineError, LineFormat, LineReader, schema_of_header};
use tyto_core::record::tsv::{TsvRow, header, trailer};
use tyto_core::record::value::Vector;
use tyto_core::record::{LogRecord, wire};
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::Uid;

/// A row with a column of each kind.
#[derive(Clone, Debug, LogRecord)]
#[log(stream = "sample")]
struct Sample {
    /// When.
    ts: Ts,
    uid: Uid,
    #[log(nested)]
    id: ConnId,
    proto: Proto,
    #[log(name = "type")]
    kind: Option<String>,
    spent: Option<Interval>,
    hits: u64,
    offset: i64,
    ratio: Option<f64>,
    local: Option<bool>,
    names: BTreeSet<String>,
    ttls: Vector<Option<Interval>>,
    raw: Vec<u8>,
}

fn sample() -> Sample {
    Sample {
        ts: Ts::new(1, 500_000_000),
        uid: Uid { hi: 1, lo: 2 },
        id: ConnId {
            orig_h: IpAddr::from([10, 0, 0, 1]),
            orig_p: Port(1234),
            resp_h: IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
            resp_p: Port(53),
        },
        proto: Proto::Udp,
        kind: None,
        spent: Some(Interval(1_000)),
        hits: 0,
        offset: -3,
        ratio: Some(0.5),
        local: Some(true),
        names: BTreeSet::from(["b".to_owned(), "a".to_owned()]),
        ttls: Vector(vec![Some(Interval::from_secs(60)), None]),
        raw: b"x\xff".to_vec(),
    }
}

fn tsv(row: &impl LogRecord) -> Vec<u8> {
    let mut out = Vec::new();
    let mut line = TsvRow::new(&mut out);
    row.write(&mut line);
    line.end_row();
    out
}

fn json(row: &impl LogRecord, schema: &tyto_core::record::schema::Schema) -> Vec<u8> {
    let mut out = Vec::new();
    let mut line = JsonRow::new(schema, &mut out);
    row.write(&mut line);
    line.end_row();
    out
}

#[test]
fn header_names_fields_and_types_as_zeek_does() {
    let text = header(&Sample::schema(), "2026-11-22-04-00-00");
    assert_eq!(
        text,
        "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n\
         #path\tsample\n#open\t2026-11-22-04-00-00\n\
         #fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\ttype\tspent\thits\
         \toffset\tratio\tlocal\tnames\tttls\traw\n\
         #types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\tinterval\tcount\tint\tdouble\
         \tbool\tset[string]\tvector[interval]\tstring\n"
    );
    assert_eq!(trailer("2026-11-22-05-00-00"), "#close\t2026-11-22-05-00-00\n");
}

#[test]
fn tsv_row_prints_each_type() {
    let text = String::from_utf8(tsv(&sample())).unwrap();
    assert_eq!(
        text,
        "1.500000\tC12\t10.0.0.1\t1234\t2001:db8::1\t53\tudp\t-\t0.000001\t0\t-3\t0.5\tT\ta,b\t\
         60.000000,-\tx\\xff\n"
    );
}

#[test]
fn json_row_leaves_unset_columns_out() {
    let schema = Sample::schema();
    let mut out = Vec::new();
    let mut line = JsonRow::new(&schema, &mut out);
    sample().write(&mut line);
    line.end_row();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"ts\":1.5,\"uid\":\"C12\",\"id.orig_h\":\"10.0.0.1\",\"id.orig_p\":1234,\
         \"id.resp_h\":\"2001:db8::1\",\"id.resp_p\":53,\"proto\":\"udp\",\"spent\":0.000001,\
         \"hits\":0,\"offset\":-3,\"ratio\":0.5,\"local\":true,\"names\":[\"a\",\"b\"],\
         \"ttls\":[60.0,null],\"raw\":\"x\\\\xff\"}\n"
    );
}

#[test]
fn fingerprint_changes_with_a_column() {
    let mut schema = Sample::schema();
    let before = schema.fingerprint();
    schema.fields.pop();
    assert_ne!(before, schema.fingerprint());
}

#[test]
fn rows_of_a_payload_come_back_and_a_torn_tail_is_an_error() {
    let mut payload = Vec::new();
    assert!(wire::append_row(&mut payload, &sample()));
    assert!(wire::append_row(&mut payload, &sample()));
    assert_eq!(wire::rows(&payload).filter(Result::is_ok).count(), 2);
    payload.pop();
    let found: Vec<bool> = wire::rows(&payload).map(|row| row.is_ok()).collect();
    assert_eq!(found, [true, false]);
}

#[test]
fn a_header_tells_its_schema() {
    let schema = Sample::schema();
    let found = schema_of_header(&header(&schema, "2026-11-22-04-00-00")).unwrap();
    assert_eq!(found.fingerprint(), schema.fingerprint());
    assert!(schema_of_header("#path\tconn\n#fields\tts\tuid\n#types\ttime\n").is_none());
}

#[test]
fn a_line_with_other_columns_is_an_error() {
    let mut reader = LineReader::new(Sample::schema(), LineFormat::Tsv);
    let mut out = Vec::new();
    let fault = reader.replay(b"1.0\tC1\n", &mut TsvRow::new(&mut out)).unwrap_err();
    assert_eq!(fault, LineError::Columns { found: 2, expected: 16 });
    let line = String::from_utf8(tsv(&sample())).unwrap();
    for broken in [line.replace("10.0.0.1", "10.0.0"), line.replace("\tT\t", "\tY\t"), line + "\t"]
    {
        assert!(reader.replay(broken.as_bytes(), &mut TsvRow::new(&mut Vec::new())).is_err());
    }
}

#[test]
fn json_of_zeeks_other_time_styles_and_any_order_is_read() {
    let mut reader = LineReader::new(Sample::schema(), LineFormat::Json);
    for ts in ["1795000000.123456", "1795000000123", "\"2026-11-18T11:06:40.123Z\""] {
        let line = format!(
            "{{\"hits\":7, \"more\":{{\"a\":[1,\"}}\"]}},\"ts\":{ts},\"type\":\"\\u00fc\\ud83e\\udd89\"}}"
        );
        let mut out = Vec::new();
        let mut row = TsvRow::new(&mut out);
        reader.replay(line.as_bytes(), &mut row).unwrap();
        row.end_row();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("1795000000.123"), "{text}");
        assert!(text.contains("\tü🦉\t-\t7\t"), "{text}");
    }
}

proptest! {
    /// What was printed prints the same again, in both formats, and a condition says the same
    /// of the row, its line of TSV and its line of JSON.
    #[test]
    fn lines_come_back(
        ts in 0_u64..1 << 62, hits in any::<u64>(), offset in any::<i64>(), ratio in any::<Option<f64>>(),
        spent in prop::option::of(-1_000_000_000_000_i64..1_000_000_000_000), raw in any::<Vec<u8>>(),
        names in prop::collection::btree_set(".*", 0..4), local in any::<Option<bool>>(),
        kind in prop::option::of("[a-c\\\\\t,#ü-]{0,3}"), small in 0_u64..4,
    ) {
        let mut row = sample();
        (row.ts, row.hits, row.offset, row.ratio, row.raw) = (Ts(ts), hits, offset, ratio.filter(|r| r.is_finite()), raw);
        (row.names, row.local, row.kind, row.spent) = (names, local, kind, spent.map(Interval));
        let schema = Sample::schema();
        let tsv_line = tsv(&row);
        let mut again = Vec::new();
        let mut line = TsvRow::new(&mut again);
        LineReader::new(schema.clone(), LineFormat::Tsv).replay(&tsv_line, &mut line).unwrap();
        line.end_row();
        prop_assert_eq!(String::from_utf8(again), String::from_utf8(tsv_line));
        let json_line = json(&row, &schema);
        let mut again = Vec::new();
        let mut line = JsonRow::new(&schema, &mut again);
        LineReader::new(schema.clone(), LineFormat::Json).replay(&json_line, &mut line).unwrap();
        line.end_row();
        prop_assert_eq!(String::from_utf8(again), String::from_utf8(json_line));

        row.hits = small;
        let mut wire_row = Vec::new();
        wire::append_row(&mut wire_row, &row);
        for text in [
            "hits > 1 && local", "type == \"a\"", "type contains \"\\\\\"", "type =~ /[b,\\t]/", "?type",
            "id.orig_h in 10.0.0.0/8 && hits in {0,3}", "spent > 0.5 or offset < 0", "ttls == 60", "ts > 2e9 || names == \"\"",
        ] {
            let Ok(condition) = Condition::parse(&text.replace("2e9", "2000000000")) else { panic!("{text}") };
            let matcher = condition.bind(&schema).unwrap();
            let expected = matcher.is_match(&wire_row[4..]).unwrap();
            for (format, line) in [(LineFormat::Tsv, tsv(&row)), (LineFormat::Json, json(&row, &schema))] {
                let mut answers = matcher.answers();
                let mut reader = LineReader::new(schema.clone(), format).only(matcher.columns());
                reader.replay(&line, &mut answers).unwrap();
                // A set of one empty string prints as an empty one in TSV.
                let is_told = !text.contains("names") || format == LineFormat::Json;
                prop_assert!(!is_told || answers.is_match() == expected, "{} {:?}", text, format);
            }
        }
    }

    #[test]
    fn no_line_makes_the_reader_panic(bytes in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for (format, mut line) in [(LineFormat::Tsv, tsv(&sample())), (LineFormat::Json, json(&sample(), &Sample::schema()))] {
            let mut reader = LineReader::new(Sample::schema(), format);
            reader.replay(&bytes, &mut TsvRow::new(&mut Vec::new())).ok();
            let at = at.index(line.len());
            line[at] = byte;
            reader.replay(&line, &mut TsvRow::new(&mut Vec::new())).ok();
            reader.replay(&line[..at], &mut TsvRow::new(&mut Vec::new())).ok();
        }
    }
    #[test]
    fn wire_replays_what_was_written(
        ts in any::<u64>(), hits in any::<u64>(), offset in any::<i64>(), ratio in any::<Option<f64>>(),
        spent in prop::option::of(-1_000_000_000_000_i64..1_000_000_000_000), raw in any::<Vec<u8>>(),
        names in prop::collection::btree_set(".*", 0..4), local in any::<Option<bool>>(),
        port in any::<u16>(), kind in any::<Option<String>>(),
    ) {
        let mut row = sample();
        row.ts = Ts(ts);
        row.hits = hits;
        row.offset = offset;
        row.ratio = ratio;
        row.spent = spent.map(Interval);
        row.raw = raw;
        row.names = names;
        row.local = local;
        row.kind = kind;
        row.id.orig_p = Port(port);
        let mut payload = Vec::new();
        prop_assert!(wire::append_row(&mut payload, &row));
        let encoded = wire::rows(&payload).next().unwrap().unwrap();
        let mut out = Vec::new();
        let mut line = TsvRow::new(&mut out);
        wire::replay(&Sample::schema(), encoded, &mut line).unwrap();
        line.end_row();
        prop_assert_eq!(out, tsv(&row));
    }

    #[test]
    fn broken_bytes_are_an_error_and_never_a_panic(bytes in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
        let schema = Sample::schema();
        let mut out = Vec::new();
        wire::replay(&schema, &bytes, &mut TsvRow::new(&mut out)).ok();
        let mut payload = Vec::new();
        wire::append_row(&mut payload, &sample());
        let row = &payload[4..];
        let cut = cut.index(row.len());
        prop_assert!(wire::replay(&schema, &row[..cut], &mut TsvRow::new(&mut out)).is_err());
        prop_assert!(wire::rows(&bytes).count() <= bytes.len());
    }
}
