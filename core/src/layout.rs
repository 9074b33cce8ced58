//! Every path on a host, named once.
//!
//! ```text
//! PREFIX/releases/ID/bin/{ctl,manager,supervisor,worker,logger,proxy}
//! PREFIX/releases/ID/etc/{host.yaml,peers.yaml,nodes/NODE.yaml}     what ctl generated for this host
//! PREFIX/current -> releases/ID                          switched atomically
//! PREFIX/etc/{node.cfg,networks.cfg,tyto.yaml}           the operator's, where ctl runs
//! PREFIX/etc/tls/{ca.pem,NODE.pem,NODE.key}              made on this host, keys 0600; NODE.key.new
//!                                                        waits for its certificate
//! PREFIX/history/N.json                                  what was deployed; on the manager's host only, 0700
//! PREFIX/ca/{ca.pem,ca.key}                              on the manager's host only; next.* and
//!                                                        others while the CA is replaced
//! PREFIX/spool/NODE/{stdout.log,stderr.log,ship/,…}      working folder of a node
//! PREFIX/spool/tmp/crash-NODE-TIME/                      what the supervisor kept of a crash
//! PREFIX/run/{supervisor.sock,supervisor.lock,guard.lock,guard.sock,supervisor.log,manager.sock,deploy.lock}
//! PREFIX/run/nodes/{NODE.lock,NODE.json}                 run/ has mode 0700
//! PREFIX/logs/current -> ../spool/LOGGER, logs/YYYY-MM-DD/…
//! ```

use std::path::{Path, PathBuf};

/// The paths below one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    prefix: PathBuf,
}

macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident => $path:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> PathBuf {
            self.prefix.join($path)
        }
    )*};
}

impl Layout {
    /// The layout below `prefix`.
    pub fn new(prefix: impl Into<PathBuf>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The prefix itself.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    paths! {
        /// Whom the nodes can dial, of the release in use.
        peers => "current/etc/peers.yaml";
        /// Folder of the releases.
        releases => "releases";
        /// Symlink to the release in use.
        current => "current";
        /// The operator's configuration.
        etc => "etc";
        /// Keys and certificates of this host's nodes.
        tls => "etc/tls";
        /// The CA's certificate as this host's nodes trust it.
        ca_cert => "etc/tls/ca.pem";
        /// The CA itself; on the manager's host only, mode 0700.
        ca_dir => "ca";
        /// Working folders of the nodes.
        spool => "spool";
        /// Archived logs, and `current`.
        logs => "logs";
        /// Symlink to the folder of the logs being written.
        logs_current => "logs/current";
        /// Sockets and pids, mode 0700.
        run => "run";
        /// What the supervisor kept of its nodes' crashes.
        crashes => "spool/tmp";
        /// Per node of this host: the lock its process holds, and what the operator wants.
        run_nodes => "run/nodes";
        /// The lock that the running supervisor holds.
        supervisor_lock => "run/supervisor.lock";
        /// The lock that the supervisor's guard holds.
        guard_lock => "run/guard.lock";
        /// The lock of the ctl that changes the cluster; on the manager's host only.
        deploy_lock => "run/deploy.lock";
        /// What was deployed when, by whom; on the manager's host only.
        history => "history";
        /// The guard's unix socket, by which it keeps capture sockets for the supervisor.
        guard_sock => "run/guard.sock";
        /// Traces of the supervisor and its guard.
        supervisor_log => "run/supervisor.log";
        /// The supervisor's unix socket.
        supervisor_sock => "run/supervisor.sock";
        /// The manager's unix socket, for ctl.
        manager_sock => "run/manager.sock";
    }

    /// Folder of one release.
    pub fn release(&self, id: &str) -> PathBuf {
        self.releases().join(id)
    }

    /// A program of the release in use.
    pub fn current_bin(&self, program: &str) -> PathBuf {
        self.current().join("bin").join(program)
    }

    /// What the supervisor of this host is to run (in the release in use).
    pub fn host_config(&self) -> PathBuf {
        self.current().join("etc/host.yaml")
    }

    /// Configuration of a node (in the release in use).
    pub fn node_config(&self, node: &str) -> PathBuf {
        self.current().join("etc/nodes").join(format!("{node}.yaml"))
    }

    /// Working folder of a node.
    pub fn node_spool(&self, node: &str) -> PathBuf {
        self.spool().join(node)
    }

    /// The lock that the process of a node holds while it lives.
    pub fn node_lock(&self, node: &str) -> PathBuf {
        self.run_nodes().join(format!("{node}.lock"))
    }

    /// What the operator wants of a node, and what became of its last process.
    pub fn node_record(&self, node: &str) -> PathBuf {
        self.run_nodes().join(format!("{node}.json"))
    }

    /// Certificate of a node.
    pub fn node_cert(&self, node: &str) -> PathBuf {
        self.tls().join(format!("{node}.pem"))
    }

    /// Private key of a node, mode 0600; never leaves its host.
    pub fn node_key(&self, node: &str) -> PathBuf {
        self.tls().join(format!("{node}.key"))
    }

    /// Private key of a node whose certificate is on its way or has just come; takes the place
    /// of [`Self::node_key`] then.
    pub fn next_node_key(&self, node: &str) -> PathBuf {
        self.tls().join(format!("{node}.key.new"))
    }
}
