//! Watching what the process really uses.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use overspill::{ManualEvict, Result};
use spill_worker::{MemoryLimit, MemoryMonitor, MemorySource, ProcessMemory, Thresholds};

/// Reads process memory, and remembers the highest reading.
pub(crate) struct MemoryWatch {
    memory: Arc<ProcessMemory>,
    highest: Arc<AtomicU64>,
}

impl MemoryWatch {
    pub(crate) fn open() -> Result<Self> {
        Ok(MemoryWatch { memory: Arc::new(ProcessMemory::open()?), highest: Arc::default() })
    }

    /// Bytes in use now.
    pub(crate) fn now(&self) -> Result<u64> {
        self.memory.read()
    }

    /// Starts the monitor that keeps the process below `limit`: it evicts from `data` when process memory is
    /// high although the buffer is at its target.
    pub(crate) fn watch(
        &self,
        limit: MemoryLimit,
        thresholds: Thresholds,
        data: Arc<dyn ManualEvict>,
    ) -> Result<MemoryMonitor> {
        let (memory, highest) = (Arc::clone(&self.memory), Arc::clone(&self.highest));
        let source = move || {
            let bytes = memory.read()?;
            highest.fetch_max(bytes, Ordering::Relaxed);
            Ok(bytes)
        };
        MemoryMonitor::builder(limit).thresholds(thresholds).source(source).data(data).start()
    }

    /// The most that was in use at any time, in bytes: as the kernel counts it, else the monitor's highest
    /// reading.
    pub(crate) fn peak(&self) -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kernel = status.lines().find_map(|line| {
            let kib: u64 = line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib << 10)
        });
        kernel.unwrap_or_else(|| self.highest.load(Ordering::Relaxed))
    }
}
