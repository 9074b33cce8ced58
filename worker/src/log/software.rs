//! `software.log`: programs that showed themselves in what they sent. Of each local host a row
//! per program, again when its version changes or a day went by; in a cluster, a version once a
//! day among all workers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hashbrown::HashMap;
use tyto_core::net::Port;
use tyto_core::record::LogRecord;
use tyto_core::record::value::EnumName;
use tyto_core::time::{Interval, Ts};

use super::notice::Notice;
use super::software_version::{self, Description, Version};
use crate::analyzer::Cx;
use crate::analyzer::state::Shared;
use crate::decode::addr::Addr;
use crate::flow::hash::KeyedHasher;
use crate::output::{Claim, ClaimKey, Output};

/// Texts whose name and version are remembered, so that they are not taken apart for each
/// request. At the limit all are forgotten.
const PARSED_MAX: usize = 4096;
/// What is known of a host is forgotten after this, seconds (Zeek: `create_expire=1day`).
const HOST_LIFE_S: u64 = 86_400;
/// Hosts whose programs are remembered. At the limit all are forgotten, and told again.
const HOSTS_MAX: usize = 1 << 16;
/// Programs of one host that are remembered. Further ones are told each time.
const PROGRAMS_MAX: usize = 256;
/// Bytes of what a program says of itself that are looked at.
const UNPARSED_MAX: usize = 4096;

/// A program on a host.
#[derive(Debug, LogRecord)]
#[log(stream = "software")]
pub struct SoftwareLog {
    /// When it showed itself.
    pub ts: Ts,
    /// Where it runs.
    pub host: IpAddr,
    /// Its port, of servers.
    pub host_p: Option<Port>,
    /// Kind: `HTTP::SERVER`.
    pub software_type: EnumName,
    /// Its name.
    pub name: Option<Vec<u8>>,
    /// Its version.
    #[log(nested)]
    pub version: Version,
    /// What it said of itself.
    pub unparsed_version: Option<Vec<u8>>,
}

/// What a protocol says of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftwareSeen<'a> {
    /// Kind, such as `HTTP::SERVER`.
    pub software_type: &'static str,
    /// Where it runs.
    pub host: IpAddr,
    /// Its port, of servers.
    pub host_p: Option<u16>,
    /// What it said of itself, to be taken apart into name and version.
    pub unparsed_version: &'a [u8],
}

/// The programs that are known by host.
#[derive(Debug)]
pub struct KnownSoftware {
    parsed: HashMap<Vec<u8>, Description, KeyedHasher>,
    hosts: HashMap<Addr, Host, KeyedHasher>,
    forgotten: u64,
}

#[derive(Debug)]
struct Host {
    since: Ts,
    programs: BTreeMap<Vec<u8>, Program>,
}

/// The version of a program that was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Program {
    version: Version,
    software_type: &'static str,
}

/// What a table says of a program.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    /// Told already.
    Told,
    /// Not yet.
    New,
    /// Not yet; another version of it was.
    Changed(Program),
}

impl KnownSoftware {
    /// Nothing is known; tables are hashed with `hasher_of`.
    pub fn new(hasher_of: &impl Fn(u64) -> KeyedHasher) -> Self {
        Self {
            parsed: HashMap::with_hasher(hasher_of(14)),
            hosts: HashMap::with_hasher(hasher_of(15)),
            forgotten: 0,
        }
    }

    /// Hosts forgotten at the limit.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Takes `text` apart and puts the program in; gives name and version unless they were told.
    fn add_unparsed(
        &mut self,
        host: Addr,
        software_type: &'static str,
        text: &[u8],
        now: Ts,
    ) -> Option<(Description, Known)> {
        if !self.parsed.contains_key(text) {
            if self.parsed.len() >= PARSED_MAX {
                self.parsed.clear();
            }
            self.parsed.insert(text.to_vec(), software_version::parse(text));
        }
        let description = self.parsed.get(text)?;
        let known =
            add(&mut self.hosts, &mut self.forgotten, host, software_type, description, now);
        (known != Known::Told).then(|| (description.clone(), known))
    }

    /// Puts a program in; gives its name and version unless they were told.
    fn add(
        &mut self,
        host: Addr,
        software_type: &'static str,
        description: Description,
        now: Ts,
    ) -> Option<(Description, Known)> {
        let (hosts, forgotten) = (&mut self.hosts, &mut self.forgotten);
        let known = add(hosts, forgotten, host, software_type, &description, now);
        (known != Known::Told).then_some((description, known))
    }
}

