//! The pattern of archived logs' names, `archive_name`: what ZeekControl's MakeArchiveName, a
//! script there, does. `%` codes of strftime are those of the time when the log was opened;
//! `{stream}`, `{opened:FORMAT}`, `{closed:FORMAT}`, `{logger}` and `{-logger}` stand for what
//! they say. The end (`.log`, `.json.log.gz`, `.parquet`) is added to it.
//! Pure: a pattern is parsed, and taken apart into what to match found names with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// ZeekControl's names: `2026-11-22/conn.09:00:00-10:00:00.log`.
pub const DEFAULT: &str = "%Y-%m-%d/{stream}.%H:%M:%S-{closed:%H:%M:%S}{-logger}";

/// Codes of strftime that names can have. All print letters, digits and `.:+-` only.
const CODES: &str = "YmdHMSjyFTbauVGsz";

/// Longest pattern, bytes.
const PATTERN_BYTES_MAX: usize = 200;

/// Folders that a pattern may have, one in the other.
const FOLDERS_MAX: usize = 8;

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it stands.
    Text(String),
    /// The time of the opening, by strftime.
    Opened(String),
    /// The time of the end, by strftime.
    Closed(String),
    /// The log stream.
    Stream,
    /// Name of the logger.
    Logger,
    /// `-` and the name of the logger when there are several, else nothing.
    LoggerOfSeveral,
}

/// A pattern that names can be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveName {
    text: String,
    /// Folders and, last, the file: each a list of parts.
    levels: Vec<Vec<Part>>,
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadArchiveName {
    /// It is empty or too long.
    #[error("it has to have 1 to {PATTERN_BYTES_MAX} bytes")]
    Length,
    /// It begins with a slash, or a folder is empty, hidden or `..`.
    #[error("it is a path below PREFIX/logs: no `/` at its ends, no name that begins with `.`")]
    Path,
    /// Too deep.
    #[error("it has more than {FOLDERS_MAX} folders")]
    Depth,
    /// A character that names do not have.
    #[error("`{0}` cannot stand in a name; letters, digits and `._-:+=@,` can")]
    Character(char),
    /// A code of strftime that is not known or does not fit.
    #[error("`%{0}` is not one of the codes that names can have: %{codes}", codes = spaced())]
    Code(String),
    /// A word in braces.
    #[error(
        "`{{{0}}}` is not known; there are {{stream}}, {{opened:%H%M}}, {{closed:%H%M}}, {{logger}} and {{-logger}}"
    )]
    Word(String),
    /// A brace without the other.
    #[error("a `{{` or `}}` stands alone")]
    Brace,
    /// Streams would share names.
    #[error("it lacks {{stream}}, so that log streams would take each other's names")]
    NoStream,
}

fn spaced() -> String {
    CODES.chars().map(String::from).collect::<Vec<_>>().join(" %")
}

impl ArchiveName {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Folders and, last, the file.
    pub fn levels(&self) -> &[Vec<Part>] {
        &self.levels
    }

    /// Whether a name tells its logger.
    pub fn names_logger(&self) -> bool {
        let mut parts = self.levels.iter().flatten();
        parts.any(|part| matches!(part, Part::Logger | Part::LoggerOfSeveral))
    }
}

impl Default for ArchiveName {
    fn default() -> Self {
        let levels = DEFAULT.split('/').map(|level| parts(level).unwrap_or_default()).collect();
        Self { text: DEFAULT.to_owned(), levels }
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ArchiveName {
    type Err = BadArchiveName;

    fn from_str(text: &str) -> Result<Self, BadArchiveName> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return Err(BadArchiveName::Length);
        }
        let mut levels = Vec::new();
        for level in text.split('/') {
            if level.is_empty() || level.starts_with('.') {
                return Err(BadArchiveName::Path);
            }
            levels.push(parts(level)?);
        }
        if levels.len() > FOLDERS_MAX + 1 {
            return Err(BadArchiveName::Depth);
        }
        if !levels.iter().flatten().any(|part| *part == Part::Stream) {
            return Err(BadArchiveName::NoStream);
        }
        Ok(Self { text: text.to_owned(), levels })
    }
}

