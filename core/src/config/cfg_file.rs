//! The grammar of node.cfg: that of Python's `configparser` with its defaults, which is what
//! ZeekControl reads the file with. Text in, sections of keys with their places out.
//! Keys are in lower case; a fault is noted and reading goes on. The tests compare with
//! Python's own parser.
//!
//! - `[section]`, then `key = value` or `key: value`; the first `=` or `:` divides.
//! - A line whose first character is `#` or `;` is a comment; there are none behind a value.
//! - A line indented deeper than the line its key is on continues the value.
//! - `[DEFAULT]` gives keys to all sections; `%(key)s` inserts a value, `%%` is a percent sign.

use std::collections::HashMap;

use super::error::{At, Fault, FaultKind};

/// The section whose keys all others inherit.
const DEFAULT_SECTION: &str = "DEFAULT";

/// Steps that `%(key)s` references may lead (configparser's MAX_INTERPOLATION_DEPTH).
const REFERENCE_DEPTH_MAX: usize = 10;

/// References that one value may lead to in all; without a cap, ten steps of ten references
/// each would be ten billion.
const REFERENCES_MAX: usize = 10_000;

/// What a file says, section by section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CfgFile {
    /// The sections in the order of the file, without `[DEFAULT]`.
    pub sections: Vec<Section>,
}

/// One section with its own keys and those that it inherits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The text between the brackets.
    pub name: String,
    /// Where its header is.
    pub at: At,
    /// Inherited keys first, as configparser lists them; each key once.
    pub entries: Vec<Entry>,
}

/// One key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key in lower case.
    pub key: String,
    /// Where the key is.
    pub at: At,
    /// The value, references resolved; lines are divided by `\n`.
    pub value: String,
    /// Where the value begins, when it stands on the key's line just as it is.
    pub value_at: Option<At>,
    /// Last line of the value, from 1.
    pub last_line: u32,
    /// It stands in `[DEFAULT]`.
    pub is_inherited: bool,
}

impl CfgFile {
    /// Reads `text`; faults go to `faults`, and what is whole is returned all the same, so
    /// that it can be checked further.
    pub fn parse(file: &str, text: &str, faults: &mut Vec<Fault>) -> Self {
        let mut reader = Reader::new(file, faults);
        for (n, line) in lines(text).into_iter().enumerate() {
            reader.line(u32::try_from(n + 1).unwrap_or(u32::MAX), line);
        }
        reader.finish()
    }
}

/// Where keys go that are being read.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    /// No section yet.
    None,
    Default,
    Section(usize),
    /// A section that is there already: read for its faults, then forgotten.
    Duplicate,
}

struct Reader<'a> {
    file: At,
    faults: &'a mut Vec<Fault>,
    defaults: Vec<Entry>,
    sections: Vec<Section>,
    duplicate: Vec<Entry>,
    target: Target,
    /// A key is open: deeper lines continue its value.
    key_is_open: bool,
    /// Indentation of the last line that was not a continuation, in characters.
    indent: usize,
    before_section_noted: bool,
}

impl<'a> Reader<'a> {
    fn new(file: &str, faults: &'a mut Vec<Fault>) -> Self {
        Self {
            file: At::file(file),
            faults,
            defaults: Vec::new(),
            sections: Vec::new(),
            duplicate: Vec::new(),
            target: Target::None,
            key_is_open: false,
            indent: 0,
            before_section_noted: false,
        }
    }

    fn line(&mut self, number: u32, line: &str) {
        let text = line.trim_matches(is_space);
        if text.starts_with(['#', ';']) {
            return;
        }
        if text.is_empty() {
            // An empty line may be part of a value; the end of the value is trimmed later.
            self.append(None, "");
            return;
        }
        let indent = line.chars().take_while(|&c| is_space(c)).count();
        if self.key_is_open && indent > self.indent {
            self.append(Some(number), text);
            return;
        }
        self.indent = indent;
        let column = u32::try_from(indent + 1).unwrap_or(u32::MAX);
        let at = self.file.place(number, column);
        match header(text) {
            Some(name) => self.open_section(at, name),
            None => self.open_key(at, text),
        }
    }

    fn open_section(&mut self, at: At, name: &str) {
        self.key_is_open = false;
        if name == DEFAULT_SECTION {
            self.target = Target::Default;
            return;
        }
        if let Some(first) = self.sections.iter().find(|s| s.name == name) {
            let section = name.to_owned();
            let kind = FaultKind::DuplicateSection { section, first_line: first.at.line };
            self.faults.push(Fault::new(&at, kind).hint("join the two or rename one of them"));
            self.duplicate.clear();
            self.target = Target::Duplicate;
            return;
        }
        self.target = Target::Section(self.sections.len());
        self.sections.push(Section { name: name.to_owned(), at, entries: Vec::new() });
    }

    fn open_key(&mut self, at: At, text: &str) {
        if self.target == Target::None {
            if !self.before_section_noted {
                self.before_section_noted = true;
                let kind = FaultKind::BeforeSection { found: text.to_owned() };
                let hint = "put the name of a node above it, such as `[worker-1]`";
                self.faults.push(Fault::new(&at, kind).hint(hint));
            }
            return;
        }
        let Some((key, value)) = text.split_once(['=', ':']) else {
            self.faults.push(Fault::new(&at, FaultKind::NotAnEntry { found: text.to_owned() }));
            return;
        };
        let key = key.trim_matches(is_space).to_lowercase();
        if key.is_empty() {
            self.key_is_open = false;
            self.faults.push(Fault::new(&at, FaultKind::NoKey { found: text.to_owned() }));
            return;
        }
        self.key_is_open = true;
        let before = text.chars().count() - value.trim_start_matches(is_space).chars().count();
        let value = value.trim_matches(is_space).to_owned();
        let value_column = at.column.saturating_add(u32::try_from(before).unwrap_or(u32::MAX));
        let value_at = Some(at.place(at.line, value_column));
        let section = self.section_name();
        let entries = self.entries();
        if let Some(first) = entries.iter().find(|entry| entry.key == key) {
            let first_line = first.at.line;
            let kind = FaultKind::DuplicateKey { section, key: key.clone(), first_line };
            self.faults.push(Fault::new(&at, kind).hint("delete one of the two lines"));
            self.entries().retain(|entry| entry.key != key);
        }
        let (last_line, is_inherited) = (at.line, self.target == Target::Default);
        self.entries().push(Entry { key, at, value, value_at, last_line, is_inherited });
    }

