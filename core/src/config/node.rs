//! node.cfg: sections in, nodes out. A worker with `lb_procs=N` is N nodes, `NAME-1` to
//! `NAME-N`. What concerns one section is checked here, the cluster as a whole in
//! [`super::cluster`].

use std::collections::BTreeMap;

use super::cfg_file::{Entry, Section};
use super::error::{At, Fault, FaultKind};
use super::name::{HostName, NODE_NAME_CHARS_MAX, NodeName, is_host_name, is_node_name};
use super::nearest::nearest;
use super::node_keys::{NODE_KEYS, NodeKey, Scope, node_key};
use super::runtime::{FanoutMode, Role};
use super::value;

/// Processes of one worker section at most.
pub const LB_PROCS_MAX: u32 = 256;

/// Names that mean something else to ctl or on disk: groups, and the CA's own files.
const RESERVED_NAMES: [&str; 7] = ["all", "loggers", "proxies", "workers", "ca", "current", "tmp"];

/// One process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its role.
    pub role: Role,
    /// The host it runs on.
    pub host: HostName,
    /// Header of the section that made it.
    pub at: At,
    /// Name of that section.
    pub section: String,
    /// Its number among the nodes of its role, from 1, in node.cfg order.
    pub count: u32,
    /// Interface to capture on.
    pub interface: Option<String>,
    /// CPU it is pinned to.
    pub cpu: Option<u32>,
    /// Its own environment variables, without those of tyto.yaml.
    pub env: BTreeMap<String, String>,
    /// Capture settings that differ from tyto.yaml's.
    pub af_packet: AfPacketKeys,
    /// The keys of the section as they were written, without empty ones.
    pub given: BTreeMap<&'static str, String>,
}

/// The `af_packet_*` keys of one node; `None` where tyto.yaml or the default counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AfPacketKeys {
    /// Size of the ring, bytes.
    pub buffer_size_bytes: Option<u64>,
    /// Size of a block, bytes.
    pub block_size_bytes: Option<u32>,
    /// Hand-over of a block that is not full, milliseconds.
    pub block_timeout_ms: Option<u32>,
    /// Share the interface with the other workers on it.
    pub enable_fanout: Option<bool>,
    /// Number of the fanout group.
    pub fanout_id: Option<u16>,
    /// How packets are spread.
    pub fanout_mode: Option<FanoutMode>,
    /// Kernel joins fragments first.
    pub fanout_defrag: Option<bool>,
    /// Take wrong checksums as good.
    pub ignore_checksums: Option<bool>,
}

/// What one section gave.
#[derive(Debug)]
pub(super) struct Draft {
    /// Its role, if it could be read.
    pub(super) role: Option<Role>,
    /// Its nodes; none when role or host could not be read.
    pub(super) nodes: Vec<Node>,
}

/// Reads one section. The nodes' `count` is left 0: it needs the sections before.
pub(super) fn read_section(
    section: &Section,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Fault>,
) -> Draft {
    let mut reader = Reader { section, values: BTreeMap::new(), faults, warnings };
    reader.check_name();
    reader.collect();
    reader.draft()
}

struct Reader<'a> {
    section: &'a Section,
    /// Non-empty values of known keys.
    values: BTreeMap<&'static str, &'a Entry>,
    faults: &'a mut Vec<Fault>,
    warnings: &'a mut Vec<Fault>,
}

