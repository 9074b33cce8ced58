//! Which values differ between two configurations of a node or a host, told by the keys that the
//! operator wrote. Text in, changes out; values that look like secrets are not repeated.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_yaml::Value;

use super::origins::Origins;

/// Keys of a release's files that are no setting: names, and what follows from other keys.
const NOT_TOLD: [&str; 4] = ["node", "host", "release", "logs.name_in_archive"];

/// Parts of names of environment variables whose values are not shown.
const SECRET_WORDS: [&str; 6] = ["SECRET", "PASSW", "TOKEN", "CREDENTIAL", "API_KEY", "PRIVATE"];

/// What is shown in place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// One value that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key as the operator writes it.
    pub key: String,
    /// Value before; none when there was none.
    pub old: Option<String>,
    /// Value from now on; none when there is none.
    pub new: Option<String>,
    /// Where it is written, such as `tyto.yaml:7`; none: nowhere, the default counts.
    pub at: Option<String>,
    /// Nodes that have to be restarted for it; none for what is followed without a restart.
    pub nodes: Vec<String>,
    /// It makes another fanout group of the nodes.
    pub regroups: bool,
}

/// What all sockets of a fanout group have to agree on: the kernel refuses a member that differs.
const GROUP_PATHS: [&str; 3] =
    ["capture.fanout_id", "capture.fanout_mode", "capture.fanout_defrag"];

/// Two configurations of one node, or (no name) of what a host follows without a restart.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    /// Name of the node.
    pub node: Option<String>,
    /// The texts in use, YAML.
    pub old: Vec<String>,
    /// The texts to be in use, YAML.
    pub new: Vec<String>,
}

/// True for a variable whose value is better not shown.
pub fn is_secret(variable: &str) -> bool {
    let name = variable.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// All that differs; the same change of several nodes is told once.
pub fn changes(pairs: &[Pair], origins: &Origins) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    for pair in pairs {
        for change in of_pair(pair, origins) {
            let same = |known: &&mut Change| {
                (&known.key, &known.old, &known.new, &known.at)
                    == (&change.key, &change.old, &change.new, &change.at)
            };
            match all.iter_mut().find(same) {
                Some(known) => known.nodes.extend(change.nodes),
                None => all.push(change),
            }
        }
    }
    all
}

fn of_pair(pair: &Pair, origins: &Origins) -> Vec<Change> {
    let (old, new) = (flat(&pair.old), flat(&pair.new));
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let captured = old.contains_key("capture.interface");
    let mut changes = Vec::new();
    for path in paths {
        let (before, after) = (old.get(path), new.get(path));
        if before == after || NOT_TOLD.contains(&path.as_str()) {
            continue;
        }
        let origin = origins.find(pair.node.as_deref(), path);
        // A node that begins to capture has all capture keys anew; those written down are told.
        let is_first = !captured && path.starts_with("capture.") && origin.at.is_none();
        if is_first && path != "capture.interface" {
            continue;
        }
        let hide = path.strip_prefix("env.").is_some_and(is_secret);
        let shown = |value: Option<&String>| {
            value.map(|value| if hide { HIDDEN.to_owned() } else { value.clone() })
        };
        let (mut old, mut new) = (shown(before), shown(after));
        if path == "analysis.local_nets" {
            (old, new) = list_difference(before, after);
        }
        let nodes = pair.node.iter().cloned().collect();
        let regroups = GROUP_PATHS.contains(&path.as_str());
        changes.push(Change { key: origin.key, old, new, at: origin.at, nodes, regroups });
    }
    changes
}

/// What only the old and only the new list has.
fn list_difference(old: Option<&String>, new: Option<&String>) -> (Option<String>, Option<String>) {
    let set = |list: Option<&String>| -> BTreeSet<String> {
        let words = list.map(String::as_str).unwrap_or_default().split(", ");
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (old, new) = (set(old), set(new));
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
        let words: Vec<&str> = one.difference(other).map(String::as_str).collect();
        (!words.is_empty()).then(|| words.join(", "))
    };
    (only(&old, &new), only(&new, &old))
}

/// The values of some YAML mappings by their path; nothing for `null`.
fn flat(texts: &[String]) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for text in texts {
        // What is no YAML has no values; the node that reads it says so itself.
        if let Ok(value) = serde_yaml::from_str::<Value>(text) {
            flatten("", &value, &mut values);
        }
    }
    values
}

