//! What `Arrow` promises.
#![cfg(feature = "arrow")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryViewBuilder, FixedSizeListBuilder, Int32Builder, ListBuilder, MapBuilder, StringBuilder,
    StringDictionaryBuilder, StringViewBuilder,
};
use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float64Array,
    Int32Array, Int64Array, LargeListArray, ListViewArray, NullArray, RecordBatch, RecordBatchOptions,
    RunArray, StringArray, StructArray, TimestampMicrosecondArray, UnionArray,
};
use arrow_buffer::ScalarBuffer;
use arrow_ipc::reader::StreamReader;
use arrow_schema::{DataType, Field, Schema, UnionFields};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use spill_codec::Arrow;
use spill_core::{Codec, ErrorKind, FRAME_ALIGN, Frames, Pool, Weigh};

const ROWS: usize = 40;

/// A column of each kind there is, nulls included.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    let text = |n: usize| (!n.is_multiple_of(3)).then(|| format!("text number {n} that is not short"));
    let numbers = || Int32Array::from_iter((0..ROWS as i32).map(|n| (n % 5 != 0).then_some(n)));
    let mut list = ListBuilder::new(Int32Builder::new());
    let mut fixed = FixedSizeListBuilder::new(Int32Builder::new(), 2);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    let mut words = StringDictionaryBuilder::<Int8Type>::new();
    let mut nested = ListBuilder::new(StringDictionaryBuilder::<Int32Type>::new());
    let (mut views, mut blobs) = (StringViewBuilder::new(), BinaryViewBuilder::new());
    for n in 0..ROWS {
        list.append_option((n % 4 > 0).then(|| (0..n as i32 % 7).map(Some)));
        fixed.values().append_option((n % 2 == 0).then_some(1));
        fixed.values().append_value(2);
        fixed.append(n % 5 > 0);
        map.keys().append_value(format!("key {n}"));
        map.values().append_option((n % 2 == 0).then_some(n as i32));
        map.append(n % 6 > 0).unwrap();
        words.append_option((n % 4 > 0).then(|| ["one", "two", "three"][n % 3]));
        nested.values().append_value(["red", "green"][n % 2]);
        nested.append(true);
        views.append_option(text(n));
        blobs.append_value([n as u8; 20]);
    }
    let ends = Int32Array::from(vec![7, 25, ROWS as i32]);
    let runs = RunArray::<Int32Type>::try_new(&ends, &StringArray::from(vec!["a", "b", "c"])).unwrap();
    let kinds = ScalarBuffer::from_iter((0..ROWS).map(|n| (n % 2) as i8));
    let fields = || {
        let [a, b] =
            [Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)].map(Arc::new);
        UnionFields::from_iter([(0, a), (1, b)])
    };
    let texts = || StringArray::from_iter((0..ROWS).map(text));
    let sparse = vec![Arc::new(numbers()) as ArrayRef, Arc::new(texts())];
    let sparse = UnionArray::try_new(fields(), kinds.clone(), None, sparse).unwrap();
    let offsets = ScalarBuffer::from_iter((0..ROWS as i32).map(|n| n / 2));
    let dense = vec![Arc::new(numbers()) as ArrayRef, Arc::new(texts())];
    let dense = UnionArray::try_new(fields(), kinds, Some(offsets), dense).unwrap();
    let inner = vec![
        (Arc::new(Field::new("n", DataType::Int32, true)), Arc::new(numbers()) as ArrayRef),
        (Arc::new(Field::new("t", DataType::Utf8, true)), Arc::new(texts()) as ArrayRef),
    ];
    let large = LargeListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..ROWS).map(|n| (n % 3 > 0).then(|| vec![Some(1), None])),
    );
    let item = Arc::new(Field::new_list_field(DataType::Int32, true));
    let starts = ScalarBuffer::from_iter((0..ROWS as i32).rev());
    let sizes = ScalarBuffer::from(vec![1; ROWS]);
    let list_views = ListViewArray::try_new(item, starts, sizes, Arc::new(numbers()), None).unwrap();
    let fixed_bytes = FixedSizeBinaryArray::try_from_iter((0..ROWS).map(|n| [n as u8; 5])).unwrap();
    vec![
        ("bool", Arc::new(BooleanArray::from_iter((0..ROWS).map(|n| (n % 3 > 0).then_some(n % 2 == 0))))),
        ("i32", Arc::new(numbers())),
        ("i64", Arc::new(Int64Array::from_iter_values(0..ROWS as i64))),
        ("f64", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|n| n as f64 / 3.0)))),
        ("decimal", Arc::new(Decimal128Array::from_iter_values(0..ROWS as i128))),
        ("time", Arc::new(TimestampMicrosecondArray::from_iter_values(0..ROWS as i64).with_timezone("UTC"))),
        ("utf8", Arc::new(texts())),
        ("fixed_bytes", Arc::new(fixed_bytes)),
        ("views", Arc::new(views.finish())),
        ("blobs", Arc::new(blobs.finish())),
        ("null", Arc::new(NullArray::new(ROWS))),
        ("list", Arc::new(list.finish())),
        ("large_list", Arc::new(large)),
        ("list_view", Arc::new(list_views)),
        ("fixed_list", Arc::new(fixed.finish())),
        ("map", Arc::new(map.finish())),
        ("struct", Arc::new(StructArray::from(inner))),
        ("words", Arc::new(words.finish())),
        ("nested_words", Arc::new(nested.finish())),
        ("runs", Arc::new(runs)),
        ("sparse", Arc::new(sparse)),
        ("dense", Arc::new(dense)),
    ]
}

