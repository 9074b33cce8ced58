//! The rows that are delivered.

use std::net::{IpAddr, Ipv4Addr};

use tyto_core::net::{ConnId, Port, Proto};
use tyto_core::record::LogRecord;
use tyto_core::time::{Interval, Ts};
use tyto_core::uid::{Uid, UidMaker};

/// A row with the columns of conn.log.
#[derive(Clone, LogRecord)]
#[log(stream = "conn")]
pub(crate) struct Conn {
    ts: Ts,
    uid: Uid,
    #[log(nested)]
    id: ConnId,
    proto: Proto,
    service: Option<String>,
    duration: Option<Interval>,
    orig_bytes: Option<u64>,
    resp_bytes: Option<u64>,
    conn_state: &'static str,
    local_orig: Option<bool>,
    local_resp: Option<bool>,
    missed_bytes: u64,
    history: Option<&'static str>,
    orig_pkts: Option<u64>,
    orig_ip_bytes: Option<u64>,
    resp_pkts: Option<u64>,
    resp_ip_bytes: Option<u64>,
    tunnel_parents: Option<String>,
    ip_proto: Option<u64>,
}

/// Row number `n`, seen at `ts`.
pub(crate) fn conn(n: u64, ts: Ts, uids: &mut UidMaker) -> Conn {
    let host = |n: u64| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | (n & 0xff_ffff) as u32));
    Conn {
        ts,
        uid: uids.next_uid(),
        id: ConnId {
            orig_h: host(n * 7),
            orig_p: Port(1_024 + (n % 60_000) as u16),
            resp_h: host(n * 13),
            resp_p: Port(443),
        },
        proto: Proto::Tcp,
        service: None,
        duration: Some(Interval((n * 1_234_567 % 90_000_000_000).cast_signed())),
        orig_bytes: Some(n % 4_000),
        resp_bytes: Some(n % 900_000),
        conn_state: "SF",
        local_orig: Some(true),
        local_resp: Some(false),
        missed_bytes: 0,
        history: Some("ShADadFf"),
        orig_pkts: Some(n % 90),
        orig_ip_bytes: Some(n % 8_000),
        resp_pkts: Some(n % 700),
        resp_ip_bytes: Some(n % 910_000),
        tunnel_parents: None,
        ip_proto: Some(6),
    }
}
