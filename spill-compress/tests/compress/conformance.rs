//! The shared suite over every compressor, with storage that reports its sizes and with storage that fails.

use std::sync::Arc;

use crate::memory::Memory;
use spill_compress::{Compress, Compressor, NoCompression};
use spill_core::conformance::contract::{Trial, failed_calls_change_nothing};
use spill_core::conformance::{Fault, Faulty, Operation, Plan, Ready};
use spill_core::conformance_tests;

conformance_tests!(none, || Compress::new(NoCompression, Memory::default()));
#[cfg(feature = "lz4")]
conformance_tests!(lz4, || Compress::new(spill_compress::Lz4, Memory::default()));
#[cfg(feature = "zstd")]
conformance_tests!(zstd, || Compress::new(spill_compress::Zstd::default(), Memory::default()));
conformance_tests!(chosen_at_run_time, || {
    Compress::new(Arc::new(NoCompression) as Arc<dyn Compressor>, Memory::default())
});

#[test]
fn calls_that_storage_fails_change_nothing() {
    let storage = Arc::new(Faulty::new(Memory::default()));
    #[cfg(feature = "zstd")]
    let mapping = Compress::new(spill_compress::Zstd::default(), Arc::clone(&storage));
    #[cfg(not(feature = "zstd"))]
    let mapping = Compress::new(NoCompression, Arc::clone(&storage));
    failed_calls_change_nothing(&Trial::new(&mapping, &Ready), &|failing| {
        storage.heal();
        if failing {
            let operations = [Operation::Get, Operation::Insert, Operation::Remove];
            storage.inject(Plan::every(2).on(operations), Fault::full());
        }
    });
}
