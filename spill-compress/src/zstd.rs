//! zstd: smaller records for more time.

use std::sync::Arc;

use parking_lot::Mutex;
use spill_core::{Error, ErrorKind, Result};
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, ErrorCode, get_error_name, is_error_kind};

use crate::compressor::{Compressor, ZSTD, damaged, expected_len};
use crate::sample;

/// Contexts of either kind that wait to be used again, at most, for all levels that share them. A context takes about a
/// megabyte at level 3 and tens of them at the highest levels; more threads than this at once make and free their own.
const IDLE_CONTEXTS: usize = 8;

/// From this level on, in a block whose bytes look random (so many bits each), level 1 looks first, in a third of the time
/// or less: where it finds nothing, there is nothing.
const HEAVY: i32 = 5;
const NOISE: f64 = 7.5;
const LIGHT: i32 = 1;

/// Frames up to this length are stored as they are: zstd's own headers take ten bytes.
const SHORTEST: usize = 16;

/// A byte of a zstd frame can stand for at most this many bytes: a block gives at most 128 KiB and takes at
/// least four bytes, a header of three and the byte to repeat (RFC 8878, sections 3.1.1.2.2 and 3.1.1.2.4).
const MAX_RATIO: u64 = (128 << 10) / 4;

/// zstd at a fixed level. Contexts are kept and used again; how many work at once is up to the callers.
///
/// From level 5 on, a block whose bytes look random is tried at level 1 first, and stored as it is where that finds nothing.
pub struct Zstd {
    level: i32,
    contexts: Arc<Idle>,
}

/// Contexts that wait to be used again, for any level: one that is large enough for the highest does for all.
#[derive(Default)]
struct Idle {
    compressors: Contexts<AtLevel>,
    decompressors: Contexts<DCtx<'static>>,
}

/// A context, and the level it is set to.
struct AtLevel(CCtx<'static>, i32);

impl Zstd {
    /// zstd at `level`: from 1, fast, to 22, small and slow; negative levels are faster still, and 0 means
    /// zstd's own default of 3.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when zstd knows no such level.
    pub fn new(level: i32) -> Result<Self> {
        let range = zstd::compression_level_range();
        if !range.contains(&level) {
            let expected = format!("a level from {} to {}", range.start(), range.end());
            return Err(Error::config("zstd level", level, expected));
        }
        Ok(Zstd::at(level))
    }

    /// zstd at a level that is known to exist.
    pub(crate) fn at(level: i32) -> Self {
        Zstd { level, contexts: Arc::default() }
    }

    /// The same at another level, with the same contexts.
    pub(crate) fn beside(&self, level: i32) -> Self {
        Zstd { level, contexts: Arc::clone(&self.contexts) }
    }

    /// The level it compresses at.
    #[must_use]
    pub fn level(&self) -> i32 {
        self.level
    }
}

impl Default for Zstd {
    /// zstd at its own default level.
    fn default() -> Self {
        Zstd::at(zstd::DEFAULT_COMPRESSION_LEVEL)
    }
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zstd").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Compressor for Zstd {
    fn id(&self) -> u8 {
        ZSTD
    }

    fn name(&self) -> &'static str {
        "zstd"
    }

    fn setting(&self) -> String {
        format!("zstd:{}", self.level)
    }

    /// The frame's own length: zstd gives up as soon as the result would be longer.
    fn scratch_len(&self, len: usize) -> usize {
        if len > SHORTEST { len } else { 0 }
    }

    fn compress(&self, frame: &[u8], scratch: &mut [u8]) -> Result<Option<usize>> {
        if self.level >= HEAVY
            && sample::look(frame).bits > NOISE
            && compress(&self.contexts.compressors, LIGHT, frame, scratch)?.is_none()
        {
            return Ok(None);
        }
        compress(&self.contexts.compressors, self.level, frame, scratch)
    }

    fn largest_output(&self, compressed: &[u8]) -> u64 {
        let plausible = (compressed.len() as u64).saturating_mul(MAX_RATIO);
        // Frames of ours always say their length. One that does not gives nothing we could have written.
        zstd::decompressed_size(compressed).unwrap_or(0).min(plausible)
    }

    fn decompress(&self, compressed: &[u8], output: &mut [u8]) -> Result<()> {
        let expected = output.len();
        self.contexts.decompressors.with(
            || DCtx::try_create().ok_or_else(no_memory),
            |context| match context.decompress(output, compressed) {
                Ok(len) if len == expected => Ok(()),
                Ok(len) => Err(damaged("zstd", expected_len(expected), format!("{len} bytes"))),
                Err(code) if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_memory_allocation) => {
                    Err(no_memory())
                }
                Err(code) => Err(damaged("zstd", expected_len(expected), get_error_name(code))),
            },
        )
    }
}

/// A stack of contexts. The lock covers taking and giving back only.
struct Contexts<T>(Mutex<Vec<T>>);

impl<T> Default for Contexts<T> {
    fn default() -> Self {
        Contexts(Mutex::default())
    }
}

impl<T> Contexts<T> {
    /// Runs `work` with an idle context or one that `make` gives. The context is kept if `work` succeeds.
    fn with<R>(&self, make: impl FnOnce() -> Result<T>, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let idle = self.0.lock().pop();
        let mut context = match idle {
            Some(context) => context,
            None => make()?,
        };
        let result = work(&mut context)?;
        let mut idle = self.0.lock();
        if idle.len() < IDLE_CONTEXTS {
            idle.push(context);
        }
        Ok(result)
    }
}

