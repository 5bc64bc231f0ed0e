//! `Func`: a mapping seen through a pair of functions.
#![expect(clippy::panic, reason = "tests")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;

use spill_core::conformance::{Fault, Faulty, Gate, Memory, Operation, Plan};
use spill_core::{Codec, Error, ErrorKind, Func, MutableMapping, Result};
use support::{is_io, quiet_injected_panics, sorted_keys};

/// How many encoded values are alive, and the most that ever were.
#[derive(Default)]
struct Alive {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Alive {
    fn add(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
    }
}

/// An encoded value that is counted while it lives; a clone is another one.
struct Encoded(String, Arc<Alive>);

impl Encoded {
    fn new(text: String, alive: &Arc<Alive>) -> Self {
        alive.add();
        Encoded(text, Arc::clone(alive))
    }
}

impl Clone for Encoded {
    fn clone(&self) -> Self {
        Encoded::new(self.0.clone(), &self.1)
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        self.1.now.fetch_sub(1, SeqCst);
    }
}

/// Storage that keeps the length of what it is given, so that what it holds is not counted as alive.
struct Lengths(Memory<u64, usize>);

impl MutableMapping<u64, Encoded> for Lengths {
    fn get(&self, _: &u64) -> Result<Option<Encoded>> {
        Ok(None)
    }
    fn insert(&self, key: u64, value: Encoded) -> Result<()> {
        self.0.insert(key, value.0.len())
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        self.0.remove(key)
    }
    fn take(&self, _: &u64) -> Result<Option<Encoded>> {
        Ok(None)
    }
    fn contains_key(&self, key: &u64) -> bool {
        self.0.contains_key(key)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        self.0.for_each_key(f);
    }
}

/// Z01: a batch streams: fewer than three encoded values are alive at any moment, however many there are.
#[test]
fn a_batch_has_fewer_than_three_encoded_values_alive() {
    let alive = Arc::new(Alive::default());
    let counted = Arc::clone(&alive);
    let codec = (
        move |text: &String| -> Result<Encoded> { Ok(Encoded::new(text.clone(), &counted)) },
        |encoded: Encoded| -> Result<String> { Ok(encoded.0.clone()) },
    );
    let func = Func::new(codec, Lengths(Memory::new()));
    let pairs = (0..500).map(|key| (key, "x".repeat(100))).collect();
    let results: Vec<Result<()>> = func.insert_many(pairs);
    assert!(results.len() == 500 && results.iter().all(Result::is_ok));
    assert_eq!(func.len(), 500);
    let most = alive.most.load(SeqCst);
    assert!((1..3).contains(&most), "{most} were alive at once");
    assert_eq!(alive.now.load(SeqCst), 0);
}

/// Doubles on the way in, halves on the way out; refuses what it is told to.
fn doubling() -> impl Codec<u64, u64> {
    (
        |value: &u64| -> Result<u64> {
            match value {
                13 => Err(Error::codec("doubling", "cannot encode 13")),
                14 => panic!("injected"),
                _ => Ok(value * 2),
            }
        },
        |stored: u64| -> Result<u64> {
            if stored.is_multiple_of(2) { Ok(stored / 2) } else { Err(Error::codec("doubling", "odd")) }
        },
    )
}

type Encode = Box<dyn Fn(&u64) -> Result<u64> + Send + Sync>;
type Decode = Box<dyn Fn(u64) -> Result<u64> + Send + Sync>;
type Doubled = Func<u64, u64, u64, (Encode, Decode), Memory<u64, u64>>;

fn is_codec(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Codec { codec: "doubling", .. })
}

/// Z01: values are encoded on the way in and decoded on the way out; keys pass as they are.
#[test]
fn values_pass_through_the_functions() {
    let func = Func::new(doubling(), Memory::<u64, u64>::new());
    func.insert(1, 10).unwrap();
    assert_eq!(func.inner().get(&1).unwrap(), Some(20));
    assert_eq!(func.get(&1).unwrap(), Some(10));
    assert_eq!(func.peek(&1).unwrap(), Some(10));
    let read: Vec<Option<u64>> = func.get_many(&[1, 2]).into_iter().map(Result::unwrap).collect();
    assert_eq!(read, [Some(10), None]);
    assert!(func.contains_key(&1));
    assert_eq!(sorted_keys(&func), [1]);
    assert_eq!(func.take(&1).unwrap(), Some(10));
    assert_eq!(func.take(&1).unwrap(), None);
    assert_eq!(func.len(), 0);
}

