//! IEEE 802.11 data frames, single and aggregated (A-MSDU), down to IP.

use super::be16;
use super::link::{LinkFound, Path};

const NAME: &str = "IEEE802_11";

/// Calls `found` with each IP packet of the frame. Management, control, protected and
/// payload-less frames have none.
pub(super) fn ip_packets<'a>(path: Path, frame: &'a [u8], found: &mut impl FnMut(LinkFound<'a>)) {
    let (aggregate, mut rest) = match payload(frame) {
        Body::Some { aggregate, bytes } => (aggregate, bytes),
        Body::Cut => return found(LinkFound::Odd("truncated_802_11_header", "", NAME)),
        Body::None => return,
    };
    if !aggregate {
        behind_llc(path, rest, found);
        return;
    }
    // Subframes: two addresses, length, payload, padding to four bytes.
    while !rest.is_empty() {
        let Some(len) = be16(rest, 12).map(usize::from) else {
            return found(LinkFound::Odd("truncated_802_11_amsdu_header", "", NAME));
        };
        let Some(subframe) = rest.get(14..14 + len) else {
            return found(LinkFound::Odd("truncated_802_11_amsdu_packet", "", NAME));
        };
        if !behind_llc(path, subframe, found) {
            return found(LinkFound::Odd("invalid_802_11_amsdu_inner_packet", "", NAME));
        }
        let end = 14 + len;
        rest = rest.get(end + len % 4..).or_else(|| rest.get(end..)).unwrap_or_default();
    }
}

/// What a frame carries.
enum Body<'a> {
    /// Data, of several packets when it is an aggregate.
    Some { aggregate: bool, bytes: &'a [u8] },
    /// The header is not there as a whole.
    Cut,
    /// Nothing that can be read.
    None,
}

fn payload(frame: &[u8]) -> Body<'_> {
    let &[control, flags, ..] = frame else { return Body::Cut };
    if frame.len() <= 24 {
        return Body::Cut;
    }
    let (is_data, is_null, is_qos) =
        (control & 0x08 != 0, control & 0x40 != 0, control & 0x80 != 0);
    let is_protected = flags & 0x40 != 0;
    if !is_data || is_null {
        return Body::None;
    }
    // Four addresses between two distribution systems, else three.
    let mut len = if flags & 0x03 == 0x03 { 30 } else { 24 };
    let mut aggregate = false;
    if is_qos {
        let Some(quality) = frame.get(len) else { return Body::Cut };
        aggregate = quality & 0x80 != 0;
        if is_protected {
            return Body::None;
        }
        len += 2;
    }
    match frame.get(len..) {
        Some([]) | None => Body::Cut,
        Some(bytes) => Body::Some { aggregate, bytes },
    }
}

/// Takes what stands behind an LLC header; false when it is no packet.
fn behind_llc<'a>(path: Path, bytes: &'a [u8], found: &mut impl FnMut(LinkFound<'a>)) -> bool {
    if bytes.len() < 8 {
        found(LinkFound::Odd("truncated_802_11_llc_header", "", NAME));
        return false;
    }
    let Some(rest) = bytes.strip_prefix(&[0xaa, 0xaa, 0x03, 0, 0, 0]) else { return false };
    let (Some(kind), Some(packet)) = (be16(rest, 0), rest.get(2..)) else { return false };
    if !matches!(kind, 0x0800 | 0x86dd) {
        found(LinkFound::Unknown(path, u64::from(kind), packet));
        return false;
    }
    found(LinkFound::Ip(packet));
    true
}

#[cfg(test)]
mod tests {
    use tyto_capture::LinkType;

    use super::*;

    const LLC_IP: [u8; 12] = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x45, 1, 2, 3];

    fn found(frame: &[u8]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        super::super::link::ip_packets(LinkType::IEEE802_11, frame, |found| {
            if let LinkFound::Ip(ip) = found {
                packets.push(ip.to_vec());
            }
        });
        packets
    }

    fn frame(control: u8, flags: u8, header_len: usize, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; header_len];
        (bytes[0], bytes[1]) = (control, flags);
        [&bytes[..], body].concat()
    }

    #[test]
    fn data_frames_lead_to_ip_and_others_do_not() {
        assert_eq!(found(&frame(0x08, 0x01, 24, &LLC_IP)), [&LLC_IP[8..]]);
        assert_eq!(found(&frame(0x08, 0x03, 30, &LLC_IP)), [&LLC_IP[8..]]);
        assert_eq!(found(&frame(0x88, 0x01, 26, &LLC_IP)), [&LLC_IP[8..]]);
        assert!(found(&frame(0x80, 0, 24, &LLC_IP)).is_empty());
        assert!(found(&frame(0x48, 0, 24, &LLC_IP)).is_empty());
        assert!(found(&frame(0x88, 0x41, 26, &LLC_IP)).is_empty());
    }

    #[test]
    fn an_aggregate_holds_several_packets() {
        let subframe = [&[0; 12][..], &12_u16.to_be_bytes(), &LLC_IP].concat();
        let mut bytes = frame(0x88, 0x01, 26, &subframe.repeat(2));
        bytes[24] = 0x80;
        assert_eq!(found(&bytes), [&LLC_IP[8..], &LLC_IP[8..]]);
    }
}
