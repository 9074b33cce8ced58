//! `logs/current`: where the files being written are, for people.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use crate::disk::Disk;
use crate::store::StoreOptions;

/// Folder of links to the folders of all loggers of the host, beside those.
const ALL_LOGGERS: &str = ".loggers";

/// Points `logs/current` at the files being written; with other loggers on the host, at a folder
/// with a link for each of them. Logs are written without it as well.
pub(crate) fn link_current(disk: &dyn Disk, options: &StoreOptions) {
    // Another logger that starts at this moment sees us, or we see it, the second time at least.
    for _ in 0..2 {
        if let Err(error) = try_link_current(disk, options) {
            let link = options.logs.join("current");
            tracing::warn!(link = %link.display(), %error, "cannot link the current logs");
            return;
        }
    }
}

fn try_link_current(disk: &dyn Disk, options: &StoreOptions) -> io::Result<()> {
    let link = options.logs.join("current");
    let own = options.folder.file_name().filter(|_| {
        options.folder.parent().and_then(Path::parent) == options.logs.parent()
            && options.folder.parent().is_some_and(|spool| spool.ends_with("spool"))
    });
    let (Some(own), Some(spool)) = (own, options.folder.parent()) else {
        return link_to(disk, &link, &options.folder);
    };
    let mut others = Vec::new();
    if options.config.name_in_archive {
        for name in disk.read_dir(spool)? {
            if name != own && disk.exists(&spool.join(&name).join("journal"))? {
                others.push(name);
            }
        }
    }
    if others.is_empty() {
        return link_to(disk, &link, &Path::new("../spool").join(own));
    }
    disk.create_dir_all(&spool.join(ALL_LOGGERS))?;
    for name in others.iter().map(AsRef::as_ref).chain([own]) {
        link_to(disk, &spool.join(ALL_LOGGERS).join(name), &Path::new("..").join(name))?;
    }
    link_to(disk, &link, &Path::new("../spool").join(ALL_LOGGERS))
}

/// Makes a link, in place of another.
fn link_to(disk: &dyn Disk, link: &Path, target: &Path) -> io::Result<()> {
    if disk.read_link(link).is_ok_and(|found| found == *target) {
        return Ok(());
    }
    let mut name = OsString::from(".");
    name.push(link.file_name().unwrap_or_default());
    name.push(".new");
    let beside = link.with_file_name(name);
    match disk.remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => disk.symlink(target, &beside)?,
    }
    disk.rename(&beside, link)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tyto_core::config::logs::LogsConfig;
    use tyto_core::time::{NANOS, Ts};

    use super::*;
    use crate::LogStore;

    fn options(prefix: &Path) -> StoreOptions {
        StoreOptions {
            logger: "logger".into(),
            folder: prefix.join("spool/logger"),
            logs: prefix.join("logs"),
            config: LogsConfig::default(),
            zone: jiff::tz::TimeZone::UTC,
        }
    }

    fn open(options: &StoreOptions) {
        LogStore::open(options.clone(), Box::new(|| Ts(3_700 * NANOS))).unwrap();
    }

    #[test]
    fn current_points_at_the_files_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        open(&options);
        let link = fs::read_link(options.logs.join("current")).unwrap();
        assert_eq!(link, Path::new("../spool/logger"));
    }

    #[test]
    fn current_leads_to_all_loggers_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = options(dir.path());
        one.config.name_in_archive = true;
        let mut two = one.clone();
        (two.logger, two.folder) = ("logger-2".to_owned(), dir.path().join("spool/logger-2"));
        open(&one);
        let current = dir.path().join("logs/current");
        assert_eq!(fs::read_link(&current).unwrap(), Path::new("../spool/logger"));
        open(&two);
        for name in ["logger", "logger-2"] {
            assert!(current.join(name).join("journal").exists(), "{name}");
        }
        one.config.name_in_archive = false;
        open(&one);
        assert!(current.join("journal").exists());
    }
}
