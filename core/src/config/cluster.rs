//! The whole configuration: three files in, one checked [`Cluster`] out, or all faults of all
//! files. No I/O: the caller reads the files and resolves the names of hosts.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::cfg_file::CfgFile;
use super::error::{At, Fault, FaultKind, Faults};
use super::fanout;
use super::name::{HostName, NodeName};
use super::networks::{Network, parse_networks};
use super::node::{Draft, Node, read_section};
use super::runtime::{ChecksumMode, Role};
use super::settings::{Places, Settings};

/// Where the manager listens, counted from the port of the settings: ZeekControl's plan has
/// three ports before it.
const MANAGER_PORT_OFFSET: u16 = 3;

/// A file as it was read.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFile<'a> {
    /// Its name as faults are to say it.
    pub name: &'a str,
    /// What is in it.
    pub text: &'a str,
}

/// The operator's files. Those that do not exist count as empty, but for node.cfg.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFiles<'a> {
    /// node.cfg.
    pub nodes: ConfigFile<'a>,
    /// networks.cfg.
    pub networks: Option<ConfigFile<'a>>,
    /// tyto.yaml.
    pub settings: Option<ConfigFile<'a>>,
}

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// tyto.yaml.
    pub settings: Settings,
    /// Where the keys of tyto.yaml stand that are in it.
    pub places: Places,
    /// All nodes in node.cfg order.
    pub nodes: Vec<Node>,
    /// networks.cfg.
    pub networks: Vec<Network>,
    /// What is odd but does no harm.
    pub warnings: Vec<Fault>,
}

impl Cluster {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All faults found, in the order node.cfg, networks.cfg, tyto.yaml.
    pub fn load(files: ConfigFiles<'_>) -> Result<Self, Faults> {
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        let file = At::file(files.nodes.name);
        let cfg = CfgFile::parse(files.nodes.name, files.nodes.text, &mut faults);
        let drafts: Vec<Draft> = cfg
            .sections
            .iter()
            .map(|section| read_section(section, &mut faults, &mut warnings))
            .collect();
        let roles: Vec<Option<Role>> = drafts.iter().map(|draft| draft.role).collect();
        let mut nodes: Vec<Node> = drafts.into_iter().flat_map(|draft| draft.nodes).collect();
        count_nodes(&mut nodes);
        check_names(&nodes, &mut faults);
        check_roles(&file, &nodes, &roles, &mut faults);
        check_localhost(&nodes, &mut faults);
        fanout::check(&nodes, &mut faults);
        // By line; what is wrong with the file as a whole comes last.
        faults.sort_by_key(|fault| fault.at.line.wrapping_sub(1));

        let networks = files.networks.map_or_else(Vec::new, |file| {
            parse_networks(file.name, file.text, &mut faults, &mut warnings)
        });
        let (settings, places) = files
            .settings
            .map(|f| Settings::parse(f.name, f.text, &mut faults))
            .unwrap_or_default();

        let mut cluster = Self { settings, places, nodes, networks, warnings };
        cluster.check_ports(&file, &mut faults);
        cluster.check_rings(&mut faults);
        cluster.check_checksums();
        cluster.check_loggers_gone(&mut faults);
        cluster.check_sinks(&mut faults);
        if faults.is_empty() { Ok(cluster) } else { Err(Faults(faults)) }
    }

    /// The node of that name, letter case and all.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// All nodes in ZeekControl's order: standalone, loggers, manager, proxies, workers, and
    /// in node.cfg order among those.
    pub fn ordered(&self) -> Vec<&Node> {
        let mut nodes: Vec<&Node> = self.nodes.iter().collect();
        nodes.sort_by_key(|node| (node.role, node.count));
        nodes
    }

    /// The hosts, each once, in node.cfg order.
    pub fn hosts(&self) -> Vec<&HostName> {
        let mut hosts: Vec<&HostName> = Vec::new();
        for node in &self.nodes {
            if !hosts.contains(&&node.host) {
                hosts.push(&node.host);
            }
        }
        hosts
    }

