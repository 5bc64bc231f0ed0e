//! What `Archive` and `Rkyv` promise. `cargo xtask test` runs this file once more under AddressSanitizer or
//! valgrind, since it reaches the unsafe code.
#![cfg(feature = "rkyv")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use spill_codec::{Archive, Rkyv};
use spill_core::{Codec, ErrorKind, FRAME_ALIGN, Frames, GetSize, Pool, Result};

#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Line { from: (i32, i32), to: (i32, i32) },
    Named(String, Option<char>, bool),
}

/// Every kind of pointer that rkyv has: to slices, text, boxes, shared values and tables.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Drawing {
    id: u128,
    shapes: Vec<Shape>,
    tags: BTreeMap<String, u16>,
    counts: HashMap<u32, Box<str>, BuildHasherDefault<DefaultHasher>>,
    shared: (Arc<String>, Arc<String>),
}

fn drawings() -> impl Strategy<Value = Drawing> {
    let shape = prop_oneof![
        Just(Shape::Empty),
        any::<f64>().prop_map(Shape::Circle),
        any::<((i32, i32), (i32, i32))>().prop_map(|(from, to)| Shape::Line { from, to }),
        any::<(String, Option<char>, bool)>().prop_map(|(name, mark, on)| Shape::Named(name, mark, on)),
    ];
    let tags = btree_map(any::<String>(), any::<u16>(), 0..20);
    let counts = btree_map(any::<u32>(), any::<String>(), 0..20);
    (any::<u128>(), vec(shape, 0..20), tags, counts, any::<String>()).prop_map(
        |(id, shapes, tags, counts, shared)| {
            let shared = Arc::new(shared);
            let counts = counts.into_iter().map(|(count, name)| (count, name.into())).collect();
            Drawing { id, shapes, tags, counts, shared: (Arc::clone(&shared), shared) }
        },
    )
}

fn owned(archive: &Archive<Drawing>) -> Drawing {
    rkyv::deserialize::<_, rkyv::rancor::Error>(archive.get()).unwrap()
}

/// Reads all that a view can reach. Whatever it finds, it must lie in the bytes and be a value of its type.
fn read_everything(archive: &Archive<Drawing>) -> Drawing {
    let view = archive.get();
    for (tag, _) in view.tags.iter() {
        view.tags.get(tag.as_str());
    }
    for count in view.counts.keys() {
        view.counts.get(count);
    }
    owned(archive)
}

fn decode(bytes: impl Into<Bytes>) -> Result<Archive<Drawing>> {
    Rkyv.decode(Frames::from(bytes.into()))
}

/// The message of an error, which must be one of the codec.
#[track_caller]
fn refusal<T: Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Codec { codec: "rkyv", .. }), "{error}");
    error.to_string()
}

/// `bytes` in memory at an address that is `offset` beyond a multiple of the frames' alignment.
fn placed(bytes: &[u8], offset: usize) -> Bytes {
    let mut memory = Pool::new(0).take(offset + bytes.len(), 0);
    memory[offset..].copy_from_slice(bytes);
    memory.freeze().slice(offset..)
}

#[test]
fn an_archive_is_stored_and_read_back_without_a_copy() {
    let archive = Archive::new(&vec!["one".to_owned(), "two".to_owned()]).unwrap();
    let frames = Rkyv.encode(&archive).unwrap();
    assert_eq!(frames.as_slice()[0].as_ptr(), archive.as_bytes().as_ptr());

    let read: Bytes = placed(&frames.into_single().unwrap(), 0);
    let back: Archive<Vec<String>> = Rkyv.decode(read.clone().into()).unwrap();
    assert_eq!(back.as_bytes().as_ptr(), read.as_ptr());
    let view = back.get().as_slice().as_ptr().addr();
    assert!(read.as_ptr_range().contains(&std::ptr::without_provenance(view)), "the value lies in the frame");
    assert_eq!(back.get()[1], "two");
}

#[test]
fn a_clone_is_the_same_bytes_and_outlives_the_first() {
    let first = Archive::new(&"a text that is too long to lie inline".to_owned()).unwrap();
    let address = first.as_bytes().as_ptr();
    let second = first.clone();
    drop(first);
    assert_eq!(second.as_bytes().as_ptr(), address);
    assert_eq!(second.get(), "a text that is too long to lie inline");
}

