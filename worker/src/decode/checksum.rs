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
        (Some(src), Some(dst)) => {
            u64::from(u32::from_be_bytes(src)) + u64::from(u32::from_be_bytes(dst))
        }
        _ => sum(&src.bits().to_be_bytes()) + sum(&dst.bits().to_be_bytes()),
    };
    let len = segment.len() as u64;
    let pseudo = addresses + u64::from(proto) + (len >> 16) + (len & 0xffff);
    fold(pseudo + sum(segment)) == 0xffff
}

/// Sum of the 16-bit words, the last byte padded with zero, its carries added.
///
/// Longer words sum up to the same modulo 2^16 - 1, and so they do in the machine's order of bytes
/// when the sum is turned round (RFC 1071 section 2 B).
fn sum(bytes: &[u8]) -> u64 {
    // Two sums that do not wait for each other. Their upper halves count the carries.
    let (mut even, mut odd) = (0_u128, 0_u128);
    let (blocks, mut rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let [a, b, c, d] = block.as_chunks::<8>().0 else { continue };
        even += u128::from(u64::from_ne_bytes(*a));
        odd += u128::from(u64::from_ne_bytes(*b));
        even += u128::from(u64::from_ne_bytes(*c));
        odd += u128::from(u64::from_ne_bytes(*d));
    }
    let mut total = halves(even + odd);
    while let Some((word, after)) = rest.split_first_chunk() {
        total = add(total, *word);
        rest = after;
    }
    // At most four, two and one bytes more: less than one word, whose carry is added, too.
    let mut last = 0;
    if let Some((word, after)) = rest.split_first_chunk() {
        last += u64::from(u32::from_ne_bytes(*word));
        rest = after;
    }
    if let Some((word, after)) = rest.split_first_chunk() {
        last += u64::from(u16::from_ne_bytes(*word));
        rest = after;
    }
    if let Some(byte) = rest.first() {
        last += u64::from(u16::from_ne_bytes([*byte, 0]));
    }
    u64::from(u16::from_be(fold(add(total, last.to_ne_bytes()))))
}

/// Adds the carries, of which there are few, to the sum below them.
#[allow(clippy::cast_possible_truncation, reason = "the halves are taken apart")]
const fn halves(total: u128) -> u64 {
    let (sum, carry) = (total as u64).overflowing_add((total >> 64) as u64);
    sum + carry as u64
}

/// Adds a word and the carry.
const fn add(total: u64, word: [u8; 8]) -> u64 {
    let (sum, carry) = total.overflowing_add(u64::from_ne_bytes(word));
    sum + carry as u64
}

/// Adds the carries until 16 bits are left: of 64 bits at most 33, 18, 17 and 16.
#[allow(clippy::cast_possible_truncation, reason = "the last step leaves 16 bits")]
const fn fold(total: u64) -> u16 {
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff) + (total >> 16);
    let total = (total & 0xffff) + (total >> 16);
    ((total & 0xffff) + (total >> 16)) as u16
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
    fn bytes_of_every_length_sum_up_word_by_word() {
        let bytes: Vec<u8> =
            (0..300_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
        for len in 0..bytes.len() {
            let words = bytes[..len].chunks(2).map(|word| {
                u64::from(word[0]) << 8 | word.get(1).map_or(0, |byte| u64::from(*byte))
            });
            assert_eq!(fold(sum(&bytes[..len])), fold(words.sum()), "{len} bytes");
        }
        assert_eq!(fold(sum(&[0xff; 300])), 0xffff);
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
