//! Name and version of a program out of what it says of itself, by the rules of Zeek's
//! `base/frameworks/software`: nothing is known of most programs but that a number with dots is
//! a version, and what stands before it the name. The rules' oddities are kept: what they give
//! is what people search for.

use tyto_core::record::LogRecord;

/// A version, as far as there are numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, LogRecord)]
pub struct Version {
    /// First number.
    pub major: Option<u64>,
    /// Second number.
    pub minor: Option<u64>,
    /// Third number.
    pub minor2: Option<u64>,
    /// Fourth number.
    pub minor3: Option<u64>,
    /// What comes behind the numbers.
    pub addl: Option<Vec<u8>>,
}

/// What a program said of itself, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: Vec<u8>,
    /// Its version.
    pub version: Version,
}

impl Version {
    const fn of(major: u64, minor: u64) -> Self {
        Self { major: Some(major), minor: Some(minor), minor2: None, minor3: None, addl: None }
    }

    /// As in `1.2.3-addl`; a version without numbers is `0`.
    pub fn print(&self) -> String {
        let mut text = self.major.unwrap_or_default().to_string();
        for number in [self.minor, self.minor2, self.minor3].into_iter().flatten() {
            text.push('.');
            text.push_str(&number.to_string());
        }
        if let Some(addl) = &self.addl {
            text.push('-');
            text.push_str(&String::from_utf8_lossy(addl));
        }
        text
    }
}

/// Takes `text` apart.
pub fn parse(text: &[u8]) -> Description {
    if is_browser(text) {
        return parse_browser(text);
    }
    if is_android(text) {
        let version = text.split(|byte| *byte == b'/').nth(1).unwrap_or_default();
        let version = if version.contains(&b'.') {
            parse(version).version
        } else {
            Version { major: Some(first_number(version)), ..Version::default() }
        };
        return Description { name: b"Android (Google Pixel)".to_vec(), version };
    }
    let text = unescape(text);
    let Some((at, len)) = find_version(&text) else {
        return Description { name: name_of(&text), version: Version::default() };
    };
    let (before, rest) = text.split_at(at);
    let (numbers, after) = rest.split_at(len);
    Description { name: name_of(before), version: numbers_of(numbers, after) }
}

/// What stands before the version.
fn name_of(before: &[u8]) -> Vec<u8> {
    let mut name = before.to_vec();
    if ends_with_separator(&name)
        && let Some((at, len)) = find(&name, separator)
    {
        name.drain(at..at + len);
        name = name.trim_ascii().to_vec();
    }
    if name.starts_with(b"(") {
        name.remove(0);
    }
    match name.trim_ascii() {
        b"Flash Player" => b"Flash".to_vec(),
        name => name.to_vec(),
    }
}

/// The version out of the `numbers` that were found, and what stands behind them.
fn numbers_of(numbers: &[u8], after: &[u8]) -> Version {
    let mut numbers = numbers.trim_ascii();
    if let Some((first, rest)) = numbers.split_first()
        && b"/-._v(".contains(first)
    {
        numbers = rest.trim_ascii();
    }
    let mut parts = numbers.splitn(4, |byte| b"-._,[({ ".contains(byte));
    let mut next = || parts.next().filter(|part| !part.is_empty()).map(first_number);
    let (major, minor, minor2, minor3) = (next(), next(), next(), next());
    let addl = (!after.is_empty() && after != b")").then(|| addition(after));
    Version { major, minor, minor2, minor3, addl }
}

/// A word of what stands behind the numbers.
fn addition(after: &[u8]) -> Vec<u8> {
    let inner = after.iter().position(|byte| !b" \t".contains(byte));
    if let Some(open) = inner.filter(|at| after.get(*at) == Some(&b'('))
        && let Some(close) = after.iter().position(|byte| *byte == b')')
        && let Some(word) = after.get(open + 1..close)
        && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._ \t".contains(byte))
    {
        return word.to_vec();
    }
    let mut words = after.splitn(4, |byte| b"-._,;[](){} ".contains(byte)).take(3);
    words.find(|word| !word.is_empty()).unwrap_or(after).trim_ascii().to_vec()
}

