//! A condition at work: one walk over a row's columns, no allocation.

use std::net::IpAddr;

use super::predicate::Predicate;
use crate::record::FieldSink;
use crate::record::schema::Schema;
use crate::record::wire::{self, WireError};
use crate::time::{Interval, Ts};

/// Tests of one condition at most: the answers of a row are bits of one number.
pub(super) const TESTS_MAX: usize = 64;

/// A condition over the rows of one schema.
#[derive(Clone, Debug)]
pub struct Matcher {
    schema: Schema,
    root: Node,
    /// Column and question, by column.
    tests: Box<[(usize, Predicate)]>,
}

/// What the answers of the tests come to.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Any(Box<[Self]>),
    All(Box<[Self]>),
    Not(Box<Self>),
    /// The answer of this test.
    Test(usize),
}

/// Takes one row's columns and answers the tests: a [`FieldSink`].
#[derive(Debug)]
pub struct Answers<'a> {
    matcher: &'a Matcher,
    /// First test that asks of `column` or of one behind it.
    next: usize,
    column: usize,
    in_container: bool,
    yes: u64,
}

impl Matcher {
    pub(super) fn new(schema: Schema, root: Node, tests: Vec<(usize, Predicate)>) -> Self {
        let mut order: Vec<usize> = (0..tests.len()).collect();
        order.sort_by_key(|&at| tests.get(at).map(|(column, _)| *column));
        let mut root = root;
        root.renumber(&order);
        let mut tests = tests;
        tests.sort_by_key(|(column, _)| *column);
        Self { schema, root, tests: tests.into_boxed_slice() }
    }

    /// The columns it was made for.
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The columns that it asks of, from 0; some more than once.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.tests.iter().map(|(column, _)| *column)
    }

    /// Whether a row as the wire carries it (`record::wire`) matches.
    ///
    /// # Errors
    /// When the bytes are not a row of the schema.
    pub fn is_match(&self, row: &[u8]) -> Result<bool, WireError> {
        let mut answers = self.answers();
        wire::replay(&self.schema, row, &mut answers)?;
        Ok(answers.is_match())
    }

    /// A sink for one row.
    pub const fn answers(&self) -> Answers<'_> {
        Answers { matcher: self, next: 0, column: 0, in_container: false, yes: 0 }
    }
}

impl Node {
    /// `order[new] = old`, of the tests.
    fn renumber(&mut self, order: &[usize]) {
        match self {
            Self::Any(parts) | Self::All(parts) => {
                parts.iter_mut().for_each(|part| part.renumber(order));
            }
            Self::Not(inner) => inner.renumber(order),
            Self::Test(test) => {
                *test = order.iter().position(|old| old == test).unwrap_or(*test);
            }
        }
    }

    fn holds(&self, yes: u64) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(yes)),
            Self::All(parts) => parts.iter().all(|part| part.holds(yes)),
            Self::Not(inner) => !inner.holds(yes),
            Self::Test(test) => yes >> test & 1 == 1,
        }
    }
}

impl Answers<'_> {
    /// What the condition says of the row whose columns came.
    pub fn is_match(&self) -> bool {
        self.matcher.root.holds(self.yes)
    }

    /// Asks the tests of this column. Of a container any value is enough.
    fn ask(&mut self, is_true: impl Fn(&Predicate) -> bool) {
        let tests = self.matcher.tests.get(self.next..).unwrap_or_default();
        for (at, (column, predicate)) in (self.next..).zip(tests) {
            if *column != self.column {
                break;
            }
            self.yes |= u64::from(is_true(predicate)) << at;
        }
        if !self.in_container {
            self.end_column();
        }
    }

    fn end_column(&mut self) {
        let tests = self.matcher.tests.get(self.next..).unwrap_or_default();
        self.next += tests.iter().take_while(|(column, _)| *column <= self.column).count();
        self.column += 1;
    }
}

impl FieldSink for Answers<'_> {
    fn unset(&mut self) {
        if !self.in_container {
            self.end_column();
        }
    }

    fn time(&mut self, value: Ts) {
        // As printed: microseconds, cut off.
        let micros = i128::from(value.nanos_signed() / 1_000);
        self.ask(|predicate| predicate.integer(micros));
    }

    fn interval(&mut self, value: Interval) {
        // As printed: microseconds, rounded away from zero.
        let micros = (i128::from(value.0.unsigned_abs()) + 500) / 1_000;
        let micros = if value.0 < 0 { -micros } else { micros };
        self.ask(|predicate| predicate.integer(micros));
    }

    fn addr(&mut self, value: IpAddr) {
        self.ask(|predicate| predicate.addr(value));
    }

    fn port(&mut self, value: u16) {
        self.ask(|predicate| predicate.integer(value.into()));
    }

    fn subnet(&mut self, net: IpAddr, prefix_len: u8) {
        self.ask(|predicate| predicate.subnet(net, prefix_len));
    }

    fn count(&mut self, value: u64) {
        self.ask(|predicate| predicate.integer(value.into()));
    }

    fn int(&mut self, value: i64) {
        self.ask(|predicate| predicate.integer(value.into()));
    }

    fn double(&mut self, value: f64) {
        self.ask(|predicate| predicate.double(value));
    }

    fn bool(&mut self, value: bool) {
        self.ask(|predicate| predicate.bool(value));
    }

    fn string(&mut self, value: &[u8]) {
        self.ask(|predicate| predicate.string(value));
    }

    fn begin(&mut self, _len: usize) {
        self.in_container = true;
        // An empty container is a value.
        self.ask(|predicate| matches!(predicate, Predicate::IsSet));
    }

    fn end(&mut self) {
        self.in_container = false;
        self.end_column();
    }
}
