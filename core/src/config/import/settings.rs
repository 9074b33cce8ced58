//! zeekctl.cfg for `ctl import`: each option by the table in [`super::super::zeekctl_options`].

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::super::error::At;
use super::super::filter_check;
use super::super::nearest::nearest;
use super::super::setting_keys::{SETTING_KEYS, setting_key};
use super::super::value::env_vars;
use super::super::zeekctl_cfg::{OptionLine, ZeekctlCfg};
use super::super::zeekctl_options::{
    Conversion, Fate, ZEEKCTL_OPTIONS, ZeekctlOption, zeekctl_option,
};
use super::{Change, Notes};

/// What tyto.yaml is to say: the value of each key, and where it comes from.
pub(super) type Taken = BTreeMap<&'static str, (Value, String)>;

/// Goes through the options of a zeekctl.cfg.
pub(super) fn taken(cfg: &ZeekctlCfg, notes: &mut Notes) -> Taken {
    let mut taken = Taken::new();
    for (at, name, why) in &cfg.idle {
        notes.add(at, name, Change::LeftOut, why.as_str());
    }
    for line in &cfg.options {
        match zeekctl_option(&line.name) {
            Some(option) => take(option, line, &mut taken, notes),
            None => notes.add(&line.at, &line.name, Change::LeftOut, unknown(&line.name)),
        }
    }
    taken
}

fn unknown(name: &str) -> String {
    if name.contains('.') {
        return "it is the option of a plugin that is not there".to_owned();
    }
    let options = ZEEKCTL_OPTIONS.iter().flat_map(|(_, options)| options.iter());
    let names: Vec<(String, &str)> =
        options.map(|option| (option.name.to_lowercase(), option.name)).collect();
    let near = nearest(&name.to_lowercase(), names.iter().map(|(lower, _)| lower.as_str()));
    let near = near.and_then(|near| names.iter().find(|(lower, _)| lower == near));
    match near {
        Some((_, name)) => format!("ZeekControl does not know it; did you mean `{name}`?"),
        None => "ZeekControl does not know it either".to_owned(),
    }
}

fn take(option: &ZeekctlOption, line: &OptionLine, taken: &mut Taken, notes: &mut Notes) {
    let (at, name) = (&line.at, option.name);
    let (key, conversion) = match option.fate {
        Fate::ByItself(how) => return notes.add(at, name, Change::NotNeeded, how),
        Fate::NotThere(why) => return notes.add(at, name, Change::LeftOut, why),
        Fate::Setting { key, conversion, .. } => (key, conversion),
    };
    if line.value.is_empty() {
        return notes.add(at, name, Change::LeftOut, "it has no value");
    }
    if conversion == Conversion::ZeekArgs {
        return zeek_args(line, taken, notes);
    }
    let value = match conversion {
        Conversion::Compress | Conversion::CompressCmd => {
            return compress(conversion, line, taken, notes);
        }
        conversion => convert(conversion, &line.value),
    };
    match value {
        Some(Value::Null) => {
            notes.add(at, name, Change::LeftOut, format!("`{}` is the default", line.value));
        }
        Some(value) => set(key, value, at, name, taken, notes),
        None => {
            let why = format!("`{}` is not what ZeekControl takes", line.value);
            notes.add(at, name, Change::LeftOut, why);
        }
    }
}

/// Sets a key, if it takes the value.
fn set(key: &'static str, value: Value, at: &At, name: &str, taken: &mut Taken, notes: &mut Notes) {
    let shown = super::super::settings::plain(&value);
    match setting_key(key) {
        Some(known) if known.kind.accepts(&value) => {
            notes.add(at, name, Change::Taken, format!("{key}: {shown}"));
            taken.insert(key, (value, format!("{at}: {name}")));
        }
        known => {
            let expected = known.map(|known| known.kind.expected()).unwrap_or_default();
            let why = format!("`{key}` would be {shown}; it takes {expected}");
            notes.add(at, name, Change::LeftOut, why);
        }
    }
}

/// The value as tyto.yaml has it; null for one that is our default without being written.
fn convert(conversion: Conversion, text: &str) -> Option<Value> {
    let number = || text.trim().parse::<u64>().ok();
    let bytes = |unit: u64| number().and_then(|n| n.checked_mul(unit)).map(Value::from);
    match conversion {
        Conversion::Whole => number().map(Value::from),
        Conversion::Bool => match text.to_ascii_lowercase().as_str() {
            "1" | "true" => Some(true.into()),
            "0" | "false" => Some(false.into()),
            _ => None,
        },
        Conversion::Megabytes => bytes(1 << 20),
        Conversion::MemoryKb if text.eq_ignore_ascii_case("unlimited") => Some(Value::Null),
        Conversion::MemoryKb => bytes(1 << 10),
        Conversion::EnvVars => env_vars(text).map(|vars| {
            let pairs = vars.into_iter().map(|(name, value)| (name.into(), value.into()));
            Value::Mapping(pairs.collect())
        }),
        Conversion::Text => Some(text.into()),
        Conversion::ZeekArgs | Conversion::Compress | Conversion::CompressCmd => None,
    }
}

