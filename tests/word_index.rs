//! The example `word_index` from end to end: the program itself, as a user runs it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod built;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// Builds the example, unless that is done, and says where it is.
fn program(profile: &str) -> PathBuf {
    built::example("word_index", &["--profile", profile])
}

/// The example as this profile builds it, built once for all calls.
fn debug_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program("dev"))
}

/// A command for the example, in a world of its own: files go to `spill`, and there are no crates to read.
fn word_index(spill: &Path) -> Command {
    let mut command = Command::new(debug_program());
    command.env("CARGO_HOME", spill.join("no-cargo-here")).arg("--local-directory").arg(spill);
    command.stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    directory.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// What a tree holds, counted here and by plainer means than the program's.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    files: u64,
    bytes: u64,
    tokens: u64,
    words: u64,
}

/// Writes text of some `lines` lines a file: program-like, a part of its words in few files only.
fn write_tree(directory: &Path, files: u64, lines: u64) -> Counts {
    let mut counts = Counts::default();
    let mut words = BTreeSet::new();
    let mut random: u64 = 42;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for file in 0..files {
        let mut text = String::new();
        for line in 0..lines {
            let (rare, common) = (draw(20_000), draw(50));
            writeln!(
                text,
                "\tlet Name_{rare} = cafÉ{common}(self, \"{line}\"); // the été of 第{}章",
                draw(300)
            )
            .unwrap();
        }
        let folder = directory.join(format!("crate-{}", file % 7));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("file-{file}.rs")), &text).unwrap();
        counts.files += 1;
        counts.bytes += text.len() as u64;
        for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()) {
            counts.tokens += 1;
            words.insert(word.to_lowercase());
        }
    }
    counts.words = words.len() as u64;
    counts
}

fn json(command: &mut Command) -> Value {
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_figures_are_right_and_the_index_is_larger_than_memory() {
    let (tree, spill) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let counts = write_tree(tree.path(), 300, 1000);
    fs::write(tree.path().join("binary"), [b'w', b'o', 0xff, 0xfe]).unwrap();
    std::os::unix::fs::symlink(tree.path(), tree.path().join("loop")).unwrap();

    let result = json(word_index(spill.path()).args(["--memory-limit", "28MiB"]).arg(tree.path()));
    let number = |value: &Value| value.as_u64().unwrap();
    let counted = Counts {
        files: number(&result["files"]),
        bytes: number(&result["bytes"]),
        tokens: number(&result["tokens"]),
        words: number(&result["words"]),
    };
    assert_eq!(counted, counts);
    assert_eq!(result["postings"], result["tokens"]);
    assert_eq!(result["skipped"]["not_text"], 1);
    assert_eq!(result["self_check"]["recounted"], 200);
    assert!(number(&result["process_peak"]) < 28 * MIB, "{result}");
    assert!(number(&result["postings_weight"]) >= 4 * number(&result["target"]), "{result}");
    let spilled = &result["spilled"];
    assert!(
        number(&spilled["disk"]) > 0 && number(&spilled["disk"]) < number(&spilled["memory"]),
        "{result}"
    );
    assert!(number(&result["reads_back"]) > 0, "{result}");
    assert_eq!(entries(spill.path()), [] as [PathBuf; 0]);
}

#[test]
fn the_table_has_a_row_for_each_figure_and_names_the_self_check() {
    let (tree, spill) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let counts = write_tree(tree.path(), 3, 10);
    for compressor in ["lz4", "zstd", "none"] {
        let output = word_index(spill.path())
            .args(["--memory-limit", "64MiB", "--seed", "7", "--compressor", compressor])
            .arg(tree.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let table = text(&output.stdout);
        let row = |name: &str| table.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(row("words"), Some(&*counts.words.to_string()), "{table}");
        assert_eq!(row("tokens"), Some(&*counts.tokens.to_string()), "{table}");
        for name in [
            "memory limit",
            "files",
            "bytes",
            "postings",
            "target",
            "managed",
            "spilled",
            "evictions",
            "reads back",
            "process peak",
            "seconds",
            "MB/s",
        ] {
            assert!(row(name).is_some_and(|value| !value.is_empty()), "no {name} in {table}");
        }
        let recounted = counts.words.min(200);
        let check = format!("self-check: {recounted} words recounted, all equal (--seed 7)");
        assert!(table.ends_with(&format!("{check}\n")), "{table}");
    }
}

/// By a seed that is another each time; the words that a seed draws are tested beside `Draw`.
#[test]
fn the_words_of_the_self_check_are_drawn_at_random() {
    let (tree, spill) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_tree(tree.path(), 1, 1);
    let seed = || json(word_index(spill.path()).arg(tree.path()))["self_check"]["seed"].as_u64().unwrap();
    assert_ne!(seed(), seed());
}

/// Where there is a terminal, as `script` makes one.
#[test]
fn people_see_how_far_it_is() {
    let (tree, spill) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let counts = write_tree(tree.path(), 3, 10);
    let program = word_index(spill.path());
    let words = [program.get_program()].into_iter().chain(program.get_args());
    let line = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ");
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command"]).arg(format!("{line} '{}'", tree.path().display()));
    let output = terminal.arg("/dev/null").stdin(Stdio::null()).env("TERM", "xterm").output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}");
    let bytes = format!("{:.2} KiB", counts.bytes as f64 / 1024.0);
    for part in [&format!(" of {bytes}, "), "  indexing [", "reading back [", "recounting [", " left"] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
}

/// The memory of a process can be opened as a file, and not be read from its beginning.
#[test]
fn what_cannot_be_read_is_counted_and_passed_by() {
    let (tree, spill) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let counts = write_tree(tree.path(), 2, 10);
    let result = json(word_index(spill.path()).arg(tree.path()).arg("/proc/self/mem"));
    assert_eq!(result["skipped"]["unreadable"], 1, "{result}");
    assert_eq!(result["files"], counts.files, "{result}");
}

#[test]
fn an_empty_directory_is_an_empty_index() {
    let (tree, spill) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let result = json(word_index(spill.path()).arg(tree.path()));
    assert_eq!((&result["files"], &result["words"]), (&Value::from(0), &Value::from(0)));
}

/// Exit code 2, one line that says `needle`, nothing on standard output and nothing left behind.
fn assert_refused(spill: &Path, command: &mut Command, needle: &str) {
    let before = entries(spill);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = text(&stderr);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("word_index: ") && stderr.contains(needle), "no {needle:?} in {stderr}");
    assert_eq!(text(&stdout), "");
    assert_eq!(entries(spill), before);
}

