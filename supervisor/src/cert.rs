//! `supervisor cert`: certificates from standard input for the keys that `supervisor csr` made,
//! in the order of the nodes named.
//!
//! First the certificate comes into place, then its key from `NODE.key.new`. Between the two,
//! and after a crash there, nodes take the key that fits (`core/daemon/src/credentials.rs`), and
//! the next call here or of `csr` brings it into place.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use rcgen::{KeyPair, PublicKeyData};
use tyto_core::layout::Layout;
use x509_parser::pem::Pem;

use crate::csr::{CsrError, NodesArgs, check_name, put, sync_folder};

/// Most bytes of certificates that one call reads.
const CERTIFICATES_BYTES_MAX: u64 = 4 << 20;
/// Ends a certificate.
const END: &str = "-----END CERTIFICATE-----";

/// Puts the certificates on `input` into place.
///
/// # Errors
/// When there are more or fewer than nodes, or one is not for the key that waits for it: then
/// none is touched.
pub(crate) fn run(args: &NodesArgs, input: impl Read) -> Result<(), CsrError> {
    let layout = Layout::new(&args.prefix);
    let mut pem = String::new();
    input
        .take(CERTIFICATES_BYTES_MAX)
        .read_to_string(&mut pem)
        .map_err(|source| CsrError::File { path: "standard input".into(), source })?;
    // What follows the last one is the end of its line.
    let whole = |text: &&str| text.ends_with(END);
    let certificates: Vec<&str> =
        pem.split_inclusive(END).filter(whole).map(str::trim_start).collect();
    if certificates.len() != args.nodes.len() {
        let (certificates, nodes) = (certificates.len(), args.nodes.len());
        return Err(CsrError::Count { certificates, nodes });
    }
    for (node, certificate) in args.nodes.iter().zip(&certificates) {
        check_name(node)?;
        if !fits(certificate.as_bytes(), &layout.next_node_key(node))? {
            return Err(CsrError::OtherKey(node.clone()));
        }
    }
    for (node, certificate) in args.nodes.iter().zip(&certificates) {
        put(&layout.node_cert(node), format!("{certificate}\n").as_bytes(), 0o644)?;
        settle(&layout, node)?;
    }
    Ok(())
}

/// Brings a key into place whose certificate has come.
///
/// # Errors
/// When files cannot be read or renamed.
pub(crate) fn settle(layout: &Layout, node: &str) -> Result<(), CsrError> {
    let (waiting, path) = (layout.next_node_key(node), layout.node_cert(node));
    let Ok(pem) = fs::read(&path) else { return Ok(()) };
    if !fits(&pem, &waiting)? {
        return Ok(());
    }
    let key = layout.node_key(node);
    fs::rename(&waiting, &key)
        .and_then(|()| sync_folder(&key))
        .map_err(|source| CsrError::File { path: key, source })
}

/// Whether a certificate, PEM, is for the key at `path`; no when either is not there or none.
fn fits(certificate: &[u8], path: &Path) -> Result<bool, CsrError> {
    let key = match fs::read_to_string(path) {
        Ok(pem) => KeyPair::from_pem(&pem),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(CsrError::File { path: path.to_owned(), source }),
    };
    let (Ok(key), Some(Ok(pem))) = (key, Pem::iter_from_buffer(certificate).next()) else {
        return Ok(false);
    };
    let Ok(certificate) = pem.parse_x509() else { return Ok(false) };
    Ok(*certificate.public_key().subject_public_key.data == *key.der_bytes())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer};

    use super::*;
    use crate::csr::request;

    fn args(dir: &Path, nodes: &[&str]) -> NodesArgs {
        NodesArgs { prefix: dir.into(), nodes: nodes.iter().map(|&n| n.to_owned()).collect() }
    }

    fn signed(request: &str) -> String {
        let request = CertificateSigningRequestParams::from_pem(request).unwrap();
        let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
        CertificateParams::default().signed_by(&request.public_key, &issuer).unwrap().pem()
    }

    #[test]
    fn a_certificate_comes_into_place_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let certs: String =
            ["w-1", "w-2"].map(|node| signed(&request(&layout, node).unwrap())).concat();
        run(&args(dir.path(), &["w-1", "w-2"]), certs.as_bytes()).unwrap();
        for node in ["w-1", "w-2"] {
            assert!(!layout.next_node_key(node).exists());
            let pem = fs::read(layout.node_cert(node)).unwrap();
            assert!(fits(&pem, &layout.node_key(node)).unwrap());
        }
    }

    #[test]
    fn a_certificate_for_another_key_touches_no_node() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let certs = ["w-1", "w-2"].map(|node| signed(&request(&layout, node).unwrap()));
        let swapped = [certs[1].clone(), certs[0].clone()].concat();
        let nodes = args(dir.path(), &["w-1", "w-2"]);
        assert!(matches!(run(&nodes, swapped.as_bytes()), Err(CsrError::OtherKey(_))));
        assert!(matches!(run(&nodes, certs[0].as_bytes()), Err(CsrError::Count { .. })));
        assert!(!layout.node_cert("w-1").exists());
    }

    #[test]
    fn a_crash_between_certificate_and_key_is_made_good_before_another_key_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let cert = signed(&request(&layout, "w-1").unwrap());
        fs::write(layout.node_key("w-1"), "the key before").unwrap();
        fs::write(layout.node_cert("w-1"), &cert).unwrap();
        request(&layout, "w-1").unwrap();
        assert!(fits(cert.as_bytes(), &layout.node_key("w-1")).unwrap());
        assert!(layout.next_node_key("w-1").exists());
    }
}
