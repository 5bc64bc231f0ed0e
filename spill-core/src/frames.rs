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
    /// A list, and how many frames at its start do not count.
    Many(Arc<[Bytes]>, u32),
}

impl Frames {
    /// The bytes of all frames together.
    #[inline]
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        self.iter().map(|frame| frame.len() as u64).sum()
    }

    /// What the value weighed in fast memory, in bytes; the frames' own length unless said otherwise.
    #[inline]
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
    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.as_slice().iter()
    }

    /// The frames in order, as a slice.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[Bytes] {
        match &self.list {
            List::One(frame) => std::slice::from_ref(frame),
            List::Many(frames, skipped) => frames.get(*skipped as usize..).unwrap_or_default(),
        }
    }

    /// Leaves the frames behind the first, of the same weight: for a layer that stored a header in front of them.
    ///
    /// Costs no memory and no reference count. What was skipped is freed with the list, but where one frame
    /// remains of a list that nobody else holds, at once.
    #[inline]
    pub fn skip_first(&mut self) {
        let List::Many(frames, skipped) = &mut self.list else {
            self.list = List::Many(Arc::default(), 0);
            return;
        };
        *skipped = skipped.saturating_add(1);
        // Asked first, since it costs only a load.
        if Arc::strong_count(frames) == 1
            && let Some([last]) = Arc::get_mut(frames).and_then(|frames| frames.get_mut(*skipped as usize..))
        {
            self.list = List::One(std::mem::take(last));
        }
    }

    /// Whether others hold these frames too. Of several frames that is known of the list, since they may be parts of
    /// one buffer.
    pub(crate) fn is_shared(&self) -> bool {
        match &self.list {
            List::One(frame) => !frame.is_empty() && !frame.is_unique(),
            List::Many(frames, _) => Arc::strong_count(frames) > 1,
        }
    }

    /// The one frame, or `None` when there are none or several.
    #[inline]
    #[must_use]
    pub fn into_single(self) -> Option<Bytes> {
        if let List::One(frame) = self.list {
            return Some(frame);
        }
        match self.as_slice() {
            [frame] => Some(frame.clone()),
            _ => None,
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
            Err(frames) => List::Many(frames.into(), 0),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(of: &[&'static str]) -> Frames {
        of.iter().map(|frame| Bytes::from_static(frame.as_bytes())).collect::<Frames>().with_weight(7)
    }

    #[test]
    fn skipping_the_first_leaves_the_others_and_the_weight() {
        for all in [&["a", "bc", "d"][..], &["a", "bc"], &["a"], &[]] {
            let (value, alone) = (frames(all), frames(all));
            let held = value.clone();
            let left = all.get(1..).unwrap_or_default();
            // Alone, and while another holds the list, which keeps the frame that is skipped here.
            for mut skipped in [alone, value] {
                skipped.skip_first();
                assert_eq!(skipped, frames(left));
                assert_eq!(skipped.weight(), 7);
                assert_eq!(skipped.into_single().map(|frame| frame.len()), (left.len() == 1).then_some(2));
            }
            assert_eq!(held, frames(all));
        }
        let mut twice = frames(&["a", "b", "c"]);
        for left in [&["b", "c"][..], &["c"], &[], &[]] {
            twice.skip_first();
            assert_eq!(twice, frames(left));
        }
    }

    #[test]
    fn a_value_of_one_frame_needs_no_more_than_the_frame_and_its_weight() {
        assert_eq!(size_of::<Frames>(), size_of::<Bytes>() + size_of::<u64>());
    }
}
