//! `software.log`: programs that showed themselves in what they sent. Of each local host a row
//! per program and version, once a day; in a cluster, once among all workers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hashbrown::HashMap;
use tyto_core::net::Port;
use tyto_core::record::LogRecord;
use tyto_core::record::value::EnumName;
use tyto_core::time::{Interval, Ts};

use super::lately::Lately;
use super::notice::Notice;
use super::software_version::{self, Description, Version};
use crate::analyzer::Cx;
use crate::analyzer::shared::Shared;
use crate::decode::addr::Addr;
use crate::flow::hash::KeyedHasher;
use crate::output::{Claim, ClaimKey, Output};

/// The same report of a program is not looked at again for this long, seconds (Zeek:
/// `found_cache_interval`).
const REPORT_LIFE_S: u64 = 600;
/// Reports that are remembered. At the limit those are forgotten that are over, else all: the
/// tables behind it know better.
const REPORTS_MAX: usize = 1 << 14;
/// What is known of a host is forgotten after this, seconds (Zeek: `create_expire=1day`).
const HOST_LIFE_S: u64 = 86_400;
/// Hosts whose programs are remembered. At the limit all are forgotten, and told again.
const HOSTS_MAX: usize = 1 << 16;
/// Programs of one host that are remembered. Further ones are told each time.
const PROGRAMS_MAX: usize = 256;
/// Versions of one program on one host that are remembered (Zeek: `max_software_cache_size`).
/// At the limit it begins anew with the newest.
const VERSIONS_MAX: usize = 20;
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
    reports: Lately<(&'static str, Addr, Option<u16>, Vec<u8>)>,
    hosts: HashMap<Addr, Host, KeyedHasher>,
    forgotten: u64,
}

#[derive(Debug)]
struct Host {
    since: Ts,
    programs: BTreeMap<Vec<u8>, Program>,
}

/// The versions of one program that were told.
#[derive(Debug)]
struct Program {
    versions: Vec<Vec<u8>>,
    last: Version,
    last_type: &'static str,
}

/// What a table says of a program.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    /// Told already.
    Told,
    /// Not yet.
    New,
    /// Not yet; another version of it was.
    Changed(Version, &'static str),
}

impl KnownSoftware {
    /// Nothing is known; tables are hashed with `hasher_of`.
    pub fn new(hasher_of: &impl Fn(u64) -> KeyedHasher) -> Self {
        Self {
            reports: Lately::new(hasher_of(14), REPORT_LIFE_S, REPORTS_MAX),
            hosts: HashMap::with_hasher(hasher_of(15)),
            forgotten: 0,
        }
    }

    /// Hosts forgotten at the limit.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Puts a program in; says what was known of it.
    fn add(
        &mut self,
        host: Addr,
        software_type: &'static str,
        description: &Description,
        version: &[u8],
        now: Ts,
    ) -> Known {
        let life = Interval::from_secs(HOST_LIFE_S.cast_signed());
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(&host) {
            self.forgotten += self.hosts.len() as u64;
            self.hosts.clear();
        }
        let fresh = || Host { since: now, programs: BTreeMap::new() };
        let host = self.hosts.entry(host).or_insert_with(fresh);
        if now.since(host.since) >= life {
            *host = fresh();
        }
        let Some(program) = host.programs.get_mut(&description.name) else {
            if host.programs.len() < PROGRAMS_MAX {
                let program = Program {
                    versions: vec![version.to_vec()],
                    last: description.version.clone(),
                    last_type: software_type,
                };
                host.programs.insert(description.name.clone(), program);
            }
            return Known::New;
        };
        if program.versions.iter().any(|known| known == version) {
            return Known::Told;
        }
        if program.versions.len() >= VERSIONS_MAX {
            program.versions.clear();
        }
        program.versions.push(version.to_vec());
        let last_type = std::mem::replace(&mut program.last_type, software_type);
        let last = std::mem::replace(&mut program.last, description.version.clone());
        Known::Changed(last, last_type)
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
        let report = (seen.software_type, host, seen.host_p, unparsed.to_vec());
        if known.is_none() && !self.software.reports.is_new(report, now) {
            return;
        }
        let is_parsed = known.is_some();
        let description = known.unwrap_or_else(|| software_version::parse(unparsed));
        let version = match unparsed {
            [] if is_parsed => description.version.print().into_bytes(),
            text => text.to_vec(),
        };
        match self.software.add(host, seen.software_type, &description, &version, now) {
            Known::Told => return,
            Known::New => {}
            Known::Changed(old, old_type) => {
                self.version_changed(now, seen.host, (&old, old_type), &description, out);
            }
        }
        let claim = Claim {
            table: SoftwareLog::STREAM,
            key: ClaimKey::of_parts(&[&host.bits().to_be_bytes(), &description.name, &version]),
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
        (old, software_type): (&Version, &'static str),
        new: &Description,
        out: &mut Output,
    ) {
        let name = String::from_utf8_lossy(&new.name).into_owned();
        if !self.config.software_version_changes.contains(&name) {
            return;
        }
        let (secs, micros) = (now.secs(), now.micros_part());
        let (from, to) = (old.print(), new.version.print());
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

    fn add(known: &mut KnownSoftware, text: &str, secs: u64) -> Known {
        let host = Addr::v4([10, 0, 0, 1]);
        let description = software_version::parse(text.as_bytes());
        known.add(host, "HTTP::SERVER", &description, text.as_bytes(), Ts::new(secs, 0))
    }

    #[test]
    fn a_version_is_told_once_a_day_and_a_change_is_a_change() {
        let mut known = KnownSoftware::new(&KeyedHasher::with_seed);
        assert_eq!(add(&mut known, "nginx/1.0", 100), Known::New);
        assert_eq!(add(&mut known, "nginx/1.0", 200), Known::Told);
        let Known::Changed(old, _) = add(&mut known, "nginx/1.1", 200) else { panic!("no change") };
        assert_eq!(old.print(), "1.0");
        assert_eq!(add(&mut known, "nginx/1.0", 300), Known::Told);
        assert_eq!(add(&mut known, "curl/8.0", 300), Known::New);
        assert_eq!(add(&mut known, "nginx/1.0", 100 + HOST_LIFE_S), Known::New);
    }

    #[test]
    fn versions_without_end_begin_anew() {
        let mut known = KnownSoftware::new(&KeyedHasher::with_seed);
        for minor in 0..=VERSIONS_MAX {
            assert_ne!(add(&mut known, &format!("nginx/1.{minor}"), 100), Known::Told);
        }
        assert_ne!(add(&mut known, "nginx/1.0", 100), Known::Told);
    }
}
