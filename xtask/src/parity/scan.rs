//! Finds the tests that carry row numbers: `/// Z12, S07: ...` above a Rust test, a line of that form in the
//! docstring of a Python test, or `/** S19: ... */` above a JavaScript test.

use std::path::Path;

/// A test that says which row it proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// The row's number.
    pub(super) row: String,
    /// File, line and name of the test.
    pub(super) place: String,
}

/// Whether this is a row's number: one of the letters, and two digits.
pub(super) fn is_row(text: &str) -> bool {
    matches!(text.as_bytes(), [b'S' | b'Z' | b'B' | b'W', tens, units]
        if tens.is_ascii_digit() && units.is_ascii_digit())
}

/// The rows that a line of documentation names at its start, as in `Z12, S07: a reader gets its value`.
fn rows(line: &str) -> Vec<&str> {
    let Some((numbers, _)) = line.trim().split_once(':') else { return Vec::new() };
    let rows: Vec<&str> = numbers.split(',').map(str::trim).collect();
    if rows.iter().all(|row| is_row(row)) { rows } else { Vec::new() }
}

/// The tests of a file that carry rows, and what is wrong: a number on something that is no test, or on one
/// that does not run.
pub(super) fn scan(path: &Path, text: &str) -> (Vec<Mention>, Vec<String>) {
    let mut found = Found { path, mentions: Vec::new(), problems: Vec::new() };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("py") => python(text, &mut found),
        Some("mjs") => javascript(text, &mut found),
        _ => rust(text, &mut found),
    }
    (found.mentions, found.problems)
}

struct Found<'a> {
    path: &'a Path,
    mentions: Vec<Mention>,
    problems: Vec<String>,
}

impl Found<'_> {
    fn test(&mut self, line: usize, name: &str, rows: &[&str]) {
        let place = format!("{}:{line} ({name})", self.path.display());
        self.mentions.extend(rows.iter().map(|row| Mention { row: (*row).to_owned(), place: place.clone() }));
    }

    fn problem(&mut self, line: usize, rows: &[&str], what: &str) {
        self.problems.push(format!("{}:{line}: {} {what}", self.path.display(), rows.join(", ")));
    }
}

/// What was read above an item of Rust.
#[derive(Default)]
struct Above<'a> {
    rows: Vec<&'a str>,
    test: bool,
    ignored: bool,
}

impl Above<'_> {
    fn attribute(&mut self, text: &str) {
        let path = text.trim_start_matches("#[").split(['(', ']', '=', ' ']).next().unwrap_or_default();
        match path.rsplit("::").next() {
            Some("test") => self.test = true,
            Some("ignore") => self.ignored = true,
            _ => {}
        }
    }
}

fn rust(text: &str, found: &mut Found<'_>) {
    let mut above = Above::default();
    let mut attribute = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut line = line.trim();
        if let Some(doc) = line.strip_prefix("///") {
            above.rows.extend(rows(doc));
            continue;
        }
        while !attribute.is_empty() || line.starts_with("#[") {
            match attribute_end(&attribute, line) {
                Some(end) => {
                    attribute.push_str(&line[..end]);
                    above.attribute(&attribute);
                    attribute.clear();
                    line = line[end..].trim_start();
                }
                None => {
                    attribute.push_str(line);
                    attribute.push(' ');
                    line = "";
                    break;
                }
            }
        }
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        let Above { rows, test, ignored } = std::mem::take(&mut above);
        if rows.is_empty() {
            continue;
        }
        match function(line) {
            Some(_) if test && ignored => found.problem(number, &rows, "on a test that is ignored"),
            Some(name) if test => found.test(number, name, &rows),
            _ => found.problem(number, &rows, "on something that is no test"),
        }
    }
}

