//! Frames of files in both formats, packed, cut, damaged, and of old writers.
#![allow(clippy::cast_possible_truncation, reason = "the lengths of the tests' own packets")]

use std::io::Write;

use super::*;

/// Frames of a capture as (time in ns, bytes, length on the wire, link type).
fn frames(capture: &[u8]) -> Vec<(u64, Vec<u8>, u32, u32)> {
    let mut file = PcapFile::from_reader(Box::new(io::Cursor::new(capture.to_vec()))).unwrap();
    let mut frames = Vec::new();
    while let Next::Frame(frame) = file.next_frame().unwrap() {
        frames.push((frame.ts.0, frame.bytes.to_vec(), frame.wire_len, frame.link_type.0));
    }
    frames
}

fn pcap(magic: u32, big_endian: bool, packets: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
    let n = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let half = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut out = [&n(magic)[..], &half(2), &half(4)].concat();
    out.extend([0; 8]);
    out.extend(n(65535));
    out.extend(n(1));
    for (secs, fraction, bytes, wire_len) in packets {
        out.extend([n(*secs), n(*fraction), n(bytes.len() as u32), n(*wire_len)].concat());
        out.extend(*bytes);
    }
    out
}

#[test]
fn both_byte_orders_and_both_precisions_give_the_same_time() {
    let expected = vec![(5_000_007_000, vec![1, 2, 3], 60, 1)];
    for big_endian in [false, true] {
        assert_eq!(frames(&pcap(0xa1b2_c3d4, big_endian, &[(5, 7, &[1, 2, 3], 60)])), expected);
        let nanos = pcap(0xa1b2_3c4d, big_endian, &[(5, 7000, &[1, 2, 3], 60)]);
        assert_eq!(frames(&nanos), expected);
    }
}

fn open(capture: &[u8]) -> Result<PcapFile, CaptureError> {
    PcapFile::from_reader(Box::new(io::Cursor::new(capture.to_vec())))
}

