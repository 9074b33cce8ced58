//! Log lag for people and programs: how long rows took from their packet to their file, per logger
//! and log stream, as loggers report it. Pure.

use serde::Serialize;
use tyto_proto::v1::{LagFigures, LogLag, NodeHealth};

/// The lag of one log stream at one logger, or of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// The logger.
    pub node: String,
    /// The log stream; none: all.
    pub stream: Option<String>,
    /// Of the last minute.
    pub last_minute: Figures,
    /// Since the logger's start.
    pub total: Figures,
}

/// Figures of some rows, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Rows measured.
    pub rows: u64,
    /// Half of them took no longer.
    pub p50_ms: u64,
    /// 99 % of them took no longer.
    pub p99_ms: u64,
    /// The slowest.
    pub max_ms: u64,
}

/// Header of the table that [`cells`] fill.
pub const HEADER: [&str; 8] = [
    "log lag at",
    "stream",
    "rows",
    "p50 ms",
    "p99 ms",
    "max ms",
    "p99 ms of all",
    "max ms of all",
];

/// All that a node reports; nothing when it writes no logs.
pub fn of(health: &NodeHealth) -> Vec<Lag> {
    let figures = |of: Option<LagFigures>| {
        let LagFigures { rows, p50_ms, p99_ms, max_ms } = of.unwrap_or_default();
        Figures { rows, p50_ms, p99_ms, max_ms }
    };
    let lag = |lag: &LogLag| Lag {
        node: health.node.clone(),
        stream: Some(lag.stream.clone()).filter(|stream| !stream.is_empty()),
        last_minute: figures(lag.last_minute),
        total: figures(lag.total),
    };
    health.log_lag.iter().map(lag).filter(|lag| lag.total.rows > 0).collect()
}

/// A row of the table: the last minute, then since the start.
pub fn cells(lag: &Lag) -> Vec<String> {
    let (minute, total) = (lag.last_minute, lag.total);
    let of_minute = |ms: u64| if minute.rows == 0 { "-".to_owned() } else { ms.to_string() };
    vec![
        lag.node.clone(),
        lag.stream.clone().unwrap_or_else(|| "all".to_owned()),
        minute.rows.to_string(),
        of_minute(minute.p50_ms),
        of_minute(minute.p99_ms),
        of_minute(minute.max_ms),
        total.p99_ms.to_string(),
        total.max_ms.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_minute_has_no_figures_and_a_stream_without_rows_no_line() {
        let total = Some(LagFigures { rows: 5, p50_ms: 1, p99_ms: 2, max_ms: 3 });
        let all = LogLag { total, ..LogLag::default() };
        let none = LogLag { stream: "dns".into(), ..LogLag::default() };
        let log_lag = vec![all, none];
        let lags = of(&NodeHealth { node: "logger-1".into(), log_lag, ..NodeHealth::default() });
        assert_eq!(lags.len(), 1);
        assert_eq!(cells(&lags[0]), ["logger-1", "all", "0", "-", "-", "-", "2", "3"]);
    }
}
