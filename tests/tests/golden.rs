//! Whole logs of recorded captures: `worker --read` writes what lies in `expect/`, byte for byte.
//! `make golden` rewrites the expected logs; the difference is reviewed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tyto_tests::program::run;
use tyto_tests::tree;

/// Time for one capture.
const LIMIT: Duration = Duration::from_secs(60);
/// Lines shown of a difference.
const SHOWN: usize = 5;

#[test]
fn every_golden_capture_gives_its_expected_logs() -> Result<()> {
    let golden = tree::root().join("tests/golden");
    let mut cases = 0;
    for entry in fs::read_dir(&golden)? {
        let case = entry?.path();
        if !case.is_dir() {
            continue;
        }
        cases += 1;
        let (expected, found) = (logs(&case.join("expect"))?, read(&case.join("in.pcap"))?);
        let names = |logs: &BTreeMap<String, String>| logs.keys().cloned().collect::<Vec<_>>();
        ensure!(names(&expected) == names(&found), "{case:?}: logs {:?}", names(&found));
        for (name, expected) in &expected {
            same(&format!("{}/{name}", case.display()), expected, &found[name])?;
        }
    }
    ensure!(cases > 0, "there are no cases in {}", golden.display());
    Ok(())
}

/// The log of a capture does not depend on when and where it is read.
#[test]
fn reading_a_capture_twice_gives_the_same_bytes() -> Result<()> {
    ensure!(read(&tree::lab_capture())? == read(&tree::lab_capture())?, "two runs differ");
    Ok(())
}

fn read(capture: &Path) -> Result<BTreeMap<String, String>> {
    let dir = tempfile::tempdir()?;
    let program = tree::program("worker").display().to_string();
    let (capture, out) = (capture.display().to_string(), dir.path().display().to_string());
    // What a case needs besides the defaults, such as a log that is written when asked for.
    let flags = fs::read_to_string(Path::new(&capture).with_file_name("flags")).unwrap_or_default();
    let mut words = vec![program.as_str(), "--read", &capture, "--log-dir", &out];
    let case = Path::new(&capture).parent().unwrap_or(Path::new(".")).display().to_string();
    let flags = flags.replace("CASE", &case);
    words.extend(flags.split_whitespace());
    run(&words, LIMIT)?.ok()?;
    logs(dir.path())
}

fn logs(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut logs = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        logs.insert(name, fs::read_to_string(&path)?);
    }
    Ok(logs)
}

fn same(what: &str, expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let pairs = expected.lines().zip(found.lines()).enumerate();
    let differ: Vec<String> = pairs
        .filter(|(_, (expected, found))| expected != found)
        .take(SHOWN)
        .map(|(at, (expected, found))| format!("{}:\n- {expected}\n+ {found}", at + 1))
        .collect();
    let (lines, expected_lines) = (found.lines().count(), expected.lines().count());
    anyhow::bail!("{what}: {lines} lines, expected {expected_lines}\n{}", differ.join("\n"))
}
