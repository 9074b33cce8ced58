//! Puts what [`super::preflight`] found missing onto the hosts: files and certificates. Until all
//! hosts that answer have theirs, nothing is switched anywhere.

use jiff::Timestamp;
use tyto_core::config::name::HostName;
use tyto_core::config::runtime::Role;

use super::preflight::Preflight;
use super::ship;
use super::survey::HostCert;
use crate::context::Context;
use crate::hosts::Host;
use crate::identity::ca::Subject;
use crate::identity::check::{Certificate, Renewal, renewal};
use crate::identity::issue::{CaHost, Wanted, issue};
use crate::identity::rollout::subject;
use crate::lock::Lock;
use crate::remote::error::RemoteError;
use crate::report::{Report, hinted};

/// Brings files and certificates onto all hosts of `preflight`; what hosts run stays as it is.
/// False when a host that answers failed. Hosts that no longer answer, or get no certificates,
/// leave `preflight`.
///
/// # Errors
/// When the lock cannot be had, or somebody else changed the cluster meanwhile.
pub async fn bring(
    ctx: &Context,
    preflight: &mut Preflight,
    lock: &mut Lock,
    report: &mut Report,
) -> anyhow::Result<bool> {
    if !ship_all(ctx, preflight, report).await {
        return Ok(false);
    }
    // At the first install there was no program that could keep a lock; now there is.
    let head = ctx.cluster.head().and_then(|head| preflight.hosts.find(&head.host));
    if let Some((head, release)) = head.and_then(|h| Some((h, preflight.releases.get(&h.name)?)))
        && !lock.move_to(head, &release.id).await?
    {
        return Err(hinted(
            "another ctl has installed this cluster meanwhile",
            "run the same again: it goes on from there",
        ));
    }
    Ok(identify_all(ctx, preflight, report).await)
}

async fn ship_all(ctx: &Context, preflight: &mut Preflight, report: &mut Report) -> bool {
    let (surveys, releases) = (&preflight.surveys, &preflight.releases);
    let results = preflight
        .hosts
        .each(|host: Host| {
            let survey = surveys.get(&host.name).cloned().unwrap_or_default();
            let release = releases.get(&host.name).cloned();
            let progress = ctx.progress.clone();
            async move {
                let Some(release) = release else { return Ok(ship::Shipped::default()) };
                let line = progress.host(&host.name);
                let total = ship::missing_bytes(&release, &survey);
                let done = std::sync::atomic::AtomicU64::new(0);
                let say = |bytes: u64| {
                    let sent = done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes;
                    line.say(format!("installing: {} of {} MiB", sent >> 20, total >> 20));
                };
                say(0);
                let (remote, layout) = (&*host.remote, &host.layout);
                ship::ship(remote, layout, &release, &survey, host.deadline, &say).await
            }
        })
        .await;
    let mut all_good = true;
    for (host, result) in results {
        match result {
            Ok(shipped) if shipped.files > 0 => ctx.progress.heading(&format!(
                "({host}: {} files, {:.1} MiB copied)",
                shipped.files,
                mebibytes(shipped.bytes)
            )),
            Ok(_) => {}
            Err(error) => all_good &= drop_host(preflight, &host, &error, report),
        }
    }
    all_good
}

/// For people: a tenth of a MiB is as exact as it gets.
#[allow(clippy::cast_precision_loss, reason = "a size for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Leaves a host out that failed; true when the others may go on without it.
fn drop_host(
    preflight: &mut Preflight,
    host: &HostName,
    error: &RemoteError,
    report: &mut Report,
) -> bool {
    report.remote_error(host, error);
    preflight.hosts.retain(|kept| kept.name != *host);
    error.is_unreachable()
}

/// Sees to it that every node has a certificate that is good for a while.
async fn identify_all(ctx: &Context, preflight: &mut Preflight, report: &mut Report) -> bool {
    let Some(head) = ctx.cluster.head().filter(|node| node.role == Role::Manager) else {
        // A standalone node talks to nobody.
        return true;
    };
    let release_bin = |preflight: &Preflight, host: &HostName| {
        let id = preflight.releases.get(host).map_or("", |release| &release.id);
        ctx.layout.release(id).join("bin")
    };
    let mut ca_host = None;
    let mut ca_pem = None;
    if let Some(host) = preflight.hosts.find(&head.host) {
        let ca = CaHost {
            remote: host.remote.clone(),
            bin: release_bin(preflight, &head.host),
            cluster: ctx.cluster.settings.cluster.clone(),
        };
        let own = preflight.surveys.get(&head.host).and_then(|survey| survey.own_ca.clone());
        let pem = match own {
            Some(pem) => Ok(pem),
            None => ca.init(&ctx.layout, host.deadline).await,
        };
        match pem {
            Ok(pem) => (ca_pem, ca_host) = (Some(pem), Some(ca)),
            Err(error) => {
                report.remote_error(&head.host, &error);
                return false;
            }
        }
    }
    let wanted: Vec<(HostName, Wanted)> = preflight
        .hosts
        .iter()
        .map(|host| (host, unidentified(ctx, preflight, &host.name, ca_pem.as_deref())))
        .filter(|(host, due)| {
            let trusted = preflight.surveys.get(&host.name).and_then(|survey| survey.ca.as_ref());
            !due.is_empty() || (ca_pem.is_some() && trusted != ca_pem.as_ref())
        })
        // Without the CA, what is only past half of its time goes on with the other half.
        .filter(|(_, due)| ca_host.is_some() || due.iter().any(|(_, why)| *why != Renewal::Old))
        .map(|(host, due)| {
            let bin = release_bin(preflight, &host.name);
            let subjects = due.into_iter().map(|(subject, _)| subject).collect();
            (host.name.clone(), Wanted { remote: host.remote.clone(), bin, subjects })
        })
        .collect();
    if wanted.is_empty() {
        return true;
    }
    let (Some(ca), Some(ca_pem)) = (ca_host, ca_pem) else {
        for (host, _) in &wanted {
            let text = "certificates are due, but the manager's host with the CA does not answer";
            report.error(format!("host `{host}`: {text}"));
            preflight.hosts.retain(|kept| kept.name != *host);
        }
        return true;
    };
    issue_all(ctx, preflight, report, &ca, &ca_pem, wanted).await
}