/// Reads to the end; the packets before it, and how it ended.
fn read(capture: &[u8]) -> (u64, Option<CutOff>, Result<(), CaptureError>) {
    let mut file = open(capture).unwrap();
    let mut packets = 0;
    let ended = loop {
        match file.next_frame() {
            Ok(Next::Frame(_)) => packets += 1,
            Ok(_) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    (packets, file.cut_off(), ended)
}

#[test]
fn a_fraction_that_is_none_counts_backwards_as_in_libpcap() {
    let odd = pcap(0xa1b2_c3d4, false, &[(5, u32::MAX, &[1], 1), (0, u32::MAX, &[2], 1)]);
    let times: Vec<u64> = frames(&odd).iter().map(|frame| frame.0).collect();
    assert_eq!(times, [4_999_999_000, 0]);
}

#[test]
fn a_file_cut_within_a_packet_ends_before_it_and_says_so() {
    let whole = pcap(0xa1b2_c3d4, false, &[(1, 0, &[1; 40], 40), (2, 0, &[2; 40], 40)]);
    assert!(matches!(read(&whole), (2, None, Ok(()))));
    let second = CutOff { packets: 1, at: 24 + 16 + 40 };
    for left in [1, 40, 41, 55] {
        let (packets, cut_off, ended) = read(&whole[..whole.len() - left]);
        assert_eq!((packets, cut_off), (1, Some(second)), "{left} bytes less");
        assert!(ended.is_ok());
    }
    assert!(matches!(read(&whole[..whole.len() - 56]), (1, None, Ok(()))));
    assert_eq!(second.to_string(), "ends within a packet: 1 are whole, the next begins at byte 80");
}

#[test]
fn packed_files_read_like_plain_ones_and_tell_where_they_were_cut() {
    // Bytes that cannot be packed, and enough of them for several blocks of zstd.
    let noise: Vec<u8> =
        (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let plain = pcap(0xa1b2_c3d4, false, &[(1, 0, &noise, 9), (2, 0, &noise, 9)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for packed in [gzip, zstd] {
        assert_eq!(frames(&packed), frames(&plain));
        let (packets, cut_off, ended) = read(&packed[..packed.len() - 12]);
        let second = CutOff { packets: 1, at: 24 + 16 + 200_000 };
        assert_eq!((packets, cut_off), (1, Some(second)));
        assert!(ended.is_ok());
    }
}

#[test]
fn a_packet_that_the_snaplen_cut_keeps_its_length_on_the_wire() {
    let cut = pcap(0xa1b2_c3d4, false, &[(1, 0, &[7; 64], 1514)]);
    assert_eq!(frames(&cut), [(1_000_000_000, vec![7; 64], 1514, 1)]);
}

/// Before version 2.4 the lengths stood the other way round, in 2.3 either way.
#[test]
fn lengths_of_old_versions_are_taken_apart() {
    let with_minor = |minor: u8, swapped: bool| {
        let mut file = pcap(0xa1b2_c3d4, false, &[(1, 0, &[7; 40], 60)]);
        file[6] = minor;
        if swapped {
            let (captured, wire) = (file[32], file[36]);
            (file[32], file[36]) = (wire, captured);
        }
        frames(&file)
    };
    let expected = [(1_000_000_000, vec![7; 40], 60, 1)];
    for (minor, swapped) in [(4, false), (3, false), (3, true), (2, true), (0, true)] {
        assert_eq!(with_minor(minor, swapped), expected, "2.{minor} {swapped}");
    }
    let mut newer = pcap(0xa1b2_c3d4, false, &[]);
    newer[4] = 3;
    assert_eq!(
        open(&newer).unwrap_err().to_string(),
        "not a capture file: pcap version 3.4; expected 2.4"
    );
}

#[test]
fn the_frames_to_come_are_those_that_come() {
    for big_endian in [false, true] {
        let packets = [(1, 0, &[1; 40][..], 40), (2, 0, &[][..], 0), (3, 0, &[3; 9][..], 60)];
        let mut file = open(&pcap(0xa1b2_c3d4, big_endian, &packets)).unwrap();
        for left in (0..3).rev() {
            assert!(matches!(file.next_frame(), Ok(Next::Frame(_))));
            let mut seen: Vec<usize> = Vec::new();
            file.upcoming(9, &mut |_, frame| seen.push(frame.len()));
            assert_eq!(seen, [0, 9][2 - left..]);
            let mut first = 0;
            file.upcoming(1, &mut |_, _| first += 1);
            assert_eq!(first, left.min(1));
        }
    }
}

#[test]
fn kuznetzovs_packets_have_longer_headers() {
    let mut file = pcap(0xa1b2_cd34, false, &[]);
    file.extend([1_u32, 2, 3, 60].map(u32::to_le_bytes).concat());
    file.extend([0; 8]);
    file.extend([7, 8, 9]);
    assert_eq!(frames(&file), [(1_000_002_000, vec![7, 8, 9], 60, 1)]);
}

#[test]
fn what_is_not_a_capture_is_refused() {
    for (bytes, said) in [
        (&b""[..], "shorter than any file header"),
        (b"GIF", "shorter than any file header"),
        (b"GIF8", "begins with 47 49 46 38; expected pcap or pcapng"),
        (b"snoop\0\0\0", "a snoop capture; `editcap FILE out.pcap` makes a pcap of it"),
        (&pcap(0xa1b2_c3d4, false, &[])[..20], "ends within pcap's file header"),
    ] {
        let error = open(bytes).unwrap_err().to_string();
        assert!(error.starts_with(&format!("not a capture file: {said}")), "{error}");
    }
}

#[test]
fn a_link_type_that_is_not_read_is_refused_by_name() {
    let mut usb = pcap(0xa1b2_c3d4, true, &[(1, 0, &[7; 64], 64)]);
    usb[23] = 189;
    let error = open(&usb).unwrap_err().to_string();
    assert!(error.starts_with("link type 189 (USB of Linux) is not read; expected"), "{error}");
}

#[test]
fn a_packet_longer_than_any_packet_is_damage() {
    let mut damaged = pcap(0xa1b2_c3d4, false, &[(1, 0, &[1; 40], 40), (2, 0, &[], 40)]);
    let len = damaged.len();
    damaged[len - 8..len - 4].copy_from_slice(&0xffff_ffff_u32.to_le_bytes());
    let (packets, cut_off, ended) = read(&damaged);
    assert_eq!((packets, cut_off), (1, None));
    assert_eq!(
        ended.unwrap_err().to_string(),
        "damaged at byte 80, behind 1 packets: a packet of 4294967295 bytes; \
         none has more than 262144"
    );
}
