//! What a memory monitor needs of a mapping.

use std::sync::Arc;

/// Lets a memory monitor move values out of fast memory by hand, whatever else the mapping is.
///
/// This is the page's `ManualEvictProto` (worker memory management, "User-defined managed memory
/// containers"): a mapping without it is never asked to spill on account of process memory.
pub trait ManualEvict: Send + Sync {
    /// Moves one pair from fast to slow memory.
    ///
    /// Returns the bytes it weighed in fast memory, or -1: nothing was lost, the pair is still in fast
    /// memory and the problem has been logged. -1 as well when nothing can be evicted. Never panics, never
    /// unwinds (with `panic = "abort"` a panicking backend aborts, as asked).
    fn evict(&self) -> i64;

    /// Whether fast memory holds anything to evict.
    fn fast(&self) -> bool;
}

impl<M: ManualEvict + ?Sized> ManualEvict for Box<M> {
    fn evict(&self) -> i64 {
        (**self).evict()
    }
    fn fast(&self) -> bool {
        (**self).fast()
    }
}

impl<M: ManualEvict + ?Sized> ManualEvict for Arc<M> {
    fn evict(&self) -> i64 {
        (**self).evict()
    }
    fn fast(&self) -> bool {
        (**self).fast()
    }
}
