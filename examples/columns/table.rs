//! A table of readings, the same for the same number of rows.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use overspill::arrow_array::{
    ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use overspill::arrow_ipc::writer::FileWriter;

use crate::Failure;

const ROWS_OF_A_BATCH: u32 = 50_000;
const STATIONS: [&str; 6] = ["Bergen", "Hammerfest", "Oslo", "Røros", "Tromsø", "Vardø"];

/// Writes a table of `rows` rows to `file`.
pub(crate) fn make(file: &Path, rows: u32) -> Result<(), Failure> {
    let created = File::create(file).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let mut writer = FileWriter::try_new_buffered(created, &batch(0, 0, &mut 1)?.schema())?;
    let mut state: u64 = 1;
    for start in (0..rows).step_by(ROWS_OF_A_BATCH as usize) {
        let end = rows.min(start + ROWS_OF_A_BATCH);
        writer.write(&batch(start, end, &mut state)?)?;
    }
    Ok(writer.finish()?)
}

/// Rows `start` to `end`; the noise in them goes on from `state`.
fn batch(start: u32, end: u32, state: &mut u64) -> Result<RecordBatch, Failure> {
    let mut noise = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as u32
    };
    let mut stations = Vec::new();
    let mut degrees = Vec::new();
    let mut counts = Vec::new();
    for row in start..end {
        let station = noise() as usize % STATIONS.len();
        let day = f64::from(row) / 5000.0;
        let reading = 10.0 * day.sin() - station as f64 + f64::from(noise() % 1000) / 250.0;
        stations.push(STATIONS[station]);
        degrees.push((noise() % 50 > 0).then_some(reading));
        counts.push(noise() as i32 % 100);
    }
    let times = (start..end).map(|row| 1_700_000_000_000_000 + i64::from(row) * 250_000);
    let columns: [(_, ArrayRef, _); 4] = [
        ("time", Arc::new(TimestampMicrosecondArray::from_iter_values(times)), false),
        ("station", Arc::new(StringArray::from(stations)), false),
        ("degrees", Arc::new(Float64Array::from(degrees)), true),
        ("count", Arc::new(Int32Array::from(counts)), false),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}
