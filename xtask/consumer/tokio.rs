use std::sync::Arc;

use overspill::{AsyncBuffer, Blocking, BufferBuilder, Lru, MutableMapping};

#[test]
fn tokio_brings_the_asynchronous_half() {
    let slow: Lru<u32, u64> = BufferBuilder::new().alone().unwrap();
    let buffer = Arc::new(BufferBuilder::new().target(64).over(slow).unwrap());
    let mapping = Blocking::new(AsyncBuffer::new(buffer, 2).unwrap(), 1).unwrap();
    for n in 0..100 {
        mapping.insert(n, u64::from(n)).unwrap();
    }
    assert_eq!(mapping.get(&7).unwrap(), Some(7));
    assert_eq!(mapping.stats().fast_count, 8);
    mapping.close().unwrap();
}
