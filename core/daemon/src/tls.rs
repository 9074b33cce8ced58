//! Who a process is, and who calls it: mTLS with one certificate per node, issued by the
//! cluster's CA. A certificate names its node twice: `spiffe://CLUSTER/ROLE/NODE` for what it
//! may do, and NODE as DNS name for whom a client dials.
//!
//! Certificates and CAs are replaced while nodes run: [`Identity::keep_fresh`] looks for other
//! files, new connections use them, and old ones end (`stream.rs`, `channel.rs`).

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use tyto_core::config::runtime::{NodeConfig, Role};
use tyto_core::layout::Layout;
use tyto_proto::v1::IdentityHealth;

use crate::certificate::Facts;
use crate::credentials::{Credentials, Files};
use crate::refusal::{By, Reason, Refusal, Refusals};
use crate::telemetry::chain;
use crate::trust::{Dialled, Judge};

/// Time between two looks for other files.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(2);
/// Answer's metadata with the reason of a refused call.
const REFUSAL_KEY: &str = "tyto-refusal";

/// Why a node has no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is missing or unreadable.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read the private key.
    #[error("`{}` has mode {mode:o}; expected 600: others may have read this key", path.display())]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is not what it should be.
    #[error("`{}` is unusable: {said}; `ctl certs renew` makes a new one", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is the matter with it.
        said: String,
    },
}

/// A node's own certificate and key, and the CAs it trusts, as they are at the moment. Clones
/// are of one and the same.
#[derive(Clone)]
pub struct Identity {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: String,
    node: String,
    files: Files,
    now: watch::Sender<Arc<Credentials>>,
    /// What is the matter with the files on disk; written by `reload`, read by the report.
    fault: Mutex<String>,
    refusals: Refusals,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({}/{})", self.shared.cluster, self.shared.node)
    }
}

/// Makes aws-lc the process's crypto provider; call once before any TLS.
pub fn install_crypto() {
    // Err says that one is installed already, which is what we want.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

impl Identity {
    /// Reads the identity of the node that `config` is for.
    ///
    /// # Errors
    /// When a file cannot be read or used, or the key's mode lets others read it.
    pub fn load(config: &NodeConfig) -> Result<Self, IdentityError> {
        let files = Files::of(&Layout::new(&config.prefix), &config.node);
        let credentials = Arc::new(files.load()?);
        let shared = Shared {
            cluster: config.cluster.clone(),
            node: config.node.clone(),
            files,
            now: watch::Sender::new(credentials),
            fault: Mutex::default(),
            refusals: Refusals::default(),
        };
        let identity = Self { shared: Arc::new(shared) };
        if let Some(fault) = identity.own_fault() {
            tracing::error!(error = %fault, "own certificate will be refused");
        }
        Ok(identity)
    }

    /// Name of the cluster that this identity belongs to.
    pub fn cluster(&self) -> &str {
        &self.shared.cluster
    }

    /// Follows the files until `end`: each [`RELOAD_INTERVAL`], what is new on disk is used.
    pub async fn keep_fresh(&self, end: crate::shutdown::CancellationToken) {
        let mut seen = self.shared.files.stamp();
        // What came between the first reading and this is no difference to look for.
        self.reload();
        loop {
            tokio::select! {
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
                () = end.cancelled() => return,
            }
            let found = self.shared.files.stamp();
            // Half a set of files is looked at again, also when nothing more happens to it.
            if found != seen || !self.fault().is_empty() {
                seen = found;
                self.reload();
            }
        }
    }

    /// Reads the files again; true when they are others than before. What is broken is told,
    /// and what was read before stays in use.
    pub fn reload(&self) -> bool {
        let (fault, is_new) = match self.shared.files.load() {
            Ok(fresh) => {
                let is_new = self.shared.now.send_if_modified(|now| {
                    let is_new = now.facts != fresh.facts || now.authorities != fresh.authorities;
                    if is_new {
                        *now = Arc::new(fresh);
                    }
                    is_new
                });
                (String::new(), is_new)
            }
            Err(error) => (chain(&error), false),
        };
        if is_new {
            let now = self.credentials();
            let (certificate, cas) = (&now.facts.sha256, now.authorities.len());
            tracing::info!(certificate, cas, "certificates replaced");
        }
        let mut told = self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != fault {
            if !fault.is_empty() {
                tracing::error!(error = fault, "new certificate is not used; the old one stays");
            }
            *told = fault;
        }
        is_new
    }

    /// Ends when other certificates are in use than when it was called.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut changes = self.changes();
        async move {
            // Err: the last of all who use this identity is gone.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What the health report says of it.
    pub fn health(&self) -> IdentityHealth {
        let now = self.credentials();
        let mut fault = self.fault();
        if fault.is_empty() {
            fault = self.own_fault().map(|refusal| refusal.text).unwrap_or_default();
        }
        IdentityHealth {
            certificate_sha256: now.facts.sha256.clone(),
            not_after_s: now.facts.not_after_s.try_into().unwrap_or(0),
            trusted_ca_sha256: now.authorities.iter().map(|ca| ca.sha256.clone()).collect(),
            fault,
            refusals: self.shared.refusals.report(),
        }
    }

    /// What is used at this moment.
    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.shared.now.borrow().clone()
    }

    /// Tells when something else is used.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Credentials>> {
        self.shared.now.subscribe()
    }

    /// A judge of the other end of a connection, by what is trusted at this moment.
    pub(crate) fn judge(&self, dialled: Option<Dialled>) -> Judge {
        Judge {
            credentials: self.credentials(),
            cluster: self.shared.cluster.clone(),
            dialled,
            verdict: Arc::default(),
        }
    }

    /// Counts and traces a refusal.
    pub(crate) fn note(&self, by: By, peer: &str, refusal: &Refusal) {
        self.shared.refusals.note(by, peer, refusal);
    }

    fn fault(&self) -> String {
        self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why others will refuse this node, as far as that can be known here.
    fn own_fault(&self) -> Option<Refusal> {
        let judge = self.judge(None);
        let own = judge.credentials.own.clone();
        let (leaf, others) = own.cert.split_first()?;
        judge.judge(leaf, others, UnixTime::now()).err().map(|(refusal, _)| refusal)
    }
}

/// Who a certificate says its holder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Cluster.
    pub cluster: String,
    /// Role.
    pub role: Role,
    /// Node.
    pub node: String,
}

