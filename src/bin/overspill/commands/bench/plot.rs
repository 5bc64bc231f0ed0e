//! The results as bars, in SVG.

use std::fmt::Write as _;

use super::measure::Measured;
use super::sample::Sample;

const LEFT: f64 = 190.0;
const WIDTH: f64 = 520.0;
const ROW: f64 = 34.0;
const TOP: f64 = 70.0;

/// A picture of its own: two bars a combination, in and out, and the ratio beside them.
pub(super) fn svg(results: &[Measured], sample: &Sample) -> String {
    let fastest = results.iter().flat_map(|result| [result.speed_in, result.speed_out]).fold(1.0, f64::max);
    let height = TOP + ROW * results.len() as f64 + 20.0;
    let total = LEFT + WIDTH + 90.0;
    let mut svg = String::new();
    // Writing to a string cannot fail.
    _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {total} {height}\" width=\"{total}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Speed of storage for {} values, {} bytes</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"15\">MB/s in and out, and how many times smaller</text>\n\
         <rect x=\"10\" y=\"38\" width=\"12\" height=\"12\" fill=\"#3a6ea5\"/><text x=\"28\" y=\"48\">in</text>\n\
         <rect x=\"60\" y=\"38\" width=\"12\" height=\"12\" fill=\"#e08a3c\"/><text x=\"78\" y=\"48\">out</text>",
        sample.values.len(),
        sample.bytes
    );
    for (n, result) in results.iter().enumerate() {
        let y = TOP + ROW * n as f64;
        let name = escaped(&format!("{}, {}", result.backend, result.compression));
        _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, y + 17.0);
        for (speed, colour, y) in [(result.speed_in, "#3a6ea5", y), (result.speed_out, "#e08a3c", y + 13.0)] {
            let width = WIDTH * speed / fastest;
            _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\" font-size=\"10\">{speed:.0}</text>",
                LEFT + width + 4.0,
                y + 10.0
            );
        }
        _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">x {:.2}</text>",
            total - 6.0,
            y + 17.0,
            result.ratio
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
