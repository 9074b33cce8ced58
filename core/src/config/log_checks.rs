//! What keys of tyto.yaml about log files contradict each other.

use super::logs::Compression;
use super::settings::Settings;

/// Keys that do not go together: key, value, what is expected, hint.
pub(super) fn contradictions(
    settings: &Settings,
) -> Vec<(&'static str, String, String, &'static str)> {
    let mut found = Vec::new();
    let (method, level) = (settings.compress_logs, settings.compress_level);
    if let Some(level) = level.filter(|&level| level > method.level_max()) {
        let expected = match method {
            Compression::Off => "nothing, with `compress_logs: false`".to_owned(),
            method => format!("at most {} with {method}", method.level_max()),
        };
        found.push((
            "compress_level",
            level.to_string(),
            expected,
            "`compress_logs` has the method",
        ));
    }
    // ZeekControl refuses that too: logs would go before they are whole.
    let (keep, rotation_s) = (settings.log_expire_interval, settings.log_rotation_interval_s);
    if keep.minutes > 0 && keep.minutes * 60 < rotation_s {
        let expected = format!("at least `log_rotation_interval_s`, {rotation_s} seconds");
        let hint = "the units are day, hr and min";
        found.push(("log_expire_interval", keep.to_string(), expected, hint));
    }
    found
}
