//! Values behind qualifiers: addresses, networks, ports, protocol numbers.

use std::net::Ipv6Addr;

use super::ast::{Direction, Test};
use super::error::FilterError;
use super::lexer::{Placed, Token, ethernet};
use super::names::{self, Protocol};
use super::parser::Parser;

/// What kind of value follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Protocol,
}

/// What stands before a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Qualifiers {
    pub(super) protocol: Option<Protocol>,
    pub(super) direction: Direction,
    pub(super) kind: Kind,
    /// The kind was typed; else it is a host's address.
    pub(super) is_kind_named: bool,
}

impl Qualifiers {
    /// Refuses what makes no sense together, such as `arp port`.
    pub(super) fn check(&self, column: usize) -> Result<(), FilterError> {
        let Some(protocol) = self.protocol else { return Ok(()) };
        let (word, fits, expected) = match self.kind {
            Kind::Host => (
                "host",
                protocol.ethernet_type().is_some() || protocol == Protocol::Link,
                "ether, ip, ip6, arp or rarp",
            ),
            Kind::Net => ("net", protocol.ethernet_type().is_some(), "ip, ip6, arp or rarp"),
            Kind::Port | Kind::PortRange => (
                "port",
                matches!(protocol, Protocol::Tcp | Protocol::Udp | Protocol::Sctp),
                "tcp, udp or sctp",
            ),
            Kind::Protocol => (
                "proto",
                matches!(protocol, Protocol::Ip | Protocol::Ip6 | Protocol::Link),
                "ip, ip6 or ether",
            ),
        };
        if fits {
            return Ok(());
        }
        let found = format!("`{word}` behind `{}`", protocol.name());
        let error = FilterError::expected(column, &found, &format!("it behind {expected}"));
        if !self.is_kind_named && protocol.over_ip().is_some() {
            return Err(error.hint("for a port, type `port` behind the direction"));
        }
        Err(error.hint(format!("`{} and {word} ...` tests both", protocol.name())))
    }
}

/// Reads the value that the qualifiers ask for.
pub(super) fn value(parser: &mut Parser<'_>, of: Qualifiers) -> Result<Test, FilterError> {
    match of.kind {
        Kind::Host => host(parser, of),
        Kind::Net => net(parser, of),
        Kind::Port | Kind::PortRange => port(parser, of),
        Kind::Protocol => protocol_number(parser, of),
    }
}

/// A number of at most `max`.
pub(super) fn number(parser: &mut Parser<'_>, max: u32) -> Result<u32, FilterError> {
    let expected = format!("a number up to {max}");
    let Token::Word(word) = parser.peek().token else { return Err(parser.wrong(&expected)) };
    let number = to_number(word).filter(|number| *number <= max);
    let number = number.ok_or_else(|| parser.wrong(&expected))?;
    parser.next();
    Ok(number)
}

/// Decimal, `0x` hexadecimal, or octal behind a zero, as in C.
pub(super) fn to_number(word: &str) -> Option<u32> {
    let (digits, radix) = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if word.len() > 1 && word.starts_with('0') => (word, 8),
        None => (word, 10),
    };
    digits
        .starts_with(|c: char| c.is_digit(radix))
        .then(|| u32::from_str_radix(digits, radix).ok())?
}

