//! Why something on a host did not work, told so that the operator knows what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Output;
use super::shell::quote;

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
        /// As known_hosts would name it: `NAME` or `[NAME]:PORT`.
        known_as: String,
    },
    /// The host shows another key than the one known.
    #[error("host `{host}`: its key is NOT the one in {}; somebody may be listening", place.as_deref().unwrap_or("known_hosts"))]
    HostKeyChanged {
        /// The host as node.cfg names it.
        host: String,
        /// As known_hosts names it: `NAME` or `[NAME]:PORT`.
        known_as: String,
        /// Where the other key stands, `FILE:LINE`.
        place: Option<String>,
    },
    /// sshd did not let us in.
    #[error("host `{host}` refused the login: {said}")]
    LoginRefused {
        /// The host as node.cfg names it.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// sshd takes no keys.
    #[error("host `{host}` lets in by {methods} only; ctl logs in by key and never asks")]
    PasswordOnly {
        /// The host as node.cfg names it.
        host: String,
        /// What sshd would take.
        methods: String,
    },
    /// The host behind which it lies does not let us through.
    #[error("host `{host}` cannot be reached: its jump host `{jump}` {said}")]
    JumpHost {
        /// The host as node.cfg names it.
        host: String,
        /// The jump host as ssh's configuration names it.
        jump: String,
        /// What is the matter with it.
        said: String,
    },
    /// sshd has no place for one more connection or session, also after a while.
    #[error("host `{host}`: its sshd has no place for {what} ({said})")]
    Busy {
        /// The host as node.cfg names it.
        host: String,
        /// `a connection` or `a session`.
        what: &'static str,
        /// What ssh said.
        said: String,
    },
    /// The login's shell ended before it ran the command.
    #[error("host `{host}`: the login's shell did not run the command, it said: {said}")]
    LoginShell {
        /// The host as node.cfg names it.
        host: String,
        /// Its words.
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
    /// The file system is mounted read-only.
    #[error("host `{host}`: the file system is read-only ({said})")]
    ReadOnly {
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
        } else if said.contains("Read-only file system") {
            Self::ReadOnly { host, said }
        } else if said.contains("Permission denied") || said.contains("Operation not permitted") {
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
            Self::HostKeyUnknown { known_as, .. } => Some(format!(
                "`{}` gets its key; add it to known_hosts when `ssh-keygen -lf FILE` of it shows \
                 the fingerprint that the host itself shows",
                keyscan(known_as)
            )),
            Self::HostKeyChanged { known_as, place, .. } => {
                let file = place.as_ref().and_then(|place| place.rsplit_once(':'));
                let file =
                    file.map_or_else(String::new, |(file, _)| format!("-f {} ", quote(file)));
                Some(format!(
                    "only if the host was set up anew: `ssh-keygen {file}-R {}`, then `{}`",
                    quote(known_as),
                    keyscan(known_as)
                ))
            }
            Self::LoginRefused { host, .. } => Some(format!(
                "log in must work by key, without questions: `ssh-copy-id {host}`; `ssh.user` and \
                 `ssh.identity_file` in tyto.yaml say as whom"
            )),
            Self::PasswordOnly { host, .. } => Some(format!(
                "`ssh-copy-id {host}`, and `PubkeyAuthentication yes` in its sshd_config"
            )),
            Self::JumpHost { jump, .. } => Some(format!("does `ssh {jump} true` work?")),
            Self::Busy { what: "a session", .. } => {
                Some("raise MaxSessions in its sshd_config; 10 is sshd's default".to_owned())
            }
            Self::Busy { .. } => {
                Some("raise MaxStartups in its sshd_config, or lower `ssh.parallel_max`".to_owned())
            }
            Self::LoginShell { host, .. } => Some(format!(
                "`ssh {host} echo ok` must print ok: give the login a shell, and let its start-up \
                 files not end it"
            )),
            Self::NoSpace { .. } => {
                Some("make room, or lower `keep_releases` in tyto.yaml".to_owned())
            }
            Self::ReadOnly { .. } => Some(
                "mount it writable (`mount -o remount,rw …`), or choose another `prefix`"
                    .to_owned(),
            ),
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
                | Self::PasswordOnly { .. }
                | Self::JumpHost { .. }
                | Self::Busy { .. }
                | Self::LoginShell { .. }
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
            Self::LoginRefused { .. } | Self::PasswordOnly { .. } => "login refused",
            Self::JumpHost { .. } => "jump host",
            Self::Busy { .. } => "sshd is busy",
            Self::LoginShell { .. } => "login shell",
            Self::TimedOut { .. } => "timed out",
            Self::Lost { .. } => "connection lost",
            Self::NoSpace { .. } => "no space",
            Self::ReadOnly { .. } => "read-only",
            Self::NotPermitted { .. } => "not permitted",
            Self::NotInstalled { .. } => "not installed",
            Self::NoSupervisor { .. } => "no supervisor",
            Self::Failed { .. } | Self::Rpc { .. } | Self::Here { .. } => "error",
        }
    }
}

/// The command that shows a host's key, from its name in known_hosts.
fn keyscan(known_as: &str) -> String {
    let port = known_as.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
    match port {
        Some((name, port)) => format!("ssh-keyscan -p {port} {name}"),
        None => format!("ssh-keyscan {known_as}"),
    }
}
