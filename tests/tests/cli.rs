//! What a person meets at the command line: help, exit codes, and messages that say what to type.
//! The programs are those of `make build`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tyto_tests::program::{Outcome, run};
use tyto_tests::tree;

/// Time for a call that talks to no host.
const LIMIT: Duration = Duration::from_secs(20);
/// The verbs that issue 2 asks for.
const VERBS: [&str; 13] = [
    "install", "deploy", "start", "stop", "restart", "status", "nodes", "config", "check", "exec",
    "ledger", "process", "logs",
];

fn ctl(etc: &Path, words: &[&str]) -> Result<Outcome> {
    let program = tree::program("ctl").display().to_string();
    let etc = etc.display().to_string();
    let mut all = vec![program.as_str(), "--etc", &etc];
    all.extend(words);
    run(&all, LIMIT)
}

fn worker(words: &[&str]) -> Result<Outcome> {
    let program = tree::program("worker").display().to_string();
    let mut all = vec![program.as_str()];
    all.extend(words);
    run(&all, LIMIT)
}

/// A folder with the shipped examples as the operator's configuration.
fn example() -> Result<tempfile::TempDir> {
    let etc = tempfile::tempdir()?;
    for file in ["node.cfg", "networks.cfg", "tyto.yaml"] {
        fs::copy(tree::root().join(format!("{file}.example")), etc.path().join(file))?;
    }
    Ok(etc)
}

#[test]
fn help_names_every_verb_and_says_what_the_exit_codes_mean() -> Result<()> {
    let etc = example()?;
    let help = ctl(etc.path(), &["--help"])?.ok()?.stdout;
    for verb in VERBS {
        ensure!(help.contains(&format!("\n  {verb} ")), "`ctl --help` does not list `{verb}`");
        ctl(etc.path(), &[verb, "--help"])?.ok()?;
    }
    ensure!(help.contains("Exit codes"), "`ctl --help` does not tell its exit codes");
    Ok(())
}

#[test]
fn every_program_tells_its_version_and_its_help() -> Result<()> {
    for name in ["ctl", "manager", "supervisor", "worker", "logger", "proxy"] {
        let program = tree::program(name).display().to_string();
        let version = run(&[program.as_str(), "--version"], LIMIT)?.ok()?.stdout;
        ensure!(version.contains("0.1.0"), "`{name} --version` says `{}`", version.trim());
        run(&[program.as_str(), "--help"], LIMIT)?.ok()?;
    }
    Ok(())
}

#[test]
fn the_shipped_examples_are_a_configuration() -> Result<()> {
    let etc = example()?;
    ctl(etc.path(), &["check"])?.ok()?;
    let nodes = ctl(etc.path(), &["--json", "nodes"])?.ok()?.json()?;
    ensure!(nodes["ok"] == true, "{nodes:#}");
    Ok(())
}

#[test]
fn a_word_that_is_no_verb_ends_with_exit_code_1_and_the_nearest_verb() -> Result<()> {
    let said = ctl(example()?.path(), &["statsu"])?.ended_with(1)?.stderr;
    ensure!(said.contains("status"), "{said}");
    Ok(())
}

#[test]
fn an_unknown_node_ends_with_exit_code_1_and_a_hint() -> Result<()> {
    let said = ctl(example()?.path(), &["status", "worker-77"])?.ended_with(1)?.stderr;
    ensure!(said.contains("unknown node 'worker-77'") && said.contains("hint: "), "{said}");
    Ok(())
}

#[test]
fn without_a_configuration_ctl_says_where_it_looked_and_what_to_type() -> Result<()> {
    let empty = tempfile::tempdir()?;
    let said = ctl(empty.path(), &["status"])?.ended_with(1)?.stderr;
    let place = empty.path().display().to_string();
    ensure!(said.contains(&place) && said.contains("hint: cp node.cfg.example"), "{said}");
    Ok(())
}

#[test]
fn all_faults_of_the_files_are_told_at_once_with_file_and_line() -> Result<()> {
    let etc = example()?;
    let node_cfg = "\
[manager]\ntype=manager\nhost=10.99.0.1\n\n[proxy-1]\ntype=proxy\nhost=10.99.0.1\n\n\
[worker-1]\ntype=worker\nhost=10.99.0.2\ninterface=eth0\nlb_method=af_packet\nlb_procs=four\n";
    fs::write(etc.path().join("node.cfg"), node_cfg)?;
    fs::write(etc.path().join("networks.cfg"), "10.0.0.0/40 nonsense\n")?;
    fs::write(etc.path().join("tyto.yaml"), "cluster: x\nlog_fromat: tsv\n")?;
    let said = ctl(etc.path(), &["check"])?.ended_with(1)?.stderr;
    for part in ["ctl: node.cfg:14: ", "`four`", "networks.cfg:1", "tyto.yaml:2", "log_format"] {
        ensure!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    Ok(())
}

#[test]
fn json_answers_are_one_object_also_for_errors() -> Result<()> {
    let answer = ctl(example()?.path(), &["--json", "status", "nobody"])?.ended_with(1)?.json()?;
    ensure!(answer["ok"] == false, "{answer:#}");
    ensure!(answer["errors"][0]["message"] == "unknown node 'nobody'", "{answer:#}");
    Ok(())
}

#[test]
fn the_worker_names_the_capture_it_cannot_read() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().display().to_string();
    let said = worker(&["--read", "/nowhere/x.pcap", "--log-dir", &out])?;
    ensure!(said.code != 0 && said.stderr.contains("/nowhere/x.pcap"), "{said:?}");
    let garbage = dir.path().join("garbage.pcap");
    fs::write(&garbage, "this is no capture, not at all")?;
    let said = worker(&["--read", &garbage.display().to_string(), "--log-dir", &out])?;
    ensure!(said.code != 0 && said.stderr.contains("garbage.pcap"), "{said:?}");
    Ok(())
}
