//! From a key on a host to a certificate beside it: each host makes new keys for its nodes and
//! signing requests, ctl carries the requests to the CA on the manager's host and the
//! certificates back. Private keys never travel. A host that only has to trust other CAs than
//! before gets those.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tyto_core::layout::Layout;

use super::authority::{CaState, Phase};
use super::ca::{Subject, split_pem};
use crate::deploy::bundle::sha256_hex;
use crate::remote::error::RemoteError;
use crate::remote::fanout;
use crate::remote::shell::{quote, quote_path};
use crate::remote::{Input, Put, Remote};

/// A host that is to trust the CAs of now, and its nodes that need a certificate.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Their host.
    pub remote: Arc<dyn Remote>,
    /// Folder of the programs on it.
    pub bin: std::path::PathBuf,
    /// The nodes; none when it is about trust only.
    pub subjects: Vec<Subject>,
}

/// Where the CA is.
#[derive(Clone, Debug)]
pub struct CaHost {
    /// The manager's host.
    pub remote: Arc<dyn Remote>,
    /// Folder of the programs on it.
    pub bin: std::path::PathBuf,
    /// Name of the cluster.
    pub cluster: String,
}

impl CaHost {
    /// Makes the CA unless it is there; what hosts are to trust.
    ///
    /// # Errors
    /// When the manager's host cannot be reached or its CA is damaged.
    pub async fn init(&self, layout: &Layout, deadline: Duration) -> Result<String, RemoteError> {
        let script = self.script("init", layout);
        let output =
            (*self.remote).must("make the cluster's CA", &script, Input::None, deadline).await?;
        Ok(output.stdout_text())
    }

    /// Where a rotation of the CA is.
    ///
    /// # Errors
    /// When the manager's host cannot be reached or has no CA.
    pub async fn show(&self, layout: &Layout, deadline: Duration) -> Result<CaState, RemoteError> {
        self.state("look at the cluster's CA", &self.script("show", layout), deadline).await
    }

    /// Makes a new CA that is to replace this one.
    ///
    /// # Errors
    /// When the manager's host cannot be reached, or a rotation is under way.
    pub async fn begin(&self, layout: &Layout, deadline: Duration) -> Result<CaState, RemoteError> {
        self.state("make a new CA", &self.script("begin", layout), deadline).await
    }

    /// Goes on from a phase of the rotation.
    ///
    /// # Errors
    /// When the manager's host cannot be reached, or somebody else has gone on already.
    pub async fn advance(
        &self,
        layout: &Layout,
        from: Phase,
        deadline: Duration,
    ) -> Result<CaState, RemoteError> {
        let script = format!("{} --from {}", self.script("advance", layout), from.as_str());
        self.state("go on with the rotation of the CA", &script, deadline).await
    }

    /// Begins the way back.
    ///
    /// # Errors
    /// When the manager's host cannot be reached, or it is too late.
    pub async fn abort(&self, layout: &Layout, deadline: Duration) -> Result<CaState, RemoteError> {
        self.state("abort the rotation of the CA", &self.script("abort", layout), deadline).await
    }

    async fn state(
        &self,
        what: &'static str,
        script: &str,
        deadline: Duration,
    ) -> Result<CaState, RemoteError> {
        let output = (*self.remote).must(what, script, Input::None, deadline).await?;
        serde_json::from_slice(&output.stdout).map_err(|error| RemoteError::Failed {
            host: self.remote.host().to_owned(),
            what,
            said: format!("its answer is not understood: {error}"),
        })
    }

    /// Certificates for requests, in the order of the subjects.
    ///
    /// # Errors
    /// When the manager's host cannot be reached or refuses.
    pub async fn sign(
        &self,
        layout: &Layout,
        requests: &str,
        subjects: &[Subject],
        deadline: Duration,
    ) -> Result<Vec<String>, RemoteError> {
        let mut script = self.script("sign", layout);
        for subject in subjects {
            script.push(' ');
            script.push_str(&quote(&format!("{}/{}", subject.role, subject.node)));
        }
        let input = Input::Bytes(requests.as_bytes());
        let output = (*self.remote).must("sign certificates", &script, input, deadline).await?;
        let certificates = split_pem(&output.stdout_text());
        if certificates.len() == subjects.len() {
            return Ok(certificates);
        }
        Err(miscounted(self.remote.host(), "sign certificates", &certificates, subjects))
    }

