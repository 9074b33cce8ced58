//! The grammar of node.cfg is that of Python's configparser: what both read, they read alike,
//! and what one refuses the other refuses, but for [`DIFFERENCES`]. ZeekControl makes its parser
//! with `configparser.ConfigParser()`, all defaults. zeekctl.cfg has a grammar of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tyto_core::config::cfg_file::CfgFile;
use tyto_core::config::zeekctl_cfg::ZeekctlCfg;

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

/// The corners of the grammar, one by one.
const CORNERS: &[&str] = &[
    "",
    "# only a comment\n",
    "[a]",
    "[a]\nk=v # part of the value\nl=v ; too\n",
    "[a]\nk = v\nl : w\nm=x:y\nn:x=y\n",
    "[a]\nk==v\nl=:v\nm := v\n",
    "[a]\nk=one\n two\n\tthree\nl=x\n",
    "[a]\nk=one\n # a comment inside\n two\n\n three\n\nl=x\n",
    "[a]\n  k=v\n  l=w\n    deeper\n m=x\n",
    "[a]\nk=\nl=\n  on the next line\nm\n",
    "[a]\nk=\nl =   \n",
    "[a]\n=v\n",
    "[a]\nk=v\nK=w\n",
    "[a]\nk=v\n[a]\nl=w\n",
    "[a]\nk=v\n[A]\nk=w\n",
    "[DEFAULT]\nk=v\n[a]\n[b]\nk=w\n",
    "[a]\nl=%(k)s\n[DEFAULT]\nk=v\n[DEFAULT]\nm=x\n",
    "[DEFAULT]\nk=v\nk=w\n[a]\n",
    "[default]\nk=v\n[a]\n",
    "[a]\nk=%(l)s\nl=%(m)s\nm=x%%y\n",
    "[a]\nk=%(nobody)s\n",
    "[a]\nk=%(k)s\n",
    "[a]\nk=50%\n",
    "[a]\r\nk=v\r\n\r\nl=w\r\n",
    "[a]\rk=v\rl=w\r",
    "[a]\tk=v\nk\t=\tv\t\n\tl=w\n",
    " [a]\n k=v\n  [b]\n",
    "[a] # behind a header\nk=v\n[b]]\n[c][d]\n",
    "[]\nk=v\n",
    "[a\nk=v\n",
    "k=v\n[a]\n",
    "; c\n[a]\n;k=v\nl=;w\n",
    "[a]\nrem k=v\nREM=x\n",
    "[a]\nschl\u{fc}ssel=\u{e9}\n\u{3a9}=1\n",
    "[a]\nk=v\u{a0}\nl=\u{2003}w\n\u{1c}m=x\n",
    "[a]\nk=\"quoted\"\nl='too'\n",
];

/// Where we mean to differ: the text, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "\u{feff}[a]\nk=v\n",
        "editors on Windows write a byte order mark; configparser takes it for a part of the first \
         line and says that there is no section",
    ),
    (
        "[a]\nk=%(l)s%(l)s%(l)s%(l)s%(l)s%(l)s%(l)s%(l)s%(l)s%(l)s\n\
         l=%(m)s%(m)s%(m)s%(m)s%(m)s%(m)s%(m)s%(m)s%(m)s%(m)s\n\
         m=%(n)s%(n)s%(n)s%(n)s%(n)s%(n)s%(n)s%(n)s%(n)s%(n)s\n\
         n=%(o)s%(o)s%(o)s%(o)s%(o)s%(o)s%(o)s%(o)s%(o)s%(o)s\n\
         o=%(p)s%(p)s%(p)s\np=%%\n",
        "a value that leads to more than ten thousand references is refused: there is no end to \
         what a few lines can grow to",
    ),
];

/// What a Python program prints of each text, a line for each; none without python3.
fn ask_python(program: &str, texts: &[String]) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    for (n, text) in texts.iter().enumerate() {
        fs::write(folder.path().join(n.to_string()), text).unwrap();
    }
    let asked = Command::new("python3")
        .args(["-c", program])
        .arg(folder.path())
        .arg(texts.len().to_string())
        .output();
    let Ok(answer) = asked else {
        eprintln!("SKIPPED config_grammar: there is no python3; `scripts/setup lab` installs it");
        return None;
    };
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let answer = String::from_utf8(answer.stdout).unwrap();
    let answers: Vec<String> = answer.lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), texts.len());
    Some(answers)
}