fn add(
    hosts: &mut HashMap<Addr, Host, KeyedHasher>,
    forgotten: &mut u64,
    host: Addr,
    software_type: &'static str,
    description: &Description,
    now: Ts,
) -> Known {
    let life = Interval::from_secs(HOST_LIFE_S.cast_signed());
    if hosts.len() >= HOSTS_MAX && !hosts.contains_key(&host) {
        *forgotten += hosts.len() as u64;
        hosts.clear();
    }
    let fresh = || Host { since: now, programs: BTreeMap::new() };
    let host = hosts.entry(host).or_insert_with(fresh);
    if now.since(host.since) >= life {
        *host = fresh();
    }
    let found = || Program { version: description.version.clone(), software_type };
    match host.programs.get_mut(&description.name) {
        Some(program) if program.version == description.version => Known::Told,
        Some(program) => Known::Changed(std::mem::replace(program, found())),
        None => {
            if host.programs.len() < PROGRAMS_MAX {
                host.programs.insert(description.name.clone(), found());
            }
            Known::New
        }
    }
}

impl Shared {
    /// A program showed itself. `known` is its name and version, where the protocol tells them
    /// apart itself.
    fn program(
        &mut self,
        now: Ts,
        seen: &SoftwareSeen<'_>,
        known: Option<Description>,
        out: &mut Output,
    ) {
        let host = Addr::from(seen.host);
        if self.site.is_local(host) != Some(true) {
            return;
        }
        let unparsed = seen.unparsed_version;
        let unparsed = unparsed.get(..UNPARSED_MAX).unwrap_or(unparsed);
        let is_parsed = known.is_some();
        let (table, kind) = (&mut self.software, seen.software_type);
        let added = match known {
            Some(description) => table.add(host, kind, description, now),
            None => table.add_unparsed(host, kind, unparsed, now),
        };
        let Some((description, known)) = added else { return };
        if let Known::Changed(old) = known {
            self.version_changed(now, seen.host, &old, &description, out);
        }
        let version = description.version.print();
        let claim = Claim {
            table: SoftwareLog::STREAM,
            key: ClaimKey::of_parts(&[
                &host.bits().to_be_bytes(),
                &description.name,
                version.as_bytes(),
            ]),
            ts: now,
            expiry_s: HOST_LIFE_S,
        };
        let row = SoftwareLog {
            ts: now,
            host: seen.host,
            host_p: seen.host_p.map(Port),
            software_type: EnumName(seen.software_type),
            name: Some(description.name),
            version: description.version,
            unparsed_version: (!is_parsed || !unparsed.is_empty()).then(|| unparsed.to_vec()),
        };
        out.claim(claim, &row);
    }

    /// Tells that a host has another version of a program that the operator cares for.
    fn version_changed(
        &mut self,
        now: Ts,
        host: IpAddr,
        old: &Program,
        new: &Description,
        out: &mut Output,
    ) {
        let name = String::from_utf8_lossy(&new.name).into_owned();
        if !self.config.software_version_changes.contains(&name) {
            return;
        }
        let (secs, micros) = (now.secs(), now.micros_part());
        let software_type = old.software_type;
        let (from, to) = (old.version.print(), new.version.print());
        let msg = format!(
            "{secs}.{micros:06} {software_type} '{name}' version changed from {from} to {to}"
        );
        let mut notice = Notice::new("Software::Software_Version_Change", msg);
        notice.src = Some(host);
        notice.sub = Some(format!("{name} {to}"));
        self.notice(now, notice, out);
    }
}

impl Cx<'_> {
    /// A program showed itself: logged once per host (Zeek: `Software::found`).
    pub fn software(&mut self, seen: &SoftwareSeen<'_>) {
        self.shared.program(self.now, seen, None, self.out);
    }

    /// The same for a program whose name and version the protocol tells apart itself;
    /// `unparsed_version` may be empty.
    pub fn software_parsed(&mut self, seen: &SoftwareSeen<'_>, description: Description) {
        self.shared.program(self.now, seen, Some(description), self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(known: &mut KnownSoftware, text: &str, secs: u64) -> Option<Known> {
        let host = Addr::v4([10, 0, 0, 1]);
        let found = known.add_unparsed(host, "HTTP::SERVER", text.as_bytes(), Ts::new(secs, 0));
        found.map(|(_, known)| known)
    }

    #[test]
    fn a_version_is_told_when_it_changes_and_once_a_day() {
        let mut known = KnownSoftware::new(&KeyedHasher::with_seed);
        assert_eq!(add(&mut known, "nginx/1.0", 100), Some(Known::New));
        assert_eq!(add(&mut known, "nginx/1.0", 200), None);
        let Some(Known::Changed(old)) = add(&mut known, "nginx/1.1", 200) else { panic!() };
        assert_eq!(old.version.print(), "1.0");
        assert!(add(&mut known, "nginx/1.0", 300).is_some());
        assert_eq!(add(&mut known, "curl/8.0", 300), Some(Known::New));
        assert_eq!(add(&mut known, "curl/8.0", 100 + HOST_LIFE_S), Some(Known::New));
    }
}
