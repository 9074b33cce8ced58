//! Times and addresses as all texts of rows print them.

use std::net::{IpAddr, Ipv6Addr};

/// Decimals of a time.
const DECIMALS: usize = 6;

/// `micros` as seconds with six decimals.
pub fn print_micros(out: &mut Vec<u8>, micros: u64) {
    const SECOND: u64 = 1_000_000;
    // What packets have between 2001 and 2286: ten digits, a point, six more.
    if (1_000_000_000 * SECOND..10_000_000_000 * SECOND).contains(&micros) {
        return print_usual_time(out, micros / SECOND, micros % SECOND);
    }
    let mut buffer = itoa::Buffer::new();
    let is_below = micros < SECOND;
    // Then a one in front keeps the zeros.
    let digits = buffer.format(if is_below { micros + SECOND } else { micros }).as_bytes();
    if let Some((whole, decimals)) = digits.split_last_chunk::<DECIMALS>() {
        out.extend_from_slice(if is_below { b"0" } else { whole });
        out.push(b'.');
        out.extend_from_slice(decimals);
    }
}

/// A time of ten digits, `decimals` below the second. It takes no call.
fn print_usual_time(out: &mut Vec<u8>, seconds: u64, decimals: u64) {
    let mut text = [b'.'; 10 + 1 + DECIMALS];
    let (whole, below) = text.split_at_mut(10);
    for (digits, mut rest) in [(whole, seconds), (&mut below[1..], decimals)] {
        for pair in digits.as_chunks_mut().0.iter_mut().rev() {
            *pair = PAIRS[(rest % 100) as usize];
            rest /= 100;
        }
    }
    out.extend_from_slice(&text);
}

/// `text` up to `len`. All of it is copied, which takes no call, and what is too much taken off.
fn put<const N: usize>(out: &mut Vec<u8>, text: &[u8; N], len: usize) {
    let end = out.len() + len;
    out.extend_from_slice(text);
    out.truncate(end);
}

/// `addr` as RFC 5952 has it.
pub fn print_addr(out: &mut Vec<u8>, addr: IpAddr) {
    let v4 = match addr {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => return print_v6(out, v6),
    };
    // Each octet with a point behind, of which the last is one too many.
    let mut text = [0; 4 * 4];
    let mut len = 0;
    for octet in v4.octets() {
        let (digits, digits_len) = OCTETS[usize::from(octet)];
        text[len..len + 4].copy_from_slice(&digits);
        len += digits_len + 1;
    }
    put(out, &text, len - 1);
}

/// RFC 5952: no leading zeros, and the first of the longest runs of zeros left out.
fn print_v6(out: &mut Vec<u8>, v6: Ipv6Addr) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    if let Some(v4) = v6.to_ipv4_mapped() {
        out.extend_from_slice(b"::ffff:");
        return print_addr(out, v4.into());
    }
    let segments = v6.segments();
    let (mut from, mut len, mut run) = (0, 1, 0);
    for (index, segment) in segments.iter().enumerate() {
        run = if *segment == 0 { run + 1 } else { 0 };
        if run > len {
            (from, len) = (index + 1 - run, run);
        }
    }
    // One zero alone is written.
    let left_out = if len > 1 { from..from + len } else { 8..8 };
    let mut text = [0; 8 * 5];
    let mut at = 0;
    for (index, segment) in segments.into_iter().enumerate() {
        if left_out.contains(&index) {
            // The colon behind the segment before is there, if there is one.
            let colons = usize::from(index == left_out.start) + usize::from(index == 0);
            text[at..at + colons].fill(b':');
            at += colons;
            continue;
        }
        let digits = (16 - (segment | 1).leading_zeros() as usize).div_ceil(4);
        for digit in (0..digits).rev() {
            text[at] = HEX[usize::from(segment >> (4 * digit) & 0xf)];
            at += 1;
        }
        if index < 7 {
            text[at] = b':';
            at += 1;
        }
    }
    out.extend_from_slice(&text[..at]);
}

/// The digits of each octet, filled up with points, and how many they are.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < octets.len() {
        let (text, len) = &mut octets[octet];
        let mut unit = 100;
        while unit > 0 {
            if octet >= unit || unit == 1 {
                text[*len] = b"0123456789"[octet / unit % 10];
                *len += 1;
            }
            unit /= 10;
        }
        octet += 1;
    }
    octets
};

/// Two digits of each number below a hundred.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [b"0123456789"[number / 10], b"0123456789"[number % 10]];
        number += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_sizes_print_as_the_formatter_prints_them() {
        const USUAL: [u64; 2] = [1_000_000_000_000_000, 10_000_000_000_000_000];
        let around = USUAL.into_iter().flat_map(|bound| bound - 3..bound + 3);
        for micros in around.chain([0, 999_999, 1_000_000, 1_763_900_000_050_607, u64::MAX]) {
            let mut out = Vec::new();
            print_micros(&mut out, micros);
            let expected = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    fn printed(addr: IpAddr) -> String {
        let mut out = Vec::new();
        print_addr(&mut out, addr);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_print_as_the_library_prints_them() {
        for octet in 0..=255 {
            let addr = IpAddr::from([octet, 255 - octet, 7, octet]);
            assert_eq!(printed(addr), addr.to_string());
        }
        // Each segment is zero, or one of few or many digits.
        for pattern in 0..4_u32.pow(8) {
            let segment = |n: u32| [0, 0, 0x9, 0xfb0a][(pattern >> (2 * n) & 3) as usize];
            let addr = Ipv6Addr::from([0, 1, 2, 3, 4, 5, 6, 7].map(segment));
            assert_eq!(printed(addr.into()), addr.to_string());
        }
        for text in ["::ffff:192.0.2.1", "::ffff:0:1", "2001:db8::a00:20f", "fe80::10"] {
            let addr: IpAddr = text.parse().unwrap();
            assert_eq!(printed(addr), addr.to_string());
        }
    }
}
