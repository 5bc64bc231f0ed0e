//! `overspill bench` from end to end: the program itself, as a user runs it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn bench(spill: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overspill"));
    command.arg("bench").arg("--directory").arg(spill).args(["--rounds", "1"]).stdin(Stdio::null());
    command
}

/// A folder with numbers, text, bytes without any pattern, an empty file, and a file in a folder of its own.
fn data() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let numbers: Vec<u8> = (0..200_000).flat_map(|n| (f64::from(n) * 0.1).to_le_bytes()).collect();
    fs::write(folder.path().join("numbers.bin"), numbers).unwrap();
    fs::create_dir(folder.path().join("deep")).unwrap();
    fs::write(folder.path().join("deep/text.log"), "a line of a log, like many others\n".repeat(20_000))
        .unwrap();
    let mut state: u64 = 1;
    let noise: Vec<u8> = (0..300_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u8
        })
        .collect();
    fs::write(folder.path().join("noise.bin"), noise).unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    folder
}

const BYTES: u64 = 1_600_000 + 34 * 20_000 + 300_000;

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    let message = text(&output.stderr).to_owned();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn every_combination_is_a_row_and_one_is_recommended_with_its_configuration() {
    let (data, spill) = (data(), tempfile::tempdir().unwrap());
    let output = bench(spill.path()).arg(data.path()).output().unwrap();
    assert_eq!(text(&output.stderr), "", "no bar where nobody looks at it");
    let table = succeeded(output);
    assert!(table.contains("in 3 files"), "{table}");
    assert!(!table.contains('\u{1b}'), "no colours into a pipe: {table:?}");
    for backend in ["segments", "files"] {
        for name in ["none", "lz4", "lz4+shuffle4", "lz4+shuffle8", "zstd:1", "zstd:1+shuffle8", "adaptive"] {
            let row = |line: &&str| {
                let mut words = line.trim_start_matches(['*', ' ']).split_whitespace();
                (words.next(), words.next()) == (Some(backend), Some(name))
            };
            let found: Vec<_> = table.lines().filter(row).collect();
            assert_eq!(found.len(), 1, "{backend}, {name} in {table}");
            assert_eq!(found[0].trim_start_matches(['*', ' ']).split_whitespace().count(), 11);
        }
    }
    assert_eq!(
        table.lines().filter(|line| line.starts_with("* ")).count(),
        2,
        "a row and the reason: {table}"
    );
    assert!(table.contains("In a program:") && table.contains("let map = "), "{table}");
    assert_eq!(fs::read_dir(spill.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn json_tells_the_same_in_base_units() {
    let (data, spill) = (data(), tempfile::tempdir().unwrap());
    let mut command = bench(spill.path());
    command.args([
        "--json",
        "--compression",
        "none",
        "--compression",
        "zstd",
        "--compression",
        "lz4+shuffle8",
    ]);
    let report: Value = serde_json::from_str(&succeeded(command.arg(data.path()).output().unwrap())).unwrap();
    let sample = &report["sample"];
    assert_eq!((sample["files"].as_u64(), sample["bytes"].as_u64()), (Some(3), Some(BYTES)));
    assert_eq!(sample["values"].as_u64(), Some(4), "numbers are cut in two: {sample}");
    let rows = report["results"].as_array().unwrap();
    let keys: Vec<_> =
        rows.iter().map(|row| (row["backend"].as_str(), row["compression"].as_str())).collect();
    let expected: Vec<_> = ["segments", "files"]
        .into_iter()
        .flat_map(|backend| ["none", "zstd:3", "lz4+shuffle8"].map(|name| (Some(backend), Some(name))))
        .collect();
    assert_eq!(keys, expected);
    for row in rows {
        let number = |value: &Value| value.as_f64().unwrap();
        let ratio = number(&row["ratio"]);
        let plain = row["compression"] == "none";
        assert!(if plain { (0.99..=1.0).contains(&ratio) } else { ratio > 3.0 }, "{row}");
        assert!(number(&row["in_bytes_per_second"]) > 0.0 && number(&row["out_bytes_per_second"]) > 0.0);
        assert!(number(&row["cpu_seconds_per_gigabyte"]) > 0.0, "{row}");
        for way in ["in", "out"] {
            let [p50, p99, max] =
                ["p50_seconds", "p99_seconds", "max_seconds"].map(|name| number(&row[way][name]));
            assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{row}");
        }
    }
    let chosen = &report["recommendation"];
    let same =
        |row: &Value| row["backend"] == chosen["backend"] && row["compression"] == chosen["compression"];
    assert!(rows.iter().any(same), "{chosen}");
    assert!(chosen["reason"].as_str().unwrap().contains("MB/s"));
}

#[test]
fn of_larger_data_a_part_is_taken_evenly() {
    let (data, spill) = (data(), tempfile::tempdir().unwrap());
    let mut command = bench(spill.path());
    command
        .args(["--json", "--compression", "lz4", "--value-size", "10kB", "--limit", "1MB"])
        .arg(data.path());
    let report: Value = serde_json::from_str(&succeeded(command.output().unwrap())).unwrap();
    let (bytes, found) =
        (report["sample"]["bytes"].as_u64().unwrap(), report["sample"]["bytes_found"].as_u64());
    assert!((980_000..=1_000_000).contains(&bytes), "{report}");
    assert_eq!(found, Some(BYTES));
    // All of one file would give another ratio: noise 1, text far above 50.
    let ratio = report["results"][0]["ratio"].as_f64().unwrap();
    assert!((1.2..10.0).contains(&ratio), "{ratio}");
}

#[test]
fn the_settings_to_copy_are_settings() {
    let (data, spill) = (data(), tempfile::tempdir().unwrap());
    let mut command = bench(spill.path());
    command.args(["--json", "--compression", "lz4+shuffle8"]).arg(data.path().join("numbers.bin"));
    let report: Value = serde_json::from_str(&succeeded(command.output().unwrap())).unwrap();
    let chosen = &report["recommendation"];
    assert!(chosen["program"].as_str().unwrap().contains("\"lz4+shuffle8\""), "{chosen}");
    if chosen["backend"] != "segments" {
        assert_eq!(chosen["settings"], "", "no setting says it");
        return;
    }
    let file = data.path().join("dask.yaml");
    fs::write(&file, chosen["settings"].as_str().unwrap()).unwrap();
    let mut config = Command::new(env!("CARGO_BIN_EXE_overspill"));
    let shown = succeeded(config.arg("config").env("DASK_CONFIG", &file).output().unwrap());
    let value = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(value("worker.memory.spill-compression"), "lz4+shuffle8", "{shown}");
    assert_eq!(value("temporary-directory"), spill.path().to_str().unwrap(), "{shown}");
}

#[test]
fn the_plot_shows_each_combination() {
    let (data, spill) = (data(), tempfile::tempdir().unwrap());
    let plot = data.path().join("speeds.svg");
    let mut command = bench(spill.path());
    command.args(["--compression", "none", "--compression", "lz4", "--plot"]).arg(&plot);
    succeeded(command.arg(data.path().join("noise.bin")).output().unwrap());
    let svg = fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"), "{svg}");
    for name in ["segments, none", "segments, lz4", "files, none", "files, lz4"] {
        assert!(svg.contains(&format!(">{name}</text>")), "{name} in {svg}");
    }
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    assert_eq!(svg.matches("<rect").count(), 3 + 2 * 4);
}

#[test]
fn what_cannot_be_measured_is_refused_with_what_to_do() {
    let (data, spill) = (data(), tempfile::tempdir().unwrap());
    let missing = refused(bench(spill.path()).arg("/no/such/file"));
    assert!(missing.contains("/no/such/file") && missing.contains("that can be read"), "{missing}");
    let empty = refused(bench(spill.path()).arg(data.path().join("empty")));
    assert!(empty.contains("nothing to measure") && empty.contains("name files with content"), "{empty}");
    let name = refused(bench(spill.path()).args(["--compression", "brotli"]).arg(data.path()));
    assert!(name.contains("brotli") && name.contains("zstd:LEVEL"), "{name}");
    let level = refused(bench(spill.path()).args(["--compression", "zstd:99"]).arg(data.path()));
    assert!(level.contains("99") && level.contains("22"), "{level}");
    let size = refused(bench(spill.path()).args(["--value-size", "0"]).arg(data.path()));
    assert!(size.contains("--value-size"), "{size}");
    let paths = refused(&mut bench(spill.path()));
    assert!(paths.contains("PATH"), "{paths}");
    let mut plot = bench(spill.path());
    plot.args(["--compression", "none", "--plot", "/no/such/folder/plot.svg"])
        .arg(data.path().join("noise.bin"));
    let plot = refused(&mut plot);
    assert!(plot.contains("/no/such/folder/plot.svg") && plot.contains("a folder that exists"), "{plot}");
    let store = refused(bench(spill.path()).args(["--store", "nonsense://bucket"]).arg(data.path()));
    assert!(store.contains("nonsense://bucket"), "{store}");
}

#[test]
#[cfg(feature = "object")]
fn an_object_store_is_measured_beside_the_disk() {
    let (data, spill, bucket) = (data(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("file://{}", bucket.path().display());
    let mut command = bench(spill.path());
    command.args(["--json", "--compression", "lz4", "--store", &url]).arg(data.path());
    let report: Value = serde_json::from_str(&succeeded(command.output().unwrap())).unwrap();
    let backends: Vec<_> =
        report["results"].as_array().unwrap().iter().map(|row| row["backend"].as_str().unwrap()).collect();
    assert_eq!(backends, ["segments", "files", "objects"]);
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_without_an_error() {
    let (data, spill) = (data(), tempfile::tempdir().unwrap());
    let mut command = bench(spill.path());
    command.args(["--compression", "none"]).arg(data.path().join("noise.bin"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said, "");
}
