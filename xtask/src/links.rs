//! Relative links of the pages people read point to files that exist.

use std::path::Path;

use crate::shell::{self, Result, failed};
use crate::steps::Context;
use crate::tree;

/// Checks README.md, CONTRIBUTING.md, CHANGELOG.md, `docs/` and `examples/`.
pub(crate) fn run(context: &Context) -> Result {
    let mut pages: Vec<_> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].iter().map(|name| context.root.join(name)).collect();
    for folder in ["docs", "examples"].map(|name| context.root.join(name)) {
        if folder.is_dir() {
            pages.extend(tree::files(&folder, &["md"])?);
        }
    }
    let mut problems = Vec::new();
    for page in pages {
        problems.extend(broken(&page, &shell::read(&page)?));
    }
    if problems.is_empty() { Ok(()) } else { failed(problems.join("\n")) }
}

fn broken(page: &Path, text: &str) -> Vec<String> {
    let folder = page.parent().unwrap_or(page);
    targets(text)
        .into_iter()
        .filter(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|(line, target)| {
            let file = target.split('#').next().unwrap_or_default();
            let missing = !file.is_empty() && !folder.join(file).exists();
            missing.then(|| format!("{}:{line}: no file {file}", page.display()))
        })
        .collect()
}

/// Where the links of a page point, `[text](here)` and `[name]: here`, with their line numbers; code is
/// passed by.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Every second piece between backticks is code.
        for prose in line.split('`').step_by(2) {
            for behind in prose.split("](").skip(1) {
                let target = behind.split([')', ' ']).next().unwrap_or_default();
                found.push((number, target));
            }
        }
        // A link whose text is code, [`text`](target), is cut in two by the split above.
        for behind in line.split("`](").skip(1) {
            found.push((number, behind.split([')', ' ']).next().unwrap_or_default()));
        }
        if let Some((_, target)) = line.strip_prefix('[').and_then(|line| line.split_once("]: ")) {
            found.push((number, target.trim()));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_links_and_passes_code_by() {
        let text = "see [a](x.md) and [b](y.md#part), [`c`](z.md)\n`[no](code.md)`\n```\n[no](code.md)\n```\n\
                    [ref]: docs/r.md\n";
        assert_eq!(targets(text), [(1, "x.md"), (1, "y.md#part"), (1, "z.md"), (6, "docs/r.md")]);
    }

    #[test]
    fn a_link_to_nowhere_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.md");
        shell::write(&folder.path().join("here.md"), "").unwrap();
        let text = "[a](here.md#x) [b](gone.md)\n[c](https://example.org/gone.md) [d](#part)";
        let found = broken(&page, text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("page.md:1: no file gone.md"), "{found:?}");
    }
}
