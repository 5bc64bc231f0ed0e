//! The examples as programs, for tests of them from end to end.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// Builds an example with these arguments of cargo, unless that is done, and says where it is.
pub(crate) fn example(name: &str, args: &[&str]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--example", name, "--message-format", "json", "--quiet"])
        .args(args)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8(built.stdout).unwrap();
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name && message["profile"]["test"] == false;
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    });
    executable.unwrap()
}
