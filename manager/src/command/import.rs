//! `ctl import`: the configuration of a ZeekControl installation becomes one of Tyto's.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use serde_json::json;
use tyto_core::config::cluster::ConfigFile;
use tyto_core::config::import::{Change, Imported, Installation, Note, import};
use tyto_core::config::zeekctl_cfg::ZeekctlCfg;

use super::{Command, Run};
use crate::context::{DEFAULT_ETC, NETWORKS_CFG, NODE_CFG, TYTO_YAML};
use crate::report::{Report, hinted};

pub(super) const COMMAND: Command = Command {
    name: "import",
    summary: "Takes the configuration of a ZeekControl installation over",
    details: "Reads zeekctl.cfg (or broctl.cfg), node.cfg and networks.cfg below PREFIX/etc, or in \
              PREFIX itself, and writes node.cfg, networks.cfg and tyto.yaml. Tells of each option \
              where it went, or why it is left out. The result has passed the same checks as \
              `ctl check`; nothing of the old installation is changed.",
    args: || {
        vec![
            Arg::new("prefix")
                .value_name("PREFIX")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Folder of the installation, such as /opt/zeek, or of its files"),
            Arg::new("out")
                .long("out")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Folder for the new files [default: --etc, TYTO_ETC or /opt/tyto/etc]"),
            Arg::new("force")
                .long("force")
                .action(ArgAction::SetTrue)
                .help("Replace files that are there"),
            Arg::new("plan")
                .long("plan")
                .action(ArgAction::SetTrue)
                .help("Show the files instead of writing them"),
        ]
    },
    run: Run::Alone(run),
};

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The files as they were found.
struct Found {
    zeekctl: Option<(String, String)>,
    nodes: (String, String),
    networks: Option<(String, String)>,
}

fn run(args: &ArgMatches) -> anyhow::Result<Report> {
    let prefix = args.get_one::<PathBuf>("prefix").context("no prefix")?;
    let mut report = Report::new();
    let found = find(prefix, &mut report)?;
    let imported = import(Installation {
        zeekctl: found.zeekctl.as_ref().map(|(name, text)| ConfigFile { name, text }),
        nodes: ConfigFile { name: &found.nodes.0, text: &found.nodes.1 },
        networks: found.networks.as_ref().map(|(name, text)| ConfigFile { name, text }),
    })?;
    let files = [
        (NODE_CFG, imported.node_cfg.as_str()),
        (NETWORKS_CFG, imported.networks_cfg.as_str()),
        (TYTO_YAML, imported.tyto_yaml.as_str()),
    ];
    let out = ["out", "etc"].iter().find_map(|name| args.get_one::<PathBuf>(name)).cloned();
    let out = out.unwrap_or_else(|| DEFAULT_ETC.into());
    tell(&mut report, &imported.notes);
    if args.get_flag("plan") {
        for (name, text) in files {
            report.line(format!("\n==== {}", out.join(name).display()));
            report.raw(text);
        }
    } else {
        write_all(&out, &files, args.get_flag("force"))?;
        report.line(format!("\nwritten to {}: {}", out.display(), files.map(|f| f.0).join(", ")));
        report.line(format!("next: ctl --etc {} check", out.display()));
    }
    report.json(&as_json(&out, &imported, args.get_flag("plan")));
    Ok(report)
}

