//! Settings from files, the environment and flags.
#![cfg(feature = "config")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spill_worker::config::{Config, Origin, Sources};
use spill_worker::{Measure, Settings, SystemMemory, Thresholds};

/// A home with settings in it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Home(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn dask(&self, text: &str) -> PathBuf {
        self.write(".config/dask/distributed.yaml", text)
    }

    fn own(&self, text: &str) -> PathBuf {
        self.write(".config/overspill/overspill.yaml", text)
    }

    fn sources(&self) -> Sources {
        Sources::empty().home(self.0.path())
    }
}

fn load(sources: &Sources) -> spill_core::Result<Config> {
    Config::load(sources, &SystemMemory::from_bytes(16 << 30))
}

fn settings(sources: &Sources) -> Settings {
    load(sources).unwrap().into_settings()
}

fn refusal(sources: &Sources) -> String {
    load(sources).unwrap_err().to_string()
}

#[track_caller]
fn origin(config: &Config, key: &str) -> (String, Origin) {
    let entry = config.entries().iter().find(|entry| entry.key == key).unwrap();
    (entry.value.clone(), entry.origin.clone())
}

fn memory(lines: &str) -> String {
    format!("distributed:\n  worker:\n    memory:\n{lines}")
}

/// W11: the defaults are those that Dask ships.
#[test]
fn without_any_source_the_defaults_are_those_of_dask() {
    let config = load(&Sources::empty()).unwrap();
    let settings = config.settings();
    assert_eq!(*settings, Settings::default());
    assert_eq!(settings.thresholds, Thresholds::new());
    assert_eq!(settings.recent_to_old, Duration::from_secs(30));
    assert_eq!((settings.transfer, settings.max_spill), (Some(0.10), None));
    assert_eq!(settings.spill_compression, "auto");
    let rebalance = settings.rebalance;
    assert_eq!(rebalance.measure, Measure::Optimistic);
    assert_eq!(
        (rebalance.sender_min, rebalance.recipient_max, rebalance.sender_recipient_gap),
        (0.30, 0.60, 0.10)
    );
    assert_eq!(settings.nanny_environ["MALLOC_TRIM_THRESHOLD_"], "65536");
    assert!(config.entries().iter().all(|entry| entry.origin == Origin::Default));
}

/// S18: each threshold alone, and all four, from a file, a variable and a flag; False turns it off entirely.
#[test]
fn thresholds_come_from_file_environment_and_flag_and_false_turns_them_off() {
    type Get = fn(&Thresholds) -> Option<f64>;
    let all: [(&str, Get); 4] = [
        ("target", |t| t.target),
        ("spill", |t| t.spill),
        ("pause", |t| t.pause),
        ("terminate", |t| t.terminate),
    ];
    for (name, get) in all {
        for (text, expected) in [("0.55", Some(0.55)), ("False", None), ("0", None), ("off", None)] {
            let home = Home::new();
            home.dask(&memory(&format!("      {name}: {text}\n")));
            let upper = name.to_uppercase();
            for sources in [
                home.sources(),
                Sources::empty().variable(&format!("DASK_DISTRIBUTED__WORKER__MEMORY__{upper}"), text),
                Sources::empty().variable(&format!("OVERSPILL_WORKER__MEMORY__{upper}"), text),
                Sources::empty().flag(&format!("worker.memory.{name}"), text),
            ] {
                let thresholds = settings(&sources).thresholds;
                for (other, get_other) in all {
                    let expected = if other == name { expected } else { get_other(&Thresholds::new()) };
                    assert_eq!(
                        get_other(&thresholds),
                        expected,
                        "{other} with {name}: {text} of {sources:?}"
                    );
                }
                assert_eq!(get(&thresholds), expected);
            }
        }
    }
    let off = "      target: false\n      spill: false\n      pause: false\n      terminate: false\n";
    let home = Home::new();
    home.dask(&memory(off));
    let all_off = Thresholds::new().target(None).spill(None).pause(None).terminate(None);
    assert_eq!(settings(&home.sources()).thresholds, all_off);
}

