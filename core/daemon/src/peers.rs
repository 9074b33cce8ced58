//! Whom a node can dial, followed while it runs: `etc/peers.yaml` of the release in use. A
//! deploy that adds a logger or moves the manager switches the release, and every node goes on
//! with the new list without a restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};
use tyto_core::config::runtime::{NodeConfig, Peer, PeersConfig, Role};
use tyto_core::layout::Layout;

/// Time between two looks at the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The nodes of the cluster that listen, as they are now.
#[derive(Clone, Debug)]
pub struct Peers {
    now: watch::Receiver<Arc<[Peer]>>,
    /// Loggers that will not come back; none: nobody tells.
    gone: Option<watch::Receiver<Vec<String>>>,
}

impl Peers {
    /// Those that `config` names, and from then on those of the release in use. Call it inside
    /// of a runtime; the following ends with the last clone of the result.
    pub fn follow(config: &NodeConfig) -> Self {
        let (tell, now) = watch::channel(Arc::from(config.peers.as_slice()));
        let path = Layout::new(&config.prefix).peers();
        let (tell_gone, gone) = watch::channel(Vec::new());
        tokio::spawn(follow(path, config.node.clone(), tell, tell_gone));
        Self { now, gone: Some(gone) }
    }

    /// Those that somebody else tells of.
    pub const fn told(now: watch::Receiver<Arc<[Peer]>>) -> Self {
        Self { now, gone: None }
    }

    /// Those of a role at this moment, in node.cfg order. [`Peers::changed`] then waits for
    /// what comes after it.
    pub fn of(&mut self, role: Role) -> Vec<Peer> {
        self.now.borrow_and_update().iter().filter(|peer| peer.role == role).cloned().collect()
    }

    /// Loggers that will not come back. [`Peers::changed`] then waits for what comes after.
    pub fn loggers_gone(&mut self) -> Vec<String> {
        self.gone.as_mut().map(|gone| gone.borrow_and_update().clone()).unwrap_or_default()
    }

    /// Waits until a list is another; for ever when none can change any more.
    pub async fn changed(&mut self) {
        let Self { now, gone } = self;
        tokio::select! {
            biased;
            changed = now.changed() => {
                if changed.is_ok() {
                    return;
                }
            }
            Some(Ok(())) = async { Some(gone.as_mut()?.changed().await) } => return,
        }
        std::future::pending::<()>().await;
    }

    /// Whether the list is another than [`Peers::of`] gave last.
    pub fn has_changed(&self) -> bool {
        self.now.has_changed().unwrap_or(false)
    }
}

async fn follow(
    path: PathBuf,
    node: String,
    tell: watch::Sender<Arc<[Peer]>>,
    tell_gone: watch::Sender<Vec<String>>,
) {
    let mut seen = Vec::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = tell.closed() => return,
        }
        // No file: this node runs without a release, and its peers stay as they are.
        let Ok(bytes) = tokio::fs::read(&path).await else { continue };
        if bytes == seen {
            continue;
        }
        match serde_yaml::from_slice::<PeersConfig>(&bytes) {
            Ok(config) => {
                tell_gone.send_if_modified(|gone| {
                    let is_other = *gone != config.loggers_gone;
                    gone.clone_from(&config.loggers_gone);
                    is_other
                });
                let changed = tell.send_if_modified(|now| {
                    let is_other = **now != *config.peers;
                    if is_other {
                        *now = config.peers.into();
                    }
                    is_other
                });
                if changed {
                    info!(node, peers = tell.borrow().len(), "the cluster has changed");
                }
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "list of nodes not understood; the one before stays");
            }
        }
        seen = bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn peer(node: &str, role: Role, port: u16) -> Peer {
        Peer { node: node.to_owned(), role, addr: ([127, 0, 0, 1], port).into() }
    }

    fn config(prefix: &std::path::Path) -> NodeConfig {
        let text = format!(
            "cluster: c\nnode: worker-1\nrole: worker\nprefix: {}\nlisten: null\ncapture: null\n\
             analysis:\n  local_nets: []\n  private_address_space_is_local: true\n  \
             ignore_checksums: false\n  community_id: false\nlogs:\n  format: tsv\n  \
             rotation_interval_s: 0\n  compress: false\n  commit_interval_ms: 1\n  \
             name_in_archive: false\nship:\n  batch_rows_max: 1\n  batch_interval_ms: 1\n  \
             spool_bytes_max: 1\n",
            prefix.display()
        );
        let mut config: NodeConfig = serde_yaml::from_str(&text).unwrap();
        config.peers = vec![peer("logger-1", Role::Logger, 1)];
        config
    }

    #[tokio::test]
    async fn another_release_is_another_list_and_a_broken_one_changes_nothing() {
        let prefix = tempfile::tempdir().unwrap();
        let mut peers = Peers::follow(&config(prefix.path()));
        assert_eq!(peers.of(Role::Logger), [peer("logger-1", Role::Logger, 1)]);

        let release = |id: &str, text: &str| {
            let etc = prefix.path().join("releases").join(id).join("etc");
            fs::create_dir_all(&etc).unwrap();
            fs::write(etc.join("peers.yaml"), text).unwrap();
            let fresh = prefix.path().join("current.new");
            std::os::unix::fs::symlink(format!("releases/{id}"), &fresh).unwrap();
            fs::rename(fresh, prefix.path().join("current")).unwrap();
        };
        let two = vec![peer("logger-1", Role::Logger, 1), peer("logger-2", Role::Logger, 2)];
        release(
            "a",
            &serde_yaml::to_string(&PeersConfig { peers: two.clone(), ..PeersConfig::default() })
                .unwrap(),
        );
        peers.changed().await;
        assert_eq!(peers.of(Role::Logger), two);

        // Of a later release, while this node still runs by the one before.
        let later = "peers:\n- { node: logger-3, role: logger, addr: '127.0.0.1:3', weight: 2 }\n\
                     zones: [a, b]\n";
        release("later", later);
        peers.changed().await;
        let two = vec![peer("logger-3", Role::Logger, 3)];
        assert_eq!(peers.of(Role::Logger), two);

        release("b", "peers: nonsense");
        let soon = LOOK_INTERVAL * 3;
        assert!(tokio::time::timeout(soon, peers.changed()).await.is_err());
        assert!(!peers.has_changed());
        assert_eq!(peers.of(Role::Logger), two);
    }
}