/// Texts of some lines each, the same ones in every run.
fn made(line: impl Strategy<Value = String>, count: usize) -> Vec<String> {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(line, 0..9).prop_map(|lines| lines.concat());
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

#[test]
fn configparser_reads_the_same() {
    let mut texts: Vec<String> = CORNERS.iter().map(|&text| text.to_owned()).collect();
    texts.extend(made(line(), TEXTS));
    let Some(answers) = ask_python(ORACLE, &texts) else { return };
    let read = answers.iter().filter(|answer| **answer != "refused").count();
    assert!(read > TEXTS / 20, "only {read} of {TEXTS} texts were good ones");
    for (text, answer) in texts.iter().zip(answers) {
        assert_eq!(seen(text), answer, "text: {text:?}");
    }
}

#[test]
fn each_difference_to_configparser_is_meant() {
    let texts: Vec<String> = DIFFERENCES.iter().map(|(text, _)| (*text).to_owned()).collect();
    let Some(answers) = ask_python(ORACLE, &texts) else { return };
    for ((text, why), answer) in DIFFERENCES.iter().zip(answers) {
        assert_ne!(seen(text), answer, "no difference any more: {why}");
    }
}

/// The rules of zeekctl.cfg as ZeekControl's manual has them; prints what counts in the end.
const ZEEKCTL_ORACLE: &str = r##"
import os, sys
def hexed(text): return text.encode().hex()
for n in range(int(sys.argv[2])):
    options = {}
    with open(os.path.join(sys.argv[1], str(n)), encoding="utf-8") as file:
        for line in map(str.strip, file):
            if line and line[0] != "#" and "=" in line:
                name, value = (part.strip() for part in line.split("=", 1))
                options.pop(name.lower(), None)
                options[name.lower()] = value
    def good(name, value):
        quoted = value[:1] in ("'", '"') and value[-1:] == value[:1]
        plain = all(c in "abcdefghijklmnopqrstuvwxyz0123456789_." for c in name)
        return name and plain and not name[0].isdigit() and not quoted
    print(" ".join(hexed(k) + "=" + hexed(v) for k, v in options.items() if good(k, v)))
"##;

#[test]
fn zeekctl_cfg_is_read_as_its_manual_says() {
    let name = prop::sample::select(vec!["A", "a", "StopTimeout", "x.y", "B_c", "1a", "a b", ""]);
    let space = || prop::sample::select(vec!["", " ", "\t", "  "]);
    let value = prop::sample::select(vec!["", "v", "a = b", "# v", "it's", "${A}", "é"]);
    let option =
        (space(), name, space(), value, space()).prop_map(|(indent, name, gap, value, end)| {
            format!("{indent}{name}{gap}={gap}{value}{end}")
        });
    let other = prop::sample::select(vec!["", "# a=1", "  # b", "word", "\u{feff}"]);
    let line = prop_oneof![5 => option, 1 => other.prop_map(str::to_owned)];
    let end = prop::sample::select(vec!["\n", "\n", "\r\n", "\r"]);
    let line = (line, end).prop_map(|(line, end)| format!("{line}{end}"));
    let texts: Vec<String> =
        made(line, 1000).into_iter().filter(|text| !text.starts_with('\u{feff}')).collect();
    let Some(answers) = ask_python(ZEEKCTL_ORACLE, &texts) else { return };
    for (text, answer) in texts.iter().zip(answers) {
        let cfg = ZeekctlCfg::parse("zeekctl.cfg", text);
        let options = cfg.options.iter();
        let seen: Vec<String> = options
            .map(|o| format!("{}={}", hexed(&o.name.to_lowercase()), hexed(&o.value)))
            .collect();
        assert_eq!(seen.join(" "), answer, "text: {text:?}");
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