fn every_type() -> RecordBatch {
    let columns = columns().into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn round_trip(batch: &RecordBatch) -> RecordBatch {
    Arrow.decode(Arrow.encode(batch).unwrap()).unwrap()
}

/// The frames as storage gives them: each in memory of its own, on the frames' alignment.
fn stored(frames: &Frames) -> Frames {
    let copy = |frame: &Bytes| {
        let mut memory = Pool::new(0).take(frame.len(), 0);
        memory.copy_from_slice(frame);
        memory.freeze()
    };
    frames.iter().map(copy).collect()
}

#[test]
fn every_type_comes_back_as_it_was() {
    let batch = every_type();
    assert_eq!(round_trip(&batch), batch);
    let stored = stored(&Arrow.encode(&batch).unwrap());
    assert_eq!(Arrow.decode(stored).unwrap(), batch);
}

#[test]
fn slices_come_back_and_only_their_part_is_stored() {
    let batch = every_type();
    for (offset, len) in [(0, 0), (0, 1), (1, 7), (8, 8), (13, 20), (ROWS - 1, 1), (ROWS, 0)] {
        let slice = batch.slice(offset, len);
        assert_eq!(round_trip(&slice), slice, "{len} rows from {offset} on");
    }
    let numbers = Int64Array::from_iter_values(0..1_000_000);
    let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef)]).unwrap();
    let frames = Arrow.encode(&batch.slice(500_000, 100)).unwrap();
    assert_eq!(frames.as_slice()[1].len(), 800);
}

#[test]
fn the_schema_comes_back_with_names_nullability_and_metadata() {
    let note = |text: &str| HashMap::from([("note".to_owned(), text.to_owned())]);
    let field = Field::new("n", DataType::Int32, false).with_metadata(note("of the field"));
    let schema = Arc::new(Schema::new_with_metadata(vec![field], note("of the schema")));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![1]))]).unwrap();
    assert_eq!(round_trip(&batch).schema(), batch.schema());
}

