//! S04: what values weigh, held against what an allocator gave for them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use get_size2::GetSize;
use spill_core::{Frames, HeapSize, HeapWeigher, Weigh};

/// Bytes that may differ for each value, whatever its length: the counters of shared memory and the like.
const HEADER: u64 = 64;

/// Asserts that the value of `make` weighs what it takes, itself and on the heap, within a tenth.
#[track_caller]
fn weighs_what_it_holds<V: HeapSize>(make: impl FnOnce() -> V) {
    let mut value = None;
    let taken = allocation_counter::measure(|| value = Some(make()));
    let held = size_of::<V>() as u64 + taken.bytes_current.unsigned_abs();
    let weight = value.map_or(0, |value| HeapWeigher.weigh(&(), &value));
    assert!(
        weight.abs_diff(held) <= held / 10 + HEADER,
        "{} weighs {weight} bytes and holds {held}",
        std::any::type_name::<V>()
    );
}

fn text(n: usize) -> String {
    format!("the {n}th of some lines of text")
}

#[derive(GetSize)]
struct Reading {
    station: String,
    values: Vec<f64>,
    notes: Option<Box<str>>,
}

#[test]
fn flat_values_weigh_what_they_hold() {
    weighs_what_it_holds(|| 7_u64);
    weighs_what_it_holds(String::new);
    weighs_what_it_holds(|| text(1).repeat(100));
    weighs_what_it_holds(|| vec![0.5_f64; 1000]);
    weighs_what_it_holds(|| text(2).repeat(100).into_boxed_str());
    weighs_what_it_holds(|| Bytes::from(vec![1; 4096]));
    weighs_what_it_holds(|| Bytes::from(vec![1; 4096].into_boxed_slice()));
    weighs_what_it_holds(|| Frames::from(Bytes::from(vec![1; 4096])));
    weighs_what_it_holds(|| (0..10).map(|n| Bytes::from(vec![n; 4096])).collect::<Frames>());
    weighs_what_it_holds(|| Arc::<str>::from(text(3).repeat(100)));
    weighs_what_it_holds(|| Arc::<[u32]>::from(vec![1; 1000]));
}

/// What was reserved counts, since it was taken.
#[test]
fn capacity_that_is_not_used_yet_weighs() {
    weighs_what_it_holds(|| {
        let mut values = Vec::with_capacity(10_000);
        values.push(1_u64);
        values
    });
    weighs_what_it_holds(|| {
        let mut line = String::with_capacity(10_000);
        line.push_str("short");
        line
    });
}

#[test]
fn nested_values_weigh_what_they_hold() {
    weighs_what_it_holds(|| (0..100).map(text).collect::<Vec<String>>());
    weighs_what_it_holds(|| (0..100).map(|n| vec![n; 100]).collect::<Vec<Vec<u64>>>());
    weighs_what_it_holds(|| Some(Box::new(vec![1_u8; 5000])));
    weighs_what_it_holds(|| (text(4).repeat(50), vec![1_u16; 2000]));
    weighs_what_it_holds(|| Arc::new((0..100).map(text).collect::<VecDeque<String>>()));
    weighs_what_it_holds(|| {
        let readings = |n: usize| Reading {
            station: text(n),
            values: vec![0.0; 50],
            notes: n.is_multiple_of(2).then(|| text(n).into_boxed_str()),
        };
        Arc::new((0..100).map(readings).collect::<Vec<_>>())
    });
}

#[test]
fn tables_weigh_what_they_hold() {
    weighs_what_it_holds(|| Arc::new((0..1000).map(|n| (n as u64, text(n))).collect::<HashMap<_, _>>()));
    weighs_what_it_holds(|| Arc::new((0..1000).map(|n| (text(n), vec![n; 20])).collect::<HashMap<_, _>>()));
    weighs_what_it_holds(|| Arc::new((0..1000).map(text).collect::<HashSet<_>>()));
    weighs_what_it_holds(|| Arc::new((0..1000).map(|n| (n as u64, text(n))).collect::<BTreeMap<_, _>>()));
}
