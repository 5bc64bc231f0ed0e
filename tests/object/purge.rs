//! `overspill purge` of a URL, as a user runs it.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use overspill::object::{Objects, ObjectsConfig, Store};
use overspill::{Blocking, Frames, MutableMapping};

use crate::tiers_example::server::Server;

fn overspill(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overspill"));
    for (name, value) in server.options() {
        command.env(name.to_uppercase(), value);
    }
    command.env_remove("AWS_SESSION_TOKEN").env_remove("AWS_PROFILE");
    command.arg("purge").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn objects(server: &Server, url: &str) -> Blocking<Objects<u64>> {
    let store = Store::open_with(url, &server.options()).unwrap();
    let objects = Objects::blocking(ObjectsConfig::new(store).pack_bytes(10_000)).unwrap();
    for n in 0..50 {
        objects.insert(n, Frames::from(Bytes::from(vec![n as u8; 1000]))).unwrap();
    }
    objects.flush().unwrap();
    objects
}

/// Makes all below a folder seem older, for the server too.
#[expect(clippy::disallowed_methods, reason = "the age of files is told by the system's clock")]
fn age(server: &Server, by: Duration) {
    for file in server.objects().unwrap() {
        let file = std::fs::File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }
}

#[test]
fn what_the_long_dead_left_is_shown_and_with_yes_removed() {
    let server = Server::start(Duration::ZERO).unwrap();
    let url = format!("s3://{}/some/prefix", Server::BUCKET);
    assert_eq!(said(&overspill(&server, &[&url])), "there is nothing to remove\n");

    drop(objects(&server, &url));
    let dead = server.objects().unwrap();
    age(&server, Duration::from_secs(30 * 3600));
    let living = objects(&server, &url);
    std::fs::write(server.folder().join("some/prefix/notes"), "of somebody else").unwrap();

    let shown = said(&overspill(&server, &[&url]));
    let [line, refusal] = shown.lines().collect::<Vec<_>>()[..] else { unreachable!("{shown}") };
    assert!(line.starts_with(&format!("{url}/overspill-")), "{shown}");
    assert!(line.contains(&format!(": silent for 30 hours, {} objects, ", dead.len())), "{shown}");
    assert!(refusal.starts_with("nothing was removed, since nobody can be asked here: --yes"), "{shown}");
    assert!(dead.iter().all(|file| file.exists()));

    let later = said(&overspill(&server, &["--silent-hours", "40", "--yes", &url]));
    assert_eq!(later, "there is nothing to remove\n", "it is not dead for so long");
    let removed = said(&overspill(&server, &["--yes", &url]));
    assert!(removed.ends_with(&format!("removed {} objects\n", dead.len())), "{removed}");
    assert!(dead.iter().all(|file| !file.exists()));

    for n in 0..50 {
        assert_eq!(living.get(&n).unwrap(), Some(Frames::from(Bytes::from(vec![n as u8; 1000]))));
    }
    living.close().unwrap();
    let left = server.objects().unwrap();
    assert!(matches!(&left[..], [notes] if notes.ends_with("some/prefix/notes")), "{left:?}");
}

#[test]
fn what_cannot_be_purged_is_told() {
    let server = Server::start(Duration::ZERO).unwrap();
    for (arguments, code, expected) in [
        (["--silent-hours=0", "s3://bucket"], 2, "silent-hours"),
        (["--yes", "ftp://host/x"], 2, "s3://bucket/prefix"),
        (["--yes", "s3://"], 2, "s3://bucket/prefix"),
    ] {
        let output = overspill(&server, &arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.starts_with("overspill: ") && text.contains(expected), "{text}");
    }
    // a key that the server does not know
    let mut command = Command::new(env!("CARGO_BIN_EXE_overspill"));
    for (name, value) in server.options() {
        let value = if name == "aws_secret_access_key" { "a-wrong-secret" } else { value };
        command.env(name.to_uppercase(), value);
    }
    let url = format!("s3://{}/p", Server::BUCKET);
    let output = command.args(["purge", &url]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("SignatureDoesNotMatch") && !text.contains("a-wrong-secret"), "{text}");
}
