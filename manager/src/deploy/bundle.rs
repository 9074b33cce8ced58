//! A release: all files that one host shall have, named by their content. The same programs and
//! the same configuration make the same id, so that a deploy with nothing changed has nothing
//! to do. Source of truth for the layout of the folder: `tyto_core::layout`.
//!
//! Beside the files, a release's manifest tells for each node a fingerprint of all it runs by.
//! A node is restarted when the fingerprint it was started with is not the one it would be
//! started with now.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tyto_core::config::cluster::Cluster;
use tyto_core::config::generate::UnknownAddress;
use tyto_core::config::name::HostName;
use tyto_core::config::runtime::{HostNode, Role};

/// All programs of a release.
pub const PROGRAMS: [&str; 6] = ["ctl", "manager", "supervisor", "worker", "logger", "proxy"];
/// Mode of a program.
const PROGRAM_MODE: u32 = 0o755;
/// Mode of a configuration.
const CONFIG_MODE: u32 = 0o644;
/// Hex digits of a release's id.
const ID_DIGITS: usize = 16;
/// First line of a manifest. Another number is another form: its fingerprints are not ours.
const MANIFEST_HEADER: &str = "tyto-manifest 1";

/// Why no release can be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A program is not there.
    #[error("program `{}` cannot be read; programs are shipped from the folder of ctl", path.display())]
    Program {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A host whose address nobody told.
    #[error(transparent)]
    Address(#[from] UnknownAddress),
    /// A configuration does not become YAML.
    #[error("cannot write `{path}`")]
    Yaml {
        /// Which file of the release.
        path: String,
        /// Why.
        source: serde_yaml::Error,
    },
}

/// The programs next to ctl, each read once. One that is missing is a fault only when a node
/// needs it.
#[derive(Debug)]
pub struct Programs {
    dir: PathBuf,
    by_name: BTreeMap<&'static str, io::Result<Program>>,
}

/// One program.
#[derive(Clone, Debug)]
struct Program {
    sha256: String,
    bytes: u64,
}

impl Programs {
    /// Reads the programs in `dir`.
    pub fn read(dir: &Path) -> Self {
        let read = |name: &'static str| (name, hash_file(&dir.join(name)));
        Self { dir: dir.to_owned(), by_name: PROGRAMS.into_iter().map(read).collect() }
    }

    /// The programs as files of a release: those of `needed`, and with `all` whatever is there.
    fn files(&self, needed: &[&str], all: bool) -> Result<Vec<ReleaseFile>, BundleError> {
        let mut files = Vec::new();
        for (name, program) in &self.by_name {
            let (path, is_needed) = (self.dir.join(name), needed.contains(name));
            match program {
                Ok(program) if is_needed || all => files.push(ReleaseFile {
                    path: format!("bin/{name}"),
                    content: Content::File(path),
                    sha256: program.sha256.clone(),
                    bytes: program.bytes,
                    mode: PROGRAM_MODE,
                }),
                Err(error) if is_needed => {
                    let source = io::Error::new(error.kind(), error.to_string());
                    return Err(BundleError::Program { path, source });
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(files)
    }
}

/// What a file of a release holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The same as this file here.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseFile {
    /// Path inside the release.
    pub path: String,
    /// What it holds.
    pub content: Content,
    /// SHA-256 of that, lower-case hex.
    pub sha256: String,
    /// Size, bytes.
    pub bytes: u64,
    /// Mode.
    pub mode: u32,
}

/// All that one host shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its id, which is the name of its folder.
    pub id: String,
    /// Its files; the manifest is the last.
    pub files: Vec<ReleaseFile>,
    /// Fingerprint per node of the host.
    pub fingerprints: BTreeMap<String, String>,
}

impl Release {
    /// The release of `host`.
    ///
    /// # Errors
    /// When an address is missing.
    pub fn of_host(
        cluster: &Cluster,
        host: &HostName,
        addrs: &BTreeMap<HostName, IpAddr>,
        programs: &Programs,
    ) -> Result<Self, BundleError> {
        let nodes: Vec<_> = cluster.nodes.iter().filter(|node| node.host == *host).collect();
        // ctl works from the head's host too, so that one gets all that ctl ships.
        let has_head = nodes.iter().any(|n| matches!(n.role, Role::Manager | Role::Standalone));
        let mut needed: Vec<&str> = nodes.iter().map(|node| node.role.program()).collect();
        needed.push("supervisor");
        let mut files = programs.files(&needed, has_head)?;
        for node in &nodes {
            let path = format!("etc/nodes/{}.yaml", node.name);
            let config = cluster.node_config(node, addrs)?;
            files.push(config_file(path, &config)?);
        }
        files.push(config_file("etc/peers.yaml".into(), &cluster.peers_config(addrs)?)?);
        // host.yaml holds the id, so the id is made of one without.
        let unnamed = config_file("etc/host.yaml".into(), &cluster.host_config(host, ""))?;
        let id = release_id(files.iter().chain([&unnamed]));
        let host_config = cluster.host_config(host, &id);
        files.push(config_file("etc/host.yaml".into(), &host_config)?);
        let mut fingerprints = BTreeMap::new();
        for node in &host_config.nodes {
            fingerprints.insert(node.node.clone(), fingerprint(&files, node)?);
        }
        // Where ctl may run later, it finds which hosts the cluster had.
        let hosts = if has_head { cluster.hosts() } else { Vec::new() };
        let hosts = hosts.into_iter().map(HostName::to_string).collect();
        let manifest = Manifest { fingerprints, hosts };
        files.push(bytes_file("manifest".into(), manifest.write(&files).into_bytes()));
        Ok(Self { id, files, fingerprints: manifest.fingerprints })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// What a release's manifest tells beside its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Fingerprint per node of the host.
    pub fingerprints: BTreeMap<String, String>,
    /// All hosts of the cluster; on the head's host only.
    pub hosts: Vec<String>,
}

impl Manifest {
    /// Reads a manifest; empty for another form of it.
    pub fn read(text: &str) -> Self {
        let mut manifest = Self::default();
        let mut lines = text.lines();
        if lines.next() != Some(MANIFEST_HEADER) {
            return manifest;
        }
        for line in lines {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["node", print, node] => {
                    manifest.fingerprints.insert(node.to_owned(), print.to_owned());
                }
                ["host", host] => manifest.hosts.push(host.to_owned()),
                _ => {}
            }
        }
        manifest
    }

    fn write(&self, files: &[ReleaseFile]) -> String {
        let mut text = format!("{MANIFEST_HEADER}\n");
        for file in files {
            text.push_str(&format!("file {:o} {} {}\n", file.mode, file.sha256, file.path));
        }
        for (node, print) in &self.fingerprints {
            text.push_str(&format!("node {print} {node}\n"));
        }
        for host in &self.hosts {
            text.push_str(&format!("host {host}\n"));
        }
        text
    }
}

/// SHA-256 as lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn hash_file(path: &Path) -> io::Result<Program> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut chunk)?;
        let Some(part) = chunk.get(..n).filter(|part| !part.is_empty()) else { break };
        hasher.update(part);
        bytes += part.len() as u64;
    }
    Ok(Program { sha256: hex(&hasher.finalize()), bytes })
}

