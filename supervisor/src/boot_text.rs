//! What init systems are given so that a host's supervisor starts at boot: text in, text out.
//! Sources: systemd.service(5), systemd.exec(5), systemd.resource-control(5), crontab(5).

use std::path::Path;

use crate::limits::OWN_GROUP;

/// Whose systemd runs the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    /// The host's own.
    System,
    /// That of one user; it runs at boot when the user lingers.
    User,
}

impl Manager {
    /// The target that wants the unit at boot.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::System => "multi-user.target",
            Self::User => "default.target",
        }
    }
}

/// The name of a cluster's unit, and the mark of its line in a crontab.
pub(crate) fn name(cluster: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    format!("tyto-{}", cluster.chars().map(plain).collect::<String>())
}

/// The unit of a cluster's supervisor on this host.
pub(crate) fn unit(cluster: &str, prefix: &Path, manager: Manager) -> String {
    let program = systemd_word(&prefix.join("current/bin/supervisor").to_string_lossy());
    let folder = systemd_word(&prefix.to_string_lossy());
    let network = match manager {
        Manager::System => "Wants=network-online.target\nAfter=network-online.target\n",
        Manager::User => "", // another manager's target
    };
    let target = manager.target();
    format!(
        "# Written by `ctl install --boot`; `ctl install --no-boot` removes it.\n\
         [Unit]\n\
         Description=Tyto supervisor of cluster {cluster}\n\
         {network}\
         RequiresMountsFor={folder}\n\
         # Tried for ever: the supervisor's own guard may have been faster.\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=simple\n\
         ExecStart={program} stand-by --prefix {folder}\n\
         Restart=always\n\
         RestartSec=1\n\
         # Nodes outlive their supervisor: they are stopped by ctl alone.\n\
         KillMode=process\n\
         TimeoutStopSec=15\n\
         # A group per node below ours bounds its memory; one that ran out costs itself only.\n\
         Delegate=yes\n\
         DelegateSubgroup={OWN_GROUP}\n\
         OOMPolicy=continue\n\
         LimitCORE=infinity\n\
         TasksMax=infinity\n\
         \n\
         [Install]\n\
         WantedBy={target}\n"
    )
}

/// The line of a crontab that starts a cluster's supervisor at boot.
pub(crate) fn cron_line(cluster: &str, prefix: &Path) -> String {
    let program = cron_word(&prefix.join("current/bin/supervisor").to_string_lossy());
    let folder = cron_word(&prefix.to_string_lossy());
    let mark = mark(cluster);
    format!("@reboot {program} start --prefix {folder} >/dev/null 2>&1 {mark}")
}

/// Whether a crontab starts the cluster's supervisor.
pub(crate) fn has_line(crontab: &str, cluster: &str) -> bool {
    crontab.lines().any(|line| is_ours(line, cluster))
}

/// The crontab with the cluster's line as it should be, once; all others stay as they are.
pub(crate) fn with_line(crontab: &str, cluster: &str, prefix: &Path) -> String {
    let line = cron_line(cluster, prefix);
    let ours: Vec<&str> = crontab.lines().filter(|line| is_ours(line, cluster)).collect();
    if ours == [line.as_str()] {
        return crontab.to_owned();
    }
    format!("{}{line}\n", without_line(crontab, cluster))
}

/// The crontab without the cluster's line.
pub(crate) fn without_line(crontab: &str, cluster: &str) -> String {
    let others = crontab.lines().filter(|line| !is_ours(line, cluster));
    others.map(|line| format!("{line}\n")).collect()
}

fn is_ours(line: &str, cluster: &str) -> bool {
    line.ends_with(&mark(cluster))
}

fn mark(cluster: &str) -> String {
    format!("# {}", name(cluster))
}

/// One word of a unit's command line: in double quotes, with nothing for systemd to expand.
fn systemd_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('%', "%%").replace('$', "$$"))
}

/// One word of a crontab's command: quoted for sh, and `%`, which cron takes for a line's end,
/// with a backslash.
fn cron_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''").replace('%', r"\%"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_unit_starts_what_is_current_and_leaves_nodes_alone() {
        let text = unit("lab", Path::new("/opt/tyto"), Manager::System);
        for line in [
            "ExecStart=/opt/tyto/current/bin/supervisor stand-by --prefix /opt/tyto",
            "Restart=always",
            "KillMode=process",
            "Delegate=yes",
            "WantedBy=multi-user.target",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        let text = unit("lab", Path::new("/home/a b/tyto"), Manager::User);
        assert!(text.contains("--prefix \"/home/a b/tyto\""), "{text}");
        assert!(text.contains("WantedBy=default.target"), "{text}");
        assert!(!text.contains("network-online"), "the user's manager has no such target");
    }

    /// systemd itself is the judge, where its tools are on this machine.
    #[test]
    fn systemd_takes_the_unit_and_can_enable_it() {
        let dir = tempfile::tempdir().unwrap();
        let units = dir.path().join("etc/systemd/system");
        fs::create_dir_all(&units).unwrap();
        let path = units.join("tyto-lab.service");
        let prefix = dir.path().join("pre fix");
        let program = prefix.join("current/bin/supervisor");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::copy("/bin/true", &program).unwrap();
        fs::write(&path, unit("lab", &prefix, Manager::System)).unwrap();
        let verify = Command::new("systemd-analyze").arg("verify").arg(&path).output();
        let enable = Command::new("systemctl")
            .arg(format!("--root={}", dir.path().display()))
            .args(["enable", "tyto-lab.service"])
            .output();
        let (Ok(verify), Ok(enable)) = (verify, enable) else { return };
        // Older ones do not know DelegateSubgroup= and ignore it.
        let said = String::from_utf8_lossy(&verify.stderr);
        let faults = said.lines().filter(|l| l.contains("tyto-lab") && !l.contains("Subgroup"));
        assert_eq!(faults.collect::<Vec<_>>(), [""; 0]);
        assert!(enable.status.success(), "{}", String::from_utf8_lossy(&enable.stderr));
        let link = units.join("multi-user.target.wants/tyto-lab.service");
        assert!(fs::symlink_metadata(link).is_ok());
    }

    #[test]
    fn a_crontab_gets_one_line_and_loses_only_that() {
        let others = "MAILTO=me\n0 4 * * * backup # tyto-labor\n";
        let once = with_line(others, "lab", Path::new("/opt/tyto"));
        assert_eq!(
            once,
            format!(
                "{others}@reboot /opt/tyto/current/bin/supervisor start --prefix /opt/tyto \
                 >/dev/null 2>&1 # tyto-lab\n"
            )
        );
        assert_eq!(with_line(&once, "lab", Path::new("/opt/tyto")), once);
        assert!(has_line(&once, "lab") && !has_line(others, "lab"));
        let moved = with_line(&once, "lab", Path::new("/srv/tyto"));
        assert_eq!(moved.matches("@reboot").count(), 1);
        assert!(moved.contains("/srv/tyto/current"), "{moved}");
        assert_eq!(without_line(&once, "lab"), others);
    }

    /// crontab(5): an unescaped `%` ends the command.
    #[test]
    fn awkward_folders_stay_one_word() {
        let line = cron_line("x y", Path::new("/a b/100%"));
        assert!(line.starts_with(r"@reboot '/a b/100\%/current/bin/supervisor' start"), "{line}");
        assert!(line.ends_with("# tyto-x_y"), "{line}");
        let text = unit("x", Path::new("/a$b/100%"), Manager::System);
        assert!(text.contains("--prefix \"/a$$b/100%%\""), "{text}");
    }
}
