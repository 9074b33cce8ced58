//! What is wrong with a condition: where, what was found, what was expected, and a hint.

/// A condition that cannot be read, or does not fit the columns of a log stream.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("column {column}: {message}")]
pub struct ConditionError {
    column: usize,
    message: String,
    hint: Option<String>,
}

impl ConditionError {
    /// Something else was expected at `column`.
    pub(super) fn expected(column: usize, found: &str, expected: &str) -> Self {
        Self::new(column, format!("found {found}; expected {expected}"))
    }

    /// Says what cannot be done, and why.
    pub(super) fn new(column: usize, message: impl Into<String>) -> Self {
        Self { column, message: message.into(), hint: None }
    }

    /// There is no field of this name.
    pub fn unknown_field(name: &str) -> Self {
        Self::new(1, format!("there is no field `{name}`"))
    }

    /// Adds what to type instead.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where it is, in characters from 1.
    pub const fn column(&self) -> usize {
        self.column
    }

    /// What to type instead, when there is an idea.
    pub fn suggestion(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
