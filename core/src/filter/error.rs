//! What is wrong with a filter: where, what was found, what was expected, and a hint.

/// A filter that cannot be read, or cannot be run on a kind of link.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("column {column}: {message}")]
pub struct FilterError {
    column: usize,
    message: String,
    hint: Option<String>,
}

impl FilterError {
    /// Something else was expected at `column`.
    pub(super) fn expected(column: usize, found: &str, expected: &str) -> Self {
        Self::new(column, format!("found {found}; expected {expected}"))
    }

    /// Says what cannot be done, and why.
    pub(super) fn new(column: usize, message: impl Into<String>) -> Self {
        Self { column, message: message.into(), hint: None }
    }

    /// Adds what to type instead.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where it is, in characters from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// What to type or do instead, when there is an idea.
    pub fn suggestion(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
