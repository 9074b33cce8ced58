//! The keys below `streams: NAME:` of tyto.yaml: what is different for one log stream. Values
//! in, faults out; the values themselves are read by serde into [`super::logs::StreamLogs`].

use serde_yaml::Value;

use super::error::{At, Fault, FaultKind};
use super::nearest::nearest;
use super::setting_keys::{FORMATS, Kind, PARQUET};
use super::settings::plain;
use crate::record::condition::Condition;

/// Keys of one stream, and what they take.
pub(super) const STREAM_KEYS: &[(&str, Kind)] = &[
    ("write", Kind::Bool),
    ("format", FORMATS),
    ("fields", Kind::Names),
    ("exclude_fields", Kind::Names),
    ("where", Kind::Text { expected: "a condition on the stream's columns", is_valid: is_text }),
    ("rotation_interval_s", Kind::Whole { min: 0, max: 604_800 }),
    ("keep", Kind::Keep),
    ("parquet", PARQUET),
];

/// A fault of a stream's keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StreamFault {
    /// The key, such as `streams.conn.keep`.
    pub(super) path: String,
    /// What stands there; none: the key is not known.
    pub(super) found: Option<String>,
    /// What should.
    pub(super) expected: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

/// What is wrong below `streams:`; `at` knows the places of keys.
pub(super) fn faults(streams: &Value, at: impl Fn(&str) -> At) -> Vec<Fault> {
    let told = check(streams).into_iter().map(|fault| {
        let (at, key) = (at(&fault.path), fault.path);
        let kind = match fault.found {
            Some(found) => FaultKind::BadSetting { key, found, expected: fault.expected },
            None => FaultKind::UnknownSetting { key },
        };
        let told = Fault::new(&at, kind);
        match fault.hint {
            Some(hint) => told.hint(hint),
            None => told,
        }
    });
    told.collect()
}

/// Checks what stands below `streams:`.
fn check(streams: &Value) -> Vec<StreamFault> {
    let mut faults = Vec::new();
    for (name, keys) in streams.as_mapping().into_iter().flatten() {
        let name = plain(name);
        let path = format!("streams.{name}");
        if !is_stream(&name) {
            let hint = Some("streams have Zeek's names, such as `conn` or `dns`".to_owned());
            let name = Value::from(name.as_str());
            faults.push(bad("streams", &name, "names of log streams", hint));
            continue;
        }
        let Some(keys) = keys.as_mapping() else {
            faults.push(bad(&path, keys, "keys of its own, indented below it", None));
            continue;
        };
        if keys.contains_key("fields") && keys.contains_key("exclude_fields") {
            let hint = Some("`fields` alone says all; delete one of the two".to_owned());
            let found = keys.get("exclude_fields").unwrap_or(&Value::Null);
            let path = format!("{path}.exclude_fields");
            faults.push(bad(&path, found, "nothing beside `fields`", hint));
        }
        for (key, value) in keys {
            let key = plain(key);
            let path = format!("{path}.{key}");
            match STREAM_KEYS.iter().find(|(known, _)| *known == key) {
                Some((_, kind)) if kind.accepts(value) => {
                    let fault = (key == "where").then(|| bad_condition(&path, value)).flatten();
                    faults.extend(fault);
                }
                Some((_, kind)) => faults.push(bad(&path, value, &kind.expected(), None)),
                None => faults.push(unknown(path, &key)),
            }
        }
    }
    faults
}

/// Which columns there are, only the producers know; all else is checked here.
fn bad_condition(path: &str, value: &Value) -> Option<StreamFault> {
    let error = Condition::parse(value.as_str()?).err()?;
    let hint = match error.suggestion() {
        Some(suggestion) => format!("{error}; {suggestion}"),
        None => error.to_string(),
    };
    Some(bad(path, value, "a condition such as `id.resp_p == 443`", Some(hint)))
}

fn bad(path: &str, found: &Value, expected: &str, hint: Option<String>) -> StreamFault {
    let (path, found) = (path.to_owned(), Some(plain(found)));
    StreamFault { path, found, expected: expected.to_owned(), hint }
}

fn unknown(path: String, key: &str) -> StreamFault {
    let names = || STREAM_KEYS.iter().map(|(name, _)| *name);
    let hint = match nearest(key, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("a stream has {}", names().collect::<Vec<_>>().join(", ")),
    };
    StreamFault { path, found: None, expected: String::new(), hint: Some(hint) }
}

fn is_stream(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(['\n', '\0'])
}
