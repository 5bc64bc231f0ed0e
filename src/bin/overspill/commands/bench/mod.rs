//! `overspill bench`: which backend and compressor suit the user's own data.

mod backend;
mod measure;
mod plot;
mod recommend;
mod report;
mod sample;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::builder::NonEmptyStringValueParser;
use indicatif::{ProgressBar, ProgressStyle};
use overspill::Compression;

use crate::failure::Failure;
use crate::output;
use backend::Backend;
use measure::{Measured, Run};
use recommend::Recommendation;
use sample::Sample;

/// What is tried unless told otherwise.
const COMPRESSIONS: [&str; 7] =
    ["none", "lz4", "lz4+shuffle4", "lz4+shuffle8", "zstd:1", "zstd:1+shuffle8", "adaptive"];

/// Arguments of `overspill bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  overspill bench data/                          every file below a folder, on the system's temporary directory
  overspill bench --directory /mnt/nvme *.npy    on another disk
  overspill bench --compression none --compression zstd:3 logs/
  overspill bench --json --plot speeds.svg data/ > speeds.json")]
pub(crate) struct Args {
    /// Files whose content is measured; of folders, all files below
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Where to spill to [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,

    /// An object store to measure as well, such as s3://bucket/prefix
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    store: Option<String>,

    /// A compression to try: adaptive, none, lz4, zstd:LEVEL, with +shuffleN; may be given several times
    /// [default: a choice of them]
    #[arg(long = "compression", value_name = "NAME", value_parser = compression)]
    compressions: Vec<String>,

    /// Files are cut into values of at most this size
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    value_size: ByteSize,

    /// Of larger data, as much is taken, evenly spread
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    limit: ByteSize,

    /// How often each combination runs; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Print results as JSON
    #[arg(long)]
    json: bool,

    /// Draw the results into an SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Measures every combination, and prints what was found.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let backends = Backend::all(args.directory.as_deref(), args.store.as_deref())?;
    // A name makes a fresh compression for each run: one that adapts must not know the data already.
    let names: Vec<String> = match args.compressions.as_slice() {
        [] => COMPRESSIONS.map(str::to_owned).to_vec(),
        given => given.to_vec(),
    };
    let sample = Sample::read(&args.paths, args.value_size.as_u64(), args.limit.as_u64())?;
    let combinations: Vec<(&Backend, &str)> =
        backends.iter().flat_map(|backend| names.iter().map(move |name| (backend, name.as_str()))).collect();

    let bar = progress(combinations.len() as u64 * u64::from(args.rounds) + 1);
    let mut runs: Vec<Vec<Run>> = combinations.iter().map(|_| Vec::new()).collect();
    // One run that does not count: it makes the system hand out the memory that all of them use.
    if let Some((backend, name)) = combinations.first() {
        bar.set_message("warming up");
        measure::run(backend, name, &sample)?;
        bar.inc(1);
    }
    for _ in 0..args.rounds {
        for ((backend, name), runs) in combinations.iter().zip(&mut runs) {
            bar.set_message(format!("{backend}, {name}"));
            runs.push(measure::run(backend, name, &sample)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();

    let results: Vec<Measured> = combinations
        .iter()
        .zip(runs)
        .map(|((backend, name), runs)| Measured::of(backend.name(), name, &sample, &runs))
        .collect();
    let recommendation = Recommendation::of(&results, args.directory.as_deref(), args.store.as_deref());
    if let Some(path) = &args.plot {
        std::fs::write(path, plot::svg(&results, &sample)).map_err(|error| {
            Failure::Usage(format!(
                "cannot write the plot to {}: {error}; name a file in a folder that exists",
                path.display()
            ))
        })?;
    }
    if args.json {
        output::line(report::json(&sample, args.rounds, &results, recommendation.as_ref()))
    } else {
        report::table(&sample, args.rounds, &results, recommendation.as_ref())
    }
}

/// The full name of a compression.
fn compression(name: &str) -> Result<String, overspill::Error> {
    name.parse::<Compression>().map(|compression| compression.to_string())
}

/// A bar on a terminal, and nothing elsewhere.
fn progress(length: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let template = if plain { "{bar:30} {pos}/{len} {msg}" } else { "{bar:30.cyan} {pos}/{len} {msg}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
