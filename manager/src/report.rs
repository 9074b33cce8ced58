//! What a command found, and how a person or a program gets to read it. The only file that
//! prints: commands return a [`Report`]. Answers go to standard output, warnings and errors to
//! standard error; with `--json` everything is one object on standard output.

use std::error::Error;
use std::io::{self, IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::{Value, json};
use tyto_core::config::error::{Fault, Faults};

use crate::context::{ContextError, UnknownNode};
use crate::lock::LockError;
use crate::remote::error::RemoteError;
use crate::status_table::{self, StatusRow};

/// Columns of a terminal below which tables are not fitted to it.
const WRAP_WIDTH_MIN: u16 = 60;

/// What a command found. It is good until an error is added.
#[derive(Debug, Default)]
pub struct Report {
    parts: Vec<Part>,
    warnings: Vec<Message>,
    errors: Vec<Message>,
    failed: bool,
    /// The answer is on standard output already.
    is_printed: bool,
    result: Value,
}

/// A warning or an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// What is the matter, the chain of causes included.
    pub message: String,
    /// What can be typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Node or host that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

#[derive(Debug)]
enum Part {
    Line(String),
    Raw(String),
    Table { header: Vec<String>, rows: Vec<Vec<String>> },
    Status(Vec<StatusRow>),
}

/// An error with a hint, for commands: `Err(hinted("…", "…"))`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Hinted {
    message: String,
    hint: String,
}

/// An error that says what can be typed.
pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

impl Report {
    /// A report that says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The answer is printed while the command runs (`print_line`); with `--json` no object
    /// follows, and warnings and errors go to standard error.
    pub fn rows_were_printed(&mut self) {
        self.is_printed = true;
    }

    /// Adds a line for people.
    pub fn line(&mut self, text: impl Into<String>) {
        self.parts.push(Part::Line(text.into()));
    }

    /// Adds text as it is.
    pub fn raw(&mut self, text: impl Into<String>) {
        self.parts.push(Part::Raw(text.into()));
    }

    /// Adds a table for people; columns of numbers stand right.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) {
        let header = header.iter().map(|&name| name.to_owned()).collect();
        self.parts.push(Part::Table { header, rows });
    }

    /// Adds ZeekControl's status table and makes it the JSON result. As in ZeekControl the
    /// report is good only when all nodes are running.
    pub fn status(&mut self, rows: Vec<StatusRow>) {
        self.failed |= rows.iter().any(|row| row.status != "running");
        self.json(&rows);
        self.parts.push(Part::Status(rows));
    }

    /// Sets what `--json` shows as `result`.
    pub fn json(&mut self, result: &impl Serialize) {
        match serde_json::to_value(result) {
            Ok(value) => self.result = value,
            Err(error) => self.error(format!("the result cannot be shown as JSON: {error}")),
        }
    }

    /// Adds a warning; the report stays good.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(Message { message: message.into(), hint: None, about: None });
    }

    /// Adds a warning with a hint.
    pub fn warn_hint(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        let hint = Some(hint.into());
        self.warnings.push(Message { message: message.into(), hint, about: None });
    }

    /// Adds an error: the report is no longer good.
    pub fn error(&mut self, message: impl Into<String>) {
        self.failed = true;
        self.errors.push(Message { message: message.into(), hint: None, about: None });
    }

    /// Adds an error with a hint.
    pub fn error_hint(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.failed = true;
        let hint = Some(hint.into());
        self.errors.push(Message { message: message.into(), hint, about: None });
    }

    /// Adds what went wrong with a host, about that host or a node on it.
    pub fn remote_error(&mut self, about: &str, error: &RemoteError) {
        self.failed = true;
        let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
        let (message, about) = (format!("{error}{cause}"), Some(about.to_owned()));
        self.errors.push(Message { message, hint: error.hint(), about });
    }

    /// Adds an error from its source, with its causes and its hint, about a node or a host.
    pub fn error_about(&mut self, about: &str, error: &anyhow::Error) {
        self.failed = true;
        let about = Some(about.to_owned());
        self.errors.push(Message { message: chain(error), hint: hint(error), about });
    }

    /// Adds a warning from its source, about a node or a host.
    pub fn warn_about(&mut self, about: &str, error: &anyhow::Error) {
        let about = Some(about.to_owned());
        self.warnings.push(Message { message: chain(error), hint: hint(error), about });
    }

    /// Adds a fault of the configuration as an error.
    pub fn fault(&mut self, fault: &Fault) {
        self.failed = true;
        self.errors.push(Message::of_fault(fault));
    }

    /// Makes the report not good without a word of its own.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// True while no error was added.
    pub fn is_good(&self) -> bool {
        !self.failed
    }

    /// Adds everything of another report behind this one; the result of this one stays.
    pub fn append(&mut self, other: Self) {
        self.parts.extend(other.parts);
        self.warnings.extend(other.warnings);
        self.errors.extend(other.errors);
        self.failed |= other.failed;
    }

    /// Adds warnings of the configuration.
    pub fn warn_faults(&mut self, faults: &[Fault]) {
        self.warnings.extend(faults.iter().map(Message::of_fault));
    }

    /// Prints the report of `command`.
    pub fn print(&self, command: &str, json: bool) {
        if json && !self.is_printed {
            let envelope = json!({
                "command": command,
                "ok": self.is_good(),
                "warnings": self.warnings,
                "errors": self.errors,
                "result": self.result,
            });
            return to_stdout(&format!("{envelope:#}\n"));
        }
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(&part.render(Look::of_stdout()));
        }
        to_stdout(&text);
        let warnings = self.warnings.iter().map(|message| message.text("Warning: "));
        let errors = self.errors.iter().map(|message| message.text("Error: "));
        to_stderr(&warnings.chain(errors).collect::<String>());
    }
}

