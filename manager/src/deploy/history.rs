//! What was deployed when, by whom, and what came of it: one file per change in `PREFIX/history`
//! on the host of the manager (or standalone node), so that all operators see the same. Keys,
//! certificates and values that look like secrets do not go there.
//!
//! A file is two lines of JSON: the [`Entry`], then the operator's files as they were
//! ([`Files`]). Written before the first change is made and again when all is over: an entry
//! without an end belongs to a ctl that is at work, or was cut off.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tyto_core::config::cluster::Cluster;

use super::changes::{HIDDEN, is_secret};
use super::plan::Plan;
use super::plan_text;
use crate::context::{Context, NETWORKS_CFG, NODE_CFG, TYTO_YAML};
use crate::hosts::{Host, Hosts};
use crate::lock::Holder;
use crate::remote::Input;
use crate::remote::error::RemoteError;
use crate::remote::shell::quote_path;

/// Entries that are kept; the oldest go first.
pub const ENTRIES_MAX: u32 = 100;
/// Starts the line before each entry; JSON has none such.
const MARK: &str = "#tyto entry ";

/// One change of the cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Its number; the name of its file.
    pub id: u64,
    /// What was typed.
    pub command: String,
    /// Who, such as `alice@ops1`.
    pub who: String,
    /// Version of that ctl.
    pub version: String,
    /// When it began, RFC 3339.
    pub began: Option<String>,
    /// When it was over; none while it is at work, or when it was cut off.
    pub ended: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it failed.
    pub failures: Vec<String>,
    /// Release per host, before and after.
    pub releases: BTreeMap<String, Switched>,
    /// Keys that changed, as `key: old -> new`.
    pub keys: Vec<String>,
    /// Nodes that were to be started or restarted.
    pub nodes: Vec<String>,
    /// The plan in words.
    pub plan: Vec<String>,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// At work, or cut off.
    #[default]
    Unfinished,
    /// All of it was done.
    Done,
    /// It failed on the way; see the failures.
    Failed,
}

impl Outcome {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unfinished => "unfinished",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// The release of a host before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Switched {
    /// Before; none on a host that had none.
    pub from: Option<String>,
    /// After.
    pub to: String,
}

/// The operator's files as they were, by name.
pub type Files = BTreeMap<String, String>;

/// Where the history is.
#[derive(Debug)]
pub struct History {
    host: Host,
}

impl History {
    /// The history of the cluster; none when node.cfg has no host for it.
    ///
    /// # Errors
    /// When SSH cannot be prepared on this machine.
    pub fn of(ctx: &Context) -> Result<Option<Self>, RemoteError> {
        let Some(head) = ctx.cluster.head() else { return Ok(None) };
        let hosts = Hosts::named(ctx, vec![head.host.clone()])?;
        Ok(hosts.find(&head.host).map(|host| Self { host: host.clone() }))
    }

    /// Adds an entry and gives it its number; the oldest go.
    ///
    /// # Errors
    /// When the host cannot be reached or written.
    pub async fn begin(&self, entry: &mut Entry, files: &Files) -> Result<(), RemoteError> {
        // The number is made there: entries of all operators count in one row. `ln` fails when
        // another one took the number meanwhile.
        let script = format!(
            "umask 077; mkdir -p {dir} && cd {dir} || exit 1; t=.new.$$; trap 'rm -f \"$t\"' EXIT\n\
             cat >\"$t\" || exit 1; n=0\n\
             for f in *.json; do i=${{f%.json}}; [ \"$i\" -gt \"$n\" ] 2>/dev/null && n=$i; done\n\
             until n=$((n+1)); ln \"$t\" \"$n.json\" 2>/dev/null; do [ -e \"$n.json\" ] || exit 1; done\n\
             for f in *.json; do i=${{f%.json}}; \
             [ \"$i\" -gt $((n-{ENTRIES_MAX})) ] 2>/dev/null || rm -f \"$f\"; done\n\
             echo \"$n\"",
            dir = quote_path(&self.host.layout.history()),
        );
        let text = text_of(entry, files);
        let output = self.run(&script, Input::Bytes(text.as_bytes())).await?;
        entry.id = output.trim().parse().unwrap_or_default();
        Ok(())
    }

