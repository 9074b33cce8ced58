//! Numbers and comparisons: `ip[0] & 0xf != 5`, `len > 100`, `tcp[tcpflags] & tcp-syn != 0`.

use super::ast::{Number, Relation, Test};
use super::error::FilterError;
use super::instruction::op;
use super::lexer::Token;
use super::names::{self, Protocol};
use super::operand::to_number;
use super::parser::Parser;
use super::program::apply;

/// Operations by how tightly they bind, loosest first.
const OPERATIONS: [&[(&str, u16)]; 6] = [
    &[("|", op::OR)],
    &[("^", op::XOR)],
    &[("&", op::AND)],
    &[("<<", op::LSH), (">>", op::RSH)],
    &[("+", op::ADD), ("-", op::SUB)],
    &[("*", op::MUL), ("/", op::DIV), ("%", op::MOD)],
];

const RELATIONS: [(&str, Relation); 7] = [
    ("=", Relation::Equal),
    ("==", Relation::Equal),
    ("!=", Relation::NotEqual),
    (">", Relation::Greater),
    (">=", Relation::GreaterOrEqual),
    ("<", Relation::Less),
    ("<=", Relation::LessOrEqual),
];

impl Parser<'_> {
    /// Whether a comparison of numbers begins here.
    pub(super) fn begins_arithmetic(&self) -> bool {
        let behind = |ahead| self.peek_at(ahead).map_or(Token::End, |placed| placed.token);
        match self.peek().token {
            Token::Word("len" | "length") | Token::Sign("-") => true,
            Token::Sign("(") => self.is_arithmetic_group(),
            Token::Word(word) if names::protocol(word).is_some() => behind(1) == Token::Sign("["),
            Token::Word(word) => {
                let is_number = to_number(word).is_some() || names::constant(word).is_some();
                is_number && continues_arithmetic(behind(1))
            }
            _ => false,
        }
    }

    /// Whether the parenthesis that opens here encloses a number: then an operation or a
    /// comparison follows where it closes.
    pub(super) fn is_arithmetic_group(&self) -> bool {
        let mut open = 0_usize;
        for ahead in 0.. {
            match self.peek_at(ahead).map_or(Token::End, |placed| placed.token) {
                Token::Sign("(") => open += 1,
                Token::Sign(")") => open = open.saturating_sub(1),
                Token::End => return false,
                _ => {}
            }
            if open == 0 {
                let behind = self.peek_at(ahead + 1).map_or(Token::End, |placed| placed.token);
                return continues_arithmetic(behind);
            }
        }
        false
    }

    /// Reads a comparison.
    pub(super) fn relation(&mut self) -> Result<Test, FilterError> {
        let left = self.number_expression(0)?;
        let relation = match self.peek().token {
            Token::Sign(sign) => RELATIONS.iter().find(|(known, _)| *known == sign),
            _ => None,
        };
        let Some((_, relation)) = relation else {
            return Err(self.wrong("a comparison: `=`, `!=`, `<`, `<=`, `>` or `>=`"));
        };
        self.next();
        let right = self.number_expression(0)?;
        Ok(Test::Relation { left, relation: *relation, right })
    }

    /// A number out of operations that bind at least as tightly as `level`.
    fn number_expression(&mut self, level: usize) -> Result<Number, FilterError> {
        let Some(operations) = OPERATIONS.get(level) else { return self.factor() };
        let mut left = self.number_expression(level + 1)?;
        loop {
            let Token::Sign(sign) = self.peek().token else { return Ok(left) };
            let Some((_, operation)) = operations.iter().find(|(known, _)| *known == sign) else {
                return Ok(left);
            };
            self.next();
            let column = self.peek().column;
            let right = self.number_expression(level + 1)?;
            left = combine(*operation, left, right, column)?;
        }
    }

    fn factor(&mut self) -> Result<Number, FilterError> {
        let placed = self.peek();
        match placed.token {
            Token::Sign("-") => {
                self.next();
                self.deeper()?;
                let inner = self.factor()?;
                self.shallower();
                Ok(match inner {
                    Number::Constant(number) => Number::Constant(number.wrapping_neg()),
                    other => Number::Negative(Box::new(other)),
                })
            }
            Token::Sign("(") => {
                self.next();
                self.deeper()?;
                let inner = self.number_expression(0)?;
                self.shallower();
                self.sign(")", "an operation or `)`")?;
                Ok(inner)
            }
            Token::Word("len" | "length") => {
                self.next();
                Ok(Number::PacketLength)
            }
            Token::Word(word) => {
                if let Some(number) = to_number(word).or_else(|| names::constant(word)) {
                    self.next();
                    return Ok(Number::Constant(number));
                }
                if let Some(protocol) = names::protocol(word) {
                    self.next();
                    return self.bytes(protocol, placed.column);
                }
                Err(self.no_number(word))
            }
            _ => Err(self.wrong("a number, `len` or bytes such as `ip[0]`")),
        }
    }

    fn no_number(&self, word: &str) -> FilterError {
        let error = self.wrong("a number, `len` or bytes such as `ip[0]`");
        if names::refused(word).is_some() {
            return super::parser::refused(self.peek().column, word, "");
        }
        if word.contains('-')
            && word.split('-').all(|part| to_number(part).is_some() || part == "len")
        {
            return error.hint(format!("blanks around the minus: `{}`", word.replace('-', " - ")));
        }
        match names::nearest_word(word) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    }

    /// The index and size behind a protocol.
    fn bytes(&mut self, protocol: Protocol, column: usize) -> Result<Number, FilterError> {
        if matches!(protocol, Protocol::Ah | Protocol::Esp) {
            let message = format!("`{}[...]` is not supported", protocol.name());
            return Err(
                FilterError::new(column, message).hint("count from the IP header: `ip[20]`")
            );
        }
        self.sign("[", "`[`")?;
        self.deeper()?;
        let index = Box::new(self.number_expression(0)?);
        self.shallower();
        let mut size = 1;
        if self.peek().token == Token::Sign(":") {
            self.next();
            size = match self.peek().token {
                Token::Word("1") => 1,
                Token::Word("2") => 2,
                Token::Word("4") => 4,
                _ => return Err(self.wrong("a size of 1, 2 or 4 bytes")),
            };
            self.next();
        }
        self.sign("]", "`]`, or `:` and a size of 1, 2 or 4 bytes")?;
        Ok(Number::Bytes { protocol, index, size, column })
    }
}

fn continues_arithmetic(token: Token<'_>) -> bool {
    let Token::Sign(sign) = token else { return false };
    RELATIONS.iter().any(|(known, _)| *known == sign)
        || OPERATIONS.iter().any(|level| level.iter().any(|(known, _)| *known == sign))
}

/// The operation, done at once when both sides are constant.
fn combine(
    operation: u16,
    left: Number,
    right: Number,
    column: usize,
) -> Result<Number, FilterError> {
    if let Number::Constant(constant) = right {
        if matches!(operation, op::DIV | op::MOD) && constant == 0 {
            return Err(FilterError::expected(column, "a division by zero", "another divisor"));
        }
        if matches!(operation, op::LSH | op::RSH) && constant > 31 {
            let found = format!("a shift by {constant} bits");
            return Err(FilterError::expected(column, &found, "at most 31"));
        }
        if let Number::Constant(left) = left {
            let number = apply(operation, left, constant);
            return Ok(Number::Constant(number.unwrap_or_default()));
        }
    }
    Ok(Number::Operation { operation, left: Box::new(left), right: Box::new(right) })
}
