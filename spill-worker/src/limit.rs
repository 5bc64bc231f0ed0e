//! How much memory a process may use.

use std::env::{self, VarError};
use std::num::NonZeroU64;

use bytesize::ByteSize;
use spill_core::{Error, Result};

use crate::SystemMemory;

/// The environment variable that [`MemoryLimit::from_env`] reads.
pub const MEMORY_LIMIT_VARIABLE: &str = "OVERSPILL_MEMORY_LIMIT";

/// What errors call the setting unless it came from the environment.
const KEY: &str = "memory-limit";

/// Limits below this are mistakes: a unit that was left out.
const SMALLEST: u64 = 1024;

/// The memory that a process may use, in bytes, or no limit.
///
/// ```
/// use spill_worker::{MemoryLimit, SystemMemory};
///
/// let system = SystemMemory::from_bytes(16 << 30);
/// let limit = |text| MemoryLimit::parse(text, &system, 2, 8).map(MemoryLimit::bytes);
/// assert_eq!(limit("4 GiB")?, Some(4 << 30));
/// assert_eq!(limit("4 GB")?, Some(4_000_000_000));
/// assert_eq!(limit("0.5")?, Some(8 << 30)); // of the system's memory
/// assert_eq!(limit("auto")?, Some(4 << 30)); // 2 of 8 threads
/// assert_eq!(limit("none")?, None);
/// assert!(limit("4").is_err_and(|error| error.to_string().contains("did you mean \"4 GiB\"?")));
/// # Ok::<_, spill_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit(Option<NonZeroU64>);

impl MemoryLimit {
    /// No limit: nothing is done on account of process memory.
    pub const NONE: MemoryLimit = MemoryLimit(None);

    /// The limit that `text` means:
    ///
    /// - `none` or 0: no limit.
    /// - `auto`: the system's memory times `nthreads / total_threads`, at most all of it: the share of a
    ///   process with `nthreads` threads of a machine with `total_threads`.
    /// - A number up to 1: that fraction of the system's memory. A larger one: bytes.
    /// - A size such as `4 GiB` (binary) or `4 GB` (decimal).
    ///
    /// A limit above the system's memory is lowered to it, with a warning.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) for anything else. Negative limits and those below 1 KiB,
    /// which usually lack a unit, are refused with a question.
    pub fn parse(text: &str, system: &SystemMemory, nthreads: usize, total_threads: usize) -> Result<Self> {
        parse(KEY, text, system, nthreads, total_threads)
    }

    /// As [`parse`](Self::parse), for a setting that errors and warnings call `key`.
    #[cfg(feature = "config")]
    pub(crate) fn named(
        key: &str,
        text: &str,
        system: &SystemMemory,
        nthreads: usize,
        total_threads: usize,
    ) -> Result<Self> {
        parse(key, text, system, nthreads, total_threads)
    }

    /// The limit that the environment variable `OVERSPILL_MEMORY_LIMIT` means, as in [`parse`](Self::parse),
    /// or `None` when it is not set.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_env(system: &SystemMemory, nthreads: usize, total_threads: usize) -> Result<Option<Self>> {
        match env::var(MEMORY_LIMIT_VARIABLE) {
            Ok(text) => parse(MEMORY_LIMIT_VARIABLE, &text, system, nthreads, total_threads).map(Some),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(text)) => {
                Err(Error::config(MEMORY_LIMIT_VARIABLE, text.to_string_lossy(), expected()))
            }
        }
    }

    /// A limit of `bytes` bytes, lowered to the system's memory with a warning; 0 is no limit.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) for 1 to 1023 bytes.
    pub fn from_bytes(bytes: u64, system: &SystemMemory) -> Result<Self> {
        limit(KEY, &bytes.to_string(), bytes, system)
    }

    /// The limit in bytes, or `None` for no limit.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        self.0.map(NonZeroU64::get)
    }
}

