//! What values mean.

use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

use super::node::Leaf;

/// Whether the value turns something off: false, none, 0, or a word for them.
pub(super) fn is_off(leaf: &Leaf) -> bool {
    match leaf {
        Leaf::Null | Leaf::Bool(false) => true,
        Leaf::Number(number) => *number == 0.0,
        Leaf::Text(text) => {
            ["false", "no", "off", "none", "null"].iter().any(|word| text.eq_ignore_ascii_case(word))
        }
        Leaf::Bool(true) | Leaf::List(_) => false,
    }
}

/// A number, also one in quotes.
pub(super) fn number(leaf: &Leaf) -> Option<f64> {
    match leaf {
        Leaf::Number(number) => Some(*number),
        Leaf::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// Bytes: a number of them, or a size with its unit.
pub(super) fn bytes(leaf: &Leaf) -> Option<u64> {
    match leaf {
        Leaf::Number(number) if *number >= 0.0 => Some(*number as u64),
        Leaf::Text(text) => ByteSize::from_str(text.trim()).ok().map(|size| size.as_u64()),
        _ => None,
    }
}

/// A time above zero: a number of seconds, or a number with its unit as Dask reads it.
pub(super) fn duration(leaf: &Leaf) -> Option<Duration> {
    const UNITS: [(&[&str], f64); 7] = [
        (&["s", "sec", "second", "seconds", ""], 1.0),
        (&["ms", "millisecond", "milliseconds"], 1e-3),
        (&["us", "microsecond", "microseconds"], 1e-6),
        (&["ns", "nanosecond", "nanoseconds"], 1e-9),
        (&["m", "min", "minute", "minutes"], 60.0),
        (&["h", "hr", "hour", "hours"], 3600.0),
        (&["d", "day", "days"], 86_400.0),
    ];
    let seconds = match leaf {
        Leaf::Number(number) => *number,
        Leaf::Text(text) => {
            let text = text.trim().to_lowercase();
            if text.is_empty() {
                return None;
            }
            let end = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
            let (number, unit) = text.split_at(end);
            let number = number.trim();
            let count: f64 = if number.is_empty() { 1.0 } else { number.parse().ok()? };
            count * UNITS.iter().find(|(names, _)| names.contains(&unit.trim()))?.1
        }
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Leaf {
        Leaf::Text(text.to_owned())
    }

    #[test]
    fn times_are_read_with_the_units_of_dask() {
        let millis = |leaf: Leaf| duration(&leaf).map(|time| time.as_millis());
        for (given, expected) in [
            ("30s", 30_000),
            ("30 seconds", 30_000),
            ("200ms", 200),
            ("1 minute", 60_000),
            ("1.5h", 5_400_000),
            ("2", 2000),
            ("day", 86_400_000),
        ] {
            assert_eq!(millis(text(given)), Some(expected), "{given}");
        }
        assert_eq!(millis(Leaf::Number(0.25)), Some(250));
        for bad in ["", "-1s", "0s", "soon", "5 parsecs", "1e400s"] {
            assert_eq!(millis(text(bad)), None, "{bad:?}");
        }
        assert_eq!(millis(Leaf::Bool(true)), None);
    }

    #[test]
    fn off_has_many_words() {
        for off in
            [Leaf::Null, Leaf::Bool(false), Leaf::Number(0.0), text("False"), text("off"), text("None")]
        {
            assert!(is_off(&off), "{off:?}");
        }
        for on in [Leaf::Bool(true), Leaf::Number(0.5), text("auto"), Leaf::List(Vec::new())] {
            assert!(!is_off(&on), "{on:?}");
        }
    }
}
