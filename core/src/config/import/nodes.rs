//! node.cfg for `ctl import`. The operator's file stays as it is, comments and all: a line that
//! has no place becomes a comment where it stands, and what has to be added comes at the end.

use std::collections::{BTreeMap, BTreeSet};

use super::super::cfg_file::{CfgFile, Entry, Section, lines};
use super::super::cluster::{Cluster, ConfigFile, ConfigFiles};
use super::super::error::{At, FaultKind, Faults};
use super::super::name::is_node_name;
use super::super::node_keys::{Scope, node_key};
use super::super::value;
use super::{Change, Notes};

/// Rounds of taking out what the checker refuses; each takes at least one line.
const ROUNDS_MAX: usize = 8;

/// The file as ours.
///
/// # Errors
/// With the faults that the operator has to mend: grammar, roles, names, hosts.
pub(super) fn taken(
    file: ConfigFile<'_>,
    tyto_yaml: &str,
    notes: &mut Notes,
) -> Result<String, Faults> {
    let mut faults = Vec::new();
    let cfg = CfgFile::parse(file.name, file.text, &mut faults);
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    let mut editor = Editor::new(file.text, notes);
    for section in &cfg.sections {
        editor.section(section);
    }
    editor.share_notes(&cfg);
    editor.logger(&cfg);
    for _ in 0..ROUNDS_MAX {
        let text = editor.text();
        let found = match check(file.name, &text, tyto_yaml) {
            Ok(()) => return Ok(text),
            Err(found) => found,
        };
        let cfg = CfgFile::parse(file.name, &text, &mut Vec::new());
        if !editor.take_out(&cfg, &found) {
            return Err(found);
        }
    }
    let text = editor.text();
    check(file.name, &text, tyto_yaml).map(|()| text)
}

fn check(name: &str, text: &str, tyto_yaml: &str) -> Result<(), Faults> {
    let nodes = ConfigFile { name, text };
    let settings = Some(ConfigFile { name: "tyto.yaml", text: tyto_yaml });
    Cluster::load(ConfigFiles { nodes, networks: None, settings }).map(drop)
}

/// The lines of the file, as they are changed.
struct Editor<'a> {
    lines: Vec<String>,
    /// Lines that are comments already, by their number from 1.
    out: BTreeSet<u32>,
    /// Sections that come at the end.
    added: Vec<String>,
    notes: &'a mut Notes,
}

impl<'a> Editor<'a> {
    fn new(text: &str, notes: &'a mut Notes) -> Self {
        let lines = lines(text).into_iter().map(str::to_owned).collect();
        Self { lines, out: BTreeSet::new(), added: Vec::new(), notes }
    }

    fn text(&self) -> String {
        let mut text = self.lines.join("\n").trim_end().to_owned();
        text.push('\n');
        for section in &self.added {
            text.push('\n');
            text.push_str(section);
        }
        text
    }

    fn section(&mut self, section: &Section) {
        let found = |name: &str| entry(section, name).filter(|entry| !entry.value.is_empty());
        let role = found("type").map_or("", |entry| entry.value.as_str());
        let captures = matches!(role, "worker" | "standalone");
        self.name(section);
        for entry in &section.entries {
            self.unknown(entry);
        }
        if captures && self.interfaces(section, role) {
            return;
        }
        for name in ["lb_method", "lb_procs", "lb_interfaces"] {
            match found(name) {
                Some(entry) if role != "worker" && !entry.is_inherited => {
                    self.leave_out(entry, "only workers are balanced");
                }
                _ => {}
            }
        }
        if role == "worker" {
            self.balancing(found("lb_method"), found("lb_procs"), found("lb_interfaces"));
        }
    }

    /// A name that ZeekControl takes and we do not.
    fn name(&mut self, section: &Section) {
        if is_node_name(&section.name) {
            return;
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let name: String = section.name.chars().map(|c| if fits(c) { c } else { '-' }).collect();
        let name = name.trim_matches(['-', '_']).to_owned();
        let name = if name.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            format!("node-{name}")
        } else {
            name
        };
        self.replace(&section.at, format!("[{name}]"));
        let text = format!("`{name}`: a name is a folder and part of a certificate");
        self.notes.add(&section.at, &format!("[{}]", section.name), Change::Changed, text);
    }

    /// Keys without a meaning, and keys that are not known. Numbers of fanout groups are not
    /// taken over: with the same one, our workers would join the group of a Zeek that still
    /// runs, and take flows away from it.
    fn unknown(&mut self, entry: &Entry) {
        match node_key(&entry.key.replace('.', "_")) {
            Some(key) if key.name == "af_packet_fanout_id" && !entry.value.is_empty() => {
                let why = "each interface gets a number of its own, other than Zeek's";
                let subject = format!("{}={}", entry.key, entry.value);
                self.notes.add(&entry.at, &subject, Change::NotNeeded, why);
                self.comment(entry, &format!("not needed: {why}"));
            }
            Some(key) if key.scope == Scope::Nothing && !entry.value.is_empty() => {
                self.leave_out(entry, key.doc);
            }
            Some(_) => {}
            None => self.leave_out(entry, "ZeekControl itself does not know it"),
        }
    }

