//! Running other programs: shown before they run, so that a person can run the same line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Why a command of ours ends with a code other than zero.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something that must hold does not.
    Failed(String),
    /// A person must do something first: another command line, or installing with rights we lack.
    Person(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Failed(text) | Failure::Person(text) => f.write_str(text),
        }
    }
}

pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// A failure with this text.
pub(crate) fn failed<T>(text: impl Into<String>) -> Result<T> {
    Err(Failure::Failed(text.into()))
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    // What `cargo run` says wins over what was true when this program was built: the folder may have moved.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A file of the workspace as text.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))
}

/// Writes a file, making its folder.
pub(crate) fn write(path: &Path, text: &str) -> Result {
    path.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

/// One command line, run in the workspace's folder.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Line {
    /// `program` with arguments separated by blanks.
    pub(crate) fn new(program: &str, args: &str) -> Self {
        Line {
            program: program.to_owned(),
            args: args.split_whitespace().map(str::to_owned).collect(),
            env: Vec::new(),
        }
    }

    /// `cargo` with arguments separated by blanks.
    pub(crate) fn cargo(args: &str) -> Self {
        Line::new("cargo", args)
    }

    /// Arguments at the end, which may hold blanks.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = String>) -> Self {
        self.args.extend(args);
        self
    }

    /// A variable of the program's environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Shows the line, runs it with our own output, and fails when it does.
    pub(crate) fn run(&self) -> Result {
        println!("$ {self}");
        let status = self.command().status().map_err(|error| self.cannot_start(&error))?;
        if status.success() { Ok(()) } else { failed(format!("{status}: {self}")) }
    }

    /// Runs it quietly. An error only when it cannot be started; look at the status.
    pub(crate) fn output(&self) -> Result<Output> {
        self.command().stdin(Stdio::null()).output().map_err(|error| self.cannot_start(&error))
    }

    /// What it prints, when it succeeds.
    pub(crate) fn text(&self) -> Result<String> {
        let output = self.output()?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            failed(format!("{}: {self}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// Whether it can be started and succeeds.
    pub(crate) fn succeeds(&self) -> bool {
        self.output().is_ok_and(|output| output.status.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value))).current_dir(root());
        command
    }

    fn cannot_start(&self, error: &std::io::Error) -> Failure {
        Failure::Failed(format!("cannot run `{self}`: {error}"))
    }
}

impl fmt::Display for Line {
    /// As one would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_as_one_would_type_it() {
        let line =
            Line::cargo("nextest run -E").args(["test(it's)".to_owned()]).env("RUSTFLAGS", "--cfg shuttle");
        assert_eq!(line.to_string(), r"RUSTFLAGS='--cfg shuttle' cargo nextest run -E 'test(it'\''s)'");
    }

    #[test]
    fn a_failing_program_is_a_failure_and_a_missing_one_too() {
        assert!(Line::new("true", "").run().is_ok());
        assert!(matches!(Line::new("false", "").run(), Err(Failure::Failed(_))));
        assert!(matches!(Line::new("no-such-program-here", "").run(), Err(Failure::Failed(_))));
        assert!(!Line::new("no-such-program-here", "").succeeds());
    }
}