impl PeerIdentity {
    /// Reads `spiffe://CLUSTER/ROLE/NODE`.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("spiffe://")?.split('/');
        let (cluster, role, node) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || cluster.is_empty() || node.is_empty() {
            return None;
        }
        Some(Self { cluster: cluster.into(), role: role.parse().ok()?, node: node.into() })
    }
}

/// Who is at the other end of a connection, and who we are to it; among the extensions of each
/// request that came by mTLS.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What its certificate says.
    pub(crate) facts: Arc<Facts>,
    /// Whom it called.
    pub(crate) called: Identity,
}

/// The caller of an RPC, if its certificate is of `cluster` and has one of `roles`.
///
/// # Errors
/// `UNAUTHENTICATED` without a readable certificate, `PERMISSION_DENIED` for another cluster
/// or role; each says what was found and what was expected.
pub fn require<T>(
    request: &Request<T>,
    cluster: &str,
    roles: &[Role],
) -> Result<PeerIdentity, Status> {
    let caller = request
        .extensions()
        .get::<Caller>()
        .ok_or_else(|| Status::unauthenticated("the caller showed no certificate"))?;
    let peer = caller.facts.holder.clone().ok_or_else(|| {
        Status::unauthenticated("the caller's certificate has no spiffe://CLUSTER/ROLE/NODE name")
    })?;
    let refused = |reason, text: String| {
        let refusal = Refusal::new(reason, text);
        caller.called.note(By::Us, &peer.node, &refusal);
        denied(&refusal)
    };
    if peer.cluster != cluster {
        let text =
            format!("`{}` belongs to cluster `{}`; this is `{cluster}`", peer.node, peer.cluster);
        return Err(refused(Reason::OtherCluster, text));
    }
    if !roles.contains(&peer.role) {
        let allowed: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let text =
            format!("`{}` is a {}; this call is for {}", peer.node, peer.role, allowed.join(", "));
        return Err(refused(Reason::OtherRole, text));
    }
    Ok(peer)
}

fn denied(refusal: &Refusal) -> Status {
    let mut metadata = MetadataMap::new();
    if let Ok(reason) = refusal.reason.as_str().parse() {
        metadata.insert(REFUSAL_KEY, reason);
    }
    Status::with_metadata(Code::PermissionDenied, refusal.text.clone(), metadata)
}

/// Why a server did not take a call, if [`require`] said no.
pub(crate) fn refusal_in(status: &Status) -> Option<Refusal> {
    let word = status.metadata().get(REFUSAL_KEY)?.to_str().ok()?;
    Some(Refusal::new(Reason::from_word(word)?, status.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_name_has_cluster_role_and_node() {
        let peer = PeerIdentity::from_uri("spiffe://lab/worker/worker-1-2").unwrap();
        assert_eq!(
            (peer.cluster.as_str(), peer.role, peer.node.as_str()),
            ("lab", Role::Worker, "worker-1-2")
        );
        for bad in [
            "spiffe://lab/worker",
            "spiffe://lab/king/x",
            "spiffe:///worker/x",
            "https://lab/worker/x",
            "spiffe://lab/worker/x/y",
        ] {
            assert_eq!(PeerIdentity::from_uri(bad), None, "{bad}");
        }
    }
}
