//! A node's files (`etc/tls/NODE.pem`, `NODE.key`, `ca.pem`) as they are on disk, checked and
//! made ready for TLS. They are replaced while nodes run; one set of them is always coherent:
//! a new certificate comes into place before its key does, which waits beside it as
//! `NODE.key.new`, so whoever finds the old key with the new certificate takes the other one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tyto_core::layout::Layout;

use crate::certificate::Facts;
use crate::tls::IdentityError;

/// Where a node's files are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    cert: PathBuf,
    key: PathBuf,
    next_key: PathBuf,
    ca: PathBuf,
}

/// Tells whether a file is still the one that was read.
type Stamp = [Option<(u64, i64, i64, u64)>; 4];

/// What is used for TLS, of one moment.
pub(crate) struct Credentials {
    /// Certificate and private key of the node.
    pub(crate) own: Arc<CertifiedKey>,
    /// What the certificate says.
    pub(crate) facts: Facts,
    /// The CAs trusted.
    pub(crate) authorities: Vec<Facts>,
    /// Judges servers by those CAs.
    pub(crate) servers: Arc<WebPkiServerVerifier>,
    /// Judges clients by those CAs.
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.facts.sha256)
    }
}

impl Files {
    /// The files of a node.
    pub(crate) fn of(layout: &Layout, node: &str) -> Self {
        Self {
            cert: layout.node_cert(node),
            key: layout.node_key(node),
            next_key: layout.next_node_key(node),
            ca: layout.ca_cert(),
        }
    }

    /// What the files are now, without reading them.
    pub(crate) fn stamp(&self) -> Stamp {
        [&self.cert, &self.key, &self.next_key, &self.ca].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.mtime(), file.mtime_nsec(), file.size()))
        })
    }

    /// Reads and checks them.
    ///
    /// # Errors
    /// When one is missing or unreadable or not what it should be, or others may read the key.
    pub(crate) fn load(&self) -> Result<Credentials, IdentityError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = certificates(&self.cert)?;
        let own = match certified(&chain, &self.key, &provider) {
            // The certificate is new and its key not yet in place: see the head of this file.
            Err(error) if self.next_key.exists() => {
                certified(&chain, &self.next_key, &provider).map_err(|_| error)?
            }
            other => other?,
        };
        let unusable = |path: &Path, said: String| {
            let path = path.to_owned();
            IdentityError::Unusable { path, said }
        };
        let facts = chain.first().and_then(|der| Facts::from_der(der));
        let facts = facts.ok_or_else(|| unusable(&self.cert, "not a certificate".to_owned()))?;
        let mut roots = RootCertStore::empty();
        let mut authorities = Vec::new();
        for der in certificates(&self.ca)? {
            let known = Facts::from_der(&der);
            authorities.extend(known);
            roots.add(der).map_err(|error| unusable(&self.ca, error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| unusable(&self.ca, error.to_string()))?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| unusable(&self.ca, error.to_string()))?;
        Ok(Credentials { own: Arc::new(own), facts, authorities, servers, clients })
    }
}

/// The certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let unusable = |said| IdentityError::Unusable { path: path.to_owned(), said };
    let read = read.map_err(|error| unusable(error.to_string()))?;
    if read.is_empty() {
        return Err(unusable("no certificate in it".to_owned()));
    }
    Ok(read)
}

fn certified(
    chain: &[CertificateDer<'static>],
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, IdentityError> {
    let metadata =
        fs::metadata(key).map_err(|source| IdentityError::Read { path: key.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::KeyMode { path: key.to_owned(), mode });
    }
    let unusable = |said: String| IdentityError::Unusable { path: key.to_owned(), said };
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| unusable("not a private key".to_owned()))?;
    CertifiedKey::from_der(chain.to_vec(), private, provider)
        .map_err(|_| unusable("not the key of the certificate beside it".to_owned()))
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source })
}
