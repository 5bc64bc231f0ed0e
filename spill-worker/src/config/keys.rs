//! The keys, what each may be, and the settings that they make.

use std::collections::BTreeMap;
use std::env;

use spill_core::{Error, Result};

use super::node::Leaf;
use super::{Entry, Origin, Raw, value};
use crate::settings::machine_threads;
use crate::{MemoryLimit, Settings, SystemMemory};

pub(super) const LIMIT: &str = "worker.memory.limit";
pub(super) const NTHREADS: &str = "worker.nthreads";
pub(super) const NAME: &str = "worker.name";
pub(super) const DIRECTORIES: &str = "temporary-directory";
const TARGET: &str = "worker.memory.target";
const SPILL: &str = "worker.memory.spill";
const PAUSE: &str = "worker.memory.pause";
const TERMINATE: &str = "worker.memory.terminate";
const TRANSFER: &str = "worker.memory.transfer";
const RECENT: &str = "worker.memory.recent-to-old-time";
const INTERVAL: &str = "worker.memory.monitor-interval";
const ALARM: &str = "worker.memory.pause-alarm";
const MAX_SPILL: &str = "worker.memory.max-spill";
const COMPRESSION: &str = "worker.memory.spill-compression";
const MEASURE: &str = "worker.memory.rebalance.measure";
const SENDER_MIN: &str = "worker.memory.rebalance.sender-min";
const RECIPIENT_MAX: &str = "worker.memory.rebalance.recipient-max";
const GAP: &str = "worker.memory.rebalance.sender-recipient-gap";

/// Every key but those of [`ENVIRON`].
const KEYS: [&str; 18] = [
    DIRECTORIES,
    LIMIT,
    INTERVAL,
    MAX_SPILL,
    PAUSE,
    ALARM,
    MEASURE,
    RECIPIENT_MAX,
    SENDER_MIN,
    GAP,
    RECENT,
    SPILL,
    COMPRESSION,
    TARGET,
    TERMINATE,
    TRANSFER,
    NAME,
    NTHREADS,
];

/// Tables of environment variables for a nanny's workers; the second wins, as in Dask.
const ENVIRON: [&str; 2] = ["nanny.pre-spawn-environ.", "nanny.environ."];

/// A path of keys as one: Dask takes `_` for `-`, but not in the names of variables.
pub(super) fn canonical(path: &[String]) -> String {
    let environ = path.len() == 3 && path.first().is_some_and(|first| first == "nanny");
    let keys = path.iter().enumerate().map(|(n, key)| match environ && n == 2 {
        true => key.clone(),
        false => key.replace('_', "-"),
    });
    keys.collect::<Vec<_>>().join(".")
}

pub(super) fn is_known(key: &str) -> bool {
    KEYS.contains(&key)
        || ENVIRON.iter().any(|table| key.strip_prefix(table).is_some_and(|name| !name.is_empty()))
}

/// The known key that is most like `key`: the one with the same end, else the longest common beginning.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
    let common = |known: &str| known.bytes().zip(key.bytes()).take_while(|(a, b)| a == b).count();
    KEYS.into_iter().max_by_key(|known| (last(known) == last(key), common(known)))
}

