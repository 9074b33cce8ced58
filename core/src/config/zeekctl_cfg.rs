//! The grammar of zeekctl.cfg: one `Name = value` per line, `#` before a comment line, names in
//! any letter case, the last of several lines counts. Text in, options with their places out.
//! What ZeekControl would refuse is kept apart, with the reason.

use super::cfg_file::{is_space, lines};
use super::error::At;
use super::zeekctl_options::zeekctl_option;

/// References that one value may lead to; ZeekControl itself would go round for ever.
const REFERENCES_MAX: usize = 100;

/// What a zeekctl.cfg says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZeekctlCfg {
    /// The lines that count, in the order of the file.
    pub options: Vec<OptionLine>,
    /// Lines that do not count: place, name, and why.
    pub idle: Vec<(At, String, String)>,
}

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionLine {
    /// Its name as it was written.
    pub name: String,
    /// Its value; may be empty.
    pub value: String,
    /// Where it is.
    pub at: At,
}

impl ZeekctlCfg {
    /// Reads `text`.
    pub fn parse(file: &str, text: &str) -> Self {
        let (file, mut cfg) = (At::file(file), Self::default());
        for (n, line) in lines(text).into_iter().enumerate() {
            let body = line.trim_matches(is_space);
            if body.is_empty() || body.starts_with('#') {
                continue;
            }
            let column = line.chars().take_while(|&c| is_space(c)).count() + 1;
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            cfg.line(file.place(number(n + 1), number(column)), body);
        }
        cfg
    }

    fn line(&mut self, at: At, body: &str) {
        let mut idle = |name: &str, why: String| {
            self.idle.push((at.clone(), name.to_owned(), why));
        };
        let Some((name, value)) = body.split_once('=') else {
            return idle(body, "it is no `Name = value`; ZeekControl refuses the file".to_owned());
        };
        let (name, value) = (name.trim_matches(is_space), value.trim_matches(is_space));
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
        if name.is_empty() || !name.bytes().all(fits) || name.as_bytes()[0].is_ascii_digit() {
            return idle(name, "it is no name of an option; ZeekControl refuses it".to_owned());
        }
        let quoted = |quote| value.starts_with(quote) && value.ends_with(quote);
        if quoted('"') || quoted('\'') {
            return idle(name, "ZeekControl refuses a value in quotes".to_owned());
        }
        if let Some(n) = self.options.iter().position(|o| o.name.eq_ignore_ascii_case(name)) {
            let earlier = self.options.remove(n);
            let why = format!("line {} says it again, and counts", at.line);
            self.idle.push((earlier.at, earlier.name, why));
        }
        self.options.push(OptionLine { name: name.to_owned(), value: value.to_owned(), at });
    }

    /// The value of an option, if it is there.
    pub fn value(&self, name: &str) -> Option<&str> {
        let option = self.options.iter().find(|option| option.name.eq_ignore_ascii_case(name));
        option.map(|option| option.value.as_str())
    }

    /// The folder of the other files: `CfgDir`, or `etc` below `base`.
    pub fn cfg_dir(&self, base: &str) -> String {
        self.place("CfgDir", "${ZeekBase}/etc", base)
    }

    /// The place of node.cfg.
    pub fn node_cfg(&self, base: &str) -> String {
        self.place("NodeCfg", "${CfgDir}/node.cfg", base)
    }

    /// The place of networks.cfg.
    pub fn networks_cfg(&self, base: &str) -> String {
        self.place("LocalNetsCfg", "${CfgDir}/networks.cfg", base)
    }

    /// An option as ZeekControl takes it: references are resolved in defaults only.
    fn place(&self, name: &str, default: &str, base: &str) -> String {
        match self.value(name) {
            Some(value) => value.to_owned(),
            None => self.resolve(default, base),
        }
    }

    /// Replaces `${Option}` and `${Option:default}`; an unknown option without a default is
    /// nothing.
    pub fn resolve(&self, text: &str, base: &str) -> String {
        let mut text = text.to_owned();
        for _ in 0..REFERENCES_MAX {
            let Some((start, end, name, default)) = reference(&text) else { break };
            let value = match self.value(name) {
                Some(value) => value.to_owned(),
                None if name.eq_ignore_ascii_case("CfgDir") => "${ZeekBase}/etc".to_owned(),
                None if is_base(name) => base.to_owned(),
                None => default.unwrap_or_default().to_owned(),
            };
            text.replace_range(start..end, &value);
        }
        text
    }
}

/// The first reference: where it begins and ends, its name and its default.
fn reference(text: &str) -> Option<(usize, usize, &str, Option<&str>)> {
    let mut from = 0;
    while let Some(found) = text.get(from..)?.find("${") {
        let start = from + found;
        from = start + 2;
        let length = text.get(from..)?.find('}')?;
        let inside = text.get(from..from + length)?;
        let (name, default) = match inside.split_once(':') {
            Some((name, default)) => (name, Some(default).filter(|text| !text.is_empty())),
            None => (inside, None),
        };
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric());
        // `${Option:}` is no reference in ZeekControl.
        if is_name && (default.is_some() || !inside.contains(':')) {
            return Some((start, from + length + 1, name, default));
        }
    }
    None
}

/// ZeekControl's own prefix, by its two names.
fn is_base(name: &str) -> bool {
    ["ZeekBase", "BroBase"].iter().any(|base| base.eq_ignore_ascii_case(name))
        && zeekctl_option(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_any_case_and_the_last_line_counts() {
        let text = "\u{feff}# c\n StopTimeout = 5\r\nstoptimeout=7 # no comment\nx\n1a=2\nQ='v'\n";
        let cfg = ZeekctlCfg::parse("zeekctl.cfg", text);
        assert_eq!(cfg.value("STOPTIMEOUT"), Some("7 # no comment"));
        assert_eq!(cfg.options.len(), 1);
        let idle: Vec<(u32, &str)> =
            cfg.idle.iter().map(|(at, name, _)| (at.line, name.as_str())).collect();
        assert_eq!(idle, [(2, "StopTimeout"), (4, "x"), (5, "1a"), (6, "Q")]);
    }

    #[test]
    fn references_are_resolved_in_defaults_and_bounded() {
        let cfg = ZeekctlCfg::parse("f", "CfgDir=/etc/zeek\nA=${A}\n");
        assert_eq!(cfg.node_cfg("/opt/zeek"), "/etc/zeek/node.cfg");
        assert_eq!(cfg.resolve("${none:x}-${none}-${ZEEKBASE}", "/b"), "x--/b");
        assert_eq!(cfg.resolve("${none:} ${1} ${", "/b"), "${none:} ${1} ${");
        assert_eq!(cfg.resolve("${A}", "/b"), "${A}");
        let bare = ZeekctlCfg::parse("f", "");
        assert_eq!(bare.networks_cfg("/opt/zeek"), "/opt/zeek/etc/networks.cfg");
        // ZeekControl resolves nothing in a value that somebody wrote.
        let written = ZeekctlCfg::parse("f", "NodeCfg=${CfgDir}/n\n");
        assert_eq!(written.node_cfg("/opt/zeek"), "${CfgDir}/n");
    }
}
