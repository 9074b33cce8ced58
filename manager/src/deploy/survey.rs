//! What a host has, found out in one call that changes nothing there: architecture, room,
//! rights, interfaces, releases, certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tyto_core::layout::Layout;

use super::bundle::Manifest;
use super::facts::{self, ClockOffset, Facts, Reading};
use super::ship;
use crate::remote::error::RemoteError;
use crate::remote::shell::{quote, quote_path};
use crate::remote::{Input, Remote};

/// Starts a line that is ours in the answer of a host; certificates and manifests have none such.
const MARK: &str = "#tyto ";

/// What to look for on a host.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// Nodes whose certificates are wanted.
    pub nodes: Vec<String>,
    /// Interfaces that must be there.
    pub interfaces: Vec<String>,
    /// Ports that nodes of the host listen on.
    pub ports: Vec<u16>,
}

/// What a host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Its architecture as `uname -m` tells it.
    pub machine: String,
    /// Free room below the prefix, bytes; none when the host did not tell.
    pub free_bytes: Option<u64>,
    /// A folder that would have to be writable and is not.
    pub unwritable: Option<String>,
    /// Interfaces asked for that are not there.
    pub missing_interfaces: Vec<String>,
    /// Small tools that are not there.
    pub missing_tools: Vec<String>,
    /// Id of the release in use.
    pub current: Option<String>,
    /// The releases it has, by id.
    pub releases: BTreeMap<String, Manifest>,
    /// Hashes of the files it has.
    pub store: BTreeSet<String>,
    /// Certificates of the CAs that it trusts, PEM.
    pub ca: Option<String>,
    /// What the CA that it holds has hosts trust, PEM: its own certificate, during a rotation
    /// also another one; the first one signs. On the manager's host only.
    pub own_ca: Option<String>,
    /// Certificates of its nodes.
    pub certs: BTreeMap<String, HostCert>,
    /// What it is, beside what Tyto has put there.
    pub facts: Facts,
}

/// A certificate on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCert {
    /// PEM.
    pub pem: String,
    /// When the file was put there, by the host's clock.
    pub since: SystemTime,
    /// Its key is there too.
    pub has_key: bool,
}

/// Looks at a host.
///
/// # Errors
/// When it cannot be reached or its shell does not do as it should.
pub async fn look(
    remote: &dyn Remote,
    layout: &Layout,
    questions: &Questions,
    deadline: Duration,
) -> Result<Survey, RemoteError> {
    let script = script(layout, questions);
    let sent = jiff::Timestamp::now().into();
    let output = remote.must("look at the host", &script, Input::None, deadline).await?;
    let received = jiff::Timestamp::now().into();
    let (mut survey, clock) = parse(&output.stdout_text());
    let offset = |reading: Reading| ClockOffset::from_reading(&reading, sent, received);
    survey.facts.clock = clock.map(offset);
    Ok(survey)
}

fn script(layout: &Layout, questions: &Questions) -> String {
    let list = |words: &[String]| words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ");
    let mut text = format!("p={}\n", quote_path(layout.prefix()));
    text.push_str("say() { printf '#tyto %s\\n' \"$*\"; }\n");
    text.push_str(facts::CLOCK_SCRIPT);
    // A release that was copied by half counts as none: it is put together again.
    text.push_str(ship::WHOLE);
    text.push('\n');
    text.push_str(
        r##"say machine "$(uname -m)"
for t in cat chmod cp cut date df dirname find id ln ls mkdir mv readlink rm sed sha256sum stat \
  tail touch; do
  command -v "$t" >/dev/null 2>&1 || say no-tool "$t"
done
d=$p; while [ ! -e "$d" ] && [ -n "$d" ]; do d=${d%/*}; done; d=${d:-/}
for w in "$d" "$p/releases" "$p/etc" "$p/spool" "$p/run" "$p/logs"; do
  [ ! -e "$w" ] || [ -w "$w" ] || { say unwritable "$w"; break; }
done
set -- $(df -Pk "$d" 2>/dev/null | tail -n 1); say free-kib "${4:-}"; mp=${6:-}
c=$(readlink "$p/current" 2>/dev/null) && say current "${c##*/}"
for m in "$p"/releases/*/manifest; do
  r=${m%/manifest}; whole "$r" || continue
  say release "${r##*/}"; cat "$m"
done
for f in "$p"/releases/.store/*; do [ -s "$f" ] && say has "${f##*/}"; done
[ -f "$p/etc/tls/ca.pem" ] && { say ca; cat "$p/etc/tls/ca.pem"; }
[ -s "$p/ca/ca.key" ] && [ -s "$p/ca/ca.pem" ] && {
  say own-ca; cat "$p/ca/trust.pem" 2>/dev/null || cat "$p/ca/ca.pem"
}
"##,
    );
    if !questions.interfaces.is_empty() {
        text.push_str(&format!(
            "for i in {}; do [ -e \"/sys/class/net/$i\" ] || say no-interface \"$i\"; done\n",
            list(&questions.interfaces)
        ));
    }
    if !questions.nodes.is_empty() {
        text.push_str(&format!("for n in {}; do\n", list(&questions.nodes)));
        text.push_str(
            r##"  f=$p/etc/tls/$n.pem; [ -f "$f" ] || continue
  k=no; [ -s "$p/etc/tls/$n.key" ] && k=yes
  say cert "$n" "$(stat -c %Y "$f" 2>/dev/null || echo 0)" "$k"; cat "$f"
done
"##,
        );
    }
    text.push_str(&facts::script(questions));
    text.push_str("exit 0\n");
    text
}

