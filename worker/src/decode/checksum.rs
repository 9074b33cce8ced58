//! The Internet checksum (RFC 1071), over a header alone or with a pseudo-header (RFC 9293
//! section 3.1, RFC 8200 section 8.1).

use super::addr::Addr;

/// Whether the one's complement sum of `bytes`, checksum included, comes out right.
pub fn is_valid(bytes: &[u8]) -> bool {
    fold(sum(bytes)) == 0xffff
}

/// Whether `segment`, which travels as protocol `proto` from `src` to `dst`, carries the right
/// checksum.
pub fn is_valid_with_pseudo_header(src: Addr, dst: Addr, proto: u8, segment: &[u8]) -> bool {
    // Mapped addresses add a constant that is no part of an IPv4 pseudo-header: take it away.
    let addresses = match (src.as_v4(), dst.as_v4()) {
        (Some(src), Some(dst)) => sum(&src) + sum(&dst),
        _ => sum(&src.bits().to_be_bytes()) + sum(&dst.bits().to_be_bytes()),
    };
    let len = segment.len() as u64;
    let pseudo = addresses + u64::from(proto) + (len >> 16) + (len & 0xffff);
    fold(pseudo + sum(segment)) == 0xffff
}

/// Sum of the 16-bit words, the last byte padded with zero.
fn sum(bytes: &[u8]) -> u64 {
    let mut total = 0_u64;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        if let Some(word) = word.first_chunk() {
            // Adding 32-bit words is the same modulo 2^16 - 1, at twice the speed.
            total += u64::from(u32::from_be_bytes(*word));
        }
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(words.remainder()) {
        *to = *from;
    }
    total + u64::from(u32::from_be_bytes(last))
}

/// Adds the carries until 16 bits are left.
#[allow(clippy::cast_possible_truncation, reason = "the loop leaves 16 bits")]
const fn fold(mut total: u64) -> u16 {
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 section 3: the sum of its example is ddf2.
    #[test]
    fn the_example_of_the_rfc_sums_up() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)), 0xddf2);
        let checksum = !0xddf2_u16;
        let whole = [&bytes[..], &checksum.to_be_bytes()].concat();
        assert!(is_valid(&whole));
    }

    #[test]
    fn an_odd_byte_counts_as_the_upper_half_of_a_word() {
        assert_eq!(fold(sum(&[0x12])), 0x1200);
        assert_eq!(fold(sum(&[0x12, 0x34, 0x56])), 0x1234 + 0x5600);
    }

    #[test]
    fn a_segment_is_valid_only_with_its_own_addresses() {
        let (src, dst) = (Addr::v4([192, 0, 2, 1]), Addr::v4([192, 0, 2, 2]));
        let mut segment = [0x00, 0x35, 0x12, 0x34, 0x00, 0x0a, 0x00, 0x00, 0xab, 0xcd];
        let pseudo = [192, 0, 2, 1, 192, 0, 2, 2, 0, 17, 0, 10];
        let checksum = !fold(sum(&pseudo) + sum(&segment));
        segment[6..8].copy_from_slice(&checksum.to_be_bytes());
        assert!(is_valid_with_pseudo_header(src, dst, 17, &segment));
        assert!(!is_valid_with_pseudo_header(src, Addr::v4([192, 0, 2, 3]), 17, &segment));
    }
}
