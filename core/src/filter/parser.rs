//! Words into meaning: the grammar of pcap-filter(7). `and` and `or` bind equally, from left
//! to right; `not` binds tighter. A bare value behind `and`, `or` or `not` takes the
//! qualifiers before it: `host a or b`.

use super::ast::{Direction, Expression, Joint, Test};
use super::error::FilterError;
use super::lexer::{Placed, Token, tokens};
use super::names::{self, Protocol};
use super::operand::{self, Kind, Qualifiers};

/// Parentheses, `not`s and signs that can be open at a time.
pub(super) const NESTING_MAX: usize = 64;

/// Reads a whole filter.
pub(super) fn parse(text: &str) -> Result<Expression, FilterError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let expression = parser.chain(None)?.0;
    match parser.peek().token {
        Token::End => Ok(expression),
        _ => Err(parser.wrong("`and`, `or` or the end")),
    }
}

/// What a part means, and the qualifiers that a bare value behind it takes.
type Part = (Expression, Option<Qualifiers>);

pub(super) struct Parser<'a> {
    /// Never empty; the last is the end.
    tokens: Vec<Placed<'a>>,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn chain(&mut self, inherited: Option<Qualifiers>) -> Result<Part, FilterError> {
        let (first, mut qualifiers) = self.term(inherited)?;
        let mut rest = Vec::new();
        while let Some(joint) = self.joint() {
            let (part, next) = self.term(qualifiers)?;
            rest.push((joint, part));
            qualifiers = next;
        }
        if rest.is_empty() {
            return Ok((first, qualifiers));
        }
        Ok((Expression::Chain(Box::new(first), rest), qualifiers))
    }

    fn joint(&mut self) -> Option<Joint> {
        let joint = match self.peek().token {
            Token::Word("and") | Token::Sign("&&") => Joint::And,
            Token::Word("or") | Token::Sign("||") => Joint::Or,
            _ => return None,
        };
        self.next();
        Some(joint)
    }

    fn term(&mut self, inherited: Option<Qualifiers>) -> Result<Part, FilterError> {
        match self.peek().token {
            Token::Word("not") | Token::Sign("!") => {
                self.next();
                self.deeper()?;
                let (part, qualifiers) = self.term(inherited)?;
                self.depth -= 1;
                Ok((Expression::Not(Box::new(part)), qualifiers))
            }
            Token::Sign("(") if !self.is_arithmetic_group() => {
                self.next();
                self.deeper()?;
                let (part, _) = self.chain(inherited)?;
                self.depth -= 1;
                self.sign(")", "`and`, `or` or `)`")?;
                Ok((part, inherited))
            }
            _ => self.primitive(inherited),
        }
    }

    fn primitive(&mut self, inherited: Option<Qualifiers>) -> Result<Part, FilterError> {
        let column = self.peek().column;
        let test = |test| Expression::Test { test, column };
        // Behind `net`, a slash begins a prefix length.
        let is_net = inherited.is_some_and(|qualifiers| qualifiers.kind == Kind::Net)
            && self.peek_at(1).is_some_and(|behind| behind.token == Token::Sign("/"));
        if !is_net && self.begins_arithmetic() {
            return Ok((test(self.relation()?), None));
        }
        if self.begins_value() {
            let Some(qualifiers) = inherited else { return Err(self.bare_value()) };
            return Ok((test(operand::value(self, qualifiers)?), inherited));
        }
        let Token::Word(word) = self.peek().token else { return Err(self.unexpected()) };
        if let Some(found) = self.lone_keyword(word)? {
            return Ok((test(found), None));
        }
        let protocol = names::protocol(word);
        if protocol.is_some() {
            self.next();
        }
        match self.peek().token {
            Token::Word("broadcast") => {
                let found = self.broadcast(protocol, column)?;
                return Ok((test(found), None));
            }
            Token::Word("multicast") => {
                let found = self.multicast(protocol, column)?;
                return Ok((test(found), None));
            }
            _ => {}
        }
        let qualifiers = self.qualifiers(protocol)?;
        match (qualifiers, protocol) {
            (Some(qualifiers), _) => {
                let part = self.operand(qualifiers)?;
                Ok((part, Some(qualifiers)))
            }
            (None, Some(Protocol::Link)) => Err(self.wrong("`host`, `proto`, `src`, `dst` or `[`")),
            (None, Some(protocol)) => Ok((test(Test::Protocol(protocol)), None)),
            (None, None) => Err(self.unexpected()),
        }
    }

    /// What stands behind qualifiers: a value, or values in parentheses, or neither one.
    fn operand(&mut self, qualifiers: Qualifiers) -> Result<Expression, FilterError> {
        let column = self.peek().column;
        match self.peek().token {
            Token::Sign("!") => {
                self.next();
                self.deeper()?;
                let part = self.operand(qualifiers)?;
                self.depth -= 1;
                Ok(Expression::Not(Box::new(part)))
            }
            Token::Sign("(") => {
                self.next();
                self.deeper()?;
                let (part, _) = self.chain(Some(qualifiers))?;
                self.depth -= 1;
                self.sign(")", "`or`, `and` or `)`")?;
                Ok(part)
            }
            _ => Ok(Expression::Test { test: operand::value(self, qualifiers)?, column }),
        }
    }

    /// Direction and kind of the value that follows; none when neither is there.
    fn qualifiers(
        &mut self,
        protocol: Option<Protocol>,
    ) -> Result<Option<Qualifiers>, FilterError> {
        let direction = self.direction();
        let column = self.peek().column;
        let kind = match self.peek().token {
            Token::Word("host") => Some(Kind::Host),
            Token::Word("net") => Some(Kind::Net),
            Token::Word("port") => Some(Kind::Port),
            Token::Word("portrange") => Some(Kind::PortRange),
            Token::Word("proto") if direction.is_none() => Some(Kind::Protocol),
            Token::Word("gateway") => return Err(gateway(column)),
            Token::Word("protochain") => return Err(refused(column, "protochain", "")),
            _ => None,
        };
        if kind.is_some() {
            self.next();
        }
        if direction.is_none() && kind.is_none() {
            return Ok(None);
        }
        let qualifiers = Qualifiers {
            protocol,
            direction: direction.unwrap_or_default(),
            kind: kind.unwrap_or(Kind::Host),
            is_kind_named: kind.is_some(),
        };
        qualifiers.check(column)?;
        Ok(Some(qualifiers))
    }

    fn direction(&mut self) -> Option<Direction> {
        let end = |token| match token {
            Token::Word("src") => Some(Direction::Source),
            Token::Word("dst") => Some(Direction::Destination),
            _ => None,
        };
        let first = end(self.peek().token)?;
        self.next();
        let joint = match self.peek().token {
            Token::Word("or") | Token::Sign("||") => Direction::Either,
            Token::Word("and") | Token::Sign("&&") => Direction::Both,
            _ => return Some(first),
        };
        match self.peek_at(1).and_then(|placed| end(placed.token)) {
            Some(second) if second != first => {
                self.next();
                self.next();
                Some(joint)
            }
            _ => Some(first),
        }
    }

    /// Tests that begin with a word of their own.
    fn lone_keyword(&mut self, word: &str) -> Result<Option<Test>, FilterError> {
        let column = self.peek().column;
        let optional = |parser: &mut Self, max| {
            parser.next();
            if parser.begins_value() { operand::number(parser, max).map(Some) } else { Ok(None) }
        };
        let low = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let test = match word {
            "less" | "greater" => {
                self.next();
                let bytes = operand::number(self, u32::MAX)?;
                if word == "less" { Test::LengthAtMost(bytes) } else { Test::LengthAtLeast(bytes) }
            }
            "inbound" | "outbound" => {
                self.next();
                if word == "inbound" { Test::Inbound } else { Test::Outbound }
            }
            "ifindex" => {
                self.next();
                Test::Interface(operand::number(self, u32::MAX)?)
            }
            "vlan" => Test::Vlan(optional(self, 0xfff)?.map(low)),
            "mpls" => Test::Mpls(optional(self, 0xf_ffff)?),
            "pppoes" => Test::PppoeSession(optional(self, 0xffff)?.map(low)),
            "pppoed" => {
                self.next();
                Test::PppoeDiscovery
            }
            "gateway" => return Err(gateway(column)),
            _ => match names::refused(word) {
                Some(_) => return Err(refused(column, word, "")),
                None => return Ok(None),
            },
        };
        Ok(Some(test))
    }

    fn broadcast(&mut self, of: Option<Protocol>, column: usize) -> Result<Test, FilterError> {
        self.next();
        match of {
            None | Some(Protocol::Link) => Ok(Test::Broadcast),
            Some(Protocol::Ip) => {
                let message =
                    "`ip broadcast` needs the interface's netmask, which nodes do not know";
                let hint = "type the address: `dst host 10.0.0.255`; or `ether broadcast`";
                Err(FilterError::new(column, message).hint(hint))
            }
            Some(other) => {
                let found = format!("`{} broadcast`", other.name());
                Err(FilterError::expected(column, &found, "`broadcast` or `ether broadcast`"))
            }
        }
    }

    fn multicast(&mut self, of: Option<Protocol>, column: usize) -> Result<Test, FilterError> {
        self.next();
        match of {
            None | Some(Protocol::Link | Protocol::Ip | Protocol::Ip6) => Ok(Test::Multicast(of)),
            Some(other) => {
                let found = format!("`{} multicast`", other.name());
                let expected = "`multicast`, `ether multicast`, `ip multicast` or `ip6 multicast`";
                Err(FilterError::expected(column, &found, expected))
            }
        }
    }

    /// Whether the next token is a value rather than a keyword.
    pub(super) fn begins_value(&self) -> bool {
        match self.peek().token {
            Token::Word(word) => !names::is_reserved(word) && names::constant(word).is_none(),
            Token::Escaped(_) | Token::Ipv6(_) | Token::Ethernet(_) => true,
            Token::Sign(_) | Token::End => false,
        }
    }

    fn bare_value(&self) -> FilterError {
        let placed = self.peek();
        let expected = "what it is: `host`, `net`, `port` or `portrange` before it";
        let error = FilterError::expected(placed.column, &format!("`{}`", placed.text), expected);
        match placed.token {
            Token::Word(word) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                self.with_nearest(error, word)
            }
            Token::Word(word) if word.contains('.') => error.hint(format!("`host {word}`")),
            Token::Ipv6(address) => error.hint(format!("`host {address}`")),
            Token::Ethernet(_) => error.hint(format!("`ether host {}`", placed.text)),
            Token::Word(word) => error.hint(format!("`port {word}`")),
            _ => error,
        }
    }

    fn unexpected(&self) -> FilterError {
        let error = self.wrong("a test such as `host`, `port`, `tcp` or `vlan`");
        match self.peek().token {
            Token::Word(word) => self.with_nearest(error, word),
            _ => error,
        }
    }

    fn with_nearest(&self, error: FilterError, word: &str) -> FilterError {
        match names::nearest_word(word).filter(|near| *near != word) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    }

    /// The next token is not what could stand here.
    pub(super) fn wrong(&self, expected: &str) -> FilterError {
        let placed = self.peek();
        let found = match placed.token {
            Token::End => "the end".to_owned(),
            _ => format!("`{}`", placed.text),
        };
        FilterError::expected(placed.column, &found, expected)
    }

    /// Takes the sign, or says what was expected.
    pub(super) fn sign(&mut self, sign: &str, expected: &str) -> Result<(), FilterError> {
        match self.peek().token {
            Token::Sign(found) if found == sign => {
                self.next();
                Ok(())
            }
            _ => Err(self.wrong(expected)),
        }
    }

    /// Counts one more open group; the caller counts down.
    pub(super) fn deeper(&mut self) -> Result<(), FilterError> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            let message = format!("nested too deep; expected at most {NESTING_MAX} levels");
            return Err(FilterError::new(self.peek().column, message));
        }
        Ok(())
    }

    /// One open group less.
    pub(super) fn shallower(&mut self) {
        self.depth -= 1;
    }

    pub(super) fn peek(&self) -> Placed<'a> {
        self.peek_at(0).unwrap_or(Placed { token: Token::End, column: 1, text: "" })
    }

    /// The token `ahead` of the next one; the end stays the end.
    pub(super) fn peek_at(&self, ahead: usize) -> Option<Placed<'a>> {
        self.tokens.get(self.at + ahead).or(self.tokens.last()).copied()
    }

    pub(super) fn next(&mut self) -> Placed<'a> {
        let placed = self.peek();
        self.at += 1;
        placed
    }
}

fn gateway(column: usize) -> FilterError {
    let message = "`gateway` needs the gateway's Ethernet address, which nodes do not look up";
    let hint = "`ether host ADDRESS and not host ADDRESS` says the same with addresses";
    FilterError::new(column, message).hint(hint)
}

/// A word that tcpdump takes and Tyto does not.
pub(super) fn refused(column: usize, word: &str, otherwise: &str) -> FilterError {
    let hint = names::refused(word).unwrap_or(otherwise);
    FilterError::new(column, format!("`{word}` is not supported")).hint(hint)
}