async fn issue_all(
    ctx: &Context,
    preflight: &mut Preflight,
    report: &mut Report,
    ca: &CaHost,
    ca_pem: &str,
    wanted: Vec<(HostName, Wanted)>,
) -> bool {
    let deadline = std::time::Duration::from_secs(ctx.cluster.settings.command_timeout_s);
    let parallel_max = ctx.cluster.settings.ssh.parallel_max;
    let (names, wanted): (Vec<HostName>, Vec<Wanted>) = wanted.into_iter().unzip();
    let subjects: Vec<Vec<Subject>> = wanted.iter().map(|w| w.subjects.clone()).collect();
    let results = issue(ca, ca_pem, &ctx.layout, wanted, parallel_max, deadline).await;
    let mut all_good = true;
    for ((host, subjects), result) in names.iter().zip(subjects).zip(results) {
        match result {
            Ok(()) => {
                let said = match subjects.len() {
                    0 => "CAs to trust replaced".to_owned(),
                    count => format!("certificates issued: {count}"),
                };
                ctx.progress.heading(&format!("({host}: {said})"));
                let certs = preflight.surveys.get_mut(host).map(|survey| &mut survey.certs);
                let since = Timestamp::now().into();
                certs.into_iter().for_each(|certs| {
                    for subject in &subjects {
                        let cert = HostCert { pem: String::new(), since, has_key: true };
                        certs.insert(subject.node.clone(), cert);
                    }
                });
            }
            Err(error) => all_good &= drop_host(preflight, host, &error, report),
        }
    }
    all_good
}

/// Nodes of a host that need a certificate under the CA given, or under the one that the host
/// knows when the manager's host does not answer; each with the reason.
pub fn unidentified(
    ctx: &Context,
    preflight: &Preflight,
    host: &HostName,
    ca_pem: Option<&str>,
) -> Vec<(Subject, Renewal)> {
    let Some(survey) = preflight.surveys.get(host) else { return Vec::new() };
    // The first one signs, also when a rotation has hosts trust two.
    let ca = ca_pem.or(survey.ca.as_deref()).and_then(Certificate::from_pem);
    let cluster = &ctx.cluster.settings.cluster;
    let now = Timestamp::now().into();
    let due = |subject: &Subject| -> Option<Renewal> {
        let Some(cert) = survey.certs.get(&subject.node).filter(|cert| cert.has_key) else {
            return Some(Renewal::Missing);
        };
        renewal(&cert.pem, cluster, subject, ca.as_ref(), now)
    };
    let nodes = ctx.cluster.nodes.iter().filter(|node| node.host == *host);
    nodes.map(subject).filter_map(|subject| due(&subject).map(|reason| (subject, reason))).collect()
}

/// Makes the releases current on all hosts; what runs there stays. False when a host that answers
/// failed.
pub async fn switch_all(ctx: &Context, preflight: &mut Preflight, report: &mut Report) -> bool {
    let mut hosts = preflight.hosts.clone();
    hosts.retain(|host| preflight.is_new(&host.name));
    let releases = &preflight.releases;
    let results = hosts
        .each(|host: Host| {
            let id = releases.get(&host.name).map(|release| release.id.clone());
            let logger = logger_of(ctx, &host.name);
            async move {
                let (remote, layout) = (&*host.remote, &host.layout);
                let Some(id) = id else { return Ok(()) };
                ship::switch(remote, layout, &id, logger.as_deref(), host.deadline).await
            }
        })
        .await;
    let mut all_good = true;
    for (host, result) in results {
        if let Err(error) = result {
            all_good &= drop_host(preflight, &host, &error, report);
        }
    }
    all_good
}

/// The first node on a host that writes logs there.
fn logger_of(ctx: &Context, host: &HostName) -> Option<String> {
    let writes = |role| matches!(role, Role::Logger | Role::Standalone);
    let mut nodes = ctx.cluster.nodes.iter();
    nodes.find(|node| node.host == *host && writes(node.role)).map(|node| node.name.to_string())
}
