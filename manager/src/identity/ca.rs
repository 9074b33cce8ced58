//! The cluster's CA, on the manager's host: made at the first install as PREFIX/ca/ca.key (0600,
//! in a folder of mode 0700) and ca.pem. ctl has it work there by `manager ca …`
//! (`ca_command.rs`), so that its key never leaves that host.
//!
//! A request proves only that its sender holds a key. Who that is, is said by ctl: subject,
//! names, uses and validity are set here and nothing of the request but its key is taken over.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rcgen::{DistinguishedName, ExtendedKeyUsagePurpose};
use tyto_core::config::name::is_node_name;
use tyto_core::config::runtime::Role;

/// Days that a node's certificate is valid. Deploy renews it past the half.
pub const LEAF_VALID_DAYS: u64 = 30;
/// Days that the CA is valid: ten years.
const CA_VALID_DAYS: u64 = 3652;
/// Clocks of hosts may be behind ours by this much, an hour of summer time among it; what is more
/// is told (`not_yet_valid`).
pub const CLOCK_SLACK: Duration = Duration::from_secs(2 * 3600);
/// Bytes of a serial number: random, so that two certificates never share one.
const SERIAL_BYTES: usize = 16;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why the CA could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the CA.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no CA here yet.
    #[error("there is no CA in `{}`; expected ca.pem and ca.key, which `ctl install` makes", .0.display())]
    Missing(PathBuf),
    /// Half a CA: somebody has been at the files.
    #[error("`{}` holds only one of ca.pem and ca.key; put the other one back", .0.display())]
    Half(PathBuf),
    /// A word that is not ROLE/NODE.
    #[error("`{found}` is not ROLE/NODE; expected such as worker/worker-1")]
    BadSubject {
        /// What was found.
        found: String,
    },
    /// A name that cannot stand in a certificate.
    #[error("`{0}` cannot be the name of a cluster in certificates")]
    BadCluster(String),
    /// Requests and names do not go together.
    #[error("{requests} requests came for {subjects} nodes")]
    Count {
        /// Requests read.
        requests: usize,
        /// Nodes named.
        subjects: usize,
    },
    /// A request that is none, or is not signed by its own key.
    #[error("the request for `{node}` is unusable")]
    BadRequest {
        /// Which node.
        node: String,
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
    /// The rotation is not where the caller believes it to be.
    #[error("the rotation of the CA is {found}, not {expected}")]
    Phase {
        /// Where it is.
        found: String,
        /// Where it was expected to be.
        expected: String,
    },
    /// The rotation cannot be taken back any more.
    #[error("hosts are dropping the old CA already; `ctl certs rotate` finishes that")]
    TooLate,
    /// The note of the rotation cannot be read.
    #[error("`{}` is broken: {said}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        said: String,
    },
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What the node is.
    pub role: Role,
    /// Its name.
    pub node: String,
}

impl FromStr for Subject {
    type Err = CaError;

    fn from_str(text: &str) -> Result<Self, CaError> {
        let bad = || CaError::BadSubject { found: text.to_owned() };
        let (role, node) = text.split_once('/').ok_or_else(bad)?;
        if !is_node_name(node) {
            return Err(bad());
        }
        Ok(Self { role: role.parse().map_err(|_| bad())?, node: node.to_owned() })
    }
}

/// The cluster's CA, its key in memory.
pub struct Ca {
    cluster: String,
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ca({})", self.cluster)
    }
}

impl Ca {
    /// The CA in `dir`, made now if there is none.
    ///
    /// # Errors
    /// When files cannot be written, or half a CA is there.
    pub fn init(dir: &Path, cluster: &str, now: SystemTime) -> Result<Self, CaError> {
        check_cluster(cluster)?;
        match (dir.join("ca.pem").exists(), dir.join("ca.key").exists()) {
            (true, true) => Self::open(dir, cluster, "ca"),
            (false, false) => Self::make(dir, cluster, "ca", now),
            _ => Err(CaError::Half(dir.to_owned())),
        }
    }

