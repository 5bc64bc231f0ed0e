//! How much a mapping holds, and where.

use std::ops::{Add, AddAssign, Sub, SubAssign};

/// The two sizes of spilled data (PARITY B03): what it weighed in fast memory, and what it takes on storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SpilledSize {
    /// Bytes the live values weighed in fast memory.
    pub memory: u64,
    /// Bytes of their stored records, after compression, headers included.
    pub disk: u64,
}

impl Add for SpilledSize {
    type Output = Self;
    /// Saturates: weights are what a user's weigher says.
    fn add(self, other: Self) -> Self {
        SpilledSize {
            memory: self.memory.saturating_add(other.memory),
            disk: self.disk.saturating_add(other.disk),
        }
    }
}

impl AddAssign for SpilledSize {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for SpilledSize {
    type Output = Self;
    /// Saturates at zero, so that two readings taken at different moments never wrap.
    fn sub(self, other: Self) -> Self {
        SpilledSize {
            memory: self.memory.saturating_sub(other.memory),
            disk: self.disk.saturating_sub(other.disk),
        }
    }
}

impl SubAssign for SpilledSize {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

/// What a mapping and the mappings below it hold. All sizes are bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Usage {
    /// Keys present.
    pub count: usize,
    /// Weight of the values that this mapping and those below it hold in RAM, those being written included.
    pub fast: u64,
    /// Of `fast`, values that were passed by because somebody outside holds them, so that spilling them would free
    /// nothing ([`Shared::Defer`](crate::Shared::Defer)). Goes down again when they are let go.
    pub held: u64,
    /// The values whose only copy is in storage. Copies kept beside a value in fast memory are not counted.
    pub spilled: SpilledSize,
    /// Bytes accepted by storage and still held in RAM until they are written. Those values count as spilled
    /// too, with the record they will have.
    pub staged: u64,
    /// Bytes that the files take, dead records and files kept for reuse included.
    pub physical: u64,
}

impl Usage {
    /// Bytes of RAM that the values hold: the page's *managed* memory, staged bytes included.
    #[must_use]
    pub fn managed(&self) -> u64 {
        self.fast + self.staged
    }
}
