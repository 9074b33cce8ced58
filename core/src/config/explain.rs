//! What a node gets, key by key, and which line of which file says so. The values are read
//! from the very configuration that [`super::generate`] makes, so they cannot differ from it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_yaml::Value;

use super::cluster::Cluster;
use super::error::At;
use super::generate::UnknownAddress;
use super::name::HostName;
use super::node::Node;
use super::node_keys::{NodeKey, Unset, node_key};
use super::runtime::Role;
use super::setting_keys::setting_key;
use super::settings::plain;

/// One thing that a node gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Key of node.cfg where there is one, else of tyto.yaml, else a name for what is made.
    pub name: String,
    /// The key of tyto.yaml that counts for all nodes, where there is one.
    pub setting: Option<&'static str>,
    /// Where the node's own configuration file has it; empty when it is not in there.
    pub field: &'static str,
    /// The value; empty for none.
    pub value: String,
    /// Its unit; empty for none.
    pub unit: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// A line of tyto.yaml that says the same key, and loses to node.cfg.
    pub over: Option<At>,
    /// What it does.
    pub doc: String,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of a file.
    File(At),
    /// Nobody said anything.
    Default,
    /// It follows from other things, in words.
    Made(String),
}

/// Who decides a field of the generated configuration.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// A key of node.cfg, and the key of tyto.yaml behind it.
    Key(&'static str),
    /// A key of tyto.yaml.
    Setting(&'static str),
    /// It is made, by [`Explainer::made`].
    Made(&'static str, &'static str),
}

use Origin::{Key, Made, Setting};

/// Every field of a node's configuration, but for lists and maps, in the order of the answer.
const FIELDS: &[(&str, Origin)] = &[
    ("node", Made("name", "name of the node")),
    ("role", Key("type")),
    ("host", Key("host")),
    ("listen", Made("listen", "where the node takes connections of others")),
    ("capture.interface", Key("interface")),
    ("capture.filter", Key("filter")),
    ("capture.snaplen_bytes", Key("snaplen")),
    ("capture.buffer_size_bytes", Key("af_packet_buffer_size")),
    ("capture.block_size_bytes", Key("af_packet_block_size")),
    ("capture.block_timeout_ms", Key("af_packet_block_timeout")),
    ("capture.fanout_id", Made("af_packet_fanout_id", "number of the fanout group")),
    ("capture.fanout_mode", Key("af_packet_fanout_mode")),
    ("capture.fanout_inner", Key("af_packet_fanout_inner")),
    ("capture.fanout_defrag", Key("af_packet_enable_defrag")),
    ("capture.promiscuous", Key("af_packet_promiscuous")),
    ("capture.checksums", Key("af_packet_checksum_validation_mode")),
    ("capture.hw_timestamps", Key("af_packet_enable_hw_timestamping")),
    ("capture.link_type", Key("af_packet_link_type")),
    ("analysis.ignore_checksums", Setting("ignore_checksums")),
    ("analysis.private_address_space_is_local", Setting("private_address_space_is_local")),
    ("analysis.community_id", Setting("community_id")),
    ("analysis.flows_max", Setting("flows_max")),
    ("analysis.traceroute", Setting("traceroute")),
    ("analysis.unknown_protocols", Setting("unknown_protocols")),
    ("analysis.software_version_changes", Setting("software_version_changes")),
    ("analysis.disabled_analyzers", Setting("disabled_analyzers")),
    ("analysis.hash_files", Setting("hash_files")),
    ("analysis.ssl_fingerprints", Setting("ssl_fingerprints")),
    ("analysis.validate_certificates", Setting("validate_certificates")),
    ("analysis.trusted_certificates", Setting("trusted_certificates")),
    ("analysis.ssh_hassh", Setting("ssh_hassh")),
    ("analysis.log_passwords", Setting("log_passwords")),
    ("analysis.extract_files", Setting("extract_files")),
    ("analysis.extract_bytes_max", Setting("extract_bytes_max")),
    ("analysis.extract_total_bytes_max", Setting("extract_total_bytes_max")),
    ("ship.batch_rows_max", Setting("batch_rows_max")),
    ("ship.batch_interval_ms", Setting("batch_interval_ms")),
    ("ship.spool_bytes_max", Setting("spool_bytes_max")),
    ("ship.spool_age_max_s", Setting("spool_age_max_s")),
    ("ship.spool_drop_first", Setting("spool_drop_first")),
    ("ship.doubt_timeout_s", Setting("doubt_timeout_s")),
    ("logs.format", Setting("log_format")),
    ("logs.rotation_interval_s", Setting("log_rotation_interval_s")),
    ("logs.compress", Setting("compress_logs")),
    ("logs.commit_interval_ms", Setting("commit_interval_ms")),
    ("logs.json_timestamps", Setting("json_timestamps")),
    ("logs.compress_level", Setting("compress_level")),
    ("logs.parquet", Setting("parquet_logs")),
    ("logs.archive_name", Setting("archive_name")),
    ("logs.expire", Setting("log_expire_interval")),
    ("logs.keep", Setting("keep_logs")),
    ("logs.archive_bytes_max", Setting("log_archive_bytes_max")),
    ("logs.free_min", Setting("log_free_min")),
    ("logs.rotation_command", Setting("rotation_command")),
    ("logs.rotation_command_timeout_s", Setting("rotation_command_timeout_s")),
    ("logs.rotation_command_tries", Setting("rotation_command_tries")),
    ("logs.streams", Setting("streams")),
    ("sinks", Setting("sinks")),
    ("logs.name_in_archive", Made("name_in_archive", "archive files carry the logger's name")),
    ("limits.memory_bytes_max", Key("memory_bytes_max")),
    ("limits.nice", Key("nice")),
    ("limits.core_dumps", Key("core_dumps")),
    ("stop_timeout_s", Setting("stop_timeout_s")),
    ("watch.watchdog_s", Setting("watchdog_s")),
    ("watch.crash_reports_max", Setting("crash_reports_max")),
    ("watch.crash_expire_days", Setting("crash_expire_days")),
    ("alarms.log_lag_max_s", Setting("log_lag_max_s")),
    ("metrics_listen", Setting("metrics_listen")),
    ("cluster", Setting("cluster")),
    ("prefix", Setting("prefix")),
];

impl Cluster {
    /// Everything that `node` gets. A host without an address in `addrs` is shown by its name.
    ///
    /// # Errors
    /// Never for a node of this cluster.
    pub fn explain(
        &self,
        node: &Node,
        addrs: &BTreeMap<HostName, IpAddr>,
    ) -> Result<Vec<Effective>, UnknownAddress> {
        let mut known = addrs.clone();
        for host in self.hosts() {
            known.entry(host.clone()).or_insert(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        }
        let tree = self.tree(node, &known)?;
        let explainer = Explainer { cluster: self, node, addrs };
        let mut all: Vec<Effective> = FIELDS
            .iter()
            .filter(|(field, _)| concerns(node, field))
            .filter_map(|&(field, origin)| explainer.field(&tree, field, origin))
            .collect();
        explainer.balancing(&mut all);
        explainer.environment(&mut all);
        explainer.networks(&mut all);
        explainer.peers(&mut all);
        Ok(all)
    }

    /// What is generated for a node, in one tree.
    fn tree(
        &self,
        node: &Node,
        addrs: &BTreeMap<HostName, IpAddr>,
    ) -> Result<Value, UnknownAddress> {
        let own = self.node_config(node, addrs)?;
        let host = self.host_config(&node.host, "");
        let place = host.nodes.into_iter().find(|other| node.name == other.node.as_str());
        let mut tree = serde_yaml::to_value(own).unwrap_or_default();
        if let (Value::Mapping(tree), Some(place)) = (&mut tree, place) {
            let limits = serde_yaml::to_value(place.limits).unwrap_or_default();
            let watch = serde_yaml::to_value(host.watch).unwrap_or_default();
            tree.insert("limits".into(), limits);
            tree.insert("watch".into(), watch);
            let metrics_listen = host.metrics_listen.map(|address| address.to_string());
            tree.insert("metrics_listen".into(), metrics_listen.map_or(Value::Null, Value::from));
            let alarms = serde_yaml::to_value(host.alarms).unwrap_or_default();
            tree.insert("alarms".into(), alarms);
            tree.insert("stop_timeout_s".into(), host.stop_timeout_s.into());
            tree.insert("host".into(), node.host.as_str().into());
        }
        Ok(tree)
    }
}

/// True for a field that a node of that role reads.
fn concerns(node: &Node, field: &str) -> bool {
    let captures = matches!(node.role, Role::Worker | Role::Standalone);
    match field.split('.').next() {
        Some("capture") => captures && node.interface.is_some(),
        Some("analysis" | "ship") => captures,
        Some("logs") => matches!(node.role, Role::Logger | Role::Standalone),
        Some("listen") => !captures,
        _ => true,
    }
}

struct Explainer<'a> {
    cluster: &'a Cluster,
    node: &'a Node,
    addrs: &'a BTreeMap<HostName, IpAddr>,
}

impl Explainer<'_> {
    fn field(&self, tree: &Value, field: &'static str, origin: Origin) -> Option<Effective> {
        let value = field.split('.').try_fold(tree, |value, part| value.get(part));
        let value = plain(value.unwrap_or(&Value::Null));
        match origin {
            Key(name) => node_key(name).map(|key| self.of_key(key, field, value)),
            Setting(name) => Some(self.of_setting(name, field, value)),
            Made(name, doc) => {
                let value = if field == "listen" { self.address(self.node)? } else { value };
                let (name, doc, source) = (name.to_owned(), doc.to_owned(), self.made(field));
                Some(Effective { doc, ..effective(name, field, value, source) })
            }
        }
    }

    fn of_key(&self, key: &'static NodeKey, field: &'static str, value: String) -> Effective {
        let given = self.given(key.name);
        let setting = match key.unset {
            Unset::Setting(name) => Some(name),
            _ => None,
        };
        let behind = match key.name {
            "af_packet_checksum_validation_mode" => self.checksums_of_all(),
            _ => setting.and_then(|name| self.cluster.places.at(name)).cloned(),
        };
        let over = behind.clone().filter(|_| given.is_some());
        let source = match (given.or(behind), key.unset) {
            (Some(at), _) => Source::File(at),
            (None, Unset::Made(how)) => Source::Made(how.to_owned()),
            (None, _) => Source::Default,
        };
        let name = key.name.to_owned();
        let (unit, doc) = (key.unit, key.doc.to_owned());
        Effective { setting, unit, over, doc, ..effective(name, field, value, source) }
    }

    fn of_setting(&self, name: &'static str, field: &'static str, value: String) -> Effective {
        let place = self.cluster.places.at(name).cloned();
        let at = match field {
            // The mode decides, whoever said it.
            "analysis.ignore_checksums" => {
                self.given("af_packet_checksum_validation_mode").or(self.checksums_of_all())
            }
            _ => place,
        };
        let source = at.map_or(Source::Default, Source::File);
        let (unit, doc) = setting_key(name).map_or(("", ""), |key| (key.unit, key.doc));
        let (setting, doc) = (Some(name), doc.to_owned());
        Effective { setting, unit, doc, ..effective(name.to_owned(), field, value, source) }
    }

    /// The line of tyto.yaml that decides who verifies checksums, for nodes that do not say.
    fn checksums_of_all(&self) -> Option<At> {
        let (settings, places) = (&self.cluster.settings, &self.cluster.places);
        let key = match settings.ignore_checksums {
            true => "ignore_checksums",
            false => "af_packet.checksums",
        };
        places.at(key).cloned()
    }

    /// Where a thing comes from that no key says alone.
    fn made(&self, field: &str) -> Source {
        let node = self.node;
        match field {
            "node" if node.name == node.section.as_str() => Source::File(node.at.clone()),
            "node" => Source::Made(format!("`[{}]` at {} and lb_procs", node.section, node.at)),
            "listen" => {
                let port = self.cluster.places.at("port");
                let port = port.map_or_else(|| "default".to_owned(), ToString::to_string);
                Source::Made(format!("`port` ({port}) and the node's place in node.cfg"))
            }
            "capture.fanout_id" => self.fanout_id(),
            _ => Source::Made("the number of loggers in node.cfg".to_owned()),
        }
    }

    fn fanout_id(&self) -> Source {
        const KEY: &str = "af_packet_fanout_id";
        let node = self.node;
        if node.capture.enable_fanout == Some(false) {
            return Source::Made("af_packet_enable_fanout=F".to_owned());
        }
        let shares = |other: &&Node| other.host == node.host && other.interface == node.interface;
        let mut group: Vec<&Node> = self.cluster.nodes.iter().filter(shares).collect();
        group.retain(|other| other.capture.enable_fanout != Some(false));
        if let Some(at) = self.given(KEY) {
            return Source::File(at);
        }
        match group.iter().find_map(|other| other.given.get(KEY)) {
            Some(given) => Source::File(given.at.clone()),
            None if group.len() < 2 => Source::Made("alone on its interface".to_owned()),
            None => Source::Made("the name of the interface".to_owned()),
        }
    }

    /// Keys about the section as a whole, and the CPU.
    fn balancing(&self, all: &mut Vec<Effective>) {
        for name in ["lb_method", "lb_procs", "af_packet_enable_fanout", "pin_cpus"] {
            let (Some(key), Some(given)) = (node_key(name), self.node.given.get(name)) else {
                continue;
            };
            let value = match name {
                "pin_cpus" => self.node.cpu.map(|cpu| cpu.to_string()).unwrap_or_default(),
                _ => given.value.clone(),
            };
            all.push(self.of_key(key, "", value));
        }
    }

    fn environment(&self, all: &mut Vec<Effective>) {
        let settings = self.cluster.places.at("env_vars");
        let of_all = &self.cluster.settings.env_vars;
        for (variable, value) in self.cluster.env(self.node) {
            let is_own = self.node.env.contains_key(&variable);
            let behind = settings.filter(|_| of_all.contains_key(&variable)).cloned();
            let own = self.given("env_vars").filter(|_| is_own);
            let over = behind.clone().filter(|_| is_own);
            let source = own.or(behind).map_or(Source::Default, Source::File);
            let name = format!("env_vars.{variable}");
            let (setting, doc) = (Some("env_vars"), "environment variable".to_owned());
            all.push(Effective { setting, over, doc, ..effective(name, "", value, source) });
        }
    }

    fn networks(&self, all: &mut Vec<Effective>) {
        if !concerns(self.node, "analysis") {
            return;
        }
        for network in &self.cluster.networks {
            let source = Source::File(network.at.clone());
            let (name, value) = ("local_net".to_owned(), network.net.to_string());
            let doc = "local network".to_owned();
            all.push(Effective { doc, ..effective(name, "analysis.local_nets", value, source) });
        }
    }

    /// Whom the node dials.
    fn peers(&self, all: &mut Vec<Effective>) {
        for peer in &self.cluster.nodes {
            if let Some(value) = self.address(peer).filter(|_| peer.name != self.node.name) {
                let source = Source::File(peer.at.clone());
                let (name, doc) = (format!("peer.{}", peer.name), format!("the {}", peer.role));
                all.push(Effective { doc, ..effective(name, "", value, source) });
            }
        }
    }

    /// Where a node listens, if it does.
    fn address(&self, node: &Node) -> Option<String> {
        let port = *self.cluster.ports().get(&node.name)?;
        Some(match self.addrs.get(&node.host) {
            Some(addr) => std::net::SocketAddr::new(*addr, port).to_string(),
            None => format!("{}:{port}", node.host),
        })
    }

    fn given(&self, key: &str) -> Option<At> {
        self.node.given.get(key).map(|given| given.at.clone())
    }
}

fn effective(name: String, field: &'static str, value: String, source: Source) -> Effective {
    let doc = String::new();
    Effective { name, setting: None, field, value, unit: "", source, over: None, doc }
}

impl Source {
    /// In words: `node.cfg:14`, `default`, or what it follows from.
    pub fn words(&self) -> String {
        match self {
            Self::File(at) => at.to_string(),
            Self::Default => "default".to_owned(),
            Self::Made(how) => how.clone(),
        }
    }
}
