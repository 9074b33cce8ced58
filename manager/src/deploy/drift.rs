//! Whether hosts run what the operator's files say. The configuration half of a release's id
//! tells, so that no program has to be read for it.

use std::collections::BTreeMap;

use tyto_core::config::name::HostName;

use super::bundle::{configuration_half, configuration_id};
use super::history::{Entry, History, Outcome};
use crate::context::Context;
use crate::remote::names;
use crate::report::Report;

/// Hosts whose release was made of other files than those of now. `in_use`: the configuration
/// half of their releases, empty where none is in use. Hosts that left node.cfg count not.
pub fn hosts(ctx: &Context, in_use: &BTreeMap<HostName, String>) -> Vec<HostName> {
    let addrs = names::resolve_all(&ctx.cluster).addrs;
    let differs = |host: &HostName| {
        let half = in_use.get(host).filter(|half| !half.is_empty());
        // What cannot be told, because a name has no address, is not told.
        let now = configuration_id(&ctx.cluster, host, &addrs).ok();
        half.zip(now.as_ref()).is_some_and(|(half, now)| half != now)
    };
    ctx.cluster.hosts().into_iter().filter(|host| differs(host)).cloned().collect()
}

/// The last change, when the manager's host tells; status goes without where it does not.
pub async fn last_change(ctx: &Context) -> Option<Entry> {
    History::of(ctx).ok()??.last().await.ok()?
}

/// Adds what the last change gave hosts that were not asked themselves, and warns of one that
/// did not come to its end.
pub fn add_last(last: &Entry, in_use: &mut BTreeMap<HostName, String>, report: &mut Report) {
    if last.outcome != Outcome::Done {
        report.warn_hint(
            format!(
                "change {} (`{}` by {}) is {}",
                last.id,
                last.command,
                last.who,
                last.outcome.as_str()
            ),
            format!("`ctl history {}` tells more; deploy again, or `ctl rollback`", last.id),
        );
        return;
    }
    for (host, switched) in &last.releases {
        let half = || configuration_half(&switched.to).to_owned();
        in_use.entry(host.as_str().into()).or_insert_with(half);
    }
}

/// Warns of hosts that run by other files than those of now.
pub fn warn(ctx: &Context, in_use: &BTreeMap<HostName, String>, report: &mut Report) {
    let hosts = hosts(ctx, in_use);
    let which = match hosts.as_slice() {
        [] => return,
        [one] => format!("host `{one}`"),
        [one, rest @ ..] => format!("host `{one}` and {} more", rest.len()),
    };
    report.warn_hint(
        format!("the configuration differs from what is deployed on {which}"),
        "`ctl deploy --plan` shows what a deploy would change",
    );
}
