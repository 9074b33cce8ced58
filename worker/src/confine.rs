//! What a node that reads strangers' packets may touch of its host, should one of them take it
//! over: its own folder, and to read, what it needs. Landlock (landlock(7)) enforces it on the
//! whole process; it must be entered before there are threads. Kernels that know a part of it
//! enforce that part, others nothing.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};
use tyto_core::config::runtime::{NodeConfig, Role};
use tyto_core::layout::Layout;

/// The newest rules that were tried here. Older kernels enforce fewer of them.
const RULES: ABI = ABI::V6;

/// Files of the host that are read besides the installation: time zones, for the names of
/// archived logs; the own process and its counters of interfaces.
const HOST_READ: [&str; 6] = [
    "/etc/localtime",
    "/etc/timezone",
    "/usr/share/zoneinfo",
    "/proc/self",
    "/proc/sys/kernel/random/boot_id",
    "/sys/class/net",
];

/// Where distributions keep the certificates that their hosts trust, and what the links there
/// lead to. Read only when the operator wants servers' certificates validated.
const TRUST_READ: [&str; 7] = [
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/share/pki",
    "/usr/local/share/ca-certificates",
    "/var/lib/ca-certificates",
];

/// What a program of the operator's needs besides, the rotation command of a standalone node: to be
/// read and run, with its libraries and configuration. It is confined as the node is, otherwise.
const COMMAND_READ: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/opt"];

/// Where such a program may write.
const COMMAND_WRITE: [&str; 2] = ["/tmp", "/dev/null"];

/// Confines this process to what the node needs. A kernel that cannot is told on stderr; the
/// node runs all the same.
pub fn enter(config: &NodeConfig) {
    let problem = match confine(config) {
        Ok(status) if status.ruleset == RulesetStatus::FullyEnforced => return,
        Ok(status) => format!("{:?}", status.ruleset),
        Err(error) => error.to_string(),
    };
    eprintln!("worker: warning: this kernel does not confine the node as it should: {problem}");
}

fn confine(config: &NodeConfig) -> Result<RestrictionStatus, RulesetError> {
    let layout = Layout::new(&config.prefix);
    let mut written = vec![layout.node_spool(&config.node)];
    if config.role == Role::Standalone {
        written.push(layout.logs());
    }
    // Of the keys, the whole folder: they are replaced by renaming. Of the releases too: the
    // list of peers is read from the one in use.
    let mut read = vec![layout.releases(), layout.tls()];
    read.extend(HOST_READ.map(PathBuf::from));
    if config.analysis.validate_certificates {
        match &config.analysis.trusted_certificates {
            Some(file) => read.push(file.clone()),
            None => read.extend(TRUST_READ.map(PathBuf::from)),
        }
    }
    // The names of its folders are synced at each start, up to the prefix: whoever made them may
    // have died before. Syncing a folder asks for the right to list it.
    let listed = (config.role == Role::Standalone).then(|| layout.prefix().to_owned());
    let mut run = Vec::new();
    if config.role == Role::Standalone && config.logs.rotation_command.is_some() {
        run.extend(COMMAND_READ.map(PathBuf::from));
        written.extend(COMMAND_WRITE.map(PathBuf::from));
    }
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RULES))?
        // Nodes of this program connect to others; nobody connects to them.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(RULES))?
        .create()?;
    for folder in written.iter().filter(|path| !path.exists()) {
        // One that cannot be made is told by whoever writes there.
        std::fs::create_dir_all(folder).ok();
    }
    let writing = AccessFs::from_all(RULES) & !AccessFs::Execute;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let beneath = |paths: Vec<PathBuf>, access| {
        paths.into_iter().filter_map(move |path| {
            let rule = PathBeneath::new(PathFd::new(&path).ok()?, allowed(&path, access));
            Some(Ok::<_, RulesetError>(rule))
        })
    };
    let running = reading | AccessFs::Execute;
    rules
        .add_rules(beneath(written, writing))?
        .add_rules(beneath(read, reading))?
        .add_rules(beneath(listed.into_iter().collect(), AccessFs::ReadDir.into()))?
        .add_rules(beneath(run, running))?
        .restrict_self()
}

/// Rights of folders make no sense for files.
fn allowed(path: &Path, access: landlock::BitFlags<AccessFs>) -> landlock::BitFlags<AccessFs> {
    if path.is_dir() { access } else { access & AccessFs::from_file(RULES) }
}
