//! Names of interfaces and of their operations, as Zeek's logs have them. `interfaces.tsv` has
//! them sorted by key: `UUID`, or `UUID NNNNN` with the number of the operation.

use std::sync::LazyLock;

static NAMES: &str = include_str!("interfaces.tsv");
/// The lines of it, split into key and name: each call of a bound interface is looked for.
static BY_KEY: LazyLock<Vec<(&str, &str)>> =
    LazyLock::new(|| NAMES.lines().filter_map(|line| line.split_once('\t')).collect());

/// Interfaces by the pipes in which they usually are.
const BY_PIPE: [(&str, &str); 3] = [
    ("winreg", "338cd001-2244-31f1-aaaa-900038001003"),
    ("spoolss", "12345678-1234-abcd-ef00-0123456789ab"),
    ("srvsvc", "4b324fc8-1670-01d3-1278-5a47bf6ee188"),
];

/// Calls so frequent that they are not logged (Zeek: `DCE_RPC::ignored_operations`).
const PASSED_OVER: [(&str, &[&str]); 3] = [
    (
        "winreg",
        &[
            "BaseRegCloseKey",
            "BaseRegGetVersion",
            "BaseRegOpenKey",
            "BaseRegQueryValue",
            "BaseRegDeleteKeyEx",
            "OpenLocalMachine",
            "BaseRegEnumKey",
            "OpenClassesRoot",
        ],
    ),
    ("spoolss", &["RpcSplOpenPrinter", "RpcClosePrinter"]),
    ("wkssvc", &["NetrWkstaGetInfo"]),
];

/// Name of the interface `uuid`.
pub(super) fn interface(uuid: &str) -> String {
    find(uuid).map_or_else(|| format!("unknown-{uuid}"), str::to_owned)
}

/// Name of an operation of the interface `uuid`.
pub(super) fn operation(uuid: &str, number: u16) -> String {
    find(&format!("{uuid} {number:05}")).map_or_else(|| format!("unknown-{number}"), str::to_owned)
}

/// The interface that is usually behind the pipe `name`.
pub(super) fn of_pipe(name: &[u8]) -> Option<&'static str> {
    let prefix = name.windows(6).position(|part| part.eq_ignore_ascii_case(b"\\pipe\\"));
    let name = prefix.and_then(|at| name.get(at + 6..)).unwrap_or(name);
    let of = BY_PIPE.iter().find(|(pipe, _)| name.eq_ignore_ascii_case(pipe.as_bytes()));
    of.map(|(_, uuid)| *uuid)
}

/// Whether calls of it are logged.
pub(super) fn is_logged(interface: &str, operation: &str) -> bool {
    !PASSED_OVER.iter().any(|(of, names)| *of == interface && names.contains(&operation))
}

fn find(key: &str) -> Option<&'static str> {
    let at = BY_KEY.binary_search_by(|(found, _)| (*found).cmp(key)).ok()?;
    Some(BY_KEY.get(at)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_by_its_key() {
        let mut last = "";
        for line in NAMES.lines() {
            let (key, name) = line.split_once('\t').unwrap();
            assert!(last < key, "{key} is out of order");
            assert_eq!(find(key), Some(name));
            last = key;
        }
        assert_eq!(find("zz"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn what_is_not_known_keeps_its_number() {
        assert_eq!(interface("e1af8308-5d1f-11c9-91a4-08002b14a0fa"), "epmapper");
        assert_eq!(operation("e1af8308-5d1f-11c9-91a4-08002b14a0fa", 3), "ept_map");
        assert_eq!(interface("00"), "unknown-00");
        assert_eq!(operation("00", 7), "unknown-7");
    }

    #[test]
    fn pipes_are_known_with_and_without_their_prefix() {
        assert_eq!(of_pipe(b"\\PIPE\\srvsvc"), of_pipe(b"SRVSVC"));
        assert_eq!(of_pipe(b"\\pipe\\other"), None);
    }
}
