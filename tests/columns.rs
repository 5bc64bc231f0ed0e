//! The example `columns` from end to end.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the example as a user does.
fn columns(args: &[&str]) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["run", "--quiet", "--example", "columns", "--features", "arrow", "--"]).args(args);
    command.output().unwrap()
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn answer(table: &Path, folder: &Path, compression: &str) -> Value {
    let flags = ["--json", "--memory-limit", "4MiB", "--compression", compression, "--local-directory"];
    let args = [&flags[..], &[folder.to_str().unwrap(), table.to_str().unwrap()]].concat();
    serde_json::from_str(&succeeded(columns(&args))).unwrap()
}

#[test]
fn a_table_larger_than_the_limit_is_summed_up_within_it_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let spill = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.arrow");
    succeeded(columns(&["--make", table.to_str().unwrap(), "--rows", "600000"]));
    let answers = ["zstd:1", "none"].map(|name| answer(&table, spill.path(), name));
    assert_eq!(answers[0]["stations"], answers[1]["stations"], "whatever the compressor");
    for answer in &answers {
        let memory = |name: &str| answer["memory"][name].as_u64().unwrap();
        assert!(memory("table") > 4 * memory("limit"), "the table is larger: {answer}");
        assert!(memory("most") <= memory("limit"), "and memory was kept: {answer}");
        assert!(memory("spilled") > memory("table") - memory("limit"));
        let sum = |name: &str| -> u64 {
            answer["stations"].as_array().unwrap().iter().map(|station| station[name].as_u64().unwrap()).sum()
        };
        assert!((580_000..600_000).contains(&sum("readings")), "one in fifty has none");
    }
    assert!(answers[0]["memory"]["disk"].as_u64() < answers[1]["memory"]["disk"].as_u64());
    assert_eq!(spill.path().read_dir().unwrap().count(), 0, "nothing is left");
}

#[test]
fn what_is_no_table_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.arrow");
    let output = columns(&[path.to_str().unwrap()]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("cannot open"), "{message}");
    std::fs::write(&path, "no arrow file, though long enough to be one").unwrap();
    assert!(!columns(&[path.to_str().unwrap()]).status.success());
}

#[test]
#[ignore = "needs the environment with polars: cargo xtask test --only python"]
fn polars_answers_the_same_of_the_same_file() {
    let python = std::env::var_os("OVERSPILL_TEST_PYTHON").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [table, result] = ["table.arrow", "answer.json"].map(|name| folder.path().join(name));
    succeeded(columns(&["--make", table.to_str().unwrap(), "--rows", "600000"]));
    std::fs::write(&result, answer(&table, folder.path(), "adaptive").to_string()).unwrap();
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/columns/check.py");
    let said = succeeded(Command::new(python).arg(check).args([&table, &result]).output().unwrap());
    assert!(said.contains("agrees on 6 stations"), "{said}");
}
