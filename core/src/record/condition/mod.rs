//! Conditions over the rows of a log stream: `id.resp_p == 443 && service in {"ssl","http"}`.
//! For `ctl logs --where`, filters of streams and subscribers. The language: docs/conditions.md.
//!
//! Text → `lexer` → `parser` → [`Condition`] → with the columns of a schema, `bind` →
//! [`Matcher`], which takes a row's columns as any other [`FieldSink`](super::FieldSink) does.

mod ast;
mod bind;
mod error;
mod lexer;
mod matcher;
mod parser;
mod predicate;
#[cfg(test)]
mod tests;

pub use self::error::ConditionError;
pub use self::matcher::{Answers, Matcher};

use super::schema::Schema;

/// A condition that was read. Which fields there are, and of what type, is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    text: String,
    expression: ast::Expression,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// Where it is none: the column, what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        Ok(Self { text: text.to_owned(), expression: parser::parse(text)? })
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The condition for rows of `schema`.
    ///
    /// # Errors
    /// When a field does not exist there, or is compared with a value of another type.
    pub fn bind(&self, schema: &Schema) -> Result<Matcher, ConditionError> {
        bind::bind(&self.expression, schema)
    }
}
