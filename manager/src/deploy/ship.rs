//! Gets a release onto a host: only files whose content the host does not have travel, into a
//! store of files named by their hash; a release's folder is made of hard links into it. A
//! symlink switch makes a release current; it is one rename, so there is always a current one.

use std::path::PathBuf;
use std::time::Duration;

use tyto_core::layout::Layout;

use super::bundle::{Content, Release, ReleaseFile};
use super::survey::Survey;
use crate::remote::error::RemoteError;
use crate::remote::shell::{quote, quote_path};
use crate::remote::{Input, Put, Remote};

/// Shell function: whether a release's folder has all files of its manifest, none of them empty.
/// A host that lost its power in the middle may have less.
pub(super) const WHOLE: &str = "whole() { [ -s \"$1/manifest\" ] || return 1; \
    while read -r k _ _ f; do [ \"$k\" != file ] || [ -s \"$1/$f\" ] || return 1; done <\"$1/manifest\"; };";

/// Slowest network a file is shipped over, bytes per second; the deadline follows from it.
const SLOWEST_BYTES_PER_S: u64 = 200_000;

/// What came of shipping to one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Files that travelled.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Folder of the files named by their hash.
fn store(layout: &Layout) -> PathBuf {
    layout.releases().join(".store")
}

/// Bytes that a host lacks of a release.
pub fn missing_bytes(release: &Release, survey: &Survey) -> u64 {
    missing_files(release, survey).iter().map(|file| file.bytes).sum()
}

/// Files that a host lacks of a release.
pub fn missing_files<'a>(release: &'a Release, survey: &Survey) -> Vec<&'a ReleaseFile> {
    if survey.releases.contains_key(&release.id) {
        return Vec::new();
    }
    let lacks = |file: &&ReleaseFile| !survey.store.contains(&file.sha256);
    release.files.iter().filter(lacks).collect()
}

