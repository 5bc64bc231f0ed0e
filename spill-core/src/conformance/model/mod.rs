//! What a mapping must answer, and which keys must be in fast memory.
//!
//! Both models take [`Op`]s, in which keys and values are numbers, so that a failing sequence can be read and
//! shrunk. [`Reference`] makes the calls and compares every answer with a plain map; [`ModelLru`] only
//! predicts the order of a buffer that spills in the caller.

mod lru;
mod reference;

pub use lru::ModelLru;
pub use reference::{Mismatch, Reference};

use super::Samples;
use super::samples::next_noise;
use crate::{Key, MutableMapping, Result, Value};

/// One call of a mapping. Keys and values are the numbers of [`Samples`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// [`MutableMapping::get`]
    Get(u64),
    /// [`MutableMapping::peek`]
    Peek(u64),
    /// [`MutableMapping::insert`] of a key and a value.
    Insert(u64, u64),
    /// [`MutableMapping::remove`]
    Remove(u64),
    /// [`MutableMapping::take`]
    Take(u64),
    /// [`MutableMapping::contains_key`]
    ContainsKey(u64),
    /// [`MutableMapping::len`], and the count of [`MutableMapping::usage`].
    Len,
    /// [`MutableMapping::for_each_key`]
    Keys,
    /// [`MutableMapping::get_many`]
    GetMany(Vec<u64>),
    /// [`MutableMapping::insert_many`]
    InsertMany(Vec<(u64, u64)>),
    /// [`MutableMapping::remove_many`]
    RemoveMany(Vec<u64>),
    /// [`MutableMapping::clear`]
    Clear,
    /// [`MutableMapping::flush`]
    Flush,
}

/// `count` calls on the keys `0..keys`, the same for the same seed. Reads and inserts are most of them; no
/// two inserts give the same value.
#[must_use]
pub fn ops(seed: u64, count: usize, keys: u64) -> Vec<Op> {
    let mut state = seed;
    let mut below = move |n: u64| {
        state = next_noise(state);
        // The high bits are the better ones.
        (state >> 16).checked_rem(n).unwrap_or(0)
    };
    let mut value = 0;
    let mut fresh = move || {
        value += 1;
        value
    };
    (0..count)
        .map(|_| match below(100) {
            0..25 => Op::Get(below(keys)),
            25..30 => Op::Peek(below(keys)),
            30..60 => Op::Insert(below(keys), fresh()),
            60..68 => Op::Remove(below(keys)),
            68..76 => Op::Take(below(keys)),
            76..80 => Op::ContainsKey(below(keys)),
            80..84 => Op::Len,
            84..86 => Op::Keys,
            86..90 => Op::GetMany((0..below(6)).map(|_| below(keys)).collect()),
            90..94 => Op::InsertMany((0..below(6)).map(|_| (below(keys), fresh())).collect()),
            94..97 => Op::RemoveMany((0..below(4)).map(|_| below(keys)).collect()),
            97..99 => Op::Flush,
            _ => Op::Clear,
        })
        .collect()
}

/// Makes all calls on an empty mapping, compares every answer, and at last everything that is held.
///
/// # Errors
/// At the first answer that the model does not allow. Errors of the mapping are allowed where they changed
/// nothing.
pub fn run<K: Key, V: Value>(
    ops: &[Op],
    mapping: &dyn MutableMapping<K, V>,
    samples: &dyn Samples<K, V>,
) -> Result<(), Mismatch> {
    let mut reference = Reference::new(samples);
    ops.iter().try_for_each(|op| reference.step(op, mapping))?;
    reference.agrees(mapping)
}
