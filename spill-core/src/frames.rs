//! The bytes of one value: an ordered list of frames that are never concatenated to pass them on.

use std::sync::Arc;

use bytes::Bytes;

/// An ordered list of byte buffers that together are one stored value, and the weight the value had.
///
/// A codec may give a value as several frames (an array's header and its data, pickle 5's out-of-band
/// buffers); every layer below keeps the boundaries. Cloning costs a reference count. Two values are equal
/// when their frames are, boundaries included; the weight does not matter.
///
/// ```
/// use bytes::Bytes;
/// use spill_core::Frames;
///
/// let frames = Frames::from_iter([Bytes::from_static(b"head"), Bytes::from_static(b"body")]);
/// assert_eq!(frames.byte_len(), 8);
/// assert_eq!(frames.iter().count(), 2);
/// ```
#[derive(Clone)]
pub struct Frames {
    list: List,
    weight: u64,
}

/// Most values are one frame, which needs no list.
#[derive(Clone)]
enum List {
    One(Bytes),
    Many(Arc<[Bytes]>),
}

impl Frames {
    /// The bytes of all frames together.
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        self.iter().map(|frame| frame.len() as u64).sum()
    }

    /// What the value weighed in fast memory, in bytes; the frames' own length unless said otherwise.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// The same frames with another weight.
    #[must_use]
    pub fn with_weight(mut self, weight: u64) -> Self {
        self.weight = weight;
        self
    }

    /// The frames in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.as_slice().iter()
    }

    /// The frames in order, as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[Bytes] {
        match &self.list {
            List::One(frame) => std::slice::from_ref(frame),
            List::Many(frames) => frames,
        }
    }

    /// Whether others hold these frames too. Of several frames that is known of the list, since they may be parts of
    /// one buffer.
    pub(crate) fn is_shared(&self) -> bool {
        match &self.list {
            List::One(frame) => !frame.is_empty() && !frame.is_unique(),
            List::Many(frames) => Arc::strong_count(frames) > 1,
        }
    }

    /// The one frame, or `None` when there are none or several.
    #[must_use]
    pub fn into_single(self) -> Option<Bytes> {
        match self.list {
            List::One(frame) => Some(frame),
            List::Many(frames) => match &*frames {
                [frame] => Some(frame.clone()),
                _ => None,
            },
        }
    }
}

impl From<Bytes> for Frames {
    fn from(frame: Bytes) -> Self {
        Frames { weight: frame.len() as u64, list: List::One(frame) }
    }
}

impl From<Vec<Bytes>> for Frames {
    fn from(frames: Vec<Bytes>) -> Self {
        let weight = frames.iter().map(|frame| frame.len() as u64).sum();
        let list = match <[Bytes; 1]>::try_from(frames) {
            Ok([frame]) => List::One(frame),
            Err(frames) => List::Many(frames.into()),
        };
        Frames { list, weight }
    }
}

impl FromIterator<Bytes> for Frames {
    fn from_iter<I: IntoIterator<Item = Bytes>>(frames: I) -> Self {
        frames.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a> IntoIterator for &'a Frames {
    type Item = &'a Bytes;
    type IntoIter = std::slice::Iter<'a, Bytes>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Frames {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}
impl Eq for Frames {}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths: Vec<_> = self.iter().map(Bytes::len).collect();
        f.debug_struct("Frames").field("lengths", &lengths).field("weight", &self.weight).finish()
    }
}