#[test]
fn it_crosses_threads() {
    let archive = Archive::new(&vec![1_u64, 2, 3]).unwrap();
    let sum = std::thread::scope(|scope| {
        scope.spawn(|| archive.get().iter().map(|n| n.to_native()).sum::<u64>()).join().unwrap()
    });
    assert_eq!(sum, 6);
}

#[test]
fn it_weighs_the_bytes_that_it_holds() {
    let archive = Archive::new(&vec![7_u64; 1000]).unwrap();
    assert_eq!(archive.get_heap_size(), 8008);
    let owner: Vec<u8> = archive.as_bytes().clone().try_into_mut().map(Into::into).unwrap_or_default();
    assert!(owner.is_empty(), "the archive still holds its bytes");
    let bytes = archive.as_bytes().clone();
    drop(archive);
    let owner: Vec<u8> = bytes.try_into_mut().unwrap().into();
    assert_eq!(owner.capacity(), owner.len(), "room taken while it was written is given back");
}

#[test]
fn values_without_content_are_archives_too() {
    let unit = Archive::new(&()).unwrap();
    assert!(unit.as_bytes().is_empty());
    let back: Archive<()> = Rkyv.decode(Rkyv.encode(&unit).unwrap()).unwrap();
    assert_eq!(back.get(), &());
    let none = Archive::new(&Vec::<u64>::new()).unwrap();
    assert!(none.get().is_empty());
}

#[test]
fn bytes_are_copied_only_where_the_value_cannot_be_read_in_place() {
    let archive = Archive::new(&vec![1.5_f64, 2.5]).unwrap();
    for offset in 0..2 * FRAME_ALIGN {
        let bytes = placed(archive.as_bytes(), offset);
        let back = Archive::<Vec<f64>>::from_bytes(bytes.clone()).unwrap();
        assert_eq!(back.get().as_slice(), [1.5, 2.5], "offset {offset}");
        let in_place = back.as_bytes().as_ptr() == bytes.as_ptr();
        assert_eq!(in_place, offset.is_multiple_of(8), "offset {offset}");
        assert!(in_place || back.as_bytes().as_ptr().addr().is_multiple_of(FRAME_ALIGN));
    }
    // What needs no alignment is never copied.
    let text = Archive::new(b"bytes").unwrap();
    let bytes = placed(text.as_bytes(), 3);
    assert_eq!(Archive::<[u8; 5]>::from_bytes(bytes.clone()).unwrap().as_bytes().as_ptr(), bytes.as_ptr());
}

/// As many bytes of alignment as rkyv's own type for it needs; what the derive gives is too small to show it.
#[derive(Clone, Copy, rkyv::Portable, rkyv::bytecheck::CheckBytes)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C, align(64))]
struct Wide([u8; 64]);

/// Twice as many as frames have.
#[derive(Clone, Copy, rkyv::Portable, rkyv::bytecheck::CheckBytes)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C, align(128))]
struct TooWide([u8; 128]);

macro_rules! archived_as_itself {
    ($($type:ident)*) => {$(
        impl rkyv::Archive for $type {
            type Archived = $type;
            type Resolver = ();
            fn resolve(&self, (): (), out: rkyv::Place<Self>) {
                rkyv::munge::munge!(let $type(bytes) = out);
                self.0.resolve([(); _], bytes);
            }
        }
        impl<S: rkyv::rancor::Fallible + ?Sized> rkyv::Serialize<S> for $type {
            fn serialize(&self, _: &mut S) -> Result<(), S::Error> {
                Ok(())
            }
        }
    )*};
}
archived_as_itself!(Wide TooWide);

#[test]
fn up_to_the_alignment_of_frames_is_served_and_more_is_refused_at_once() {
    for offset in 0..FRAME_ALIGN {
        let bytes = placed(&[7; 64], offset);
        let archive = Archive::<Wide>::from_bytes(bytes).unwrap();
        assert!(std::ptr::from_ref(archive.get()).addr().is_multiple_of(64));
        assert_eq!(archive.get().0, [7; 64]);
    }
    assert_eq!(Archive::new(&Wide([1; 64])).unwrap().get().0, [1; 64]);

    // Of the places it may be given, at least one of two neighbours is none for it.
    let memory = placed(&[7; 256], 0);
    let results = [0, 64].map(|at| Archive::<TooWide>::from_bytes(memory.slice(at..at + 128)));
    let refused: Vec<String> = results.into_iter().filter(Result::is_err).map(refusal).collect();
    assert!(refused[0].contains("unaligned"), "{}", refused[0]);
}

