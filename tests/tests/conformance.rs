//! Zeek's own logs of a thousand public captures, row by row. The captures lie beside the tree
//! (`../shared/conformance`) and are no part of it: without them this test says that it was skipped.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tyto_tests::program::run;
use tyto_tests::tree;

/// Time for all captures.
const LIMIT: Duration = Duration::from_secs(900);
/// Rows that must be equal in every field, per cent: of conn.log, and of all logs together.
const CONN_ROWS_EQUAL_MIN: f64 = 99.5;
/// See [`CONN_ROWS_EQUAL_MIN`].
const ROWS_EQUAL_MIN: f64 = 98.0;
/// Rows that Zeek does not have, per cent of its rows.
const EXTRA_ROWS_MAX: f64 = 1.0;

/// Protocols that Zeek analyses and the Zeek of the reference was built without (its Spicy ones).
const NOT_IN_REFERENCE: [&str; 5] = ["QUIC", "LDAP_TCP", "LDAP_UDP", "REDIS", "POSTGRESQL"];

#[test]
fn logs_are_zeeks() -> Result<()> {
    let score = tree::root().join("../shared/bin/score-conformance");
    if !score.exists() || !tree::conformance().is_dir() {
        tree::skipped("logs_are_zeeks", "there is no ../shared/conformance beside the tree");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let figures = dir.path().join("figures.json");
    let disabled: String =
        NOT_IN_REFERENCE.iter().map(|name| format!(" --disable-analyzer {name}")).collect();
    let command = format!(
        "{} --read {{pcap}} --log-dir {{out}} --ignore-checksums --community-id{disabled}",
        tree::program("worker").display()
    );
    let words = [
        score.display().to_string(),
        tree::conformance().display().to_string(),
        "--cmd".to_owned(),
        command,
        "--json".to_owned(),
        figures.display().to_string(),
    ];
    let said = run(&words, LIMIT)?;
    eprintln!("conformance: {}", said.stdout.lines().last().unwrap_or_default());
    ensure!(said.code == 0, "a case crashed:\n{}{}", said.stdout, said.stderr);
    let figures: Value = serde_json::from_str(&fs::read_to_string(&figures)?)?;
    ensure!(figures["faults"] == 0, "{} cases with faults:\n{}", figures["faults"], said.stdout);
    let logs = figures["logs"].as_object().context("no figures of the logs")?;
    let sum = |key: &str| logs.values().filter_map(|log| log[key].as_f64()).sum::<f64>();
    let conn = |key: &str| logs["conn"][key].as_f64().context("no figures of conn");
    let equal = 100.0 * conn("equal")? / conn("ref")?.max(1.0);
    ensure!(equal >= CONN_ROWS_EQUAL_MIN, "{equal:.2} % of conn rows are equal:\n{}", said.stdout);
    let equal = 100.0 * sum("equal") / sum("ref").max(1.0);
    ensure!(equal >= ROWS_EQUAL_MIN, "{equal:.2} % of all rows are equal:\n{}", said.stdout);
    let extra = 100.0 * sum("extra") / sum("ref").max(1.0);
    ensure!(extra < EXTRA_ROWS_MAX, "{extra:.2} % rows are extra:\n{}", said.stdout);
    Ok(())
}
