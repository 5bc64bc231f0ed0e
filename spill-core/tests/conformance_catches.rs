//! The suite finds out mappings that are wrong in one way each. For every promise there is at least one.
#![expect(clippy::panic, reason = "one mapping panics by mistake; helpers of tests fail them")]

mod wrong;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use spill_core::Frames;
use spill_core::conformance::contract::{Trial, check_all, failed_calls_change_nothing, promises};
use spill_core::conformance::{Memory, Ready};
use wrong::{Mistake, Wrong};

/// What the suite says of a mistake when it checks this promise, or nothing when it is content.
fn verdict(mistake: Mistake, promise: &str) -> Option<String> {
    let (_, check) = promises::<u64, Frames>()
        .into_iter()
        .find(|(name, _)| *name == promise)
        .unwrap_or_else(|| panic!("there is no promise {promise}"));
    let wrong = Wrong::new(mistake);
    // Only a deadlock waits so long, and it waits for ever.
    let trial = Trial::new(&wrong, &Ready).patience(Duration::from_millis(200));
    message(catch_unwind(AssertUnwindSafe(|| check(&trial))))
}

fn message(outcome: std::thread::Result<()>) -> Option<String> {
    outcome.err().map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

/// Each mistake with a promise that must find it out.
const CAUGHT: &[(Mistake, &str)] = &[
    (Mistake::AbsentIsDefault, "get_of_absent_is_none"),
    (Mistake::ForgetsOverwrite, "insert_replaces"),
    (Mistake::SecondReadIsEmpty, "insert_replaces"),
    (Mistake::PeekTakes, "peek_returns_the_value"),
    (Mistake::RemoveAlwaysTrue, "remove_says_whether_present"),
    (Mistake::RemoveAlwaysFalse, "remove_says_whether_present"),
    (Mistake::TakeLeaves, "take_removes_and_returns"),
    (Mistake::TakeGivesOlder, "take_removes_and_returns"),
    (Mistake::LenCountsOverwrites, "contains_and_len_agree"),
    (Mistake::ContainsEverything, "contains_and_len_agree"),
    (Mistake::ContainsNothing, "contains_and_len_agree"),
    (Mistake::RemovedForGood, "keys_come_back_after_removal"),
    (Mistake::WalkGivesTwice, "for_each_key_is_a_snapshot"),
    (Mistake::WalkSkips, "for_each_key_is_a_snapshot"),
    (Mistake::WalkIsLive, "for_each_key_is_a_snapshot"),
    (Mistake::WalkHoldsLock, "for_each_key_runs_unlocked"),
    (Mistake::BatchReversed, "batch_results_in_order"),
    (Mistake::BatchOneShort, "batch_results_in_order"),
    (Mistake::BatchKeepsFirst, "batches_are_calls_in_order"),
    (Mistake::ClearLeavesOne, "clear_empties"),
    (Mistake::ClearFails, "clear_empties"),
    (Mistake::CountIsOneMore, "usage_counts"),
    (Mistake::WeightNeverFalls, "usage_counts"),
    (Mistake::SpilledBeyondStored, "usage_counts"),
    (Mistake::StoredAfterRemoval, "stored_size_only_of_present"),
    (Mistake::LosesThirtyThirdInsert, "agrees_with_a_map"),
    (Mistake::BatchOneShort, "agrees_with_a_map"),
    (Mistake::KeysAreShort, "odd_keys_stay_apart"),
    (Mistake::EmptyFramesDropped, "odd_values_survive"),
    (Mistake::FramesMerged, "odd_values_survive"),
    (Mistake::WeightLost, "odd_values_survive"),
    (Mistake::PagesCutShort, "values_of_many_sizes"),
    (Mistake::OldTailKept, "overwrite_with_other_sizes"),
    (Mistake::FlushDropsOne, "flush_keeps_everything"),
    (Mistake::FlushBringsBack, "flush_keeps_everything"),
    (Mistake::ClosedIsAbsent, "close_then_closed"),
    (Mistake::ClosedPanics, "close_then_closed"),
    (Mistake::ClosedIsIo, "close_then_closed"),
    (Mistake::CloseTwiceFails, "close_then_closed"),
    (Mistake::InsertsAfterCloseAreLost, "close_then_closed"),
    (Mistake::TakeRaces, "take_is_atomic"),
    (Mistake::RemoveRaces, "remove_is_atomic"),
    (Mistake::TakeRaces, "every_value_is_taken_once"),
    (Mistake::LenRaces, "simultaneous_inserts_leave_one_of_them"),
    (Mistake::LateInsert, "readers_see_no_older_version"),
    (Mistake::PromotesOverInsert, "readers_see_no_older_version"),
    (Mistake::GivesNeighbour, "readers_see_no_older_version"),
    (Mistake::PromotesOverRemove, "removed_stays_removed"),
    (Mistake::WalkGivesTwice, "for_each_key_among_writers"),
    (Mistake::WalkSkips, "for_each_key_among_writers"),
];

#[test]
fn each_mistake_is_caught_by_the_promise_it_breaks() {
    let missed: Vec<String> = CAUGHT
        .iter()
        .filter_map(|(mistake, promise)| {
            let Some(said) = verdict(*mistake, promise) else {
                return Some(format!("{promise} is content with {mistake:?}"));
            };
            let named = said.contains(promise) && said.contains("Wrong");
            // What panics in the mapping itself is not the suite's to word.
            (!named && *mistake != Mistake::ClosedPanics)
                .then(|| format!("{promise} says of {mistake:?}: {said}"))
        })
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn every_promise_has_a_mistake_that_it_catches() {
    let caught: HashSet<&str> = CAUGHT.iter().map(|(_, promise)| *promise).collect();
    let promised: HashSet<&str> = promises::<u64, Frames>().into_iter().map(|(name, _)| name).collect();
    assert_eq!(caught, promised);
}

#[test]
fn the_mapping_without_a_mistake_passes() {
    check_all(|| Wrong::new(Mistake::None), &Ready);
}

#[test]
fn check_all_names_mapping_and_promise() {
    let outcome = catch_unwind(|| check_all(|| Wrong::new(Mistake::ClearLeavesOne), &Ready));
    let said = message(outcome).unwrap();
    assert!(said.contains("Wrong") && said.contains("clear_empties"), "{said}");
}

#[test]
fn failed_calls_that_took_effect_are_caught() {
    let passes = |mistake| {
        let wrong = Wrong::new(mistake);
        let trial = Trial::new(&wrong, &Ready);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            failed_calls_change_nothing(&trial, &|failing| wrong.set_failing(failing));
        }));
        message(outcome).is_none()
    };
    assert!(passes(Mistake::None));
    assert!(!passes(Mistake::FailedInsertApplied));
    assert!(!passes(Mistake::FailedInsertRemovesOld));
    assert!(!passes(Mistake::FailedRemoveApplied));
}

#[test]
fn failures_that_never_happen_show_nothing() {
    let memory = Memory::<u64, Frames>::new();
    let trial = Trial::new(&memory, &Ready);
    let outcome = catch_unwind(AssertUnwindSafe(|| failed_calls_change_nothing(&trial, &|_| ())));
    assert!(message(outcome).unwrap().contains("no call failed"));
}