    fn balancing(
        &mut self,
        method: Option<&Entry>,
        procs: Option<&Entry>,
        interfaces: Option<&Entry>,
    ) {
        if let Some(entry) = interfaces {
            self.leave_out(entry, "it belongs to lb_method=interfaces");
        }
        let Some(method) = method else { return };
        if procs.is_none() {
            if !method.is_inherited {
                self.leave_out(method, "without lb_procs there is one process");
            }
            return;
        }
        let was = method.value.as_str();
        if matches!(was, "pf_ring" | "myricom" | "custom") {
            self.replace_value(method, "af_packet");
            let text = format!("af_packet: packets come from AF_PACKET sockets, not by {was}");
            self.notes.add(&method.at, "lb_method", Change::Changed, text);
        }
    }

    /// The interface of a node that captures. True when the section became several.
    fn interfaces(&mut self, section: &Section, role: &str) -> bool {
        let found = |name: &str| entry(section, name).filter(|entry| !entry.value.is_empty());
        let method = found("lb_method").filter(|entry| entry.value == "interfaces");
        if let (Some(method), Some(list), "worker") = (method, found("lb_interfaces"), role) {
            // ZeekControl gives them out from the end.
            let names: Vec<&str> = list.value.split(',').rev().map(str::trim).collect();
            self.split(section, &method.at, &names, true);
            return true;
        }
        let Some(entry) = found("interface") else { return false };
        let names: Vec<&str> = entry.value.split(" -i ").map(str::trim).collect();
        if names.len() > 1 && role == "worker" {
            self.split(section, &entry.at, &names, false);
            return true;
        }
        let (name, is_same) = plain_interface(names.first().unwrap_or(&""));
        if names.len() > 1 {
            let text = format!("{name}: a standalone node has one interface; workers have more");
            self.notes.add(&entry.at, &entry.value, Change::Changed, text);
        } else if !is_same {
            let text = match name.bytes().all(|b| b.is_ascii_digit()) {
                true => format!("{name}: a cluster of PF_RING; write the interface it reads"),
                false => format!("{name}: packets come from AF_PACKET sockets"),
            };
            self.notes.add(&entry.at, &entry.value, Change::Changed, text);
        }
        if names.len() > 1 || !is_same {
            self.replace_value(entry, name);
        }
        false
    }

    /// Makes one section for each interface; `is_one_each`: of one process each.
    fn split(&mut self, section: &Section, at: &At, interfaces: &[&str], is_one_each: bool) {
        let cpus = entry(section, "pin_cpus").and_then(|entry| value::cpus(&entry.value));
        let mut cpus = cpus.iter().flatten().cycle();
        let mut names = Vec::new();
        for (n, interface) in interfaces.iter().enumerate() {
            let name = format!("{}-{}", section.name, n + 1);
            let mut text = format!("[{name}]\n");
            for entry in section.entries.iter().filter(|entry| !entry.is_inherited) {
                let balances = entry.key.starts_with("lb_");
                let is_own = matches!(entry.key.as_str(), "interface" | "pin_cpus");
                let first = usize::try_from(entry.at.line).unwrap_or_default();
                let last = usize::try_from(entry.last_line).unwrap_or_default();
                let is_out = self.out.contains(&entry.at.line);
                if is_out || is_own || balances && is_one_each {
                    continue;
                }
                for line in self.lines.iter().take(last).skip(first.saturating_sub(1)) {
                    text.push_str(&format!("{line}\n"));
                }
            }
            text.push_str(&format!("interface={}\n", plain_interface(interface).0));
            if let Some(cpu) = cpus.next() {
                text.push_str(&format!("pin_cpus={cpu}\n"));
            }
            for key in ["lb_method", "lb_procs", "lb_interfaces"] {
                if is_one_each && entry(section, key).is_some_and(|entry| entry.is_inherited) {
                    text.push_str(&format!("{key}=\n"));
                }
            }
            names.push(format!("[{name}]"));
            self.added.push(text);
        }
        for entry in section.entries.iter().filter(|entry| !entry.is_inherited) {
            self.comment(entry, "");
        }
        self.comment_line(section.at.line, "a section for each interface: see the end of the file");
        let text = format!("{}: one section for each interface", names.join(" "));
        self.notes.add(at, &format!("[{}]", section.name), Change::Changed, text);
    }