/// The byte behind the bracket that closes an attribute begun in `before` and going on in `line`.
fn attribute_end(before: &str, line: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (index, c) in before.chars().map(|c| (None, c)).chain(line.char_indices().map(|(i, c)| (Some(i), c)))
    {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' if !quoted => depth += 1,
            ']' if !quoted => {
                depth -= 1;
                if let (0, Some(index)) = (depth, index) {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The name of the function that a line declares.
fn function(line: &str) -> Option<&str> {
    let (before, behind) = line.split_once("fn ")?;
    let qualifiers = before.split_whitespace().all(|word| {
        matches!(word, "pub" | "async" | "const" | "unsafe" | "extern") || word.starts_with("pub(")
    });
    let name = behind.split(|c: char| c != '_' && !c.is_alphanumeric()).next()?;
    (qualifiers && !name.is_empty()).then_some(name)
}

fn python(text: &str, found: &mut Found<'_>) {
    let mut never_runs = false;
    let mut lines = (1..).zip(text.lines()).peekable();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if line.starts_with('@') {
            let mark = line.split('(').next().unwrap_or_default();
            never_runs |= mark.ends_with(".skip") || mark.ends_with(".xfail");
            continue;
        }
        let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("def ");
        let Some(name) = declared.and_then(|behind| behind.split('(').next()) else {
            never_runs &= line.is_empty() || line.starts_with('#');
            continue;
        };
        // The signature may go on for some lines; the docstring begins on the next one.
        let mut signature = line;
        while !signature.ends_with(':') {
            match lines.next() {
                Some((_, line)) => signature = line.trim(),
                None => break,
            }
        }
        let mut named = Vec::new();
        let opens = |line: &str| line.trim_start().trim_start_matches(['r', 'R']).starts_with("\"\"\"");
        if let Some((_, first)) = lines.next_if(|(_, line)| opens(line)) {
            let mut line = first.trim_start().trim_start_matches(['r', 'R']).trim_start_matches("\"\"\"");
            loop {
                let (doc, ended) = line.split_once("\"\"\"").map_or((line, false), |(doc, _)| (doc, true));
                named.extend(rows(doc));
                match lines.next_if(|_| !ended) {
                    Some((_, next)) => line = next,
                    None => break,
                }
            }
        }
        let skipped = std::mem::take(&mut never_runs);
        if named.is_empty() {
            continue;
        }
        if !name.starts_with("test") {
            found.problem(number, &named, "on something that is no test");
        } else if skipped {
            found.problem(number, &named, "on a test that is skipped or expected to fail");
        } else {
            found.test(number, name, &named);
        }
    }
}

/// A comment of one line, and a test of `node:test` below it.
fn javascript(text: &str, found: &mut Found<'_>) {
    let mut named = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(doc) = line.strip_prefix("/**") {
            named = rows(doc);
            continue;
        }
        let named = std::mem::take(&mut named);
        if named.is_empty() {
            continue;
        }
        let called = line.strip_prefix("await ").unwrap_or(line);
        let called = called.strip_prefix("t.").unwrap_or(called);
        match called.strip_prefix("test(").and_then(|behind| behind.split('"').nth(1)) {
            Some(_) if line.contains("skip") || line.contains("todo") => {
                found.problem(number, &named, "on a test that is skipped or expected to fail");
            }
            Some(name) => found.test(number, name, &named),
            None => found.problem(number, &named, "on something that is no test"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mentions(file: &str, text: &str) -> Vec<(String, String)> {
        let (found, problems) = scan(Path::new(file), text);
        assert_eq!(problems, [""; 0]);
        found.into_iter().map(|mention| (mention.row, mention.place)).collect()
    }

    fn problem(file: &str, text: &str) -> String {
        let (found, problems) = scan(Path::new(file), text);
        assert_eq!(found, []);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.into_iter().next().unwrap_or_default()
    }

    fn of(row: &str, place: &str) -> (String, String) {
        (row.to_owned(), place.to_owned())
    }

    #[test]
    fn a_row_is_a_letter_and_two_digits() {
        assert!(["S01", "Z24", "B13", "W12"].iter().all(|row| is_row(row)));
        assert!(!["U01", "S1", "S001", "s01", "Sxy", ""].iter().any(|row| is_row(row)));
    }

    #[test]
    fn only_a_list_before_a_colon_names_rows() {
        assert_eq!(rows(" Z12, S07: a reader gets its value"), ["Z12", "S07"]);
        for line in ["as in Z12: no", "Z12 is meant", "Z12, and more: no", "", ": no"] {
            assert_eq!(rows(line), [""; 0], "{line}");
        }
    }

    #[test]
    fn finds_rows_above_rust_tests() {
        let text = r#"
/// Z12: the reader gets its value.
/// More about it, as Z13: says.
/// S07: byte for byte.
#[test]
#[cfg(
    unix
)]
// a remark

fn reader() {}

#[tokio::test(flavor = "multi_thread")]
/// S10: until below.
async fn spills() {}

    proptest! {
        /// Z02, Z03: exact order.
        #[expect(lint, reason = "a ] in a string")] #[test] fn order(x in 0..9) {}
    }
"#;
        assert_eq!(
            mentions("a.rs", text),
            [
                of("Z12", "a.rs:11 (reader)"),
                of("S07", "a.rs:11 (reader)"),
                of("S10", "a.rs:15 (spills)"),
                of("Z02", "a.rs:19 (order)"),
                of("Z03", "a.rs:19 (order)"),
            ]
        );
    }

    #[test]
    fn a_row_on_what_is_no_rust_test_is_a_problem() {
        assert_eq!(problem("a.rs", "/// Z12: x\nfn helper() {}"), "a.rs:2: Z12 on something that is no test");
        assert_eq!(problem("a.rs", "/// Z12: x\nstruct Fn;"), "a.rs:2: Z12 on something that is no test");
        assert_eq!(
            problem("a.rs", "/// Z12: x\n#[test]\n#[ignore = \"slow\"]\nfn t() {}"),
            "a.rs:4: Z12 on a test that is ignored"
        );
    }

    #[test]
    fn documentation_of_other_items_is_left_alone() {
        assert_eq!(
            mentions("a.rs", "//! Z12: x\n/// Follows Z12.\nfn f() {}\n// S01: x\n#[test]\nfn t() {}"),
            []
        );
    }

    #[test]
    fn finds_rows_in_python_docstrings() {
        let text = r#"
def test_one():
    """S24: both measures."""

@pytest.mark.parametrize("a", [1])
async def test_two(
    c, a
):
    r"""What it is about.

    B09, B10: kept apart.
    """
    text = "S01: no docstring"

def test_three():
    pass
    """S02: not where a docstring is"""
"#;
        assert_eq!(
            mentions("t.py", text),
            [of("S24", "t.py:2 (test_one)"), of("B09", "t.py:6 (test_two)"), of("B10", "t.py:6 (test_two)"),]
        );
    }

    #[test]
    fn finds_rows_above_javascript_tests() {
        let text = "/** S19: all */\ntest(\"a page\", async (t) => {\n  /** S08, S09: grey */\n  await t.test(\"a part\", () => {});\n";
        let expected =
            [of("S19", "p.mjs:2 (a page)"), of("S08", "p.mjs:4 (a part)"), of("S09", "p.mjs:4 (a part)")];
        assert_eq!(mentions("p.mjs", text), expected);
        assert_eq!(
            problem("p.mjs", "/** S19: x */\nfunction helper() {"),
            "p.mjs:2: S19 on something that is no test"
        );
        assert_eq!(
            problem("p.mjs", "/** S19: x */\ntest(\"a page\", { skip: true }, f);"),
            "p.mjs:2: S19 on a test that is skipped or expected to fail"
        );
    }

    #[test]
    fn a_row_on_what_is_no_running_python_test_is_a_problem() {
        assert_eq!(
            problem("t.py", "def helper():\n    \"\"\"S24: x\"\"\"\n"),
            "t.py:1: S24 on something that is no test"
        );
        assert_eq!(
            problem("t.py", "@pytest.mark.skip(\"later\")\ndef test_it():\n    \"\"\"S24: x\"\"\"\n"),
            "t.py:2: S24 on a test that is skipped or expected to fail"
        );
    }
}
