//! The states of one key, and what follows from each of them: the rules R1 to R6 and R9 of the design.
//!
//! Each change of a slot is one of its [transitions], under the table's lock. Whoever begins a flight owns it, works
//! unlocked, and ends it in one critical section.
//!
//! With fast memory in RAM the slot's value is the value, and `fast` stays Absent. With `Stored` fast memory
//! the value is a stage: it is here only until a mapping has it.

mod transitions;
mod tried;

use self::CopyState::{Absent, Clean, Stale};
pub(crate) use self::tried::{Settled, Tried};

/// The two memories of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The mapping of `Stored` fast memory; with fast memory in RAM there is none.
    Fast,
    /// Slow memory.
    Slow,
}

/// What is being done to a key outside the lock; at most one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flight {
    /// The value is being written to this memory.
    Writing(Memory),
    /// A copy is being read for a caller.
    Reading,
    /// The fast copy is being read into the stage, to be spilled.
    Fetching,
    /// A closure has the value.
    Updating,
    /// A loader is making the value of an absent key.
    Loading,
    /// The copy in this memory is being removed.
    Removing(Memory),
}

/// What one memory holds for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyState {
    /// Nothing.
    Absent,
    /// The key's present value.
    Clean,
    /// An older value, or perhaps nothing: it must be removed before the slot may go.
    Stale,
}

#[derive(Debug)]
pub(crate) struct Slot<V> {
    pub(crate) value: Option<V>,
    pub(crate) weight: u64,
    pub(crate) flight: Option<Flight>,
    pub(crate) superseded: bool,
    pub(crate) fast: CopyState,
    pub(crate) slow: CopyState,
}

// a hit reads a slot, and a million of them should stay in the processor's cache as far as they can
const _: () = assert!(size_of::<Slot<u64>>() == 32);

impl<V> Default for Slot<V> {
    fn default() -> Self {
        Self::new(Absent)
    }
}

impl<V> Slot<V> {
    /// A slot without a value or flight.
    pub(crate) fn new(slow: CopyState) -> Self {
        Slot { value: None, weight: 0, flight: None, superseded: false, fast: Absent, slow }
    }

    /// R1. The key is present. (Without a slot: when slow memory has it.)
    pub(crate) fn present(&self) -> bool {
        self.in_fast() || self.slow == Clean || (self.flight == Some(Flight::Updating) && !self.superseded)
    }

    /// Fast memory has the value.
    pub(crate) fn in_fast(&self) -> bool {
        self.value.is_some() || self.fast == Clean
    }

    /// The memory from which the value is read, where it is present and not here.
    pub(crate) fn source(&self) -> Memory {
        if self.fast == Clean { Memory::Fast } else { Memory::Slow }
    }

    pub(crate) fn copy(&self, memory: Memory) -> CopyState {
        match memory {
            Memory::Fast => self.fast,
            Memory::Slow => self.slow,
        }
    }

    /// The copy in `memory` is not the key's only one.
    pub(crate) fn is_beside(&self, memory: Memory) -> bool {
        match (self.copy(memory), memory) {
            (Absent, _) => false,
            (Clean, Memory::Fast) => self.value.is_some(),
            (Clean, Memory::Slow) => self.in_fast(),
            (Stale, _) => true,
        }
    }

    /// What `memory` has for the key is changing.
    pub(crate) fn changes(&self, memory: Memory) -> bool {
        matches!(self.flight, Some(Flight::Writing(m) | Flight::Removing(m)) if m == memory)
    }

    /// Something is left to do that failed before: a copy to remove or, with `Stored`, a stage to store.
    pub(crate) fn is_pending(&self, stored: bool) -> bool {
        self.fast == Stale || self.slow == Stale || (stored && self.value.is_some())
    }
}
