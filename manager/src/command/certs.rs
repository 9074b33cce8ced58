//! `ctl certs`: the certificates of the nodes and the cluster's CA: shows them, makes new ones,
//! and replaces the CA, all while the nodes run.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tyto_core::config::name::is_node_name;
use tyto_core::config::node::Node;
use tyto_proto::v1::{IdentityHealth, NodeStatus};

use super::{Command, Run, nodes_arg};
use crate::context::Context;
use crate::deploy::survey::Survey;
use crate::identity::authority::{CaState, Phase};
use crate::identity::check::{self, Certificate, Renewal, renewal};
use crate::identity::refused;
use crate::identity::rollout::{Rollout, Surveys, subject};
use crate::identity::subscriber;
use crate::lock;
use crate::report::{Report, hinted};

pub(super) const COMMAND: Command = Command {
    name: "certs",
    summary: "Shows and renews certificates, replaces the cluster's CA",
    details: "`ctl certs` lists the certificate of each node and says who was refused lately. \
              `ctl certs renew [NODES]` makes new keys and certificates now; `ctl deploy` does \
              it past half of their time. `ctl certs rotate` replaces the CA: first all hosts \
              trust a new one as well, then all nodes get certificates of it, then the old one is \
              forgotten; each step waits until every node uses what it was given. Interrupted or \
              stopped by a host that does not answer, it goes on when called again; --abort goes \
              back. Nodes take up certificates while they run: nothing restarts, no row is lost. \
              `ctl certs subscriber NAME` makes key and certificate of a program that reads rows \
              from the loggers (docs/sinks.md).",
    args: || {
        let flag = |name: &'static str, help: &'static str| {
            Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
        };
        vec![
            Arg::new("action")
                .value_name("ACTION")
                .value_parser(PossibleValuesParser::new(["list", "renew", "rotate", "subscriber"]))
                .default_value("list")
                .help("What to do"),
            nodes_arg(),
            flag("status", "With rotate: only say where the rotation is"),
            flag("resume", "With rotate: go on with one that was stopped, begin none")
                .conflicts_with_all(["status", "abort"]),
            Arg::new("out")
                .long("out")
                .value_name("FOLDER")
                .default_value(".")
                .help("With subscriber: where its files go"),
            flag("abort", "With rotate: go back to the CA of before").conflicts_with("status"),
            lock::no_wait_arg(),
        ]
    },
    run: Run::Cluster(|ctx, args| Box::pin(run(ctx, args))),
};

async fn run(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let action = args.get_one::<String>("action").map_or("list", String::as_str);
    let flags = ["status", "resume", "abort"].into_iter().find(|flag| args.get_flag(flag));
    if let Some(flag) = flags.filter(|_| action != "rotate") {
        return Err(hinted(
            format!("--{flag} is for rotate"),
            format!("ctl certs rotate --{flag}"),
        ));
    }
    match action {
        "subscriber" => subscriber(ctx, args).await,
        "renew" => lock::with_lock(ctx, args, async |_| renew(ctx, args).await).await,
        "rotate" => {
            let named = args.get_many::<String>("nodes").into_iter().flatten().next();
            if let Some(node) = named {
                let text = format!("a rotation is of the whole cluster, not of `{node}`");
                return Err(hinted(text, "ctl certs rotate"));
            }
            match flags {
                Some("status") => where_it_is(ctx).await,
                _ => lock::with_lock(ctx, args, async |_| rotate(ctx, flags).await).await,
            }
        }
        _ => list(ctx, args).await,
    }
}

/// One node's certificate as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    node: String,
    role: &'static str,
    host: String,
    /// `good`, `due`, `expired` and so on; `???` when the host does not answer.
    state: &'static str,
    serial: Option<String>,
    fingerprint: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    /// Share of its time that is over.
    life_used: Option<f64>,
    /// Beginning of the key identifier of the CA that signed it.
    issuer: Option<String>,
    /// The process uses this one; none when none runs or it does not tell.
    in_use: Option<bool>,
    /// What the process says is the matter with its files.
    fault: Option<String>,
    refusals: Vec<serde_json::Value>,
}

