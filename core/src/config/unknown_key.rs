//! What to type instead of a key that is not known: it may be ZeekControl's, stand in the wrong
//! file or at the wrong depth, or be a slip.

use super::nearest::nearest;
use super::node_keys::{NODE_KEYS, NodeKey, Unset, node_key};
use super::setting_keys::{SETTING_KEYS, SettingKey, setting_key};
use super::zeekctl_options::{Fate, zeekctl_option};

/// The hint when nothing is near.
const LIST: &str = "`ctl keys` lists the keys";

/// For a key of tyto.yaml, with `.` for each step of indentation.
pub(super) fn in_settings(path: &str) -> String {
    let name = last_part(path);
    let moved = SETTING_KEYS.iter().find(|key| last_part(key.name) == name);
    if let Some(key) = moved {
        return match key.name.rsplit_once('.') {
            Some((above, _)) => format!("indent it below `{above}:`"),
            None => format!("`{name}` stands at the beginning of a line, below nothing"),
        };
    }
    if let Some(hint) = of_zeekctl(path, "") {
        return hint;
    }
    let node_name = path.replace('.', "_");
    if let Some(key) = node_key(&node_name).or_else(|| node_key(name)) {
        return match key.unset {
            Unset::Setting(setting) => format!("that is `{setting}` here"),
            _ => format!("`{}` is a key of node.cfg", key.name),
        };
    }
    let words = || SETTING_KEYS.iter().flat_map(|key| [key.name, last_part(key.name)]);
    let near = nearest(path, words()).or_else(|| nearest(name, words()));
    match near.and_then(of_word) {
        Some(key) => format!("did you mean `{}`?", key.name),
        None => LIST.to_owned(),
    }
}

/// For a key of node.cfg, in lower case with `_` for `.`.
pub(super) fn in_nodes(name: &str) -> String {
    if let Some(setting) = SETTING_KEYS.iter().find(|key| is_named(key, name)) {
        let here = NODE_KEYS.iter().find(|key| stands_for(key, setting.name));
        return match here {
            Some(key) => format!("that is `{}` here", key.name),
            None => format!("`{}` is a key of tyto.yaml", setting.name),
        };
    }
    if let Some(hint) = of_zeekctl(name, " of tyto.yaml") {
        return hint;
    }
    match nearest(name, NODE_KEYS.iter().map(|key| key.name)) {
        Some(known) => format!("did you mean `{known}`?"),
        None => LIST.to_owned(),
    }
}

/// For an option of ZeekControl; `place` follows the name of our key.
fn of_zeekctl(name: &str, place: &str) -> Option<String> {
    let option = zeekctl_option(name)?;
    Some(match option.fate {
        Fate::Setting { key, note: "", .. } => format!("that is `{key}`{place}"),
        Fate::Setting { key, note, .. } => format!("that is `{key}`{place}: {note}"),
        Fate::ByItself(how) => format!("ZeekControl's {} is not needed: {how}", option.name),
        Fate::NotThere(why) => format!("ZeekControl's {} has no place here: {why}", option.name),
    })
}

/// A key of tyto.yaml by its name in whole, or by its last part alone.
fn is_named(key: &SettingKey, name: &str) -> bool {
    key.name.replace('.', "_") == name || last_part(key.name) == name
}

fn stands_for(key: &NodeKey, setting: &'static str) -> bool {
    key.unset == Unset::Setting(setting)
}

/// The key of that name, or else the first one that ends with it.
fn of_word(word: &str) -> Option<&'static SettingKey> {
    setting_key(word).or_else(|| SETTING_KEYS.iter().find(|key| last_part(key.name) == word))
}

fn last_part(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
