//! What the owner of a flight still has to do before it lets the slot go.

use super::{Flight, Memory};

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

    /// Whether `flight` was tried.
    pub(super) fn has(self, flight: Flight) -> bool {
        match flight {
            Flight::Writing(Memory::Fast) => self.store,
            Flight::Writing(Memory::Slow) => self.spill,
            Flight::Removing(Memory::Fast) => self.remove_fast,
            Flight::Removing(Memory::Slow) => self.remove_slow,
            Flight::Reading | Flight::Fetching | Flight::Updating | Flight::Loading => false,
        }
    }

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