fn config_file(path: String, config: &impl serde::Serialize) -> Result<ReleaseFile, BundleError> {
    match serde_yaml::to_string(config) {
        Ok(text) => Ok(bytes_file(path, text.into_bytes())),
        Err(source) => Err(BundleError::Yaml { path, source }),
    }
}

fn bytes_file(path: String, content: Vec<u8>) -> ReleaseFile {
    let (sha256, bytes) = (sha256_hex(&content), content.len() as u64);
    ReleaseFile { path, content: Content::Bytes(content), sha256, bytes, mode: CONFIG_MODE }
}

fn release_id<'a>(files: impl Iterator<Item = &'a ReleaseFile>) -> String {
    let mut lines: Vec<String> =
        files.map(|f| format!("{:o} {} {}\n", f.mode, f.sha256, f.path)).collect();
    lines.sort();
    let mut id = sha256_hex(lines.concat().as_bytes());
    id.truncate(ID_DIGITS);
    id
}

/// Of all that a node runs by: its program, its configuration, its CPUs and environment.
fn fingerprint(files: &[ReleaseFile], node: &HostNode) -> Result<String, BundleError> {
    let config = format!("etc/nodes/{}.yaml", node.node);
    let program = format!("bin/{}", node.role.program());
    let hash = |path: &str| files.iter().find(|f| f.path == path).map_or("", |f| &f.sha256);
    let settings = serde_yaml::to_string(node)
        .map_err(|source| BundleError::Yaml { path: "etc/host.yaml".into(), source })?;
    let all = format!("{}\n{}\n{settings}", hash(&program), hash(&config));
    let mut print = sha256_hex(all.as_bytes());
    print.truncate(ID_DIGITS);
    Ok(print)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tyto_core::config::cluster::{ConfigFile, ConfigFiles};

    use super::*;

    const TWO_HOSTS: &str = "[logger-1]\ntype=logger\nhost=h1\n[manager]\ntype=manager\nhost=h1\n\
        [proxy-1]\ntype=proxy\nhost=h1\n\
        [worker-1]\ntype=worker\nhost=h2\ninterface=eth0\nlb_method=af_packet\nlb_procs=2\n";

    fn cluster(nodes: &str, settings: &str) -> Cluster {
        Cluster::load(ConfigFiles {
            nodes: ConfigFile { name: "node.cfg", text: nodes },
            networks: None,
            settings: Some(ConfigFile { name: "tyto.yaml", text: settings }),
        })
        .unwrap()
    }

    fn programs(dir: &Path, version: &str) -> Programs {
        for name in PROGRAMS {
            fs::write(dir.join(name), format!("{name} {version}")).unwrap();
        }
        Programs::read(dir)
    }

    fn addrs() -> BTreeMap<HostName, IpAddr> {
        let addrs = [("h1", "10.0.0.1"), ("h2", "10.0.0.2")];
        addrs.map(|(host, addr)| (HostName::from(host), addr.parse().unwrap())).into()
    }

    fn release(cluster: &Cluster, host: &str, programs: &Programs) -> Release {
        Release::of_host(cluster, &host.into(), &addrs(), programs).unwrap()
    }

    #[test]
    fn the_same_content_makes_the_same_release() {
        let dir = tempfile::tempdir().unwrap();
        let programs = programs(dir.path(), "1");
        let cluster = cluster(TWO_HOSTS, "");
        assert_eq!(release(&cluster, "h2", &programs), release(&cluster, "h2", &programs));
    }

    #[test]
    fn a_host_gets_what_it_runs_and_the_head_gets_all() {
        let dir = tempfile::tempdir().unwrap();
        let programs = programs(dir.path(), "1");
        let cluster = cluster(TWO_HOSTS, "");
        let paths = |host| -> Vec<String> {
            release(&cluster, host, &programs).files.into_iter().map(|f| f.path).collect()
        };
        let worker = "bin/supervisor bin/worker etc/nodes/worker-1-1.yaml \
                      etc/nodes/worker-1-2.yaml etc/peers.yaml etc/host.yaml manifest";
        assert_eq!(paths("h2"), worker.split_whitespace().collect::<Vec<_>>());
        assert_eq!(paths("h1").iter().filter(|p| p.starts_with("bin/")).count(), 6);
    }

    #[test]
    fn a_missing_program_is_a_fault_only_where_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        programs(dir.path(), "1");
        fs::remove_file(dir.path().join("worker")).unwrap();
        let programs = Programs::read(dir.path());
        let cluster = cluster(TWO_HOSTS, "");
        assert!(!release(&cluster, "h1", &programs).files.is_empty());
        let missing = Release::of_host(&cluster, &"h2".into(), &addrs(), &programs);
        assert!(matches!(missing, Err(BundleError::Program { .. })), "{missing:?}");
    }

    #[test]
    fn only_the_node_that_changed_has_another_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let programs = programs(dir.path(), "1");
        let one = cluster(TWO_HOSTS, "");
        let two = cluster(&format!("{TWO_HOSTS}env_vars=A=1\n"), "");
        let (a, b) = (release(&one, "h2", &programs), release(&two, "h2", &programs));
        assert_ne!(a.id, b.id);
        assert_ne!(a.fingerprints["worker-1-1"], b.fingerprints["worker-1-1"]);
        let (a, b) = (release(&one, "h1", &programs), release(&two, "h1", &programs));
        assert_eq!(a, b);
    }

    #[test]
    fn another_program_changes_the_nodes_that_run_it() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(TWO_HOSTS, "");
        let old = release(&cluster, "h1", &programs(dir.path(), "1"));
        fs::write(dir.path().join("logger"), "logger 2").unwrap();
        let new = release(&cluster, "h1", &Programs::read(dir.path()));
        assert_ne!(old.fingerprints["logger-1"], new.fingerprints["logger-1"]);
        assert_eq!(old.fingerprints["manager"], new.fingerprints["manager"]);
    }

    #[test]
    fn fingerprints_and_hosts_come_back_from_the_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let release = release(&cluster(TWO_HOSTS, ""), "h1", &programs(dir.path(), "1"));
        let Content::Bytes(manifest) = &release.files.last().unwrap().content else { panic!() };
        let text = String::from_utf8(manifest.clone()).unwrap();
        let hosts = vec!["h1".to_owned(), "h2".to_owned()];
        let fingerprints = release.fingerprints;
        assert_eq!(Manifest::read(&text), Manifest { fingerprints, hosts });
        let other_form = "tyto-manifest 9\nnode abc worker-1-1\n";
        assert_eq!(Manifest::read(other_form), Manifest::default());
    }
}
