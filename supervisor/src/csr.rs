//! `supervisor csr`: a key for each node named, made on this host and never leaving it, and a
//! signing request per node on standard output, in the order of the names.
//!
//! A key that is there is used again, so that certificate and key always fit each other. The
//! request names its node in the subject only; the CA sets every name by itself.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use tyto_core::config::name::is_node_name;
use tyto_core::layout::Layout;

/// Arguments of `supervisor csr`.
#[derive(Debug, clap::Args)]
pub(crate) struct CsrArgs {
    /// Prefix of the installation.
    #[arg(long)]
    prefix: PathBuf,
    /// A node of this host; may be given more than once.
    #[arg(long = "node", required = true)]
    nodes: Vec<String>,
}

/// Why there is no request.
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
    /// The key is there but is none.
    #[error("`{}` is not a private key; delete it to have a new one made", path.display())]
    BadKey {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// The cryptography failed.
    #[error("cannot make the {what}")]
    Make {
        /// What was to be made.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
}

/// Writes a request for each node to `out`.
///
/// # Errors
/// When a name is none, a key cannot be made or read, or nobody takes the requests.
pub(crate) fn run(args: &CsrArgs, out: &mut impl Write) -> Result<(), CsrError> {
    let layout = Layout::new(&args.prefix);
    for node in &args.nodes {
        let pem = request(&layout, node)?;
        out.write_all(pem.as_bytes())
            .map_err(|source| CsrError::File { path: "standard output".into(), source })?;
    }
    Ok(())
}

/// A signing request for the key of `node`, which is made if there is none.
///
/// # Errors
/// When the name is none or the key cannot be made or read.
pub(crate) fn request(layout: &Layout, node: &str) -> Result<String, CsrError> {
    if !is_node_name(node) {
        return Err(CsrError::BadName(node.to_owned()));
    }
    let key = key(&layout.tls(), &layout.node_key(node))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node);
    let making = |source| CsrError::Make { what: "request", source };
    params.serialize_request(&key).map_err(making)?.pem().map_err(making)
}

fn key(dir: &Path, path: &Path) -> Result<KeyPair, CsrError> {
    let file = |source| CsrError::File { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(pem) => {
            // Others may have read it while the mode was wider; ours to narrow all the same.
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(file)?;
            return KeyPair::from_pem(&pem)
                .map_err(|source| CsrError::BadKey { path: path.to_owned(), source });
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error)),
        Err(_) => {}
    }
    let folder = |source| CsrError::File { path: dir.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(folder)?;
    let key = KeyPair::generate().map_err(|source| CsrError::Make { what: "key", source })?;
    // Beside its place and then renamed: a key is there whole or not at all.
    let part = path.with_extension(format!("key.new.{}", std::process::id()));
    let mut open = fs::OpenOptions::new();
    let written = open
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .and_then(|mut file| {
            file.write_all(key.serialize_pem().as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&part, path));
    written.map_err(file)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let args =
            CsrArgs { prefix: dir.path().into(), nodes: vec!["worker-1".into(), "proxy-1".into()] };
        let mut out = Vec::new();
        run(&args, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().matches("BEGIN CERTIFICATE REQUEST").count(), 2);

        let path = layout.node_key("worker-1");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        request(&layout, "worker-1").unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_key_left_open_is_closed_and_a_weird_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        request(&layout, "worker-1").unwrap();
        let path = layout.node_key("worker-1");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        request(&layout, "worker-1").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(request(&layout, "../x"), Err(CsrError::BadName(_))));
    }

    #[test]
    fn a_file_that_is_no_key_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.tls()).unwrap();
        fs::write(layout.node_key("worker-1"), "precious").unwrap();
        assert!(matches!(request(&layout, "worker-1"), Err(CsrError::BadKey { .. })));
        assert_eq!(fs::read_to_string(layout.node_key("worker-1")).unwrap(), "precious");
    }
}