    /// Writes an entry anew, by its number.
    ///
    /// # Errors
    /// When the host cannot be reached or written.
    pub async fn end(&self, entry: &Entry, files: &Files) -> Result<(), RemoteError> {
        let script = format!(
            "umask 077; cd {dir} || exit 1; cat >.new.$$ && mv -f .new.$$ {id}.json",
            dir = quote_path(&self.host.layout.history()),
            id = entry.id,
        );
        let text = text_of(entry, files);
        self.run(&script, Input::Bytes(text.as_bytes())).await.map(|_| ())
    }

    /// All entries, the oldest first.
    ///
    /// # Errors
    /// When the host cannot be reached.
    pub async fn entries(&self) -> Result<Vec<Entry>, RemoteError> {
        let script = format!(
            "cd {} 2>/dev/null || exit 0; for f in *.json; do [ -s \"$f\" ] || continue; \
             printf '{MARK}%s\\n' \"${{f%.json}}\"; head -n 1 \"$f\"; done",
            quote_path(&self.host.layout.history())
        );
        let mut entries = parse(&self.run(&script, Input::None).await?);
        entries.sort_by_key(|entry| entry.id);
        Ok(entries)
    }

    /// The last entry; none when there is none.
    ///
    /// # Errors
    /// When the host cannot be reached.
    pub async fn last(&self) -> Result<Option<Entry>, RemoteError> {
        let script = format!(
            "cd {} 2>/dev/null || exit 0; n=0; for f in *.json; do i=${{f%.json}}; \
             [ \"$i\" -gt \"$n\" ] 2>/dev/null && n=$i; done; [ -s \"$n.json\" ] || exit 0; \
             printf '{MARK}%s\\n' \"$n\"; head -n 1 \"$n.json\"",
            quote_path(&self.host.layout.history())
        );
        Ok(parse(&self.run(&script, Input::None).await?).pop())
    }

    /// One entry with the files as they were; none when it is not there (any more).
    ///
    /// # Errors
    /// When the host cannot be reached.
    pub async fn entry(&self, id: u64) -> Result<Option<(Entry, Files)>, RemoteError> {
        let path = self.host.layout.history().join(format!("{id}.json"));
        let script = format!("cat {} 2>/dev/null || :", quote_path(&path));
        let text = self.run(&script, Input::None).await?;
        let mut lines = text.lines();
        let entry = lines.next().and_then(|line| serde_json::from_str(line).ok());
        let files = lines.next().and_then(|line| serde_json::from_str(line).ok());
        Ok(entry.map(|entry: Entry| (Entry { id, ..entry }, files.unwrap_or_default())))
    }

    async fn run(&self, script: &str, input: Input<'_>) -> Result<String, RemoteError> {
        let output =
            self.host.remote.must("use the history", script, input, self.host.deadline).await?;
        Ok(output.stdout_text())
    }
}

impl Entry {
    /// A change that this ctl is about to make.
    pub fn of(plan: &Plan) -> Self {
        let this = Holder::this();
        let switched = |host: &super::plan::HostChange| {
            let switched = Switched { from: host.from.clone(), to: host.to.clone() };
            (host.host.to_string(), switched)
        };
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
        let key = |change: &super::changes::Change| {
            format!("{}: {} -> {}", change.key, value(&change.old), value(&change.new))
        };
        Self {
            who: this.who(),
            command: this.command,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began: Some(Timestamp::now().to_string()),
            releases: plan.hosts.iter().map(switched).collect(),
            keys: plan.changes.iter().map(key).collect(),
            nodes: plan.nodes.iter().map(|node| node.member.node.clone()).collect(),
            plan: plan_text::lines(plan),
            ..Self::default()
        }
    }
}

fn text_of(entry: &Entry, files: &Files) -> String {
    // Neither holds a key that is no text, so both become JSON.
    let json = |value: serde_json::Result<Value>| value.unwrap_or_default().to_string();
    format!("{}\n{}\n", json(serde_json::to_value(entry)), json(serde_json::to_value(files)))
}

fn parse(answer: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for part in answer.split(MARK).skip(1) {
        let (id, text) = part.split_once('\n').unwrap_or((part, ""));
        // A file that somebody put there has no number, and one of another form no entry.
        if let (Ok(id), Ok(entry)) = (id.parse(), serde_json::from_str::<Entry>(text.trim())) {
            entries.push(Entry { id, ..entry });
        }
    }
    entries
}

