//! How log files are written, named, archived and expired: the part of a node's configuration
//! that loggers and standalone nodes read. Values that have a form of their own (`30 day`,
//! `10%`) are parsed here, once.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use super::archive_name::ArchiveName;

/// Format of one log file.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Zeek's tab-separated format with header.
    #[default]
    Tsv,
    /// One JSON object per line.
    Json,
}

/// Formats that a log stream is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormats {
    /// `conn.log` is Zeek's tab-separated format.
    #[default]
    Tsv,
    /// `conn.log` has one JSON object per line.
    Json,
    /// `conn.log` is tab-separated, `conn.json.log` beside it is JSON.
    Both,
}

/// How times print in JSON (Zeek: `LogAscii::json_timestamps`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonTimestamps {
    /// Seconds with a fraction (`JSON::TS_EPOCH`).
    #[default]
    Epoch,
    /// Milliseconds, whole (`JSON::TS_MILLIS`).
    Millis,
    /// The same without a sign: times before 1970 wrap (`JSON::TS_MILLIS_UNSIGNED`).
    MillisUnsigned,
    /// `2026-11-22T09:10:11.123456Z` (`JSON::TS_ISO8601`).
    Iso8601,
}

/// How archived logs are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// gzip: `.gz`.
    #[default]
    Gzip,
    /// Zstandard: `.zst`.
    Zstd,
    /// Not at all.
    Off,
}

/// Whether finished logs become Parquet files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parquet {
    /// No.
    #[default]
    Off,
    /// Beside the archived text.
    Also,
    /// Instead of it.
    Only,
}

/// A time that logs are kept, whole minutes. Written as ZeekControl's `LogExpireInterval`:
/// `30 day`, `4 hr`, `90 min`; a bare number is days; 0: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeepTime {
    /// Minutes; 0: for ever.
    pub minutes: u64,
}

/// Free space that the archive leaves on its file system: `10%`, or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeSpace {
    /// Of the file system's size.
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

/// What is different for one log stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamLogs {
    /// False: its rows are counted and go nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<bool>,
    /// Formats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormats>,
    /// Columns that are written, all others are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
    /// Columns that are not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_fields: Option<Vec<String>>,
    /// Rows that this condition holds for are written, all others are counted only.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Seconds between rotations; 0 never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_interval_s: Option<u64>,
    /// How long its archived logs are kept; 0: for ever, whatever else says they go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepTime>,
    /// Parquet files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parquet: Option<Parquet>,
}

/// How log files are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogsConfig {
    /// Formats of the files.
    pub format: LogFormats,
    /// How times print in JSON.
    #[serde(default)]
    pub json_timestamps: JsonTimestamps,
    /// Seconds after which a log is rotated, at whole multiples of it; 0 never.
    pub rotation_interval_s: u64,
    /// How archived logs are compressed.
    pub compress: Compression,
    /// Level of that; none: the method's own default.
    #[serde(default)]
    pub compress_level: Option<u8>,
    /// Parquet files of finished logs.
    #[serde(default)]
    pub parquet: Parquet,
    /// How long rows may wait for others before they are synced to disk together, milliseconds.
    pub commit_interval_ms: u64,
    /// Archive files carry the logger's name: there is more than one logger.
    pub name_in_archive: bool,
    /// Names of archived files.
    #[serde(default)]
    pub archive_name: ArchiveName,
    /// Archived logs are removed after this long.
    #[serde(default)]
    pub expire: KeepTime,
    /// Names of archived files that never expire, shell patterns with spaces between.
    #[serde(default)]
    pub keep: Option<String>,
    /// Bytes that the archive may take; past this the oldest logs go.
    #[serde(default)]
    pub archive_bytes_max: Option<u64>,
    /// Free space below which the oldest logs go.
    #[serde(default)]
    pub free_min: Option<FreeSpace>,
    /// Program and arguments, run for each archived file.
    #[serde(default)]
    pub rotation_command: Option<String>,
    /// Seconds that it may take.
    #[serde(default)]
    pub rotation_command_timeout_s: CommandTimeout,
    /// How often it is tried for one file.
    #[serde(default)]
    pub rotation_command_tries: CommandTries,
    /// What is different for single log streams.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, StreamLogs>,
}

/// Seconds that the rotation command may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandTimeout(pub u64);

/// How often the rotation command is tried for one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandTries(pub u32);

impl Default for CommandTimeout {
    fn default() -> Self {
        Self(300)
    }
}

impl Default for CommandTries {
    fn default() -> Self {
        Self(10)
    }
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            format: LogFormats::Tsv,
            json_timestamps: JsonTimestamps::Epoch,
            rotation_interval_s: 3600,
            compress: Compression::Gzip,
            compress_level: None,
            parquet: Parquet::Off,
            commit_interval_ms: 50,
            name_in_archive: false,
            archive_name: ArchiveName::default(),
            expire: KeepTime::default(),
            keep: None,
            archive_bytes_max: None,
            free_min: None,
            rotation_command: None,
            rotation_command_timeout_s: CommandTimeout::default(),
            rotation_command_tries: CommandTries::default(),
            streams: BTreeMap::new(),
        }
    }
}

