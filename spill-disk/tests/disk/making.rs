//! Files that a device takes long to make.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use spill_core::conformance::Gate;
use spill_core::{ErrorKind, MutableMapping};
use spill_disk::io::{Fault, FaultyIo, Io, MemoryIo, Operation, Rule};
use spill_disk::{Segments, SegmentsConfig, Workspace};

use crate::common::{PARENT, assert_same, gate, memory, segment_files, unstaged, value};

const SEGMENT: u64 = 10_000;

/// A store in whose open segment a value of that length lies, and the next file of which waits at the gate.
fn held_at_the_next_file(len: usize) -> (MemoryIo, FaultyIo, Segments<u64>, Gate) {
    let memory = memory();
    let io = FaultyIo::new(Arc::new(memory.clone()));
    let segments = unstaged(io.clone(), SEGMENT);
    segments.insert(0, value(0, len)).unwrap();
    let gate = gate(&io, Operation::Create);
    (memory, io, segments, gate)
}

fn bytes_of_files(memory: &MemoryIo) -> u64 {
    segment_files(memory).iter().map(|(_, file)| file.len() as u64).sum()
}

/// The second value is inserted while the file for the first is at the gate.
fn second_first(segments: &Segments<u64>, gate: &Gate, len: usize) {
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let first = scope.spawn(|| segments.insert(1, value(1, len)).unwrap());
        gate.wait_for(1);
        segments.insert(2, value(2, len)).unwrap();
        drop(open);
        first.join().unwrap();
    });
    for key in 1..=2 {
        assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, len));
    }
}

#[test]
fn others_write_while_a_file_is_being_made() {
    let (memory, _, segments, gate) = held_at_the_next_file(3_000);
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        // alone in its segment, so the open one goes on
        let long = scope.spawn(|| segments.insert(1, value(1, 20_000)).unwrap());
        gate.wait_for(1);
        segments.insert(2, value(2, 2_000)).unwrap();
        assert_same(&segments.get(&2).unwrap().unwrap(), &value(2, 2_000));
        assert!(segments.remove(&0).unwrap());
        drop(open);
        long.join().unwrap();
    });
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 20_000));
    assert_eq!(segments.usage().physical, bytes_of_files(&memory));
}

/// The one who comes second writes behind the other, and its file serves the next segment.
#[test]
fn two_writers_that_need_a_file_each_make_one() {
    let (memory, io, segments, gate) = held_at_the_next_file(8_000);
    second_first(&segments, &gate, 4_000);
    assert_eq!(segments.usage().physical, bytes_of_files(&memory));
    let made = io.calls_of(Operation::Create);
    segments.insert(3, value(3, 8_000)).unwrap();
    assert_eq!(io.calls_of(Operation::Create), made, "there was a file");
    segments.insert(4, value(4, 8_000)).unwrap();
    assert_eq!(io.calls_of(Operation::Create), made + 1, "there was one");
    segments.close().unwrap();
    assert!(memory.list(Path::new(PARENT)).unwrap().is_empty());
}

/// Otherwise it would be left behind, where the directory is removed while it is made.
#[test]
fn a_close_waits_for_files_that_are_being_made() {
    let (memory, io, segments, gate) = held_at_the_next_file(3_000);
    let events = Arc::new(Mutex::new(Vec::new()));
    for operation in [Operation::Create, Operation::RemoveDir] {
        let events = Arc::clone(&events);
        let note = Fault::Delay(Arc::new(move |_| events.lock().push(operation)));
        io.inject(Rule::nth(1, note).on(operation));
    }
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let writer = scope.spawn(|| segments.insert(1, value(1, 20_000)));
        gate.wait_for(1);
        let closer = scope.spawn(|| segments.close().unwrap());
        let is_open = || segments.get(&0).is_ok();
        while is_open() {
            thread::yield_now();
        }
        // Time enough for a close that does not wait.
        thread::park_timeout(Duration::from_millis(50));
        drop(open);
        closer.join().unwrap();
        assert!(matches!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::Closed { .. }));
    });
    assert_eq!(*events.lock(), [Operation::Create, Operation::RemoveDir]);
    assert!(memory.list(Path::new(PARENT)).unwrap().is_empty());
    assert_eq!(memory.used(), 0);
}

/// One that could not make a file writes in the one that another made meanwhile.
#[test]
fn who_could_make_no_file_looks_for_that_of_another() {
    let (memory, io, segments, gate) = held_at_the_next_file(8_000);
    // behind the gate, for the same call
    io.inject(Rule::nth(1, Fault::Errno(24)).on(Operation::Create));
    second_first(&segments, &gate, 4_000);
    assert_eq!(segments.usage().physical, bytes_of_files(&memory));
    io.inject(Rule::nth(1, Fault::Errno(24)).on(Operation::Create));
    segments.insert(3, value(3, 20_000)).unwrap_err();
    segments.insert(3, value(3, 20_000)).unwrap();
}

/// While one device takes long over a file, the other gets the next.
#[test]
fn a_directory_that_hangs_over_a_file_is_passed_by() {
    let io = FaultyIo::new(Arc::new(memory()));
    let open = || Workspace::open_with(Arc::new(io.clone()), Some(Path::new(PARENT))).unwrap();
    let config = SegmentsConfig::across(vec![open(), open()]).segment_bytes(SEGMENT).stage_bytes(0);
    let segments = Segments::<u64>::open(config).unwrap();
    second_first(&segments, &gate(&io, Operation::Create), 20_000);
    let files = segment_files(&io);
    let [(one, _), (other, _)] = &files[..] else { panic!("{} files", files.len()) };
    assert_ne!(one.parent(), other.parent());
    drop(segments);
}
