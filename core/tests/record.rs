//! One declaration, three encodings: what goes over the wire prints as what was written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use tyto_core::net::{ConnId, Port, Proto};
use tyto_core::record::json::JsonRow;
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

proptest! {
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
