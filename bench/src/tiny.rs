//! Ten million small values, in a process of their own, whose memory is looked at.

use std::process::Command;

use crate::harness::{Better, Row};

pub fn run(_rounds: usize) -> Vec<Row> {
    let program = std::env::current_exe().unwrap().with_file_name("tiny");
    let output = Command::new(&program).output().unwrap();
    assert!(output.status.success(), "{program:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (peak, seconds) = text.trim().split_once('\t').unwrap();
    let mib: f64 = peak.parse().unwrap();
    vec![Row {
        what: "process memory for ten million 100-byte values, churned".to_owned(),
        ours: format!("{mib:.0} MiB"),
        peer: "1024 MiB".to_owned(),
        ratio: mib / 1024.0,
        spread: (mib / 1024.0, mib / 1024.0),
        goal: Some((Better::LessTime, 1.0)),
        note: format!("{seconds} s to fill, churn, close"),
    }]
}
