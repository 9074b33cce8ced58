//! Mail addresses and IP addresses in the texts of mail, found as Zeek's scripts find them.

use std::net::IpAddr;

/// Bytes of a header field in which IP addresses are looked for.
const SEARCHED_BYTES_MAX: usize = 4096;
/// Characters of the longest IP address.
const IP_CHARS_MAX: usize = 45;

/// What may stand before a mail address.
const fn is_before(byte: u8) -> bool {
    matches!(byte, b'<' | b',' | b':' | b' ' | b'\t')
}

/// What may stand behind one.
const fn is_behind(byte: u8) -> bool {
    matches!(byte, b'>' | b',' | b';' | b' ' | b'\t')
}

/// The mail addresses in the argument of a command, in their order.
pub(super) fn mail_addresses(text: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let start = usize::from(rest.first().is_some_and(|&byte| is_before(byte)));
        let body = rest.get(start..).unwrap_or_default();
        let local = body.iter().position(|&byte| is_before(byte) || byte == b'@');
        let local = local.unwrap_or(body.len());
        let domain = body.get(local..).and_then(|rest| rest.strip_prefix(b"@"));
        let len = domain.map_or(0, |domain| {
            domain.iter().position(|&byte| is_behind(byte)).unwrap_or(domain.len())
        });
        if local == 0 || len == 0 {
            // What is not the begin of an address here is not one a byte further, either.
            rest = rest.get((start + local).max(1)..).unwrap_or_default();
            continue;
        }
        let end = (start + local + 1 + len + 1).min(rest.len());
        let (address, behind) = rest.split_at_checked(end).unwrap_or_default();
        let is_part = |byte: &u8| !is_before(*byte) && !is_behind(*byte);
        found.push(address.iter().copied().filter(is_part).collect());
        rest = behind;
    }
    found
}

/// The addresses of a `To` or `Cc` field, with the names before them.
pub(super) fn header_addresses(line: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(&first) = rest.first() {
        let quoted = if first == b'"' { quoted_len(rest) } else { None };
        let len = quoted.and_then(|quoted| {
            let behind = rest.get(quoted..).unwrap_or_default();
            address_len(behind).map(|len| quoted + len)
        });
        match len.max(address_len(rest)) {
            Some(len) => {
                let (address, behind) = rest.split_at_checked(len).unwrap_or_default();
                found.push(address.trim_ascii().to_vec());
                rest = behind;
            }
            None => {
                // Only a quote or a comma can begin what succeeds where this failed.
                let next = rest.iter().skip(1).position(|byte| matches!(byte, b'"' | b','));
                let behind_comma = usize::from(first == b',');
                let skipped =
                    if behind_comma == 1 { 1 } else { next.map_or(rest.len(), |at| at + 1) };
                rest = rest.get(skipped..).unwrap_or_default();
            }
        }
    }
    found
}

/// Bytes of the quoted string at the begin of `text`.
fn quoted_len(text: &[u8]) -> Option<usize> {
    text.iter().skip(1).position(|&byte| byte == b'"').map(|at| at + 2)
}

/// Bytes up to the next comma, if an `@` with something on both sides is in them.
fn address_len(text: &[u8]) -> Option<usize> {
    let len = text.iter().position(|&byte| byte == b',').unwrap_or(text.len());
    let inner = text.get(1..len.checked_sub(1)?)?;
    inner.contains(&b'@').then_some(len)
}

/// The IP addresses in `text`; with `wrapped` only those between brackets, parentheses, braces
/// or blanks.
pub(super) fn ip_addresses(text: &[u8], wrapped: bool) -> Vec<IpAddr> {
    let text = text.get(..SEARCHED_BYTES_MAX).unwrap_or(text);
    let mut found = Vec::new();
    let (mut at, mut last_end) = (0, 0);
    while at < text.len() {
        let Some((addr, len)) = text.get(at..).and_then(ip_address) else {
            at += 1;
            continue;
        };
        let end = at + len;
        let before = if at > last_end { text.get(at - 1) } else { None };
        // What stands between two addresses is both behind the one and before the other.
        let around = (before, text.get(end));
        let is_wrapped = matches!(
            around,
            (Some(b'['), Some(b']'))
                | (Some(b'('), Some(b')'))
                | (Some(b'{'), Some(b'}'))
                | (Some(b' '), Some(b' '))
                | (None, None)
        );
        if !wrapped || is_wrapped {
            found.push(addr);
        }
        at = end;
        last_end = end;
    }
    found
}

/// The longest IP address at the begin of `text`, and its length.
fn ip_address(text: &[u8]) -> Option<(IpAddr, usize)> {
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let run = text.iter().take(IP_CHARS_MAX).take_while(|byte| is_part(byte)).count();
    let run = text.get(..run)?;
    // An address has a separator among its first five characters.
    run.iter().take(5).find(|byte| matches!(byte, b'.' | b':'))?;
    (2..=run.len()).rev().find_map(|len| {
        let text = std::str::from_utf8(run.get(..len)?).ok()?;
        text.parse().ok().map(|addr| (addr, len))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(found: Vec<Vec<u8>>) -> Vec<String> {
        found.iter().map(|address| String::from_utf8_lossy(address).into_owned()).collect()
    }

    #[test]
    fn the_addresses_of_a_command_are_found_without_their_brackets() {
        let addresses = |text: &[u8]| texts(mail_addresses(text));
        assert_eq!(addresses(b"FROM:<a@example.org> SIZE=3"), ["a@example.org"]);
        assert_eq!(addresses(b"TO:b@c"), ["b@c"]);
        assert_eq!(addresses(b"TO:<>"), [""; 0]);
        assert_eq!(addresses(b"x <a@b>,<c@d>"), ["a@b", "c@d"]);
    }

    #[test]
    fn the_addresses_of_a_field_keep_their_names() {
        let addresses = |text: &[u8]| texts(header_addresses(text));
        assert_eq!(addresses(b"A <a@b>, c@d"), ["A <a@b>", "c@d"]);
        assert_eq!(addresses(b"\"A, B\" <a@b>"), ["\"A, B\" <a@b>"]);
        assert_eq!(addresses(b"nobody, a@b"), ["a@b"]);
        assert_eq!(addresses(b"nobody"), [""; 0]);
    }

    #[test]
    fn ip_addresses_are_found_between_what_wraps_them() {
        let found = |text: &str, wrapped| ip_addresses(text.as_bytes(), wrapped);
        let text = "from localhost (localhost [127.0.0.1]) by 10.0.0.1; 16:30:19";
        assert_eq!(found(text, true), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(found(text, false).len(), 2);
        assert!(found("[IPv6:2607:f8b0:4864:20::42f]", true).is_empty());
    }
}
