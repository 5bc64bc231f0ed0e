//! Ours and the peer in turn, A B A B ..., and one table in the end.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Which way a figure is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Ratio of times: ours over the peer's.
    LessTime,
    /// Ratio of speeds: ours over the peer's.
    MoreSpeed,
    /// Nanoseconds that ours takes beyond the peer's.
    FewerNanos,
}

/// One line of the table.
pub struct Row {
    pub what: String,
    pub ours: String,
    pub peer: String,
    pub ratio: f64,
    pub spread: (f64, f64),
    pub goal: Option<(Better, f64)>,
    pub note: String,
}

impl Row {
    /// Says beside a goal what would be better still.
    pub fn stretch(mut self, ratio: f64) -> Self {
        let is_there = if self.ratio >= ratio { "reached" } else { "not reached" };
        _ = write!(self.note, "; stretch {ratio} {is_there}");
        self
    }

    fn compared(&self, figure: f64) -> String {
        match self.goal {
            Some((Better::FewerNanos, _)) => format!("{figure:+.1} ns"),
            _ => format!("{figure:.2}"),
        }
    }

    fn reached(&self) -> &'static str {
        match self.goal {
            None => "",
            Some((Better::LessTime | Better::FewerNanos, goal)) if self.ratio <= goal => "yes",
            Some((Better::MoreSpeed, goal)) if self.ratio >= goal => "yes",
            Some(_) => "NO",
        }
    }
}

/// What one run took.
#[derive(Clone, Copy)]
pub struct Run {
    pub wall: Duration,
    pub cpu: Duration,
}

/// Before a run that writes `bytes` into `home`: writes out what earlier runs left dirty, and touches as much
/// page cache as this one will, so that nobody pays for memory that another gave back to the host.
pub fn settle(home: &Path, bytes: usize) {
    let path = home.join("settle");
    let mut file = File::create_new(&path).unwrap();
    let block = vec![1; 1 << 20];
    (0..bytes >> 20).for_each(|_| file.write_all(&block).unwrap());
    std::fs::remove_file(path).unwrap();
    rustix::fs::sync();
}

/// Times `f` by the wall and by the processor time of the whole process.
pub fn timed(f: impl FnOnce()) -> Run {
    let (cpu, wall) = (cpu_time(), Instant::now());
    f();
    Run { wall: wall.elapsed(), cpu: cpu_time().saturating_sub(cpu) }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// How to show a duration for a number of operations or bytes.
#[derive(Clone, Copy)]
pub enum Unit {
    NanosEach(u64),
    MillisEach(u64),
    GibPerSecond(u64),
    ThousandsPerSecond(u64),
}

impl Unit {
    fn show(self, seconds: f64) -> String {
        match self {
            Unit::NanosEach(count) => format!("{:.1} ns", seconds * 1e9 / count as f64),
            Unit::MillisEach(count) => format!("{:.1} ms", seconds * 1e3 / count as f64),
            Unit::GibPerSecond(bytes) => format!("{:.2} GiB/s", bytes as f64 / seconds / f64::from(1 << 30)),
            Unit::ThousandsPerSecond(count) => format!("{:.0} k/s", count as f64 / seconds / 1e3),
        }
    }
}

/// Runs both in turn, one round more than counted to warm up, and compares them round by round.
pub fn pair(
    what: &str,
    unit: Unit,
    goal: Option<(Better, f64)>,
    rounds: usize,
    ours: impl FnMut() -> Run,
    peer: impl FnMut() -> Run,
) -> Row {
    let compare = |x: f64, y: f64| if matches!(goal, Some((Better::LessTime, _))) { x / y } else { y / x };
    alternate(what, unit, goal, rounds, compare, ours, peer)
}

/// As [`pair`]; compares what `ours` takes for each of `count` operations beyond the `peer` with `limit` nanoseconds.
pub fn difference(
    what: &str,
    count: u64,
    limit: f64,
    rounds: usize,
    ours: impl FnMut() -> Run,
    peer: impl FnMut() -> Run,
) -> Row {
    let compare = |x: f64, y: f64| (x - y) * 1e9 / count as f64;
    let goal = Some((Better::FewerNanos, limit));
    alternate(what, Unit::NanosEach(count), goal, rounds, compare, ours, peer)
}

fn alternate(
    what: &str,
    unit: Unit,
    goal: Option<(Better, f64)>,
    rounds: usize,
    compare: impl Fn(f64, f64) -> f64,
    mut ours: impl FnMut() -> Run,
    mut peer: impl FnMut() -> Run,
) -> Row {
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (x, y) = if round % 2 == 0 {
            let x = ours();
            (x, peer())
        } else {
            let y = peer();
            (ours(), y)
        };
        eprintln!(
            "  {what}: round {round}{}: ours {}, peer {}",
            if round == 0 { " (not counted)" } else { "" },
            unit.show(x.wall.as_secs_f64()),
            unit.show(y.wall.as_secs_f64())
        );
        if round > 0 {
            let (x_wall, y_wall) = (x.wall.as_secs_f64(), y.wall.as_secs_f64());
            walls.push((x_wall, y_wall));
            cpus.push(x.cpu.as_secs_f64() / x_wall);
        }
    }
    let note = format!("{:.1} CPUs", median(&cpus));
    row(what, goal, &walls, compare, |seconds| unit.show(seconds), note)
}

/// The row of some rounds, each of ours and the peer's: medians, and how far the rounds lie apart.
pub fn row(
    what: &str,
    goal: Option<(Better, f64)>,
    rounds: &[(f64, f64)],
    compare: impl Fn(f64, f64) -> f64,
    show: impl Fn(f64) -> String,
    note: String,
) -> Row {
    let (ours, peers): (Vec<f64>, Vec<f64>) = rounds.iter().copied().unzip();
    let ratios: Vec<f64> = rounds.iter().map(|&(ours, peer)| compare(ours, peer)).collect();
    let spread = ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), &r| (low.min(r), high.max(r)));
    Row {
        what: what.to_owned(),
        ours: show(median(&ours)),
        peer: show(median(&peers)),
        ratio: median(&ratios),
        spread,
        goal,
        note,
    }
}

/// The table, in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut lines =
        vec![["question", "ours", "peer", "ratio", "spread", "goal", "reached", "note"].map(String::from)];
    for row in rows {
        let goal = match row.goal {
            None => String::new(),
            Some((Better::LessTime, goal)) => format!("<= {goal}"),
            Some((Better::FewerNanos, goal)) => format!("<= +{goal} ns"),
            Some((Better::MoreSpeed, goal)) => format!(">= {goal}"),
        };
        lines.push([
            row.what.clone(),
            row.ours.clone(),
            row.peer.clone(),
            row.compared(row.ratio),
            format!("{} to {}", row.compared(row.spread.0), row.compared(row.spread.1)),
            goal,
            row.reached().to_owned(),
            row.note.clone(),
        ]);
    }
    let widths: [usize; 8] =
        std::array::from_fn(|i| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if n == 0 {
            widths.iter().for_each(|&width| _ = write!(text, "|{}", "-".repeat(width + 2)));
            text.push_str("|\n");
        }
    }
    text
}
