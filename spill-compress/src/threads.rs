//! Several cores at one value. Helpers live for one call: they are started by the thread that has the value,
//! and joined before it goes on.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use parking_lot::Mutex;
use spill_core::Result;

/// Bounds the threads that work at once: callers, whose number nobody bounds, and helpers, which start only
/// while there are fewer of both than the limit.
#[derive(Debug)]
pub(crate) struct Threads {
    working: AtomicUsize,
    limit: usize,
}

impl Threads {
    /// At most `limit` threads, the callers included.
    pub(crate) fn new(limit: usize) -> Self {
        Threads { working: AtomicUsize::new(0), limit }
    }

    /// Does `work` for each of `items`, with at most `helpers` helpers, and gives the results in order. Each
    /// thread has its own `L`.
    ///
    /// # Errors
    /// The first error met; the items not begun by then are left out.
    ///
    /// # Panics
    /// When `work` does, also on a helper.
    pub(crate) fn run<T, L, R>(
        &self,
        helpers: usize,
        items: impl Iterator<Item = T> + Send,
        local: impl Fn() -> L + Sync,
        work: impl Fn(&mut L, T) -> Result<R> + Sync,
    ) -> Result<Vec<R>>
    where
        T: Send,
        R: Send,
    {
        let _own = Working::enter(self);
        if helpers == 0 {
            let mut own = local();
            return items.map(|item| work(&mut own, item)).collect();
        }
        let queue = Mutex::new(items.enumerate());
        let failed = AtomicBool::new(false);
        let labour = || -> Result<Vec<(usize, R)>> {
            let mut own = local();
            let mut done = Vec::new();
            while !failed.load(Relaxed)
                && let Some((n, item)) = next(&queue)
            {
                let result = work(&mut own, item).inspect_err(|_| failed.store(true, Relaxed))?;
                done.push((n, result));
            }
            Ok(done)
        };
        let parts: Vec<Result<Vec<(usize, R)>>> = thread::scope(|scope| {
            let hired: Vec<_> = (0..helpers)
                .map_while(|_| {
                    let place = Working::help(self)?;
                    let helper = thread::Builder::new().name("overspill-compress".to_owned());
                    let labour = &labour;
                    // Where no thread can be had, those that are there do all of it.
                    let helping = move || {
                        let _place = place;
                        labour()
                    };
                    helper.spawn_scoped(scope, helping).ok()
                })
                .collect();
            let own = labour();
            let join =
                |helper: thread::ScopedJoinHandle<'_, _>| helper.join().unwrap_or_else(|p| resume_unwind(p));
            std::iter::once(own).chain(hired.into_iter().map(join)).collect()
        });
        let mut done = Vec::new();
        for part in parts {
            done.append(&mut part?);
        }
        done.sort_unstable_by_key(|(n, _)| *n);
        Ok(done.into_iter().map(|(_, result)| result).collect())
    }
}

/// The lock is held for this one step.
fn next<I: Iterator>(queue: &Mutex<I>) -> Option<I::Item> {
    queue.lock().next()
}

/// One thread at work, for as long as this lives.
struct Working<'a>(&'a AtomicUsize);

impl<'a> Working<'a> {
    fn enter(threads: &'a Threads) -> Self {
        threads.working.fetch_add(1, Relaxed);
        Working(&threads.working)
    }

    fn help(threads: &'a Threads) -> Option<Self> {
        let more = |working| (working < threads.limit).then_some(working + 1);
        threads.working.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Working(&threads.working))
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use parking_lot::Condvar;
    use spill_core::Error;

    use super::*;

    /// Where two threads meet, once.
    #[derive(Default)]
    struct Meeting {
        arrived: Mutex<u32>,
        complete: Condvar,
    }

    impl Meeting {
        /// Waits for the other. Nobody comes where no thread can be had, and that is to be an error, not a test that
        /// hangs: a minute is far more than any machine takes to start a thread.
        fn wait(&self) -> Result<()> {
            let mut arrived = self.arrived.lock();
            *arrived += 1;
            self.complete.notify_all();
            self.complete.wait_while_for(&mut arrived, |arrived| *arrived < 2, Duration::from_secs(60));
            if *arrived < 2 { Err(Error::codec("test", "no second thread came")) } else { Ok(()) }
        }
    }

    #[test]
    fn results_come_in_order_whoever_made_them() {
        let threads = Threads::new(4);
        let square = |_: &mut (), n: u64| Ok(n * n);
        let expected: Vec<u64> = (0..1000).map(|n| n * n).collect();
        for helpers in [0, 1, 3] {
            assert_eq!(threads.run(helpers, 0..1000, || (), square).unwrap(), expected);
        }
        assert_eq!(threads.working.load(Relaxed), 0);
    }

    #[test]
    fn a_helper_works_beside_the_caller() {
        let meeting = Meeting::default();
        let met = Threads::new(2).run(
            1,
            0..2,
            || (),
            |(), _| {
                meeting.wait()?;
                Ok(thread::current().id())
            },
        );
        assert_eq!(HashSet::<_>::from_iter(met.unwrap()).len(), 2);
    }

    #[test]
    fn no_helper_starts_beyond_the_limit() {
        let threads = Threads::new(2);
        let _other_caller = Working::enter(&threads);
        let ids = threads.run(3, 0..100, || (), |(), _| Ok(thread::current().id())).unwrap();
        assert!(ids.into_iter().all(|id| id == thread::current().id()));
    }

    #[test]
    fn the_first_error_ends_the_work() {
        for helpers in [0, 1] {
            let refuse = |_: &mut (), n: u32| {
                if n == 10 { Err(Error::codec("test", "refused")) } else { Ok(n) }
            };
            Threads::new(2).run(helpers, 0..u32::MAX, || (), refuse).unwrap_err();
        }
    }

    #[test]
    #[should_panic(expected = "on a helper")]
    fn a_panic_of_a_helper_reaches_the_caller() {
        let caller = thread::current().id();
        let meeting = Meeting::default();
        let panicking = |_: &mut (), _| {
            meeting.wait()?;
            assert_eq!(thread::current().id(), caller, "on a helper");
            Ok(())
        };
        Threads::new(2).run(1, 0..2, || (), panicking).unwrap();
    }
}
