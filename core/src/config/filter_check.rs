//! Filters in the operator's files: compiled once, so that a fault is told with its place before
//! anything is deployed.

use super::error::{At, Fault, FaultKind};
use crate::filter::{Filter, FilterError, Target};

/// Link type of Ethernet, for interfaces of which nothing else is said.
pub(super) const ETHERNET: u32 = 1;

/// Snaplen that programs are tried with; it does not decide whether they can be made.
const SNAPLEN_BYTES: u32 = 65_535;

/// What is wrong with the filter of a key. `key` is said in the fault, `value_at` is where the
/// text begins, when it stands in the file just as it is.
pub(super) fn fault(
    key: &str,
    text: &str,
    link_type: u32,
    at: &At,
    value_at: Option<&At>,
) -> Option<Fault> {
    let error = compile(text, link_type).err()?;
    let said = error.to_string();
    let (at, problem) = match value_at {
        Some(value_at) => {
            let column = u32::try_from(error.column()).unwrap_or(u32::MAX);
            let column = value_at.column.saturating_add(column.saturating_sub(1));
            // The column in the line takes the place of the one in the filter.
            let problem = said.split_once(": ").map_or(said.as_str(), |(_, problem)| problem);
            (value_at.place(value_at.line, column), problem.to_owned())
        }
        None => (at.clone(), format!("{said} of `{text}`")),
    };
    let fault = Fault::new(&at, FaultKind::BadFilter { key: key.to_owned(), problem });
    Some(match error.suggestion() {
        Some(hint) => fault.hint(hint),
        None => fault,
    })
}

fn compile(text: &str, link_type: u32) -> Result<(), FilterError> {
    let target = Target::Live { snaplen: SNAPLEN_BYTES };
    Filter::parse(text)?.compile(link_type, target).map(drop)
}
