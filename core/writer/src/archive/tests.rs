//! Archiving, step by step: what a crash between any two leaves is finished by the next life.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use flate2::read::GzDecoder;
use jiff::tz::TimeZone;
use tempfile::TempDir;
use tyto_core::config::logs::{
    CommandTimeout, CommandTries, Compression, FreeSpace, LogsConfig, Parquet, StreamLogs,
};
use tyto_core::time::{NANOS, Ts};

use super::command::Runner;
use super::*;
use crate::disk::{self, DiskFile, Metadata, Open};

mod expiry;

const ROWS: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n\
                    #path\tconn\n#open\t1970-01-01-23-00-00\n\
                    #fields\tts\tid.resp_p\ttags\n#types\ttime\tport\tset[string]\n\
                    1.500000\t443\ta,b\n2.000000\t-\t(empty)\n#close\t1970-01-02-00-00-00\n";
const SOURCE: &str = "conn-82800000000000-86400000000000.log";
const DAY: u64 = 86_400;

struct Place {
    dir: TempDir,
    config: LogsConfig,
    logger: &'static str,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir, config: LogsConfig::default(), logger: "logger" };
        fs::create_dir_all(place.folder().join("rotated")).unwrap();
        fs::create_dir_all(place.logs()).unwrap();
        place
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("spool").join(self.logger)
    }

    fn rotated(&self) -> PathBuf {
        self.folder().join("rotated")
    }

    fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    fn options(&self) -> ArchiveOptions {
        ArchiveOptions {
            disk: disk::real(),
            folder: self.folder(),
            logs: self.logs(),
            logger: self.logger.to_owned(),
            config: self.config.clone(),
            zone: TimeZone::UTC,
        }
    }

    /// The archive of a further life.
    fn archive(&self) -> Archive {
        Archive::new(self.options(), Ts(2 * DAY * NANOS))
    }

    fn source(&self, name: &str) {
        fs::write(self.rotated().join(name), ROWS).unwrap();
    }

    /// Names and contents in the archive; panics when something is left on the way.
    fn archived(&self) -> Vec<(String, String)> {
        assert_eq!(fs::read_dir(self.rotated()).unwrap().count(), 0);
        let copies = self.logs().join(".archiving").join(self.logger);
        assert_eq!(fs::read_dir(copies).unwrap().count(), 0);
        let mut found = Vec::new();
        files(&self.logs(), &mut found);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut found: Vec<_> = found.iter().map(|path| (name(path), text(path))).collect();
        found.sort();
        found
    }

    fn names(&self) -> Vec<String> {
        self.archived().into_iter().map(|(name, _)| name).collect()
    }

    /// An archived log that ended at this time.
    fn log(&self, path: &str, closed_s: u64, len: usize) -> PathBuf {
        let path = self.logs().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![b'x'; len]).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(closed_s);
        File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        path
    }

    fn keep(&mut self, stream: &str, minutes: u64) {
        let keep = Some(tyto_core::config::logs::KeepTime { minutes });
        self.config.streams.insert(stream.into(), StreamLogs { keep, ..StreamLogs::default() });
    }

    fn script(&self, text: &str) -> String {
        let path = self.dir.path().join("command");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false if path.file_name().unwrap() == ".expire.lock" => {}
            false => found.push(path),
        }
    }
}

fn text(path: &Path) -> String {
    let (mut text, file) = (String::new(), File::open(path).unwrap());
    match path.extension().unwrap().to_str().unwrap() {
        "gz" => GzDecoder::new(file).read_to_string(&mut text).unwrap(),
        "zst" => zstd::Decoder::new(file).unwrap().read_to_string(&mut text).unwrap(),
        "parquet" => 0,
        _ => { file }.read_to_string(&mut text).unwrap(),
    };
    text
}