impl Reader<'_> {
    fn check_name(&mut self) {
        let name = self.section.name.as_str();
        let reserved = RESERVED_NAMES.iter().any(|word| word.eq_ignore_ascii_case(name));
        if is_node_name(name) && !reserved {
            return;
        }
        let expected = if reserved {
            "a name that is not a group of nodes or a file of ctl"
        } else {
            "letters, digits, `-` and `_`, at most 63, not digits alone, \
             a letter or digit first and last"
        };
        let kind = FaultKind::BadNodeName { name: name.to_owned(), expected };
        self.faults.push(Fault::new(&self.section.at, kind));
    }

    /// Sorts the entries to the keys they stand for.
    fn collect(&mut self) {
        for entry in &self.section.entries {
            let name = entry.key.replace('.', "_");
            let Some(key) = node_key(&name) else {
                let kind = FaultKind::UnknownNodeKey { node: self.node(), key: entry.key.clone() };
                let fault = Fault::new(&entry.at, kind);
                let known = NODE_KEYS.iter().map(|key| key.name);
                self.faults.push(match nearest(&name, known) {
                    Some(known) => fault.hint(format!("did you mean `{known}`?")),
                    None => fault.hint("`ctl keys` lists the keys"),
                });
                continue;
            };
            if entry.value.is_empty() {
                continue;
            }
            if let Some(first) = self.values.insert(key.name, entry) {
                let (section, key) = (self.node(), entry.key.clone());
                let kind = FaultKind::DuplicateKey { section, key, first_line: first.at.line };
                self.faults.push(Fault::new(&entry.at, kind).hint("delete one of the two lines"));
            }
        }
    }

    fn draft(&mut self) -> Draft {
        let role = self.role();
        let host = self.required("host", |text| is_host_name(text).then(|| HostName::from(text)));
        if let Some(role) = role {
            self.check_scopes(role);
        }
        let interface = self.interface(role);
        let procs = self.lb_procs(role);
        let cpus = self.value("pin_cpus", value::cpus).unwrap_or_default();
        let env = self.value("env_vars", value::env_vars).unwrap_or_default();
        let af_packet = self.af_packet();
        let (Some(role), Some(host)) = (role, host) else {
            return Draft { role, nodes: Vec::new() };
        };
        let template = Node {
            name: self.section.name.as_str().into(),
            role,
            host,
            at: self.section.at.clone(),
            section: self.section.name.clone(),
            count: 0,
            interface,
            cpu: cpus.first().copied(),
            env,
            af_packet,
            given: self.values.iter().map(|(key, e)| (*key, e.value.clone())).collect(),
        };
        Draft { role: Some(role), nodes: self.expand(template, procs, &cpus) }
    }

    fn role(&mut self) -> Option<Role> {
        let before = self.faults.len();
        let role = self.required("type", |text| text.parse::<Role>().ok());
        let found = self.values.get("type").map_or("", |entry| entry.value.as_str());
        let known = Role::ALL.map(Role::as_str);
        if let (Some(fault), Some(known)) =
            (self.faults.get_mut(before), nearest(&found.to_lowercase(), known))
        {
            fault.hint = Some(format!("type={known}"));
        }
        role
    }

    /// `NAME-1` to `NAME-N`, each with its CPU.
    fn expand(&mut self, template: Node, procs: Option<u32>, cpus: &[u32]) -> Vec<Node> {
        let Some(procs) = procs else { return vec![template] };
        let longest = format!("{}-{procs}", self.section.name);
        if longest.len() > NODE_NAME_CHARS_MAX && is_node_name(&self.section.name) {
            let expected = "a name that has at most 63 characters with its number";
            let kind = FaultKind::BadNodeName { name: longest, expected };
            self.faults.push(Fault::new(&self.section.at, kind));
        }
        (1..=procs)
            .zip(cpus.iter().map(|&cpu| Some(cpu)).cycle().chain(std::iter::repeat(None)))
            .map(|(n, cpu)| Node {
                name: format!("{}-{n}", self.section.name).into(),
                cpu,
                ..template.clone()
            })
            .collect()
    }

    /// Keys that mean nothing to a node of this role.
    fn check_scopes(&mut self, role: Role) {
        let captures = matches!(role, Role::Worker | Role::Standalone);
        for key in NODE_KEYS {
            let Some(entry) = self.values.get(key.name) else { continue };
            let (node, key_name, at) = (self.node(), key.name, &entry.at);
            match key.scope {
                Scope::Worker if role != Role::Worker => {
                    let kind = FaultKind::WrongRole { node, key: key_name, only: "workers", role };
                    self.faults.push(Fault::new(at, kind));
                }
                Scope::Capture if !captures => {
                    let reason = "only workers and standalone capture";
                    let kind = FaultKind::NoEffect { node, key: key_name, reason };
                    self.warnings.push(Fault::new(at, kind));
                }
                Scope::Nothing => {
                    let kind = FaultKind::NoEffect { node, key: key_name, reason: key.doc };
                    self.warnings.push(Fault::new(at, kind));
                }
                Scope::Any | Scope::Capture | Scope::Worker => {}
            }
        }
    }

    fn interface(&mut self, role: Option<Role>) -> Option<String> {
        let captures = matches!(role, Some(Role::Worker | Role::Standalone));
        let Some(&entry) = self.values.get("interface") else {
            if captures {
                let kind = FaultKind::NoInterface { node: self.node() };
                self.warnings.push(Fault::new(&self.section.at, kind));
            }
            return None;
        };
        if let Some((source, interface)) = entry.value.split_once("::")
            && source != "af_packet"
        {
            let reason = "packets come from AF_PACKET sockets";
            let hint = format!("interface={interface}");
            self.unsupported("interface", reason, &hint);
            return None;
        }
        let interface = self.value("interface", |text| {
            let name = text.strip_prefix("af_packet::").unwrap_or(text);
            value::is_interface(name).then(|| name.to_owned())
        });
        interface.filter(|_| captures)
    }

    /// Number of processes, when the section is to be expanded.
    fn lb_procs(&mut self, role: Option<Role>) -> Option<u32> {
        if role.is_some_and(|role| role != Role::Worker) {
            return None;
        }
        self.lb_method();
        let entry = *self.values.get("lb_procs")?;
        if !self.values.contains_key("lb_method") {
            let needs = "lb_method";
            let kind = FaultKind::KeyNeeds { node: self.node(), key: "lb_procs", needs };
            self.faults.push(Fault::new(&entry.at, kind).hint("lb_method=af_packet"));
        }
        let procs = self.value("lb_procs", |text| {
            value::whole(text, 1, LB_PROCS_MAX.into()).and_then(|n| u32::try_from(n).ok())
        });
        if procs.is_none()
            && let Some(fault) = self.faults.last_mut()
        {
            let interface = self.values.get("interface").map_or("eth0", |e| e.value.as_str());
            let interface = interface.trim_start_matches("af_packet::");
            fault.hint = Some(format!(
                "one process per receive queue is usual; `ethtool -l {interface}` lists the queues"
            ));
        }
        procs
    }

    fn lb_method(&mut self) {
        let Some(&method) = self.values.get("lb_method") else {
            if let Some(&entry) = self.values.get("lb_interfaces") {
                let needs = "lb_method";
                let kind = FaultKind::KeyNeeds { node: self.node(), key: "lb_interfaces", needs };
                self.faults.push(Fault::new(&entry.at, kind));
            }
            return;
        };
        if !self.values.contains_key("lb_procs") {
            let needs = "lb_procs";
            let kind = FaultKind::KeyNeeds { node: self.node(), key: "lb_method", needs };
            self.faults.push(Fault::new(&method.at, kind).hint("lb_procs=4"));
        }
        let use_af_packet = "lb_method=af_packet";
        match method.value.as_str() {
            "af_packet" => {
                if let Some(&entry) = self.values.get("lb_interfaces") {
                    let reason = "it belongs to lb_method=interfaces";
                    let node = self.node();
                    let kind = FaultKind::NoEffect { node, key: "lb_interfaces", reason };
                    self.warnings.push(Fault::new(&entry.at, kind));
                }
            }
            "interfaces" => {
                let hint = "write one worker section with its `interface` for each of them";
                self.unsupported("lb_method", "one section is one interface here", hint);
            }
            "pf_ring" | "myricom" | "custom" => {
                let reason = "packets come from AF_PACKET sockets";
                self.unsupported("lb_method", reason, use_af_packet);
            }
            _ => {
                self.value("lb_method", |_| None::<()>);
                if let Some(fault) = self.faults.last_mut() {
                    fault.hint = Some(use_af_packet.to_owned());
                }
            }
        }
    }

    fn af_packet(&mut self) -> AfPacketKeys {
        self.check_af_packet_limits();
        AfPacketKeys {
            buffer_size_bytes: self
                .value("af_packet_buffer_size", |t| value::size_bytes(t, 1 << 20, 1 << 36)),
            block_size_bytes: self.value("af_packet_block_size", |t| {
                let bytes = value::size_bytes(t, 1 << 14, 1 << 24)?;
                u32::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two())
            }),
            block_timeout_ms: self.value("af_packet_block_timeout", |t| {
                value::duration_ms(t, 1, 1000).and_then(|ms| u32::try_from(ms).ok())
            }),
            enable_fanout: self.value("af_packet_enable_fanout", value::boolean),
            fanout_id: self.value("af_packet_fanout_id", |t| {
                value::whole(t, 1, u16::MAX.into()).and_then(|id| u16::try_from(id).ok())
            }),
            fanout_mode: self.fanout_mode(),
            fanout_defrag: self.value("af_packet_enable_defrag", value::boolean),
            ignore_checksums: self.ignore_checksums(),
        }
    }

    /// Keys whose only value is what Tyto does anyway.
    fn check_af_packet_limits(&mut self) {
        let timestamping = self.value("af_packet_enable_hw_timestamping", value::boolean);
        if timestamping == Some(true) {
            let reason = "packets carry the kernel's time";
            self.unsupported("af_packet_enable_hw_timestamping", reason, "delete the line");
        }
        let link_type = self.value("af_packet_link_type", |t| value::whole(t, 0, u64::MAX));
        if link_type.is_some_and(|link_type| link_type != 1) {
            let reason = "live capture is Ethernet";
            self.unsupported("af_packet_link_type", reason, "af_packet_link_type=1");
        }
    }

    fn fanout_mode(&mut self) -> Option<FanoutMode> {
        const KEY: &str = "af_packet_fanout_mode";
        let word = value::enum_word(&self.values.get(KEY)?.value, "FANOUT_");
        if matches!(word.as_str(), "CBPF" | "EBPF") {
            self.unsupported(KEY, "no program is attached to the group", "FANOUT_HASH");
            return None;
        }
        self.value(KEY, value::fanout_mode)
    }

    fn ignore_checksums(&mut self) -> Option<bool> {
        const KEY: &str = "af_packet_checksum_validation_mode";
        let word = value::enum_word(&self.values.get(KEY)?.value, "CHECKSUM_");
        if word == "KERNEL" {
            self.unsupported(KEY, "checksums are verified by the worker", "CHECKSUM_ON");
            return None;
        }
        self.value(KEY, |_| match word.as_str() {
            "ON" => Some(false),
            "OFF" => Some(true),
            _ => None,
        })
    }

    /// A key's value, read by `read`; a fault when it cannot be read.
    fn value<T>(&mut self, name: &'static str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let entry = *self.values.get(name)?;
        let value = read(&entry.value);
        if value.is_none() {
            let expected = node_key(name).map_or("another value", |key: &NodeKey| key.expected);
            let (node, found) = (self.node(), entry.value.clone());
            let kind = FaultKind::BadNodeValue { node, key: name, found, expected };
            self.faults.push(Fault::new(&entry.at, kind));
        }
        value
    }

    fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if !self.values.contains_key(name) {
            let kind = FaultKind::MissingNodeKey { node: self.node(), key: name };
            let example = if name == "type" { "type=worker" } else { "host=localhost" };
            self.faults.push(Fault::new(&self.section.at, kind).hint(example));
        }
        self.value(name, read)
    }

    fn unsupported(&mut self, key: &'static str, reason: &'static str, hint: &str) {
        if let Some(&entry) = self.values.get(key) {
            let (node, found) = (self.node(), entry.value.clone());
            let kind = FaultKind::Unsupported { node, key, found, reason };
            self.faults.push(Fault::new(&entry.at, kind).hint(hint));
        }
    }

    fn node(&self) -> String {
        self.section.name.clone()
    }
}
