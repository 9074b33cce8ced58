//! What a command works with: the operator's files, found, read and checked, and the nodes
//! that the command line names.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::ArgMatches;
use tyto_core::config::cluster::{Cluster, ConfigFile, ConfigFiles};
use tyto_core::config::error::Faults;
use tyto_core::config::nearest::nearest;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;
use tyto_core::config::settings::SshMode;
use tyto_core::layout::Layout;

use crate::progress::Progress;
use crate::remote::pool::Pool;

/// Name of the file of nodes.
pub const NODE_CFG: &str = "node.cfg";
/// Name of the file of local networks.
pub const NETWORKS_CFG: &str = "networks.cfg";
/// Name of the file of settings.
pub const TYTO_YAML: &str = "tyto.yaml";

/// Where the files are when nothing else is said and ctl is not installed.
pub(crate) const DEFAULT_ETC: &str = "/opt/tyto/etc";

/// Bytes of a configuration file at most; ten thousand nodes stay far below it.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// What was said before the verb.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Folder of the files.
    pub etc: Option<PathBuf>,
    /// The answer is to be JSON.
    pub json: bool,
    /// Overrides `ssh.mode` of tyto.yaml.
    pub ssh_mode: Option<SshMode>,
}

/// What a command works with.
#[derive(Debug)]
pub struct Context {
    /// The checked configuration, overrides of the command line applied.
    pub cluster: Cluster,
    /// Paths on the hosts.
    pub layout: Layout,
    /// Folder that the files were found in.
    pub etc: PathBuf,
    /// Folder of this ctl and the programs that came with it.
    pub bin: PathBuf,
    /// The answer shall be JSON.
    pub json: bool,
    /// Tells the operator what goes on.
    pub progress: Progress,
    /// The ways to hosts, each made once. Locked for a moment only, never while waiting.
    pub pool: Mutex<Pool>,
}

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// No node.cfg where one was looked for.
    #[error("there is no node.cfg in {}", places(looked))]
    NoNodeCfg {
        /// Folders that were looked into.
        looked: Vec<PathBuf>,
    },
    /// A file is there and cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files have faults.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// ctl does not know where it is itself.
    #[error("cannot tell where ctl is installed")]
    OwnPath(#[source] io::Error),
}

impl ContextError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoNodeCfg { looked } => looked.first().map(|etc| {
                format!(
                    "cp node.cfg.example {}, or name the folder: ctl --etc DIR",
                    etc.join(NODE_CFG).display()
                )
            }),
            Self::Read { .. } | Self::Faults(_) | Self::OwnPath(_) => None,
        }
    }
}

/// A word on the command line that is neither a node nor a group with nodes in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown node '{word}'")]
pub struct UnknownNode {
    /// The word.
    pub word: String,
    /// What to type instead.
    pub hint: String,
}

impl Context {
    /// Finds, reads and checks the files.
    ///
    /// # Errors
    /// When node.cfg is not found, a file cannot be read, or the files have faults.
    pub fn load(options: &Options) -> Result<Self, ContextError> {
        let bin = own_folder().map_err(ContextError::OwnPath)?;
        let etc = find_etc(options.etc.as_deref(), &bin)?;
        let nodes = read(&etc.join(NODE_CFG))?.unwrap_or_default();
        let networks = read(&etc.join(NETWORKS_CFG))?;
        let settings = read(&etc.join(TYTO_YAML))?;
        let file = |name, text| ConfigFile { name, text };
        let mut cluster = Cluster::load(ConfigFiles {
            nodes: file(NODE_CFG, &nodes),
            networks: networks.as_deref().map(|text| file(NETWORKS_CFG, text)),
            settings: settings.as_deref().map(|text| file(TYTO_YAML, text)),
        })?;
        if let Some(mode) = options.ssh_mode {
            cluster.settings.ssh.mode = mode;
        }
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let ssh = &mut cluster.settings.ssh;
        for path in [&mut ssh.known_hosts, &mut ssh.identity_file, &mut ssh.config_file] {
            *path = path.take().map(|path| from_file(&path, &etc, home.as_deref()));
        }
        let layout = Layout::new(&cluster.settings.prefix);
        let (progress, json) = (Progress::new(!options.json), options.json);
        let pool = Mutex::new(Pool::new(cluster.settings.ssh.clone()));
        Ok(Self { cluster, layout, etc, bin, json, progress, pool })
    }