fn parse(key: &str, text: &str, system: &SystemMemory, own: usize, total: usize) -> Result<MemoryLimit> {
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("none") {
        return Ok(MemoryLimit::NONE);
    }
    if trimmed.eq_ignore_ascii_case("auto") {
        return limit(key, text, share(system.bytes(), own, total)?, system);
    }
    let refused = |hint: String| Err(Error::config(key, text, expected() + &hint));
    if let Some(positive) = trimmed.strip_prefix('-') {
        let positive = positive.trim_start();
        let sensible = parse(key, positive, system, own, total).is_ok_and(|limit| limit != MemoryLimit::NONE);
        return refused(if sensible { format!("; did you mean {positive:?}?") } else { String::new() });
    }
    match trimmed.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1.0 => {
            // Rounds toward zero, as Dask's `int` does.
            let bytes = (number * system.bytes() as f64) as u64;
            if bytes < SMALLEST {
                return refused(format!("; this fraction of {} is {bytes} bytes", ByteSize(system.bytes())));
            }
            limit(key, text, bytes, system)
        }
        // Saturates; what is too large for 64 bits is larger than the system's memory anyway.
        Ok(number) if number.is_finite() => limit(key, text, number as u64, system),
        Ok(_) => refused(String::new()),
        Err(_) => match trimmed.parse::<ByteSize>() {
            Ok(size) => limit(key, text, size.as_u64(), system),
            Err(_) => refused(String::new()),
        },
    }
}

fn limit(key: &str, text: &str, bytes: u64, system: &SystemMemory) -> Result<MemoryLimit> {
    if (1..SMALLEST).contains(&bytes) {
        // A number that stands alone lacks a unit: the largest that fits the system is the best guess.
        let fits = bytes.saturating_mul(1 << 30) <= system.bytes();
        let unit = if fits { "GiB" } else { "MiB" };
        let alone = text.trim();
        let number = if alone.parse::<f64>().is_ok() { alone.to_owned() } else { bytes.to_string() };
        return Err(Error::config(key, text, format!("{}; did you mean \"{number} {unit}\"?", expected())));
    }
    if bytes > system.bytes() {
        tracing::warn!(
            "{key} = {text:?} is more than the {} this process can have{}; the limit is lowered to that",
            ByteSize(system.bytes()),
            match system.said_by().display().to_string() {
                path if path.is_empty() => path,
                path => format!(" by {path}"),
            },
        );
    }
    Ok(MemoryLimit(NonZeroU64::new(bytes.min(system.bytes()))))
}

/// What `own` of `total` threads may have of `bytes`.
fn share(bytes: u64, own: usize, total: usize) -> Result<u64> {
    if own == 0 {
        return Err(Error::config("nthreads", own, "at least one thread to share memory by"));
    }
    if total == 0 {
        return Err(Error::config("total threads", total, "at least one thread to share memory by"));
    }
    let share = u128::from(bytes) * own.min(total) as u128 / total as u128;
    Ok(u64::try_from(share).unwrap_or(bytes))
}

fn expected() -> String {
    "\"auto\", \"none\", a size such as \"4 GiB\", or a fraction of system memory from 0 to 1".to_owned()
}

#[cfg(test)]
mod tests {
    use spill_core::ErrorKind;

    use super::*;
    use crate::warnings;

    const GIB: u64 = 1 << 30;

    fn system() -> SystemMemory {
        SystemMemory::from_bytes(16 * GIB)
    }

    fn bytes(text: &str) -> Option<u64> {
        MemoryLimit::parse(text, &system(), 1, 4).unwrap().bytes()
    }

