//! networks.cfg for `ctl import`: the format is ours already; lines that are no network become
//! comments.

use super::super::cluster::ConfigFile;
use super::super::networks::parse_networks;
use super::{Change, Notes};

/// The file as ours.
pub(super) fn taken(file: ConfigFile<'_>, notes: &mut Notes) -> String {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    parse_networks(file.name, file.text, &mut faults, &mut warnings);
    let mut out = String::new();
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(file.text);
    for (n, line) in text.lines().enumerate() {
        match faults.iter().find(|fault| fault.at.line as usize == n + 1) {
            Some(fault) => {
                let subject = line.split_whitespace().collect::<Vec<_>>().join(" ");
                notes.add(&fault.at, &subject, Change::LeftOut, fault.kind.to_string());
                out.push_str(&format!("# {line}  # left out: no network\n"));
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}
