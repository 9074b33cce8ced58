//! Reads Zeek's tab-separated logs, as an analyst's script would: by the names of the columns.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// Lines shown of each side of a difference.
const DIFFERENCE_LINES_MAX: usize = 20;

/// One log: what all its files hold, one after the other.
#[derive(Clone, Debug, Default)]
pub struct ZeekLog {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl ZeekLog {
    /// Reads one file, or several one after the other.
    ///
    /// # Errors
    /// When a row comes before its header or has not as many values as there are columns, or
    /// when two headers differ: then the text is no whole log.
    pub fn parse(text: &str) -> Result<Self> {
        let mut log = Self::default();
        for (number, line) in text.lines().enumerate() {
            if let Some(names) = line.strip_prefix("#fields\t") {
                let columns: Vec<String> = names.split('\t').map(str::to_owned).collect();
                if !log.columns.is_empty() && log.columns != columns {
                    bail!("line {}: other columns than before", number + 1);
                }
                log.columns = columns;
            } else if !line.starts_with('#') {
                let row: Vec<String> = line.split('\t').map(str::to_owned).collect();
                if row.len() != log.columns.len() {
                    bail!("line {}: {} values: `{line}`", number + 1, row.len());
                }
                log.rows.push(row);
            }
        }
        Ok(log)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The values of one column.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn column(&self, name: &str) -> Result<Vec<&str>> {
        let at = self.position(name)?;
        Ok(self.rows.iter().map(|row| row[at].as_str()).collect())
    }

    /// How often each row stands here, without these columns.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn multiset(&self, without: &[&str]) -> Result<BTreeMap<String, usize>> {
        let left_out =
            without.iter().map(|name| self.position(name)).collect::<Result<Vec<_>>>()?;
        let mut set = BTreeMap::new();
        for row in &self.rows {
            let kept = row.iter().enumerate().filter(|(at, _)| !left_out.contains(at));
            let kept: Vec<&str> = kept.map(|(_, value)| value.as_str()).collect();
            *set.entry(kept.join("\t")).or_insert(0) += 1;
        }
        Ok(set)
    }

    /// How often each combination of these columns stands here.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn counts(&self, columns: &[&str]) -> Result<BTreeMap<String, usize>> {
        let without: Vec<&str> = self
            .columns
            .iter()
            .map(String::as_str)
            .filter(|name| !columns.contains(name))
            .collect();
        self.multiset(&without)
    }

    fn position(&self, name: &str) -> Result<usize> {
        self.columns
            .iter()
            .position(|column| column == name)
            .with_context(|| format!("no column `{name}` among {:?}", self.columns))
    }
}

/// What one multiset has and the other has not, some lines of each, for a message. None when
/// they are equal.
pub fn difference(
    expected: &BTreeMap<String, usize>,
    found: &BTreeMap<String, usize>,
) -> Option<String> {
    if expected == found {
        return None;
    }
    let only = |a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>, sign: char| {
        let lines = a.iter().filter(|(row, n)| b.get(*row).copied().unwrap_or(0) < **n);
        lines
            .take(DIFFERENCE_LINES_MAX)
            .map(|(row, n)| format!("{sign} {n}× {row}\n"))
            .collect::<String>()
    };
    Some(only(expected, found, '-') + &only(found, expected, '+'))
}