fn once() -> Vec<(String, String)> {
    vec![("conn.23:00:00-00:00:00.log.gz".to_owned(), ROWS.to_owned())]
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_finished_file_gets_zeekcontrols_name_and_the_time_of_its_end() {
    let place = Place::new();
    place.source(SOURCE);
    place.archive().archive_all().unwrap();
    assert_eq!(place.archived(), once());
    let path = place.logs().join("1970-01-01").join(&once()[0].0);
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(modified, SystemTime::UNIX_EPOCH + Duration::from_secs(DAY));
}

#[test]
fn each_method_and_level_gives_the_same_text_back() {
    for (compress, level, end) in [
        (Compression::Gzip, Some(1), ".log.gz"),
        (Compression::Zstd, None, ".log.zst"),
        (Compression::Zstd, Some(19), ".log.zst"),
        (Compression::Off, None, ".log"),
    ] {
        let mut place = Place::new();
        (place.config.compress, place.config.compress_level) = (compress, level);
        place.source(SOURCE);
        place.archive().archive_all().unwrap();
        let name = format!("conn.23:00:00-00:00:00{end}");
        assert_eq!(place.archived(), [(name, ROWS.to_owned())]);
    }
}

#[test]
fn half_written_copies_of_an_earlier_life_go_whatever_their_kind() {
    let place = Place::new();
    place.source(SOURCE);
    let copies = place.logs().join(".archiving/logger");
    fs::create_dir_all(&copies).unwrap();
    for kind in Kind::ALL {
        fs::write(copies.join(format!("{SOURCE}{}", kind.extension())), b"half").unwrap();
    }
    place.archive().archive_all().unwrap();
    assert_eq!(place.archived(), once());
}

#[test]
fn a_crash_before_the_name_was_given_is_finished_as_it_was_begun() {
    let mut place = Place::new();
    place.source(SOURCE);
    let plain = Plain::parse(SOURCE).unwrap();
    place.archive().write_copies(&place.rotated().join(SOURCE), &plain).unwrap();
    let done = place.rotated().join(format!("{SOURCE}{DONE_SUFFIX}"));
    fs::rename(place.rotated().join(SOURCE), done).unwrap();
    // The next life has another configuration.
    place.config.compress = Compression::Zstd;
    place.archive().archive_all().unwrap();
    assert_eq!(place.archived(), once());
}

#[test]
fn a_crash_after_the_name_was_given_archives_nothing_twice() {
    let place = Place::new();
    place.source(SOURCE);
    place.archive().archive_all().unwrap();
    place.source(&format!("{SOURCE}{DONE_SUFFIX}"));
    place.archive().archive_all().unwrap();
    assert_eq!(place.archived(), once());
}

#[test]
fn a_name_that_is_taken_is_never_overwritten() {
    let place = Place::new();
    for _ in 0..2 {
        place.source(SOURCE);
        place.archive().archive_all().unwrap();
    }
    assert_eq!(place.names(), ["conn.23:00:00-00:00:00.1.log.gz", "conn.23:00:00-00:00:00.log.gz"]);
}

/// All loggers rotate at the same moments: their files have the same names on the way.
#[test]
fn two_loggers_of_a_host_keep_out_of_each_others_copies() {
    let mut place = Place::new();
    place.config.name_in_archive = true;
    let plain = Plain::parse(SOURCE).unwrap();
    for logger in ["logger-1", "logger-2"] {
        place.logger = logger;
        fs::create_dir_all(place.rotated()).unwrap();
        place.source(SOURCE);
        place.archive().write_copies(&place.rotated().join(SOURCE), &plain).unwrap();
    }
    for logger in ["logger-1", "logger-2"] {
        place.logger = logger;
        place.archive().archive_all().unwrap();
    }
    let names =
        ["conn.23:00:00-00:00:00-logger-1.log.gz", "conn.23:00:00-00:00:00-logger-2.log.gz"];
    assert_eq!(place.names(), names);
}

#[test]
fn json_beside_the_text_keeps_its_end_in_the_archive() {
    let place = Place::new();
    fs::write(place.rotated().join("conn-82800000000000-86400000000000.json.log"), "{}\n").unwrap();
    place.archive().archive_all().unwrap();
    let name = "conn.23:00:00-00:00:00.json.log.gz".to_owned();
    assert_eq!(place.archived(), [(name, "{}\n".to_owned())]);
}

#[test]
fn parquet_stands_beside_the_text_or_in_its_place() {
    let (text, parquet) = ("conn.23:00:00-00:00:00.log.gz", "conn.23:00:00-00:00:00.parquet");
    for (wanted, expected) in
        [(Parquet::Also, [text, parquet].as_slice()), (Parquet::Only, &[parquet])]
    {
        let mut place = Place::new();
        place.config.parquet = wanted;
        place.source(SOURCE);
        place.archive().archive_all().unwrap();
        assert_eq!(place.names(), expected);
    }
}

#[test]
fn what_cannot_become_parquet_is_archived_as_text_and_counted() {
    let mut place = Place::new();
    place.config.parquet = Parquet::Only;
    let torn = ROWS.replace("443", "no port");
    fs::write(place.rotated().join(SOURCE), &torn).unwrap();
    let archive = place.archive();
    archive.archive_all().unwrap();
    assert_eq!(place.archived(), [(once()[0].0.clone(), torn)]);
    assert_eq!(archive.counts.report().parquet_faults, 1);
}

#[test]
fn links_and_what_they_lead_to_never_expire() {
    let mut place = Place::new();
    place.config.expire.minutes = 1;
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("conn.00:00:00-01:00:00.log");
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::symlink(outside.path(), place.logs().join("1970-01-01")).unwrap();
    fs::create_dir(place.logs().join("1970-01-02")).unwrap();
    let link = place.logs().join("1970-01-02/dns.00:00:00-01:00:00.log");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    expire::expire(&place.archive(), Ts(u64::MAX / 2)).unwrap();
    assert!(file.exists() && link.is_symlink());
}

#[test]
fn while_one_logger_looks_through_the_archive_the_other_leaves_it_alone() {
    let mut place = Place::new();
    place.config.expire.minutes = 1;
    let log = place.log("1970-01-01/conn.00:00:00-01:00:00.log", 0, 1);
    let held = disk::real().try_lock(&place.logs().join(".expire.lock")).unwrap().unwrap();
    expire::expire(&place.archive(), Ts(DAY * NANOS)).unwrap();
    assert!(log.exists());
    drop(held);
    expire::expire(&place.archive(), Ts(DAY * NANOS)).unwrap();
    assert!(!log.exists());
}

/// A crash between the removal of the last file and that of its folder.
#[test]
fn an_empty_folder_of_an_earlier_life_goes() {
    let mut place = Place::new();
    place.config.expire.minutes = 1;
    fs::create_dir(place.logs().join("1970-01-01")).unwrap();
    fs::create_dir(place.logs().join("mine")).unwrap();
    let made = fs::metadata(place.logs().join("1970-01-01")).unwrap().modified().unwrap();
    let now = made.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    expire::expire(&place.archive(), Ts(now * NANOS)).unwrap();
    assert!(place.logs().join("1970-01-01").exists());
    expire::expire(&place.archive(), Ts((now + 7_200) * NANOS)).unwrap();
    assert!(!place.logs().join("1970-01-01").exists());
    assert!(place.logs().join("mine").exists());
}

/// Runs what waits until `is_so`, and ends the thread.
fn run(archive: &Archive, what: &str, is_so: impl Fn(&ArchiveReport) -> bool) -> ArchiveReport {
    let runner = Runner::start(archive.commands.as_ref().unwrap()).unwrap();
    until(what, || is_so(&archive.counts.report()));
    runner.stop();
    archive.counts.report()
}

#[test]
fn the_command_gets_path_stream_times_and_logger_and_no_shell_sees_them() {
    let mut place = Place::new();
    let out = place.dir.path().join("out");
    let script = place.script(&format!(
        "printf '%s\\n' \"$@\" \"$TYTO_STREAM\" \"$TYTO_LOGGER\" \"$HOME\" > {}",
        out.display()
    ));
    place.config.rotation_command = Some(format!("{script} --to $(id);x"));
    place.source(SOURCE);
    let archive = place.archive();
    archive.archive_all().unwrap();
    let report = run(&archive, "command ends", |report| report.rotation_command_ok == 1);
    let path = place.logs().join("1970-01-01").join(&once()[0].0);
    let said = fs::read_to_string(out).unwrap();
    let said: Vec<&str> = said.split('\n').collect();
    assert_eq!(said[..3], ["--to", "$(id);x", path.to_str().unwrap()]);
    assert_eq!(said[3..6], ["conn", "1970-01-01-23-00-00", "1970-01-02-00-00-00"]);
    assert_eq!(said[6..], ["logger", "conn", "logger", "", ""]);
    assert_eq!(report.rotation_command_waiting, 0);
    assert_eq!(fs::read_dir(place.folder().join("commands")).unwrap().count(), 0);
}

#[test]
fn a_command_that_fails_is_tried_again_and_given_up_in_the_end() {
    let mut place = Place::new();
    let script = place.script("exit 3");
    place.config.rotation_command = Some(script);
    place.config.rotation_command_tries = CommandTries(2);
    place.source(SOURCE);
    let archive = place.archive();
    archive.archive_all().unwrap();
    let report = run(&archive, "given up", |report| report.rotation_command_given_up == 1);
    assert_eq!((report.rotation_command_failed, report.rotation_command_ok), (2, 0));
    assert_eq!(place.archived(), once());
}

#[test]
fn a_command_that_hangs_is_killed_with_its_children() {
    let mut place = Place::new();
    let pid = place.dir.path().join("pid");
    let script = place.script(&format!("sleep 600 & echo $! > {}\nwait", pid.display()));
    place.config.rotation_command = Some(script);
    place.config.rotation_command_timeout_s = CommandTimeout(1);
    place.config.rotation_command_tries = CommandTries(1);
    place.source(SOURCE);
    let archive = place.archive();
    archive.archive_all().unwrap();
    run(&archive, "killed", |report| report.rotation_command_given_up == 1);
    let child = fs::read_to_string(pid).unwrap();
    let stat = PathBuf::from(format!("/proc/{}/stat", child.trim()));
    // Gone, or a zombie that nobody has waited for.
    until("child ends", || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
}

/// Crashes before and after the file got its name, and before its source was removed.
#[test]
fn the_command_is_run_by_the_next_life_whenever_the_last_one_ended() {
    for crash in 0..3 {
        let mut place = Place::new();
        let out = place.dir.path().join("out");
        let script = place.script(&format!("echo $1 >> {}", out.display()));
        place.config.rotation_command = Some(script);
        place.source(SOURCE);
        let before = place.archive();
        let plain = Plain::parse(SOURCE).unwrap();
        let (source, done) =
            (place.rotated().join(SOURCE), place.rotated().join(format!("{SOURCE}{DONE_SUFFIX}")));
        before.write_copies(&source, &plain).unwrap();
        fs::rename(&source, &done).unwrap();
        let target = place.logs().join("1970-01-01").join(&once()[0].0);
        let kind = Kind::Text(Compression::Gzip);
        before.commands.as_ref().unwrap().note(&plain, kind, &target).unwrap();
        if crash > 0 {
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            let copy = place.logs().join(".archiving/logger").join(plain.copy_name(kind));
            fs::rename(copy, &target).unwrap();
        }
        if crash > 1 {
            fs::remove_file(&done).unwrap();
        }
        let after = place.archive();
        after.archive_all().unwrap();
        let report = run(&after, "command ends", |report| report.rotation_command_ok == 1);
        assert_eq!(report.rotation_command_failed, 0);
        assert_eq!(fs::read_to_string(out).unwrap(), format!("{}\n", target.display()));
        assert_eq!(place.archived(), once());
    }
}

#[test]
fn a_file_whose_command_is_still_to_run_does_not_expire() {
    let mut place = Place::new();
    place.config.expire.minutes = 1;
    place.config.rotation_command = Some("/bin/true".to_owned());
    place.source(SOURCE);
    let archive = place.archive();
    archive.archive_all().unwrap();
    expire::expire(&archive, Ts(9 * DAY * NANOS)).unwrap();
    assert_eq!(place.archived(), once());
    run(&archive, "command ends", |report| report.rotation_command_ok == 1);
    expire::expire(&archive, Ts(9 * DAY * NANOS)).unwrap();
    assert_eq!(place.archived(), []);
}

#[test]
fn a_logger_that_ends_kills_its_command_and_leaves_the_rest_to_the_next_life() {
    let mut place = Place::new();
    let began = place.dir.path().join("began");
    let script = place.script(&format!("touch {}; exec sleep 600", began.display()));
    place.config.rotation_command = Some(script);
    place.source(SOURCE);
    let archive = place.archive();
    archive.archive_all().unwrap();
    let runner = Runner::start(archive.commands.as_ref().unwrap()).unwrap();
    until("command begins", || began.exists());
    runner.stop();
    let report = archive.counts.report();
    assert_eq!((report.rotation_command_failed, report.rotation_command_given_up), (0, 0));
    assert_eq!(fs::read_dir(place.folder().join("commands")).unwrap().count(), 1);
}

#[test]
fn a_name_is_not_given_again_while_its_command_waits() {
    let mut place = Place::new();
    place.config.rotation_command = Some("/bin/true".to_owned());
    place.source(SOURCE);
    let archive = place.archive();
    let is_free = || is_rotated_name_free(&*archive.disk, &place.folder(), SOURCE).unwrap();
    assert!(!is_free());
    archive.archive_all().unwrap();
    assert!(!is_free());
    run(&archive, "command ends", |report| report.rotation_command_ok == 1);
    assert!(is_free());
}

#[test]
fn the_thread_archives_and_lets_expire_by_the_stores_clock() {
    let mut place = Place::new();
    place.config.expire.minutes = 1440;
    let old = place.log("1970-01-01/dns.00:00:00-01:00:00.log", 3_600, 1);
    place.source(SOURCE);
    let archiver = Archiver::start(place.options(), Archiving::InThread, Ts(DAY * NANOS)).unwrap();
    until("archived", || archiver.report().archived_files == 1);
    assert!(old.exists());
    // A clock that was just set forward makes no log old (`steady.rs`).
    archiver.tick(Ts((DAY + 7_200) * NANOS));
    place.source("http-82800000000000-86400000000000.log");
    archiver.wake();
    until("archived", || archiver.report().archived_files == 2);
    assert_eq!(archiver.archive.now.load(Ordering::Relaxed), (DAY + 7_200) * NANOS);
    // Its end has one more look, and the next life takes the clock as it is.
    drop(archiver);
    assert!(old.exists());
    let later = Ts((DAY + 7_200) * NANOS);
    let _archiver = Archiver::start(place.options(), Archiving::InThread, later).unwrap();
    until("expired", || !old.exists());
}
