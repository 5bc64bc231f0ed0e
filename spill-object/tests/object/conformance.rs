//! The shared suite over stores in memory and in a directory.

use spill_core::{Blocking, Buffer, BufferBuilder, Frames, conformance_tests};
use spill_object::{Objects, ObjectsConfig, Store};
use tempfile::TempDir;

use crate::support::Kept;

fn memory() -> ObjectsConfig {
    ObjectsConfig::new(Store::open("memory:///some/prefix").unwrap())
}

/// Small enough that the suite's values of some hundred bytes fill many packs, and some are large.
pub(crate) fn small(config: ObjectsConfig) -> ObjectsConfig {
    config.pack_bytes(2000).large_bytes(600).stage_bytes(4000).requests(3)
}

type Mapping = Blocking<Objects<u64>>;

fn in_a_directory(set: fn(ObjectsConfig) -> ObjectsConfig) -> Kept<Mapping, TempDir> {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().display());
    let config = set(ObjectsConfig::new(Store::open(&url).unwrap()));
    Kept::new(Objects::blocking(config).unwrap(), directory)
}

conformance_tests!(memory_defaults, || -> Mapping { Objects::blocking(memory()).unwrap() });
conformance_tests!(memory_small, || -> Blocking<Objects<String>> {
    Objects::blocking(small(memory())).unwrap()
});
conformance_tests!(directory_defaults, || in_a_directory(|config| config));
conformance_tests!(directory_small, || in_a_directory(small));
conformance_tests!(below_a_buffer, || -> Buffer<u64, Frames, Mapping> {
    let slow = Objects::blocking(small(memory())).unwrap();
    BufferBuilder::new().target(2000).over(slow).unwrap()
});
