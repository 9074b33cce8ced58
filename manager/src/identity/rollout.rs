//! Carries certificates and CAs to the hosts of a whole cluster and waits until every node says
//! that it uses them: what `ctl certs renew` and each phase of `ctl certs rotate` are made of.
//! Facts come from the hosts each time, so whatever was interrupted goes on by being called again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tyto_core::config::name::HostName;
use tyto_core::config::node::Node;
use tyto_core::config::runtime::Role;
use tyto_proto::v1::NodeStatus;

use super::authority::CaState;
use super::ca::Subject;
use super::check::{self, Certificate, renewal};
use super::issue::{CaHost, Wanted, issue};
use crate::context::Context;
use crate::deploy::survey::{Questions, Survey, look};
use crate::hosts::{Host, Hosts};
use crate::remote::error::RemoteError;
use crate::report::{Report, hinted};

/// How long nodes may take to use what they were given. They look every two seconds, and tell
/// of it every second.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(30);
/// Time between two questions.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(500);

/// The certificates of a cluster's hosts, within reach.
#[derive(Debug)]
pub struct Rollout<'a> {
    ctx: &'a Context,
    hosts: Hosts,
    /// Where the CA is.
    pub ca: CaHost,
}

/// What hosts have, and which do not answer.
#[derive(Debug, Default)]
pub struct Surveys {
    /// By host.
    pub hosts: BTreeMap<HostName, Survey>,
    /// Those that do not answer.
    pub silent: Vec<(HostName, RemoteError)>,
}

/// Certificate and trust that a node is to use.
struct Expected {
    certificate: String,
    trusted: Vec<String>,
}

impl<'a> Rollout<'a> {
    /// For the cluster of `ctx`.
    ///
    /// # Errors
    /// When it has no CA, being one standalone node, or SSH cannot be prepared.
    pub fn new(ctx: &'a Context) -> anyhow::Result<Self> {
        let head = ctx.cluster.head().filter(|node| node.role == Role::Manager);
        let Some(head) = head else {
            let hint = "certificates come with a manager and further nodes in node.cfg";
            return Err(hinted("a standalone node talks to nobody and has no certificate", hint));
        };
        let nodes: Vec<&Node> = ctx.cluster.nodes.iter().collect();
        let hosts = Hosts::of(ctx, &nodes)?;
        let host = hosts.find(&head.host);
        let remote = host.map(|host| host.remote.clone());
        let remote = remote.ok_or_else(|| anyhow::anyhow!("the manager has no host"))?;
        let bin = ctx.layout.current().join("bin");
        let ca = CaHost { remote, bin, cluster: ctx.cluster.settings.cluster.clone() };
        Ok(Self { ctx, hosts, ca })
    }

