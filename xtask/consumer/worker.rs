use overspill::worker::{MemoryLimit, SystemMemory};

#[test]
fn worker_brings_the_memory_limit() {
    let system = SystemMemory::from_bytes(8 << 30);
    assert_eq!(MemoryLimit::parse("4 GiB", &system, 1, 1).unwrap().bytes(), Some(4 << 30));
}
