//! One datagram in a capture file of each link type that is read: the same row comes out of all
//! of them, and tcpdump, where there is one, reads the same packet in the same bytes.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[allow(dead_code, reason = "shared with conn_log.rs, which uses all of it")]
mod frames;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use clap::Parser;
use frames::{ORIG, RESP, udp};
use tyto_worker::args::Args;
use tyto_worker::read;

/// Link type, and what stands before the IP packet.
const HEADERS: [(u32, &[u8]); 31] = [
    (0, &[2, 0, 0, 0]),
    (0, &[0, 0, 0, 2]),
    (1, &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00]),
    (1, &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0x00, 0, 9, 0x08, 0x00]),
    (1, &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xa8, 0, 9, 0x81, 0x00, 0, 7, 0x08, 0x00]),
    (9, &[0xff, 0x03, 0x00, 0x21]),
    (9, &[0x00, 0x21]),
    (9, &[0x21]),
    (12, &[]),
    (50, &[0xff, 0x03, 0x00, 0x21]),
    (50, &[0x0f, 0x00, 0x08, 0x00]),
    (51, &[0x11, 0x00, 0x00, 0x07, 0x00, 0x22, 0x00, 0x21]),
    (101, &[]),
    (104, &[0x0f, 0x00, 0x08, 0x00]),
    (105, &WLAN),
    (108, &[0, 0, 0, 2]),
    (113, &[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x08, 0x00]),
    (113, &[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x81, 0x00, 0, 9, 0x08, 0x00]),
    (127, &RADIOTAP),
    (127, &RADIOTAP_WITH_RATE),
    (166, &[0x00, 0x03, 0x00, 0x21]),
    (166, &[0x01, 0x03, 0x00, 0x21]),
    (204, &[0x00, 0xff, 0x03, 0x00, 0x21]),
    (204, &[0x01, 0xff, 0x03, 0x00, 0x21]),
    (219, &[0x00, 0x01, 0x01, 0xff]),
    (228, &[]),
    (239, &[2, 0, 0, 0, 0x24, 0, 9, 0]),
    (239, &[2, 0, 0, 0, 6, 0, 10, 0, b'x', 0, 0, 0, 0x24, 0, 9, 0]),
    (276, &[0x08, 0x00, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]),
    (276, &[0x81, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0, 9, 0x08, 0x00]),
    (14, &[]),
];

/// An 802.11 data frame from a station, LLC and SNAP behind it.
const WLAN: [u8; 32] = [
    0x08, 0x01, 0, 0, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 3, 0, 0, 0xaa, 0xaa, 3, 0,
    0, 0, 0x08, 0x00,
];
/// The same behind a radiotap header without fields.
const RADIOTAP: [u8; 40] = {
    let mut bytes = [0; 40];
    bytes[2] = 8;
    let mut at = 0;
    while at < WLAN.len() {
        bytes[8 + at] = WLAN[at];
        at += 1;
    }
    bytes
};
/// The same with a rate in it.
const RADIOTAP_WITH_RATE: [u8; 41] = {
    let mut bytes = [0; 41];
    bytes[2] = 9;
    bytes[4] = 1 << 2;
    bytes[8] = 12;
    let mut at = 0;
    while at < WLAN.len() {
        bytes[9 + at] = WLAN[at];
        at += 1;
    }
    bytes
};

/// A pcap file of one packet.
fn capture(link_type: u32, header: &[u8]) -> Vec<u8> {
    let frame = [header, &udp((ORIG, 40000), (RESP, 9999), b"asks")].concat();
    let file = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, link_type];
    let len = frame.len() as u32;
    let file = file.into_iter().chain([1_000_000_000, 0, len, len]);
    [file.flat_map(u32::to_le_bytes).collect(), frame].concat()
}

/// What tcpdump prints of a capture; none where there is no tcpdump.
fn tcpdump(file: &Path) -> Option<String> {
    let capture = Stdio::from(File::open(file).unwrap());
    let output = Command::new("tcpdump").args(["-nn", "-r", "-"]).stdin(capture).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn conn_rows(logs: &Path) -> Vec<String> {
    let text = fs::read_to_string(logs.join("conn.log")).unwrap_or_default();
    text.lines().filter(|line| !line.starts_with('#')).map(String::from).collect()
}

#[test]
fn each_link_type_leads_to_the_packet_that_tcpdump_finds_too() {
    for (number, (link_type, header)) in HEADERS.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let (file, logs) = (folder.path().join("in.pcap"), folder.path().join("logs"));
        fs::write(&file, capture(link_type, header)).unwrap();
        let words = ["worker".as_ref(), "--read".as_ref(), file.as_os_str(), "--log-dir".as_ref()];
        let words = words.into_iter().chain([logs.as_os_str(), "--ignore-checksums".as_ref()]);
        read::run(&Args::parse_from(words)).unwrap();
        let rows = conn_rows(&logs);
        let what = format!("link type {link_type}, {number}, {header:02x?}");
        assert_eq!(rows.len(), 1, "{what}");
        let columns: Vec<&str> = rows[0].split('\t').collect();
        assert_eq!(columns[2..7], ["10.0.0.1", "40000", "192.0.2.80", "9999", "udp"], "{what}");
        // tcpdump does not print 204 and 219, and takes 14 for ATM but on OpenBSD.
        if let Some(printed) = tcpdump(&file).filter(|_| ![14, 204, 219].contains(&link_type)) {
            let found = printed.contains("10.0.0.1.40000 > 192.0.2.80.9999");
            assert!(found, "{what}: tcpdump printed {printed:?}");
        }
    }
}