    fn script(&self, verb: &str, layout: &Layout) -> String {
        let manager = quote_path(&self.bin.join("manager"));
        let prefix = quote_path(layout.prefix());
        let cluster = quote(&self.cluster);
        format!("{manager} ca {verb} --prefix {prefix} --cluster {cluster}")
    }
}

/// Has all `wanted` hosts trust the CAs of `ca_pem`, and gives their nodes new keys and
/// certificates. Per host what became of it.
pub async fn issue(
    ca: &CaHost,
    ca_pem: &str,
    layout: &Layout,
    wanted: Vec<Wanted>,
    parallel_max: u32,
    deadline: Duration,
) -> Vec<Result<(), RemoteError>> {
    let ca_pem: Arc<str> = ca_pem.into();
    let hosts: Vec<String> = wanted.iter().map(|w| w.remote.host().to_owned()).collect();
    let results = fanout::each(parallel_max, wanted, |wanted| {
        let (ca, ca_pem, layout) = (ca.clone(), Arc::clone(&ca_pem), layout.clone());
        async move { issue_on(&ca, &ca_pem, &layout, &wanted, deadline).await }
    })
    .await;
    let lost = |host: &String| RemoteError::Failed {
        host: host.clone(),
        what: "issue certificates",
        said: "the task broke".to_owned(),
    };
    results.into_iter().zip(&hosts).map(|(r, h)| r.unwrap_or_else(|| Err(lost(h)))).collect()
}

async fn issue_on(
    ca: &CaHost,
    ca_pem: &str,
    layout: &Layout,
    wanted: &Wanted,
    deadline: Duration,
) -> Result<(), RemoteError> {
    let remote = &*wanted.remote;
    if wanted.subjects.is_empty() {
        return put_text(remote, &layout.ca_cert(), ca_pem, deadline).await;
    }
    let requests = requests(wanted, layout, deadline).await?;
    let certificates = ca.sign(layout, &requests.concat(), &wanted.subjects, deadline).await?;
    // Trust first: a certificate of a CA that its own node does not trust is of no use.
    put_text(remote, &layout.ca_cert(), ca_pem, deadline).await?;
    let script = supervisor(wanted, layout, "cert");
    let input = certificates.concat();
    let input = Input::Bytes(input.as_bytes());
    remote.must("put certificates into place", &script, input, deadline).await.map(drop)
}

/// `supervisor VERB` for the nodes wanted.
fn supervisor(wanted: &Wanted, layout: &Layout, verb: &str) -> String {
    let supervisor = quote_path(&wanted.bin.join("supervisor"));
    let mut script = format!("{supervisor} {verb} --prefix {}", quote_path(layout.prefix()));
    for subject in &wanted.subjects {
        script.push_str(&format!(" --node {}", quote(&subject.node)));
    }
    script
}

/// Has the host make new keys, and a request for each of them.
async fn requests(
    wanted: &Wanted,
    layout: &Layout,
    deadline: Duration,
) -> Result<Vec<String>, RemoteError> {
    let script = supervisor(wanted, layout, "csr");
    let remote = &*wanted.remote;
    let output = remote.must("make keys", &script, Input::None, deadline).await?;
    let requests = split_pem(&output.stdout_text());
    if requests.len() == wanted.subjects.len() {
        return Ok(requests);
    }
    Err(miscounted(remote.host(), "make keys", &requests, &wanted.subjects))
}

async fn put_text(
    remote: &dyn Remote,
    path: &Path,
    text: &str,
    deadline: Duration,
) -> Result<(), RemoteError> {
    let sha256 = sha256_hex(text.as_bytes());
    let content = Input::Bytes(text.as_bytes());
    remote.put(Put { content, path, sha256: &sha256, mode: 0o644 }, deadline).await
}

fn miscounted(
    host: &str,
    what: &'static str,
    found: &[String],
    expected: &[Subject],
) -> RemoteError {
    let said = format!("{} came back for {} nodes", found.len(), expected.len());
    RemoteError::Failed { host: host.to_owned(), what, said }
}
