//! The cluster's CA over its life, on the manager's host: it signs, and is replaced by another one
//! in phases, each of which is safe to stop in:
//!
//! ```text
//!            begin                advance              advance            advance
//! one CA ───────────▶ trust ────────────────▶ reissue ─────────▶ drop ────────────▶ one CA
//!                     old signs,              new signs,         new alone
//!                     both are trusted        both trusted       is trusted
//!                       │ abort                 │ abort
//!                       ▼            advance    ▼
//!                     undo_drop ◀──────────── undo               (the new one is forgotten)
//! ```
//!
//! ctl goes on when every host has what its phase asks for. What there is on disk: ca.pem and
//! ca.key, next.pem and next.key of the CA to come, `rotation.json` with the phase (written last
//! and atomically: the one truth), and `trust.pem`, what hosts are to trust meanwhile.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::ValueEnum;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::ca::{Ca, CaError};

/// The note of where a rotation is.
const NOTE: &str = "rotation.json";
/// What hosts are to trust during a rotation.
const TRUST: &str = "trust.pem";

/// Where a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[clap(rename_all = "snake_case")]
pub enum Phase {
    /// The new CA is made known; the old one signs.
    Trust,
    /// The new CA signs; every certificate is made again.
    Reissue,
    /// The new CA alone is trusted.
    Drop,
    /// On the way back: the old CA signs again.
    Undo,
    /// On the way back: the old CA alone is trusted.
    UndoDrop,
}

impl Phase {
    /// The word in notes and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Reissue => "reissue",
            Self::Drop => "drop",
            Self::Undo => "undo",
            Self::UndoDrop => "undo_drop",
        }
    }

    /// What it asks of the hosts, for people.
    pub const fn story(self) -> &'static str {
        match self {
            Self::Trust => "all hosts learn to trust the new CA besides the old one",
            Self::Reissue => "all nodes get certificates of the new CA",
            Self::Drop => "all hosts forget the old CA",
            Self::Undo => "all nodes get certificates of the old CA again",
            Self::UndoDrop => "all hosts forget the new CA",
        }
    }
}

/// Where a rotation is and what that means for hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaState {
    /// None when there is one CA and no rotation.
    pub phase: Option<Phase>,
    /// Certificates of the CAs that hosts are to trust, PEM; the first one signs.
    pub bundle: String,
}

/// What is noted of a rotation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    phase: Phase,
    /// All hosts are through with the last phase: what is left is to clear up here.
    is_over: bool,
}

/// The CA in its folder, locked: two calls never work on it at once.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    cluster: String,
    phase: Option<Phase>,
    _lock: File,
}

