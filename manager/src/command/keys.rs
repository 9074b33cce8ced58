//! `ctl keys`: what can be written into node.cfg and tyto.yaml.

use clap::{Arg, ArgMatches};
use serde_json::json;
use tyto_core::config::node_keys::{NODE_KEYS, Scope};
use tyto_core::config::setting_keys::SETTING_KEYS;
use tyto_core::config::settings::Settings;

use super::{Command, Run};
use crate::report::Report;

pub(super) const COMMAND: Command = Command {
    name: "keys",
    summary: "Tells every key of node.cfg and tyto.yaml",
    details: "What each key does, what values it takes and its default. Needs no configuration.",
    args: || {
        vec![
            Arg::new("file")
                .value_name("FILE")
                .value_parser(["node.cfg", "tyto.yaml"])
                .help("Only the keys of this file"),
        ]
    },
    run: Run::Alone(run),
};

fn run(args: &ArgMatches) -> anyhow::Result<Report> {
    let file = args.get_one::<String>("file").map(String::as_str);
    let mut report = Report::new();
    let mut all = Vec::new();
    if file != Some("tyto.yaml") {
        report.line("# node.cfg");
        for key in NODE_KEYS {
            let scope = match key.scope {
                Scope::Any => "all nodes",
                Scope::Capture => "workers and standalone",
                Scope::Worker => "workers",
                Scope::Nothing => "no effect",
            };
            report.line(format!("{} ({scope})", key.name));
            tell(&mut report, key.doc, key.expected, &key.default());
            all.push(json!({
                "file": "node.cfg", "key": key.name, "doc": key.doc,
                "unit": key.unit,
                "expected": key.expected, "default": key.default(),
            }));
        }
    }
    if file != Some("node.cfg") {
        report.line("# tyto.yaml");
        for (key, (_, default)) in SETTING_KEYS.iter().zip(Settings::default().list()) {
            let unit = if key.unit.is_empty() { "" } else { ", in " };
            report.line(format!("{}{unit}{}", key.name, key.unit));
            tell(&mut report, key.doc, &key.kind.expected(), &default);
            all.push(json!({
                "file": "tyto.yaml", "key": key.name, "doc": key.doc, "unit": key.unit,
                "expected": key.kind.expected(), "default": default,
            }));
        }
    }
    report.json(&all);
    Ok(report)
}

fn tell(report: &mut Report, doc: &str, expected: &str, default: &str) {
    report.line(format!("    {doc}"));
    report.line(format!("    takes {expected}"));
    if !default.is_empty() {
        report.line(format!("    default {default}"));
    }
}