    /// Makes a CA as STEM.key and STEM.pem of `dir`.
    ///
    /// # Errors
    /// When files cannot be written.
    pub(super) fn make(
        dir: &Path,
        cluster: &str,
        stem: &str,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        let (cert, key) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| CaError::File { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file(dir))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(file(dir))?;
        let making = |source| CaError::Make { what: "CA", source };
        let pair = KeyPair::generate().map_err(making)?;
        let params = ca_params(cluster, now)?;
        let made = params.self_signed(&pair).map_err(making)?;
        // The certificate last: a CA whose making was cut short has none, and is not used.
        write_new(&key, pair.serialize_pem().as_bytes(), 0o600).map_err(file(&key))?;
        write_new(&cert, made.pem().as_bytes(), 0o644).map_err(file(&cert))?;
        let issuer = Issuer::new(params, pair);
        Ok(Self { cluster: cluster.to_owned(), cert_pem: made.pem(), issuer })
    }

    /// The CA that STEM.key and STEM.pem of `dir` are.
    ///
    /// # Errors
    /// When there is none, or its files are unusable.
    pub(super) fn open(dir: &Path, cluster: &str, stem: &str) -> Result<Self, CaError> {
        check_cluster(cluster)?;
        let read = |name: String| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => CaError::Missing(dir.to_owned()),
                _ => CaError::File { path, source },
            })
        };
        let (cert_pem, key_pem) = (read(format!("{stem}.pem"))?, read(format!("{stem}.key"))?);
        let making = |source| CaError::Make { what: "CA from its files", source };
        let pair = KeyPair::from_pem(&key_pem).map_err(making)?;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, pair).map_err(making)?;
        Ok(Self { cluster: cluster.to_owned(), cert_pem, issuer })
    }

    /// The CA's certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Signs the requests in `pems` for `subjects`, in that order; certificates as one text.
    ///
    /// # Errors
    /// When there are more or fewer requests than subjects, or one of them is unusable.
    pub fn sign_all(
        &self,
        pems: &str,
        subjects: &[Subject],
        now: SystemTime,
    ) -> Result<String, CaError> {
        let requests = split_pem(pems);
        if requests.len() != subjects.len() {
            let (requests, subjects) = (requests.len(), subjects.len());
            return Err(CaError::Count { requests, subjects });
        }
        let pairs = requests.iter().zip(subjects);
        pairs.map(|(request, subject)| self.sign(request, subject, now)).collect()
    }

    /// A certificate for the key of a request.
    ///
    /// # Errors
    /// When the request is unusable or not signed by the key it holds.
    pub fn sign(
        &self,
        request_pem: &str,
        subject: &Subject,
        now: SystemTime,
    ) -> Result<String, CaError> {
        let bad = |source| CaError::BadRequest { node: subject.node.clone(), source };
        let request = CertificateSigningRequestParams::from_pem(request_pem).map_err(bad)?;
        let uri = format!("spiffe://{}/{}/{}", self.cluster, subject.role, subject.node);
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&subject.node);
        params.subject_alt_names = vec![
            SanType::URI(uri.try_into().map_err(bad)?),
            SanType::DnsName(subject.node.clone().try_into().map_err(bad)?),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - CLOCK_SLACK).into();
        params.not_after = (now + DAY * days(LEAF_VALID_DAYS)).into();
        params.serial_number = Some(serial()?);
        let making = |source| CaError::Make { what: "certificate", source };
        Ok(params.signed_by(&request.public_key, &self.issuer).map_err(making)?.pem())
    }
}

fn ca_params(cluster: &str, now: SystemTime) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("Tyto cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - CLOCK_SLACK).into();
    params.not_after = (now + DAY * days(CA_VALID_DAYS)).into();
    params.serial_number = Some(serial()?);
    Ok(params)
}

fn days(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

/// The cluster's name is a trust domain of SPIFFE: no slash, nothing to percent-encode.
fn check_cluster(cluster: &str) -> Result<(), CaError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if cluster.is_empty() || cluster.len() > 63 || !cluster.bytes().all(fits) {
        return Err(CaError::BadCluster(cluster.to_owned()));
    }
    Ok(())
}

