//! The question: for each station, how many readings, and what they say.

use std::collections::BTreeMap;
use std::fmt;

use overspill::arrow_array::cast::AsArray;
use overspill::arrow_array::types::{Float64Type, Int32Type};
use overspill::arrow_array::{Array, Float64Array, Int32Array, RecordBatch, StringArray};
use serde_json::{Value, json};

use crate::Failure;

/// What is known of one station.
#[derive(Default)]
struct Station {
    readings: u64,
    count: i64,
    sum: f64,
    max: Option<f64>,
    squares: f64,
}

impl Station {
    fn mean(&self) -> Option<f64> {
        (self.readings > 0).then(|| self.sum / self.readings as f64)
    }

    fn deviation(&self) -> Option<f64> {
        (self.readings > 1).then(|| (self.squares / (self.readings - 1) as f64).sqrt())
    }
}

/// All stations, by name.
#[derive(Default)]
pub(crate) struct Summary(BTreeMap<String, Station>);

/// The columns of a batch that the question is about.
struct Columns<'a> {
    station: &'a StringArray,
    degrees: &'a Float64Array,
    count: &'a Int32Array,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, Failure> {
        let column =
            |name| batch.column_by_name(name).ok_or_else(|| format!("the table has no column {name:?}"));
        Ok(Columns {
            station: column("station")?.as_string_opt().ok_or("column \"station\" is no text")?,
            degrees: column("degrees")?
                .as_primitive_opt::<Float64Type>()
                .ok_or("column \"degrees\" is no float64")?,
            count: column("count")?.as_primitive_opt::<Int32Type>().ok_or("column \"count\" is no int32")?,
        })
    }
}

impl Summary {
    /// The first pass over a batch. Readings without degrees count nowhere but in the sum of counts.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let columns = Columns::of(batch)?;
        for row in 0..batch.num_rows() {
            let name = columns.station.value(row);
            let station = match self.0.get_mut(name) {
                Some(known) => known,
                None => self.0.entry(name.to_owned()).or_default(),
            };
            station.count += i64::from(columns.count.value(row));
            if columns.degrees.is_valid(row) {
                let degrees = columns.degrees.value(row);
                station.readings += 1;
                station.sum += degrees;
                station.max = Some(station.max.map_or(degrees, |max| max.max(degrees)));
            }
        }
        Ok(())
    }

    /// The second pass over a batch, when all means are known.
    pub(crate) fn add_deviations(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let columns = Columns::of(batch)?;
        for row in 0..batch.num_rows() {
            let Some(station) = self.0.get_mut(columns.station.value(row)) else { continue };
            if let Some(mean) = station.mean().filter(|_| columns.degrees.is_valid(row)) {
                station.squares += (columns.degrees.value(row) - mean).powi(2);
            }
        }
        Ok(())
    }

    /// A list of objects.
    pub(crate) fn json(&self) -> Value {
        let stations = self.0.iter().map(|(name, station)| {
            json!({
                "station": name, "readings": station.readings, "count": station.count,
                "mean": station.mean(), "max": station.max, "deviation": station.deviation(),
            })
        });
        stations.collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, station) in &self.0 {
            let number =
                |number: Option<f64>| number.map_or_else(String::new, |number| format!("{number:.2}"));
            let (mean, max, deviation) =
                (number(station.mean()), number(station.max), number(station.deviation()));
            writeln!(
                f,
                "{name:>10} {:>9} {:>9} {mean:>7} {max:>7} {deviation:>9}",
                station.readings, station.count
            )?;
        }
        Ok(())
    }
}
