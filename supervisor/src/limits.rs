//! What a node may use of its host: memory by a cgroup where there is one to use, by an rlimit
//! elsewhere; niceness; core dumps. The supervisor makes the group, the node's own process puts
//! itself into it before it becomes the program, so that not one allocation escapes.
//!
//! ```text
//! …/supervisor           the supervisor, where systemd gave it a group (DelegateSubgroup=)
//! …/node-NODE            a leaf per node with a limit, beside it
//! /tyto-HASH/node-NODE   the same at the top, for a root whom nobody gave a group
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit};
use tyto_core::layout::Layout;

use crate::exec_node::NodeNote;

/// The group that systemd is told to start the supervisor in (boot unit, `DelegateSubgroup=`).
pub(crate) const OWN_GROUP: &str = "supervisor";

/// Where the kernel shows groups, in either version.
const GROUP_ROOT: &str = "/sys/fs/cgroup";

/// Text of an allocator that was refused memory, in Rust's words and the C library's.
const REFUSED_WORDS: [&str; 2] = ["memory allocation of", "Cannot allocate memory"];

/// A cgroup that bounds the memory of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryGroup {
    dir: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// One hierarchy for all controllers; the parent hands the controller down.
    Two,
    /// A hierarchy for memory alone.
    One,
}

impl MemoryGroup {
    /// A group of this node with a limit of so many bytes; `None` where groups cannot be used:
    /// no right to make one, no memory controller.
    pub(crate) fn make(layout: &Layout, node: &str, bytes_max: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let name = format!("tyto-{:08x}", hash(layout.prefix()));
        homes(&own, Path::new(GROUP_ROOT), &name).into_iter().find_map(|home| {
            let (version, group) = (home.version, home.dir.join(format!("node-{node}")));
            match home.open().and_then(|()| limit(&group, version, bytes_max)) {
                Ok(()) => Some(Self { dir: group, version }),
                Err(error) => {
                    tracing::debug!(dir = %group.display(), %error, "no group here");
                    None
                }
            }
        })
    }

    /// The group in `dir`, made earlier.
    pub(crate) fn at(dir: PathBuf) -> Self {
        let two = dir.join("memory.events").exists();
        Self { dir, version: if two { Version::Two } else { Version::One } }
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How often the kernel has ended a process of it for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = match self.version {
            Version::Two => "memory.events",
            Version::One => "memory.oom_control",
        };
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Removes it once it is empty; what is still in use stays.
    pub(crate) fn remove(&self) {
        let gone = fs::remove_dir(&self.dir);
        if gone.is_ok()
            && let Some(home) = self.dir.parent()
            && home.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tyto-"))
        {
            // Other nodes may have groups in it.
            drop(fs::remove_dir(home));
        }
    }
}

/// A folder for groups of nodes.
#[derive(Debug, PartialEq, Eq)]
struct Home {
    dir: PathBuf,
    version: Version,
    /// The folder above hands the controller down already, or we may not tell it to.
    is_given: bool,
}

impl Home {
    fn open(&self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        if self.version == Version::One {
            return Ok(());
        }
        if !self.is_given
            && let Some(above) = self.dir.parent()
        {
            hand_down(above)?;
        }
        hand_down(&self.dir)
    }
}

/// Where groups may be made, best first. `own` is `/proc/self/cgroup`, `root` the mount of all
/// groups, `name` that of a home of our own.
fn homes(own: &str, root: &Path, name: &str) -> Vec<Home> {
    let mut homes = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = Path::new(path.trim_start_matches('/'));
        if controllers.is_empty() {
            // Where memory belongs to version 1 the kernel shows the other one in `unified`,
            // without a memory controller; then handing it down fails, and the next is tried.
            if path.file_name().is_some_and(|last| last == OWN_GROUP) {
                let dir = root.join(path.parent().unwrap_or(path));
                homes.push(Home { dir, version: Version::Two, is_given: true });
            }
            if root.join("cgroup.controllers").exists() {
                let (dir, version) = (root.join(name), Version::Two);
                homes.push(Home { dir, version, is_given: false });
            }
        } else if controllers.split(',').any(|controller| controller == "memory") {
            let mount = root.join("memory");
            // In a container the path may be that of the machine outside.
            let below = Some(mount.join(path)).filter(|dir| dir.is_dir()).unwrap_or(mount);
            if below.join("memory.limit_in_bytes").exists() || below.join("cgroup.procs").exists() {
                let (dir, version) = (below.join(name), Version::One);
                homes.push(Home { dir, version, is_given: true });
            }
        }
    }
    homes
}