fn host(parser: &mut Parser<'_>, of: Qualifiers) -> Result<Test, FilterError> {
    let placed = parser.peek();
    if of.protocol == Some(Protocol::Link) {
        let address = match placed.token {
            Token::Ethernet(address) => Some(address),
            Token::Word(word) => ethernet(word, '-').or_else(|| ethernet(word, '.')),
            _ => None,
        };
        let expected = "an Ethernet address such as 02:00:00:00:00:01";
        let address = address.ok_or_else(|| parser.wrong(expected))?;
        parser.next();
        return Ok(Test::Ethernet { direction: of.direction, address });
    }
    let expected = match of.protocol {
        Some(Protocol::Ip6) => "an IPv6 address",
        Some(_) => "an IPv4 address",
        None => "an IPv4 or IPv6 address",
    };
    let test = match placed.token {
        Token::Ipv6(address) if takes_ipv6(of) => {
            Test::Ipv6 { direction: of.direction, address, prefix_len: 128 }
        }
        Token::Ethernet(_) => {
            let hint = format!("`ether host {}`", placed.text);
            return Err(parser.wrong(expected).hint(hint));
        }
        Token::Word(word) if takes_ipv4(of) => match dotted(word) {
            Some((address, 32)) => Test::Ipv4 {
                protocol: of.protocol,
                direction: of.direction,
                address,
                mask: u32::MAX,
            },
            Some(_) => return Err(parser.wrong(expected).hint(format!("`net {word}`"))),
            None => return Err(no_name(parser, word, expected)),
        },
        Token::Word(word) => return Err(no_name(parser, word, expected)),
        _ => return Err(parser.wrong(expected)),
    };
    parser.next();
    if parser.peek().token == Token::Sign("/") {
        let hint = format!("networks are behind `net`: `net {}/…`", placed.text);
        return Err(parser.wrong("`and`, `or` or the end").hint(hint));
    }
    Ok(test)
}

fn net(parser: &mut Parser<'_>, of: Qualifiers) -> Result<Test, FilterError> {
    let placed = parser.peek();
    let expected = "a network such as 10.0.0.0/8, 192.168 or fe80::/10";
    match placed.token {
        Token::Ipv6(address) if takes_ipv6(of) => {
            parser.next();
            let prefix_len = prefix_len(parser, 128)?.unwrap_or(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
            if address.to_bits() & !mask != 0 {
                let whole = Ipv6Addr::from_bits(address.to_bits() & mask);
                return Err(host_bits(&placed, &format!("net {whole}/{prefix_len}")));
            }
            Ok(Test::Ipv6 { direction: of.direction, address, prefix_len })
        }
        Token::Word(word) if takes_ipv4(of) => {
            let found = network(word).ok_or_else(|| no_name(parser, word, expected))?;
            parser.next();
            ipv4_net(parser, of, &placed, found)
        }
        Token::Word(word) => Err(no_name(parser, word, "an IPv6 network such as fe80::/10")),
        _ => Err(parser.wrong(expected)),
    }
}

/// The mask behind an IPv4 network: `/8`, `mask 255.0.0.0`, or as many bytes as were typed.
fn ipv4_net(
    parser: &mut Parser<'_>,
    of: Qualifiers,
    placed: &Placed<'_>,
    (address, typed_bits): (u32, u32),
) -> Result<Test, FilterError> {
    let mask_of = |bits: u32| u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    let mask = if let Some(len) = prefix_len(parser, 32)? {
        mask_of(len.into())
    } else if parser.peek().token == Token::Word("mask") {
        parser.next();
        let expected = "a mask such as 255.255.0.0";
        let Token::Word(word) = parser.peek().token else { return Err(parser.wrong(expected)) };
        let (mask, _) = network(word).ok_or_else(|| parser.wrong(expected))?;
        parser.next();
        mask
    } else {
        mask_of(typed_bits)
    };
    if address & !mask != 0 {
        let whole = std::net::Ipv4Addr::from_bits(address & mask);
        let hint = if mask.leading_ones() == mask.count_ones() {
            format!("net {whole}/{}", mask.leading_ones())
        } else {
            format!("net {whole} mask {}", std::net::Ipv4Addr::from_bits(mask))
        };
        return Err(host_bits(placed, &hint));
    }
    Ok(Test::Ipv4 { protocol: of.protocol, direction: of.direction, address, mask })
}

fn prefix_len(parser: &mut Parser<'_>, max: u8) -> Result<Option<u8>, FilterError> {
    if parser.peek().token != Token::Sign("/") {
        return Ok(None);
    }
    parser.next();
    number(parser, max.into()).map(|len| u8::try_from(len).ok())
}

fn host_bits(placed: &Placed<'_>, hint: &str) -> FilterError {
    let message = format!("`{}` has bits behind its mask", placed.text);
    FilterError::new(placed.column, message).hint(format!("`{hint}`"))
}

fn port(parser: &mut Parser<'_>, of: Qualifiers) -> Result<Test, FilterError> {
    let is_range = of.kind == Kind::PortRange;
    let expected = if is_range {
        "ports such as 6000-6010"
    } else {
        "a port from 0 to 65535, or the name of a well-known one"
    };
    let (Token::Word(word) | Token::Escaped(word)) = parser.peek().token else {
        return Err(parser.wrong(expected));
    };
    let one = |text: &str| match to_number(text) {
        Some(number) => u16::try_from(number).ok(),
        None => names::service(text),
    };
    // Names have hyphens of their own: a word that is a port is no range.
    let range = one(word).map(|port| (port, port)).or_else(|| {
        word.match_indices('-')
            .find_map(|(at, _)| Some((one(word.get(..at)?)?, one(word.get(at + 1..)?)?)))
    });
    let Some((first, last)) = range else {
        let error = parser.wrong(expected);
        return Err(match names::nearest_service(word) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        });
    };
    if first != last && !is_range {
        return Err(parser.wrong(expected).hint(format!("`portrange {word}`")));
    }
    parser.next();
    let (first, last) = (first.min(last), first.max(last));
    Ok(Test::Port { protocol: of.protocol, direction: of.direction, first, last })
}