    /// Continues the open value; `number` is that of a line with text.
    fn append(&mut self, number: Option<u32>, line: &str) {
        if self.key_is_open
            && let Some(entry) = self.entries().last_mut()
        {
            entry.value.push('\n');
            entry.value.push_str(line);
            if let Some(number) = number {
                entry.last_line = number;
                entry.value_at = None;
            }
        }
    }

    fn section_name(&self) -> String {
        match self.target {
            Target::Section(n) => self.sections[n].name.clone(),
            _ => DEFAULT_SECTION.to_owned(),
        }
    }

    fn entries(&mut self) -> &mut Vec<Entry> {
        match self.target {
            Target::Section(n) => &mut self.sections[n].entries,
            Target::Default => &mut self.defaults,
            Target::None | Target::Duplicate => &mut self.duplicate,
        }
    }

    /// Lets sections inherit and resolves references.
    fn finish(mut self) -> CfgFile {
        let defaults = std::mem::take(&mut self.defaults);
        let mut sections = std::mem::take(&mut self.sections);
        for section in &mut sections {
            let own = std::mem::take(&mut section.entries);
            let raw = inherit(&defaults, own);
            section.entries = self.resolve_all(&raw);
        }
        CfgFile { sections }
    }

    fn resolve_all(&mut self, raw: &[Entry]) -> Vec<Entry> {
        let values: HashMap<&str, &str> =
            raw.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
        let mut resolved = Vec::with_capacity(raw.len());
        for entry in raw {
            let (values, value) = (&values, String::new());
            let mut resolver = Resolver { entry, values, references: 0, value };
            match resolver.resolve(&entry.value, 1) {
                Ok(()) => {
                    let value_at = entry.value_at.clone().filter(|_| resolver.value == entry.value);
                    resolved.push(Entry { value: resolver.value, value_at, ..entry.clone() });
                }
                Err(kind) => {
                    let fault = Fault::new(&entry.at, kind).hint("write `%%` for a percent sign");
                    // A fault in [DEFAULT] is the same fault in each section: say it once.
                    if !self.faults.contains(&fault) {
                        self.faults.push(fault);
                    }
                }
            }
        }
        resolved
    }
}

/// configparser's order: the inherited keys, overridden in place, then the section's own.
fn inherit(defaults: &[Entry], own: Vec<Entry>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = defaults.to_vec();
    for entry in own {
        match entries.iter_mut().find(|inherited| inherited.key == entry.key) {
            Some(inherited) => *inherited = entry,
            None => entries.push(entry),
        }
    }
    for entry in &mut entries {
        entry.value.truncate(entry.value.trim_end_matches(is_space).len());
    }
    entries
}

/// Resolves the references of one value.
struct Resolver<'a> {
    entry: &'a Entry,
    values: &'a HashMap<&'a str, &'a str>,
    references: usize,
    value: String,
}

impl Resolver<'_> {
    fn resolve(&mut self, mut rest: &str, depth: usize) -> Result<(), FaultKind> {
        if depth > REFERENCE_DEPTH_MAX || self.references > REFERENCES_MAX {
            let depth_max = REFERENCE_DEPTH_MAX;
            return Err(FaultKind::EndlessReference { key: self.key(), depth_max });
        }
        while let Some((plain, after)) = rest.split_once('%') {
            self.value.push_str(plain);
            if let Some(behind) = after.strip_prefix('%') {
                self.value.push('%');
                rest = behind;
                continue;
            }
            let Some((name, behind)) = reference(after) else {
                let found = self.entry.value.clone();
                return Err(FaultKind::StrayPercent { key: self.key(), found });
            };
            let name = name.to_lowercase();
            let Some(&found) = self.values.get(name.as_str()) else {
                return Err(FaultKind::UnknownReference { key: self.key(), reference: name });
            };
            self.references += 1;
            if found.contains('%') {
                self.resolve(found, depth + 1)?;
            } else {
                self.value.push_str(found);
            }
            rest = behind;
        }
        self.value.push_str(rest);
        Ok(())
    }

    fn key(&self) -> String {
        self.entry.key.clone()
    }
}

/// `(name)s` at the start of `text`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (name, behind) = text.strip_prefix('(')?.split_once(')')?;
    let behind = behind.strip_prefix('s')?;
    (!name.is_empty()).then_some((name, behind))
}

/// The name in a section header. configparser takes all up to the last `]` of the line and
/// forgives what follows.
fn header(text: &str) -> Option<&str> {
    let name = text.strip_prefix('[')?.rsplit_once(']')?.0;
    (!name.is_empty()).then_some(name)
}

/// The lines of a file with any of the three line ends, and without a byte order mark.
pub(super) fn lines(text: &str) -> Vec<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(['\n', '\r']) {
        lines.push(&rest[..end]);
        let width = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + width..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// What Python's `str.isspace` counts as space: four separators more than Rust does.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}
