//! `worker --read`: whole files in, whole log files out.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[allow(dead_code, reason = "shared with conn_log.rs, which uses all of it")]
mod frames;

use std::fs;
use std::path::Path;

use clap::Parser;
use frames::{ACK, ORIG, RESP, SYN, orig, resp, udp};
use tyto_worker::args::Args;
use tyto_worker::read;

/// A pcap file of raw IP packets, a second apart from 2001-09-09 01:46:40 UTC on.
fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101].map(u32::to_le_bytes).concat();
    for (index, packet) in packets.iter().enumerate() {
        let len = packet.len() as u32;
        file.extend(
            [1_000_000_000 + index as u32, 250_000, len, len].map(u32::to_le_bytes).concat(),
        );
        file.extend(packet);
    }
    file
}

/// Reads `packets` and gives the files that come out, by name.
fn logs(folder: &Path, packets: &[Vec<u8>], options: &[&str]) -> Vec<(String, String)> {
    let (file, log_dir) = (folder.join("in.pcap"), folder.join("logs"));
    fs::write(&file, capture(packets)).unwrap();
    let paths =
        ["worker", "--read", file.to_str().unwrap(), "--log-dir", log_dir.to_str().unwrap()];
    let args = Args::parse_from(paths.iter().chain(options));
    read::run(&args).unwrap();
    let mut logs: Vec<_> = fs::read_dir(log_dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().to_str().unwrap().to_owned();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    logs.sort();
    logs
}

const CONN_LOG: &str = "\
#separator \\x09
#set_separator\t,
#empty_field\t(empty)
#unset_field\t-
#path\tconn
#open\t2001-09-09-01-46-40
#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\t\
resp_bytes\tconn_state\tlocal_orig\tlocal_resp\tmissed_bytes\thistory\torig_pkts\torig_ip_bytes\t\
resp_pkts\tresp_ip_bytes\ttunnel_parents\tip_proto\tcommunity_id
#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\tinterval\tcount\t\
count\tstring\tbool\tbool\tcount\tstring\tcount\tcount\t\
count\tcount\tset[string]\tcount\tstring
1000000000.250000\tCxqN0Z1Y5xtlWKXI58\t10.0.0.1\t40000\t192.0.2.80\t9999\tudp\t-\t1.000000\t3\t\
4\tSF\tT\tT\t0\tDd\t1\t31\t1\t32\t-\t17\t1:ladOO4FJNp4eRTh99Z6psJAUBDI=
#close\t2001-09-09-01-46-41
";

#[test]
fn a_log_is_zeeks_to_the_byte_and_the_same_each_time() {
    let packets =
        [udp((ORIG, 40000), (RESP, 9999), b"ask"), udp((RESP, 9999), (ORIG, 40000), b"told")];
    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let logs = logs(folder.path(), &packets, &["--ignore-checksums", "--community-id"]);
        assert_eq!(logs, [("conn.log".to_owned(), CONN_LOG.to_owned())]);
    }
}

#[test]
fn only_streams_with_rows_have_files() {
    let folder = tempfile::tempdir().unwrap();
    assert!(logs(folder.path(), &[], &[]).is_empty());
    let folder = tempfile::tempdir().unwrap();
    let packets = [orig(SYN, 0, 0, b""), resp(SYN | ACK, 0, 1, b"")];
    let logs = logs(folder.path(), &packets, &["--ignore-checksums"]);
    let names: Vec<_> = logs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["conn.log", "known_hosts.log"]);
}

#[test]
fn json_has_an_object_per_row_and_no_header() {
    let folder = tempfile::tempdir().unwrap();
    let packets = [udp((ORIG, 40000), (RESP, 9999), b"ask")];
    let logs = logs(folder.path(), &packets, &["--ignore-checksums", "--json"]);
    let row: serde_json::Value = serde_json::from_str(&logs[0].1).unwrap();
    assert_eq!(row["id.resp_p"], 9999);
    assert_eq!(row["conn_state"], "S0");
    assert!(row.get("duration").is_none());
}

#[test]
fn a_file_that_is_no_capture_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x");
    fs::write(&file, "no capture").unwrap();
    let log_dir = folder.path().to_str().unwrap();
    let args = Args::parse_from(["worker", "--read", file.to_str().unwrap(), "--log-dir", log_dir]);
    let error = format!("{:#}", read::run(&args).unwrap_err());
    let expected = format!(
        "cannot read `{}`: not a capture file: begins with 6e 6f 20 63; expected pcap \
                 or pcapng, plain or packed with gzip or zstd",
        file.display()
    );
    assert_eq!(error, expected);
}