/// Finds and reads the files.
fn find(prefix: &Path, report: &mut Report) -> anyhow::Result<Found> {
    let folders = [prefix.join("etc"), prefix.to_owned()];
    let names = ["zeekctl.cfg", "broctl.cfg"];
    let zeekctl = folders.iter().flat_map(|dir| names.map(|name| dir.join(name)));
    let zeekctl = first(zeekctl)?;
    let (cfg, beside) = match &zeekctl {
        Some((path, text)) => {
            let folder = Path::new(path).parent().map(Path::to_owned).unwrap_or_default();
            (ZeekctlCfg::parse(path, text), vec![folder])
        }
        None => (ZeekctlCfg::default(), folders.to_vec()),
    };
    let base = prefix.display().to_string();
    let near = |name: &str| beside.iter().map(|dir| dir.join(name)).collect::<Vec<_>>();
    // Beside zeekctl.cfg first: it may be a copy, and the places in it those of the original.
    let mut of_nodes = near(NODE_CFG);
    of_nodes.push(cfg.node_cfg(&base).into());
    let mut of_networks = near(NETWORKS_CFG);
    of_networks.push(cfg.networks_cfg(&base).into());
    let Some(nodes) = first(of_nodes.clone())? else {
        let looked: Vec<String> = of_nodes.iter().map(|p| format!("`{}`", p.display())).collect();
        let text = format!("there is no node.cfg of ZeekControl: looked for {}", looked.join(", "));
        return Err(hinted(text, "ctl import DIR, the folder of zeekctl.cfg and node.cfg"));
    };
    if zeekctl.is_none() {
        report.warn(format!("there is no zeekctl.cfg in `{}`", prefix.display()));
    }
    let elsewhere = Path::new(&cfg.node_cfg(&base)).to_owned();
    if Path::new(&nodes.0) != elsewhere && zeekctl.is_some() && elsewhere.exists() {
        let text = format!("zeekctl.cfg names `{}`; taken is `{}`", elsewhere.display(), nodes.0);
        report.warn(text);
    }
    Ok(Found { zeekctl, nodes, networks: first(of_networks)? })
}

/// Name and text of the first of the files that is there. Bytes that are not UTF-8 are
/// replaced: old files have comments in other encodings.
fn first(paths: impl IntoIterator<Item = PathBuf>) -> anyhow::Result<Option<(String, String)>> {
    for path in paths {
        let shown = path.display().to_string();
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Ok(file) if file.len() > FILE_BYTES_MAX => {
                anyhow::bail!("`{shown}` is larger than 16 MiB");
            }
            _ => {}
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read `{shown}`"))?;
        return Ok(Some((shown, String::from_utf8_lossy(&bytes).into_owned())));
    }
    Ok(None)
}

/// Writes all files, or none when one of them is there with another content.
fn write_all(out: &Path, files: &[(&str, &str)], force: bool) -> anyhow::Result<()> {
    let differs = |(name, text): &&(&str, &str)| match fs::read(out.join(name)) {
        Ok(old) => old != text.as_bytes(),
        Err(error) => error.kind() != ErrorKind::NotFound,
    };
    let there: Vec<String> = files.iter().filter(differs).map(|f| format!("`{}`", f.0)).collect();
    if !there.is_empty() && !force {
        let text = format!("{} in `{}` would be replaced", there.join(", "), out.display());
        return Err(hinted(text, "--plan shows the new files, --force replaces the old ones"));
    }
    let cannot = || format!("cannot write to `{}`", out.display());
    fs::create_dir_all(out).with_context(cannot)?;
    for (name, text) in files {
        write(&out.join(name), text).with_context(cannot)?;
    }
    Ok(())
}

/// Never leaves half a file behind.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn tell(report: &mut Report, notes: &[Note]) {
    let rows = notes.iter().map(|note| {
        let text = match note.change {
            Change::Taken => note.text.clone(),
            change => format!("{}: {}", change.as_str(), note.text),
        };
        vec![note.at.to_string(), note.subject.clone(), text]
    });
    report.table(&["Where", "What", "Now"], rows.collect());
    let count = |change| notes.iter().filter(|note| note.change == change).count();
    report.line(format!(
        "\n{} taken over, {} changed, {} not needed, {} left out; everything else stays as it is",
        count(Change::Taken),
        count(Change::Changed),
        count(Change::NotNeeded),
        count(Change::LeftOut)
    ));
}

fn as_json(out: &Path, imported: &Imported, is_plan: bool) -> serde_json::Value {
    let notes: Vec<_> = imported
        .notes
        .iter()
        .map(|note| {
            json!({
                "file": &*note.at.file, "line": note.at.line, "what": note.subject,
                "change": note.change.as_str(), "text": note.text,
            })
        })
        .collect();
    json!({
        "out": out, "written": !is_plan, "notes": notes,
        "files": {
            NODE_CFG: imported.node_cfg, NETWORKS_CFG: imported.networks_cfg,
            TYTO_YAML: imported.tyto_yaml,
        },
    })
}