/// Lets the groups in `dir` have a memory controller.
fn hand_down(dir: &Path) -> io::Result<()> {
    let control = dir.join("cgroup.subtree_control");
    let given = fs::read_to_string(&control)?;
    if given.split_whitespace().any(|controller| controller == "memory") {
        return Ok(());
    }
    fs::write(control, "+memory")
}

fn limit(group: &Path, version: Version, bytes_max: u64) -> io::Result<()> {
    fs::create_dir_all(group)?;
    let set = |file: &str, value: &str| {
        // Never created: in a folder that is no group that must fail.
        let mut open = fs::OpenOptions::new();
        let mut file = open.write(true).open(group.join(file))?;
        io::Write::write_all(&mut file, value.as_bytes())
    };
    match version {
        Version::Two => {
            set("memory.max", &bytes_max.to_string())?;
            // A node that lost a process of its own is no node any more.
            set("memory.oom.group", "1")
        }
        Version::One => set("memory.limit_in_bytes", &bytes_max.to_string()),
    }
}

/// FNV-1a, 32 bits: names must be the same in every life of the supervisor.
fn hash(path: &Path) -> u32 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Limits that a node's process sets for itself before it becomes the program.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct OwnLimits {
    /// Bytes of memory; no limit when absent.
    #[arg(long)]
    pub(crate) memory_bytes: Option<u64>,
    /// Group that bounds them.
    #[arg(long, requires = "memory_bytes")]
    pub(crate) memory_group: Option<PathBuf>,
    /// Niceness; as it is when absent.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) nice: Option<i8>,
    /// Let the kernel write a core.
    #[arg(long)]
    pub(crate) core_dumps: bool,
}

impl OwnLimits {
    /// Sets them for this process; says how its memory is bounded. Where the system refuses
    /// niceness or cores the node runs without: that is traced.
    ///
    /// # Errors
    /// When memory can be bounded in no way.
    pub(crate) fn apply(&self) -> io::Result<String> {
        if let Some(nice) = self.nice
            && let Err(error) = rustix::process::setpriority_process(None, nice.into())
        {
            tracing::warn!(nice, %error, "niceness stays as it is");
        }
        let core = rustix::process::getrlimit(Resource::Core);
        let wanted = if self.core_dumps { core.maximum } else { Some(0) };
        let core = Rlimit { current: wanted, maximum: core.maximum };
        if let Err(error) = rustix::process::setrlimit(Resource::Core, core) {
            tracing::warn!(%error, "cannot set the size of core dumps");
        }
        self.apply_memory()
    }

    fn apply_memory(&self) -> io::Result<String> {
        let Some(bytes) = self.memory_bytes else { return Ok("none".to_owned()) };
        if let Some(group) = &self.memory_group {
            match fs::write(group.join("cgroup.procs"), std::process::id().to_string()) {
                Ok(()) => return Ok(format!("{bytes} bytes by cgroup {}", group.display())),
                Err(error) => {
                    tracing::warn!(dir = %group.display(), %error, "cannot join the group");
                }
            }
        }
        // What the process may write to and has for itself (brk and private mappings). Not the
        // address space (RLIMIT_AS): capture rings and mapped files are large and cost nothing.
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        rustix::process::setrlimit(Resource::Data, limit)?;
        Ok(format!("{bytes} bytes by rlimit (data)"))
    }
}

