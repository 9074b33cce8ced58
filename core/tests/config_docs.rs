//! docs/from-zeekctl.md is made from the tables of keys and options, so it cannot say what the
//! code does not do. `TYTO_WRITE_DOCS=1 cargo test -p tyto-core --test config_docs` rewrites it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tyto_core::config::node_keys::{NODE_KEYS, NodeKey, Scope};
use tyto_core::config::setting_keys::SETTING_KEYS;
use tyto_core::config::settings::Settings;
use tyto_core::config::zeekctl_options::{Fate, ZEEKCTL_OPTIONS, ZeekctlOption};

/// What stands before the tables.
const HEAD: &str = "\
# Coming from ZeekControl

Made from the tables in `core/src/config/` by a test; edit those.

    ctl import /opt/zeek --plan       # shows the new files, and what becomes of each option
    ctl import /opt/zeek --out DIR    # writes node.cfg, networks.cfg and tyto.yaml
    ctl --etc DIR check

The old installation is not touched and may go on running: Tyto has a prefix and fanout groups of
its own, so both see all packets. Their ports are the same, though (`port` of tyto.yaml).

A node.cfg and a networks.cfg of ZeekControl are ours as they stand, but for what follows. What
zeekctl.cfg says has its place in tyto.yaml. An unknown key is a fault, not a warning; write an
option of zeekctl.cfg into tyto.yaml, and the fault says where it belongs. `ctl explain NODE` tells
what a node gets in the end, and from which line.

What is different by itself:

- A cluster needs a section of `type=logger`; ZeekControl's manager writes the logs when there is
  none. `ctl import` adds one on the manager's host.
- `ctl` runs anywhere that reaches the hosts by ssh, not only on the manager's host.
- Workers of one interface of one host share its packets, with `lb_procs` or without; with libpcap
  each saw all of them. `af_packet_enable_fanout=F` does that here.
- Fanout ids are made per interface; nobody has to keep them apart by hand. `ctl import` takes none
  over: with Zeek's own number, workers would join its group and take flows away from it.
- The `af_packet_*` keys count without `lb_procs`, too, and their values are checked.
- Checksums: the default is CHECKSUM_KERNEL, Zeek's is CHECKSUM_ON. Fragments are joined before a
  worker is chosen (`af_packet_enable_defrag=T`), in Zeek they are not. A block of the ring has
  256 KiB, in Zeek 32.
- `pin_cpus` takes ranges (`8-11`). A host may be an IPv6 address, without brackets.
- Crash reports are removed after `crash_expire_days` (30), in ZeekControl never by default.
- node.cfg is read as Python's configparser does (the tests compare with it), but a byte order mark
  is skipped, and a value that grows past ten thousand `%(name)s` is refused.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## Keys of node.cfg\n\n| key | for | what it does | default |\n");
    page.push_str("|---|---|---|---|\n");
    for key in NODE_KEYS {
        node_key(&mut page, key);
    }
    page.push_str("\nKeys with a star are not in ZeekControl.\n");
    page.push_str("\n## Options of zeekctl.cfg\n");
    for (title, options) in ZEEKCTL_OPTIONS {
        writeln!(page, "\n### {title}\n\n| option | here |\n|---|---|").unwrap();
        // Options that come to the same thing share a line.
        for same in options.chunk_by(|a, b| a.fate == b.fate) {
            zeekctl_options(&mut page, same);
        }
    }
    page.push_str("\n## Keys of tyto.yaml that ZeekControl has nothing like\n\n");
    page.push_str("| key | what it does | default |\n|---|---|---|\n");
    for (key, (name, default)) in SETTING_KEYS.iter().zip(Settings::default().list()) {
        if !is_known_to_zeekctl(name) {
            let unit = if default.is_empty() || key.unit.is_empty() { "" } else { " " };
            let unit = format!("{unit}{}", if unit.is_empty() { "" } else { key.unit });
            writeln!(page, "| `{name}` | {} | {default}{unit} |", key.doc).unwrap();
        }
    }
    page
}

fn node_key(page: &mut String, key: &NodeKey) {
    let scope = match key.scope {
        Scope::Any => "all nodes",
        Scope::Capture => "workers, standalone",
        Scope::Worker => "workers",
        Scope::Nothing => "nothing",
    };
    let star = if key.is_ours { " *" } else { "" };
    writeln!(page, "| `{}`{star} | {scope} | {} | {} |", key.name, key.doc, key.default()).unwrap();
}

fn zeekctl_options(page: &mut String, options: &[ZeekctlOption]) {
    let names: Vec<&str> = options.iter().map(|option| option.name).collect();
    let here = match options[0].fate {
        Fate::Setting { key, note: "", .. } => format!("`{key}`"),
        Fate::Setting { key, note, .. } => format!("`{key}`; {note}"),
        Fate::ByItself(how) => format!("not needed: {how}"),
        Fate::NotThere(why) => format!("not there: {why}"),
    };
    writeln!(page, "| {} | {here} |", names.join(", ")).unwrap();
}

/// True for a key that an option of zeekctl.cfg or a key of ZeekControl's node.cfg becomes.
fn is_known_to_zeekctl(name: &str) -> bool {
    let mut options = ZEEKCTL_OPTIONS.iter().flat_map(|(_, options)| options.iter());
    let is_option = options.any(|o| matches!(o.fate, Fate::Setting { key, .. } if key == name));
    let behind = |key: &NodeKey| key.default() == format!("{name} of tyto.yaml");
    is_option || NODE_KEYS.iter().any(|key| !key.is_ours && behind(key))
}

#[test]
fn the_page_for_those_who_come_from_zeekcontrol_is_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/from-zeekctl.md");
    if std::env::var_os("TYTO_WRITE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/from-zeekctl.md is stale: TYTO_WRITE_DOCS=1 cargo test -p tyto-core --test config_docs"
    );
}