impl Authority {
    /// The CA in `dir`; what an interrupted call left undone is done first.
    ///
    /// # Errors
    /// When there is none, or its files are unusable.
    pub fn open(dir: &Path, cluster: &str) -> Result<Self, CaError> {
        let lock = File::open(dir).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CaError::Missing(dir.to_owned()),
            _ => file(dir)(source),
        })?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| file(dir)(error.into()))?;
        let (dir, cluster) = (dir.to_owned(), cluster.to_owned());
        let mut authority = Self { dir, cluster, phase: None, _lock: lock };
        authority.settle()?;
        Ok(authority)
    }

    /// Where the rotation is.
    ///
    /// # Errors
    /// When the CA's certificates cannot be read.
    pub fn state(&self) -> Result<CaState, CaError> {
        let names: &[&str] = match self.phase {
            None | Some(Phase::UndoDrop) => &["ca.pem"],
            Some(Phase::Trust | Phase::Undo) => &["ca.pem", "next.pem"],
            Some(Phase::Reissue) => &["next.pem", "ca.pem"],
            Some(Phase::Drop) => &["next.pem"],
        };
        let read = |name: &&str| {
            let path = self.dir.join(name);
            fs::read_to_string(&path).map_err(file(&path))
        };
        let bundle = names.iter().map(read).collect::<Result<String, _>>()?;
        Ok(CaState { phase: self.phase, bundle })
    }

    /// The CA that signs in this phase.
    ///
    /// # Errors
    /// When its files are unusable.
    pub fn signer(&self) -> Result<Ca, CaError> {
        let stem = match self.phase {
            Some(Phase::Reissue | Phase::Drop) => "next",
            None | Some(Phase::Trust | Phase::Undo | Phase::UndoDrop) => "ca",
        };
        Ca::open(&self.dir, &self.cluster, stem)
    }

    /// Begins a rotation with a new CA.
    ///
    /// # Errors
    /// When one is under way already, or files cannot be written.
    pub fn begin(&mut self, now: SystemTime) -> Result<(), CaError> {
        self.expect(None)?;
        Ca::make(&self.dir, &self.cluster, "next", now)?;
        self.note(Phase::Trust, false)?;
        self.settle()
    }

    /// Goes on from a phase that all hosts are through with. Done twice, it is an error: the
    /// second caller does not know of the first.
    ///
    /// # Errors
    /// When the rotation is in another phase, or files cannot be written.
    pub fn advance(&mut self, from: Phase) -> Result<(), CaError> {
        self.expect(Some(from))?;
        match from {
            Phase::Trust => self.note(Phase::Reissue, false)?,
            Phase::Reissue => self.note(Phase::Drop, false)?,
            Phase::Undo => self.note(Phase::UndoDrop, false)?,
            Phase::Drop | Phase::UndoDrop => self.note(from, true)?,
        }
        self.settle()
    }

    /// Begins the way back to the CA of before.
    ///
    /// # Errors
    /// When there is no rotation, or hosts are forgetting the old CA already.
    pub fn abort(&mut self) -> Result<(), CaError> {
        match self.phase {
            Some(Phase::Trust) => self.note(Phase::UndoDrop, false)?,
            Some(Phase::Reissue) => self.note(Phase::Undo, false)?,
            Some(Phase::Undo | Phase::UndoDrop) => {}
            Some(Phase::Drop) => return Err(CaError::TooLate),
            None => {
                let (found, expected) = (words(None), "under way".to_owned());
                return Err(CaError::Phase { found, expected });
            }
        }
        self.settle()
    }

    fn expect(&self, phase: Option<Phase>) -> Result<(), CaError> {
        if self.phase == phase {
            return Ok(());
        }
        Err(CaError::Phase { found: words(self.phase), expected: words(phase) })
    }

    /// Reads the note and makes everything else on disk as it says.
    fn settle(&mut self) -> Result<(), CaError> {
        let path = self.dir.join(NOTE);
        let note: Option<Note> =
            match fs::read(&path) {
                Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|error| {
                    CaError::Note { path: path.clone(), said: error.to_string() }
                })?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(file(&path)(source)),
            };
        match note {
            Some(Note { phase, is_over: false }) => {
                self.phase = Some(phase);
                let bundle = self.state()?.bundle;
                let path = self.dir.join(TRUST);
                if fs::read_to_string(&path).ok().as_ref() != Some(&bundle) {
                    self.put(TRUST, bundle.as_bytes())?;
                }
                return Ok(());
            }
            Some(Note { phase: Phase::Drop, is_over: true }) => {
                // The key first: with one of the two renamed, this is done again.
                for end in ["key", "pem"] {
                    let next = self.dir.join(format!("next.{end}"));
                    match fs::rename(&next, self.dir.join(format!("ca.{end}"))) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(file(&next)(error));
                        }
                        _ => {}
                    }
                }
                self.sync()?;
            }
            Some(Note { is_over: true, .. }) | None => {}
        }
        // The note goes last: as long as it is there, all this is done again.
        for name in ["next.pem", "next.key", TRUST, NOTE] {
            let path = self.dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file(&path)(error));
                }
                _ => {}
            }
        }
        self.phase = None;
        self.sync()
    }

    fn note(&self, phase: Phase, is_over: bool) -> Result<(), CaError> {
        let path = self.dir.join(NOTE);
        let text = serde_json::to_vec(&Note { phase, is_over })
            .map_err(|error| CaError::Note { path, said: error.to_string() })?;
        self.put(NOTE, &text)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), CaError> {
        let (path, part) = (self.dir.join(name), self.dir.join(format!("{name}.part")));
        let written = File::create(&part)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&part, &path));
        written.map_err(file(&path))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), CaError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(file(&self.dir))
    }
}