async fn list(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let mut report = Report::new();
    let rollout = Rollout::new(ctx)?;
    let (surveys, statuses) = tokio::join!(rollout.look(), rollout.hosts().statuses());
    for (host, error) in &surveys.silent {
        report.remote_error(host, error);
    }
    let own = surveys.hosts.values().find_map(|survey| survey.own_ca.as_deref());
    if own.is_none() && surveys.silent.is_empty() {
        let text = "the manager's host has no CA";
        report.error_hint(text, "`ctl deploy` makes one, with certificates for all nodes");
    }
    let now: SystemTime = Timestamp::now().into();
    let mut rows = Vec::new();
    for node in nodes {
        let survey = surveys.hosts.get(&node.host);
        let told = statuses.iter().find(|(host, _)| *host == node.host);
        let status = told.and_then(|(_, status)| status.as_ref().ok());
        let status =
            status.and_then(|reply| reply.nodes.iter().find(|s| node.name == s.node.as_str()));
        let ca = own.or_else(|| survey?.ca.as_deref());
        let row = row(ctx, node, survey, ca, status, now);
        if !matches!(row.state, "good" | "due") {
            report.fail();
        }
        warn(&row, status, &mut report);
        rows.push(row);
    }
    let bundle = own.map(check::bundle).unwrap_or_default();
    show(&rows, &bundle, &mut report);
    Ok(report)
}

fn row(
    ctx: &Context,
    node: &Node,
    survey: Option<&Survey>,
    ca: Option<&str>,
    status: Option<&NodeStatus>,
    now: SystemTime,
) -> Row {
    let held = survey.and_then(|survey| survey.certs.get(node.name.as_str()));
    let cert = held.and_then(|held| Certificate::from_pem(&held.pem));
    let state = match (survey, held) {
        (None, _) => "???",
        (Some(_), None) => "missing",
        (Some(_), Some(held)) if !held.has_key => "missing key",
        (Some(_), Some(held)) => {
            let (cluster, signer) =
                (&ctx.cluster.settings.cluster, ca.and_then(Certificate::from_pem));
            state(renewal(&held.pem, cluster, &subject(node), signer.as_ref(), now))
        }
    };
    let identity = status.filter(|status| status.pid != 0).and_then(identity_of);
    let told = |of: &dyn Fn(&Certificate) -> String| cert.as_ref().map(of);
    Row {
        node: node.name.to_string(),
        role: node.role.as_str(),
        host: node.host.to_string(),
        state,
        serial: told(&|cert| hex(&cert.serial)),
        fingerprint: told(&|cert| cert.sha256.clone()),
        not_before: told(&|cert| moment(cert.not_before)),
        not_after: told(&|cert| moment(cert.not_after)),
        life_used: cert.as_ref().map(|cert| cert.life_used(now)),
        issuer: cert.as_ref().and_then(|cert| cert.issuer_key_id.as_deref().map(hex)),
        in_use: cert.as_ref().zip(identity).map(|(cert, id)| cert.sha256 == id.certificate_sha256),
        fault: identity.map(|identity| identity.fault.clone()).filter(|fault| !fault.is_empty()),
        refusals: identity.map(refusals).unwrap_or_default(),
    }
}

const fn state(renewal: Option<Renewal>) -> &'static str {
    match renewal {
        None => "good",
        Some(Renewal::Old) => "due",
        Some(Renewal::Expired) => "expired",
        Some(Renewal::NotYetValid) => "not yet valid",
        Some(Renewal::OtherCa) => "wrong CA",
        Some(Renewal::OtherName) => "wrong name",
        Some(Renewal::Missing) => "missing",
    }
}

fn identity_of(status: &NodeStatus) -> Option<&IdentityHealth> {
    status.health.as_ref()?.identity.as_ref()
}

fn refusals(identity: &IdentityHealth) -> Vec<serde_json::Value> {
    let row = |refusal: &tyto_proto::v1::RefusalCount| {
        json!({
            "reason": refusal.reason,
            "by_peer": refusal.by_peer,
            "count": refusal.count,
            "last_text": refusal.last_text,
            "last": moment(UNIX_EPOCH + Duration::from_nanos(refusal.last_ns)),
        })
    };
    identity.refusals.iter().map(row).collect()
}

