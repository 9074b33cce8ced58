//! A certificate for a program of others that reads rows from loggers (docs/sinks.md): its key is
//! made here, where ctl runs, and only the request goes to the CA.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{CertificateParams, KeyPair};
use tyto_core::config::runtime::Role;

use super::ca::Subject;
use super::rollout::Rollout;
use crate::context::Context;

/// Files of a subscriber.
#[derive(Debug)]
pub struct SubscriberFiles {
    /// Its private key.
    pub key: PathBuf,
    /// Its certificate.
    pub certificate: PathBuf,
    /// What it is to trust.
    pub ca: PathBuf,
}

/// Makes `NAME.key`, `NAME.pem` and `ca.pem` in `folder`, in place of those of before.
///
/// # Errors
/// When the CA cannot be reached or a file not be written.
pub async fn issue(ctx: &Context, name: &str, folder: &Path) -> anyhow::Result<SubscriberFiles> {
    let rollout = Rollout::new(ctx)?;
    let deadline = rollout.deadline();
    let key = KeyPair::generate().context("cannot make a key")?;
    let request = CertificateParams::default().serialize_request(&key);
    let request = request.and_then(|request| request.pem()).context("cannot make a request")?;
    let subject = Subject { role: Role::Subscriber, node: name.to_owned() };
    let state = rollout.ca.show(&ctx.layout, deadline).await?;
    let certificates = rollout.ca.sign(&ctx.layout, &request, &[subject], deadline).await?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let files = SubscriberFiles {
        key: folder.join(format!("{name}.key")),
        certificate: folder.join(format!("{name}.pem")),
        ca: folder.join("ca.pem"),
    };
    for (path, text, mode) in [
        (&files.key, key.serialize_pem(), 0o600),
        (&files.certificate, certificates.concat(), 0o644),
        (&files.ca, state.bundle, 0o644),
    ] {
        put(path, text.as_bytes(), mode)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(files)
}

/// Writes a file beside its place, with its mode from the first moment on.
fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
