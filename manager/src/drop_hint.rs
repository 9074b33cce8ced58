//! What helps when rows were dropped, by the reason that the ledger has for it.

/// What helps against rows dropped for a reason (docs/operate.md has them all).
pub(crate) fn hint_of(reason: &str) -> &'static str {
    match reason {
        "queue_full" => {
            "the worker's disk is too slow for its spool: another one below PREFIX/spool; `ctl df`"
        }
        "spool_full" => {
            "loggers were away or too slow for too long: `ctl ledger`, a larger `spool_bytes_max`"
        }
        "spool_age" => {
            "no logger took them in time: `ctl status loggers`, a larger `spool_age_max_s`"
        }
        "spool_fault" => "the worker's disk has faults or is full: `ctl df`, `ctl diag`",
        "refused" => "a logger can never write them: its stderr.log says why (`ctl diag`)",
        "unclaimed" => "no proxy answered: `ctl status proxies`",
        "killed" => "the node died or was killed, and why: `ctl diag`; memory: `ctl top`",
        "host_crash" => "the host crashed under the worker: its `journalctl -k -b -1` may say why",
        "logger_lost" => {
            "a logger lost files or journal that had them: its disk, `ctl df`, `ctl diag loggers`"
        }
        _ => "docs/operate.md, \"Where a row can be lost\"",
    }
}
