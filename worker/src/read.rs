//! `worker --read FILE --log-dir DIR`: analyses a capture file and writes its logs, each time
//! the same bytes. One thread; nothing else of a node runs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tyto_core::config::runtime::{
    AnalysisConfig, ExtractBytesMax, ExtractTo, ExtractTotalBytesMax, FlowsMax, HashFiles,
    LogFormat,
};
use tyto_core::record::json::JsonRow;
use tyto_core::record::schema::Schema;
use tyto_core::record::tsv;
use tyto_core::record::wire;
use tyto_core::time::Ts;

use crate::args::Args;
use crate::capture::file_filter::FileFilter;
use crate::capture::pcap_file::PcapFile;
use crate::capture::shard::Shard;
use crate::capture::{CaptureError, Next, PacketSource};
use crate::output::{Claim, Output, RowForm, RowSink, StreamRef};
use crate::pipeline::Pipeline;
use crate::stats::PipelineStats;
use crate::x509::TrustStore;

/// The seed of all uids and hash keys: a replay gives the same logs on every machine.
const SEED: u64 = 0;
/// Text that waits to be written to a file, bytes.
const BUFFER_BYTES: usize = 1 << 16;
/// One packet in so many with a wrong checksum is worth a warning.
const WRONG_CHECKSUMS_SHARE: u64 = 20;

/// How the reading of a file went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What was seen and done.
    pub stats: PipelineStats,
    /// What the operator should know of this file.
    pub warnings: Vec<String>,
}

/// Reads the capture that `args` name.
///
/// # Errors
/// When it cannot be read, or the logs cannot be written. What was read before is logged.
pub fn run(args: &Args) -> anyhow::Result<Reading> {
    let (Some(capture), Some(log_dir)) = (&args.read, &args.log_dir) else {
        anyhow::bail!("--read and --log-dir belong together");
    };
    let mut filter = args.filter.as_deref().map(FileFilter::parse).transpose()?;
    let mut source =
        PcapFile::open(capture).with_context(|| format!("cannot read `{}`", capture.display()))?;
    fs::create_dir_all(log_dir)
        .with_context(|| format!("cannot make the folder `{}`", log_dir.display()))?;
    let config = AnalysisConfig {
        local_nets: args.local_net.clone(),
        private_address_space_is_local: true,
        ignore_checksums: args.ignore_checksums,
        community_id: args.community_id,
        flows_max: FlowsMax(args.flows_max),
        disabled_analyzers: args.disable_analyzer.iter().cloned().collect(),
        hash_files: HashFiles(!args.no_file_hashes),
        ssl_fingerprints: args.ssl_fingerprints,
        validate_certificates: args.validate_certificates,
        trusted_certificates: args.trusted_certificates.clone(),
        ssh_hassh: args.ssh_hassh,
        log_passwords: args.log_passwords,
        extract_files: args.extract_files.is_some(),
        extract_bytes_max: ExtractBytesMax(args.extract_bytes_max),
        extract_total_bytes_max: ExtractTotalBytesMax(args.extract_total_bytes_max),
        extract_to: args.extract_files.clone().map_or(ExtractTo::Nowhere, ExtractTo::Direct),
        // What a lone process of Zeek calls itself.
        peer: "zeek".to_owned(),
        traceroute: args.traceroute,
        unknown_protocols: args.unknown_protocols,
        software_version_changes: args.software_version_change.iter().cloned().collect(),
    };
    let format = if args.json { LogFormat::Json } else { LogFormat::Tsv };
    let files = LogFiles::new(log_dir.clone(), format);
    let mut pipeline = Pipeline::new(&config, SEED, Output::new(Box::new(files)));
    let trust = TrustStore::of(&config)?;
    let skipped = trust.as_ref().map_or(0, |store| store.skipped);
    if let Some(store) = trust {
        pipeline.validate_against(store);
    }
    if args.stats {
        pipeline.report_itself();
    }
    let read = analyse(&mut pipeline, &mut source, &mut filter, args.shard);
    let stats = pipeline.finish().context("cannot write the logs")?;
    read.with_context(|| format!("`{}` was not read to its end", capture.display()))?;
    let name = capture.display();
    let rejected = filter.map_or(0, |filter| filter.rejected_packets());
    let unmatched = (rejected > 0 && stats.packets == 0)
        .then(|| format!("`{name}`: none of its {rejected} packets matches the filter"));
    let cut_off = source.cut_off().map(|cut_off| format!("`{name}` {cut_off}"));
    let unread = (skipped > 0)
        .then(|| format!("{skipped} of the trusted certificates cannot be read; the others count"));
    let wrong = checksums_warning(&stats).map(|text| format!("`{name}`: {text}"));
    Ok(Reading {
        stats,
        warnings: cut_off.into_iter().chain(wrong).chain(unmatched).chain(unread).collect(),
    })
}

