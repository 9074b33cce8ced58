//! `ctl process`: a capture file through the analysis of this cluster's configuration, on this
//! machine, without any node.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use clap::{Arg, ArgMatches, value_parser};
use serde_json::json;
use tokio::process::Command as Process;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::{ChecksumMode, LogFormats, Role};

use super::{Command, Run};
use crate::context::Context;
use crate::report::{Report, hinted};

pub(super) const COMMAND: Command = Command {
    name: "process",
    summary: "Analyses a capture file here and writes its logs",
    details: "Runs the worker beside this ctl on the file, with the configuration of the first \
              worker or of the standalone node, its filter included. The logs are in \
              spool/tmp/testing below the prefix, or where --log-dir says; those of an earlier run \
              are removed first.",
    args: || {
        let path = || value_parser!(PathBuf);
        vec![
            Arg::new("trace")
                .value_name("FILE")
                .required(true)
                .value_parser(path())
                .help("Capture file"),
            Arg::new("log-dir")
                .long("log-dir")
                .value_name("DIR")
                .value_parser(path())
                .help("Folder for the logs"),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let trace = args.get_one::<PathBuf>("trace").context("no capture file")?;
    if !trace.is_file() {
        anyhow::bail!("there is no file `{}`", trace.display());
    }
    let dir = match args.get_one::<PathBuf>("log-dir") {
        Some(dir) => dir.clone(),
        None => ctx.layout.spool().join("tmp/testing"),
    };
    empty(&dir, args.contains_id("log-dir"))?;
    let node = ctx.cluster.ordered().into_iter().rfind(is_first_worker);
    let program = ctx.bin.join("worker");
    let mut worker = Process::new(&program);
    worker.arg("--read").arg(trace).arg("--log-dir").arg(&dir).args(options(ctx, node));
    let own = node.and_then(|node| node.capture.filter.as_ref());
    if let Some(filter) = own.or(ctx.cluster.settings.filter.as_ref()) {
        worker.arg(format!("--filter={filter}"));
    }
    worker.args(ctx.cluster.networks.iter().map(|network| format!("--local-net={}", network.net)));
    worker.stdin(Stdio::null()).kill_on_drop(true);
    let output =
        worker.output().await.with_context(|| format!("cannot run `{}`", program.display()))?;
    let mut report = Report::new();
    report.raw(String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        report.error(format!("the worker ended with {}: {}", output.status, said.trim()));
    } else if !said.trim().is_empty() {
        report.warn(said.trim());
    }
    report.line(format!("### Logs in {}", dir.display()));
    report.json(&json!({ "log_dir": dir, "code": output.status.code() }));
    Ok(report)
}

fn is_first_worker(node: &&Node) -> bool {
    matches!(node.role, Role::Worker | Role::Standalone) && node.count == 1
}

/// The analysis options of the cluster, as the worker's command line has them.
fn options(ctx: &Context, node: Option<&Node>) -> Vec<String> {
    let settings = &ctx.cluster.settings;
    let own = node.map(|node| ctx.cluster.checksums(node) == ChecksumMode::Off);
    let switches = [
        (own.unwrap_or(settings.ignore_checksums), "--ignore-checksums"),
        (settings.community_id, "--community-id"),
        (settings.traceroute, "--traceroute"),
        (settings.unknown_protocols, "--unknown-protocols"),
        (!settings.hash_files, "--no-file-hashes"),
        (settings.ssl_fingerprints, "--ssl-fingerprints"),
        (settings.validate_certificates, "--validate-certificates"),
        (settings.ssh_hassh, "--ssh-hassh"),
        (settings.log_passwords, "--log-passwords"),
        (settings.log_format == LogFormats::Json, "--json"),
    ];
    let switches = switches.into_iter().filter(|(is_on, _)| *is_on);
    let mut options: Vec<String> = switches.map(|(_, option)| option.to_owned()).collect();
    let trusted = settings.trusted_certificates.iter().filter(|_| settings.validate_certificates);
    options.extend(trusted.map(|path| format!("--trusted-certificates={}", path.display())));
    let changes = settings.software_version_changes();
    options.extend(changes.iter().map(|name| format!("--software-version-change={name}")));
    let disabled = settings.disabled_analyzers();
    options.extend(disabled.iter().map(|name| format!("--disable-analyzer={name}")));
    options.push(format!("--flows-max={}", settings.flows_max));
    options
}

/// Makes the folder, and removes the logs of an earlier run: our own folder is emptied, in a
/// folder of the operator's only files that are logs go.
fn empty(dir: &Path, is_operators: bool) -> anyhow::Result<()> {
    let cannot = || {
        let text = format!("cannot write `{}`", dir.display());
        hinted(text, "name a folder of yours: ctl process FILE --log-dir DIR")
    };
    if !is_operators && dir.exists() {
        std::fs::remove_dir_all(dir).map_err(|_| cannot())?;
    }
    std::fs::create_dir_all(dir).map_err(|_| cannot())?;
    for entry in std::fs::read_dir(dir).map_err(|_| cannot())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            std::fs::remove_file(&path).map_err(|_| cannot())?;
        }
    }
    Ok(())
}
