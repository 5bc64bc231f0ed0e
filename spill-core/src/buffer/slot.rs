//! The states of one key and every transition between them: the rules R1 to R6 of the design, on one screen.
//!
//! A slot is changed only under the table's lock. Whoever begins a flight owns it, works unlocked, and ends it
//! in one critical section.

/// What is being done to a key outside the lock; at most one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flight {
    /// The value is being written to slow memory.
    Writing,
    /// The slow copy is being read.
    Reading,
    /// A closure has the value.
    Updating,
    /// A loader is making the value of an absent key.
    Loading,
    /// The slow copy is being removed.
    Removing,
}

/// What slow memory holds for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlowCopy {
    /// Nothing.
    Absent,
    /// The key's present value.
    Clean,
    /// An older value, or perhaps nothing: it must be removed before the slot may go.
    Stale,
}

/// What is left to do with a slot whose flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Free the slot: nothing of it is needed.
    Free,
    /// The flight went on as Removing; its owner removes the slow copy.
    Remove,
    /// It stays.
    Keep,
}

#[derive(Debug)]
pub(crate) struct Slot<V> {
    pub(crate) value: Option<V>,
    pub(crate) weight: u64,
    pub(crate) flight: Option<Flight>,
    pub(crate) superseded: bool,
    pub(crate) copy: SlowCopy,
}

impl<V> Default for Slot<V> {
    fn default() -> Self {
        Self::new(SlowCopy::Absent)
    }
}

impl<V> Slot<V> {
    /// A slot without a value or flight.
    pub(crate) fn new(copy: SlowCopy) -> Self {
        Slot { value: None, weight: 0, flight: None, superseded: false, copy }
    }

    /// R1. The key is present. (Without a slot: when slow memory has it.)
    pub(crate) fn present(&self) -> bool {
        self.value.is_some()
            || self.copy == SlowCopy::Clean
            || (self.flight == Some(Flight::Updating) && !self.superseded)
    }

    /// The key is present, and slow memory has its value alone.
    pub(crate) fn only_copy_is_slow(&self) -> bool {
        self.value.is_none() && self.copy == SlowCopy::Clean
    }

    /// What slow memory has for the key is changing.
    pub(crate) fn changes_copy(&self) -> bool {
        matches!(self.flight, Some(Flight::Writing | Flight::Removing))
    }

    /// R2. Sets or takes the value; gives back the old one. Whatever flies is about an older value from now on.
    pub(crate) fn write(&mut self, value: Option<V>, weight: u64) -> Option<V> {
        if self.copy == SlowCopy::Clean {
            self.copy = SlowCopy::Stale;
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
        if flight == Flight::Removing {
            self.copy = SlowCopy::Stale;
        }
    }

    /// R3. An update begins: the value, if it is here, is taken out.
    pub(crate) fn begin_update(&mut self) -> Option<V> {
        let value = self.write(None, self.weight);
        self.begin(Flight::Updating);
        value
    }

    /// R5. Writing ended. The value leaves if it was written (`leaves`: false when it is to stay, as Clean).
    pub(crate) fn wrote(&mut self, written: bool, leaves: bool) -> Option<V> {
        if !written || self.superseded {
            self.copy = SlowCopy::Stale; // a failed write may have been applied
            return None;
        }
        self.copy = SlowCopy::Clean;
        if leaves { self.value.take() } else { None }
    }

    /// R5. Reading ended well and was not superseded: the value is promoted.
    pub(crate) fn promote(&mut self, value: V, weight: u64) {
        (self.value, self.weight) = (Some(value), weight);
    }

    /// R5. Updating or Loading ended with a value; says whether it was put in.
    pub(crate) fn put_back(&mut self, value: V, weight: u64) -> Result<(), V> {
        if self.superseded {
            return Err(value);
        }
        (self.value, self.weight) = (Some(value), weight);
        Ok(())
    }

    /// R5. Removing ended.
    pub(crate) fn removed(&mut self, gone: bool) {
        self.copy = if gone { SlowCopy::Absent } else { SlowCopy::Stale };
    }

    /// R6. The flight ends here, or goes on as Removing where a Stale copy is left and `may_go_on`.
    pub(crate) fn settle(&mut self, may_go_on: bool) -> Settled {
        (self.flight, self.superseded) = (None, false);
        if self.copy == SlowCopy::Stale && may_go_on {
            self.begin(Flight::Removing);
            Settled::Remove
        } else if self.value.is_none() && self.copy != SlowCopy::Stale {
            Settled::Free
        } else {
            Settled::Keep // with no value: a tombstone
        }
    }
}
