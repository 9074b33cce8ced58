//! A plan as the operator reads it.

use std::collections::BTreeMap;

use super::changes::Change;
use super::order::{Place, Wave};
use super::plan::{FileToCopy, NodeChange, Plan};

/// Names that one line tells; of more the number is told.
const NAMES_MAX: usize = 6;

/// The lines of a plan.
pub fn lines(plan: &Plan) -> Vec<String> {
    if plan.is_empty() {
        return vec!["nothing would change; no node would be touched".to_owned()];
    }
    let mut lines = release_lines(plan);
    lines.extend(plan.changes.iter().map(change_line));
    if !plan.trust.is_empty() {
        let hosts: Vec<&str> = plan.trust.iter().map(|host| &**host).collect();
        lines.push(format!("{}: replace the CAs to trust", hosts.join(", ")));
    }
    for due in &plan.certificates {
        lines.push(format!("issue a certificate for {} ({})", due.node, due.reason));
    }
    for stop in &plan.stops {
        lines.push(match &stop.node {
            Some(node) => format!("stop {node} (no more in node.cfg)"),
            None => format!("{}: stop all, no more in node.cfg", stop.host),
        });
    }
    lines.extend(node_lines(plan));
    if plan.nodes.is_empty() {
        lines.push("no node would be touched".to_owned());
    } else if !plan.untouched.is_empty() {
        lines.push(format!("left as they are: {}", names(&plan.untouched)));
    }
    lines
}

/// Hosts with the same files to copy in one line.
fn release_lines(plan: &Plan) -> Vec<String> {
    let mut same: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut order = Vec::new();
    for host in &plan.hosts {
        let programs: Vec<&FileToCopy> =
            host.files.iter().filter(|file| file.path.starts_with("bin/")).collect();
        let from = host.from.as_deref().unwrap_or("none");
        let what = match (host.files.len(), programs.as_slice()) {
            (0, _) => "nothing to copy".to_owned(),
            (1, []) => format!("1 file to copy, {}", size(&host.files)),
            (count, []) => format!("{count} files to copy, {}", size(&host.files)),
            (count, programs) => format!(
                "{count} files to copy, {} ({})",
                size(&host.files),
                programs.iter().map(|file| program(file)).collect::<Vec<_>>().join(", ")
            ),
        };
        let key = (format!("release {} after {from}", host.to), what);
        if !same.contains_key(&key) {
            order.push(key.clone());
        }
        same.entry(key).or_default().push(host.host.to_string());
    }
    let line = |key: &(String, String)| {
        let hosts = same.get(key).map(|hosts| names(hosts)).unwrap_or_default();
        format!("{hosts}: {}, {}", key.0, key.1)
    };
    order.iter().map(line).collect()
}

fn program(file: &FileToCopy) -> String {
    let name = file.path.trim_start_matches("bin/");
    format!("{name} {}", size(std::slice::from_ref(file)))
}

/// Bytes of files for people.
fn size(files: &[FileToCopy]) -> String {
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

fn change_line(change: &Change) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
    let at = change.at.as_ref().map_or_else(String::new, |at| format!(" ({at})"));
    let whom = match change.nodes.as_slice() {
        [] => "no restart needed".to_owned(),
        nodes => names(nodes),
    };
    let (old, new) = (value(&change.old), value(&change.new));
    format!("change {}: {old} -> {new}{at}: {whom}", change.key)
}

/// What is done with nodes, a line each, in order; nodes with the same fate in one line.
fn node_lines(plan: &Plan) -> Vec<String> {
    let find = |place: &Place| {
        let is_it = |n: &&NodeChange| n.member.node == place.node && n.member.host == place.host;
        plan.nodes.iter().find(is_it)
    };
    let mut lines = Vec::new();
    for wave in &plan.waves {
        match wave {
            Wave::Switch { hosts } if plan.nodes.is_empty() || hosts.len() > 1 => {
                let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
                lines.push(format!("switch the release: {}", names(&hosts)));
            }
            Wave::Switch { hosts } => {
                lines.extend(hosts.iter().map(|host| format!("switch the release: {host}")));
            }
            Wave::Start { nodes, .. } => {
                for place in nodes {
                    let why = find(place).map_or("", |node| &node.reason);
                    lines.push(format!("start {} ({why})", place.node));
                }
            }
            Wave::Restart { canary, lanes, .. } => {
                let word = if *canary { "restart first" } else { "restart" };
                for place in lanes.iter().flatten() {
                    let why = find(place).map_or("", |node| &node.reason);
                    lines.push(format!("{word} {} ({why})", place.node));
                }
            }
            Wave::Regroup { groups, .. } => {
                for group in groups {
                    let nodes: Vec<String> = group.iter().map(|place| place.node.clone()).collect();
                    let why = group.first().and_then(find).map_or("", |node| &node.reason);
                    lines.push(format!("restart together {} ({why})", names(&nodes)));
                }
            }
        }
    }
    lines
}

fn names(names: &[String]) -> String {
    match names.get(..NAMES_MAX) {
        Some(first) if names.len() > NAMES_MAX => {
            format!("{} and {} more", first.join(", "), names.len() - NAMES_MAX)
        }
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tyto_core::config::runtime::Role;

    use super::*;
    use crate::deploy::order::Member;
    use crate::deploy::plan::{HostChange, Reason};

    fn worker(node: &str, host: &str) -> Member {
        Member { node: node.into(), role: Role::Worker, host: host.into(), interface: None }
    }

    #[test]
    fn a_plan_reads_from_the_files_to_the_nodes() {
        let host = |name: &str| HostChange {
            host: name.into(),
            from: Some("a-b".into()),
            to: "a-c".into(),
            files: vec![FileToCopy { path: "etc/host.yaml".into(), bytes: 900 }],
        };
        let mut plan = Plan {
            hosts: vec![host("h1"), host("h2")],
            changes: vec![Change {
                key: "snaplen".into(),
                old: Some("9000".into()),
                new: Some("65535".into()),
                at: Some("node.cfg:7".into()),
                nodes: vec!["w-1".into(), "w-2".into()],
                regroups: false,
            }],
            untouched: vec!["logger".into()],
            ..Plan::default()
        };
        let nodes = [("w-1", "h1"), ("w-2", "h2")];
        let nodes = nodes.map(|(n, h)| (worker(n, h), vec![Reason::Configuration], true));
        plan.set_nodes(nodes.into(), &BTreeSet::new(), true);
        assert_eq!(
            lines(&plan),
            [
                "h1, h2: release a-c after a-b, 1 file to copy, 1 KiB",
                "change snaplen: 9000 -> 65535 (node.cfg:7): w-1, w-2",
                "restart first w-1 (other configuration: snaplen)",
                "restart w-2 (other configuration: snaplen)",
                "left as they are: logger",
            ]
        );
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        assert_eq!(lines(&Plan::default()).len(), 1);
    }

    #[test]
    fn many_names_are_counted() {
        let all: Vec<String> = (1..=9).map(|n| format!("w-{n}")).collect();
        assert_eq!(names(&all), "w-1, w-2, w-3, w-4, w-5, w-6 and 3 more");
        assert_eq!(names(&all[..2]), "w-1, w-2");
    }
}
