//! A cluster's identities for tests that run nodes on this machine without ctl.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType,
};
use tyto_core::config::runtime::{NodeConfig, Peer, Role};
use tyto_core::layout::Layout;

/// Name of the cluster that [`Pki`] signs for.
pub const CLUSTER: &str = "test";

/// A certificate authority that lives as long as the test.
#[derive(Debug)]
pub struct Pki {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes a new authority.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let ca_pem = params.self_signed(&key)?.pem();
        Ok(Self { ca_pem, issuer: Issuer::new(params, key) })
    }

    /// Writes key and certificate of a node where it looks for them, and returns its
    /// configuration below `prefix`.
    ///
    /// # Errors
    /// When files or keys cannot be made.
    pub fn enroll(
        &self,
        prefix: &Path,
        role: Role,
        node: &str,
        peers: &[Peer],
    ) -> Result<NodeConfig> {
        let mut params = CertificateParams::new(vec![node.to_owned()])?;
        // A subject that is its issuer's is a self-signed certificate to OpenSSL.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, node);
        let name = format!("spiffe://{CLUSTER}/{role}/{node}");
        params.subject_alt_names.push(SanType::URI(name.try_into()?));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        let layout = Layout::new(prefix);
        fs::create_dir_all(layout.tls())?;
        fs::write(layout.ca_cert(), &self.ca_pem)?;
        fs::write(layout.node_cert(node), cert.pem())?;
        let mut options = OpenOptions::new();
        let key_file = options.write(true).create(true).truncate(true).mode(0o600);
        key_file.open(layout.node_key(node))?.write_all(key.serialize_pem().as_bytes())?;
        Ok(NodeConfig {
            listen: peers.iter().find(|peer| peer.node == node).map(|peer| peer.addr),
            peers: peers.to_vec(),
            ..NodeConfig::new(CLUSTER, node, role, prefix)
        })
    }
}

/// Nodes `ROLE-1` to `ROLE-count`, each with a port of the loopback that is free just now.
///
/// # Errors
/// When there are not enough.
pub fn loopback_peers(role: Role, count: usize) -> Result<Vec<Peer>> {
    let mut taken = Vec::new();
    let mut peers = Vec::new();
    for i in 1..=count {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        peers.push(Peer { node: format!("{role}-{i}"), role, addr: listener.local_addr()? });
        // Kept, so that no two have one port.
        taken.push(listener);
    }
    Ok(peers)
}

/// A node that listens on a port of the loopback that is free just now.
///
/// # Errors
/// When there is none.
pub fn loopback_peer(role: Role, node: &str) -> Result<Peer> {
    let addr: SocketAddr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    Ok(Peer { node: node.to_owned(), role, addr })
}