/// Analyses the packets of `source` that the filter lets through and that are in the share.
fn analyse(
    pipeline: &mut Pipeline,
    source: &mut PcapFile,
    filter: &mut Option<FileFilter>,
    shard: Option<Shard>,
) -> Result<(), CaptureError> {
    if filter.is_none() && shard.is_none() {
        return pipeline.run(source);
    }
    loop {
        match source.next_frame()? {
            Next::Frame(frame) => {
                let matches = match filter {
                    Some(filter) => filter.matches(&frame)?,
                    None => true,
                };
                if matches && shard.is_none_or(|shard| shard.takes(&frame)) {
                    pipeline.packet(&frame);
                } else if matches {
                    // Time is the same for all shares: what ends by it ends alike.
                    pipeline.pass(frame.ts);
                }
            }
            Next::Idle(now) => pipeline.idle(now),
            Next::End => return Ok(()),
        }
    }
}

/// A word on checksums when so many are wrong that the capture was rather made on the host
/// that sent the packets, before its network card filled the checksums in.
fn checksums_warning(stats: &PipelineStats) -> Option<String> {
    let wrong = stats.bad_checksums;
    (wrong > 0 && wrong >= stats.packets / WRONG_CHECKSUMS_SHARE).then(|| {
        format!(
            "{wrong} of {} packets have a wrong checksum and are not analysed; if they were \
             captured on the host that sent them, --ignore-checksums takes them as good",
            stats.packets
        )
    })
}

/// The log files of one folder; a stream without rows has none.
#[derive(Debug)]
pub struct LogFiles {
    folder: PathBuf,
    format: LogFormat,
    logs: Vec<Log>,
    /// Time of the first packet.
    first: Ts,
    /// The first thing that went wrong: told at the end, when there is someone to hear it.
    fault: Option<io::Error>,
}

#[derive(Debug)]
struct Log {
    name: &'static str,
    schema: Schema,
    file: BufWriter<File>,
    line: Vec<u8>,
}

impl LogFiles {
    /// Files in `folder`, which exists.
    pub const fn new(folder: PathBuf, format: LogFormat) -> Self {
        Self { folder, format, logs: Vec::new(), first: Ts(0), fault: None }
    }

    fn write(&mut self, stream: StreamRef, row: &[u8]) -> io::Result<()> {
        // Mostly the same text in the same place.
        let is_it = |log: &Log| std::ptr::eq(log.name, stream.name);
        let has_name = |log: &Log| log.name == stream.name;
        let index = self.logs.iter().position(is_it);
        let index = match index.or_else(|| self.logs.iter().position(has_name)) {
            Some(index) => index,
            None => {
                self.logs.push(self.create(stream)?);
                self.logs.len() - 1
            }
        };
        let Log { schema, file, line, .. } = &mut self.logs[index];
        if self.format == LogFormat::Tsv {
            return file.write_all(row);
        }
        line.clear();
        for row in wire::rows(row) {
            let row = row.map_err(io::Error::other)?;
            let mut text = JsonRow::new(schema, line);
            wire::replay(schema, row, &mut text).map_err(io::Error::other)?;
            text.end_row();
        }
        file.write_all(line)
    }

    fn create(&self, stream: StreamRef) -> io::Result<Log> {
        let path = self.folder.join(format!("{}.log", stream.name));
        let schema = (stream.schema)();
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
        if self.format == LogFormat::Tsv {
            file.write_all(tsv::header(&schema, &header_time(self.first)).as_bytes())?;
        }
        Ok(Log { name: stream.name, schema, file, line: Vec::new() })
    }

    fn end(&mut self, last: Ts) -> io::Result<()> {
        for log in &mut self.logs {
            if self.format == LogFormat::Tsv {
                log.file.write_all(tsv::trailer(&header_time(last)).as_bytes())?;
            }
            log.file.flush()?;
        }
        Ok(())
    }
}

impl RowSink for LogFiles {
    /// JSON leaves columns out by the schema, which a record does not have at hand.
    fn form(&self) -> RowForm {
        match self.format {
            LogFormat::Tsv => RowForm::Tsv,
            LogFormat::Json => RowForm::Wire,
        }
    }

    fn begin(&mut self, first: Ts) {
        self.first = first;
    }

    fn row(&mut self, stream: StreamRef, row: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.write(stream, row).err();
        }
    }

    /// Alone, whoever asks is the first: the pipeline asks once per claim's life.
    fn claim(&mut self, _claim: Claim, stream: StreamRef, row: &[u8]) {
        self.row(stream, row);
    }

    fn finish(&mut self, last: Ts) -> io::Result<()> {
        self.end(last)?;
        match self.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }
}

/// Packet time as the headers of logs print it, in UTC on every machine.
fn header_time(ts: Ts) -> String {
    let time = Timestamp::from_nanosecond(i128::from(ts.0)).unwrap_or_default();
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d-%H-%M-%S").to_string()
}
