//! `supervisor boot` and `supervisor stand-by`: what starts this host's supervisor when the host
//! boots. Where systemd runs that is a unit, the system's for root and the user's for others;
//! elsewhere an `@reboot` line of the user's crontab. The text of both: [`crate::boot_text`].

use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde::Serialize;
use tyto_core::layout::Layout;

use crate::boot_text::{self, Manager};
use crate::daemon;
use crate::host::{self, HostError};
use crate::partner::Partner;
use crate::pid_lock;

/// Is there while systemd is the host's init (sd_booted(3)).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// Folder of the administrator's units.
const SYSTEM_UNITS: &str = "/etc/systemd/system";

/// Users whose manager runs without a login.
const LINGERING: &str = "/var/lib/systemd/linger";

/// Time between two looks whether a supervisor lives.
const STAND_BY_INTERVAL: Duration = Duration::from_millis(500);

/// What to do about the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Action {
    /// Have the supervisor started at boot.
    Install,
    /// Have it not started at boot.
    Remove,
    /// Tell what starts it.
    Show,
}

/// How this host's supervisor is started at boot; printed as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Boot {
    /// What starts it, in words; empty when nothing does.
    pub(crate) starts: String,
    /// Something was changed just now.
    pub(crate) changed: bool,
    /// What is left to do by hand; empty when nothing is.
    pub(crate) hint: String,
    /// Why it could not be arranged; empty when it could.
    pub(crate) error: String,
}

/// Why the boot could not be arranged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// Without a release there is nothing to start.
    #[error("nothing to start at boot")]
    Host(#[from] HostError),
    /// Neither of the two ways is open.
    #[error(
        "this host has neither systemd nor `crontab`; have its init run this line at boot: {line}"
    )]
    NoInit {
        /// The line of a crontab, whose command fits rc.local too.
        line: String,
    },
    /// A file of systemd.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program of the host refused.
    #[error("`{command}` failed: {said}")]
    Refused {
        /// What was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// A program of the host could not be run.
    #[error("cannot run `{program}`")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A unit of systemd.
struct Unit {
    manager: Manager,
    name: String,
    folder: PathBuf,
}

/// Does `action` on this host.
///
/// # Errors
/// When there is no release in use, no init to tell, or it refuses.
pub(crate) fn run(layout: &Layout, action: Action) -> Result<Boot, BootError> {
    let cluster = host::config(&host::release(layout)?)?.cluster;
    match action {
        Action::Install => install(layout, &cluster),
        Action::Remove => remove(&cluster),
        Action::Show => Ok(show(&cluster)),
    }
}

/// What starts this host's supervisor at boot, in words; empty when nothing does, or there is no
/// release in use. Blocks.
pub(crate) fn shown(layout: &Layout) -> String {
    let config = host::release(layout).and_then(|release| host::config(&release));
    config.map_or_else(|_| String::new(), |config| show(&config.cluster).starts)
}

/// Waits until no supervisor of this host lives and becomes it, by the program that is in use
/// then: one that waited since boot may be many releases old. Returns only when that fails.
///
/// # Errors
/// When the lock cannot be asked or the program not be executed.
pub(crate) fn stand_by(layout: &Layout) -> anyhow::Result<Infallible> {
    daemon::prepare(layout)?;
    while let Some(pid) = pid_lock::holder(&layout.supervisor_lock())? {
        tracing::debug!(pid = pid.as_raw_pid(), "a supervisor lives; standing by");
        std::thread::sleep(STAND_BY_INTERVAL);
    }
    let program = layout.current_bin("supervisor");
    let mut command = Partner::Supervisor.command_of(&program, layout)?;
    Err(anyhow::Error::new(command.exec())
        .context(format!("cannot execute `{}`", program.display())))
}

fn install(layout: &Layout, cluster: &str) -> Result<Boot, BootError> {
    let changed = match Unit::of_host(cluster) {
        Some(unit) => {
            let changed = unit.install(cluster, layout.prefix())?;
            // A host that got systemd, or root, after the fact would start two.
            if let Some(table) = crontab()? {
                set_crontab(&table, &boot_text::without_line(&table, cluster))?;
            }
            changed
        }
        None => {
            let line = boot_text::cron_line(cluster, layout.prefix());
            let table = crontab()?.ok_or(BootError::NoInit { line })?;
            set_crontab(&table, &boot_text::with_line(&table, cluster, layout.prefix()))?
        }
    };
    Ok(Boot { changed, ..show(cluster) })
}

fn remove(cluster: &str) -> Result<Boot, BootError> {
    let mut changed = match Unit::of_host(cluster) {
        Some(unit) => unit.remove()?,
        None => false,
    };
    if let Some(table) = crontab()? {
        changed |= set_crontab(&table, &boot_text::without_line(&table, cluster))?;
    }
    Ok(Boot { changed, ..show(cluster) })
}

fn show(cluster: &str) -> Boot {
    if let Some(unit) = Unit::of_host(cluster).filter(Unit::is_enabled) {
        let (kind, hint) = match unit.manager {
            Manager::System => ("systemd unit", String::new()),
            Manager::User => ("systemd user unit", linger_hint()),
        };
        return Boot { starts: format!("{kind} {}", unit.file()), hint, ..Boot::default() };
    }
    let table = crontab().ok().flatten().unwrap_or_default();
    let starts = if boot_text::has_line(&table, cluster) { "crontab @reboot" } else { "" };
    Boot { starts: starts.to_owned(), ..Boot::default() }
}

/// What a user must ask for so that its units start without a login.
fn linger_hint() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    if !user.is_empty() && Path::new(LINGERING).join(&user).exists() {
        return String::new();
    }
    format!("it starts at the first login only; at boot after: loginctl enable-linger {user}")
}