    /// The manager, or the standalone node: the one that a cluster has exactly one of.
    pub fn head(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| matches!(node.role, Role::Manager | Role::Standalone))
    }

    /// Ports of the nodes that listen, in the plan of ZeekControl: manager, loggers, proxies.
    pub fn ports(&self) -> BTreeMap<&NodeName, u16> {
        let of = |role| self.nodes.iter().filter(move |node| node.role == role);
        of(Role::Manager)
            .chain(of(Role::Logger))
            .chain(of(Role::Proxy))
            .zip(self.settings.port.saturating_add(MANAGER_PORT_OFFSET)..=u16::MAX)
            .map(|(node, port)| (&node.name, port))
            .collect()
    }

    /// What can only be checked when names are resolved: two names of one machine would get
    /// two supervisors for one prefix, and localhost is no address for other machines.
    pub fn check_addresses(&self, addrs: &BTreeMap<HostName, IpAddr>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut seen: HashMap<IpAddr, &Node> = HashMap::new();
        for node in &self.nodes {
            let Some(&addr) = addrs.get(&node.host) else { continue };
            let first = seen.entry(addr).or_insert(node);
            if first.host != node.host {
                let (host, other) = (node.host.to_string(), first.host.to_string());
                let kind = FaultKind::SameAddress { host, other, addr: addr.to_string() };
                let hint = format!("write `host={}` in both places", first.host);
                faults.push(Fault::new(&node.at, kind).hint(hint));
            }
        }
        let loopback = |node: &Node| addrs.get(&node.host).is_some_and(IpAddr::is_loopback);
        if let Some(manager) = self.nodes.iter().find(|node| node.role == Role::Manager) {
            for node in &self.nodes {
                let resolved = addrs.contains_key(&node.host) && addrs.contains_key(&manager.host);
                if resolved && loopback(node) != loopback(manager) {
                    faults.push(localhost_mixed(node, manager));
                }
            }
        }
        faults
    }

    fn check_ports(&self, file: &At, faults: &mut Vec<Fault>) {
        let listens = |role| matches!(role, Role::Manager | Role::Logger | Role::Proxy);
        let nodes = self.nodes.iter().filter(|node| listens(node.role)).count();
        if self.ports().len() < nodes {
            let kind = FaultKind::PortsExhausted { nodes, port: self.settings.port };
            faults.push(Fault::new(file, kind).hint("tyto.yaml: port: 27760"));
        }
    }

    /// Once for each section: its nodes have the same ring and the same limit.
    fn check_rings(&self, faults: &mut Vec<Fault>) {
        let mut section = "";
        for node in self.nodes.iter().filter(|node| node.interface.is_some()) {
            if std::mem::replace(&mut section, &node.section) == node.section {
                continue;
            }
            let defaults = &self.settings.af_packet;
            let buffer = node.capture.buffer_size_bytes.unwrap_or(defaults.buffer_size_bytes);
            let block = node.capture.block_size_bytes.unwrap_or(defaults.block_size_bytes);
            let node_name = || node.section.clone();
            if buffer / 2 < u64::from(block) {
                let kind = FaultKind::RingTooSmall { node: node_name(), buffer, block };
                faults.push(Fault::new(&node.at, kind));
            }
            // The ring is mapped into the process; a limit below it lets no worker start.
            if let Some(memory) = self.limits(node).memory_bytes_max
                && memory <= buffer
            {
                let kind = FaultKind::MemoryBelowRing { node: node_name(), memory, buffer };
                let hint = "raise memory_bytes_max, or lower af_packet_buffer_size";
                faults.push(Fault::new(&node.at, kind).hint(hint));
            }
        }
    }

    /// Sinks are of loggers; a standalone node has none.
    fn check_sinks(&self, faults: &mut Vec<Fault>) {
        let has_logger = self.nodes.iter().any(|node| node.role == Role::Logger);
        let Some(at) = self.places.at("sinks") else { return };
        if has_logger || self.settings.sinks.is_empty() {
            return;
        }
        let names = self.settings.sinks.iter().map(|sink| sink.name.as_str());
        let found = names.collect::<Vec<_>>().join(", ");
        let (key, expected) = ("sinks".to_owned(), "[] where no node is a logger".to_owned());
        let kind = FaultKind::BadSetting { key, found, expected };
        let hint = "a manager, a logger, a proxy and a worker can share one host";
        faults.push(Fault::new(at, kind).hint(hint));
    }

    /// A logger that is part of the cluster is not gone: its batches would be written twice.
    fn check_loggers_gone(&self, faults: &mut Vec<Fault>) {
        let Some(at) = self.places.at("loggers_gone") else { return };
        let gone = self.settings.loggers_gone.as_deref().unwrap_or_default();
        for name in gone.split_whitespace().filter(|name| self.node(name).is_some()) {
            let (key, found) = ("loggers_gone".to_owned(), name.to_owned());
            let expected = "loggers that are not in node.cfg any more".to_owned();
            let kind = FaultKind::BadSetting { key, found, expected };
            let hint = format!("take [{name}] out of node.cfg, or out of loggers_gone");
            faults.push(Fault::new(at, kind).hint(hint));
        }
    }

    /// `ignore_checksums` decides over all that tyto.yaml says about checksums.
    fn check_checksums(&mut self) {
        if let Some(at) = self.places.at("af_packet.checksums")
            && self.settings.ignore_checksums
            && self.settings.af_packet.checksums != ChecksumMode::Off
        {
            let reason = "ignore_checksums is true";
            let kind = FaultKind::NoEffectSetting { key: "af_packet.checksums", reason };
            self.warnings.push(Fault::new(at, kind));
        }
    }
}