/// Reads raw values into settings, remembering warnings.
pub(super) struct Reading<'a> {
    raw: BTreeMap<String, Raw>,
    system: &'a SystemMemory,
    warnings: Vec<String>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(raw: BTreeMap<String, Raw>, system: &'a SystemMemory) -> Self {
        Reading { raw, system, warnings: Vec::new() }
    }

    pub(super) fn settings(&mut self) -> Result<Settings> {
        let mut settings = Settings::default();
        self.set(NAME, "a name", &mut settings.name, |leaf| match leaf {
            Leaf::Text(_) | Leaf::Number(_) => Some(leaf.to_string()),
            _ => None,
        })?;
        self.set(NTHREADS, "a number of threads from 1", &mut settings.nthreads, |leaf| {
            value::number(leaf).filter(|n| *n >= 1.0 && n.fract() == 0.0).map(|n| n as usize)
        })?;
        if let Some(raw) = self.raw.get(LIMIT) {
            let text = if value::is_off(&raw.value) { "none".to_owned() } else { raw.value.to_string() };
            let key = format!("{}: {LIMIT}", raw.origin);
            settings.memory_limit =
                MemoryLimit::named(&key, &text, self.system, settings.nthreads, machine_threads())?;
        }
        let thresholds = &mut settings.thresholds;
        self.fraction_or_off(TARGET, &mut thresholds.target)?;
        self.fraction_or_off(SPILL, &mut thresholds.spill)?;
        self.fraction_or_off(PAUSE, &mut thresholds.pause)?;
        self.fraction_or_off(TERMINATE, &mut thresholds.terminate)?;
        self.fraction_or_off(TRANSFER, &mut settings.transfer)?;
        self.ordered(&settings);
        self.set(RECENT, "a time such as 30s", &mut settings.recent_to_old, value::duration)?;
        self.set(INTERVAL, "a time such as 200ms", &mut settings.monitor_interval, value::duration)?;
        self.set(ALARM, "a time such as 60s", &mut settings.pause_alarm, value::duration)?;
        self.set(MAX_SPILL, "a size such as 100GiB, or false", &mut settings.max_spill, |leaf| {
            match leaf {
                // 0 is a bound: nothing is spilled.
                Leaf::Number(_) => value::bytes(leaf).map(Some),
                _ if value::is_off(leaf) => Some(None),
                _ => value::bytes(leaf).map(Some),
            }
        })?;
        self.set(
            COMPRESSION,
            "auto, false, or the name of a compressor",
            &mut settings.spill_compression,
            |leaf| match leaf {
                _ if value::is_off(leaf) => Some("none".to_owned()),
                Leaf::Text(text) => Some(text.clone()),
                _ => None,
            },
        )?;
        let rebalance = &mut settings.rebalance;
        let measures = "process, optimistic, managed or managed_in_memory";
        self.set(MEASURE, measures, &mut rebalance.measure, |leaf| leaf.to_string().parse().ok())?;
        self.fraction(SENDER_MIN, &mut rebalance.sender_min)?;
        self.fraction(RECIPIENT_MAX, &mut rebalance.recipient_max)?;
        self.fraction(GAP, &mut rebalance.sender_recipient_gap)?;
        self.set(DIRECTORIES, "a directory, or a list of them", &mut settings.local_directories, |leaf| {
            match leaf {
                _ if value::is_off(leaf) => Some(Vec::new()),
                Leaf::Text(text) => Some(env::split_paths(text).collect()),
                Leaf::List(items) => Some(items.iter().map(Into::into).collect()),
                _ => None,
            }
        })?;
        for table in ENVIRON {
            let variables = self.raw.iter().filter_map(|(key, raw)| Some((key.strip_prefix(table)?, raw)));
            for (name, raw) in variables {
                settings.nanny_environ.insert(name.to_owned(), raw.value.to_string());
            }
        }
        Ok(settings)
    }

    /// Every key with the value in force.
    pub(super) fn finish(self, settings: &Settings) -> (Vec<Entry>, Vec<String>) {
        let origin = |key: &str| self.raw.get(key).map_or(Origin::Default, |raw| raw.origin.clone());
        let shown = |key: &str| {
            let fraction = |value: Option<f64>| value.map_or("false".to_owned(), |value| value.to_string());
            let (thresholds, rebalance) = (&settings.thresholds, &settings.rebalance);
            match key {
                LIMIT => settings.memory_limit.bytes().map_or("none".to_owned(), |bytes| bytes.to_string()),
                NTHREADS => settings.nthreads.to_string(),
                NAME => settings.name.clone(),
                TARGET => fraction(thresholds.target),
                SPILL => fraction(thresholds.spill),
                PAUSE => fraction(thresholds.pause),
                TERMINATE => fraction(thresholds.terminate),
                TRANSFER => fraction(settings.transfer),
                RECENT => format!("{:?}", settings.recent_to_old),
                INTERVAL => format!("{:?}", settings.monitor_interval),
                ALARM => format!("{:?}", settings.pause_alarm),
                MAX_SPILL => settings.max_spill.map_or("false".to_owned(), |bytes| bytes.to_string()),
                COMPRESSION => settings.spill_compression.clone(),
                MEASURE => rebalance.measure.name().to_owned(),
                SENDER_MIN => rebalance.sender_min.to_string(),
                RECIPIENT_MAX => rebalance.recipient_max.to_string(),
                GAP => rebalance.sender_recipient_gap.to_string(),
                _ => match env::join_paths(&settings.local_directories) {
                    Ok(paths) if paths.is_empty() => "none".to_owned(),
                    Ok(paths) => paths.to_string_lossy().into_owned(),
                    Err(_) => format!("{:?}", settings.local_directories),
                },
            }
        };
        let entry = |key: String, value| Entry { origin: origin(&key), key, value };
        let mut entries: Vec<_> = KEYS.iter().map(|key| entry((*key).to_owned(), shown(key))).collect();
        for (name, value) in &settings.nanny_environ {
            let key = ENVIRON.iter().rev().map(|table| format!("{table}{name}"));
            let key = key.clone().find(|key| self.raw.contains_key(key)).or_else(|| key.into_iter().next());
            entries.extend(key.map(|key| entry(key, value.clone())));
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        (entries, self.warnings)
    }

    fn set<T>(
        &self,
        key: &str,
        expected: &str,
        place: &mut T,
        read: impl FnOnce(&Leaf) -> Option<T>,
    ) -> Result<()> {
        if let Some(raw) = self.raw.get(key) {
            *place = read(&raw.value).ok_or_else(|| refused(key, raw, expected))?;
        }
        Ok(())
    }

    fn fraction_or_off(&mut self, key: &str, place: &mut Option<f64>) -> Result<()> {
        const EXPECTED: &str = "a fraction of the memory limit from 0 to 1, or false to turn it off";
        let Some(raw) = self.raw.get(key) else { return Ok(()) };
        if value::is_off(&raw.value) {
            *place = None;
            return Ok(());
        }
        let number = value::number(&raw.value).ok_or_else(|| refused(key, raw, EXPECTED))?;
        match number {
            0.0..=1.0 => *place = Some(number),
            _ if !raw.lenient => return Err(refused(key, raw, EXPECTED)),
            // Dask multiplies: what is above 1 is never reached, and what is negative always is.
            _ => {
                let effect = if number > 1.0 { "never reached, so it is off" } else { "passed over" };
                self.warnings.push(format!("{}: {effect}", refused(key, raw, EXPECTED)));
                if number > 1.0 {
                    *place = None;
                }
            }
        }
        Ok(())
    }

    fn fraction(&mut self, key: &str, place: &mut f64) -> Result<()> {
        const EXPECTED: &str = "a fraction of the memory limit from 0 to 1";
        let Some(raw) = self.raw.get(key) else { return Ok(()) };
        let number = value::number(&raw.value).ok_or_else(|| refused(key, raw, EXPECTED))?;
        if (0.0..=1.0).contains(&number) {
            *place = number;
        } else if raw.lenient {
            self.warnings.push(format!("{}: passed over", refused(key, raw, EXPECTED)));
        } else {
            return Err(refused(key, raw, EXPECTED));
        }
        Ok(())
    }

    /// Warns where a later step would come before an earlier one.
    fn ordered(&mut self, settings: &Settings) {
        let thresholds = &settings.thresholds;
        let steps = [
            (TARGET, thresholds.target),
            (SPILL, thresholds.spill),
            (PAUSE, thresholds.pause),
            (TERMINATE, thresholds.terminate),
        ];
        let on: Vec<_> = steps.into_iter().filter_map(|(key, fraction)| Some((key, fraction?))).collect();
        for (before, after) in on.iter().zip(on.iter().skip(1)) {
            if before.1 > after.1 {
                self.warnings.push(format!("{} = {} is above {} = {}", before.0, before.1, after.0, after.1));
            }
        }
    }
}

fn refused(key: &str, raw: &Raw, expected: &str) -> Error {
    Error::config(format!("{}: {key}", raw.origin), &raw.value, expected)
}
