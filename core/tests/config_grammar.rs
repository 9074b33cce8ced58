//! The grammar of node.cfg is that of Python's configparser: what both read, they read alike,
//! and what one refuses the other refuses.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tyto_core::config::cfg_file::CfgFile;

/// Texts that one run compares.
const TEXTS: usize = 3000;

/// Reads each numbered file of a folder with configparser's defaults and prints what it saw,
/// names and values in hex.
const ORACLE: &str = r#"
import configparser, os, sys
def hexed(text): return text.encode().hex()
folder = sys.argv[1]
for n in range(int(sys.argv[2])):
    parser = configparser.ConfigParser()
    seen = []
    try:
        with open(os.path.join(folder, str(n)), encoding="utf-8") as file:
            parser.read_file(file)
        for section in parser.sections():
            seen.append("[" + hexed(section) + "]")
            seen += [hexed(key) + "=" + hexed(value) for key, value in parser.items(section)]
    except configparser.Error:
        seen = ["refused"]
    print(" ".join(seen))
"#;

/// What we see in a text, printed as the oracle does.
fn seen(text: &str) -> String {
    let mut faults = Vec::new();
    let file = CfgFile::parse("node.cfg", text, &mut faults);
    if !faults.is_empty() {
        return "refused".to_owned();
    }
    let mut words = Vec::new();
    for section in file.sections {
        words.push(format!("[{}]", hexed(&section.name)));
        for entry in section.entries {
            words.push(format!("{}={}", hexed(&entry.key), hexed(&entry.value)));
        }
    }
    words.join(" ")
}

fn hexed(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// Lines that are likely to meet the grammar's corners.
fn line() -> impl Strategy<Value = String> {
    let indent = prop::sample::select(vec!["", "", "", " ", "  ", "\t", "    "]);
    let name = prop::sample::select(vec!["a", "b", "c", "worker-1", "DEFAULT", "x] y", " a"]);
    let key = prop::sample::select(vec!["k", "K", "host", "a.b", "a b", "ä", "Ä", ""]);
    let delimiter = prop::sample::select(vec!["=", ":", " = ", "\t:", ":=", "  =  "]);
    let value = prop::sample::select(vec![
        "",
        "v",
        "a=b",
        "v # no comment",
        "; neither",
        "%%",
        "%",
        "%(k)s",
        "%(HOST)s",
        "%(k)",
        "%()s",
        "x%(k)sy%(k)s",
        "100%%",
        "[b]",
        "é\u{1c}",
        "\u{a0}v\u{a0}",
    ]);
    let body = prop_oneof![
        3 => name.prop_map(|name| format!("[{name}]")),
        8 => (key, delimiter, value).prop_map(|(k, d, v)| format!("{k}{d}{v}")),
        1 => prop::sample::select(vec!["", " ", "# note", "; note", "word", "[]", "[", "]=1", "[a"])
            .prop_map(str::to_owned),
        1 => "[ -~]{0,12}",
    ];
    let end = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\r"]);
    (indent, body, end).prop_map(|(indent, body, end)| format!("{indent}{body}{end}"))
}

#[test]
fn configparser_reads_the_same() {
    let mut runner = TestRunner::default();
    let strategy = prop::collection::vec(line(), 0..9).prop_map(|lines| lines.concat());
    let texts: Vec<String> =
        (0..TEXTS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let folder = tempfile::tempdir().unwrap();
    for (n, text) in texts.iter().enumerate() {
        fs::write(folder.path().join(n.to_string()), text).unwrap();
    }
    let asked = Command::new("python3")
        .args(["-c", ORACLE])
        .arg(folder.path())
        .arg(TEXTS.to_string())
        .output();
    let Ok(answer) = asked else {
        eprintln!("skipped: there is no python3 to compare with");
        return;
    };
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let answer = String::from_utf8(answer.stdout).unwrap();
    let answers: Vec<&str> = answer.lines().collect();
    assert_eq!(answers.len(), TEXTS);
    let read = answers.iter().filter(|answer| **answer != "refused").count();
    assert!(read > TEXTS / 20, "only {read} of {TEXTS} texts were good ones");
    for (text, answer) in texts.iter().zip(answers) {
        assert_eq!(seen(text), answer, "text: {text:?}");
    }
}

#[test]
fn places_are_those_of_the_keys() {
    let text = "# c\n[worker-1]\r\ntype = worker\n  still the value\n\n  HOST: a\n";
    let mut faults = Vec::new();
    let file = CfgFile::parse("node.cfg", text, &mut faults);
    assert_eq!(faults, []);
    let section = &file.sections[0];
    assert_eq!(section.at.to_string(), "node.cfg:2");
    // Deeper than `type`, so the value goes on.
    assert_eq!(section.entries.len(), 1);
    assert_eq!(section.entries[0].value, "worker\nstill the value\n\nHOST: a");
    let indented = CfgFile::parse("node.cfg", "[a]\n  host: b\n", &mut faults);
    let entry = &indented.sections[0].entries[0];
    assert_eq!((entry.key.as_str(), entry.at.line, entry.at.column), ("host", 2, 3));
}

#[test]
fn inherited_keys_come_first_and_keep_their_place() {
    let text = "[a]\nhost=x\ntype=manager\n[DEFAULT]\ntype=worker\nenv_vars=A=%(host)s\n";
    let file = CfgFile::parse("node.cfg", text, &mut Vec::new());
    let entries =
        file.sections[0].entries.iter().map(|e| (e.key.as_str(), e.value.as_str(), e.at.line));
    assert_eq!(
        entries.collect::<Vec<_>>(),
        [("type", "manager", 3), ("env_vars", "A=x", 6), ("host", "x", 2)]
    );
}

/// Ten steps of a hundred references each would be 10^20 without a cap.
#[test]
fn references_without_end_are_a_fault_in_no_time() {
    let mut text = "[a]\n".to_owned();
    for n in 0..9 {
        writeln!(text, "k{n}={}", format!("%(k{})s", n + 1).repeat(100)).unwrap();
    }
    text.push_str("k9=%%\nloop=%(loop)s\n");
    let mut faults = Vec::new();
    CfgFile::parse("node.cfg", &text, &mut faults);
    assert!(faults.iter().any(|fault| fault.to_string().contains("`loop`: references lead")));
    assert!(faults.iter().any(|fault| fault.to_string().contains("`k0`: references lead")));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        CfgFile::parse("node.cfg", &text, &mut Vec::new());
    }
}