/// S31, W05, S23: the other keys of Dask's file are read as well, with its units and with `_` for `-`.
#[test]
fn the_other_keys_of_dask_are_read() {
    let home = Home::new();
    home.dask(
        "distributed:\n  scheduler:\n    work-stealing: true\n  nanny:\n    pre-spawn-environ:\n      \
         MALLOC_TRIM_THRESHOLD_: 1000\n      OMP_NUM_THREADS: 1\n    environ:\n      OMP_NUM_THREADS: 2\n  \
         worker:\n    memory:\n      recent-to-old-time: 1 minute\n      monitor_interval: 50ms\n      \
         transfer: 0.2\n      max-spill: 10 GiB\n      spill-compression: zstd\n      rebalance:\n        \
         measure: managed_in_memory\n        sender-min: 0.4\ntemporary-directory: /scratch\n",
    );
    let settings = settings(&home.sources());
    assert_eq!(settings.recent_to_old, Duration::from_secs(60));
    assert_eq!(settings.monitor_interval, Duration::from_millis(50));
    assert_eq!((settings.transfer, settings.max_spill), (Some(0.2), Some(10 << 30)));
    assert_eq!(settings.spill_compression, "zstd");
    assert_eq!(settings.rebalance.measure, Measure::ManagedInMemory);
    assert_eq!(settings.rebalance.sender_min, 0.4);
    assert_eq!(settings.local_directories, [PathBuf::from("/scratch")]);
    assert_eq!(settings.nanny_environ["MALLOC_TRIM_THRESHOLD_"], "1000");
    assert_eq!(settings.nanny_environ["OMP_NUM_THREADS"], "2");
}

/// S01: limit and threads of the nanny's variables, of our file and of a flag; the last wins.
#[test]
fn later_sources_win_and_each_value_says_where_it_came_from() {
    let home = Home::new();
    let dask = home.dask(&memory("      target: 0.5\n      spill: 0.6\n      pause: 0.7\n"));
    let own = home.own("overspill:\n  worker:\n    memory:\n      pause: 0.75\n      limit: 4 GiB\n");
    let sources = home
        .sources()
        .variable("DASK_DISTRIBUTED__WORKER__MEMORY__SPILL", "0.65")
        .variable("OVERSPILL_MEMORY_LIMIT", "2 GiB");
    let config = load(&sources).unwrap();
    let in_file = |path: &Path, line| Origin::File { path: path.to_owned(), line };
    assert_eq!(origin(&config, "worker.memory.target"), ("0.5".to_owned(), in_file(&dask, 4)));
    let variable = Origin::Environment("DASK_DISTRIBUTED__WORKER__MEMORY__SPILL".to_owned());
    assert_eq!(origin(&config, "worker.memory.spill"), ("0.65".to_owned(), variable));
    assert_eq!(origin(&config, "worker.memory.pause"), ("0.75".to_owned(), in_file(&own, 4)));
    assert_eq!(origin(&config, "worker.memory.terminate"), ("0.95".to_owned(), Origin::Default));
    assert_eq!(config.settings().memory_limit.bytes(), Some(2 << 30));
    let flagged = load(&sources.flag("worker.memory.limit", "1 GiB").flag("worker.name", "w7")).unwrap();
    assert_eq!(origin(&flagged, "worker.memory.limit"), ((1_u64 << 30).to_string(), Origin::Flag));
    assert_eq!(flagged.settings().name, "w7");
}

