//! How much the files may take beside the live records.

/// The bound on space: one and a half times the live records, and two segments.
///
/// Compaction begins two segments before the bound: one of them is a file that waits to be used again, or the part
/// of a used one that is not filled yet; the other takes what is moved before its segment is dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) segment_bytes: u64,
}

impl Bound {
    /// The most bytes that the files may take while the live records have `live` bytes.
    pub(super) fn most(self, live: u64) -> u64 {
        self.begin(live).saturating_add(self.segment_bytes.saturating_mul(2))
    }

    /// Compaction begins when segments hold more than this.
    pub(super) fn begin(self, live: u64) -> u64 {
        live.saturating_add(live / 2)
    }

    /// Whether a third open segment, for records that survived twice, costs little beside the dead bytes that
    /// are allowed.
    pub(super) fn is_deep(self, live: u64) -> bool {
        live / 2 >= self.segment_bytes.saturating_mul(4)
    }
}
