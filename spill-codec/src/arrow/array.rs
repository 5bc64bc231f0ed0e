//! Arrays over frames, each column from the next nodes, buffers and frames.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, UnionArray, make_array};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_data::{ArrayData, BufferSpec, layout};
use arrow_ipc as ipc;
use arrow_schema::{DataType, Field, UnionFields, UnionMode};
use bytes::Bytes;
use flatbuffers::VectorIter;
use spill_core::Result;

use super::read::{Dictionaries, dictionary_of};
use super::refused;

/// No array is longer, so that sizes computed from lengths stay far from their limits.
const LONGEST: i64 = 1 << 40;

/// What is left of one message and of the frames.
pub(super) struct Body<'a, 'f> {
    nodes: Option<VectorIter<'a, ipc::FieldNode>>,
    buffers: Option<VectorIter<'a, ipc::Buffer>>,
    /// How many buffers of text or bytes each column of views has.
    views: Option<VectorIter<'a, i64>>,
    frames: &'a mut std::slice::Iter<'f, Bytes>,
    dictionaries: &'a Dictionaries,
}

impl<'a, 'f> Body<'a, 'f> {
    pub(super) fn new(
        batch: ipc::RecordBatch<'a>,
        frames: &'a mut std::slice::Iter<'f, Bytes>,
        dictionaries: &'a Dictionaries,
    ) -> Self {
        Body {
            nodes: batch.nodes().map(|nodes| nodes.iter()),
            buffers: batch.buffers().map(|buffers| buffers.iter()),
            views: batch.variadicBufferCounts().map(|counts| counts.iter()),
            frames,
            dictionaries,
        }
    }

    /// Whether all that the message said was used.
    pub(super) fn end(mut self) -> Result<()> {
        let more = next(&mut self.nodes).is_some() || next(&mut self.buffers).is_some();
        if more { Err(refused("a message describes more columns than there are")) } else { Ok(()) }
    }

    /// The next array, of the type that `field` has.
    pub(super) fn array(&mut self, field: &Field) -> Result<ArrayRef> {
        let data_type = field.data_type();
        check_type(data_type)?;
        let node = next(&mut self.nodes).ok_or_else(|| missing("nodes", field))?;
        let (len, nulls) = (count(node.length())?, count(node.null_count())?);
        if let DataType::Union(fields, mode) = data_type {
            return self.union(field, fields, *mode, len);
        }
        let layout = layout(data_type);
        let mut builder = ArrayData::builder(data_type.clone()).len(len).align_buffers(true);
        if layout.can_contain_null_mask {
            let mask = self.buffer(field)?;
            builder = builder.null_bit_buffer((nulls > 0).then_some(mask));
        }
        for spec in &layout.buffers {
            if *spec != BufferSpec::AlwaysNull {
                builder = builder.add_buffer(self.buffer(field)?);
            }
        }
        if layout.variadic {
            let count = count(next(&mut self.views).ok_or_else(|| missing("counts of buffers", field))?)?;
            for _ in 0..count {
                builder = builder.add_buffer(self.buffer(field)?);
            }
        }
        match data_type {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _)
            | DataType::Map(item, _) => builder = builder.add_child_data(self.array(item)?.to_data()),
            DataType::Struct(fields) => {
                for field in fields {
                    builder = builder.add_child_data(self.array(field)?.to_data());
                }
            }
            DataType::RunEndEncoded(ends, values) => {
                builder = builder.add_child_data(self.array(ends)?.to_data());
                builder = builder.add_child_data(self.array(values)?.to_data());
            }
            DataType::Dictionary(_, values) => {
                let known = dictionary_of(field).and_then(|id| self.dictionaries.get(&id));
                let known = known.filter(|known| known.data_type() == &**values);
                let known = known.ok_or_else(|| missing("dictionary values", field))?;
                builder = builder.add_child_data(known.to_data());
            }
            _ => {}
        }
        let data = builder.build().map_err(refused)?;
        if data.null_count() != nulls && layout.can_contain_null_mask {
            let found = data.null_count();
            return Err(refused(format_args!("{found} nulls in column {:?}, not {nulls}", field.name())));
        }
        Ok(make_array(data))
    }

    /// A union checks more than its data does, so it is made by its own constructor.
    fn union(
        &mut self,
        field: &Field,
        fields: &UnionFields,
        mode: UnionMode,
        len: usize,
    ) -> Result<ArrayRef> {
        let kinds: ScalarBuffer<i8> = self.items(field, len)?.into();
        let offsets: Option<ScalarBuffer<i32>> = match mode {
            UnionMode::Dense => Some(aligned(self.items(field, len * size_of::<i32>())?).into()),
            UnionMode::Sparse => None,
        };
        let children = fields.iter().map(|(_, field)| self.array(field)).collect::<Result<_>>()?;
        let array = UnionArray::try_new(fields.clone(), kinds, offsets, children).map_err(refused)?;
        Ok(Arc::new(array))
    }

    /// The next buffer, of which an array uses `len` bytes.
    fn items(&mut self, field: &Field, len: usize) -> Result<Buffer> {
        let buffer = self.buffer(field)?;
        if buffer.len() < len {
            return Err(refused(format_args!("{} bytes where {len} are needed", buffer.len())));
        }
        Ok(buffer.slice_with_length(0, len))
    }

    /// The next buffer: a frame of the length that the message says, or no frame for an empty one.
    fn buffer(&mut self, field: &Field) -> Result<Buffer> {
        let described = next(&mut self.buffers).ok_or_else(|| missing("buffers", field))?;
        let len = described.length();
        if len == 0 {
            return Ok(Buffer::from(Bytes::new()));
        }
        let frame = self.frames.next().ok_or_else(|| missing("frames", field))?;
        if frame.len() as i64 != len {
            return Err(refused(format_args!("a frame of {} bytes where a buffer has {len}", frame.len())));
        }
        Ok(Buffer::from(frame.clone()))
    }
}

/// A copy where the numbers in `buffer` do not lie as they must.
fn aligned(buffer: Buffer) -> Buffer {
    if buffer.as_ptr().addr().is_multiple_of(align_of::<i32>()) { buffer } else { Buffer::from(&*buffer) }
}

/// Refuses types that the crates of arrow take for granted not to exist.
fn check_type(data_type: &DataType) -> Result<()> {
    let sound = match data_type {
        DataType::FixedSizeBinary(len) | DataType::FixedSizeList(_, len) => *len >= 0,
        DataType::Dictionary(keys, _) => keys.is_dictionary_key_type(),
        DataType::RunEndEncoded(ends, _) => ends.data_type().is_run_ends_type(),
        DataType::Map(entries, _) => {
            matches!(entries.data_type(), DataType::Struct(fields) if fields.len() == 2)
        }
        _ => true,
    };
    if sound { Ok(()) } else { Err(refused(format_args!("there is no type {data_type}"))) }
}

fn next<I: Iterator>(from: &mut Option<I>) -> Option<I::Item> {
    from.as_mut()?.next()
}

/// A length or number that a message says.
pub(super) fn count(said: i64) -> Result<usize> {
    let count = usize::try_from(said).ok().filter(|_| said <= LONGEST);
    count.ok_or_else(|| refused(format_args!("a count of {said}")))
}

fn missing(what: &str, field: &Field) -> spill_core::Error {
    refused(format_args!("too few {what} for column {:?}", field.name()))
}
