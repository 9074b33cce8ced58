//! Addresses of data connections: PORT and PASV (RFC 959), EPRT and EPSV (RFC 2428). Read as
//! leniently as servers do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a data connection is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The address; unspecified IPv6 when none was given.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
}

/// Shortest text that holds six numbers.
const SIX_NUMBERS_LEN_MIN: usize = 11;

/// The argument of PORT: `10,0,0,1,4,31`.
pub(super) fn port(text: &[u8]) -> Option<Endpoint> {
    if text.len() < SIX_NUMBERS_LEN_MIN {
        return None;
    }
    let mut numbers = [0u8; 6];
    let mut rest = text;
    for (index, number) in numbers.iter_mut().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(b",")?;
        }
        let (value, behind) = leading_number(rest)?;
        *number = u8::try_from(value).ok()?;
        rest = behind;
    }
    let [a, b, c, d, high, low] = numbers;
    Some(Endpoint {
        addr: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        port: u16::from_be_bytes([high, low]),
    })
}

/// The reply to PASV: six numbers in parentheses, behind `PORT`, or anywhere.
pub(super) fn pasv(text: &[u8]) -> Option<Endpoint> {
    if let Some(open) = text.iter().position(|byte| *byte == b'(') {
        return port(text.get(open + 1..)?);
    }
    if let Some(word) = text.windows(4).position(|word| word == b"PORT") {
        return port(text.get(word + 5..)?);
    }
    let comma = text.iter().position(|byte| *byte == b',')?;
    let before = text.get(..comma)?;
    let digits = before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    port(text.get(comma - digits..)?)
}

/// The argument of EPRT: `|1|10.0.0.1|1055|`.
pub(super) fn eprt(text: &[u8]) -> Option<Endpoint> {
    let text = text.trim_ascii_start();
    let (&delimiter, rest) = text.split_first()?;
    let rest = leading_number(rest).map_or(rest, |(_, behind)| behind);
    // The protocol's number may be missing, as in replies to EPSV; its end may not.
    let rest = rest.strip_prefix(&[delimiter])?;
    let mut fields = rest.splitn(2, |byte| *byte == delimiter);
    let addr = match fields.next()? {
        b"" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        addr => std::str::from_utf8(addr).ok()?.parse().ok()?,
    };
    let rest = fields.next()?;
    let (port, behind) = leading_number(rest).unwrap_or((0, rest));
    if behind.first() != Some(&delimiter) {
        return None;
    }
    Some(Endpoint { addr, port: u16::try_from(port).ok()? })
}

/// The reply to EPSV: `Entering Extended Passive Mode (|||6446|)`.
pub(super) fn epsv(text: &[u8]) -> Option<Endpoint> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    eprt(text.get(open + 1..)?)
}

/// A decimal number at the begin, spaces before it and a sign allowed, and what is behind it.
fn leading_number(text: &[u8]) -> Option<(i64, &[u8])> {
    let text = text.trim_ascii_start();
    let (is_negative, digits_on) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let len = digits_on.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, behind) = digits_on.split_at_checked(len)?;
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    Some((if is_negative { -value } else { value }, behind))
}