/// A random serial number, positive in DER.
fn serial() -> Result<SerialNumber, CaError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; SERIAL_BYTES];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|source| CaError::File { path: path.to_owned(), source })?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Writes a file that must not be there, with its mode from the first moment on.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The PEM blocks of a text, each with its lines of BEGIN and END.
pub fn split_pem(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        if line.starts_with("-----BEGIN ") {
            block = Some(String::new());
        }
        if let Some(open) = &mut block {
            open.push_str(line);
            open.push('\n');
        }
        if line.starts_with("-----END ") {
            blocks.extend(block.take());
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, UNIX_EPOCH};

    use rcgen::{CertificateParams, IsCa, KeyPair};

    use super::*;
    use crate::identity::check::Certificate;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn request(names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = common_name("somebody-else");
        if params.subject_alt_names.len() > 1 {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    fn worker() -> Subject {
        "worker/worker-1".parse().unwrap()
    }

    #[test]
    fn the_key_is_for_its_owner_only_and_a_second_init_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("ca");
        let first = Ca::init(&dir, "lab", now()).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("ca.key"))), (0o700, 0o600));
        let second = Ca::init(&dir, "lab", now()).unwrap();
        assert_eq!(first.cert_pem(), second.cert_pem());
    }

    #[test]
    fn nothing_of_a_request_but_its_key_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(dir.path(), "lab", now()).unwrap();
        let pem = ca.sign(&request(&["manager", "evil.example"]), &worker(), now()).unwrap();
        let cert = Certificate::from_pem(&pem).unwrap();
        assert_eq!(cert.uris, ["spiffe://lab/worker/worker-1"]);
        assert_eq!(cert.dns_names, ["worker-1"]);
        assert!(!cert.is_ca);
        assert!(cert.client_auth && cert.server_auth);
        assert_eq!(cert.not_after, now() + Duration::from_secs(30 * 86400));
    }

    #[test]
    fn a_ca_read_back_signs_for_the_same_issuer_and_never_twice_the_same_serial() {
        let dir = tempfile::tempdir().unwrap();
        let made = Ca::init(dir.path(), "lab", now()).unwrap();
        let request = request(&[]);
        let read = Ca::open(dir.path(), "lab", "ca").unwrap();
        let a = Certificate::from_pem(&made.sign(&request, &worker(), now()).unwrap()).unwrap();
        let b = Certificate::from_pem(&read.sign(&request, &worker(), now()).unwrap()).unwrap();
        let ca = Certificate::from_pem(made.cert_pem()).unwrap();
        assert_eq!((&a.issuer_key_id, &b.issuer_key_id), (&ca.key_id, &ca.key_id));
        assert_ne!(a.serial, b.serial);
        assert!(ca.is_ca);
    }

    #[test]
    fn weird_names_are_refused() {
        for text in ["worker", "king/x", "worker/", "worker/a b", "worker/../x", "worker/a/b"] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        for cluster in ["", "a/b", "a b", "é"] {
            assert!(Ca::init(dir.path(), cluster, now()).is_err(), "{cluster}");
        }
    }

    #[test]
    fn a_damaged_request_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(dir.path(), "lab", now()).unwrap();
        let request = request(&[]);
        let middle = request.len() / 2;
        let other = if request.as_bytes()[middle] == b'A' { 'B' } else { 'A' };
        let mut damaged = request.clone();
        damaged.replace_range(middle..=middle, &other.to_string());
        assert!(ca.sign(&damaged, &worker(), now()).is_err());
        let subjects = [worker(), worker()];
        assert!(matches!(ca.sign_all(&request, &subjects, now()), Err(CaError::Count { .. })));
    }

    #[test]
    fn half_a_ca_is_not_made_whole_by_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        Ca::init(dir.path(), "lab", now()).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert!(matches!(Ca::init(dir.path(), "lab", now()), Err(CaError::Half(_))));
    }
}
