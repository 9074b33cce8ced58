//! Whether hosts run what the operator's files say. The configuration half of a release's id
//! tells, so that no program has to be read for it.

use std::collections::BTreeMap;

use tyto_core::config::name::HostName;

use super::bundle::configuration_id;
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