/// Prints one line at once, while a command is running.
pub fn print_line(text: &str) {
    to_stdout(&format!("{text}\n"));
}

/// Prints what clap has to say: help and version to standard output, complaints to standard error.
pub fn print_usage(error: &clap::Error) {
    // A reader that has gone is no error of ours.
    drop(error.print());
}

/// Prints why a command came to nothing.
pub fn print_failure(command: &str, error: &anyhow::Error, json: bool) {
    let faults = faults(error);
    if json {
        let errors = match faults {
            Some(faults) => faults.0.iter().map(fault_json).collect(),
            None => vec![json!({ "message": chain(error), "hint": hint(error) })],
        };
        let (warnings, result) = (json!([]), Value::Null);
        let envelope = json!({
            "command": command, "ok": false, "warnings": warnings, "errors": errors,
            "result": result,
        });
        return to_stdout(&format!("{envelope:#}\n"));
    }
    let text = match faults {
        Some(faults) => {
            faults.0.iter().map(|fault| Message::of_fault(fault).text("ctl: ")).collect()
        }
        None => Message { message: chain(error), hint: hint(error), about: None }.text("Error: "),
    };
    to_stderr(&text);
}

/// An error and its causes in one line, each said once.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Libraries repeat their source in their own text; say it once.
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

impl Message {
    fn of_fault(fault: &Fault) -> Self {
        Self { message: fault.to_string(), hint: fault.hint.clone(), about: None }
    }

    fn text(&self, prefix: &str) -> String {
        let about = self
            .about
            .as_ref()
            .filter(|about| !self.message.contains(about.as_str()))
            .map_or_else(String::new, |about| format!("{about}: "));
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("hint: {hint}\n"));
        format!("{prefix}{about}{}\n{hint}", self.message)
    }
}

/// How the answer may look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Escape sequences for colours are understood.
    pub(crate) has_colour: bool,
    /// Standard output is a terminal with a width to keep to.
    pub(crate) is_terminal: bool,
}

impl Look {
    fn of_stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { has_colour: is_terminal && !unwanted, is_terminal }
    }
}

impl Part {
    fn render(&self, look: Look) -> String {
        match self {
            Self::Line(text) => format!("{text}\n"),
            Self::Raw(text) => text.clone(),
            Self::Table { header, rows } => table(header, rows, look),
            Self::Status(rows) => status_table::render(rows, look),
        }
    }
}

