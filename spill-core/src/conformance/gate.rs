//! Holds calls in flight for as long as a test wants, without sleeping.

use std::sync::Arc;

use crate::sync::{Condvar, Mutex};

/// A door that calls wait at until it is opened. Clones are the same door.
///
/// A test closes it, lets a thread run into it, waits until the thread has arrived, does what must happen
/// meanwhile, and opens it:
///
/// ```
/// use spill_core::MutableMapping;
/// use spill_core::conformance::{Fault, Faulty, Gate, Memory, Operation, Plan};
///
/// let slow = Faulty::new(Memory::<u64, u64>::new());
/// let gate = Gate::closed();
/// slow.inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&gate));
/// std::thread::scope(|scope| {
///     let open = gate.open_on_drop();
///     scope.spawn(|| slow.insert(1, 10));
///     gate.wait_for(1);
///     assert!(!slow.contains_key(&1)); // the insert is in flight, and stays there
///     drop(open);
/// });
/// assert!(slow.contains_key(&1));
/// ```
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    open: bool,
    arrived: u64,
}

impl Gate {
    fn new(open: bool) -> Self {
        Gate(Arc::new(Inner { state: Mutex::new(State { open, arrived: 0 }), changed: Condvar::default() }))
    }

    /// A gate that is open.
    #[must_use]
    pub fn opened() -> Self {
        Self::new(true)
    }

    /// A gate that is closed.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(false)
    }

    /// Goes through, at once or when the gate is opened. Counts as an arrival either way.
    pub fn pass(&self) {
        let mut state = self.0.state.lock();
        state.arrived += 1;
        self.0.changed.notify_all();
        while !state.open {
            state = self.0.changed.wait(state);
        }
    }

    /// Opens the gate for those who wait and those who come.
    pub fn open(&self) {
        self.0.state.lock().open = true;
        self.0.changed.notify_all();
    }

    /// Closes the gate for those who come.
    pub fn close(&self) {
        self.0.state.lock().open = false;
    }

    /// How many calls have arrived since the gate was made.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.0.state.lock().arrived
    }

    /// Waits until `count` calls have arrived since the gate was made.
    pub fn wait_for(&self, count: u64) {
        let mut state = self.0.state.lock();
        while state.arrived < count {
            state = self.0.changed.wait(state);
        }
    }

    /// Opens the gate when dropped. Take it inside `std::thread::scope`: a failed assertion then ends the
    /// test instead of waiting for the held threads for ever.
    #[must_use]
    pub fn open_on_drop(&self) -> OpenOnDrop {
        OpenOnDrop(self.clone())
    }
}

/// Opens its [`Gate`] when dropped.
#[derive(Debug)]
pub struct OpenOnDrop(Gate);

impl Drop for OpenOnDrop {
    fn drop(&mut self) {
        self.0.open();
    }
}
