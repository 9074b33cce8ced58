//! docs/conditions.md, sentence by sentence.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::{Condition, ConditionError};
use crate::net::{ConnId, Port, Proto};
use crate::record::value::Vector;
use crate::record::{LogRecord, wire};
use crate::time::{Interval, Ts};

#[derive(Clone, Debug, LogRecord)]
#[log(stream = "sample")]
struct Sample {
    ts: Ts,
    #[log(nested)]
    id: ConnId,
    proto: Proto,
    service: Option<String>,
    duration: Option<Interval>,
    hits: u64,
    offset: i64,
    ratio: Option<f64>,
    local: Option<bool>,
    hosts: BTreeSet<IpAddr>,
    names: Option<Vector<Option<String>>>,
    net: Option<ipnet::IpNet>,
}

fn sample() -> Sample {
    Sample {
        ts: Ts::new(1_795_000_000, 123_456_789),
        id: ConnId {
            orig_h: IpAddr::from([10, 1, 2, 3]),
            orig_p: Port(50_000),
            resp_h: "2001:db8::1".parse().unwrap(),
            resp_p: Port(443),
        },
        proto: Proto::Tcp,
        service: Some("ssl".into()),
        duration: Some(Interval(10_500_000_499)),
        hits: 7,
        offset: -3,
        ratio: Some(0.5),
        local: Some(true),
        hosts: BTreeSet::from([IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 9])]),
        names: Some(Vector(vec![Some("a.example".into()), None, Some("b.example".into())])),
        net: Some("10.1.0.0/16".parse().unwrap()),
    }
}

fn bare() -> Sample {
    Sample {
        service: None,
        duration: None,
        ratio: None,
        local: None,
        hosts: BTreeSet::new(),
        names: None,
        net: None,
        ..sample()
    }
}

fn is_match(text: &str, row: &Sample) -> bool {
    let condition = Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let matcher = condition.bind(&Sample::schema()).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut payload = Vec::new();
    assert!(wire::append_row(&mut payload, row));
    matcher.is_match(&payload[4..]).unwrap()
}

fn fault(text: &str) -> (usize, String, String) {
    let error: ConditionError = match Condition::parse(text) {
        Err(error) => error,
        Ok(condition) => condition.bind(&Sample::schema()).unwrap_err(),
    };
    (error.column(), error.to_string(), error.suggestion().unwrap_or_default().to_owned())
}

#[test]
fn these_hold_of_the_sample() {
    for text in [
        "id.resp_p == 443",
        "id.resp_p == 443 && proto == \"tcp\" || duration > 10 and service in {\"ssl\",\"http\"}",
        "proto == tcp",
        "proto != udp and not id.resp_p in {80, 8080}",
        "id.orig_h in 10.0.0.0/8",
        "id.orig_h in {192.168.0.0/16, 10.1.2.3}",
        "id.orig_h !in 10.2.0.0/16",
        "id.orig_h not in {10.2.0.0/16}",
        "id.resp_h == 2001:db8::1 && id.resp_h == [2001:db8::1] && id.resp_h in 2001:db8::/32",
        "id.orig_h < 10.1.2.4",
        "net == 10.1.0.0/16 && net in 10.0.0.0/8 && net !in 10.1.2.0/24",
        "service =~ /^s.l$/ && service !~ /http/ && service contains \"sl\"",
        "service =~ /SSL|a\\/b/ or service =~ /(?i)SSL/",
        "?service && service != - && !(service == -)",
        "duration >= 10.5 && duration <= 10500ms && duration < 1min && duration < 0.5 min",
        "duration == 10.5",
        "ts == 1795000000.123456 && ts < \"2026-11-30T00:00:00Z\" && ts > \"2026-11-01T00:00:00Z\"",
        "hits > 6 && hits in {7} && offset == -3 && offset < -2 && ratio < 0.6 && ratio == 0.5",
        "local && local == T && local != false",
        "hosts == 192.0.2.9 && 192.0.2.1 in hosts && hosts in 192.0.2.8/29",
        "\"b.example\" in names && names =~ /^a/ && names != \"c.example\"",
        "service > \"spa\" && service < \"sst\"",
        "not local == F",
    ] {
        assert!(is_match(text, &sample()), "{text}");
        assert!(!is_match(&format!("!({text})"), &sample()), "{text}");
    }
}

#[test]
fn a_test_of_an_unset_field_is_false_and_its_negation_true() {
    let row = bare();
    for text in [
        "service == \"ssl\"",
        "duration > 0",
        "duration <= 0",
        "service =~ /.*/",
        "local",
        "?names",
    ] {
        assert!(!is_match(text, &row), "{text}");
    }
    for text in ["service != \"ssl\"", "service !in {\"a\"}", "service == -", "!?net", "not local"]
    {
        assert!(is_match(text, &row), "{text}");
    }
}

#[test]
fn an_empty_container_is_set_and_holds_nothing() {
    assert!(is_match("?hosts && hosts !in 0.0.0.0/0", &bare()));
}

#[test]
fn or_binds_weaker_than_and() {
    assert!(is_match("local || local && hits == 0", &sample()));
    assert!(!is_match("(local || local) && hits == 0", &sample()));
}

