//! Figures that are counted, not timed. A program of its own counts allocations, so that counting slows
//! nothing else.

use std::process::Command;

use crate::harness::{Better, Row};

pub fn run(_rounds: usize) -> Vec<Row> {
    let program = std::env::current_exe().unwrap().with_file_name("count");
    let output = Command::new(&program).output().unwrap();
    assert!(output.status.success(), "{program:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let (what, rest) = line.split_once('\t').unwrap();
            let (figure, goal) = rest.split_once('\t').unwrap();
            let (figure, goal): (f64, f64) = (figure.parse().unwrap(), goal.parse().unwrap());
            Row {
                what: what.to_owned(),
                ours: format!("{figure:.1} B"),
                peer: "-".to_owned(),
                ratio: figure,
                spread: (figure, figure),
                goal: Some((Better::LessTime, goal)),
                note: "counted".to_owned(),
            }
        })
        .collect()
}
