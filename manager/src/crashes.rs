//! What a host keeps of its nodes' last outputs and crashes, read without its supervisor: one
//! script per host, whose answer is parsed here. The files: `supervisor/src/crash.rs`.

use serde::Serialize;
use tyto_core::layout::Layout;

use crate::remote::shell::{quote, quote_path};

/// The name of a crash's folder behind `crash-NODE-`: when it was, and its process. Spelled out,
/// so that the crashes of `worker-1` are not those of `worker-1-2`.
const WHEN: &str = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-*";

/// Files of a crash, in the order that helps most, and the last lines shown of each.
const CRASH_FILES: [(&str, u32); 7] = [
    ("report.txt", 60),
    ("backtrace.txt", 400),
    ("stderr.log", 60),
    ("stdout.log", 30),
    ("stats.txt", 60),
    ("supervisor.log", 30),
    ("config.yaml", 200),
];

/// Files of a node's working folder, and the last lines shown of each.
const OUTPUTS: [(&str, u32); 2] = [("stderr.log", 30), ("stdout.log", 30)];

/// A file, or its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// Its name.
    pub file: String,
    /// Its last lines; none when there is no such file, or nothing in it.
    pub lines: Vec<String>,
}

/// A crash that was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Crash {
    /// Its folder.
    pub dir: String,
    /// How the process ended.
    pub exit: String,
    /// Why, where the supervisor knew.
    pub cause: String,
    /// Its files; of the last crash of a node only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Excerpt>,
}

/// What the disk of its host tells about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Remains {
    /// The node.
    pub node: String,
    /// What it wrote, in this life or its last.
    pub outputs: Vec<Excerpt>,
    /// Its crashes, oldest first.
    pub crashes: Vec<Crash>,
}

/// The script that tells of these nodes; [`parse`] reads what it prints.
pub fn script(layout: &Layout, nodes: &[String]) -> String {
    let words: Vec<String> = nodes.iter().map(|node| quote(node)).collect();
    let show = |files: &[(&str, u32)], dir: &str| -> String {
        files.iter().map(|(file, lines)| format!("show {dir} {file} {lines}; ")).collect()
    };
    // Lines of files begin with a bar, so that none is taken for one of ours.
    format!(
        "show() {{ echo \"file $2\"; [ -s \"$1/$2\" ] || return 0; \
           tail -n \"$3\" \"$1/$2\" | sed 's/^/|/'; echo; }}\n\
         word() {{ sed -n \"s/^$2: //p\" \"$1/report.txt\" 2>/dev/null | head -n 1; }}\n\
         for n in {words}; do\n\
           echo \"node $n\"; d={spool}/$n; {outputs}\n\
           l=; for c in {crashes}/crash-\"$n\"-{WHEN}; do\n\
             [ -d \"$c\" ] || continue; l=$c; echo \"crash $c\"\n\
             echo \"exit $(word \"$c\" exit)\"; echo \"cause $(word \"$c\" cause)\"\n\
           done\n\
           [ -z \"$l\" ] || {{ {files} }}\n\
         done; exit 0",
        words = words.join(" "),
        spool = quote_path(&layout.spool()),
        outputs = show(&OUTPUTS, "\"$d\""),
        crashes = quote_path(&layout.crashes()),
        files = show(&CRASH_FILES, "\"$l\""),
    )
}

/// Reads what [`script`] printed.
pub fn parse(answer: &str) -> Vec<Remains> {
    let mut all: Vec<Remains> = Vec::new();
    for line in answer.lines() {
        if let Some(node) = line.strip_prefix("node ") {
            all.push(Remains { node: node.to_owned(), ..Remains::default() });
        }
        let Some(remains) = all.last_mut() else { continue };
        if let Some(dir) = line.strip_prefix("crash ") {
            remains.crashes.push(Crash { dir: dir.to_owned(), ..Crash::default() });
        }
        let (outputs, crash) = (&mut remains.outputs, remains.crashes.last_mut());
        if let Some(file) = line.strip_prefix("file ") {
            let excerpt = Excerpt { file: file.to_owned(), lines: Vec::new() };
            crash.map_or(outputs, |crash| &mut crash.files).push(excerpt);
        } else if let Some(text) = line.strip_prefix('|') {
            let files = crash.map_or(outputs, |crash| &mut crash.files);
            if let Some(excerpt) = files.last_mut() {
                excerpt.lines.push(text.to_owned());
            }
        } else if let Some(crash) = crash {
            if let Some(exit) = line.strip_prefix("exit ") {
                exit.clone_into(&mut crash.exit);
            } else if let Some(cause) = line.strip_prefix("cause ") {
                // What an earlier version kept has no such line.
                cause.clone_into(&mut crash.cause);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    fn ask(layout: &Layout, nodes: &[&str]) -> Vec<Remains> {
        let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
        let output = Command::new("sh").arg("-c").arg(script(layout, &nodes)).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        parse(&String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn the_last_crash_is_told_whole_and_earlier_ones_by_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("a b"));
        fs::create_dir_all(layout.node_spool("w-1")).unwrap();
        // No line of a file is taken for one of ours, also without a line's end.
        fs::write(layout.node_spool("w-1").join("stderr.log"), "one\nnode w-9\ncrash x").unwrap();
        for (name, exit) in [
            ("crash-w-1-2026-11-20-00-00-01-7", "exit code 1"),
            ("crash-w-1-2026-11-21-00-00-01-8", "signal 9 (SIGKILL)"),
            ("crash-w-1-2-2026-11-22-00-00-01-9", "exit code 2"),
        ] {
            let crash = layout.crashes().join(name);
            fs::create_dir_all(&crash).unwrap();
            let report = format!("node: w\nexit: {exit}\ncause: hung: no report for 15 s\n");
            fs::write(crash.join("report.txt"), report).unwrap();
        }
        let told = ask(&layout, &["w-1", "w-1-2", "w-2"]);
        let nodes: Vec<&str> = told.iter().map(|remains| remains.node.as_str()).collect();
        assert_eq!(nodes, ["w-1", "w-1-2", "w-2"]);
        assert_eq!(told[0].outputs[0].lines, ["one", "node w-9", "crash x"]);
        assert_eq!(told[0].outputs[1].lines, [""; 0]);
        let exits = |n: usize| -> Vec<&str> {
            told[n].crashes.iter().map(|crash| crash.exit.as_str()).collect()
        };
        assert_eq!(exits(0), ["exit code 1", "signal 9 (SIGKILL)"]);
        assert_eq!(exits(1), ["exit code 2"]);
        assert_eq!(exits(2), [""; 0]);
        assert!(told[0].crashes[0].files.is_empty());
        let last = &told[0].crashes[1];
        assert_eq!(last.cause, "hung: no report for 15 s");
        assert_eq!((last.files.len(), last.files[0].file.as_str()), (7, "report.txt"));
        assert_eq!(last.files[0].lines.len(), 3);
    }

    #[test]
    fn a_host_without_anything_tells_that() {
        let layout = Layout::new("/nowhere/at all");
        let told = ask(&layout, &["w-1"]);
        assert_eq!((told.len(), told[0].crashes.len(), told[0].outputs.len()), (1, 0, 2));
    }
}
