//! Why a connection or a call between nodes came to nothing: one [`Reason`] each, told with
//! both sides' view, counted, and kept for the node's health report.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use tyto_core::time::Ts;
use tyto_proto::v1::RefusalCount;

use crate::certificate::{Facts, moment, short};
use crate::clock;

/// A refusal with the same words is traced again after this long; until then it is only counted.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Refusals for one reason are traced no more often than this, whatever their words: they hold
/// what strangers say of themselves.
const SAY_APART: Duration = Duration::from_secs(1);
/// Characters of a refusal's words that are kept.
const TEXT_CHARS_MAX: usize = 600;

/// Why a peer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A CA that is not trusted signed its certificate.
    Stranger,
    /// Its certificate's time is over.
    Expired,
    /// Its certificate's time has not begun.
    NotYetValid,
    /// It belongs to another cluster.
    OtherCluster,
    /// It is not the node that was dialled.
    OtherNode,
    /// Its role may not do that.
    OtherRole,
    /// It shows no certificate.
    NoCertificate,
    /// Its certificate cannot be read or is not for this use.
    Unusable,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Stranger,
        Self::Expired,
        Self::NotYetValid,
        Self::OtherCluster,
        Self::OtherNode,
        Self::OtherRole,
        Self::NoCertificate,
        Self::Unusable,
    ];

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::OtherCluster => "other_cluster",
            Self::OtherNode => "other_node",
            Self::OtherRole => "other_role",
            Self::NoCertificate => "no_certificate",
            Self::Unusable => "unusable",
        }
    }

    /// The reason of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// Who refused whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// This node refused its peer.
    Us,
    /// The peer refused this node.
    Peer,
}

/// One refusal, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The whole story.
    pub text: String,
}

impl Refusal {
    /// A refusal told in these words, made fit for a terminal: a stranger chose some of them.
    pub(crate) fn new(reason: Reason, text: impl Into<String>) -> Self {
        let printable = |c: char| if c.is_control() { '?' } else { c };
        Self { reason, text: text.into().chars().take(TEXT_CHARS_MAX).map(printable).collect() }
    }

    /// The certificate is signed by nobody that `trusted` has.
    pub(crate) fn stranger(cert: &Facts, trusted: &[Facts]) -> Self {
        let known: Vec<String> = trusted
            .iter()
            .map(|ca| format!("`{}` (key {})", ca.subject, short(&ca.key_id)))
            .collect();
        let text = format!(
            "certificate of {} is signed by `{}` (key {}), which is not trusted here; trusted: {}",
            cert.who(),
            cert.issuer,
            short(&cert.issuer_key_id),
            known.join(", ")
        );
        Self::new(Reason::Stranger, text)
    }

    /// The certificate's time is over at `now_s`.
    pub(crate) fn expired(cert: &Facts, now_s: i64) -> Self {
        let text = format!(
            "certificate of {} was valid until {}, this host's clock says {}; \
             `ctl certs renew` makes a new one; or is a clock off?",
            cert.who(),
            moment(cert.not_after_s),
            moment(now_s)
        );
        Self::new(Reason::Expired, text)
    }

    /// The certificate's time has not begun at `now_s`.
    pub(crate) fn not_yet_valid(cert: &Facts, now_s: i64) -> Self {
        let text = format!(
            "certificate of {} is valid from {}, this host's clock says {}; is the clock off?",
            cert.who(),
            moment(cert.not_before_s),
            moment(now_s)
        );
        Self::new(Reason::NotYetValid, text)
    }

    /// What an alert of `peer` says of our certificate `own`; none when it is not about that.
    pub(crate) fn told_by_alert(alert: AlertDescription, own: &Facts, peer: &str) -> Option<Self> {
        let now_s = now_s();
        let (reason, text) = match alert {
            AlertDescription::UnknownCA => (
                Reason::Stranger,
                format!(
                    "`{peer}` does not trust the CA of our certificate: `{}` (key {})",
                    own.issuer,
                    short(&own.issuer_key_id)
                ),
            ),
            AlertDescription::CertificateExpired => {
                let begins_sooner = now_s - own.not_before_s < own.not_after_s - now_s;
                let reason = if begins_sooner { Reason::NotYetValid } else { Reason::Expired };
                (
                    reason,
                    format!(
                        "`{peer}` refuses our certificate as expired or not yet valid; it is \
                         valid from {} to {}, this host's clock says {}; is a clock off?",
                        moment(own.not_before_s),
                        moment(own.not_after_s),
                        moment(now_s)
                    ),
                )
            }
            AlertDescription::AccessDenied => (
                Reason::OtherCluster,
                format!(
                    "`{peer}` says that our certificate is not one of its cluster or role: {}",
                    own_name(own)
                ),
            ),
            AlertDescription::BadCertificate => (
                Reason::OtherNode,
                format!(
                    "`{peer}` dialled another node than the one our certificate names: {}",
                    own_name(own)
                ),
            ),
            AlertDescription::CertificateRequired => {
                (Reason::NoCertificate, format!("`{peer}` asks for a certificate, none was shown"))
            }
            AlertDescription::DecryptError
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate => {
                (Reason::Unusable, format!("`{peer}` cannot use our certificate: {alert:?}"))
            }
            _ => return None,
        };
        Some(Self::new(reason, text))
    }
}

