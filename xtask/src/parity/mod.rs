//! `cargo xtask parity`: `docs/parity.md` numbers the behaviours that people know from Dask and zict; each is
//! proven by a test that carries the number, or is listed there as not built yet.

mod scan;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use scan::Mention;
use table::{Missing, Table};

use crate::shell::{self, Result, failed};
use crate::tree;

/// The page that defines the rows.
const PAGE: &str = "docs/parity.md";

/// Fails unless rows, the list of what is not built yet, and the tests agree.
pub(crate) fn run(root: &Path) -> Result {
    let (table, mut problems) = Table::parse(&shell::read(&root.join(PAGE))?);
    let mut mentions = Vec::new();
    for path in tree::files(root, &["rs", "py", "mjs"])? {
        let shown = path.strip_prefix(root).unwrap_or(&path);
        // No row is proven here, and the tests of the scanner hold samples.
        if shown.starts_with("xtask") {
            continue;
        }
        let (found, wrong) = scan::scan(shown, &shell::read(&path)?);
        mentions.extend(found);
        problems.extend(wrong);
    }
    problems.extend(compare(&table, &mentions));

    let proven = table.rows.iter().filter(|row| !table.not_built.contains_key(*row)).count();
    println!(
        "{} rows: {proven} built, {} in part, {} not built yet; row numbers in tests: {}",
        table.rows.len(),
        table.count(Missing::Part),
        table.count(Missing::All),
        mentions.len()
    );
    if problems.is_empty() { Ok(()) } else { failed(problems.join("\n")) }
}

fn compare(table: &Table, mentions: &[Mention]) -> Vec<String> {
    let mut tests: BTreeMap<&str, &Mention> = BTreeMap::new();
    let mut problems = Vec::new();
    for mention in mentions {
        if table.rows.contains(&mention.row) {
            tests.entry(&mention.row).or_insert(mention);
        } else {
            problems.push(format!("{}: {} is no row of {PAGE}", mention.place, mention.row));
        }
    }
    for row in &table.rows {
        match (table.not_built.get(row), tests.get(row.as_str())) {
            (None, None) => problems.push(format!("{row}: no test carries it; {PAGE} says that it is built")),
            (Some(Missing::Part), None) => {
                problems.push(format!("{row}: no test carries it; {PAGE} says that part of it is built"));
            }
            (Some(Missing::All), Some(mention)) => problems.push(format!(
                "{row}: {} proves it, and {PAGE} lists all of it as not built yet: mark it `part` or take it \
                 off the list",
                mention.place
            )),
            (None | Some(Missing::Part), Some(_)) | (Some(Missing::All), None) => {}
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&str], not_built: &[(&str, Missing)]) -> Table {
        Table {
            rows: rows.iter().map(|row| (*row).to_owned()).collect(),
            not_built: not_built.iter().map(|(row, missing)| ((*row).to_owned(), *missing)).collect(),
        }
    }

    fn test_of(row: &str) -> Mention {
        Mention { row: row.to_owned(), place: "tests/a.rs:7 (moves)".to_owned() }
    }

    #[test]
    fn rows_and_tests_that_agree_are_no_problem() {
        let table = table(&["S01", "S02", "S03"], &[("S02", Missing::All), ("S03", Missing::Part)]);
        assert_eq!(compare(&table, &[test_of("S01"), test_of("S03"), test_of("S01")]), [""; 0]);
    }

    #[test]
    fn a_built_row_needs_a_test() {
        let problems = compare(&table(&["S01"], &[]), &[]);
        assert!(problems[0].starts_with("S01: no test carries it"), "{problems:?}");
    }

    #[test]
    fn a_row_built_in_part_needs_a_test_of_that_part() {
        let problems = compare(&table(&["S01"], &[("S01", Missing::Part)]), &[]);
        assert!(problems[0].starts_with("S01: no test carries it"), "{problems:?}");
    }

    #[test]
    fn what_a_test_proves_is_not_listed_as_missing() {
        let problems = compare(&table(&["S01"], &[("S01", Missing::All)]), &[test_of("S01")]);
        assert!(problems[0].contains("take it off the list"), "{problems:?}");
    }

    #[test]
    fn a_test_names_rows_that_exist() {
        let problems = compare(&table(&["S01"], &[("S01", Missing::All)]), &[test_of("S99")]);
        assert_eq!(problems, ["tests/a.rs:7 (moves): S99 is no row of docs/parity.md"]);
    }
}
