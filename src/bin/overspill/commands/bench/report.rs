//! Results for people and for programs.

use std::io::{self, IsTerminal};
use std::time::Duration;

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::measure::{Latency, Measured};
use super::recommend::Recommendation;
use super::sample::Sample;
use crate::failure::Failure;
use crate::output;

const HEADINGS: [&str; 11] = [
    "backend",
    "compression",
    "MB/s in",
    "MB/s out",
    "ratio",
    "CPU s/GB",
    "peak",
    "in p50",
    "in p99",
    "out p50",
    "out p99",
];

/// Prints the table, the recommendation and its configuration.
pub(super) fn table(
    sample: &Sample,
    rounds: u32,
    results: &[Measured],
    recommendation: Option<&Recommendation>,
) -> Result<(), Failure> {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(results.iter().map(cells));
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|n| lines.iter().map(|line| line[n].chars().count()).max().unwrap_or(0))
        .collect();
    let size = |bytes| ByteSize(bytes).display().iec().to_string();
    let part =
        if sample.bytes < sample.found { format!(" of {}", size(sample.found)) } else { String::new() };
    output::line(format_args!(
        "{} values, {}{part} in {} files; medians of {rounds} rounds",
        sample.values.len(),
        size(sample.bytes),
        sample.files,
    ))?;
    output::line("")?;
    let bold = colours();
    for (n, line) in lines.iter().enumerate() {
        let chosen = recommendation.is_some_and(|recommendation| n == recommendation.place + 1);
        let mut text = String::from(if chosen { "* " } else { "  " });
        for (n, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let text_column = n < 2;
            text += &if text_column { format!("{cell:width$}  ") } else { format!("{cell:>width$}  ") };
        }
        let text = text.trim_end();
        if chosen && bold {
            output::line(format_args!("\u{1b}[1m{text}\u{1b}[0m"))?
        } else {
            output::line(text)?
        }
    }
    let Some(recommendation) = recommendation else { return Ok(()) };
    output::line(format_args!("\n* {}.\n\nIn a program:\n", recommendation.reason))?;
    for line in &recommendation.program {
        output::line(format_args!("    {line}"))?;
    }
    if !recommendation.settings.is_empty() {
        output::line("\nFor workers, in a configuration file:\n")?;
        for line in &recommendation.settings {
            output::line(format_args!("    {line}"))?;
        }
    }
    Ok(())
}

/// Whether a person looks at standard output who wants more than plain text.
fn colours() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !plain && io::stdout().is_terminal()
}

fn cells(result: &Measured) -> [String; 11] {
    [
        result.backend.to_owned(),
        result.compression.clone(),
        format!("{:.0}", result.speed_in),
        format!("{:.0}", result.speed_out),
        format!("{:.2}", result.ratio),
        format!("{:.2}", result.cpu),
        result.peak.map_or_else(|| "-".to_owned(), |peak| ByteSize(peak).display().iec_short().to_string()),
        time(result.latency_in.p50),
        time(result.latency_in.p99),
        time(result.latency_out.p50),
        time(result.latency_out.p99),
    ]
}

/// Three digits and a unit.
fn time(time: Duration) -> String {
    let micros = time.as_nanos() as f64 / 1e3;
    match micros {
        ..99.95 => format!("{micros:.1}us"),
        ..999.5 => format!("{micros:.0}us"),
        ..99_950.0 => format!("{:.1}ms", micros / 1e3),
        _ => format!("{:.0}ms", micros / 1e3),
    }
}

/// Everything, in base units that the names say.
pub(super) fn json(
    sample: &Sample,
    rounds: u32,
    results: &[Measured],
    recommendation: Option<&Recommendation>,
) -> Value {
    let latency = |latency: &Latency| {
        json!({
            "p50_seconds": latency.p50.as_secs_f64(),
            "p99_seconds": latency.p99.as_secs_f64(),
            "max_seconds": latency.max.as_secs_f64(),
        })
    };
    let rows: Vec<Value> = results
        .iter()
        .map(|result| {
            json!({
                "backend": result.backend,
                "compression": result.compression,
                "in_bytes_per_second": result.speed_in * 1e6,
                "out_bytes_per_second": result.speed_out * 1e6,
                "ratio": result.ratio,
                "cpu_seconds_per_gigabyte": result.cpu,
                "peak_memory_bytes": result.peak,
                "in": latency(&result.latency_in),
                "out": latency(&result.latency_out),
            })
        })
        .collect();
    let chosen =
        recommendation.and_then(|recommendation| Some((recommendation, results.get(recommendation.place)?)));
    json!({
        "sample": {
            "files": sample.files,
            "bytes_found": sample.found,
            "values": sample.values.len(),
            "bytes": sample.bytes,
        },
        "rounds": rounds,
        "results": rows,
        "recommendation": chosen.map(|(recommendation, result)| json!({
            "backend": result.backend,
            "compression": result.compression,
            "reason": recommendation.reason,
            "program": recommendation.program.join("\n"),
            "settings": recommendation.settings.join("\n"),
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_say_their_unit() {
        let texts =
            [900, 99_949, 99_960, 1_500_000, 250_000_000].map(|nanos| time(Duration::from_nanos(nanos)));
        assert_eq!(texts, ["0.9us", "99.9us", "100us", "1.5ms", "250ms"]);
    }
}
