//! Tokens into an expression. `||` binds weakest, then `&&`, then `!`.

use super::ast::{Expression, Literal, Question, Relation, Test, Unit, Value};
use super::error::ConditionError;
use super::lexer::{Lexer, Placed, Token};

/// Parentheses and negations inside each other at most: the parser calls itself.
const DEPTH_MAX: usize = 64;

/// Words that are never fields.
const KEYWORDS: [&str; 5] = ["and", "or", "not", "in", "contains"];

pub(super) fn parse(text: &str) -> Result<Expression, ConditionError> {
    let mut lexer = Lexer::new(text)?;
    let current = lexer.next()?;
    let mut parser = Parser { lexer, current, depth: 0 };
    let expression = parser.any()?;
    match parser.current.token {
        Token::End => Ok(expression),
        _ => Err(parser.unexpected("`&&`, `||` or the end")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    current: Placed,
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Expression, ConditionError> {
        let mut parts = vec![self.all()?];
        while self.accept("||", "or")? {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn all(&mut self) -> Result<Expression, ConditionError> {
        let mut parts = vec![self.negation()?];
        while self.accept("&&", "and")? {
            parts.push(self.negation()?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn negation(&mut self) -> Result<Expression, ConditionError> {
        let column = self.current.column;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} parentheses or negations in each other");
            return Err(ConditionError::new(column, message));
        }
        let expression = if self.accept("!", "not")? {
            Expression::Not(Box::new(self.negation()?))
        } else if self.accept_sign("(")? {
            let inner = self.any()?;
            self.expect(")")?;
            inner
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn test(&mut self) -> Result<Expression, ConditionError> {
        if self.accept_sign("?")? {
            let (field, column) = self.field()?;
            return Ok(test(field, column, Question::IsSet));
        }
        if matches!(self.current.token, Token::Value(_)) {
            // `"a.example" in answers`, as Zeek writes it.
            let value = self.value()?;
            self.expect_word("in")?;
            let (field, column) = self.field()?;
            return Ok(test(field, column, Question::In(vec![value])));
        }
        let (field, column) = self.field()?;
        self.question(field, column)
    }

    /// What stands behind a field.
    fn question(&mut self, field: String, column: usize) -> Result<Expression, ConditionError> {
        if let Token::Word(word) = &self.current.token {
            let (is_in, is_not, is_contains) = (word == "in", word == "not", word == "contains");
            if is_not {
                self.advance()?;
                self.expect_word("in")?;
                return Ok(not(test(field, column, Question::In(self.set()?))));
            }
            if is_in {
                self.advance()?;
                return Ok(test(field, column, Question::In(self.set()?)));
            }
            if is_contains {
                self.advance()?;
                return Ok(test(field, column, Question::Contains(self.value()?)));
            }
        }
        let Token::Sign(sign) = self.current.token else {
            return Ok(test(field, column, Question::IsTrue));
        };
        let (relation, is_negated) = match sign {
            "=~" | "!~" => {
                let (pattern, at) = self.lexer.pattern()?;
                self.advance()?;
                let found = test(field, column, Question::Matches { pattern, column: at });
                return Ok(if sign == "!~" { not(found) } else { found });
            }
            "!" => {
                self.advance()?;
                self.expect_word("in")?;
                return Ok(not(test(field, column, Question::In(self.set()?))));
            }
            "==" => (Relation::Equal, false),
            "!=" => (Relation::Equal, true),
            "<" => (Relation::Less, false),
            "<=" => (Relation::LessOrEqual, false),
            ">" => (Relation::Greater, false),
            ">=" => (Relation::GreaterOrEqual, false),
            "=" => return Err(self.unexpected("a comparison").hint("`==` compares")),
            _ => return Ok(test(field, column, Question::IsTrue)),
        };
        self.advance()?;
        if relation == Relation::Equal && self.accept_sign("-")? {
            let is_set = test(field, column, Question::IsSet);
            return Ok(if is_negated { is_set } else { not(is_set) });
        }
        let compared = test(field, column, Question::Compare(relation, self.value()?));
        Ok(if is_negated { not(compared) } else { compared })
    }

    /// What stands behind `in`: `{…}` or a single value.
    fn set(&mut self) -> Result<Vec<Value>, ConditionError> {
        if !self.accept_sign("{")? {
            return Ok(vec![self.value()?]);
        }
        let mut values = vec![self.value()?];
        while self.accept_sign(",")? {
            values.push(self.value()?);
        }
        self.expect("}")?;
        Ok(values)
    }

    fn value(&mut self) -> Result<Value, ConditionError> {
        let (mut literal, column) = match &self.current.token {
            Token::Value(literal) => (literal.clone(), self.current.column),
            Token::Word(word) if !KEYWORDS.contains(&word.as_str()) => {
                (Literal::Word(word.clone()), self.current.column)
            }
            _ => return Err(self.unexpected("a value")),
        };
        let mut text = self.current.text.clone();
        self.advance()?;
        // `10 min`, with Zeek's blank between number and unit.
        if let (Literal::Number { unit: unit @ None, .. }, Token::Word(word)) =
            (&mut literal, &self.current.token)
            && let Some(named) = Unit::of(word)
        {
            *unit = Some(named);
            text = format!("{text} {word}");
            self.advance()?;
        }
        Ok(Value { literal, column, text })
    }

    fn field(&mut self) -> Result<(String, usize), ConditionError> {
        let column = self.current.column;
        match &self.current.token {
            Token::Word(word) if !KEYWORDS.contains(&word.as_str()) => {
                let field = word.clone();
                self.advance()?;
                Ok((field, column))
            }
            _ => Err(self.unexpected("a field such as `id.resp_p`")),
        }
    }

    fn advance(&mut self) -> Result<(), ConditionError> {
        self.current = self.lexer.next()?;
        Ok(())
    }

    fn accept_sign(&mut self, sign: &str) -> Result<bool, ConditionError> {
        let is_it = matches!(self.current.token, Token::Sign(found) if found == sign);
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    fn accept(&mut self, sign: &str, word: &str) -> Result<bool, ConditionError> {
        if matches!(&self.current.token, Token::Word(found) if found == word) {
            self.advance()?;
            return Ok(true);
        }
        self.accept_sign(sign)
    }

    fn expect(&mut self, sign: &str) -> Result<(), ConditionError> {
        if self.accept_sign(sign)? {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{sign}`")))
    }

    fn expect_word(&mut self, word: &str) -> Result<(), ConditionError> {
        if matches!(&self.current.token, Token::Word(found) if found == word) {
            return self.advance();
        }
        Err(self.unexpected(&format!("`{word}`")))
    }

    fn unexpected(&self, expected: &str) -> ConditionError {
        let found = match &self.current.token {
            Token::End => "the end".to_owned(),
            _ => format!("`{}`", self.current.text),
        };
        let error = ConditionError::expected(self.current.column, &found, expected);
        match self.current.token {
            Token::Sign("&") => error.hint("`&&` or `and` joins two tests"),
            Token::Sign("=") => error.hint("`==` compares"),
            _ => error,
        }
    }
}

const fn test(field: String, column: usize, question: Question) -> Expression {
    Expression::Test(Test { field, column, question })
}

fn not(expression: Expression) -> Expression {
    Expression::Not(Box::new(expression))
}

fn one_or(
    mut parts: Vec<Expression>,
    many: impl FnOnce(Vec<Expression>) -> Expression,
) -> Expression {
    if parts.len() == 1
        && let Some(only) = parts.pop()
    {
        return only;
    }
    many(parts)
}
