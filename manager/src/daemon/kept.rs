//! What nodes said last and the alarms, on disk in the manager's folder: a manager that is started
//! again knows of nodes that are stopped meanwhile, so that its ledger is whole. One file,
//! replaced in one step; losing it costs no row.

use std::fs;
use std::io;
use std::path::PathBuf;

use prost::Message;
use tracing::warn;
use tyto_proto::v1::NodesReply;

/// Longest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The file.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
}

impl Kept {
    /// The file at `path`, if it is there.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What was known; nothing when there is no file, or none that can be read.
    pub(crate) fn load(&self) -> NodesReply {
        let read = || -> io::Result<NodesReply> {
            if fs::metadata(&self.path)?.len() > FILE_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(NodesReply::decode(fs::read(&self.path)?.as_slice())?)
        };
        read().unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                let path = self.path.display();
                warn!(%path, %error, "what nodes said last is lost; the ledger fills again");
            }
            NodesReply::default()
        })
    }

    /// Puts `known` in the file's place.
    pub(crate) async fn store(&self, known: &NodesReply) {
        let (path, bytes) = (self.path.clone(), known.encode_to_vec());
        let stored = tokio::task::spawn_blocking(move || -> io::Result<()> {
            let draft = path.with_extension("tmp");
            fs::write(&draft, bytes)?;
            fs::rename(draft, path)
        });
        match stored.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "cannot keep what nodes said last"),
            Err(error) => warn!(%error, "cannot keep what nodes said last"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tyto_proto::v1::{MemberState, NodeHealth};

    use super::*;

    #[tokio::test]
    async fn what_was_known_comes_back_and_damage_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::new(dir.path().join("members"));
        assert_eq!(kept.load(), NodesReply::default());
        let health = Some(NodeHealth { node: "worker-1".into(), ..NodeHealth::default() });
        let members = vec![MemberState { health, ..MemberState::default() }];
        let known = NodesReply { members, alarms: Vec::new() };
        kept.store(&known).await;
        assert_eq!(kept.load(), known);
        fs::write(dir.path().join("members"), [0xff; 9]).unwrap();
        assert_eq!(kept.load(), NodesReply::default());
    }
}