    /// The nodes that the arguments of a command name ([`crate::command::nodes_arg`]); all
    /// when they name none.
    ///
    /// # Errors
    /// For a word that names no node.
    pub fn nodes(&self, args: &ArgMatches) -> Result<Vec<&Node>, UnknownNode> {
        let words = args.get_many::<String>("nodes").into_iter().flatten();
        self.select(words.map(String::as_str))
    }

    /// The nodes that `words` name, each once, in ZeekControl's order: names, or the groups
    /// all, loggers, manager, proxies, workers. No words: all nodes.
    ///
    /// # Errors
    /// For a word that names no node; as in ZeekControl a group without nodes is one, too.
    pub fn select<'a>(
        &self,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<&Node>, UnknownNode> {
        select(&self.cluster, words)
    }
}

fn select<'c, 'a>(
    cluster: &'c Cluster,
    words: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<&'c Node>, UnknownNode> {
    let all = cluster.ordered();
    let mut wanted: Option<Vec<&str>> = None;
    for word in words {
        let named: Vec<&str> = all
            .iter()
            .filter(|node| word == "all" || node.name == word || in_group(node, word))
            .map(|node| node.name.as_str())
            .collect();
        if named.is_empty() {
            return Err(unknown(word, &all));
        }
        wanted.get_or_insert_default().extend(named);
    }
    Ok(match wanted {
        None => all,
        Some(names) => all.into_iter().filter(|n| names.contains(&n.name.as_str())).collect(),
    })
}

fn in_group(node: &Node, word: &str) -> bool {
    match word {
        "loggers" => node.role == Role::Logger,
        "manager" => node.role == Role::Manager,
        "proxies" => node.role == Role::Proxy,
        "workers" => node.role == Role::Worker,
        _ => false,
    }
}

fn unknown(word: &str, all: &[&Node]) -> UnknownNode {
    const GROUPS: [&str; 5] = ["all", "loggers", "manager", "proxies", "workers"];
    let names = all.iter().map(|node| node.name.as_str()).chain(GROUPS);
    // `worker-1` with lb_procs has become worker-1-1 and so on.
    let section = all.iter().find(|node| node.section == word);
    let hint = match (section, nearest(word, names)) {
        (Some(node), _) => {
            format!("that section makes several nodes, the first is `{}`", node.name)
        }
        (None, Some(name)) => format!("did you mean `{name}`?"),
        (None, None) => {
            "`ctl nodes` lists the nodes; groups are all, loggers, manager, proxies, workers"
                .to_owned()
        }
    };
    UnknownNode { word: word.to_owned(), hint }
}

/// Folder of this program, links followed: the programs of its release are beside it.
fn own_folder() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?.canonicalize()?;
    Ok(program.parent().map(Path::to_owned).unwrap_or_default())
}

/// `--etc` or TYTO_ETC when given; else the working folder, the prefix that this ctl is
/// installed in, the default prefix: the first with a node.cfg.
fn find_etc(given: Option<&Path>, bin: &Path) -> Result<PathBuf, ContextError> {
    let looked = match given {
        Some(etc) => vec![etc.to_owned()],
        None => {
            // PREFIX/releases/ID/bin
            let installed = bin.ancestors().nth(3).map(|prefix| prefix.join("etc"));
            let mut places = vec![PathBuf::from(".")];
            places.extend(installed.filter(|etc| etc != Path::new(DEFAULT_ETC)));
            places.push(DEFAULT_ETC.into());
            places
        }
    };
    match looked.iter().find(|etc| etc.join(NODE_CFG).exists()) {
        Some(etc) => Ok(etc.clone()),
        None => Err(ContextError::NoNodeCfg { looked }),
    }
}

/// A path as tyto.yaml means it: `~/` is the caller's home, and a relative path begins where
/// the file is, wherever ctl is called.
fn from_file(path: &Path, etc: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(below), Some(home)) => home.join(below),
        _ => etc.join(path),
    }
}

