//! What is wrong in the operator's files: where, what was found, what was expected, and what
//! to type instead. All faults of all files are collected; loading never stops at the first.

use std::fmt;
use std::sync::Arc;

use crate::config::runtime::Role;

/// A place in a file. Line and column count from 1; line 0 means the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The file as the operator named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl At {
    /// The file as a whole.
    pub fn file(name: &str) -> Self {
        Self { file: name.into(), line: 0, column: 0 }
    }

    /// A place on a line of the same file.
    pub fn place(&self, line: u32, column: u32) -> Self {
        Self { file: Arc::clone(&self.file), line, column }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// One fault: place, kind, and where one is known a hint that can be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it is.
    pub at: At,
    /// What it is.
    pub kind: FaultKind,
    /// What to do about it; may be several lines to paste.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without a hint.
    pub fn new(at: &At, kind: FaultKind) -> Self {
        Self { at: at.clone(), kind, hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            // An expression is long: say where in it.
            FaultKind::BadFilter { .. } if self.at.line > 0 => {
                write!(f, "{}:{}: {}", self.at, self.at.column, self.kind)
            }
            kind => write!(f, "{}: {kind}", self.at),
        }
    }
}

/// What can be wrong. Warnings are of the same kinds: the list that holds a fault says which
/// of the two it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum FaultKind {
    // Grammar of node.cfg.
    #[error("`{found}` stands before the first section")]
    BeforeSection { found: String },
    #[error("`{found}` is neither a `[section]` nor `key=value`")]
    NotAnEntry { found: String },
    #[error("value `{found}` has no key")]
    NoKey { found: String },
    #[error("section `[{section}]` is given twice; it is already on line {first_line}")]
    DuplicateSection { section: String, first_line: u32 },
    #[error("`{key}` is given twice in `[{section}]`; it is already on line {first_line}")]
    DuplicateKey { section: String, key: String, first_line: u32 },
    #[error("`{key}`: `%` in `{found}` is followed by neither `%` nor `(name)s`")]
    StrayPercent { key: String, found: String },
    #[error("`{key}`: `%({reference})s` names a key that is neither here nor in `[DEFAULT]`")]
    UnknownReference { key: String, reference: String },
    #[error("`{key}`: references lead more than {depth_max} steps deep or grow without end")]
    EndlessReference { key: String, depth_max: usize },

    // One node.
    #[error("`{name}` cannot be the name of a node; expected {expected}")]
    BadNodeName { name: String, expected: &'static str },
    #[error("node `{node}`: unknown key `{key}`")]
    UnknownNodeKey { node: String, key: String },
    #[error("node `{node}`: `{key}` is missing")]
    MissingNodeKey { node: String, key: &'static str },
    #[error("node `{node}`: `{key}` is `{found}`; expected {expected}")]
    BadNodeValue { node: String, key: &'static str, found: String, expected: &'static str },
    #[error("node `{node}`: `{key}` is `{found}`, which Tyto does not have: {reason}")]
    Unsupported { node: String, key: &'static str, found: String, reason: &'static str },
    #[error("node `{node}`: `{key}` is only for {only}; this node is a {role}")]
    WrongRole { node: String, key: &'static str, only: &'static str, role: Role },
    #[error("node `{node}`: `{key}` needs `{needs}` too")]
    KeyNeeds { node: String, key: &'static str, needs: &'static str },
    #[error("node `{node}`: `{key}` has no effect: {reason}")]
    NoEffect { node: String, key: &'static str, reason: &'static str },
    #[error("node `{node}` has no `interface` and captures nothing")]
    NoInterface { node: String },

    #[error("{key}: {problem}")]
    BadFilter { key: String, problem: String },

    // The cluster as a whole.
    #[error("no nodes")]
    NoNodes,
    #[error("name `{name}` is used twice; `[{first_section}]` on line {first_line} makes it too")]
    DuplicateNode { name: String, first_section: String, first_line: u32 },
    #[error("there is no {role}; a cluster needs {needs}")]
    MissingRole { role: Role, needs: &'static str },
    #[error("node `{node}` is a second manager; `{first}` on line {first_line} is the first")]
    SecondManager { node: String, first: String, first_line: u32 },
    #[error("node `{node}` stands beside the standalone node `{standalone}`, which must be alone")]
    BesideStandalone { node: String, standalone: String },
    #[error("node `{node}` is on `{host}` but the manager is on `{manager_host}`")]
    LocalhostMixed { node: String, host: String, manager_host: String },
    #[error("hosts `{host}` and `{other}` are the same machine: both are {addr}")]
    SameAddress { host: String, other: String, addr: String },
    #[error("node `{node}`: fanout id {id} is also that of interface `{other}` on the same host")]
    FanoutTaken { node: String, id: u16, other: String },
    #[error("node `{node}`: fanout id {id} differs from {other_id} of `{other}` on `{interface}`")]
    FanoutSplit { node: String, id: u16, other: String, other_id: u16, interface: String },
    #[error("node `{node}`: a ring of {buffer} bytes holds fewer than two blocks of {block}")]
    RingTooSmall { node: String, buffer: u64, block: u32 },
    #[error("node `{node}`: {memory} bytes of memory do not hold its ring of {buffer}")]
    MemoryBelowRing { node: String, memory: u64, buffer: u64 },
    #[error("{nodes} listening nodes from port {port} on need ports above 65535")]
    PortsExhausted { nodes: usize, port: u16 },

    // networks.cfg.
    #[error("`{found}` is not a network; expected an address, `/` and the length of the prefix")]
    BadNetwork { found: String },
    #[error("`{found}` has bits behind its prefix; taken as `{taken}`")]
    HostBits { found: String, taken: String },

    // tyto.yaml.
    #[error("{problem}")]
    Yaml { problem: String },
    #[error("unknown key `{key}`")]
    UnknownSetting { key: String },
    #[error("`{key}` has no effect: {reason}")]
    NoEffectSetting { key: &'static str, reason: &'static str },
    #[error("`{key}` is given twice; it is already on line {first_line}")]
    DuplicateSetting { key: String, first_line: u32 },
    #[error("`{key}` is `{found}`; expected {expected}")]
    BadSetting { key: String, found: String, expected: String },
}

/// All faults of the files at once; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{fault}")?;
            if let Some(hint) = &fault.hint {
                write!(f, "\nhint: {hint}")?;
            }
        }
        Ok(())
    }
}