/// Whether a process that died had used up its memory, in words.
pub(crate) fn out_of_memory(note: &NodeNote, last_stderr: &[String]) -> Option<String> {
    let kills = note.memory_group.clone().map_or(0, |dir| MemoryGroup::at(dir).oom_kills());
    if kills > note.oom_kills_before {
        return Some(format!("out of memory: the kernel ended it at its limit, {}", note.memory));
    }
    let refused = |line: &String| REFUSED_WORDS.iter().any(|words| line.contains(words));
    let is_refused = last_stderr.iter().any(refused);
    is_refused.then(|| format!("out of memory: it was refused more; limit: {}", note.memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn places(own: &str, root: &Path) -> Vec<String> {
        let homes = homes(own, root, "tyto-1");
        let shown = homes.iter().map(|home| {
            let dir = home.dir.strip_prefix(root).unwrap().display().to_string();
            format!("{:?} {dir}", home.version)
        });
        shown.collect()
    }

    #[test]
    fn a_group_given_by_systemd_comes_before_one_of_our_own() {
        let root = root(&[("cgroup.controllers", "memory\n")]);
        let own = "0::/system.slice/tyto.service/supervisor\n";
        assert_eq!(places(own, root.path()), ["Two system.slice/tyto.service", "Two tyto-1"]);
        assert_eq!(places("0::/user.slice/session-1.scope\n", root.path()), ["Two tyto-1"]);
    }

    #[test]
    fn where_memory_has_its_own_hierarchy_that_one_is_used() {
        let root = root(&[("memory/memory.limit_in_bytes", ""), ("memory/a/cgroup.procs", "")]);
        assert_eq!(places("4:memory:/a\n0::/\n", root.path()), ["One memory/a/tyto-1"]);
        assert_eq!(places("4:memory:/outside\n0::/\n", root.path()), ["One memory/tyto-1"]);
    }

    #[test]
    fn without_groups_there_is_no_home() {
        let root = root(&[]);
        assert_eq!(places("4:memory:/a\n0::/\n", root.path()), [""; 0]);
        assert_eq!(places("", root.path()), [""; 0]);
    }

    /// cgroups(7): a controller is handed down by `+NAME` in cgroup.subtree_control, and files
    /// of a group are there when it is made.
    #[test]
    fn the_controller_is_handed_down_and_the_limit_set_in_a_group_only() {
        let root = root(&[
            ("cgroup.subtree_control", "cpu\n"),
            ("tyto-1/cgroup.subtree_control", ""),
            ("tyto-1/w/memory.max", "max"),
            ("tyto-1/w/memory.oom.group", "0"),
            ("tyto-1/w/memory.events", "low 0\noom 3\noom_kill 2\n"),
        ]);
        let (dir, version) = (root.path().join("tyto-1"), Version::Two);
        Home { dir: dir.clone(), version, is_given: false }.open().unwrap();
        let given = |dir: &Path| fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap();
        assert_eq!((given(root.path()), given(&dir)), ("+memory".into(), "+memory".into()));
        limit(&dir.join("w"), Version::Two, 4096).unwrap();
        assert!(fs::read_to_string(dir.join("w/memory.max")).unwrap().starts_with("4096"));
        assert!(limit(&dir.join("other"), Version::Two, 4096).is_err());
        assert_eq!(MemoryGroup::at(dir.join("w")).oom_kills(), 2);
    }

    #[test]
    fn an_allocator_that_was_refused_is_recognised() {
        let note =
            NodeNote { memory: "9 bytes by rlimit (data)".to_owned(), ..NodeNote::default() };
        let told = out_of_memory(&note, &["memory allocation of 8 bytes failed".to_owned()]);
        assert!(told.unwrap().ends_with("limit: 9 bytes by rlimit (data)"));
        assert_eq!(out_of_memory(&note, &["cannot open eth9".to_owned()]), None);
    }
}
