//! IEEE 802.11 data frames, single and aggregated (A-MSDU), down to IP.

use super::be16;

/// Calls `found` with each IP packet of the frame. Management, control, protected and
/// payload-less frames have none.
pub(super) fn ip_packets<'a>(frame: &'a [u8], found: &mut impl FnMut(&'a [u8])) {
    let Some((aggregate, mut rest)) = payload(frame) else { return };
    if !aggregate {
        if let Some(ip) = behind_llc(rest) {
            found(ip);
        }
        return;
    }
    // Subframes: two addresses, length, payload, padding to four bytes.
    while let Some(len) = be16(rest, 12) {
        let len = usize::from(len);
        let Some(subframe) = rest.get(14..14 + len) else { return };
        let Some(ip) = behind_llc(subframe) else { return };
        found(ip);
        let end = 14 + len;
        rest = rest.get(end + len % 4..).or_else(|| rest.get(end..)).unwrap_or_default();
    }
}

/// The body of a data frame and whether it is an aggregate.
fn payload(frame: &[u8]) -> Option<(bool, &[u8])> {
    let (control, flags) = (*frame.first()?, *frame.get(1)?);
    let (is_data, is_null, is_qos) =
        (control & 0x08 != 0, control & 0x40 != 0, control & 0x80 != 0);
    let is_protected = flags & 0x40 != 0;
    if frame.len() <= 24 || !is_data || is_null {
        return None;
    }
    // Four addresses between two distribution systems, else three.
    let mut len = if flags & 0x03 == 0x03 { 30 } else { 24 };
    let mut aggregate = false;
    if is_qos {
        aggregate = frame.get(len)? & 0x80 != 0;
        if is_protected {
            return None;
        }
        len += 2;
    }
    if frame.len() <= len {
        return None;
    }
    Some((aggregate, frame.get(len..)?))
}

fn behind_llc(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(&[0xaa, 0xaa, 0x03, 0, 0, 0])?;
    matches!(be16(rest, 0)?, 0x0800 | 0x86dd).then_some(rest.get(2..)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLC_IP: [u8; 12] = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x45, 1, 2, 3];

    fn found(frame: &[u8]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        ip_packets(frame, &mut |ip| packets.push(ip.to_vec()));
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
