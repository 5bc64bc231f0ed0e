//! Buffers for values read back, used again once their last handle is gone.
//!
//! Page-faulting fresh memory costs about ten times the copy into it, so reading into memory that an evicted
//! value left behind is worth more than any trick of I/O. It matters most where malloc gives memory back
//! early (`MALLOC_TRIM_THRESHOLD_`, as the nanny sets it).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Frames in memory start on this many bytes, so that numeric data can be used in place.
pub const FRAME_ALIGN: usize = 64;

/// Buffers below this size are left to malloc, which recycles them as fast.
const SMALLEST: usize = 1024;

/// Bytes of a page of memory, at least.
const PAGE: usize = 4096;

/// A set of idle buffers, sorted by size, shared by the layers of one chain. Cloning shares it.
///
/// What bounds it is its *idle* bytes: a buffer in use belongs to its value and is counted there.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    idle: Mutex<Idle>,
    limit: u64,
    /// What a buffer may have that is kept alone, beyond the limit.
    longest: u64,
}

#[derive(Debug, Default)]
struct Idle {
    classes: Vec<OfClass>,
    bytes: u64,
    /// Grows with each request that was served.
    served: u64,
}

/// The idle buffers of a class.
#[derive(Debug, Default)]
struct OfClass {
    buffers: Vec<Vec<u8>>,
    /// The request that was served from it last.
    served: u64,
}

impl Pool {
    /// A pool that keeps at most `limit` idle bytes; more are given back to malloc. 0 keeps none.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Pool::with_longest(limit, limit)
    }

    /// The same, but a buffer that is longer than the limit, up to `longest` bytes, is kept where it is alone: to read long
    /// values into fresh memory costs as much for a byte as short ones.
    #[must_use]
    pub fn with_longest(limit: u64, longest: u64) -> Self {
        Pool(Arc::new(Shared { idle: Mutex::default(), limit, longest: longest.max(limit) }))
    }

    /// A buffer of `len` bytes for reading `offset` bytes of header and then aligned data: byte `offset` of
    /// it lies on [`FRAME_ALIGN`]. Its content is whatever was there before.
    #[must_use]
    pub fn take(&self, len: usize, offset: usize) -> PoolBuf {
        let need = rounded(len + 2 * FRAME_ALIGN);
        let class = Class::of(need);
        let memory = class.and_then(|class| self.0.reuse(class, need)).unwrap_or_else(|| vec![0; need]);
        let start = memory.as_ptr().addr().wrapping_add(offset).wrapping_neg() % FRAME_ALIGN;
        PoolBuf { memory, start, len, home: class.map(|_| Arc::clone(&self.0)) }
    }

    /// Bytes of the buffers that wait to be used again.
    #[must_use]
    pub fn idle_bytes(&self) -> u64 {
        self.0.idle.lock().bytes
    }
}

impl Default for Pool {
    /// A pool that keeps at most 256 MiB idle.
    fn default() -> Self {
        Pool::new(256 << 20)
    }
}

impl Shared {
    fn reuse(&self, class: Class, need: usize) -> Option<Vec<u8>> {
        let mut idle = self.idle.lock();
        let Idle { classes, bytes, served } = &mut *idle;
        let (own, above) = classes.get_mut(class.0..)?.split_first_mut()?;
        // of its own class some are too short; not all are looked at
        let fits = own.buffers.iter().rev().take(Class::TRIES).position(|memory| memory.len() >= need);
        let (from, memory) = if let Some(back) = fits {
            let at = own.buffers.len() - 1 - back;
            let memory = own.buffers.swap_remove(at);
            (own, memory)
        } else {
            let mut above = above.iter_mut().take(Class::ABOVE);
            above.find_map(|class| class.buffers.pop().map(|memory| (class, memory)))?
        };
        *served += 1;
        from.served = *served;
        *bytes -= memory.len() as u64;
        Some(memory)
    }

    fn give_back(&self, memory: Vec<u8>) {
        let Some(class) = Class::of(memory.len()) else { return };
        let len = memory.len() as u64;
        if len > self.longest {
            return;
        }
        let mut gone = Vec::new();
        let mut idle = self.idle.lock();
        if idle.classes.len() <= class.0 {
            idle.classes.resize_with(class.0 + 1, OfClass::default);
        }
        let most = self.limit.max(len);
        if idle.bytes + len > most {
            // what there is one of already need not be kept; else what was asked for longest ago goes
            if !idle.classes[class.0].buffers.is_empty() {
                drop(idle);
                return;
            }
            let Idle { classes, bytes, .. } = &mut *idle;
            while *bytes + len > most {
                let stocked = classes.iter_mut().filter(|class| !class.buffers.is_empty());
                let Some(oldest) = stocked.min_by_key(|class| class.served) else { break };
                let Some(other) = oldest.buffers.pop() else { break };
                *bytes -= other.len() as u64;
                gone.push(other);
            }
        }
        idle.bytes += len;
        idle.classes[class.0].buffers.push(memory);
        drop(idle);
        drop(gone);
    }
}

/// Long buffers are whole pages long, so that what has a header of its own fits where a plain copy was.
fn rounded(len: usize) -> usize {
    if len < 16 * PAGE { len } else { len.next_multiple_of(PAGE) }
}

/// A size class: sixteen steps between two powers of two. A buffer is as long as what it was made for, lest values of a
/// power of two, which come with some bytes around them, cost each a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class(usize);