#[test]
fn a_value_of_other_than_one_frame_is_refused_with_the_count() {
    for (frames, count) in [(Frames::from(vec![]), 0), (vec![Bytes::new(); 3].into(), 3)] {
        let refusal = refusal::<Archive<Drawing>>(Rkyv.decode(frames));
        assert!(refusal.contains(&format!("expected 1 frame, found {count}")), "{refusal}");
    }
}

#[test]
fn a_refusal_names_the_type_the_length_and_what_is_wrong() {
    let refusal = refusal(decode(vec![0xff; 10]));
    assert!(refusal.contains("10 bytes") && refusal.contains("archive::Drawing"), "{refusal}");
    assert!(refusal.contains("overran"), "{refusal}");
}

/// A list of boxes, which nests as deep as it is long.
#[derive(rkyv::Archive, rkyv::Serialize)]
#[rkyv(
    serialize_bounds(__S: rkyv::ser::Writer),
    bytecheck(bounds(__C: rkyv::validation::ArchiveContext + rkyv::rancor::Fallible<Error: rkyv::rancor::Source>))
)]
struct List(#[rkyv(omit_bounds)] Option<Box<List>>);

impl List {
    fn nested(depth: usize) -> Self {
        (0..depth).fold(List(None), |list, _| List(Some(Box::new(list))))
    }
}

/// The bytes of a list without asking whether they will be read back.
fn written(list: &List) -> Bytes {
    rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(list, Vec::new()).unwrap().into()
}

#[test]
fn nesting_has_a_limit_that_is_told_when_the_archive_is_made() {
    let depth = |archive: &Archive<List>| {
        std::iter::successors(Some(archive.get()), |list| list.0.as_deref()).count() - 1
    };
    let deepest = List::nested(Archive::<List>::MAX_DEPTH);
    assert_eq!(depth(&Archive::new(&deepest).unwrap()), 128);
    assert_eq!(depth(&Archive::from_bytes(written(&deepest)).unwrap()), 128);
    let refusal = refusal(Archive::new(&List::nested(129)));
    assert!(refusal.contains("depth"), "{refusal}");
}

#[test]
fn bytes_that_nest_without_end_do_not_exhaust_the_stack() {
    // Each entry says: there is a box, and it is the eight bytes before this one.
    let entry = {
        let bytes = written(&List::nested(2));
        bytes.slice(bytes.len() - 8..)
    };
    let bytes = Bytes::from(entry.repeat(1 << 17));
    assert!(refusal(Archive::<List>::from_bytes(bytes)).contains("depth"));
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(6), ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back_as_it_was(drawing in drawings(), offset in 0..FRAME_ALIGN) {
        let archive = Archive::new(&drawing).unwrap();
        prop_assert_eq!(&read_everything(&archive), &drawing);
        let stored = Rkyv.encode(&archive).unwrap().into_single().unwrap();
        prop_assert_eq!(&read_everything(&decode(placed(&stored, offset)).unwrap()), &drawing);
    }

    #[test]
    fn any_bytes_give_a_readable_value_or_a_typed_error(
        bytes in vec(prop_oneof![2 => Just(0), 1 => any::<u8>()], 0..400),
        offset in 0..FRAME_ALIGN,
    ) {
        match decode(placed(&bytes, offset)) {
            Ok(archive) => drop(read_everything(&archive)),
            Err(error) => drop(refusal::<()>(Err(error))),
        }
    }

    #[test]
    fn damaged_values_give_a_readable_value_or_a_typed_error(
        drawing in drawings(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop_oneof![3 => Just(0), 1 => 1_usize..64],
    ) {
        let mut bytes = Archive::new(&drawing).unwrap().as_bytes().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let kept = bytes.len().saturating_sub(cut);
        match decode(placed(&bytes[..kept], 0)) {
            Ok(archive) => drop(read_everything(&archive)),
            Err(error) => drop(refusal::<()>(Err(error))),
        }
    }
}
