//! `supervisor hold-lock`: one holder at a time, the others are told who it is, and the lock comes
//! free with the end of the session, however that ends.
#![allow(clippy::unwrap_used, reason = "a test may fall")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

/// Lines of the keeper that may wait to be looked at.
const WORDS_MAX: usize = 64;

/// Nothing here takes longer, on a machine however busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for a lock that is free to be taken.
const MOMENT: Duration = Duration::from_millis(600);

/// A ctl's session.
struct Session {
    keeper: Child,
    words: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Session {
    fn open(prefix: &Path, user: &str) -> Self {
        let mut keeper = Command::new(env!("CARGO_BIN_EXE_supervisor"))
            .args(["hold-lock", "--prefix"])
            .arg(prefix)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut words = keeper.stdin.take().unwrap();
        let note =
            format!("{{\"user\":\"{user}\",\"host\":\"ops\",\"pid\":7,\"command\":\"ctl\"}}");
        writeln!(words, "{note}").unwrap();
        let answers = listen(keeper.stdout.take().unwrap());
        Self { keeper, words: Some(words), answers }
    }

    fn answer(&self) -> String {
        self.answers.recv_timeout(PATIENCE).unwrap()
    }

    fn end(mut self) {
        self.words = None;
        assert!(self.keeper.wait().unwrap().success());
    }
}

fn listen(from: ChildStdout) -> Receiver<String> {
    let (tell, heard) = sync_channel(WORDS_MAX);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    heard
}

#[test]
fn the_second_is_told_who_holds_the_lock_and_gets_it_when_the_first_ends() {
    let prefix = tempfile::tempdir().unwrap();
    let first = Session::open(prefix.path(), "alice");
    assert_eq!(first.answer(), "held");
    let second = Session::open(prefix.path(), "bob");
    let busy = second.answer();
    assert!(busy.starts_with("busy {") && busy.contains("\"user\":\"alice\""), "{busy}");
    assert!(second.answers.recv_timeout(MOMENT).is_err(), "told once, and not given yet");
    first.end();
    assert_eq!(second.answer(), "held");
    second.end();
}

#[test]
fn the_lock_of_a_session_that_was_killed_is_free() {
    let prefix = tempfile::tempdir().unwrap();
    let mut first = Session::open(prefix.path(), "alice");
    assert_eq!(first.answer(), "held");
    first.keeper.kill().unwrap();
    first.keeper.wait().unwrap();
    let second = Session::open(prefix.path(), "bob");
    assert_eq!(second.answer(), "held");
    second.end();
}

#[test]
fn who_gives_up_waiting_never_gets_the_lock() {
    let prefix = tempfile::tempdir().unwrap();
    let first = Session::open(prefix.path(), "alice");
    assert_eq!(first.answer(), "held");
    let second = Session::open(prefix.path(), "bob");
    assert!(second.answer().starts_with("busy "));
    second.end();
    first.end();
}

#[test]
fn who_does_not_say_who_it_is_gets_nothing() {
    let prefix = tempfile::tempdir().unwrap();
    let mut keeper = Command::new(env!("CARGO_BIN_EXE_supervisor"))
        .args(["hold-lock", "--prefix"])
        .arg(prefix.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(!keeper.wait().unwrap().success());
}
