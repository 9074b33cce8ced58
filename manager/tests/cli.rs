//! ctl as an operator or a script meets it: words, streams and exit codes, without any host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tyto_manager::command::COMMANDS;

const CLUSTER: &str = "[DEFAULT]\nhost=10.0.0.1\n[w]\ntype=worker\ninterface=eth0\n\
                       lb_method=af_packet\nlb_procs=2\n[manager]\ntype=manager\n\
                       [proxy-1]\ntype=proxy\n[logger-1]\ntype=logger\nenv_vars=A=1\n";

/// Runs ctl in `folder`, away from the caller's environment.
fn ctl_in(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ctl"))
        .args(args)
        .current_dir(folder)
        .env_remove("TYTO_ETC")
        .output()
        .unwrap()
}

/// Runs ctl with a node.cfg in the working folder.
fn ctl(node_cfg: &str, args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("node.cfg"), node_cfg).unwrap();
    ctl_in(folder.path(), args)
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `.invalid` never has an address (RFC 2606 section 2).
#[test]
fn names_without_an_address_are_told_all_at_once_with_their_lines() {
    let node_cfg = "[manager]\ntype=manager\nhost=one.invalid\n[logger]\ntype=logger\n\
        host=one.invalid\n[proxy]\ntype=proxy\nhost=two.invalid\n\
        [w]\ntype=worker\nhost=two.invalid\ninterface=eth0\n";
    for words in [&["check", "--hosts"][..], &["deploy", "--plan"], &["deploy"]] {
        let output = ctl(node_cfg, words);
        let told = stderr(&output);
        assert_eq!(code(&output), 1, "{told}");
        assert!(told.contains("node.cfg:3: host `one.invalid` has no address"), "{told}");
        assert!(told.contains("node.cfg:9: host `two.invalid` has no address"), "{told}");
        assert!(told.contains("hint: write its address after `host=`"), "{told}");
    }
}

