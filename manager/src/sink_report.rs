//! What loggers count of each of their sinks, as one line per logger and sink: counters named
//! `sink_rows@NAME` in a health report in, lines of a table out.

use std::collections::BTreeMap;

use serde::Serialize;
use tyto_proto::v1::NodeHealth;

/// Heads of the table of [`SinkReport::cells`].
pub const HEADER: [&str; 9] =
    ["LOGGER", "SINK", "CONNECTED", "ROWS", "BEHIND", "EXPIRED", "BROKEN", "RECONNECTS", "FAULTS"];

/// One sink of one logger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkReport {
    /// The logger.
    pub node: String,
    /// Name of the sink.
    pub sink: String,
    /// There is a connection.
    pub connected: bool,
    /// Rows handed over.
    pub rows: u64,
    /// Rows committed that it did not get yet.
    pub behind_rows: u64,
    /// Rows that expired before.
    pub expired_rows: u64,
    /// Rows that its condition cannot be asked of.
    pub broken_rows: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Times that it was not reached, or broke.
    pub faults: u64,
}

/// The sinks of a logger, by name.
pub fn of(health: &NodeHealth) -> Vec<SinkReport> {
    let mut found: BTreeMap<&str, SinkReport> = BTreeMap::new();
    for counter in &health.counters {
        let Some((what, name)) = counter.name.split_once('@') else { continue };
        let sink = found.entry(name).or_insert_with(|| SinkReport {
            node: health.node.clone(),
            sink: name.to_owned(),
            ..SinkReport::default()
        });
        match what {
            "sink_rows" => sink.rows = counter.value,
            "sink_behind_rows" => sink.behind_rows = counter.value,
            "sink_expired_rows" => sink.expired_rows = counter.value,
            "sink_broken_rows" => sink.broken_rows = counter.value,
            "sink_reconnects" => sink.reconnects = counter.value,
            "sink_faults" => sink.faults = counter.value,
            "sink_connected" => sink.connected = counter.value == 1,
            _ => {}
        }
    }
    found.into_values().collect()
}

impl SinkReport {
    /// Its line.
    pub fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.node.clone(), self.sink.clone()];
        cells.push(if self.connected { "yes" } else { "no" }.to_owned());
        let numbers = [
            self.rows,
            self.behind_rows,
            self.expired_rows,
            self.broken_rows,
            self.reconnects,
            self.faults,
        ];
        cells.extend(numbers.map(|number| number.to_string()));
        cells
    }
}

#[cfg(test)]
mod tests {
    use tyto_proto::v1::Counter;

    use super::*;

    #[test]
    fn counters_of_a_sink_become_its_line() {
        let counter = |name: &str, value| Counter { name: name.into(), value };
        let health = NodeHealth {
            node: "logger-1".into(),
            counters: vec![
                counter("archived_files", 4),
                counter("sink_rows@siem", 7),
                counter("sink_connected@siem", 1),
                counter("sink_behind_rows@lake", 3),
            ],
            ..NodeHealth::default()
        };
        let cells: Vec<String> = of(&health).iter().map(|sink| sink.cells().join(" ")).collect();
        assert_eq!(cells, ["logger-1 lake no 0 3 0 0 0 0", "logger-1 siem yes 7 0 0 0 0 0"]);
    }
}