/// Compresses with one of `contexts`, which is set to this level if it is not.
fn compress(
    contexts: &Contexts<AtLevel>,
    level: i32,
    frame: &[u8],
    scratch: &mut [u8],
) -> Result<Option<usize>> {
    let set = |context: &mut CCtx<'static>| {
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(failed).map(drop)
    };
    let make = || {
        let mut context = CCtx::try_create().ok_or_else(no_memory)?;
        set(&mut context)?;
        Ok(AtLevel(context, level))
    };
    // A context that failed is dropped, not kept: it may be left inside a frame. One that found no room is, and begins anew.
    contexts.with(make, |AtLevel(context, at)| {
        if *at != level {
            set(context)?;
            *at = level;
        }
        match context.compress2(scratch, frame) {
            Ok(len) => Ok(Some(len).filter(|len| *len < frame.len())),
            Err(code) if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => Ok(None),
            Err(code) => Err(failed(code)),
        }
    })
}

fn no_memory() -> Error {
    backend("no memory for a context", true)
}

fn failed(code: ErrorCode) -> Error {
    let transient = is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_memory_allocation);
    backend(get_error_name(code), transient)
}

fn backend(status: &str, transient: bool) -> Error {
    let location = "a frame to compress or decompress".to_owned();
    ErrorKind::Backend { name: "zstd", location, status: status.to_owned(), transient }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(zstd: &Zstd, frame: &[u8]) -> Option<Vec<u8>> {
        let mut scratch = vec![0; zstd.scratch_len(frame.len())];
        let len = zstd.compress(frame, &mut scratch).unwrap()?;
        scratch.truncate(len);
        Some(scratch)
    }

    #[test]
    fn the_bound_on_expansion_holds_for_the_most_compressible_data() {
        for level in [-5, 1, 3, 19] {
            let zstd = Zstd::new(level).unwrap();
            for len in [SHORTEST + 1, 1000, 128 << 10, (128 << 10) + 1, 32 << 20] {
                if let Some(bytes) = compressed(&zstd, &vec![0; len]) {
                    assert_eq!(zstd.largest_output(&bytes), len as u64, "level {level}, {len} bytes");
                }
            }
        }
    }

    #[test]
    fn a_level_that_zstd_does_not_know_is_refused() {
        let error = Zstd::new(23).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Config { value, .. } if value == "23"), "{error}");
        assert_eq!(Zstd::new(22).unwrap().level(), 22);
    }

    #[test]
    fn contexts_are_used_again_and_those_that_failed_are_not() {
        let zstd = Zstd::default();
        let frame = vec![1; 1000];
        let bytes = compressed(&zstd, &frame).unwrap();
        let again = compressed(&zstd, &frame).unwrap();
        assert_eq!(bytes, again);
        assert_eq!(zstd.contexts.compressors.0.lock().len(), 1);
        let mut output = vec![0; 1000];
        zstd.decompress(&bytes, &mut output).unwrap();
        assert_eq!(output, frame);
        assert_eq!(zstd.contexts.decompressors.0.lock().len(), 1);
        zstd.decompress(&bytes[..10], &mut output).unwrap_err();
        assert_eq!(zstd.contexts.decompressors.0.lock().len(), 0);
    }

    #[test]
    fn heavy_levels_leave_noise_to_a_light_one_unless_it_repeats() {
        let mut noise: Vec<u8> = sample::noise_bytes().take(100_000).collect();
        let last_level =
            |zstd: &Zstd| zstd.contexts.compressors.0.lock().last().map(|AtLevel(_, level)| *level);
        let zstd = Zstd::new(9).unwrap();
        assert_eq!(compressed(&zstd, &noise), None);
        assert_eq!(last_level(&zstd), Some(LIGHT));
        noise.extend_from_within(..);
        assert!(compressed(&zstd, &noise).unwrap().len() < 101_000);
        assert_eq!(last_level(&zstd), Some(9));
        let text = b"words, words, words and so on; ".repeat(1000);
        assert!(sample::look(&text).bits < NOISE, "no second look");
        let zstd = Zstd::new(9).unwrap();
        assert_eq!(zstd.compress(&text, &mut []).unwrap(), None);
        assert_eq!(
            last_level(&zstd),
            Some(9),
            "a light one would have found no room either, and been the last"
        );
        compressed(&zstd, &text).unwrap();
        let zstd = Zstd::new(LIGHT).unwrap();
        compressed(&zstd, &text).unwrap();
        assert_eq!(last_level(&zstd), Some(LIGHT));
    }

    #[test]
    fn levels_share_contexts_and_give_what_they_would_give_alone() {
        let text: Vec<u8> = (0..40_000_u32).flat_map(|n| (n * n % 1000).to_le_bytes()).collect();
        let (one, nine) = (Zstd::at(1), Zstd::at(9));
        let alone = [compressed(&one, &text), compressed(&nine, &text)];
        let shared = one.beside(9);
        for _ in 0..3 {
            assert_eq!([compressed(&one, &text), compressed(&shared, &text)], alone);
        }
        assert_ne!(alone[0], alone[1]);
        assert_eq!(one.contexts.compressors.0.lock().len(), 1);
    }

    #[test]
    fn idle_contexts_are_bounded() {
        let contexts = Contexts::default();
        fn nested(contexts: &Contexts<()>, depth: usize) {
            let work = |_: &mut ()| {
                if depth > 0 {
                    nested(contexts, depth - 1);
                }
                Ok(())
            };
            contexts.with(|| Ok(()), work).unwrap();
        }
        nested(&contexts, 2 * IDLE_CONTEXTS);
        assert_eq!(contexts.0.lock().len(), IDLE_CONTEXTS);
    }
}
