//! Frames as a record batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::{self as ipc, MessageHeader, MetadataVersion};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use bytes::Bytes;
use spill_core::{Frames, Result};

use super::array::{Body, count};
use super::{message, refused};

/// The values of dictionaries, by the number that the schema gives each.
pub(super) type Dictionaries = BTreeMap<i64, ArrayRef>;

/// The record batch that `stored` is.
pub(super) fn batch(stored: &Frames) -> Result<RecordBatch> {
    let (messages, buffers) = stored.as_slice().split_first().ok_or_else(|| refused("there are none"))?;
    let mut messages = &messages[..];
    let mut frames = buffers.iter();
    let schema = schema(message::take(&mut messages)?)?;
    let mut dictionaries = Dictionaries::new();
    loop {
        let message = message::take(&mut messages)?;
        if message.version() != MetadataVersion::V5 {
            return Err(refused(format_args!("a message of version {:?}", message.version())));
        }
        if let Some(dictionary) = message.header_as_dictionary_batch() {
            let (id, values) = read_dictionary(dictionary, &schema, &mut frames, &dictionaries)?;
            dictionaries.insert(id, values);
        } else if let Some(batch) = message.header_as_record_batch() {
            let batch = read_batch(batch, &Arc::new(schema), &mut frames, &dictionaries)?;
            return match (messages.len(), frames.len()) {
                (0, 0) => Ok(batch),
                (bytes, more) => Err(refused(format_args!("{bytes} bytes and {more} frames are left over"))),
            };
        } else {
            return Err(refused(format_args!("{:?} instead of a batch", message.header_type())));
        }
    }
}

fn schema(message: ipc::Message<'_>) -> Result<Schema> {
    let schema = message.header_as_schema().filter(|_| message.header_type() == MessageHeader::Schema);
    let schema = schema.ok_or_else(|| refused("the first message is no schema"))?;
    if !schema.endianness().equals_to_target_endianness() {
        return Err(refused("the bytes of its numbers are in the other order"));
    }
    try_fb_to_schema(schema).map_err(refused)
}

fn read_dictionary(
    dictionary: ipc::DictionaryBatch<'_>,
    schema: &Schema,
    frames: &mut std::slice::Iter<'_, Bytes>,
    dictionaries: &Dictionaries,
) -> Result<(i64, ArrayRef)> {
    let id = dictionary.id();
    if dictionary.isDelta() || dictionaries.contains_key(&id) {
        return Err(refused(format_args!("a second part of dictionary {id}")));
    }
    let values = values_of(schema.fields(), id)
        .ok_or_else(|| refused(format_args!("no column has dictionary {id}")))?;
    let data = dictionary.data().ok_or_else(|| refused("a dictionary without values"))?;
    let field = Field::new("values", values.clone(), true);
    let columns = read_columns(data, std::iter::once(&field), frames, dictionaries)?;
    let values = columns.into_iter().next().ok_or_else(|| refused("a dictionary without values"))?;
    Ok((id, values))
}

fn read_batch(
    batch: ipc::RecordBatch<'_>,
    schema: &Arc<Schema>,
    frames: &mut std::slice::Iter<'_, Bytes>,
    dictionaries: &Dictionaries,
) -> Result<RecordBatch> {
    let columns = read_columns(batch, schema.fields().iter().map(AsRef::as_ref), frames, dictionaries)?;
    let options = RecordBatchOptions::new().with_row_count(Some(count(batch.length())?));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(refused)
}

fn read_columns<'f>(
    batch: ipc::RecordBatch<'_>,
    fields: impl Iterator<Item = &'f Field>,
    frames: &mut std::slice::Iter<'_, Bytes>,
    dictionaries: &Dictionaries,
) -> Result<Vec<ArrayRef>> {
    if batch.compression().is_some() {
        return Err(refused("its buffers are compressed by Arrow, which this codec never does"));
    }
    let mut body = Body::new(batch, frames, dictionaries);
    let columns = fields.map(|field| body.array(field)).collect::<Result<_>>()?;
    body.end()?;
    Ok(columns)
}

/// The type of the values of dictionary `id`.
fn values_of(fields: &[FieldRef], id: i64) -> Option<&DataType> {
    fields.iter().find_map(|field| {
        let inner = match field.data_type() {
            DataType::Dictionary(_, values) => {
                if dictionary_of(field) == Some(id) {
                    return Some(&**values);
                }
                &**values
            }
            own => own,
        };
        match inner {
            DataType::Struct(fields) => values_of(fields, id),
            DataType::Union(fields, _) => {
                fields.iter().find_map(|(_, field)| values_of(std::slice::from_ref(field), id))
            }
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _)
            | DataType::RunEndEncoded(_, field) => values_of(std::slice::from_ref(field), id),
            _ => None,
        }
    })
}

/// The number of the dictionary that a field has.
#[expect(deprecated, reason = "the reader of arrow-ipc itself finds it there, and there is no other place")]
pub(super) fn dictionary_of(field: &Field) -> Option<i64> {
    field.dict_id()
}
