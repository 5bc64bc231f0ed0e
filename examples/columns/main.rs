//! A table larger than memory: record batches of an Arrow file lie in memory while they fit, spill as they are,
//! buffer by buffer, and are read through where they were read back.
//!
//! Run: cargo run --release --features arrow --example columns
//! or with a file of your own making: columns --make table.arrow, then columns table.arrow --json. `check.py`
//! answers the same question by polars.

mod summary;
mod table;

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::Parser;
use overspill::arrow_array::RecordBatch;
use overspill::arrow_ipc::reader::FileReader;
use overspill::presets::Preset;
use overspill::{Arrow, Compression, MutableMapping, Weigh};
use serde_json::json;

use summary::Summary;

type Failure = Box<dyn std::error::Error>;

/// Sums up a table of readings by station: an Arrow file of any size, with bounded memory.
#[derive(Parser)]
struct Args {
    /// An Arrow file with the columns station, degrees and count; without one, a table is made for the occasion
    file: Option<PathBuf>,

    /// Write such a table to a file, and end
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    make: Option<PathBuf>,

    /// Rows of a table that is made
    #[arg(long, default_value_t = 2_000_000)]
    rows: u32,

    /// What record batches may take in memory, buffers of the chain included
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    memory_limit: ByteSize,

    /// Where they spill to [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    local_directory: Option<PathBuf>,

    /// How they are compressed on their way: adaptive, none, lz4, zstd:LEVEL
    #[arg(long, default_value = "adaptive")]
    compression: String,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    if let Some(file) = &args.make {
        return table::make(file, args.rows);
    }
    let folder = tempfile::tempdir()?;
    let file = args.file.clone().unwrap_or_else(|| folder.path().join("table.arrow"));
    if args.file.is_none() {
        table::make(&file, args.rows)?;
    }
    run(&file, args)
}

/// Holds the whole table, then reads it through twice.
fn run(file: &Path, args: Args) -> Result<(), Failure> {
    let limit = args.memory_limit.as_u64();
    let batches = Preset::<u64, RecordBatch>::weighed_by(limit, Arrow)
        .directory(args.local_directory.as_deref())
        .compressed_disk(Arrow, args.compression.parse::<Compression>()?)?;

    let reader =
        std::fs::File::open(file).map_err(|error| format!("cannot open {}: {error}", file.display()));
    let mut count = 0;
    let mut bytes = 0;
    let mut most = 0;
    for batch in FileReader::try_new_buffered(reader?, None)? {
        let batch = batch?;
        bytes += Arrow.weigh(&count, &batch);
        batches.insert(count, batch)?;
        count += 1;
        most = most.max(batches.usage().managed());
    }
    let usage = batches.usage();

    // The first pass finds the means, the second how far readings are from them.
    let mut summary = Summary::default();
    for key in 0..count {
        let batch = batches.get(&key)?.ok_or("a batch was lost")?;
        summary.add(&batch)?;
        most = most.max(batches.usage().managed());
    }
    for key in 0..count {
        summary.add_deviations(&batches.get(&key)?.ok_or("a batch was lost")?)?;
    }

    if args.json {
        let memory = json!({
            "limit": limit, "most": most, "table": bytes,
            "spilled": usage.spilled.memory, "disk": usage.spilled.disk,
        });
        println!("{}", json!({ "stations": summary.json(), "batches": count, "memory": memory }));
    } else {
        println!(
            "{:>10} {:>9} {:>9} {:>7} {:>7} {:>9}",
            "station", "readings", "count", "mean", "max", "deviation"
        );
        print!("{summary}");
        let size = |bytes| ByteSize(bytes).display().iec();
        println!("{count} record batches of {} in {} of memory at most", size(bytes), size(most));
        println!("{} of them spilled, as {} on disk", size(usage.spilled.memory), size(usage.spilled.disk));
    }
    Ok(batches.close()?)
}
