//! What values the keys of tyto.yaml take: the kinds, which values are of them, and how they are
//! told.

use std::path::{Component, Path};

use serde_yaml::Value;

use super::archive_name::ArchiveName;
use super::logs::{FreeSpace, KeepTime};
use super::sinks;
use super::value::is_env_name;

/// Bytes of the prefix at most: `PREFIX/run/supervisor.sock` has to fit into the 108 bytes
/// of a unix socket's address.
const PREFIX_BYTES_MAX: usize = 80;

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A number from `min` to `max`.
    Whole {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A number from `min` to `max` that may be negative.
    Signed {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A power of two from `min` to `max`.
    PowerOfTwo {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// One of some words.
    Choice(&'static [&'static str]),
    /// Text of a certain form.
    Text {
        /// What is expected, in words.
        expected: &'static str,
        /// True for text of that form.
        is_valid: fn(&str) -> bool,
    },
    /// `true`, `false` or one of some words.
    BoolOr(&'static [&'static str]),
    /// A time that logs are kept.
    Keep,
    /// Free space of a file system.
    Free,
    /// A pattern of names in the archive.
    ArchiveName,
    /// Names of columns.
    Names,
    /// Log streams and their keys.
    Streams,
    /// An expression of tcpdump.
    Filter,
    /// Receivers of rows.
    Sinks,
    /// Names and values.
    EnvVars,
    /// Another kind, or nothing.
    Optional(&'static Kind),
}

impl Kind {
    /// What is expected, in words, to follow "expected".
    pub fn expected(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Signed { min, max } => format!("a whole number from {min} to {max}"),
            Self::PowerOfTwo { min, max } => format!("a power of two from {min} to {max}"),
            Self::Choice(words) => words.join(" or "),
            Self::Text { expected, .. } => (*expected).to_owned(),
            Self::BoolOr(words) => format!("{} or true or false", words.join(" or ")),
            Self::Keep => "a time such as `30 day`, `4 hr` or `90 min`; 0: for ever".to_owned(),
            Self::Free => {
                "a percentage such as `10%` from 1 to 90, or a number of bytes".to_owned()
            }
            Self::ArchiveName => "a pattern such as `%Y-%m-%d/{stream}.%H:%M:%S`".to_owned(),
            Self::Names => "a list of columns such as `[ts, uid, id.orig_h]`".to_owned(),
            Self::Streams => "names of log streams with their keys below, or {}".to_owned(),
            Self::Filter => "a tcpdump expression".to_owned(),
            Self::Sinks => "a list of sinks, each with `name` and `to`, or []".to_owned(),
            Self::EnvVars => "lines of `NAME: \"value\"`, indented below it, or {}".to_owned(),
            Self::Optional(kind) => format!("{}, or nothing", kind.expected()),
        }
    }
}

impl Kind {
    /// True when a value of the file is of this kind.
    pub(super) fn accepts(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Bool, Value::Bool(_)) => true,
            (Self::Optional(_), Value::Null) => true,
            (Self::Optional(kind), value) => kind.accepts(value),
            (Self::Whole { min, max }, Value::Number(n)) => {
                n.as_u64().is_some_and(|n| (*min..=*max).contains(&n))
            }
            (Self::Signed { min, max }, Value::Number(n)) => {
                n.as_i64().is_some_and(|n| (*min..=*max).contains(&n))
            }
            (Self::PowerOfTwo { min, max }, Value::Number(n)) => {
                n.as_u64().is_some_and(|n| (*min..=*max).contains(&n) && n.is_power_of_two())
            }
            (Self::Choice(words), Value::String(text)) => words.contains(&text.as_str()),
            (Self::Text { is_valid, .. }, Value::String(text)) => is_valid(text),
            (Self::BoolOr(_), Value::Bool(_)) => true,
            (Self::BoolOr(words), Value::String(text)) => words.contains(&text.as_str()),
            (Self::Keep, value) => plain(value).parse::<KeepTime>().is_ok(),
            (Self::Free, value) => plain(value).parse::<FreeSpace>().is_ok(),
            (Self::ArchiveName, Value::String(text)) => text.parse::<ArchiveName>().is_ok(),
            (Self::Names, Value::Sequence(names)) => {
                !names.is_empty() && names.iter().all(|name| name.as_str().is_some_and(is_column))
            }
            (Self::Streams, Value::Mapping(_)) => true,
            (Self::Filter, Value::String(text)) => !text.contains('\0'),
            (Self::Sinks, value) => sinks::read(value).is_ok(),
            (Self::EnvVars, Value::Null) => false,
            (Self::EnvVars, Value::Mapping(pairs)) => pairs.iter().all(|(name, value)| {
                let name_fits = name.as_str().is_some_and(is_env_name);
                name_fits && value.as_str().is_some_and(|text| !text.contains(['\n', '\0']))
            }),
            _ => false,
        }
    }

    /// What is wrong with a value that is not of this kind, where there is more to tell than what
    /// was expected.
    pub(super) fn why_not(&self, value: &Value) -> Option<String> {
        match self {
            Self::ArchiveName => {
                plain(value).parse::<ArchiveName>().err().map(|why| why.to_string())
            }
            Self::Sinks => sinks::read(value).err().map(|(what, hint)| format!("{what}; {hint}")),
            Self::Keep => Some("the units are day, hr and min; a bare number is days".to_owned()),
            _ => None,
        }
    }
}

/// Columns of Zeek's logs: `id.orig_h`.
fn is_column(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._$-".contains(&b))
}

/// The cluster's name is a trust domain of SPIFFE: lower case, 63 characters here.
pub(super) fn is_cluster_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

pub(super) fn is_address(text: &str) -> bool {
    text.parse::<std::net::SocketAddr>().is_ok_and(|address| address.port() != 0)
}

pub(super) fn is_prefix(text: &str) -> bool {
    let path = Path::new(text);
    text.len() <= PREFIX_BYTES_MAX
        && path.is_absolute()
        && path.components().count() > 1
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
}

pub(super) fn are_analyzers(text: &str) -> bool {
    text.split_whitespace().next().is_some()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ' '))
}

pub(super) fn are_programs(text: &str) -> bool {
    !text.contains(char::is_control) && text.split(',').all(|name| !name.trim().is_empty())
}

pub(super) fn is_absolute_path(text: &str) -> bool {
    text.starts_with('/') && is_path(text)
}

pub(super) fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && !text.contains(['\n', '\0'])
}

pub(super) fn is_user(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-\\@+".contains(&b))
}

pub(super) fn are_patterns(text: &str) -> bool {
    text.split_whitespace().next().is_some() && !text.contains(['/', '\0', '\n'])
}

pub(super) fn is_command(text: &str) -> bool {
    text.starts_with('/') && !text.contains(['\n', '\0'])
}

pub(super) fn are_nodes(text: &str) -> bool {
    text.split_whitespace().next().is_some()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))
}

/// A value as one would type it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Mapping(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(k, v)| format!("{}={}", plain(k), plain(v))).collect();
            pairs.join(",")
        }
        Value::Sequence(values) => {
            format!("[{}]", values.iter().map(plain).collect::<Vec<_>>().join(", "))
        }
        Value::Tagged(tagged) => plain(&tagged.value),
    }
}
