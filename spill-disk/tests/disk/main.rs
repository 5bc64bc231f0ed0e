//! Behaviour of the whole crate, as its callers see it.

#![expect(clippy::unwrap_used, reason = "tests: the functions that they share are not marked as such")]

mod behind;
mod common;
mod compaction;
mod corruption;
mod directories;
mod faults;
mod faults_everywhere;
mod files;
mod files_damage;
mod files_faults;
mod files_threads;
mod full;
mod fuzz;
mod inspect;
mod layers;
mod making;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod mapped;
mod model;
mod page_cache;
mod round_trip;
mod small_device;
mod space;
mod threads;
mod usage;
mod workspace;