/// Columns with two spaces between, as wide as their content; cut to the terminal if there is one.
fn table(header: &[String], rows: &[Vec<String>], look: Look) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // A terminal that does not tell its width, or hardly has one, breaks the lines itself.
    if look.is_terminal && table.width().is_some_and(|width| width >= WRAP_WIDTH_MIN) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.clone());
    }
    for (n, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        let mut cells = rows.iter().filter_map(|row| row.get(n)).peekable();
        if cells.peek().is_some() && cells.all(|cell| is_numeric(cell)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.to_string();
    lines.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A number, perhaps with a unit or a per cent sign, or the dash for none.
fn is_numeric(cell: &str) -> bool {
    cell == "-"
        || cell.starts_with(|c: char| c.is_ascii_digit())
            && cell.bytes().all(|b| b.is_ascii_digit() || b".,%kMGT ".contains(&b))
}

/// The faults of the configuration, when that is what an error is.
fn faults(error: &anyhow::Error) -> Option<&Faults> {
    match error.downcast_ref::<ContextError>() {
        Some(ContextError::Faults(faults)) => Some(faults),
        _ => error.downcast_ref::<Faults>(),
    }
}

/// What can be typed, from the outermost error that knows.
fn hint(error: &anyhow::Error) -> Option<String> {
    let known = |cause: &(dyn Error + 'static)| {
        if let Some(hinted) = cause.downcast_ref::<Hinted>() {
            return Some(hinted.hint.clone());
        }
        if let Some(unknown) = cause.downcast_ref::<UnknownNode>() {
            return Some(unknown.hint.clone());
        }
        if let Some(context) = cause.downcast_ref::<ContextError>() {
            return context.hint();
        }
        if let Some(lock) = cause.downcast_ref::<LockError>() {
            return lock.hint();
        }
        cause.downcast_ref::<RemoteError>().and_then(RemoteError::hint)
    };
    error.chain().find_map(known)
}

fn fault_json(fault: &Fault) -> Value {
    json!({
        "message": fault.to_string(),
        "hint": fault.hint,
        "file": &*fault.at.file,
        "line": fault.at.line,
        "column": fault.at.column,
    })
}

/// A reader that has gone (`ctl status | head -1`) is no error of ours.
fn to_stdout(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

fn to_stderr(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    const PLAIN: Look = Look { has_colour: false, is_terminal: false };

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect()
    }

    #[test]
    fn a_table_has_two_spaces_between_columns_and_numbers_stand_right() {
        let header = ["Stream", "Rows", "Reason"].map(str::to_owned);
        let rows = rows(&[&["conn", "12", "spool_full"], &["known_hosts", "1234", "-"]]);
        assert_eq!(
            table(&header, &rows, PLAIN),
            "Stream       Rows  Reason\n\
             conn           12  spool_full\n\
             known_hosts  1234  -\n"
        );
    }

    #[test]
    fn a_table_without_rows_is_its_header() {
        assert_eq!(table(&["Name".to_owned()], &[], PLAIN), "Name\n");
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        let cause = std::io::Error::other("disk is gone");
        let error = Err::<(), _>(cause).context("cannot read `x`").unwrap_err();
        assert_eq!(chain(&error), "cannot read `x`: disk is gone");
        let repeated = error.context("cannot start: cannot read `x`");
        assert_eq!(chain(&repeated), "cannot start: cannot read `x`: disk is gone");
    }

    #[test]
    fn the_hint_is_found_below_what_was_said_about_it() {
        let error = hinted("no program", "make build").context("install");
        assert_eq!(hint(&error), Some("make build".to_owned()));
        assert_eq!(chain(&error), "install: no program");
    }

    #[test]
    fn a_message_names_what_it_is_about_unless_it_does_already() {
        let message = |message: &str| Message {
            message: message.to_owned(),
            hint: Some("x".to_owned()),
            about: Some("w-1".to_owned()),
        };
        assert_eq!(message("crashed").text("Error: "), "Error: w-1: crashed\nhint: x\n");
        assert_eq!(message("node w-1 crashed").text(""), "node w-1 crashed\nhint: x\n");
    }

    #[test]
    fn status_is_good_only_when_all_nodes_run() {
        let row = |status: &str| StatusRow {
            name: "w-1".to_owned(),
            role: tyto_core::config::runtime::Role::Worker,
            host: "h".to_owned(),
            status: status.to_owned(),
            pid: None,
            started_ns: None,
            why: None,
            boot: None,
        };
        let mut report = Report::new();
        report.status(vec![row("running")]);
        assert!(report.is_good());
        report.status(vec![row("running"), row("stopped")]);
        assert!(!report.is_good());
    }
}
