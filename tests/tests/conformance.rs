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
/// Rows of conn.log that must be equal in every field, per cent (issue 2).
const CONN_ROWS_EQUAL_MIN: f64 = 95.0;

#[test]
fn conn_log_is_zeeks() -> Result<()> {
    let score = tree::root().join("../shared/bin/score-conformance");
    if !score.exists() || !tree::conformance().is_dir() {
        tree::skipped("conn_log_is_zeeks", "there is no ../shared/conformance beside the tree");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let figures = dir.path().join("figures.json");
    let command = format!(
        "{} --read {{pcap}} --log-dir {{out}} --ignore-checksums --community-id",
        tree::program("worker").display()
    );
    let words = [
        score.display().to_string(),
        tree::conformance().display().to_string(),
        "--cmd".to_owned(),
        command,
        "--logs".to_owned(),
        "conn,known_hosts".to_owned(),
        "--ignore".to_owned(),
        "conn.service".to_owned(),
        "--json".to_owned(),
        figures.display().to_string(),
    ];
    let said = run(&words, LIMIT)?;
    let last: Vec<&str> = said.stdout.lines().rev().take(1).collect();
    eprintln!("conformance: {}", last.join("\n"));
    ensure!(said.code == 0, "a case crashed:\n{}{}", said.stdout, said.stderr);
    let figures: Value = serde_json::from_str(&fs::read_to_string(&figures)?)?;
    ensure!(figures["faults"] == 0, "{} cases with faults:\n{}", figures["faults"], said.stdout);
    let rows = |key: &str| figures["logs"]["conn"][key].as_f64().context("no figures of conn");
    let equal = 100.0 * rows("equal")? / rows("ref")?.max(1.0);
    ensure!(equal >= CONN_ROWS_EQUAL_MIN, "{equal:.2} % of conn rows are equal:\n{}", said.stdout);
    Ok(())
}
