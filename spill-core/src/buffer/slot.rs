//! The states of one key and every transition between them: the rules R1 to R6 and R9 of the design.
//!
//! A slot is changed only under the table's lock. Whoever begins a flight owns it, works unlocked, and ends it
//! in one critical section.
//!
//! With fast memory in RAM the slot's value is the value, and `fast` stays Absent. With `Stored` fast memory
//! the value is a stage: it is here only until a mapping has it.

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

use CopyState::{Absent, Clean, Stale};

/// What is left to do with a slot whose flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Free the slot: nothing of it is needed.
    Free,
    /// The flight went on as this one, of the same owner.
    GoOn(Flight),
    /// It stays.
    Keep,
}

/// What the owner of a flight has tried while it settles: each thing once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    store: bool,
    spill: bool,
    remove_fast: bool,
    remove_slow: bool,
    /// How often a write was superseded, so that everything could be tried again.
    rounds: u8,
}

/// How often one owner follows a stage that is replaced while it is written.
const ROUNDS: u8 = 8;

impl Tried {
    /// Nothing is to be tried any more.
    pub(crate) const ALL: Tried =
        Tried { store: true, spill: true, remove_fast: true, remove_slow: true, rounds: ROUNDS };

    /// Notes that `flight` is being tried.
    pub(crate) fn note(&mut self, flight: Flight) {
        match flight {
            Flight::Writing(Memory::Fast) => self.store = true,
            Flight::Writing(Memory::Slow) => self.spill = true,
            Flight::Removing(Memory::Fast) => self.remove_fast = true,
            Flight::Removing(Memory::Slow) => self.remove_slow = true,
            Flight::Reading | Flight::Fetching | Flight::Updating | Flight::Loading => {}
        }
    }

    /// What was written is not the value any more: all of it can be tried again, a bounded number of times.
    pub(crate) fn start_over(&mut self) {
        if self.rounds < ROUNDS {
            *self = Tried { rounds: self.rounds + 1, ..Tried::default() };
        }
    }
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

    fn copy_mut(&mut self, memory: Memory) -> &mut CopyState {
        match memory {
            Memory::Fast => &mut self.fast,
            Memory::Slow => &mut self.slow,
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

    /// R2. Sets or takes the value; gives back the old one. Whatever flies is about an older value from now on.
    pub(crate) fn write(&mut self, value: Option<V>, weight: u64) -> Option<V> {
        for copy in [&mut self.fast, &mut self.slow] {
            if *copy == Clean {
                *copy = Stale;
            }
        }
        self.supersede();
        self.weight = weight;
        std::mem::replace(&mut self.value, value)
    }

    /// R3. An update that finds a flight leaves the value in place, and the flight's outcome unused.
    pub(crate) fn supersede(&mut self) {
        self.superseded = self.flight.is_some();
    }

    /// R2, R5. A flight begins, or goes on as another.
    pub(crate) fn begin(&mut self, flight: Flight) {
        self.flight = Some(flight);
        self.superseded = false;
        if let Flight::Removing(memory) = flight {
            *self.copy_mut(memory) = Stale;
        }
    }

    /// R3. An update begins: the value, if it is here, is taken out.
    pub(crate) fn begin_update(&mut self) -> Option<V> {
        let value = self.write(None, self.weight);
        self.begin(Flight::Updating);
        value
    }

    /// R5. Writing to slow memory ended. The value leaves fast memory if it was written (`leaves`: false when it
    /// is to stay, as Clean).
    pub(crate) fn wrote(&mut self, written: bool, leaves: bool) -> Option<V> {
        if !written || self.superseded {
            self.slow = Stale; // a failed write may have been applied
            return None;
        }
        self.slow = Clean;
        if leaves { self.leave() } else { None }
    }

    /// The value leaves fast memory.
    pub(crate) fn leave(&mut self) -> Option<V> {
        if self.fast == Clean {
            self.fast = Stale;
        }
        self.value.take()
    }

    /// R9. Writing to fast memory ended.
    pub(crate) fn stored(&mut self, written: bool) {
        self.fast = if written && !self.superseded { Clean } else { Stale };
    }

    /// R5. Reading ended well and was not superseded: the value is promoted. Or it was fetched (R9).
    pub(crate) fn put_in(&mut self, value: V, weight: u64) {
        (self.value, self.weight) = (Some(value), weight);
    }

    /// R5. Updating or Loading ended with a value; says whether it was put in.
    pub(crate) fn put_back(&mut self, value: V, weight: u64) -> Result<(), V> {
        if self.superseded {
            return Err(value);
        }
        self.put_in(value, weight);
        Ok(())
    }

    /// R5. Removing from `memory` ended.
    pub(crate) fn removed(&mut self, memory: Memory, gone: bool) {
        *self.copy_mut(memory) = if gone { Absent } else { Stale };
    }

    /// R6, R9. The flight ends here, or goes on with what is left to do and was not tried.
    pub(crate) fn settle(&mut self, stored: bool, tried: &mut Tried) -> Settled {
        (self.flight, self.superseded) = (None, false);
        let stage = stored && self.value.is_some();
        let next = if stage && !tried.store {
            Flight::Writing(Memory::Fast)
        } else if stage && !tried.spill {
            Flight::Writing(Memory::Slow)
        } else if self.fast == Stale && !tried.remove_fast {
            Flight::Removing(Memory::Fast)
        } else if self.slow == Stale && !tried.remove_slow {
            Flight::Removing(Memory::Slow)
        } else if self.value.is_none() && self.fast == Absent && self.slow != Stale {
            return Settled::Free;
        } else {
            return Settled::Keep; // with no value and no Clean copy: a tombstone
        };
        tried.note(next);
        self.begin(next);
        Settled::GoOn(next)
    }
}
