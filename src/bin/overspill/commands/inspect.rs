//! `overspill inspect`: what lies in a directory of spilled data.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytesize::ByteSize;
use overspill::Error;
use spill_disk::inspect::{Contents, Found, Records, Seen, State, contents, value_file};
use spill_disk::io::{Io, RealIo};

use crate::failure::Failure;
use crate::output;

/// Arguments of `overspill inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A workspace, a directory with workspaces in it, or one with a file for each key
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print a line for each record
    #[arg(long)]
    records: bool,
}

/// Prints what there is. Fails when a value that must be whole is damaged.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match contents(&RealIo, &args.directory)? {
        Contents::Parent(seen) if seen.is_empty() => {
            output::line(format_args!("{}: nothing of overspill's", args.directory.display()))?;
        }
        Contents::Parent(seen) => seen.iter().try_for_each(workspace)?,
        Contents::Workspace(seen, segments) => {
            workspace(&seen)?;
            if seen.state == State::InUse {
                output::line(
                    "it is being written: a record that is not whole yet shows among the other bytes",
                )?;
            }
            segments.iter().try_for_each(|path| segment(path, args.records))?;
        }
        Contents::Values(paths) => return values(&paths),
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for a workspace.
pub(crate) fn workspace(seen: &Seen) -> Result<(), Failure> {
    let Seen { path, state, files, bytes } = seen;
    output::line(format_args!(
        "{}: {state}, {files} files, {}",
        path.display(),
        ByteSize(*bytes).display().iec()
    ))
}

fn segment(path: &Path, each: bool) -> Result<(), Failure> {
    let failed = |operation| move |source| Error::io(operation, path, source);
    let file = RealIo.open(path).map_err(failed("open"))?;
    let (mut count, mut bytes, mut weight, mut other) = (0u64, 0u64, 0u128, 0u64);
    let mut number = None;
    for found in Records::new(&*file) {
        match found.map_err(failed("read"))? {
            Found::Record(record) => {
                count += 1;
                bytes += record.length;
                weight += u128::from(record.weight);
                number = Some(record.segment);
                if each {
                    output::line(format_args!(
                        "  offset {} length {} segment {} tag {:08x} frames {} weight {} checksum {:08x}",
                        record.offset,
                        record.length,
                        record.segment,
                        record.tag,
                        record.frames,
                        record.weight,
                        record.checksum
                    ))?;
                }
            }
            Found::Other { offset, length } => {
                other += length;
                if each {
                    output::line(format_args!(
                        "  offset {offset} length {length} no record of this segment"
                    ))?;
                }
            }
        }
    }
    let name = path.file_name().unwrap_or_default().display();
    let number = number.map_or("no segment".to_owned(), |number| format!("segment {number}"));
    output::line(format_args!(
        "{name}: {number}, {count} records of {} for {weight} bytes in memory, {} other",
        ByteSize(bytes).display().iec(),
        ByteSize(other).display().iec()
    ))
}

fn values(paths: &[PathBuf]) -> Result<ExitCode, Failure> {
    let mut damaged = 0;
    for path in paths {
        let found = value_file(&RealIo, path).map_err(|source| Error::io("read", path, source))?;
        let name = path.file_name().unwrap_or_default().display();
        match found {
            Ok(file) => {
                let state = match &file.value {
                    Ok(value) => format!("{} frames", value.as_slice().len()),
                    Err(reason) => format!("DAMAGED: {reason}"),
                };
                damaged += u64::from(file.value.is_err());
                output::line(format_args!(
                    "{name}: key {:?}, generation {}, {}, weight {}, {state}",
                    String::from_utf8_lossy(&file.key),
                    file.generation,
                    ByteSize(file.length).display().iec(),
                    file.weight
                ))?;
            }
            Err(reason) => {
                damaged += 1;
                output::line(format_args!("{name}: DAMAGED: {reason}"))?;
            }
        }
    }
    output::line(format_args!("{} values, {damaged} damaged", paths.len()))?;
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