/// `(Mozilla|Opera)/` and a number with a dot.
fn is_browser(text: &[u8]) -> bool {
    let rest = text.strip_prefix(b"Mozilla/").or_else(|| text.strip_prefix(b"Opera/"));
    let Some(rest) = rest else { return false };
    let digits = run(rest, |byte| byte.is_ascii_digit());
    digits > 0 && rest.get(digits) == Some(&b'.')
}

/// `A/` with a version, then `/Google/Pixel`.
fn is_android(text: &[u8]) -> bool {
    find(text, |rest| {
        let rest = rest.strip_prefix(b"A/")?;
        let version = rest.get(run(rest, is_version_byte)..)?;
        version.starts_with(b"/Google/Pixel").then_some(1)
    })
    .is_some()
}

/// The rules for what calls itself Mozilla or Opera, in the order in which they are tried.
fn parse_browser(text: &[u8]) -> Description {
    let described = |name: &[u8], version| Description { name: name.to_vec(), version };
    let after = |word: &[u8]| find_after(text, word, is_version_byte);
    let version_of = |found: Option<&[u8]>| found.map(|f| parse(f).version).unwrap_or_default();
    if let Some(at) = opera_at_end(text) {
        return described(b"Opera", version_of(text.get(at..)));
    }
    if contains(text, b" MSIE ") || contains(text, b"Trident/") {
        return described(b"MSIE", explorer(text));
    }
    if contains(text, b"Edge/") {
        return described(b"Edge", version_of(after(b"Edge/")));
    }
    if contains_both(text, b"Version/", b"Safari/") {
        let mut version = version_of(after(b"Version/"));
        if contains_both(text, b" Mobile", b" Safari") {
            version.addl = Some(b"Mobile".to_vec());
        }
        return described(b"Safari", version);
    }
    let mozillas = [&b"Firefox/"[..], b"Netscape/", b"Thunderbird/"];
    let first = mozillas.iter().filter_map(|word| Some((position(text, word)?, *word))).min();
    if let Some((_, word)) = first
        && let Some(found) = after(word)
    {
        return parse(found);
    }
    if contains_both(text, b"Chrome/", b"Safari/") {
        return described(b"Chrome", version_of(after(b"Chrome/")));
    }
    if text.starts_with(b"Opera/") {
        return opera(text, version_of(after(b"Version/").or_else(|| after(b"Opera Mini/"))));
    }
    if contains(text, b"Flash%20Player") {
        let version = text.split(|byte| b"/ ".contains(byte)).nth(1);
        return described(b"Flash", version_of(version));
    }
    if let Some(found) = after(b"AdobeAIR/") {
        return described(b"AdobeAIR", parse(found).version);
    }
    if let Some(found) = after(b"AppleWebKit/") {
        return described(b"Unspecified WebKit", parse(found).version);
    }
    let is_java = find(text, |rest| {
        let rest = rest.strip_prefix(b" Java/")?;
        (rest.first()?.is_ascii_digit() && rest.get(1) == Some(&b'.')).then_some(1)
    });
    if is_java.is_some() {
        let found = find_after(text, b"Java/", |byte| is_version_byte(byte) || *byte == b'_');
        return described(b"Java", version_of(found));
    }
    described(b"<unknown browser>", Version::default())
}

/// Internet Explorer tells its age by its engine; the `MSIE` that it says may be an older one
/// that it pretends to be.
fn explorer(text: &[u8]) -> Version {
    for (engine, major) in
        [(&b"Trident/4.0"[..], 8), (b"Trident/5.0", 9), (b"Trident/6.0", 10), (b"Trident/7.0", 11)]
    {
        if contains(text, engine) {
            return Version::of(major, 0);
        }
    }
    let found = find(text, |rest| {
        let digits = |from: usize| run(rest.get(from..).unwrap_or_default(), u8::is_ascii_digit);
        let number = rest.strip_prefix(b"MSIE ").map(|_| digits(5).min(2))?;
        let mut len = 5 + number;
        len += run(rest.get(len..)?, |byte| *byte == b'.');
        len += digits(len);
        len += usize::from(rest.get(len) == Some(&b'b'));
        (number > 0).then_some(len + digits(len))
    });
    let found = found.and_then(|(at, len)| text.get(at..at + len));
    found.map(|found| parse(found).version).unwrap_or_default()
}

