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
/// Hex digits of a node's fingerprint.
const FINGERPRINT_DIGITS: usize = 16;
/// Hex digits of each half of a release's id.
const ID_HALF_DIGITS: usize = 12;
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
    /// Its id, which is the name of its folder: `PROGRAMS-CONFIGURATION`, a hash of each. So a
    /// look at two ids tells what differs.
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
        let id = format!("{}-{}", hash_of(&files), configuration_id(cluster, host, addrs)?);
        files.extend(node_files(cluster, host, addrs)?);
        let host_config = cluster.host_config(host, &id);
        files.push(config_file("etc/host.yaml".into(), &host_config)?);
        let mut fingerprints = BTreeMap::new();
        for node in &host_config.nodes {
            fingerprints.insert(node.node.clone(), fingerprint(&files, node)?);
        }
        // Where ctl may run later, it finds which hosts the cluster had.
        let hosts = if has_head { cluster.hosts() } else { Vec::new() };
        let hosts = hosts.into_iter().map(HostName::to_string).collect();
        let hashes = files.iter().map(|file| (file.path.clone(), file.sha256.clone())).collect();
        let manifest = Manifest { files: hashes, fingerprints, hosts };
        files.push(bytes_file("manifest".into(), manifest.write(&files).into_bytes()));
        Ok(Self { id, files, fingerprints: manifest.fingerprints })
    }

    /// What its manifest says of it, but for the hosts.
    pub fn manifest(&self) -> Manifest {
        let hash = |file: &ReleaseFile| (file.path.clone(), file.sha256.clone());
        let files = self.files.iter().filter(|file| file.path != "manifest").map(hash).collect();
        Manifest { files, fingerprints: self.fingerprints.clone(), hosts: Vec::new() }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// What a release's manifest tells beside its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// SHA-256 by path inside the release.
    pub files: BTreeMap<String, String>,
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
                ["file", _, hash, path] => {
                    manifest.files.insert(path.to_owned(), hash.to_owned());
                }
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

/// The half of a release's id that is made of the configuration. It can be told without the
/// programs: whether a host runs by the files of now is a question of `ctl status`.
///
/// # Errors
/// When an address is missing.
pub fn configuration_id(
    cluster: &Cluster,
    host: &HostName,
    addrs: &BTreeMap<HostName, IpAddr>,
) -> Result<String, BundleError> {
    let mut files = node_files(cluster, host, addrs)?;
    // host.yaml holds the id, so the id is made of one without.
    files.push(config_file("etc/host.yaml".into(), &cluster.host_config(host, ""))?);
    Ok(hash_of(&files))
}

/// The configuration half of a release's id; empty for an id of another form.
pub fn configuration_half(id: &str) -> &str {
    id.split_once('-').map_or("", |(_, half)| half)
}

/// What the nodes of a host read, but for host.yaml.
fn node_files(
    cluster: &Cluster,
    host: &HostName,
    addrs: &BTreeMap<HostName, IpAddr>,
) -> Result<Vec<ReleaseFile>, BundleError> {
    let mut files = Vec::new();
    for node in cluster.nodes.iter().filter(|node| node.host == *host) {
        let config = cluster.node_config(node, addrs)?;
        files.push(config_file(node_file(&node.name), &config)?);
    }
    files.push(config_file("etc/peers.yaml".into(), &cluster.peers_config(addrs)?)?);
    Ok(files)
}

/// Path of a node's configuration inside a release.
pub fn node_file(node: &str) -> String {
    format!("etc/nodes/{node}.yaml")
}

/// Path of a role's program inside a release.
pub fn program_file(role: Role) -> String {
    format!("bin/{}", role.program())
}

fn hash_of(files: &[ReleaseFile]) -> String {
    let line = |f: &ReleaseFile| format!("{:o} {} {}\n", f.mode, f.sha256, f.path);
    let mut lines: Vec<String> = files.iter().map(line).collect();
    lines.sort();
    let mut id = sha256_hex(lines.concat().as_bytes());
    id.truncate(ID_HALF_DIGITS);
    id
}

/// Of all that a node reads once, at its start: its program, its configuration, its CPUs,
/// environment and limits. This is the one place that decides whom a change concerns: what nodes
/// follow while they run (`etc/peers.yaml`) and what the supervisor reads is no part of it.
fn fingerprint(files: &[ReleaseFile], node: &HostNode) -> Result<String, BundleError> {
    let (config, program) = (node_file(&node.node), program_file(node.role));
    let hash = |path: &str| files.iter().find(|f| f.path == path).map_or("", |f| &f.sha256);
    let settings = serde_yaml::to_string(node)
        .map_err(|source| BundleError::Yaml { path: "etc/host.yaml".into(), source })?;
    let all = format!("{}\n{}\n{settings}", hash(&program), hash(&config));
    let mut print = sha256_hex(all.as_bytes());
    print.truncate(FINGERPRINT_DIGITS);
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
    fn a_further_proxy_concerns_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let programs = programs(dir.path(), "1");
        let more = format!("{TWO_HOSTS}[proxy-2]\ntype=proxy\nhost=h2\n");
        let (one, two) = (cluster(TWO_HOSTS, ""), cluster(&more, ""));
        let (a, b) = (release(&one, "h1", &programs), release(&two, "h1", &programs));
        assert_ne!(a.id, b.id);
        assert_eq!(a.fingerprints, b.fingerprints);
    }

    #[test]
    fn the_halves_of_an_id_tell_programs_and_configuration_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (cluster(TWO_HOSTS, ""), cluster(TWO_HOSTS, "community_id: true\n"));
        let old = release(&one, "h2", &programs(dir.path(), "1")).id;
        let configured = release(&two, "h2", &programs(dir.path(), "1")).id;
        let built = release(&one, "h2", &programs(dir.path(), "2")).id;
        assert_eq!(configuration_half(&old), configuration_half(&built));
        assert_ne!(configuration_half(&old), configuration_half(&configured));
        assert_eq!(old.split_once('-').unwrap().0, configured.split_once('-').unwrap().0);
        let told = configuration_id(&one, &"h2".into(), &addrs()).unwrap();
        assert_eq!(configuration_half(&old), told);
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
        assert_eq!(Manifest::read(&text), Manifest { hosts, ..release.manifest() });
        let other_form = "tyto-manifest 9\nnode abc worker-1-1\n";
        assert_eq!(Manifest::read(other_form), Manifest::default());
    }
}
