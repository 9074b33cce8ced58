//! Alarms of a standalone node: it has no manager, so its supervisor looks for them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};
use tyto_core::config::runtime::Role;
use tyto_daemon::alarm::Watch;
use tyto_daemon::clock;
use tyto_daemon::ledger::Known;
use tyto_proto::v1::Alarm;

use crate::fleet::Fleet;

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The alarms of now, as the last look left them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms(Arc<Mutex<Vec<Alarm>>>);

impl Alarms {
    /// Those that stand, then the last ones that are over.
    pub(crate) fn now(&self) -> Vec<Alarm> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the standalone node of this host, if there is one; never ends.
    pub(crate) async fn watch(self, fleet: Arc<Fleet>) {
        let mut watch = Watch::new(Vec::new());
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let rows = fleet.rows().await;
            let (now, now_ns) = (Instant::now(), clock::now().0);
            let alone = rows.iter().filter(|row| row.role == Role::Standalone.as_str());
            let known: Vec<Known<'_>> = alone
                .filter_map(|row| {
                    let heard = row.heard.as_ref().map(|heard| &heard.health);
                    let health = heard.or(row.last_report.as_ref())?;
                    Some(Known { health, is_live: row.view.pid != 0 && heard.is_some() })
                })
                .collect();
            for change in watch.look(&known, fleet.log_lag_max(), now, now_ns) {
                let Alarm { kind, node, stream, text, .. } = &change.0;
                match change.0.cleared_ns {
                    0 => warn!(kind, node, stream, text, "alarm raised"),
                    _ => info!(kind, node, stream, text, "alarm cleared"),
                }
            }
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = watch.alarms();
        }
    }
}