fn protocol_number(parser: &mut Parser<'_>, of: Qualifiers) -> Result<Test, FilterError> {
    let is_link = of.protocol == Some(Protocol::Link);
    let (max, expected) = if is_link {
        (0xffff, "an Ethernet type such as 0x88cc, or `ip`, `ip6`, `arp`")
    } else {
        (0xff, "a protocol's number from 0 to 255, or its name such as `gre`")
    };
    let (Token::Word(word) | Token::Escaped(word)) = parser.peek().token else {
        return Err(parser.wrong(expected));
    };
    let named = if is_link { names::ethernet_type(word) } else { names::ip_protocol(word) };
    let Some(number) = to_number(word).filter(|number| *number <= max).or(named) else {
        let error = parser.wrong(expected);
        return Err(match names::nearest_protocol_number(word, is_link) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        });
    };
    // The values that several encapsulations share (IPX, AppleTalk, OSI, NetBIOS).
    let is_shared = matches!(number, 0x06 | 0xe0 | 0xf0 | 0xfe | 0x809b | 0x80f3 | 0x100..=0x5dc);
    if is_link && is_shared {
        let message = format!("`ether proto {word}` is not supported");
        let hint = "`link[12:2] <= 1500 and link[14] = VALUE` tests an LLC header";
        return Err(FilterError::new(parser.peek().column, message).hint(hint));
    }
    parser.next();
    Ok(Test::ProtocolNumber { below: of.protocol, number })
}

fn takes_ipv4(of: Qualifiers) -> bool {
    of.protocol != Some(Protocol::Ip6)
}

fn takes_ipv6(of: Qualifiers) -> bool {
    matches!(of.protocol, None | Some(Protocol::Ip6))
}

/// One to four numbers with dots between, and how many bits they are.
fn dotted(word: &str) -> Option<(u32, u32)> {
    let (mut address, mut bits) = (0_u32, 0);
    for part in word.split('.') {
        let part = to_number(part).filter(|part| *part < 256 && bits < 32)?;
        (address, bits) = (address << 8 | part, bits + 8);
    }
    Some((address.checked_shl(32 - bits)?, bits))
}

/// A network: as [`dotted`], but leading zeroes of a lone number count for nothing.
fn network(word: &str) -> Option<(u32, u32)> {
    if word.contains('.') {
        return dotted(word);
    }
    let number = to_number(word)?;
    let bits = 32 - number.leading_zeros() / 8 * 8;
    Some((number.checked_shl(32 - bits).unwrap_or(0), if number == 0 { 32 } else { bits }))
}

fn no_name(parser: &Parser<'_>, word: &str, expected: &str) -> FilterError {
    let error = parser.wrong(expected);
    if word.starts_with(|c: char| c.is_ascii_digit())
        && !word.contains(|c: char| c.is_ascii_alphabetic())
    {
        return error;
    }
    let hint = "daemons get addresses only: a name may mean another host tomorrow; `getent hosts NAME` shows its addresses";
    error.hint(hint)
}