    /// How long one call of a host may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.ctx.cluster.settings.command_timeout_s)
    }

    /// The hosts.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Looks at the certificates on all hosts.
    pub async fn look(&self) -> Surveys {
        let nodes = &self.ctx.cluster.nodes;
        let results = self
            .hosts
            .each(|host| {
                let here = nodes.iter().filter(|node| node.host == host.name);
                let nodes = here.map(|node| node.name.to_string()).collect();
                let questions = Questions { nodes, ..Questions::default() };
                async move { look(&*host.remote, &host.layout, &questions, host.deadline).await }
            })
            .await;
        let mut surveys = Surveys::default();
        for (host, result) in results {
            match result {
                Ok(survey) => drop(surveys.hosts.insert(host, survey)),
                Err(error) => surveys.silent.push((host, error)),
            }
        }
        surveys
    }

    /// Nodes of a host whose certificate is not as it should be, or all that `forced` says.
    fn due(
        &self,
        host: &HostName,
        survey: &Survey,
        state: &CaState,
        forced: impl Fn(&Node) -> bool,
    ) -> Vec<Subject> {
        let (signer, now) = (Certificate::from_pem(&state.bundle), Timestamp::now().into());
        let is_due = |subject: &Subject| {
            let cert = survey.certs.get(&subject.node).filter(|cert| cert.has_key);
            cert.is_none_or(|cert| {
                renewal(&cert.pem, &self.ca.cluster, subject, signer.as_ref(), now).is_some()
            })
        };
        let here = self.ctx.cluster.nodes.iter().filter(|node| node.host == *host);
        here.map(|node| (node, subject(node)))
            .filter(|(node, subject)| forced(node) || is_due(subject))
            .map(|(_, subject)| subject)
            .collect()
    }

    /// Has all hosts trust what `state` says and gives new certificates to the nodes that need
    /// one and to those `forced`. The number of nodes that got one; none when it failed on a
    /// host, which is told.
    pub async fn bring(
        &self,
        state: &CaState,
        surveys: &Surveys,
        forced: impl Fn(&Node) -> bool,
        report: &mut Report,
    ) -> Option<usize> {
        let wanted =
            self.wanted(state, surveys, |host, survey| self.due(host, survey, state, &forced));
        self.hand_out(state, wanted, report).await
    }

    /// Has all hosts trust what `state` says, without new certificates. False when it failed on
    /// a host, which is told.
    pub async fn bring_trust(
        &self,
        state: &CaState,
        surveys: &Surveys,
        report: &mut Report,
    ) -> bool {
        let wanted = self.wanted(state, surveys, |_, _| Vec::new());
        self.hand_out(state, wanted, report).await.is_some()
    }

    /// What the hosts lack: those that trust something else, or have nodes that are `due`.
    fn wanted(
        &self,
        state: &CaState,
        surveys: &Surveys,
        due: impl Fn(&HostName, &Survey) -> Vec<Subject>,
    ) -> Vec<(HostName, Wanted)> {
        let of = |host: &Host| {
            let survey = surveys.hosts.get(&host.name)?;
            let subjects = due(&host.name, survey);
            let lacks = !subjects.is_empty() || survey.ca.as_ref() != Some(&state.bundle);
            let (remote, bin) = (host.remote.clone(), host.layout.current().join("bin"));
            lacks.then(|| (host.name.clone(), Wanted { remote, bin, subjects }))
        };
        self.hosts.iter().filter_map(of).collect()
    }

    /// The number of nodes that got a certificate; none when it failed on a host, which is told.
    async fn hand_out(
        &self,
        state: &CaState,
        wanted: Vec<(HostName, Wanted)>,
        report: &mut Report,
    ) -> Option<usize> {
        let counts: Vec<usize> = wanted.iter().map(|(_, wanted)| wanted.subjects.len()).collect();
        let (names, wanted): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        let (layout, deadline) = (&self.ctx.layout, self.deadline());
        let parallel_max = self.ctx.cluster.settings.ssh.parallel_max;
        let results = issue(&self.ca, &state.bundle, layout, wanted, parallel_max, deadline).await;
        let (mut issued, mut is_good) = (0, true);
        for ((host, count), result) in names.iter().zip(counts).zip(results) {
            match result {
                Ok(()) => issued += count,
                Err(error) => {
                    is_good = false;
                    report.remote_error(host, &error);
                }
            }
        }
        is_good.then_some(issued)
    }

    /// Waits until each node that runs uses the certificate on its host and trusts what `state`
    /// says. What is not so in time is told.
    pub async fn confirm(&self, state: &CaState, report: &mut Report) -> bool {
        let surveys = self.look().await;
        let expected = self.expected(state, &surveys);
        let give_up = Instant::now() + CONFIRM_PATIENCE;
        loop {
            let mut late = Vec::new();
            let mut silent = Vec::new();
            for (host, status) in self.hosts.statuses().await {
                match status {
                    Ok(reply) => late.extend(reply.nodes.iter().filter_map(|status| {
                        let why = unconfirmed(status, expected.get(&status.node)?)?;
                        Some(format!("node `{}` {why}", status.node))
                    })),
                    Err(error) => silent.push((host, error)),
                }
            }
            if late.is_empty() && silent.is_empty() {
                return true;
            }
            if Instant::now() >= give_up || !silent.is_empty() {
                late.into_iter().for_each(|text| report.error(text));
                silent.iter().for_each(|(host, error)| report.remote_error(host, error));
                return false;
            }
            sleep(CONFIRM_INTERVAL).await;
        }
    }

    fn expected(&self, state: &CaState, surveys: &Surveys) -> BTreeMap<String, Expected> {
        let trusted: Vec<String> =
            check::bundle(&state.bundle).into_iter().map(|ca| ca.sha256).collect();
        let certs = surveys.hosts.values().flat_map(|survey| &survey.certs);
        let of = |(node, cert): (&String, &crate::deploy::survey::HostCert)| {
            let certificate = Certificate::from_pem(&cert.pem)?.sha256;
            Some((node.clone(), Expected { certificate, trusted: trusted.clone() }))
        };
        certs.filter_map(of).collect()
    }
}

