//! `Adaptive`: chooses for each frame by what frames like it cost so far, and by what storage costs now.

mod experience;
mod known;
mod model;
mod storage;

use std::sync::Arc;

pub(crate) use model::{Arm, Model};

use crate::compressor::Compressor;

/// Chooses for each frame the compressor, its level and the width to shuffle by, so that compressing and
/// writing together take the least time.
///
/// How: a look at a few bytes of the frame tells how wide its items are and how much they repeat. Frames that
/// look alike are a class, and a class is chosen for by what its frames took and gave, and by the time that storage
/// takes for a byte. So a writer that waits for storage compresses harder, one that storage never keeps waiting
/// compresses lightly or not at all, and bytes that do not shrink cost the look. Of settings that take about as long,
/// the smaller one is chosen. Others are tried on pieces of frames, which are not stored, out of a budget of about a
/// sixtieth of the time.
///
/// It needs no setting. [`over`](Self::over) narrows or widens what it chooses from.
#[derive(Clone)]
pub struct Adaptive {
    ladder: Vec<Arc<dyn Compressor>>,
}

impl Adaptive {
    /// Chooses among the compressors of `ladder`, which go from fast to small, and storing as it is. A
    /// compressor is tried when the ones before it on the ladder let hope that it pays.
    #[must_use]
    pub fn over(ladder: Vec<Arc<dyn Compressor>>) -> Self {
        Adaptive { ladder }
    }

    pub(crate) fn into_ladder(self) -> Vec<Arc<dyn Compressor>> {
        self.ladder
    }
}

impl Default for Adaptive {
    /// lz4, and zstd at levels 1, 3, 6 and 9, as far as they are compiled in.
    fn default() -> Self {
        #[cfg(feature = "zstd")]
        let zstd = crate::Zstd::default();
        let ladder: Vec<Arc<dyn Compressor>> = vec![
            #[cfg(feature = "lz4")]
            Arc::new(crate::Lz4),
            #[cfg(feature = "zstd")]
            Arc::new(zstd.beside(1)),
            #[cfg(feature = "zstd")]
            Arc::new(zstd.beside(3)),
            #[cfg(feature = "zstd")]
            Arc::new(zstd.beside(6)),
            #[cfg(feature = "zstd")]
            Arc::new(zstd.beside(9)),
        ];
        Adaptive { ladder }
    }
}

impl std::fmt::Debug for Adaptive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = self.ladder.iter().map(|compressor| compressor.setting());
        f.debug_list().entries(settings).finish()
    }
}
