//! What this host is to run, read from the release in use: never cached, because ctl switches
//! releases under a running supervisor.

use std::fs;
use std::io;
use std::path::PathBuf;

use tyto_core::config::runtime::{HostConfig, HostNode};
use tyto_core::layout::Layout;

/// The release that `current` points at, its symlink resolved, so that what runs from it is
/// known even after a switch.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Its id.
    pub(crate) id: String,
}

/// Why this host's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// No release is installed.
    #[error("no release in use: cannot resolve `{}`", path.display())]
    NoRelease {
        /// The symlink.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no host configuration, or one of another release: nothing of it is taken, as
    /// what is not understood may be a limit. A supervisor of that release understands it.
    #[error(
        "`{}` is no host configuration that this supervisor (version {}) understands; `ctl start` \
         puts the one of the release in use in its place",
        path.display(), env!("CARGO_PKG_VERSION")
    )]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_yaml::Error,
    },
    /// The release has no such node on this host.
    #[error("release {release} has no node `{node}` on this host")]
    NoSuchNode {
        /// Id of the release.
        release: String,
        /// Name of the node.
        node: String,
    },
}

/// The release in use.
///
/// # Errors
/// When `current` leads nowhere.
pub(crate) fn release(layout: &Layout) -> Result<Release, HostError> {
    let path = layout.current();
    match fs::canonicalize(&path) {
        Ok(dir) => {
            let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Release { dir, id })
        }
        Err(source) => Err(HostError::NoRelease { path, source }),
    }
}

/// What a release says about this host.
///
/// # Errors
/// When its `host.yaml` cannot be read or parsed.
pub(crate) fn config(release: &Release) -> Result<HostConfig, HostError> {
    let path = release.dir.join("etc/host.yaml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(HostError::Read { path, source }),
    };
    serde_yaml::from_str(&text).map_err(|source| HostError::Parse { path, source })
}

/// What a release says about one node of this host.
///
/// # Errors
/// As [`config`], and when the node is not there.
pub(crate) fn node(release: &Release, node: &str) -> Result<HostNode, HostError> {
    let missing = || HostError::NoSuchNode { release: release.id.clone(), node: node.to_owned() };
    config(release)?.nodes.into_iter().find(|known| known.node == node).ok_or_else(missing)
}