/// Opera on phones has a name of its own; on others, `version` counts where it says one.
fn opera(text: &[u8], version: Version) -> Description {
    let phone = [&b"Opera Mini"[..], b"Opera Mobi"].into_iter().find(|name| {
        position(text, name).is_some_and(|at| text.get(at + name.len()) == Some(&b'/'))
    });
    match phone {
        Some(name) => Description { name: name.to_vec(), version },
        None => {
            let is_told = contains(text, b"Version/");
            let version = if is_told { version } else { Version::default() };
            Description { name: b"Opera".to_vec(), version }
        }
    }
}

/// Where `Opera ` and a version stand as the last of `text`.
fn opera_at_end(text: &[u8]) -> Option<usize> {
    let (at, _) = find(text, |rest| {
        let version = rest.strip_prefix(b"Opera ")?;
        version.iter().all(is_version_byte).then_some(1)
    })?;
    Some(at)
}

/// The first version number in `text`: a separator, then two characters or more of numbers and
/// what may stand between them.
fn find_version(text: &[u8]) -> Option<(usize, usize)> {
    let is_number = |byte: &u8| byte.is_ascii_digit() || b"-._, ".contains(byte);
    find(text, |rest| {
        let behind = |skip: usize| {
            let len = run(rest.get(skip..)?, is_number);
            (len >= 2).then_some(skip + len)
        };
        let separated = separator(rest).and_then(behind);
        behind(0).max(separated)
    })
}

/// Length of what separates a name from a version, at the begin of `text`.
fn separator(text: &[u8]) -> Option<usize> {
    match text {
        [b'/' | b'-' | b'_', ..] => Some(1),
        [b' ', rest @ ..] => match run(rest, |byte| b"(v".contains(byte)) {
            0 => None,
            len => Some(1 + len),
        },
        _ => None,
    }
}

fn ends_with_separator(text: &[u8]) -> bool {
    (0..text.len()).any(|at| {
        let rest = text.get(at..).unwrap_or_default();
        separator(rest) == Some(rest.len())
    })
}

/// The first place in `text` where `matches` gives a length, and that length.
fn find(text: &[u8], matches: impl Fn(&[u8]) -> Option<usize>) -> Option<(usize, usize)> {
    (0..text.len()).find_map(|at| Some((at, matches(text.get(at..)?)?)))
}

fn position(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    position(text, word).is_some()
}

/// Whether `first` and, behind it, `second` are in `text`.
fn contains_both(text: &[u8], first: &[u8], second: &[u8]) -> bool {
    let rest = position(text, first).and_then(|at| text.get(at + first.len()..));
    rest.is_some_and(|rest| contains(rest, second))
}

/// `word` and the bytes behind it that `counts`.
fn find_after<'a>(text: &'a [u8], word: &[u8], counts: fn(&u8) -> bool) -> Option<&'a [u8]> {
    let rest = text.get(position(text, word)?..)?;
    let len = word.len() + run(rest.get(word.len()..)?, counts);
    rest.get(..len)
}

fn run(text: &[u8], counts: impl Fn(&u8) -> bool) -> usize {
    text.iter().take_while(|byte| counts(byte)).count()
}

const fn is_version_byte(byte: &u8) -> bool {
    byte.is_ascii_digit() || *byte == b'.'
}

/// The first number in `text`; 0 without one.
fn first_number(text: &[u8]) -> u64 {
    let digits = text.iter().skip_while(|byte| !byte.is_ascii_digit());
    let digits = digits.take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u64, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    })
}