impl Unit {
    /// The unit of a cluster, where systemd runs this host.
    fn of_host(cluster: &str) -> Option<Self> {
        if !Path::new(SYSTEMD_RUNS).is_dir() {
            return None;
        }
        let name = boot_text::name(cluster);
        if rustix::process::geteuid().is_root() {
            return Some(Self { manager: Manager::System, name, folder: SYSTEM_UNITS.into() });
        }
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".config"));
        let folder = config.or_else(home)?.join("systemd/user");
        Some(Self { manager: Manager::User, name, folder })
    }

    fn file(&self) -> String {
        format!("{}.service", self.name)
    }

    fn is_enabled(&self) -> bool {
        let wants = self.folder.join(format!("{}.wants", self.manager.target()));
        self.folder.join(self.file()).exists()
            && fs::symlink_metadata(wants.join(self.file())).is_ok()
    }

    fn install(&self, cluster: &str, prefix: &Path) -> Result<bool, BootError> {
        let (path, text) =
            (self.folder.join(self.file()), boot_text::unit(cluster, prefix, self.manager));
        let is_same = fs::read_to_string(&path).is_ok_and(|there| there == text);
        if is_same && self.is_enabled() {
            return Ok(false);
        }
        let failed = |source| BootError::Write { path: path.clone(), source };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let draft = path.with_extension("service.new");
        fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path)).map_err(failed)?;
        self.systemctl(&["daemon-reload"])?;
        self.systemctl(&["enable", &self.file()])?;
        // It stands by while a supervisor lives, so that this touches no node.
        self.systemctl(&["start", "--no-block", &self.file()])?;
        Ok(true)
    }

    fn remove(&self) -> Result<bool, BootError> {
        let path = self.folder.join(self.file());
        if !path.exists() {
            return Ok(false);
        }
        self.systemctl(&["disable", &self.file()])?;
        fs::remove_file(&path).map_err(|source| BootError::Write { path, source })?;
        self.systemctl(&["daemon-reload"])?;
        Ok(true)
    }

    fn systemctl(&self, words: &[&str]) -> Result<(), BootError> {
        let mut command = Command::new("systemctl");
        if self.manager == Manager::User {
            command.arg("--user");
            if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
                // A login by ssh without a session of systemd lacks it.
                let user = rustix::process::geteuid().as_raw();
                command.env("XDG_RUNTIME_DIR", format!("/run/user/{user}"));
            }
        }
        let output = command.args(words).stdin(Stdio::null()).output();
        let output = output.map_err(|source| BootError::Run { program: "systemctl", source })?;
        if output.status.success() {
            return Ok(());
        }
        Err(refused(&format!("systemctl {}", words.join(" ")), &output))
    }
}

/// This user's crontab; `None` when the host has no `crontab`.
fn crontab() -> Result<Option<String>, BootError> {
    let output = match Command::new("crontab").arg("-l").stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(BootError::Run { program: "crontab", source }),
    };
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    // Only this fault is none: after any other the table must not be replaced.
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("no crontab for") || said.contains("No such file") {
        return Ok(Some(String::new()));
    }
    Err(refused("crontab -l", &output))
}

/// Replaces the crontab when it changes; whether it did.
fn set_crontab(before: &str, after: &str) -> Result<bool, BootError> {
    if before == after {
        return Ok(false);
    }
    let failed = |source| BootError::Run { program: "crontab", source };
    let mut command = Command::new("crontab");
    command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A fault of it is told by the exit code.
        drop(stdin.write_all(after.as_bytes()));
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() { Ok(true) } else { Err(refused("crontab -", &output)) }
}

fn refused(command: &str, output: &Output) -> BootError {
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    BootError::Refused { command: command.to_owned(), said }
}
