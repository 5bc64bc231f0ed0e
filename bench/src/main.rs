//! `cargo xtask bench [NAME...]`: ours, the peer, the ratio and its spread, all alternating in one run.

mod amplification;
mod cache;
mod chain;
mod codec;
mod compress;
mod fresh;
mod harness;
mod hit;
mod large;
mod layers;
mod memory;
mod mix;
mod object;
mod overshoot;
mod parallel;
mod peers;
mod process;
mod reading;
mod small;
mod tail;
mod tiny;

use harness::Row;

/// A group of questions: its name, what it asks, and how.
type Question = (&'static str, &'static str, fn(usize) -> Vec<Row>);

const QUESTIONS: [Question; 18] = [
    ("hit", "a hit in fast memory, beside the lru crate behind a mutex", hit::run),
    ("layers", "what a layer adds to a hit, beside the bare mapping", layers::run),
    ("large", "1 MiB values through the whole chain, beside plain file I/O", large::run),
    ("small", "4 KiB values through the whole chain, beside file I/O, fjall and redb", small::run),
    ("memory", "RAM for each spilled value; what evicting an unchanged value writes", memory::run),
    ("mix", "half reads, half writes of 4 KiB, beside redb, fjall and foyer", mix::run),
    ("tail", "the slowest of a thousand hits and reads, beside spilling", tail::run),
    ("parallel", "writing and reading with two threads, beside one", parallel::run),
    ("tiny", "process memory for ten million 100-byte values", tiny::run),
    ("amplification", "what overwriting writes beyond the bytes handed over", amplification::run),
    ("cache", "writing within a limit on the page cache, beside other ways to keep it", cache::run),
    ("object", "values in an S3 server 20 ms away, beside the plain client", object::run),
    ("reading", "a reading of process memory, beside its limit and the plain file", reading::run),
    ("overshoot", "how far beyond its limit a program gets, beside fixed intervals", overshoot::run),
    ("codec", "a large value viewed in place by rkyv, beside deserialised by serde", codec::run),
    ("compress", "each codec with shuffle on one thread, beside c-blosc2", compress::run),
    ("raw", "each compressor on one thread, beside zstd, lz4 and lz4_flex themselves", compress::run_raw),
    (
        "adaptive",
        "the adaptive choice end to end, beside none and the best fixed one",
        compress::run_adaptive,
    ),
];

fn main() -> std::process::ExitCode {
    if let Some(code) = process::run() {
        return code;
    }
    let mut rounds = 7;
    let mut wanted = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => match args.next().and_then(|n| n.parse().ok()) {
                Some(n) if n > 0 => rounds = n,
                _ => return usage("--rounds takes a whole number above 0"),
            },
            "--help" | "-h" => return usage(""),
            name => match QUESTIONS.iter().find(|(known, ..)| *known == name) {
                Some(question) => wanted.push(question),
                None => return usage(&format!("there is no question {name:?}")),
            },
        }
    }
    if wanted.is_empty() {
        wanted.extend(&QUESTIONS);
    }
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    eprintln!("{cpus} CPUs, {rounds} rounds of each after one to warm up");
    let rows: Vec<Row> = wanted
        .into_iter()
        .flat_map(|(name, about, run)| {
            eprintln!("{name}: {about}");
            run(rounds)
        })
        .collect();
    println!("{}", harness::table(&rows));
    std::process::ExitCode::SUCCESS
}

fn usage(problem: &str) -> std::process::ExitCode {
    if !problem.is_empty() {
        eprintln!("error: {problem}");
    }
    eprintln!("usage: cargo xtask bench [--rounds N] [NAME...]");
    for (name, about, _) in QUESTIONS {
        eprintln!("  {name:8} {about}");
    }
    std::process::ExitCode::from(if problem.is_empty() { 0 } else { 2 })
}