/// Undoes `%41` and `\x41`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = match first {
            b'%' => Some(behind),
            b'\\' => behind.strip_prefix(b"x"),
            _ => None,
        };
        let Some(escaped) = escaped else {
            plain.push(*first);
            rest = behind;
            continue;
        };
        rest = match (hex(escaped.first()), hex(escaped.get(1))) {
            (Some(high), Some(low)) => {
                plain.extend(u8::try_from(high * 16 + low));
                escaped.get(2..).unwrap_or_default()
            }
            _ => {
                plain.push(b'%');
                // Two of them stand for one.
                escaped.strip_prefix(b"%").unwrap_or(escaped)
            }
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let Description { name, version } = parse(text.as_bytes());
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
        let addl = version.addl.map_or("-".into(), |addl| String::from_utf8(addl).unwrap());
        format!(
            "{} {} {} {} {} {addl}",
            String::from_utf8(name).unwrap(),
            number(version.major),
            number(version.minor),
            number(version.minor2),
            number(version.minor3),
        )
    }

    #[test]
    fn names_and_numbers_are_found() {
        for (text, expected) in [
            ("OpenSSH_6.6.1p1 Ubuntu-2ubuntu2", "OpenSSH 6 6 1 - p1"),
            ("OpenSSH_8.2", "OpenSSH 8 2 - - -"),
            ("Apache/2.2.24 (Unix) mod_ssl/2.2.24 PHP/7.2.23", "Apache 2 2 24 - Unix"),
            ("Apache/2.4.7 (Debian GNU; Linux)", "Apache 2 4 7 - Debian"),
            ("Apple Mail (2.2102)", "Apple Mail 2 2102 - - -"),
            ("Office Outlook, Build 11.0.5510", "Office Outlook - - - - Build"),
            ("nginx", "nginx - - - - -"),
            ("Python/3.10 websockets/12.0", "Python 3 10 - - websockets/12"),
            ("EmWeb/R6_2_1", "EmWeb/R 6 2 1 - -"),
            ("Flash Player 26.0.0.137", "Flash 26 0 0 137 -"),
            ("The Bat! (v2.00.9) Personal", "The Bat! 2 0 9 - Personal"),
            ("Microsoft%20CryptoAPI/6.1", "Microsoft CryptoAPI 6 1 - - -"),
            ("mutt\\x2f1.5.1", "mutt 1 5 1 - -"),
            ("A/8.0.0/Google/Pixel#XL", "Android (Google Pixel) 8 0 0 - -"),
            ("A/9/Google/Pixel", "Android (Google Pixel) 9 - - - -"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn browsers_are_told_apart() {
        for (text, expected) in [
            ("Mozilla/5.0 (X11; rv:91.0) Gecko/20100101 Firefox/91.0", "Firefox 91 0 - - -"),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)", "MSIE 6 0 - - -"),
            ("Mozilla/4.0 (compatible; MSIE 7.0b; Windows)", "MSIE 7 0 - - b"),
            ("Mozilla/4.0 (compatible; MSIE 7.0; Trident/4.0)", "MSIE 8 0 - - -"),
            (
                "Mozilla/5.0 (Windows) AppleWebKit/537.36 Chrome/103.0.5060.134 Safari/537.36",
                "Chrome 103 0 5060 134 -",
            ),
            (
                "Mozilla/5.0 (iPhone) Version/5.0.2 Mobile/8C148 Safari/6533.18",
                "Safari 5 0 2 - Mobile",
            ),
            ("Mozilla/5.0 Chrome/64.0 Safari/537.36 Edge/17.17134", "Edge 17 17134 - - -"),
            ("Opera/9.80 (Windows NT) Presto/2.7.62 Version/11.01", "Opera 11 1 - - -"),
            ("Opera/9.80 (J2ME/MIDP; Opera Mini/9.80/22.478; U)", "Opera Mini 9 80 - - -"),
            ("Mozilla/4.0 (compatible; MSIE 6.0; Windows) Opera 7.54", "Opera 7 54 - - -"),
            ("Mozilla/5.0 (Windows) AdobeAIR/2.5", "AdobeAIR 2 5 - - -"),
            ("Mozilla/5.0 (KHTML) AppleWebKit/533.1", "Unspecified WebKit 533 1 - - -"),
            ("Mozilla/4.0 (Windows XP 5.1) Java/1.6.0_13", "Java 1 6 0 13 -"),
            ("Mozilla/5.0", "<unknown browser> - - - - -"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_text_is_taken_apart_too() {
        for byte in 0..=255_u8 {
            for len in 0..5 {
                let _ = parse(&[&b"Mozilla/5."[..], &vec![byte; len]].concat());
                let _ = parse(&vec![byte; len]);
            }
        }
    }
}
