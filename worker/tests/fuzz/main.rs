//! Hostile input for every protocol: no panic, whatever the network sends.
//!
//! A target is one analyzer on a connection of its own. What it is fed comes from the fuzzer's
//! bytes, either as they are or as damage to a conversation of the golden captures
//! (`tests/golden/*/in.pcap`), in pieces of any length, with gaps, ends and swapped roles.
//!
//! `cargo test -p tyto-worker --test fuzz` runs each target for a second, or for
//! `TYTO_FUZZ_SECONDS`. With a nightly toolchain the same targets run under libFuzzer, which looks
//! for inputs that take new ways (`cargo install cargo-bolero`):
//! `cargo +nightly bolero test http -p tyto-worker -e libfuzzer --profile release -T 10min`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

#[path = "../connection/mod.rs"]
mod connection;
mod feed;
mod script;
mod seeds;

use std::time::Duration;

use connection::Connection;
use script::Script;
use seeds::Seed;
use tyto_worker::analyzer::{SPECS, Spec, spec};
use tyto_worker::output::Nowhere;

/// Time for one target, seconds, where `TYTO_FUZZ_SECONDS` does not say.
const TARGET_SECONDS: f64 = 1.0;
/// Bytes of a fuzzer's input.
const INPUT_LEN_MAX: usize = 2048;
/// Time to find the shortest input that shows a fault.
const SHRINK_TIME: Duration = Duration::from_secs(2);

macro_rules! targets {
    ($($test:ident: $name:literal,)*) => {
        /// All targets, to be compared with the table of protocols.
        const TARGETS: &[&str] = &[$($name),*];

        $(
            // The name by which `cargo bolero` knows a target is that of the function around.
            #[test]
            fn $test() {
                let target = Target::of($name);
                bolero::check!()
                    .with_max_len(INPUT_LEN_MAX)
                    .with_test_time(target.time)
                    .with_shrink_time(SHRINK_TIME)
                    .for_each(|input: &[u8]| target.take(input));
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

/// An analyzer that is fed.
struct Target {
    spec: &'static Spec,
    /// What golden captures show of it.
    seeds: Vec<Seed>,
    /// How long it is fed.
    time: Duration,
}

impl Target {
    fn of(name: &str) -> Self {
        let spec = spec(name).unwrap_or_else(|| panic!("there is no analyzer `{name}`"));
        let seconds = std::env::var("TYTO_FUZZ_SECONDS")
            .map_or(TARGET_SECONDS, |text| text.parse().expect("TYTO_FUZZ_SECONDS is a number"));
        Self { spec, seeds: seeds::of(spec), time: Duration::from_secs_f64(seconds) }
    }

    /// Feeds it with what a fuzzer's bytes stand for.
    fn take(&self, input: &[u8]) {
        let script = Script::of(input, &self.seeds);
        let mut conn = Connection::new(self.spec, script.proto, Box::new(Nowhere));
        script.steps.iter().for_each(|step| feed::take(&mut conn, step));
        feed::end(conn);
    }
}
