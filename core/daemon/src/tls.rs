//! Who a process is, and who calls it: mTLS with one certificate per node, issued by the
//! cluster's CA. A certificate names its node twice: `spiffe://CLUSTER/ROLE/NODE` for what it
//! may do, and NODE as DNS name for whom a client dials.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity as TonicIdentity, ServerTlsConfig};
use tonic::{Request, Status};
use tyto_core::config::runtime::{NodeConfig, Role};
use tyto_core::layout::Layout;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

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
}

/// A node's own certificate and key, and the CA it trusts.
#[derive(Clone)]
pub struct Identity {
    cluster: String,
    node: String,
    ca_pem: Vec<u8>,
    cert_pem: Vec<u8>,
    key_pem: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({}/{})", self.cluster, self.node)
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
    /// When a file cannot be read, or the key's mode lets others read it.
    pub fn load(config: &NodeConfig) -> Result<Self, IdentityError> {
        let layout = Layout::new(&config.prefix);
        let key_path = layout.node_key(&config.node);
        let mode = fs::metadata(&key_path)
            .map_err(|source| IdentityError::Read { path: key_path.clone(), source })?
            .permissions()
            .mode()
            & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::KeyMode { path: key_path, mode });
        }
        Ok(Self {
            cluster: config.cluster.clone(),
            node: config.node.clone(),
            ca_pem: read(&layout.ca_cert())?,
            cert_pem: read(&layout.node_cert(&config.node))?,
            key_pem: read(&key_path)?,
        })
    }

    /// Name of the cluster that this identity belongs to.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// For a server: only clients with a certificate of the cluster's CA get in.
    pub fn server_tls(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(TonicIdentity::from_pem(&self.cert_pem, &self.key_pem))
            .client_ca_root(Certificate::from_pem(&self.ca_pem))
    }

    /// For a client that dials `node`: only that node's certificate will do.
    pub fn client_tls(&self, node: &str) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(TonicIdentity::from_pem(&self.cert_pem, &self.key_pem))
            .ca_certificate(Certificate::from_pem(&self.ca_pem))
            .domain_name(node)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source })
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

    /// Reads the identity out of a certificate in DER.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let names = cert.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => Self::from_uri(uri),
            _ => None,
        })
    }
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
    let certs = request
        .peer_certs()
        .ok_or_else(|| Status::unauthenticated("the caller showed no certificate"))?;
    let peer = certs.first().and_then(|der| PeerIdentity::from_der(der)).ok_or_else(|| {
        Status::unauthenticated("the caller's certificate has no spiffe://CLUSTER/ROLE/NODE name")
    })?;
    if peer.cluster != cluster {
        return Err(Status::permission_denied(format!(
            "`{}` belongs to cluster `{}`; this is `{cluster}`",
            peer.node, peer.cluster
        )));
    }
    if !roles.contains(&peer.role) {
        let allowed: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        return Err(Status::permission_denied(format!(
            "`{}` is a {}; this call is for {}",
            peer.node,
            peer.role,
            allowed.join(", ")
        )));
    }
    Ok(peer)
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
