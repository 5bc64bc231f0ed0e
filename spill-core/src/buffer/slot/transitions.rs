//! Every transition of a slot.

use super::CopyState::{Absent, Clean, Stale};
use super::{CopyState, Flight, Memory, Settled, Slot, Tried};

impl<V> Slot<V> {
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

    /// Fast memory has had the value since before this buffer (PARITY Z04).
    pub(crate) fn adopt(&mut self, weight: u64) {
        (self.fast, self.weight) = (Clean, weight);
    }

    /// R9. A memory has the value, as of this weight, and the stage need not.
    pub(crate) fn unstage(&mut self, weight: u64) -> Option<V> {
        self.weight = weight;
        self.value.take()
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
        let left = [
            (stage, Flight::Writing(Memory::Fast)),
            (stage, Flight::Writing(Memory::Slow)),
            (self.fast == Stale, Flight::Removing(Memory::Fast)),
            (self.slow == Stale, Flight::Removing(Memory::Slow)),
        ];
        if let Some((_, next)) = left.into_iter().find(|(is_left, flight)| *is_left && !tried.has(*flight)) {
            tried.note(next);
            self.begin(next);
            Settled::GoOn(next)
        } else if self.value.is_none() && self.fast == Absent && self.slow != Stale {
            Settled::Free
        } else {
            Settled::Keep // with no value and no Clean copy: a tombstone
        }
    }

    fn copy_mut(&mut self, memory: Memory) -> &mut CopyState {
        match memory {
            Memory::Fast => &mut self.fast,
            Memory::Slow => &mut self.slow,
        }
    }
}