    /// With libpcap each worker of an interface sees all packets; here they share them.
    fn share_notes(&mut self, cfg: &CfgFile) {
        let mut seen: BTreeMap<(&str, &str), &Section> = BTreeMap::new();
        for section in &cfg.sections {
            let text = |name| entry(section, name).map_or("", |entry| entry.value.as_str());
            let is_plain = text("type") == "worker" && text("lb_procs").is_empty();
            if !is_plain || text("interface").is_empty() || text("interface").contains("::") {
                continue;
            }
            let first = *seen.entry((text("host"), text("interface"))).or_insert(section);
            if first.name != section.name {
                let text = format!(
                    "it shares the packets of {} with `{}`; in Zeek each saw all of them \
                     (af_packet_enable_fanout=F)",
                    text("interface"),
                    first.name
                );
                let subject = format!("[{}]", section.name);
                self.notes.add(&section.at, &subject, Change::Changed, text);
            }
        }
    }

    /// ZeekControl's manager writes the logs when there is no logger.
    fn logger(&mut self, cfg: &CfgFile) {
        let has = |section: &&Section, role: &str| {
            entry(section, "type").is_some_and(|entry| entry.value == role)
        };
        let Some(manager) = cfg.sections.iter().find(|section| has(section, "manager")) else {
            return;
        };
        let host = entry(manager, "host").filter(|entry| !entry.value.is_empty());
        if cfg.sections.iter().any(|section| has(&section, "logger")) || host.is_none() {
            return;
        }
        let is_free = |name: &String| {
            !cfg.sections.iter().any(|section| section.name.eq_ignore_ascii_case(name))
        };
        let mut names = (1..).map(|n| format!("logger-{n}"));
        let (Some(name), Some(host)) = (names.find(is_free), host) else { return };
        let value = host.value.replace('%', "%%");
        self.added.push(format!("[{name}]\ntype=logger\nhost={value}\n"));
        let text = format!("`[{name}]` on `{}`: a logger writes the logs, no manager", host.value);
        self.notes.add(&manager.at, &format!("[{}]", manager.name), Change::Changed, text);
    }

    /// Leaves out the optional keys that faults are about. False when there are none.
    fn take_out(&mut self, cfg: &CfgFile, faults: &Faults) -> bool {
        let mut is_changed = false;
        for fault in &faults.0 {
            let entries = cfg.sections.iter().flat_map(|section| &section.entries);
            let of_line = entries.clone().find(|entry| entry.at.line == fault.at.line);
            let found = match &fault.kind {
                FaultKind::BadNodeValue { key, .. } | FaultKind::Unsupported { key, .. } => {
                    of_line.filter(|_| !matches!(*key, "type" | "host" | "interface" | "lb_procs"))
                }
                FaultKind::BadFilter { .. } => of_line,
                _ => None,
            };
            let size = usize::try_from(fault.at.line).unwrap_or_default();
            if let Some(entry) = found.filter(|_| size <= self.lines.len()) {
                let why = match fault.kind.to_string().split_once(": ") {
                    Some((_, why)) => why.to_owned(),
                    None => fault.kind.to_string(),
                };
                self.leave_out(entry, &why);
                is_changed = true;
            }
        }
        is_changed
    }

    fn leave_out(&mut self, entry: &Entry, why: &str) {
        let subject = format!("{}={}", entry.key, entry.value.replace('\n', " "));
        self.notes.add(&entry.at, &subject, Change::LeftOut, why);
        self.comment(entry, &format!("left out: {}", why.replace('\n', " ")));
    }

    fn comment(&mut self, entry: &Entry, why: &str) {
        self.comment_line(entry.at.line, why);
        for line in entry.at.line + 1..=entry.last_line {
            self.comment_line(line, "");
        }
    }

    fn comment_line(&mut self, number: u32, why: &str) {
        if !self.out.insert(number) {
            return;
        }
        let why = if why.is_empty() { String::new() } else { format!("  # {why}") };
        if let Some(line) = self.line(number) {
            *line = format!("#{line}{why}");
        }
    }

    fn replace(&mut self, at: &At, text: String) {
        let indent = usize::try_from(at.column).unwrap_or(1).saturating_sub(1);
        if let Some(line) = self.line(at.line) {
            let space: String = line.chars().take(indent).collect();
            *line = format!("{space}{text}");
        }
    }

    /// Gives a key another value, of one line.
    fn replace_value(&mut self, entry: &Entry, value: &str) {
        let value = value.replace('%', "%%");
        self.replace(&entry.at, format!("{}={value}", entry.key));
        for line in entry.at.line + 1..=entry.last_line {
            self.comment_line(line, "");
        }
    }

    fn line(&mut self, number: u32) -> Option<&mut String> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.lines.get_mut(index)
    }
}

fn entry<'a>(section: &'a Section, name: &str) -> Option<&'a Entry> {
    section.entries.iter().find(|entry| entry.key == name)
}

/// The name of an interface without the packet source before it and the instance behind it
/// (`pf_ring::zc:eth0@1`), and whether it is what we would take as it stands.
fn plain_interface(text: &str) -> (&str, bool) {
    let (source, name) = text.rsplit_once("::").unwrap_or(("", text));
    let name = name.rsplit(':').next().unwrap_or(name);
    let name = name.split('@').next().unwrap_or(name);
    let is_same = name == text || source == "af_packet" && text.ends_with(&format!("::{name}"));
    (name, is_same)
}
