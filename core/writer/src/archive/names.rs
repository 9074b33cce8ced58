//! Names in the archive: made by the pattern `archive_name`, and recognised by it, so that
//! nothing else below `PREFIX/logs` is ever taken for a log of ours.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use regex::Regex;
use tyto_core::config::archive_name::Part;
use tyto_core::config::logs::ArchiveName;
use tyto_core::time::Ts;

use crate::clock::local;

/// What may stand behind a stem: the logger's name, the number of a copy, the format.
const END: &str =
    r"(?:-[A-Za-z0-9_.-]+?)?(?:\.[0-9]{1,5})?(?:\.parquet|(?:\.json)?\.log(?:\.gz|\.zst)?)";

/// Makes names and knows them again.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pattern: ArchiveName,
    logger: String,
    several: bool,
    zone: TimeZone,
    known: Vec<Shape>,
}

/// What names of a pattern look like, a regular expression per folder and one for the file.
#[derive(Clone, Debug)]
struct Shape {
    levels: Vec<Regex>,
}

/// The part of a tree that holds names of one pattern; begins at the archive's folder.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    levels: &'a [Regex],
    stream: Option<String>,
}

/// What a name in such a folder is.
#[derive(Debug)]
pub(crate) enum Known<'a> {
    /// A folder of ours.
    Folder(Place<'a>),
    /// An archived log of this stream.
    Log(String),
}

impl Names {
    /// Names of `logger`; `several`: there are others beside it.
    pub(crate) fn new(pattern: ArchiveName, logger: &str, several: bool, zone: TimeZone) -> Self {
        // Logs that were archived before the pattern was changed expire, too.
        let mut known = vec![Shape::of(&pattern)];
        if pattern != ArchiveName::default() {
            known.push(Shape::of(&ArchiveName::default()));
        }
        Self { pattern, logger: logger.to_owned(), several, zone, known }
    }

    /// Path below the archive's folder of a log with this end (`.log.gz`); `copy` tells apart
    /// what would else be equal.
    pub(crate) fn path(
        &self,
        stream: &str,
        (opened, closed): (Ts, Ts),
        copy: u32,
        end: &str,
    ) -> PathBuf {
        let mut text = String::new();
        for (n, level) in self.pattern.levels().iter().enumerate() {
            if n > 0 {
                text.push('/');
            }
            for part in level {
                match part {
                    Part::Text(plain) => text.push_str(plain),
                    Part::Opened(format) => text.push_str(&local(opened, &self.zone, format)),
                    Part::Closed(format) => text.push_str(&local(closed, &self.zone, format)),
                    Part::Stream => text.push_str(stream),
                    Part::Logger => text.push_str(&self.logger),
                    Part::LoggerOfSeveral if self.several => {
                        text.push('-');
                        text.push_str(&self.logger);
                    }
                    Part::LoggerOfSeveral => {}
                }
            }
        }
        if self.several && !self.pattern.names_logger() {
            text.push('-');
            text.push_str(&self.logger);
        }
        if copy > 0 {
            text.push_str(&format!(".{copy}"));
        }
        text.push_str(end);
        PathBuf::from(text)
    }

    /// Where to look for archived logs: each begins at the archive's folder.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.known.iter().map(|shape| Place { levels: &shape.levels, stream: None })
    }

    /// The stream of an archived log, by its path below the archive's folder.
    #[cfg(test)]
    pub(crate) fn stream_of(&self, path: &std::path::Path) -> Option<String> {
        self.places().find_map(|mut place| {
            for name in path.iter() {
                match place.knows(name.to_str()?)? {
                    Known::Folder(below) => place = below,
                    Known::Log(stream) => return Some(stream),
                }
            }
            None
        })
    }
}

impl<'a> Place<'a> {
    /// What `name` is here; none when it is not ours.
    pub(crate) fn knows(&self, name: &str) -> Option<Known<'a>> {
        let (level, below) = self.levels.split_first()?;
        let found = level.captures(name)?;
        let stream = found.name("stream").map(|text| text.as_str().to_owned());
        let stream = stream.or_else(|| self.stream.clone());
        if below.is_empty() {
            return Some(Known::Log(stream?));
        }
        Some(Known::Folder(Self { levels: below, stream }))
    }
}

impl Shape {
    fn of(pattern: &ArchiveName) -> Self {
        let last = pattern.levels().len().saturating_sub(1);
        let mut seen_stream = false;
        let levels = pattern.levels().iter().enumerate().map(|(n, level)| {
            let mut text = String::from("^");
            level.iter().for_each(|part| shape(part, &mut seen_stream, &mut text));
            if n == last {
                text.push_str(END);
            }
            text.push('$');
            text
        });
        // A pattern is made of pieces that are expressions by themselves: one that does not
        // compile would know no name, and nothing would expire.
        let levels: Result<Vec<Regex>, _> = levels.map(|text| Regex::new(&text)).collect();
        Self { levels: levels.unwrap_or_default() }
    }
}

fn shape(part: &Part, seen_stream: &mut bool, out: &mut String) {
    match part {
        Part::Text(text) => out.push_str(&regex::escape(text)),
        Part::Stream if *seen_stream => out.push_str("[A-Za-z0-9][A-Za-z0-9_-]*?"),
        Part::Stream => {
            *seen_stream = true;
            out.push_str("(?P<stream>[A-Za-z0-9][A-Za-z0-9_-]*?)");
        }
        Part::Logger => out.push_str("[A-Za-z0-9_.-]+?"),
        // END has it, wherever it stands in a name that ends with it.
        Part::LoggerOfSeveral => out.push_str("(?:-[A-Za-z0-9_.-]+?)?"),
        Part::Opened(format) | Part::Closed(format) => time_shape(format, out),
    }
}