/// What an operator should see besides the table.
fn warn(row: &Row, status: Option<&NodeStatus>, report: &mut Report) {
    let node = &row.node;
    if let Some(fault) = &row.fault {
        report.error_hint(format!("node `{node}`: {fault}"), format!("ctl certs renew {node}"));
    }
    for line in
        status.iter().flat_map(|status| refused::lines(status, Duration::MAX, Timestamp::now()))
    {
        report.warn(line);
    }
}

fn show(rows: &[Row], bundle: &[Certificate], report: &mut Report) {
    let dash = || "-".to_owned();
    let short = |hex: &Option<String>| {
        hex.as_deref().map_or_else(dash, |hex| tyto_daemon::certificate::short(hex).to_owned())
    };
    let line = |row: &Row| {
        let in_use = row.in_use.map_or("-", |is_so| if is_so { "yes" } else { "no" });
        vec![
            row.node.clone(),
            row.role.to_owned(),
            row.host.clone(),
            row.state.to_owned(),
            in_use.to_owned(),
            row.not_before.clone().unwrap_or_else(dash),
            row.not_after.clone().unwrap_or_else(dash),
            row.life_used.map_or_else(dash, |used| format!("{:.0}%", used * 100.0)),
            short(&row.fingerprint),
            short(&row.issuer),
        ]
    };
    let header = [
        "Node",
        "Role",
        "Host",
        "State",
        "In use",
        "Not before",
        "Not after",
        "Used",
        "Fingerprint",
        "CA",
    ];
    report.table(&header, rows.iter().map(line).collect());
    for (n, ca) in bundle.iter().enumerate() {
        let role = if n == 0 { "signs" } else { "is trusted" };
        let id = short(&ca.key_id.as_deref().map(hex));
        report.line(format!("CA {id} {role}, valid until {}", moment(ca.not_after)));
    }
    if bundle.len() > 1 {
        report.line("a rotation of the CA is under way: `ctl certs rotate` goes on with it");
    }
    let ca = |ca: &Certificate| {
        json!({
            "key_id": ca.key_id.as_deref().map(hex),
            "fingerprint": ca.sha256,
            "not_after": moment(ca.not_after),
        })
    };
    let cas: Vec<_> = bundle.iter().map(ca).collect();
    report.json(&json!({ "nodes": rows, "cas": cas }));
}

async fn renew(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let nodes = ctx.nodes(args)?;
    let mut report = Report::new();
    let rollout = Rollout::new(ctx)?;
    let state = rollout.ca.show(&ctx.layout, rollout.deadline()).await?;
    let mut surveys = rollout.look().await;
    let is_named = |node: &Node| nodes.iter().any(|named| named.name == node.name);
    // Hosts without a node that was named are not the matter of this call.
    let concerned = |host: &_| nodes.iter().any(|node| node.host == *host);
    surveys.hosts.retain(|host, _| concerned(host));
    for (host, error) in surveys.silent.iter().filter(|(host, _)| concerned(host)) {
        report.remote_error(host, error);
    }
    ctx.progress.heading("making keys and certificates ...");
    let issued = rollout.bring(&state, &surveys, is_named, &mut report).await;
    if let Some(issued) = issued {
        ctx.progress.heading("waiting until the nodes use them ...");
        if rollout.confirm(&state, &mut report).await {
            report.line(format!("certificates renewed: {issued}"));
        }
    }
    report.json(&json!({ "renewed": issued }));
    Ok(report)
}

/// Changes nothing of the cluster: no lock.
async fn subscriber(ctx: &Context, args: &ArgMatches) -> anyhow::Result<Report> {
    let names: Vec<&String> = args.get_many::<String>("nodes").into_iter().flatten().collect();
    let name = match names.as_slice() {
        [name] if is_node_name(name) => name.as_str(),
        _ => return Err(hinted("a subscriber has one name", "ctl certs subscriber siem")),
    };
    if ctx.cluster.nodes.iter().any(|node| node.name == *name) {
        let text = format!("`{name}` is a node of the cluster");
        return Err(hinted(text, "a subscriber has a name of its own"));
    }
    // Loggers answer those who follow; a standalone node has none.
    if !ctx.cluster.nodes.iter().any(|node| node.role == tyto_core::config::runtime::Role::Logger) {
        let hint = "a manager, a logger, a proxy and a worker can share one host";
        return Err(hinted("no node is a logger: there is nobody to subscribe to", hint));
    }
    let folder = args.get_one::<String>("out").map_or(".", String::as_str);
    let files = subscriber::issue(ctx, name, Path::new(folder)).await?;
    let mut report = Report::new();
    let told =
        [("key", &files.key), ("certificate", &files.certificate), ("CA", &files.ca)].into_iter();
    told.for_each(|(what, path)| report.line(format!("{what}: {}", path.display())));
    report.json(&json!({ "key": files.key, "certificate": files.certificate, "ca": files.ca }));
    Ok(report)
}

