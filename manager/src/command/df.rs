//! `ctl df`: space on the file systems that nodes use, in ZeekControl's table. Takes no lock.

use std::sync::Arc;

use clap::ArgMatches;
use serde::Serialize;
use tyto_core::config::runtime::Role;

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::hosts::{Host, Hosts};
use crate::remote::Input;
use crate::remote::error::RemoteError;
use crate::remote::shell::quote_path;
use crate::report::{Report, hinted};

pub(super) const COMMAND: Command = Command {
    name: "df",
    summary: "Shows the space on the file systems that nodes use",
    details: "One row per node and file system: that of the installation and its spool, and for \
              nodes that write logs that of the logs. capacity is the part in use.",
    args: || vec![nodes_arg()],
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

/// Use of a file system from which on a warning is given, per cent (ZeekControl's MinDiskSpace
/// warns when 5 % are left).
const FULL_PERCENT: f64 = 95.0;

/// A file system of a host.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct FileSystem {
    device: String,
    total_bytes: u64,
    used_bytes: u64,
    avail_bytes: u64,
    /// The part that is used of what users may use.
    used_percent: f64,
    /// Only log files lie there.
    #[serde(skip)]
    is_for_logs: bool,
}

/// A row of the table.
#[derive(Debug, Serialize)]
struct Row {
    node: String,
    host: String,
    #[serde(flatten)]
    file_system: FileSystem,
}

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let hosts = Hosts::of(ctx, &nodes)?;
    let results = hosts.each(|host| async move { ask(Arc::new(host)).await }).await;
    let mut report = Report::new();
    let mut rows = Vec::new();
    for (host, result) in results {
        match result {
            Ok(systems) => {
                warn_full(&host, &systems, &mut report);
                for node in nodes.iter().filter(|node| node.host == host) {
                    let of_node = systems.iter().filter(|system| {
                        !system.is_for_logs || !matches!(node.role, Role::Worker | Role::Proxy)
                    });
                    rows.extend(of_node.map(|system| Row {
                        node: node.name.to_string(),
                        host: host.to_string(),
                        file_system: system.clone(),
                    }));
                }
            }
            Err(error) => report.remote_error(&host, &error),
        }
    }
    report.raw(render(&rows));
    report.json(&rows);
    Ok(report)
}

async fn ask(host: Arc<Host>) -> Result<Vec<FileSystem>, RemoteError> {
    let script = format!(
        "for d in {prefix} {spool} {logs}; do [ -d \"$d\" ] || continue; \
         printf '%s ' \"${{d##*/}}\"; df -P -k \"$d\" | tail -n 1; done",
        prefix = quote_path(host.layout.prefix()),
        spool = quote_path(&host.layout.spool()),
        logs = quote_path(&host.layout.logs()),
    );
    let remote: &dyn crate::remote::Remote = &*host.remote;
    let output = remote.must("tell its disk space", &script, Input::None, host.deadline).await?;
    let mut systems: Vec<FileSystem> = Vec::new();
    for system in output.stdout_text().lines().filter_map(parse) {
        if systems.iter().all(|known| known.device != system.device) {
            systems.push(system);
        }
    }
    Ok(systems)
}

/// A line of `df -P` (POSIX: device, KiB in all, used and free, per cent, mount), the folder's
/// name before it. A device's name may hold blanks; the first word with a `%` ends the numbers.
fn parse(line: &str) -> Option<FileSystem> {
    let (folder, line) = line.split_once(' ')?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let percent = words.iter().position(|word| word.ends_with('%'))?;
    let kib = |back: usize| -> Option<u64> {
        words.get(percent.checked_sub(back)?)?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let (total_bytes, used_bytes, avail_bytes) = (kib(3)?, kib(2)?, kib(1)?);
    let usable = used_bytes.saturating_add(avail_bytes).max(1);
    Some(FileSystem {
        device: words.get(..percent.checked_sub(3)?)?.join(" "),
        total_bytes,
        used_bytes,
        avail_bytes,
        used_percent: used_bytes as f64 * 100.0 / usable as f64,
        is_for_logs: folder == "logs",
    })
}

fn warn_full(host: &str, systems: &[FileSystem], report: &mut Report) {
    for system in systems.iter().filter(|system| system.used_percent >= FULL_PERCENT) {
        let FileSystem { device, used_percent, .. } = system;
        let text = format!("{device} is {used_percent:.1} % full");
        let hint = "remove or move old logs of `logs/YYYY-MM-DD`; a logger whose disk is full \
                    stops acking, and workers keep rows in their spools";
        report.warn_about(host, &hinted(text, hint));
    }
}

fn render(rows: &[Row]) -> String {
    let mut text =
        format!("{:>27}  {:>15}  {:<5}  {:<5}  {:<5}\n", "", "", "total", "avail", "capacity");
    for row in rows {
        let system = &row.file_system;
        text.push_str(&format!(
            "{:>28}  {:>15}  {:<5}  {:<5}  {:<5.1}%\n",
            format!("{}/{}", row.node, row.host),
            system.device,
            size(system.total_bytes),
            size(system.avail_bytes),
            system.used_percent,
        ));
    }
    text
}

/// `238G`, `37M`: rounded, at least three columns.
fn size(bytes: u64) -> String {
    for (unit, shift) in [("G", 30), ("M", 20), ("K", 10)] {
        if bytes >= 1 << shift {
            return format!("{:>3.0}{unit}", bytes as f64 / (1_u64 << shift) as f64);
        }
    }
    format!(" {bytes:>3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_df_is_read_whatever_the_device_is_called() {
        let system = parse("spool /dev/sda6 249561088 131072000 104857600 56% /").unwrap();
        assert_eq!(system.device, "/dev/sda6");
        assert_eq!((system.total_bytes, system.avail_bytes), (238 << 30, 100 << 30));
        assert!((system.used_percent - 55.55).abs() < 0.1);
        let system = parse("logs my share 2048 1024 1024 50% /mnt/my logs").unwrap();
        assert_eq!((system.device.as_str(), system.is_for_logs), ("my share", true));
        assert_eq!(parse("logs df: no"), None);
        assert_eq!(parse("logs - 0 0 0 - /"), None);
    }

    #[test]
    fn columns_are_those_of_zeekcontrol() {
        let file_system = parse("spool /dev/sda6 249561088 131072000 104857600 56% /").unwrap();
        let rows = [Row { node: "logger".into(), host: "localhost".into(), file_system }];
        assert_eq!(
            render(&rows),
            "                                              total  avail  capacity\n            \
             logger/localhost        /dev/sda6  238G   100G   55.6 %\n"
        );
    }
}