fn time_shape(format: &str, out: &mut String) {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            continue;
        }
        out.push_str(match chars.next() {
            Some('Y' | 'G') => "[0-9]{4}",
            Some('F') => "[0-9]{4}-[0-9]{2}-[0-9]{2}",
            Some('T') => "[0-9]{2}:[0-9]{2}:[0-9]{2}",
            Some('j') => "[0-9]{3}",
            Some('u') => "[1-7]",
            Some('b' | 'a') => "[A-Za-z]{3}",
            Some('s') => "[0-9]+",
            Some('z') => "[+-][0-9]{4}",
            _ => "[0-9]{2}",
        });
    }
}

/// A shell pattern of file names (`conn.*`, `[ab]?.log`) as a regular expression.
pub(crate) fn shell_pattern(pattern: &str) -> Option<Regex> {
    let mut text = String::from("(?s)^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => text.push_str(".*"),
            '?' => text.push('.'),
            '[' if chars.as_str().contains(']') => {
                let (set, rest) = chars.as_str().split_once(']').unwrap_or_default();
                let (not, set) = match set.strip_prefix(['!', '^']) {
                    Some(set) => ("^", set),
                    None => ("", set),
                };
                let set: String = set
                    .chars()
                    .flat_map(|c| match c {
                        '-' => vec!['-'],
                        c if c.is_ascii_alphanumeric() => vec![c],
                        c => vec!['\\', c],
                    })
                    .collect();
                text.push_str(&format!("[{not}{set}]"));
                chars = rest.chars();
            }
            c => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    text.push('$');
    Regex::new(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tyto_core::time::NANOS;

    use super::*;

    const TIMES: (Ts, Ts) = (Ts(82_800 * NANOS), Ts(86_400 * NANOS));

    fn names(pattern: &str, several: bool) -> Names {
        Names::new(pattern.parse().unwrap(), "logger-2", several, TimeZone::UTC)
    }

    fn default(several: bool) -> Names {
        Names::new(ArchiveName::default(), "logger-2", several, TimeZone::UTC)
    }

    #[test]
    fn names_are_zeekcontrols_unless_a_pattern_says_else() {
        let path =
            |names: &Names, copy, end| names.path("conn", TIMES, copy, end).display().to_string();
        assert_eq!(path(&default(false), 0, ".log.gz"), "1970-01-01/conn.23:00:00-00:00:00.log.gz");
        assert_eq!(
            path(&default(true), 3, ".log"),
            "1970-01-01/conn.23:00:00-00:00:00-logger-2.3.log"
        );
        let named = names("{logger}/%F/{stream}_%H_{closed:%d-%H}", false);
        assert_eq!(path(&named, 0, ".parquet"), "logger-2/1970-01-01/conn_23_02-00.parquet");
    }

    #[test]
    fn several_loggers_never_share_a_name_whatever_the_pattern() {
        let path = names("%F/{stream}", true).path("conn", TIMES, 0, ".log");
        assert_eq!(path, Path::new("1970-01-01/conn-logger-2.log"));
    }

    #[test]
    fn a_name_that_was_made_is_known_again() {
        for pattern in [
            tyto_core::config::archive_name::DEFAULT,
            "{stream}/%Y/%m/%d/{stream}.%s-{closed:%s}",
            "{logger}/%G-%V-%u/%a%b%j-%y{closed:%T%z}{stream}",
            "{stream}",
            "%F/{logger}.{stream}",
        ] {
            for several in [false, true] {
                let names = names(pattern, several);
                for stream in ["conn", "known_hosts", "x509", "my-log"] {
                    for end in [".log", ".log.gz", ".json.log.zst", ".parquet"] {
                        let path = names.path(stream, TIMES, 2, end);
                        let known = names.stream_of(&path);
                        assert!(known.is_some(), "{pattern}: {path:?}");
                        if pattern.contains("{stream}.") {
                            assert_eq!(known.as_deref(), Some(stream), "{pattern}: {path:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_others_put_into_the_folder_is_not_ours() {
        let names = default(false);
        for path in [
            "1970-01-01/notes.txt",
            "1970-01-01/conn.log",
            "1970-01-01/conn.23:00:00-00:00:00.log.bz2",
            "1970-01-01/.conn.23:00:00-00:00:00.log",
            "backup/conn.23:00:00-00:00:00.log",
            "conn.23:00:00-00:00:00.log",
            "1970-01-01x/conn.23:00:00-00:00:00.log",
        ] {
            assert_eq!(names.stream_of(Path::new(path)), None, "{path}");
        }
        let zeekctl = Path::new("2026-01-02/conn.23:00:00-00:00:00.log.gz");
        assert_eq!(names.stream_of(zeekctl).as_deref(), Some("conn"));
    }

    #[test]
    fn logs_from_before_the_pattern_was_changed_are_still_ours() {
        let names = names("{stream}-%s", false);
        let path = default(false).path("dns", TIMES, 0, ".log.gz");
        assert_eq!(names.stream_of(&path).as_deref(), Some("dns"));
    }

    #[test]
    fn shell_patterns_match_as_a_shell_matches() {
        let matches = |pattern, name| shell_pattern(pattern).unwrap().is_match(name);
        assert!(matches("conn.*", "conn.23:00:00.log"));
        assert!(!matches("conn.*", "known_conn.log"));
        assert!(matches("dns*", "dns.log") && matches("?ns.log", "dns.log"));
        assert!(matches("[c-e]ns.log", "dns.log") && !matches("[!c-e]ns.log", "dns.log"));
        assert!(matches("a[.]b", "a.b") && !matches("a[.]b", "axb"));
    }
}