fn words(phase: Option<Phase>) -> String {
    phase.map_or_else(|| "not under way".to_owned(), |phase| format!("in `{}`", phase.as_str()))
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_owned();
    move |source| CaError::File { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::identity::ca::split_pem;
    use crate::identity::check::Certificate;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn made(dir: &Path) -> (Authority, String) {
        let pem = Ca::init(dir, "lab", now()).unwrap().cert_pem().to_owned();
        (Authority::open(dir, "lab").unwrap(), pem)
    }

    /// What a reader of the folder sees: phase, certificates trusted, who signs.
    fn seen(dir: &Path) -> (Option<Phase>, Vec<String>, String) {
        let authority = Authority::open(dir, "lab").unwrap();
        let state = authority.state().unwrap();
        let signer = authority.signer().unwrap().cert_pem().to_owned();
        (state.phase, split_pem(&state.bundle), signer)
    }

    #[test]
    fn a_rotation_goes_through_its_phases_and_leaves_the_new_ca_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut authority, old) = made(dir.path());
        authority.begin(now()).unwrap();
        let new = fs::read_to_string(dir.path().join("next.pem")).unwrap();
        drop(authority);
        let step = |phase| {
            let mut authority = Authority::open(dir.path(), "lab").unwrap();
            authority.advance(phase).unwrap();
        };
        let trusted = |pems: &[&String]| pems.iter().map(|&pem| pem.clone()).collect::<Vec<_>>();
        let both = seen(dir.path());
        assert_eq!(both, (Some(Phase::Trust), trusted(&[&old, &new]), old.clone()));
        step(Phase::Trust);
        let reissue = seen(dir.path());
        assert_eq!(reissue, (Some(Phase::Reissue), trusted(&[&new, &old]), new.clone()));
        step(Phase::Reissue);
        assert_eq!(seen(dir.path()), (Some(Phase::Drop), trusted(&[&new]), new.clone()));
        assert_eq!(fs::read_to_string(dir.path().join(TRUST)).unwrap(), new);
        step(Phase::Drop);
        assert_eq!(seen(dir.path()), (None, trusted(&[&new]), new));
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap()).collect();
        left.sort_by_key(|file| file.file_name());
        let left: Vec<_> = left.iter().map(|file| file.file_name()).collect();
        assert_eq!(left, ["ca.key", "ca.pem"]);
        let mode = fs::metadata(dir.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_rotation_is_taken_back_until_hosts_forget_the_old_ca() {
        for advanced in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut authority, old) = made(dir.path());
            authority.begin(now()).unwrap();
            if advanced {
                authority.advance(Phase::Trust).unwrap();
                authority.abort().unwrap();
                assert_eq!(authority.state().unwrap().phase, Some(Phase::Undo));
                assert_eq!(authority.signer().unwrap().cert_pem(), old);
                assert_eq!(split_pem(&authority.state().unwrap().bundle).len(), 2);
                authority.advance(Phase::Undo).unwrap();
            } else {
                authority.abort().unwrap();
            }
            assert_eq!(authority.state().unwrap().phase, Some(Phase::UndoDrop));
            authority.advance(Phase::UndoDrop).unwrap();
            drop(authority);
            assert_eq!(seen(dir.path()), (None, vec![old.clone()], old));
        }
        let dir = tempfile::tempdir().unwrap();
        let (mut authority, _) = made(dir.path());
        assert!(matches!(authority.abort(), Err(CaError::Phase { .. })));
        authority.begin(now()).unwrap();
        authority.advance(Phase::Trust).unwrap();
        authority.advance(Phase::Reissue).unwrap();
        assert!(matches!(authority.abort(), Err(CaError::TooLate)));
    }

    #[test]
    fn a_phase_is_left_once_and_a_rotation_is_begun_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut authority, _) = made(dir.path());
        assert!(matches!(authority.advance(Phase::Trust), Err(CaError::Phase { .. })));
        authority.begin(now()).unwrap();
        assert!(matches!(authority.begin(now()), Err(CaError::Phase { .. })));
        authority.advance(Phase::Trust).unwrap();
        assert!(matches!(authority.advance(Phase::Trust), Err(CaError::Phase { .. })));
    }

    /// Each file operation of a rotation may be the last before a crash.
    #[test]
    fn what_a_crash_left_is_made_good() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, old) = made(dir.path());
        // Begun, no note yet: as if nothing had happened.
        Ca::make(dir.path(), "lab", "next", now()).unwrap();
        drop(authority);
        assert_eq!(seen(dir.path()), (None, vec![old.clone()], old.clone()));
        assert!(!dir.path().join("next.key").exists());

        // Over, and one of two files renamed.
        let mut authority = Authority::open(dir.path(), "lab").unwrap();
        authority.begin(now()).unwrap();
        let new = fs::read_to_string(dir.path().join("next.pem")).unwrap();
        authority.note(Phase::Drop, true).unwrap();
        fs::rename(dir.path().join("next.key"), dir.path().join("ca.key")).unwrap();
        drop(authority);
        assert_eq!(seen(dir.path()), (None, vec![new.clone()], new.clone()));
        let ca = Ca::open(dir.path(), "lab", "ca").unwrap();
        assert_eq!(ca.cert_pem(), new);
        assert!(Certificate::from_pem(&new).unwrap().is_ca);

        // The note of a phase is there, what hosts are to trust is of the phase before.
        let mut authority = Authority::open(dir.path(), "lab").unwrap();
        authority.begin(now()).unwrap();
        authority.note(Phase::Reissue, false).unwrap();
        drop(authority);
        let (_, trusted, signer) = seen(dir.path());
        assert_eq!(trusted[0], signer);
        assert_eq!(fs::read_to_string(dir.path().join(TRUST)).unwrap(), trusted.concat());
    }

    #[test]
    fn a_broken_note_is_told_and_nothing_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = made(dir.path());
        drop(authority);
        fs::write(dir.path().join(NOTE), "nonsense").unwrap();
        assert!(matches!(Authority::open(dir.path(), "lab"), Err(CaError::Note { .. })));
        assert_eq!(fs::read_to_string(dir.path().join(NOTE)).unwrap(), "nonsense");
    }
}
