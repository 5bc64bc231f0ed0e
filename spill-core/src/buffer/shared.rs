//! Values that somebody outside holds: spilling them frees nothing, so eviction passes them by (promise 7).

use std::time::Duration;

use super::state::State;
use crate::guard::guarded;
use crate::{Key, Value, Weigh};

/// What eviction does with a value that somebody outside the mapping still holds.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shared {
    /// Spills it like any other, as Dask does. It is freed when the others let go of it.
    #[default]
    Evict,
    /// Passes it by, as [`Weigh::is_shared`] says, and looks at it again after a while: first after 100 ms, then
    /// ever less often, at last every 10 s. Its place in the order stays. [`Usage::held`](crate::Usage::held) says
    /// how much is held that way. [`Buffer::evict_key`](crate::Buffer::evict_key) spills it all the same.
    Defer,
}

/// How many slots one look passes by, before the lock is given to others.
const PASSES: usize = 1024;

/// How many waiting slots an eager eviction asks about.
const WAITING: usize = 8;

/// How many slots one reading of the sums asks about.
const ASKED: usize = 256;

/// What can be evicted next.
pub(super) enum Candidate {
    Slot(u32),
    /// Nothing was found yet, and so much passed by that others should have the lock.
    More,
    None,
}

/// Who says what is shared; `None` where that does not matter.
pub(super) type Asks<'a, K, V> = Option<&'a dyn Weigh<K, V>>;

impl<K: Key, V: Value> State<K, V> {
    /// The slot to evict next, past those that are held. With the list of those tried already, also one that is
    /// deferred and not due.
    pub(super) fn candidate(
        &mut self,
        asks: Asks<'_, K, V>,
        tried: Option<&[u32]>,
        now: impl Fn() -> Duration,
    ) -> Candidate {
        let mut counted = false;
        for _ in 0..PASSES {
            let Some(i) = self.table.oldest(&now) else {
                let waiting = self.table.waiting().filter(|i| tried.is_some_and(|tried| !tried.contains(i)));
                let waiting: Vec<u32> = waiting.take(WAITING).collect();
                let idle = waiting.into_iter().find(|&i| self.flies(i).is_none() && !self.is_shared(asks, i));
                return idle.map_or(Candidate::None, Candidate::Slot);
            };
            if self.heated.is_used(i) {
                // once only: who hits without pause would always be ahead
                if counted {
                    self.cool(i);
                } else {
                    self.count_late();
                    counted = true;
                }
            } else if self.flies(i).is_some() {
                self.table.withdraw(i); // it is being read, and is placed again when that ended
            } else if self.is_shared(asks, i) {
                self.table.withdraw(i);
                self.table.defer(i, false, now());
                let weight = self.slot(i).weight;
                self.held.note(i, weight);
            } else {
                return Candidate::Slot(i);
            }
        }
        Candidate::More
    }

    fn is_shared(&self, asks: Asks<'_, K, V>, i: u32) -> bool {
        let (Some(asks), Some(value)) = (asks, &self.table[i].value) else { return false };
        guarded("asking whether a value is shared", || Ok(asks.is_shared(self.table.key(i), value)))
            .unwrap_or(false)
    }

    /// Looks again at some of the values that were passed by; those that were let go take their place again.
    pub(super) fn look_again(&mut self, asks: Asks<'_, K, V>) {
        for i in self.held.next(ASKED) {
            if !self.is_shared(asks, i) {
                self.held.forget(i);
                self.table.ready(i);
            }
        }
    }
}
