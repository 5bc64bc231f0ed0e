use overspill::{BufferBuilder, Compress, Frames, Lru, MutableMapping, Pool, Zstd};

#[test]
fn compress_brings_the_layer() {
    let storage: Lru<u32, Frames> = BufferBuilder::new().alone().unwrap();
    let mapping = Compress::new(Zstd::new(1).unwrap(), storage);
    let zeros = Frames::from(Pool::new(0).take(1 << 16, 0).freeze());
    mapping.insert(1, zeros.clone()).unwrap();
    assert!(mapping.get(&1).unwrap() == Some(zeros));
    let stored = mapping.inner().get(&1).unwrap().unwrap();
    assert!(stored.byte_len() < 1 << 10);
}