/// Z01: errors of the functions and of the mapping below pass through, and change nothing.
#[test]
fn errors_pass_through() {
    let func = Func::new(doubling(), Faulty::new(Memory::<u64, u64>::new()));
    func.insert(1, 10).unwrap();
    assert!(is_codec(&func.insert(1, 13).unwrap_err()));
    assert_eq!(func.get(&1).unwrap(), Some(10), "the old value is intact");
    assert_eq!(func.inner().calls(Operation::Insert), 1, "storage was not asked");

    func.inner().inject(Plan::always(), Fault::io());
    assert!(is_io(&func.insert(2, 1).unwrap_err()));
    assert!(is_io(&func.get(&1).unwrap_err()));
    assert!(is_io(&func.peek(&1).unwrap_err()));
    assert!(is_io(&func.take(&1).unwrap_err()));
    assert!(is_io(&func.remove(&1).unwrap_err()));
    assert!(is_io(&func.flush().unwrap_err()));
    assert!(is_io(&func.close().unwrap_err()));
    func.inner().heal();

    // Of a batch each pair fails or goes by itself.
    let results = func.insert_many(vec![(3, 13), (4, 4)]);
    assert!(is_codec(results[0].as_ref().unwrap_err()) && results[1].is_ok());
    assert_eq!(sorted_keys(&func), [1, 4]);
}

/// A stored value that cannot be decoded stays where it is, also when it should be taken.
#[test]
fn what_cannot_be_decoded_stays() {
    let func = Func::new(doubling(), Memory::<u64, u64>::new());
    func.inner().insert(1, 7).unwrap();
    assert!(is_codec(&func.get(&1).unwrap_err()));
    assert!(is_codec(&func.peek(&1).unwrap_err()));
    assert!(is_codec(&func.take(&1).unwrap_err()));
    assert!(is_codec(func.get_many(&[1])[0].as_ref().unwrap_err()));
    assert!(func.contains_key(&1));
    assert!(func.remove(&1).unwrap(), "it can be removed, since that reads nothing");
    assert_eq!(func.len(), 0);
}

/// Z01: no lock is held: while one thread is inside a function, others use the mapping, that key included; and
/// the function itself may use it.
#[test]
fn no_lock_is_held() {
    let gate = Gate::closed();
    let (encoding, decoding) = (gate.clone(), gate.clone());
    let shared: Arc<OnceLock<Doubled>> = Arc::default();
    let within = Arc::clone(&shared);
    let encode: Encode = Box::new(move |value| {
        if *value == 100 {
            encoding.pass();
            assert_eq!(within.get().map(|func| func.len()), Some(1), "used from within");
        }
        Ok(value * 2)
    });
    let decode: Decode = Box::new(move |stored| {
        if stored == 202 {
            decoding.pass();
        }
        Ok(stored / 2)
    });
    let func = shared.get_or_init(|| Func::new((encode, decode), Memory::new()));
    func.inner().insert(1, 202).unwrap();
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let inserting = scope.spawn(|| func.insert(2, 100));
        let getting = scope.spawn(|| func.get(&1));
        gate.wait_for(2);
        assert!(!func.contains_key(&2), "what is being encoded is not in");
        func.inner().remove(&1).unwrap();
        func.insert(3, 5).unwrap();
        assert_eq!(func.get(&3).unwrap(), Some(5));
        assert!(func.remove(&3).unwrap());
        func.insert(1, 6).unwrap();
        drop(open);
        inserting.join().unwrap().unwrap();
        assert_eq!(getting.join().unwrap().unwrap(), Some(101), "what it had read");
    });
    assert_eq!(sorted_keys(func), [1, 2]);
}

/// A panic of a function passes on, and changes nothing; nothing is left locked.
#[test]
fn a_panic_of_a_function_changes_nothing() {
    quiet_injected_panics();
    let func = Func::new(doubling(), Memory::<u64, u64>::new());
    func.insert(1, 10).unwrap();
    let panics = std::panic::AssertUnwindSafe(|| func.insert(1, 14));
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(func.get(&1).unwrap(), Some(10));
    func.insert(1, 11).unwrap();
    assert_eq!(func.get(&1).unwrap(), Some(11));
}

/// Removing and asking what is there run neither function.
#[test]
fn removal_and_presence_run_no_function() {
    let runs = Arc::new(AtomicUsize::new(0));
    let (encodes, decodes) = (Arc::clone(&runs), Arc::clone(&runs));
    let codec = (
        move |value: &u64| -> Result<u64> {
            encodes.fetch_add(1, SeqCst);
            Ok(*value)
        },
        move |stored: u64| -> Result<u64> {
            decodes.fetch_add(1, SeqCst);
            Ok(stored)
        },
    );
    let func = Func::new(codec, Memory::<u64, u64>::new());
    func.insert_many((0..10).map(|key| (key, key)).collect());
    assert_eq!(runs.swap(0, SeqCst), 10);
    assert!(func.remove(&1).unwrap());
    func.remove_many(&[2, 3]);
    assert!(func.contains_key(&4));
    assert_eq!((func.len(), func.usage().count), (7, 7));
    func.stored_size(&4);
    assert_eq!(sorted_keys(&func), [0, 4, 5, 6, 7, 8, 9]);
    func.flush().unwrap();
    func.clear().unwrap();
    assert_eq!(runs.load(SeqCst), 0);
    assert_eq!(func.len(), 0);
}