/// Numbers the nodes of each role.
fn count_nodes(nodes: &mut [Node]) {
    let mut counts: HashMap<Role, u32> = HashMap::new();
    for node in nodes {
        let count = counts.entry(node.role).or_default();
        *count += 1;
        node.count = *count;
    }
}

/// Names differ by more than letter case: they are folders, and DNS names in certificates.
fn check_names(nodes: &[Node], faults: &mut Vec<Fault>) {
    let mut seen: HashMap<String, &Node> = HashMap::new();
    for node in nodes {
        if let Some(first) = seen.get(&node.name.to_lowercase()) {
            let kind = FaultKind::DuplicateNode {
                name: node.name.to_string(),
                first_section: first.section.clone(),
                first_line: first.at.line,
            };
            faults.push(Fault::new(&node.at, kind).hint("rename one of the two sections"));
            continue;
        }
        seen.insert(node.name.to_lowercase(), node);
    }
}

fn check_roles(file: &At, nodes: &[Node], roles: &[Option<Role>], faults: &mut Vec<Fault>) {
    if roles.is_empty() {
        // Faults of the grammar say more than this when there are any.
        if faults.is_empty() {
            let hint = "[zeek]\ntype=standalone\nhost=localhost\ninterface=eth0";
            faults.push(Fault::new(file, FaultKind::NoNodes).hint(hint));
        }
        return;
    }
    if let Some(standalone) = nodes.iter().find(|node| node.role == Role::Standalone) {
        for node in nodes.iter().filter(|node| node.name != standalone.name) {
            let (node_name, standalone) = (node.name.to_string(), standalone.name.to_string());
            let kind = FaultKind::BesideStandalone { node: node_name, standalone };
            let hint = "delete the standalone section, or all others";
            faults.push(Fault::new(&node.at, kind).hint(hint));
        }
        return;
    }
    let mut managers = nodes.iter().filter(|node| node.role == Role::Manager);
    if let Some(first) = managers.next() {
        for node in managers {
            let (name, first_name) = (node.name.to_string(), first.name.to_string());
            let first_line = first.at.line;
            let kind = FaultKind::SecondManager { node: name, first: first_name, first_line };
            faults.push(Fault::new(&node.at, kind).hint("a cluster has exactly one manager"));
        }
    }
    // A section whose type cannot be read may be just the one that is missing.
    if roles.contains(&None) || roles.contains(&Some(Role::Standalone)) {
        return;
    }
    let manager_host = nodes.iter().find(|node| node.role == Role::Manager).map(|n| &n.host);
    let host = manager_host.map_or("localhost", |host| host.as_str());
    for (role, needs, name) in [
        (Role::Manager, "exactly one", "manager"),
        (Role::Logger, "at least one to write its logs", "logger-1"),
        (Role::Proxy, "at least one", "proxy-1"),
    ] {
        if !roles.contains(&Some(role)) {
            let hint = format!("add\n[{name}]\ntype={role}\nhost={host}");
            faults.push(Fault::new(file, FaultKind::MissingRole { role, needs }).hint(hint));
        }
    }
}

/// ZeekControl's rule, and its reverse: localhost is a different machine on each host.
fn check_localhost(nodes: &[Node], faults: &mut Vec<Fault>) {
    let Some(manager) = nodes.iter().find(|node| node.role == Role::Manager) else { return };
    let mut sections: Vec<&str> = Vec::new();
    for node in nodes {
        let mixed = node.host.is_localhost() != manager.host.is_localhost();
        if mixed && !sections.contains(&node.section.as_str()) {
            sections.push(&node.section);
            faults.push(localhost_mixed(node, manager));
        }
    }
}

fn localhost_mixed(node: &Node, manager: &Node) -> Fault {
    let kind = FaultKind::LocalhostMixed {
        node: node.name.to_string(),
        host: node.host.to_string(),
        manager_host: manager.host.to_string(),
    };
    let hint = if manager.host.is_localhost() {
        "give the manager's host the name that other hosts know it by; \
         only when all nodes are on localhost can it be localhost"
    } else {
        "write the name that other hosts know that host by"
    };
    Fault::new(&node.at, kind).hint(hint)
}
