//! What the network card of the captured interface counted, from `/proc/net/dev`. The file is
//! opened once, while the process may still open files, and read anew for each report; it
//! stays that of the network namespace it was opened in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use tyto_daemon::health;
use tyto_proto::v1::Counter;

/// Longest table that is read, bytes: 200 bytes an interface, for some thousands of them.
const TABLE_BYTES_MAX: usize = 1 << 20;
/// How much is read at once, bytes.
const READ_BYTES: usize = 1 << 14;

/// Columns of the table (net/core/net-procfs.c) that are reported: where they stand behind the
/// name, and what they are called here.
const COLUMNS: [(usize, &str); 7] = [
    (0, "nic_bytes"),
    (1, "nic_packets"),
    (2, "nic_errors"),
    (3, "nic_dropped"),
    (4, "nic_fifo"),
    (5, "nic_frame"),
    (9, "nic_sent"),
];

/// The counters of one interface, since it was made.
#[derive(Debug)]
pub(crate) struct Nic {
    table: File,
    interface: String,
}

impl Nic {
    /// Opens the table of this network namespace.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        Ok(Self { table: File::open("/proc/self/net/dev")?, interface: interface.to_owned() })
    }

    /// The counters now; none while there is no such interface.
    pub(crate) fn report(&self) -> Vec<Counter> {
        self.read().map(|table| counters(&table, &self.interface)).unwrap_or_default()
    }

    fn read(&self) -> io::Result<String> {
        let mut bytes = Vec::new();
        let mut piece = [0; READ_BYTES];
        while bytes.len() < TABLE_BYTES_MAX {
            let got = self.table.read_at(&mut piece, bytes.len() as u64)?;
            if got == 0 {
                break;
            }
            bytes.extend_from_slice(piece.get(..got).unwrap_or_default());
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn counters(table: &str, interface: &str) -> Vec<Counter> {
    let of_line = |line: &str| {
        let (name, values) = line.split_once(':')?;
        (name.trim() == interface).then(|| {
            let values: Vec<&str> = values.split_ascii_whitespace().collect();
            let value = |at: usize| values.get(at)?.parse().ok();
            let known = COLUMNS.iter().filter_map(|(at, name)| Some((*name, value(*at)?)));
            known.map(|(name, value)| health::counter(name, value)).collect()
        })
    };
    table.lines().find_map(of_line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    1000      10    0    0    0     0          0         0     1000      10    0    0    0     0       0          0
  eth0: 9000000    7000    1    2    3     4          5         6     4000      40    7    8    9    10      11         12
";

    #[test]
    fn columns_are_the_kernels() {
        let found = counters(TABLE, "eth0");
        let found: Vec<_> = found.iter().map(|c| (c.name.as_str(), c.value)).collect();
        let expected = [
            ("nic_bytes", 9_000_000),
            ("nic_packets", 7000),
            ("nic_errors", 1),
            ("nic_dropped", 2),
            ("nic_fifo", 3),
            ("nic_frame", 4),
            ("nic_sent", 40),
        ];
        assert_eq!(found, expected);
        assert!(counters(TABLE, "eth").is_empty());
        assert!(counters("", "eth0").is_empty());
    }

    #[test]
    fn the_open_table_is_read_again_and_again() {
        let nic = Nic::open("lo").unwrap();
        assert_eq!(nic.report().len(), COLUMNS.len());
        assert_eq!(nic.report().len(), COLUMNS.len());
        assert!(Nic::open("no-such-if").unwrap().report().is_empty());
    }
}