#[test]
fn nodes_come_in_zeekcontrols_order_and_layout() {
    let output = ctl(CLUSTER, &["nodes"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let names: Vec<String> = stdout(&output).lines().map(|line| line[..16].to_owned()).collect();
    assert_eq!(
        names,
        [
            "        logger-1",
            "         manager",
            "         proxy-1",
            "             w-1",
            "             w-2"
        ]
    );
    assert!(stdout(&output).starts_with(
        "        logger-1 - addr=10.0.0.1 af_packet_block_size= af_packet_block_timeout= \
         af_packet_buffer_size= af_packet_checksum_validation_mode= af_packet_enable_defrag= \
         af_packet_enable_fanout= af_packet_enable_hw_timestamping= af_packet_fanout_id= \
         af_packet_fanout_mode= af_packet_link_type= aux_scripts= count=1 env_vars=A=1 ether= \
         host=10.0.0.1 interface= lb_interfaces= lb_method= lb_procs= name=logger-1 pin_cpus= \
         type=logger zeekbase= zone_id=\n"
    ));
}

#[test]
fn an_unknown_node_is_said_as_zeekcontrol_says_it() {
    let output = ctl(CLUSTER, &["check", "w-3"]);
    assert_eq!(code(&output), 1);
    assert_eq!(stdout(&output), "");
    assert_eq!(stderr(&output), "Error: unknown node 'w-3'\nhint: did you mean `w-1`?\n");
    let section = ctl(CLUSTER, &["check", "w"]);
    assert_eq!(
        stderr(&section),
        "Error: unknown node 'w'\nhint: that section makes several nodes, the first is `w-1`\n"
    );
}

#[test]
fn faults_go_to_standard_error_with_exit_code_1() {
    let output = ctl("[a]\ntype=worker\nlb_procs=x\n", &["nodes"]);
    assert_eq!(code(&output), 1);
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    assert!(text.starts_with("ctl: node.cfg:1: node `a`: `host` is missing\nhint: "), "{text}");
    assert!(text.contains("ctl: node.cfg:3: node `a`: `lb_procs` is `x`; expected "), "{text}");
}

#[test]
fn json_is_one_object_for_answers_and_failures_alike() {
    let good = ctl(CLUSTER, &["--json", "nodes"]);
    let answer = json(&good);
    assert_eq!((code(&good), &answer["ok"]), (0, &Value::Bool(true)));
    assert_eq!(answer["command"], "nodes");
    assert_eq!(answer["result"][3]["name"], "w-1");
    assert_eq!(stderr(&good), "");
    let bad = ctl("[a]\ntype=worker\n", &["nodes", "--json"]);
    let answer = json(&bad);
    assert_eq!((code(&bad), &answer["ok"]), (1, &Value::Bool(false)));
    assert_eq!(answer["errors"][0]["file"], "node.cfg");
    assert_eq!(answer["errors"][0]["line"], 1);
    assert_eq!(stderr(&bad), "");
}

#[test]
fn every_verb_answers_in_json_when_it_fails() {
    let folder = tempfile::tempdir().unwrap();
    for command in COMMANDS.iter().filter(|command| command.needs_cluster()) {
        let etc = folder.path().display().to_string();
        let output = ctl_in(folder.path(), &["--json", "--etc", &etc, command.name]);
        // A verb with an argument that it must have complains about that first.
        let is_usage = stderr(&output).contains("Usage: ");
        assert_eq!(code(&output), 1, "{}", command.name);
        assert!(is_usage || json(&output)["command"] == command.name, "{}", command.name);
    }
}

#[test]
fn warnings_do_not_touch_the_exit_code_or_standard_output() {
    let output = ctl("[zeek]\ntype=standalone\nhost=localhost\naux_scripts=a\n", &["config"]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("\nstandalone = true\n"));
    assert!(!stdout(&output).contains("Warning"));
    assert_eq!(
        stderr(&output),
        "Warning: node.cfg:4: node `zeek`: `aux_scripts` has no effect: Tyto runs no Zeek scripts\n\
         Warning: node.cfg:1: node `zeek` has no `interface` and captures nothing\n"
    );
}

#[test]
fn the_files_are_found_by_option_by_environment_and_in_the_working_folder() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, port) in [(&here, "port: 2000\n"), (&there, "port: 3000\n")] {
        fs::write(folder.path().join("node.cfg"), CLUSTER).unwrap();
        fs::write(folder.path().join("tyto.yaml"), port).unwrap();
    }
    let port = |output: &Output| json(output)["result"]["port"].as_str().unwrap().to_owned();
    let other = there.path().to_str().unwrap();
    assert_eq!(port(&ctl_in(here.path(), &["--json", "config"])), "2000");
    assert_eq!(port(&ctl_in(here.path(), &["--json", "--etc", other, "config"])), "3000");
    let by_environment = Command::new(env!("CARGO_BIN_EXE_ctl"))
        .args(["config", "--json"])
        .current_dir(here.path())
        .env("TYTO_ETC", other)
        .output()
        .unwrap();
    assert_eq!(port(&by_environment), "3000");
    let empty = tempfile::tempdir().unwrap();
    let none = ctl_in(here.path(), &["--etc", empty.path().to_str().unwrap(), "nodes"]);
    assert_eq!(code(&none), 1);
    assert!(stderr(&none).starts_with("Error: there is no node.cfg in `"), "{}", stderr(&none));
    assert!(stderr(&none).contains("hint: cp node.cfg.example "));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("node.cfg"), CLUSTER).unwrap();
    fs::write(folder.path().join("tyto.yaml"), b"cluster: \xff\n").unwrap();
    let output = ctl_in(folder.path(), &["config"]);
    assert_eq!(code(&output), 1);
    assert_eq!(
        stderr(&output),
        "Error: cannot read `./tyto.yaml`: stream did not contain valid UTF-8\n"
    );
}