#[test]
fn bad_input_is_refused_in_one_line() {
    let (tree, spill) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_tree(tree.path(), 2, 5);
    let here = || {
        let mut command = word_index(spill.path());
        command.arg(tree.path());
        command
    };
    let missing = tree.path().join("missing");
    assert_refused(spill.path(), here().arg(&missing), missing.to_str().unwrap());
    assert_refused(spill.path(), here().arg("/dev/null"), "neither a file nor a directory");
    for limit in ["0", "none", "12 potatoes", "-1", "-64MiB", "nan", ""] {
        assert_refused(spill.path(), here().arg(format!("--memory-limit={limit}")), "memory-limit");
    }
    assert_refused(spill.path(), here().arg("--no-such-flag"), "--no-such-flag");
    assert_refused(spill.path(), here().args(["--compressor", "gzip"]), "adaptive, none, lz4");
    assert_refused(spill.path(), here().args(["--seed", "many"]), "--seed");
    assert_refused(spill.path(), here().arg("--memory-limit"), "--memory-limit");
    // nothing to read where cargo keeps sources
    assert_refused(spill.path(), &mut word_index(spill.path()), "no-cargo-here/registry/src");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let (tree, spill) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_tree(tree.path(), 2, 5);
    let file = spill.path().join("file");
    fs::write(&file, "").unwrap();
    let mut command = Command::new(debug_program());
    command.arg("--json").arg("--local-directory").arg(file.join("below")).arg(tree.path());
    assert_refused(spill.path(), &mut command, "file/below");
}

#[test]
fn a_limit_that_is_too_low_is_refused_and_the_one_it_names_is_enough() {
    let (tree, spill) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_tree(tree.path(), 20, 100);
    let with_limit = |limit: &str| {
        let mut command = word_index(spill.path());
        command.arg(format!("--memory-limit={limit}")).arg(tree.path());
        command
    };
    assert_refused(spill.path(), &mut with_limit("1MiB"), "the program itself needs");
    let refusal = with_limit("2MiB").output().unwrap();
    let (_, enough) = text(&refusal.stderr).rsplit_once("give it ").unwrap();
    let enough: u64 = enough.split_once(" MiB").unwrap().0.parse().unwrap();
    // memory at the start differs a little from run to run
    let result = json(&mut with_limit(&format!("{}MiB", enough + 1)));
    assert!(result["process_peak"].as_u64().unwrap() < (enough + 1) * MIB, "{result}");
}

/// Waits until the program has written spilled values.
fn wait_for_files(child: &mut Child, spill: &Path) {
    let has_files = |workspace: &PathBuf| {
        let files = workspace.read_dir().into_iter().flatten().flatten();
        files.into_iter().any(|file| file.metadata().is_ok_and(|metadata| metadata.len() > 0))
    };
    while !entries(spill).iter().any(has_files) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it spilled");
        thread::yield_now();
    }
}

#[test]
fn signals_end_it_and_nothing_is_left_on_disk() {
    let (tree, spill) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_tree(tree.path(), 300, 1000);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = word_index(spill.path());
        command.args(["--memory-limit", "28MiB"]).arg(tree.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_files(&mut child, spill.path());
        let sent =
            Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_eq!(entries(spill.path()), [] as [PathBuf; 0], "after {signal}");
    }
}

/// The command of the README, over the sources of the crates that built this project.
#[test]
fn exclusive_the_sources_of_crates_fit_into_64_mib() {
    let spill = TempDir::new().unwrap();
    let mut command = Command::new(program("release"));
    command.args(["--memory-limit", "64MiB", "--local-directory"]).arg(spill.path());
    let result = json(&mut command);
    let number = |name: &str| result[name].as_u64().unwrap();
    assert!(number("process_peak") < 64 * MIB, "{result}");
    assert!(number("postings_weight") >= 4 * number("target"), "{result}");
    assert_eq!(number("postings"), number("tokens"));
    assert_eq!(result["self_check"]["recounted"], 200);
    assert_eq!(entries(spill.path()), [] as [PathBuf; 0]);
}