/// What the program itself does with `arguments` and `stdin`: exit code and standard error.
fn worker(arguments: &[&str], stdin: Stdio) -> (Option<i32>, String) {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_worker"));
    let output = worker.args(arguments).stdin(stdin).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn standard_input_is_read_packed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let plain = capture(101, &[]);
    let packed = zstd::encode_all(&plain[..], 1).unwrap();
    for (number, bytes) in [plain, packed].into_iter().enumerate() {
        let file = folder.path().join("in");
        fs::write(&file, bytes).unwrap();
        let logs = folder.path().join(number.to_string());
        let arguments = ["--read", "-", "--ignore-checksums", "--log-dir", logs.to_str().unwrap()];
        let (code, said) = worker(&arguments, File::open(&file).unwrap().into());
        assert_eq!((code, said.as_str()), (Some(0), ""));
        assert_eq!(conn_rows(&logs).len(), 1);
    }
}

#[test]
fn a_cut_file_is_read_and_told_and_a_damaged_one_fails_with_its_logs_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.pcap");
    let path = file.to_str().unwrap();
    let logs = folder.path().join("logs");
    let arguments = ["--read", path, "--ignore-checksums", "--log-dir", logs.to_str().unwrap()];
    let whole = capture(101, &[]);
    let packet = whole[24..].to_vec();

    fs::write(&file, [&whole[..], &packet[..20]].concat()).unwrap();
    let (code, said) = worker(&arguments, Stdio::null());
    let len = whole.len();
    let expected = format!(
        "worker: warning: `{path}` ends within a packet: 1 are whole, the next begins at byte {len}\n"
    );
    assert_eq!((code, said), (Some(0), expected));
    assert_eq!(conn_rows(&logs).len(), 1);

    fs::write(&file, [&whole[..], &[0xff; 64], &packet].concat()).unwrap();
    let (code, said) = worker(&arguments, Stdio::null());
    let expected = format!(
        "worker: `{path}` was not read to its end: damaged at byte {len}, behind 1 packets: \
         a packet of 4294967295 bytes; none has more than 262144\n"
    );
    assert_eq!((code, said), (Some(1), expected));
    assert_eq!(conn_rows(&logs).len(), 1);
}

#[test]
fn many_wrong_checksums_are_worth_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let (file, logs) = (folder.path().join("in.pcap"), folder.path().join("logs"));
    let mut wrong = capture(101, &[]);
    // The checksum of the IP header.
    wrong[24 + 16 + 10] ^= 0x55;
    fs::write(&file, wrong).unwrap();
    let words = ["worker".as_ref(), "--read".as_ref(), file.as_os_str(), "--log-dir".as_ref()];
    let args = Args::parse_from(words.into_iter().chain([logs.as_os_str()]));
    let reading = read::run(&args).unwrap();
    assert_eq!(reading.stats.bad_checksums, 1);
    assert_eq!(reading.warnings.len(), 1);
    assert!(reading.warnings[0].contains("1 of 1 packets have a wrong checksum"));
}

/// The worker and tcpdump keep the same packets of a file.
#[test]
fn a_filter_keeps_what_it_matches_and_a_fault_in_it_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    let (file, logs) = (folder.path().join("in.pcap"), folder.path().join("logs"));
    let (file, logs_dir) = (file.to_str().unwrap(), logs.to_str().unwrap());
    let mut two = capture(101, &[]);
    two.extend(&capture(101, &[])[24..]);
    let port = two.len() - (4 + 8);
    two[port..port + 2].copy_from_slice(&53_u16.to_be_bytes());
    fs::write(file, two).unwrap();
    let read = |filter: &str| {
        let common = ["--read", file, "--ignore-checksums", "--log-dir", logs_dir];
        worker(&[&common[..], &["--filter", filter]].concat(), Stdio::null())
    };
    assert_eq!(read("udp src port 53"), (Some(0), String::new()));
    let rows = conn_rows(&logs);
    assert_eq!(rows.len(), 1);
    assert!(rows[0].contains("\t53\t"), "{rows:?}");

    let (code, said) = read("tcp");
    let unmatched =
        format!("worker: warning: `{file}`: none of its 2 packets matches the filter\n");
    assert_eq!((code, said), (Some(0), unmatched));
    let (code, said) = read("udp prot 53");
    assert_eq!(code, Some(1));
    let marked = "\n    udp prot 53\n        ^\n";
    assert!(said.starts_with("worker: filter: column 5: ") && said.contains(marked), "{said}");
    let (code, said) = read("ether host 2:0:0:0:0:1");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("was not read to its end: filter: "), "{said}");
}
