//! The suite: what the documentation of [`MutableMapping`] promises, one function a promise.
//!
//! An author of a mapping writes one line:
//!
//! ```
//! // in tests/conformance.rs of a crate
//! use spill_core::conformance::Memory;
//!
//! spill_core::conformance_tests!(memory, || Memory::<u64, spill_core::Frames>::new());
//! ```
//!
//! That is one `#[test]` a promise. [`check_all`] runs them all in one go. Both give each promise a mapping of
//! its own, which must be empty and able to hold some ten MiB. A failure names the mapping's type, the
//! promise and what was seen. [`failed_calls_change_nothing`] is apart from them, since it needs a way to make
//! the mapping fail. No promise depends on time, except that a call which can only be a deadlock is
//! given up after [`Trial::patience`].

mod failures;
mod keys;
mod lifecycle;
mod one_key;
mod threads;
mod trial;
mod values;

pub use failures::*;
pub use keys::*;
pub use lifecycle::*;
pub use one_key::*;
pub use threads::*;
pub use trial::Trial;
pub use values::*;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Samples;
use crate::{Key, MutableMapping, Value};

/// One promise: a function that panics where a mapping does not keep it.
pub type Promise<K, V> = fn(&Trial<'_, K, V>);

/// The one list of promises, handed to what turns it into tests or into an array.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_promises {
    ($form:ident $args:tt) => {
        $crate::__conformance_promises! { @$form $args
            get_of_absent_is_none
            insert_replaces
            peek_returns_the_value
            remove_says_whether_present
            take_removes_and_returns
            contains_and_len_agree
            keys_come_back_after_removal
            for_each_key_is_a_snapshot
            for_each_key_runs_unlocked
            batch_results_in_order
            batches_are_calls_in_order
            clear_empties
            usage_counts
            stored_size_only_of_present
            agrees_with_a_map
            odd_keys_stay_apart
            odd_values_survive
            values_of_many_sizes
            overwrite_with_other_sizes
            flush_keeps_everything
            close_then_closed
            take_is_atomic
            remove_is_atomic
            every_value_is_taken_once
            simultaneous_inserts_leave_one_of_them
            readers_see_no_older_version
            removed_stays_removed
            for_each_key_among_writers
        }
    };
    (@list () $($promise:ident)*) => {
        [$((stringify!($promise), $promise as $crate::conformance::contract::Promise<K, V>)),*]
    };
    (@tests ($make:expr, $samples:expr) $($promise:ident)*) => {
        $(
            #[test]
            fn $promise() {
                let samples = $samples;
                $crate::conformance::contract::check($crate::conformance::contract::$promise, $make, &samples);
            }
        )*
    };
}

/// Makes a module `$name` with one `#[test]` for each promise of
/// [`contract`](crate::conformance::contract).
///
/// `$make` is a closure that gives an empty mapping; it is evaluated once for each test. The optional third
/// argument gives the [`Samples`](crate::conformance::Samples), [`Ready`](crate::conformance::Ready) unless
/// said otherwise.
#[macro_export]
macro_rules! conformance_tests {
    ($name:ident, $make:expr) => {
        $crate::conformance_tests!($name, $make, $crate::conformance::Ready);
    };
    ($name:ident, $make:expr, $samples:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "what the closure needs is in scope where it is written")]
            use super::*;

            $crate::__conformance_promises! { tests ($make, $samples) }
        }
    };
}

/// Every promise with its name, in the order in which [`check_all`] runs them.
#[must_use]
pub fn promises<K: Key, V: Value>() -> Vec<(&'static str, Promise<K, V>)> {
    __conformance_promises! { list () }.into()
}

/// Checks one promise on a mapping made for it.
///
/// # Panics
/// When the promise is not kept.
pub fn check<K: Key, V: Value, M: MutableMapping<K, V>>(
    promise: Promise<K, V>,
    make: impl FnOnce() -> M,
    samples: &impl Samples<K, V>,
) {
    let mapping = make();
    promise(&Trial::new(&mapping, samples));
}

/// Checks every promise, each on a mapping of its own.
///
/// # Panics
/// At the first promise that is not kept, naming it.
pub fn check_all<K: Key, V: Value, M: MutableMapping<K, V>>(
    make: impl Fn() -> M,
    samples: &impl Samples<K, V>,
) {
    for (name, promise) in promises() {
        let outcome = catch_unwind(AssertUnwindSafe(|| check(promise, &make, samples)));
        if let Err(panic) = outcome {
            let message = trial::message(&*panic);
            panic!("{} fails {name}: {message}", std::any::type_name::<M>());
        }
    }
}