#[test]
fn an_unknown_field_brings_the_nearest_name() {
    let (column, message, hint) = fault("proto == tcp && servce == \"ssl\"");
    assert_eq!((column, hint.as_str()), (17, "did you mean `service`?"));
    assert_eq!(message, "column 17: `sample` has no field `servce`");
    assert_eq!(fault("resp_p == 1").2, "did you mean `id.resp_p`?");
    assert!(fault("x == 1").2.starts_with("its fields: ts, id.orig_h"));
}

#[test]
fn a_value_of_another_type_says_what_was_expected() {
    let (column, message, _) = fault("id.resp_p == \"https\"");
    assert_eq!(column, 14);
    assert_eq!(
        message,
        "column 14: found `\"https\"`; expected a port from 0 to 65535: `id.resp_p` is a port"
    );
    assert_eq!(fault("id.orig_h == 10.0.0.0/8").2, "`id.orig_h in 10.0.0.0/8`");
    assert_eq!(fault("service == 5").2, "quote it: `\"5\"`");
    assert_eq!(
        fault("id.resp_p == 443/tcp").2,
        "a port is its number: `443`; `proto` has the protocol"
    );
    assert_eq!(fault("id.resp_p = 443").2, "`==` compares");
    assert_eq!(fault("hits == -1").0, 9);
    assert!(fault("hits == 10s").1.contains("a whole number from 0"));
    assert!(fault("id.resp_p > 65536").1.contains("from 0 to 65535"));
    assert!(fault("service").1.contains("expected a comparison"));
    assert!(fault("hits =~ /7/").1.contains("takes a string"));
    assert!(fault("local < T").1.contains("no order"));
}

#[test]
fn what_cannot_be_read_says_where() {
    for (text, column) in [
        ("", 1),
        ("hits ==", 8),
        ("hits == 1 hits", 11),
        ("(hits == 1", 11),
        ("hits == 1 & local", 11),
        ("service == 'ssl'", 12),
        ("service == \"ssl", 12),
        ("service =~ ssl", 12),
        ("service =~ /ssl", 12),
        ("service =~ /(/", 12),
        ("hits in {1 2}", 12),
        ("hits == 1x", 9),
        ("and == 1", 1),
    ] {
        assert_eq!(fault(text).0, column, "{text}");
    }
}

#[test]
fn bounds_are_told() {
    assert!(fault(&"!".repeat(200)).1.contains("more than 64"));
    assert!(fault(&"(".repeat(200)).1.contains("more than 64"));
    assert!(fault(&vec!["local"; 65].join(" or ")).2.contains("is one test"));
    assert!(is_match(&vec!["local"; 64].join(" and "), &sample()));
    assert!(fault(&" ".repeat(9_000)).1.contains("at most 8192"));
    assert!(fault("service =~ /(a{1000}){1000}/").1.contains("no pattern"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        if let Ok(condition) = Condition::parse(&text) {
            condition.bind(&Sample::schema()).ok();
        }
    }

    #[test]
    fn no_words_make_it_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "hits", "service", "duration", "id.orig_h", "names", "local", "==", "!=", "<", "in",
            "!in", "not", "and", "||", "(", ")", "{", "}", ",", "?", "-", "7", "1.5min",
            "10.0.0.0/8", "::1", "\"ssl\"", "T", "=~", "/a/", "contains",
        ]), 0..12),
    ) {
        if let Ok(condition) = Condition::parse(&words.join(" "))
            && let Ok(matcher) = condition.bind(&Sample::schema())
        {
            let mut payload = Vec::new();
            wire::append_row(&mut payload, &sample());
            matcher.is_match(&payload[4..]).unwrap();
        }
    }

    /// A negation is the opposite, and `!=`, `!in` are negations.
    #[test]
    fn negations_are_opposites(hits in 0_u64..5, with in 0_u64..5, has in any::<bool>()) {
        let row = Sample { hits, service: has.then(|| hits.to_string()), ..sample() };
        for (one, other) in [
            (format!("hits == {with}"), format!("hits != {with}")),
            (format!("hits < {with}"), format!("!(hits < {with})")),
            (format!("hits in {{{with}, 9}}"), format!("hits !in {{{with}, 9}}")),
            (format!("service == \"{with}\""), format!("service != \"{with}\"")),
        ] {
            prop_assert_ne!(is_match(&one, &row), is_match(&other, &row), "{}", one);
        }
        prop_assert_eq!(is_match(&format!("hits < {with}"), &row), hits < with);
        prop_assert_eq!(is_match(&format!("hits >= {with}"), &row), hits >= with);
    }

    #[test]
    fn spans_are_exact(micros in 0_i64..100_000_000) {
        let row = Sample { duration: Some(Interval(micros * 1_000)), ..sample() };
        let text = format!("duration == {}.{:06}", micros / 1_000_000, micros % 1_000_000);
        prop_assert!(is_match(&text, &row));
        let text = format!("duration == {micros}us");
        prop_assert!(is_match(&text, &row));
    }

    #[test]
    fn networks_hold_their_addresses(ip in any::<u32>(), bits in 0_u8..=32, other in any::<u32>()) {
        let (ip, other) = (std::net::Ipv4Addr::from(ip), std::net::Ipv4Addr::from(other));
        let mut row = sample();
        row.id.orig_h = other.into();
        let net = ipnet::Ipv4Net::new(ip, bits).unwrap();
        let text = format!("id.orig_h in {net}");
        prop_assert_eq!(is_match(&text, &row), net.contains(&other));
    }
}