/// What the following lines without a mark belong to.
enum Section {
    Nothing,
    Release(String),
    Ca,
    OwnCa,
    Cert(String),
}

fn parse(answer: &str) -> (Survey, Option<Reading>) {
    let mut survey = Survey::default();
    let mut clock = None;
    let mut section = Section::Nothing;
    let mut body = String::new();
    for line in answer.lines() {
        let Some(fact) = line.strip_prefix(MARK) else {
            body.push_str(line);
            body.push('\n');
            continue;
        };
        survey.take(std::mem::replace(&mut section, Section::Nothing), &body);
        body.clear();
        let (word, rest) = fact.split_once(' ').unwrap_or((fact, ""));
        let rest = rest.trim().to_owned();
        match word {
            "machine" => survey.machine = rest,
            "no-tool" => survey.missing_tools.push(rest),
            "unwritable" => survey.unwritable = Some(rest),
            "free-kib" => survey.free_bytes = rest.parse::<u64>().ok().map(|kib| kib * 1024),
            "no-interface" => survey.missing_interfaces.push(rest),
            "current" => survey.current = Some(rest),
            "has" => drop(survey.store.insert(rest)),
            "release" => section = Section::Release(rest),
            "ca" => section = Section::Ca,
            "own-ca" => section = Section::OwnCa,
            "cert" => section = survey.begin_cert(&rest),
            "clock" => clock = Reading::parse(&rest),
            other => survey.facts.take(other, &rest),
        }
    }
    survey.take(section, &body);
    (survey, clock)
}

impl Survey {
    fn begin_cert(&mut self, rest: &str) -> Section {
        let mut words = rest.split(' ');
        let node = words.next().unwrap_or_default().to_owned();
        let seconds = words.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let since = UNIX_EPOCH + Duration::from_secs(seconds);
        let has_key = words.next() == Some("yes");
        self.certs.insert(node.clone(), HostCert { pem: String::new(), since, has_key });
        Section::Cert(node)
    }

    fn take(&mut self, section: Section, body: &str) {
        match section {
            Section::Nothing => {}
            Section::Release(id) => drop(self.releases.insert(id, Manifest::read(body))),
            Section::Ca => self.ca = Some(body.to_owned()),
            Section::OwnCa => self.own_ca = Some(body.to_owned()),
            Section::Cert(node) => {
                if let Some(cert) = self.certs.get_mut(&node) {
                    cert.pem = body.to_owned();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::remote::local::Local;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_host_without_anything_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("not yet/here"));
        let questions = Questions {
            nodes: vec!["w".into()],
            interfaces: vec!["lo".into(), "nope0".into()],
            ports: vec![],
        };
        let here = Local::new("localhost");
        let survey = look(&here, &layout, &questions, SOON).await.unwrap();
        assert_eq!(survey.machine, std::env::consts::ARCH);
        assert_eq!(survey.missing_interfaces, ["nope0"]);
        assert!(survey.missing_tools.is_empty(), "{:?}", survey.missing_tools);
        assert_eq!((survey.unwritable, survey.current, survey.ca), (None, None, None));
        assert!(survey.free_bytes.unwrap() > 0);
        assert!(!dir.path().join("not yet").exists());
    }

    #[tokio::test]
    async fn releases_store_and_certificates_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.release("aa")).unwrap();
        fs::create_dir_all(layout.releases().join(".store")).unwrap();
        fs::create_dir_all(layout.tls()).unwrap();
        fs::write(layout.release("aa").join("manifest"), "tyto-manifest 1\nnode 77 w\n").unwrap();
        fs::write(layout.releases().join(".store/abc"), "x").unwrap();
        fs::write(layout.ca_cert(), "CA\n").unwrap();
        fs::write(layout.node_cert("w"), "CERT\n").unwrap();
        std::os::unix::fs::symlink("releases/aa", layout.current()).unwrap();
        let questions = Questions { nodes: vec!["w".into()], ..Questions::default() };
        let here = Local::new("localhost");
        let survey = look(&here, &layout, &questions, SOON).await.unwrap();
        assert_eq!(survey.current.as_deref(), Some("aa"));
        assert_eq!(survey.releases["aa"].fingerprints["w"], "77");
        assert_eq!(survey.store, ["abc".to_owned()].into());
        assert_eq!((survey.ca.as_deref(), survey.own_ca), (Some("CA\n"), None));
        let cert = &survey.certs["w"];
        assert_eq!((cert.pem.as_str(), cert.has_key), ("CERT\n", false));
        assert!(cert.since > UNIX_EPOCH);
    }
}
