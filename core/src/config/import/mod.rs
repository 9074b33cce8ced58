//! An installation of ZeekControl becomes one of Tyto's: its zeekctl.cfg, node.cfg and
//! networks.cfg in, our three files out, and a word about each thing that is taken over, changed
//! or left out. Lines keep their numbers, so that a place names the same line in both.
//! Pure; what comes out has passed [`Cluster::load`].

mod networks;
mod nodes;
mod settings;

use super::cluster::{Cluster, ConfigFile, ConfigFiles};
use super::error::{At, Faults};
use super::zeekctl_cfg::ZeekctlCfg;

/// The files of an installation.
#[derive(Clone, Copy, Debug)]
pub struct Installation<'a> {
    /// zeekctl.cfg, or broctl.cfg.
    pub zeekctl: Option<ConfigFile<'a>>,
    /// node.cfg.
    pub nodes: ConfigFile<'a>,
    /// networks.cfg.
    pub networks: Option<ConfigFile<'a>>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// node.cfg.
    pub node_cfg: String,
    /// networks.cfg.
    pub networks_cfg: String,
    /// tyto.yaml.
    pub tyto_yaml: String,
    /// A word about each thing that did not simply stay as it was, in the order of the files.
    pub notes: Vec<Note>,
}

/// A word about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where it is in ZeekControl's files; line 0: it is not in there.
    pub at: At,
    /// The option, key or line.
    pub subject: String,
    /// What became of it.
    pub change: Change,
    /// What it is now, or why it is left out.
    pub text: String,
}

/// What became of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has its place; the text names it.
    Taken,
    /// It is not what it was; the text says how.
    Changed,
    /// Nothing is lost: Tyto does it by itself, or needs no such thing; the text says how.
    NotNeeded,
    /// It is not there; the text says why.
    LeftOut,
}

impl Change {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Changed => "changed",
            Self::NotNeeded => "not needed",
            Self::LeftOut => "left out",
        }
    }
}

/// The notes as they are made.
#[derive(Debug, Default)]
struct Notes(Vec<Note>);

impl Notes {
    /// The same thing about the same line is said once: a key of `[DEFAULT]` is in each section.
    fn add(&mut self, at: &At, subject: &str, change: Change, text: impl Into<String>) {
        let note = Note { at: at.clone(), subject: subject.to_owned(), change, text: text.into() };
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }
}

/// Takes an installation over.
///
/// # Errors
/// With all faults that ZeekControl would refuse too, or that need the operator's word.
pub fn import(from: Installation<'_>) -> Result<Imported, Faults> {
    let mut notes = Notes::default();
    let settings = from.zeekctl.map(|file| {
        let cfg = ZeekctlCfg::parse(file.name, file.text);
        settings::taken(&cfg, &mut notes)
    });
    let tyto_yaml = settings::yaml(&settings.unwrap_or_default());
    let networks_cfg = match from.networks {
        Some(file) => networks::taken(file, &mut notes),
        None => String::new(),
    };
    let node_cfg = nodes::taken(from.nodes, &tyto_yaml, &mut notes)?;
    let named = |file: Option<ConfigFile<'_>>, name| file.map_or(name, |file| file.name.to_owned());
    let networks_name = named(from.networks, "networks.cfg".to_owned());
    // The text is ours, so its faults would be too.
    let checked = Cluster::load(ConfigFiles {
        nodes: ConfigFile { name: from.nodes.name, text: &node_cfg },
        networks: Some(ConfigFile { name: &networks_name, text: &networks_cfg }),
        settings: Some(ConfigFile { name: "tyto.yaml", text: &tyto_yaml }),
    })?;
    for warning in &checked.warnings {
        notes.add(&warning.at, "", Change::Changed, warning.kind.to_string());
    }
    let place = |note: &Note| match &*note.at.file {
        name if name == from.nodes.name => 1,
        name if name == networks_name => 2,
        _ => 0,
    };
    notes.0.sort_by_key(|note| (place(note), note.at.line));
    Ok(Imported { node_cfg, networks_cfg, tyto_yaml, notes: notes.0 })
}