/// The text of a file; none when it does not exist.
fn read(path: &Path) -> Result<Option<String>, ContextError> {
    let fail = |source| ContextError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut text = String::new();
    let bytes = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(fail)?;
    if bytes as u64 > CONFIG_BYTES_MAX {
        return Err(fail(io::Error::other("it is larger than 16 MiB")));
    }
    Ok(Some(text))
}

fn places(folders: &[PathBuf]) -> String {
    let quoted: Vec<String> = folders.iter().map(|f| format!("`{}`", f.display())).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "[DEFAULT]\nhost=10.0.0.1\n[w]\ntype=worker\nlb_method=af_packet\n\
                         lb_procs=2\n[manager]\ntype=manager\n[proxy-1]\ntype=proxy\n\
                         [logger-1]\ntype=logger\n";

    fn cluster(text: &str) -> Cluster {
        let nodes = ConfigFile { name: NODE_CFG, text };
        Cluster::load(ConfigFiles { nodes, networks: None, settings: None }).unwrap()
    }

    fn selected(words: &[&str]) -> Vec<String> {
        let cluster = cluster(NODES);
        let nodes = select(&cluster, words.iter().copied()).unwrap();
        nodes.into_iter().map(|node| node.name.to_string()).collect()
    }

    #[test]
    fn no_words_and_all_are_every_node_in_zeekcontrols_order() {
        let all = ["logger-1", "manager", "proxy-1", "w-1", "w-2"];
        assert_eq!(selected(&[]), all);
        assert_eq!(selected(&["all"]), all);
    }

    #[test]
    fn names_and_groups_mix_and_each_node_comes_once() {
        assert_eq!(selected(&["w-2", "workers", "loggers"]), ["logger-1", "w-1", "w-2"]);
        assert_eq!(selected(&["proxies", "manager"]), ["manager", "proxy-1"]);
    }

    #[test]
    fn a_group_without_nodes_is_unknown_as_in_zeekcontrol() {
        let cluster = cluster("[zeek]\ntype=standalone\nhost=localhost\n");
        let unknown = select(&cluster, ["workers"]).unwrap_err();
        assert_eq!(unknown.to_string(), "unknown node 'workers'");
        assert_eq!(select(&cluster, ["all"]).unwrap().len(), 1);
    }

    #[test]
    fn names_are_exact_and_a_slip_gets_a_hint() {
        let cluster = cluster(NODES);
        assert_eq!(select(&cluster, ["W-1"]).unwrap_err().hint, "did you mean `w-1`?");
        assert_eq!(select(&cluster, ["worker"]).unwrap_err().hint, "did you mean `workers`?");
        assert_eq!(
            select(&cluster, ["10.0.0.1"]).unwrap_err().hint,
            "`ctl nodes` lists the nodes; groups are all, loggers, manager, proxies, workers"
        );
    }

    #[test]
    fn paths_of_tyto_yaml_begin_at_home_or_at_the_file() {
        let (etc, home) = (Path::new("/e"), Some(Path::new("/root")));
        assert_eq!(from_file(Path::new("~/.ssh/id"), etc, home), Path::new("/root/.ssh/id"));
        assert_eq!(from_file(Path::new("known_hosts"), etc, home), Path::new("/e/known_hosts"));
        assert_eq!(from_file(Path::new("/x/y"), etc, home), Path::new("/x/y"));
    }

    #[test]
    fn without_a_given_folder_the_installation_of_this_ctl_is_searched() {
        let prefix = tempfile::tempdir().unwrap();
        std::fs::create_dir(prefix.path().join("etc")).unwrap();
        let bin = prefix.path().join("releases/abc/bin");
        let error = find_etc(Some(Path::new("/no/such")), &bin).unwrap_err();
        assert_eq!(error.to_string(), "there is no node.cfg in `/no/such`");
        std::fs::write(prefix.path().join("etc/node.cfg"), NODES).unwrap();
        assert_eq!(find_etc(None, &bin).unwrap(), prefix.path().join("etc"));
    }
}
