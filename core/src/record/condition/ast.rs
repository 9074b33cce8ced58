//! A condition as it was typed, before the columns of a log stream give it types.

use std::net::IpAddr;

/// What is true or false of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Test(Test),
}

/// One field and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) field: String,
    /// Where the field stands, characters from 1.
    pub(super) column: usize,
    pub(super) question: Question,
}

/// What is asked of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// `field < value`.
    Compare(Relation, Value),
    /// `field in {…}`, `field in 10.0.0.0/8`, `value in field`.
    In(Vec<Value>),
    /// `field =~ /…/`.
    Matches { pattern: String, column: usize },
    /// `field contains "…"`.
    Contains(Value),
    /// `?field`.
    IsSet,
    /// `field` alone: a bool that is true.
    IsTrue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value as it was typed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) literal: Literal,
    /// Characters from 1.
    pub(super) column: usize,
    /// As it was typed.
    pub(super) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    /// A number, without its unit.
    Number {
        digits: String,
        unit: Option<Unit>,
    },
    String(Vec<u8>),
    /// A word without quotes: a string, an enum, `T` or `F`.
    Word(String),
    Address(IpAddr),
    Subnet(ipnet::IpNet),
}

/// Unit of a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Microseconds,
    Milliseconds,
    Seconds,
    Minutes,
    Hours,
    Days,
}

impl Unit {
    /// By any of the names that Zeek and people use.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "us" | "usec" | "usecs" => Self::Microseconds,
            "ms" | "msec" | "msecs" => Self::Milliseconds,
            "s" | "sec" | "secs" => Self::Seconds,
            "m" | "min" | "mins" => Self::Minutes,
            "h" | "hr" | "hrs" => Self::Hours,
            "d" | "day" | "days" => Self::Days,
            _ => return None,
        })
    }

    /// Microseconds in one.
    pub(super) const fn micros(self) -> i128 {
        match self {
            Self::Microseconds => 1,
            Self::Milliseconds => 1_000,
            Self::Seconds => 1_000_000,
            Self::Minutes => 60_000_000,
            Self::Hours => 3_600_000_000,
            Self::Days => 86_400_000_000,
        }
    }
}
