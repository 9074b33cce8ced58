//! node.cfg of a cluster on lab hosts, section by section.

use std::fmt::Display;

/// A node.cfg; hosts are numbers in the lab.
#[derive(Clone, Debug, Default)]
pub struct NodeCfg(String);

impl NodeCfg {
    /// Manager, logger and proxy-1 on one host.
    pub fn with_head(host: usize) -> Self {
        Self::default()
            .node("manager", "manager", host)
            .node("logger", "logger", host)
            .proxy("proxy-1", host)
    }

    /// A proxy.
    pub fn proxy(self, name: &str, host: usize) -> Self {
        self.node("proxy", name, host)
    }

    /// A worker of one process, on the interface that replays go to.
    pub fn worker(self, name: &str, host: usize) -> Self {
        self.node("worker", name, host).key("interface", "cap0")
    }

    /// Processes that share the interface of the worker that was added last.
    pub fn procs(self, procs: u32) -> Self {
        self.key("lb_method", "af_packet").key("lb_procs", procs)
    }

    /// A key of the node that was added last.
    pub fn key(mut self, key: &str, value: impl Display) -> Self {
        self.0 += &format!("{key}={value}\n");
        self
    }

    /// A node of a role (the word after `type=`).
    pub fn node(mut self, role: &str, name: &str, host: usize) -> Self {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0 += &format!("[{name}]\n");
        self.key("type", role).key("host", address(host))
    }

    /// The file.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Address of a host, as the lab gives it.
fn address(host: usize) -> String {
    format!("10.99.0.{host}")
}
