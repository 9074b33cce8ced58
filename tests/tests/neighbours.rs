//! What workers tell each other, over real proxies and mTLS: the recorded captures are dealt out
//! to four workers by addresses and ports, as the kernel's fanout deals them out, so that control
//! and data connections, and the messages of a DHCP transaction, meet at different workers.
//! Together they log what one worker logs alone.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tyto_core::config::runtime::{AnalysisConfig, NodeConfig, Role};
use tyto_core::time::Ts;
use tyto_daemon::channel;
use tyto_daemon::peers::Peers;
use tyto_daemon::shutdown::CancellationToken;
use tyto_daemon::tls::{self, Identity};
use tyto_proto::v1;
use tyto_proto::v1::note::About;
use tyto_proto::v1::relay_client::RelayClient;
use tyto_tests::pki::{Pki, loopback_peers};
use tyto_tests::{tree, wait};
use tyto_worker::capture::pcap_file::PcapFile;
use tyto_worker::capture::{Next, PacketSource};
use tyto_worker::decode::ip::IpPacket;
use tyto_worker::decode::link::{self, LinkFound};
use tyto_worker::decode::tcp;
use tyto_worker::hearing::NoteStats;
use tyto_worker::output::{Claim, Output, RowForm, RowSink, StreamRef};
use tyto_worker::pipeline::Pipeline;
use tyto_worker::relay;

const WORKERS: usize = 4;
/// How long proxies and workers may take to find each other, and notes to arrive.
const LIMIT: Duration = Duration::from_secs(20);
/// Logs that are compared. The others are said once per cluster, by claims.
const LOGS: [&str; 5] = ["conn", "ftp", "irc", "files", "dhcp"];

/// Rows of each log, by column.
type Rows = BTreeMap<&'static str, Vec<BTreeMap<String, String>>>;

/// How soon the workers hear each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Each packet finds what was told before it.
    AtOnce,
    /// What was told is heard a tenth of a second later: mostly behind the announced packets.
    Late,
}

#[test]
fn control_and_data_connections_at_different_workers_log_what_they_log_at_one() -> Result<()> {
    for capture in ["ftp", "irc", "dhcp"] {
        let (alone, _) = Alone::read(capture)?;
        for pace in [Pace::AtOnce, Pace::Late] {
            let cluster = Cluster::start(2)?;
            let (together, notes) = cluster.read(capture, pace)?;
            assert_same(&alone, &together, &format!("{capture}, {pace:?}"), pace)?;
            let sum = |of: fn(&NoteStats) -> u64| notes.iter().map(of).sum::<u64>();
            ensure!(sum(|notes| notes.notes.heard) > 0, "{capture}: nobody heard anything");
            // In the capture of IRC a person says yes to the file first.
            let late = sum(|notes| notes.late.joined);
            let comes_late = pace == Pace::Late && capture == "ftp";
            ensure!((late > 0) == comes_late, "{capture}: {notes:?}");
            let met = sum(|notes| notes.announced.met);
            ensure!((met > 0) == (capture != "dhcp"), "{capture}: {notes:?}");
            ensure!(sum(|notes| notes.late.missed) == 0, "{capture}: {notes:?}");
        }
    }
    Ok(())
}

/// What nobody can be told of is counted; each worker then logs what it saw itself.
#[test]
fn without_proxies_dhcp_messages_stay_with_who_saw_them_and_announcements_are_counted() -> Result<()>
{
    let kinds = |rows: &Rows| -> usize {
        rows.get("dhcp").into_iter().flatten().map(|row| row["msg_types"].split(',').count()).sum()
    };
    let (alone, _) = Alone::read("dhcp")?;
    let cluster = Cluster::start(0)?;
    let (together, _) = cluster.read("dhcp", Pace::Late)?;
    ensure!(kinds(&alone) == kinds(&together), "{alone:?}\n{together:?}");
    ensure!(alone["dhcp"].len() < together["dhcp"].len(), "no transaction has several workers");
    ensure!(cluster.counter("notes_kept") > 0);
    let of_data = |rows: &Rows| rows["conn"].iter().filter(|r| r["service"] == "ftp-data").count();
    let (alone, _) = Alone::read("ftp")?;
    let cluster = Cluster::start(0)?;
    let (together, _) = cluster.read("ftp", Pace::Late)?;
    ensure!(of_data(&alone) > of_data(&together), "each worker has control and data connections");
    ensure!(cluster.counter("notes_untaken") > 0);
    Ok(())
}

/// One worker.
struct Alone;

impl Alone {
    fn read(capture: &str) -> Result<(Rows, NoteStats)> {
        let mut seat = Seat::new(&analysis(), 1);
        each_frame(capture, |ts, frame| match frame {
            Some(frame) => seat.pipeline.packet(frame),
            None => seat.pipeline.idle(ts),
        })?;
        seat.pipeline.finish()?;
        Ok((seat.rows(), seat.pipeline.stats().notes))
    }
}