#[test]
fn wrong_words_are_exit_code_1_and_help_is_0() {
    assert_eq!(code(&ctl(CLUSTER, &["frobnicate"])), 1);
    assert_eq!(code(&ctl(CLUSTER, &["nodes", "--no-such-option"])), 1);
    assert_eq!(code(&ctl(CLUSTER, &[])), 1);
    for args in [&["--help"][..], &["help"], &["--version"], &["help", "check"]] {
        let output = ctl(CLUSTER, args);
        assert_eq!(code(&output), 0, "{args:?}");
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn help_and_completions_know_every_verb_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let help = stdout(&ctl_in(folder.path(), &["--help"]));
    for command in COMMANDS {
        let line = help.lines().find(|line| line.trim_start().starts_with(command.name));
        assert!(line.is_some_and(|line| line.ends_with(command.summary)), "{}", command.name);
    }
    assert!(help.contains("Exit codes:"));
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&ctl_in(folder.path(), &["completions", shell]));
        let missing = COMMANDS.iter().find(|command| !script.contains(command.name));
        assert!(missing.is_none(), "{shell}: {missing:?}");
    }
}

#[test]
fn keys_tells_all_keys_of_both_files_without_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let output = ctl_in(folder.path(), &["keys"]);
    assert_eq!(code(&output), 0);
    let text = stdout(&output);
    assert!(text.contains("lb_procs (workers)\n"));
    assert!(text.contains("ssh.connect_timeout_s, in seconds\n"));
    let only = stdout(&ctl_in(folder.path(), &["keys", "node.cfg"]));
    assert!(only.contains("lb_procs") && !only.contains("ssh."));
}

/// Nothing else than ctl and its programs is needed: check names each that is missing once.
#[test]
fn check_names_the_programs_that_are_missing_beside_ctl() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ctl");
    // Copied by a process of its own: a file open for writing here would be handed on to what
    // other tests start meanwhile, and could not be run ("text file busy").
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_ctl")).arg(&program).status();
    assert!(copied.unwrap().success());
    fs::write(folder.path().join("node.cfg"), CLUSTER).unwrap();
    let output = Command::new(&program)
        .arg("check")
        .current_dir(folder.path())
        .env_remove("TYTO_ETC")
        .output()
        .unwrap();
    assert_eq!(code(&output), 1);
    assert_eq!(
        stdout(&output),
        "logger-1 failed.\nmanager failed.\nproxy-1 failed.\nw-1 failed.\nw-2 failed.\n"
    );
    for name in ["supervisor", "logger", "manager", "proxy", "worker"] {
        let text = stderr(&output);
        let path = format!("{}/{name}`", folder.path().canonicalize().unwrap().display());
        assert_eq!(text.matches(&path).count(), 1, "{name}: {text}");
    }
}

/// ZeekControl's code for Ctrl-C is 1 too; what ran on this host is ended with ctl.
#[test]
fn an_interrupt_ends_the_command_with_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let standalone = "[zeek]\ntype=standalone\nhost=localhost\ninterface=lo\n";
    fs::write(folder.path().join("node.cfg"), standalone).unwrap();
    let began = folder.path().join("began");
    let script = format!("echo $$ >{0}.new && mv {0}.new {0} && exec sleep 60", began.display());
    let child = Command::new(env!("CARGO_BIN_EXE_ctl"))
        .args(["exec", &script])
        .current_dir(folder.path())
        .env_remove("TYTO_ETC")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the command runs", || began.exists());
    let pid = fs::read_to_string(&began).unwrap().trim().to_owned();
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), stderr(&output).as_str()), (1, "Error: interrupted\n"));
    let process = Path::new("/proc").join(&pid).join("cmdline");
    // A process that has ended and was not yet waited for has an empty command line.
    wait_until("the command is gone", || fs::read(&process).unwrap_or_default().is_empty());
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited 10 s and still not: {what}");
}
