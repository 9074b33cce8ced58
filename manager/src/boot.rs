//! What starts a host's supervisor when the host boots, as `supervisor boot` there arranges it.

use std::sync::Arc;

use serde::Deserialize;
use tyto_core::config::name::HostName;

use crate::hosts::{Host, Hosts};
use crate::remote::Input;
use crate::remote::error::RemoteError;
use crate::remote::shell::quote_path;
use crate::report::Report;

/// What a host answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Boot {
    /// What starts the supervisor, in words; empty when nothing does.
    pub starts: String,
    /// Something was changed just now.
    pub changed: bool,
    /// What is left to do by hand; empty when nothing is.
    pub hint: String,
    /// Why it could not be arranged; empty when it could.
    pub error: String,
}

/// What to do about the boot of the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Supervisors start at boot.
    Install,
    /// They do not.
    Remove,
}

/// Does `action` on all hosts; tells each host's answer and gives those that came.
pub async fn arrange(hosts: &Hosts, action: Action, report: &mut Report) -> Vec<(HostName, Boot)> {
    let results = hosts.each(|host| async move { ask(Arc::new(host), action).await }).await;
    let mut answers = Vec::new();
    for (host, result) in results {
        match result {
            Ok(boot) => {
                tell(&host, &boot, action, report);
                answers.push((host, boot));
            }
            Err(error) => report.remote_error(&host, &error),
        }
    }
    answers
}

/// Has nothing start at the boot of a host that left the cluster. A host without supervisor, or
/// without anything to take away, is none to tell about.
pub async fn forget(host: &Host) {
    drop(ask(Arc::new(host.clone()), Action::Remove).await);
}

async fn ask(host: Arc<Host>, action: Action) -> Result<Boot, RemoteError> {
    let word = match action {
        Action::Install => "install",
        Action::Remove => "remove",
    };
    let script = format!(
        "exec {} boot {word} --prefix {}",
        quote_path(&host.layout.current_bin("supervisor")),
        quote_path(host.layout.prefix()),
    );
    let output = host.remote.run(&script, Input::None, host.deadline).await?;
    // Also what did not work is told in JSON.
    serde_json::from_slice(&output.stdout)
        .map_err(|_| RemoteError::from_output(&host.name, "arrange its boot", &output))
}

fn tell(host: &HostName, boot: &Boot, action: Action, report: &mut Report) {
    if !boot.error.is_empty() {
        return report.error_about(host, &anyhow::anyhow!(boot.error.clone()));
    }
    match (action, boot.starts.as_str()) {
        (Action::Install, starts) => report.line(format!("{host}: starts at boot by {starts}")),
        (Action::Remove, "") => report.line(format!("{host}: is not started at boot")),
        (Action::Remove, starts) => report.error(format!("{host}: still starts by {starts}")),
    }
    if !boot.hint.is_empty() {
        report.warn_hint(format!("{host}: not at boot yet"), boot.hint.clone());
    }
}
