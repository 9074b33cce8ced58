//! node.cfg: sections in, nodes out. A worker with `lb_procs=N` is N nodes, `NAME-1` to
//! `NAME-N`. What concerns one section is checked here, the cluster as a whole in
//! [`super::cluster`].

use std::collections::BTreeMap;

use super::cfg_file::{Entry, Section};
use super::error::{At, Fault, FaultKind};
use super::name::{HostName, NODE_NAME_CHARS_MAX, NodeName, is_host_name, is_node_name};
use super::nearest::nearest;
use super::node_capture::CaptureKeys;
use super::node_keys::{NODE_KEYS, NodeKey, Scope, node_key};
use super::runtime::Role;
use super::setting_keys::{MEMORY_BYTES_MAX, MEMORY_BYTES_MIN};
use super::{unknown_key, value};

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
    /// What it captures, where that differs from tyto.yaml.
    pub capture: CaptureKeys,
    /// What it may use of its host, where that differs from tyto.yaml.
    pub limits: LimitKeys,
    /// The keys of the section as they were written, without empty ones.
    pub given: BTreeMap<&'static str, Given>,
}

/// A key as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its value, references resolved.
    pub value: String,
    /// Where it is.
    pub at: At,
}

/// Limits of one node; `None` where tyto.yaml or the default counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitKeys {
    /// Memory, bytes; 0 means no limit.
    pub memory_bytes_max: Option<u64>,
    /// Niceness.
    pub nice: Option<i8>,
    /// Let the kernel write a core when the process crashes.
    pub core_dumps: Option<bool>,
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

pub(super) struct Reader<'a> {
    pub(super) section: &'a Section,
    /// Non-empty values of known keys.
    pub(super) values: BTreeMap<&'static str, &'a Entry>,
    pub(super) faults: &'a mut Vec<Fault>,
    pub(super) warnings: &'a mut Vec<Fault>,
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
                let hint = unknown_key::in_nodes(&name);
                self.faults.push(Fault::new(&entry.at, kind).hint(hint));
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
        let capture = self.capture();
        let limits = self.limits();
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
            capture,
            limits,
            given: self.values.iter().map(|(&key, entry)| (key, given(entry))).collect(),
        };
        Draft { role: Some(role), nodes: self.expand(template, procs, &cpus) }
    }

    fn role(&mut self) -> Option<Role> {
        let before = self.faults.len();
        let is_of_node = |role: &Role| Role::ALL.contains(role);
        let role = self.required("type", |text| text.parse::<Role>().ok().filter(is_of_node));
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

    fn limits(&mut self) -> LimitKeys {
        LimitKeys {
            memory_bytes_max: self.value("memory_bytes_max", |text| match text {
                "0" => Some(0),
                text => value::size_bytes(text, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX),
            }),
            nice: self.value("nice", value::nice),
            core_dumps: self.value("core_dumps", value::boolean),
        }
    }

    /// A key's value, read by `read`; a fault when it cannot be read.
    pub(super) fn value<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let entry = *self.values.get(name)?;
        let value = read(&entry.value);
        if value.is_none() {
            let expected = node_key(name).map_or("another value", |key: &NodeKey| key.expected);
            let (node, found) = (self.node(), entry.value.clone());
            let kind = FaultKind::BadNodeValue { node, key: name, found, expected };
            self.fault_once(Fault::new(&entry.at, kind));
        }
        value
    }

    /// Notes a fault of a value. One in `[DEFAULT]` is the same fault in each section: it is
    /// said for the first.
    pub(super) fn fault_once(&mut self, fault: Fault) {
        let same = |other: &Fault| {
            let kinds = [&other.kind, &fault.kind].map(std::mem::discriminant);
            other.at == fault.at && kinds[0] == kinds[1]
        };
        if !self.faults.iter().any(same) {
            self.faults.push(fault);
        }
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

    pub(super) fn unsupported(&mut self, key: &'static str, reason: &'static str, hint: &str) {
        if let Some(&entry) = self.values.get(key) {
            let (node, found) = (self.node(), entry.value.clone());
            let kind = FaultKind::Unsupported { node, key, found, reason };
            self.faults.push(Fault::new(&entry.at, kind).hint(hint));
        }
    }

    pub(super) fn node(&self) -> String {
        self.section.name.clone()
    }
}

fn given(entry: &Entry) -> Given {
    Given { value: entry.value.clone(), at: entry.at.clone() }
}
