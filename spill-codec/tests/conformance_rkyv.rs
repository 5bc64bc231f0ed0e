//! The shared suite over a mapping of archives.
#![cfg(feature = "rkyv")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use spill_codec::{Archive, Rkyv};
use spill_core::conformance::{Memory, SampleValue, Samples};
use spill_core::{Frames, Func, conformance_tests};

type Chain = Func<u64, Archive<Note>, Frames, Rkyv, Memory<u64, Frames>>;

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Note {
    number: u64,
    text: Option<String>,
    content: Vec<u8>,
}

impl Note {
    fn archive(number: u64, content: Vec<u8>) -> Archive<Note> {
        let text = number.is_multiple_of(3).then(|| format!("note {number}, long enough to be kept apart"));
        Archive::new(&Note { number, text, content }).unwrap()
    }
}

struct Notes;

impl Samples<u64, Archive<Note>> for Notes {
    fn key(&self, n: u64) -> u64 {
        n
    }
    fn value(&self, n: u64) -> Archive<Note> {
        Note::archive(n, Vec::sample(n))
    }
    fn number(&self, value: &Archive<Note>) -> Option<u64> {
        let n = value.get().number.to_native();
        self.same(value, &self.value(n)).then_some(n)
    }
    fn same(&self, a: &Archive<Note>, b: &Archive<Note>) -> bool {
        a.as_bytes() == b.as_bytes()
    }
    fn value_of_len(&self, n: u64, len: usize) -> Archive<Note> {
        Note::archive(n, Vec::of_len(n, len))
    }
    fn odd_values(&self) -> Vec<Archive<Note>> {
        Vec::odd().into_iter().map(|content| Note::archive(0, content)).collect()
    }
}

fn archives() -> Chain {
    Func::new(Rkyv, Memory::new())
}

conformance_tests!(of_archives, archives, Notes);