impl LogFormats {
    /// Each file's format, and whether the file is the one beside the stream's own.
    pub const fn files(self) -> &'static [(LogFormat, bool)] {
        match self {
            Self::Tsv => &[(LogFormat::Tsv, false)],
            Self::Json => &[(LogFormat::Json, false)],
            Self::Both => &[(LogFormat::Tsv, false), (LogFormat::Json, true)],
        }
    }
}

impl Compression {
    /// End of a compressed file's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
            Self::Off => "",
        }
    }

    /// Highest level.
    pub const fn level_max(self) -> u8 {
        match self {
            Self::Gzip => 9,
            Self::Zstd => 22,
            Self::Off => 0,
        }
    }
}

impl FromStr for KeepTime {
    type Err = ();

    /// As ZeekControl reads it.
    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| ())?;
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let minutes = match unit.strip_suffix('s').unwrap_or(unit) {
            "" if !unit.is_empty() => return Err(()),
            "" | "day" => 24 * 60,
            "hr" => 60,
            "min" => 1,
            _ => return Err(()),
        };
        // A hundred years are for ever to any disk, and keep sums of times small.
        let minutes = number.checked_mul(minutes).filter(|&all| all <= 100 * 366 * 24 * 60);
        Ok(Self { minutes: minutes.ok_or(())? })
    }
}

impl fmt::Display for KeepTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minutes {
            0 => f.write_str("0"),
            minutes if minutes % (24 * 60) == 0 => write!(f, "{} day", minutes / (24 * 60)),
            minutes if minutes % 60 == 0 => write!(f, "{} hr", minutes / 60),
            minutes => write!(f, "{minutes} min"),
        }
    }
}

impl FromStr for FreeSpace {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.trim().strip_suffix('%') {
            Some(percent) => match percent.trim_end().parse() {
                Ok(percent) if (1..=90).contains(&percent) => Ok(Self::Percent(percent)),
                _ => Err(()),
            },
            None => text.trim().parse().map(Self::Bytes).map_err(|_| ()),
        }
    }
}

impl fmt::Display for FreeSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for Compression {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "gzip" | "true" => Self::Gzip,
            "zstd" => Self::Zstd,
            "false" => Self::Off,
            _ => return Err(()),
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Off => "false",
        })
    }
}

impl FromStr for Parquet {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "false" => Self::Off,
            "true" => Self::Also,
            "only" => Self::Only,
            _ => return Err(()),
        })
    }
}

impl fmt::Display for Parquet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "false",
            Self::Also => "true",
            Self::Only => "only",
        })
    }
}

/// What YAML may hold where we read a text: `0`, `true` and `30 day` are three types there.
#[derive(Deserialize)]
#[serde(untagged)]
enum Plain {
    Bool(bool),
    Number(u64),
    Text(String),
}

/// Written as its text (`true` and `false` as themselves), read from any plain value.
macro_rules! as_text {
    ($($type:ty: $expected:literal),*) => {$(
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                match self.to_string().as_str() {
                    "true" => to.serialize_bool(true),
                    "false" => to.serialize_bool(false),
                    text => to.serialize_str(text),
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = match Plain::deserialize(from)? {
                    Plain::Bool(value) => value.to_string(),
                    Plain::Number(value) => value.to_string(),
                    Plain::Text(text) => text,
                };
                text.parse().map_err(|()| {
                    serde::de::Error::custom(format!("`{text}` is not {}", $expected))
                })
            }
        }
    )*};
}

as_text! {
    KeepTime: "a time such as `30 day`",
    FreeSpace: "a number of bytes or a percentage such as `10%`",
    Compression: "gzip, zstd, true or false",
    Parquet: "true, false or only"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_zeekcontrol_reads_them() {
        let minutes = |text: &str| text.parse::<KeepTime>().map(|keep| keep.minutes);
        for (text, expected) in [
            ("0", 0),
            ("30 day", 43_200),
            ("30 days", 43_200),
            ("4hr", 240),
            ("90 mins", 90),
            ("7", 10_080),
        ] {
            assert_eq!(minutes(text), Ok(expected), "{text}");
        }
        for text in ["", "day", "-1 day", "3 weeks", "3  day", "1.5 hr", "3 s", "99999999999 day"] {
            assert_eq!(minutes(text), Err(()), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for minutes in [0, 1, 60, 90, 1440, 43_200] {
            let keep = KeepTime { minutes };
            assert_eq!(keep.to_string().parse(), Ok(keep));
        }
        for free in [FreeSpace::Percent(10), FreeSpace::Bytes(1 << 40)] {
            assert_eq!(free.to_string().parse(), Ok(free));
        }
        let logs = LogsConfig {
            compress: Compression::Off,
            parquet: Parquet::Also,
            free_min: Some(FreeSpace::Percent(5)),
            ..LogsConfig::default()
        };
        let text = serde_yaml::to_string(&logs).unwrap();
        assert_eq!(serde_yaml::from_str::<LogsConfig>(&text).unwrap(), logs, "{text}");
    }

    #[test]
    fn a_configuration_of_an_earlier_release_is_still_read() {
        let text = "format: json\nrotation_interval_s: 60\ncompress: true\n\
                    commit_interval_ms: 50\nname_in_archive: false\n";
        let logs: LogsConfig = serde_yaml::from_str(text).unwrap();
        assert_eq!((logs.compress, logs.format), (Compression::Gzip, LogFormats::Json));
    }
}