async fn where_it_is(ctx: &Context) -> anyhow::Result<Report> {
    let mut report = Report::new();
    let rollout = Rollout::new(ctx)?;
    say_where(&rollout.ca.show(&ctx.layout, rollout.deadline()).await?, &mut report);
    Ok(report)
}

async fn rotate(ctx: &Context, flag: Option<&str>) -> anyhow::Result<Report> {
    let mut report = Report::new();
    let rollout = Rollout::new(ctx)?;
    let deadline = rollout.deadline();
    let mut state = rollout.ca.show(&ctx.layout, deadline).await?;
    if state.phase.is_none() && flag.is_some() {
        return Err(hinted("no rotation of the CA is under way", "ctl certs rotate"));
    }
    if flag == Some("abort") {
        state = rollout.ca.abort(&ctx.layout, deadline).await?;
    }
    if state.phase.is_none() {
        // Nothing is begun that could not go on: a host that is away now would stop it.
        let surveys = rollout.look().await;
        if !all_answer(&surveys, &mut report) {
            return Ok(report);
        }
        state = rollout.ca.begin(&ctx.layout, deadline).await?;
    }
    while let Some(phase) = state.phase {
        ctx.progress.heading(&format!("{} ...", phase.story()));
        if !complete(&rollout, &state, &mut report).await {
            let text = format!("the rotation stays in phase `{}`", phase.as_str());
            report.error_hint(text, "ctl certs rotate, when that is mended; nodes go on meanwhile");
            break;
        }
        state = rollout.ca.advance(&ctx.layout, phase, deadline).await?;
        report.line(format!("done: {}", phase.story()));
    }
    say_where(&state, &mut report);
    Ok(report)
}

/// Has all hosts do what the phase of `state` asks; true when all nodes have confirmed it.
async fn complete(rollout: &Rollout<'_>, state: &CaState, report: &mut Report) -> bool {
    let surveys = rollout.look().await;
    if !all_answer(&surveys, report) {
        return false;
    }
    // Files may say that both CAs are trusted before the processes have read them; a certificate
    // of the other CA would be refused meanwhile.
    if matches!(state.phase, Some(Phase::Reissue | Phase::Undo))
        && !(rollout.bring_trust(state, &surveys, report).await
            && rollout.confirm(state, report).await)
    {
        return false;
    }
    rollout.bring(state, &surveys, |_| false, report).await.is_some()
        && rollout.confirm(state, report).await
}

fn all_answer(surveys: &Surveys, report: &mut Report) -> bool {
    for (host, error) in &surveys.silent {
        report.remote_error(host, error);
    }
    if !surveys.silent.is_empty() {
        let text = "a rotation needs every host of node.cfg";
        report.error_hint(text, "mend the host or take it out of node.cfg, then ctl certs rotate");
    }
    surveys.silent.is_empty()
}

fn say_where(state: &CaState, report: &mut Report) {
    let cas: Vec<String> = check::bundle(&state.bundle).into_iter().map(|ca| ca.sha256).collect();
    match state.phase {
        None => report.line("no rotation is under way; one CA is trusted"),
        Some(phase) => {
            report.line(format!("a rotation is in phase `{}`: {}", phase.as_str(), phase.story()));
        }
    }
    let phase = state.phase.map(Phase::as_str);
    report.json(&json!({ "phase": phase, "trusted_ca_sha256": cas }));
}

fn moment(at: SystemTime) -> String {
    let moment =
        Timestamp::try_from(at).ok().map(|at| at.strftime("%Y-%m-%d %H:%M:%S").to_string());
    moment.unwrap_or_else(|| "?".to_owned())
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
