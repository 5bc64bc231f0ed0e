//! Reads `docs/parity.md`: its tables define the rows, its last section lists what is not built yet.

use std::collections::{BTreeMap, BTreeSet};

use super::scan;

/// The heading under which rows are listed that are not built.
const NOT_BUILT: &str = "## Not built yet";

/// How much of a row is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Nothing of it is proven.
    All,
    /// Part of it is built, and a test proves that part.
    Part,
}

/// The page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// The numbers of all rows.
    pub(super) rows: BTreeSet<String>,
    /// Of them, those that are missing or partly missing.
    pub(super) not_built: BTreeMap<String, Missing>,
}

impl Table {
    /// Reads the page, and says what is wrong with it.
    pub(super) fn parse(page: &str) -> (Table, Vec<String>) {
        let mut table = Table::default();
        let mut problems = Vec::new();
        let mut listing = false;
        for line in page.lines() {
            if line.starts_with("## ") {
                listing = line.trim() == NOT_BUILT;
            }
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let ["", row, ref rest @ ..] = cells[..] else { continue };
            if !scan::is_row(row) {
                continue;
            }
            if !listing {
                if !table.rows.insert(row.to_owned()) {
                    problems.push(format!("{row}: defined twice"));
                }
                continue;
            }
            let missing = match rest.first() {
                Some(&"all") => Missing::All,
                Some(&"part") => Missing::Part,
                _ => {
                    problems.push(format!("{row}: the list of what is not built says `all` or `part` of it"));
                    continue;
                }
            };
            if table.not_built.insert(row.to_owned(), missing).is_some() {
                problems.push(format!("{row}: listed twice as not built"));
            }
        }
        problems.extend(table.gaps());
        (table, problems)
    }

    /// How many rows are missing in this way.
    pub(super) fn count(&self, missing: Missing) -> usize {
        self.not_built.values().filter(|known| **known == missing).count()
    }

    /// Rows that the numbering skips, so that none is lost unseen, and listed rows that nothing defines.
    fn gaps(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &self.rows {
            let (letter, number) = row.split_at(1);
            let expected = last.get(letter).copied().unwrap_or(0) + 1;
            let number = number.parse().unwrap_or(expected);
            if number != expected {
                problems.push(format!("{letter}{expected:02}: not defined, though {row} is"));
            }
            last.insert(letter, number);
        }
        let undefined = self.not_built.keys().filter(|row| !self.rows.contains(*row));
        problems.extend(undefined.map(|row| format!("{row}: listed as not built, and not defined")));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# Parity
| Row | What | Dask | Overspill |
|---|---|---|---|
| S01 | a limit | yes | same |
| S02 | auto | yes | same |
| Z01 | Func | yes | same |

## Not built yet
| Row | How much | Comes with | What |
|---|---|---|---|
| S01 | part | worker | the flag |
| Z01 | all | layers | |
";

    #[test]
    fn reads_rows_and_what_is_not_built() {
        let (table, problems) = Table::parse(PAGE);
        assert_eq!(problems, [""; 0]);
        assert_eq!(table.rows.iter().map(String::as_str).collect::<Vec<_>>(), ["S01", "S02", "Z01"]);
        assert_eq!(table.not_built["S01"], Missing::Part);
        assert_eq!(table.not_built["Z01"], Missing::All);
        assert_eq!((table.count(Missing::All), table.count(Missing::Part)), (1, 1));
    }

    #[test]
    fn a_lost_row_is_noticed() {
        let (_, problems) = Table::parse(&PAGE.replace("| S01 | a limit", "| x | a limit"));
        assert_eq!(
            problems,
            ["S01: not defined, though S02 is", "S01: listed as not built, and not defined"]
        );
    }

    #[test]
    fn a_row_is_defined_and_listed_once() {
        let twice = PAGE.replace("| S02 | auto", "| S01 | auto").replace("| Z01 | all", "| S01 | all");
        let (_, problems) = Table::parse(&twice);
        assert_eq!(problems, ["S01: defined twice", "S01: listed twice as not built"]);
    }

    #[test]
    fn the_list_says_how_much() {
        let (_, problems) = Table::parse(&PAGE.replace("| all |", "| some |"));
        assert_eq!(problems, ["Z01: the list of what is not built says `all` or `part` of it"]);
    }
}