#[test]
fn files_of_dask_config_are_read_last_and_in_order_of_their_names() {
    let home = Home::new();
    home.dask(&memory("      target: 0.1\n"));
    home.write("more/10.yaml", &memory("      target: 0.2\n      spill: 0.2\n"));
    home.write("more/20.json", r#"{"distributed": {"worker": {"memory": {"target": 0.3}}}}"#);
    home.write("more/notes.txt", "nonsense: [");
    let more = home.0.path().join("more");
    let thresholds = settings(&home.sources().variable("DASK_CONFIG", more.to_str().unwrap())).thresholds;
    assert_eq!((thresholds.target, thresholds.spill), (Some(0.3), Some(0.2)));
    let one = home.0.path().join("more/10.yaml");
    let thresholds = settings(&home.sources().variable("DASK_CONFIG", one.to_str().unwrap())).thresholds;
    assert_eq!(thresholds.target, Some(0.2));
    let none = settings(&home.sources().variable("DASK_CONFIG", "/nowhere")).thresholds;
    assert_eq!(none.target, Some(0.1));
}

/// W02: what makes no sense is refused in our keys, with file, line, key and what was expected.
#[test]
fn a_wrong_value_names_file_line_key_and_what_was_expected() {
    let home = Home::new();
    let path = home.own("overspill:\n  worker:\n    memory:\n      target: 0.5\n      spill: seventy\n");
    let message = refusal(&home.sources());
    let place = format!("{}:5: worker.memory.spill = \"seventy\"", path.display());
    assert!(message.starts_with(&place) && message.contains("from 0 to 1, or false"), "{message}");

    for (key, value) in [
        ("worker.memory.target", "60"),
        ("worker.memory.target", "-0.5"),
        ("worker.memory.target", "true"),
        ("worker.memory.target", "[1, 2]"),
        ("worker.memory.recent-to-old-time", "soon"),
        ("worker.memory.monitor-interval", "0"),
        ("worker.memory.max-spill", "much"),
        ("worker.memory.rebalance.measure", "rss"),
        ("worker.memory.rebalance.sender-min", "2"),
        ("worker.memory.limit", "4"),
        ("worker.nthreads", "0"),
        ("worker.nthreads", "1.5"),
    ] {
        let message = refusal(&Sources::empty().flag(key, value));
        assert!(message.starts_with(&format!("command line: {key} = ")), "{message}");
    }
    let message = refusal(&Sources::empty().variable("OVERSPILL_MEMORY_LIMIT", "lots"));
    assert!(message.starts_with("environment OVERSPILL_MEMORY_LIMIT: worker.memory.limit"), "{message}");
}

/// Values that Dask takes and that make no sense are warned about in its own files.
#[test]
fn what_dask_accepts_is_warned_about_in_its_files() {
    let home = Home::new();
    let path = home.dask(&memory("      target: 60\n      spill: -1\n      pause: 0.5\n"));
    let config = load(&home.sources()).unwrap();
    let thresholds = config.settings().thresholds;
    assert_eq!((thresholds.target, thresholds.spill), (None, Some(0.7)), "never reached; passed over");
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains(&format!("{}:4: worker.memory.target", path.display())), "{warnings:?}");
    assert!(warnings[2].contains("worker.memory.spill = 0.7 is above worker.memory.pause = 0.5"));
    home.dask(&memory("      target: sixty\n"));
    assert!(refusal(&home.sources()).contains("sixty"), "Dask fails on a word too");
}

#[test]
fn an_unknown_key_of_ours_is_refused_with_a_suggestion() {
    let home = Home::new();
    let path = home.own("overspill:\n  worker:\n    memroy:\n      target: 0.5\n");
    let message = refusal(&home.sources());
    assert!(message.contains(&format!("{}:4: overspill.worker.memroy.target", path.display())), "{message}");
    assert!(message.contains("did you mean \"worker.memory.target\"?"), "{message}");
    home.own("worker:\n  memory:\n    target: 0.5\n");
    assert!(refusal(&home.sources()).contains("below \"overspill\""));
    assert!(refusal(&Sources::empty().flag("worker.target", "0.5")).contains("did you mean"));
    for empty in ["", "# nothing yet\n", "overspill:\n"] {
        home.own(empty);
        assert_eq!(settings(&home.sources()), Settings::default(), "{empty:?}");
    }
}

#[test]
fn a_file_that_is_not_yaml_is_refused_with_its_line() {
    let home = Home::new();
    let path = home.dask("distributed:\n  worker: [1\n  memory: 2\n");
    let message = refusal(&home.sources());
    assert!(message.starts_with(&format!("{}:", path.display())) && message.contains("YAML"), "{message}");
}

/// S02: a program may have another default; whatever a file, a variable or a flag says wins over it.
#[test]
fn a_default_of_the_program_gives_way_to_every_source() {
    let sources = || Sources::empty().default_value("worker.memory.limit", "auto");
    let config = load(&sources()).unwrap();
    assert!(config.settings().memory_limit.bytes().is_some_and(|bytes| bytes <= 16 << 30));
    assert_eq!(origin(&config, "worker.memory.limit").1, Origin::Default);
    let home = Home::new();
    home.own("overspill:\n  worker:\n    memory:\n      limit: 1 GiB\n");
    for sources in [
        sources().home(home.0.path()),
        sources().variable("OVERSPILL_MEMORY_LIMIT", "1 GiB"),
        sources().flag("worker.memory.limit", "1 GiB"),
    ] {
        assert_eq!(settings(&sources).memory_limit.bytes(), Some(1 << 30));
    }
}