#[test]
fn batches_without_columns_or_rows_come_back() {
    let options = RecordBatchOptions::new().with_row_count(Some(7));
    let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    assert_eq!(round_trip(&none).num_rows(), 7);
    let empty = RecordBatch::new_empty(every_type().schema());
    assert_eq!(round_trip(&empty), empty);
}

#[test]
fn buffers_are_frames_and_are_copied_neither_way() {
    let numbers = Float64Array::from_iter_values((0..10_000).map(f64::from));
    let text = StringArray::from_iter_values((0..10_000).map(|n| n.to_string()));
    let memory = [numbers.values().inner().as_ptr(), text.value_data().as_ptr()];
    let columns = [("n", Arc::new(numbers) as ArrayRef), ("t", Arc::new(text))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let frames = Arrow.encode(&batch).unwrap();
    let places: Vec<_> = frames.iter().map(|frame| frame.as_ptr()).collect();
    assert_eq!(places.len(), 4, "messages, numbers, offsets, text");
    assert_eq!([places[1], places[3]], memory, "frames share the arrays' memory");

    let read = stored(&frames);
    let places: Vec<_> = read.iter().map(|frame| frame.as_ptr()).collect();
    let back = Arrow.decode(read).unwrap();
    let found: Vec<_> = back
        .columns()
        .iter()
        .flat_map(|column| {
            column.to_data().buffers().iter().map(|buffer| buffer.as_ptr()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(found, places[1..], "arrays lie in the frames that were read");
}

#[test]
fn frames_that_are_not_aligned_are_read_all_the_same() {
    let batch = every_type();
    for shift in [1, 4, 8] {
        let shifted: Frames = Arrow
            .encode(&batch)
            .unwrap()
            .iter()
            .map(|frame| {
                let mut memory = Pool::new(0).take(frame.len() + shift, 0);
                memory[shift..].copy_from_slice(frame);
                memory.freeze().slice(shift..)
            })
            .collect();
        assert_eq!(Arrow.decode(shifted).unwrap(), batch, "shifted by {shift}");
    }
    assert_eq!(FRAME_ALIGN % 16, 0);
}

#[test]
fn with_padding_between_them_the_frames_are_an_ipc_stream() {
    // No dictionaries, whose buffers stand between the messages of a stream.
    let columns = columns().into_iter().filter(|(name, _)| !name.ends_with("words"));
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    let frames = Arrow.encode(&batch).unwrap();
    let mut stream = Vec::new();
    for frame in &frames {
        stream.extend_from_slice(frame);
        if stream.len() > frames.as_slice()[0].len() {
            let body = stream.len() - frames.as_slice()[0].len();
            stream.resize(stream.len() + body.next_multiple_of(64) - body, 0);
        }
    }
    stream.extend([0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
    let read: Vec<_> = StreamReader::try_new(&stream[..], None).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, [batch]);
}

#[test]
fn a_batch_weighs_the_memory_its_buffers_lie_in_and_shared_memory_once() {
    let numbers = Arc::new(Int64Array::from_iter_values(0..100_000)) as ArrayRef;
    let batch = |columns: &[&'static str]| {
        RecordBatch::try_from_iter(columns.iter().map(|name| (*name, Arc::clone(&numbers)))).unwrap()
    };
    let weight = Arrow.weigh(&1, &batch(&["a"]));
    assert!((800_000..900_000).contains(&weight), "{weight}");
    assert_eq!(Arrow.weigh(&1, &batch(&["a", "b"])), weight, "the same numbers twice");
    assert_eq!(Arrow.weigh(&1, &batch(&["a"]).slice(5, 10)), weight, "a slice keeps all of it alive");
    let read = Arrow.decode(stored(&Arrow.encode(&every_type()).unwrap())).unwrap();
    let frames = Arrow.encode(&read).unwrap().as_slice()[1..].iter().map(|frame| frame.len() as u64).sum();
    let weight = Arrow.weigh(&1, &read);
    assert!((frames..frames + 1000).contains(&weight), "{weight} for frames of {frames}");
}

#[test]
fn a_dictionary_of_a_dictionary_is_refused_when_it_is_encoded() {
    let inner: DictionaryArray<Int8Type> = ["a", "b"].into_iter().collect();
    let outer = DictionaryArray::<Int8Type>::try_new(vec![0, 1].into(), Arc::new(inner)).unwrap();
    let batch = RecordBatch::try_from_iter([("d", Arc::new(outer) as ArrayRef)]).unwrap();
    let error = Arrow.encode(&batch).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Codec { codec: "arrow", .. }), "{error}");
}

fn refusal(frames: Frames) -> String {
    let error = Arrow.decode(frames).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Codec { codec: "arrow", .. }), "{error}");
    error.to_string()
}

#[test]
fn lost_exchanged_and_cut_frames_are_refused() {
    let frames = Arrow.encode(&every_type()).unwrap().as_slice().to_vec();
    refusal(vec![].into());
    for n in 0..frames.len() {
        let mut lost = frames.clone();
        lost.remove(n);
        refusal(lost.into());
        let mut cut = frames.clone();
        let len = cut[n].len();
        cut[n].truncate(len - 1);
        refusal(cut.into());
        let mut twice = frames.clone();
        twice.insert(n, frames[n].clone());
        refusal(twice.into());
    }
    let mut more = frames.clone();
    more.push(Bytes::from_static(b"more"));
    assert!(refusal(more.into()).contains("left over"));
}

#[test]
fn offsets_keys_and_text_out_of_bounds_are_refused() {
    let texts = StringArray::from(vec!["one", "two"]);
    let words: DictionaryArray<Int8Type> = ["a", "b"].into_iter().collect();
    let columns = [("t", Arc::new(texts) as ArrayRef), ("w", Arc::new(words) as ArrayRef)];
    let frames = Arrow.encode(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    // messages; offsets and text of the dictionary; offsets and text; keys
    assert_eq!(frames.as_slice().len(), 6);
    for (frame, byte, value) in [(3, 8, 7), (3, 4, 0xFF), (4, 1, 0xFF), (5, 1, 2), (1, 8, 100)] {
        let mut bad: Vec<Vec<u8>> = frames.iter().map(|frame| frame.to_vec()).collect();
        bad[frame][byte] = value;
        refusal(bad.into_iter().map(Bytes::from).collect());
    }
}

#[test]
fn a_message_whose_parts_refer_to_one_another_again_and_again_is_refused() {
    // What a table of flatbuffers says, over and over: the number of tables is bounded by the bytes.
    let frames = Arrow.encode(&every_type()).unwrap();
    let messages = &frames.as_slice()[0];
    for at in (8..messages.len() - 4).step_by(4) {
        let mut bad = messages.to_vec();
        bad[at..at + 4].copy_from_slice(&4_u32.to_le_bytes());
        let mut list = frames.as_slice().to_vec();
        list[0] = bad.into();
        _ = Arrow.decode(list.into());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(8), ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_a_batch_or_a_typed_error(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4),
    ) {
        _ = Arrow.decode(frames.into_iter().map(Bytes::from).collect());
    }

    #[test]
    fn damaged_frames_give_a_sound_batch_or_a_typed_error(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        messages in any::<bool>(),
    ) {
        let frames = Arrow.encode(&every_type()).unwrap();
        let mut bad: Vec<Vec<u8>> = frames.iter().map(|frame| frame.to_vec()).collect();
        for (at, byte) in damage {
            let frame = if messages { 0 } else { at.index(bad.len()) };
            let at = at.index(bad[frame].len());
            bad[frame][at] ^= byte;
        }
        if let Ok(batch) = Arrow.decode(bad.into_iter().map(Bytes::from).collect()) {
            for column in batch.columns() {
                column.to_data().validate_full().unwrap();
                prop_assert_eq!(column.len(), batch.num_rows());
            }
        }
    }
}
