//! What the tests share.

mod kept;
#[cfg(feature = "aws")]
pub(crate) mod server;
mod unreliable;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spill_core::{AsyncMutableMapping, Clock, Frames};
use spill_object::{Objects, ObjectsConfig, Store};

pub(crate) use kept::Kept;
pub(crate) use unreliable::{Op, Strike, Unreliable, answer};

/// The clock of a tokio runtime, which stands still while anything works and jumps when all wait.
pub(crate) struct TokioClock(tokio::time::Instant);

impl TokioClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(TokioClock(tokio::time::Instant::now()))
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Settings for a store that fails at will, under the clock of the runtime.
pub(crate) fn config(store: &Arc<Unreliable>) -> ObjectsConfig {
    ObjectsConfig::new(Store::with_parts(Arc::clone(store), "test://bucket")).clock(TokioClock::new())
}

pub(crate) fn objects(config: ObjectsConfig) -> Objects<u64> {
    Objects::new(config).unwrap()
}

/// The `n`-th value, of this many bytes.
pub(crate) fn value(n: u64, len: usize) -> Frames {
    let number = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    let bytes: Vec<u8> = number.iter().copied().cycle().take(len).collect();
    Frames::from(Bytes::from(bytes))
}

/// Fills `objects` with values 0 to `count` of `len` bytes.
pub(crate) async fn fill(objects: &Objects<u64>, count: u64, len: usize) {
    for n in 0..count {
        objects.insert(n, value(n, len)).await.unwrap();
    }
}

/// Asserts that `objects` holds just values 0 to `count` of `len` bytes.
pub(crate) async fn assert_filled(objects: &Objects<u64>, count: u64, len: usize) {
    assert_eq!(objects.len() as u64, count);
    for n in 0..count {
        assert_eq!(objects.get(&n).await.unwrap(), Some(value(n, len)), "value {n}");
    }
}
