//! `ctl explain`: what a node gets, and which line of which file says so.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::{Arg, ArgMatches};
use serde_json::{Value, json};
use tyto_core::config::explain::{Effective, Source};
use tyto_core::config::name::HostName;
use tyto_core::config::nearest::nearest;
use tyto_core::config::node::Node;
use tyto_core::config::node_keys::{NODE_KEYS, node_key};
use tyto_core::config::setting_keys::{SETTING_KEYS, setting_key};

use super::{Command, Run};
use crate::context::Context;
use crate::remote::pool;
use crate::report::{Report, hinted};

pub(super) const COMMAND: Command = Command {
    name: "explain",
    summary: "Tells what a node gets, and from which line",
    details: "Every key that counts for the node, its value, unit, and where it comes from: a \
              line of node.cfg, networks.cfg or tyto.yaml, the default, or what it follows from. \
              A KEY is one of node.cfg or of tyto.yaml; its line says what the key is for. \
              Touches no host.",
    args: || {
        vec![
            Arg::new("node")
                .value_name("NODE")
                .required(true)
                .help("Name of a node, or all, loggers, manager, proxies, workers"),
            Arg::new("key").value_name("KEY").help("Only this key"),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let word = args.get_one::<String>("node").map(String::as_str);
    let key = args.get_one::<String>("key").map(String::as_str);
    if let Some(key) = key {
        known(key)?;
    }
    let nodes = ctx.select(word)?;
    let mut report = Report::new();
    let addrs = addresses(ctx, &mut report);
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for node in &nodes {
        for effective in ctx.cluster.explain(node, &addrs)? {
            if key.is_none_or(|key| is_named(&effective, key)) {
                rows.push(row(node, &effective, nodes.len() > 1));
                all.push(as_json(node, &effective));
            }
        }
    }
    match key {
        Some(key) if rows.is_empty() => {
            report.line(format!("`{key}` does not concern {}", word.unwrap_or("it")));
        }
        _ if nodes.len() > 1 => report.table(&["Node", "Key", "Value", "Unit", "From"], rows),
        _ => report.table(&["Key", "Value", "Unit", "From"], rows),
    }
    if let Some(key) = key {
        describe(&mut report, key);
    }
    report.json(&all);
    Ok(report)
}

/// Addresses of the hosts; one without is shown by its name.
fn addresses(ctx: &Context, report: &mut Report) -> BTreeMap<HostName, IpAddr> {
    let mut addrs = BTreeMap::new();
    for host in ctx.cluster.hosts() {
        match pool::resolve(host) {
            Ok(addr) => {
                addrs.insert(host.clone(), addr);
            }
            Err(error) => report.warn_about(host, &error.into()),
        }
    }
    addrs
}

/// Names that are shown and stand in no table of keys.
const MADE: [&str; 5] = ["name", "listen", "name_in_archive", "local_net", "peer"];

/// # Errors
/// For a word that is no key, with the nearest one.
fn known(word: &str) -> anyhow::Result<()> {
    let group = word.split('.').next().unwrap_or(word);
    let is_made = MADE.contains(&group) || group == "env_vars";
    if node_key(word).is_some() || setting_key(word).is_some() || is_made {
        return Ok(());
    }
    let keys = NODE_KEYS.iter().map(|key| key.name).chain(SETTING_KEYS.iter().map(|key| key.name));
    let hint = match nearest(word, keys.chain(MADE)) {
        Some(key) => format!("did you mean `{key}`?"),
        None => "`ctl keys` lists the keys".to_owned(),
    };
    Err(hinted(format!("there is no key `{word}`"), hint))
}

fn is_named(effective: &Effective, word: &str) -> bool {
    let group = effective.name.split('.').next();
    effective.name == word || effective.setting == Some(word) || group == Some(word)
}

fn row(node: &Node, effective: &Effective, is_one_of_many: bool) -> Vec<String> {
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let mut from = effective.source.words();
    if let Some(over) = &effective.over {
        from = format!("{from}, over {over}");
    }
    let mut row =
        vec![effective.name.clone(), dash(&effective.value), effective.unit.to_owned(), from];
    if is_one_of_many {
        row.insert(0, node.name.to_string());
    }
    row
}

fn as_json(node: &Node, effective: &Effective) -> Value {
    let at = |at: &tyto_core::config::error::At| json!({ "file": &*at.file, "line": at.line });
    let source = match &effective.source {
        Source::File(place) => at(place),
        Source::Default => json!("default"),
        Source::Made(how) => json!({ "made_of": how }),
    };
    json!({
        "node": node.name, "key": effective.name, "setting": effective.setting,
        "value": effective.value, "unit": effective.unit, "source": source,
        "over": effective.over.as_ref().map(at), "doc": effective.doc,
    })
}

/// What a key is for and what it takes, in both files.
fn describe(report: &mut Report, word: &str) {
    if let Some(key) = node_key(word) {
        report.line(format!("node.cfg: {}; takes {}", key.doc, key.expected));
    }
    if let Some(key) = setting_key(word) {
        report.line(format!("tyto.yaml: {}; takes {}", key.doc, key.kind.expected()));
    }
}