    fn refusal(text: &str) -> String {
        let error = MemoryLimit::parse(text, &system(), 1, 4).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Config { value, .. } if value == text),
            "{text:?}: {error}"
        );
        error.to_string()
    }

    /// W02: none and 0 in any form are no limit.
    #[test]
    fn none_and_zero_mean_no_limit() {
        for text in ["none", "None", " none ", "0", "0.0", "0 GiB", "0b"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
        assert_eq!(MemoryLimit::from_bytes(0, &system()).unwrap(), MemoryLimit::NONE);
    }

    /// W02: numbers up to 1 are fractions of the system's memory.
    #[test]
    fn numbers_up_to_one_are_fractions() {
        assert_eq!(bytes("0.5"), Some(8 * GIB));
        assert_eq!(bytes(".25"), Some(4 * GIB));
        assert_eq!(bytes("1"), Some(16 * GIB));
        assert_eq!(bytes("1.0"), Some(16 * GIB));
        assert!(refusal("1e-9").contains("17 bytes"));
    }

    /// S03: sizes are read with their units, and decimal units differ from binary ones.
    #[test]
    fn sizes_have_decimal_and_binary_units() {
        assert_eq!(bytes("4 GiB"), Some(4 * GIB));
        assert_eq!(bytes("4GiB"), Some(4 * GIB));
        assert_eq!(bytes("4 GB"), Some(4_000_000_000));
        assert_eq!(bytes("1.5 GiB"), Some(3 * GIB / 2));
        assert_eq!(bytes("500 MB"), Some(500_000_000));
        assert_eq!(bytes("500MiB"), Some(500 << 20));
        assert_eq!(bytes("4000000000"), Some(4_000_000_000));
        assert_eq!(bytes("4e9"), Some(4_000_000_000));
        assert_eq!(bytes("1 KiB"), Some(1024));
    }

    /// S02: `auto` is the system's memory by the share of threads, at most all of it.
    #[test]
    fn auto_is_the_share_of_the_threads() {
        let auto = |own, total| MemoryLimit::parse("auto", &system(), own, total).unwrap().bytes();
        assert_eq!(auto(1, 8), Some(2 * GIB));
        assert_eq!(auto(4, 8), Some(8 * GIB));
        assert_eq!(auto(8, 8), Some(16 * GIB));
        let (most, warnings) = warnings::during(|| auto(9, 8));
        assert_eq!((most, warnings.len()), (Some(16 * GIB), 0));
        assert_eq!(auto(usize::MAX, usize::MAX), Some(16 * GIB));
        for (own, total) in [(0, 8), (1, 0)] {
            let error = MemoryLimit::parse("Auto", &system(), own, total).unwrap_err();
            assert!(error.to_string().contains("at least one thread"), "{error}");
        }
    }

    /// W02: a limit above the system's memory is lowered to it, with a warning.
    #[test]
    fn limits_above_the_system_are_lowered_with_a_warning() {
        for text in ["17 GiB", "1e30", "99999999999 EiB", "18446744073709551615"] {
            let (limit, warnings) = warnings::during(|| bytes(text));
            assert_eq!(limit, Some(16 * GIB), "{text:?}");
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains("16.0 GiB") && warnings[0].contains(text), "{warnings:?}");
        }
        let (_, warnings) = warnings::during(|| bytes("16 GiB"));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    /// W02: words, nan and infinities are errors that say what would be accepted.
    #[test]
    fn what_is_no_limit_is_refused() {
        for text in
            ["", " ", "lots", "nan", "-nan", "inf", "-inf", "4 GiBB", "4 4 GiB", "GiB", "60%", "1..5 GB", "-"]
        {
            let message = refusal(text);
            assert!(message.contains("4 GiB") && !message.contains("did you mean"), "{message}");
        }
    }

    /// W02: negative limits and those that lack a unit are refused with a question.
    #[test]
    fn negatives_and_tiny_limits_are_refused_with_a_question() {
        assert!(refusal("-4 GiB").contains("did you mean \"4 GiB\"?"));
        assert!(refusal("- 4 GiB").contains("did you mean \"4 GiB\"?"));
        assert!(refusal("-0.5").contains("did you mean \"0.5\"?"));
        assert!(refusal("4").contains("did you mean \"4 GiB\"?"));
        assert!(refusal("1.5").contains("did you mean \"1.5 GiB\"?"));
        assert!(refusal("512").contains("did you mean \"512 MiB\"?"));
        assert!(refusal("1023 B").contains("did you mean \"1023 MiB\"?"));
        assert_eq!(bytes("1024"), Some(1024));
        MemoryLimit::from_bytes(1000, &system()).unwrap_err();
    }
}
