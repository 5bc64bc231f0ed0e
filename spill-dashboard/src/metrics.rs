//! Prometheus text format: base units, one family after the other, each with its help.

use std::fmt::{Display, Write};

use spill_worker::{StepStats, StorageStats, WorkerState};

use crate::collect::Snapshot;
use crate::model::WorkerStatus;

/// The text of all metrics.
pub(crate) fn text(snapshot: &Snapshot) -> String {
    let mut text = Text(String::with_capacity(16 << 10));
    text.family("overspill_build_info", "gauge", "The version of the server; always 1.");
    text.sample("overspill_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    workers(&mut text, snapshot);
    storage(&mut text, &snapshot.workers);
    text.family("overspill_events_total", "counter", "Events of the worker, by kind.");
    for ((worker, kind), count) in &snapshot.events {
        text.sample("overspill_events_total", &[("worker", worker), ("kind", kind)], count);
    }
    text.0
}

fn workers(text: &mut Text, snapshot: &Snapshot) {
    let (raw, shown) = (&snapshot.workers, &snapshot.state.workers);
    let mut gauge = |name: &str, help: &str, value: fn(&WorkerState) -> Option<f64>| {
        text.family(name, "gauge", help);
        for worker in raw {
            if let Some(value) = value(worker) {
                text.sample(name, &[("worker", &worker.name)], value);
            }
        }
    };
    gauge("overspill_worker_up", "Whether the worker has a process.", |w| Some(f64::from(w.pid != 0)));
    gauge("overspill_worker_uptime_seconds", "Time since the process started.", |w| Some(w.uptime));
    gauge("overspill_worker_threads", "Threads that run tasks.", |w| Some(w.nthreads as f64));
    gauge("overspill_worker_memory_limit_bytes", "The memory limit; absent without one.", |w| {
        w.limit.map(|limit| limit as f64)
    });
    gauge("overspill_worker_process_bytes", "Resident memory, as the system measures it.", |w| {
        Some(w.readings.process as f64)
    });
    gauge("overspill_worker_spilled_bytes", "Records of values that are on disk only.", |w| {
        Some(w.readings.spilled as f64)
    });
    gauge("overspill_worker_running_tasks", "Tasks that run.", |w| Some(w.running_tasks as f64));

    let name = "overspill_worker_memory_bytes";
    text.family(
        name,
        "gauge",
        "Resident memory by kind; the kinds add up to overspill_worker_process_bytes.",
    );
    for worker in shown {
        let memory = &worker.memory;
        for (kind, value) in [
            ("managed", memory.managed),
            ("unmanaged", memory.unmanaged),
            ("unmanaged_recent", memory.unmanaged_recent),
        ] {
            text.sample(name, &[("worker", &worker.name), ("kind", kind)], value);
        }
    }
    let name = "overspill_worker_threshold_bytes";
    text.family(name, "gauge", "Process memory at which something is done; absent where it is off.");
    for worker in shown {
        let levels = &worker.levels;
        for (threshold, value) in [
            ("target", levels.target),
            ("spill", levels.spill),
            ("pause", levels.pause),
            ("terminate", levels.terminate),
        ] {
            if let Some(value) = value {
                text.sample(name, &[("worker", &worker.name), ("threshold", threshold)], value);
            }
        }
    }
    let name = "overspill_worker_status";
    text.family(name, "gauge", "1 for the status that the worker has, 0 for the others.");
    for worker in shown {
        for (status, word) in WorkerStatus::ALL {
            let value = u8::from(worker.status == status);
            text.sample(name, &[("worker", &worker.name), ("status", word)], value);
        }
    }
    let name = "overspill_worker_transfers";
    text.family(name, "gauge", "Transfers under way.");
    for worker in raw {
        for (direction, count) in
            [("incoming", worker.incoming_transfers), ("outgoing", worker.outgoing_transfers)]
        {
            text.sample(name, &[("worker", &worker.name), ("direction", direction)], count);
        }
    }
    let mut counter = |name: &str, help: &str, value: fn(&WorkerState) -> u64| {
        text.family(name, "counter", help);
        for worker in raw {
            text.sample(name, &[("worker", &worker.name)], value(worker));
        }
    };
    counter("overspill_worker_restarts_total", "How often the nanny started the worker again.", |w| {
        w.restarts
    });
    counter("overspill_worker_monitor_evictions_total", "Values that the memory monitor evicted.", |w| {
        w.monitor.evictions
    });
    counter("overspill_worker_monitor_evicted_bytes_total", "What they weighed.", |w| {
        w.monitor.evicted_bytes
    });
    counter("overspill_worker_trims_total", "How often the allocator was asked to hand memory back.", |w| {
        w.monitor.trims
    });
}

/// A worker's storage as a whole is the backend `storage`; parts that it names stand beside it.
fn storage(text: &mut Text, workers: &[WorkerState]) {
    let backends: Vec<(&str, &str, &StorageStats)> = workers
        .iter()
        .flat_map(|worker| {
            let all = (worker.name.as_str(), "storage", &worker.storage);
            let parts = worker.backends.iter().filter(|part| part.name != "storage");
            let parts = parts.map(|part| (worker.name.as_str(), part.name.as_str(), &part.storage));
            std::iter::once(all).chain(parts)
        })
        .collect();
    let mut family = |name: &str, kind: &str, help: &str, value: fn(&StorageStats) -> u64| {
        text.family(name, kind, help);
        for (worker, backend, storage) in &backends {
            text.sample(name, &[("worker", worker), ("backend", backend)], value(storage));
        }
    };
    family("overspill_storage_hits_total", "counter", "Reads answered from RAM.", |s| s.hits);
    family("overspill_storage_misses_total", "counter", "Reads that went to storage.", |s| s.misses);
    family("overspill_storage_evictions_total", "counter", "Values that left RAM.", |s| s.evictions);
    family("overspill_storage_evicted_bytes_total", "counter", "What they weighed.", |s| s.evicted_bytes);
    family("overspill_storage_clean_evictions_total", "counter", "Evictions that wrote nothing.", |s| {
        s.clean_evictions
    });
    family("overspill_storage_failures_total", "counter", "Operations that failed.", |s| s.failures);
    family("overspill_storage_deferred_keys", "gauge", "Keys whose spill failed and is tried again.", |s| {
        s.deferred
    });
    family("overspill_storage_queue_bytes", "gauge", "Accepted and not written yet.", |s| s.staged);
    family("overspill_storage_fast_values", "gauge", "Values in RAM.", |s| s.fast_count);
    family("overspill_storage_fast_bytes", "gauge", "What they weigh.", |s| s.fast_bytes);
    family("overspill_storage_slow_values", "gauge", "Values on storage only.", |s| s.slow_count);
    family("overspill_storage_slow_bytes", "gauge", "What they weighed in RAM.", |s| s.spilled_memory);
    family("overspill_storage_record_bytes", "gauge", "Their records.", |s| s.spilled_disk);
    family("overspill_storage_file_bytes", "gauge", "Room that the files take.", |s| s.physical);

    type Step = (&'static str, fn(&StorageStats) -> StepStats);
    const STEPS: [Step; 7] = [
        ("encode", |s| s.encode),
        ("compress", |s| s.compress),
        ("write", |s| s.write),
        ("move", |s| s.moved),
        ("read", |s| s.read),
        ("decompress", |s| s.decompress),
        ("decode", |s| s.decode),
    ];
    let mut steps = |name: &str, help: &str, value: fn(StepStats) -> f64| {
        text.family(name, "counter", help);
        for (worker, backend, storage) in &backends {
            for (step, of) in STEPS {
                let labels = [("worker", *worker), ("backend", *backend), ("step", step)];
                text.sample(name, &labels, value(of(storage)));
            }
        }
    };
    steps("overspill_storage_step_values_total", "Values that went through a step.", |s| s.count as f64);
    steps("overspill_storage_step_bytes_total", "Bytes that went into it.", |s| s.bytes as f64);
    steps("overspill_storage_step_seconds_total", "Time it took, over all threads.", |s| s.seconds);
}

/// The format itself.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (n, (label, value)) in labels.iter().enumerate() {
            self.write(format_args!("{}{label}=\"", if n == 0 { '{' } else { ',' }));
            for c in value.chars() {
                match c {
                    '\\' => self.0.push_str(r"\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        self.write(format_args!("}} {value}\n"));
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = self.0.write_fmt(arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_workers_are_escaped() {
        let mut text = Text(String::new());
        text.sample("m", &[("worker", "a\"b\\c\nd"), ("kind", "x")], 1.5);
        assert_eq!(text.0, "m{worker=\"a\\\"b\\\\c\\nd\",kind=\"x\"} 1.5\n");
    }
}
