//! Why something on a host did not work, told so that the operator knows what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Output;

/// Most characters of a command's own words that an error repeats.
const SAID_CHARS_MAX: usize = 2000;

/// Why a call to a host failed. Each names its host.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No connection came about.
    #[error("host `{host}` cannot be reached: {said}")]
    Unreachable {
        /// The host as node.cfg names it.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// The host's name means nothing here.
    #[error("host `{host}` has no address: {said}")]
    NoAddress {
        /// The host as node.cfg names it.
        host: String,
        /// What ssh or the resolver said.
        said: String,
    },
    /// ssh has never seen this host.
    #[error("host `{host}`: its key is not in known_hosts")]
    HostKeyUnknown {
        /// The host as node.cfg names it.
        host: String,
    },
    /// The host shows another key than the one known.
    #[error("host `{host}`: its key is NOT the one in known_hosts; somebody may be listening")]
    HostKeyChanged {
        /// The host as node.cfg names it.
        host: String,
    },
    /// sshd did not let us in.
    #[error("host `{host}` refused the login: {said}")]
    LoginRefused {
        /// The host as node.cfg names it.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// A call took too long.
    #[error("host `{host}` did not answer within {seconds} s ({what})", seconds = deadline.as_secs())]
    TimedOut {
        /// The host as node.cfg names it.
        host: String,
        /// What was tried.
        what: &'static str,
        /// How long.
        deadline: Duration,
    },
    /// The connection broke while a command ran.
    #[error("host `{host}`: the connection was lost ({said})")]
    Lost {
        /// The host as node.cfg names it.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// The disk of the host is full.
    #[error("host `{host}`: no space left on the disk ({said})")]
    NoSpace {
        /// The host as node.cfg names it.
        host: String,
        /// What the command said.
        said: String,
    },
    /// The login may not do it.
    #[error("host `{host}`: not permitted ({said})")]
    NotPermitted {
        /// The host as node.cfg names it.
        host: String,
        /// What the command said.
        said: String,
    },
    /// A command ended with an exit code other than 0.
    #[error("host `{host}`: cannot {what}: {said}")]
    Failed {
        /// The host as node.cfg names it.
        host: String,
        /// What was tried.
        what: &'static str,
        /// What the command said, or its exit code.
        said: String,
    },
    /// Nothing is installed below the prefix.
    #[error("host `{host}`: nothing is installed there")]
    NotInstalled {
        /// The host as node.cfg names it.
        host: String,
    },
    /// The supervisor is installed but does not run.
    #[error("host `{host}`: the supervisor is not running")]
    NoSupervisor {
        /// The host as node.cfg names it.
        host: String,
    },
    /// The other end spoke gRPC and refused, or not as it should.
    #[error("host `{host}`: the {peer} said: {said}")]
    Rpc {
        /// The host as node.cfg names it.
        host: String,
        /// `supervisor` or `manager`.
        peer: &'static str,
        /// Its words.
        said: String,
    },
    /// A program or file on this machine.
    #[error("cannot use `{}`", path.display())]
    Here {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RemoteError {
    /// What ssh said, sorted by what the operator has to do about it.
    pub fn from_ssh(host: &str, said: &str) -> Self {
        let host = host.to_owned();
        let has = |text: &str| said.contains(text);
        let short = last_line(said);
        if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("host key has changed") {
            Self::HostKeyChanged { host }
        } else if has("Host key verification failed") || has("host key is known for") {
            Self::HostKeyUnknown { host }
        } else if has("Permission denied") || has("Too many authentication failures") {
            Self::LoginRefused { host, said: short }
        } else if has("Could not resolve hostname") {
            Self::NoAddress { host, said: short }
        } else {
            Self::Unreachable { host, said: short }
        }
    }

    /// A command that ended with an exit code other than 0.
    pub fn from_output(host: &str, what: &'static str, output: &Output) -> Self {
        let text = output.stderr_text();
        let said = if text.is_empty() {
            format!("exit code {}", output.code)
        } else {
            text.chars().take(SAID_CHARS_MAX).collect()
        };
        let host = host.to_owned();
        if said.contains("No space left on device") || said.contains("Disk quota exceeded") {
            Self::NoSpace { host, said }
        } else if said.contains("Permission denied") || said.contains("Read-only file system") {
            Self::NotPermitted { host, said }
        } else {
            Self::Failed { host, what, said }
        }
    }

    /// What the operator can type, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { host, .. } | Self::TimedOut { host, .. } => {
                Some(format!("is it up? try `ssh {host} true`"))
            }
            Self::NoAddress { host, .. } => {
                Some(format!("write an address after `host =`, or make `{host}` resolve here"))
            }
            Self::HostKeyUnknown { host } => {
                Some(format!("compare the fingerprint and accept it once: `ssh {host} true`"))
            }
            Self::HostKeyChanged { host } => Some(format!(
                "if the host was set up anew: `ssh-keygen -R {host}`, then `ssh {host} true`"
            )),
            Self::LoginRefused { host, .. } => {
                Some(format!("log in must work by key, without questions: `ssh-copy-id {host}`"))
            }
            Self::NotPermitted { .. } => {
                Some("let the login of ssh own the prefix, or choose another `prefix`".to_owned())
            }
            Self::NotInstalled { .. } => Some("run `ctl deploy`".to_owned()),
            _ => None,
        }
    }

    /// True when the host itself could not be spoken to, whatever was asked.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::NoAddress { .. }
                | Self::HostKeyUnknown { .. }
                | Self::HostKeyChanged { .. }
                | Self::LoginRefused { .. }
                | Self::TimedOut { .. }
                | Self::Lost { .. }
        )
    }

    /// One word or two for a table.
    pub fn short(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::NoAddress { .. } => "no address",
            Self::HostKeyUnknown { .. } => "host key unknown",
            Self::HostKeyChanged { .. } => "host key changed",
            Self::LoginRefused { .. } => "login refused",
            Self::TimedOut { .. } => "timed out",
            Self::Lost { .. } => "connection lost",
            Self::NoSpace { .. } => "no space",
            Self::NotPermitted { .. } => "not permitted",
            Self::NotInstalled { .. } => "not installed",
            Self::NoSupervisor { .. } => "no supervisor",
            Self::Failed { .. } | Self::Rpc { .. } | Self::Here { .. } => "error",
        }
    }
}

/// The last line with something on it; ssh tells its reason there.
fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or("no reason given").chars().take(SAID_CHARS_MAX).collect()
}