/// A pipeline, and what it logs.
struct Seat {
    pipeline: Pipeline,
    lines: Lines,
}

impl Seat {
    fn new(analysis: &AnalysisConfig, seed: u64) -> Self {
        let lines = Lines::default();
        let pipeline = Pipeline::new(analysis, seed, Output::new(Box::new(lines.clone())));
        Self { pipeline, lines }
    }

    fn rows(&self) -> Rows {
        std::mem::take(&mut *self.lines.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn analysis() -> AnalysisConfig {
    NodeConfig::new("test", "worker", Role::Worker, std::path::Path::new("/nowhere")).analysis
}

/// Keeps rows as they are written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Rows>>);

impl RowSink for Lines {
    fn form(&self) -> RowForm {
        RowForm::Tsv
    }

    fn row(&mut self, stream: StreamRef, row: &[u8]) {
        if !LOGS.contains(&stream.name) {
            return;
        }
        let text = String::from_utf8_lossy(row);
        let fields = (stream.schema)().fields;
        let values = text.trim_end_matches('\n').split('\t');
        let columns =
            fields.iter().zip(values).map(|(field, value)| (field.name.to_string(), value.into()));
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.entry(stream.name).or_default().push(columns.collect());
    }

    fn claim(&mut self, _claim: Claim, _stream: StreamRef, _row: &[u8]) {}

    fn finish(&mut self, _last: Ts) -> std::io::Result<()> {
        Ok(())
    }
}

/// Workers and their proxies.
struct Cluster {
    runtime: Runtime,
    _dir: TempDir,
    end: CancellationToken,
    seats: Mutex<Vec<Seat>>,
    counters: Vec<Arc<relay::Counters>>,
    /// Times that a worker was told that the test looks for it.
    probed: u64,
}

impl Cluster {
    fn start(proxies: usize) -> Result<Self> {
        tls::install_crypto();
        let (dir, pki) = (tempfile::tempdir()?, Pki::new()?);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let peers = loopback_peers(Role::Proxy, proxies)?;
        let end = CancellationToken::new();
        for peer in &peers {
            let prefix = dir.path().join(&peer.node);
            let config = pki.enroll(&prefix, Role::Proxy, &peer.node, &peers)?;
            runtime.spawn(tyto_proxy::node::run(config, end.clone()));
        }
        let (mut seats, mut counters) = (Vec::new(), Vec::new());
        let inside = runtime.enter();
        for i in 1..=WORKERS {
            let node = format!("worker-{i}");
            let config = pki.enroll(&dir.path().join(&node), Role::Worker, &node, &peers)?;
            let identity = Identity::load(&config)?;
            let (neighbours, counted) = relay::connect(&node, Peers::follow(&config), &identity);
            let mut seat = Seat::new(&config.analysis, i as u64 + 1);
            seat.pipeline.has_neighbours(neighbours);
            seats.push(seat);
            counters.push(counted);
        }
        let probe = pki.enroll(&dir.path().join("probe"), Role::Worker, "probe", &peers)?;
        let identity = Identity::load(&probe)?;
        let probed = Cell::new(0);
        for peer in &peers {
            let client = RelayClient::new(channel::to_peer(&identity, peer)?);
            wait::until("all workers listen", LIMIT, || {
                let about = About::Attention(v1::Attention { ts: 0 });
                let note = v1::Note { key: vec![0], about: Some(about) };
                let mut client = client.clone();
                let told = runtime
                    .block_on(client.tell(v1::TellRequest { notes: vec![note] }))
                    .map(|reply| reply.into_inner().listeners);
                let reached = told.iter().flatten().copied().map(u64::from).sum::<u64>();
                probed.set(probed.get() + reached);
                Ok(match told {
                    Ok(listeners)
                        if listeners.iter().any(|reached| *reached as usize == WORKERS) =>
                    {
                        Ok(())
                    }
                    other => Err(format!("{other:?}")),
                })
            })?;
        }
        drop(inside);
        Ok(Self {
            runtime,
            _dir: dir,
            end,
            seats: Mutex::new(seats),
            counters,
            probed: probed.get(),
        })
    }

    fn read(&self, capture: &str, pace: Pace) -> Result<(Rows, Vec<NoteStats>)> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let mut heard_at = Ts::default();
        let mut fault = None;
        each_frame(capture, |ts, frame| {
            let is_time = pace == Pace::AtOnce || ts.since(heard_at).0 > 100_000_000;
            if is_time && fault.is_none() {
                heard_at = ts;
                fault = self.settle(&mut seats).err();
            }
            let turn = frame.map(|frame| worker_of(frame.link_type, frame.bytes));
            for (place, seat) in seats.iter_mut().enumerate() {
                match frame {
                    Some(frame) if turn == Some(place) => seat.pipeline.packet(frame),
                    Some(_) => seat.pipeline.pass(ts),
                    None => seat.pipeline.idle(ts),
                }
            }
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        self.settle(&mut seats)?;
        let mut all = Rows::new();
        for seat in seats.iter_mut() {
            seat.pipeline.hear_last();
            seat.pipeline.finish()?;
            for (log, rows) in seat.rows() {
                all.entry(log).or_default().extend(rows);
            }
        }
        Ok((all, seats.iter().map(|seat| seat.pipeline.stats().notes).collect()))
    }

    /// Waits until every note that was told is heard.
    fn settle(&self, seats: &mut [Seat]) -> Result<()> {
        let until = Instant::now() + LIMIT;
        loop {
            seats.iter_mut().for_each(|seat| seat.pipeline.hear());
            let sum = |of: fn(&NoteStats) -> u64| {
                seats.iter().map(|seat| of(&seat.pipeline.stats().notes)).sum::<u64>()
            };
            let (told, heard) = (sum(|notes| notes.notes.told), sum(|notes| notes.notes.heard));
            let [taken, kept, untaken, reached] =
                ["notes_told", "notes_kept", "notes_untaken", "notes_reached"]
                    .map(|name| self.counter(name));
            if told == taken + kept + untaken && heard == self.probed + reached + kept {
                return Ok(());
            }
            if Instant::now() > until {
                bail!(
                    "{told} told, {taken} taken, {kept} kept, {untaken} not; {reached} to hear, {heard} heard"
                );
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn counter(&self, name: &str) -> u64 {
        let of = |counters: &Arc<relay::Counters>| {
            counters.report().into_iter().find(|c| c.name == name).map_or(0, |c| c.value)
        };
        self.counters.iter().map(of).sum()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end.cancel();
        // The proxies save what they have.
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    }
}

/// Calls `take` with each frame of a recorded capture, and at the end with a time by which all
/// connections that were closed are over.
fn each_frame(
    capture: &str,
    mut take: impl FnMut(Ts, Option<&tyto_capture::Frame<'_>>),
) -> Result<()> {
    let path = tree::root().join(format!("tests/golden/{capture}/in.pcap"));
    let mut source = PcapFile::open(&path).with_context(|| path.display().to_string())?;
    let mut last = Ts::default();
    loop {
        match source.next_frame()? {
            Next::Frame(frame) => {
                last = frame.ts;
                take(last, Some(&frame));
            }
            Next::Idle(_) => {}
            Next::End => break,
        }
    }
    for secs in [1, 2, 10, 40] {
        take(last.plus_secs(secs), None);
    }
    Ok(())
}

/// Which worker sees a frame: by addresses and ports, the same in both directions.
fn worker_of(link_type: tyto_capture::LinkType, bytes: &[u8]) -> usize {
    let mut sum = 0_u64;
    link::ip_packets(link_type, bytes, |found| {
        if let LinkFound::Ip(bytes) = found
            && let Ok(packet) = IpPacket::parse(bytes)
        {
            let hash = BuildHasherDefault::<DefaultHasher>::default();
            let (src, dst) = tcp::ports(packet.payload()).unwrap_or_default();
            let [from, to] = [(packet.src, src), (packet.dst, dst)].map(|end| hash.hash_one(end));
            sum = from.wrapping_add(to);
        }
    });
    usize::try_from(sum % WORKERS as u64).unwrap_or_default()
}

fn assert_same(alone: &Rows, together: &Rows, what: &str, pace: Pace) -> Result<()> {
    for log in LOGS {
        let lines = |rows: &Rows| {
            let rows = rows.get(log).into_iter().flatten();
            let mut lines: Vec<String> = rows.map(|row| masked(log, row, pace)).collect();
            lines.sort();
            lines
        };
        let (alone, together) = (lines(alone), lines(together));
        let only = |a: &[String], b: &[String]| {
            a.iter().filter(|row| !b.contains(row)).cloned().collect::<Vec<_>>().join("\n  ")
        };
        ensure!(
            alone == together,
            "{what}: {log} has {} rows, {} together\n- {}\n+ {}",
            alone.len(),
            together.len(),
            only(&alone, &together),
            only(&together, &alone)
        );
    }
    Ok(())
}

/// Ids depend on who gives them: only how many they are is compared. A file whose connection is
/// announced late begins when that is heard.
fn masked(log: &str, row: &BTreeMap<String, String>, pace: Pace) -> String {
    let masked = row.iter().map(|(column, value)| {
        let is_id = column.contains("uid") && value != "-" && value != "(empty)";
        let is_of_the_moment =
            log == "files" && pace == Pace::Late && ["ts", "duration"].contains(&column.as_str());
        let value = match (is_id, is_of_the_moment) {
            (true, _) => value.split(',').map(|_| "ID").collect::<Vec<_>>().join(","),
            (_, true) => "TIME".to_owned(),
            _ => value.clone(),
        };
        format!("{column}={value}")
    });
    masked.collect::<Vec<_>>().join(" ")
}
