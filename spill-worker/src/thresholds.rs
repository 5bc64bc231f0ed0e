//! At which fractions of the memory limit something is done.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use spill_core::{Error, Result};

/// Fractions of the memory limit, from 0 to 1. `None` turns the behaviour off.
///
/// The defaults are Dask's: 0.60, 0.70, 0.80, 0.95.
///
/// ```
/// use spill_worker::Thresholds;
///
/// let thresholds = Thresholds::new().spill(Some(0.75)).pause(None);
/// assert_eq!(thresholds.target, Some(0.60));
/// assert!(thresholds.check().is_ok());
/// assert!(thresholds.spill(Some(75.0)).check().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Down to this process memory is brought once it is above `spill`. Off: down to `spill`.
    #[serde(with = "fraction")]
    pub target: Option<f64>,
    /// Above this process memory values are evicted, whatever the mapping itself weighs.
    #[serde(with = "fraction")]
    pub spill: Option<f64>,
    /// Above this process memory no new work should start.
    #[serde(with = "fraction")]
    pub pause: Option<f64>,
    /// Above this process memory a nanny ends the process.
    #[serde(with = "fraction")]
    pub terminate: Option<f64>,
}

impl Thresholds {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Thresholds { target: Some(0.60), spill: Some(0.70), pause: Some(0.80), terminate: Some(0.95) }
    }

    /// Sets [`target`](Self::target).
    #[must_use]
    pub const fn target(mut self, fraction: Option<f64>) -> Self {
        self.target = fraction;
        self
    }

    /// Sets [`spill`](Self::spill).
    #[must_use]
    pub const fn spill(mut self, fraction: Option<f64>) -> Self {
        self.spill = fraction;
        self
    }

    /// Sets [`pause`](Self::pause).
    #[must_use]
    pub const fn pause(mut self, fraction: Option<f64>) -> Self {
        self.pause = fraction;
        self
    }

    /// Sets [`terminate`](Self::terminate).
    #[must_use]
    pub const fn terminate(mut self, fraction: Option<f64>) -> Self {
        self.terminate = fraction;
        self
    }

    /// Whether every threshold that is on lies between 0 and 1.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) for the first that does not.
    pub fn check(&self) -> Result<()> {
        let all = [
            ("target", self.target),
            ("spill", self.spill),
            ("pause", self.pause),
            ("terminate", self.terminate),
        ];
        for (name, fraction) in all {
            if let Some(fraction) = fraction.filter(|fraction| !(0.0..=1.0).contains(fraction)) {
                let expected = "a fraction of the memory limit from 0 to 1, or none to turn it off";
                return Err(Error::config(name, fraction, expected));
            }
        }
        Ok(())
    }
}

/// Off is `false`, as in settings.
mod fraction {
    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(fraction) => serializer.serialize_f64(*fraction),
            None => serializer.serialize_bool(false),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Off(bool),
            Fraction(f64),
        }
        match Form::deserialize(deserializer)? {
            Form::Fraction(fraction) => Ok(Some(fraction)),
            Form::Off(false) => Ok(None),
            Form::Off(true) => Err(serde::de::Error::custom("expected a fraction or false")),
        }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_dask() {
        let expected =
            Thresholds { target: Some(0.6), spill: Some(0.7), pause: Some(0.8), terminate: Some(0.95) };
        assert_eq!(Thresholds::default(), expected);
        expected.check().unwrap();
    }

    #[test]
    fn off_is_written_as_false_and_read_back() {
        let thresholds = Thresholds::new().spill(None).pause(Some(1.0));
        let text = serde_json::to_string(&thresholds).unwrap();
        assert_eq!(text, r#"{"target":0.6,"spill":false,"pause":1.0,"terminate":0.95}"#);
        assert_eq!(serde_json::from_str::<Thresholds>(&text).unwrap(), thresholds);
        assert!(serde_json::from_str::<Thresholds>(&text.replace("false", "true")).is_err());
    }

    #[test]
    fn each_threshold_must_be_a_fraction_or_off() {
        type Set = fn(Thresholds, Option<f64>) -> Thresholds;
        let all: [(&str, Set); 4] = [
            ("target", Thresholds::target),
            ("spill", Thresholds::spill),
            ("pause", Thresholds::pause),
            ("terminate", Thresholds::terminate),
        ];
        for (name, set) in all {
            for good in [None, Some(0.0), Some(1.0)] {
                set(Thresholds::new(), good).check().unwrap();
            }
            for bad in [-0.1, 1.01, 70.0, f64::NAN, f64::INFINITY] {
                let error = set(Thresholds::new(), Some(bad)).check().unwrap_err();
                assert!(error.to_string().starts_with(name), "{error}");
            }
        }
    }
}
