//! The shared suite over stores in memory and in a directory.
#![expect(clippy::unwrap_used, reason = "tests")]

use spill_core::conformance_tests;
use spill_core::{Blocking, Buffer, BufferBuilder, Frames};
use spill_object::{Objects, ObjectsConfig, Store};

fn memory() -> ObjectsConfig {
    ObjectsConfig::new(Store::open("memory:///some/prefix").unwrap())
}

/// Small enough that the suite's values of some hundred bytes fill many packs, and some are large.
fn small(config: ObjectsConfig) -> ObjectsConfig {
    config.pack_bytes(2000).large_bytes(600).stage_bytes(4000).requests(3)
}

conformance_tests!(memory, || -> Blocking<Objects<u64>> { Objects::blocking(memory()).unwrap() });
conformance_tests!(small_packs, || -> Blocking<Objects<String>> {
    Objects::blocking(small(memory())).unwrap()
});
