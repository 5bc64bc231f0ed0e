//! Which bucket a word belongs to.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

/// Buckets of the index. Fewer make a lookup read more that it does not want; more make the last parts of all
/// of them outgrow a small target.
pub(crate) const BUCKETS: u16 = 512;

/// The hash of a word, the same in every run.
pub(crate) fn hash(word: &str) -> u64 {
    FixedState::with_seed(0).hash_one(word)
}

/// The bucket of the words with this hash. It takes bits that hash tables make no use of.
pub(crate) fn of_hash(hash: u64) -> u16 {
    ((hash >> 40) % u64::from(BUCKETS)) as u16
}

/// The bucket of a word.
pub(crate) fn of(word: &str) -> u16 {
    of_hash(hash(word))
}
