//! Hosts behind a jump host (`ProxyJump` in ssh's configuration). ssh does not tell what its
//! jump host said: the second ssh has no standard error there. So, once a connection failed,
//! the jump host is asked by itself, and the error names the one that is to be repaired.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use tyto_core::config::settings::SshSettings;

use super::error::RemoteError;
use super::ssh_words;

/// Time for `ssh -G`, which reads files only.
const CONFIG_PATIENCE: Duration = Duration::from_secs(5);
/// Beyond the connection's own limit.
const ASK_SLACK: Duration = Duration::from_secs(3);

/// The way to a host as ssh's configuration has it.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    hostname: String,
    port: String,
    /// The jump hosts in order, the one beside the host last.
    jumps: Vec<String>,
}

/// The error of a failed connection when a jump host is to blame for it, or stands before a
/// host that does not answer it. A jump host that is busy is to blame for the last try only.
pub(super) async fn error(
    host: &str,
    settings: &SshSettings,
    is_last: bool,
) -> Option<RemoteError> {
    let way = way(host, settings).await?;
    let (last, before) = way.jumps.split_last()?;
    let mut ask = ssh(settings);
    ask.args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o"]);
    ask.arg(format!("ConnectTimeout={}", settings.connect_timeout_s));
    if !before.is_empty() {
        ask.args(["-J", &before.join(",")]);
    }
    ask.arg("-W").arg(format!("{}:{}", bracketed(&way.hostname), way.port));
    ask.arg(if last.contains("://") { last.clone() } else { format!("ssh://{last}") });
    let patience = Duration::from_secs(settings.connect_timeout_s) + ASK_SLACK;
    let jump = last.clone();
    let host = host.to_owned();
    let Some(output) = run(ask, patience).await else {
        let said = format!("does not answer within {} s", patience.as_secs());
        return Some(RemoteError::JumpHost { host, jump, said });
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("open failed:") {
        // The jump host is well: it says why the host itself cannot be reached.
        let said = format!("its jump host `{jump}` says: {}", ssh_words::last_line(&said));
        return Some(RemoteError::Unreachable { host, said });
    }
    let is_busy = ssh_words::is_turned_away(&said);
    if output.status.success() || said.trim().is_empty() || is_busy && !is_last {
        return None;
    }
    let said = match ssh_words::error(&jump, &said) {
        RemoteError::HostKeyChanged { place, .. } => format!(
            "shows another key than the one in {}",
            place.as_deref().unwrap_or("known_hosts")
        ),
        RemoteError::HostKeyUnknown { .. } => "has a key that is not in known_hosts".to_owned(),
        RemoteError::LoginRefused { said, .. } => format!("refused the login: {said}"),
        RemoteError::PasswordOnly { methods, .. } => format!("lets in by {methods} only"),
        _ => format!("cannot be reached: {}", ssh_words::last_line(&said)),
    };
    Some(RemoteError::JumpHost { host, jump, said })
}

fn ssh(settings: &SshSettings) -> Command {
    let mut command = Command::new("ssh");
    if let Some(file) = &settings.config_file {
        command.arg("-F").arg(file);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(mut command: Command, patience: Duration) -> Option<Output> {
    timeout(patience, command.output()).await.ok()?.ok()
}

async fn way(host: &str, settings: &SshSettings) -> Option<Way> {
    let mut ask = ssh(settings);
    settings.port.map(|port| ask.arg("-p").arg(port.to_string()));
    ask.args(["-G", "--", host]);
    let output = run(ask, CONFIG_PATIENCE).await?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Reads what `ssh -G` prints; none without a jump host.
fn parse(config: &str) -> Option<Way> {
    let value = |key: &str| {
        let line = config.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.map(str::to_owned)
    };
    let jumps = value("proxyjump").filter(|jumps| jumps != "none")?;
    Some(Way {
        hostname: value("hostname")?,
        port: value("port")?,
        jumps: jumps.split(',').map(unbracketed).collect(),
    })
}

/// ssh puts every address between brackets; only those of IPv6 need them.
fn unbracketed(jump: &str) -> String {
    let inner = jump.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    match inner {
        Some((addr, _)) if !addr.contains(':') => jump.replace(['[', ']'], ""),
        _ => jump.to_owned(),
    }
}

/// A host as it stands before `:PORT`.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_read_from_ssh_and_without_a_jump_host_there_is_none() {
        let config =
            "user root\nhostname 10.0.0.5\nport 2222\nproxyjump a,root@[10.0.0.1]:22,[fd00::1]\n";
        let way = parse(config).unwrap();
        assert_eq!((way.hostname.as_str(), way.port.as_str()), ("10.0.0.5", "2222"));
        assert_eq!(way.jumps, ["a", "root@10.0.0.1:22", "[fd00::1]"]);
        assert_eq!(parse("hostname a\nport 22\n"), None);
        assert_eq!(parse("hostname a\nport 22\nproxyjump none\n"), None);
    }
}
