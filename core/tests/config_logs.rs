//! tyto.yaml on log files: formats, names, expiry, streams. Each fault has its line, what was
//! expected, and a hint that can be typed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use tyto_core::config::cluster::ConfigFile;
use tyto_core::config::import::{Installation, import};
use tyto_core::config::logs::{Compression, FreeSpace, JsonTimestamps, LogFormats, Parquet};
use tyto_core::config::settings::Settings;

fn settings(text: &str) -> Settings {
    let mut faults = Vec::new();
    let (settings, _) = Settings::parse("tyto.yaml", text, &mut faults);
    assert_eq!(faults, [], "{text}");
    settings
}

/// Faults and hints, a line each.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    Settings::parse("tyto.yaml", text, &mut faults);
    let told = |hint: &Option<String>| hint.clone().unwrap_or_default();
    faults.iter().map(|fault| format!("{fault} [{}]", told(&fault.hint))).collect()
}

#[test]
fn words_of_zeekcontrol_and_of_earlier_releases_are_still_taken() {
    for (text, expected) in [
        ("true", Compression::Gzip),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
        ("false", Compression::Off),
    ] {
        assert_eq!(settings(&format!("compress_logs: {text}\n")).compress_logs, expected);
    }
    for (text, minutes) in
        [("0", 0), ("30 day", 43_200), ("4 hr", 240), ("90 min", 90), ("7", 10_080)]
    {
        let settings = settings(&format!("log_expire_interval: {text}\n"));
        assert_eq!(settings.log_expire_interval.minutes, minutes);
    }
}

#[test]
fn all_keys_about_logs_are_read() {
    let settings = settings(
        "log_format: both\njson_timestamps: iso8601\ncompress_logs: zstd\ncompress_level: 19\n\
         parquet_logs: only\narchive_name: '%F/{stream}-%H'\nlog_free_min: 10%\n\
         rotation_command: /bin/ship --fast\n\
         streams:\n  conn: { where: 'id.resp_p == 443', keep: 90 day, format: json }\n  \
         dns:\n    exclude_fields: [rtt]\n    parquet: true\n  weird: { write: false }\n",
    );
    assert_eq!(settings.log_format, LogFormats::Both);
    assert_eq!(settings.json_timestamps, JsonTimestamps::Iso8601);
    assert_eq!(settings.log_free_min, Some(FreeSpace::Percent(10)));
    let conn = &settings.streams["conn"];
    assert_eq!(conn.condition.as_deref(), Some("id.resp_p == 443"));
    assert_eq!(conn.keep.unwrap().minutes, 90 * 1440);
    assert_eq!(settings.streams["dns"].parquet, Some(Parquet::Also));
    assert_eq!(settings.streams["weird"].write, Some(false));
}

#[test]
fn faults_of_logs_have_line_expectation_and_hint() {
    assert_eq!(
        faults("port: 27760\narchive_name: '%F/{stream}.%Q'\n"),
        ["tyto.yaml:2: `archive_name` is `%F/{stream}.%Q`; expected a pattern such as \
             `%Y-%m-%d/{stream}.%H:%M:%S` [`%Q` is not one of the codes that names can have: \
             %Y %m %d %H %M %S %j %y %F %T %b %a %u %V %G %s %z]"]
    );
    assert_eq!(
        faults("log_expire_interval: 3 weeks\n"),
        ["tyto.yaml:1: `log_expire_interval` is `3 weeks`; expected a time such as `30 day`, \
             `4 hr` or `90 min`; 0: for ever [the units are day, hr and min; a bare number is days]"]
    );
    assert_eq!(
        faults("compress_level: 12\nlog_expire_interval: 10 min\n"),
        [
            "tyto.yaml:1: `compress_level` is `12`; expected at most 9 with gzip \
             [`compress_logs` has the method]",
            "tyto.yaml:2: `log_expire_interval` is `10 min`; expected at least \
             `log_rotation_interval_s`, 3600 seconds [the units are day, hr and min]",
        ]
    );
    for text in ["rotation_command: ship it\n", "log_free_min: 99%\n", "log_format: xml\n"] {
        assert_eq!(faults(text).len(), 1, "{text}");
    }
}

#[test]
fn faults_of_a_stream_are_told_at_its_own_line() {
    let text = "streams:\n  conn:\n    kep: 1 day\n    where: 'id.resp_p =='\n  dns:\n    \
                fields: [ts]\n    exclude_fields: [rtt]\n    format: xml\n  ../x: {}\n";
    let found = faults(text);
    assert_eq!(found.len(), 5, "{found:#?}");
    let starts = [
        "tyto.yaml:3: unknown key `streams.conn.kep` [did you mean `keep`?]",
        "tyto.yaml:4: `streams.conn.where` is `id.resp_p ==`; expected a condition such as",
        "tyto.yaml:7: `streams.dns.exclude_fields` is `[rtt]`; expected nothing beside `fields`",
        "tyto.yaml:8: `streams.dns.format` is `xml`; expected tsv or json or both",
        "tyto.yaml:1: `streams` is `../x`; expected names of log streams",
    ];
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
}

#[test]
fn zeekcontrols_options_of_logs_are_taken_over() {
    let node_cfg = "[zeek]\ntype=standalone\nhost=localhost\ninterface=eth0\n";
    for (cfg, expected) in [
        (
            "LogExpireInterval = 30 day\nKeepLogs = conn.* dns*\n",
            ["log_expire_interval: 30 day", "keep_logs: conn.* dns*"],
        ),
        ("CompressCmd = zstd -9\nCompressLogs = 1\n", ["compress_logs: zstd", ""]),
        ("CompressLogs = 0\nCompressCmd = zstd\n", ["compress_logs: false", ""]),
        ("CompressLogs = 1\nCompressCmd = gzip -9\n", ["compress_logs: gzip", ""]),
    ] {
        let file = |name, text| ConfigFile { name, text };
        let zeekctl = Some(file("zeekctl.cfg", cfg));
        let nodes = file("node.cfg", node_cfg);
        let imported = import(Installation { zeekctl, nodes, networks: None }).unwrap();
        let yaml = imported.tyto_yaml;
        for line in expected {
            assert!(yaml.contains(line), "{cfg}: {yaml}");
        }
    }
}
