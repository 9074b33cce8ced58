//! The invariants of the tree (ARCHITECTURE.md) that can be read from its sources and from
//! `cargo metadata`. Each test names every place that breaks its rule.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use tyto_tests::tree;

/// Lines of a file at most; a longer one says why: `//! Longer than 500 lines: …`.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function at most; a longer one says why: `// Longer than 70 lines: …` inside.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a main at most: daemons are libraries.
const MAIN_LINES_MAX: usize = 40;

/// Each package of ours and which of ours it may depend on, tests included. Dependencies point
/// one way, and no daemon knows another.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("tyto-derive", &[]),
    ("tyto-core", &["tyto-derive"]),
    ("tyto-proto", &["tyto-core"]),
    // The model of a disk is for tests.
    ("tyto-writer", &["tyto-core", "tyto-model-disk"]),
    ("tyto-model-disk", &["tyto-writer"]),
    ("tyto-reader", &["tyto-core", "tyto-writer"]),
    ("tyto-capture", &["tyto-core"]),
    ("tyto-daemon", &["tyto-core", "tyto-proto"]),
    ("tyto-supervisor", &["tyto-core", "tyto-capture", "tyto-proto", "tyto-daemon", "tyto-reader"]),
    (
        "tyto-worker",
        &[
            "tyto-core",
            "tyto-capture",
            "tyto-proto",
            "tyto-daemon",
            "tyto-writer",
            "tyto-model-disk",
        ],
    ),
    ("tyto-logger", &["tyto-core", "tyto-proto", "tyto-daemon", "tyto-writer", "tyto-reader"]),
    ("tyto-proxy", &["tyto-core", "tyto-proto", "tyto-daemon"]),
    ("tyto-manager", &["tyto-core", "tyto-proto", "tyto-daemon"]),
];

/// The packet thread's folders: never async, no lock, no wall clock.
const PACKET_PATH: [&str; 7] =
    ["capture", "decode", "flow", "reassembly", "analyzer", "file", "log"];

/// The one place with unsafe code; another needs a sentence in ARCHITECTURE.md that names the file.
const UNSAFE_HOME: &str = "core/capture/src/";

#[test]
fn dependencies_point_one_way_and_no_daemon_knows_another() -> Result<()> {
    let metadata = metadata()?;
    let mut broken = Vec::new();
    for package in packages(&metadata)? {
        let name = text(package, "name")?;
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(ours, _)| *ours == name) else {
            // The package of the tests sees all.
            if name != "tyto-tests" {
                broken.push(format!("`{name}` is new: give it a line in MAY_DEPEND_ON"));
            }
            continue;
        };
        for dependency in package["dependencies"].as_array().context("no dependencies")? {
            let on = text(dependency, "name")?;
            if on.starts_with("tyto-") && !allowed.contains(&on) {
                broken.push(format!("`{name}` depends on `{on}`"));
            }
        }
    }
    none(&broken)
}

#[test]
fn core_is_pure() -> Result<()> {
    const IMPURE: [&str; 9] = [
        "std::fs",
        "std::process",
        "std::thread",
        "TcpStream",
        "UdpSocket",
        "tokio",
        "async fn",
        "SystemTime::now",
        "Instant::now",
    ];
    let lib = fs::read_to_string(tree::root().join("core/src/lib.rs"))?;
    ensure!(lib.contains("#![forbid(unsafe_code)]"), "core/src/lib.rs does not forbid unsafe code");
    none(&mentions(&sources_below("core/src")?, &IMPURE)?)
}

#[test]
fn the_packet_thread_never_waits_and_never_asks_the_wall_clock() -> Result<()> {
    const FORBIDDEN: [&str; 11] = [
        "async ",
        ".await;",
        ".await?",
        ".await)",
        ".await.",
        "Mutex",
        "RwLock",
        "tokio",
        "SystemTime::now",
        "Instant::now",
        "Utc::now",
    ];
    let mut broken = Vec::new();
    for folder in PACKET_PATH {
        broken.extend(mentions(&sources_below(&format!("worker/src/{folder}"))?, &FORBIDDEN)?);
    }
    none(&broken)
}

#[test]
fn analyzers_speak_to_their_output_only() -> Result<()> {
    let analyzers = sources_below("worker/src/analyzer")?;
    none(&mentions(&analyzers, &["crate::ship", "crate::capture", "crate::store"])?)
}

