//! Where the keys of a YAML file are. serde_yaml tells the place of its own errors only; ours
//! (unknown key, out of range) need one too, and all of them at once.
//! Knows block mappings, which is what a file of settings is; keys inside of `{…}` have the
//! place of the line's own key. Values are none of its business.

use std::collections::HashMap;

/// Line and column, both from 1.
pub(super) type Place = (u32, u32);

/// Places of keys by their path (`ssh.user`).
#[derive(Debug, Default)]
pub(super) struct KeyLines {
    /// Where each key is first given.
    pub(super) first: HashMap<String, Place>,
    /// Column of the value that stands behind a key on its line, and the rest of that line.
    pub(super) values: HashMap<String, (u32, String)>,
    /// Keys given again: path, place, line of the first.
    pub(super) duplicates: Vec<(String, Place, u32)>,
}

/// Line, from 1, on which a key such as `ssh.user` is given; none when it is not.
pub fn line_of(text: &str, key: &str) -> Option<u32> {
    key_lines(text).first.get(key).map(|&(line, _)| line)
}

/// Finds the keys.
pub(super) fn key_lines(text: &str) -> KeyLines {
    let mut found = KeyLines::default();
    // The keys above the line, outermost first, with their indentation.
    let mut open: Vec<(usize, String)> = Vec::new();
    // Lines deeper than this belong to a block of text (`key: |`).
    let mut text_deeper_than: Option<usize> = None;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (n, line) in text.lines().enumerate() {
        let body = line.trim_start();
        if body.is_empty() || body.starts_with(['#', '-']) {
            continue;
        }
        let indent = line.len() - body.len();
        if text_deeper_than.is_some_and(|limit| indent > limit) {
            continue;
        }
        text_deeper_than = None;
        let Some((key, value)) = split_key(body) else { continue };
        open.retain(|(above, _)| *above < indent);
        let path = match open.last() {
            Some((_, above)) => format!("{above}.{key}"),
            None => key.to_owned(),
        };
        let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
        let place = (number(n), number(indent));
        match found.first.get(&path) {
            Some(&(first_line, _)) => found.duplicates.push((path.clone(), place, first_line)),
            None => {
                found.first.insert(path.clone(), place);
                let rest = value.trim_start().trim_start_matches(['"', '\'']);
                let before = line.chars().count() - rest.chars().count();
                found.values.insert(path.clone(), (number(before), rest.to_owned()));
            }
        }
        if value.trim_start().starts_with(['|', '>']) {
            text_deeper_than = Some(indent);
        }
        open.push((indent, path));
    }
    found
}

/// `key: value`, the key perhaps in quotes.
fn split_key(body: &str) -> Option<(&str, &str)> {
    for quote in ['"', '\''] {
        if let Some(rest) = body.strip_prefix(quote) {
            let (key, behind) = rest.split_once(quote)?;
            return Some((key, behind.trim_start().strip_prefix(':')?));
        }
    }
    let (key, value) = body.split_once(':')?;
    (value.is_empty() || value.starts_with([' ', '\t'])).then_some((key.trim_end(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_path_and_text_blocks_are_left_alone() {
        let found = key_lines(
            "# a: 1\nport: 1\nssh:\n  user: root # x: y\n  'port': 2\nnote: |\n  fake: 1\n\n  port: 9\nssh2: {user: x}\n",
        );
        let mut keys: Vec<_> = found.first.iter().map(|(key, at)| (at.0, key.as_str())).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [(2, "port"), (3, "ssh"), (4, "ssh.user"), (5, "ssh.port"), (6, "note"), (10, "ssh2")]
        );
        assert!(found.duplicates.is_empty());
    }

    #[test]
    fn a_key_given_again_is_a_duplicate_within_its_own_mapping_only() {
        let found = key_lines("port: 1\nssh:\n  port: 2\nport: 3\n");
        assert_eq!(found.duplicates, [("port".to_owned(), (4, 1), 1)]);
    }
}
