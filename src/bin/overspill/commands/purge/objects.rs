//! `overspill purge s3://bucket/prefix`: the same in an object store.

use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use overspill::object::{Leftover, Store, leftovers, purge};
use tokio::runtime::Builder;

use super::agreed;
use crate::failure::Failure;
use crate::output;

/// Shows what processes left that have been silent for so long, asks, and deletes it. Credentials come from the
/// environment.
pub(super) fn run(url: &str, silent: Duration, yes: bool) -> Result<ExitCode, Failure> {
    let store = Store::open(url)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(leftovers(&store, silent))?;
    let root = store.to_string();
    for leftover in &found {
        let Leftover { objects, bytes, .. } = leftover;
        output::line(format_args!(
            "{}/{}: silent for {} hours, {objects} objects, {}",
            root.trim_end_matches('/'),
            leftover.folder(),
            leftover.silent.as_secs() / 3600,
            ByteSize(*bytes).display().iec()
        ))?;
    }
    if found.is_empty() {
        output::line("there is nothing to remove")?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = ByteSize(found.iter().map(|leftover| leftover.bytes).sum());
    if !yes && !agreed(&format!("what {} processes left, {}", found.len(), bytes.display().iec()))? {
        return Ok(ExitCode::SUCCESS);
    }
    let removed = runtime.block_on(purge(&store, &found))?;
    output::line(format_args!("removed {removed} objects"))?;
    Ok(ExitCode::SUCCESS)
}
