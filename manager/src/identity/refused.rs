//! Who was refused, as nodes tell of it, for people.

use std::time::Duration;

use jiff::Timestamp;
use tyto_proto::v1::NodeStatus;

/// What happened within this time before now is news to whoever asks how the cluster is.
pub const NEWS: Duration = Duration::from_secs(60);

/// A line for each reason for which the node of `status` refused a peer or was refused, the last
/// time within `within` before `now`.
pub fn lines(status: &NodeStatus, within: Duration, now: Timestamp) -> Vec<String> {
    let identity = status.health.as_ref().and_then(|health| health.identity.as_ref());
    let since_ns = now.as_nanosecond() - i128::try_from(within.as_nanos()).unwrap_or(i128::MAX);
    let refusals = identity.into_iter().flat_map(|identity| &identity.refusals);
    let news = refusals.filter(|refusal| i128::from(refusal.last_ns) >= since_ns);
    news.map(|refusal| {
        let who = if refusal.by_peer { "was refused" } else { "refused a peer" };
        let times = match refusal.count {
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        let node = &status.node;
        format!("node `{node}` {who} ({}, {times}): {}", refusal.reason, refusal.last_text)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use tyto_proto::v1::{IdentityHealth, NodeHealth, RefusalCount};

    use super::*;

    #[test]
    fn only_what_is_news_is_told_when_news_are_asked_for() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let refusal = |reason: &str, age_s: u64, by_peer, count| RefusalCount {
            reason: reason.to_owned(),
            by_peer,
            count,
            last_text: "why".to_owned(),
            last_ns: (1_800_000_000 - age_s) * 1_000_000_000,
        };
        let refusals = vec![refusal("stranger", 10, true, 1), refusal("expired", 3600, false, 7)];
        let identity = Some(IdentityHealth { refusals, ..IdentityHealth::default() });
        let health = Some(NodeHealth { identity, ..NodeHealth::default() });
        let status = NodeStatus { node: "w".into(), health, ..NodeStatus::default() };
        let stranger = "node `w` was refused (stranger, once): why";
        assert_eq!(lines(&status, NEWS, now), [stranger]);
        let expired = "node `w` refused a peer (expired, 7 times): why";
        assert_eq!(lines(&status, Duration::from_secs(86_400), now), [stranger, expired]);
        assert!(lines(&NodeStatus::default(), NEWS, now).is_empty());
    }
}
