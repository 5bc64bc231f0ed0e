//! The command `overspill` as a person or a script runs it: its texts, its completions, its dashboard.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use overspill::worker::{Settings, Worker};

fn overspill(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_overspill")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn each_help_text_has_examples_and_no_colours_in_a_pipe() {
    for command in ["nanny", "dashboard", "config", "trim", "inspect", "purge", "completions"] {
        let help = overspill(&[command, "--help"]);
        let shown = text(&help.stdout);
        assert!(help.status.success() && shown.contains("Examples:"), "{command}: {shown}");
        assert!(shown.contains(&format!("  overspill {command}")), "{command}: {shown}");
        assert!(!shown.contains('\u{1b}'), "{command}");
    }
}

#[test]
fn a_wrong_command_line_is_one_line_that_says_what_is_expected() {
    for (args, expected) in [
        (&["dashboard", "--address", "nowhere"][..], "expected an address and port such as 0.0.0.0:8787"),
        (&["completions", "tcl"], "bash"),
        (&["dashboard", "x"], "x"),
    ] {
        let refused = overspill(args);
        let shown = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{shown}");
        assert!(shown.contains(expected) && shown.lines().count() == 1, "{shown}");
    }
}

#[test]
fn completions_are_scripts_that_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&overspill(&["completions", shell]).stdout);
        assert!(script.contains("dashboard") && script.contains("memory-limit"), "{shell}");
    }
    let script = overspill(&["completions", "bash"]).stdout;
    let mut bash = Command::new("bash")
        .args(["-c", "source /dev/stdin && complete -p overspill"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all(&script).unwrap();
    let completed = bash.wait_with_output().unwrap();
    assert!(completed.status.success() && text(&completed.stdout).contains("overspill"));
}

/// A dashboard of a process of its own; ended when this is dropped.
struct Running(Child, BufReader<ChildStdout>);

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_overspill"))
            .arg("dashboard")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running(child, stdout)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_dashboard_prints_its_address_and_shows_running_workers() {
    let settings = Settings { name: "seen from outside".to_owned(), ..Settings::default() };
    let _worker = Worker::builder(settings).start().unwrap();
    let pid = std::process::id().to_string();
    let mut running = Running::start(&["--address", "0", &pid]);
    let line = running.line();
    let address = line.trim().strip_prefix("http://").and_then(|line| line.strip_suffix('/')).unwrap();
    let mut state = String::new();
    while !state.contains("seen from outside") {
        state.clear();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /api/v1/state HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_string(&mut state).unwrap();
        assert!(state.starts_with("HTTP/1.1 200"), "{state}");
    }
    // Asked to end, it ends well.
    let asked = Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().unwrap();
    assert!(asked.success() && running.0.wait().unwrap().success());
}

#[test]
fn a_dashboard_over_a_process_that_is_no_worker_says_so() {
    let refused = overspill(&["dashboard", "1"]);
    let shown = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(shown.contains("control socket of process 1"), "{shown}");
}

/// A directory with a workspace in use, which the caller keeps, and two of dead processes.
fn spilled(parent: &std::path::Path) -> overspill::Segments<u64> {
    use overspill::{Frames, MutableMapping, Segments, SegmentsConfig, Workspace};
    let workspace = Workspace::open(Some(parent)).unwrap();
    let segments = Segments::open(SegmentsConfig::new(workspace)).unwrap();
    for key in 0..3 {
        segments.insert(key, Frames::from(bytes::Bytes::from(vec![1; 1000])).with_weight(5000)).unwrap();
    }
    segments.flush().unwrap();
    for name in ["overspill-99999999-0", "overspill-99999999-1"] {
        let dead = parent.join(name);
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join("overspill.lock"), "").unwrap();
        std::fs::write(dead.join("segment-0.spill"), [1; 2048]).unwrap();
    }
    segments
}

/// Z21: what is stored can be looked at without the program that stored it.
#[test]
fn inspect_tells_workspaces_records_and_values() {
    use overspill::{Files, FilesConfig, Frames, MutableMapping};
    let home = tempfile::tempdir().unwrap();
    let parent = home.path().to_str().unwrap();
    let segments = spilled(home.path());
    let shown = overspill(&["inspect", parent]);
    let all = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert_eq!(all.lines().filter(|line| line.ends_with("dead, 1 files, 2.0 KiB")).count(), 2, "{all}");
    let ours = all.lines().find(|line| line.contains("in use, 1 files, 3.0 KiB")).unwrap();
    let (workspace, _) = ours.split_once(": ").unwrap();

    let shown = text(&overspill(&["inspect", "--records", workspace]).stdout);
    let records = "segment-0.spill: segment 0, 3 records of 3.0 KiB for 15000 bytes in memory, 0 B other";
    assert!(shown.ends_with(&format!("{records}\n")), "{shown}");
    assert!(shown.contains("  offset 2064 length 1032 segment 0 tag "), "{shown}");
    drop(segments);

    let store = home.path().join("values");
    let files: Files<String> = Files::open(FilesConfig::at(&store)).unwrap();
    files.insert("one".to_owned(), Frames::from(bytes::Bytes::from_static(b"1"))).unwrap();
    let values = store.to_str().unwrap();
    let shown = overspill(&["inspect", values]);
    assert!(shown.status.success() && text(&shown.stdout).contains("key \"one\", generation"));
    let mut entries = std::fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let value = entries.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("key.")).unwrap();
    let mut bytes = std::fs::read(&value).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&value, bytes).unwrap();
    let shown = overspill(&["inspect", values]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(text(&shown.stdout).ends_with("1 values, 1 damaged\n"), "{}", text(&shown.stdout));
    let none = overspill(&["inspect", "/no/where"]);
    assert!(none.status.code() == Some(1) && text(&none.stderr).contains("/no/where"));
}

#[test]
fn purge_shows_and_removes_only_with_leave_and_only_the_dead() {
    let home = tempfile::tempdir().unwrap();
    let parent = home.path().to_str().unwrap();
    let segments = spilled(home.path());
    let left = || std::fs::read_dir(home.path()).unwrap().count();
    // Nobody can be asked.
    let shown = overspill(&["purge", parent]);
    let all = text(&shown.stdout);
    assert!(shown.status.success() && all.contains("nothing was removed"), "{all}");
    assert!(all.contains("--yes removes 2 dead workspaces with 4.0 KiB") && all.contains("in use"), "{all}");
    assert_eq!(left(), 3);
    // A person says no, then yes: at a terminal that `script` makes.
    let asked = |answer: &str| {
        let command = format!("{} purge {parent}", env!("CARGO_BIN_EXE_overspill"));
        let mut child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(answer.as_bytes()).unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut shown = String::new();
        stdout.read_to_string(&mut shown).unwrap();
        assert!(child.wait().unwrap().success(), "{shown}");
        drop(stdin);
        shown
    };
    let shown = asked("no\n");
    assert!(shown.contains("Remove 2 dead workspaces with 4.0 KiB? [y/N]"), "{shown}");
    assert_eq!(left(), 3);
    let shown = asked("y\n");
    assert_eq!(shown.matches("removed /").count(), 2, "{shown}");
    assert_eq!(left(), 1);
    drop(segments);
    drop(spilled(home.path()));
    let shown = overspill(&["purge", "--yes", parent]);
    assert_eq!(text(&shown.stdout).matches("removed /").count(), 2);
    assert_eq!(left(), 0);
    assert!(text(&overspill(&["purge", parent]).stdout).contains("nothing to remove"));
}