/// Makes sure that the folder of `release` is on the host, whole. `progress` hears of each
/// file's bytes as it arrived.
///
/// # Errors
/// When the host cannot be reached, written, or is full.
pub async fn ship(
    remote: &dyn Remote,
    layout: &Layout,
    release: &Release,
    survey: &Survey,
    deadline: Duration,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Shipped, RemoteError> {
    let mut shipped = Shipped::default();
    if survey.releases.contains_key(&release.id) {
        return Ok(shipped);
    }
    prepare(remote, layout, deadline).await?;
    for file in &release.files {
        if survey.store.contains(&file.sha256) {
            continue;
        }
        let content = match &file.content {
            Content::File(path) => Input::File(path),
            Content::Bytes(bytes) => Input::Bytes(bytes),
        };
        let path = store(layout).join(&file.sha256);
        let put = Put { content, path: &path, sha256: &file.sha256, mode: file.mode };
        let patience = deadline + Duration::from_secs(file.bytes / SLOWEST_BYTES_PER_S);
        remote.put(put, patience).await?;
        shipped.files += 1;
        shipped.bytes += file.bytes;
        progress(file.bytes);
    }
    assemble(remote, layout, release, deadline).await?;
    Ok(shipped)
}

/// Makes the folders that every host has, private ones for their owner only.
async fn prepare(
    remote: &dyn Remote,
    layout: &Layout,
    deadline: Duration,
) -> Result<(), RemoteError> {
    let script = format!(
        "umask 022; mkdir -p {} {} {} {} && mkdir -p -m 700 {run} {tls} && chmod 700 {run} {tls}",
        quote_path(&store(layout)),
        quote_path(&layout.etc()),
        quote_path(&layout.spool()),
        quote_path(&layout.logs()),
        run = quote_path(&layout.run()),
        tls = quote_path(&layout.tls()),
    );
    remote.must("make the folders", &script, Input::None, deadline).await.map(|_| ())
}

async fn assemble(
    remote: &dyn Remote,
    layout: &Layout,
    release: &Release,
    deadline: Duration,
) -> Result<(), RemoteError> {
    // Where the file system has no hard links, a copy does as well.
    let script = format!(
        "set -e; umask 022; cd {releases}; n=.new-{id}.$$; rm -rf \"$n\"; mkdir \"$n\"\n\
         while read -r h f; do mkdir -p \"$n/$(dirname \"$f\")\"; \
         ln \".store/$h\" \"$n/$f\" 2>/dev/null || cp -p \".store/$h\" \"$n/$f\"; done\n\
         find \"$n\" -type f -exec sync {{}} + 2>/dev/null || :\n\
         {WHOLE}\n\
         if whole {id}; then rm -rf \"$n\"; else rm -rf {id}; mv \"$n\" {id}; fi\n",
        releases = quote_path(&layout.releases()),
        id = quote(&release.id),
    );
    let list: String =
        release.files.iter().map(|file| format!("{} {}\n", file.sha256, file.path)).collect();
    let input = Input::Bytes(list.as_bytes());
    remote.must("put the release together", &script, input, deadline).await.map(|_| ())
}

/// Makes a release that is on the host the current one, and `logs/current` lead to the folder of
/// the logger that writes on this host.
///
/// # Errors
/// When the host cannot be reached or written, or the release is not there as a whole.
pub async fn switch(
    remote: &dyn Remote,
    layout: &Layout,
    id: &str,
    logger: Option<&str>,
    deadline: Duration,
) -> Result<(), RemoteError> {
    // -T: the link is replaced, not what it points at.
    let mut script = format!(
        "cd {prefix} || exit 1; {WHOLE} whole releases/{id} || {{ echo \"release {id} is not whole\" >&2; exit 1; }}\n\
         touch releases/{id} && rm -f current.new.$$ \
         && ln -s releases/{id} current.new.$$ && mv -T -f current.new.$$ current || exit 1\n",
        prefix = quote_path(layout.prefix()),
        id = quote(id),
    );
    if let Some(logger) = logger {
        let target = format!("../spool/{logger}");
        script.push_str(&format!(
            "cd {logs} && mkdir -p {target} && \
             if [ \"$(readlink current)\" != {target} ]; then rm -f current.new.$$ \
             && ln -s {target} current.new.$$ && mv -T -f current.new.$$ current; fi",
            logs = quote_path(&layout.logs()),
            target = quote(&target),
        ));
    }
    remote.must("switch the release", &script, Input::None, deadline).await.map(|_| ())
}

/// Removes all but the `keep` releases last in use, never one of `in_use`, and the files that
/// no release has any more.
///
/// # Errors
/// When the host cannot be reached or written.
pub async fn prune(
    remote: &dyn Remote,
    layout: &Layout,
    keep: u32,
    in_use: &[String],
    deadline: Duration,
) -> Result<(), RemoteError> {
    let script = format!(
        "cd {releases} || exit 1; rm -rf .new-*; n=0; c=$(readlink ../current); \
         ls -1t | while read -r r; do n=$((n+1)); [ $n -gt {keep} ] || continue; \
         [ \"releases/$r\" != \"$c\" ] || continue; \
         case {in_use} in *\" $r \"*) ;; *) rm -rf -- \"./$r\" ;; esac; done; \
         find .store -type f -links 1 -exec rm -f {{}} +",
        releases = quote_path(&layout.releases()),
        in_use = quote(&format!(" {} ", in_use.join(" "))),
    );
    remote.must("remove old releases", &script, Input::None, deadline).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::deploy::bundle::sha256_hex;
    use crate::deploy::survey::{Questions, look};
    use crate::remote::local::Local;

    const SOON: Duration = Duration::from_secs(20);

    fn release(id: &str, files: &[(&str, &str, u32)]) -> Release {
        let file = |&(path, text, mode): &(&str, &str, u32)| ReleaseFile {
            path: path.to_owned(),
            content: Content::Bytes(text.into()),
            sha256: sha256_hex(text.as_bytes()),
            bytes: text.len() as u64,
            mode,
        };
        let files = files.iter().map(file).collect();
        Release { id: id.to_owned(), files, fingerprints: BTreeMap::new() }
    }

    struct Host {
        remote: Local,
        layout: Layout,
        _dir: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::new(dir.path().join("the prefix"));
            Self { remote: Local::new("localhost"), layout, _dir: dir }
        }

        async fn survey(&self) -> Survey {
            look(&self.remote, &self.layout, &Questions::default(), SOON).await.unwrap()
        }

        async fn install(&self, release: &Release) -> Shipped {
            let survey = self.survey().await;
            let shipped = ship(&self.remote, &self.layout, release, &survey, SOON, &|_| {});
            let shipped = shipped.await.unwrap();
            switch(&self.remote, &self.layout, &release.id, None, SOON).await.unwrap();
            shipped
        }
    }

    #[tokio::test]
    async fn only_what_the_host_lacks_travels() {
        let host = Host::new();
        let manifest = "tyto-manifest 1\n";
        let one = release(
            "aa11",
            &[
                ("bin/worker", "W", 0o755),
                ("etc/x.yaml", "1", 0o644),
                ("manifest", manifest, 0o644),
            ],
        );
        assert_eq!(host.install(&one).await.files, 3);
        assert_eq!(host.install(&one).await, Shipped::default());
        let two = release(
            "bb22",
            &[
                ("bin/worker", "W", 0o755),
                ("etc/x.yaml", "2", 0o644),
                ("manifest", manifest, 0o644),
            ],
        );
        assert_eq!(missing_bytes(&two, &host.survey().await), 1);
        assert_eq!(host.install(&two).await, Shipped { files: 1, bytes: 1 });
        let program = |id: &str| host.layout.release(id).join("bin/worker").metadata().unwrap();
        assert_eq!(program("aa11").ino(), program("bb22").ino());
        assert_eq!(program("bb22").permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_to_string(host.layout.current().join("etc/x.yaml")).unwrap(), "2");
        assert_eq!(host.survey().await.current.as_deref(), Some("bb22"));
        let mode = host.layout.tls().metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
    }

    #[tokio::test]
    async fn the_last_releases_stay_and_those_in_use() {
        let host = Host::new();
        for id in ["a1", "b2", "c3", "d4"] {
            let file = format!("text of {id}");
            let manifest = ("manifest", "tyto-manifest 1\n", 0o644);
            host.install(&release(id, &[("etc/x", &file, 0o644), manifest])).await;
            let old = std::time::SystemTime::UNIX_EPOCH
                + Duration::from_secs(1_000_000 + u64::from(id.as_bytes()[0]));
            let folder = fs::File::open(host.layout.release(id)).unwrap();
            folder.set_modified(old).unwrap();
        }
        prune(&host.remote, &host.layout, 2, &["a1".to_owned()], SOON).await.unwrap();
        let survey = host.survey().await;
        assert_eq!(survey.releases.keys().collect::<Vec<_>>(), ["a1", "c3", "d4"]);
        assert!(!survey.store.contains(&sha256_hex(b"text of b2")));
        assert!(survey.store.contains(&sha256_hex(b"text of a1")));
    }

    #[tokio::test]
    async fn logs_current_follows_the_logger() {
        let host = Host::new();
        host.install(&release("a1", &[("manifest", "tyto-manifest 1\n", 0o644)])).await;
        for logger in ["logger-1", "logger-2"] {
            switch(&host.remote, &host.layout, "a1", Some(logger), SOON).await.unwrap();
            let target = fs::canonicalize(host.layout.logs_current()).unwrap();
            assert_eq!(target, fs::canonicalize(host.layout.node_spool(logger)).unwrap());
        }
    }

    #[tokio::test]
    async fn a_release_that_is_not_whole_never_becomes_current_and_is_put_together_again() {
        let host = Host::new();
        let manifest = format!("tyto-manifest 1\nfile 644 {} etc/x\n", sha256_hex(b"1"));
        let release = release("a1", &[("etc/x", "1", 0o644), ("manifest", &manifest, 0o644)]);
        host.install(&release).await;
        fs::remove_file(host.layout.release("a1").join("etc/x")).unwrap();
        let refused = switch(&host.remote, &host.layout, "a1", None, SOON).await.unwrap_err();
        assert!(refused.to_string().contains("release a1 is not whole"), "{refused}");
        assert!(!host.survey().await.releases.contains_key("a1"));
        host.install(&release).await;
        assert_eq!(fs::read_to_string(host.layout.release("a1").join("etc/x")).unwrap(), "1");
        assert!(host.survey().await.releases.contains_key("a1"));
    }
}