fn flatten(path: &str, value: &Value, values: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Null => {}
        Value::Mapping(pairs) => {
            for (key, value) in pairs {
                flatten(&below(&scalar(key)), value, values);
            }
        }
        Value::Sequence(items) => {
            let (named, plain): (Vec<&Value>, Vec<&Value>) =
                items.iter().partition(|item| item.get("node").is_some());
            for item in named {
                let of = |key: &str| item.get(key).map(scalar).unwrap_or_default();
                values.insert(below(&of("node")), of("addr"));
            }
            let words: Vec<String> = plain.into_iter().map(scalar).collect();
            if !words.is_empty() {
                values.insert(path.to_owned(), words.join(", "));
            }
        }
        other => drop(values.insert(path.to_owned(), scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        other => {
            let text = serde_yaml::to_string(other).unwrap_or_default();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    }
}

/// The part of a host.yaml that belongs to one node, as YAML; empty when it has none.
pub fn node_part(host_yaml: &str, node: &str) -> String {
    let host: Value = serde_yaml::from_str(host_yaml).unwrap_or_default();
    let nodes = host.get("nodes").and_then(Value::as_sequence);
    let part =
        nodes.into_iter().flatten().find(|n| n.get("node").map(scalar).as_deref() == Some(node));
    part.and_then(|part| serde_yaml::to_string(part).ok()).unwrap_or_default()
}

/// A host.yaml without its nodes: what the supervisor reads whenever it needs it.
pub fn host_part(host_yaml: &str) -> String {
    let mut host: Value = serde_yaml::from_str(host_yaml).unwrap_or_default();
    if let Some(pairs) = host.as_mapping_mut() {
        pairs.remove("nodes");
    }
    serde_yaml::to_string(&host).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(node: Option<&str>, old: &str, new: &str) -> Pair {
        Pair { node: node.map(str::to_owned), old: vec![old.into()], new: vec![new.into()] }
    }

    fn told(pairs: &[Pair]) -> Vec<String> {
        let dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        changes(pairs, &Origins::default())
            .iter()
            .map(|c| {
                format!("{}: {} > {} [{}]", c.key, dash(&c.old), dash(&c.new), c.nodes.join(" "))
            })
            .collect()
    }

    #[test]
    fn the_same_change_of_several_nodes_is_told_once() {
        let (old, new) = ("logs:\n  format: tsv\n", "logs:\n  format: json\n");
        let pairs = [pair(Some("a"), old, new), pair(Some("b"), old, new)];
        assert_eq!(told(&pairs), ["log_format: tsv > json [a b]"]);
    }

    #[test]
    fn what_came_and_what_went_is_told_and_null_is_nothing() {
        let pairs = [pair(Some("a"), "env:\n  A: x\nlisten: null\n", "env:\n  B: y\n")];
        assert_eq!(told(&pairs), ["env_vars A: x > - [a]", "env_vars B: - > y [a]"]);
    }

    #[test]
    fn values_that_look_like_secrets_are_not_repeated() {
        let pairs = [pair(Some("a"), "env:\n  DB_PASSWORD: x\n", "env:\n  DB_PASSWORD: y\n")];
        assert_eq!(told(&pairs), ["env_vars DB_PASSWORD: (hidden) > (hidden) [a]"]);
    }

    #[test]
    fn of_networks_the_difference_is_told() {
        let nets = |list: &str| format!("analysis:\n  local_nets: [{list}]\n");
        let pairs =
            [pair(Some("a"), &nets("10.0.0.0/8, 1.0.0.0/8"), &nets("10.0.0.0/8, 2.0.0.0/8"))];
        assert_eq!(told(&pairs), ["networks.cfg: 1.0.0.0/8 > 2.0.0.0/8 [a]"]);
    }

    #[test]
    fn peers_are_told_by_their_names_and_restart_nobody() {
        let old = "peers:\n- node: logger-1\n  role: logger\n  addr: 10.0.0.1:5\n";
        let new = format!("{old}- node: logger-2\n  role: logger\n  addr: 10.0.0.1:6\n");
        assert_eq!(told(&[pair(None, old, &new)]), ["peers.logger-2: - > 10.0.0.1:6 []"]);
    }

    #[test]
    fn a_node_that_begins_to_capture_is_told_by_its_interface() {
        let new = "capture:\n  interface: eth0\n  snaplen_bytes: 9000\n";
        assert_eq!(told(&[pair(Some("a"), "capture: null\n", new)]), ["interface: - > eth0 [a]"]);
    }

    #[test]
    fn the_parts_of_a_host_yaml() {
        let text = "release: aa\nstop_timeout_s: 20\nnodes:\n- node: w\n  cpus: [1]\n- node: v\n  cpus: []\n";
        assert_eq!(told(&[pair(Some("w"), "", &node_part(text, "w"))]), ["pin_cpus: - > 1 [w]"]);
        assert_eq!(told(&[pair(None, "", &host_part(text))]), ["stop_timeout_s: - > 20 []"]);
        assert_eq!(node_part(text, "nobody"), "");
    }
}