/// The operator's files as they are, without values that look like secrets.
pub fn files_of(etc: &Path, cluster: &Cluster) -> Files {
    let mut files = Files::new();
    for name in [NODE_CFG, NETWORKS_CFG, TYTO_YAML] {
        if let Ok(text) = std::fs::read_to_string(etc.join(name)) {
            files.insert(name.to_owned(), without_secrets(text, cluster));
        }
    }
    files
}

fn without_secrets(mut text: String, cluster: &Cluster) -> String {
    let own = cluster.nodes.iter().flat_map(|node| &node.env);
    for (name, value) in own.chain(&cluster.settings.env_vars) {
        if is_secret(name) && !value.is_empty() {
            text = text.replace(value.as_str(), HIDDEN);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::time::Duration;

    use tyto_core::config::cluster::{ConfigFile, ConfigFiles};
    use tyto_core::layout::Layout;

    use super::*;
    use crate::remote::local::Local;

    fn history(prefix: &Path) -> History {
        let host = Host {
            name: "localhost".into(),
            remote: Arc::new(Local::new("localhost")),
            layout: Layout::new(prefix),
            deadline: Duration::from_secs(20),
        };
        History { host }
    }

    fn entry(command: &str) -> Entry {
        Entry { command: command.to_owned(), who: "alice@ops1".to_owned(), ..Entry::default() }
    }

    #[tokio::test]
    async fn entries_are_numbered_kept_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let history = history(&dir.path().join("it's"));
        assert!(history.entries().await.unwrap().is_empty());
        let files = Files::from([(NODE_CFG.to_owned(), "[w]\n# ü 'x'\n".to_owned())]);
        let (mut first, mut second) = (entry("ctl deploy"), entry("ctl rollback"));
        history.begin(&mut first, &files).await.unwrap();
        history.begin(&mut second, &Files::new()).await.unwrap();
        assert_eq!((first.id, second.id), (1, 2));
        first.outcome = Outcome::Done;
        history.end(&first, &files).await.unwrap();
        let all = history.entries().await.unwrap();
        let told: Vec<_> = all.iter().map(|e| (e.id, e.command.as_str(), e.outcome)).collect();
        assert_eq!(
            told,
            [(1, "ctl deploy", Outcome::Done), (2, "ctl rollback", Outcome::Unfinished)]
        );
        assert_eq!(history.last().await.unwrap().map(|e| e.id), Some(2));
        let (_, read) = history.entry(1).await.unwrap().unwrap();
        assert_eq!(read, files);
        assert!(history.entry(3).await.unwrap().is_none());
        let folder = history.host.layout.history();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("1.json"))), (0o700, 0o600));
    }

    #[tokio::test]
    async fn the_oldest_entries_go() {
        let dir = tempfile::tempdir().unwrap();
        let history = history(dir.path());
        let folder = history.host.layout.history();
        fs::create_dir(&folder).unwrap();
        for id in [7_u32, 8, 9 + ENTRIES_MAX - 2] {
            fs::write(folder.join(format!("{id}.json")), text_of(&entry("x"), &Files::new()))
                .unwrap();
        }
        let mut new = entry("ctl deploy");
        history.begin(&mut new, &Files::new()).await.unwrap();
        let left: Vec<u64> = history.entries().await.unwrap().iter().map(|e| e.id).collect();
        let last = u64::from(ENTRIES_MAX) + 8;
        assert_eq!(left, [last - 1, last]);
    }

    #[test]
    fn values_that_look_like_secrets_are_left_out() {
        let text = "[s]\ntype=standalone\nhost=localhost\ninterface=eth0\n\
                    env_vars=API_TOKEN=hunter2,TZ=UTC\n";
        let nodes = ConfigFile { name: NODE_CFG, text };
        let cluster = Cluster::load(ConfigFiles { nodes, networks: None, settings: None }).unwrap();
        let shown = without_secrets(text.to_owned(), &cluster);
        assert!(shown.contains("env_vars=API_TOKEN=(hidden),TZ=UTC"), "{shown}");
    }
}
