//! `supervisor csr`: a new key for each node named, made on this host and never leaving it, and a
//! signing request per node on standard output, in the order of the names.
//!
//! The key waits as `NODE.key.new` until its certificate comes (`cert.rs`); until then the node
//! goes on with what it has. The request names its node in the subject only; the CA sets every
//! name by itself.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use tyto_core::config::name::is_node_name;
use tyto_core::layout::Layout;

use crate::cert;

/// Arguments of `supervisor csr` and `supervisor cert`.
#[derive(Debug, clap::Args)]
pub(crate) struct NodesArgs {
    /// Prefix of the installation.
    #[arg(long)]
    pub(crate) prefix: PathBuf,
    /// A node of this host; may be given more than once.
    #[arg(long = "node", required = true)]
    pub(crate) nodes: Vec<String>,
}

/// Why there is no key, request or certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CsrError {
    /// Not the name of a node.
    #[error("`{0}` is not the name of a node")]
    BadName(String),
    /// A file or folder of this host.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cryptography failed.
    #[error("cannot make the {what}")]
    Make {
        /// What was to be made.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// Certificates and names do not go together.
    #[error("{certificates} certificates came for {nodes} nodes")]
    Count {
        /// Certificates read.
        certificates: usize,
        /// Nodes named.
        nodes: usize,
    },
    /// A certificate for another key than the one that waits for it.
    #[error("the certificate that came for `{0}` is not for the key that waits here; ask again")]
    OtherKey(String),
}

/// Writes a request for a new key of each node to `out`.
///
/// # Errors
/// When a name is none, a key cannot be made, or nobody takes the requests.
pub(crate) fn run(args: &NodesArgs, out: &mut impl Write) -> Result<(), CsrError> {
    let layout = Layout::new(&args.prefix);
    for node in &args.nodes {
        let pem = request(&layout, node)?;
        out.write_all(pem.as_bytes())
            .map_err(|source| CsrError::File { path: "standard output".into(), source })?;
    }
    Ok(())
}

/// A signing request for a new key of `node`.
///
/// # Errors
/// When the name is none or the key cannot be made.
pub(crate) fn request(layout: &Layout, node: &str) -> Result<String, CsrError> {
    check_name(node)?;
    // A key that is in use by now must not be overwritten.
    cert::settle(layout, node)?;
    let key = new_key(&layout.tls(), &layout.next_node_key(node))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node);
    let making = |source| CsrError::Make { what: "request", source };
    params.serialize_request(&key).map_err(making)?.pem().map_err(making)
}

/// Refuses what would lead out of the folder of keys.
///
/// # Errors
/// When it is not the name of a node.
pub(crate) fn check_name(node: &str) -> Result<(), CsrError> {
    if is_node_name(node) { Ok(()) } else { Err(CsrError::BadName(node.to_owned())) }
}

fn new_key(dir: &Path, path: &Path) -> Result<KeyPair, CsrError> {
    let folder = |source| CsrError::File { path: dir.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(folder)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(folder)?;
    let key = KeyPair::generate().map_err(|source| CsrError::Make { what: "key", source })?;
    put(path, key.serialize_pem().as_bytes(), 0o600)?;
    Ok(key)
}

/// Writes a file beside its place and renames it: it is there whole or not at all, and with its
/// mode from the first moment on.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CsrError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".part.{}", std::process::id()));
    let part = path.with_file_name(name);
    let mut open = fs::OpenOptions::new();
    let written = open
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&part)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&part, path))
        .and_then(|()| sync_folder(path));
    written.map_err(|source| CsrError::File { path: path.to_owned(), source })
}

/// Makes a rename last.
///
/// # Errors
/// When the folder of `path` cannot be synced.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_a_new_key_for_its_owner_only_and_the_one_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let nodes = vec!["worker-1".into(), "proxy-1".into()];
        let args = NodesArgs { prefix: dir.path().into(), nodes };
        let mut out = Vec::new();
        run(&args, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().matches("BEGIN CERTIFICATE REQUEST").count(), 2);

        let path = layout.next_node_key("worker-1");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(layout.tls().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(layout.node_key("worker-1"), "in use").unwrap();
        let before = fs::read(&path).unwrap();
        request(&layout, "worker-1").unwrap();
        assert_ne!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_to_string(layout.node_key("worker-1")).unwrap(), "in use");
    }

    #[test]
    fn a_weird_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert!(matches!(request(&layout, "../x"), Err(CsrError::BadName(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
