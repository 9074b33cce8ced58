//! Where the threads of a dead process stood: a debugger of the host reads its core. Nothing of
//! ours is in the way of a restart meanwhile; it runs after the node is up again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a debugger may read; a core of many gigabytes takes its time.
const DEBUGGER_PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks whether it is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes kept of what it says.
const BACKTRACE_BYTES_MAX: u64 = 256 << 10;

/// Where the kernel is told what to do with cores (core(5)).
const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// Moves the cores that lie in a node's folder to `to`; returns the newest one's new place.
/// Cheap: within a file system, where both lie.
///
/// # Errors
/// When a core can be seen but not moved.
pub(crate) fn collect_cores(folder: &Path, to: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let file = entry.metadata()?;
        if !file.is_file() || !is_core(&name.to_string_lossy()) {
            continue;
        }
        let place = to.join(&name);
        fs::rename(entry.path(), &place)?;
        let age = file.modified()?;
        if newest.as_ref().is_none_or(|(best, _)| age > *best) {
            newest = Some((age, place));
        }
    }
    Ok(newest.map(|(_, place)| place))
}

/// `core`, `core.PID`, or what a pattern that begins so makes.
pub(crate) fn is_core(name: &str) -> bool {
    name.strip_prefix("core").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Where cores of this host go, for a crash that left none in the node's folder.
pub(crate) fn where_cores_go() -> String {
    describe(fs::read_to_string(CORE_PATTERN).unwrap_or_default().trim())
}

fn describe(pattern: &str) -> String {
    if let Some(program) = pattern.strip_prefix('|') {
        let program = program.split_whitespace().next().unwrap_or_default();
        if program.ends_with("systemd-coredump") {
            return "cores of this host go to systemd-coredump: `coredumpctl list` shows them"
                .to_owned();
        }
        return format!("cores of this host go to `{program}`");
    }
    if pattern.contains('/') {
        return format!("cores of this host go to `{pattern}`");
    }
    format!("cores of this host go to the process's working folder, as `{pattern}`")
}

/// Writes what a debugger of this host says about a core to `to`; where there is none, that.
///
/// # Errors
/// When it cannot be started or written.
pub(crate) fn write(program: &Path, core: &Path, to: &Path) -> io::Result<()> {
    let Some(mut command) = debugger(program, core) else {
        return fs::write(to, "no debugger (gdb or lldb) on this host to read the core\n");
    };
    let out = File::create(to)?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out.try_clone()?);
    let mut child = command.spawn()?;
    let give_up_at = Instant::now() + DEBUGGER_PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() >= give_up_at {
            child.kill()?;
            child.wait()?;
            fs::write(to, "the debugger did not end in time\n")?;
            break;
        }
        thread::sleep(LOOK_INTERVAL);
    }
    if out.metadata()?.len() > BACKTRACE_BYTES_MAX {
        out.set_len(BACKTRACE_BYTES_MAX)?;
    }
    Ok(())
}

fn debugger(program: &Path, core: &Path) -> Option<Command> {
    let found = |name: &str| in_path(name, std::env::var_os("PATH"));
    if let Some(gdb) = found("gdb") {
        let mut command = Command::new(gdb);
        command.args(["-batch", "-nx", "-q", "-ex", "thread apply all bt"]);
        command.arg(program).arg(core);
        // Asking a server for symbols would take minutes on a host without a way out.
        command.env("DEBUGINFOD_URLS", "");
        return Some(command);
    }
    let mut command = Command::new(found("lldb")?);
    command.args(["--batch", "--no-lldbinit", "-o", "thread backtrace all", "-c"]);
    command.arg(core).arg(program);
    Some(command)
}

fn in_path(name: &str, path: Option<OsString>) -> Option<PathBuf> {
    let path = path?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_taken_along_and_other_files_left() {
        let (folder, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["core", "core.17", "corefile", "stderr.log"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("core.dir")).unwrap();
        let newest = collect_cores(folder.path(), to.path()).unwrap().unwrap();
        assert!(newest.exists());
        assert!(to.path().join("core").exists() && to.path().join("core.17").exists());
        assert!(folder.path().join("corefile").exists() && folder.path().join("core.dir").exists());
        assert!(collect_cores(folder.path(), to.path()).unwrap().is_none());
    }

    /// core(5): a pipe, an absolute path, or a name in the working folder.
    #[test]
    fn the_kernels_pattern_is_told_in_words() {
        let systemd = describe("|/usr/lib/systemd/systemd-coredump %P %u");
        assert!(systemd.contains("coredumpctl list"), "{systemd}");
        assert!(describe("|/usr/share/apport/apport %p").contains("`/usr/share/apport/apport`"));
        assert!(describe("/var/crash/core.%p").contains("`/var/crash/core.%p`"));
        assert!(describe("core").contains("working folder"));
    }
}
