//! The same rows as lines of text, by plain TCP on the loopback into rsyslogd's file: what people
//! use today where logs have to travel. It acknowledges nothing: rows that it has taken and not
//! written go with it when it is killed.

use std::fs;
use std::io::{BufWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tyto_core::record::LogRecord;
use tyto_core::record::tsv::TsvRow;
use tyto_core::time::{NANOS, Ts};
use tyto_core::uid::UidMaker;

use crate::row::conn;

const ROWS: u64 = 3_000_000;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(folder: &Path) -> Result<()> {
    for (sync, what) in [("on", "file synced"), ("off", "file not synced")] {
        let dir = tempfile::tempdir_in(folder)?;
        let mut daemon = Daemon::start(dir.path(), sync)?;
        let outcome = send(&daemon);
        daemon.child.kill()?;
        daemon.child.wait()?;
        let took = outcome?;
        let rows_per_s = ROWS as f64 / took.as_secs_f64();
        println!(
            "rsyslogd, TCP, {what}: {ROWS} rows in {:.2} s = {rows_per_s:.0} rows/s",
            took.as_secs_f64()
        );
    }
    Ok(())
}

struct Daemon {
    child: Child,
    port: u16,
    file: std::path::PathBuf,
}

impl Daemon {
    fn start(dir: &Path, sync: &str) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let file = dir.join("conn.log");
        let config = format!(
            "global(workDirectory=\"{dir}\" maxMessageSize=\"64k\")\n\
             module(load=\"imtcp\")\n\
             input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\" ruleset=\"r\" \
               supportOctetCountedFraming=\"off\")\n\
             template(name=\"line\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             ruleset(name=\"r\" queue.type=\"LinkedList\" queue.size=\"200000\" \
               queue.dequeueBatchSize=\"4096\") {{\n\
               action(type=\"omfile\" file=\"{file}\" template=\"line\" sync=\"{sync}\" \
                 asyncWriting=\"off\" ioBufferSize=\"256k\" flushOnTXEnd=\"on\")\n}}\n",
            dir = dir.display(),
            file = file.display(),
        );
        let path = dir.join("rsyslog.conf");
        fs::write(&path, config)?;
        let pid = dir.join("pid");
        let child = Command::new("rsyslogd")
            .args(["-n", "-f"])
            .arg(&path)
            .arg("-i")
            .arg(&pid)
            .stderr(fs::File::create(dir.join("rsyslogd.log"))?)
            .spawn()
            .context("cannot start rsyslogd; hint: apt-get install rsyslog")?;
        Ok(Self { child, port, file })
    }
}

/// Sends all rows and waits until they stand in the file.
fn send(daemon: &Daemon) -> Result<Duration> {
    let give_up = Instant::now() + PATIENCE;
    let stream = loop {
        match TcpStream::connect(("127.0.0.1", daemon.port)) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > give_up => bail!("rsyslogd does not listen: {error}"),
            Err(_) => sleep(Duration::from_millis(20)),
        }
    };
    let begun = Instant::now();
    let mut to = BufWriter::with_capacity(256 << 10, stream);
    let (mut uids, mut line) = (UidMaker::new(1), Vec::new());
    let (mut bytes, first) = (0, Ts(1_700_000_000 * NANOS));
    for n in 0..ROWS {
        let row = conn(n, Ts(first.0 + n * 12_345_678), &mut uids);
        line.clear();
        let mut text = TsvRow::new(&mut line);
        row.write(&mut text);
        text.end_row();
        to.write_all(&line)?;
        bytes += line.len() as u64;
    }
    to.flush()?;
    let size = || fs::metadata(&daemon.file).map_or(0, |file| file.len());
    let (mut last, mut since) = (size(), Instant::now());
    while last < bytes {
        sleep(Duration::from_millis(5));
        if size() > last {
            (last, since) = (size(), Instant::now());
        } else if since.elapsed() > PATIENCE {
            bail!("rsyslogd stopped at {last} of {bytes} bytes");
        }
    }
    Ok(begun.elapsed())
}