impl Serialize for ArchiveName {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ArchiveName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The parts of one folder or file name. A `/` in a format never comes here: it parts levels.
fn parts(level: &str) -> Result<Vec<Part>, BadArchiveName> {
    let mut parts = Vec::new();
    let mut rest = level;
    while let Some(c) = rest.chars().next() {
        match c {
            '{' => {
                let end = rest.find('}').ok_or(BadArchiveName::Brace)?;
                parts.push(word(&rest[1..end])?);
                rest = &rest[end + 1..];
            }
            '}' => return Err(BadArchiveName::Brace),
            '%' => {
                parts.push(Part::Opened(code(&rest[1..])?));
                rest = &rest[2..];
            }
            c if is_plain(c) => {
                match parts.last_mut() {
                    Some(Part::Text(text)) => text.push(c),
                    _ => parts.push(Part::Text(c.to_string())),
                }
                rest = &rest[1..];
            }
            c => return Err(BadArchiveName::Character(c)),
        }
    }
    Ok(parts)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-:+=@,".contains(c)
}

/// The code that `rest`, what stands behind a `%`, begins with.
fn code(rest: &str) -> Result<String, BadArchiveName> {
    match rest.chars().next() {
        Some(c) if CODES.contains(c) => Ok(format!("%{c}")),
        other => Err(BadArchiveName::Code(other.map(String::from).unwrap_or_default())),
    }
}

fn word(word: &str) -> Result<Part, BadArchiveName> {
    let (name, format) = word.split_once(':').unwrap_or((word, "%H:%M:%S"));
    Ok(match (name, word.contains(':')) {
        ("stream", false) => Part::Stream,
        ("logger", false) => Part::Logger,
        ("-logger", false) => Part::LoggerOfSeveral,
        ("opened", _) => Part::Opened(time_format(format)?),
        ("closed", _) => Part::Closed(time_format(format)?),
        _ => return Err(BadArchiveName::Word(word.to_owned())),
    })
}

fn time_format(format: &str) -> Result<String, BadArchiveName> {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => drop(code(chars.as_str()).map(|_| chars.next())?),
            c if is_plain(c) => {}
            c => return Err(BadArchiveName::Character(c)),
        }
    }
    Ok(format.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        text.parse::<ArchiveName>().unwrap_err().to_string()
    }

    #[test]
    fn the_default_is_a_pattern() {
        let name: ArchiveName = DEFAULT.parse().unwrap();
        assert_eq!(name, ArchiveName::default());
        assert!(name.names_logger());
        assert_eq!(name.levels().len(), 2);
    }

    #[test]
    fn what_cannot_be_a_name_is_told() {
        assert!(fault("").contains("1 to 200"));
        assert!(fault("/%F/{stream}").contains("below PREFIX/logs"));
        assert!(fault("../{stream}").contains("below PREFIX/logs"));
        assert!(fault("a//{stream}").contains("below PREFIX/logs"));
        assert!(fault("%F/{stream} x").contains("` ` cannot stand"));
        assert!(fault("%D/{stream}").starts_with("`%D` is not one of the codes"));
        assert!(fault("{stream}%").starts_with("`%` is not one"));
        assert!(fault("{stream}-{node}").starts_with("`{node}` is not known"));
        assert!(fault("{stream:x}").starts_with("`{stream:x}` is not known"));
        assert!(fault("{stream").contains("stands alone"));
        assert!(fault("stream}").contains("stands alone"));
        assert!(fault("%F/conn").contains("lacks {stream}"));
        assert!(fault("{stream}.{closed:%H %M}").contains("` ` cannot stand"));
        assert!(fault("{stream}.{closed:%Q}").contains("`%Q`"));
        assert!(fault("a/b/c/d/e/f/g/h/i/{stream}").contains("more than 8"));
        assert!(fault("é{stream}").contains("`é` cannot stand"));
    }

    #[test]
    fn parts_stand_in_order() {
        let name: ArchiveName = "{stream}/{logger}_%Y{closed}".parse().unwrap();
        assert_eq!(name.levels()[0], [Part::Stream]);
        let closed = Part::Closed("%H:%M:%S".to_owned());
        let rest = [Part::Logger, Part::Text("_".into()), Part::Opened("%Y".into()), closed];
        assert_eq!(name.levels()[1], rest);
        assert!(name.names_logger());
    }
}
