//! What is printed at the end.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use overspill::{Stats, Usage};
use serde_json::{Value, json};

use crate::build::Built;
use crate::check::Survey;
use crate::plan::Plan;

/// The result of one run.
pub(crate) struct Report {
    pub(crate) plan: Plan,
    pub(crate) built: Built,
    /// What values in RAM may weigh, in bytes.
    pub(crate) target: u64,
    /// Taken when the index was complete.
    pub(crate) usage: Usage,
    /// Taken after the check.
    pub(crate) stats: Stats,
    pub(crate) survey: Survey,
    pub(crate) recounted: u64,
    pub(crate) seed: u64,
    /// The most memory the process had, in bytes.
    pub(crate) peak: u64,
    pub(crate) build_time: Duration,
    pub(crate) check_time: Duration,
}

impl Report {
    /// Bytes that the postings, with their words, weigh in memory, wherever they are.
    fn weight(&self) -> u64 {
        self.usage.fast + self.usage.spilled.memory
    }

    fn ratio(&self) -> f64 {
        self.usage.spilled.memory as f64 / self.usage.spilled.disk.max(1) as f64
    }

    /// Megabytes (of a million bytes) indexed in a second.
    fn speed(&self) -> f64 {
        self.built.bytes as f64 / 1e6 / self.build_time.as_secs_f64().max(1e-9)
    }

    /// All figures, in bytes and seconds.
    pub(crate) fn json(&self) -> Value {
        json!({
            "files": self.built.files,
            "skipped": { "not_text": self.built.not_text, "unreadable": self.built.unreadable },
            "bytes": self.built.bytes,
            "words": self.survey.words,
            "tokens": self.built.tokens,
            "postings": self.survey.postings,
            "postings_weight": self.weight(),
            "memory_limit": self.plan.limit,
            "at_start": self.plan.at_start,
            "target": self.target,
            "managed": self.usage.managed(),
            "spilled": { "memory": self.usage.spilled.memory, "disk": self.usage.spilled.disk },
            "physical": self.usage.physical,
            "evictions": self.stats.evictions,
            "reads_back": self.stats.misses,
            "process_peak": self.peak,
            "seconds": { "build": self.build_time.as_secs_f64(), "check": self.check_time.as_secs_f64() },
            "megabytes_per_second": self.speed(),
            "self_check": { "recounted": self.recounted, "seed": self.seed, "equal": true },
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { plan, built, target, usage, stats, survey, .. } = self;
        let spilled = usage.spilled;
        let weight = self.weight();
        let rows = [
            (
                "files",
                format!("{}; {} are no text, {} unreadable", built.files, built.not_text, built.unreadable),
            ),
            ("bytes", format!("{} ({})", built.bytes, ByteSize(built.bytes))),
            ("words", survey.words.to_string()),
            ("tokens", built.tokens.to_string()),
            ("postings", format!("{} of {}", survey.postings, ByteSize(weight))),
            (
                "target",
                format!(
                    "{}; the postings are {:.1} times that",
                    ByteSize(*target),
                    weight as f64 / *target as f64
                ),
            ),
            ("managed", ByteSize(usage.managed()).to_string()),
            (
                "spilled",
                format!(
                    "{} -> {} on disk, {:.1} : 1",
                    ByteSize(spilled.memory),
                    ByteSize(spilled.disk),
                    self.ratio()
                ),
            ),
            ("evictions", stats.evictions.to_string()),
            ("reads back", stats.misses.to_string()),
            ("process peak", format!("{} of {}", ByteSize(self.peak), ByteSize(plan.limit))),
            (
                "seconds",
                format!(
                    "{:.2} and {:.2} for the self-check",
                    self.build_time.as_secs_f64(),
                    self.check_time.as_secs_f64()
                ),
            ),
            ("MB/s", format!("{:.1}", self.speed())),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:<14}{value}")?;
        }
        write!(f, "\nself-check: {} words recounted, all equal (--seed {})", self.recounted, self.seed)
    }
}
