//! Hostile input for every protocol: no panic, whatever the network sends.
//!
//! A target is one analyzer on a connection of its own. What it is fed comes from the fuzzer's
//! bytes, either as they are or as damage to a conversation of the golden captures
//! (`tests/golden/*/in.pcap`), in pieces of any length, with gaps, ends and swapped roles.
//!
//! `cargo test -p tyto-worker --test fuzz` runs each target for a second, or for
//! `TYTO_FUZZ_SECONDS`. With a nightly toolchain the same targets run under libFuzzer:
//! `cargo bolero test -p tyto-worker --test fuzz http`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

#[path = "../connection/mod.rs"]
mod connection;
mod feed;
mod script;
mod seeds;

use std::time::Duration;

use connection::Connection;
use script::Script;
use tyto_worker::analyzer::{SPECS, spec};
use tyto_worker::output::Nowhere;

/// Time for one target, seconds, where `TYTO_FUZZ_SECONDS` does not say.
const TARGET_SECONDS: f64 = 1.0;
/// Bytes of a fuzzer's input.
const INPUT_LEN_MAX: usize = 2048;

macro_rules! targets {
    ($($test:ident: $name:literal,)*) => {
        /// All targets, to be compared with the table of protocols.
        const TARGETS: &[&str] = &[$($name),*];

        $(
            #[test]
            fn $test() {
                fuzz($name);
            }
        )*
    };
}

targets! {
    dce_rpc: "DCE_RPC",
    dhcp: "DHCP",
    dnp3_tcp: "DNP3_TCP",
    dnp3_udp: "DNP3_UDP",
    dns: "DNS",
    dtls: "DTLS",
    finger: "FINGER",
    ftp: "FTP",
    ftp_data: "FTP_DATA",
    gssapi: "GSSAPI",
    http: "HTTP",
    imap: "IMAP",
    irc: "IRC",
    irc_data: "IRC_DATA",
    krb: "KRB",
    krb_tcp: "KRB_TCP",
    ldap_tcp: "LDAP_TCP",
    ldap_udp: "LDAP_UDP",
    modbus: "MODBUS",
    mqtt: "MQTT",
    mysql: "MYSQL",
    ntlm: "NTLM",
    ntp: "NTP",
    pop3: "POP3",
    postgresql: "POSTGRESQL",
    quic: "QUIC",
    radius: "RADIUS",
    rdp: "RDP",
    rdpeudp: "RDPEUDP",
    redis: "REDIS",
    rfb: "RFB",
    sip: "SIP",
    smb: "SMB",
    smtp: "SMTP",
    snmp: "SNMP",
    socks: "SOCKS",
    ssh: "SSH",
    ssl: "SSL",
    syslog: "SYSLOG",
    websocket: "WEBSOCKET",
    xmpp: "XMPP",
}

#[test]
fn each_protocol_is_a_target() {
    let mut protocols: Vec<_> = SPECS.iter().map(|spec| spec.name).collect();
    let mut targets = TARGETS.to_vec();
    protocols.sort_unstable();
    targets.sort_unstable();
    assert_eq!(targets, protocols);
}

/// A protocol that no golden capture shows is fuzzed with noise only.
#[test]
fn each_protocol_is_spoken_in_a_golden_capture() {
    let unseen: Vec<_> =
        SPECS.iter().filter(|spec| seeds::of(spec).is_empty()).map(|spec| spec.name).collect();
    assert!(unseen.is_empty(), "no golden capture has {unseen:?}");
}

/// Feeds the analyzer called `name` until its time is over.
fn fuzz(name: &str) {
    let spec = spec(name).unwrap_or_else(|| panic!("there is no analyzer `{name}`"));
    let seeds = seeds::of(spec);
    let seconds = std::env::var("TYTO_FUZZ_SECONDS")
        .map_or(TARGET_SECONDS, |text| text.parse().expect("TYTO_FUZZ_SECONDS is a number"));
    bolero::check!()
        .with_max_len(INPUT_LEN_MAX)
        .with_test_time(Duration::from_secs_f64(seconds))
        .with_shrink_time(Duration::from_secs(2))
        .for_each(|input: &[u8]| {
            let script = Script::of(input, &seeds);
            let mut conn = Connection::new(spec, script.proto, Box::new(Nowhere));
            script.steps.iter().for_each(|step| feed::take(&mut conn, step));
            feed::end(conn);
        });
}
