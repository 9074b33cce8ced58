//! The command line.

use std::path::PathBuf;

use crate::analyzer::SPECS;
use clap::Parser;
use tyto_core::config::runtime::{ExtractBytesMax, ExtractTotalBytesMax, FlowsMax};

use crate::capture::shard::Shard;

/// Captures packets, analyses them once, and writes or ships what the logs say.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "worker", version)]
pub struct Args {
    /// Run as the node that this file describes.
    #[arg(long, value_name = "FILE", required_unless_present = "read", conflicts_with = "read")]
    pub config: Option<PathBuf>,
    /// Take the open capture socket that waits on standard input, instead of opening the
    /// interface; this is how the supervisor starts a node.
    #[arg(long, requires = "config")]
    pub capture_from_stdin: bool,
    /// Analyse a capture file (pcap or pcapng, also packed with gzip or zstd; `-` is standard
    /// input) and write its logs, instead of running as a node.
    #[arg(long, value_name = "FILE", requires = "log_dir")]
    pub read: Option<PathBuf>,
    /// Where the logs of `--read` go; made if it is not there.
    #[arg(long, value_name = "DIR", requires = "read")]
    pub log_dir: Option<PathBuf>,
    /// Analyse the packets only that this tcpdump expression matches, such as `tcp port 80`.
    #[arg(long, value_name = "EXPR", requires = "read")]
    pub filter: Option<String>,
    /// Analyse one share of the file only, such as `1/4`: the first of four. Packets of two hosts
    /// are all in the same share, so four workers log what one alone would.
    #[arg(long, value_name = "I/N", requires = "read")]
    pub shard: Option<Shard>,
    /// Add the columns ja3, ja3s and ja4 to ssl.log.
    #[arg(long, requires = "read")]
    pub ssl_fingerprints: bool,
    /// Look whether servers' certificates are trusted: the column validation_status of ssl.log.
    #[arg(long, requires = "read")]
    pub validate_certificates: bool,
    /// The certificates that are trusted (PEM), instead of this host's own store.
    #[arg(long, value_name = "FILE", requires = "validate_certificates")]
    pub trusted_certificates: Option<PathBuf>,
    /// Add the columns of hassh to ssh.log.
    #[arg(long, requires = "read")]
    pub ssh_hassh: bool,
    /// Log the passwords that FTP, HTTP, LDAP and SOCKS send in the clear.
    #[arg(long, requires = "read")]
    pub log_passwords: bool,
    /// Leave the hashes of files out.
    #[arg(long, requires = "read")]
    pub no_file_hashes: bool,
    /// Connections that are followed at the same time; of more, the next to end is logged as it
    /// stands.
    #[arg(long, value_name = "N", requires = "read", default_value_t = FlowsMax::default().0)]
    pub flows_max: u32,
    /// Write capture_loss.log and stats.log too, as a node does.
    #[arg(long, requires = "read")]
    pub stats: bool,
    /// Write the content of all files that are seen into this folder, each up to
    /// `--extract-bytes-max`.
    #[arg(long, value_name = "DIR", requires = "read")]
    pub extract_files: Option<PathBuf>,
    /// Bytes of one file that are written at most.
    #[arg(long, value_name = "N", requires = "read", default_value_t = ExtractBytesMax::default().0)]
    pub extract_bytes_max: u64,
    /// Bytes of all files in that folder at most.
    #[arg(
        long, value_name = "N", requires = "read",
        default_value_t = ExtractTotalBytesMax::default().0
    )]
    pub extract_total_bytes_max: u64,
    /// Take packets with a wrong checksum as good.
    #[arg(long, requires = "read")]
    pub ignore_checksums: bool,
    /// Add the community_id column to conn.log.
    #[arg(long, requires = "read")]
    pub community_id: bool,
    /// Write JSON instead of tab-separated columns.
    #[arg(long, requires = "read")]
    pub json: bool,
    /// Look for traceroutes, and write traceroute.log.
    #[arg(long, requires = "read")]
    pub traceroute: bool,
    /// Write unknown_protocols.log: what no analyzer below TCP and UDP knows.
    #[arg(long, requires = "read")]
    pub unknown_protocols: bool,
    /// A program of which another version on the same host is worth a notice; may be given
    /// more than once.
    #[arg(long, value_name = "NAME", requires = "read")]
    pub software_version_change: Vec<String>,
    /// A protocol that is not analysed, by its name in analyzer.log; may be given more than once.
    #[arg(long, value_name = "NAME", requires = "read", value_parser = analyzer_name)]
    pub disable_analyzer: Vec<String>,
    /// A local network, besides the private ones; may be given more than once.
    #[arg(long, value_name = "CIDR", requires = "read")]
    pub local_net: Vec<ipnet::IpNet>,
}

/// Takes the name of a protocol that is there.
fn analyzer_name(text: &str) -> Result<String, String> {
    match SPECS.iter().find(|spec| spec.name.eq_ignore_ascii_case(text)) {
        Some(spec) => Ok(spec.name.to_owned()),
        None => {
            let names: Vec<_> = SPECS.iter().map(|spec| spec.name).collect();
            Err(format!("expected one of {}", names.join(" ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_or_a_file_is_run_and_not_both() {
        let parse = |args: &[&str]| Args::try_parse_from(["worker"].iter().chain(args));
        assert!(parse(&[]).is_err());
        assert!(parse(&["--config", "x"]).is_ok());
        assert!(parse(&["--read", "x"]).is_err());
        assert!(parse(&["--read", "x", "--log-dir", "y", "--json"]).is_ok());
        assert!(parse(&["--read", "x", "--log-dir", "y", "--config", "z"]).is_err());
        assert!(parse(&["--config", "x", "--ignore-checksums"]).is_err());
        let read = ["--read", "x", "--log-dir", "y", "--disable-analyzer"];
        assert!(parse(&[&read[..], &["redis"]].concat()).is_ok());
        assert!(parse(&[&read[..], &["rediss"]].concat()).is_err());
    }
}