fn own_name(own: &Facts) -> String {
    own.holder.as_ref().map_or_else(
        || format!("`{}`", own.subject),
        |holder| format!("`spiffe://{}/{}/{}`", holder.cluster, holder.role, holder.node),
    )
}

/// Wall-clock seconds since the Unix epoch.
pub(crate) fn now_s() -> i64 {
    i64::try_from(clock::now().0 / 1_000_000_000).unwrap_or(i64::MAX)
}

/// All refusals of a process.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    // Taken by whoever finds a refusal and by the health report, each for a moment.
    slots: Mutex<[[Slot; Reason::ALL.len()]; 2]>,
}

#[derive(Debug, Default)]
struct Slot {
    count: u64,
    text: String,
    last: Ts,
    told: Option<Instant>,
}

impl Refusals {
    /// Counts and traces a refusal.
    pub(crate) fn note(&self, by: By, peer: &str, refusal: &Refusal) {
        self.note_at(by, peer, refusal, Instant::now());
    }

    /// `now`: by a clock that only rises, or one that was set back would silence refusals.
    fn note_at(&self, by: By, peer: &str, refusal: &Refusal, now: Instant) -> bool {
        let is_news = {
            let mut slots = self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let slot = &mut slots[by as usize][refusal.reason as usize];
            let age = slot.told.map_or(Duration::MAX, |told| now.saturating_duration_since(told));
            let is_news = age >= SAY_AGAIN || slot.text != refusal.text && age >= SAY_APART;
            slot.count += 1;
            slot.last = clock::now();
            slot.text.clone_from(&refusal.text);
            if is_news {
                slot.told = Some(now);
            }
            is_news
        };
        let (reason, error) = (refusal.reason.as_str(), &refusal.text);
        match (is_news, by) {
            (true, By::Us) => tracing::warn!(peer, reason, error, "peer refused"),
            (true, By::Peer) => tracing::warn!(peer, reason, error, "refused by peer"),
            (false, _) => tracing::debug!(peer, reason, error, "refused again"),
        }
        is_news
    }

    /// For the health report: what has happened at all.
    pub(crate) fn report(&self) -> Vec<RefusalCount> {
        let slots = self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut counts = Vec::new();
        for by in [By::Us, By::Peer] {
            for reason in Reason::ALL {
                let slot = &slots[by as usize][reason as usize];
                if slot.count > 0 {
                    counts.push(RefusalCount {
                        reason: reason.as_str().to_owned(),
                        by_peer: by == By::Peer,
                        count: slot.count,
                        last_text: slot.text.clone(),
                        last_ns: slot.last.0,
                    });
                }
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_and_direction_is_counted_by_itself() {
        let refusals = Refusals::default();
        let stranger = Refusal::new(Reason::Stranger, "who is that");
        refusals.note(By::Us, "worker-1", &stranger);
        refusals.note(By::Us, "worker-1", &stranger);
        refusals.note(By::Peer, "logger-1", &Refusal::new(Reason::Expired, "too old"));
        let found = refusals.report();
        let found: Vec<_> =
            found.iter().map(|r| (&*r.reason, r.by_peer, r.count, &*r.last_text)).collect();
        assert_eq!(found, [("stranger", false, 2, "who is that"), ("expired", true, 1, "too old")]);
    }

    #[test]
    fn a_refusal_is_told_again_after_a_while_by_a_clock_that_nobody_sets() {
        let (refusals, begun) = (Refusals::default(), Instant::now());
        let told = |text: &str, after| {
            let refusal = Refusal::new(Reason::Stranger, text);
            refusals.note_at(By::Us, "worker-1", &refusal, begun + after)
        };
        assert!(told("who is that", Duration::ZERO));
        assert!(!told("who is that", SAY_AGAIN - Duration::from_millis(1)));
        assert!(told("who is that", SAY_AGAIN));
        assert!(told("another", SAY_AGAIN + SAY_APART));
    }

    #[test]
    fn what_a_stranger_says_of_itself_is_cut_and_cannot_steer_a_terminal() {
        let text = format!("\u{1b}[2J{}", "x".repeat(100_000));
        let refusal = Refusal::new(Reason::Stranger, text);
        assert_eq!(refusal.text.chars().count(), TEXT_CHARS_MAX);
        assert!(refusal.text.starts_with("?[2Jxx"));
    }

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.as_str()), Some(reason));
        }
    }

    #[test]
    fn an_alert_is_told_with_our_own_view() {
        let now_s = now_s();
        let own = |not_before_s, not_after_s| Facts {
            subject: "worker-1".into(),
            not_before_s,
            not_after_s,
            ..Facts::default()
        };
        let told = |alert, own: &Facts| Refusal::told_by_alert(alert, own, "logger-1");
        let expired = AlertDescription::CertificateExpired;
        let fresh = own(now_s - 10, now_s + 1000);
        assert_eq!(told(expired, &fresh).unwrap().reason, Reason::NotYetValid);
        let old = told(expired, &own(now_s - 1000, now_s - 1)).unwrap();
        assert_eq!(old.reason, Reason::Expired);
        assert!(old.text.contains(&moment(now_s - 1)), "{old}");
        assert_eq!(told(AlertDescription::CloseNotify, &fresh), None);
    }
}