/// A protocol that carries another asks for it by name (`analyzer::spec`).
#[test]
fn analyzers_do_not_know_each_other() -> Result<()> {
    let folder = tree::root().join("worker/src/analyzer");
    let mut protocols = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let is_protocol = fs::read_to_string(path.join("mod.rs"))
            .is_ok_and(|source| source.contains(": Spec = Spec {"));
        if is_protocol {
            protocols.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    ensure!(!protocols.is_empty(), "no analyzer in {}", folder.display());
    let mut broken = Vec::new();
    for protocol in &protocols {
        let sources = sources_below(&format!("worker/src/analyzer/{protocol}"))?;
        for other in protocols.iter().filter(|other| *other != protocol) {
            broken.extend(mentions(&sources, &[&format!("analyzer::{other}::")])?);
        }
    }
    none(&broken)
}

#[test]
fn unsafe_code_has_one_home() -> Result<()> {
    let architecture = fs::read_to_string(tree::root().join("ARCHITECTURE.md"))?;
    let mut broken = Vec::new();
    for path in sources()? {
        let name = relative(&path);
        let explained = architecture.contains(&format!("`{name}`"));
        if !name.starts_with(UNSAFE_HOME) && !explained {
            let mut finder = Unsafe::default();
            finder.visit_file(&parse(&path)?);
            broken.extend(finder.lines.iter().map(|line| format!("{name}:{line}: unsafe")));
        }
    }
    none(&broken)
}

#[test]
fn files_and_functions_can_be_read_in_one_go() -> Result<()> {
    let mut broken = Vec::new();
    for path in sources()? {
        let (name, source) = (relative(&path), fs::read_to_string(&path)?);
        let lines: Vec<&str> = source.lines().collect();
        if lines.len() > FILE_LINES_MAX && !source.contains("//! Longer than 500 lines: ") {
            broken.push(format!("{name}: {} lines", lines.len()));
        }
        let mut functions = Functions::default();
        functions.visit_file(&parse(&path)?);
        for (function, first, last) in functions.found {
            let body = lines.get(first - 1..last).unwrap_or_default();
            let explained = body.iter().any(|line| line.contains("// Longer than 70 lines: "));
            if body.len() > FUNCTION_LINES_MAX && !explained {
                broken.push(format!("{name}:{first}: `{function}` has {} lines", body.len()));
            }
        }
    }
    none(&broken)
}

#[test]
fn every_file_is_named_for_an_idea() -> Result<()> {
    const NAMES: [&str; 8] =
        ["util", "utils", "common", "helper", "helpers", "misc", "shared", "prelude"];
    let vague = |path: &PathBuf| {
        path.iter().any(|part| NAMES.contains(&part.to_string_lossy().trim_end_matches(".rs")))
    };
    let paths: Vec<PathBuf> = sources()?.iter().map(|path| PathBuf::from(relative(path))).collect();
    none(
        &paths
            .iter()
            .filter(|path| vague(path))
            .map(|p| p.display().to_string())
            .collect::<Vec<_>>(),
    )
}

#[test]
fn every_package_keeps_the_house_lints() -> Result<()> {
    let metadata = metadata()?;
    let mut broken = Vec::new();
    for package in packages(&metadata)? {
        let manifest = fs::read_to_string(text(package, "manifest_path")?)?;
        if !manifest.contains("[lints]\nworkspace = true") {
            broken.push(text(package, "name")?.to_owned());
        }
    }
    none(&broken)
}

#[test]
fn mains_are_short() -> Result<()> {
    let is_main = |name: &str| name.ends_with("src/main.rs") || name.contains("/src/bin/");
    let mut broken = Vec::new();
    let mut mains = 0;
    for path in sources()?.iter().filter(|path| is_main(&relative(path))) {
        mains += 1;
        let lines = fs::read_to_string(path)?.lines().count();
        if lines > MAIN_LINES_MAX {
            broken.push(format!("{}: {lines} lines", relative(path)));
        }
    }
    ensure!(mains == 6, "{mains} mains found, there are six programs");
    none(&broken)
}

#[test]
fn every_source_file_says_what_it_is() -> Result<()> {
    let mut broken = Vec::new();
    for path in sources()? {
        let source = fs::read_to_string(&path)?;
        if !source.starts_with("//! ") {
            broken.push(relative(&path));
        }
    }
    none(&broken)
}

/// Lines with unsafe blocks, functions, impls or traits.
#[derive(Default)]
struct Unsafe {
    lines: BTreeSet<usize>,
}

impl<'ast> Visit<'ast> for Unsafe {
    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.lines.insert(block.span().start().line);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.lines.extend(signature.unsafety.map(|word| word.span().start().line));
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.lines.extend(item.unsafety.map(|word| word.span().start().line));
        visit::visit_item_impl(self, item);
    }
}

/// Name, first and last line of every function.
#[derive(Default)]
struct Functions {
    found: Vec<(String, usize, usize)>,
}

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        self.found.push((signature.ident.to_string(), first, last));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }
}

fn metadata() -> Result<Value> {
    let words = ["cargo", "metadata", "--no-deps", "--offline", "--format-version=1"];
    let output = std::process::Command::new(words[0])
        .args(&words[1..])
        .current_dir(tree::root())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn packages(metadata: &Value) -> Result<&Vec<Value>> {
    metadata["packages"].as_array().context("cargo metadata lists no packages")
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("no `{key}` in {value}"))
}

/// Every Rust source of the tree, sorted.
fn sources() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let packages = ["core", "proto", "manager", "supervisor", "worker", "logger", "proxy", "tests"];
    for package in packages {
        found.extend(sources_below(package)?);
    }
    Ok(found)
}

fn sources_below(folder: &str) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![tree::root().join(folder)]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn parse(path: &Path) -> Result<syn::File> {
    syn::parse_file(&fs::read_to_string(path)?).with_context(|| relative(path))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(tree::root()).unwrap_or(path).display().to_string()
}

/// Where one of these words stands in code: comments and the tests at a file's end do not count.
fn mentions(paths: &[PathBuf], words: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in paths {
        let is_test = relative(path).ends_with("tests.rs") || relative(path).contains("/tests/");
        if is_test {
            continue;
        }
        for (at, line) in fs::read_to_string(path)?.lines().enumerate() {
            if line.trim() == "#[cfg(test)]" {
                break;
            }
            let code = line.split("//").next().unwrap_or_default();
            for word in words.iter().filter(|word| code.contains(**word)) {
                found.push(format!("{}:{}: {word}", relative(path), at + 1));
            }
        }
    }
    Ok(found)
}

fn none(broken: &[String]) -> Result<()> {
    ensure!(broken.is_empty(), "{} places:\n{}", broken.len(), broken.join("\n"));
    Ok(())
}
