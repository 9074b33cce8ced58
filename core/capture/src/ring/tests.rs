//! Frames of blocks that are made by hand.

use super::*;

const AT: usize = 48;
const MAC: u16 = 86;

/// A block with one frame of `frame_len` bytes that count up, and what its header says.
fn block(frame_len: u32, status: u32, tci: u16, tpid: u16) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |offset: usize, bytes: &[u8]| {
        block[AT + offset..AT + offset + bytes.len()].copy_from_slice(bytes);
    };
    put(offset_of!(tpacket3_hdr, tp_sec), &7_u32.to_ne_bytes());
    put(offset_of!(tpacket3_hdr, tp_nsec), &123_456_789_u32.to_ne_bytes());
    put(offset_of!(tpacket3_hdr, tp_snaplen), &frame_len.to_ne_bytes());
    put(offset_of!(tpacket3_hdr, tp_len), &1500_u32.to_ne_bytes());
    put(offset_of!(tpacket3_hdr, tp_status), &status.to_ne_bytes());
    put(offset_of!(tpacket3_hdr, tp_mac), &MAC.to_ne_bytes());
    put(TCI_OFFSET, &tci.to_ne_bytes());
    put(TPID_OFFSET, &tpid.to_ne_bytes());
    for i in 0..frame_len.min(64) {
        put(usize::from(MAC) + to_usize(i), &[u8::try_from(i).unwrap()]);
    }
    block
}

#[test]
fn frame_lies_where_its_header_says() {
    let mut block = block(60, libc::TP_STATUS_CSUM_VALID, 0, 0);
    let header = FrameHeader::read(&block, AT).unwrap();
    let frame = header.frame(&mut block, AT, true).unwrap();
    assert_eq!(frame.ts_ns, 7_123_456_789);
    assert_eq!(frame.bytes, (0..60).collect::<Vec<u8>>());
    assert_eq!(frame.wire_len, 1500);
    assert!(frame.checksum_good);
}

/// IEEE 802.1Q clause 9: the tag stands behind the source address.
#[test]
fn taken_out_vlan_tag_is_put_back_behind_the_addresses() {
    let status = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
    let mut block = block(20, status, 0x2064, 0x88a8);
    let header = FrameHeader::read(&block, AT).unwrap();
    let frame = header.frame(&mut block, AT, true).unwrap();
    let mut expected: Vec<u8> = (0..12).collect();
    expected.extend([0x88, 0xa8, 0x20, 0x64]);
    expected.extend(12..20);
    assert_eq!(frame.bytes, expected);
    assert_eq!(frame.wire_len, 1504);
    assert!(!frame.checksum_good);
}

#[test]
fn vlan_tag_without_known_type_is_802_1q() {
    let mut block = block(20, libc::TP_STATUS_VLAN_VALID, 5, 0);
    let header = FrameHeader::read(&block, AT).unwrap();
    let frame = header.frame(&mut block, AT, true).unwrap();
    assert_eq!(frame.bytes[12..16], [0x81, 0x00, 0x00, 0x05]);
}

#[test]
fn frame_that_leaves_its_block_is_refused() {
    assert!(FrameHeader::read(&block(512 - 48 - 86, 0, 0, 0), AT).is_some());
    assert!(FrameHeader::read(&block(512 - 48 - 85, 0, 0, 0), AT).is_none());
    assert!(FrameHeader::read(&block(u32::MAX, 0, 0, 0), AT).is_none());
    assert!(FrameHeader::read(&block(60, 0, 0, 0), 500).is_none());
    assert!(FrameHeader::read(&block(60, 0, 0, 0), usize::MAX).is_none());
}

#[test]
fn ring_has_at_least_two_blocks() {
    assert_eq!(RingSize::new(1 << 27, 1 << 15, 10).blocks, 4096);
    assert_eq!(RingSize::new(1, 1 << 15, 10).blocks, 2);
}

#[test]
fn the_fill_is_the_share_of_blocks_that_wait_to_be_read() {
    let percent = |blocks, filled| percent_filled(blocks, |ahead| ahead < filled);
    for blocks in [1, 2, 7, 64, 512] {
        for filled in 0..=blocks {
            assert_eq!(usize::from(percent(blocks, filled)), filled * 100 / blocks);
        }
    }
    assert_eq!(percent(0, 0), 0, "a ring without blocks holds nothing");
    // Looking costs little, however large the ring is.
    let looks = std::cell::Cell::new(0);
    percent_filled(1 << 20, |ahead| {
        looks.set(looks.get() + 1);
        ahead < 1234
    });
    assert!(looks.get() <= 21, "{}", looks.get());
}