/// CompressLogs says whether, CompressCmd how, in any order.
fn compress(conversion: Conversion, line: &OptionLine, taken: &mut Taken, notes: &mut Notes) {
    const KEY: &str = "compress_logs";
    let (at, name) = (&line.at, line.name.as_str());
    let before = taken.get(KEY).map(|(value, _)| value.clone());
    let value: Value = if conversion == Conversion::Compress {
        match (convert(Conversion::Bool, &line.value), before) {
            (Some(Value::Bool(true)), Some(method)) => {
                let text = format!("{KEY}: {}", super::super::settings::plain(&method));
                return notes.add(at, name, Change::Taken, text);
            }
            (Some(value), _) => value,
            (None, _) => {
                let why = format!("`{}` is not what ZeekControl takes", line.value);
                return notes.add(at, name, Change::LeftOut, why);
            }
        }
    } else {
        let program = line.value.split_whitespace().next().unwrap_or_default();
        match program.rsplit('/').next().unwrap_or_default() {
            _ if before == Some(Value::Bool(false)) => {
                return notes.add(at, name, Change::NotNeeded, "nothing is compressed");
            }
            "gzip" | "pigz" => "gzip".into(),
            "zstd" | "zstdmt" | "pzstd" => "zstd".into(),
            _ => {
                let why = "the logger compresses by itself, with gzip or zstd (`compress_logs`)";
                return notes.add(at, name, Change::LeftOut, why);
            }
        }
    };
    set(KEY, value, at, name, taken, notes);
}

/// Zeek's command line: `-f EXPRESSION` and `-C` have their keys, nothing else has.
fn zeek_args(line: &OptionLine, taken: &mut Taken, notes: &mut Notes) {
    let (at, name) = (&line.at, line.name.as_str());
    let words = words(&line.value);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-C" | "--no-checksums" => {
                set("ignore_checksums", true.into(), at, &format!("{name} {word}"), taken, notes);
            }
            "-f" | "--filter" => {
                let Some(text) = rest.next() else {
                    notes.add(at, name, Change::LeftOut, "`-f` has no expression");
                    continue;
                };
                let subject = format!("{name} {word} {text}");
                match filter_check::fault("filter", text, filter_check::ETHERNET, at, None) {
                    None => set("filter", text.as_str().into(), at, &subject, taken, notes),
                    Some(fault) => {
                        notes.add(at, &subject, Change::LeftOut, fault.kind.to_string());
                    }
                }
            }
            word => {
                let why = "Zeek's arguments have no place here, but `-f` and `-C`";
                notes.add(at, &format!("{name} {word}"), Change::LeftOut, why);
            }
        }
    }
}

/// The words of a command line as a shell takes them, with quotes and backslashes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The text of tyto.yaml.
pub(super) fn yaml(taken: &Taken) -> String {
    let mut text = "# tyto.yaml, made by `ctl import`. Keys that are not here have their default; \
                    `ctl keys tyto.yaml`\n# lists them all.\n"
        .to_owned();
    let mut group = "";
    for key in SETTING_KEYS {
        let Some((value, from)) = taken.get(key.name) else { continue };
        let (above, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        let indent = if above.is_empty() { "" } else { "  " };
        if above == group || above.is_empty() {
            text.push('\n');
        } else {
            text.push_str(&format!("\n{above}:\n"));
        }
        group = above;
        let mut tree = serde_yaml::Mapping::new();
        tree.insert(name.into(), value.clone());
        let lines = serde_yaml::to_string(&tree).unwrap_or_default();
        text.push_str(&format!("{indent}# {from}\n"));
        text.extend(lines.lines().map(|line| format!("{indent}{line}\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_those_of_a_shell() {
        assert_eq!(words(r#"-f "tcp port 80" -C"#), ["-f", "tcp port 80", "-C"]);
        assert_eq!(words(r"a\ b 'c d'e "), ["a b", "c de"]);
        assert_eq!(words("'' x"), ["", "x"]);
        assert!(words("  ").is_empty());
    }
}
