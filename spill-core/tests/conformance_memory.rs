//! The suite passes on the reference mapping, and on what stands over it without changing anything.

use std::sync::Arc;

use bytes::Bytes;
use spill_core::conformance::contract::{Trial, check_all, failed_calls_change_nothing};
use spill_core::conformance::{Fault, Faulty, Gate, Memory, Operation, Plan, Ready, SampleValue};
use spill_core::{Error, Frames, Func, MutableMapping, Result, conformance_tests};

conformance_tests!(memory_of_frames, Memory::<u64, Frames>::new);
conformance_tests!(memory_of_bytes_by_name, Memory::<String, Bytes>::new);
conformance_tests!(memory_of_text_by_bytes, Memory::<Bytes, String>::new);
conformance_tests!(memory_of_numbers, Memory::<u64, u64>::new);
conformance_tests!(memory_of_shared_vectors, Memory::<u64, Arc<Vec<u8>>>::new);
conformance_tests!(healthy_faulty, || Faulty::new(Memory::<u64, Frames>::new()));
conformance_tests!(boxed, || -> Box<dyn MutableMapping<u64, Frames>> { Box::new(Memory::new()) });
conformance_tests!(func, || {
    let codec = (
        |text: &String| -> Result<Frames> { Ok(Bytes::from(text.clone()).into()) },
        |frames: Frames| -> Result<String> {
            String::from_utf8(frames.into_single().unwrap_or_default().into())
                .map_err(|_| Error::codec("text", "not UTF-8"))
        },
    );
    Func::new(codec, Memory::<u64, Frames>::new())
});

#[test]
fn all_at_once() {
    check_all(Memory::<u64, Frames>::new, &Ready);
}

#[test]
fn a_mapping_that_fails_before_it_acts_keeps_what_it_has() {
    for fault in [Fault::<Frames>::io(), Fault::full()] {
        let faulty = Faulty::new(Memory::<u64, Frames>::new());
        failed_calls_change_nothing(&Trial::new(&faulty, &Ready), &|failing| {
            faulty.heal();
            if failing {
                faulty.inject(Plan::every(2), fault.clone());
            }
        });
        assert!(faulty.struck() > 100);
    }
}

#[test]
fn plans_count_only_the_calls_they_admit() {
    let faulty = Faulty::new(Memory::<u64, u64>::new());
    faulty.inject(Plan::nth(2).on([Operation::Insert]).key(7), Fault::io());
    for (key, fails) in [(7, false), (1, false), (7, true), (7, false)] {
        assert_eq!(faulty.insert(key, 0).is_err(), fails);
    }
    faulty.inject(Plan::from(2).on(Operation::READS), Fault::full());
    assert!(faulty.get(&7).is_ok());
    assert!(faulty.peek(&7).is_err_and(|error| error.is_full()));
    assert!(faulty.get(&1).is_err());
    assert_eq!((faulty.calls(Operation::Get), faulty.calls(Operation::Peek), faulty.struck()), (2, 1, 3));
    faulty.heal();
    assert!(faulty.get(&1).is_ok());
}

#[test]
fn every_nth_call_of_a_batch_fails_by_itself() {
    let faulty = Faulty::new(Memory::<u64, u64>::new());
    faulty.inject(Plan::every(3).on([Operation::Insert]), Fault::io());
    let results = faulty.insert_many((0..7).map(|n| (n, n)).collect());
    let failed: Vec<bool> = results.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, false, true, false, false, true, false]);
    assert_eq!(faulty.len(), 5);
}

#[test]
fn a_fault_after_the_call_has_been_applied() {
    let faulty = Faulty::new(Memory::<u64, u64>::new());
    faulty.inject(Plan::nth(1).on([Operation::Insert]), Fault::io().after());
    faulty.inject(Plan::nth(1).on([Operation::Take]), Fault::full().after());
    assert!(faulty.insert(1, 10).is_err());
    assert_eq!(faulty.get(&1).unwrap(), Some(10));
    assert!(faulty.take(&1).is_err());
    assert_eq!(faulty.get(&1).unwrap(), None);
}

#[test]
fn a_panic_before_or_after_the_call() {
    let faulty = Faulty::new(Memory::<u64, u64>::new());
    faulty.inject(Plan::nth(1).on([Operation::Insert]), Fault::panic("before"));
    faulty.inject(Plan::nth(2).on([Operation::Insert]), Fault::panic("after").after());
    for (key, applied) in [(1, false), (2, true)] {
        let insert = std::panic::AssertUnwindSafe(|| faulty.insert(key, 0));
        assert!(std::panic::catch_unwind(insert).is_err());
        assert_eq!(faulty.contains_key(&key), applied);
    }
}

#[test]
fn an_altered_value_is_given_and_not_kept() {
    let faulty = Faulty::new(Memory::<u64, Frames>::new());
    faulty.inject(Plan::always().on([Operation::Peek]), Fault::alter(|_| Frames::from(Bytes::new())));
    faulty.insert(1, Frames::sample(1)).unwrap();
    assert_eq!(faulty.peek(&1).unwrap(), Some(Frames::from(Bytes::new())));
    assert_eq!(faulty.get(&1).unwrap(), Some(Frames::sample(1)));
}

#[test]
fn a_delay_runs_while_other_calls_go_on() {
    let faulty = Arc::new(Faulty::new(Memory::<u64, u64>::new()));
    let other = Arc::downgrade(&faulty);
    let during = move || other.upgrade().unwrap().insert(2, 20).unwrap();
    faulty.inject(Plan::nth(1).on([Operation::Get]), Fault::delay(during));
    assert_eq!(faulty.get(&2).unwrap(), Some(20));
}

#[test]
fn errors_do_not_strike_what_cannot_fail() {
    let faulty = Faulty::new(Memory::<u64, u64>::new());
    faulty.insert(1, 10).unwrap();
    faulty.inject(Plan::always(), Fault::io());
    assert!(faulty.contains_key(&1));
    assert_eq!(faulty.len(), 1);
    let mut keys = Vec::new();
    faulty.for_each_key(&mut |key| keys.push(*key));
    assert_eq!(keys, [1]);
    assert_eq!(faulty.struck(), 0);
    assert!(faulty.flush().is_err());
    assert!(faulty.close().is_err());
}

#[test]
fn a_gate_holds_a_call_that_was_already_applied() {
    let faulty = Faulty::new(Memory::<u64, u64>::new());
    let gate = Gate::closed();
    faulty.inject(Plan::nth(1).on([Operation::Remove]), Fault::block(&gate).after());
    faulty.insert(1, 10).unwrap();
    std::thread::scope(|scope| {
        let open = gate.open_on_drop();
        let removing = scope.spawn(|| faulty.remove(&1));
        gate.wait_for(1);
        assert!(!faulty.contains_key(&1));
        assert!(!removing.is_finished());
        drop(open);
        assert!(removing.join().unwrap().unwrap());
    });
    gate.pass();
    assert_eq!(gate.arrived(), 2);
    gate.close();
    let again = Gate::opened();
    again.pass();
    assert_eq!(again.arrived(), 1);
}