impl Class {
    const STEPS: usize = 16;

    /// How many classes above its own a request looks through: what it gets may be longer by three sixteenths.
    const ABOVE: usize = 2;

    /// How many buffers of its own class, which may be too short, a request looks at.
    const TRIES: usize = 16;

    /// The class of buffers of `len` bytes and somewhat more.
    fn of(len: usize) -> Option<Class> {
        let power = (len / SMALLEST).checked_ilog2()? as usize;
        let base = SMALLEST << power;
        Some(Class(power * Self::STEPS + (len - base) / (base / Self::STEPS)))
    }
}

/// A buffer of a [`Pool`], writable until it is frozen.
#[derive(Debug)]
pub struct PoolBuf {
    memory: Vec<u8>,
    start: usize,
    len: usize,
    home: Option<Arc<Shared>>,
}

impl PoolBuf {
    /// Makes the buffer immutable and shareable. It returns to its pool when the last handle, slices
    /// included, is dropped; so a live handle always keeps its bytes.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for PoolBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for PoolBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for PoolBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give_back(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_behind_the_header_is_aligned() {
        let pool = Pool::default();
        for len in [1, 100, 1000, 4096 + 32, 1 << 20] {
            for offset in [0, 8, 32] {
                let buf = pool.take(len.max(offset + 1), offset);
                assert_eq!(buf[offset..].as_ptr().addr() % FRAME_ALIGN, 0, "len {len} offset {offset}");
            }
        }
    }

    #[test]
    fn a_buffer_returns_when_its_last_handle_is_gone() {
        let pool = Pool::new(1 << 20);
        let bytes = pool.take(10_000, 0).freeze();
        let slice = bytes.slice(5..6);
        drop(bytes);
        assert_eq!(pool.idle_bytes(), 0, "a live slice keeps the buffer");
        drop(slice);
        let idle = pool.idle_bytes();
        assert!(idle >= 10_000);
        let again = pool.take(10_000, 0);
        assert_eq!(pool.idle_bytes(), 0, "the idle buffer is used again");
        drop(again);
        assert_eq!(pool.idle_bytes(), idle);
    }

    #[test]
    fn sizes_that_differ_by_little_do_not_hide_each_other() {
        let pool = Pool::new(1 << 20);
        drop([pool.take(10_100, 0), pool.take(10_000, 0)]);
        let idle = pool.idle_bytes();
        drop([pool.take(10_100, 0), pool.take(10_000, 0)]);
        drop([pool.take(10_000, 0), pool.take(10_100, 0)]);
        assert_eq!(pool.idle_bytes(), idle);
    }

    #[test]
    fn what_is_not_asked_for_any_more_makes_room() {
        let pool = Pool::new(100_000);
        drop((0..10).map(|_| pool.take(9_800, 0)).collect::<Vec<_>>());
        let full = pool.idle_bytes();
        for _ in 0..3 {
            drop(pool.take(50_000, 0));
            assert!(pool.idle_bytes() <= 100_000);
        }
        let kept = pool.idle_bytes();
        assert_ne!(kept, full);
        let again = pool.take(50_000, 0);
        assert_eq!(pool.idle_bytes() + again.memory.len() as u64, kept, "it was kept");
    }

    #[test]
    fn a_long_buffer_is_kept_alone() {
        let pool = Pool::with_longest(100_000, 1_000_000);
        drop(pool.take(10_000, 0));
        drop([pool.take(500_000, 0), pool.take(500_000, 0)]);
        assert!((500_000..510_000).contains(&pool.idle_bytes()), "{}", pool.idle_bytes());
        drop(pool.take(2_000_000, 0));
        assert!(pool.idle_bytes() < 510_000, "too long");
        drop(pool.take(10_000, 0));
        assert!(pool.idle_bytes() < 100_000, "it goes for what is asked for");
    }

    #[test]
    fn idle_bytes_are_bounded() {
        let pool = Pool::new(100_000);
        let many: Vec<_> = (0..50).map(|_| pool.take(10_000, 0)).collect();
        drop(many);
        assert!(pool.idle_bytes() <= 100_000);
    }

    #[test]
    fn a_buffer_is_as_long_as_what_it_is_made_for() {
        let pool = Pool::new(u64::MAX);
        for len in (SMALLEST..3_000_000).step_by(99_991) {
            let made = pool.take(len, 0);
            assert!((len + 2 * FRAME_ALIGN..len + 2 * FRAME_ALIGN + PAGE).contains(&made.memory.len()));
            assert_eq!(made.len(), len);
        }
    }

    #[test]
    fn what_is_used_again_is_long_enough_and_at_most_three_sixteenths_too_long() {
        let lens = || (SMALLEST..200_000).step_by(97).map(|len| len * 7919 % 200_000 + SMALLEST);
        let pool = Pool::new(u64::MAX);
        drop(lens().map(|len| pool.take(len, 0)).collect::<Vec<_>>());
        for len in lens() {
            let idle = pool.idle_bytes();
            let again = pool.take(len, 32);
            assert!(pool.idle_bytes() < idle, "{len} bytes found nothing idle");
            let (need, got) = (rounded(len + 2 * FRAME_ALIGN), again.memory.len());
            assert!(got >= need && got - need <= need * 3 / 16 + 1, "{need} got {got}");
        }
    }
}