/// The name of a node as its certificate has it.
pub fn subject(node: &Node) -> Subject {
    Subject { role: node.role, node: node.name.to_string() }
}

/// Why a node that runs does not yet do as expected.
fn unconfirmed(status: &NodeStatus, expected: &Expected) -> Option<String> {
    if status.pid == 0 {
        // It will read its files when it starts.
        return None;
    }
    let Some(health) = status.health.as_ref().filter(|health| health.pid == status.pid) else {
        return Some("has not told of itself yet".to_owned());
    };
    let Some(identity) = &health.identity else {
        return Some(
            "runs a release that does not follow its certificates; restart it: ctl deploy".into(),
        );
    };
    let fault = match identity.fault.as_str() {
        "" => String::new(),
        fault => format!(": {fault}"),
    };
    if identity.certificate_sha256 != expected.certificate {
        return Some(format!("still uses another certificate than the one on its host{fault}"));
    }
    let mut trusted = identity.trusted_ca_sha256.clone();
    let mut wanted = expected.trusted.clone();
    trusted.sort();
    wanted.sort();
    (trusted != wanted).then(|| format!("still trusts other CAs than it should{fault}"))
}

#[cfg(test)]
mod tests {
    use tyto_proto::v1::{IdentityHealth, NodeHealth};

    use super::*;

    fn status(pid: u32, identity: Option<IdentityHealth>) -> NodeStatus {
        let health = Some(NodeHealth { pid, identity, ..NodeHealth::default() });
        NodeStatus { pid, health, ..NodeStatus::default() }
    }

    fn identity(certificate: &str, trusted: &[&str]) -> Option<IdentityHealth> {
        Some(IdentityHealth {
            certificate_sha256: certificate.to_owned(),
            trusted_ca_sha256: trusted.iter().map(|&ca| ca.to_owned()).collect(),
            ..IdentityHealth::default()
        })
    }

    #[test]
    fn a_node_has_confirmed_when_it_uses_its_certificate_and_trusts_the_cas_of_now() {
        let expected =
            Expected { certificate: "c2".into(), trusted: vec!["new".into(), "old".into()] };
        let why = |status: &NodeStatus| unconfirmed(status, &expected).unwrap_or_default();
        assert_eq!(why(&status(7, identity("c2", &["old", "new"]))), "");
        assert!(why(&status(7, identity("c1", &["old", "new"]))).contains("another certificate"));
        assert!(why(&status(7, identity("c2", &["old"]))).contains("other CAs"));
        assert!(why(&status(7, None)).contains("ctl deploy"));
        assert_eq!(why(&status(0, None)), "", "it reads its files when it starts");
        let before = NodeStatus { pid: 8, ..status(7, identity("c2", &["old", "new"])) };
        assert!(why(&before).contains("not told of itself"), "a report of an earlier process");
    }
}
