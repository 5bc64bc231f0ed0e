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
    for command in ["nanny", "dashboard", "config", "trim", "completions"] {
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
