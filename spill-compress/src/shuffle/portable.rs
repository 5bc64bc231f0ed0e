//! The shuffle without vector instructions: all of it elsewhere, and the items left over behind vectors.

use super::Lanes;

/// Shuffles the items from number `done` on, and the bytes behind the last item.
pub(super) fn shuffle<const W: usize>(from: &[u8], to: &mut [u8], done: usize) {
    let items = from.len() / W;
    let (whole, rest) = from.split_at(items * W);
    for byte in 0..W {
        let lane = &mut to[byte * items..(byte + 1) * items];
        for (to, item) in lane[done..].iter_mut().zip(whole[done * W..].as_chunks::<W>().0) {
            *to = item[byte];
        }
    }
    to[items * W..].copy_from_slice(rest);
}

/// Undoes [`shuffle`], for the same items and bytes.
pub(super) fn unshuffle<const W: usize>(from: &Lanes<'_>, to: &mut [u8], done: usize) {
    let items = to.len() / W;
    let (whole, rest) = to.split_at_mut(items * W);
    for (byte, lane) in from[..W].iter().enumerate() {
        for (from, item) in lane[done..items].iter().zip(whole[done * W..].as_chunks_mut::<W>().0) {
            item[byte] = *from;
        }
    }
    rest.copy_from_slice(&from[W - 1][items..]);
}
